//! The HTML pages in a real browser: what they show, and that no text of a run becomes markup.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use massgen_mcp::experiment::table::{
    Agreement, ArmAgreement, Comparison, ComparisonRow, ComparisonTable, Difference, Mean, Measure, Trial, Winner,
};
use massgen_mcp::massgen::timeline::{
    AgentTotals, AnswerEvent, ErrorEvent, Presentation, Restart, Round, SourcePath, Timeline, ToolCall, VoteEvent,
};
use massgen_mcp::report::page::{group_page, run_page};
use massgen_mcp::run::{
    AnswerSource, AnswerSummary, ConfigChoice, Ending, Exit, Moment, Outcome, Problem, RunRecord, RunSpec, RunState,
    Spend, Usd,
};
use massgen_mcp::server::agent_words;
use serde_json::json;
use tempfile::TempDir;

use crate::lab::{Lab, fake, wait_until};

/// The page in Chromium: the document as HTML, after all permitted scripts have run.
fn document(page: &str) -> String {
    let folder = tempfile::tempdir().expect("temp");
    let file = folder.path().join("page.html");
    std::fs::write(&file, page).expect("written");
    document_of(&file)
}

fn document_of(file: &Path) -> String {
    render(file, 1060)
}

/// The document in a window of this width in pixels.
fn render(file: &Path, width: u32) -> String {
    let profile = tempfile::tempdir().expect("temp");
    let mut chromium = chromium(&profile);
    let output = chromium
        .arg(format!("--window-size={width},900"))
        .arg("--dump-dom")
        .arg(format!("file://{}", file.display()))
        .output();
    let output = output.expect("`chromium` is needed (apt-get install chromium)");
    let document = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(document.contains("</html>"), "{document}{}", String::from_utf8_lossy(&output.stderr));
    document
}

/// A browser without network access, which stores nothing.
fn chromium(profile: &TempDir) -> Command {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-breakpad"]);
    command.arg("--host-resolver-rules=MAP * ~NOTFOUND").stdin(Stdio::null());
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.env("HOME", profile.path()).env("XDG_CONFIG_HOME", profile.path()).env("XDG_CACHE_HOME", profile.path());
    command
}

fn title(document: &str) -> &str {
    let (_, rest) = document.split_once("<title>").expect("a title");
    rest.split_once("</title>").expect("its end").0
}

fn moment(second: i64) -> Moment {
    Moment { wall: Timestamp::from_second(second).expect("in range"), boot_ms: 0, boot_id: String::new() }
}

fn record(question: &str, outcome: Outcome) -> RunRecord {
    let id = "mg-00000001".parse().expect("id");
    let config = ConfigChoice::File("/project/team.yaml".into());
    let mut spec = RunSpec::new(id, question, config, "/project".into(), "/bin/massgen".into());
    spec.group = Some(question.to_owned());
    let answer = AnswerSummary { agent: question.to_owned(), chars: 5, source: AnswerSource::Final };
    let took = Duration::from_secs(75);
    let ending = Ending {
        outcome,
        exit: Exit::Code(0),
        ended_at: moment(175),
        duration: took,
        answer: Some(answer),
        stop: None,
        warnings: Vec::new(),
    };
    RunRecord {
        spec,
        version: 1,
        seq: 0,
        state: RunState::Ended(ending),
        digest: None,
        started: Some(moment(100)),
        log_dir: None,
        spent: Spend { usd: Usd(34_500), tokens: 4_567, is_unpriced: false },
        spent_by_descendants: Spend::default(),
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: None,
    }
}

/// A timeline of two agents. All texts and names end with `say`.
fn timeline(suffix: &str) -> Timeline {
    let source = SourcePath::from("attempt_1/status.json");
    let (first, second) = (format!("agent_a{suffix}"), format!("agent_b{suffix}"));
    let agent =
        |id: &String| AgentTotals { id: id.clone(), model: Some(format!("model{suffix}")), ..AgentTotals::default() };
    let round = |agent: &String, kind: &str, outcome: &str, from: f64, to: f64| Round {
        agent: agent.clone(),
        kind: kind.to_owned(),
        outcome: format!("{outcome}{suffix}"),
        start: from,
        end: to,
        output_tokens: 1_234,
        cost_usd: Some(0.0115),
        source: source.clone(),
        ..Round::default()
    };
    let vote = VoteEvent {
        time_s: 61.0,
        voter: second.clone(),
        agent: first.clone(),
        label: Some(format!("agent1.1{suffix}")),
        reason: format!("It names both costs.{suffix}"),
        counted: true,
        source: source.clone(),
    };
    let call = ToolCall {
        time_s: 9.0,
        duration_s: Some(2.0),
        agent: first.clone(),
        tool: format!("read_file{suffix}"),
        ..ToolCall::default()
    };
    Timeline {
        start: Some(100.0),
        end: 75.0,
        agents: [&first, &second].map(agent).to_vec(),
        answers: vec![AnswerEvent {
            time_s: 30.0,
            agent: first.clone(),
            label: format!("agent1.1{suffix}"),
            chars: 4_321,
            source: source.clone(),
        }],
        votes: vec![vote.clone(), VoteEvent { time_s: 12.0, counted: false, ..vote }],
        restarts: vec![Restart {
            time_s: 31.0,
            agent: second.clone(),
            reason: format!("a newer answer{suffix}"),
            source: source.clone(),
        }],
        rounds: vec![
            round(&first, "initial_answer", "answer", 0.0, 30.0),
            round(&second, "initial_answer", "restarted", 0.0, 31.0),
            round(&second, "voting", "vote", 31.0, 61.0),
        ],
        tools: vec![call.clone(), ToolCall { failed: true, ..call }],
        presentation: Some(Presentation {
            agent: first,
            start: 62.0,
            end: 75.0,
            is_tie: false,
            source: source.clone(),
        }),
        errors: vec![ErrorEvent { time_s: 40.0, agent: None, message: format!("HTTP 529{suffix}"), source }],
        gaps: vec![format!("no events{suffix}")],
        ..Timeline::default()
    }
}

#[test]
fn the_page_of_a_run_shows_what_happened() {
    let page = run_page(
        &record("Why so slow?", Outcome::Succeeded),
        &timeline(""),
        Some("Because.\nIt waits."),
        None,
        agent_words,
    );
    let rendered = document(&page);
    assert_eq!(title(&rendered), "mg-00000001 succeeded · massgen-mcp");
    for text in [
        "Why so slow?",
        "Because.\nIt waits.",
        "agent_a",
        "agent_b",
        "4,321",
        "$0.0345",
        "$0.0115",
        "4,567",
        "It names both costs.",
        "void: a newer answer came",
        "a newer answer",
        "read_file",
        "HTTP 529",
        "no events",
        "1 min 15 s",
        "presenting",
        "agent_b, round 0 (voting): 31.0 s to 1 min 01 s; vote; 1,234 tokens",
    ] {
        assert!(rendered.contains(text), "{text}");
    }
    assert_eq!(rendered.matches("role=\"img\"").count(), 3, "an axis, costs, tokens");
    assert!(!rendered.contains("NaN") && !rendered.contains("<script"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page is the only file: {outside}");
    }
}

/// Texts that would change the title or add an element if a page did not escape them.
const PAYLOADS: &[&str] = &[
    "<script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "</title></style></pre></svg></table><script>document.title='taken'</script>",
    "<svg onload=\"document.title='taken'\"><script>document.title='taken'</script></svg>",
    "\"'><iframe srcdoc=\"<script>parent.document.title='taken'</script>\"></iframe>",
    "<a href=\"javascript:document.title='taken'\">x</a><base href=\"//x/\"><meta http-equiv=refresh content=0>",
    "' onmouseover=alert(1) x='\" autofocus onfocus=\"document.title='taken'\" tabindex=1 x=\"",
    "{{7*7}}<![CDATA[<script>document.title='taken'</script>]]><!--",
];

/// The page without the content security policy that forbids scripts.
fn without_policy(page: &str) -> String {
    let guard = page.find("<meta http-equiv=\"Content-Security-Policy\"").expect("the policy");
    let end = guard + page[guard..].find('>').expect("its end") + 1;
    format!("{}{}", &page[..guard], &page[end..])
}

/// The number of elements that no page contains, plus the number of attributes that run scripts.
fn injected_elements(document: &str) -> usize {
    let elements = ["<script", "<img", "<iframe", "<base", "<a ", "<!--"].iter();
    let elements: usize = elements.map(|name| document.matches(name).count()).sum();
    // In escaped text and attribute values `<` and quotes do not occur, so each match is a real tag.
    let tags = document.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    elements + tags.filter(|tag| [" onload=\"", " onerror=\"", " onfocus=\""].iter().any(|on| tag.contains(on))).count()
}

#[test]
fn text_of_a_run_is_never_markup_in_its_page() {
    let all = PAYLOADS.concat();
    let problem = Problem::new("agents_failed", &all, all.as_str());
    let page = run_page(&record(&all, Outcome::Failed(problem)), &timeline(&all), Some(&all), None, agent_words);
    for page in [&page, &without_policy(&page)] {
        let rendered = document(page);
        assert_eq!((title(&rendered), injected_elements(&rendered)), ("mg-00000001 failed · massgen-mcp", 0));
        assert!(
            rendered.contains("&lt;script&gt;document.title='taken'&lt;/script&gt;"),
            "the payload is shown as text"
        );
        assert_eq!(rendered.matches("<meta").count(), page.matches("<meta").count());
    }
}

#[test]
fn the_browser_shows_injected_markup_in_an_unescaped_page() {
    let page = run_page(&record("Why?", Outcome::Succeeded), &timeline(""), Some("MARK"), None, agent_words);
    for payload in &PAYLOADS[..3] {
        let broken = page.replacen("MARK", payload, 1);
        assert_eq!(title(&document(&without_policy(&broken))), "taken", "{payload}");
        let guarded = document(&broken);
        assert_eq!(title(&guarded), "mg-00000001 succeeded · massgen-mcp", "the policy alone protects too");
        assert!(injected_elements(&guarded) > 0, "{payload}");
    }
}

fn table(suffix: &str) -> ComparisonTable {
    let trial = |(arm, repeat): (usize, u32)| Trial {
        run: format!("mg-000000{arm}{repeat}").parse().expect("id"),
        arm,
        question: 0,
        repeat,
        state: if repeat == 1 { "failed" } else { "succeeded" }.to_owned(),
        took_s: Some(40.0 + f64::from(repeat)),
        cost_usd: Some(0.02 * f64::from(repeat)),
        tokens: Some(1_000),
        answer: None,
        winner: None,
        partial_by: None,
        model: None,
        votes: std::collections::BTreeMap::new(),
    };
    let trials = (0..2).flat_map(|arm| (1..=5).map(move |repeat| (arm, repeat))).map(trial).collect();
    let name = |text: &str| format!("{text}{suffix}");
    let winners = vec![Winner { agent: name("agent_a"), model: Some(name("model")), share: 0.75 }];
    let cost_usd = Some(Mean { n: 5, mean: 0.06, interval: Some((0.03, 0.09)) });
    let row = ComparisonRow { planned: 5, started: 5, succeeded: 4, cost_usd, winners, ..ComparisonRow::default() };
    let difference = |interval| Difference { a: 0, b: 1, measure: Measure::Cost, pairs: 1, mean: 0.01, interval };
    ComparisonTable {
        comparison: Comparison {
            group: name("nightly"),
            arms: vec![name("team.yaml"), name("solo.yaml")],
            questions: vec![name("Why so slow?")],
            trials,
        },
        rows: vec![ComparisonRow { question: Some(0), ..row.clone() }],
        arms: vec![row.clone(), ComparisonRow { arm: 1, ..row }],
        arm_agreements: vec![ArmAgreement {
            a: 0,
            b: 1,
            question: 0,
            agreement: Agreement { pairs: 25, same: 0.5, similarity: 0.7 },
        }],
        differences: vec![difference(None), difference(Some((0.005, 0.02)))],
    }
}

#[test]
fn the_page_of_a_group_compares_its_arms() {
    let rendered = document(&group_page(&table(""), Some(Duration::from_secs(5))));
    assert_eq!(title(&rendered), "group nightly · massgen-mcp");
    for text in [
        "team.yaml",
        "solo.yaml",
        "4 of 5",
        "$0.0600",
        "$0.0300</span> to <span class=\"count\">$0.0900",
        "agent_a",
        "75 %",
        "too few to tell",
        "Agreement between arms",
        "50 % the same",
        "the second has more",
        "Why so slow?",
        "mg-00000015 (a2 solo.yaml, question 1, repeat 5, succeeded): $0.1000",
        "http-equiv=\"refresh\" content=\"5\"",
    ] {
        assert!(rendered.contains(text), "{text}");
    }
    assert_eq!(rendered.matches("role=\"img\"").count(), 4, "cost against time, and three measures");
}

/// The overflow of the widest table in pixels: on a screen, and on A4 paper within its margins.
fn overflow(page: &str) -> [String; 2] {
    let measure = "<script>document.title=Math.max(...[...document.querySelectorAll('.scroll')].map(e=>e.scrollWidth-e.clientWidth))</script></body>";
    let screen = without_policy(page).replace("</body>", measure);
    let paper = screen.replace("@media print{", "@media all{");
    [(screen, 1060), (paper, 690)].map(|(page, width)| {
        let folder = tempfile::tempdir().expect("temp");
        let file = folder.path().join("page.html");
        std::fs::write(&file, page).expect("written");
        title(&render(&file, width)).to_owned()
    })
}

#[test]
fn every_column_stays_visible_with_long_names() {
    let long = format!("@rehearsal/chars=400/cost=0.03/tokens=200,20{}", "/b:delay=1".repeat(9));
    let mut table = table(&long);
    let mean = Some(Mean { n: 12, mean: 12_345.6, interval: Some((11_234.5, 13_456.7)) });
    for row in table.rows.iter_mut().chain(&mut table.arms) {
        (row.took_s, row.tokens, row.answer_chars, row.margin) = (mean, mean, mean, row.cost_usd);
        row.agreement = Some(Agreement { pairs: 12, same: 0.5, similarity: 0.75 });
    }
    assert_eq!(overflow(&group_page(&table, None)), ["0", "0"]);
    let mut timeline = timeline(&long);
    timeline.rounds.iter_mut().for_each(|round| round.outcome = "restarted".to_owned());
    let page = run_page(&record("Why?", Outcome::Succeeded), &timeline, None, None, agent_words);
    assert_eq!(overflow(&page), ["0", "0"]);
}

#[test]
fn variants_of_one_config_are_distinguished() {
    let mut table = table("");
    let variant = |limit: usize| {
        format!(r#"configs/team-of-three.yaml with {{"orchestrator":{{"max_new_answers_per_agent":{limit}}}}}"#)
    };
    table.comparison.arms = [1, 2].map(variant).to_vec();
    let rendered = document(&group_page(&table, None));
    for n in [1, 2] {
        assert!(rendered.contains(&format!("max_new_answers_per_agent\":{n}}}}}</bdi>")), "complete in the tables");
        assert_eq!(rendered.matches(&format!("a{n} configs/team-of-three…")).count(), 4, "in each drawing");
    }
}

#[test]
fn names_in_a_group_are_never_markup_in_its_page() {
    let all = PAYLOADS.concat();
    let rendered = document(&without_policy(&group_page(&table(&all), None)));
    assert!(title(&rendered).starts_with("group nightly&lt;script&gt;"), "{}", title(&rendered));
    assert_eq!(injected_elements(&rendered), 0);
}

fn report(lab: &Lab, path: &Path, arguments: &[&str]) -> Output {
    let mut command = lab.command().into_std();
    command.arg("report").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("PATH", path).output().expect("ran")
}

/// A folder with an `xdg-open` that writes its argument to the file `opened` in the same folder.
pub(crate) fn opener(lab: &Lab) -> PathBuf {
    let folder = lab.project().join("openers");
    let script = "#!/bin/sh\nprintf %s \"$1\" > \"${0%/*}/draft\" && mv \"${0%/*}/draft\" \"${0%/*}/opened\"\n";
    let program = lab.put("openers/xdg-open", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    for tool in ["mv", "sh"] {
        let _there = std::os::unix::fs::symlink(Path::new("/bin").join(tool), folder.join(tool));
    }
    folder
}

#[tokio::test]
async fn the_command_writes_a_page_and_opens_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let mut arguments = fake("announce\nfinal agent_a so <script>document.title='taken'</script> much");
    arguments["group"] = json!("nightly");
    let id = client.start(arguments).await;
    client.end(&id).await;
    client.close().await;

    let path = opener(&lab);
    let done = report(&lab, &path, &[&id, "--open"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let page = lab.run_folder(&id).join("report.html");
    assert_eq!((done.status.code(), stdout.trim_end()), (Some(0), page.to_str().expect("UTF-8")), "{stderr}");
    assert_eq!(page.metadata().expect("written").permissions().mode() & 0o777, 0o600);
    let opened = path.join("opened");
    wait_until("the page is opened", || opened.exists()).await;
    assert_eq!(std::fs::read_to_string(&opened).expect("kept"), stdout.trim_end());
    let rendered = document_of(&page);
    assert_eq!(title(&rendered), format!("{id} succeeded · massgen-mcp"));
    assert!(
        rendered.contains("so &lt;script&gt;document.title='taken'&lt;/script&gt; much")
            && rendered.contains("agent_a")
    );
    assert_eq!(injected_elements(&rendered), 0);

    let elsewhere = lab.project().join("page.html");
    let out = elsewhere.to_str().expect("UTF-8");
    assert_eq!(report(&lab, &path, &[&id, "--out", out]).status.code(), Some(0));
    assert!(elsewhere.exists());
    let nothing = lab.project();
    for (arguments, code) in [
        (&[&id, "--open"][..], "not_opened"),
        (&[&id, "--out", "/proc/page.html"], "not_written"),
        (&["mg-00000000"], "unknown_run"),
        (&["nowhere"], "unknown_group"),
    ] {
        let refused = report(&lab, &nothing, arguments);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(&format!("({code})")) && stderr.contains("hint: "), "{stderr}");
    }
    lab.nobody_is_left().await;
}
