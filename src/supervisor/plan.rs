//! How a run is brought to its end: a pure table of stages. It decides what to do next and never does it.
//!
//! One SIGINT to the leader and a grace period; SIGTERM to the leader and its group and two seconds; SIGKILL until it is gone.
//! When the leader is gone, by itself or by us, what it left behind gets SIGTERM and two seconds, then SIGKILL until a look
//! finds nobody. Runs that this run started are told at the beginning, and get the time that their own stop takes.

use std::time::Duration;

use crate::run::{Exit, Force, StopCause};

/// From SIGTERM to SIGKILL.
const TERMINATE_WAIT: Duration = Duration::from_secs(2);
/// From one SIGKILL round to the next look.
const KILL_WAIT: Duration = Duration::from_millis(20);
/// The most rounds of SIGKILL after the leader's end; what lives then is a survivor.
const MOST_KILLS: u32 = 250;
/// What a nested run's own stop may take on top of its grace.
const NESTED_WAIT: Duration = Duration::from_secs(12);

/// Where the run is on its way to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// The leader works.
    Working,
    /// The leader was asked.
    Asked(StopCause),
    /// The leader was told.
    Told(StopCause),
    /// The leader is being killed; so many rounds of SIGKILL so far.
    Killing(StopCause, u32),
    /// The leader is gone; nobody has looked yet what it left.
    Looking(Gone),
    /// What it left was told to end.
    Sweeping(Gone),
    /// What it left is being killed; so many rounds so far.
    KillingRest(Gone, u32),
    /// Nobody is left, or nobody that SIGKILL ends.
    Over(Gone),
}

/// The leader's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    /// Why we stopped it, if we did.
    pub(super) cause: Option<StopCause>,
    /// How its process ended.
    pub(super) exit: Exit,
    /// The strongest means so far.
    pub(super) force: Force,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A stop is wanted.
    Stop {
        /// By whom, and why.
        cause: StopCause,
        /// How long the leader has after the polite signal.
        grace: Duration,
    },
    /// The leader's process was reaped.
    LeaderEnded(Exit),
    /// A look after the leader's end found so many processes.
    Left {
        /// Of the run itself.
        own: usize,
        /// Supervisors of nested runs, and what is below them.
        nested: usize,
    },
    /// The timer that was set has run out.
    Timer,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// SIGINT to the leader, once.
    Interrupt,
    /// SIGTERM to the supervisors of nested runs.
    StopNested,
    /// SIGTERM to the leader and its process group.
    Terminate,
    /// SIGKILL to every process of the run itself; nested runs end by their own supervisors.
    KillOwn,
    /// SIGTERM to all that is left.
    TerminateRest,
    /// SIGKILL to all that is left, nested runs too.
    KillRest,
    /// Count what is left and report it as [`Event::Left`].
    Look,
    /// Set the timer; an earlier one is forgotten.
    Arm(Duration),
}

/// The next stage, and what to do on the way there.
pub(super) fn apply(stage: Stage, event: Event) -> (Stage, Vec<Action>) {
    match (stage, event) {
        (Stage::Working, Event::Stop { cause, grace }) => {
            (Stage::Asked(cause), vec![Action::StopNested, Action::Interrupt, Action::Arm(grace)])
        }
        (Stage::Asked(cause), Event::Timer) => {
            (Stage::Told(cause), vec![Action::Terminate, Action::Arm(TERMINATE_WAIT)])
        }
        (Stage::Told(cause), Event::Timer) => kill_own(cause, 1),
        (Stage::Killing(cause, rounds), Event::Timer) if rounds < MOST_KILLS => kill_own(cause, rounds + 1),
        // It hangs in the kernel: nothing more can be done, and the report names it.
        (Stage::Killing(cause, _), Event::Timer) => {
            (Stage::Over(Gone { cause: Some(cause), exit: Exit::Unknown, force: Force::Kill }), vec![])
        }
        (Stage::Working, Event::LeaderEnded(exit)) => looking(None, exit, Force::None),
        (Stage::Asked(cause), Event::LeaderEnded(exit)) => looking(Some(cause), exit, Force::Interrupt),
        (Stage::Told(cause), Event::LeaderEnded(exit)) => looking(Some(cause), exit, Force::Terminate),
        (Stage::Killing(cause, _), Event::LeaderEnded(exit)) => looking(Some(cause), exit, Force::Kill),
        (
            Stage::Looking(gone) | Stage::Sweeping(gone) | Stage::KillingRest(gone, _),
            Event::Left { own: 0, nested: 0 },
        ) => (Stage::Over(gone), vec![]),
        (Stage::Looking(gone), Event::Left { nested, .. }) => {
            let wait = if nested > 0 { NESTED_WAIT } else { TERMINATE_WAIT };
            (Stage::Sweeping(gone.with(Force::Terminate)), vec![Action::TerminateRest, Action::Arm(wait)])
        }
        (Stage::Sweeping(gone), Event::Timer) => kill_rest(gone, 1),
        (Stage::KillingRest(gone, rounds), Event::Timer) if rounds < MOST_KILLS => kill_rest(gone, rounds + 1),
        (Stage::KillingRest(gone, _), Event::Timer) => (Stage::Over(gone), vec![]),
        // A second wish to stop changes nothing: a second SIGINT would make MassGen leave without saving. A look that
        // found somebody waits for the timer. A timer or a look that comes late finds its stage gone.
        (stage @ (Stage::Asked(_) | Stage::Told(_) | Stage::Killing(..)), Event::Stop { .. } | Event::Left { .. }) => {
            (stage, vec![])
        }
        (stage @ Stage::Working, Event::Timer | Event::Left { .. }) => (stage, vec![]),
        (stage @ (Stage::Looking(_) | Stage::Sweeping(_) | Stage::KillingRest(..) | Stage::Over(_)), _) => {
            (stage, vec![])
        }
    }
}

fn looking(cause: Option<StopCause>, exit: Exit, force: Force) -> (Stage, Vec<Action>) {
    (Stage::Looking(Gone { cause, exit, force }), vec![Action::Look])
}

fn kill_own(cause: StopCause, round: u32) -> (Stage, Vec<Action>) {
    (Stage::Killing(cause, round), vec![Action::KillOwn, Action::Arm(KILL_WAIT)])
}

fn kill_rest(gone: Gone, round: u32) -> (Stage, Vec<Action>) {
    let stage = Stage::KillingRest(gone.with(Force::Kill), round);
    (stage, vec![Action::KillRest, Action::Arm(KILL_WAIT), Action::Look])
}

impl Gone {
    fn with(self, force: Force) -> Gone {
        Gone { force: self.force.max(force), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> StopCause {
        StopCause::Asked { reason: None }
    }

    fn gone(force: Force) -> Gone {
        Gone { cause: Some(asked()), exit: Exit::Code(0), force }
    }

    fn stages() -> Vec<Stage> {
        vec![
            Stage::Working,
            Stage::Asked(asked()),
            Stage::Told(asked()),
            Stage::Killing(asked(), 1),
            Stage::Looking(gone(Force::None)),
            Stage::Sweeping(gone(Force::Terminate)),
            Stage::KillingRest(gone(Force::Kill), 1),
            Stage::Over(gone(Force::Kill)),
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Stop { cause: StopCause::Deadline, grace: Duration::from_secs(5) },
            Event::LeaderEnded(Exit::Signal(9)),
            Event::Left { own: 0, nested: 0 },
            Event::Left { own: 2, nested: 0 },
            Event::Left { own: 0, nested: 2 },
            Event::Timer,
        ]
    }

    /// The way of a leader that ignores everything and leaves a stubborn rest.
    #[test]
    fn a_stop_asks_waits_insists_and_looks() {
        let grace = Duration::from_secs(5);
        let mut stage = Stage::Working;
        let mut done = Vec::new();
        for event in [
            Event::Stop { cause: asked(), grace },
            Event::Timer,
            Event::Timer,
            Event::LeaderEnded(Exit::Signal(9)),
            Event::Left { own: 1, nested: 0 },
            Event::Timer,
            Event::Left { own: 1, nested: 0 },
            Event::Left { own: 0, nested: 0 },
        ] {
            let (next, actions) = apply(stage, event);
            stage = next;
            done.extend(actions.into_iter().filter(|action| !matches!(action, Action::Arm(_))));
        }
        use Action::{Interrupt, KillOwn, KillRest, Look, StopNested, Terminate, TerminateRest};
        assert_eq!(done, [StopNested, Interrupt, Terminate, KillOwn, Look, TerminateRest, KillRest, Look]);
        assert_eq!(stage, Stage::Over(Gone { exit: Exit::Signal(9), ..gone(Force::Kill) }));
    }

    #[test]
    fn over_all_pairs_the_polite_signal_is_sent_from_work_alone_and_the_end_is_the_end() {
        for stage in stages() {
            for event in events() {
                let (next, actions) = apply(stage.clone(), event.clone());
                assert!(!actions.contains(&Action::Interrupt) || stage == Stage::Working, "{stage:?} {event:?}");
                let leader_gone =
                    matches!(stage, Stage::Looking(_) | Stage::Sweeping(_) | Stage::KillingRest(..) | Stage::Over(_));
                let speaks_to_leader = actions.iter().any(|a| matches!(a, Action::Terminate | Action::KillOwn));
                assert!(!(leader_gone && speaks_to_leader), "{stage:?} {event:?}");
                assert!(!matches!(stage, Stage::Over(_)) || (next == stage && actions.is_empty()));
                if let Stage::Over(_) = next {
                    let proof = event == Event::Left { own: 0, nested: 0 };
                    assert!(proof || matches!(stage, Stage::Over(_)), "{stage:?} ends by {event:?}");
                }
            }
        }
    }

    #[test]
    fn what_no_kill_ends_is_given_up_in_the_end() {
        let (next, actions) = apply(Stage::KillingRest(gone(Force::Kill), MOST_KILLS), Event::Timer);
        assert_eq!((next, actions), (Stage::Over(gone(Force::Kill)), vec![]));
        let (next, _) = apply(Stage::Killing(asked(), MOST_KILLS), Event::Timer);
        assert_eq!(next, Stage::Over(Gone { exit: Exit::Unknown, ..gone(Force::Kill) }));
    }

    #[test]
    fn nested_runs_get_the_time_of_their_own_stop() {
        let (_, actions) = apply(Stage::Looking(gone(Force::None)), Event::Left { own: 0, nested: 1 });
        assert_eq!(actions, [Action::TerminateRest, Action::Arm(NESTED_WAIT)]);
    }
}
