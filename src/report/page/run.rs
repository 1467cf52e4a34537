//! The page of one run: how it is, its answer, what its agents did on a time axis, what they spent, and all of it in tables.

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
use crate::run::{ConfigChoice, Mode, Outcome, RunId, RunRecord, RunState};

/// The longest question and answer, in characters.
const MAX_QUESTION_CHARS: usize = 20_000;
/// The longest answer.
pub const MAX_ANSWER_CHARS: usize = 200_000;
/// The longest reason or message in a table.
const MAX_REASON_CHARS: usize = 2_000;
/// The most gaps that are told of.
const MAX_GAPS: usize = 50;

/// The page of a run. `answer` is the best that there is; with `refresh`, the browser reloads the page at that interval.
pub fn run_page(record: &RunRecord, story: &Timeline, answer: Option<&str>, refresh: Option<Duration>) -> String {
    let id = &record.spec.id;
    let (state, _) = state_label(&record.state);
    let body = html! {
        (head(record, story, refresh))
        (answer_section(record, answer))
        (section("axis", "What happened", timeline_chart(story)))
        (section("spent", "What was spent", html! {
            (agents(&story.agents))
            (spending_chart(story, SpendingMetric::Cost))
            (spending_chart(story, SpendingMetric::Tokens))
        }))
        (details(story))
    };
    html_page(&format!("{id} {state}"), refresh, &body)
}

fn head(record: &RunRecord, story: &Timeline, refresh: Option<Duration>) -> Markup {
    let spec = &record.spec;
    let (word, look) = state_label(&record.state);
    html! {
        header {
            h1 { "Run " (spec.id.as_str()) " " span class={ "state " (look) } { (word) } }
            @if let Some(every) = refresh {
                p class="note" { "The run goes on. This page is written and read again every " (every.as_secs().max(1)) " seconds." }
            }
            (problem_section(record))
            (facts(record, story))
        }
        (section("question", "Question", preformatted(&spec.question, MAX_QUESTION_CHARS, &html! { "all of it is in " code { "spec.json" } " of the run's folder." })))
    }
}

/// The word for a state, and how it looks.
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

fn problem_section(record: &RunRecord) -> Markup {
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
                p class="note" { (short_name(&problem.hint, MAX_REASON_CHARS)) }
            }
        }
        @for warning in warnings {
            div class="problem" {
                p { strong { (short_name(&warning.code, MAX_REASON_CHARS)) } ": " (short_name(&warning.message, MAX_REASON_CHARS)) }
                p class="note" { (short_name(&warning.hint, MAX_REASON_CHARS)) }
            }
        }
        @if let Some(reason) = reason { div class="problem" { p { "Stopped: " (short_name(reason, MAX_REASON_CHARS)) } } }
    }
}

fn facts(record: &RunRecord, story: &Timeline) -> Markup {
    let spec = &record.spec;
    let run = |id: &RunId| html! { (id.as_str()) };
    let tokens = record.total_spent().tokens;
    let below = &spec.lineage;
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
            (fact("Winner", winner(record, story).map(name_markup)))
            (fact("Group", spec.group.as_deref().map(name_markup)))
            (fact("Part of run", below.parent.as_ref().map(run)))
            (fact("First of its tree", below.parent.as_ref().map(|_| run(&below.root))))
            (fact("Builds on", spec.basis.as_ref().map(|from| html! { (name_markup(from.answer.as_deref().unwrap_or("the answer"))) " in " (run(&from.run)) })))
            (fact("Goes on with", spec.continuation.as_ref().map(|before| html! { (run(&before.run)) ", turn " (before.turn) })))
        }
    }
}

/// A file of the project by its place in it.
fn config_markup(record: &RunRecord) -> Markup {
    match &record.spec.config {
        ConfigChoice::File(path) => {
            let inside = path.strip_prefix(&record.spec.project).unwrap_or(path);
            name_markup(&inside.display().to_string())
        }
        ConfigChoice::Rehearsal(asked) => name_markup(asked),
    }
}

fn timestamp_markup(at: Timestamp) -> Markup {
    let told = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(at) { (told) } }
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

fn winner<'a>(record: &'a RunRecord, story: &'a Timeline) -> Option<&'a str> {
    let answer = record.state.ending().and_then(|ending| ending.answer.as_ref()).map(|answer| answer.agent.as_str());
    let presented = story.presentation.as_ref().map(|last| last.agent.as_str());
    let announced = || record.digest.as_ref().and_then(|digest| digest.winner.as_deref());
    answer.or(presented).or_else(announced)
}

fn answer_section(record: &RunRecord, answer: Option<&str>) -> Markup {
    let kept = record.state.ending().and_then(|ending| ending.answer.as_ref());
    let is_partial = kept.is_none_or(|answer| record.state.is_partial_answer(answer.source));
    let heading = if is_partial { "The best answer so far" } else { "The answer" };
    let rest = html! { code { "massgen-mcp result " (record.spec.id.as_str()) } " prints all of it." };
    let body = match answer {
        Some(text) => preformatted(text, MAX_ANSWER_CHARS, &rest),
        None => html! { p class="note" { "There is none" @if record.state.ending().is_none() { " yet" } "." } },
    };
    section("answer", heading, body)
}

fn agents(all: &[AgentTotals]) -> Markup {
    let columns =
        ["Agent", "Model", "#Tokens read", "#Tokens written", "#Cost", "#Calls of its model", "#Waited for it"];
    table(&columns, all, |agent| {
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

/// Everything in tables; what did not happen has none.
fn details(story: &Timeline) -> Markup {
    html! {
        @if !story.answers.is_empty() { (section("answers", "Answers", answers(&story.answers))) }
        @if !story.votes.is_empty() { (section("votes", "Votes", votes(&story.votes))) }
        @if !story.rounds.is_empty() { (section("rounds", "Rounds", rounds(&story.rounds))) }
        @if !story.restarts.is_empty() { (section("restarts", "Restarts", restarts(story))) }
        @if !story.tools.is_empty() { (section("tools", "Tools", tools(&story.tools))) }
        @if !story.errors.is_empty() { (section("troubles", "Troubles", errors_table(&story.errors))) }
        @if !story.gaps.is_empty() { (section("gaps", "What is not known", gaps(&story.gaps))) }
    }
}

/// The first cell of a row: when, and, as a tooltip, the file that says so.
fn time_cell(at: f64, source: &SourcePath) -> Markup {
    html! { td class="when" title=(source_path(source)) { (or_dash(drawable(at).map(format::seconds))) } }
}

fn source_path(source: &SourcePath) -> String {
    match source.to_str() {
        Some("") => "from the run's record".to_owned(),
        _ => format!("from {}", short_name(&source.display().to_string(), 300)),
    }
}

fn answers(all: &[AnswerEvent]) -> Markup {
    table(&["At", "Agent", "Answer", "#Characters"], all, |given| {
        html! {
            (time_cell(given.time_s, &given.source))
            td class="who" { (name_markup(&given.agent)) }
            td class="who" { (name_markup(&given.label)) }
            td class="number" { (format::count(given.chars)) }
        }
    })
}

fn votes(all: &[VoteEvent]) -> Markup {
    table(&["At", "Voter", "For", "Reason"], all, |cast| {
        html! {
            (time_cell(cast.time_s, &cast.source))
            td class="who" { (name_markup(&cast.voter)) }
            td class="who" {
                (name_markup(cast.label.as_deref().unwrap_or(&cast.agent)))
                @if cast.label.is_some() { small { (name_markup(&cast.agent)) } }
                @if !cast.counted { small { "void: a newer answer came" } }
            }
            td class="text" { (plain_lines(&cast.reason)) }
        }
    })
}

fn plain_lines(text: &str) -> Markup {
    html! { span dir="auto" { (format::truncate_lines(text.trim(), MAX_REASON_CHARS)) @if text.chars().count() > MAX_REASON_CHARS { " …" } } }
}

fn rounds(all: &[Round]) -> Markup {
    let columns = ["From", "#Took", "Agent", "#Round", "Kind", "Outcome", "#Tokens read", "#Tokens written", "#Cost"];
    table(&columns, all, |round| {
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

fn restarts(story: &Timeline) -> Markup {
    table(&["At", "Agent", "Why"], &story.restarts, |restart| {
        html! {
            (time_cell(restart.time_s, &restart.source))
            td class="who" { (name_markup(&restart.agent)) }
            td class="text" { (plain_lines(&restart.reason)) }
        }
    })
}

fn tools(all: &[ToolCall]) -> Markup {
    table(&["At", "#Took", "Agent", "Tool", "Outcome"], all, |call| {
        let (outcome, look) = match (call.failed, call.duration_s) {
            (true, _) => ("failed", Some("bad")),
            (false, Some(_)) => ("done", None),
            (false, None) => ("open", None),
        };
        html! {
            (time_cell(call.time_s, &call.source))
            td class="number" { (or_dash(call.duration_s.and_then(drawable).map(format::seconds))) }
            td class="who" { (name_markup(&call.agent)) }
            td class="who" { (name_markup(&call.tool)) }
            td class=[look] { (outcome) }
        }
    })
}

fn errors_table(all: &[ErrorEvent]) -> Markup {
    table(&["At", "Agent", "What"], all, |trouble| {
        html! {
            (time_cell(trouble.time_s, &trouble.source))
            td class="who" { (or_dash(trouble.agent.as_deref().map(|agent| short_name(agent, 60)))) }
            td class="text" { (plain_lines(&trouble.message)) }
        }
    })
}

fn gaps(all: &[String]) -> Markup {
    html! {
        ul { @for gap in all.iter().take(MAX_GAPS) { li { (short_name(gap, MAX_REASON_CHARS)) } } }
        (truncation_note("gaps", all.len(), MAX_GAPS))
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
    fn a_run_of_which_nothing_is_known_has_a_page() {
        let page = run_page(&record("Why?"), &Timeline::default(), None, None);
        for part in ["mg-00000001", "queued", "Why?", "team.yaml", "There is none yet", "Content-Security-Policy"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http-equiv=\"refresh\"") && !page.contains("NaN"), "it is read once");
        let live = run_page(&record("Why?"), &Timeline::default(), None, Some(Duration::from_secs(3)));
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
        let trouble = ErrorEvent { agent: Some(bad.into()), message: bad.into(), ..ErrorEvent::default() };
        let given = AnswerEvent { agent: bad.into(), label: bad.into(), ..AnswerEvent::default() };
        let story = Timeline {
            agents: vec![agent],
            votes: vec![vote],
            rounds: vec![round],
            tools: vec![call],
            errors: vec![trouble],
            answers: vec![given],
            gaps: vec![bad.into()],
            ..Timeline::default()
        };
        let page = run_page(&record(bad), &story, Some(bad), None);
        assert_eq!(page.matches("<script").count() + page.matches("<img").count(), 0);
        assert_eq!((page.matches("</style>").count(), page.matches("<style>").count()), (1, 1));
        assert!(!page.contains(['\u{202e}', '\u{1b}']) && page.contains("&lt;script&gt;"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let story = Timeline { tools: vec![ToolCall::default(); 10_000], ..Timeline::default() };
        let page = run_page(&record("q"), &story, Some(&"ż".repeat(MAX_ANSWER_CHARS + 7)), None);
        assert!(page.contains("Of 10,000 rows the first 500 are shown."));
        assert!(page.contains("Cut after 200,000 of 200,007 characters"));
        assert!(page.len() < 2_000_000, "{}", page.len());
    }
}
