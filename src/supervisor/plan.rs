//! How a run is stopped: a pure table of stages. It decides the next action and never carries it out.
//!
//! The leader gets one SIGINT and a grace period. Then the leader and its group get SIGTERM and two seconds, then SIGKILL until
//! the leader is gone. However the leader ended, its remaining processes get SIGTERM and two seconds, then SIGKILL until a scan
//! finds none. Nested runs are notified first and get the time that their own stop takes.

use std::time::Duration;

use crate::run::{Exit, Force, StopCause};

/// From SIGTERM to SIGKILL.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);
/// From one SIGKILL round to the next scan.
const KILL_INTERVAL: Duration = Duration::from_millis(20);
/// The most rounds of SIGKILL after the leader's end; a process that still lives then is a survivor.
const MAX_KILL_ROUNDS: u32 = 250;
/// How long a nested run's own stop may take, in addition to its grace.
const NESTED_STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// The stages of a run's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopStage {
    /// The leader works.
    Working,
    /// The leader got SIGINT.
    Interrupted(StopCause),
    /// The leader got SIGTERM.
    Terminated(StopCause),
    /// The leader is being killed; the number counts the rounds of SIGKILL.
    Killing(StopCause, u32),
    /// The leader has ended; its remaining processes have not been scanned yet.
    Scanning(LeaderExit),
    /// The remaining processes got SIGTERM.
    Sweeping(LeaderExit),
    /// The remaining processes are being killed; the number counts the rounds of SIGKILL.
    KillingRemaining(LeaderExit, u32),
    /// No process remains, or only processes that SIGKILL does not end.
    Done(LeaderExit),
}

/// The leader's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaderExit {
    /// Why we stopped it, if we did.
    pub(super) cause: Option<StopCause>,
    /// How its process ended.
    pub(super) exit: Exit,
    /// The strongest force used so far.
    pub(super) force: Force,
}

/// The events that move a run to its next stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopEvent {
    /// A stop was requested.
    Stop {
        /// Who requested it, and why.
        cause: StopCause,
        /// How long the leader has after SIGINT.
        grace: Duration,
    },
    /// The leader's process was reaped.
    LeaderEnded(Exit),
    /// A scan after the leader's end found this many processes.
    Remaining {
        /// Of the run itself.
        own: usize,
        /// Supervisors of nested runs, and all processes below them.
        nested: usize,
    },
    /// The timer that was set has run out.
    Timer,
}

/// An action for the supervisor to perform, in the given order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StopAction {
    /// SIGINT to the leader, once.
    Interrupt,
    /// SIGTERM to the supervisors of nested runs.
    StopNested,
    /// SIGTERM to the leader and its process group.
    Terminate,
    /// SIGKILL to every process of the run itself; supervisors of nested runs end their own processes.
    KillOwn,
    /// SIGTERM to all remaining processes.
    TerminateRemaining,
    /// SIGKILL to all remaining processes, including nested runs.
    KillRemaining,
    /// Count the remaining processes and report them as [`StopEvent::Remaining`].
    Scan,
    /// Set the timer; it replaces an earlier one.
    SetTimer(Duration),
}

/// The next stage, and the actions that lead to it.
pub(super) fn apply(stage: StopStage, event: StopEvent) -> (StopStage, Vec<StopAction>) {
    match (stage, event) {
        (StopStage::Working, StopEvent::Stop { cause, grace }) => (
            StopStage::Interrupted(cause),
            vec![StopAction::StopNested, StopAction::Interrupt, StopAction::SetTimer(grace)],
        ),
        (StopStage::Interrupted(cause), StopEvent::Timer) => {
            (StopStage::Terminated(cause), vec![StopAction::Terminate, StopAction::SetTimer(TERMINATE_TIMEOUT)])
        }
        (StopStage::Terminated(cause), StopEvent::Timer) => kill_own(cause, 1),
        (StopStage::Killing(cause, rounds), StopEvent::Timer) if rounds < MAX_KILL_ROUNDS => {
            kill_own(cause, rounds + 1)
        }
        // The process hangs in the kernel: nothing more can be done, and the stop report names it.
        (StopStage::Killing(cause, _), StopEvent::Timer) => {
            (StopStage::Done(LeaderExit { cause: Some(cause), exit: Exit::Unknown, force: Force::Kill }), vec![])
        }
        (StopStage::Working, StopEvent::LeaderEnded(exit)) => start_scan(None, exit, Force::None),
        (StopStage::Interrupted(cause), StopEvent::LeaderEnded(exit)) => {
            start_scan(Some(cause), exit, Force::Interrupt)
        }
        (StopStage::Terminated(cause), StopEvent::LeaderEnded(exit)) => start_scan(Some(cause), exit, Force::Terminate),
        (StopStage::Killing(cause, _), StopEvent::LeaderEnded(exit)) => start_scan(Some(cause), exit, Force::Kill),
        (
            StopStage::Scanning(leader_exit)
            | StopStage::Sweeping(leader_exit)
            | StopStage::KillingRemaining(leader_exit, _),
            StopEvent::Remaining { own: 0, nested: 0 },
        ) => (StopStage::Done(leader_exit), vec![]),
        (StopStage::Scanning(leader_exit), StopEvent::Remaining { nested, .. }) => {
            let wait = if nested > 0 { NESTED_STOP_TIMEOUT } else { TERMINATE_TIMEOUT };
            (
                StopStage::Sweeping(leader_exit.with_force(Force::Terminate)),
                vec![StopAction::TerminateRemaining, StopAction::SetTimer(wait)],
            )
        }
        (StopStage::Sweeping(leader_exit), StopEvent::Timer) => kill_remaining(leader_exit, 1),
        (StopStage::KillingRemaining(leader_exit, rounds), StopEvent::Timer) if rounds < MAX_KILL_ROUNDS => {
            kill_remaining(leader_exit, rounds + 1)
        }
        (StopStage::KillingRemaining(leader_exit, _), StopEvent::Timer) => (StopStage::Done(leader_exit), vec![]),
        // A second stop request changes nothing: a second SIGINT would make MassGen exit without saving. A scan that found
        // a process waits for the timer. A late timer or scan belongs to a stage that has passed.
        (
            stage @ (StopStage::Interrupted(_) | StopStage::Terminated(_) | StopStage::Killing(..)),
            StopEvent::Stop { .. } | StopEvent::Remaining { .. },
        ) => (stage, vec![]),
        (stage @ StopStage::Working, StopEvent::Timer | StopEvent::Remaining { .. }) => (stage, vec![]),
        (
            stage @ (StopStage::Scanning(_)
            | StopStage::Sweeping(_)
            | StopStage::KillingRemaining(..)
            | StopStage::Done(_)),
            _,
        ) => (stage, vec![]),
    }
}

fn start_scan(cause: Option<StopCause>, exit: Exit, force: Force) -> (StopStage, Vec<StopAction>) {
    (StopStage::Scanning(LeaderExit { cause, exit, force }), vec![StopAction::Scan])
}

fn kill_own(cause: StopCause, round: u32) -> (StopStage, Vec<StopAction>) {
    (StopStage::Killing(cause, round), vec![StopAction::KillOwn, StopAction::SetTimer(KILL_INTERVAL)])
}

fn kill_remaining(leader_exit: LeaderExit, round: u32) -> (StopStage, Vec<StopAction>) {
    let stage = StopStage::KillingRemaining(leader_exit.with_force(Force::Kill), round);
    (stage, vec![StopAction::KillRemaining, StopAction::SetTimer(KILL_INTERVAL), StopAction::Scan])
}

impl LeaderExit {
    fn with_force(self, force: Force) -> LeaderExit {
        LeaderExit { force: self.force.max(force), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested() -> StopCause {
        StopCause::Requested { reason: None }
    }

    fn leader_exit(force: Force) -> LeaderExit {
        LeaderExit { cause: Some(requested()), exit: Exit::Code(0), force }
    }

    fn stages() -> Vec<StopStage> {
        vec![
            StopStage::Working,
            StopStage::Interrupted(requested()),
            StopStage::Terminated(requested()),
            StopStage::Killing(requested(), 1),
            StopStage::Scanning(leader_exit(Force::None)),
            StopStage::Sweeping(leader_exit(Force::Terminate)),
            StopStage::KillingRemaining(leader_exit(Force::Kill), 1),
            StopStage::Done(leader_exit(Force::Kill)),
        ]
    }

    fn events() -> Vec<StopEvent> {
        vec![
            StopEvent::Stop { cause: StopCause::Deadline, grace: Duration::from_secs(5) },
            StopEvent::LeaderEnded(Exit::Signal(9)),
            StopEvent::Remaining { own: 0, nested: 0 },
            StopEvent::Remaining { own: 2, nested: 0 },
            StopEvent::Remaining { own: 0, nested: 2 },
            StopEvent::Timer,
        ]
    }

    /// A leader that ignores every signal and leaves processes that are hard to kill.
    #[test]
    fn a_stop_sends_sigint_sigterm_and_sigkill_and_scans_in_this_order() {
        let grace = Duration::from_secs(5);
        let mut stage = StopStage::Working;
        let mut done = Vec::new();
        for event in [
            StopEvent::Stop { cause: requested(), grace },
            StopEvent::Timer,
            StopEvent::Timer,
            StopEvent::LeaderEnded(Exit::Signal(9)),
            StopEvent::Remaining { own: 1, nested: 0 },
            StopEvent::Timer,
            StopEvent::Remaining { own: 1, nested: 0 },
            StopEvent::Remaining { own: 0, nested: 0 },
        ] {
            let (next, actions) = apply(stage, event);
            stage = next;
            done.extend(actions.into_iter().filter(|action| !matches!(action, StopAction::SetTimer(_))));
        }
        use StopAction::{Interrupt, KillOwn, KillRemaining, Scan, StopNested, Terminate, TerminateRemaining};
        assert_eq!(done, [StopNested, Interrupt, Terminate, KillOwn, Scan, TerminateRemaining, KillRemaining, Scan]);
        assert_eq!(stage, StopStage::Done(LeaderExit { exit: Exit::Signal(9), ..leader_exit(Force::Kill) }));
    }

    #[test]
    fn for_all_pairs_sigint_is_sent_only_to_a_working_leader_and_done_is_final() {
        for stage in stages() {
            for event in events() {
                let (next, actions) = apply(stage.clone(), event.clone());
                assert!(
                    !actions.contains(&StopAction::Interrupt) || stage == StopStage::Working,
                    "{stage:?} {event:?}"
                );
                let has_leader_ended = matches!(
                    stage,
                    StopStage::Scanning(_)
                        | StopStage::Sweeping(_)
                        | StopStage::KillingRemaining(..)
                        | StopStage::Done(_)
                );
                let signals_leader = actions.iter().any(|a| matches!(a, StopAction::Terminate | StopAction::KillOwn));
                assert!(!(has_leader_ended && signals_leader), "{stage:?} {event:?}");
                assert!(!matches!(stage, StopStage::Done(_)) || (next == stage && actions.is_empty()));
                if let StopStage::Done(_) = next {
                    let is_empty_scan = event == StopEvent::Remaining { own: 0, nested: 0 };
                    assert!(is_empty_scan || matches!(stage, StopStage::Done(_)), "{stage:?} ends by {event:?}");
                }
            }
        }
    }

    #[test]
    fn processes_that_survive_all_rounds_of_sigkill_end_the_stop() {
        let (next, actions) =
            apply(StopStage::KillingRemaining(leader_exit(Force::Kill), MAX_KILL_ROUNDS), StopEvent::Timer);
        assert_eq!((next, actions), (StopStage::Done(leader_exit(Force::Kill)), vec![]));
        let (next, _) = apply(StopStage::Killing(requested(), MAX_KILL_ROUNDS), StopEvent::Timer);
        assert_eq!(next, StopStage::Done(LeaderExit { exit: Exit::Unknown, ..leader_exit(Force::Kill) }));
    }

    #[test]
    fn nested_runs_get_the_nested_stop_timeout() {
        let (_, actions) =
            apply(StopStage::Scanning(leader_exit(Force::None)), StopEvent::Remaining { own: 0, nested: 1 });
        assert_eq!(actions, [StopAction::TerminateRemaining, StopAction::SetTimer(NESTED_STOP_TIMEOUT)]);
    }

    #[test]
    fn own_processes_get_the_terminate_timeout() {
        let (stage, actions) =
            apply(StopStage::Scanning(leader_exit(Force::None)), StopEvent::Remaining { own: 1, nested: 0 });
        assert_eq!(stage, StopStage::Sweeping(leader_exit(Force::Terminate)));
        assert_eq!(actions, [StopAction::TerminateRemaining, StopAction::SetTimer(TERMINATE_TIMEOUT)]);
    }

    #[test]
    fn the_leader_exit_has_the_cause_and_the_force_used_so_far() {
        for (stage, cause, force) in [
            (StopStage::Working, None, Force::None),
            (StopStage::Interrupted(requested()), Some(requested()), Force::Interrupt),
            (StopStage::Terminated(requested()), Some(requested()), Force::Terminate),
            (StopStage::Killing(requested(), 1), Some(requested()), Force::Kill),
        ] {
            let exit = Exit::Code(1);
            let expected = StopStage::Scanning(LeaderExit { cause, exit, force });
            assert_eq!(apply(stage, StopEvent::LeaderEnded(exit)), (expected, vec![StopAction::Scan]));
        }
    }

    #[test]
    fn a_scan_that_finds_only_own_or_only_nested_processes_does_not_end_the_stop() {
        for (own, nested) in [(1, 0), (0, 1)] {
            for stage in [
                StopStage::Sweeping(leader_exit(Force::Terminate)),
                StopStage::KillingRemaining(leader_exit(Force::Kill), 2),
            ] {
                assert_eq!(apply(stage.clone(), StopEvent::Remaining { own, nested }), (stage, vec![]));
            }
        }
    }

    /// The timer runs out again and again; the leader, or one of the remaining processes, never ends.
    #[test]
    fn the_rounds_of_sigkill_are_limited() {
        let first = [StopStage::Terminated(requested()), StopStage::Sweeping(leader_exit(Force::Terminate))];
        for (mut stage, kill) in first.into_iter().zip([StopAction::KillOwn, StopAction::KillRemaining]) {
            let mut rounds = 0;
            for _ in 0..=MAX_KILL_ROUNDS {
                let (next, actions) = apply(stage, StopEvent::Timer);
                stage = next;
                if actions.contains(&kill) {
                    assert!(actions.contains(&StopAction::SetTimer(KILL_INTERVAL)), "otherwise nothing follows");
                    rounds += 1;
                }
            }
            assert_eq!(rounds, MAX_KILL_ROUNDS, "{kill:?}");
            assert!(matches!(stage, StopStage::Done(_)), "{stage:?}");
        }
    }
}
