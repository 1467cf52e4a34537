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
    play::{self, History, Kind},
    script::{MODEL, Manner, Script},
    wire::{self, Reply, Request},
};

/// MassGen sends every answer to every agent, and answers may be long.
const MOST_BODY: usize = 64 << 20;

/// What the calls share.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    calls: Arc<AtomicUsize>,
    /// The models that have asked for their command. MassGen restarts an agent's conversation, so a request alone can't tell.
    commanded: Arc<Mutex<HashSet<String>>>,
    closing: watch::Receiver<()>,
}

impl Stage {
    pub(super) fn new(calls: Arc<AtomicUsize>, closing: watch::Receiver<()>) -> Self {
        Self { calls, commanded: Arc::default(), closing }
    }

    fn commanded(&self, model: &str) -> bool {
        self.commanded.lock().unwrap_or_else(PoisonError::into_inner).contains(model)
    }

    fn note_command(&self, model: &str) {
        self.commanded.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned());
    }
}

/// Serves until the endpoint's owner lets go of it.
pub(super) async fn run(listener: TcpListener, stage: Stage) {
    let closed = closed(stage.closing.clone());
    let routes = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(async || Json(wire::models(MODEL))))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(stage);
    // axum's server retries whatever accepting a connection can fail with, so there is no error to tell anyone of.
    let _served = axum::serve(listener, routes).with_graceful_shutdown(closed).await;
}

async fn closed(mut closing: watch::Receiver<()>) {
    // Nothing is ever sent: the only news is that the sender is gone.
    while closing.changed().await.is_ok() {}
}

async fn complete(State(stage): State<Stage>, asked: Result<Json<Request>, JsonRejection>) -> Response {
    let number = stage.calls.fetch_add(1, Ordering::Relaxed) + 1;
    let closed = closed(stage.closing.clone());
    let reply = async {
        match asked {
            Ok(Json(request)) => reply(&stage, request, number).await,
            Err(rejection) => refuse(rejection.status().as_u16(), &rejection.body_text()),
        }
    };
    tokio::select! {
        response = reply => response,
        () = closed => refuse(503, "the rehearsal is over"),
    }
}

async fn reply(stage: &Stage, request: Request, number: usize) -> Response {
    let script = match Script::parse(&request.model) {
        Ok(script) => script,
        Err(error) => return refuse(404, &error.to_string()),
    };
    sleep(script.delay).await;
    match script.manner {
        Manner::Refuses(status) => {
            return refuse(status, &format!("the rehearsal was told to answer with status {status}"));
        }
        Manner::Hangs => return std::future::pending().await,
        Manner::Willing | Manner::Drops | Manner::NeverVotes | Manner::TextOnly => {}
    }
    let history = History { number, commanded: stage.commanded(&request.model) };
    let line = play::line(&script, &request, history);
    sleep(held_back(&script, line.kind)).await;
    if line.kind == Kind::Command {
        stage.note_command(&request.model);
    }
    let streams = request.streams();
    let reply = Reply { number, model: request.model, speech: line.speech, usage: script.usage };
    perform(reply, streams, script.manner == Manner::Drops)
}

fn held_back(script: &Script, kind: Kind) -> Duration {
    match kind {
        Kind::Presentation => script.final_delay,
        Kind::Command | Kind::Answer | Kind::Vote | Kind::Talk | Kind::Lead => Duration::ZERO,
    }
}

fn perform(reply: Reply, streams: bool, drops: bool) -> Response {
    match (streams, drops) {
        (true, true) => Sse::new(beginning(reply)).into_response(),
        (true, false) => Sse::new(whole(reply)).into_response(),
        // Without a stream there is no middle to stop in, so the reply ends before its body has begun.
        (false, true) => axum::body::Body::from_stream(stream::iter([Err::<String, _>(broken())])).into_response(),
        (false, false) => Json(reply.whole()).into_response(),
    }
}

fn whole(reply: Reply) -> impl Stream<Item = io::Result<Event>> + Send + 'static {
    stream::iter(events(reply).chain([Ok(Event::default().data("[DONE]"))]))
}

/// The server throws away what it has not sent yet when a stream fails, so the beginning gets a moment to leave.
fn beginning(reply: Reply) -> impl Stream<Item = io::Result<Event>> + Send + 'static {
    let failure = async {
        sleep(Duration::from_millis(50)).await;
        Err(broken())
    };
    stream::iter(events(reply).take(2)).chain(stream::once(failure))
}

fn events(reply: Reply) -> impl Iterator<Item = io::Result<Event>> + Send + 'static {
    reply.chunks().map(|chunk| Ok(Event::default().data(chunk.to_string())))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the rehearsal was told to drop the stream")
}

fn refuse(status: u16, message: &str) -> Response {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Json(wire::refusal(status, message))).into_response()
}

#[cfg(test)]
mod tests;
