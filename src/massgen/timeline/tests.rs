//! Timelines of captured log folders, and of damaged ones.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::run::{AgentDigest, AgentState};

const SUCCESS: &str = "massgen_logs/log_20261123_143807_483320";
const TOOLS: &str = "logs/log_20261124_021009_622518";

fn layout(log: &str) -> Layout {
    let log = PathBuf::from(log);
    Layout { turn: log.join("turn_1"), attempt: log.join("turn_1/attempt_1"), log }
}

fn captured(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logdir").join(name)
}

fn timeline(root: &Path, log: &str) -> Timeline {
    let files = RunFiles::open(root).expect("open");
    Timeline::read(&files, &layout(log), None, &Secrets::default())
}

/// A run whose attempt contains only these files.
fn with(files: &[(&str, &[u8])]) -> Timeline {
    let root = tempfile::tempdir().expect("temp");
    for (name, bytes) in files {
        let path = root.path().join(layout(TOOLS).attempt).join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, bytes).expect("write");
    }
    timeline(root.path(), TOOLS)
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(captured("../status").join(name)).expect("sample")
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 0.01
}

#[test]
fn the_captured_success_has_a_complete_timeline() {
    let timeline = timeline(&captured("success"), SUCCESS);
    let answers: Vec<_> = timeline.answers.iter().map(|a| (a.label.as_str(), a.agent.as_str(), a.chars)).collect();
    assert_eq!(answers, [("agent1.1", "agent_a", 31), ("agent2.1", "agent_b", 32), ("agent1.2", "agent_a", 31)]);
    assert!(near(timeline.answers[0].time_s, 0.55) && near(timeline.end, 2.05), "{timeline:?}");

    let votes: Vec<_> = timeline.votes.iter().map(|v| (v.voter.as_str(), v.label.as_deref(), v.counted)).collect();
    assert_eq!(
        votes,
        [("agent_b", None, false), ("agent_a", Some("agent1.2"), true), ("agent_b", Some("agent1.2"), true)]
    );
    assert!(timeline.votes.iter().all(|vote| vote.agent == "agent_a" && vote.reason == "stub: first answer is fine"));
    assert_eq!((timeline.restarts.len(), timeline.restarts[0].reason.as_str()), (4, "new answer"));

    let agents: Vec<_> =
        timeline.agents.iter().map(|a| (a.model.as_deref(), a.input_tokens, a.output_tokens)).collect();
    assert_eq!(agents, [(Some("stub-a"), 400, 80), (Some("stub-b"), 300, 60)]);
    assert_eq!(timeline.agents[0].cost_usd, None, "no price is not no cost");
    assert_eq!(timeline.rounds.len(), 6);
    let last = &timeline.rounds[3];
    assert!(last.kind == "presentation" && near(last.start, 1.65) && near(last.end, 2.03), "{last:?}");
    let model = timeline.model_waits.as_ref().expect("waits");
    assert!(model.calls == 7 && near(model.waited_s, 2.8) && model.rounds.len() == 4);
    let presentation = timeline.presentation.as_ref().expect("presented");
    assert!(
        presentation.agent == "agent_a"
            && near(presentation.start, 1.65)
            && near(presentation.end, 2.05)
            && !presentation.is_tie
    );
    assert!(timeline.errors.is_empty() && timeline.gaps.is_empty() && timeline.tools.is_empty(), "{timeline:?}");
    assert!(timeline.agents[0].source.ends_with("metrics_summary.json"));
}

#[test]
fn only_valid_votes_are_counted() {
    let vote_file = |voter: &str, label: &str| {
        format!(r#"{{"voter_id": "{voter}", "voted_for": "x", "voted_for_label": "{label}", "reason": "r"}}"#)
    };
    let root = tempfile::tempdir().expect("temp");
    let write = |name: &str, text: &str| {
        let path = root.path().join(layout(TOOLS).attempt).join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    };
    let standing = || {
        let files = RunFiles::open(root.path()).expect("open");
        standing_votes(&files, &layout(TOOLS), None, &Secrets::default()).map(|standing| standing.votes)
    };
    write("a/20261124_021011_000000/answer.txt", "one");
    assert_eq!(standing(), None, "without votes the result is unknown");
    write("a/20261124_021012_000000/vote.json", &vote_file("a", "agent1.1"));
    write("c/20261124_021012_000000/vote.json", &vote_file("c", "agent1.1"));
    assert_eq!(standing(), Some(BTreeMap::from([("agent1.1".to_owned(), 2)])));
    write("b/20261124_021013_000000/answer.txt", "two");
    assert_eq!(standing(), Some(BTreeMap::new()), "a newer answer makes them void");
    write("a/20261124_021014_000000/vote.json", &vote_file("a", "agent2.1"));
    write("b/20261124_021015_000000/vote.json", &vote_file("b", "agent1.1"));
    write("b/20261124_021016_000000/vote.json", &vote_file("b", "agent2.1"));
    assert_eq!(standing(), Some(BTreeMap::from([("agent2.1".to_owned(), 2)])), "each voter's last");
}

#[test]
fn a_vote_that_massgen_ignored_as_late_is_not_counted() {
    let root = tempfile::tempdir().expect("temp");
    let write = |name: &str, text: &str| {
        let path = root.path().join(layout(TOOLS).attempt).join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    };
    // Both arrived at the same time: the answer first, then a vote from an agent that had not seen it.
    let vote_file = r#"{"voter_id": "b", "voted_for": "a", "voted_for_label": "agent1.1", "reason": "r",
        "available_options_labels": ["agent1.1", "agent2.1"]}"#;
    write("a/20261124_021011_000000/answer.txt", "one");
    write("b/20261124_021012_000000/answer.txt", "two");
    write("a/20261124_021013_000000/answer.txt", "newer");
    write("b/20261124_021013_200000/vote.json", vote_file);
    let agent_in = |state| AgentDigest { id: "b".to_owned(), state, ..AgentDigest::default() };
    let digest = |state| Digest { agents: vec![agent_in(state)], ..Digest::default() };
    let standing_of = |state| {
        let files = RunFiles::open(root.path()).expect("open");
        let (layout, secrets, digest) = (layout(TOOLS), Secrets::default(), digest(state));
        let standing = standing_votes(&files, &layout, Some(&digest), &secrets).expect("a ballot");
        let votes = Timeline::read(&files, &layout, Some(&digest), &secrets).votes;
        assert_eq!((standing.cast_count, votes.len()), (1, 1), "it was cast");
        assert_eq!(votes[0].counted, !standing.by_agent.is_empty());
        standing.votes.into_iter().collect::<Vec<_>>()
    };
    let counted = [("agent1.1".to_owned(), 1)];
    assert_eq!(standing_of(AgentState::Answered), []);
    assert_eq!(standing_of(AgentState::Restarting), []);
    assert_eq!(
        standing_of(AgentState::Voted),
        counted,
        "MassGen holds it for valid, such as at the end of a round's time"
    );
    write("b/20261124_021013_200000/vote.json", &vote_file.replace(r#"["agent1.1","#, r#"["agent1.2","#));
    assert_eq!(standing_of(AgentState::Answered), counted, "its voter had seen the newest answer");
}

#[test]
fn tool_calls_and_costs_are_in_the_timeline() {
    let timeline = timeline(&captured("tools"), TOOLS);
    let calls: Vec<_> =
        timeline.tools.iter().map(|call| (call.agent.as_str(), call.failed, call.error.as_deref())).collect();
    let missing = "ls: cannot access 'nowhere': No such file or directory";
    assert_eq!(calls, [("agent_b", true, Some(missing)), ("agent_a", false, None)]);
    assert!(timeline.tools.iter().all(|call| call.tool == "mcp__command_line__execute_command"));
    assert!(
        timeline
            .tools
            .iter()
            .all(|call| call.time_s > 25.0 && call.time_s < 25.1 && call.duration_s.is_some_and(|took| took < 0.2)),
        "{timeline:?}"
    );
    let costs: Vec<_> = timeline.agents.iter().filter_map(|agent| agent.cost_usd).collect();
    assert!(near(costs[0], 0.08) && near(costs[1], 0.06));
    assert!(near(timeline.rounds[0].end - timeline.rounds[0].start, 27.32));
    assert!(timeline.gaps.is_empty(), "{:?}", timeline.gaps);
}

#[test]
fn without_events_tool_calls_come_from_the_metrics() {
    let attempt = captured("tools").join(layout(TOOLS).attempt);
    let read = |name: &str| std::fs::read(attempt.join(name)).expect("sample");
    let timeline =
        with(&[("metrics_events.json", &read("metrics_events.json")), ("status.json", &read("status.json"))]);
    assert_eq!(timeline.tools.len(), 2);
    assert!(timeline.tools.iter().all(|call| near(call.time_s, 25.02)), "{timeline:?}");
    let missing = ["metrics_summary.json", "execution_metadata.yaml", "events.jsonl"];
    for (gap, name) in timeline.gaps.iter().zip(missing) {
        assert!(gap.starts_with(name), "{gap}");
    }
    assert_eq!(timeline.gaps.len(), missing.len());
}

#[test]
fn a_killed_run_has_its_open_rounds_and_a_failed_one_its_errors() {
    let open = with(&[("status.json", &sample("timeout_with_answer.json"))]);
    let rounds: Vec<_> = open.rounds.iter().map(|r| (r.agent.as_str(), r.outcome.as_str())).collect();
    assert_eq!(
        rounds,
        [("agent_a", "answer"), ("agent_a", "answer"), ("agent_b", "")],
        "agent_a had answered and waited"
    );
    assert!(open.rounds[2].end == open.end && open.end > open.rounds[2].start + 1.0, "{open:?}");

    let failed = with(&[("status.json", &sample("error_all_agents.json"))]);
    assert!(failed.errors[0].message.contains("stub says 500") && failed.errors[0].time_s > 0.0);
    assert!(failed.errors.iter().any(|error| error.message.starts_with("Agent failed to use workflow tools")));
}

#[test]
fn every_status_sample_is_read_and_a_damaged_one_is_a_gap() {
    for entry in std::fs::read_dir(captured("../status")).expect("samples").flatten() {
        let timeline = with(&[("status.json", &std::fs::read(entry.path()).expect("sample"))]);
        let is_damaged = timeline.gaps.iter().any(|gap| gap.starts_with("status.json is damaged"));
        assert_eq!(is_damaged, timeline.agents.is_empty(), "{:?}", entry.path());
    }
}

#[test]
fn events_alone_give_a_timeline_with_secrets_masked() {
    let events = [
        r#"{"timestamp": "2026-11-23T14:00:00.000000", "event_type": "system_status", "agent_id": null, "data": {"message": "hi"}}"#,
        r#"{"timestamp": "2026-11-23T14:00:01.000000", "event_type": "tool_start", "agent_id": "a", "data": {"tool_name": "t"}}"#,
        r#"{"timestamp": "2026-11-23T14:00:02.000000", "event_type": "text", "agent_id": "a", "data": {"content": "\n❌ Error: no canary-one here"}}"#,
        r#"{"timestamp": "2026-11-23T14:00:03.500000", "event_type": "orchestrator_timeout", "agent_id": null, "data": {"timeout_reason": "Time limit exceeded"}}"#,
        "cut in the mid",
    ];
    let root = tempfile::tempdir().expect("temp");
    let attempt = root.path().join(layout(TOOLS).attempt);
    std::fs::create_dir_all(&attempt).expect("mkdir");
    std::fs::write(attempt.join("events.jsonl"), events.join("\n")).expect("write");
    let files = RunFiles::open(root.path()).expect("open");
    let secrets = Secrets::default().with_values(["canary-one".to_owned()]);
    let timeline = Timeline::read(&files, &layout(TOOLS), None, &secrets);
    assert_eq!((timeline.start, timeline.end), (None, 3.5));
    assert!(timeline.tools[0].duration_s.is_none() && timeline.tools[0].time_s == 1.0);
    let errors: Vec<_> = timeline.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(errors, ["no ********** here", "MassGen's own timeout: Time limit exceeded"]);
}

#[test]
fn earlier_attempts_are_named() {
    let timeline = with(&[("../attempt_0/status.json", b"{}"), ("status.json", b"{}")]);
    assert!(timeline.gaps[0].starts_with("MassGen made 2 attempts"), "{:?}", timeline.gaps);
}

#[test]
fn a_very_long_run_is_cut_after_its_beginning() {
    let line = r#"{"timestamp": "2026-11-23T14:00:01.000000", "event_type": "agent_restart", "agent_id": "a", "data": {"restart_reason": "r"}}"#;
    let many = vec![line; MAX_EVENTS + 10].join("\n");
    let timeline = with(&[("events.jsonl", many.as_bytes())]);
    assert_eq!(timeline.restarts.len(), MAX_EVENTS);
    assert!(timeline.gaps.iter().any(|gap| gap.contains("restarts")), "{:?}", timeline.gaps);
}

const NAMES: [&str; 5] = [
    "status.json",
    "metrics_summary.json",
    "events.jsonl",
    "execution_metadata.yaml",
    "a/20261123_143808_103921/vote.json",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Arbitrary bytes, and captured files with some bytes replaced, never make a reader fail.
    #[test]
    fn no_file_can_fail_a_timeline(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>()) {
        let attempt = captured("tools").join(layout(TOOLS).attempt);
        let damaged = |name: &str| {
            let mut text = std::fs::read(attempt.join(name)).unwrap_or_default();
            let position = at % (text.len() + 1);
            let end = (position + bytes.len()).min(text.len());
            text.splice(position..end, bytes.iter().copied());
            text
        };
        let files = NAMES.map(|name| (name, damaged(name)));
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_slice())).collect();
        with(&files);
        let raw: Vec<(&str, &[u8])> = NAMES.iter().map(|name| (*name, bytes.as_slice())).collect();
        with(&raw);
    }
}
