//! What an experiment does next, decided from how far it is; and the order of its runs. Pure.

use super::plan::Close;

/// How far an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Runs that have not had their turn.
    pub waiting: usize,
    /// Runs that live.
    pub live: usize,
    /// Runs that succeeded.
    pub succeeded: usize,
    /// How many successes are enough.
    pub keep: Option<usize>,
    /// How many may live at once.
    pub at_once: usize,
    /// Somebody asked for a stop.
    pub is_stopped: bool,
    /// The budget had too little left for another run when it was last asked, and no run has ended since.
    pub is_short: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start the next run.
    Start,
    /// Wait until something happens.
    Wait,
    /// Stop what lives; it is over for this reason.
    StopRest(Close),
    /// It is over.
    Close(Close),
}

/// What to do next. What lives gives its money back when it ends, so that a short budget is no end while something lives.
pub fn next(tally: Tally, reason: Option<String>) -> Step {
    let is_enough = tally.keep.is_some_and(|keep| tally.succeeded >= keep);
    match tally {
        Tally { is_stopped: true, .. } => Step::StopRest(Close::Stopped { reason }),
        _ if is_enough && (tally.live > 0 || tally.waiting > 0) => Step::StopRest(Close::Enough),
        Tally { waiting: 0, live: 0, .. } => Step::Close(Close::Done),
        Tally { is_short: true, live: 0, .. } => Step::Close(Close::Spent),
        Tally { waiting: 0, .. } | Tally { is_short: true, .. } => Step::Wait,
        Tally { live, at_once, .. } if live >= at_once => Step::Wait,
        Tally { .. } => Step::Start,
    }
}

/// The runs of arms by questions by repeats, as (arm, question, repeat). Each arm has had every question once before any has it
/// again, so that an experiment which ends early has compared something.
#[derive(Debug, Clone, Copy)]
pub struct Cells {
    /// How many arms.
    pub arms: usize,
    /// How many questions.
    pub questions: usize,
    /// How many times each.
    pub repeat: u32,
}

impl Cells {
    /// All of them, in the order in which they start.
    pub fn in_order(self) -> impl Iterator<Item = (usize, usize, u32)> {
        let each = move |repeat| {
            let of_question = move |question| (0..self.arms).map(move |arm| (arm, question, repeat));
            (0..self.questions).flat_map(of_question)
        };
        (1..=self.repeat).flat_map(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_follows_from_how_far_it_is() {
        let begun = Tally { waiting: 3, live: 1, succeeded: 1, at_once: 2, ..Tally::default() };
        let stopped = || Close::Stopped { reason: Some("r".to_owned()) };
        let table = [
            ("there is room", begun, Step::Start),
            ("no room", Tally { live: 2, ..begun }, Step::Wait),
            ("all started", Tally { waiting: 0, ..begun }, Step::Wait),
            ("all over", Tally { waiting: 0, live: 0, ..begun }, Step::Close(Close::Done)),
            ("enough, some live", Tally { keep: Some(1), ..begun }, Step::StopRest(Close::Enough)),
            ("enough, none lives", Tally { keep: Some(1), live: 0, ..begun }, Step::StopRest(Close::Enough)),
            ("enough at the end", Tally { keep: Some(1), live: 0, waiting: 0, ..begun }, Step::Close(Close::Done)),
            ("not enough", Tally { keep: Some(2), ..begun }, Step::Start),
            ("short, some live", Tally { is_short: true, ..begun }, Step::Wait),
            ("short, none lives", Tally { is_short: true, live: 0, ..begun }, Step::Close(Close::Spent)),
            ("stopped", Tally { is_stopped: true, ..begun }, Step::StopRest(stopped())),
        ];
        for (what, tally, step) in table {
            assert_eq!(next(tally, Some("r".to_owned())), step, "{what}");
        }
    }

    #[test]
    fn every_arm_has_every_question_before_any_is_repeated() {
        let all: Vec<_> = Cells { arms: 2, questions: 2, repeat: 2 }.in_order().collect();
        assert_eq!(all[..5], [(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 0, 2)]);
        assert_eq!(all.len(), 8);
    }
}
