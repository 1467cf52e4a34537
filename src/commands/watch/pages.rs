//! The pages that the screen has opened: each is rewritten while its run is live and the screen is open, and once more, without
//! the automatic reload, when either ends.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::{ScreenEvent, refusal_text};
use crate::commands::report;
use crate::fleet::{Fleet, Selection, WaitUntil};
use crate::refusal::Refusal;
use crate::run::RunId;

/// How often the page of a live run is rewritten, and reloaded by the browser.
const REWRITE_INTERVAL: Duration = Duration::from_secs(5);

/// The pages that are kept up to date.
#[derive(Default)]
pub(super) struct OpenPages {
    tasks: JoinSet<()>,
    by_run: HashMap<RunId, AbortHandle>,
}

impl OpenPages {
    /// Opens the page of a run and keeps it up to date; sends the result to the screen as a note.
    pub(super) fn open(&mut self, id: RunId, fleet: &Fleet, sender: &mpsc::Sender<ScreenEvent>) {
        let task = self.tasks.spawn(keep_updated(fleet.clone(), id.clone(), sender.clone()));
        if let Some(previous) = self.by_run.insert(id, task) {
            previous.abort();
        }
    }

    /// Waits for the last write of each page, after the screen was closed.
    pub(super) async fn close(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn keep_updated(fleet: Fleet, id: RunId, sender: mpsc::Sender<ScreenEvent>) {
    let note = match write_and_open(&fleet, &id).await {
        Ok(note) => note,
        Err(refusal) => refusal_text(&refusal, &fleet),
    };
    let _sent = sender.send(ScreenEvent::Note(note)).await;
    let selection = Selection::Runs(vec![id.clone()]);
    while !sender.is_closed() {
        // An error is ignored: the next wait or the next write may succeed.
        let _result = fleet.wait(&selection, WaitUntil::AllEnded, None, REWRITE_INTERVAL, sender.closed()).await;
        let refresh = (!sender.is_closed()).then_some(REWRITE_INTERVAL);
        match report::write_run_page(&fleet, &id, None, refresh).await {
            Ok((record, _)) if record.state.ending().is_some() => return,
            Ok(_) => {}
            Err(refusal) => {
                let _sent = sender.send(ScreenEvent::Note(refusal_text(&refusal, &fleet))).await;
                return;
            }
        }
    }
}

/// Writes the page and opens it.
async fn write_and_open(fleet: &Fleet, id: &RunId) -> Result<String, Refusal> {
    let (_, path) = report::write_run_page(fleet, id, None, Some(REWRITE_INTERVAL)).await?;
    report::open_in_browser(path.clone()).await?;
    Ok(super::sanitize_line(&format!("the page of {id} is open: {}", path.display()), fleet))
}
