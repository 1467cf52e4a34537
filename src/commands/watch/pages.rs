//! The pages that the screen has opened: each is rewritten for as long as its run goes on and the screen is there, and a last
//! time, as one that stays as it is, when either is over.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::{ScreenEvent, refusal_text};
use crate::commands::report;
use crate::fleet::{Fleet, Selection, WaitUntil};
use crate::refusal::Refusal;
use crate::run::RunId;

/// How often the page of a run that goes on is written, and read by the browser.
const REWRITE_INTERVAL: Duration = Duration::from_secs(5);

/// The pages that are kept up to date.
#[derive(Default)]
pub(super) struct OpenPages {
    tasks: JoinSet<()>,
    by_run: HashMap<RunId, AbortHandle>,
}

impl OpenPages {
    /// Opens the page of a run and keeps it up to date; the screen hears how that went.
    pub(super) fn open(&mut self, id: RunId, fleet: &Fleet, to: &mpsc::Sender<ScreenEvent>) {
        let task = self.tasks.spawn(keep_updated(fleet.clone(), id.clone(), to.clone()));
        if let Some(before) = self.by_run.insert(id, task) {
            before.abort();
        }
    }

    /// Waits for the last writing of each, after the screen has gone.
    pub(super) async fn close(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn keep_updated(fleet: Fleet, id: RunId, to: mpsc::Sender<ScreenEvent>) {
    let note = match write_and_open(&fleet, &id).await {
        Ok(note) => note,
        Err(refusal) => refusal_text(&refusal, &fleet),
    };
    let _nobody = to.send(ScreenEvent::Note(note)).await;
    let selection = Selection::Runs(vec![id.clone()]);
    while !to.is_closed() {
        // Whatever went wrong, the next look or the next writing may go well.
        let _over_or_not = fleet.wait(&selection, WaitUntil::AllEnded, None, REWRITE_INTERVAL, to.closed()).await;
        let refresh = (!to.is_closed()).then_some(REWRITE_INTERVAL);
        match report::write_run_page(&fleet, &id, None, refresh).await {
            Ok((record, _)) if record.state.ending().is_some() => return,
            Ok(_) => {}
            Err(refusal) => {
                let _nobody = to.send(ScreenEvent::Note(refusal_text(&refusal, &fleet))).await;
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
