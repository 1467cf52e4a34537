//! The page of one run: its state, its answer, the actions of its agents on a time axis, their spend, and all details in tables.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::format::{self, drawable, name_markup, or_dash, short_name};
use super::spending_chart::{SpendingMetric, spending_chart};
use super::timeline::timeline_chart;
use super::{fact, html_page, preformatted, section, table, truncation_note};
use crate::massgen::timeline::{
    AgentTotals, AnswerEvent, ErrorEvent, Round, SourcePath, Timeline, ToolCall, VoteEvent,
};
use crate::run::{ConfigChoice, Mode, Outcome, RunId, RunRecord, RunState, Wording};

/// The longest question, in characters.
const MAX_QUESTION_CHARS: usize = 20_000;
/// The longest answer, in characters.
pub const MAX_ANSWER_CHARS: usize = 200_000;
/// The longest reason or message in a table, in characters.
const MAX_REASON_CHARS: usize = 2_000;
/// The most gaps that are listed.
const MAX_GAPS: usize = 50;

/// The page of a run. `answer` is its best answer; with `refresh`, the browser reloads the page at that interval.
pub fn run_page(
    record: &RunRecord,
    timeline: &Timeline,
    answer: Option<&str>,
    refresh: Option<Duration>,
    wording: Wording,
) -> String {
    let id = &record.spec.id;
    let (state, _) = state_label(&record.state);
    let body = html! {
        (head(record, timeline, refresh, wording))
        (answer_section(record, answer))
        (section("axis", "What happened", timeline_chart(timeline)))
        (section("spent", "What was spent", html! {
            (agents(&timeline.agents))
            (spending_chart(timeline, SpendingMetric::Cost))
            (spending_chart(timeline, SpendingMetric::Tokens))
        }))
        (details(timeline))
    };
    html_page(&format!("{id} {state}"), refresh, &body)
}

fn head(record: &RunRecord, timeline: &Timeline, refresh: Option<Duration>, wording: Wording) -> Markup {
    let spec = &record.spec;
    let (label, class_name) = state_label(&record.state);
    html! {
        header {
            h1 { "Run " (spec.id.as_str()) " " span class={ "state " (class_name) } { (label) } }
            @if let Some(interval) = refresh {
                p class="note" { "The run goes on. This page is written and read again every " (interval.as_secs().max(1)) " seconds." }
            }
            (problem_section(record, wording))
            (facts(record, timeline))
        }
        (section("question", "Question", preformatted(&spec.question, MAX_QUESTION_CHARS, &html! { "all of it is in " code { "spec.json" } " of the run's folder." })))
    }
}

/// The label of a state and its CSS class.
fn state_label(state: &RunState) -> (&str, &'static str) {
    match state {
        RunState::Queued => ("queued", ""),
        RunState::Starting { .. } => ("starting", "busy"),
        RunState::Running { .. } => ("running", "busy"),
        RunState::Stopping { .. } => ("stopping", "busy"),
        RunState::Unknown(_) => ("unknown", ""),
        RunState::Ended(ending) => match &ending.outcome {
            Outcome::Succeeded => ("succeeded", "good"),
            Outcome::Failed(_) => ("failed", "bad"),
            Outcome::TimedOut { .. } => ("timed out", "bad"),
            Outcome::OverBudget => ("over budget", "bad"),
            Outcome::Killed { .. } => ("killed", "bad"),
            Outcome::Lost => ("lost", "bad"),
        },
    }
}

fn problem_section(record: &RunRecord, wording: Wording) -> Markup {
    let outcome = record.state.ending().map(|ending| &ending.outcome);
    let warnings = record.state.ending().into_iter().flat_map(|ending| &ending.warnings);
    let reason = match outcome {
        Some(Outcome::Killed { reason, .. }) => reason.as_deref(),
        Some(
            Outcome::Succeeded | Outcome::Failed(_) | Outcome::TimedOut { .. } | Outcome::OverBudget | Outcome::Lost,
        )
        | None => None,
    };
    html! {
        @if let Some(problem) = outcome.and_then(Outcome::problem) {
            div class="problem" {
                p { strong { (short_name(&problem.code, MAX_REASON_CHARS)) } ": " (short_name(&problem.message, MAX_REASON_CHARS)) }
                p class="note" { (short_name(&wording(&problem.next), MAX_REASON_CHARS)) }
            }
        }
        @for warning in warnings {
            div class="problem" {
                p { strong { (short_name(&warning.code, MAX_REASON_CHARS)) } ": " (short_name(&warning.message, MAX_REASON_CHARS)) }
                p class="note" { (short_name(&wording(&warning.next), MAX_REASON_CHARS)) }
            }
        }
        @if let Some(reason) = reason { div class="problem" { p { "Stopped: " (short_name(reason, MAX_REASON_CHARS)) } } }
    }
}

fn facts(record: &RunRecord, timeline: &Timeline) -> Markup {
    let spec = &record.spec;
    let run_markup = |id: &RunId| html! { (id.as_str()) };
    let tokens = record.total_spent().tokens;
    let lineage = &spec.lineage;
    let mode = match spec.mode {
        Mode::Full => "answers and votes",
        Mode::Quick => "one answer each, no votes",
    };
    html! {
        dl {
            (fact("Config", Some(config_markup(record))))
            (fact("Mode", Some(html! { (mode) })))
            (fact("Asked", Some(timestamp_markup(spec.created))))
            (fact("Started", record.started.as_ref().map(|at| timestamp_markup(at.wall))))
            (fact("Ended", record.state.ending().map(|ending| timestamp_markup(ending.ended_at.wall))))
            (fact("Took", record.state.ending().map(|ending| html! { (format::seconds(ending.duration.as_secs_f64())) })))
            (fact("Cost", Some(cost_markup(record))))
            (fact("Tokens", (tokens > 0).then(|| html! { (format::count(tokens)) })))
            (fact("Winner", winner(record, timeline).map(name_markup)))
            (fact("Group", spec.group.as_deref().map(name_markup)))
            (fact("Part of run", lineage.parent.as_ref().map(run_markup)))
            (fact("First of its tree", lineage.parent.as_ref().map(|_| run_markup(&lineage.root))))
            (fact("Builds on", spec.basis.as_ref().map(|from| html! { (name_markup(from.answer.as_deref().unwrap_or("the answer"))) " in " (run_markup(&from.run)) })))
            (fact("Goes on with", spec.continuation.as_ref().map(|before| html! { (run_markup(&before.run)) ", turn " (before.turn) })))
        }
    }
}

/// The config; a file of the project by its relative path.
fn config_markup(record: &RunRecord) -> Markup {
    match &record.spec.config {
        ConfigChoice::File(path) => {
            let inside = path.strip_prefix(&record.spec.project).unwrap_or(path);
            name_markup(&inside.display().to_string())
        }
        ConfigChoice::Rehearsal(name) => name_markup(name),
    }
}

fn timestamp_markup(at: Timestamp) -> Markup {
    let text = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(at) { (text) } }
}

fn cost_markup(record: &RunRecord) -> Markup {
    let spent = record.total_spent();
    let usd = spent.known_usd().map(|usd| format::usd(usd.as_f64()));
    let cap = record.spec.allowance.cap.usd;
    html! {
        @match (usd, spent.is_unpriced) {
            (Some(usd), false) => (usd),
            (Some(usd), true) => { "more than " (usd) },
            (None, _) => { "unknown" },
        }
        @if let Some(cap) = cap { small { "of at most " (format::usd(cap.as_f64())) } }
    }
}

fn winner<'a>(record: &'a RunRecord, timeline: &'a Timeline) -> Option<&'a str> {
    let answer = record.state.ending().and_then(|ending| ending.answer.as_ref()).map(|answer| answer.agent.as_str());
    let presented = timeline.presentation.as_ref().map(|last| last.agent.as_str());
    let announced = || record.digest.as_ref().and_then(|digest| digest.winner.as_deref());
    answer.or(presented).or_else(announced)
}

fn answer_section(record: &RunRecord, answer: Option<&str>) -> Markup {
    let final_answer = record.state.ending().and_then(|ending| ending.answer.as_ref());
    let is_partial = final_answer.is_none_or(|answer| record.state.is_partial_answer(answer.source));
    let heading = if is_partial { "The best answer so far" } else { "The answer" };
    let rest = html! { code { "massgen-mcp result " (record.spec.id.as_str()) } " prints all of it." };
    let body = match answer {
        Some(text) => preformatted(text, MAX_ANSWER_CHARS, &rest),
        None => html! { p class="note" { "There is none" @if record.state.ending().is_none() { " yet" } "." } },
    };
    section("answer", heading, body)
}

fn agents(totals: &[AgentTotals]) -> Markup {
    let columns =
        ["Agent", "Model", "#Tokens read", "#Tokens written", "#Cost", "#Calls of its model", "#Waited for it"];
    table(&columns, totals, |agent| {
        html! {
            th scope="row" class="who" title=(source_path(&agent.source)) { (name_markup(&agent.id)) }
            td class="who" { (or_dash(agent.model.as_deref().map(|model| short_name(model, 60)))) }
            td class="number" { (format::count(agent.input_tokens)) }
            td class="number" { (format::count(agent.output_tokens)) }
            td class="number" { (or_dash(agent.cost_usd.and_then(drawable).map(format::usd))) }
            td class="number" { (or_dash(agent.model_calls.map(format::count))) }
            td class="number" { (or_dash(agent.model_wait_s.and_then(drawable).map(format::seconds))) }
        }
    })
}

/// All details in tables; empty tables are left out.
fn details(timeline: &Timeline) -> Markup {
    html! {
        @if !timeline.answers.is_empty() { (section("answers", "Answers", answers(&timeline.answers))) }
        @if !timeline.votes.is_empty() { (section("votes", "Votes", votes(&timeline.votes))) }
        @if !timeline.rounds.is_empty() { (section("rounds", "Rounds", rounds(&timeline.rounds))) }
        @if !timeline.restarts.is_empty() { (section("restarts", "Restarts", restarts(timeline))) }
        @if !timeline.tools.is_empty() { (section("tools", "Tools", tools(&timeline.tools))) }
        @if !timeline.errors.is_empty() { (section("troubles", "Troubles", errors_table(&timeline.errors))) }
        @if !timeline.gaps.is_empty() { (section("gaps", "What is not known", gaps(&timeline.gaps))) }
    }
}

/// The first cell of a row: the time, with the source file as a tooltip.
fn time_cell(at: f64, source: &SourcePath) -> Markup {
    html! { td class="when" title=(source_path(source)) { (or_dash(drawable(at).map(format::seconds))) } }
}

fn source_path(source: &SourcePath) -> String {
    match source.to_str() {
        Some("") => "from the run's record".to_owned(),
        _ => format!("from {}", short_name(&source.display().to_string(), 300)),
    }
}

fn answers(events: &[AnswerEvent]) -> Markup {
    table(&["At", "Agent", "Answer", "#Characters"], events, |answer| {
        html! {
            (time_cell(answer.time_s, &answer.source))
            td class="who" { (name_markup(&answer.agent)) }
            td class="who" { (name_markup(&answer.label)) }
            td class="number" { (format::count(answer.chars)) }
        }
    })
}

fn votes(events: &[VoteEvent]) -> Markup {
    table(&["At", "Voter", "For", "Reason"], events, |vote| {
        html! {
            (time_cell(vote.time_s, &vote.source))
            td class="who" { (name_markup(&vote.voter)) }
            td class="who" {
                (name_markup(vote.label.as_deref().unwrap_or(&vote.agent)))
                @if vote.label.is_some() { small { (name_markup(&vote.agent)) } }
                @if !vote.counted { small { "void: a newer answer came" } }
            }
            td class="text" { (plain_lines(&vote.reason)) }
        }
    })
}

fn plain_lines(text: &str) -> Markup {
    html! { span dir="auto" { (format::truncate_lines(text.trim(), MAX_REASON_CHARS)) @if text.chars().count() > MAX_REASON_CHARS { " …" } } }
}

fn rounds(entries: &[Round]) -> Markup {
    let columns = ["From", "#Took", "Agent", "#Round", "Kind", "Outcome", "#Tokens read", "#Tokens written", "#Cost"];
    table(&columns, entries, |round| {
        let outcome = if round.outcome.is_empty() { "goes on" } else { &round.outcome };
        let is_bad = matches!(outcome, "error" | "timeout");
        html! {
            (time_cell(round.start, &round.source))
            td class="number" { (or_dash(drawable(round.end - round.start).map(format::seconds))) }
            td class="who" { (name_markup(&round.agent)) }
            td class="number" { (round.number) }
            td { (name_markup(&round.kind.replace('_', " "))) }
            td class=[is_bad.then_some("bad")] { (name_markup(outcome)) }
            td class="number" { (format::count(round.input_tokens)) }
            td class="number" { (format::count(round.output_tokens)) }
            td class="number" { (or_dash(round.cost_usd.and_then(drawable).map(format::usd))) }
        }
    })
}

fn restarts(timeline: &Timeline) -> Markup {
    table(&["At", "Agent", "Why"], &timeline.restarts, |restart| {
        html! {
            (time_cell(restart.time_s, &restart.source))
            td class="who" { (name_markup(&restart.agent)) }
            td class="text" { (plain_lines(&restart.reason)) }
        }
    })
}

fn tools(calls: &[ToolCall]) -> Markup {
    table(&["At", "#Took", "Agent", "Tool", "Outcome"], calls, |call| {
        let (outcome, class_name) = match (call.failed, call.duration_s) {
            (true, _) => ("failed", Some("bad")),
            (false, Some(_)) => ("done", None),
            (false, None) => ("open", None),
        };
        html! {
            (time_cell(call.time_s, &call.source))
            td class="number" { (or_dash(call.duration_s.and_then(drawable).map(format::seconds))) }
            td class="who" { (name_markup(&call.agent)) }
            td class="who" { (name_markup(&call.tool)) }
            td class=[class_name] { (outcome) }
        }
    })
}

fn errors_table(errors: &[ErrorEvent]) -> Markup {
    table(&["At", "Agent", "What"], errors, |error| {
        html! {
            (time_cell(error.time_s, &error.source))
            td class="who" { (or_dash(error.agent.as_deref().map(|agent| short_name(agent, 60)))) }
            td class="text" { (plain_lines(&error.message)) }
        }
    })
}

fn gaps(texts: &[String]) -> Markup {
    html! {
        ul { @for gap in texts.iter().take(MAX_GAPS) { li { (short_name(gap, MAX_REASON_CHARS)) } } }
        (truncation_note("gaps", texts.len(), MAX_GAPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunSpec, Spend};

    fn record(question: &str) -> RunRecord {
        let id: RunId = "mg-00000001".parse().expect("id");
        let config = ConfigChoice::File("/p/team.yaml".into());
        let spec = RunSpec::new(id, question, config, "/p".into(), "/bin/massgen".into());
        RunRecord {
            spec,
            version: 1,
            seq: 0,
            state: RunState::Queued,
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

    #[test]
    fn a_run_without_any_data_has_a_page() {
        let page = run_page(&record("Why?"), &Timeline::default(), None, None, |step| step.words(&[]));
        for part in ["mg-00000001", "queued", "Why?", "team.yaml", "There is none yet", "Content-Security-Policy"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http-equiv=\"refresh\"") && !page.contains("NaN"), "it is read once");
        let live =
            run_page(&record("Why?"), &Timeline::default(), None, Some(Duration::from_secs(3)), |step| step.words(&[]));
        assert!(live.contains("http-equiv=\"refresh\" content=\"3\""));
    }

    #[test]
    fn no_text_of_a_run_becomes_an_element() {
        let bad = "</pre></style></title><script>x</script><img src=x onerror=x>\"'\u{202e}\u{1b}";
        let vote = VoteEvent { reason: bad.into(), voter: bad.into(), agent: bad.into(), ..VoteEvent::default() };
        let round = Round { agent: bad.into(), kind: bad.into(), outcome: bad.into(), end: 1.0, ..Round::default() };
        let agent =
            AgentTotals { id: bad.into(), model: Some(bad.into()), source: bad.into(), ..AgentTotals::default() };
        let call = ToolCall { agent: bad.into(), tool: bad.into(), ..ToolCall::default() };
        let error = ErrorEvent { agent: Some(bad.into()), message: bad.into(), ..ErrorEvent::default() };
        let answer = AnswerEvent { agent: bad.into(), label: bad.into(), ..AnswerEvent::default() };
        let timeline = Timeline {
            agents: vec![agent],
            votes: vec![vote],
            rounds: vec![round],
            tools: vec![call],
            errors: vec![error],
            answers: vec![answer],
            gaps: vec![bad.into()],
            ..Timeline::default()
        };
        let page = run_page(&record(bad), &timeline, Some(bad), None, |step| step.words(&[]));
        assert_eq!(page.matches("<script").count() + page.matches("<img").count(), 0);
        assert_eq!((page.matches("</style>").count(), page.matches("<style>").count()), (1, 1));
        assert!(!page.contains(['\u{202e}', '\u{1b}']) && page.contains("&lt;script&gt;"));
    }

    #[test]
    fn long_texts_and_tables_are_cut_with_a_note() {
        let timeline = Timeline { tools: vec![ToolCall::default(); 10_000], ..Timeline::default() };
        let page =
            run_page(&record("q"), &timeline, Some(&"ż".repeat(MAX_ANSWER_CHARS + 7)), None, |step| step.words(&[]));
        assert!(page.contains("Of 10,000 rows the first 500 are shown."));
        assert!(page.contains("Cut after 200,000 of 200,007 characters"));
        assert!(page.len() < 2_000_000, "{}", page.len());
    }
}
