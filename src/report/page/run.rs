//! The page of one run: how it is, its answer, what its agents did on a time axis, what they spent, and all of it in tables.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::lanes::lanes;
use super::spending::{Spending, spending};
use super::words::{self, name, or_dash, plain_name, sane};
use super::{fact, left_out, page, quoted, section, table};
use crate::massgen::story::{AgentStory, Cast, Given, Round, Source, Story, ToolCall, Trouble};
use crate::run::{ConfigChoice, Mode, Outcome, RunId, RunRecord, RunState};

/// The longest question and answer, in characters.
const QUESTION: usize = 20_000;
/// The longest answer.
pub const ANSWER: usize = 200_000;
/// The longest reason or message in a table.
const REASON: usize = 2_000;
/// The most gaps that are told of.
const GAPS: usize = 50;

/// The page of a run. `answer` is the best that there is; with `refresh`, the browser reads the page anew every so often.
pub fn run_page(record: &RunRecord, story: &Story, answer: Option<&str>, refresh: Option<Duration>) -> String {
    let id = &record.spec.id;
    let (state, _) = state(&record.state);
    let body = html! {
        (head(record, story, refresh))
        (answered(record, answer))
        (section("axis", "What happened", lanes(story)))
        (section("spent", "What was spent", html! {
            (agents(&story.agents))
            (spending(story, Spending::Cost))
            (spending(story, Spending::Tokens))
        }))
        (details(story))
    };
    page(&format!("{id} {state}"), refresh, &body)
}

fn head(record: &RunRecord, story: &Story, refresh: Option<Duration>) -> Markup {
    let spec = &record.spec;
    let (word, look) = state(&record.state);
    html! {
        header {
            h1 { "Run " (spec.id.as_str()) " " span class={ "state " (look) } { (word) } }
            @if let Some(every) = refresh {
                p class="note" { "The run goes on. This page is written and read again every " (every.as_secs().max(1)) " seconds." }
            }
            (problem(record))
            (facts(record, story))
        }
        (section("question", "Question", quoted(&spec.question, QUESTION, &html! { "all of it is in " code { "spec.json" } " of the run's folder." })))
    }
}

/// The word for a state, and how it looks.
fn state(state: &RunState) -> (&str, &'static str) {
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

fn problem(record: &RunRecord) -> Markup {
    let outcome = record.state.ended().map(|ending| &ending.outcome);
    let warnings = record.state.ended().into_iter().flat_map(|ending| &ending.warnings);
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
                p { strong { (plain_name(&problem.code, REASON)) } ": " (plain_name(&problem.message, REASON)) }
                p class="note" { (plain_name(&problem.hint, REASON)) }
            }
        }
        @for warning in warnings {
            div class="problem" {
                p { strong { (plain_name(&warning.code, REASON)) } ": " (plain_name(&warning.message, REASON)) }
                p class="note" { (plain_name(&warning.hint, REASON)) }
            }
        }
        @if let Some(reason) = reason { div class="problem" { p { "Stopped: " (plain_name(reason, REASON)) } } }
    }
}

fn facts(record: &RunRecord, story: &Story) -> Markup {
    let spec = &record.spec;
    let run = |id: &RunId| html! { (id.as_str()) };
    let tokens = record.spent_in_all().tokens;
    let below = &spec.lineage;
    let mode = match spec.mode {
        Mode::Full => "answers and votes",
        Mode::Quick => "one answer each, no votes",
    };
    html! {
        dl {
            (fact("Config", Some(config(record))))
            (fact("Mode", Some(html! { (mode) })))
            (fact("Asked", Some(moment(spec.created))))
            (fact("Started", record.started.as_ref().map(|at| moment(at.wall))))
            (fact("Ended", record.state.ended().map(|ending| moment(ending.at.wall))))
            (fact("Took", record.state.ended().map(|ending| html! { (words::seconds(ending.took.as_secs_f64())) })))
            (fact("Cost", Some(cost(record))))
            (fact("Tokens", (tokens > 0).then(|| html! { (words::count(tokens)) })))
            (fact("Winner", winner(record, story).map(name)))
            (fact("Group", spec.group.as_deref().map(name)))
            (fact("Part of run", below.parent.as_ref().map(run)))
            (fact("First of its tree", below.parent.as_ref().map(|_| run(&below.root))))
            (fact("Builds on", spec.from.as_ref().map(|from| html! { (name(from.answer.as_deref().unwrap_or("the answer"))) " in " (run(&from.run)) })))
            (fact("Goes on with", spec.continues.as_ref().map(|before| html! { (run(&before.run)) ", turn " (before.turn) })))
        }
    }
}

/// A file of the project by its place in it.
fn config(record: &RunRecord) -> Markup {
    match &record.spec.config {
        ConfigChoice::File(path) => {
            let inside = path.strip_prefix(&record.spec.project).unwrap_or(path);
            name(&inside.display().to_string())
        }
        ConfigChoice::Rehearsal(asked) => name(asked),
    }
}

fn moment(at: Timestamp) -> Markup {
    let told = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(at) { (told) } }
}

fn cost(record: &RunRecord) -> Markup {
    let spent = record.spent_in_all();
    let usd = spent.known_usd().map(|usd| words::usd(usd.as_f64()));
    let cap = record.spec.allowance.cap.usd;
    html! {
        @match (usd, spent.is_unpriced) {
            (Some(usd), false) => (usd),
            (Some(usd), true) => { "more than " (usd) },
            (None, _) => { "unknown" },
        }
        @if let Some(cap) = cap { small { "of at most " (words::usd(cap.as_f64())) } }
    }
}

fn winner<'a>(record: &'a RunRecord, story: &'a Story) -> Option<&'a str> {
    let answer = record.state.ended().and_then(|ending| ending.answer.as_ref()).map(|answer| answer.agent.as_str());
    let presented = story.presentation.as_ref().map(|last| last.agent.as_str());
    let announced = || record.digest.as_ref().and_then(|digest| digest.winner.as_deref());
    answer.or(presented).or_else(announced)
}

fn answered(record: &RunRecord, answer: Option<&str>) -> Markup {
    let kept = record.state.ended().and_then(|ending| ending.answer.as_ref());
    let is_partial = kept.is_none_or(|answer| record.state.makes_partial(answer.source));
    let heading = if is_partial { "The best answer so far" } else { "The answer" };
    let rest = html! { code { "massgen-mcp result " (record.spec.id.as_str()) } " prints all of it." };
    let body = match answer {
        Some(text) => quoted(text, ANSWER, &rest),
        None => html! { p class="note" { "There is none" @if record.state.ended().is_none() { " yet" } "." } },
    };
    section("answer", heading, body)
}

fn agents(all: &[AgentStory]) -> Markup {
    let columns =
        ["Agent", "Model", "#Tokens read", "#Tokens written", "#Cost", "#Calls of its model", "#Waited for it"];
    table(&columns, all, |agent| {
        html! {
            th scope="row" class="who" title=(from(&agent.source)) { (name(&agent.id)) }
            td class="who" { (or_dash(agent.model.as_deref().map(|model| plain_name(model, 60)))) }
            td class="number" { (words::count(agent.input_tokens)) }
            td class="number" { (words::count(agent.output_tokens)) }
            td class="number" { (or_dash(agent.cost_usd.and_then(sane).map(words::usd))) }
            td class="number" { (or_dash(agent.model_calls.map(words::count))) }
            td class="number" { (or_dash(agent.model_wait_s.and_then(sane).map(words::seconds))) }
        }
    })
}

/// Everything in tables; what did not happen has none.
fn details(story: &Story) -> Markup {
    html! {
        @if !story.answers.is_empty() { (section("answers", "Answers", answers(&story.answers))) }
        @if !story.votes.is_empty() { (section("votes", "Votes", votes(&story.votes))) }
        @if !story.rounds.is_empty() { (section("rounds", "Rounds", rounds(&story.rounds))) }
        @if !story.restarts.is_empty() { (section("restarts", "Restarts", restarts(story))) }
        @if !story.tools.is_empty() { (section("tools", "Tools", tools(&story.tools))) }
        @if !story.troubles.is_empty() { (section("troubles", "Troubles", troubles(&story.troubles))) }
        @if !story.gaps.is_empty() { (section("gaps", "What is not known", gaps(&story.gaps))) }
    }
}

/// The first cell of a row: when, and, for whoever rests the pointer on it, by which file.
fn when(at: f64, source: &Source) -> Markup {
    html! { td class="when" title=(from(source)) { (or_dash(sane(at).map(words::seconds))) } }
}

fn from(source: &Source) -> String {
    match source.to_str() {
        Some("") => "from the run's record".to_owned(),
        _ => format!("from {}", plain_name(&source.display().to_string(), 300)),
    }
}

fn answers(all: &[Given]) -> Markup {
    table(&["At", "Agent", "Answer", "#Characters"], all, |given| {
        html! {
            (when(given.at, &given.source))
            td class="who" { (name(&given.agent)) }
            td class="who" { (name(&given.label)) }
            td class="number" { (words::count(given.chars)) }
        }
    })
}

fn votes(all: &[Cast]) -> Markup {
    table(&["At", "Voter", "For", "Reason"], all, |cast| {
        html! {
            (when(cast.at, &cast.source))
            td class="who" { (name(&cast.voter)) }
            td class="who" {
                (name(cast.label.as_deref().unwrap_or(&cast.agent)))
                @if cast.label.is_some() { small { (name(&cast.agent)) } }
                @if !cast.counted { small { "void: a newer answer came" } }
            }
            td class="text" { (plain_lines(&cast.reason)) }
        }
    })
}

fn plain_lines(text: &str) -> Markup {
    html! { span dir="auto" { (words::lines(text.trim(), REASON)) @if text.chars().count() > REASON { " …" } } }
}

fn rounds(all: &[Round]) -> Markup {
    let columns = ["From", "#Took", "Agent", "#Round", "Kind", "Outcome", "#Tokens read", "#Tokens written", "#Cost"];
    table(&columns, all, |round| {
        let outcome = if round.outcome.is_empty() { "goes on" } else { &round.outcome };
        let is_bad = matches!(outcome, "error" | "timeout");
        html! {
            (when(round.from, &round.source))
            td class="number" { (or_dash(sane(round.to - round.from).map(words::seconds))) }
            td class="who" { (name(&round.agent)) }
            td class="number" { (round.number) }
            td { (name(&round.kind.replace('_', " "))) }
            td class=[is_bad.then_some("bad")] { (name(outcome)) }
            td class="number" { (words::count(round.input_tokens)) }
            td class="number" { (words::count(round.output_tokens)) }
            td class="number" { (or_dash(round.cost_usd.and_then(sane).map(words::usd))) }
        }
    })
}

fn restarts(story: &Story) -> Markup {
    table(&["At", "Agent", "Why"], &story.restarts, |restart| {
        html! {
            (when(restart.at, &restart.source))
            td class="who" { (name(&restart.agent)) }
            td class="text" { (plain_lines(&restart.reason)) }
        }
    })
}

fn tools(all: &[ToolCall]) -> Markup {
    table(&["At", "#Took", "Agent", "Tool", "Outcome"], all, |call| {
        let (outcome, look) = match (call.failed, call.took) {
            (true, _) => ("failed", Some("bad")),
            (false, Some(_)) => ("done", None),
            (false, None) => ("open", None),
        };
        html! {
            (when(call.at, &call.source))
            td class="number" { (or_dash(call.took.and_then(sane).map(words::seconds))) }
            td class="who" { (name(&call.agent)) }
            td class="who" { (name(&call.tool)) }
            td class=[look] { (outcome) }
        }
    })
}

fn troubles(all: &[Trouble]) -> Markup {
    table(&["At", "Agent", "What"], all, |trouble| {
        html! {
            (when(trouble.at, &trouble.source))
            td class="who" { (or_dash(trouble.agent.as_deref().map(|agent| plain_name(agent, 60)))) }
            td class="text" { (plain_lines(&trouble.message)) }
        }
    })
}

fn gaps(all: &[String]) -> Markup {
    html! {
        ul { @for gap in all.iter().take(GAPS) { li { (plain_name(gap, REASON)) } } }
        (left_out("gaps", all.len(), GAPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunSpec, Spent};

    fn record(question: &str) -> RunRecord {
        let id: RunId = "mg-00000001".parse().expect("id");
        let config = ConfigChoice::File("/p/team.yaml".into());
        let spec = RunSpec::plain(id, question, config, "/p".into(), "/bin/massgen".into());
        RunRecord {
            spec,
            version: 1,
            seq: 0,
            state: RunState::Queued,
            digest: None,
            started: None,
            log_dir: None,
            spent: Spent::default(),
            spent_below: Spent::default(),
            keeper: None,
            cold_because: None,
            import: None,
            changed: None,
            ready: None,
            quiet: None,
        }
    }

    #[test]
    fn a_run_of_which_nothing_is_known_has_a_page() {
        let page = run_page(&record("Why?"), &Story::default(), None, None);
        for part in ["mg-00000001", "queued", "Why?", "team.yaml", "There is none yet", "Content-Security-Policy"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http-equiv=\"refresh\"") && !page.contains("NaN"), "it is read once");
        let live = run_page(&record("Why?"), &Story::default(), None, Some(Duration::from_secs(3)));
        assert!(live.contains("http-equiv=\"refresh\" content=\"3\""));
    }

    #[test]
    fn no_text_of_a_run_becomes_an_element() {
        let bad = "</pre></style></title><script>x</script><img src=x onerror=x>\"'\u{202e}\u{1b}";
        let vote = Cast { reason: bad.into(), voter: bad.into(), agent: bad.into(), ..Cast::default() };
        let round = Round { agent: bad.into(), kind: bad.into(), outcome: bad.into(), to: 1.0, ..Round::default() };
        let agent = AgentStory { id: bad.into(), model: Some(bad.into()), source: bad.into(), ..AgentStory::default() };
        let call = ToolCall { agent: bad.into(), tool: bad.into(), ..ToolCall::default() };
        let trouble = Trouble { agent: Some(bad.into()), message: bad.into(), ..Trouble::default() };
        let given = Given { agent: bad.into(), label: bad.into(), ..Given::default() };
        let story = Story {
            agents: vec![agent],
            votes: vec![vote],
            rounds: vec![round],
            tools: vec![call],
            troubles: vec![trouble],
            answers: vec![given],
            gaps: vec![bad.into()],
            ..Story::default()
        };
        let page = run_page(&record(bad), &story, Some(bad), None);
        assert_eq!(page.matches("<script").count() + page.matches("<img").count(), 0);
        assert_eq!((page.matches("</style>").count(), page.matches("<style>").count()), (1, 1));
        assert!(!page.contains(['\u{202e}', '\u{1b}']) && page.contains("&lt;script&gt;"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let story = Story { tools: vec![ToolCall::default(); 10_000], ..Story::default() };
        let page = run_page(&record("q"), &story, Some(&"ż".repeat(ANSWER + 7)), None);
        assert!(page.contains("Of 10,000 rows the first 500 are shown."));
        assert!(page.contains("Cut after 200,000 of 200,007 characters"));
        assert!(page.len() < 2_000_000, "{}", page.len());
    }
}
