//! What the ledger holds, and what follows from it: who waits before whom, what is charged to which budget, which request is
//! known. Pure: it looks at no run and no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Application, FOLD, LedgerError, Request, Turn};
use crate::run::{Cap, RunId, RunRecord, RunState, Spent, Usd};

/// How many days are kept.
const DAYS: usize = 8;
/// How many servers are kept.
const SERVERS: usize = 64;
/// How many request keys are kept before those of forgotten runs are dropped.
const KEYS: usize = 1000;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    version: u32,
    next_ticket: u64,
    entries: Vec<Entry>,
    /// Starts of the last minute.
    starts: Vec<Timestamp>,
    /// Millionths of a dollar by day, of trees that are over.
    days: BTreeMap<String, u64>,
    /// The same by server, the newest last.
    servers: Vec<(String, u64)>,
    requests: Vec<Asked>,
    keys: BTreeMap<String, Keyed>,
    /// Whether something in it has changed since it was read: an idle look must not wake those who wait for a change.
    #[serde(skip)]
    pub(super) is_changed: bool,
}

/// A run that is not over, or belongs to a tree that is not.
#[derive(Serialize, Deserialize)]
struct Entry {
    run: String,
    #[serde(default)]
    parent: Option<String>,
    root: String,
    server: String,
    ticket: u64,
    place: Place,
    #[serde(default)]
    budget_microusd: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    /// Of a run that is over, with all below it.
    #[serde(default)]
    spent_microusd: u64,
    #[serde(default)]
    spent_tokens: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Waiting,
    Live,
    Over,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    content: String,
    client: String,
    run: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Keyed {
    content: String,
    run: String,
}

impl Entry {
    /// What is kept for it: all that it may spend while it is not over, what it has spent afterwards.
    fn charge(&self, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        let so_far = self.spent(spent);
        if self.place == Place::Over {
            return so_far;
        }
        let kept = Spent {
            usd: Usd(self.budget_microusd.unwrap_or_default()),
            tokens: self.max_tokens.unwrap_or_default(),
            is_unpriced: false,
        };
        so_far.at_least(kept)
    }

    fn spent(&self, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        if self.place == Place::Over {
            return Spent { usd: Usd(self.spent_microusd), tokens: self.spent_tokens, is_unpriced: false };
        }
        self.run.parse().map(|id| spent(&id)).unwrap_or_default()
    }
}

impl Book {
    pub(super) fn from_json(bytes: &[u8]) -> Result<Book, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Our own types always serialise.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What the records of all runs tell, the oldest first.
    pub(super) fn of_records(records: &[RunRecord]) -> Book {
        let mut book = Book { version: 1, ..Book::default() };
        for record in records {
            let spec = &record.spec;
            match record.state.ended() {
                Some(ending) if spec.lineage.parent.is_none() => book.add_to_day(ending.at.wall, record.spent.usd),
                Some(_) => {}
                None => {
                    let place = if record.state == RunState::Queued { Place::Waiting } else { Place::Live };
                    let (parent, root) = (spec.lineage.parent.clone(), spec.lineage.root.clone());
                    book.push(&spec.id, parent, root, "", spec.allowance.cap, place);
                }
            }
        }
        book
    }

    /// The run that the same request has started, if it has.
    pub(super) fn known(
        &mut self,
        request: &Request,
        now: Timestamp,
        exists: impl Fn(&RunId) -> bool,
        lives: impl Fn(&RunId) -> bool,
    ) -> Result<Option<RunId>, LedgerError> {
        if self.keys.len() > KEYS {
            self.keys.retain(|_, keyed| keyed.run.parse().is_ok_and(|id| exists(&id)));
        }
        if let Some(key) = &request.key {
            let keyed = self.keys.get(key);
            let run = keyed.and_then(|keyed| keyed.run.parse::<RunId>().ok()).filter(|id| exists(id));
            return match (keyed, run) {
                (Some(keyed), Some(run)) if keyed.content != request.content => Err(LedgerError::KeyTaken(run)),
                (_, run) => Ok(run),
            };
        }
        let fresh = |asked: &Asked| Duration::try_from(now.duration_since(asked.at)).unwrap_or_default() <= FOLD;
        self.requests.retain(fresh);
        let same = |asked: &&Asked| asked.content == request.content && Some(&asked.client) == request.client.as_ref();
        let mut runs = self.requests.iter().rev().filter(same).filter_map(|asked| asked.run.parse().ok());
        Ok(runs.find(lives))
    }

    /// Enters an admitted run.
    pub(super) fn enter(&mut self, application: &Application, cap: Cap, place: Place, now: Timestamp) {
        let Application { id, lineage, server, request, .. } = application;
        self.push(id, lineage.parent.clone(), lineage.root.clone(), server, cap, place);
        self.starts.push(now);
        if let Some(key) = &request.key {
            self.keys.insert(key.clone(), Keyed { content: request.content.clone(), run: id.to_string() });
        } else if let Some(client) = &request.client {
            let (content, client, run) = (request.content.clone(), client.clone(), id.to_string());
            self.requests.push(Asked { content, client, run, at: now });
        }
    }

    fn push(&mut self, id: &RunId, parent: Option<RunId>, root: RunId, server: &str, cap: Cap, place: Place) {
        self.is_changed = true;
        self.next_ticket += 1;
        self.entries.push(Entry {
            run: id.to_string(),
            parent: parent.map(|parent| parent.to_string()),
            root: root.to_string(),
            server: server.to_owned(),
            ticket: self.next_ticket,
            place,
            budget_microusd: cap.usd.map(|usd| usd.0),
            max_tokens: cap.tokens,
            spent_microusd: 0,
            spent_tokens: 0,
        });
    }

    /// How long until another start is allowed.
    pub(super) fn wait_after(&mut self, now: Timestamp, span: Duration, most: u32) -> Option<Duration> {
        let age = |at: &Timestamp| Duration::try_from(now.duration_since(*at)).unwrap_or_default();
        self.starts.retain(|at| age(at) < span);
        let full = self.starts.len() >= most as usize;
        full.then(|| self.starts.first().map(|at| span.saturating_sub(age(at))).unwrap_or(span))
    }

    pub(super) fn not_over(&self) -> Vec<RunId> {
        let live = self.entries.iter().filter(|entry| entry.place != Place::Over);
        live.filter_map(|entry| entry.run.parse().ok()).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.entries.iter().filter(|entry| entry.place == Place::Waiting).count()
    }

    pub(super) fn live_roots(&self) -> usize {
        self.entries.iter().filter(|entry| entry.place == Place::Live && entry.parent.is_none()).count()
    }

    pub(super) fn live_below(&self, root: &RunId) -> usize {
        let below =
            |entry: &&Entry| entry.root == root.as_str() && entry.parent.is_some() && entry.place != Place::Over;
        self.entries.iter().filter(below).count()
    }

    /// Gives the run its slot, if it is its turn. Who is not in the book has been forgotten by it, and waits for nobody.
    pub(super) fn turn(&mut self, id: &RunId, slots: u32) -> Turn {
        let Some(ahead) = self.ahead(id) else { return Turn::Go };
        if slots > 0 && self.live_roots() + ahead >= slots as usize {
            return Turn::Wait { ahead };
        }
        self.is_changed = true;
        self.entries.iter_mut().filter(|entry| entry.run == id.as_str()).for_each(|entry| entry.place = Place::Live);
        Turn::Go
    }

    pub(super) fn place(&self, id: &RunId) -> Option<(usize, usize)> {
        Some((self.ahead(id)?, self.waiting()))
    }

    /// How many wait before a run that waits.
    fn ahead(&self, id: &RunId) -> Option<usize> {
        let waiting = || self.entries.iter().filter(|entry| entry.place == Place::Waiting);
        let ticket = waiting().find(|entry| entry.run == id.as_str())?.ticket;
        Some(waiting().filter(|entry| entry.ticket < ticket).count())
    }

    pub(super) fn end(&mut self, id: &RunId, spent: Spent) {
        for entry in self.entries.iter_mut().filter(|entry| entry.run == id.as_str() && entry.place != Place::Over) {
            self.is_changed = true;
            entry.place = Place::Over;
            (entry.spent_microusd, entry.spent_tokens) = (spent.usd.0, spent.tokens);
        }
    }

    /// Books trees of which every run is over, and forgets their runs.
    pub(super) fn close_trees(&mut self, now: Timestamp) {
        let open = |root: &str| self.entries.iter().any(|entry| entry.root == root && entry.place != Place::Over);
        self.is_changed |= self.entries.iter().any(|entry| !open(&entry.root));
        let closed: Vec<String> =
            self.entries.iter().map(|entry| entry.root.clone()).filter(|root| !open(root)).collect();
        let (over, kept) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| closed.contains(&entry.root));
        self.entries = kept;
        let over: Vec<Entry> = over;
        for root in over.iter().filter(|entry| entry.parent.is_none()) {
            self.add_to_day(now, Usd(root.spent_microusd));
            self.add_to_server(&root.server, root.spent_microusd);
        }
    }

    fn add_to_day(&mut self, at: Timestamp, spent: Usd) {
        let day = self.days.entry(day(at)).or_default();
        *day = day.saturating_add(spent.0);
        while self.days.len() > DAYS {
            self.days.pop_first();
        }
    }

    fn add_to_server(&mut self, server: &str, spent: u64) {
        let place = self.servers.iter().position(|(known, _)| known == server);
        let (_, before) = place.map(|place| self.servers.remove(place)).unwrap_or_default();
        self.servers.push((server.to_owned(), before.saturating_add(spent)));
        let surplus = self.servers.len().saturating_sub(SERVERS);
        self.servers.drain(..surplus);
    }

    /// What a run has spent by itself, and what is kept for the runs that it started.
    pub(super) fn charge_of_parent(&self, parent: &RunId, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        let children = || self.entries.iter().filter(|entry| entry.parent.as_deref() == Some(parent.as_str()));
        let below: Spent = children().map(|entry| entry.spent(spent)).sum();
        let kept: Spent = children().map(|entry| entry.charge(spent)).sum();
        let all = spent(parent);
        let own = Spent {
            usd: Usd(all.usd.0.saturating_sub(below.usd.0)),
            tokens: all.tokens.saturating_sub(below.tokens),
            is_unpriced: all.is_unpriced,
        };
        own + kept
    }

    pub(super) fn charge_of_server(&self, server: &str, spent: &impl Fn(&RunId) -> Spent) -> Usd {
        let before =
            self.servers.iter().find(|(known, _)| known == server).map(|(_, spent)| *spent).unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none() && entry.server == server);
        let kept: Spent = live.map(|entry| entry.charge(spent)).sum();
        Usd(before.saturating_add(kept.usd.0))
    }

    pub(super) fn charge_of_day(&self, now: Timestamp, spent: &impl Fn(&RunId) -> Spent) -> Usd {
        let before = self.days.get(&day(now)).copied().unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none());
        let kept: Spent = live.map(|entry| entry.charge(spent)).sum();
        Usd(before.saturating_add(kept.usd.0))
    }
}

/// The day of a moment, by UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
