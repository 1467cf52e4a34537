//! Carries out a stop: holds its stage and timer, sends the signals that the pure table `plan` decides, and scans the remaining processes.
//! It gets the run's processes from its caller, and changes neither the record nor a file.

use std::time::Duration;

use tokio::time::Instant;

use super::group::{self, ProcessTree, SeenProcesses, StopSignal};
use super::plan::{self, LeaderExit, StopAction, StopEvent, StopStage};
use super::reaper::Reaper;
use crate::run::{Exit, Force, Leader, ProcessIdentity, StopCause, StopReport, Survivor};
use crate::secrets::Secrets;

/// The run's processes at the moment of a call.
#[derive(Clone, Copy)]
pub(super) struct RunProcesses<'a> {
    pub(super) reaper: &'a Reaper,
    pub(super) leader: Option<&'a Leader>,
}

/// The progress of a run's end.
pub(super) struct StopDriver {
    stage: StopStage,
    /// Whether runs that this run started are stopped too.
    stops_nested: bool,
    timer: Option<Instant>,
    stopping_since: Option<Instant>,
    seen_processes: SeenProcesses,
    /// The processes left at the last scan.
    remaining: ProcessTree,
    /// Whether the kernel reported a process that the scan of /proc did not find.
    has_unseen_process: bool,
}

impl StopDriver {
    pub(super) fn new() -> StopDriver {
        StopDriver {
            stage: StopStage::Working,
            stops_nested: true,
            timer: None,
            stopping_since: None,
            seen_processes: SeenProcesses::default(),
            remaining: ProcessTree::default(),
            has_unseen_process: false,
        }
    }

    /// Whether MassGen works and no stop has started.
    pub(super) fn is_working(&self) -> bool {
        self.stage == StopStage::Working
    }

    /// How the leader ended, once no process remains to stop.
    pub(super) fn finished(&self) -> Option<&LeaderExit> {
        match &self.stage {
            StopStage::Done(exit) => Some(exit),
            StopStage::Working
            | StopStage::Interrupted(_)
            | StopStage::Terminated(_)
            | StopStage::Killing(..)
            | StopStage::Scanning(_)
            | StopStage::Sweeping(_)
            | StopStage::KillingRemaining(..) => None,
        }
    }

    /// When to call [`StopDriver::timer_expired`].
    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// MassGen was never started, so no stop is needed.
    pub(super) fn never_started(&mut self) -> LeaderExit {
        let exit = LeaderExit { cause: None, exit: Exit::NeverStarted, force: Force::None };
        self.stage = StopStage::Done(exit.clone());
        exit
    }

    /// Sets whether the next stop includes nested runs. It has no effect once a stop has started.
    pub(super) fn choose_scope(&mut self, stops_nested: bool) {
        if self.is_working() {
            self.stops_nested = stops_nested;
        }
    }

    /// Records the start time of the stop and the processes at that time. The caller then writes the stop to the record and calls [`StopDriver::stop`].
    pub(super) fn announce(&mut self, processes: RunProcesses<'_>) {
        self.stopping_since = Some(Instant::now());
        self.seen_processes.add_tree(&processes.reaper.process_tree());
    }

    /// Starts to stop the run: MassGen has `grace` to end by itself after SIGINT.
    pub(super) fn stop(&mut self, cause: StopCause, grace: Duration, processes: RunProcesses<'_>) {
        self.advance(StopEvent::Stop { cause, grace }, processes);
    }

    /// A later request may give less time, never more.
    pub(super) fn shorten_grace(&mut self, grace: Duration) {
        let sooner = self.stopping_since.map(|since| since + grace);
        if matches!(self.stage, StopStage::Interrupted(_)) && sooner < self.timer {
            self.timer = sooner;
        }
    }

    /// Processes have ended and were reaped.
    pub(super) fn processes_ended(&mut self, ended: &[(u32, Exit)], processes: RunProcesses<'_>) {
        let leader = processes.leader.map(|leader| leader.pid);
        for (_, exit) in ended.iter().filter(|(pid, _)| Some(*pid) == leader) {
            self.advance(StopEvent::LeaderEnded(*exit), processes);
        }
        // The child that ended may have been the last one.
        if matches!(self.stage, StopStage::Sweeping(_)) {
            self.scan_remaining(processes);
        }
    }

    pub(super) fn timer_expired(&mut self, processes: RunProcesses<'_>) {
        self.timer = None;
        self.advance(StopEvent::Timer, processes);
    }

    /// How the stop went; `None` if no stop was requested and no processes were left to end.
    pub(super) fn report(&self, exit: &LeaderExit, secrets: &Secrets) -> Option<StopReport> {
        let survivors = self
            .remaining
            .all()
            .map(|process| Survivor { pid: process.identity.pid, name: secrets.mask(&process.name).into_owned() });
        let unseen_survivor = self.has_unseen_process.then(|| Survivor { pid: 0, name: "unseen".to_owned() });
        let survivors = survivors.chain(unseen_survivor).collect();
        let was_stopped = exit.cause.is_some() || exit.force > Force::None;
        was_stopped.then(|| StopReport {
            duration: self.stopping_since.map(|since| since.elapsed()).unwrap_or_default(),
            force: exit.force,
            processes: self.seen_processes.count(),
            survivors,
        })
    }

    fn advance(&mut self, event: StopEvent, processes: RunProcesses<'_>) {
        let stage = std::mem::replace(&mut self.stage, StopStage::Working);
        let (stage, actions) = plan::apply(stage, event);
        self.stage = stage;
        actions.iter().for_each(|action| self.perform(action, processes));
    }

    fn perform(&mut self, action: &StopAction, processes: RunProcesses<'_>) {
        match action {
            StopAction::Interrupt => {
                processes.leader.iter().for_each(|leader| signal_if_alive(leader, StopSignal::Interrupt))
            }
            StopAction::StopNested if self.stops_nested => self.signal_nested(StopSignal::Terminate, processes),
            StopAction::StopNested => {}
            StopAction::Terminate => self.terminate(processes),
            StopAction::KillOwn => {
                self.remaining = self.process_tree(processes);
                self.remaining.own.iter().for_each(|process| signal_if_alive(&process.identity, StopSignal::Kill));
            }
            StopAction::TerminateRemaining => {
                self.process_tree(processes)
                    .own
                    .iter()
                    .for_each(|process| signal_if_alive(&process.identity, StopSignal::Terminate));
                self.signal_nested(StopSignal::Terminate, processes);
            }
            StopAction::KillRemaining => {
                let remaining = self.process_tree(processes);
                remaining.all().for_each(|process| signal_if_alive(&process.identity, StopSignal::Kill));
            }
            StopAction::SetTimer(wait) => self.timer = Some(Instant::now() + *wait),
            StopAction::Scan => self.scan_remaining(processes),
        }
    }

    /// Counts the remaining processes. Only the kernel can prove that none remains. Without that proof the count is at least one,
    /// even if the scan of /proc found none: a process may have been forked during the scan, or it has ended and is not reaped yet.
    fn scan_remaining(&mut self, processes: RunProcesses<'_>) {
        self.stopping_since.get_or_insert_with(Instant::now);
        let are_nested_spared = !self.stops_nested && !processes.reaper.process_tree().nested_supervisors.is_empty();
        self.remaining = self.process_tree(processes);
        self.has_unseen_process =
            self.remaining.all().next().is_none() && !are_nested_spared && !processes.reaper.has_no_processes();
        let (own, nested) = (
            self.remaining.own.len() + usize::from(self.has_unseen_process),
            self.remaining.nested_supervisors.len() + self.remaining.nested_descendants.len(),
        );
        self.advance(StopEvent::Remaining { own, nested }, processes);
    }

    /// The process tree that a stop covers: it excludes nested runs that are not to be stopped.
    fn process_tree(&mut self, processes: RunProcesses<'_>) -> ProcessTree {
        let mut tree = processes.reaper.process_tree();
        if !self.stops_nested {
            tree.nested_supervisors.clear();
            tree.nested_descendants.clear();
        }
        self.seen_processes.add_tree(&tree);
        tree
    }

    fn signal_nested(&mut self, signal: StopSignal, processes: RunProcesses<'_>) {
        let tree = self.process_tree(processes);
        tree.nested_supervisors.iter().for_each(|process| signal_if_alive(&process.identity, signal));
    }

    /// Sends SIGTERM to the leader and its process group; servers in their own sessions get time to close by themselves.
    fn terminate(&mut self, processes: RunProcesses<'_>) {
        let group = processes.leader.map(|leader| leader.pid);
        let own = self.process_tree(processes).own;
        let of_group =
            own.iter().filter(|process| Some(process.identity.pid) == group || process.process_group == group);
        of_group.for_each(|process| signal_if_alive(&process.identity, StopSignal::Terminate));
    }
}

/// A process that has ended needs no signal.
fn signal_if_alive(identity: &ProcessIdentity, signal: StopSignal) {
    let reached = group::send_signal(identity, signal);
    tracing::debug!(pid = identity.pid, ?signal, reached, "signalled");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process of this test is the leader, so no signal is sent.
    fn no_leader(reaper: &Reaper) -> RunProcesses<'_> {
        RunProcesses { reaper, leader: None }
    }

    fn requested() -> StopCause {
        StopCause::Requested { reason: None }
    }

    #[test]
    fn a_later_request_shortens_the_grace_and_never_extends_it() {
        let (mut driver, reaper) = (StopDriver::new(), Reaper::Supervisor(None));
        driver.choose_scope(false);
        driver.announce(no_leader(&reaper));
        driver.stop(requested(), Duration::from_secs(60), no_leader(&reaper));
        assert!(!driver.is_working());
        let first = driver.timer().expect("a timer");
        driver.shorten_grace(Duration::from_secs(600));
        assert_eq!(driver.timer(), Some(first));
        driver.shorten_grace(Duration::from_secs(1));
        assert!(driver.timer().is_some_and(|timer| timer < first));
        driver.choose_scope(true);
        assert!(!driver.stops_nested, "the scope of a stop that has begun does not change");
    }

    #[test]
    fn a_run_that_never_started_is_finished_and_has_no_stop_report() {
        let mut driver = StopDriver::new();
        assert_eq!(driver.finished(), None);
        let exit = driver.never_started();
        assert_eq!(driver.finished(), Some(&exit));
        assert_eq!(driver.report(&exit, &Secrets::default()), None);
    }
}
