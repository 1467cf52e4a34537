//! Progress of a call that waits: for who gave a token, a line about the runs at each real change, and every five seconds
//! without one. Its number is the seconds waited, which only grow; nothing is told once the call is over.

use std::future::{Future, pending};
use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use tokio::time::Instant;

use super::border;
use super::calls::Desk;
use crate::fleet::{Cursor, Selection, Until};
use crate::run::RunRecord;
use crate::view::{Detail, words};

/// How long nothing is told where nothing happens; clients whose patience grows with progress wait for 30 seconds and more.
const SILENCE: Duration = Duration::from_secs(5);
/// The least time between two tellings: changes that come faster are told together.
const LEAST: Duration = Duration::from_secs(1);

/// Where a caller wants to hear how its wait goes.
pub(super) struct Progress {
    peer: Peer<RoleServer>,
    token: ProgressToken,
}

impl Progress {
    /// What a request asks for; nothing where it gave no token.
    pub(super) fn wanted(context: &RequestContext<RoleServer>) -> Option<Progress> {
        let token = context.meta.get_progress_token()?;
        Some(Progress { peer: context.peer.clone(), token })
    }
}

impl Desk {
    /// Waits, and tells the caller of the runs meanwhile. Without patience there is nothing to tell.
    pub(super) async fn telling<T>(
        &self,
        progress: Option<Progress>,
        selection: &Selection,
        patience: Duration,
        waiting: impl Future<Output = T>,
    ) -> T {
        let Some(progress) = progress.filter(|_| !patience.is_zero()) else { return waiting.await };
        let mut waiting = std::pin::pin!(waiting);
        let mut teller = Teller::new(self, progress, selection);
        loop {
            tokio::select! {
                biased;
                done = &mut waiting => return done,
                // Not raced with the wait: what is told has left before the answer does.
                runs = teller.hear() => teller.tell(&runs).await,
            }
        }
    }
}

struct Teller<'a> {
    desk: &'a Desk,
    progress: Progress,
    selection: &'a Selection,
    begun: Instant,
    last: Option<Instant>,
    seen: Option<Cursor>,
}

impl<'a> Teller<'a> {
    fn new(desk: &'a Desk, progress: Progress, selection: &'a Selection) -> Teller<'a> {
        Teller { desk, progress, selection, begun: Instant::now(), last: None, seen: None }
    }

    /// The runs when there is something to tell of them. Cancel-safe.
    async fn hear(&mut self) -> Vec<RunRecord> {
        if let Some(last) = self.last {
            tokio::time::sleep_until(last + LEAST).await;
        }
        let patience = (self.last.unwrap_or(self.begun) + SILENCE).saturating_duration_since(Instant::now());
        let waited = self.desk.fleet.wait(self.selection, Until::News, self.seen.clone(), patience, pending()).await;
        // The wait itself will say why.
        let Ok(waited) = waited else { return pending().await };
        self.seen = Some(waited.cursor);
        waited.sight.runs
    }

    async fn tell(&mut self, runs: &[RunRecord]) {
        let now = Instant::now();
        self.last = Some(now);
        let views: Vec<_> = runs.iter().map(|run| self.desk.view(run, Detail::Brief)).collect();
        let line = border::line(&words::of_runs(&views), self.desk.fleet.secrets());
        let waited = (now.duration_since(self.begun).as_secs_f64() * 10.0).round() / 10.0;
        let told = ProgressNotificationParam::new(self.progress.token.clone(), waited).with_message(line);
        tokio::select! {
            sent = self.progress.peer.notify_progress(told) => {
                if let Err(error) = sent {
                    tracing::debug!(%error, "progress could not be told");
                }
            }
            // Nobody hears it any more, and the call is to be over.
            () = self.desk.closing.cancelled() => {}
        }
    }
}
