//! F50: ten thousand random sequences of start, wait, kill, crash of server, crash of supervisor, restart and prune, played on
//! real folders, records and locks with scripted owners in place of processes, agree with a small model of the state table.

use std::path::Path;
use std::time::Instant;

use massgen_mcp::clock;
use massgen_mcp::fleet::{Cursor, Fleet, Selection};
use massgen_mcp::registry::{Durability, InitialFiles, OwnerLock, RunFolder, StateFolder};
use massgen_mcp::run::{
    ConfigChoice, Ending, Exit, Outcome, ProcessIdentity, RunId, RunRecord, RunSpec, RunState, StopCause, StopRequest,
};

use crate::lab::{Dice, PATIENCE};

const SEQUENCES: u64 = 10_000;
const STEPS: usize = 12;

/// The model: the state that a snapshot must show for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    /// On disk and owned by the server that starts it.
    Made,
    Starting,
    Running,
    Stopping,
    /// The owner died; the next snapshot shows this state.
    Orphan(&'static str),
    Ended(&'static str),
    Pruned,
}

impl Model {
    fn after_snapshot(self) -> Model {
        match self {
            Model::Orphan(name) => Model::Ended(name),
            Model::Made | Model::Starting | Model::Running | Model::Stopping | Model::Ended(_) | Model::Pruned => self,
        }
    }

    fn state_name(self) -> Option<&'static str> {
        match self {
            Model::Made | Model::Starting => Some("starting"),
            Model::Running => Some("running"),
            Model::Stopping => Some("stopping"),
            Model::Orphan(name) | Model::Ended(name) => Some(name),
            Model::Pruned => None,
        }
    }
}

/// A run, its scripted owner, and its state in the model.
struct Actor {
    id: RunId,
    folder: RunFolder,
    record: RunRecord,
    lock: Option<OwnerLock>,
    stop_requested: bool,
    model: Model,
}

/// A process that does not exist.
fn absent_process() -> ProcessIdentity {
    ProcessIdentity { pid: 4_000_000, start_ticks: 1, boot_id: clock::boot_id().to_owned() }
}

fn spec(id: RunId) -> RunSpec {
    let rehearsal = ConfigChoice::Rehearsal("@rehearsal".to_owned());
    RunSpec::new(id, "q", rehearsal, "/".into(), "/bin/false".into())
}

impl Actor {
    fn start(state: &StateFolder) -> Actor {
        let id = state.new_id().expect("id");
        let (folder, lock) = state.create(&spec(id.clone()), InitialFiles::default()).expect("created");
        let record = folder.load().expect("loads");
        Actor { id, folder, record, lock: Some(lock), stop_requested: false, model: Model::Made }
    }

    fn save(&mut self, state: RunState, model: Model) {
        self.record.state = state;
        self.record.seq += 1;
        let lock = self.lock.as_ref().expect("owned");
        self.folder.save(&self.record, lock, Durability::NotSynced).expect("saved");
        self.model = model;
    }

    /// One step of the owner, if a step is left.
    fn advance(&mut self, dice: &mut Dice) {
        match self.model {
            Model::Made => {
                self.record.started = Some(clock::now());
                self.save(RunState::Starting { leader: None }, Model::Starting);
            }
            Model::Starting | Model::Running if self.stop_requested && self.folder.stop_request().is_some() => {
                let cause = StopCause::Requested { reason: None };
                self.save(RunState::Stopping { leader: absent_process(), cause }, Model::Stopping);
            }
            Model::Starting => self.save(RunState::Running { leader: absent_process() }, Model::Running),
            Model::Running => {
                let (outcome, name) = match dice.roll(3) {
                    0 => (Outcome::Succeeded, "succeeded"),
                    1 => (Outcome::TimedOut { ours: true, problem: None }, "timed_out"),
                    _ => (Outcome::OverBudget, "over_budget"),
                };
                self.end(outcome, name);
            }
            Model::Stopping => self.end(Outcome::Killed { reason: None, problem: None }, "killed"),
            Model::Orphan(_) | Model::Ended(_) | Model::Pruned => {}
        }
    }

    fn end(&mut self, outcome: Outcome, name: &'static str) {
        let took = std::time::Duration::ZERO;
        let ending = Ending {
            outcome,
            exit: Exit::Code(0),
            ended_at: clock::now(),
            duration: took,
            answer: None,
            stop: None,
            warnings: Vec::new(),
        };
        self.save(RunState::Ended(ending), Model::Ended(name));
        self.lock = None;
    }

    fn crash(&mut self) {
        self.model = match self.model {
            Model::Made => Model::Orphan("failed"),
            Model::Starting | Model::Running | Model::Stopping => Model::Orphan("lost"),
            Model::Orphan(_) | Model::Ended(_) | Model::Pruned => return,
        };
        self.lock = None;
    }

    fn request_stop_from_owner(&mut self) {
        if self.model != Model::Pruned {
            let request = StopRequest { grace: std::time::Duration::ZERO, reason: None, tree: true };
            self.folder.request_stop(&request).expect("asked");
            self.stop_requested = true;
        }
    }

    fn prune(&mut self) {
        if matches!(self.model, Model::Ended(_)) {
            std::fs::remove_dir_all(self.folder.path()).expect("removed");
            self.model = Model::Pruned;
        }
    }
}

/// Takes a snapshot with a new server, which has no memory of earlier ones, and compares it with the model. It retries while orphaned
/// runs are not finalized: when another test of this process forks, the child holds every lock for a moment.
async fn check_snapshot(state: &StateFolder, actors: &mut [Actor], trace: &str) -> Cursor {
    let started = Instant::now();
    loop {
        let fleet = Fleet::new(state.clone(), Path::new("/bin/false"));
        let snapshot = fleet.snapshot(&Selection::Latest).await.expect("a snapshot");
        assert!(snapshot.unreadable.is_empty(), "{trace}");
        let listed = actors.iter().filter(|actor| actor.model != Model::Pruned).count();
        assert_eq!(snapshot.runs.len(), listed, "{trace}");
        let shown_state =
            |id: &RunId| snapshot.runs.iter().find(|run| run.spec.id == *id).map(|run| run.state.as_str().to_owned());
        let not_finalized = |actor: &Actor| {
            matches!(actor.model, Model::Orphan(_)) && shown_state(&actor.id).as_deref() != actor.model.state_name()
        };
        if actors.iter().any(not_finalized) && started.elapsed() < PATIENCE {
            continue;
        }
        for actor in actors {
            assert_eq!(shown_state(&actor.id).as_deref(), actor.model.state_name(), "{trace}");
            actor.model = actor.model.after_snapshot();
        }
        return Cursor::from_runs(&snapshot.runs);
    }
}

#[tokio::test]
async fn f50_random_sequences_agree_with_the_model() {
    // In memory if possible: each record is synced, and ten thousand sequences write many records.
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    for seed in 0..SEQUENCES {
        let root = tempfile::tempdir_in(&base).expect("temp");
        let state = StateFolder::open(root.path()).expect("state");
        let mut dice = Dice::new(seed);
        let mut actors: Vec<Actor> = Vec::new();
        let mut trace = format!("sequence {seed}:");
        for _ in 0..STEPS {
            let step = dice.roll(16);
            let which = if actors.is_empty() { 0 } else { dice.roll(actors.len()) };
            trace.push_str(&format!(" {step}/{which}"));
            if actors.is_empty() || (step < 2 && actors.len() < 3) {
                actors.push(Actor::start(&state));
                continue;
            }
            match (step, actors.get_mut(which)) {
                (2..=9, Some(actor)) => actor.advance(&mut dice),
                (10, Some(actor)) => actor.request_stop_from_owner(),
                (11, Some(actor)) => actor.crash(),
                (12, Some(actor)) => actor.prune(),
                _ => drop(check_snapshot(&state, &mut actors, &trace).await),
            }
        }
        // A wait compares a snapshot with the last one: without a change another server must get the same cursor.
        let cursor = check_snapshot(&state, &mut actors, &trace).await;
        assert_eq!(check_snapshot(&state, &mut actors, &trace).await, cursor, "{trace}");
        if let Some(actor) = actors.iter_mut().find(|actor| actor.lock.is_some()) {
            actor.advance(&mut dice);
            assert_ne!(check_snapshot(&state, &mut actors, &trace).await, cursor, "{trace}");
        }
    }
}
