//! The endpoint itself: two routes, and the faults that a script can ask for.
//!
//! The only file of this room that knows axum. It holds no lock while it waits, and it gives up every wait when the endpoint
//! closes, so that nothing of a rehearsal outlives its owner.

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

/// MassGen sends every answer to every agent, and answers may be long.
const MAX_BODY_BYTES: usize = 64 << 20;

/// What the calls share.
#[derive(Debug, Clone)]
pub(super) struct EndpointState {
    call_count: Arc<AtomicUsize>,
    /// The models that have asked for their command. MassGen restarts an agent's conversation, so a request alone can't tell.
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

/// Serves until the endpoint's owner lets go of it.
pub(super) async fn serve_until_closed(listener: TcpListener, stage: EndpointState) {
    let closed = wait_for_close(stage.closing.clone());
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/models", get(async || Json(openai::model_list(MODEL_PREFIX))))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(stage);
    // axum's server retries whatever accepting a connection can fail with, so there is no error to tell anyone of.
    let _served = axum::serve(listener, routes).with_graceful_shutdown(closed).await;
}

async fn wait_for_close(mut closing: watch::Receiver<()>) {
    // Nothing is ever sent: the only news is that the sender is gone.
    while closing.changed().await.is_ok() {}
}

async fn chat_completions(
    State(stage): State<EndpointState>,
    asked: Result<Json<ChatRequest>, JsonRejection>,
) -> Response {
    let number = stage.call_count.fetch_add(1, Ordering::Relaxed) + 1;
    let closed = wait_for_close(stage.closing.clone());
    let reply = async {
        match asked {
            Ok(Json(request)) => reply(&stage, request, number).await,
            Err(rejection) => error_response(rejection.status().as_u16(), &rejection.body_text()),
        }
    };
    tokio::select! {
        response = reply => response,
        () = closed => error_response(503, "the rehearsal is over"),
    }
}

async fn reply(stage: &EndpointState, request: ChatRequest, number: usize) -> Response {
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
    let history = CallHistory { number, has_commanded: stage.has_commanded(&request.model) };
    let line = model::plan_reply(&script, &request, history);
    sleep(reply_delay(&script, line.kind)).await;
    if line.kind == ReplyKind::Command {
        stage.record_command(&request.model);
    }
    let streams = request.wants_stream();
    let reply = Reply { number, model: request.model, content: line.content, usage: script.usage };
    respond(reply, streams, script.behavior == Behavior::DropStream)
}

fn reply_delay(script: &Script, kind: ReplyKind) -> Duration {
    match kind {
        ReplyKind::Presentation => script.final_delay,
        ReplyKind::Command | ReplyKind::Answer | ReplyKind::Vote | ReplyKind::TextOnly | ReplyKind::MetaAgent => {
            Duration::ZERO
        }
    }
}

fn respond(reply: Reply, streams: bool, drops: bool) -> Response {
    match (streams, drops) {
        (true, true) => Sse::new(truncated_stream(reply)).into_response(),
        (true, false) => Sse::new(complete_stream(reply)).into_response(),
        // Without a stream there is no middle to stop in, so the reply ends before its body has begun.
        (false, true) => {
            axum::body::Body::from_stream(stream::iter([Err::<String, _>(stream_error())])).into_response()
        }
        (false, false) => Json(reply.to_completion()).into_response(),
    }
}

fn complete_stream(reply: Reply) -> impl Stream<Item = io::Result<Event>> + Send + 'static {
    stream::iter(events(reply).chain([Ok(Event::default().data("[DONE]"))]))
}

/// The server throws away what it has not sent yet when a stream fails, so the beginning gets a moment to leave.
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
