//! The rehearsal: a built-in scripted model behind an OpenAI-compatible endpoint, on loopback only.
//!
//! It lets real MassGen finish a run offline, without a key and at no cost, and lets a test or a doctor make things go wrong on
//! purpose. What the model does is written in its name (see [`Script`]), so each agent of a config can have its own part.
//! It knows MassGen's requests only as far as it must to answer them, it never leaves 127.0.0.1, and it never reads or writes a
//! file or starts a process.

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

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// No port of the loopback address was to be had.
    #[error("cannot listen on `127.0.0.1` for the rehearsal model")]
    Listen {
        /// What the system said.
        source: io::Error,
    },
}

/// An open endpoint. It serves until this is dropped; replies that are still being held back are then given up.
#[derive(Debug)]
#[must_use = "the endpoint closes when this is dropped"]
pub struct Rehearsal {
    address: SocketAddr,
    call_count: Arc<AtomicUsize>,
    /// Dropping it is the sign to close: the listener, the idle connections and the replies that wait all watch it.
    _shutdown: watch::Sender<()>,
}

impl Rehearsal {
    /// What a config's `base_url` has to say: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many chat completions were asked for so far, the refused ones and the unanswered ones among them.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.call_count.load(Ordering::Relaxed)
    }
}

/// Opens the endpoint on a free port of 127.0.0.1. It is served by a task of the runtime that calls this.
///
/// # Errors
///
/// When no port can be bound.
pub async fn serve() -> Result<Rehearsal, RehearsalError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|source| RehearsalError::Listen { source })?;
    let address = listener.local_addr().map_err(|source| RehearsalError::Listen { source })?;
    let (open, closing) = watch::channel(());
    let calls = Arc::new(AtomicUsize::new(0));
    let stage = endpoint::EndpointState::new(Arc::clone(&calls), closing);
    tokio::spawn(endpoint::serve_until_closed(listener, stage));
    Ok(Rehearsal { address, call_count: calls, _shutdown: open })
}
