//! The view stays small and correct for every status that MassGen is known to write.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::massgen::{reasons, status, warnings};
use crate::run::{
    ActivityEvidence, AnswerSource, AnswerSummary, ConfigChoice, Context, Digest, Exit, Mode, Problem, ProcessIdentity,
    Retry, RunSpec, Spend, Warning,
};

fn plain() -> RunSpec {
    let id = "mg-zzzzzzzz".parse().expect("id");
    RunSpec::new(id, "q", ConfigChoice::Rehearsal("@rehearsal".to_owned()), "/p".into(), "/b".into())
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

static NO_MODELS: BTreeMap<String, String> = BTreeMap::new();

fn extras() -> RunExtras<'static> {
    RunExtras {
        folder: Path::new("/r"),
        children: &[],
        dependents: &[],
        queue_position: None,
        pending_messages: 0,
        awaited_models: &NO_MODELS,
        wording: crate::server::agent_words,
    }
}

fn moment(boot_ms: u64) -> Moment {
    Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms, boot_id: "b".to_owned() }
}

fn running(digest: Digest) -> RunRecord {
    let leader = ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() };
    let state = RunState::Running { leader };
    RunRecord {
        spec: spec(),
        version: 1,
        seq: 1,
        state,
        digest: Some(digest),
        started: Some(moment(0)),
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

fn ended(outcome: Outcome, digest: Digest) -> RunRecord {
    let answer = AnswerSummary { agent: "agent_a".to_owned(), chars: 300_000, source: AnswerSource::Partial };
    let ending = Ending {
        outcome,
        exit: Exit::Code(0),
        ended_at: moment(1),
        duration: Duration::from_secs(1800),
        answer: Some(answer),
        stop: None,
        warnings: Vec::new(),
    };
    RunRecord { state: RunState::Ended(ending), ..running(digest) }
}

fn brief(record: &RunRecord) -> String {
    let view = run_view(record, &extras(), Detail::Brief, &moment(101_000));
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
        let timed_out = ended(Outcome::TimedOut { ours: true, problem: None }, digest.clone());
        for (record, max_bytes) in
            [(running(digest.clone()), 300), (ended(Outcome::Succeeded, digest), 300), (timed_out, 600)]
        {
            let text = brief(&record);
            let max_bytes = if text.contains(r#""problem""#) { 600 } else { max_bytes };
            assert!(text.len() <= max_bytes, "{name}: {} bytes: {text}", text.len());
        }
    }
    assert_eq!(read, 15, "all but the torn one");
}

#[test]
fn a_status_is_small_for_any_file_size_and_word_length() {
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
fn long_names_with_equal_beginnings_stay_distinct_and_escapes_are_removed() {
    let long = "a".repeat(60);
    let agent = |id: String| AgentDigest { id, ..AgentDigest::default() };
    let agents = vec![agent(format!("{long}1")), agent(format!("{long}2")), agent("x\u{1b}[31m\u{202e}y".to_owned())];
    let view = run_view(&running(Digest { agents, ..Digest::default() }), &extras(), Detail::Brief, &moment(1));
    assert_eq!(view.agents.len(), 3);
    assert!(view.agents.contains_key("xy"), "{:?}", view.agents);
}

fn quiet(evidence: ActivityEvidence) -> Option<QuietPeriod> {
    Some(QuietPeriod { since: moment(0), sampled_at: moment(60_000), evidence })
}

fn waiting() -> ActivityEvidence {
    ActivityEvidence {
        leader_state: Some('S'),
        connections: vec!["192.0.2.1:443".to_owned()],
        ..ActivityEvidence::default()
    }
}

#[test]
fn a_quiet_run_stays_small_and_shows_its_inferred_activity() {
    for (name, bytes) in samples() {
        let Ok(digest) = status::digest(&bytes) else { continue };
        let waits = RunRecord { quiet: quiet(waiting()), ..running(digest.clone()) };
        let text = brief(&waits);
        if digest.convergence_problem().is_some() {
            assert!(text.contains("not_converging") && text.len() <= 600, "{text}");
            continue;
        }
        assert!(text.contains(r#""quiet_s":101,"seems":"waiting for a model"#), "{text}");
        assert!(text.len() <= 360, "{name}: {} bytes: {text}", text.len());
        let many = ActivityEvidence { tools: vec!["ż".repeat(80); 8], ..ActivityEvidence::default() };
        for evidence in
            [ActivityEvidence::default(), many, ActivityEvidence { cpu_percent: 99, ..waiting() }, waiting()]
        {
            let since = Moment { boot_ms: 0, ..moment(0) };
            let record = RunRecord {
                quiet: Some(QuietPeriod { since, sampled_at: moment(1), evidence }),
                ..running(digest.clone())
            };
            let view = run_view(&record, &extras(), Detail::Brief, &moment(9_999_000));
            let text = serde_json::to_string(&view).expect("JSON");
            assert!(view.problem.is_some() && text.len() <= 600, "{name}: {} bytes: {text}", text.len());
        }
    }
}

#[test]
fn a_wait_for_a_model_names_agents_models_and_time_and_becomes_a_problem() {
    let models = [("agent_a", "gpt-5"), ("agent_b", "m")].map(|(id, model)| (id.to_owned(), model.to_owned())).into();
    let extras = RunExtras { awaited_models: &models, ..extras() };
    let voted = AgentDigest { id: "agent_b".to_owned(), state: AgentState::Voted, ..AgentDigest::default() };
    let working = AgentDigest { id: "agent_a".to_owned(), ..AgentDigest::default() };
    let digest = Digest { agents: vec![working, voted], ..Digest::default() };
    let record = RunRecord { quiet: quiet(waiting()), ..running(digest) };
    let at = |seconds: u64| run_view(&record, &extras, Detail::Brief, &moment(seconds * 1000));
    assert_eq!(at(42).seems.as_deref(), Some("waiting for a model: agent_a (gpt-5), 42 s"));
    assert_eq!(at(119).problem, None);
    let problem = at(120).problem.expect("a problem");
    assert_eq!(problem.code, "model_silent");
    assert!(problem.message.ends_with("no answer from 192.0.2.1:443 to agent_a (gpt-5)"), "{problem:?}");
}

#[test]
fn agents_of_an_ended_run_are_not_working() {
    use AgentState::*;
    let agent = |(n, state): (usize, AgentState)| AgentDigest { id: format!("a{n}"), state, ..AgentDigest::default() };
    let states = [Working, Thinking, Restarting, Answered, Failed];
    let digest = Digest { agents: states.into_iter().enumerate().map(agent).collect(), ..Digest::default() };
    let statuses = |record: &RunRecord| {
        let view = run_view(record, &extras(), Detail::Brief, &moment(1));
        view.agents.into_values().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(statuses(&running(digest.clone())), "working, thinking, restarting, answered, failed");
    assert_eq!(statuses(&ended(Outcome::Succeeded, digest)), "unfinished, unfinished, unfinished, answered, failed");
}

#[test]
fn a_text_is_cut_between_words() {
    assert_eq!(truncate_words("one two three", 13), "one two three");
    assert_eq!(truncate_words("one two three", 12), "one two…");
    assert_eq!(truncate_words("one two three", 10), "one two…");
    assert_eq!(truncate_words(&"x".repeat(50), 10), format!("{}…", "x".repeat(7)));
}

#[test]
fn a_sample_is_shown_in_full_detail_and_only_for_a_live_run() {
    let record = RunRecord { quiet: quiet(waiting()), ..running(Digest::default()) };
    let full = serde_json::to_value(run_view(&record, &extras(), Detail::Full, &moment(101_000))).expect("JSON");
    let sample = &full["details"]["looked_at"];
    assert_eq!((&sample["ago_s"], &sample["connections"][0]), (&41.into(), &"192.0.2.1:443".into()), "{full}");
    let ended_run = RunRecord { quiet: quiet(waiting()), ..ended(Outcome::Succeeded, Digest::default()) };
    assert!(!brief(&ended_run).contains("quiet_s"), "{}", brief(&ended_run));
}

const SIGNS_OF_MASSGEN: [&str; 4] =
    ["massgen-mcp: cannot execute", "usage: massgen", "traceback (most recent call last)", "streaming error"];

#[test]
fn every_failure_fits_with_any_message() {
    for pattern in SIGNS_OF_MASSGEN.into_iter().chain(reasons::provider_patterns()) {
        let stderr = format!("Streaming error: {pattern} {}", "ż".repeat(300));
        let provider = "p".repeat(300);
        let output = reasons::RunOutput { stderr: &stderr, provider: Some(&provider), ..reasons::RunOutput::default() };
        let text = brief(&ended(Outcome::Failed(reasons::problem(output).expect("known")), Digest::default()));
        assert!(text.len() <= 600, "{pattern}: {} bytes: {text}", text.len());
    }
}

#[test]
fn a_status_matches_the_contract() {
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
fn a_failed_run_shows_its_state_answer_and_hint() {
    let problem = Problem::new("crashed", &"m".repeat(1000), "do it again");
    let text = brief(&ended(Outcome::Failed(problem), Digest::default()));
    assert!(text.len() <= 600, "{text}");
    for part in [
        r#""state":"failed""#,
        r#""partial":true"#,
        r#""answer_chars":300000"#,
        r#""best":"agent_a""#,
        r#""hint":"do it again""#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(brief(&ended(Outcome::Lost, Digest::default())).contains("supervisor_died"));
}

/// The number of tokens that a model counts.
fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

/// Names as people, programs and other languages use them, some of them long.
fn names(count: usize) -> [Vec<String>; 6] {
    let name = |style: &str, n: usize| match style {
        "plain" => format!("agent_{n}"),
        "long" => format!("the_very_careful_reviewer_of_designs_and_proofs_{n}"),
        "hash" => format!("{:016x}", 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n as u64 + 1)),
        "camel" => format!("GPT5MiniHighEffortSecondOpinion{n}"),
        "polish" => format!("żółty_świerszcz_{n}"),
        _ => format!("评审员{n}🙂"),
    };
    ["plain", "long", "hash", "camel", "polish", "han"].map(|style| (0..count).map(|n| name(style, n)).collect())
}

/// A run with agents that cycle through all states, with votes for as many answers.
fn crowd(ids: Vec<String>) -> Digest {
    use AgentState::*;
    let states = [Voted, Answered, Working, Thinking, Restarting, Failed, TimedOut, Unknown];
    let label = |n: usize| format!("agent{}.{}", n + 1, 100 + n);
    let votes = (0..ids.len()).map(|n| (label(n), 1 + n as u32)).collect();
    let agent = |(n, id): (usize, String)| {
        let (label, vote) = (Some(label(n)), Some(label(0)));
        AgentDigest { id, state: states[n % states.len()], label, vote, ..AgentDigest::default() }
    };
    Digest {
        phase: Some("initial_answer".to_owned()),
        agents: ids.into_iter().enumerate().map(agent).collect(),
        votes,
        cost_usd: Some(123.456_789),
        tokens: Some(123_456_789),
        ..Digest::default()
    }
}

/// All warnings that a run may have, with long names.
fn lacks() -> Vec<Warning> {
    let log = "20:53:57 | ERROR    | Failed to connect to workspace_tools: x\n20:53:57 | ERROR    | Failed to connect to the-very-long-name: x\n\
        20:53:57 | INFO     | MCP server 'workspace_tools' connected successfully\n\
        20:53:57 | INFO     | [FilesystemManager] Already running inside Docker container - switching to local execution mode.\n\
        20:53:57 | INFO     | [Orchestrator] Isolation: worktree at /w, original removed from agent view: /home/somebody/projects/of-mine\n\
        20:53:57 | INFO     | [Orchestrator] No isolated changes to review\n";
    let failed = AgentDigest { id: "agent_b".to_owned(), state: AgentState::Failed, ..AgentDigest::default() };
    let error = "Error code: 500 - {'error': {'message': 'the server is overloaded, please try again later', 'type': 'server_error'}}";
    let digest = Digest { agents: vec![failed], first_error: Some(error.to_owned()), ..Digest::default() };
    let all = warnings::warnings(log, Some(&digest));
    assert_eq!(all.len(), 4, "{all:?}");
    all
}

fn with_warnings(mut record: RunRecord, warnings: Vec<Warning>) -> RunRecord {
    if let RunState::Ended(ending) = &mut record.state {
        ending.warnings = warnings;
    }
    record
}

#[test]
fn warnings_of_a_successful_run_are_shown_and_a_full_status_has_all() {
    let record = with_warnings(ended(Outcome::Succeeded, Digest::default()), lacks());
    let brief = run_view(&record, &extras(), Detail::Brief, &moment(1));
    assert_eq!((brief.state.as_str(), brief.problem.as_ref()), ("succeeded", None));
    let warning = brief.warning.expect("warning");
    assert_eq!(warning.code, "agents_failed", "it is not hidden behind another");
    assert!(warning.hint.ends_with("; 3 more: detail full"), "{warning:?}");
    let full = serde_json::to_value(run_view(&record, &extras(), Detail::Full, &moment(1))).expect("JSON");
    let codes: Vec<_> =
        full["details"]["warnings"].as_array().expect("all").iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["agents_failed", "changes_not_applied", "mcp_not_connected", "docker_not_used"]);
    assert!(!full["warning"]["hint"].as_str().expect("hint").contains("detail full"), "all are there: {full}");
    let one_warning = with_warnings(ended(Outcome::Succeeded, Digest::default()), lacks().split_off(3));
    let full = serde_json::to_value(run_view(&one_warning, &extras(), Detail::Full, &moment(1))).expect("JSON");
    assert_eq!((&full["warning"]["code"], full["details"].get("warnings")), (&"docker_not_used".into(), None));
    let failed = Outcome::Failed(Problem::new("crashed", &"m".repeat(1000), "do it again"));
    let failed_view =
        run_view(&with_warnings(ended(failed, Digest::default()), lacks()), &extras(), Detail::Brief, &moment(1));
    assert!(
        failed_view.problem.is_some() && failed_view.warning.is_none(),
        "where there is no room, the problem comes first: {failed_view:?}"
    );
}

/// The same run in every state, with every optional field.
fn in_every_state(digest: Digest) -> Vec<RunRecord> {
    let answer = AnswerSummary { agent: String::new(), chars: 300_000, source: AnswerSource::Final };
    let ready = RunRecord { ready_answer: Some(answer), ..running(digest.clone()) };
    let mut records = vec![running(digest.clone()), ready];
    let tools = vec!["the_very_careful_reviewer: execute_command".to_owned(); 8];
    for evidence in [
        ActivityEvidence::default(),
        waiting(),
        ActivityEvidence { leader_state: Some('D'), ..ActivityEvidence::default() },
        ActivityEvidence { leader_state: Some('T'), ..ActivityEvidence::default() },
        ActivityEvidence { tools, ..ActivityEvidence::default() },
        ActivityEvidence { cpu_percent: 99, ..waiting() },
    ] {
        records.push(RunRecord { quiet: quiet(evidence), ..running(digest.clone()) });
    }
    for pattern in SIGNS_OF_MASSGEN.into_iter().chain(reasons::provider_patterns()) {
        let stderr = format!(
            "Streaming error: {pattern} - {{'error': {{'text': 'Incorrect API key provided: ********. You can find it at https://platform.example.com/keys', 'type': 'invalid_request_error', 'code': 'invalid_api_key'}}}}"
        );
        let output =
            reasons::RunOutput { stderr: &stderr, provider: Some("api.example.com"), ..reasons::RunOutput::default() };
        let problem = reasons::problem(output).expect("known");
        records.push(ended(Outcome::Failed(problem.clone()), digest.clone()));
        records.push(ended(Outcome::TimedOut { ours: true, problem: Some(Box::new(problem)) }, digest.clone()));
    }
    let killed = Outcome::Killed {
        reason: Some("nobody needs it any more, since another run has answered".to_owned()),
        problem: None,
    };
    for warning in lacks() {
        for outcome in [
            Outcome::Succeeded,
            Outcome::Failed(problems::problem_with_retry("crashed", "it broke", "again", Retry::Now)),
        ] {
            records.push(with_warnings(ended(outcome, digest.clone()), vec![warning.clone(), warning.clone()]));
        }
    }
    for outcome in [Outcome::Succeeded, Outcome::Lost, Outcome::OverBudget, killed] {
        records.push(ended(outcome, digest.clone()));
    }
    records.push(ended(Outcome::TimedOut { ours: true, problem: None }, digest.clone()));
    records.push(ended(Outcome::TimedOut { ours: false, problem: None }, digest));
    for record in &mut records {
        // Alternating letters and digits give an id the most tokens.
        record.spec.id = "mg-0t8k1pw6".parse().expect("an id");
        (record.spec.allowance.cap.usd, record.spent.usd) = (Some(Usd(100_500_000)), Usd(123_456_789));
        let ending_answer = if let RunState::Ended(ending) = &mut record.state { ending.answer.as_mut() } else { None };
        for answer in record.ready_answer.iter_mut().chain(ending_answer) {
            answer.agent = record
                .digest
                .as_ref()
                .and_then(|digest| digest.agents.first())
                .map_or_else(String::new, |agent| agent.id.clone());
        }
    }
    records
}

/// Checks the brief status of a run with a real vocabulary.
fn is_small(record: &RunRecord) {
    for messages in [0, 12] {
        let view =
            run_view(record, &RunExtras { pending_messages: messages, ..extras() }, Detail::Brief, &moment(9_999_000));
        let text = serde_json::to_string(&view).expect("JSON");
        let (counted, estimated) = (tokens(&text), token_budget::estimate_tokens(&text));
        assert!(counted <= token_budget::MAX_TOKENS, "{counted} tokens: {text}");
        assert!(
            counted * 97 <= estimated * 100 && estimated * 100 <= counted * 117,
            "{counted} tokens, not {estimated}: {text}"
        );
        let full = run_view(record, &extras(), Detail::Full, &moment(9_999_000));
        let message = |view: RunView| {
            let warning = view.warning.map(|warning| warning.message);
            view.problem.map(|problem| problem.message).or(warning).unwrap_or_default()
        };
        let full_message = message(full);
        if token_budget::estimate_tokens(&full_message) <= token_budget::MIN_MESSAGE_TOKENS {
            assert_eq!(message(view), full_message, "a short message is never cut: {text}");
        }
    }
}

#[test]
fn a_brief_status_has_at_most_120_tokens_at_any_size_of_run() {
    for ids in [2, 5, 10, 30].into_iter().flat_map(names) {
        in_every_state(crowd(ids)).iter().for_each(is_small);
    }
    for (_, bytes) in samples() {
        let Ok(digest) = status::digest(&bytes) else { continue };
        in_every_state(digest).iter().for_each(is_small);
    }
}

#[test]
fn a_brief_status_counts_what_it_leaves_out_and_a_full_one_has_it() {
    let [plain, long, ..] = names(30);
    let view_of = |ids, detail| run_view(&running(crowd(ids)), &extras(), detail, &moment(101_000));
    let view = view_of(plain.clone(), Detail::Brief);
    assert_eq!(view.agents["agent_0"], "voted agent1.100");
    assert!(view.agents["others"].starts_with("4 answered, "), "{view:?}");
    assert_eq!((view.votes["agent30.129"], view.votes["others"]), (30, (1..=27).sum()));
    let view = view_of(long, Detail::Brief);
    assert!(view.agents.keys().eq(["all"]) && view.agents["all"].starts_with("4 voted, 4 answered"), "{view:?}");
    let view = view_of(plain, Detail::Full);
    assert_eq!((view.agents.len(), view.votes.len()), (30, 30));
}

#[test]
fn changed_files_stay_beside_a_long_warning() {
    let agents = (0..5).map(|n| AgentDigest { id: format!("agent_{n}"), ..AgentDigest::default() }).collect();
    let mut record = with_warnings(ended(Outcome::Succeeded, Digest { agents, ..Digest::default() }), lacks());
    record.changed_files = Some(ChangedFiles { files: vec!["README.md".to_owned()], count: 1 });
    let view = run_view(&record, &extras(), Detail::Brief, &moment(1));
    assert!(view.warning.is_some(), "{view:?}");
    assert_eq!(view.changed, Some(vec!["README.md".to_owned()]));
}
