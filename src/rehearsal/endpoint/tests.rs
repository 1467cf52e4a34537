//! Tests of the endpoint over a real socket. The client writes plain text over TCP, so the tests need no HTTP client.

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

/// Sends a request; gives the response up to the end of the connection.
async fn send(rehearsal: &Rehearsal, head: &str, body: &str) -> String {
    timeout(LIMIT, exchange(rehearsal, head, body)).await.unwrap()
}

async fn exchange(rehearsal: &Rehearsal, head: &str, body: &str) -> String {
    let address = rehearsal.base_url().replace("http://", "").replace("/v1", "");
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

async fn ask(rehearsal: &Rehearsal, model: &str, streams: bool) -> String {
    let user = "<ORIGINAL MESSAGE> Why? <END OF ORIGINAL MESSAGE>\n<CURRENT ANSWERS from the agents>\n<END OF CURRENT ANSWERS>";
    let tools: Vec<Value> =
        ["new_answer", "vote"].iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
    let body =
        json!({"model": model, "stream": streams, "tools": tools, "messages": [{"role": "user", "content": user}]});
    send(rehearsal, "POST /v1/chat/completions", &body.to_string()).await
}

#[tokio::test]
async fn a_stream_ends_with_the_usage_and_done() {
    let rehearsal = serve().await.unwrap();
    let answer = ask(&rehearsal, "rehearsal/tokens=7,5/chars=5000", true).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/event-stream"), "{answer}");
    let data: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let usage: Value = serde_json::from_str(data[data.len() - 2]).unwrap();
    assert_eq!((&usage["usage"]["prompt_tokens"], &usage["usage"]["total_tokens"]), (&json!(7), &json!(12)));
    assert_eq!(rehearsal.call_count(), 1);
}

#[tokio::test]
async fn a_reply_without_a_stream_is_one_object() {
    let rehearsal = serve().await.unwrap();
    let answer = ask(&rehearsal, "rehearsal", false).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let reply: Value = serde_json::from_str(body).unwrap();
    assert_eq!(reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "new_answer");
}

#[tokio::test]
async fn an_error_has_the_format_of_openai() {
    let rehearsal = serve().await.unwrap();
    let refused = [
        ("rehearsal/status=429", "429", "rate_limit_error"),
        ("gpt-5", "404", "rehearsal"),
        ("rehearsal/hnag", "404", "never-vote"),
    ];
    for (model, status, part) in refused {
        let answer = ask(&rehearsal, model, true).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{answer}");
    }
    let answer = send(&rehearsal, "POST /v1/chat/completions", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("invalid_request_error"), "{answer}");
    assert_eq!(rehearsal.call_count(), 4);
}

#[tokio::test]
async fn a_dropped_stream_ends_in_the_middle() {
    let rehearsal = serve().await.unwrap();
    let answer = ask(&rehearsal, "rehearsal/drop", true).await;
    assert!(answer.contains("new_answer") && !answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let answer = ask(&rehearsal, "rehearsal/drop", false).await;
    assert!(!answer.contains("new_answer"), "{answer}");
}

#[tokio::test]
async fn a_delay_postpones_the_reply() {
    let rehearsal = serve().await.unwrap();
    let sent_at = Instant::now();
    ask(&rehearsal, "rehearsal/delay=0.2", true).await;
    assert!(sent_at.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn closing_cancels_hanging_and_delayed_replies() {
    for model in ["rehearsal/hang", "rehearsal/delay=3600"] {
        let rehearsal = serve().await.unwrap();
        let calls = Arc::clone(&rehearsal.call_count);
        let address = rehearsal.address;
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
        drop(rehearsal);
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn the_one_model_is_listed() {
    let rehearsal = serve().await.unwrap();
    let answer = send(&rehearsal, "GET /v1/models", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""id":"rehearsal""#), "{answer}");
    assert_eq!(rehearsal.call_count(), 0);
}
