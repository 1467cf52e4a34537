//! Long answers in clients that truncate: the test applies each client's own truncation to the server's answers, and the pages are
//! still complete.

use massgen_mcp::massgen::pages::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::lab::{Client, Lab, fake};
use crate::raw::Raw;

/// A client: its name, its protocol version, and the function from a result to what its model sees.
type ClientView = (&'static str, &'static str, fn(&Value) -> Value);

/// The limits as measured with the clients themselves.
const CLIENTS: [ClientView; 7] = [
    ("@cline/core", "2024-11-05", |result| {
        answer_of_result(&parse(&truncate_middle(&result.to_string(), 8_000, utf16_len)))
    }),
    ("codex-mcp-client", "2025-06-18", |result| {
        parse(&truncate_middle(&content(result).to_string(), 12_000, str::len))
    }),
    ("fast-agent-mcp", "2025-11-25", |result| {
        parse(&truncate_middle(&sorted(content(result)).to_string(), 16_000, str::len))
    }),
    ("qwen-cli-mcp-client-massgen", "2025-11-25", |result| {
        let (text, content) = (text(result), content(result).to_string());
        let all = if text == content { text.to_owned() } else { format!("{text}\n{content}") };
        parse(if utf16_len(&all) > 25_000 { &all[..2_000] } else { &all })
    }),
    ("claude-code", "2025-11-25", |result| {
        let content = content(result).to_string();
        let tokens = tiktoken_rs::o200k_base_singleton().encode_ordinary(&content).len();
        assert!(tokens <= 25_000, "{tokens} tokens are refused");
        parse(&content)
    }),
    ("gemini-cli-mcp-client", "2025-06-18", |result| parse(&truncate_middle(text(result), 40_000, utf16_len))),
    ("another", "2025-11-25", |result| parse(&truncate_middle(text(result), 20_000, utf16_len))),
];

fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Truncates the middle of a text that is longer than the client's limit.
fn truncate_middle(text: &str, limit: usize, length: fn(&str) -> usize) -> String {
    if length(text) <= limit {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let text = |chars: &[char]| chars.iter().collect::<String>();
    format!("{}[... truncated ...]{}", text(&chars[..limit / 8]), text(&chars[chars.len() - limit / 8..]))
}

fn parse(shown: &str) -> Value {
    serde_json::from_str(shown).unwrap_or_else(|error| panic!("the client truncated the answer: {error}: {shown:.300}"))
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}"))
}

fn content(result: &Value) -> &Value {
    &result["structuredContent"]
}

/// The answer in a result that the client shows completely, as JSON.
fn answer_of_result(result: &Value) -> Value {
    assert!(result.get("structuredContent").is_none(), "the answer is in the result twice: {result}");
    parse(text(result))
}

fn sorted(value: &Value) -> Value {
    let fields: std::collections::BTreeMap<_, _> = value.as_object().expect("object").iter().collect();
    json!(fields)
}

/// Calls a tool; returns what the client's model sees.
async fn shown_answer(raw: &mut Raw, show: fn(&Value) -> Value, tool: &str, arguments: Value) -> Value {
    let (answer, _) = raw.ask(1, "tools/call", json!({"name": tool, "arguments": arguments})).await;
    show(&answer["result"])
}

/// Texts of 90,000 characters whose JSON forms have very different lengths.
fn long_texts() -> Vec<(&'static str, String)> {
    let repeated = |pattern: &str| pattern.chars().cycle().take(90_000).collect::<String>();
    vec![
        ("prose", repeated("The quick brown fox jumps over the lazy dog. ")),
        ("quotes and lines", repeated("\"a\\b\"\n\t{\"k\": \"v\"}\r\n")),
        ("emoji and Chinese", repeated("🦀漢字é🎉 ")),
    ]
}

#[tokio::test]
async fn the_pages_of_a_long_answer_are_complete_for_every_client() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for (kind, answer_text) in long_texts() {
        let script = format!("announce\nraw {}", json!(format!("final agent_a {answer_text}")));
        let id = client.start(fake(&script)).await;
        assert_eq!(client.end(&id).await["state"], "succeeded", "{kind}");
        for (name, version, show) in CLIENTS {
            let mut raw = Raw::start(lab.command());
            raw.initialize_as(name, version, json!({})).await;
            // A model that requests a longer page gets no more than its client shows.
            for limit in if kind == "prose" { vec![None, Some(40_000)] } else { vec![None] } {
                let (mut read, mut offset, mut pages) = (String::new(), json!(0), 0);
                while !offset.is_null() {
                    let page = shown_answer(
                        &mut raw,
                        show,
                        "read_result",
                        json!({"run_id": id, "offset": offset, "limit": limit}),
                    )
                    .await;
                    read.push_str(page["text"].as_str().expect("text"));
                    let fields: Vec<_> = page.as_object().expect("page").keys().map(String::as_str).collect();
                    assert!(name == "fast-agent-mcp" || fields.last() == Some(&"text"), "{name}: {fields:?}");
                    offset = page["next_offset"].clone();
                    pages += 1;
                }
                assert!(read == answer_text, "{kind}, {name}: {} characters arrived", read.chars().count());
                assert!(pages > 2 && pages < 80, "{kind}, {name}: {pages} pages");
                let hash = hex(&Sha256::digest(&read));
                let first_page = shown_answer(&mut raw, show, "read_result", json!({"run_id": id, "limit": 1})).await;
                assert_eq!(
                    (&first_page["sha256"], &first_page["text"]),
                    (&json!(hash), &json!(answer_text.chars().next()))
                );
            }
            raw.end().await;
        }
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn lists_fit_the_client_limit() {
    let lab = Lab::fake();
    let long = "x".repeat(300);
    let team = |count: usize| -> String {
        let agent = |n: usize| format!("  - id: agent_{n}\n    backend: {{type: openai, model: gpt-5-{long}}}\n");
        format!("agents:\n{}", (0..count).map(agent).collect::<String>())
    };
    for number in 0..60 {
        lab.put(&format!("configs/team-{number}.yaml"), &team(8));
    }
    let client = lab.client().await;
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(client.start(fake(&format!("announce\nfinal agent_a {number}"))).await);
    }
    for id in &ids {
        client.end(id).await;
    }
    for (name, version, show) in CLIENTS {
        let mut raw = Raw::start(lab.command());
        raw.initialize_as(name, version, json!({})).await;
        let (mut listed, mut offset) = (Vec::new(), json!(0));
        while !offset.is_null() {
            let page =
                shown_answer(&mut raw, show, "list_configs", json!({"query": "team-", "limit": 50, "offset": offset}))
                    .await;
            let names = page["configs"].as_array().expect("configs").iter();
            listed.extend(
                names.map(|config| config["config"].as_str().or(config["name"].as_str()).expect("name").to_owned()),
            );
            offset = page["next_offset"].clone();
        }
        let all = listed.len();
        listed.dedup();
        assert_eq!((all, listed.len()), (60, 60), "{name}");
        let status = shown_answer(&mut raw, show, "check_status", json!({"run_ids": ids, "detail": "full"})).await;
        let listed = status["runs"].as_array().expect("runs").len();
        assert_eq!(listed as u64 + status["left_out"].as_u64().unwrap_or_default(), 50, "{name}");
        raw.end().await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}

/// A run with fifty failed agents, each with a long reason.
async fn a_large_run(client: &Client) -> String {
    let agent = |n: usize| {
        (format!("the_very_careful_agent_{n}"), json!({"status": "error", "error": {"message": "e".repeat(400)}}))
    };
    let status = json!({"agents": (0..50).map(agent).collect::<serde_json::Map<_, _>>()});
    let answers: String = (0..50).map(|n| format!("answer the_very_careful_agent_{n} {}\n", "x".repeat(300))).collect();
    let log = format!("log {} the last line", "\"l\" ".repeat(5_000));
    let script =
        format!("announce\n{log}\n{answers}status {status}\nfinal the_very_careful_agent_0 {}", "y".repeat(20_000));
    let id = client.start(fake(&script)).await;
    client.end(&id).await;
    id
}

/// The largest answers of every tool: each must fit the client's limit and say what it leaves out.
#[tokio::test]
async fn every_answer_fits_the_client_limit() {
    let lab = Lab::fake();
    let agents: String = (0..60)
        .map(|n| format!("  - id: agent_{n}\n    backend: {{type: openai, model: \"gpt-{}\"}}\n", "x".repeat(300)))
        .collect();
    lab.put("team.yaml", &format!("agents:\n{agents}"));
    let client = lab.client().await;
    let large = a_large_run(&client).await;
    // The clients with the smallest limits, one for each form and unit.
    for (number, (name, version, show)) in [CLIENTS[0], CLIENTS[1], CLIENTS[2]].into_iter().enumerate() {
        let mut command = lab.command();
        // Many runs are planned, but only two start.
        command.env("MASSGEN_MCP_MAX_RUNS", "2");
        let mut raw = Raw::start(command);
        raw.initialize_as(name, version, json!({})).await;
        let group = format!("group-{number}");
        let questions: Vec<String> =
            (0..40).map(|n| format!("#!fake\nannounce\nforever\n{n} {}", "q".repeat(300))).collect();
        let variants: Vec<Value> = (0..20).map(|n| json!({"ui": {"n": n, "text": "v".repeat(200)}})).collect();
        let calls = [
            ("check_status", json!({"run_id": large, "detail": "full"}), "details.agents"),
            ("check_status", json!({}), ""),
            ("read_result", json!({"run_id": large, "part": "report"}), ""),
            ("read_result", json!({"run_id": large, "part": "answers"}), "next_offset"),
            ("read_result", json!({"run_id": large, "part": "manifest"}), ""),
            ("read_result", json!({"run_id": large, "part": "errors"}), ""),
            ("run_massgen", json!({"question": "q", "config": "team.yaml", "dry_run": true}), ""),
            (
                "run_massgen",
                json!({"question": "q", "config": "team.yaml", "variants": variants, "dry_run": true}),
                "of arms",
            ),
            (
                "run_massgen",
                json!({"config": "@rehearsal", "questions": questions, "repeat": 10, "group": group, "budget_usd": 1}),
                "of run_ids",
            ),
            ("check_status", json!({"group": group, "detail": "full"}), ""),
            ("read_result", json!({"group": group}), ""),
            ("read_result", json!({"group": group, "part": "answers"}), ""),
            ("read_result", json!({"group": group, "part": "manifest"}), ""),
            ("kill_run", json!({"group": group, "grace_s": 0}), ""),
            ("list_configs", json!({"limit": 50}), ""),
        ];
        for (tool, arguments, left_out) in calls {
            let shown = shown_answer(&mut raw, show, tool, arguments.clone()).await;
            assert!(shown.is_object(), "{name}: the answer to {tool} {arguments:.300} is truncated");
            // Under the smallest limit something must be left out.
            assert!(
                name != "@cline/core" || shown.to_string().contains(left_out),
                "{name}: {tool} {arguments:.300}: {shown}"
            );
        }
        for part in ["", "/answer", "/log"] {
            let uri = format!("massgen://runs/{large}{part}");
            let (answer, _) = raw.ask(1, "resources/read", json!({"uri": uri})).await;
            let length = utf16_len(&answer["result"].to_string());
            assert!(name != "@cline/core" || length <= 8_000, "{uri}: {length}");
            let read = parse(answer["result"]["contents"][0]["text"].as_str().expect("text"));
            assert!(
                name != "@cline/core" || read["hint"].as_str().is_some_and(|hint| hint.contains("read_result")),
                "{read}"
            );
            assert!(
                part != "/log" || read["text"].as_str().is_some_and(|text| text.trim_end().ends_with("the last line")),
                "{read}"
            );
        }
        raw.end().await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_operator_sets_the_length_of_a_page() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake(&format!("announce\nfinal agent_a {}", "x".repeat(50_000)))).await;
    client.end(&id).await;
    for (name, page_chars, min, max) in [
        ("another", "5000", 4_000, 5_000),
        ("another", "40000", 38_000, 40_000),
        ("codex-mcp-client", "40000", 8_000, 9_000),
    ] {
        let mut command = lab.command();
        command.env("MASSGEN_MCP_PAGE_CHARS", page_chars);
        let mut raw = Raw::start(command);
        raw.initialize_as(name, "2025-11-25", json!({})).await;
        let (answer, _) = raw.ask(1, "tools/call", json!({"name": "read_result", "arguments": {"run_id": id}})).await;
        let length = text(&answer["result"]).len();
        assert!((min..=max).contains(&length), "{name} at {page_chars}: {length}");
        raw.end().await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn numbers_are_formatted_as_in_javascript() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let mut arguments = fake("announce");
    arguments["dry_run"] = json!(true);
    raw.call(1, "run_massgen", arguments).await;
    let line = raw.line().await;
    let answer = parse(&line);
    assert_eq!(answer["result"]["structuredContent"]["limits"]["budget_usd"].to_string(), "10", "{line}");
    assert!(!line.contains("10.0"), "{line}");
    assert_eq!(text(&answer["result"]), content(&answer["result"]).to_string());
    raw.end().await;
}
