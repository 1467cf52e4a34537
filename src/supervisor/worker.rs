//! The supervisor's main loop: it waits for one event at a time, lets `plan` decide, carries out the actions and keeps the record.
//! `next` only picks an event; plain functions handle it. Once MassGen lives, an error with the record never ends the loop:
//! the supervisor does not abandon a run because a disk is full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::budget::{BudgetDecision, BudgetPolicy};
use super::changes::ProjectSnapshot;
use super::group::{self, ProcessTree, SeenProcesses, StopSignal};
use super::liveness::{GrowthCounters, LivenessMonitor};
use super::plan::{self, LeaderExit, StopAction, StopEvent, StopStage};
use super::proc_sampler::{self, CpuSample};
use super::reaper::Reaper;
use super::repository::Repository;
use super::spend_tracker::SpendTracker;
use super::{SupervisorError, io_error, leader};
use crate::clock;
use crate::crash;
use crate::ledger::Ledger;
use crate::massgen::answers::{self, Answer};
use crate::massgen::files::{FileVersion, RunFiles};
use crate::massgen::launch::Launch;
use crate::massgen::layout::Layout;
use crate::massgen::outcome::{OutcomeEvidence, outcome};
use crate::massgen::reasons::{RunOutput, attribute_problem};
use crate::massgen::vote_poll::VotePoll;
use crate::massgen::warnings::NOT_APPLIED;
use crate::massgen::{broken_import, events, inbox, status, text, warnings};
use crate::provenance;
use crate::registry::{
    Durability, FAILED_IMPORTS_FOLDER, OwnerLock, RECORD_FILE, RunFolder, STDERR_LOG, STDOUT_LOG, StateFolder,
};
use crate::run::ActivityEvidence as Seen;
use crate::run::{
    ConfigChoice, Context, Digest, Ending, Exit, Force, Leader, Outcome, Problem, ProcessIdentity, QuietPeriod, Retry,
    RunRecord, RunSpec, RunState, Step, StopCause, StopReport, Survivor, Warning,
};
use crate::secrets::Secrets;
use crate::watch::{Subscription, Watcher};

/// How long MassGen has after SIGINT when a signal to the supervisor or the deadline causes the stop.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);
/// How much of the end of an output is searched for a failure reason, in bytes.
const REASON_TAIL_BYTES: u64 = 64 << 10;
/// How long to wait for the rest of MassGen's output; another process may hold the pipe forever.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// The interval between attempts to write an ending.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A shorter wait for an import is not reported.
const MIN_REPORTED_IMPORT: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    folder: RunFolder,
    files: RunFiles,
    record: RunRecord,
    lock: OwnerLock,
    stage: StopStage,
    /// Whether runs that this run started are stopped too.
    stops_nested: bool,
    deadline: Instant,
    timer: Option<Instant>,
    stopping_since: Option<Instant>,
    seen_processes: SeenProcesses,
    /// The processes left at the last scan.
    remaining: ProcessTree,
    /// Whether the kernel knew of a process that the scan of /proc did not find.
    has_unseen_process: bool,
    /// The version of status.json that the digest is from.
    status_version: Option<FileVersion>,
    vote_poll: VotePoll,
    /// Whether the last write of the record failed.
    is_unsaved: bool,
    outputs: Vec<JoinHandle<()>>,
    /// Notified when MassGen seems to have printed its last line.
    final_line: Arc<Notify>,
    /// Reaps the run's processes.
    reaper: Reaper,
    /// The secrets to mask in everything from MassGen.
    secrets: Secrets,
    state: StateFolder,
    spend_tracker: SpendTracker,
    /// The decision for the spend so far.
    budget_decision: BudgetDecision,
    /// Monitors the run for activity.
    liveness: LivenessMonitor,
    /// The provider of each agent's model.
    providers: BTreeMap<String, String>,
    /// The project before the run, if the run may write there.
    project_before: Option<ProjectSnapshot>,
    /// The Git repository of the project before the run, if the run may write there.
    repository: Option<Repository>,
    /// The variable that holds each agent's key.
    key_variables: BTreeMap<String, String>,
    signals: Signals,
    subscription: Subscription,
}

/// The sources of events. MassGen's own end also shows through its pidfd; SIGCHLD reports orphans.
struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// The events that wake the supervisor.
enum WakeReason {
    ChildExited,
    TerminationSignal,
    FilesChanged,
    DeadlinePassed,
    TimerExpired,
    LivenessCheck,
    FinalLine,
}

impl Signals {
    fn subscribe() -> std::io::Result<Signals> {
        Ok(Signals {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> WakeReason {
        tokio::select! {
            _ = self.child.recv() => WakeReason::ChildExited,
            _ = self.terminate.recv() => WakeReason::TerminationSignal,
            _ = self.interrupt.recv() => WakeReason::TerminationSignal,
            _ = self.hang_up.recv() => WakeReason::TerminationSignal,
        }
    }
}

impl Worker {
    /// Takes over the run and records that it is supervised.
    pub(super) fn new(
        folder: RunFolder,
        mut record: RunRecord,
        lock: OwnerLock,
        secrets: Secrets,
        state: StateFolder,
    ) -> Result<Worker, SupervisorError> {
        let files = RunFiles::open(folder.path()).map_err(io_error("open the run's folder"))?;
        let mut seat = Watcher::start().subscribe();
        // The supervisor's own writes must not wake it.
        seat.watch_folder_except(folder.path(), Some(RECORD_FILE));
        let now = clock::now();
        record.started = Some(now.clone());
        record.state = RunState::Starting { leader: None };
        let meter = BudgetPolicy {
            allowance: record.spec.allowance.clone(),
            is_rehearsal: matches!(record.spec.config, ConfigChoice::Rehearsal(_)),
            ..BudgetPolicy::default()
        };
        Ok(Worker {
            state,
            spend_tracker: SpendTracker::new(meter),
            budget_decision: BudgetDecision::Continue,
            liveness: LivenessMonitor::new(now),
            providers: BTreeMap::new(),
            project_before: None,
            repository: None,
            key_variables: BTreeMap::new(),
            deadline: Instant::now() + record.spec.timeout,
            signals: Signals::subscribe().map_err(io_error("listen for signals"))?,
            stage: StopStage::Working,
            stops_nested: true,
            timer: None,
            stopping_since: None,
            seen_processes: SeenProcesses::default(),
            remaining: ProcessTree::default(),
            has_unseen_process: false,
            status_version: None,
            vote_poll: VotePoll::default(),
            is_unsaved: false,
            outputs: Vec::new(),
            final_line: Arc::default(),
            reaper: Reaper::Supervisor(None),
            secrets,
            folder,
            files,
            record,
            lock,
            subscription: seat,
        })
    }

    pub(super) fn spec(&self) -> &RunSpec {
        &self.record.spec
    }

    /// Sets the model of each agent, for the operator's price table.
    pub(super) fn set_models(&mut self, models: BTreeMap<String, String>) {
        self.spend_tracker.policy.models = models;
    }

    /// Sets the provider and the key variable of each agent, for failure messages.
    pub(super) fn set_providers(&mut self, providers: BTreeMap<String, String>, keys: BTreeMap<String, String>) {
        (self.providers, self.key_variables) = (providers, keys);
    }

    /// Starts MassGen and records its process. If the record cannot be written now, nothing is started.
    pub(super) async fn start(&mut self, me: &Path, launch: &Launch) -> Result<(), SupervisorError> {
        crash::point("supervisor-began");
        self.project_before = self.project_files();
        if self.spec().context != Context::None {
            self.repository = Repository::of(&self.spec().project);
        }
        let warm =
            leader::request_warm_start(launch, &self.folder, &self.state, self.spec(), super::report_ready).await;
        self.record.import_wait =
            warm.as_ref().ok().map(|warm| warm.import_wait).filter(|waited| *waited >= MIN_REPORTED_IMPORT);
        self.record.keeper = warm.as_ref().ok().map(|warm| warm.keeper.clone());
        self.record.cold_start_reason = warm.as_ref().err().map(ToString::to_string);
        if let (Some(because), true) = (&self.record.cold_start_reason, self.spec().warm) {
            tracing::warn!(because, "started cold");
        }
        self.record.seq += 1;
        self.folder.save(&self.record, &self.lock, Durability::Synced)?;
        crash::point("start-recorded");
        let started = match warm {
            Ok(warm) => warm.fork_leader(&self.folder, &self.secrets, &self.final_line).await,
            Err(_) => leader::start_cold(me, launch, &self.folder, &self.secrets, &self.final_line),
        };
        match started {
            Ok(started) => {
                crash::point("massgen-started");
                (self.outputs, self.reaper) = (started.outputs, started.reaper);
                self.record.state = RunState::Starting { leader: Some(started.leader) };
                // No fsync needed: `started` is durable already, and after a power cut no leader process is left to identify.
                self.save_and_notify(Durability::NotSynced);
                crash::point("massgen-recorded");
            }
            Err(source) => self.fail_start(&SupervisorError::Io { operation: "start MassGen", source }),
        }
        Ok(())
    }

    /// Ends the run before MassGen has started.
    pub(super) fn fail_start(&mut self, error: &SupervisorError) {
        let (code, hint) = match error {
            SupervisorError::Config(_) => ("config_invalid", Step::CorrectConfig),
            SupervisorError::NotARun { .. }
            | SupervisorError::AlreadySupervised(_)
            | SupervisorError::Record(_)
            | SupervisorError::Io { .. }
            | SupervisorError::Rehearsal(_)
            | SupervisorError::EnvFile(_)
            | SupervisorError::Ledger(_)
            | SupervisorError::Script(_) => ("start_failed", Step::MendAndStart),
        };
        let message = self.secrets.mask(&text::error_chain(error)).into_owned();
        let problem = Problem { retry: Some(Retry::No), ..Problem::new(code, &message, hint) };
        let gone = LeaderExit { cause: None, exit: Exit::NeverStarted, force: Force::None };
        self.stage = StopStage::Done(gone.clone());
        self.record_ending(&gone, Some(Outcome::Failed(problem)));
    }

    /// Runs until the run is over and its ending is on disk.
    pub(super) async fn run(mut self) -> RunRecord {
        self.refresh();
        loop {
            if let StopStage::Done(gone) = &self.stage {
                let gone = gone.clone();
                self.finish(&gone).await;
                self.reaper.release();
                return self.record;
            }
            match self.next_wake().await {
                WakeReason::ChildExited => self.reap(),
                WakeReason::TerminationSignal => self.stop(
                    StopCause::Requested { reason: Some("its supervisor was told to end".to_owned()) },
                    DEFAULT_GRACE,
                ),
                WakeReason::FilesChanged => self.refresh(),
                WakeReason::DeadlinePassed => self.stop(StopCause::Deadline, DEFAULT_GRACE),
                WakeReason::TimerExpired => {
                    self.timer = None;
                    self.advance(StopEvent::Timer);
                }
                WakeReason::LivenessCheck => self.check_liveness(),
                WakeReason::FinalLine => self.check_final_answer(),
            }
        }
    }

    async fn next_wake(&mut self) -> WakeReason {
        let (deadline, timer) = (self.deadline, self.timer);
        let (at_work, look) = (self.stage == StopStage::Working, self.liveness.next_check);
        tokio::select! {
            wake = self.signals.next() => wake,
            () = self.reaper.wait_for_exits() => WakeReason::ChildExited,
            () = self.final_line.notified(), if at_work => WakeReason::FinalLine,
            () = self.subscription.changed() => WakeReason::FilesChanged,
            () = tokio::time::sleep_until(deadline), if at_work => WakeReason::DeadlinePassed,
            () = tokio::time::sleep_until(timer.unwrap_or(deadline)), if timer.is_some() => WakeReason::TimerExpired,
            () = tokio::time::sleep_until(look), if at_work => WakeReason::LivenessCheck,
        }
    }

    fn reap(&mut self) {
        let leader = self.record.state.leader().map(|leader| leader.pid);
        for (pid, exit) in self.reaper.reap() {
            if Some(pid) == leader {
                self.advance(StopEvent::LeaderEnded(exit));
            }
        }
        // The child that ended may have been the last one.
        if matches!(self.stage, StopStage::Sweeping(_)) {
            self.scan_remaining();
        }
    }

    fn stop(&mut self, cause: StopCause, grace: Duration) {
        // If the leader has just ended by itself, it does not count as stopped.
        self.reap();
        if self.stage != StopStage::Working {
            return;
        }
        self.stopping_since = Some(Instant::now());
        self.record.quiet = None;
        self.seen_processes.add_tree(&self.reaper.process_tree());
        if let Some(leader) = self.record.state.leader().cloned() {
            self.record.state = RunState::Stopping { leader, cause: cause.clone() };
            self.save_and_notify(Durability::Synced);
        }
        self.advance(StopEvent::Stop { cause, grace });
    }

    /// A later request may give less time, never more.
    fn shorten_grace(&mut self, grace: Duration) {
        let sooner = self.stopping_since.map(|since| since + grace);
        if matches!(self.stage, StopStage::Interrupted(_)) && sooner < self.timer {
            self.timer = sooner;
        }
    }

    fn advance(&mut self, event: StopEvent) {
        let stage = std::mem::replace(&mut self.stage, StopStage::Working);
        let (stage, actions) = plan::apply(stage, event);
        self.stage = stage;
        actions.iter().for_each(|action| self.perform(action));
    }

    fn perform(&mut self, action: &StopAction) {
        let leader = self.record.state.leader().cloned();
        match action {
            StopAction::Interrupt => leader.iter().for_each(|leader| signal_if_alive(leader, StopSignal::Interrupt)),
            StopAction::StopNested if self.stops_nested => self.signal_nested(StopSignal::Terminate),
            StopAction::StopNested => {}
            StopAction::Terminate => self.terminate(leader.as_ref()),
            StopAction::KillOwn => {
                self.remaining = self.process_tree();
                self.remaining.own.iter().for_each(|member| signal_if_alive(&member.identity, StopSignal::Kill));
            }
            StopAction::TerminateRemaining => {
                self.process_tree()
                    .own
                    .iter()
                    .for_each(|member| signal_if_alive(&member.identity, StopSignal::Terminate));
                self.signal_nested(StopSignal::Terminate);
            }
            StopAction::KillRemaining => {
                self.process_tree().all().for_each(|member| signal_if_alive(&member.identity, StopSignal::Kill))
            }
            StopAction::SetTimer(wait) => self.timer = Some(Instant::now() + *wait),
            StopAction::Scan => self.scan_remaining(),
        }
    }

    /// Counts the remaining processes. Only the kernel can prove that none is left. Without that proof at least one is, even if the scan of /proc
    /// found none: it may have been forked during the scan, or it has ended and is reaped in a moment.
    fn scan_remaining(&mut self) {
        self.stopping_since.get_or_insert_with(Instant::now);
        let spared = !self.stops_nested && !self.reaper.process_tree().nested_supervisors.is_empty();
        self.remaining = self.process_tree();
        self.has_unseen_process = self.remaining.all().next().is_none() && !spared && !self.reaper.has_no_processes();
        let (own, nested) = (
            self.remaining.own.len() + usize::from(self.has_unseen_process),
            self.remaining.nested_supervisors.len() + self.remaining.nested_descendants.len(),
        );
        self.advance(StopEvent::Remaining { own, nested });
    }

    /// The process tree that a stop covers: it excludes nested runs that are to live on.
    fn process_tree(&mut self) -> ProcessTree {
        let mut family = self.reaper.process_tree();
        if !self.stops_nested {
            family.nested_supervisors.clear();
            family.nested_descendants.clear();
        }
        self.seen_processes.add_tree(&family);
        family
    }

    fn signal_nested(&mut self, order: StopSignal) {
        self.process_tree().nested_supervisors.iter().for_each(|member| signal_if_alive(&member.identity, order));
    }

    /// Sends SIGTERM to the leader and its process group; servers in their own sessions get time to close by themselves.
    fn terminate(&mut self, leader: Option<&Leader>) {
        let group = leader.map(|leader| leader.pid);
        let members = self.process_tree().own;
        let of_group =
            members.iter().filter(|member| Some(member.identity.pid) == group || member.process_group == group);
        of_group.for_each(|member| signal_if_alive(&member.identity, StopSignal::Terminate));
    }

    fn refresh(&mut self) {
        if let Some(ask) = self.folder.stop_request() {
            if self.stage == StopStage::Working {
                self.stops_nested = ask.tree;
                self.stop(StopCause::Requested { reason: ask.reason }, ask.grace);
            } else {
                self.shorten_grace(ask.grace);
            }
        }
        self.watch_new_folders();
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        let announced = layout.as_ref().is_some_and(|layout| self.record_log_dir(layout));
        let digest = layout.as_ref().and_then(|layout| self.read_status(layout));
        let lives = self.apply_digest(digest, announced);
        self.update_liveness(layout.as_ref(), lives);
        self.enforce_budget();
    }

    /// MassGen takes seconds to end after its last line. If the answer is complete, it is made available before that.
    fn check_final_answer(&mut self) {
        self.refresh();
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        let finished = layout.and_then(|layout| answers::complete(&self.files, &layout, self.record.digest.as_ref()));
        if let Some(answer) =
            finished.filter(|_| self.stage == StopStage::Working && self.record.ready_answer.is_none())
        {
            self.record.ready_answer = Some(answers::summarize(&self.files, &answer, &self.secrets));
            self.save_and_notify(Durability::NotSynced);
        }
    }

    /// Records activity. The end of a quiet period clears its entry in the record, and notifies waiters if it showed a problem.
    fn update_liveness(&mut self, layout: Option<&Layout>, known_otherwise: bool) {
        let signs = self.growth_counters(layout);
        let now = clock::now();
        if !self.liveness.observe(signs, known_otherwise, now) {
            return;
        }
        match self.record.quiet.take().map(|quiet| quiet.problem(&quiet.sampled_at).is_some()) {
            Some(true) => self.save_and_notify(Durability::NotSynced),
            Some(false) => self.save(Durability::NotSynced),
            None => {}
        }
    }

    /// The sizes that grow while a run is active, without status.json: MassGen updates the time in it even when nothing happens.
    fn growth_counters(&self, layout: Option<&Layout>) -> GrowthCounters {
        let size = |path: &Path| self.files.open_file(path).map(|(_, size)| size).unwrap_or_default();
        let outputs = layout.map(|layout| self.files.list(&layout.attempt.join("agent_outputs"))).unwrap_or_default();
        let of_file = |file: Option<PathBuf>| file.map(|file| size(&file)).unwrap_or_default();
        GrowthCounters([
            of_file(layout.and_then(|layout| layout.events(&self.files))),
            of_file(layout.and_then(|layout| layout.massgen_log(&self.files))),
            outputs.iter().map(|output| output.size).sum(),
            size(Path::new(STDOUT_LOG)),
            size(Path::new(STDERR_LOG)),
        ])
    }

    /// If the run is quiet, records what it seems to do, and notifies waiters if that becomes a problem.
    fn check_liveness(&mut self) {
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        self.update_liveness(layout.as_ref(), false);
        let Some(leader) = self.record.state.leader().cloned() else {
            self.liveness = LivenessMonitor::new(clock::now());
            return;
        };
        if self.liveness.next_check > Instant::now() {
            return;
        }
        let family = self.reaper.process_tree();
        let sample = CpuSample::take(&family.own, &leader);
        if let Some(before) = self.liveness.last_sample {
            let evidence = self.collect_evidence(&family, &leader, sample.percent_since(&before), layout.as_ref());
            self.record_quiet(QuietPeriod { since: self.liveness.since.clone(), sampled_at: clock::now(), evidence });
        }
        self.liveness.record_sample(sample);
    }

    fn record_quiet(&mut self, quiet: QuietPeriod) {
        let code = |quiet: &QuietPeriod| quiet.problem(&quiet.sampled_at).map(|problem| problem.code);
        let is_news = self.record.quiet.as_ref().and_then(code) != code(&quiet);
        self.record.quiet = Some(quiet);
        if is_news {
            self.save_and_notify(Durability::NotSynced);
        } else {
            self.save(Durability::NotSynced);
        }
    }

    fn collect_evidence(
        &self,
        family: &ProcessTree,
        leader: &Leader,
        cpu_percent: u32,
        layout: Option<&Layout>,
    ) -> Seen {
        let events = layout.and_then(|layout| layout.events(&self.files));
        let tail = events.and_then(|events| self.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
        let latest = events::recent_activity(&tail, &self.secrets);
        let count = |members: &[group::ProcessInfo]| u32::try_from(members.len()).unwrap_or(u32::MAX);
        Seen {
            processes: count(&family.own),
            cpu_percent,
            leader_state: proc_sampler::process_state(leader),
            connections: proc_sampler::connections(family),
            tools: latest.open_tools,
            runs: count(&family.nested_supervisors),
            last_event: latest.last_event,
            last_error: latest.last_error,
        }
    }

    /// Carries out the budget decision; the record already has the spend.
    fn enforce_budget(&mut self) {
        if self.stage != StopStage::Working {
            return;
        }
        match self.budget_decision {
            BudgetDecision::Continue | BudgetDecision::Steer => {}
            BudgetDecision::Stop => self.stop(StopCause::Budget, DEFAULT_GRACE),
        }
    }

    /// Updates the spend of this run and all runs below it. Passing a threshold notifies waiters, and the agents are then asked to finish.
    fn update_spend(&mut self) -> bool {
        self.spend_tracker.update_own(self.record.digest.as_ref());
        if let Some(own) = &self.record.log_dir {
            self.spend_tracker.update_other_massgens(&self.files, own);
        }
        self.spend_tracker.update_descendants(&self.state, &self.folder);
        (self.record.spent, self.record.spent_by_descendants) =
            (self.spend_tracker.spent(), self.spend_tracker.spent_by_descendants());
        let verdict = self.spend_tracker.decide();
        let passed = verdict > self.budget_decision;
        if passed && verdict == BudgetDecision::Steer && self.stage == StopStage::Working {
            self.send_budget_message();
        }
        self.budget_decision = self.budget_decision.max(verdict);
        passed
    }

    /// MassGen shows the message to each agent around its next tool call; an agent that calls no tool never sees it.
    fn send_budget_message(&mut self) {
        let used = self.record.spec.allowance.cap.percent_used(self.record.total_spent());
        let content = format!(
            "{used} % of this run's budget is spent, and at 100 % it is stopped. Finish now: give or present the best answer \
             that you have, or vote. Start no new research and no new runs."
        );
        if let Err(error) = self.folder.put_message(inbox::BUDGET_KIND, &inbox::message(&content, &[])) {
            tracing::warn!(error = text::error_chain(&error), "the agents could not be told to finish");
        }
    }

    /// Repeats until no folder is new: one may be created between the scan and the watch of its parent.
    fn watch_new_folders(&mut self) {
        loop {
            let own = Layout::watched_folders(&self.files, self.record.log_dir.as_deref());
            let own = own.iter().map(|folder| self.files.absolute(folder)).collect::<Vec<_>>();
            self.spend_tracker.update_descendants(&self.state, &self.folder);
            let below = self.spend_tracker.active_descendants().map(|run| self.state.run_folder(run).path().to_owned());
            let children = Some(self.folder.children()).filter(|children| children.exists());
            let folders: Vec<PathBuf> = own.into_iter().chain(below).chain(children).collect();
            let new = folders.iter().fold(false, |new, folder| self.subscription.watch_folder(folder) | new);
            if !new {
                return;
            }
        }
    }

    /// Records MassGen's log folder once it exists: the run is under way.
    fn record_log_dir(&mut self, layout: &Layout) -> bool {
        if self.record.log_dir.is_some() {
            return false;
        }
        self.record.log_dir = Some(layout.log.clone());
        if let RunState::Starting { leader: Some(leader) } = &self.record.state {
            self.record.state = RunState::Running { leader: leader.clone() };
        }
        true
    }

    /// A new digest if status.json has changed and is complete; otherwise the last good one stays.
    fn read_status(&mut self, layout: &Layout) -> Option<Digest> {
        let path = layout.status();
        let from = self.files.version(&path)?;
        if Some(&from) == self.status_version.as_ref() || from.bytes > status::MAX_BYTES {
            return None;
        }
        let bytes = self.files.head(&path, status::MAX_BYTES).ok()?;
        let digest = status::masked_digest(&bytes, &self.secrets);
        let mut digest = digest.inspect_err(|error| tracing::debug!(%error, "kept the last good digest")).ok()?;
        self.vote_poll.correct_votes(&mut digest, &self.files, layout, &self.secrets);
        self.status_version = Some(from);
        Some(digest)
    }

    /// Stores the digest; `true` if anything but the time has changed.
    fn apply_digest(&mut self, digest: Option<Digest>, announced: bool) -> bool {
        let before = self.record.digest.as_ref();
        let news = announced || digest.as_ref().is_some_and(|digest| digest.is_notable_change(before));
        let spent = self.record.total_spent();
        let changed = digest.is_some() && digest.as_ref() != before;
        self.record.digest = digest.or(self.record.digest.take());
        let passed = self.update_spend();
        let changed = changed || self.record.total_spent() != spent;
        if news || passed {
            self.save_and_notify(Durability::NotSynced);
        } else if changed || self.is_unsaved {
            self.save(Durability::NotSynced);
        }
        changed || announced
    }

    fn save_and_notify(&mut self, durability: Durability) {
        self.record.seq += 1;
        self.save(durability);
    }

    /// Writes the record, or notes that it must be written again.
    fn save(&mut self, durability: Durability) {
        let saved = self.folder.save(&self.record, &self.lock, durability);
        if let (Err(error), false) = (&saved, self.is_unsaved) {
            tracing::warn!(error = text::error_chain(error), "the record could not be written");
        }
        self.is_unsaved = saved.is_err();
    }

    /// Writes the ending and retries until it is on disk or the run's folder is gone.
    async fn finish(&mut self, gone: &LeaderExit) {
        if self.record.state.ending().is_none() {
            self.drain_outputs().await;
            self.record_ending(gone, None);
        }
        // If the whole folder is gone, no process will ever look for it.
        while self.is_unsaved && self.folder.path().exists() {
            tokio::time::sleep(SAVE_RETRY_INTERVAL).await;
            self.save(Durability::Synced);
        }
    }

    /// Waits for the rest of MassGen's output.
    async fn drain_outputs(&mut self) {
        let outputs = std::mem::take(&mut self.outputs);
        let all = futures_util::future::join_all(outputs);
        // A descendant may keep the pipe open; its output does not affect the outcome, so do not wait for it.
        let _held = tokio::time::timeout(OUTPUT_DRAIN_TIMEOUT, all).await;
    }

    /// Records the ending, once all evidence is complete.
    fn record_ending(&mut self, gone: &LeaderExit, known: Option<Outcome>) {
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        if let Some(layout) = &layout {
            self.record_log_dir(layout);
            let last = self.read_status(layout);
            self.record.digest = last.or(self.record.digest.take());
        }
        self.update_spend();
        self.record.quiet = None;
        let digest = self.record.digest.as_ref();
        let answer = layout.as_ref().and_then(|layout| answers::best(&self.files, layout, digest));
        let warnings = layout.as_ref().map(|layout| self.warnings(layout)).unwrap_or_default();
        let outcome = known.unwrap_or_else(|| self.determine_outcome(gone, layout.as_ref(), answer.as_ref()));
        self.record.changed_files =
            self.project_before.as_ref().and_then(|before| Some(before.diff(&self.project_files()?)));
        let warnings = self.with_clean_repository(warnings);
        let warnings = self.warn_if_unchanged(warnings, &outcome);
        let at = clock::now();
        let took = self.record.started.as_ref().map(|started| started.duration_until(&at)).unwrap_or_default();
        let outcome = self.remember_broken_import(outcome);
        let answer = answer.as_ref().map(|answer| answers::summarize(&self.files, answer, &self.secrets));
        self.record.state = RunState::Ended(Ending {
            outcome,
            exit: gone.exit,
            ended_at: at,
            duration: took,
            answer,
            stop: self.stop_report(gone).map(Box::new),
            warnings,
        });
        provenance::save_manifest(&self.folder, &self.record, &self.lock, &self.secrets);
        // Waiters are notified before the fsync. A power cut in between turns the run into `lost`; its answer survives.
        self.save_and_notify(Durability::NotSynced);
        if let (Err(error), false) = (self.folder.sync_ending(&self.lock), self.is_unsaved) {
            tracing::warn!(error = text::error_chain(&error), "the ending may not survive a power cut");
        }
    }

    /// A snapshot of the project's files, if the run may write there.
    fn project_files(&self) -> Option<ProjectSnapshot> {
        let spec = self.spec();
        (spec.context == Context::Write).then(|| ProjectSnapshot::take(&spec.project, self.state.root())).flatten()
    }

    /// A run that could write in the project but changed nothing has not failed; it gets a warning because the caller expected changes.
    fn warn_if_unchanged(&self, mut warnings: Vec<Warning>, outcome: &Outcome) -> Vec<Warning> {
        let is_nothing = self.record.changed_files.as_ref().is_some_and(|changed| changed.count == 0);
        if is_nothing && *outcome == Outcome::Succeeded && warnings.iter().all(|warning| warning.code != NOT_APPLIED) {
            warnings.push(warnings::nothing_changed_warning());
        }
        warnings
    }

    /// Removes what MassGen left in the project's repository. Branches with changes that MassGen did not apply stay, and the warning names
    /// them. Without such a branch there was nothing to apply, so the warning is dropped.
    fn with_clean_repository(&self, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let Some(repository) = &self.repository else { return warnings };
        let is_shared = self.shares_project();
        let not_applied = warnings.iter().position(|warning| warning.code == NOT_APPLIED);
        let kept = repository.clean(self.folder.path(), is_shared, not_applied.is_some());
        let Some(at) = not_applied.filter(|_| !is_shared) else { return warnings };
        if kept.is_empty() {
            warnings.remove(at);
        } else if let Some(warning) = warnings.get_mut(at) {
            warning.next = Step::MergeBranches.with(kept.join(", "));
        }
        warnings
    }

    /// Whether another live run may write in the same project; `true` if that is unknown.
    fn shares_project(&self) -> bool {
        let Ok(live) = Ledger::new(&self.state).live_runs(None) else { return true };
        let others = live.iter().filter(|id| **id != self.spec().id).filter_map(|id| self.state.load(id).ok());
        let mut specs = others.map(|record| record.spec);
        specs.any(|spec| spec.context != Context::None && spec.project == self.spec().project)
    }

    /// What the run lacked, according to MassGen's own log.
    fn warnings(&self, layout: &Layout) -> Vec<Warning> {
        let log = layout.massgen_log(&self.files);
        let log_path =
            log.and_then(|log| self.files.head_and_tail(&log, warnings::MAX_LOG_BYTES).ok()).unwrap_or_default();
        let found = warnings::warnings(&log_path, self.record.digest.as_ref()).into_iter();
        found.map(|found| Warning { message: self.secrets.mask(&found.message).into_owned(), ..found }).collect()
    }

    /// Remembers a MassGen that could not be imported, so that no other run has to discover it.
    fn remember_broken_import(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed(problem) = outcome else { return outcome };
        if problem.code != broken_import::CODE || self.record.log_dir.is_some() {
            return Outcome::Failed(problem);
        }
        let (program, seen) = (&self.spec().program, self.state.root().join(FAILED_IMPORTS_FOLDER));
        let problem = broken_import::with_package_version(problem, program);
        if let Err(error) = broken_import::record_failure(&problem, program, &seen) {
            tracing::warn!(error = text::error_chain(&error), "that MassGen cannot be imported could not be kept");
        }
        Outcome::Failed(problem)
    }

    fn determine_outcome(&self, gone: &LeaderExit, layout: Option<&Layout>, answer: Option<&Answer>) -> Outcome {
        let digest = self.record.digest.as_ref();
        let tail = |log: &str| self.files.tail(&PathBuf::from(log), REASON_TAIL_BYTES).unwrap_or_default();
        let (stderr, stdout) = (tail(STDERR_LOG), tail(STDOUT_LOG));
        let model_error = digest.and_then(|digest| digest.first_error.as_deref());
        let provider = self.provider(digest.and_then(|digest| digest.first_error_agent.as_deref()));
        let events = layout.and_then(|layout| layout.events(&self.files));
        let events = events.and_then(|events| self.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
        let agents = events::last_agent_text(&events, &self.secrets);
        let (agents, is_answering) = (agents.as_deref(), events::is_answering(&events));
        let words =
            RunOutput { stderr: &stderr, stdout: &stdout, model_error, agent_text: agents, is_answering, provider };
        let answer = answer.map(|answer| answer.source);
        let outcome = outcome(&OutcomeEvidence {
            stop_cause: gone.cause.as_ref(),
            exit: gone.exit,
            answer,
            digest,
            output: words,
        });
        if let Outcome::Failed(problem) = outcome {
            return Outcome::Failed(attribute_problem(problem, digest, &self.key_variables));
        }
        outcome
    }

    /// The provider of the failing agent's model. If the agent is unknown: the provider of all agents, if they share one.
    fn provider(&self, failing: Option<&str>) -> Option<&str> {
        let of_agent = failing.and_then(|agent| self.providers.get(agent));
        let mut all = self.providers.values();
        let first = all.next();
        let of_all = first.filter(|first| all.all(|other| other == *first));
        of_agent.or(of_all).map(String::as_str)
    }

    /// How the stop went; `None` if no stop was requested and no processes were left to end.
    fn stop_report(&self, gone: &LeaderExit) -> Option<StopReport> {
        let survivors = self
            .remaining
            .all()
            .map(|member| Survivor { pid: member.identity.pid, name: self.secrets.mask(&member.name).into_owned() });
        let took = self.stopping_since.map(|since| since.elapsed()).unwrap_or_default();
        let wanted = gone.cause.is_some() || gone.force > Force::None;
        let unseen = self.has_unseen_process.then(|| Survivor { pid: 0, name: "unseen".to_owned() });
        let survivors = survivors.chain(unseen).collect();
        wanted.then(|| StopReport {
            duration: took,
            force: gone.force,
            processes: self.seen_processes.count(),
            survivors,
        })
    }
}

/// A process that has ended needs no signal.
fn signal_if_alive(mark: &ProcessIdentity, order: StopSignal) {
    let reached = group::send_signal(mark, order);
    tracing::debug!(pid = mark.pid, ?order, reached, "told");
}
