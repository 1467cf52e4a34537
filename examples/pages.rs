//! Example HTML pages of an invented run and an invented group: `cargo run --example pages -- FOLDER` writes them to the folder.
//! `scripts/pictures` makes the pictures in docs/ from them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use massgen_mcp::experiment::table::{Comparison, ComparisonTable, Trial};
use massgen_mcp::massgen::timeline::{
    AgentTotals, AnswerEvent, ErrorEvent, Presentation, Restart, Round, SourcePath, Timeline, ToolCall, VoteEvent,
};
use massgen_mcp::report::page::{group_page, run_page};
use massgen_mcp::run::{
    AnswerSource, AnswerSummary, Cap, ConfigChoice, Ending, Exit, Moment, Outcome, RunId, RunRecord, RunSpec, RunState,
    Spend, Usd,
};

const QUESTION: &str =
    "Our test suite takes 14 minutes. Which three changes would bring it under five, and what does each cost us?";
const ANSWER: &str = "\
1. Share one MassGen environment between the tests (saves about 6 min). Costs: a lock around its set-up.
2. Wait for conditions, not for time: 41 tests sleep (saves about 3 min). Costs: a day's work, no risk.
3. Run the fault suite on two machines (saves about 2 min). Costs: a second runner, and the table of faults has to be split.

Together that is 3 to 4 minutes of wall time on the machine that was measured. All three of us agree on 1 and 2; agent_c would \
rather drop the slowest ten tests than add a runner, and we did not find a way to tell which of them still earn their time.";

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("give a folder")?);
    std::fs::write(
        folder.join("run.html"),
        run_page(&record()?, &timeline(), Some(ANSWER), None, massgen_mcp::server::agent_words),
    )?;
    std::fs::write(folder.join("group.html"), group_page(&table()?, None))?;
    Ok(())
}

fn moment(second: i64) -> anyhow::Result<Moment> {
    Ok(Moment { wall: Timestamp::from_second(1_780_000_000 + second)?, boot_ms: 0, boot_id: String::new() })
}

fn record() -> anyhow::Result<RunRecord> {
    let id: RunId = "mg-7f3k2q9d".parse()?;
    let project = PathBuf::from("/project");
    let mut spec = RunSpec::new(id, QUESTION, ConfigChoice::File(project.join("team.yaml")), project, "massgen".into());
    spec.created = moment(0)?.wall;
    spec.group = Some("tests".to_owned());
    spec.allowance.cap = Cap { usd: Some(Usd(2_000_000)), tokens: None };
    let answer = AnswerSummary {
        agent: "agent_b".to_owned(),
        chars: ANSWER.chars().count() as u64,
        source: AnswerSource::Final,
    };
    let ending = Ending {
        outcome: Outcome::Succeeded,
        exit: Exit::Code(0),
        ended_at: moment(314)?,
        duration: Duration::from_secs(312),
        answer: Some(answer),
        stop: None,
        warnings: Vec::new(),
    };
    Ok(RunRecord {
        spec,
        version: 1,
        seq: 0,
        state: RunState::Ended(ending),
        digest: None,
        started: Some(moment(2)?),
        log_dir: None,
        spent: Spend { usd: Usd(412_700), tokens: 168_420, is_unpriced: false },
        spent_by_descendants: Spend::default(),
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: None,
    })
}

/// A round: agent, kind, outcome, start and end in seconds, tokens read and written, cost in dollars.
type RoundRow = (&'static str, &'static str, &'static str, f64, f64, u64, u64, f64);
const ROUNDS: &[RoundRow] = &[
    ("agent_a", "initial_answer", "answer", 0.0, 61.0, 14_200, 2_900, 0.0521),
    ("agent_b", "initial_answer", "restarted", 0.0, 62.0, 9_800, 1_100, 0.0288),
    ("agent_b", "initial_answer", "answer", 62.0, 148.0, 31_400, 3_800, 0.0913),
    ("agent_c", "initial_answer", "answer", 0.0, 97.0, 18_900, 2_200, 0.0274),
    ("agent_a", "voting", "restarted", 61.0, 149.0, 17_600, 900, 0.0402),
    ("agent_c", "voting", "restarted", 97.0, 149.5, 12_100, 400, 0.0127),
    ("agent_b", "voting", "vote", 148.0, 203.0, 16_300, 700, 0.0366),
    ("agent_a", "voting", "vote", 149.0, 226.0, 19_900, 800, 0.0455),
    ("agent_c", "voting", "vote", 149.5, 188.0, 13_700, 420, 0.0142),
    ("agent_b", "presentation", "presentation", 227.0, 301.0, 21_000, 2_300, 0.0639),
];

fn timeline() -> Timeline {
    let source = SourcePath::from("logs/log_1/turn_1/attempt_1/metrics_summary.json");
    let round = |(index, row): (usize, &RoundRow)| Round {
        agent: row.0.to_owned(),
        number: ROUNDS[..index].iter().filter(|other| other.0 == row.0).count() as u64,
        kind: row.1.to_owned(),
        outcome: row.2.to_owned(),
        start: row.3,
        end: row.4,
        input_tokens: row.5,
        output_tokens: row.6,
        cost_usd: Some(row.7),
        source: source.clone(),
    };
    Timeline {
        start: Some(1_780_000_004.0),
        end: 301.0,
        agents: [("agent_a", "gpt-5"), ("agent_b", "claude-sonnet-4-5"), ("agent_c", "gemini-2.5-pro")]
            .map(agent)
            .to_vec(),
        answers: [
            (61.0, "agent_a", "agent1.1", 2_911),
            (97.0, "agent_c", "agent3.1", 1_740),
            (148.0, "agent_b", "agent2.1", 3_302),
        ]
        .map(|(at, agent, label, chars)| AnswerEvent {
            time_s: at,
            agent: agent.into(),
            label: label.into(),
            chars,
            source: source.clone(),
        })
        .to_vec(),
        votes: votes(&source),
        restarts: [(62.0, "agent_b", "agent1.1"), (149.0, "agent_a", "agent2.1"), (149.5, "agent_c", "agent2.1")]
            .map(|(at, agent, label)| Restart {
                time_s: at,
                agent: agent.into(),
                reason: format!("a new answer came: {label}"),
                source: source.clone(),
            })
            .to_vec(),
        rounds: ROUNDS.iter().enumerate().map(round).collect(),
        tools: tools(&source),
        presentation: Some(Presentation {
            agent: "agent_b".into(),
            start: 227.0,
            end: 301.0,
            is_tie: false,
            source: source.clone(),
        }),
        errors: vec![ErrorEvent {
            time_s: 171.0,
            agent: Some("agent_c".into()),
            message: "HTTP 529 from the model, tried again after 2 s".into(),
            source,
        }],
        ..Timeline::default()
    }
}

fn agent((id, model): (&str, &str)) -> AgentTotals {
    let rounds = || ROUNDS.iter().filter(|round| round.0 == id);
    AgentTotals {
        id: id.to_owned(),
        model: Some(model.to_owned()),
        input_tokens: rounds().map(|round| round.5).sum(),
        output_tokens: rounds().map(|round| round.6).sum(),
        cost_usd: Some(rounds().map(|round| round.7).sum()),
        model_wait_s: Some(rounds().map(|round| (round.4 - round.3) * 0.7).sum()),
        model_calls: Some(rounds().count() as u64 * 3),
        source: SourcePath::from("logs/log_1/turn_1/attempt_1/status.json"),
    }
}

fn votes(source: &SourcePath) -> Vec<VoteEvent> {
    [
        (
            131.0,
            "agent_c",
            "agent_a",
            "agent1.1",
            false,
            "It measured where the time goes before it proposed anything.",
        ),
        (188.0, "agent_c", "agent_b", "agent2.1", true, "Same findings as agent1.1, with what each change costs."),
        (
            203.0,
            "agent_b",
            "agent_b",
            "agent2.1",
            true,
            "The numbers were checked against the log of the last ten runs.",
        ),
        (
            226.0,
            "agent_a",
            "agent_b",
            "agent2.1",
            true,
            "It answers the second half of the question, which mine does not.",
        ),
    ]
    .map(|(at, voter, agent, label, counted, reason)| VoteEvent {
        time_s: at,
        voter: voter.into(),
        agent: agent.into(),
        label: Some(label.into()),
        reason: reason.into(),
        counted,
        source: source.clone(),
    })
    .to_vec()
}

fn tools(source: &SourcePath) -> Vec<ToolCall> {
    let calls =
        [("agent_a", 9.0, 7), ("agent_b", 68.0, 9), ("agent_c", 15.0, 5), ("agent_b", 155.0, 3), ("agent_a", 160.0, 4)];
    let mut all: Vec<_> = calls
        .iter()
        .flat_map(|(agent, from, many)| (0..*many).map(move |number| (*agent, from + 7.3 * f64::from(number), number)))
        .map(|(agent, at, number)| ToolCall {
            time_s: at,
            duration_s: Some(1.2 + f64::from(number)),
            agent: agent.to_owned(),
            tool: if number % 3 == 0 { "read_file" } else { "execute_command" }.to_owned(),
            failed: agent == "agent_c" && number == 3,
            source: source.clone(),
            ..ToolCall::default()
        })
        .collect();
    all.sort_by(|one, other| one.time_s.total_cmp(&other.time_s));
    all
}

/// The averages of each arm: seconds, dollars, tokens.
const ARMS: [(&str, f64, f64, f64); 3] = [
    ("team.yaml", 310.0, 0.41, 168_000.0),
    ("team.yaml, without votes", 170.0, 0.24, 96_000.0),
    ("solo.yaml", 95.0, 0.11, 41_000.0),
];

fn table() -> anyhow::Result<ComparisonTable> {
    let questions = [
        QUESTION,
        "Is the new queue fair to runs that wait long?",
        "What does a restart of the server lose?",
        "Which of our limits would a careless agent meet first?",
        "Where does the server wait for the disk?",
        "What would it take to run on two machines?",
    ];
    let mut trials = Vec::new();
    for (arm, question, repeat) in (0..3).flat_map(|arm| {
        (0..questions.len()).flat_map(move |question| (1..=4).map(move |repeat| (arm, question, repeat)))
    }) {
        trials.push(trial(arm, question, repeat)?);
    }
    let comparison = Comparison {
        group: "tests-2026-05".to_owned(),
        arms: ARMS.map(|arm| arm.0.to_owned()).to_vec(),
        questions: questions.map(str::to_owned).to_vec(),
        trials,
    };
    Ok(ComparisonTable::new(comparison))
}

/// The answers to repeats of a question are similar but not equal.
fn answer(question: usize, repeat: u32) -> String {
    let sentences =
        ["The queue keeps the order in which runs came", "No run waits longer than the oldest", "Nothing is lost"];
    let filler = "and each slot is given to the first that waits ".repeat(repeat as usize * 12);
    format!("{} {filler}", sentences[question % sentences.len()])
}

fn trial(arm: usize, question: usize, repeat: u32) -> anyhow::Result<Trial> {
    let index = arm * 24 + question * 4 + repeat as usize;
    // Plausible numbers, equal in every run of this program.
    let factor = |seed: usize| 0.72 + ((index * 37 + seed * 61 + index * index * 13) % 56) as f64 / 100.0;
    let (_, took, cost, tokens) = ARMS[arm];
    let succeeded = index % 11 != 7;
    let (agent, model) = if index % 4 == 1 { ("agent_a", "gpt-5") } else { ("agent_b", "claude-sonnet-4-5") };
    Ok(Trial {
        run: format!("mg-000000{:02}", index).parse()?,
        arm,
        question,
        repeat,
        state: if succeeded { "succeeded" } else { "timed_out" }.to_owned(),
        took_s: Some(took * factor(1)),
        cost_usd: Some(cost * factor(2)),
        tokens: Some((tokens * factor(3)) as u64),
        answer: succeeded.then(|| answer(question, repeat)),
        winner: succeeded.then(|| agent.to_owned()),
        partial_by: None,
        model: succeeded.then(|| model.to_owned()),
        votes: [("agent2.1".to_owned(), 2), ("agent1.1".to_owned(), u32::from(index.is_multiple_of(3)))].into(),
    })
}
