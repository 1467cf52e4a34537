//! Resource subscriptions, in the legacy and in the stateless protocol. When the runs of a resource change, the server compares the content with the
//! previous content, and notifies the client only if it differs. There is no polling. All subscriptions end with the
//! session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{SubscriptionContext, SubscriptionSink};
use rmcp::{Peer, RoleServer};
use tokio_util::sync::CancellationToken;

use super::context::ServerContext;
use super::resources::{self, ResourceUri};
use crate::fleet::results::ResultPart;
use crate::fleet::{Cursor, Selection, WaitUntil};
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord};

/// The most subscriptions of one client.
const MAX_SUBSCRIPTIONS: usize = 100;
/// A wait starts again after this time; the value has no other effect.
const WAIT_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The least time between two notifications about one resource: faster changes are combined.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// What a subscription watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum WatchTarget {
    /// The list of resources.
    ResourceList,
    /// One resource.
    Resource(ResourceUri),
}

/// The receiver of notifications.
#[derive(Clone)]
enum NotificationTarget {
    /// A client of the legacy protocol.
    LegacyPeer(Peer<RoleServer>),
    /// One subscription of the stateless protocol.
    Stream(SubscriptionSink),
}

impl NotificationTarget {
    /// Sends a change notification; `false` if the receiver is gone.
    async fn notify(&self, target: &WatchTarget) -> bool {
        match (self, target) {
            (NotificationTarget::LegacyPeer(peer), WatchTarget::ResourceList) => {
                peer.notify_resource_list_changed().await.is_ok()
            }
            (NotificationTarget::LegacyPeer(peer), WatchTarget::Resource(uri)) => {
                peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri.to_string())).await.is_ok()
            }
            (NotificationTarget::Stream(sink), WatchTarget::ResourceList) => {
                sink.notify_resource_list_changed().await.is_ok()
            }
            (NotificationTarget::Stream(sink), WatchTarget::Resource(uri)) => {
                sink.notify_resource_updated(uri.to_string()).await.is_ok()
            }
        }
    }
}

/// The subscriptions of a client of the legacy protocol.
#[derive(Clone, Default)]
pub(super) struct Subscriptions {
    by_uri: Arc<Mutex<HashMap<ResourceUri, CancellationToken>>>,
}

impl Subscriptions {
    /// Notifies a client of each later change of a resource. A second subscription to the same resource has no effect.
    pub(super) async fn subscribe(
        &self,
        context: ServerContext,
        uri: &str,
        peer: Peer<RoleServer>,
    ) -> Result<(), Refusal> {
        let resource_uri: ResourceUri = uri.parse()?;
        // Read the content before the client gets the response, so that no later change is missed.
        let watch = ResourceMonitor::start(context, WatchTarget::Resource(resource_uri.clone())).await?;
        if let Some(cancelled) = self.register(resource_uri)? {
            tokio::spawn(watch.notify_changes(NotificationTarget::LegacyPeer(peer), cancelled));
        }
        Ok(())
    }

    /// Ends a subscription. An unknown subscription is ignored.
    pub(super) fn unsubscribe(&self, uri: &str) -> Result<(), Refusal> {
        if let Some(cancelled) = self.lock().remove(&uri.parse()?) {
            cancelled.cancel();
        }
        Ok(())
    }

    fn register(&self, uri: ResourceUri) -> Result<Option<CancellationToken>, Refusal> {
        let mut subscriptions = self.lock();
        let full = subscriptions.len() >= MAX_SUBSCRIPTIONS;
        match subscriptions.entry(uri) {
            Entry::Occupied(_) => Ok(None),
            Entry::Vacant(_) if full => Err(Refusal::new(
                "too_many_subscriptions",
                format!("{MAX_SUBSCRIPTIONS} resources are subscribed to, which is the most"),
                "unsubscribe from some of them",
            )),
            Entry::Vacant(free) => Ok(Some(free.insert(CancellationToken::new()).clone())),
        }
    }

    /// A panic in another holder leaves the map consistent, because each change is a single operation.
    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceUri, CancellationToken>> {
        self.by_uri.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The supported part of a subscription filter: list changes, and resources of existing runs.
pub(super) fn accepted_filter(context: &ServerContext, requested: &SubscriptionFilter) -> SubscriptionFilter {
    let exists = |uri: &&String| {
        let resource = uri.parse::<ResourceUri>();
        resource.is_ok_and(|resource| {
            resource.run_id().is_none_or(|id| context.fleet.state().run_folder(id).path().is_dir())
        })
    };
    let mut accepted = SubscriptionFilter::new();
    accepted.resources_list_changed = requested.resources_list_changed;
    let uris = requested.resource_subscriptions.as_ref();
    accepted.resource_subscriptions =
        uris.map(|uris| uris.iter().filter(exists).take(MAX_SUBSCRIPTIONS).cloned().collect());
    accepted
}

/// Serves a subscription of the stateless protocol until it is cancelled or the client is gone.
pub(super) async fn serve_listen(server_context: &ServerContext, context: SubscriptionContext) {
    let filter = context.accepted();
    let list = (filter.resources_list_changed == Some(true)).then_some(WatchTarget::ResourceList);
    let uris = filter.resource_subscriptions.iter().flatten();
    let resources = uris.filter_map(|uri| uri.parse().ok()).map(WatchTarget::Resource);
    let notifier = NotificationTarget::Stream(context.sink().clone());
    let cancelled = CancellationToken::new();
    let watches = list.into_iter().chain(resources).map(|target| async {
        match ResourceMonitor::start(server_context.clone(), target).await {
            Ok(watch) => watch.notify_changes(notifier.clone(), cancelled.clone()).await,
            Err(refusal) => tracing::debug!(why = refusal.message(), "a resource cannot be watched"),
        }
    });
    let notifying = async {
        join_all(watches).await;
        // Even if nothing more can change, the subscription stays open until the client ends it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = notifying => {}
        () = context.cancelled() => {}
        () = server_context.closing.cancelled() => {}
    }
}

/// One resource, and its content when it was last read.
struct ResourceMonitor {
    context: ServerContext,
    target: WatchTarget,
    /// The last known state of the runs that the resource depends on.
    cursor: Cursor,
    /// The fingerprint of the content; `None` if the resource did not exist.
    fingerprint: Option<String>,
}

impl ResourceMonitor {
    async fn start(context: ServerContext, target: WatchTarget) -> Result<ResourceMonitor, Refusal> {
        let snapshot = context.fleet.snapshot(&target.selection()).await?;
        let fingerprint = target.fingerprint(&context, &snapshot.runs).await;
        Ok(ResourceMonitor { cursor: Cursor::from_runs(&snapshot.runs), context, target, fingerprint })
    }

    /// Sends each change until the subscription is cancelled, the client is gone, or the run is removed.
    async fn notify_changes(mut self, notifier: NotificationTarget, cancelled: CancellationToken) {
        while self.wait_for_change(&cancelled).await {
            if !notifier.notify(&self.target).await {
                return;
            }
            // A change during this pause differs from the last fingerprint, so it is sent after the pause.
            tokio::select! {
                () = tokio::time::sleep(MIN_INTERVAL) => {}
                () = self.context.wait_until_cancelled(cancelled.clone()) => return,
            }
        }
    }

    /// Waits until the content of the resource changes; `false` once the subscription is cancelled.
    async fn wait_for_change(&mut self, cancelled: &CancellationToken) -> bool {
        loop {
            let (selection, since) = (self.target.selection(), Some(self.cursor.clone()));
            let cancellation = self.context.wait_until_cancelled(cancelled.clone());
            let Ok(waited) =
                self.context.fleet.wait(&selection, WaitUntil::NextChange, since, WAIT_TIMEOUT, cancellation).await
            else {
                return false;
            };
            if cancelled.is_cancelled() || self.context.closing.is_cancelled() {
                return false;
            }
            self.cursor = waited.cursor;
            let now = self.target.fingerprint(&self.context, &waited.snapshot.runs).await;
            if now != self.fingerprint {
                self.fingerprint = now;
                return true;
            }
        }
    }
}

impl WatchTarget {
    fn selection(&self) -> Selection {
        match self {
            WatchTarget::ResourceList => Selection::Latest,
            WatchTarget::Resource(uri) => uri.selection(),
        }
    }

    /// A value that changes whenever the content that a client would read changes.
    async fn fingerprint(&self, context: &ServerContext, runs: &[RunRecord]) -> Option<String> {
        match self {
            WatchTarget::ResourceList => Some(
                resources::list_for_runs(&context.fleet, runs).iter().map(|resource| resource.uri.as_str()).collect(),
            ),
            WatchTarget::Resource(ResourceUri::RunList | ResourceUri::Run(_)) => {
                Some(Cursor::from_runs(runs).to_string())
            }
            WatchTarget::Resource(ResourceUri::Answer(id)) => text_fingerprint(context, id, ResultPart::Answer).await,
            WatchTarget::Resource(ResourceUri::Log(id)) => text_fingerprint(context, id, ResultPart::Log).await,
        }
    }
}

async fn text_fingerprint(context: &ServerContext, id: &RunId, part: ResultPart) -> Option<String> {
    let (_, page) = context.fleet.read_page(id, part, 0, 1).await.ok()?;
    Some(format!("{} {}", page.page.sha256, page.is_partial))
}
