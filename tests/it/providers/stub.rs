//! A stub of the model providers. The model's name selects the fault; the stub answers with the provider's own response
//! (`tests/data/providers/bodies.json`) and counts the calls. It uses no HTTP library, because half of the faults are invalid HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::FAULTS;

/// The number of calls by provider and fault.
pub(super) type Calls = Arc<Mutex<BTreeMap<(String, &'static str), u32>>>;

/// Serves until the test's runtime ends; returns the address and the counters.
pub(super) async fn serve() -> (String, Calls) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let (address, calls) = (listener.local_addr().expect("address").to_string(), Calls::default());
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, Arc::clone(&counted)));
        }
    });
    (address, calls)
}

/// The model name that selects this fault. It does not contain the fault's name, because providers repeat model names in their errors.
pub(super) fn model(fault: &str) -> String {
    let index = FAULTS.iter().position(|known| *known == fault).expect("a fault");
    format!("stub-{index:02}")
}

async fn answer(mut connection: TcpStream, calls: Calls) -> Option<()> {
    if connection.peek(&mut [0; 1]).await.ok()? == 1 && is_tls(&connection).await {
        return send(&mut connection, 400, "text/plain", "", "no TLS here").await;
    }
    let (head, body) = request(&mut connection).await?;
    let provider = head.split('/').nth(1)?.to_owned();
    let text = format!("{head}{body}");
    let fault = text.split("stub-").nth(1).and_then(|rest| FAULTS.get(rest.get(..2)?.parse::<usize>().ok()?))?;
    *calls.lock().expect("counts").entry((provider.clone(), fault)).or_default() += 1;
    match *fault {
        "silence" => std::future::pending().await,
        "not_json" => {
            send(&mut connection, 200, "text/html", "", "<html><body>Welcome to the proxy</body></html>").await
        }
        "stream_cut" => connection.write_all(truncated_stream(&provider).as_bytes()).await.ok(),
        _ => fail(&mut connection, &provider, fault).await,
    }
}

async fn is_tls(connection: &TcpStream) -> bool {
    let mut first = [0; 1];
    connection.peek(&mut first).await.is_ok_and(|read| read == 1 && first[0] == 0x16)
}

async fn request(connection: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() - head.len() - 4 >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn fail(connection: &mut TcpStream, provider: &str, fault: &str) -> Option<()> {
    let bodies: Value = serde_json::from_str(include_str!("../../data/providers/bodies.json")).expect("JSON");
    let waits = fault == "told_to_wait";
    let known = &bodies[provider][if waits { "rate_limit" } else { fault }];
    let body = known["body"].to_string().replace("{M}", &model(fault));
    let status = known["status"].as_u64()?;
    send(connection, status, "application/json", if waits { "retry-after: 30\r\n" } else { "" }, &body).await
}

async fn send(connection: &mut TcpStream, status: u64, kind: &str, headers: &str, body: &str) -> Option<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Stub\r\ncontent-type: {kind}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    connection.write_all((head + body).as_bytes()).await.ok()?;
    connection.shutdown().await.ok()
}

/// The start of a valid streamed answer without its end.
fn truncated_stream(provider: &str) -> String {
    let event = match provider {
        "openai" | "grok" => {
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hel\"}\n\n"
        }
        "claude" => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n"
        }
        "gemini" => "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}],\"role\":\"model\"}}]}\n\n",
        _ => {
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n"
        }
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{event}\r\n", event.len())
}
