//! What an agent sees stays small and true for every status that MassGen was seen to write.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::massgen::{reasons, status};
use crate::run::{AnswerFact, AnswerSource, Context, Digest, Evidence, Exit, Mode, ProcessMark, RunSpec, Spent};

fn plain() -> RunSpec {
    let id = "mg-zzzzzzzz".parse().expect("id");
    RunSpec::plain(id, "q", ConfigChoice::Rehearsal("@rehearsal".to_owned()), "/p".into(), "/b".into())
}

fn spec() -> RunSpec {
    RunSpec {
        created: jiff::Timestamp::UNIX_EPOCH,
        question: "What is 6*7?".to_owned(),
        config: ConfigChoice::Rehearsal("@rehearsal".to_owned()),
        group: None,
        timeout: Duration::from_secs(1800),
        mode: Mode::Full,
        context: Context::None,
        project: "/p".into(),
        program: "/venv/bin/massgen".into(),
        ..plain()
    }
}

fn seen() -> Seen<'static> {
    Seen { folder: Path::new("/r"), children: &[], built_on_by: &[], queue: None, messages: 0 }
}

fn moment(boot_ms: u64) -> Moment {
    Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms, boot_id: "b".to_owned() }
}

fn running(digest: Digest) -> RunRecord {
    let leader = ProcessMark { pid: 1, start_ticks: 1, boot_id: "b".to_owned() };
    let state = RunState::Running { leader };
    RunRecord {
        spec: spec(),
        version: 1,
        seq: 1,
        state,
        digest: Some(digest),
        started: Some(moment(0)),
        log_dir: None,
        spent: Spent::default(),
        spent_below: Spent::default(),
        keeper: None,
        ready: None,
        quiet: None,
    }
}

fn ended(outcome: Outcome, digest: Digest) -> RunRecord {
    let answer = AnswerFact { agent: "agent_a".to_owned(), chars: 300_000, source: AnswerSource::Partial };
    let ending = Ending {
        outcome,
        exit: Exit::Code(0),
        at: moment(1),
        took: Duration::from_secs(1800),
        answer: Some(answer),
        stop: None,
    };
    RunRecord { state: RunState::Ended(ending), ..running(digest) }
}

fn brief(record: &RunRecord) -> String {
    let view = run(record, &seen(), Detail::Brief, &moment(101_000));
    serde_json::to_string(&view).expect("JSON")
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/status");
    let files = std::fs::read_dir(folder).expect("samples").flatten();
    files
        .map(|file| (file.file_name().to_string_lossy().into_owned(), std::fs::read(file.path()).expect("read")))
        .collect()
}

#[test]
fn a_brief_status_of_every_sample_has_at_most_300_bytes() {
    let mut read = 0;
    for (name, bytes) in samples() {
        let Ok(digest) = status::digest(&bytes) else { continue };
        read += 1;
        let timed_out = ended(Outcome::TimedOut { ours: true }, digest.clone());
        for (record, most) in
            [(running(digest.clone()), 300), (ended(Outcome::Succeeded, digest), 300), (timed_out, 600)]
        {
            let text = brief(&record);
            assert!(text.len() <= most, "{name}: {} bytes: {text}", text.len());
        }
    }
    assert_eq!(read, 15, "all but the torn one");
}

#[test]
fn however_large_the_file_and_however_long_its_words() {
    let filler = "x".repeat(2 << 20);
    let id = "ż".repeat(200);
    let text = format!(
        r#"{{"meta": {{"question": "{filler}"}}, "costs": {{"total_estimated_cost": 0.123456789, "total_input_tokens": 9e9, "total_output_tokens": 1}},
        "coordination": {{"phase": "{id}"}}, "agents": {{"{id}": {{"status": "answered", "latest_answer_label": "agent1.1"}},
        "b{id}": {{"status": "voted", "vote_cast": {{"voted_for_label": "agent1.1"}}}}}}, "results": {{"votes": {{"agent1.1": 1}}}}}}"#
    );
    let record = running(status::digest(text.as_bytes()).expect("JSON"));
    assert!(brief(&record).len() <= 300, "{}", brief(&record));
}

#[test]
fn long_names_that_begin_alike_stay_two_and_escapes_do_not_pass() {
    let long = "a".repeat(60);
    let agent = |id: String| AgentDigest { id, ..AgentDigest::default() };
    let agents = vec![agent(format!("{long}1")), agent(format!("{long}2")), agent("x\u{1b}[31m\u{202e}y".to_owned())];
    let view = run(&running(Digest { agents, ..Digest::default() }), &seen(), Detail::Brief, &moment(1));
    assert_eq!(view.agents.len(), 3);
    assert!(view.agents.contains_key("xy"), "{:?}", view.agents);
}

fn quiet(evidence: Evidence) -> Option<Quiet> {
    Some(Quiet { since: moment(0), looked: moment(60_000), evidence })
}

fn waiting() -> Evidence {
    Evidence { leader_state: Some('S'), connections: vec!["192.0.2.1:443".to_owned()], ..Evidence::default() }
}

#[test]
fn a_quiet_run_stays_small_and_says_what_it_seems_to_do() {
    for (name, bytes) in samples() {
        let Ok(digest) = status::digest(&bytes) else { continue };
        let waits = RunRecord { quiet: quiet(waiting()), ..running(digest.clone()) };
        let text = brief(&waits);
        assert!(text.contains(r#""quiet_s":101,"seems":"waiting for a model""#), "{text}");
        assert!(text.len() <= 300, "{name}: {} bytes: {text}", text.len());
        let many = Evidence { tools: vec!["ż".repeat(80); 8], ..Evidence::default() };
        for evidence in [Evidence::default(), many, Evidence { cpu_percent: 99, ..waiting() }, waiting()] {
            let since = Moment { boot_ms: 0, ..moment(0) };
            let record =
                RunRecord { quiet: Some(Quiet { since, looked: moment(1), evidence }), ..running(digest.clone()) };
            let view = run(&record, &seen(), Detail::Brief, &moment(9_999_000));
            let text = serde_json::to_string(&view).expect("JSON");
            assert!(view.problem.is_some() && text.len() <= 600, "{name}: {} bytes: {text}", text.len());
        }
    }
}

#[test]
fn what_was_looked_at_is_shown_in_full_and_only_of_a_run_at_work() {
    let record = RunRecord { quiet: quiet(waiting()), ..running(Digest::default()) };
    let full = serde_json::to_value(run(&record, &seen(), Detail::Full, &moment(101_000))).expect("JSON");
    let looked = &full["details"]["looked_at"];
    assert_eq!((&looked["ago_s"], &looked["connections"][0]), (&41.into(), &"192.0.2.1:443".into()), "{full}");
    let over = RunRecord { quiet: quiet(waiting()), ..ended(Outcome::Succeeded, Digest::default()) };
    assert!(!brief(&over).contains("quiet_s"), "{}", brief(&over));
}

#[test]
fn every_failure_fits_whatever_was_said() {
    let said = ["massgen-mcp: cannot execute", "no api key", "usage: massgen", "error code: 401", "error code: 429"];
    let more = ["connection refused", "error code: 500", "error code: 404", "traceback (most recent call last)"];
    for sign in said.iter().chain(&more).chain(&["streaming error"]) {
        let stderr = format!("{sign} {}", "ż".repeat(300));
        let provider = "p".repeat(300);
        let words = reasons::Words { stderr: &stderr, provider: Some(&provider), ..reasons::Words::default() };
        let text = brief(&ended(Outcome::Failed(reasons::problem(words).expect("known")), Digest::default()));
        assert!(text.len() <= 600, "{sign}: {} bytes: {text}", text.len());
    }
}

#[test]
fn it_reads_as_the_contract_shows_it() {
    let text = br#"{"costs": {"total_estimated_cost": 0.0123, "total_input_tokens": 5000, "total_output_tokens": 30},
        "coordination": {"phase": "enforcement"}, "results": {"votes": {"agent1.1": 1, "agent9.9": 4}},
        "agents": {"agent_a": {"status": "voted", "latest_answer_label": "agent1.1", "vote_cast": {"voted_for_label": "agent1.1"}},
            "agent_b": {"status": "answered", "latest_answer_label": "agent2.1"}}}"#;
    assert_eq!(
        brief(&running(status::digest(text).expect("JSON"))),
        r#"{"run_id":"mg-zzzzzzzz","state":"running","phase":"enforcement","elapsed_s":101,"agents":{"agent_a":"voted agent1.1","agent_b":"answered agent2.1"},"votes":{"agent1.1":1},"cost_usd":0.0123,"tokens":5030}"#
    );
}

#[test]
fn the_end_says_what_there_is() {
    let problem = Problem::new("crashed", &"m".repeat(1000), "do it again");
    let text = brief(&ended(Outcome::Failed(problem), Digest::default()));
    assert!(text.len() <= 600, "{text}");
    for part in [
        r#""state":"failed""#,
        r#""partial":true"#,
        r#""answer_chars":300000"#,
        r#""exit":"0""#,
        r#""hint":"do it again""#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(brief(&ended(Outcome::Lost, Digest::default())).contains("supervisor_died"));
}
