//! The current valid votes of a live run. status.json names each agent's first vote and also counts void votes, so the `vote.json` files
//! are read whenever status.json shows a new number of votes or answers, or new voters. In a digest, only the votes change.

use std::path::PathBuf;

use super::files::RunFiles;
use super::layout::Layout;
use super::timeline::{StandingVotes, standing_votes};
use crate::run::{AgentState, Digest};
use crate::secrets::Secrets;

/// The result of the last read.
#[derive(Debug, Default)]
pub struct VotePoll {
    last_turnout: Option<Turnout>,
    standing_votes: Option<StandingVotes>,
}

/// The attempt, the number of counted votes, each agent's number of answers, and whether its vote is valid.
type Turnout = (PathBuf, u32, Vec<(u32, bool)>);

impl VotePoll {
    /// Replaces the votes from status.json with the valid votes in MassGen's `vote.json` files. Without such files, the votes of
    /// status.json stay.
    pub fn correct_votes(&mut self, digest: &mut Digest, files: &RunFiles, layout: &Layout, secrets: &Secrets) {
        if digest.votes_counted == 0 {
            return;
        }
        let agents = digest.agents.iter().map(|agent| (agent.answers, agent.state == AgentState::Voted));
        let vote_state = (layout.attempt.clone(), digest.votes_counted, agents.collect());
        if self.last_turnout.as_ref() != Some(&vote_state) {
            self.standing_votes = standing_votes(files, layout, Some(digest), secrets);
            // A vote file may appear on disk a moment after MassGen counted the vote.
            let is_complete =
                self.standing_votes.as_ref().is_some_and(|found| found.cast_count >= digest.votes_counted as usize);
            self.last_turnout = is_complete.then_some(vote_state);
        }
        if let Some(standing) = &self.standing_votes {
            digest.votes.clone_from(&standing.votes);
            for agent in &mut digest.agents {
                agent.vote = standing.by_agent.get(&agent.id).cloned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    #[test]
    fn an_agents_vote_is_its_newest_valid_one() {
        let root = tempfile::tempdir().expect("temp");
        let write = |name: &str, text: &str| {
            let path = root.path().join("attempt").join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        };
        let vote_file = |label: &str| format!(r#"{{"voter_id": "a", "voted_for": "b", "voted_for_label": "{label}"}}"#);
        let [log, turn, attempt] = ["log_20261124_021009_622518", "turn_1", "attempt"].map(PathBuf::from);
        let layout = Layout { log, turn, attempt };
        let files = RunFiles::open(root.path()).expect("open");
        let mut poll = VotePoll::default();
        // What status.json keeps reporting: the first vote.
        let mut corrected = |counted: u32, answers: u32| {
            let vote = Some("agent2.1".to_owned());
            let agent = AgentDigest { id: "a".to_owned(), vote, answers, ..AgentDigest::default() };
            let votes = [("agent2.1".to_owned(), counted)].into();
            let mut digest = Digest { agents: vec![agent], votes_counted: counted, votes, ..Digest::default() };
            poll.correct_votes(&mut digest, &files, &layout, &Secrets::default());
            (digest.agents.remove(0).vote, digest.votes.into_keys().collect::<Vec<_>>())
        };
        let expected = |label: &str| (Some(label.to_owned()), vec![label.to_owned()]);
        assert_eq!(corrected(1, 1), expected("agent2.1"), "without ballots there is nothing else to tell");
        write("a/20261124_021011_000000/vote.json", &vote_file("agent2.1"));
        assert_eq!(corrected(1, 1), expected("agent2.1"));
        write("b/20261124_021012_000000/answer.txt", "newer");
        assert_eq!(corrected(1, 2), (None, vec![]), "a newer answer makes it void");
        assert_eq!(corrected(2, 2), (None, vec![]), "its ballot is not on disk yet");
        write("a/20261124_021013_000000/vote.json", &vote_file("agent2.2"));
        assert_eq!(corrected(2, 2), expected("agent2.2"));
    }
}
