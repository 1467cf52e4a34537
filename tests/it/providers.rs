//! Providers × faults: the problem of a run whose model provider fails. Every cell has captured output of real MassGen, from which the
//! table in `docs/providers.md` is generated. Cells that end within seconds also run on real, warm MassGen against a stub with each
//! provider's wire format.

mod stub;

use std::fmt::Write as _;
use std::path::Path;

use futures_util::{StreamExt, stream};
use massgen_mcp::massgen::events;
use massgen_mcp::massgen::outcome::{OutcomeEvidence, outcome};
use massgen_mcp::massgen::reasons::RunOutput;
use massgen_mcp::run::{AgentDigest, Digest, Exit, Problem, Retry};
use massgen_mcp::secrets::Secrets;
use massgen_mcp::server::agent_words;
use serde_json::{Value, json};

use crate::lab::{Client, Lab};

const PROVIDERS: [&str; 6] = ["openai", "claude", "gemini", "grok", "chatcompletion", "azure_openai"];

/// The faults, in the order of the table.
pub(super) const FAULTS: [&str; 19] = [
    "bad_key",
    "no_credit",
    "no_credit_in_words",
    "unknown_model",
    "no_access",
    "context_too_long",
    "tokens_per_minute",
    "rate_limit",
    "quota",
    "overloaded_503",
    "overloaded_529",
    "error_500",
    "refused",
    "no_tls",
    "bad_certificate",
    "stream_cut",
    "not_json",
    "silence",
    "told_to_wait",
];

/// The description of a fault in the table.
fn description(fault: &str) -> &'static str {
    match fault {
        "bad_key" => "the key is refused",
        "no_credit" => "no credit: status 402",
        "no_credit_in_words" => "no credit: status 400 or 403, in words",
        "unknown_model" => "no such model or deployment",
        "no_access" => "no access to the model or service (403)",
        "context_too_long" => "the prompt is longer than the model's context",
        "tokens_per_minute" => "tokens per minute (429)",
        "rate_limit" => "requests per minute (429)",
        "quota" => "the account's quota",
        "overloaded_503" => "overloaded: 503",
        "overloaded_529" => "overloaded: 529",
        "error_500" => "error: 500",
        "refused" => "connection refused",
        "no_tls" => "https, and the server speaks plain http",
        "bad_certificate" => "a certificate that is not trusted",
        "stream_cut" => "the stream breaks off",
        "not_json" => "a web page in place of an answer",
        "silence" => "no answer until the timeout",
        "told_to_wait" => "429 with `retry-after` until the timeout",
        other => panic!("{other} has no description"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The output of real MassGen for a cell, captured with the same stub.
fn captured_output(provider: &str, fault: &str) -> String {
    let file = root().join("tests/data/providers").join(format!("{provider}.txt"));
    let text = std::fs::read_to_string(file).expect("captured");
    let section = text.split("\n=== ").find_map(|section| section.strip_prefix(&format!("{fault}\n")));
    section.unwrap_or_else(|| panic!("{provider} has no {fault}")).to_owned()
}

/// The problem of a run with one agent and this output.
fn problem_of(text: &str) -> Problem {
    let (events, stderr): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('{'));
    let agents = events::last_agent_text(&events.join("\n"), &Secrets::default());
    let digest = Digest { agents: vec![AgentDigest::default()], tokens: Some(0), ..Digest::default() };
    let stderr = stderr.join("\n");
    let text = RunOutput { stderr: &stderr, agent_text: agents.as_deref(), ..RunOutput::default() };
    let evidence =
        OutcomeEvidence { stop_cause: None, exit: Exit::Code(0), answer: None, digest: Some(&digest), output: text };
    outcome(&evidence).problem().expect("a problem").clone()
}

/// The expected code and retry of a cell.
fn expected(provider: &str, fault: &str) -> Problem {
    problem_of(&captured_output(provider, fault))
}

fn retry_label(retry: Option<Retry>) -> &'static str {
    match retry {
        Some(Retry::Now) => "now",
        Some(Retry::Later) => "later",
        Some(Retry::No) => "no",
        None => "not known",
    }
}

/// The tables of `docs/providers.md`.
fn tables() -> String {
    let mut text = format!("| fault | {} |\n|{}\n", PROVIDERS.join(" | "), " --- |".repeat(PROVIDERS.len() + 1));
    let mut codes: Vec<Problem> = Vec::new();
    for fault in FAULTS {
        let row = PROVIDERS.map(|provider| expected(provider, fault));
        let cells: Vec<String> = row.iter().map(|problem| format!("`{}`", problem.code)).collect();
        writeln!(text, "| {} | {} |", description(fault), cells.join(" | ")).expect("written");
        for problem in row {
            if !codes.iter().any(|known| (&known.code, &known.next) == (&problem.code, &problem.next)) {
                codes.push(problem);
            }
        }
    }
    text.push_str("\n| code | does a retry help? | what to do next |\n| --- | --- | --- |\n");
    for problem in codes {
        writeln!(text, "| `{}` | {} | {} |", problem.code, retry_label(problem.retry), agent_words(&problem.next))
            .expect("written");
    }
    text
}

#[test]
fn the_documented_table_matches_the_captured_output() {
    let path = root().join("docs/providers.md");
    let text = std::fs::read_to_string(&path).expect("document");
    let (before, rest) = text.split_once("<!-- tables -->\n").expect("the beginning of the tables");
    let (table, after) = rest.split_once("<!-- tables end -->").expect("the end of the tables");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}<!-- tables -->\n{}<!-- tables end -->{after}", tables()))
            .expect("written");
    } else {
        assert_eq!(table, tables(), "UPDATE_GOLDEN=1 rewrites it");
    }
}

/// Advice that must not appear, whatever the captured output is.
#[test]
fn no_cell_gives_wrong_advice() {
    for provider in PROVIDERS {
        for fault in FAULTS {
            let problem = expected(provider, fault);
            let cell = format!("{provider} × {fault}: {problem:?}");
            assert!(!matches!(problem.code.as_str(), "agents_failed" | "crashed" | "massgen_timeout"), "{cell}");
            let fails_again = !matches!(
                fault,
                "rate_limit"
                    | "tokens_per_minute"
                    | "overloaded_503"
                    | "overloaded_529"
                    | "error_500"
                    | "refused"
                    | "stream_cut"
                    | "silence"
                    | "told_to_wait"
            );
            assert!(!(fails_again && problem.retry == Some(Retry::Later)), "{cell}");
            let of_the_account = matches!(fault, "bad_key" | "no_credit" | "no_credit_in_words" | "quota");
            assert!(!(of_the_account && agent_words(&problem.next).contains("model's name")), "{cell}");
            let of_the_model = matches!(fault, "unknown_model" | "no_access" | "context_too_long");
            assert!(!of_the_model || agent_words(&problem.next).contains("model"), "{cell}");
            let is_telling = fault != "context_too_long"
                || problem.message.contains("context")
                || problem.message.contains("maximum");
            assert!(is_telling, "{cell}");
            let under_a_timeout = matches!(fault, "silence" | "told_to_wait");
            assert!(!under_a_timeout || problem.message.contains("time"), "{cell}");
        }
    }
}

/// Whether CI runs the cell on real MassGen. It skips cells that take minutes (the Gemini backend makes three rounds of five tries with
/// pauses of up to a minute) and the certificate fault (the stub has no certificate).
fn runs_in_ci(provider: &str, fault: &str) -> bool {
    let takes_minutes =
        provider == "gemini" && matches!(fault, "tokens_per_minute" | "rate_limit" | "quota" | "overloaded_503");
    !takes_minutes && fault != "bad_certificate"
}

fn config(provider: &str, fault: &str, stub: &str) -> String {
    let base = address(fault, stub);
    let address = match provider {
        "claude" | "gemini" => String::new(),
        "azure_openai" => format!("base_url: {base}/{provider}"),
        _ => format!("base_url: {base}/{provider}/v1"),
    };
    let timeout = if matches!(fault, "silence" | "told_to_wait") { 8 } else { 60 };
    format!(
        "agents:\n  - id: solo\n    backend:\n      type: {provider}\n      model: {}\n      {address}\n\
         timeout_settings:\n  orchestrator_timeout_seconds: {timeout}\n",
        stub::model(fault)
    )
}

fn address(fault: &str, stub: &str) -> String {
    match fault {
        "refused" => "http://127.0.0.1:9".to_owned(),
        "no_tls" => format!("https://{stub}"),
        _ => format!("http://{stub}"),
    }
}

/// A server with environment variables that lead to the stub, for providers whose address no config can set.
async fn client(lab: &Lab, fault: &str, stub: &str) -> Client {
    let base = address(fault, stub);
    let mut command = lab.command();
    command.env("MASSGEN_MCP_WARM", "true");
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "XAI_API_KEY", "AZURE_OPENAI_API_KEY"] {
        command.env(name, "of-no-worth");
    }
    command.env("ANTHROPIC_BASE_URL", format!("{base}/claude")).env("GOOGLE_GEMINI_BASE_URL", format!("{base}/gemini"));
    command.env("AZURE_OPENAI_API_VERSION", "2024-02-15-preview");
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
    lab.client_of(command).await
}

/// The number of concurrent runs.
const CONCURRENT_RUNS: usize = 12;

/// Runs a cell; returns the difference from the expected problem, if any.
async fn check_cell(lab: &Lab, client: &Client, provider: &str, fault: &str, stub: &str) -> Option<String> {
    let name = format!("{provider}-{fault}.yaml");
    lab.put(&name, &config(provider, fault, stub));
    let id = client.start(json!({"question": "What is 6*7?", "config": name})).await;
    let run = client.end(&id).await;
    let (expected, problem) = (expected(provider, fault), &run["problem"]);
    let of_timeout = matches!(fault, "silence" | "told_to_wait");
    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let retry = if expected.retry.is_some() { json!(retry_label(expected.retry)) } else { Value::Null };
    let matches = problem["code"] == expected.code.as_str()
        && problem["retry"] == retry
        && full["runs"][0]["problem"]["provider"].as_str().is_some_and(|provider| !provider.is_empty())
        && run["state"] == if of_timeout { "timed_out" } else { "failed" };
    (!matches).then(|| format!("{provider} × {fault}: {run}, not {}", expected.code))
}

#[tokio::test]
async fn real_massgen_matches_the_table_for_each_provider_and_fault() {
    let lab = Lab::real().await;
    let (stub, calls) = stub::serve().await;
    let [default, refused, no_tls] = ["bad_key", "refused", "no_tls"].map(|fault| client(&lab, fault, &stub));
    let (default, refused, no_tls) = (default.await, refused.await, no_tls.await);
    let cells = PROVIDERS.iter().flat_map(|provider| FAULTS.map(|fault| (*provider, fault)));
    let cells: Vec<_> = cells.filter(|(provider, fault)| runs_in_ci(provider, fault)).collect();
    let runs = cells.iter().map(|(provider, fault)| {
        let client = match *fault {
            "refused" => &refused,
            "no_tls" => &no_tls,
            _ => &default,
        };
        check_cell(&lab, client, provider, fault, &stub)
    });
    let wrong: Vec<String> =
        stream::iter(runs).buffer_unordered(CONCURRENT_RUNS).filter_map(|wrong| async { wrong }).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (provider, fault) in cells {
        let count = calls.lock().expect("counts").get(&(provider.to_owned(), fault)).copied().unwrap_or_default();
        let is_heard = !matches!(fault, "refused" | "no_tls");
        assert_eq!(count > 0, is_heard, "{provider} × {fault} reached the stub {count} times");
    }
    for client in [default, refused, no_tls] {
        client.close().await;
    }
    lab.nobody_is_left().await;
}
