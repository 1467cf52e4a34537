//! A cursor: one short word for all that a waiter has seen of some runs. It is made of hashes of their names and change
//! counters, so that any server gives the same word for the same sight, and none has to remember who saw what. Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::LATEST_COUNT;
use crate::run::{RunId, RunRecord};

/// What was seen: `<changes>-<endings>`, in decimal digits; an answer that is whole is as good as an end. A model reads it with every wait and writes it with the next, and to its
/// tokenizer three digits are one token, where a hexadecimal word falls into pieces: 8 tokens in place of 20. Of a few runs of
/// which some had ended, `-<told>` follows, which says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    changes: String,
    endings: String,
    /// A bit for each run, in the order of [`with_bits`].
    ended_bits: u32,
}

/// Of more runs than this a cursor does not say which of them had ended.
const MAX_ENDED_BITS: usize = LATEST_COUNT;

impl Cursor {
    /// The cursor of a sight. The order of the runs does not matter.
    pub fn from_runs(runs: &[RunRecord]) -> Cursor {
        Cursor::naming(runs, |_| true)
    }

    /// The cursor of an answer that does not name every run which has ended. Those that it leaves out are news for the next call.
    pub fn naming(runs: &[RunRecord], is_named: impl Fn(&RunId) -> bool) -> Cursor {
        let is_untold = |run: &RunRecord| run.state.ending().is_some() && !is_named(&run.spec.id);
        let changes = runs.iter().map(|run| format!("{} {}\n", run.spec.id, run.seq));
        let answered = runs.iter().filter(|run| run.is_answered() && !is_untold(run));
        let told = with_bits(runs).filter(|(_, run)| run.state.ending().is_some() && !is_untold(run));
        Cursor {
            changes: format!("{:012}", hash(changes.collect()) % 1_000_000_000_000),
            endings: format!("{:09}", hash(answered.map(|run| format!("{}\n", run.spec.id)).collect()) % 1_000_000_000),
            ended_bits: told.map(|(bit, _)| bit).sum(),
        }
    }

    /// Those of a few runs that had ended when the cursor was given out. Runs that have come since change nothing; where one was
    /// removed since, an end may be missed or be told again.
    pub fn had_ended<'a>(&self, runs: &'a [RunRecord]) -> Vec<&'a RunId> {
        let told = with_bits(runs).filter(|(bit, run)| self.ended_bits & bit != 0 && run.state.ending().is_some());
        told.map(|(_, run)| &run.spec.id).collect()
    }

    /// A cursor as a client gave it back; one that was never given out differs from every sight.
    pub fn parse(text: &str) -> Cursor {
        let (changes, rest) = text.split_once('-').unwrap_or((text, ""));
        let (endings, told) = rest.split_once('-').unwrap_or((rest, ""));
        let told = told.parse().unwrap_or_default();
        Cursor { changes: changes.to_owned(), endings: endings.to_owned(), ended_bits: told }
    }

    /// Whether the same runs had ended, or had only that left to do.
    pub fn has_same_endings(&self, other: &Cursor) -> bool {
        self.endings == other.endings
    }
}

/// The bit of each run; none of many. A group of one run has one as well, since it may grow. The order must not change while a group goes on: runs that are added to a group come
/// last, by their creation. The runs of an experiment are all known from its beginning and get another creation time when they are
/// started, so their names decide.
fn with_bits(runs: &[RunRecord]) -> impl Iterator<Item = (u32, &RunRecord)> {
    let is_told = runs.len() <= MAX_ENDED_BITS;
    let mut runs: Vec<&RunRecord> = if is_told { runs.iter().collect() } else { Vec::new() };
    let added = |run: &RunRecord| run.spec.origin.experiment.is_none().then_some(run.spec.created);
    runs.sort_by_key(|run| (added(run), &run.spec.id));
    runs.into_iter().enumerate().map(|(place, run)| (1 << place, run))
}

fn hash(mut lines: Vec<String>) -> u64 {
    lines.sort();
    let hash = Sha256::digest(lines.concat());
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.changes, self.endings)?;
        if self.ended_bits == 0 { Ok(()) } else { write!(f, "-{}", self.ended_bits) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::registry::initial_record;
    use crate::run::{ConfigChoice, Ending, Exit, Moment, Outcome, RunSpec, RunState};

    pub(crate) fn run(n: u8, is_over: bool) -> RunRecord {
        let created = jiff::Timestamp::from_second(i64::from(n)).expect("time");
        let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
        let plain = RunSpec::new(RunId::from_bytes([0, 0, 0, 0, n]), "q", config, "/p".into(), "/b".into());
        let record = initial_record(RunSpec { created, ..plain });
        if !is_over {
            return record;
        }
        let at = Moment { wall: created, boot_ms: 0, boot_id: String::new() };
        let (outcome, exit, took) = (Outcome::Succeeded, Exit::Code(0), std::time::Duration::ZERO);
        let ending =
            Ending { outcome, exit, ended_at: at, duration: took, answer: None, stop: None, warnings: Vec::new() };
        RunRecord { state: RunState::Ended(ending), seq: record.seq + 1, ..record }
    }

    fn given_back(runs: &[RunRecord]) -> Cursor {
        let cursor = Cursor::from_runs(runs);
        let again = Cursor::parse(&cursor.to_string());
        assert_eq!(again, cursor);
        again
    }

    #[test]
    fn a_cursor_says_whose_end_was_told() {
        let before = given_back(&[run(3, false), run(2, true), run(1, false)]);
        let now = [run(4, true), run(3, true), run(2, true), run(1, false)];
        let told: Vec<String> = before.had_ended(&now).into_iter().map(RunId::to_string).collect();
        assert_eq!(told, [run(2, true).spec.id.to_string()], "and not of one that has come since");
        assert!(!before.has_same_endings(&Cursor::from_runs(&now)));
    }

    #[test]
    fn an_end_that_an_answer_does_not_name_is_news_for_the_next_call() {
        let runs = [run(1, true), run(2, true), run(3, false)];
        let named = Cursor::naming(&runs, |id| *id == runs[0].spec.id);
        assert_eq!(named.had_ended(&runs), [&runs[0].spec.id]);
        assert!(
            named != Cursor::from_runs(&runs) && !named.has_same_endings(&Cursor::from_runs(&runs)),
            "no wait passes over it"
        );
        assert_eq!(Cursor::naming(&runs, |id| *id != runs[2].spec.id), Cursor::from_runs(&runs), "it has not ended");
    }

    /// How far a run is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum At {
        NotStarted,
        Goes,
        Over,
    }

    /// A look at runs: of an experiment all are there from the beginning, of a group those that were started. A run that is started later
    /// has a name that is sorted before.
    fn seen(runs: &[(At, i64)], is_experiment: bool) -> Vec<RunRecord> {
        let there = runs.iter().enumerate().filter(|(_, (at, _))| is_experiment || *at != At::NotStarted);
        let record = |(place, (at, created)): (usize, &(At, i64))| {
            let mut run = run(9 - place as u8, *at == At::Over);
            run.spec.created = jiff::Timestamp::from_second(*created).expect("time");
            run.spec.origin.experiment = is_experiment.then(|| "ex".to_owned());
            run
        };
        there.map(record).collect()
    }

    /// Goes through every order in which runs start and end, with a look or none after each event.
    fn every_order(runs: &[(At, i64)], is_experiment: bool, since: Option<&Cursor>, told: &[RunId], now: i64) -> usize {
        let look = |runs: &[(At, i64)]| {
            let records = seen(runs, is_experiment);
            let had_ended = since.map(|since| since.had_ended(&records)).unwrap_or_default();
            let is_news = |run: &&RunRecord| run.state.ending().is_some() && !had_ended.contains(&&run.spec.id);
            let news: Vec<RunId> = records.iter().filter(is_news).map(|run| run.spec.id.clone()).collect();
            (given_back(&records), [told, &news].concat())
        };
        if runs.iter().all(|(at, _)| *at == At::Over) {
            let (_, mut told) = look(runs);
            told.sort();
            let mut all: Vec<RunId> = seen(runs, is_experiment).into_iter().map(|run| run.spec.id).collect();
            all.sort();
            assert_eq!(told, all, "each end once: {runs:?}");
            return 1;
        }
        let mut count = 0;
        for place in 0..runs.len() {
            let mut next = runs.to_vec();
            next[place] = match next[place] {
                (At::NotStarted, _) => (At::Goes, now),
                (At::Goes, created) => (At::Over, created),
                (At::Over, _) => continue,
            };
            count += every_order(&next, is_experiment, since, told, now + 1);
            let (cursor, told) = look(&next);
            count += every_order(&next, is_experiment, Some(&cursor), &told, now + 1);
        }
        count
    }

    #[test]
    fn every_end_is_told_once_whatever_happens_between_two_looks() {
        for is_experiment in [true, false] {
            let orders = every_order(&[(At::NotStarted, 0); 3], is_experiment, None, &[], 1);
            assert_eq!(orders, 90 * 64, "six events, and after each a look or none");
        }
    }

    #[test]
    fn of_many_it_says_nothing_of_that() {
        let many: Vec<RunRecord> = (0..=MAX_ENDED_BITS as u8).map(|n| run(n, true)).collect();
        assert_eq!(given_back(&many).to_string().matches('-').count(), 1);
        assert!(Cursor::from_runs(&many).had_ended(&many).is_empty());
        for few in [1, MAX_ENDED_BITS] {
            assert_eq!(given_back(&many[..few]).had_ended(&many[..few]).len(), few);
        }
        assert!(Cursor::parse("never given out").had_ended(&many[..2]).is_empty());
    }

    #[test]
    fn the_start_of_a_planned_run_does_not_change_whose_end_was_told() {
        let planned = |n: u8, started: Option<i64>, is_over: bool| {
            let mut run = run(n, is_over);
            run.spec.origin.experiment = Some("ex".to_owned());
            run.spec.created = jiff::Timestamp::from_second(started.unwrap_or_default()).expect("time");
            run
        };
        // The second run of the plan was started first and has ended; then the first one is started and ends.
        let before = given_back(&[planned(1, None, false), planned(2, Some(10), true), planned(3, None, false)]);
        let after = [planned(1, Some(20), true), planned(2, Some(10), true), planned(3, Some(30), false)];
        assert_eq!(before.had_ended(&after), [&after[1].spec.id]);
    }
}
