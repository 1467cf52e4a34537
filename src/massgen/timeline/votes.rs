//! Answers and votes, from the folders that MassGen creates for each one (`<agent>/<stamp>/answer.txt`, `vote.json`). They exist as soon as
//! an answer or vote is given and remain after a kill. Answers are read only to measure their length.

use std::collections::BTreeMap;
use std::path::Path;

use super::clock::{TimelineClock, parse_timestamp};
use super::read_context::ReadContext;
use super::{AnswerEvent, MAX_EVENTS, SourcePath, StandingVotes, Timeline, VoteEvent};
use crate::massgen::answers::{self, Answer};
use crate::massgen::layout::is_timestamp;
use crate::run::{AgentState, Digest};

/// How many bytes of an answer are counted in characters; for a longer answer, the length is its size in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;

pub(super) fn add_answers_and_votes(
    context: &ReadContext<'_>,
    clock: &TimelineClock,
    digest: Option<&Digest>,
    timeline: &mut Timeline,
) {
    let candidates = answers::candidates(context.files, context.layout, digest);
    timeline.votes = collect_votes(context, clock, digest, &candidates);
    timeline.answers =
        candidates.into_iter().take(MAX_EVENTS + 1).map(|answer| answer_event(context, clock, answer)).collect();
}

/// All votes; those cast too late are marked as not counted.
fn collect_votes(
    context: &ReadContext<'_>,
    clock: &TimelineClock,
    digest: Option<&Digest>,
    answers: &[Answer],
) -> Vec<VoteEvent> {
    let answers: Vec<_> = answers.iter().map(|answer| ShownAnswer::new(context, clock, answer)).collect();
    let vote_files = vote_files(context).into_iter().filter_map(|path| read_vote_file(context, clock, path));
    let counted = vote_files.map(|VoteFile { vote, shown_labels }| {
        let is_late = is_late(&vote, &shown_labels, &answers) && !has_voted(digest, &vote.voter);
        VoteEvent { counted: !is_late, ..vote }
    });
    counted.collect()
}

/// An answer as MassGen shows it to voters.
struct ShownAnswer {
    time_s: f64,
    agent: String,
    label: String,
}

impl ShownAnswer {
    fn new(context: &ReadContext<'_>, clock: &TimelineClock, answer: &Answer) -> ShownAnswer {
        let label = context.clean_name(answer.label.as_deref().unwrap_or_default());
        ShownAnswer { time_s: folder_time(clock, &answer.path), agent: context.clean_name(&answer.agent), label }
    }
}

/// Whether the voter had not yet seen another agent's newest answer. MassGen records such a vote if both arrive at the same time, and drops
/// it with all others a moment later (`reset_signal` in `orchestrator.py`).
fn is_late(vote: &VoteEvent, shown_labels: &[String], answers: &[ShownAnswer]) -> bool {
    let newest = answers.iter().rfind(|answer| answer.time_s <= vote.time_s);
    !shown_labels.is_empty()
        && newest.is_some_and(|answer| answer.agent != vote.voter && !shown_labels.contains(&answer.label))
}

/// Whether MassGen treats the agent's vote as valid. It can also accept a vote from an agent that has not seen all answers, for example at
/// the end of a round's time.
fn has_voted(digest: Option<&Digest>, voter: &str) -> bool {
    let mut agents = digest.into_iter().flat_map(|digest| &digest.agents);
    agents.any(|agent| agent.id == voter && agent.state == AgentState::Voted)
}

fn answer_event(context: &ReadContext<'_>, clock: &TimelineClock, answer: Answer) -> AnswerEvent {
    let bytes = context.files.head(&answer.path, MAX_ANSWER_BYTES).unwrap_or_default();
    let is_complete = (bytes.len() as u64) < MAX_ANSWER_BYTES;
    let size = || context.files.version(&answer.path).map_or(0, |stamp| stamp.bytes);
    AnswerEvent {
        time_s: folder_time(clock, &answer.path),
        agent: context.clean_name(&answer.agent),
        label: context.clean_name(answer.label.as_deref().unwrap_or_default()),
        chars: if is_complete { String::from_utf8_lossy(&bytes).chars().count() as u64 } else { size() },
        source: answer.path,
    }
}

/// The creation time of the folder that contains a file.
fn folder_time(clock: &TimelineClock, path: &Path) -> f64 {
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    folder.as_deref().and_then(parse_timestamp).map_or(0.0, |time| clock.since_local(time))
}

fn vote_files(context: &ReadContext<'_>) -> Vec<SourcePath> {
    let attempt = &context.layout.attempt;
    let agents = context.files.folders(attempt).into_iter().map(|agent| attempt.join(agent));
    let stamps = |agent: &Path| context.files.folders(agent).into_iter().filter(|name| is_timestamp(name));
    let folders = agents.flat_map(|agent| stamps(&agent).map(|stamp| agent.join(stamp)).collect::<Vec<_>>());
    let votes = folders.map(|folder| folder.join("vote.json")).filter(|path| context.files.has_file(path));
    votes.take(MAX_EVENTS + 1).collect()
}

/// A vote, and the labels of the answers shown to its voter.
struct VoteFile {
    vote: VoteEvent,
    shown_labels: Vec<String>,
}

/// An unreadable vote is skipped: no other file records who voted for whom.
fn read_vote_file(context: &ReadContext<'_>, clock: &TimelineClock, path: SourcePath) -> Option<VoteFile> {
    let vote = context.read_json_at(&path).ok()?;
    let label = Some(context.name_of(&vote["voted_for_label"])).filter(|label| !label.is_empty() && label != "unknown");
    let voter = Some(context.name_of(&vote["voter_id"])).filter(|voter| !voter.is_empty())?;
    let labels = vote["available_options_labels"].as_array().into_iter().flatten();
    let shown_labels = labels.map(|label| context.name_of(label)).collect();
    let vote = VoteEvent {
        time_s: folder_time(clock, &path),
        voter,
        agent: context.name_of(&vote["voted_for"]),
        label,
        reason: context.clean_message(vote["reason"].as_str().unwrap_or_default()),
        counted: true,
        source: path,
    };
    Some(VoteFile { vote, shown_labels })
}

/// The currently valid votes; `None` if the run has no `vote.json` files.
pub(super) fn standing_votes(context: &ReadContext<'_>, digest: Option<&Digest>) -> Option<StandingVotes> {
    let clock = TimelineClock::new(None, None, context.layout);
    let answers = answers::candidates(context.files, context.layout, digest);
    let mut votes = collect_votes(context, &clock, digest, &answers);
    votes.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    mark_standing(&mut votes, answers.iter().map(|answer| folder_time(&clock, &answer.path)));
    let mut standing = StandingVotes { cast_count: votes.len(), ..StandingVotes::default() };
    for vote in votes.into_iter().filter(|vote| vote.counted) {
        let label = vote.label.unwrap_or(vote.agent);
        *standing.votes.entry(label.clone()).or_default() += 1;
        standing.by_agent.insert(vote.voter, label);
    }
    (standing.cast_count > 0).then_some(standing)
}

/// Marks the votes that were valid at the end: each voter's newest vote that MassGen accepted, if it came after the last answer.
pub(super) fn mark_standing(votes: &mut [VoteEvent], answered: impl Iterator<Item = f64>) {
    let last_answer = answered.fold(f64::NEG_INFINITY, f64::max);
    let mut newest = BTreeMap::new();
    for (index, vote) in votes.iter().enumerate() {
        newest.insert(vote.voter.clone(), index);
    }
    for (index, vote) in votes.iter_mut().enumerate() {
        vote.counted &= vote.time_s >= last_answer && newest.get(&vote.voter) == Some(&index);
    }
}
