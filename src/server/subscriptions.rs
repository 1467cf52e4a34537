//! Subscriptions to resources, of both eras: a resource is compared with what it was whenever its runs have news, and only
//! where it differs something is told. It never looks by the clock, and ends with the session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{SubscriptionContext, SubscriptionSink};
use rmcp::{Peer, RoleServer};
use tokio_util::sync::CancellationToken;

use super::calls::Desk;
use super::resources::Place;
use crate::fleet::results::Part;
use crate::fleet::{Cursor, Selection, Until};
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord};

/// The most resources that one client is told of.
const MOST: usize = 100;
/// After so long a wait begins anew; nothing hangs on it.
const A_DAY: Duration = Duration::from_secs(86_400);

/// The least time between two tellings of one resource: changes that come faster are told together.
const LEAST: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Watched {
    /// Which resources there are.
    List,
    /// One of them.
    Place(Place),
}

/// Who is told.
#[derive(Clone)]
enum Ear {
    /// A client of the first era.
    Session(Peer<RoleServer>),
    /// One subscription of the second.
    Listener(SubscriptionSink),
}

impl Ear {
    /// Says that something has changed; whether anybody is there to hear it.
    async fn tell(&self, what: &Watched) -> bool {
        match (self, what) {
            (Ear::Session(peer), Watched::List) => peer.notify_resource_list_changed().await.is_ok(),
            (Ear::Session(peer), Watched::Place(place)) => {
                peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(place.to_string())).await.is_ok()
            }
            (Ear::Listener(sink), Watched::List) => sink.notify_resource_list_changed().await.is_ok(),
            (Ear::Listener(sink), Watched::Place(place)) => {
                sink.notify_resource_updated(place.to_string()).await.is_ok()
            }
        }
    }
}

/// What a client of the first era has subscribed to.
#[derive(Clone, Default)]
pub(super) struct Subscriptions {
    open: Arc<Mutex<HashMap<Place, CancellationToken>>>,
}

impl Subscriptions {
    /// Tells a client of each change of a resource from now on. Twice is once.
    pub(super) async fn open(&self, desk: Desk, uri: &str, peer: Peer<RoleServer>) -> Result<(), Refusal> {
        let place: Place = uri.parse()?;
        // What it is now is known before the client hears that it has subscribed.
        let watch = Watch::begin(desk, Watched::Place(place.clone())).await?;
        if let Some(cancelled) = self.enter(place)? {
            tokio::spawn(watch.tell_all(Ear::Session(peer), cancelled));
        }
        Ok(())
    }

    /// Tells of it no more. What was not subscribed to is left alone.
    pub(super) fn end(&self, uri: &str) -> Result<(), Refusal> {
        if let Some(cancelled) = self.lock().remove(&uri.parse()?) {
            cancelled.cancel();
        }
        Ok(())
    }

    fn enter(&self, place: Place) -> Result<Option<CancellationToken>, Refusal> {
        let mut open = self.lock();
        let full = open.len() >= MOST;
        match open.entry(place) {
            Entry::Occupied(_) => Ok(None),
            Entry::Vacant(_) if full => Err(Refusal::new(
                "too_many_subscriptions",
                format!("{MOST} resources are subscribed to, which is the most"),
                "unsubscribe from some of them",
            )),
            Entry::Vacant(free) => Ok(Some(free.insert(CancellationToken::new()).clone())),
        }
    }

    /// A panic in another holder leaves the table whole: each change is a single step.
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a filter of the second era is served: changes of the list, and resources of runs that there are.
pub(super) fn accepted(desk: &Desk, requested: &SubscriptionFilter) -> SubscriptionFilter {
    let is_there = |uri: &&String| {
        let place = uri.parse::<Place>();
        place.is_ok_and(|place| place.run().is_none_or(|id| desk.fleet.state().folder(id).path().is_dir()))
    };
    let mut accepted = SubscriptionFilter::new();
    accepted.resources_list_changed = requested.resources_list_changed;
    let uris = requested.resource_subscriptions.as_ref();
    accepted.resource_subscriptions = uris.map(|uris| uris.iter().filter(is_there).take(MOST).cloned().collect());
    accepted
}

/// Serves a subscription of the second era until it is cancelled or the client is gone.
pub(super) async fn serve(desk: &Desk, context: SubscriptionContext) {
    let filter = context.accepted();
    let list = (filter.resources_list_changed == Some(true)).then_some(Watched::List);
    let uris = filter.resource_subscriptions.iter().flatten();
    let places = uris.filter_map(|uri| uri.parse().ok()).map(Watched::Place);
    let ear = Ear::Listener(context.sink().clone());
    let cancelled = CancellationToken::new();
    let watches = list.into_iter().chain(places).map(|what| async {
        match Watch::begin(desk.clone(), what).await {
            Ok(watch) => watch.tell_all(ear.clone(), cancelled.clone()).await,
            Err(refusal) => tracing::debug!(why = refusal.message(), "a resource cannot be watched"),
        }
    });
    let told = async {
        join_all(watches).await;
        // A subscription in which nothing more can happen stays open: the client ends it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = told => {}
        () = context.cancelled() => {}
        () = desk.closing.cancelled() => {}
    }
}

/// One resource, and what it was when it was last looked at.
struct Watch {
    desk: Desk,
    what: Watched,
    /// The runs in which it can change, as they were.
    cursor: Cursor,
    /// What it was itself; `None` where there was nothing.
    seen: Option<String>,
}

impl Watch {
    async fn begin(desk: Desk, what: Watched) -> Result<Watch, Refusal> {
        let sight = desk.fleet.look_all(&what.selection()).await?;
        let seen = what.mark(&desk, &sight.runs).await;
        Ok(Watch { cursor: Cursor::of(&sight.runs), desk, what, seen })
    }

    /// Tells of each change until it is cancelled, the client is gone, or the run is.
    async fn tell_all(mut self, ear: Ear, cancelled: CancellationToken) {
        while self.changes(&cancelled).await {
            if !ear.tell(&self.what).await {
                return;
            }
            // A change in this time differs from what was seen, and is sent after it.
            tokio::select! {
                () = tokio::time::sleep(LEAST) => {}
                () = self.desk.given_up(cancelled.clone()) => return,
            }
        }
    }

    /// Waits until it is another than it was; `false` where nobody wants to know any more.
    async fn changes(&mut self, cancelled: &CancellationToken) -> bool {
        loop {
            let (selection, since) = (self.what.selection(), Some(self.cursor.clone()));
            let given_up = self.desk.given_up(cancelled.clone());
            let Ok(waited) = self.desk.fleet.wait(&selection, Until::News, since, A_DAY, given_up).await else {
                return false;
            };
            if cancelled.is_cancelled() || self.desk.closing.is_cancelled() {
                return false;
            }
            self.cursor = waited.cursor;
            let now = self.what.mark(&self.desk, &waited.sight.runs).await;
            if now != self.seen {
                self.seen = now;
                return true;
            }
        }
    }
}

impl Watched {
    fn selection(&self) -> Selection {
        match self {
            Watched::List => Selection::Latest,
            Watched::Place(place) => place.selection(),
        }
    }

    /// A word that is another whenever what a client would read is.
    async fn mark(&self, desk: &Desk, runs: &[RunRecord]) -> Option<String> {
        match self {
            Watched::List => Some(desk.listed(runs).iter().map(|resource| resource.uri.as_str()).collect()),
            Watched::Place(Place::Runs | Place::Run(_)) => Some(Cursor::of(runs).to_string()),
            Watched::Place(Place::Answer(id)) => text_mark(desk, id, Part::Answer).await,
            Watched::Place(Place::Log(id)) => text_mark(desk, id, Part::Log).await,
        }
    }
}

async fn text_mark(desk: &Desk, id: &RunId, part: Part) -> Option<String> {
    let (_, reading) = desk.fleet.read(id, part, 0, 1).await.ok()?;
    Some(format!("{} {}", reading.page.sha256, reading.partial))
}
