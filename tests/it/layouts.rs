//! Log folders written by MassGen (the tested version and 0.1.12): the program finds the right answers in each.

use std::path::Path;

use massgen_mcp::massgen::answers;
use massgen_mcp::massgen::files::RunFiles;
use massgen_mcp::massgen::layout::Layout;
use massgen_mcp::massgen::status;
use massgen_mcp::run::{AgentState, AnswerSource, Digest, Finish};

fn data_path(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// Creates a run folder with the files of a listing; each file has a short content.
fn create_tree(listing: &str, to: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("temp");
    let text = std::fs::read_to_string(data_path(listing)).expect("listing");
    for line in text.lines().filter(|line| line.ends_with(".txt") || line.ends_with(".json")) {
        let path = root.path().join(to).join(line.trim_start_matches("./"));
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, "word").expect("write");
    }
    root
}

#[test]
fn the_answers_of_the_captured_success_are_found() {
    let root = tempfile::tempdir().expect("temp");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(data_path("logdir/success/massgen_logs"))
        .arg(root.path().join("logs"))
        .status();
    assert!(copied.expect("cp").success());
    let files = RunFiles::open(root.path()).expect("open");
    let layout = Layout::find(&files, None).expect("layout");
    let digest = status::digest(&files.head(&layout.status(), status::MAX_BYTES).expect("status")).expect("JSON");
    let best = answers::best(&files, &layout, Some(&digest)).expect("answer");
    assert_eq!((best.agent.as_str(), best.source), ("agent_a", AnswerSource::Final));
    assert!(best.path.ends_with("turn_1/final/agent_a/answer.txt"));
    let all = answers::candidates(&files, &layout, Some(&digest));
    let labels: Vec<_> = all.iter().filter_map(|answer| answer.label.as_deref()).collect();
    assert_eq!(labels, ["agent1.1", "agent2.1", "agent1.2"]);
}

#[test]
fn a_tree_of_0_1_12_with_a_restart_is_read() {
    let root = create_tree("logdir/tree_v0.1.12_restart_attempt2.txt", Path::new("work"));
    let files = RunFiles::open(root.path()).expect("open");
    let layout = Layout::find(&files, None).expect("layout");
    assert!(layout.attempt.ends_with("turn_1/attempt_2"));
    let best = answers::best(&files, &layout, None).expect("answer");
    assert!(best.path.ends_with("turn_1/final/agent_a/answer.txt"));
    assert_eq!(answers::candidates(&files, &layout, None).len(), 2, "only the newest attempt counts");
}

fn sample(name: &str) -> Result<Digest, status::InvalidStatus> {
    status::digest(&std::fs::read(data_path("status").join(name)).expect("sample"))
}

/// A digest as one line: phase; agents; votes; winner; tokens; finish.
fn summary(digest: &Digest) -> String {
    let agents: Vec<String> = digest
        .agents
        .iter()
        .map(|agent| {
            format!(
                "{} {:?} {} {}",
                agent.id,
                agent.state,
                agent.label.as_deref().unwrap_or("-"),
                agent.vote.as_deref().unwrap_or("-")
            )
        })
        .collect();
    let words = |option: &Option<String>| option.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "{}; {}; {:?}; {}; {}; {:?}",
        words(&digest.phase),
        agents.join(", "),
        digest.votes,
        words(&digest.winner),
        digest.tokens.map_or("-".to_owned(), |tokens| tokens.to_string()),
        digest.finish_reason
    )
}

#[test]
fn every_status_sample_gives_its_digest() {
    let won = |tokens| {
        format!(
            "presentation; agent_a Voted agent1.2 agent1.2, agent_b Voted agent2.1 agent1.2; {{\"agent1.2\": 2}}; agent_a; {tokens}; Some(Completed)"
        )
    };
    let table: Vec<(&str, String)> = vec![
        ("complete.json", won(840)),
        ("complete_with_tools_workspaces.json", won(5880)),
        ("completed_but_answer_not_written_yet.json", won(840)),
        ("killed_during_final_says_completed.json", won(720)),
        ("early.json", "initial_answer; agent_a Working - -, agent_b Thinking agent2.1 -; {}; -; 120; Some(InProgress)".into()),
        ("mid.json", "initial_answer; agent_a Answered agent1.1 -, agent_b Answered agent2.1 -; {}; -; 240; Some(InProgress)".into()),
        ("error_all_agents.json", "initial_answer; agent_a Failed - -, agent_b Failed - -; {}; -; 0; Some(Error)".into()),
        ("error_is_complete_but_running.json", "initial_answer; agent_a Failed - -, agent_b Answered agent2.3 -; {}; -; 360; Some(Error)".into()),
        ("failed_run_still_in_progress.json", "initial_answer; agent_a Working - -, agent_b Working - -; {}; -; 0; Some(InProgress)".into()),
        ("sigterm_in_progress.json", "initial_answer; agent_a Working - -, agent_b Working - -; {}; -; 0; Some(InProgress)".into()),
        ("success_but_in_progress_single_quick.json", "initial_answer; agent_a Answered agent1.1 -; {}; -; 120; Some(InProgress)".into()),
        ("timeout_268KB_unbounded_growth.json", "initial_answer; agent_a Answered agent1.130 -, agent_b Answered agent2.130 -; {}; -; 31200; Some(Timeout)".into()),
        ("timeout_no_answer.json", "initial_answer; agent_a Working - -, agent_b Working - -; {}; -; 0; Some(Timeout)".into()),
        ("timeout_with_answer.json", "initial_answer; agent_a Answered agent1.2 -, agent_b Working - -; {}; -; 240; Some(Timeout)".into()),
        ("v0.1.12_complete.json", "presentation; agent_a Voted agent1.2 agent1.2, agent_b Voted agent2.1 agent1.2; {\"agent1.2\": 2}; agent_a; -; None".into()),
    ];
    for (name, expected) in &table {
        assert_eq!(summary(&sample(name).expect("JSON")), *expected, "{name}");
    }
    assert_eq!(table.len() + 1, std::fs::read_dir(data_path("status")).expect("samples").count());
}

#[test]
fn a_torn_status_gives_no_digest_and_a_failed_one_keeps_its_reason() {
    assert!(sample("torn_invalid_json.json").is_err(), "the last valid digest stays");
    let failed = sample("error_all_agents.json").expect("JSON");
    assert!(failed.first_error.expect("error").contains("stub says 500"));
    let unreachable = sample("failed_run_still_in_progress.json").expect("JSON");
    assert_eq!(unreachable.first_error.as_deref(), Some("Connection error."));
    assert_eq!(unreachable.finish_reason, Some(Finish::InProgress));
    assert_eq!(unreachable.agents[0].state, AgentState::Working);
}
