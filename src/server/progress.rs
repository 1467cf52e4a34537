//! Progress notifications of a waiting call: if the request has a progress token, a line about the runs at each real
//! change and otherwise every five seconds. The progress number is the seconds waited, so it only grows. Nothing is
//! sent after the call is over.

use std::future::{Future, pending};
use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use tokio::time::Instant;

use super::context::ServerContext;
use super::{run_views, sanitize};
use crate::fleet::{Cursor, Selection, WaitUntil};
use crate::run::RunRecord;
use crate::view::{Detail, summary};

/// The interval between notifications while nothing changes. Clients that extend their timeout on progress wait for 30
/// seconds or more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The least time between two notifications: faster changes are combined.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Where to send progress of a wait.
pub(super) struct ProgressTarget {
    peer: Peer<RoleServer>,
    token: ProgressToken,
}

impl ProgressTarget {
    /// The target of a request; `None` without a progress token.
    pub(super) fn from_context(context: &RequestContext<RoleServer>) -> Option<ProgressTarget> {
        let token = context.meta.get_progress_token()?;
        Some(ProgressTarget { peer: context.peer.clone(), token })
    }
}

/// Waits, and reports the runs to the caller meanwhile. A wait of zero sends no progress.
pub(super) async fn report_while<T>(
    context: &ServerContext,
    target: Option<ProgressTarget>,
    selection: &Selection,
    timeout: Duration,
    waiting: impl Future<Output = T>,
) -> T {
    let Some(target) = target.filter(|_| !timeout.is_zero()) else { return waiting.await };
    let mut waiting = std::pin::pin!(waiting);
    let mut reporter = ProgressReporter::new(context, target, selection);
    loop {
        tokio::select! {
            biased;
            done = &mut waiting => return done,
            // Awaited, not raced: a notification must be sent before the response.
            runs = reporter.next_update() => reporter.send(&runs).await,
        }
    }
}

struct ProgressReporter<'a> {
    context: &'a ServerContext,
    target: ProgressTarget,
    selection: &'a Selection,
    started: Instant,
    last_sent: Option<Instant>,
    cursor: Option<Cursor>,
}

impl<'a> ProgressReporter<'a> {
    fn new(context: &'a ServerContext, target: ProgressTarget, selection: &'a Selection) -> ProgressReporter<'a> {
        ProgressReporter { context, target, selection, started: Instant::now(), last_sent: None, cursor: None }
    }

    /// Returns the runs when there is something to report. Cancel-safe.
    async fn next_update(&mut self) -> Vec<RunRecord> {
        if let Some(last) = self.last_sent {
            tokio::time::sleep_until(last + MIN_INTERVAL).await;
        }
        let timeout =
            (self.last_sent.unwrap_or(self.started) + KEEPALIVE_INTERVAL).saturating_duration_since(Instant::now());
        let waited = self
            .context
            .fleet
            .wait(self.selection, WaitUntil::NextChange, self.cursor.clone(), timeout, pending())
            .await;
        // The wait itself will report the error.
        let Ok(waited) = waited else { return pending().await };
        self.cursor = Some(waited.cursor);
        waited.snapshot.runs
    }

    async fn send(&mut self, runs: &[RunRecord]) {
        let now = Instant::now();
        self.last_sent = Some(now);
        let views: Vec<_> = runs.iter().map(|run| run_views::build(&self.context.fleet, run, Detail::Brief)).collect();
        let line = sanitize::sanitize_line(&summary::runs_summary(&views), self.context.fleet.secrets());
        let waited = (now.duration_since(self.started).as_secs_f64() * 10.0).round() / 10.0;
        let params = ProgressNotificationParam::new(self.target.token.clone(), waited).with_message(line);
        tokio::select! {
            sent = self.target.peer.notify_progress(params) => {
                if let Err(error) = sent {
                    tracing::debug!(%error, "progress could not be sent");
                }
            }
            // The client is gone, and the call must end.
            () = self.context.closing.cancelled() => {}
        }
    }
}
