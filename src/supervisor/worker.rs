//! The supervisor at work: waits for one event at a time, lets `plan` decide, does what it says, keeps the record.
//! `next` only picks an event; what follows from it is in plain functions.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::group::{self, Census, Family, Order};
use super::plan::{self, Action, Event, Gone, Stage};
use super::{SupervisorError, failed, leader};
use crate::clock;
use crate::massgen::answers::{self, Answer};
use crate::massgen::files::RunFiles;
use crate::massgen::launch::Launch;
use crate::massgen::layout::Layout;
use crate::massgen::outcome::{Evidence, outcome};
use crate::massgen::reasons::Words;
use crate::massgen::{pages, status};
use crate::registry::{Durability, RunFolder, RunLock};
use crate::run::{
    AnswerFact, Digest, Ending, Exit, Force, Leader, Outcome, Problem, RunRecord, RunSpec, RunState, StopCause,
    StopReport, Survivor,
};
use crate::watch::{Seat, Watcher};

/// How long MassGen has after the polite signal when SIGTERM to the supervisor or the deadline asks for the stop.
const GRACE: Duration = Duration::from_secs(5);
/// How much of the end of an output a reason is looked for in, in bytes.
const TELLING_BYTES: u64 = 64 << 10;

pub(super) struct Worker {
    folder: RunFolder,
    files: RunFiles,
    record: RunRecord,
    lock: RunLock,
    stage: Stage,
    /// Whether runs that this run started are stopped with it.
    tree: bool,
    deadline: Instant,
    timer: Option<Instant>,
    stopping_since: Option<Instant>,
    seen: Census,
    /// What is left after the last look.
    left: Family,
    /// The size and time of the status.json that the digest is from.
    read_from: Option<(u64, std::time::SystemTime)>,
    children: Signal,
    terminate: Signal,
    seat: Seat,
}

/// What wakes the supervisor.
enum Wake {
    Child,
    Terminate,
    Files,
    Deadline,
    Timer,
}

impl Worker {
    /// Takes the run over: from here on its record says that it is supervised.
    pub(super) fn begin(folder: RunFolder, mut record: RunRecord, lock: RunLock) -> Result<Worker, SupervisorError> {
        let files = RunFiles::open(folder.path()).map_err(failed("open the run's folder"))?;
        let mut seat = Watcher::start().seat();
        seat.add(folder.path());
        record.started = Some(clock::now());
        let worker = Worker {
            deadline: Instant::now() + record.spec.timeout,
            children: signal(SignalKind::child()).map_err(failed("listen for children"))?,
            terminate: signal(SignalKind::terminate()).map_err(failed("listen for SIGTERM"))?,
            stage: Stage::Working,
            tree: true,
            timer: None,
            stopping_since: None,
            seen: Census::default(),
            left: Family::default(),
            read_from: None,
            folder,
            files,
            record,
            lock,
            seat,
        };
        Ok(worker)
    }

    pub(super) fn spec(&self) -> &RunSpec {
        &self.record.spec
    }

    /// Starts MassGen and puts its process on record.
    pub(super) fn start(&mut self, me: &Path, launch: &Launch) -> Result<(), SupervisorError> {
        self.save_news(Durability::Synced)?;
        let started = leader::start(me, launch, &self.folder);
        let pid = match started {
            Ok(pid) => pid,
            Err(source) => return self.never_started(&SupervisorError::Io { operation: "start MassGen", source }),
        };
        // The child is ours and not reaped, so that its pid is its own; without /proc nothing of this works.
        let mark = group::mark(pid).ok_or_else(|| failed("read /proc")(std::io::ErrorKind::NotFound.into()))?;
        self.record.state = RunState::Starting { leader: Some(mark) };
        self.save_news(Durability::Synced)
    }

    /// Ends the run before it began.
    pub(super) fn never_started(&mut self, error: &SupervisorError) -> Result<(), SupervisorError> {
        let message = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let message = message.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let hint = "see `supervisor.log` in the run's folder; mend what is named and call run_massgen again".to_owned();
        let problem = Problem { code: "start_failed".to_owned(), message, hint };
        let gone = Gone { cause: None, exit: Exit::NeverStarted, force: Force::None };
        self.stage = Stage::Over(gone.clone());
        self.end(&gone, Some(Outcome::Failed(problem)))
    }

    /// Works until the run is over.
    pub(super) async fn work(mut self) -> Result<(), SupervisorError> {
        self.look_at_files()?;
        loop {
            if let Stage::Over(gone) = &self.stage {
                let gone = gone.clone();
                return match self.record.state.ended() {
                    Some(_) => Ok(()),
                    None => self.end(&gone, None),
                };
            }
            match self.next().await {
                Wake::Child => self.reap()?,
                Wake::Terminate => {
                    self.stop(StopCause::Asked { reason: Some("the supervisor was told to end".to_owned()) }, GRACE)?
                }
                Wake::Files => self.look_at_files()?,
                Wake::Deadline => self.stop(StopCause::Deadline, GRACE)?,
                Wake::Timer => {
                    self.timer = None;
                    self.advance(Event::Timer)?;
                }
            }
        }
    }

    async fn next(&mut self) -> Wake {
        let (deadline, timer) = (self.deadline, self.timer);
        let at_work = self.stage == Stage::Working;
        tokio::select! {
            _ = self.children.recv() => Wake::Child,
            _ = self.terminate.recv() => Wake::Terminate,
            () = self.seat.changed() => Wake::Files,
            () = tokio::time::sleep_until(deadline), if at_work => Wake::Deadline,
            () = tokio::time::sleep_until(timer.unwrap_or(deadline)), if timer.is_some() => Wake::Timer,
        }
    }

    fn reap(&mut self) -> Result<(), SupervisorError> {
        let leader = self.record.state.leader().map(|leader| leader.pid);
        for (pid, exit) in group::reap() {
            if Some(pid) == leader {
                self.advance(Event::LeaderEnded(exit))?;
            }
        }
        // A child of ours that ended may have been the last one.
        if matches!(self.stage, Stage::Sweeping(_)) { self.act(&Action::Look) } else { Ok(()) }
    }

    fn stop(&mut self, cause: StopCause, grace: Duration) -> Result<(), SupervisorError> {
        if self.stage != Stage::Working {
            return Ok(());
        }
        self.stopping_since = Some(Instant::now());
        self.seen.add(&group::family(std::process::id()));
        if let Some(leader) = self.record.state.leader().cloned() {
            self.record.state = RunState::Stopping { leader, cause: cause.clone() };
            self.save_news(Durability::Synced)?;
        }
        self.advance(Event::Stop { cause, grace })
    }

    fn advance(&mut self, event: Event) -> Result<(), SupervisorError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Working);
        let (stage, actions) = plan::apply(stage, event);
        self.stage = stage;
        actions.iter().try_for_each(|action| self.act(action))
    }

    fn act(&mut self, action: &Action) -> Result<(), SupervisorError> {
        let leader = self.record.state.leader().cloned();
        match action {
            Action::Interrupt => leader.iter().for_each(|leader| tell(leader, Order::Interrupt)),
            Action::StopNested if self.tree => self.tell_nested(Order::Terminate),
            Action::StopNested => {}
            Action::Terminate => self.terminate(leader.as_ref()),
            Action::KillOwn => self.family().own.iter().for_each(|member| tell(&member.mark, Order::Kill)),
            Action::TerminateRest => {
                self.family().own.iter().for_each(|member| tell(&member.mark, Order::Terminate));
                self.tell_nested(Order::Terminate);
            }
            Action::KillRest => self.family().all().for_each(|member| tell(&member.mark, Order::Kill)),
            Action::Arm(wait) => self.timer = Some(Instant::now() + *wait),
            Action::Look => {
                self.stopping_since.get_or_insert_with(Instant::now);
                self.left = self.family();
                let (own, nested) = (self.left.own.len(), self.left.nested.len() + self.left.below.len());
                return self.advance(Event::Left { own, nested });
            }
        }
        Ok(())
    }

    /// A look at the family as the stop sees it: nested runs that are to live on are none of its business.
    fn family(&mut self) -> Family {
        let mut family = group::family(std::process::id());
        if !self.tree {
            family.nested.clear();
            family.below.clear();
        }
        self.seen.add(&family);
        family
    }

    fn tell_nested(&mut self, order: Order) {
        self.family().nested.iter().for_each(|member| tell(&member.mark, order));
    }

    /// The leader and those of its own process group; servers in sessions of their own are left to close by themselves.
    fn terminate(&mut self, leader: Option<&Leader>) {
        let group = leader.map(|leader| leader.pid);
        let members = self.family().own;
        let of_group = members.iter().filter(|member| Some(member.mark.pid) == group || member.group == group);
        of_group.for_each(|member| tell(&member.mark, Order::Terminate));
    }

    fn look_at_files(&mut self) -> Result<(), SupervisorError> {
        if let (Stage::Working, Some(ask)) = (&self.stage, self.folder.stop_asked()) {
            self.tree = ask.tree;
            self.stop(StopCause::Asked { reason: ask.reason }, ask.grace)?;
        }
        for folder in Layout::watched(&self.files) {
            self.seat.add(&self.files.absolute(&folder));
        }
        let Some(layout) = Layout::find(&self.files) else { return Ok(()) };
        let announced = self.announce(&layout);
        match self.read_status(&layout) {
            Some(digest) => self.keep(digest, announced),
            None if announced => self.save_news(Durability::Plain),
            None => Ok(()),
        }
    }

    /// MassGen has made its log folder: the run is under way.
    fn announce(&mut self, layout: &Layout) -> bool {
        let RunState::Starting { leader: Some(leader) } = &self.record.state else { return false };
        self.record.state = RunState::Running { leader: leader.clone() };
        self.record.log_dir = Some(layout.log.clone());
        true
    }

    /// A new digest, where status.json has changed and is whole; the last good one stays otherwise.
    fn read_status(&mut self, layout: &Layout) -> Option<Digest> {
        let path = layout.status();
        let meta = self.files.open_file(&path).ok()?.0.metadata().ok()?;
        let from = Some((meta.len(), meta.modified().ok()?));
        if from == self.read_from {
            return None;
        }
        let bytes = self.files.head(&path, status::MOST_BYTES).ok()?;
        let digest =
            status::digest(&bytes).inspect_err(|error| tracing::debug!(%error, "kept the last good digest")).ok()?;
        self.read_from = from;
        Some(digest)
    }

    fn keep(&mut self, digest: Digest, announced: bool) -> Result<(), SupervisorError> {
        let news = announced || digest.tells_news(self.record.digest.as_ref());
        let changed = self.record.digest.as_ref() != Some(&digest);
        self.record.digest = Some(digest);
        match (news, changed) {
            (true, _) => self.save_news(Durability::Plain),
            (false, true) => self.save(Durability::Plain),
            (false, false) => Ok(()),
        }
    }

    fn save_news(&mut self, durability: Durability) -> Result<(), SupervisorError> {
        self.record.seq += 1;
        self.save(durability)
    }

    fn save(&self, durability: Durability) -> Result<(), SupervisorError> {
        Ok(self.folder.save(&self.record, &self.lock, durability)?)
    }

    /// Writes the ending: all evidence is in.
    fn end(&mut self, gone: &Gone, known: Option<Outcome>) -> Result<(), SupervisorError> {
        self.look_at_files()?;
        let layout = Layout::find(&self.files);
        let digest = self.record.digest.clone();
        let answer = layout.and_then(|layout| answers::best(&self.files, &layout, digest.as_ref()));
        let outcome = known.unwrap_or_else(|| self.judge(gone, answer.as_ref(), digest.as_ref()));
        let at = clock::now();
        let took = self.record.started.as_ref().map(|started| started.until(&at)).unwrap_or_default();
        let answer = answer.as_ref().map(|answer| fact(&self.files, answer));
        let ending = Ending { outcome, exit: gone.exit, at, took, answer, stop: self.report(gone) };
        self.record.state = RunState::Ended(ending);
        self.save_news(Durability::Synced)
    }

    fn judge(&self, gone: &Gone, answer: Option<&Answer>, digest: Option<&Digest>) -> Outcome {
        let tail = |path: std::path::PathBuf| {
            let inside = path.strip_prefix(self.folder.path()).unwrap_or(&path);
            self.files.tail(inside, TELLING_BYTES).unwrap_or_default()
        };
        let (stderr, stdout) =
            (tail(leader::stderr_log(self.folder.path())), tail(leader::stdout_log(self.folder.path())));
        let model_error = digest.and_then(|digest| digest.first_error.as_deref());
        let words = Words { stderr: &stderr, stdout: &stdout, model_error };
        let answer = answer.map(|answer| answer.source);
        outcome(&Evidence { stopped: gone.cause.as_ref(), exit: gone.exit, answer, digest, words })
    }

    /// How the stop went; none where none was asked for and nothing was left to sweep.
    fn report(&self, gone: &Gone) -> Option<StopReport> {
        let survivors = self.left.all().map(|member| Survivor { pid: member.mark.pid, name: member.name.clone() });
        let survivors: Vec<_> = if matches!(self.stage, Stage::Over(_)) { survivors.collect() } else { Vec::new() };
        let wanted = gone.cause.is_some() || gone.force > Force::None;
        let took = self.stopping_since.map(|since| since.elapsed()).unwrap_or_default();
        wanted.then(|| StopReport { took, force: gone.force, processes: self.seen.count(), survivors })
    }
}

/// Whoever is gone needs no signal.
fn tell(mark: &crate::run::ProcessMark, order: Order) {
    let reached = group::order(mark, order);
    tracing::debug!(pid = mark.pid, ?order, reached, "told");
}

/// The answer's length takes one pass over its file.
fn fact(files: &RunFiles, answer: &Answer) -> AnswerFact {
    let count = files.open_file(&answer.path).and_then(|(file, _)| pages::count_chars(file));
    AnswerFact { agent: answer.agent.clone(), chars: count.unwrap_or_default(), source: answer.source }
}
