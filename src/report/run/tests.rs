//! Tests with reports of captured runs, of a run that never ran, and of very large runs.

use std::time::Duration;

use super::*;
use crate::massgen::timeline::{AgentTotals, AnswerEvent, ErrorEvent, Restart, Round, ToolCall, VoteEvent};
use crate::massgen::{files::RunFiles, layout::Layout};
use crate::run::{
    AnswerBasis, ConfigChoice, Continuation, Ending, Exit, Lineage, Moment, Outcome, Problem, RunId, RunSpec, RunState,
    Spend, Warning,
};

fn record(state: RunState) -> RunRecord {
    let id: RunId = "mg-7f3k2q9d".parse().expect("id");
    let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
    let spec = RunSpec::new(id, "What is 6*7?", config, "/".into(), "/bin/false".into());
    RunRecord {
        spec,
        version: 1,
        seq: 1,
        state,
        digest: None,
        started: None,
        log_dir: None,
        spent: Spend::default(),
        spent_by_descendants: Spend::default(),
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: None,
    }
}

fn ended(outcome: Outcome, exit: Exit) -> RunState {
    let at = Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: 0, boot_id: String::new() };
    RunState::Ended(Ending {
        outcome,
        exit,
        ended_at: at,
        duration: Duration::from_millis(76_500),
        answer: None,
        stop: None,
        warnings: Vec::new(),
    })
}

fn tools() -> Timeline {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logdir/tools");
    let files = RunFiles::open(&root).expect("open");
    let layout = Layout::find(&files, None).expect("layout");
    Timeline::read(&files, &layout, None, &Default::default())
}

#[test]
fn the_report_of_a_captured_run_names_its_files() {
    let mut record = record(ended(Outcome::Succeeded, Exit::Code(0)));
    record.spec.lineage = Lineage { parent: Some("mg-2abcdefg".parse().expect("id")), ..record.spec.lineage };
    record.spec.continuation = Some(Continuation { run: "mg-3abcdefg".parse().expect("id"), turn: 2 });
    let answer = Some("agent2.1".to_owned());
    record.spec.basis =
        Some(AnswerBasis { run: "mg-4abcdefg".parse().expect("id"), answer, agent: "agent_b".to_owned() });
    let change = AnswerDiff::compare("agent_a", ("f/a.txt".into(), "one two\n"), ("f/b.txt".into(), "one three\n"));
    let (timeline, dependents) = (tools(), ["mg-5abcdefg", "mg-6abcdefg"].map(|id| id.parse().expect("id")));
    let moment = |after: f64| {
        let micros = ((timeline.start.expect("start") + after) * 1e6) as i64;
        Moment { wall: jiff::Timestamp::from_microsecond(micros).expect("time"), boot_ms: 0, boot_id: String::new() }
    };
    record.started = Some(moment(-9.0));
    if let RunState::Ended(ending) = &mut record.state {
        ending.ended_at = moment(timeline.end + 2.5);
    }
    let report = run_report(&record, &timeline, Some(&change), &dependents, |step| step.words(&[]));
    assert!(report.len() <= MAX_BYTES);
    for text in [
        "Run mg-7f3k2q9d: succeeded after 76.5 s, exit code 0 [./run.json]",
        "started by an agent of mg-2abcdefg, depth 0; goes on with mg-3abcdefg, turn 2; builds on agent2.1 of agent_b in \
         mg-4abcdefg [./spec.json]",
        "Built on by: mg-5abcdefg, mg-6abcdefg [./built_on]",
        "Around it: 9.0 s from the run's start to coordination, 2.5 s from the last event to its end [./run.json]",
        "Winner: agent_a with 2 of 2 votes; presented from 53.9 s to 75.1 s [events.jsonl]",
        "Totals: 840+210 tokens (in+out), $0.14; rounds of all agents 124.5 s: models 1.4 s, tools 0.2 s, neither 123.0 s",
        "  27.4 s agent1.1 by agent_a, 242 characters [agent_a/20261124_021037_175934/answer.txt]",
        "Votes (2 stood, 0 void):",
        " agent_b for agent1.1 of agent_a: \"In a rehearsal agent_b always votes",
        "New beginnings (2) [events.jsonl]:",
        "1 tool call of 0.1 s; 360+90 tokens, $0.06",
        "agent_a round 0 from 0.2 s, initial_answer > answer; 240+60 tokens, $0.04",
        "Waits on models, all agents: 7 calls, 1.4 s together, 0.19 s each [metrics_summary.json]:",
        "2 calls (agent_a 1, agent_b 1), 1 failed, 0.2 s together; first failure at 25.0 s by agent_b: \"ls: cannot access",
        "  1 word added, 1 word removed, similarity 0.50",
        "  - one two",
        "  + one three",
    ] {
        assert!(report.contains(text), "{text}\nis not in\n{report}");
    }
}

#[test]
fn warnings_of_a_run_are_in_its_report() {
    let mut lacking = ended(Outcome::Succeeded, Exit::Code(0));
    if let RunState::Ended(ending) = &mut lacking {
        let warning =
            |code: &str| Warning { code: code.to_owned(), message: "no tools".to_owned(), next: "see".into() };
        ending.warnings = vec![warning("first"), warning("second")];
    }
    let report = run_report(&record(lacking), &Timeline::default(), None, &[], |step| step.words(&[]));
    for line in ["Warning: first: no tools (see)", "Warning: second: no tools (see)"] {
        assert!(report.contains(line), "{report}");
    }
}

#[test]
fn the_report_of_a_run_that_never_ran_says_so() {
    let problem = Problem::new("program_missing", "there is no MassGen", "install it");
    let timeline = Timeline { gaps: vec!["nothing was left".to_owned()], ..Timeline::default() };
    let report =
        run_report(&record(ended(Outcome::Failed(problem), Exit::NeverStarted)), &timeline, None, &[], |step| {
            step.words(&[])
        });
    assert!(report.contains("failed after 76.5 s, MassGen never ran"), "{report}");
    assert!(report.contains("Problem: program_missing: there is no MassGen (install it)"), "{report}");
    assert!(report.ends_with("Not known:\n  nothing was left\n"), "{report}");
    assert!(
        run_report(&record(RunState::Queued), &Timeline::default(), None, &[], |step| step.words(&[]))
            .contains("waits for a free slot")
    );
}

/// The timeline of a run with this many agents and rounds; names and texts consist of `word`.
fn large(agents: u64, rounds: u64, word: &str) -> Timeline {
    let name = |n: u64| format!("{n}{}", word.repeat(60));
    let source = std::path::PathBuf::from(name(0)).join("file.json");
    let mut timeline = Timeline { attempt: name(0).into(), gaps: vec![word.repeat(400); 20], ..Timeline::default() };
    for n in 0..agents {
        let (agent, source) = (name(n), source.clone());
        let model = Some(name(n));
        timeline.agents.push(AgentTotals {
            id: agent.clone(),
            model,
            source: source.clone(),
            ..AgentTotals::default()
        });
        for number in 0..rounds {
            let (agent, source, time_s, reason) = (agent.clone(), source.clone(), number as f64, word.repeat(400));
            let (kind, outcome, message) = (name(1), name(2), format!("{n}{number}{reason}"));
            let round = Round {
                agent: agent.clone(),
                number,
                kind,
                outcome,
                end: time_s,
                source: source.clone(),
                ..Round::default()
            };
            timeline.rounds.push(round);
            timeline.answers.push(AnswerEvent {
                agent: agent.clone(),
                label: name(n),
                source: source.clone(),
                ..AnswerEvent::default()
            });
            timeline.votes.push(VoteEvent {
                voter: agent.clone(),
                reason: reason.clone(),
                source: source.clone(),
                ..VoteEvent::default()
            });
            timeline.restarts.push(Restart {
                time_s,
                agent: agent.clone(),
                reason: reason.clone(),
                source: source.clone(),
            });
            let error = Some(reason);
            let tool = format!("{number}{word}");
            timeline.tools.push(ToolCall {
                agent: agent.clone(),
                tool,
                failed: true,
                error,
                source: source.clone(),
                ..ToolCall::default()
            });
            timeline.errors.push(ErrorEvent { time_s, agent: Some(agent), message, source });
        }
    }
    timeline
}

#[test]
fn the_report_of_a_large_run_has_at_most_4_kb_and_says_that_it_leaves_out_entries() {
    for word in ["漢", "👩"] {
        let report = run_report(&record(RunState::Queued), &large(50, 100, word), None, &[], |step| step.words(&[]));
        assert!(report.len() <= MAX_BYTES && report.len() > MAX_BYTES / 2, "{} bytes", report.len());
        assert!(report.contains("left out"), "{report}");
    }
    let report = run_report(&record(RunState::Queued), &large(50, 100, "n"), None, &[], |step| step.words(&[]));
    for text in ["Answers (5000):", "Votes (0 stood, 5000 void):", "Rounds (5000), the longest first"] {
        assert!(report.contains(text), "{report}");
    }
    let report = run_report(&record(RunState::Queued), &large(2, 3, "a"), None, &[], |step| step.words(&[]));
    assert!(report.len() <= MAX_BYTES && report.contains("Errors (6)"), "{report}");
}
