//! What the ledger holds, and what follows from it: who waits before whom, what is charged to which budget, which request is
//! known. Pure: it looks at no run and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Application, FOLD, LedgerError, Request, Turn};
use crate::run::{Cap, Lineage, RunId, RunRecord, RunState, Spent, Today, Usd};

/// How many days are kept.
const DAYS: usize = 8;
/// How many servers are kept whose budget is limited, the latest.
const SERVERS: usize = 1000;
/// How many experiments are kept, the latest.
const EXPERIMENTS: usize = 1000;
/// The version of the file.
pub(super) const VERSION: u32 = 1;
/// How many request keys are kept before those of forgotten runs are dropped.
const KEYS: usize = 1000;

#[derive(Serialize, Deserialize)]
pub(super) struct Book {
    version: u32,
    next_ticket: u64,
    entries: Vec<Entry>,
    /// Starts of the last minute.
    starts: Vec<Timestamp>,
    /// Millionths of a dollar by day, of trees that are over.
    days: BTreeMap<String, u64>,
    /// What else is known of those days.
    #[serde(default)]
    day_counts: BTreeMap<String, DayCount>,
    /// The same by server, the newest last; of servers that have a budget.
    servers: Vec<(String, u64)>,
    /// What the closed trees of an experiment have spent, in millionths of a dollar and in tokens, the newest last.
    #[serde(default)]
    experiments: Vec<(String, u64, u64)>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
    ticket: u64,
    place: Place,
    #[serde(default)]
    budget_microusd: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    /// What a run that is over has spent by itself.
    #[serde(default)]
    spent_microusd: u64,
    #[serde(default)]
    spent_tokens: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_unpriced: bool,
}

/// The runs of trees that were over on a day.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct DayCount {
    runs: u64,
    tokens: u64,
    is_unpriced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    Waiting,
    Live,
    Over,
}

/// Whose money a run spends, beside its parent's.
#[derive(Clone, Copy)]
struct Owner<'a> {
    server: &'a str,
    experiment: Option<&'a str>,
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
    asked: String,
    run: String,
}

impl Entry {
    /// What is kept for it while it is not over, for all below it too.
    fn kept(&self) -> Spent {
        Spent {
            usd: Usd(self.budget_microusd.unwrap_or_default()),
            tokens: self.max_tokens.unwrap_or_default(),
            is_unpriced: false,
        }
    }

    /// What it has spent by itself.
    fn spent(&self, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        if self.place == Place::Over {
            let is_unpriced = self.is_unpriced;
            return Spent { usd: Usd(self.spent_microusd), tokens: self.spent_tokens, is_unpriced };
        }
        self.run.parse().map(|id| spent(&id)).unwrap_or_default()
    }
}

impl Book {
    pub(super) fn from_json(bytes: &[u8]) -> Result<Book, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// What the records of all runs tell, the oldest first.
    pub(super) fn of_records(records: &[RunRecord]) -> Book {
        let mut book = Book::default();
        let live = records.iter().filter(|record| record.state.ended().is_none());
        let live_trees: BTreeSet<&RunId> = live.map(|record| &record.spec.lineage.root).collect();
        for record in records {
            let spec = &record.spec;
            if let Some(key) = &spec.origin.key {
                let (asked, run) = (spec.origin.asked.clone(), spec.id.to_string());
                book.keys.insert(key.clone(), Keyed { asked, run });
            }
            let ending = record.state.ended();
            if let Some(ending) = ending.filter(|_| !live_trees.contains(&spec.lineage.root)) {
                book.add_to_day(ending.at.wall, record.spent);
                book.add_to_server(&spec.origin.server, record.spent.usd.0);
                book.add_to_experiment(spec.origin.experiment.as_deref(), record.spent_in_all());
                continue;
            }
            let place = if record.state == RunState::Queued { Place::Waiting } else { Place::Live };
            let own = Owner { server: &spec.origin.server, experiment: spec.origin.experiment.as_deref() };
            book.push(&spec.id, &spec.lineage, own, spec.allowance.cap, place);
            if ending.is_some() {
                book.end(&spec.id, record.spent);
            }
        }
        book
    }

    /// The run that the same request has started, if it has.
    pub(super) fn known(
        &mut self,
        request: &Request,
        now: Timestamp,
        began: impl Fn(&RunId) -> bool,
        lives: impl Fn(&RunId) -> bool,
    ) -> Result<Option<RunId>, LedgerError> {
        if self.keys.len() > KEYS {
            self.keys.retain(|_, keyed| keyed.run.parse().is_ok_and(|id| began(&id)));
        }
        if let Some(key) = &request.key {
            let keyed = self.keys.get(key);
            let run = keyed.and_then(|keyed| keyed.run.parse::<RunId>().ok()).filter(|id| began(id));
            return match (keyed, run) {
                (Some(keyed), Some(run)) if keyed.asked != request.asked => Err(LedgerError::KeyTaken(run)),
                (_, run) => Ok(run),
            };
        }
        let fresh = |asked: &Asked| age(asked.at, now).is_some_and(|age| age <= FOLD);
        self.requests.retain(fresh);
        let same = |asked: &&Asked| asked.content == request.content && Some(&asked.client) == request.client.as_ref();
        let mut runs = self.requests.iter().rev().filter(same).filter_map(|asked| asked.run.parse().ok());
        Ok(runs.find(lives))
    }

    /// Enters an admitted run.
    pub(super) fn enter(&mut self, application: &Application, cap: Cap, place: Place, now: Timestamp) {
        let Application { id, lineage, server, request, share, .. } = application;
        let experiment = share.as_ref().map(|share| share.experiment.as_str());
        self.push(id, lineage, Owner { server, experiment }, cap, place);
        self.starts.push(now);
        if let Some(key) = &request.key {
            self.keys.insert(key.clone(), Keyed { asked: request.asked.clone(), run: id.to_string() });
        } else if let Some(client) = &request.client {
            let (content, client, run) = (request.content.clone(), client.clone(), id.to_string());
            self.requests.push(Asked { content, client, run, at: now });
        }
    }

    fn push(&mut self, id: &RunId, lineage: &Lineage, own: Owner<'_>, cap: Cap, place: Place) {
        self.is_changed = true;
        self.next_ticket += 1;
        self.entries.push(Entry {
            run: id.to_string(),
            parent: lineage.parent.as_ref().map(RunId::to_string),
            root: lineage.root.to_string(),
            server: own.server.to_owned(),
            experiment: own.experiment.map(str::to_owned),
            ticket: self.next_ticket,
            place,
            budget_microusd: cap.usd.map(|usd| usd.0),
            max_tokens: cap.tokens,
            spent_microusd: 0,
            spent_tokens: 0,
            is_unpriced: false,
        });
    }

    /// How long until another start is allowed.
    pub(super) fn wait_after(&mut self, now: Timestamp, span: Duration, most: u32) -> Option<Duration> {
        self.starts.retain(|at| age(*at, now).is_some_and(|age| age < span));
        let over = self.starts.len().checked_sub(most as usize)?;
        let in_the_way = self.starts.get(over).and_then(|at| age(*at, now));
        Some(in_the_way.map_or(span, |age| span.saturating_sub(age)))
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
            entry.is_unpriced = spent.is_unpriced;
        }
    }

    /// Books trees of which every run is over, and forgets their runs.
    pub(super) fn close_trees(&mut self, now: Timestamp) {
        let open = |root: &str| self.entries.iter().any(|entry| entry.root == root && entry.place != Place::Over);
        self.is_changed |= self.entries.iter().any(|entry| !open(&entry.root));
        let closed: Vec<String> =
            self.entries.iter().map(|entry| entry.root.clone()).filter(|root| !open(root)).collect();
        // With all below it, for which its entry and theirs have to be here still.
        let ended = self.entries.iter().filter(|entry| closed.contains(&entry.root));
        let of_experiments: Vec<_> = ended
            .filter_map(|entry| Some((entry.experiment.clone()?, self.charge(entry, &|_| Spent::default()))))
            .collect();
        of_experiments.iter().for_each(|(experiment, spent)| self.add_to_experiment(Some(experiment), *spent));
        let (over, kept): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| closed.contains(&entry.root));
        self.entries = kept;
        for entry in over {
            self.add_to_day(now, entry.spent(&|_| Spent::default()));
            self.add_to_server(&entry.server, entry.spent_microusd);
        }
    }

    fn add_to_day(&mut self, at: Timestamp, spent: Spent) {
        let dollars = self.days.entry(day(at)).or_default();
        *dollars = dollars.saturating_add(spent.usd.0);
        let count = self.day_counts.entry(day(at)).or_default();
        count.runs += 1;
        count.tokens = count.tokens.saturating_add(spent.tokens);
        count.is_unpriced |= spent.is_unpriced;
        while self.days.len() > DAYS {
            self.days.pop_first();
        }
        while self.day_counts.len() > DAYS {
            self.day_counts.pop_first();
        }
    }

    fn add_to_server(&mut self, server: &str, spent: u64) {
        if server.is_empty() {
            return;
        }
        let place = self.servers.iter().position(|(known, _)| known == server);
        let (_, before) = place.map(|place| self.servers.remove(place)).unwrap_or_default();
        self.servers.push((server.to_owned(), before.saturating_add(spent)));
        let surplus = self.servers.len().saturating_sub(SERVERS);
        self.servers.drain(..surplus);
    }

    fn add_to_experiment(&mut self, experiment: Option<&str>, spent: Spent) {
        let Some(experiment) = experiment else { return };
        let place = self.experiments.iter().position(|(known, ..)| known == experiment);
        let (_, usd, tokens) = place.map(|place| self.experiments.remove(place)).unwrap_or_default();
        let (usd, tokens) = (usd.saturating_add(spent.usd.0), tokens.saturating_add(spent.tokens));
        self.experiments.push((experiment.to_owned(), usd, tokens));
        let surplus = self.experiments.len().saturating_sub(EXPERIMENTS);
        self.experiments.drain(..surplus);
    }

    /// What the runs of an experiment have spent, and what is kept for those that live.
    pub(super) fn charge_of_experiment(&self, experiment: &str, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        let before = self.experiments.iter().find(|(known, ..)| known == experiment);
        let (usd, tokens) = before.map(|(_, usd, tokens)| (*usd, *tokens)).unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.experiment.as_deref() == Some(experiment));
        let kept: Spent = live.map(|entry| self.charge(entry, spent)).sum();
        kept + Spent { usd: Usd(usd), tokens, is_unpriced: false }
    }

    /// The run that a key has started.
    pub(super) fn run_of_key(&self, key: &str) -> Option<RunId> {
        self.keys.get(key).and_then(|keyed| keyed.run.parse().ok())
    }

    /// What a run has spent by itself, and what is kept for the runs that it started.
    pub(super) fn charge_of_parent(&self, parent: &RunId, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        spent(parent) + self.charge_below(parent.as_str(), spent)
    }

    fn charge_below(&self, run: &str, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        let children = self.entries.iter().filter(|entry| entry.parent.as_deref() == Some(run));
        children.map(|child| self.charge(child, spent)).sum()
    }

    /// What is charged for a run: what it and all below it have spent, and while it is not over no less than they may. A run
    /// that was stopped alone has left others that go on spending.
    fn charge(&self, entry: &Entry, spent: &impl Fn(&RunId) -> Spent) -> Spent {
        let so_far = entry.spent(spent) + self.charge_below(&entry.run, spent);
        if entry.place == Place::Over { so_far } else { so_far.at_least(entry.kept()) }
    }

    pub(super) fn charge_of_server(&self, server: &str, spent: &impl Fn(&RunId) -> Spent) -> Usd {
        let before =
            self.servers.iter().find(|(known, _)| known == server).map(|(_, spent)| *spent).unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none() && entry.server == server);
        let kept: Spent = live.map(|entry| self.charge(entry, spent)).sum();
        Usd(before.saturating_add(kept.usd.0))
    }

    pub(super) fn charge_of_day(&self, now: Timestamp, spent: &impl Fn(&RunId) -> Spent) -> Usd {
        let before = self.days.get(&day(now)).copied().unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none());
        let kept: Spent = live.map(|entry| self.charge(entry, spent)).sum();
        Usd(before.saturating_add(kept.usd.0))
    }

    /// The runs of the day (UTC): those of trees that were over on it, and all of trees that are not. Each counts for what it has
    /// spent, and none for what it may. `lives` is asked of those that have not told the book that they are over.
    pub(super) fn today(
        &self,
        now: Timestamp,
        spent: &impl Fn(&RunId) -> Spent,
        lives: &impl Fn(&RunId) -> bool,
    ) -> Today {
        let day = day(now);
        let count = self.day_counts.get(&day).copied().unwrap_or_default();
        let usd = Usd(self.days.get(&day).copied().unwrap_or_default());
        let over = Spent { usd, tokens: count.tokens, is_unpriced: count.is_unpriced };
        let of_entries: Spent = self.entries.iter().map(|entry| entry.spent(spent)).sum();
        let live = self.not_over().iter().filter(|id| lives(id)).count() as u64;
        Today { day, runs: count.runs + self.entries.len() as u64, live, spent: over + of_entries }
    }

    /// Whether a run is below another one, by any number of generations.
    pub(super) fn is_below(&self, run: &RunId, above: &RunId) -> bool {
        let parent_of = |run: &str| self.entries.iter().find(|entry| entry.run == run)?.parent.as_deref();
        // A run is younger than its parent, so that this ends; a damaged book must not make it go round.
        let mut parents = std::iter::successors(parent_of(run.as_str()), |run| parent_of(run));
        parents.by_ref().take(self.entries.len()).any(|parent| parent == above.as_str())
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl Default for Book {
    fn default() -> Book {
        Book {
            version: VERSION,
            next_ticket: 0,
            entries: Vec::new(),
            starts: Vec::new(),
            days: BTreeMap::new(),
            day_counts: BTreeMap::new(),
            servers: Vec::new(),
            experiments: Vec::new(),
            requests: Vec::new(),
            keys: BTreeMap::new(),
            is_changed: false,
        }
    }
}

/// How long ago a moment was; none where it has not come yet, since somebody has set the clock back.
fn age(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(at)).ok()
}

/// The day of a moment, by UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
