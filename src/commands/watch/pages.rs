//! The pages that the screen has opened: each is written anew for as long as its run goes on and the screen is there, and a last
//! time, as one that stays as it is, when either is over.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::{News, words};
use crate::commands::report;
use crate::fleet::{Fleet, Selection, Until};
use crate::refusal::Refusal;
use crate::run::RunId;

/// How often the page of a run that goes on is written, and read by the browser.
const EVERY: Duration = Duration::from_secs(5);

/// The pages that are kept up to date.
#[derive(Default)]
pub(super) struct Pages {
    tasks: JoinSet<()>,
    of: HashMap<RunId, AbortHandle>,
}

impl Pages {
    /// Opens the page of a run and keeps it up to date; the screen hears how that went.
    pub(super) fn open(&mut self, id: RunId, fleet: &Fleet, to: &mpsc::Sender<News>) {
        let task = self.tasks.spawn(kept(fleet.clone(), id.clone(), to.clone()));
        if let Some(before) = self.of.insert(id, task) {
            before.abort();
        }
    }

    /// Waits for the last writing of each, after the screen has gone.
    pub(super) async fn close(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn kept(fleet: Fleet, id: RunId, to: mpsc::Sender<News>) {
    let note = match opened(&fleet, &id).await {
        Ok(note) => note,
        Err(refusal) => words(&refusal, &fleet),
    };
    let _nobody = to.send(News::Note(note)).await;
    let selection = Selection::Runs(vec![id.clone()]);
    while !to.is_closed() {
        // Whatever went wrong, the next look or the next writing may go well.
        let _over_or_not = fleet.wait(&selection, Until::AllDone, None, EVERY, to.closed()).await;
        let refresh = (!to.is_closed()).then_some(EVERY);
        match report::write_run(&fleet, &id, None, refresh).await {
            Ok((record, _)) if record.state.ended().is_some() => return,
            Ok(_) => {}
            Err(refusal) => {
                let _nobody = to.send(News::Note(words(&refusal, &fleet))).await;
                return;
            }
        }
    }
}

/// Writes the page and opens it.
async fn opened(fleet: &Fleet, id: &RunId) -> Result<String, Refusal> {
    let (_, path) = report::write_run(fleet, id, None, Some(EVERY)).await?;
    report::open(path.clone()).await?;
    Ok(super::clean(&format!("the page of {id} is open: {}", path.display()), fleet))
}
