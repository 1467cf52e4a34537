//! The content of the ledger and the decisions based on it: the order of waiting runs, the charges to each budget, repeated
//! requests. Pure: it reads no run folder and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AdmissionRequest, DEDUP_WINDOW, LedgerError, RequestIdentity, SlotClaim};
use crate::run::{Cap, DailySummary, Lineage, RunId, RunRecord, RunState, Spend, Usd};

/// The maximum number of days in the ledger.
const MAX_DAYS: usize = 8;
/// The maximum number of servers with a limited budget in the ledger; the latest ones stay.
const MAX_SERVERS: usize = 1000;
/// The maximum number of experiments in the ledger; the latest ones stay.
const MAX_EXPERIMENTS: usize = 1000;
/// The version of the file.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Above this number, request keys of forgotten runs are dropped.
const MAX_KEYS: usize = 1000;

#[derive(Serialize, Deserialize)]
pub(super) struct LedgerState {
    version: u32,
    next_ticket: u64,
    entries: Vec<LedgerEntry>,
    /// The times of the starts in the last minute.
    starts: Vec<Timestamp>,
    /// The spend of finished trees by day, in millionths of a dollar.
    days: BTreeMap<String, u64>,
    /// Other totals of those days.
    #[serde(default)]
    day_counts: BTreeMap<String, DayCount>,
    /// The same spend by server, for servers that have a budget; the newest last.
    servers: Vec<(String, u64)>,
    /// The spend of the finished trees of each experiment, in millionths of a dollar and in tokens; the newest last.
    #[serde(default)]
    experiments: Vec<(String, u64, u64)>,
    requests: Vec<RecentRequest>,
    keys: BTreeMap<String, KeyedRequest>,
    /// Whether the content has changed since it was read: a check without a change must not wake the watchers of the file.
    #[serde(skip)]
    pub(super) is_changed: bool,
}

/// A run that is not over, or that belongs to an unfinished tree.
#[derive(Serialize, Deserialize)]
struct LedgerEntry {
    run: String,
    #[serde(default)]
    parent: Option<String>,
    root: String,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
    ticket: u64,
    place: Phase,
    #[serde(default)]
    budget_microusd: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    /// The own spend of a run that is over.
    #[serde(default)]
    spent_microusd: u64,
    #[serde(default)]
    spent_tokens: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_unpriced: bool,
}

/// The runs of trees that finished on a day.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct DayCount {
    runs: u64,
    tokens: u64,
    is_unpriced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Waiting,
    Live,
    Over,
}

/// The server and experiment that a run's spend is charged to, in addition to its parent.
#[derive(Clone, Copy)]
struct EntryOwner<'a> {
    server: &'a str,
    experiment: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct RecentRequest {
    content: String,
    client: String,
    run: String,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct KeyedRequest {
    asked: String,
    run: String,
}

impl LedgerEntry {
    /// The amount reserved for the run and all runs below it while it is not over.
    fn reserved(&self) -> Spend {
        Spend {
            usd: Usd(self.budget_microusd.unwrap_or_default()),
            tokens: self.max_tokens.unwrap_or_default(),
            is_unpriced: false,
        }
    }

    /// The run's own spend.
    fn spent(&self, spent: &impl Fn(&RunId) -> Spend) -> Spend {
        if self.place == Phase::Over {
            let is_unpriced = self.is_unpriced;
            return Spend { usd: Usd(self.spent_microusd), tokens: self.spent_tokens, is_unpriced };
        }
        self.run.parse().map(|id| spent(&id)).unwrap_or_default()
    }
}

impl LedgerState {
    pub(super) fn from_json(bytes: &[u8]) -> Result<LedgerState, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Builds the state from the records of all runs, the oldest first.
    pub(super) fn from_records(records: &[RunRecord]) -> LedgerState {
        let mut state = LedgerState::default();
        let live = records.iter().filter(|record| record.state.ending().is_none());
        let live_trees: BTreeSet<&RunId> = live.map(|record| &record.spec.lineage.root).collect();
        for record in records {
            let spec = &record.spec;
            if let Some(key) = &spec.origin.key_hash {
                let (request_hash, run) = (spec.origin.request_hash.clone(), spec.id.to_string());
                state.keys.insert(key.clone(), KeyedRequest { asked: request_hash, run });
            }
            let ending = record.state.ending();
            if let Some(ending) = ending.filter(|_| !live_trees.contains(&spec.lineage.root)) {
                state.add_to_day(ending.ended_at.wall, record.spent);
                state.add_to_server(&spec.origin.server, record.spent.usd.0);
                state.add_to_experiment(spec.origin.experiment.as_deref(), record.total_spent());
                continue;
            }
            let phase = if record.state == RunState::Queued { Phase::Waiting } else { Phase::Live };
            let owner = EntryOwner { server: &spec.origin.server, experiment: spec.origin.experiment.as_deref() };
            state.push_entry(&spec.id, &spec.lineage, owner, spec.allowance.cap, phase);
            if ending.is_some() {
                state.settle(&spec.id, record.spent);
            }
        }
        state
    }

    /// The run that an identical request has started, if any.
    pub(super) fn find_duplicate(
        &mut self,
        request: &RequestIdentity,
        now: Timestamp,
        has_run: impl Fn(&RunId) -> bool,
        is_live: impl Fn(&RunId) -> bool,
    ) -> Result<Option<RunId>, LedgerError> {
        if self.keys.len() > MAX_KEYS {
            self.keys.retain(|_, keyed_run| keyed_run.run.parse().is_ok_and(|id| has_run(&id)));
        }
        if let Some(key) = &request.key_hash {
            let keyed_run = self.keys.get(key);
            let run = keyed_run.and_then(|keyed_run| keyed_run.run.parse::<RunId>().ok()).filter(|id| has_run(id));
            return match (keyed_run, run) {
                (Some(keyed_run), Some(run)) if keyed_run.asked != request.request_hash => {
                    Err(LedgerError::KeyReused(run))
                }
                (_, run) => Ok(run),
            };
        }
        let is_recent = |recent: &RecentRequest| elapsed_since(recent.at, now).is_some_and(|age| age <= DEDUP_WINDOW);
        self.requests.retain(is_recent);
        let is_same = |recent: &&RecentRequest| {
            recent.content == request.content_hash && Some(&recent.client) == request.client.as_ref()
        };
        let mut runs = self.requests.iter().rev().filter(is_same).filter_map(|recent| recent.run.parse().ok());
        Ok(runs.find(is_live))
    }

    /// Adds an admitted run.
    pub(super) fn add_run(&mut self, admission_request: &AdmissionRequest, cap: Cap, phase: Phase, now: Timestamp) {
        let AdmissionRequest { id, lineage, server, identity: request, share, .. } = admission_request;
        let experiment = share.as_ref().map(|share| share.experiment.as_str());
        self.push_entry(id, lineage, EntryOwner { server, experiment }, cap, phase);
        self.starts.push(now);
        if let Some(key) = &request.key_hash {
            self.keys.insert(key.clone(), KeyedRequest { asked: request.request_hash.clone(), run: id.to_string() });
        } else if let Some(client) = &request.client {
            let (content, client, run) = (request.content_hash.clone(), client.clone(), id.to_string());
            self.requests.push(RecentRequest { content, client, run, at: now });
        }
    }

    fn push_entry(&mut self, id: &RunId, lineage: &Lineage, owner: EntryOwner<'_>, cap: Cap, phase: Phase) {
        self.is_changed = true;
        self.next_ticket += 1;
        self.entries.push(LedgerEntry {
            run: id.to_string(),
            parent: lineage.parent.as_ref().map(RunId::to_string),
            root: lineage.root.to_string(),
            server: owner.server.to_owned(),
            experiment: owner.experiment.map(str::to_owned),
            ticket: self.next_ticket,
            place: phase,
            budget_microusd: cap.usd.map(|usd| usd.0),
            max_tokens: cap.tokens,
            spent_microusd: 0,
            spent_tokens: 0,
            is_unpriced: false,
        });
    }

    /// The time until another start is allowed.
    pub(super) fn start_delay(&mut self, now: Timestamp, span: Duration, max_starts: u32) -> Option<Duration> {
        self.starts.retain(|at| elapsed_since(*at, now).is_some_and(|age| age < span));
        let surplus = self.starts.len().checked_sub(max_starts as usize)?;
        let blocking_age = self.starts.get(surplus).and_then(|at| elapsed_since(*at, now));
        Some(blocking_age.map_or(span, |age| span.saturating_sub(age)))
    }

    pub(super) fn unfinished_runs(&self) -> Vec<RunId> {
        let live = self.entries.iter().filter(|entry| entry.place != Phase::Over);
        live.filter_map(|entry| entry.run.parse().ok()).collect()
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.place == Phase::Waiting).count()
    }

    pub(super) fn live_root_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.place == Phase::Live && entry.parent.is_none()).count()
    }

    pub(super) fn live_descendant_count(&self, root: &RunId) -> usize {
        let descendants =
            |entry: &&LedgerEntry| entry.root == root.as_str() && entry.parent.is_some() && entry.place != Phase::Over;
        self.entries.iter().filter(descendants).count()
    }

    /// Gives the run a slot if it is next. A run that the ledger has forgotten waits for no other.
    pub(super) fn try_claim_slot(&mut self, id: &RunId, slots: u32) -> SlotClaim {
        let Some(runs_ahead) = self.runs_ahead(id) else { return SlotClaim::Claimed };
        if slots > 0 && self.live_root_count() + runs_ahead >= slots as usize {
            return SlotClaim::Waiting { ahead: runs_ahead };
        }
        self.is_changed = true;
        self.entries.iter_mut().filter(|entry| entry.run == id.as_str()).for_each(|entry| entry.place = Phase::Live);
        SlotClaim::Claimed
    }

    pub(super) fn queue_position(&self, id: &RunId) -> Option<(usize, usize)> {
        Some((self.runs_ahead(id)?, self.waiting_count()))
    }

    /// The number of runs that wait ahead of a waiting run.
    fn runs_ahead(&self, id: &RunId) -> Option<usize> {
        let waiting = || self.entries.iter().filter(|entry| entry.place == Phase::Waiting);
        let ticket = waiting().find(|entry| entry.run == id.as_str())?.ticket;
        Some(waiting().filter(|entry| entry.ticket < ticket).count())
    }

    pub(super) fn settle(&mut self, id: &RunId, spent: Spend) {
        for entry in self.entries.iter_mut().filter(|entry| entry.run == id.as_str() && entry.place != Phase::Over) {
            self.is_changed = true;
            entry.place = Phase::Over;
            (entry.spent_microusd, entry.spent_tokens) = (spent.usd.0, spent.tokens);
            entry.is_unpriced = spent.is_unpriced;
        }
    }

    /// Records the spend of trees in which every run is over, and drops their entries.
    pub(super) fn settle_finished_trees(&mut self, now: Timestamp) {
        let is_open = |root: &str| self.entries.iter().any(|entry| entry.root == root && entry.place != Phase::Over);
        self.is_changed |= self.entries.iter().any(|entry| !is_open(&entry.root));
        let closed: Vec<String> =
            self.entries.iter().map(|entry| entry.root.clone()).filter(|root| !is_open(root)).collect();
        // Charge whole trees before dropping entries: the sum needs the children's entries.
        let ended = self.entries.iter().filter(|entry| closed.contains(&entry.root));
        let experiment_charges: Vec<_> = ended
            .filter_map(|entry| Some((entry.experiment.clone()?, self.entry_charge(entry, &|_| Spend::default()))))
            .collect();
        experiment_charges.iter().for_each(|(experiment, spent)| self.add_to_experiment(Some(experiment), *spent));
        let (finished, remaining): (Vec<LedgerEntry>, Vec<LedgerEntry>) =
            std::mem::take(&mut self.entries).into_iter().partition(|entry| closed.contains(&entry.root));
        self.entries = remaining;
        for entry in finished {
            self.add_to_day(now, entry.spent(&|_| Spend::default()));
            self.add_to_server(&entry.server, entry.spent_microusd);
        }
    }

    fn add_to_day(&mut self, at: Timestamp, spent: Spend) {
        let dollars = self.days.entry(utc_day(at)).or_default();
        *dollars = dollars.saturating_add(spent.usd.0);
        let count = self.day_counts.entry(utc_day(at)).or_default();
        count.runs += 1;
        count.tokens = count.tokens.saturating_add(spent.tokens);
        count.is_unpriced |= spent.is_unpriced;
        while self.days.len() > MAX_DAYS {
            self.days.pop_first();
        }
        while self.day_counts.len() > MAX_DAYS {
            self.day_counts.pop_first();
        }
    }

    fn add_to_server(&mut self, server: &str, spent: u64) {
        if server.is_empty() {
            return;
        }
        let index = self.servers.iter().position(|(known, _)| known == server);
        let (_, before) = index.map(|index| self.servers.remove(index)).unwrap_or_default();
        self.servers.push((server.to_owned(), before.saturating_add(spent)));
        let surplus = self.servers.len().saturating_sub(MAX_SERVERS);
        self.servers.drain(..surplus);
    }

    fn add_to_experiment(&mut self, experiment: Option<&str>, spent: Spend) {
        let Some(experiment) = experiment else { return };
        let index = self.experiments.iter().position(|(known, ..)| known == experiment);
        let (_, usd, tokens) = index.map(|index| self.experiments.remove(index)).unwrap_or_default();
        let (usd, tokens) = (usd.saturating_add(spent.usd.0), tokens.saturating_add(spent.tokens));
        self.experiments.push((experiment.to_owned(), usd, tokens));
        let surplus = self.experiments.len().saturating_sub(MAX_EXPERIMENTS);
        self.experiments.drain(..surplus);
    }

    /// The spend of the runs of an experiment, plus the reservations of live ones.
    pub(super) fn experiment_charge(&self, experiment: &str, spent: &impl Fn(&RunId) -> Spend) -> Spend {
        let before = self.experiments.iter().find(|(known, ..)| known == experiment);
        let (usd, tokens) = before.map(|(_, usd, tokens)| (*usd, *tokens)).unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.experiment.as_deref() == Some(experiment));
        let charged: Spend = live.map(|entry| self.entry_charge(entry, spent)).sum();
        charged + Spend { usd: Usd(usd), tokens, is_unpriced: false }
    }

    /// The run that a key has started.
    pub(super) fn run_for_key(&self, key: &str) -> Option<RunId> {
        self.keys.get(key).and_then(|keyed_run| keyed_run.run.parse().ok())
    }

    /// The own spend of a run, plus the charges of the runs that it started.
    pub(super) fn parent_charge(&self, parent: &RunId, spent: &impl Fn(&RunId) -> Spend) -> Spend {
        spent(parent) + self.descendants_charge(parent.as_str(), spent)
    }

    fn descendants_charge(&self, run: &str, spent: &impl Fn(&RunId) -> Spend) -> Spend {
        let children = self.entries.iter().filter(|entry| entry.parent.as_deref() == Some(run));
        children.map(|child| self.entry_charge(child, spent)).sum()
    }

    /// The charge for a run: the spend of the run and all runs below it, and at least its reservation while it is not over. The runs
    /// below a run that was stopped alone continue to spend.
    fn entry_charge(&self, entry: &LedgerEntry, spent: &impl Fn(&RunId) -> Spend) -> Spend {
        let charge = entry.spent(spent) + self.descendants_charge(&entry.run, spent);
        if entry.place == Phase::Over { charge } else { charge.component_max(entry.reserved()) }
    }

    pub(super) fn server_charge(&self, server: &str, spent: &impl Fn(&RunId) -> Spend) -> Usd {
        let before =
            self.servers.iter().find(|(known, _)| known == server).map(|(_, spent)| *spent).unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none() && entry.server == server);
        let charged: Spend = live.map(|entry| self.entry_charge(entry, spent)).sum();
        Usd(before.saturating_add(charged.usd.0))
    }

    pub(super) fn day_charge(&self, now: Timestamp, spent: &impl Fn(&RunId) -> Spend) -> Usd {
        let before = self.days.get(&utc_day(now)).copied().unwrap_or_default();
        let live = self.entries.iter().filter(|entry| entry.parent.is_none());
        let charged: Spend = live.map(|entry| self.entry_charge(entry, spent)).sum();
        Usd(before.saturating_add(charged.usd.0))
    }

    /// The runs of the day (UTC): those of trees that finished on it, and those of unfinished trees. Each counts with its spend, not
    /// with its reservation. `lives` is called for runs that are not over according to the ledger.
    pub(super) fn today(
        &self,
        now: Timestamp,
        spent: &impl Fn(&RunId) -> Spend,
        is_live: &impl Fn(&RunId) -> bool,
    ) -> DailySummary {
        let day = utc_day(now);
        let count = self.day_counts.get(&day).copied().unwrap_or_default();
        let usd = Usd(self.days.get(&day).copied().unwrap_or_default());
        let ended_spend = Spend { usd, tokens: count.tokens, is_unpriced: count.is_unpriced };
        let live_spend: Spend = self.entries.iter().map(|entry| entry.spent(spent)).sum();
        let live = self.unfinished_runs().iter().filter(|id| is_live(id)).count() as u64;
        DailySummary { day, runs: count.runs + self.entries.len() as u64, live, spent: ended_spend + live_spend }
    }

    /// Whether a run is a descendant of another run.
    pub(super) fn is_descendant(&self, run: &RunId, ancestor: &RunId) -> bool {
        let parent_of = |run: &str| self.entries.iter().find(|entry| entry.run == run)?.parent.as_deref();
        // A run is younger than its parent, so the walk ends; the limit prevents an endless loop in a damaged ledger.
        let mut parents = std::iter::successors(parent_of(run.as_str()), |run| parent_of(run));
        parents.by_ref().take(self.entries.len()).any(|parent| parent == ancestor.as_str())
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl Default for LedgerState {
    fn default() -> LedgerState {
        LedgerState {
            version: FORMAT_VERSION,
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

/// The time since a moment; `None` if it lies in the future because the clock was set back.
fn elapsed_since(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(at)).ok()
}

/// The UTC day of a moment.
fn utc_day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
