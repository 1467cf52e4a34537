//! Answers and votes, from the folders that MassGen makes for each (`<agent>/<stamp>/answer.txt`, `vote.json`): they are there as
//! soon as one is given, and stay when a run is killed. It reads no answer but for its length.

use std::collections::BTreeMap;
use std::path::Path;

use super::clock::{Clock, stamp};
use super::desk::Desk;
use super::{Cast, Given, MOST_FACTS, Source, Standing, Story};
use crate::massgen::answers::{self, Answer};
use crate::massgen::layout::is_stamp;
use crate::run::{AgentState, Digest};

/// How much of an answer is counted, in bytes; a longer one is as long as its bytes.
const ANSWER_BYTES: u64 = 4 << 20;

pub(super) fn tell(desk: &Desk<'_>, clock: &Clock, digest: Option<&Digest>, story: &mut Story) {
    let found = answers::candidates(desk.files, desk.layout, digest);
    story.votes = votes(desk, clock, digest, &found);
    story.answers = found.into_iter().take(MOST_FACTS + 1).map(|answer| given(desk, clock, answer)).collect();
}

/// All votes, those that came too late marked as not counted.
fn votes(desk: &Desk<'_>, clock: &Clock, digest: Option<&Digest>, answers: &[Answer]) -> Vec<Cast> {
    let answers: Vec<_> = answers.iter().map(|answer| Shown::of(desk, clock, answer)).collect();
    let ballots = ballots(desk).into_iter().filter_map(|path| ballot(desk, clock, path));
    let counted = ballots.map(|Ballot { cast, saw }| {
        let is_late = is_late(&cast, &saw, &answers) && !has_voted(digest, &cast.voter);
        Cast { counted: !is_late, ..cast }
    });
    counted.collect()
}

/// An answer as voters are shown it.
struct Shown {
    at: f64,
    agent: String,
    label: String,
}

impl Shown {
    fn of(desk: &Desk<'_>, clock: &Clock, answer: &Answer) -> Shown {
        let label = desk.name(answer.label.as_deref().unwrap_or_default());
        Shown { at: at(clock, &answer.path), agent: desk.name(&answer.agent), label }
    }
}

/// Whether the voter had not seen the newest answer of another agent by then. MassGen records such a vote where both came in at
/// once, and drops it with all others a moment later (`reset_signal` in `orchestrator.py`).
fn is_late(cast: &Cast, saw: &[String], answers: &[Shown]) -> bool {
    let newest = answers.iter().rfind(|answer| answer.at <= cast.at);
    !saw.is_empty() && newest.is_some_and(|answer| answer.agent != cast.voter && !saw.contains(&answer.label))
}

/// Whether MassGen holds the agent's vote for valid. It may also do so for a vote of one that has not seen all, such as at the end
/// of a round's time.
fn has_voted(digest: Option<&Digest>, voter: &str) -> bool {
    let mut agents = digest.into_iter().flat_map(|digest| &digest.agents);
    agents.any(|agent| agent.id == voter && agent.state == AgentState::Voted)
}

fn given(desk: &Desk<'_>, clock: &Clock, answer: Answer) -> Given {
    let bytes = desk.files.head(&answer.path, ANSWER_BYTES).unwrap_or_default();
    let whole = (bytes.len() as u64) < ANSWER_BYTES;
    let size = || desk.files.stamp(&answer.path).map_or(0, |stamp| stamp.bytes);
    Given {
        at: at(clock, &answer.path),
        agent: desk.name(&answer.agent),
        label: desk.name(answer.label.as_deref().unwrap_or_default()),
        chars: if whole { String::from_utf8_lossy(&bytes).chars().count() as u64 } else { size() },
        source: answer.path,
    }
}

/// When the folder was made that a file is in.
fn at(clock: &Clock, path: &Path) -> f64 {
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    folder.as_deref().and_then(stamp).map_or(0.0, |time| clock.local(time))
}

fn ballots(desk: &Desk<'_>) -> Vec<Source> {
    let attempt = &desk.layout.attempt;
    let agents = desk.files.folders(attempt).into_iter().map(|agent| attempt.join(agent));
    let stamps = |agent: &Path| desk.files.folders(agent).into_iter().filter(|name| is_stamp(name));
    let folders = agents.flat_map(|agent| stamps(&agent).map(|stamp| agent.join(stamp)).collect::<Vec<_>>());
    let votes = folders.map(|folder| folder.join("vote.json")).filter(|path| desk.files.has(path));
    votes.take(MOST_FACTS + 1).collect()
}

/// A vote, and the labels of the answers that its voter was shown.
struct Ballot {
    cast: Cast,
    saw: Vec<String>,
}

/// A vote that cannot be read is passed over: who voted for whom is in it alone.
fn ballot(desk: &Desk<'_>, clock: &Clock, path: Source) -> Option<Ballot> {
    let vote = desk.json_at(&path).ok()?;
    let label = Some(desk.word(&vote["voted_for_label"])).filter(|label| !label.is_empty() && label != "unknown");
    let voter = Some(desk.word(&vote["voter_id"])).filter(|voter| !voter.is_empty())?;
    let shown = vote["available_options_labels"].as_array().into_iter().flatten();
    let saw = shown.map(|label| desk.word(label)).collect();
    let cast = Cast {
        at: at(clock, &path),
        voter,
        agent: desk.word(&vote["voted_for"]),
        label,
        reason: desk.said(vote["reason"].as_str().unwrap_or_default()),
        counted: true,
        source: path,
    };
    Some(Ballot { cast, saw })
}

/// The votes that stand by now; none of a run without ballots.
pub(super) fn standing(desk: &Desk<'_>, digest: Option<&Digest>) -> Option<Standing> {
    let clock = Clock::of(None, None, desk.layout);
    let answers = answers::candidates(desk.files, desk.layout, digest);
    let mut votes = votes(desk, &clock, digest, &answers);
    votes.sort_by(|a, b| a.at.total_cmp(&b.at));
    count(&mut votes, answers.iter().map(|answer| at(&clock, &answer.path)));
    let mut standing = Standing { cast: votes.len(), ..Standing::default() };
    for vote in votes.into_iter().filter(|vote| vote.counted) {
        let label = vote.label.unwrap_or(vote.agent);
        *standing.votes.entry(label.clone()).or_default() += 1;
        standing.of.insert(vote.voter, label);
    }
    (standing.cast > 0).then_some(standing)
}

/// Marks the votes that stood at the end: the newest of each voter, of those that MassGen took, after the last answer.
pub(super) fn count(votes: &mut [Cast], answered: impl Iterator<Item = f64>) {
    let last_answer = answered.fold(f64::NEG_INFINITY, f64::max);
    let mut newest = BTreeMap::new();
    for (place, vote) in votes.iter().enumerate() {
        newest.insert(vote.voter.clone(), place);
    }
    for (place, vote) in votes.iter_mut().enumerate() {
        vote.counted &= vote.at >= last_answer && newest.get(&vote.voter) == Some(&place);
    }
}
