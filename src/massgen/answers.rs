//! Which answers a run has left, and which of them is the best: the presented one, else the one that leads by votes,
//! else the newest. It finds files and never reads a whole answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::RunFiles;
use super::layout::Layout;
use super::{pages, text};
use crate::run::{AnswerFact, AnswerSource, Digest};
use crate::secrets::Secrets;

/// An answer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The agent that gave it.
    pub agent: String,
    /// Its label, such as `agent1.2`; a presented answer has none of its own.
    pub label: Option<String>,
    /// Its file, relative to the run's folder.
    pub path: PathBuf,
    /// Why it is shown.
    pub source: AnswerSource,
}

/// The best answer that there is by now.
pub fn best(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    presented(files, layout, digest).or_else(|| leader(files, layout, digest))
}

/// The answer that MassGen presented: `turn_N/final/<agent>/answer.txt`, else the newest attempt's.
pub fn presented(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    let winner = digest.and_then(|digest| digest.winner.as_deref());
    layout.finals(files).iter().find_map(|folder| {
        let mut agents = files.folders(folder);
        // Normally there is one; the winner's goes first, should there be more.
        agents.sort_by_key(|agent| Some(agent.as_str()) != winner);
        let mut answers = agents.into_iter().map(|agent| (folder.join(&agent).join("answer.txt"), agent));
        let (path, agent) = answers.find(|(path, _)| files.has(path))?;
        Some(Answer { agent, label: None, path, source: AnswerSource::Final })
    })
}

/// The presented answer of a run that has not ended, where it is whole: MassGen copies the attempt's to `turn_N/final` as its last
/// deed with it, so both are there then, of one size.
pub fn finished(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    let copy = presented(files, layout, digest)?;
    let within = copy.path.strip_prefix(layout.turn.join("final")).ok()?;
    let size = |path: &Path| files.open_file(path).ok().map(|(_, size)| size);
    let whole = size(&layout.attempt.join("final").join(within))?;
    (size(&copy.path) == Some(whole) && whole > 0).then_some(copy)
}

/// The longest name of an agent that is remembered, in characters.
const NAME_CHARS: usize = 64;

/// What is to be remembered of an answer; its length takes one pass over its file. The agent's name is a folder's, and made
/// harmless here.
pub fn fact(files: &RunFiles, answer: &Answer, secrets: &Secrets) -> AnswerFact {
    let count = files.open_file(&answer.path).and_then(|(file, _)| pages::count_chars(file));
    let agent = text::line(&secrets.mask(&answer.agent), NAME_CHARS);
    AnswerFact { agent, chars: count.unwrap_or_default(), source: answer.source }
}

/// Every answer that agents gave in the newest attempt, oldest first.
pub fn candidates(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Vec<Answer> {
    let labels = labels(files, layout);
    let mut order: Vec<String> = digest.map(|d| d.agents.iter().map(|a| a.id.clone()).collect()).unwrap_or_default();
    let mut found = Vec::new();
    for agent in files.folders(&layout.attempt).into_iter().filter(|name| name != "final") {
        let stamps = files.folders(&layout.attempt.join(&agent));
        let relative = stamps.into_iter().map(|stamp| (PathBuf::from(&agent).join(&stamp).join("answer.txt"), stamp));
        let answers: Vec<_> = relative.filter(|(path, _)| files.has(&layout.attempt.join(path))).collect();
        if !answers.is_empty() && !order.contains(&agent) {
            order.push(agent.clone());
        }
        let place = 1 + order.iter().position(|id| *id == agent).unwrap_or_default();
        for (number, (path, stamp)) in answers.into_iter().enumerate() {
            let label = labels.get(&path).cloned().unwrap_or_else(|| format!("agent{place}.{}", number + 1));
            let path = layout.attempt.join(path);
            let agent = agent.clone();
            found.push((stamp, Answer { agent, label: Some(label), path, source: AnswerSource::Partial }));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, answer)| answer).collect()
}

/// Those of a run under way that are whole: MassGen counts an answer once its workspace was saved with it.
pub fn counted(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Vec<Answer> {
    let agents = digest.map(|digest| digest.agents.as_slice()).unwrap_or_default();
    let mut left: BTreeMap<&str, u32> = agents.iter().map(|agent| (agent.id.as_str(), agent.answers)).collect();
    let mut is_counted = |answer: &Answer| match left.get_mut(answer.agent.as_str()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        Some(_) | None => false,
    };
    candidates(files, layout, digest).into_iter().filter(|answer| is_counted(answer)).collect()
}

fn leader(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    leading(candidates(files, layout, digest), digest)
}

/// The one of some answers, oldest first, that leads by votes; the newest without any.
pub fn leading(mut all: Vec<Answer>, digest: Option<&Digest>) -> Option<Answer> {
    let by_votes = digest.filter(|digest| !digest.votes.is_empty()).and_then(Digest::leading_label);
    let leading = by_votes.and_then(|label| all.iter().position(|answer| answer.label.as_deref() == Some(label)));
    leading.map(|place| all.swap_remove(place)).or_else(|| all.pop())
}

/// Labels by path, from snapshot_mappings.json, which MassGen writes when a run is saved; killed runs have none.
fn labels(files: &RunFiles, layout: &Layout) -> BTreeMap<PathBuf, String> {
    let bytes = files.head(&layout.attempt.join("snapshot_mappings.json"), 16 << 20).unwrap_or_default();
    let known: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    let path_of = |mapping: &serde_json::Value| Some(Path::new(mapping.get("path")?.as_str()?).to_owned());
    known.into_iter().filter_map(|(label, mapping)| Some((path_of(&mapping)?, label))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    const ATTEMPT: &str = "logs/log_1/turn_1/attempt_1";

    fn run(files: &[(&str, &str)]) -> (tempfile::TempDir, RunFiles) {
        let root = tempfile::tempdir().expect("temp");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        let files = RunFiles::open(root.path()).expect("open");
        (root, files)
    }

    fn digest(votes: &[(&str, u32)]) -> Digest {
        let agents = ["b", "a"].map(|id| AgentDigest { id: id.into(), ..AgentDigest::default() });
        let votes = votes.iter().map(|(label, n)| ((*label).to_owned(), *n)).collect();
        Digest { agents: agents.into(), votes, ..Digest::default() }
    }

    fn two_agents() -> (tempfile::TempDir, RunFiles) {
        run(&[
            (&format!("{ATTEMPT}/a/20261123_150001_000000/answer.txt"), "one"),
            (&format!("{ATTEMPT}/b/20261123_150002_000000/answer.txt"), "two"),
            (&format!("{ATTEMPT}/a/20261123_150003_000000/answer.txt"), "three"),
            (&format!("{ATTEMPT}/a/20261123_150004_000000/vote.json"), "{}"),
        ])
    }

    #[test]
    fn answers_are_labelled_as_massgen_does_oldest_first() {
        let (_root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let all = candidates(&files, &layout, Some(&digest(&[])));
        let labels: Vec<_> = all.iter().filter_map(|answer| answer.label.as_deref()).collect();
        assert_eq!(labels, ["agent2.1", "agent1.1", "agent2.2"]);
    }

    #[test]
    fn of_a_run_under_way_only_what_massgen_has_counted_is_whole() {
        let (_root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let mut digest = digest(&[]);
        assert_eq!(counted(&files, &layout, Some(&digest)), []);
        digest.agents[1].answers = 1;
        let labels: Vec<_> = counted(&files, &layout, Some(&digest)).into_iter().filter_map(|one| one.label).collect();
        assert_eq!(labels, ["agent2.1"]);
    }

    #[test]
    fn without_a_presentation_votes_lead_then_age() {
        let (_root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let by_votes = best(&files, &layout, Some(&digest(&[("agent1.1", 1)]))).expect("answer");
        assert_eq!((by_votes.label.as_deref(), by_votes.source), (Some("agent1.1"), AnswerSource::Partial));
        let newest = best(&files, &layout, None).expect("answer");
        assert!(newest.path.to_string_lossy().contains("150003"));
    }

    #[test]
    fn a_crash_after_attempt_1_still_has_its_final_answer() {
        let (_root, files) = run(&[(&format!("{ATTEMPT}/final/a/answer.txt"), "end")]);
        let layout = Layout::find(&files, None).expect("layout");
        let answer = best(&files, &layout, None).expect("answer");
        assert_eq!((answer.agent.as_str(), answer.source), ("a", AnswerSource::Final));
    }
}
