//! The HTTP endpoint: two routes, and the faults that a script can request.
//!
//! The only file that uses axum. It holds no lock while it waits, and cancels every wait when the endpoint closes, so that no
//! part of a rehearsal outlives its owner.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, sync::watch, time::sleep};

use super::{
    model::{self, CallHistory, ReplyKind},
    openai::{self, ChatRequest, Reply},
    script::{Behavior, MODEL_PREFIX, Script},
};

/// The largest request: MassGen sends every answer to every agent, and answers may be long.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The state that the calls share.
#[derive(Debug, Clone)]
pub(super) struct EndpointState {
    call_count: Arc<AtomicUsize>,
    /// The models that have called their command. A request does not show this, because MassGen restarts conversations.
    models_with_command: Arc<Mutex<HashSet<String>>>,
    closing: watch::Receiver<()>,
}

impl EndpointState {
    pub(super) fn new(calls: Arc<AtomicUsize>, closing: watch::Receiver<()>) -> Self {
        Self { call_count: calls, models_with_command: Arc::default(), closing }
    }

    fn has_commanded(&self, model: &str) -> bool {
        self.models_with_command.lock().unwrap_or_else(PoisonError::into_inner).contains(model)
    }

    fn record_command(&self, model: &str) {
        self.models_with_command.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned());
    }
}

/// Serves until the endpoint's owner drops it.
pub(super) async fn serve_until_closed(listener: TcpListener, state: EndpointState) {
    let closed = wait_for_close(state.closing.clone());
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/models", get(async || Json(openai::model_list(MODEL_PREFIX))))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(state);
    // axum's server retries failed accepts, so it returns no error.
    let _served = axum::serve(listener, routes).with_graceful_shutdown(closed).await;
}

async fn wait_for_close(mut closing: watch::Receiver<()>) {
    // No value is ever sent: the only event is that the sender was dropped.
    while closing.changed().await.is_ok() {}
}

async fn chat_completions(
    State(state): State<EndpointState>,
    parsed: Result<Json<ChatRequest>, JsonRejection>,
) -> Response {
    let number = state.call_count.fetch_add(1, Ordering::Relaxed) + 1;
    let closed = wait_for_close(state.closing.clone());
    let reply = async {
        match parsed {
            Ok(Json(request)) => reply(&state, request, number).await,
            Err(rejection) => error_response(rejection.status().as_u16(), &rejection.body_text()),
        }
    };
    tokio::select! {
        response = reply => response,
        () = closed => error_response(503, "the rehearsal is over"),
    }
}

async fn reply(state: &EndpointState, request: ChatRequest, number: usize) -> Response {
    let script = match Script::parse(&request.model) {
        Ok(script) => script,
        Err(error) => return error_response(404, &error.to_string()),
    };
    sleep(script.delay).await;
    match script.behavior {
        Behavior::HttpError(status) => {
            return error_response(status, &format!("the rehearsal was told to answer with status {status}"));
        }
        Behavior::Hang => return std::future::pending().await,
        Behavior::Cooperative | Behavior::DropStream | Behavior::NeverVote | Behavior::TextOnly => {}
    }
    let history = CallHistory { number, has_commanded: state.has_commanded(&request.model) };
    let planned = model::plan_reply(&script, &request, history);
    sleep(reply_delay(&script, planned.kind)).await;
    if planned.kind == ReplyKind::Command {
        state.record_command(&request.model);
    }
    let is_streamed = request.wants_stream();
    let reply = Reply { number, model: request.model, content: planned.content, usage: script.usage };
    respond(reply, is_streamed, script.behavior == Behavior::DropStream)
}

fn reply_delay(script: &Script, kind: ReplyKind) -> Duration {
    match kind {
        ReplyKind::Presentation => script.final_delay,
        ReplyKind::Command | ReplyKind::Answer | ReplyKind::Vote | ReplyKind::TextOnly | ReplyKind::MetaAgent => {
            Duration::ZERO
        }
    }
}

fn respond(reply: Reply, is_streamed: bool, is_truncated: bool) -> Response {
    match (is_streamed, is_truncated) {
        (true, true) => Sse::new(truncated_stream(reply)).into_response(),
        (true, false) => Sse::new(complete_stream(reply)).into_response(),
        // A reply without a stream has no middle, so it ends before its body begins.
        (false, true) => {
            axum::body::Body::from_stream(stream::iter([Err::<String, _>(stream_error())])).into_response()
        }
        (false, false) => Json(reply.to_completion()).into_response(),
    }
}

fn complete_stream(reply: Reply) -> impl Stream<Item = io::Result<Event>> + Send + 'static {
    stream::iter(events(reply).chain([Ok(Event::default().data("[DONE]"))]))
}

/// The beginning of a stream, then an error. When a stream fails, the server drops unsent data, so the error comes 50 ms later.
fn truncated_stream(reply: Reply) -> impl Stream<Item = io::Result<Event>> + Send + 'static {
    let failure = async {
        sleep(Duration::from_millis(50)).await;
        Err(stream_error())
    };
    stream::iter(events(reply).take(2)).chain(stream::once(failure))
}

fn events(reply: Reply) -> impl Iterator<Item = io::Result<Event>> + Send + 'static {
    reply.into_chunks().map(|chunk| Ok(Event::default().data(chunk.to_string())))
}

fn stream_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the rehearsal was told to drop the stream")
}

fn error_response(status: u16, message: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Json(openai::error_body(status, message))).into_response()
}

#[cfg(test)]
mod tests;
