//! Answers and votes, from the folders that MassGen makes for each (`<agent>/<stamp>/answer.txt`, `vote.json`): they are there as
//! soon as one is given, and stay when a run is killed. It reads no answer but for its length.

use std::collections::BTreeMap;
use std::path::Path;

use super::clock::{Clock, stamp};
use super::desk::Desk;
use super::{Cast, Given, MOST_FACTS, Source, Standing, Story};
use crate::massgen::answers;
use crate::run::Digest;

/// How much of an answer is counted, in bytes; a longer one is as long as its bytes.
const ANSWER_BYTES: u64 = 4 << 20;

pub(super) fn tell(desk: &Desk<'_>, clock: &Clock, digest: Option<&Digest>, story: &mut Story) {
    let found = answers::candidates(desk.files, desk.layout, digest);
    story.answers = found.into_iter().take(MOST_FACTS + 1).map(|answer| given(desk, clock, answer)).collect();
    story.votes = ballots(desk).into_iter().filter_map(|path| cast(desk, clock, path)).collect();
}

fn given(desk: &Desk<'_>, clock: &Clock, answer: answers::Answer) -> Given {
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
    let folders = agents.flat_map(|agent| desk.files.folders(&agent).into_iter().map(move |stamp| agent.join(stamp)));
    let votes = folders.map(|folder| folder.join("vote.json")).filter(|path| desk.files.has(path));
    votes.take(MOST_FACTS + 1).collect()
}

/// A vote that cannot be read is passed over: who voted for whom is in it alone.
fn cast(desk: &Desk<'_>, clock: &Clock, path: Source) -> Option<Cast> {
    let vote = desk.json_at(&path).ok()?;
    let label = Some(desk.word(&vote["voted_for_label"])).filter(|label| !label.is_empty() && label != "unknown");
    let voter = Some(desk.word(&vote["voter_id"])).filter(|voter| !voter.is_empty())?;
    Some(Cast {
        at: at(clock, &path),
        voter,
        agent: desk.word(&vote["voted_for"]),
        label,
        reason: desk.said(vote["reason"].as_str().unwrap_or_default()),
        counted: true,
        source: path,
    })
}

/// The votes that stand by now; none of a run without ballots.
pub(super) fn standing(desk: &Desk<'_>, digest: Option<&Digest>) -> Option<Standing> {
    let clock = Clock::of(None, None, desk.layout);
    let mut votes: Vec<Cast> = ballots(desk).into_iter().filter_map(|path| cast(desk, &clock, path)).collect();
    votes.sort_by(|a, b| a.at.total_cmp(&b.at));
    let answers = answers::candidates(desk.files, desk.layout, digest);
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
