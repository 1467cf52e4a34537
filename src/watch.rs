//! Waits for changes in folders: by inotify, or by polling twice a second if inotify is unavailable (instances or watches
//! used up). A subscription is notified that something may have changed, without details: its owner checks again.
//! It never reads a file. A network file system does not report changes by other machines; see the README's limits.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a subscription without inotify is woken.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The single watcher of this process, shared by all its subscriptions.
#[derive(Clone)]
pub struct Watcher {
    state: Arc<Mutex<WatcherState>>,
}

struct WatcherState {
    /// `None` if inotify is unavailable.
    watches: Option<Watches>,
    subscribers: HashMap<WatchDescriptor, Vec<Subscriber>>,
}

/// Notifies a subscription of all changes in a folder, except those of one file.
struct Subscriber {
    notify: Arc<Notify>,
    ignored_name: Option<&'static str>,
}

/// How many inotify instances and watches this user may have; zero if the kernel does not report a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InotifyLimits {
    /// Each waiting process uses one.
    pub instances: u64,
    /// Each watched folder uses one.
    pub watches: u64,
}

/// Tries to create an inotify instance and returns the user's limits.
///
/// # Errors
///
/// No instance is available, so waits poll twice a second.
pub fn probe_inotify() -> std::io::Result<InotifyLimits> {
    Inotify::init()?;
    let limit = |name: &str| {
        let limit = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        limit.ok().and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    };
    Ok(InotifyLimits { instances: limit("max_user_instances"), watches: limit("max_user_watches") })
}

/// Waits for changes in the folders added to it. Dropping it ends the subscription.
pub struct Subscription {
    watcher: Watcher,
    notify: Arc<Notify>,
    /// When to check next, for a folder that cannot be watched.
    next_poll: Option<Instant>,
}

/// The result of adding a folder.
enum AddResult {
    Added,
    AlreadyWatched,
    NotWatchable,
}

impl Watcher {
    /// Starts a watcher. It needs a runtime, on which it spawns one task.
    pub fn start() -> Watcher {
        let inotify = Inotify::init()
            .inspect_err(|error| tracing::warn!(%error, "inotify is unavailable; folders are polled twice a second"));
        let watches = inotify.as_ref().ok().map(Inotify::watches);
        let watcher = Watcher { state: Arc::new(Mutex::new(WatcherState { watches, subscribers: HashMap::new() })) };
        if let Ok(inotify) = inotify {
            let shared = Arc::downgrade(&watcher.state);
            tokio::spawn(async move {
                let Ok(mut events) = inotify.into_event_stream([0; 4096]) else { return };
                while let Some(Ok(event)) = events.next().await {
                    let Some(shared) = shared.upgrade() else { return };
                    if is_relevant(event.mask, event.name.as_deref()) {
                        lock_state(&shared).notify(&event.wd, event.mask, event.name.as_deref());
                    }
                }
            });
        }
        watcher
    }

    /// A new subscription without folders.
    pub fn subscribe(&self) -> Subscription {
        Subscription { watcher: self.clone(), notify: Arc::new(Notify::new()), next_poll: None }
    }
}

impl WatcherState {
    fn notify(&mut self, folder: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.subscribers.values().flatten().for_each(|subscriber| subscriber.notify.notify_one());
            return;
        }
        let is_notified = |subscriber: &&Subscriber| {
            subscriber.ignored_name.is_none() || subscriber.ignored_name.map(OsStr::new) != name
        };
        self.subscribers
            .get(folder)
            .into_iter()
            .flatten()
            .filter(is_notified)
            .for_each(|subscriber| subscriber.notify.notify_one());
        if mask.contains(EventMask::IGNORED) {
            self.subscribers.remove(folder);
        }
    }

    /// Adds a folder to a subscription.
    fn add_watch(&mut self, folder: &Path, notify: &Arc<Notify>, ignored_name: Option<&'static str>) -> AddResult {
        let mask = WatchMask::MOVED_TO
            | WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::ONLYDIR;
        let Some(Ok(descriptor)) = self.watches.as_mut().map(|watches| watches.add(folder, mask)) else {
            return AddResult::NotWatchable;
        };
        let subscribers = self.subscribers.entry(descriptor).or_default();
        if subscribers.iter().any(|subscriber| Arc::ptr_eq(&subscriber.notify, notify)) {
            return AddResult::AlreadyWatched;
        }
        subscribers.push(Subscriber { notify: notify.clone(), ignored_name });
        AddResult::Added
    }

    fn unsubscribe(&mut self, notify: &Arc<Notify>) {
        let Some(watches) = self.watches.as_mut() else { return };
        self.subscribers.retain(|folder, subscribers| {
            subscribers.retain(|subscriber| !Arc::ptr_eq(&subscriber.notify, notify));
            if subscribers.is_empty() {
                // It fails only if the folder no longer exists.
                let _gone = watches.remove(folder.clone());
            }
            !subscribers.is_empty()
        });
    }
}

impl Subscription {
    /// Watches one more folder; `true` if it is new to this subscription. A folder that does not exist is not watched.
    pub fn watch_folder(&mut self, folder: &Path) -> bool {
        self.watch_folder_except(folder, None)
    }

    /// The same, except for one file name in it: a file that the subscriber writes itself does not wake it.
    pub fn watch_folder_except(&mut self, folder: &Path, ignored_name: Option<&'static str>) -> bool {
        match lock_state(&self.watcher.state).add_watch(folder, &self.notify, ignored_name) {
            AddResult::Added => true,
            AddResult::AlreadyWatched => false,
            AddResult::NotWatchable => {
                if self.next_poll.is_none() && folder.is_dir() {
                    self.next_poll = Some(Instant::now() + POLL_INTERVAL);
                }
                false
            }
        }
    }

    /// Waits until something may have changed in one of the folders since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        match self.next_poll {
            None => self.notify.notified().await,
            Some(next) => tokio::select! {
                () = self.notify.notified() => {}
                () = tokio::time::sleep_until(next) => self.next_poll = Some(Instant::now() + POLL_INTERVAL),
            },
        }
        // Another notification may have arrived during the wait; the caller's next check covers both.
        let _rung_again = self.notify.notified().now_or_never();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock_state(&self.watcher.state).unsubscribe(&self.notify);
    }
}

/// Every file that matters is written whole and renamed into place, so that drafts and lines appended to logs wake no subscriber. New
/// folders may hold such files. A lock that was held for writing is closed when its holder dies, which leaves no other trace.
fn is_relevant(mask: EventMask, name: Option<&OsStr>) -> bool {
    let is_draft = |name: &[u8]| name.starts_with(b".") || name.ends_with(b".tmp");
    let draft = name.is_some_and(|name| is_draft(name.as_encoded_bytes()));
    let file_made = mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR);
    !(file_made || (draft && mask.contains(EventMask::CLOSE_WRITE)))
}

/// A panic in another holder leaves the lists whole: each change is a single step.
fn lock_state(shared: &Mutex<WatcherState>) -> MutexGuard<'_, WatcherState> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_rename_wakes_every_subscription_of_the_folder_and_no_other() {
        let (folder, other) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
        let watcher = Watcher::start();
        let mut subscriptions = [watcher.subscribe(), watcher.subscribe(), watcher.subscribe()];
        subscriptions[0].watch_folder(folder.path());
        subscriptions[1].watch_folder(folder.path());
        subscriptions[2].watch_folder(other.path());
        std::fs::write(folder.path().join("draft"), "x").expect("write");
        std::fs::rename(folder.path().join("draft"), folder.path().join("whole")).expect("rename");
        for subscription in &mut subscriptions[..2] {
            tokio::time::timeout(WAIT_LIMIT, subscription.changed()).await.expect("woken");
        }
        let result = tokio::time::timeout(Duration::ZERO, subscriptions[2].changed()).await;
        assert!(result.is_err(), "no file of that folder changed");
    }

    #[tokio::test]
    async fn two_notifications_before_a_check_count_as_one() {
        let mut subscription = Watcher::start().subscribe();
        let subscriber = subscription.notify.clone();
        let mut changed = Box::pin(subscription.changed());
        assert!(changed.as_mut().now_or_never().is_none());
        subscriber.notify_one();
        subscriber.notify_one();
        assert!(changed.as_mut().now_or_never().is_some());
        assert!(subscriber.notified().now_or_never().is_none(), "no notification remains");
    }

    #[tokio::test]
    async fn a_released_lock_wakes_a_subscription_and_a_probe_does_not() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("lock");
        let held = std::fs::File::create(&path).expect("created");
        let mut subscription = Watcher::start().subscribe();
        subscription.watch_folder(folder.path());
        drop(std::fs::File::open(&path).expect("probed"));
        assert!(tokio::time::timeout(Duration::from_millis(50), subscription.changed()).await.is_err());
        drop(held);
        tokio::time::timeout(WAIT_LIMIT, subscription.changed()).await.expect("woken");
    }

    #[tokio::test]
    async fn an_ignored_file_wakes_only_the_other_subscriptions() {
        let folder = tempfile::tempdir().expect("temp");
        let watcher = Watcher::start();
        let (mut ignoring, mut other) = (watcher.subscribe(), watcher.subscribe());
        ignoring.watch_folder_except(folder.path(), Some("own"));
        other.watch_folder(folder.path());
        for (name, wakes) in [("own", false), ("other", true)] {
            std::fs::write(folder.path().join(".draft"), "x").expect("write");
            std::fs::rename(folder.path().join(".draft"), folder.path().join(name)).expect("rename");
            tokio::time::timeout(WAIT_LIMIT, other.changed()).await.expect("woken");
            // The watcher has notified all subscribers of this event by now.
            assert_eq!(tokio::time::timeout(Duration::ZERO, ignoring.changed()).await.is_ok(), wakes, "{name}");
        }
    }

    #[tokio::test]
    async fn without_inotify_a_subscription_is_woken_by_polling() {
        let folder = tempfile::tempdir().expect("temp");
        let shared = WatcherState { watches: None, subscribers: HashMap::new() };
        let mut subscription = Watcher { state: Arc::new(Mutex::new(shared)) }.subscribe();
        assert!(!subscription.watch_folder(folder.path()));
        tokio::time::timeout(WAIT_LIMIT, subscription.changed()).await.expect("woken");
    }

    #[tokio::test]
    async fn dropping_a_subscription_removes_its_watch() {
        let folder = tempfile::tempdir().expect("temp");
        let watcher = Watcher::start();
        let mut subscription = watcher.subscribe();
        subscription.watch_folder(folder.path());
        subscription.watch_folder(folder.path());
        drop(subscription);
        assert!(lock_state(&watcher.state).subscribers.is_empty());
    }
}
