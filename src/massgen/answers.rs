//! Finds a run's answers and selects the best one: the presented answer, else the answer with the most votes, else the newest. An answer
//! without text is never the best. This module never keeps a whole answer in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::RunFiles;
use super::layout::{Layout, is_timestamp};
use super::{pages, text};
use crate::run::{AnswerSource, AnswerSummary, Digest};
use crate::secrets::Secrets;

/// An answer on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The agent that gave it.
    pub agent: String,
    /// Its label, such as `agent1.2`; a presented answer has no label.
    pub label: Option<String>,
    /// Its file, relative to the run's folder.
    pub path: PathBuf,
    /// Why it is shown.
    pub source: AnswerSource,
}

/// The best answer so far.
pub fn best(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    presented(files, layout, digest).or_else(|| leader(files, layout, digest))
}

/// The answer that MassGen presented: `turn_N/final/<agent>/answer.txt`, else the newest attempt's.
pub fn presented(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    let winner = digest.and_then(|digest| digest.winner.as_deref());
    layout.final_folders(files).iter().find_map(|folder| {
        // An agent may be called `final`. Its own answers are then in the same folder, each in a subfolder named by its time.
        let mut agents = files.folders(folder);
        agents.retain(|name| !is_timestamp(name));
        // Normally there is only one; if there are more, the winner's comes first.
        agents.sort_by_key(|agent| Some(agent.as_str()) != winner);
        let mut answers = agents.into_iter().map(|agent| (folder.join(&agent).join("answer.txt"), agent));
        let (path, agent) = answers.find(|(path, _)| has_text(files, path))?;
        Some(Answer { agent, label: None, path, source: AnswerSource::Final })
    })
}

/// The presented answer of a run that has not ended, if it is complete. MassGen finally copies the attempt's answer to `turn_N/final`, so a
/// complete answer exists in both places with the same size.
pub fn complete(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Option<Answer> {
    let copy = presented(files, layout, digest)?;
    let within = copy.path.strip_prefix(layout.turn.join("final")).ok()?;
    let size = |path: &Path| files.open_file(path).ok().map(|(_, size)| size);
    let complete_size = size(&layout.attempt.join("final").join(within))?;
    (size(&copy.path) == Some(complete_size)).then_some(copy)
}

/// Whether an answer contains text. MassGen writes an empty file if an agent presents nothing
/// (`orchestrator_collaborators/snapshot_manager.py`). An answer longer than [`MAX_BLANK_CHECK_BYTES`] counts as text.
fn has_text(files: &RunFiles, path: &Path) -> bool {
    let head = files.has_file(path).then(|| files.head(path, MAX_BLANK_CHECK_BYTES + 1).ok()).flatten();
    head.is_some_and(|head| {
        head.len() as u64 > MAX_BLANK_CHECK_BYTES
            || !text::remove_harmful(&String::from_utf8_lossy(&head)).trim().is_empty()
    })
}

/// How many bytes of an answer are checked for text.
const MAX_BLANK_CHECK_BYTES: u64 = 64 << 10;
/// The longest agent name that is kept, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The facts to record about an answer; measuring its length takes one pass over the file. The agent's name comes from a folder name and is
/// sanitized here.
pub fn summarize(files: &RunFiles, answer: &Answer, secrets: &Secrets) -> AnswerSummary {
    let count = files.open_file(&answer.path).and_then(|(file, _)| pages::count_chars(file));
    let agent = text::single_line(&secrets.mask(&answer.agent), MAX_NAME_CHARS);
    AnswerSummary { agent, chars: count.unwrap_or_default(), source: answer.source }
}

/// Every answer that agents gave in the newest attempt, oldest first.
pub fn candidates(files: &RunFiles, layout: &Layout, digest: Option<&Digest>) -> Vec<Answer> {
    let labels = labels(files, layout);
    let agents: Vec<_> =
        files.folders(&layout.attempt).into_iter().map(|agent| answers_of_agent(files, layout, agent)).collect();
    let known = digest.into_iter().flat_map(|digest| &digest.agents).map(|agent| agent.id.as_str());
    let answered =
        agents.iter().filter(|(_, agent_answers)| !agent_answers.is_empty()).map(|(agent, _)| agent.as_str());
    // MassGen numbers agents by their sorted ids, not by their order in the config (`coordination_tracker.py`).
    let numbered: BTreeSet<&str> = known.chain(answered).collect();
    let mut found = Vec::new();
    for (agent, agent_answers) in &agents {
        let agent_number = 1 + numbered.iter().position(|id| id == agent).unwrap_or_default();
        for (number, (path, stamp)) in agent_answers.iter().enumerate() {
            let label = labels.get(path).cloned().unwrap_or_else(|| format!("agent{agent_number}.{}", number + 1));
            let path = layout.attempt.join(path);
            let agent = agent.clone();
            found.push((stamp, Answer { agent, label: Some(label), path, source: AnswerSource::Partial }));
        }
    }
    found.sort_by(|a, b| a.0.cmp(b.0));
    found.into_iter().map(|(_, answer)| answer).collect()
}

/// The files of an agent's answers, relative to the attempt, with their times. Other folders do not hold the agent's own answers:
/// `final/<agent>` holds a presented answer, and an agent may also be called `final`.
fn answers_of_agent(files: &RunFiles, layout: &Layout, agent: String) -> (String, Vec<(PathBuf, String)>) {
    let stamps = files.folders(&layout.attempt.join(&agent)).into_iter().filter(|name| is_timestamp(name));
    let paths = stamps.map(|stamp| (Path::new(&agent).join(&stamp).join("answer.txt"), stamp));
    let answers = paths.filter(|(path, _)| files.has_file(&layout.attempt.join(path))).collect();
    (agent, answers)
}

/// The complete answers of a live run: MassGen counts an answer after it has saved its workspace.
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
    leading(files, candidates(files, layout, digest), digest)
}

/// Of these answers (oldest first), the one with the most votes; without votes the newest.
pub fn leading(files: &RunFiles, mut answers: Vec<Answer>, digest: Option<&Digest>) -> Option<Answer> {
    answers.retain(|answer| has_text(files, &answer.path));
    let index = |label: &str| answers.iter().position(|answer| answer.label.as_deref() == Some(label));
    let votes = digest.into_iter().flat_map(|digest| &digest.votes);
    let votes_by_index = votes.filter_map(|(label, votes)| Some((votes, index(label)?)));
    let leading = votes_by_index.max_by_key(|(votes, _)| **votes).map(|(_, index)| index);
    leading.map(|index| answers.swap_remove(index)).or_else(|| answers.pop())
}

/// Labels by path, from snapshot_mappings.json. MassGen writes it when it saves a run; killed runs have none.
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
    fn answers_have_massgens_labels_the_oldest_first() {
        let (_root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let all = candidates(&files, &layout, Some(&digest(&[])));
        let labels: Vec<_> = all.iter().filter_map(|answer| answer.label.as_deref()).collect();
        assert_eq!(
            labels,
            ["agent1.1", "agent2.1", "agent1.2"],
            "MassGen sorts the agents, and the config has b first"
        );
    }

    #[test]
    fn in_a_live_run_only_counted_answers_are_complete() {
        let (_root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let mut digest = digest(&[]);
        assert_eq!(counted(&files, &layout, Some(&digest)), []);
        digest.agents[1].answers = 1;
        let labels: Vec<_> =
            counted(&files, &layout, Some(&digest)).into_iter().filter_map(|answer| answer.label).collect();
        assert_eq!(labels, ["agent1.1"]);
    }

    #[test]
    fn without_a_presentation_votes_decide_and_then_age() {
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

    #[test]
    fn an_answer_without_text_is_never_the_best() {
        let blank = " \n\t\u{200b}\u{feff}\u{a0}\r\n";
        let (root, files) = two_agents();
        let layout = Layout::find(&files, None).expect("layout");
        let votes = digest(&[("agent1.2", 2), ("agent2.1", 1)]);
        let label = || best(&files, &layout, Some(&votes)).and_then(|answer| answer.label);
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        };
        assert_eq!(label().as_deref(), Some("agent1.2"));
        for blank_text in ["", blank, &" ".repeat(MAX_BLANK_CHECK_BYTES as usize)] {
            write(&format!("{ATTEMPT}/a/20261123_150003_000000/answer.txt"), blank_text);
            assert_eq!(label().as_deref(), Some("agent2.1"), "the most voted for of those with text");
            for path in ["logs/log_1/turn_1/final/a/answer.txt", &format!("{ATTEMPT}/final/a/answer.txt")] {
                write(path, blank_text);
            }
            assert_eq!(label().as_deref(), Some("agent2.1"), "nothing was presented");
            assert_eq!(complete(&files, &layout, None), None);
        }
        write("logs/log_1/turn_1/final/a/answer.txt", &format!("{}.", " ".repeat(MAX_BLANK_CHECK_BYTES as usize)));
        assert_eq!(best(&files, &layout, None).expect("answer").source, AnswerSource::Final);
        let (_root, files) = run(&[(&format!("{ATTEMPT}/a/20261123_150001_000000/answer.txt"), blank)]);
        assert_eq!(best(&files, &layout, None), None);
        assert_eq!(candidates(&files, &layout, None).len(), 1, "it was given all the same");
    }

    #[test]
    fn an_agent_may_have_the_name_of_a_massgen_folder() {
        for name in ["final", "agent_outputs", "workspace", "turn_1", "attempt_1", "answer", "logs"] {
            let earlier = format!("{ATTEMPT}/{name}/20261123_150001_000000/answer.txt");
            let newer = format!("{ATTEMPT}/{name}/20261123_150003_000000/answer.txt");
            let mut all = vec![(earlier.as_str(), "one"), (newer.as_str(), "two")];
            let outputs = format!("{ATTEMPT}/agent_outputs/{name}.txt");
            all.push((&outputs, "out"));
            let (root, files) = run(&all);
            let layout = Layout::find(&files, None).expect("layout");
            let found: Vec<_> =
                candidates(&files, &layout, None).into_iter().map(|one| (one.agent, one.label)).collect();
            let label = |number: u32| (name.to_owned(), Some(format!("agent1.{number}")));
            assert_eq!(found, [label(1), label(2)], "{name}");
            assert_eq!(presented(&files, &layout, None), None, "{name} has answered and presented nothing");
            assert_eq!(best(&files, &layout, None).map(|one| one.path), Some(PathBuf::from(&newer)), "{name}");
            for parent in ["final", "attempt_1/final"] {
                let folder = root.path().join("logs/log_1/turn_1").join(parent).join(name);
                std::fs::create_dir_all(&folder).expect("mkdir");
                std::fs::write(folder.join("answer.txt"), "end").expect("write");
            }
            let presented = best(&files, &layout, None).expect("answer");
            assert_eq!((presented.agent.as_str(), presented.source), (name, AnswerSource::Final));
            assert_eq!(candidates(&files, &layout, None).len(), 2, "{name}");
        }
    }
}
