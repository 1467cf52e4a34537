//! A cursor: a short text for the state of some runs that a caller has seen. It consists of hashes of run ids and change
//! counters, so every server computes the same cursor for the same state and stores nothing per caller. Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::LATEST_COUNT;
use crate::run::{RunId, RunRecord};

/// The seen state: `<changes>-<endings>`, in decimal digits; a complete answer counts as an ending. If there are at most
/// `MAX_ENDED_BITS` runs and some have ended, `-<ended_bits>` follows and says which.
/// A model reads the cursor with every wait and writes it with the next. Decimal digits save tokens: a tokenizer makes one token of
/// three digits but splits hexadecimal text, so a cursor takes 8 tokens instead of 20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    changes: String,
    endings: String,
    /// A bit for each run, in the order of [`with_bits`].
    ended_bits: u32,
}

/// The most runs for which a cursor says which of them had ended.
const MAX_ENDED_BITS: usize = LATEST_COUNT;

impl Cursor {
    /// The cursor for the state of these runs. The order of the runs does not matter.
    pub fn from_runs(runs: &[RunRecord]) -> Cursor {
        Cursor::naming(runs, |_| true)
    }

    /// The cursor for an answer that does not name every ended run. The next call reports the ended runs that it leaves out.
    pub fn naming(runs: &[RunRecord], is_named: impl Fn(&RunId) -> bool) -> Cursor {
        let is_unreported = |run: &RunRecord| run.state.ending().is_some() && !is_named(&run.spec.id);
        let changes = runs.iter().map(|run| format!("{} {}\n", run.spec.id, run.seq));
        let answered = runs.iter().filter(|run| run.is_answered() && !is_unreported(run));
        let reported = with_bits(runs).filter(|(_, run)| run.state.ending().is_some() && !is_unreported(run));
        Cursor {
            changes: format!("{:012}", hash(changes.collect()) % 1_000_000_000_000),
            endings: format!("{:09}", hash(answered.map(|run| format!("{}\n", run.spec.id)).collect()) % 1_000_000_000),
            ended_bits: reported.map(|(bit, _)| bit).sum(),
        }
    }

    /// The runs that had ended when the cursor was created; empty for more than `MAX_ENDED_BITS` runs. Runs added since then do
    /// not matter. If a run was removed since then, an end may be missed or reported again.
    pub fn had_ended<'a>(&self, runs: &'a [RunRecord]) -> Vec<&'a RunId> {
        let had_ended = with_bits(runs).filter(|(bit, run)| self.ended_bits & bit != 0 && run.state.ending().is_some());
        had_ended.map(|(_, run)| &run.spec.id).collect()
    }

    /// Parses a cursor from a client; a text that is not a cursor differs from every cursor.
    pub fn parse(text: &str) -> Cursor {
        let (changes, rest) = text.split_once('-').unwrap_or((text, ""));
        let (endings, ended_bits) = rest.split_once('-').unwrap_or((rest, ""));
        let ended_bits = ended_bits.parse().unwrap_or_default();
        Cursor { changes: changes.to_owned(), endings: endings.to_owned(), ended_bits }
    }

    /// Whether the same runs had ended or had their complete answers.
    pub fn has_same_endings(&self, other: &Cursor) -> bool {
        self.endings == other.endings
    }
}

/// Assigns a bit to each run; assigns none to more than `MAX_ENDED_BITS` runs. A single run gets a bit too, because its group may
/// grow. The order of the bits must not change while a group grows: runs added later come last, by creation time. The runs of an
/// experiment are all known from its beginning and get a new creation time when they start, so they are ordered by id.
fn with_bits(runs: &[RunRecord]) -> impl Iterator<Item = (u32, &RunRecord)> {
    let has_bits = runs.len() <= MAX_ENDED_BITS;
    let mut runs: Vec<&RunRecord> = if has_bits { runs.iter().collect() } else { Vec::new() };
    let added = |run: &RunRecord| run.spec.origin.experiment.is_none().then_some(run.spec.created);
    runs.sort_by_key(|run| (added(run), &run.spec.id));
    runs.into_iter().enumerate().map(|(index, run)| (1 << index, run))
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

    fn round_trip(runs: &[RunRecord]) -> Cursor {
        let cursor = Cursor::from_runs(runs);
        let again = Cursor::parse(&cursor.to_string());
        assert_eq!(again, cursor);
        again
    }

    #[test]
    fn a_cursor_records_which_runs_had_ended() {
        let before = round_trip(&[run(3, false), run(2, true), run(1, false)]);
        let now = [run(4, true), run(3, true), run(2, true), run(1, false)];
        let reported: Vec<String> = before.had_ended(&now).into_iter().map(RunId::to_string).collect();
        assert_eq!(reported, [run(2, true).spec.id.to_string()], "and not of one that has come since");
        assert!(!before.has_same_endings(&Cursor::from_runs(&now)));
    }

    #[test]
    fn an_ending_that_an_answer_leaves_out_is_new_to_the_next_call() {
        let runs = [run(1, true), run(2, true), run(3, false)];
        let named = Cursor::naming(&runs, |id| *id == runs[0].spec.id);
        assert_eq!(named.had_ended(&runs), [&runs[0].spec.id]);
        assert!(
            named != Cursor::from_runs(&runs) && !named.has_same_endings(&Cursor::from_runs(&runs)),
            "no wait passes over it"
        );
        assert_eq!(Cursor::naming(&runs, |id| *id != runs[2].spec.id), Cursor::from_runs(&runs), "it has not ended");
    }

    /// The progress of a run.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Progress {
        NotStarted,
        Running,
        Finished,
    }

    /// The visible runs: all runs of an experiment from its beginning, or the started runs of a group. A run that starts later
    /// has an id that sorts before the others.
    fn visible_runs(runs: &[(Progress, i64)], is_experiment: bool) -> Vec<RunRecord> {
        let visible = runs.iter().enumerate().filter(|(_, (at, _))| is_experiment || *at != Progress::NotStarted);
        let record = |(index, (at, created)): (usize, &(Progress, i64))| {
            let mut run = run(9 - index as u8, *at == Progress::Finished);
            run.spec.created = jiff::Timestamp::from_second(*created).expect("time");
            run.spec.origin.experiment = is_experiment.then(|| "ex".to_owned());
            run
        };
        visible.map(record).collect()
    }

    /// Tries every order in which runs start and end, with and without a read after each event.
    fn every_order(
        runs: &[(Progress, i64)],
        is_experiment: bool,
        since: Option<&Cursor>,
        reported: &[RunId],
        now: i64,
    ) -> usize {
        let read = |runs: &[(Progress, i64)]| {
            let records = visible_runs(runs, is_experiment);
            let had_ended = since.map(|since| since.had_ended(&records)).unwrap_or_default();
            let is_new = |run: &&RunRecord| run.state.ending().is_some() && !had_ended.contains(&&run.spec.id);
            let new_ids: Vec<RunId> = records.iter().filter(is_new).map(|run| run.spec.id.clone()).collect();
            (round_trip(&records), [reported, &new_ids].concat())
        };
        if runs.iter().all(|(at, _)| *at == Progress::Finished) {
            let (_, mut reported) = read(runs);
            reported.sort();
            let mut all: Vec<RunId> = visible_runs(runs, is_experiment).into_iter().map(|run| run.spec.id).collect();
            all.sort();
            assert_eq!(reported, all, "each end once: {runs:?}");
            return 1;
        }
        let mut count = 0;
        for index in 0..runs.len() {
            let mut next = runs.to_vec();
            next[index] = match next[index] {
                (Progress::NotStarted, _) => (Progress::Running, now),
                (Progress::Running, created) => (Progress::Finished, created),
                (Progress::Finished, _) => continue,
            };
            count += every_order(&next, is_experiment, since, reported, now + 1);
            let (cursor, reported) = read(&next);
            count += every_order(&next, is_experiment, Some(&cursor), &reported, now + 1);
        }
        count
    }

    #[test]
    fn every_ending_is_reported_once_in_every_order_of_events() {
        for is_experiment in [true, false] {
            let orders = every_order(&[(Progress::NotStarted, 0); 3], is_experiment, None, &[], 1);
            assert_eq!(orders, 90 * 64, "six events, and after each a look or none");
        }
    }

    #[test]
    fn a_cursor_of_many_runs_has_no_ended_bits() {
        let many: Vec<RunRecord> = (0..=MAX_ENDED_BITS as u8).map(|n| run(n, true)).collect();
        assert_eq!(round_trip(&many).to_string().matches('-').count(), 1);
        assert!(Cursor::from_runs(&many).had_ended(&many).is_empty());
        for few in [1, MAX_ENDED_BITS] {
            assert_eq!(round_trip(&many[..few]).had_ended(&many[..few]).len(), few);
        }
        assert!(Cursor::parse("never given out").had_ended(&many[..2]).is_empty());
    }

    #[test]
    fn the_start_of_a_planned_run_does_not_change_the_reported_endings() {
        let planned = |n: u8, started: Option<i64>, is_over: bool| {
            let mut run = run(n, is_over);
            run.spec.origin.experiment = Some("ex".to_owned());
            run.spec.created = jiff::Timestamp::from_second(started.unwrap_or_default()).expect("time");
            run
        };
        // The second run of the plan starts first and ends; then the first run starts and ends.
        let before = round_trip(&[planned(1, None, false), planned(2, Some(10), true), planned(3, None, false)]);
        let after = [planned(1, Some(20), true), planned(2, Some(10), true), planned(3, Some(30), false)];
        assert_eq!(before.had_ended(&after), [&after[1].spec.id]);
    }
}
