//! The endpoint over a real socket. The client is a few lines of text over TCP, so that the tests need no HTTP client.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::rehearsal::{Rehearsal, serve};

const LIMIT: Duration = Duration::from_secs(20);

/// Everything that comes back until the endpoint closes the connection.
async fn send(open: &Rehearsal, head: &str, body: &str) -> String {
    timeout(LIMIT, exchange(open, head, body)).await.unwrap()
}

async fn exchange(open: &Rehearsal, head: &str, body: &str) -> String {
    let address = open.base_url().replace("http://", "").replace("/v1", "");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let length = body.len();
    let text = format!(
        "{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn ask(open: &Rehearsal, model: &str, streams: bool) -> String {
    let user = "<ORIGINAL MESSAGE> Why? <END OF ORIGINAL MESSAGE>\n<CURRENT ANSWERS from the agents>\n<END OF CURRENT ANSWERS>";
    let tools: Vec<Value> =
        ["new_answer", "vote"].iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
    let body =
        json!({"model": model, "stream": streams, "tools": tools, "messages": [{"role": "user", "content": user}]});
    send(open, "POST /v1/chat/completions", &body.to_string()).await
}

#[tokio::test]
async fn a_stream_ends_with_the_usage_and_done() {
    let open = serve().await.unwrap();
    let answer = ask(&open, "rehearsal/tokens=7,5/chars=5000", true).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/event-stream"), "{answer}");
    let data: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let usage: Value = serde_json::from_str(data[data.len() - 2]).unwrap();
    assert_eq!((&usage["usage"]["prompt_tokens"], &usage["usage"]["total_tokens"]), (&json!(7), &json!(12)));
    assert_eq!(open.call_count(), 1);
}

#[tokio::test]
async fn a_reply_can_come_whole() {
    let open = serve().await.unwrap();
    let answer = ask(&open, "rehearsal", false).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let reply: Value = serde_json::from_str(body).unwrap();
    assert_eq!(reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "new_answer");
}

#[tokio::test]
async fn an_error_is_worded_as_openai_does() {
    let open = serve().await.unwrap();
    let refused = [
        ("rehearsal/status=429", "429", "rate_limit_error"),
        ("gpt-5", "404", "rehearsal"),
        ("rehearsal/hnag", "404", "never-vote"),
    ];
    for (model, status, told) in refused {
        let answer = ask(&open, model, true).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(told), "{answer}");
    }
    let answer = send(&open, "POST /v1/chat/completions", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("invalid_request_error"), "{answer}");
    assert_eq!(open.call_count(), 4);
}

#[tokio::test]
async fn a_dropped_stream_has_begun_and_not_ended() {
    let open = serve().await.unwrap();
    let answer = ask(&open, "rehearsal/drop", true).await;
    assert!(answer.contains("new_answer") && !answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let answer = ask(&open, "rehearsal/drop", false).await;
    assert!(!answer.contains("new_answer"), "{answer}");
}

#[tokio::test]
async fn a_delay_holds_the_reply_back() {
    let open = serve().await.unwrap();
    let asked = Instant::now();
    ask(&open, "rehearsal/delay=0.2", true).await;
    assert!(asked.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn closing_ends_what_hangs_and_what_waits() {
    for model in ["rehearsal/hang", "rehearsal/delay=3600"] {
        let open = serve().await.unwrap();
        let calls = Arc::clone(&open.call_count);
        let address = open.address;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = json!({"model": model, "messages": []}).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}",
            body.len()
        );
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let arrived = async {
            while calls.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, arrived).await.unwrap();
        drop(open);
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn the_one_model_is_listed() {
    let open = serve().await.unwrap();
    let answer = send(&open, "GET /v1/models", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""id":"rehearsal""#), "{answer}");
    assert_eq!(open.call_count(), 0);
}
