//! F50: ten thousand random sequences of start, wait, steer, stop, crash of a server or supervisor, restart and removal agree with a
//! small reference model. Folders, records, locks and `Fleet` are real; scripted owners act in place of supervisors.

use std::future::{pending, ready};
use std::path::Path;
use std::time::{Duration, Instant};

use massgen_mcp::clock;
use massgen_mcp::fleet::prune::PruneMode;
use massgen_mcp::fleet::{
    AgentMessage, Cursor, Fleet, FleetError, Selection, Snapshot, SteerError, WaitResult, WaitUntil,
};
use massgen_mcp::registry::{Durability, InitialFiles, OwnerLock, RunFolder, StateFolder};
use massgen_mcp::run::{
    AnswerSource, AnswerSummary, ConfigChoice, Ending, Exit, Outcome, ProcessIdentity, RunId, RunRecord, RunSpec,
    RunState, StopCause, StopRequest,
};
use massgen_mcp::settings::Retention;

use crate::lab::{Dice, PATIENCE};

const SEQUENCES: u64 = 10_000;
const STEPS: usize = 12;
const MAX_RUNS: usize = 3;
const ALL_WAITS: [WaitUntil; 5] =
    [WaitUntil::Change, WaitUntil::AnyAnswered, WaitUntil::AllAnswered, WaitUntil::AllEnded, WaitUntil::NextChange];

/// The state of a run in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    /// Its folder exists, and the server that starts it holds the lock.
    Made,
    Queued,
    Starting,
    Running,
    Stopping,
    /// Its owner died; the next read of the run ends it with this state.
    Orphan(&'static str),
    Ended(&'static str),
    Removed,
}

impl Model {
    /// The state that a read reports; `None` if the run is not listed.
    fn reported(self) -> Option<&'static str> {
        match self {
            Model::Made | Model::Starting => Some("starting"),
            Model::Queued => Some("queued"),
            Model::Running => Some("running"),
            Model::Stopping => Some("stopping"),
            Model::Orphan(state) | Model::Ended(state) => Some(state),
            Model::Removed => None,
        }
    }

    fn is_ended(self) -> bool {
        matches!(self, Model::Ended(_))
    }
}

/// A run, its scripted owner, and the model of it.
struct Actor {
    id: RunId,
    folder: RunFolder,
    record: RunRecord,
    lock: Option<OwnerLock>,
    model: Model,
    /// How often its record has changed.
    changes: u32,
    has_answer: bool,
    /// How many messages MassGen has not read.
    messages: usize,
}

/// The identity of a process that does not exist.
fn no_process() -> ProcessIdentity {
    ProcessIdentity { pid: 4_000_000, start_ticks: 1, boot_id: clock::boot_id().to_owned() }
}

impl Actor {
    fn start(state: &StateFolder) -> Actor {
        let id = state.new_id().expect("id");
        let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
        let spec = RunSpec::new(id.clone(), "q", config, "/".into(), "/bin/false".into());
        let (folder, lock) = state.create(&spec, InitialFiles::default()).expect("created");
        let record = folder.load().expect("loads");
        let (model, lock) = (Model::Made, Some(lock));
        Actor { id, folder, record, lock, model, changes: 0, has_answer: false, messages: 0 }
    }

    fn save(&mut self, model: Model) {
        self.record.seq += 1;
        let lock = self.lock.as_ref().expect("owned");
        self.folder.save(&self.record, lock, Durability::NotSynced).expect("saved");
        (self.model, self.changes) = (model, self.changes + 1);
    }

    /// One step of the owner, if it has one.
    fn advance(&mut self, dice: &mut Dice) {
        let is_stopped = self.folder.stop_request().is_some();
        match self.model {
            Model::Made if dice.roll(3) == 0 => {
                self.record.state = RunState::Queued;
                self.save(Model::Queued);
            }
            Model::Queued if is_stopped => self.end(Outcome::Killed { reason: None, problem: None }, "killed"),
            Model::Made | Model::Queued => {
                self.record.started = Some(clock::now());
                self.record.state = RunState::Starting { leader: None };
                self.save(Model::Starting);
            }
            Model::Starting | Model::Running if is_stopped => {
                let cause = StopCause::Requested { reason: None };
                self.record.state = RunState::Stopping { leader: no_process(), cause };
                self.save(Model::Stopping);
            }
            Model::Starting => {
                self.record.state = RunState::Running { leader: no_process() };
                self.save(Model::Running);
            }
            Model::Running if !self.has_answer && dice.roll(2) == 0 => {
                let answer = AnswerSummary { agent: "agent_a".to_owned(), chars: 1, source: AnswerSource::Final };
                (self.record.ready_answer, self.has_answer) = (Some(answer), true);
                self.save(Model::Running);
            }
            Model::Running => {
                let ends = [
                    (Outcome::Succeeded, "succeeded"),
                    (Outcome::TimedOut { ours: true, problem: None }, "timed_out"),
                    (Outcome::OverBudget, "over_budget"),
                ];
                let (outcome, state) = ends[dice.roll(3)].clone();
                self.end(outcome, state);
            }
            Model::Stopping => self.end(Outcome::Killed { reason: None, problem: None }, "killed"),
            Model::Orphan(_) | Model::Ended(_) | Model::Removed => {}
        }
    }

    fn end(&mut self, outcome: Outcome, state: &'static str) {
        let (exit, duration, warnings) = (Exit::Code(0), Duration::ZERO, Vec::new());
        let ended_at = clock::now();
        let ending = Ending { outcome, exit, ended_at, duration, answer: None, stop: None, warnings };
        self.record.state = RunState::Ended(ending);
        self.save(Model::Ended(state));
        self.lock = None;
    }

    /// The owner dies: the server before the supervisor has begun, the supervisor afterwards.
    fn crash(&mut self) {
        self.model = match self.model {
            Model::Made | Model::Queued => Model::Orphan("failed"),
            Model::Starting | Model::Running | Model::Stopping => Model::Orphan("lost"),
            Model::Orphan(_) | Model::Ended(_) | Model::Removed => return,
        };
        self.lock = None;
    }

    /// A read has ended an orphan.
    fn settle(&mut self) {
        if let Model::Orphan(state) = self.model {
            (self.model, self.changes) = (Model::Ended(state), self.changes + 1);
        }
    }

    /// MassGen reads its messages.
    fn read_messages(&mut self) {
        if self.messages > 0 && self.lock.is_some() {
            std::fs::remove_dir_all(self.folder.inbox()).expect("removed");
            self.messages = 0;
        }
    }
}

/// What a cursor stands for: each listed run with the number of its changes, and whether it is answered.
type Sight = Vec<(RunId, u32, bool)>;

/// All runs of one state folder, and the last cursor that was given out.
struct World {
    state: StateFolder,
    actors: Vec<Actor>,
    given_out: Option<(Cursor, Sight)>,
    trace: String,
}

impl World {
    /// A server that has just started: it has no memory of earlier reads.
    fn server(&self) -> Fleet {
        Fleet::new(self.state.clone(), Path::new("/bin/false"))
    }

    fn listed(&self) -> impl Iterator<Item = &Actor> {
        self.actors.iter().filter(|actor| actor.model != Model::Removed)
    }

    fn sight(&self) -> Sight {
        let answered = |actor: &Actor| actor.has_answer || actor.model.is_ended();
        self.listed().map(|actor| (actor.id.clone(), actor.changes, answered(actor))).collect()
    }

    /// Whether a snapshot reports the states of the model. An orphan may be reported as live once: while another test of this process
    /// forks, the child shares every lock for a moment. The caller then reads again.
    fn agrees(&self, snapshot: &Snapshot) -> bool {
        let trace = &self.trace;
        assert!(snapshot.unreadable.is_empty(), "{trace}");
        assert_eq!(snapshot.runs.len(), self.listed().count(), "{trace}");
        self.listed().all(|actor| {
            let run = snapshot.runs.iter().find(|run| run.spec.id == actor.id).expect("listed");
            let is_reported = Some(run.state.as_str()) == actor.model.reported();
            assert!(is_reported || matches!(actor.model, Model::Orphan(_)), "{trace} {:?} {run:?}", actor.model);
            is_reported
        })
    }

    /// Repeats a read until the orphans are ended.
    async fn read<T>(&mut self, read: impl AsyncFn(Fleet) -> T, snapshot: impl Fn(&T) -> &Snapshot) -> T {
        let begun = Instant::now();
        loop {
            let result = read(self.server()).await;
            if self.agrees(snapshot(&result)) {
                self.actors.iter_mut().for_each(Actor::settle);
                return result;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", self.trace);
        }
    }

    async fn look(&mut self) -> Snapshot {
        let read = async |fleet: Fleet| fleet.snapshot(&Selection::Latest).await.expect("read");
        let snapshot = self.read(read, |snapshot| snapshot).await;
        self.give_out(Cursor::from_runs(&snapshot.runs));
        snapshot
    }

    /// A cursor is the same exactly where nothing has changed since the last one, whichever server gives it out.
    fn give_out(&mut self, cursor: Cursor) {
        let mut sight = self.sight();
        sight.sort();
        if let Some((last, seen)) = &self.given_out {
            assert_eq!(cursor == *last, sight == *seen, "{} {seen:?} {sight:?}", self.trace);
        }
        self.given_out = Some((cursor, sight));
    }

    /// A wait whose caller gives up at once, or that has no time.
    async fn wait(&mut self, dice: &mut Dice) {
        let until = ALL_WAITS[dice.roll(5)];
        let given_out = self.given_out.clone().filter(|_| dice.roll(2) == 0);
        let timeout = if dice.roll(8) == 0 { PATIENCE } else { Duration::ZERO };
        let since = given_out.as_ref().map(|(cursor, _)| cursor.clone());
        let read = async |fleet: Fleet| {
            fleet.wait(&Selection::Latest, until, since.clone(), timeout, ready(())).await.expect("waited")
        };
        let waited = self.read(read, |waited: &WaitResult| &waited.snapshot).await;
        let expected = self.is_met(until, given_out.map(|(_, sight)| sight));
        assert_eq!(waited.is_met, expected, "{} {until:?} {since:?}", self.trace);
        assert_eq!(waited.cursor, Cursor::from_runs(&waited.snapshot.runs), "{}", self.trace);
        self.give_out(waited.cursor);
    }

    /// Whether the condition of a wait is met at once, by the documentation of [`WaitUntil`].
    fn is_met(&self, until: WaitUntil, since: Option<Sight>) -> bool {
        let mut now = self.sight();
        now.sort();
        let answered = |sight: &Sight| -> Vec<RunId> {
            sight.iter().filter(|(_, _, answered)| *answered).map(|(id, ..)| id.clone()).collect()
        };
        let has_changed = since.as_ref().is_some_and(|seen| *seen != now);
        let all_ended = self.listed().all(|actor| actor.model.is_ended());
        let is_known = since.as_ref().is_some_and(|seen| answered(seen) == answered(&now));
        match until {
            WaitUntil::NextChange => has_changed,
            WaitUntil::Change => has_changed || all_ended,
            WaitUntil::AllEnded => all_ended,
            WaitUntil::AnyAnswered => all_ended || (!is_known && (since.is_some() || !answered(&now).is_empty())),
            WaitUntil::AllAnswered => all_ended || (!is_known && answered(&now).len() == now.len()),
        }
    }

    /// A wait that begins before a change returns with it.
    async fn wait_for_a_step(&mut self, dice: &mut Dice) {
        self.look().await;
        let (cursor, _) = self.given_out.clone().expect("a look gives one out");
        let Some(place) = self.actors.iter().position(|actor| actor.lock.is_some()) else { return };
        let fleet = self.server();
        let waiting = fleet.wait(&Selection::Latest, WaitUntil::NextChange, Some(cursor), PATIENCE, pending());
        let step = async {
            tokio::task::yield_now().await;
            self.actors[place].advance(dice);
        };
        let (waited, ()) = tokio::join!(waiting, step);
        let waited = waited.expect("waited");
        assert!(waited.is_met && self.agrees(&waited.snapshot), "{} {:?}", self.trace, waited.snapshot);
        self.give_out(waited.cursor);
    }

    /// Ends the orphans first: a call on one that is not ended yet has two right answers.
    async fn end_orphans(&mut self) {
        if self.actors.iter().any(|actor| matches!(actor.model, Model::Orphan(_))) {
            self.look().await;
        }
    }

    async fn stop(&mut self, place: usize) {
        self.end_orphans().await;
        let actor = &self.actors[place];
        let request = StopRequest { grace: Duration::ZERO, reason: None, tree: true };
        let stopped = self.server().stop(&actor.id, request, Duration::ZERO, pending()).await;
        match actor.model.reported() {
            Some(state) => assert_eq!(stopped.expect("stopped").state.as_str(), state, "{}", self.trace),
            None => assert!(stopped.is_err(), "{}", self.trace),
        }
        let is_requested = actor.model.reported().is_some() && !actor.model.is_ended();
        assert!(!is_requested || actor.folder.stop_request().is_some(), "{}", self.trace);
    }

    async fn steer(&mut self, place: usize) {
        self.end_orphans().await;
        let (fleet, trace) = (self.server(), self.trace.clone());
        let actor = &mut self.actors[place];
        let message = AgentMessage { content: "finish".to_owned(), agents: Vec::new() };
        let steered = fleet.steer(&actor.id, message, Duration::ZERO, pending()).await;
        match (actor.model, steered) {
            (Model::Stopping | Model::Ended(_), Err(FleetError::Steer(SteerError::RunEnded(_)))) => {}
            (Model::Removed, Err(FleetError::Registry(_))) => {}
            (Model::Made | Model::Queued | Model::Starting | Model::Running, Ok(sent)) => {
                actor.messages += 1;
                assert_eq!((sent.pending, sent.is_delivered), (actor.messages, false), "{trace}");
            }
            (model, other) => panic!("{trace} {model:?} {other:?}"),
        }
    }

    /// Removes ended runs, but the latest to end; a dry run removes none. No run with an owner is ever removed.
    async fn prune(&mut self, dice: &mut Dice) {
        let mut snapshot = self.look().await;
        let keep = dice.roll(3);
        let rule = Retention { keep_runs: Some(keep), ..Retention::default() };
        let ended_at = |run: &RunRecord| run.state.ending().map(|ending| ending.ended_at.wall);
        snapshot.runs.retain(|run| ended_at(run).is_some());
        snapshot.runs.sort_by_key(|run| (ended_at(run), run.spec.id.clone()));
        let count = snapshot.runs.len().saturating_sub(keep);
        let expected: Vec<RunId> = snapshot.runs.into_iter().take(count).map(|run| run.spec.id).collect();
        let planned = self.server().prune(rule, PruneMode::DryRun).await.expect("planned");
        let planned: Vec<RunId> = planned.removed.into_iter().map(|removal| removal.run.id).collect();
        assert_eq!(planned, expected, "{} keeps {keep}", self.trace);
        let (begun, mut removed) = (Instant::now(), Vec::new());
        // A lock that a fork shares for a moment keeps a run once more.
        while removed.len() < expected.len() && begun.elapsed() < PATIENCE {
            let report = self.server().prune(rule, PruneMode::Apply).await.expect("pruned");
            assert!(report.failed.is_empty(), "{} {report:?}", self.trace);
            removed.extend(report.removed.into_iter().map(|removal| removal.run.id));
        }
        assert_eq!(removed, expected, "{} keeps {keep}", self.trace);
        for actor in self.actors.iter_mut().filter(|actor| expected.contains(&actor.id)) {
            assert!(!actor.folder.path().exists(), "{}", self.trace);
            actor.model = Model::Removed;
        }
    }

    async fn step(&mut self, dice: &mut Dice) {
        let step = dice.roll(20);
        let place = if self.actors.is_empty() { 0 } else { dice.roll(self.actors.len()) };
        self.trace.push_str(&format!(" {step}/{place}"));
        match step {
            _ if self.actors.is_empty() => self.actors.push(Actor::start(&self.state)),
            0 | 1 if self.actors.len() < MAX_RUNS => self.actors.push(Actor::start(&self.state)),
            0..=9 => self.actors[place].advance(dice),
            10 => self.stop(place).await,
            11 => self.steer(place).await,
            12 => self.actors[place].read_messages(),
            13 | 14 => self.actors[place].crash(),
            15 => self.prune(dice).await,
            16..=18 => self.wait(dice).await,
            _ => drop(self.look().await),
        }
    }
}

#[tokio::test]
async fn f50_random_sequences_agree_with_the_model() {
    // In memory if possible: each record is synced to the disk, and ten thousand sequences write many.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    for seed in 0..SEQUENCES {
        let root = tempfile::tempdir_in(&place).expect("temp");
        let state = StateFolder::open(root.path()).expect("state");
        let mut dice = Dice::new(seed);
        let trace = format!("sequence {seed}:");
        let mut world = World { state, actors: Vec::new(), given_out: None, trace };
        for _ in 0..STEPS {
            world.step(&mut dice).await;
        }
        world.look().await;
        if seed % 10 == 0 {
            world.wait_for_a_step(&mut dice).await;
        }
    }
}
