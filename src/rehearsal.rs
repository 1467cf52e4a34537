//! The rehearsal: a built-in scripted model behind an OpenAI-compatible endpoint, on loopback only.
//!
//! With it, real MassGen can finish a run offline, without a key and at no cost, and tests can cause faults on purpose. The
//! model's name contains its script (see [`Script`]), so each agent of a config can have its own script.
//! It parses MassGen's requests only as far as necessary, listens only on 127.0.0.1, reads and writes no file, and starts no
//! process.

mod config;
mod endpoint;
mod model;
mod openai;
mod script;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{net::TcpListener, sync::watch};

pub use config::{NAME, check_name, config_yaml, is_rehearsal};
pub use script::{DIRECTIVES, Script, ScriptError, directive_words};

/// The endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// No port of the loopback address could be bound.
    #[error("cannot listen on `127.0.0.1` for the rehearsal model")]
    Listen {
        /// The cause.
        source: io::Error,
    },
}

/// An open endpoint. It serves until this is dropped; delayed replies are cancelled then.
#[derive(Debug)]
#[must_use = "the endpoint closes when this is dropped"]
pub struct Rehearsal {
    address: SocketAddr,
    call_count: Arc<AtomicUsize>,
    /// Dropping it closes the endpoint: the listener, the idle connections and the delayed replies watch it.
    _shutdown: watch::Sender<()>,
}

impl Rehearsal {
    /// The `base_url` for a config: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The number of requested chat completions so far, including refused and unanswered ones.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.call_count.load(Ordering::Relaxed)
    }
}

/// Opens the endpoint on a free port of 127.0.0.1. A task of the current runtime serves it.
///
/// # Errors
///
/// If no port can be bound.
pub async fn serve() -> Result<Rehearsal, RehearsalError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|source| RehearsalError::Listen { source })?;
    let address = listener.local_addr().map_err(|source| RehearsalError::Listen { source })?;
    let (shutdown, closing) = watch::channel(());
    let calls = Arc::new(AtomicUsize::new(0));
    let state = endpoint::EndpointState::new(Arc::clone(&calls), closing);
    tokio::spawn(endpoint::serve_until_closed(listener, state));
    Ok(Rehearsal { address, call_count: calls, _shutdown: shutdown })
}
