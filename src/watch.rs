//! Waiting for a change in folders: by inotify; by looking twice a second where that is not to be had (instances or watches
//! used up). A seat is told that something may have changed, never what: whoever sits there looks again.
//! It never reads a file. A network file system tells nothing of what other machines change, see the README's limits.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a seat without inotify is woken.
const POLL: Duration = Duration::from_millis(500);

/// The house's one watcher, shared by all that wait in this process.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// `None` where inotify is not to be had.
    watches: Option<Watches>,
    seats: HashMap<WatchDescriptor, Vec<Bell>>,
}

/// Rings at a seat, whatever has changed in a folder but one thing.
struct Bell {
    seat: Arc<Notify>,
    deaf_to: Option<&'static str>,
}

/// How many inotify instances this user may have, and how many watches; zero where the kernel does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// One for each process that waits.
    pub instances: u64,
    /// One for each folder that is waited at.
    pub watches: u64,
}

/// Tries to have an inotify instance, and says what the user may have.
///
/// # Errors
///
/// Where there is none to be had, so that waits look twice a second.
pub fn try_out() -> std::io::Result<Allowed> {
    Inotify::init()?;
    let most = |name: &str| {
        let told = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
        told.ok().and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    };
    Ok(Allowed { instances: most("max_user_instances"), watches: most("max_user_watches") })
}

/// A place to wait at. Folders are added to it; it is left by dropping it.
pub struct Seat {
    watcher: Watcher,
    bell: Arc<Notify>,
    /// When to look next, for a seat at a folder that cannot be watched.
    next_look: Option<Instant>,
}

/// What came of adding a folder.
enum Added {
    New,
    Already,
    Impossible,
}

impl Watcher {
    /// A watcher; it needs a runtime, on which one task of it lives.
    pub fn start() -> Watcher {
        let inotify = Inotify::init().inspect_err(|error| tracing::warn!(%error, "no inotify: looking twice a second"));
        let watches = inotify.as_ref().ok().map(Inotify::watches);
        let watcher = Watcher { shared: Arc::new(Mutex::new(Shared { watches, seats: HashMap::new() })) };
        if let Ok(inotify) = inotify {
            let shared = Arc::downgrade(&watcher.shared);
            tokio::spawn(async move {
                let Ok(mut events) = inotify.into_event_stream([0; 4096]) else { return };
                while let Some(Ok(event)) = events.next().await {
                    let Some(shared) = shared.upgrade() else { return };
                    if matters(event.mask, event.name.as_deref()) {
                        lock(&shared).ring(&event.wd, event.mask, event.name.as_deref());
                    }
                }
            });
        }
        watcher
    }

    /// A new seat, with no folder yet.
    pub fn seat(&self) -> Seat {
        Seat { watcher: self.clone(), bell: Arc::new(Notify::new()), next_look: None }
    }
}

impl Shared {
    fn ring(&mut self, folder: &WatchDescriptor, mask: EventMask, name: Option<&OsStr>) {
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.seats.values().flatten().for_each(|bell| bell.seat.notify_one());
            return;
        }
        let hears = |bell: &&Bell| bell.deaf_to.is_none() || bell.deaf_to.map(OsStr::new) != name;
        self.seats.get(folder).into_iter().flatten().filter(hears).for_each(|bell| bell.seat.notify_one());
        if mask.contains(EventMask::IGNORED) {
            self.seats.remove(folder);
        }
    }

    /// Adds a folder for a seat.
    fn add(&mut self, folder: &Path, seat: &Arc<Notify>, deaf_to: Option<&'static str>) -> Added {
        let mask = WatchMask::MOVED_TO
            | WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::ONLYDIR;
        let Some(Ok(descriptor)) = self.watches.as_mut().map(|watches| watches.add(folder, mask)) else {
            return Added::Impossible;
        };
        let bells = self.seats.entry(descriptor).or_default();
        if bells.iter().any(|known| Arc::ptr_eq(&known.seat, seat)) {
            return Added::Already;
        }
        bells.push(Bell { seat: seat.clone(), deaf_to });
        Added::New
    }

    fn leave(&mut self, seat: &Arc<Notify>) {
        let Some(watches) = self.watches.as_mut() else { return };
        self.seats.retain(|folder, bells| {
            bells.retain(|known| !Arc::ptr_eq(&known.seat, seat));
            if bells.is_empty() {
                // It fails only where the folder is gone already.
                let _gone = watches.remove(folder.clone());
            }
            !bells.is_empty()
        });
    }
}

impl Seat {
    /// Watches one more folder, and says whether it is new here. A folder that is not there (any more) is none to watch.
    pub fn add(&mut self, folder: &Path) -> bool {
        self.add_but(folder, None)
    }

    /// The same, but for one name in it: what whoever sits here puts there need not wake them.
    pub fn add_but(&mut self, folder: &Path, deaf_to: Option<&'static str>) -> bool {
        match lock(&self.watcher.shared).add(folder, &self.bell, deaf_to) {
            Added::New => true,
            Added::Already => false,
            Added::Impossible => {
                if self.next_look.is_none() && folder.is_dir() {
                    self.next_look = Some(Instant::now() + POLL);
                }
                false
            }
        }
    }

    /// Waits until something may have changed in one of the folders since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        match self.next_look {
            None => self.bell.notified().await,
            Some(next) => tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep_until(next) => self.next_look = Some(Instant::now() + POLL),
            },
        }
        // It may have rung again meanwhile; one look, which is still to come, is enough for both.
        let _rung_again = self.bell.notified().now_or_never();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.watcher.shared).leave(&self.bell);
    }
}

/// Every file that matters is written whole and renamed into place, so that drafts and lines added to logs wake nobody. New
/// folders may hold such files. A lock that was held for writing is closed when its holder dies, which leaves no other trace.
fn matters(mask: EventMask, name: Option<&OsStr>) -> bool {
    let is_draft = |name: &[u8]| name.starts_with(b".") || name.ends_with(b".tmp");
    let draft = name.is_some_and(|name| is_draft(name.as_encoded_bytes()));
    let file_made = mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR);
    !(file_made || (draft && mask.contains(EventMask::CLOSE_WRITE)))
}

/// A panic in another holder leaves the lists whole: each change is a single step.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_rename_wakes_every_seat_of_the_folder_and_no_other() {
        let (folder, other) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
        let watcher = Watcher::start();
        let mut seats = [watcher.seat(), watcher.seat(), watcher.seat()];
        seats[0].add(folder.path());
        seats[1].add(folder.path());
        seats[2].add(other.path());
        std::fs::write(folder.path().join("draft"), "x").expect("write");
        std::fs::rename(folder.path().join("draft"), folder.path().join("whole")).expect("rename");
        for seat in &mut seats[..2] {
            tokio::time::timeout(PATIENCE, seat.changed()).await.expect("woken");
        }
        let silent = tokio::time::timeout(Duration::ZERO, seats[2].changed()).await;
        assert!(silent.is_err(), "nothing happened there");
    }

    #[tokio::test]
    async fn two_rings_before_a_look_are_one() {
        let mut seat = Watcher::start().seat();
        let bell = seat.bell.clone();
        let mut changed = Box::pin(seat.changed());
        assert!(changed.as_mut().now_or_never().is_none());
        bell.notify_one();
        bell.notify_one();
        assert!(changed.as_mut().now_or_never().is_some());
        assert!(bell.notified().now_or_never().is_none(), "nothing is left to look for");
    }

    #[tokio::test]
    async fn a_lock_whose_holder_is_gone_wakes_and_a_look_at_it_does_not() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("lock");
        let held = std::fs::File::create(&path).expect("made");
        let mut seat = Watcher::start().seat();
        seat.add(folder.path());
        drop(std::fs::File::open(&path).expect("looked at"));
        assert!(tokio::time::timeout(Duration::from_millis(50), seat.changed()).await.is_err());
        drop(held);
        tokio::time::timeout(PATIENCE, seat.changed()).await.expect("woken");
    }

    #[tokio::test]
    async fn what_a_seat_is_deaf_to_wakes_the_others() {
        let folder = tempfile::tempdir().expect("temp");
        let watcher = Watcher::start();
        let (mut deaf, mut other) = (watcher.seat(), watcher.seat());
        deaf.add_but(folder.path(), Some("own"));
        other.add(folder.path());
        for (name, wakes) in [("own", false), ("stranger", true)] {
            std::fs::write(folder.path().join(".draft"), "x").expect("write");
            std::fs::rename(folder.path().join(".draft"), folder.path().join(name)).expect("rename");
            tokio::time::timeout(PATIENCE, other.changed()).await.expect("woken");
            // Whoever was rung in the same round has been.
            assert_eq!(tokio::time::timeout(Duration::ZERO, deaf.changed()).await.is_ok(), wakes, "{name}");
        }
    }

    #[tokio::test]
    async fn without_inotify_a_seat_is_woken_all_the_same() {
        let folder = tempfile::tempdir().expect("temp");
        let shared = Shared { watches: None, seats: HashMap::new() };
        let mut seat = Watcher { shared: Arc::new(Mutex::new(shared)) }.seat();
        assert!(!seat.add(folder.path()));
        tokio::time::timeout(PATIENCE, seat.changed()).await.expect("woken");
    }

    #[tokio::test]
    async fn who_leaves_takes_the_watch_along() {
        let folder = tempfile::tempdir().expect("temp");
        let watcher = Watcher::start();
        let mut seat = watcher.seat();
        seat.add(folder.path());
        seat.add(folder.path());
        drop(seat);
        assert!(lock(&watcher.shared).seats.is_empty());
    }
}
