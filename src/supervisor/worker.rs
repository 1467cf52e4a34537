//! The supervisor at work: waits for one event at a time, lets `plan` decide, does what it says, keeps the record.
//! `next` only picks an event; what follows from it is in plain functions. Once MassGen lives, nothing that goes wrong with
//! the record ends the work: a run is never left alone because a disk is full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::budget::{Meter, Verdict};
use super::changes::Files;
use super::group::{self, Census, Family, Order};
use super::parent::Parent;
use super::plan::{self, Action, Event, Gone, Stage};
use super::purse::Purse;
use super::repository::Repository;
use super::senses::{self, Sample};
use super::vigil::{Signs, Vigil};
use super::{SupervisorError, failed, leader};
use crate::clock;
use crate::crash;
use crate::ledger::Ledger;
use crate::massgen::answers::{self, Answer};
use crate::massgen::files::{RunFiles, Stamp};
use crate::massgen::launch::Launch;
use crate::massgen::layout::Layout;
use crate::massgen::outcome::{Evidence, outcome};
use crate::massgen::poll::Poll;
use crate::massgen::reasons::{Words, blamed};
use crate::massgen::warnings::NOT_APPLIED;
use crate::massgen::{broken, events, inbox, status, text, warnings};
use crate::provenance;
use crate::registry::{Durability, FAILED_IMPORTS, RECORD, RunFolder, RunLock, STDERR, STDOUT, StateFolder};
use crate::run::Evidence as Seen;
use crate::run::{
    ConfigChoice, Context, Digest, Ending, Exit, Force, Leader, Outcome, Problem, ProcessMark, Quiet, Retry, RunRecord,
    RunSpec, RunState, StopCause, StopReport, Survivor, Warning,
};
use crate::secrets::Secrets;
use crate::watch::{Seat, Watcher};

/// How long MassGen has after the polite signal when a signal to the supervisor or the deadline asks for the stop.
const GRACE: Duration = Duration::from_secs(5);
/// How much of the end of an output a reason is looked for in, in bytes.
const TELLING_BYTES: u64 = 64 << 10;
/// How long the last of what MassGen printed may take to arrive; somebody else may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often an ending that could not be written is written again.
const RETRY: Duration = Duration::from_secs(1);
/// A shorter wait for an import is not worth a word.
const LONG_IMPORT: Duration = Duration::from_secs(1);

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
    /// Whether the kernel knew of somebody then whom the look did not find.
    unseen: bool,
    /// Which status.json the digest is from.
    read_from: Option<Stamp>,
    poll: Poll,
    /// Whether the last write of the record failed.
    unsaved: bool,
    outputs: Vec<JoinHandle<()>>,
    /// Told when MassGen seems to have said its last.
    closing: Arc<Notify>,
    /// Who reaps what ends.
    parent: Parent,
    /// What is masked in all that comes from MassGen.
    secrets: Secrets,
    state: StateFolder,
    purse: Purse,
    /// What follows from what was spent so far.
    verdict: Verdict,
    /// The watch over signs of life.
    vigil: Vigil,
    /// Whose model each agent uses.
    providers: BTreeMap<String, String>,
    /// The project before the run, where it may write there.
    before: Option<Files>,
    /// The Git repository of the project before the run, where it may write there.
    repository: Option<Repository>,
    /// Which variable has its key.
    keys: BTreeMap<String, String>,
    signals: Signals,
    seat: Seat,
}

/// What the supervisor listens to. MassGen's own end is heard through its pidfd as well; SIGCHLD tells of orphans.
struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What wakes the supervisor.
enum Wake {
    Child,
    Told,
    Files,
    Deadline,
    Timer,
    Quiet,
    Closing,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wake {
        tokio::select! {
            _ = self.child.recv() => Wake::Child,
            _ = self.terminate.recv() => Wake::Told,
            _ = self.interrupt.recv() => Wake::Told,
            _ = self.hang_up.recv() => Wake::Told,
        }
    }
}

impl Worker {
    /// Takes the run over: from here on its record says that it is supervised.
    pub(super) fn begin(
        folder: RunFolder,
        mut record: RunRecord,
        lock: RunLock,
        secrets: Secrets,
        state: StateFolder,
    ) -> Result<Worker, SupervisorError> {
        let files = RunFiles::open(folder.path()).map_err(failed("open the run's folder"))?;
        let mut seat = Watcher::start().seat();
        // What it writes itself is no news to it.
        seat.add_but(folder.path(), Some(RECORD));
        let now = clock::now();
        record.started = Some(now.clone());
        record.state = RunState::Starting { leader: None };
        let meter = Meter {
            allowance: record.spec.allowance.clone(),
            is_rehearsal: matches!(record.spec.config, ConfigChoice::Rehearsal(_)),
            ..Meter::default()
        };
        Ok(Worker {
            state,
            purse: Purse::new(meter),
            verdict: Verdict::Fine,
            vigil: Vigil::begin(now),
            providers: BTreeMap::new(),
            before: None,
            repository: None,
            keys: BTreeMap::new(),
            deadline: Instant::now() + record.spec.timeout,
            signals: Signals::listen().map_err(failed("listen for signals"))?,
            stage: Stage::Working,
            tree: true,
            timer: None,
            stopping_since: None,
            seen: Census::default(),
            left: Family::default(),
            unseen: false,
            read_from: None,
            poll: Poll::default(),
            unsaved: false,
            outputs: Vec::new(),
            closing: Arc::default(),
            parent: Parent::Supervisor(None),
            secrets,
            folder,
            files,
            record,
            lock,
            seat,
        })
    }

    pub(super) fn spec(&self) -> &RunSpec {
        &self.record.spec
    }

    /// Which model each agent uses, for the operator's price table.
    pub(super) fn read_costs_with(&mut self, models: BTreeMap<String, String>) {
        self.purse.meter.models = models;
    }

    /// Whose model each agent uses and which variable has its key, for what is said of a failure.
    pub(super) fn blame_with(&mut self, providers: BTreeMap<String, String>, keys: BTreeMap<String, String>) {
        (self.providers, self.keys) = (providers, keys);
    }

    /// Starts MassGen and puts its process on record. A record that cannot be written now means that nothing is started.
    pub(super) async fn start(&mut self, me: &Path, launch: &Launch) -> Result<(), SupervisorError> {
        crash::point("supervisor-began");
        self.before = self.project_files();
        if self.spec().context == Context::Write {
            self.repository = Repository::of(&self.spec().project);
        }
        let warm = leader::warm(launch, &self.folder, &self.state, self.spec(), super::tell_ready).await;
        self.record.import = warm.as_ref().ok().map(|warm| warm.waited).filter(|waited| *waited >= LONG_IMPORT);
        self.record.keeper = warm.as_ref().ok().map(|warm| warm.keeper.clone());
        self.record.cold_because = warm.as_ref().err().map(ToString::to_string);
        if let (Some(because), true) = (&self.record.cold_because, self.spec().warm) {
            tracing::warn!(because, "started cold");
        }
        self.record.seq += 1;
        self.folder.save(&self.record, &self.lock, Durability::Synced)?;
        crash::point("start-recorded");
        let started = match warm {
            Ok(warm) => warm.start(&self.folder, &self.secrets, &self.closing).await,
            Err(_) => leader::start(me, launch, &self.folder, &self.secrets, &self.closing),
        };
        match started {
            Ok(started) => {
                crash::point("massgen-started");
                (self.outputs, self.parent) = (started.outputs, started.parent);
                self.record.state = RunState::Starting { leader: Some(started.leader) };
                // No power cut leaves a leader that this would have to tell of, and that it began is on disk.
                self.save_news(Durability::Plain);
                crash::point("massgen-recorded");
            }
            Err(source) => self.never_started(&SupervisorError::Io { operation: "start MassGen", source }),
        }
        Ok(())
    }

    /// Ends the run before it began.
    pub(super) fn never_started(&mut self, error: &SupervisorError) {
        let (code, hint) = match error {
            SupervisorError::Config(_) => (
                "config_invalid",
                "correct the config, then call run_massgen again: what a run needs could not be added to it",
            ),
            SupervisorError::NotARun { .. }
            | SupervisorError::Taken(_)
            | SupervisorError::Record(_)
            | SupervisorError::Io { .. }
            | SupervisorError::Rehearsal(_)
            | SupervisorError::EnvFile(_)
            | SupervisorError::Ledger(_)
            | SupervisorError::Script(_) => {
                ("start_failed", "mend what is named, then call run_massgen again; nothing was spent")
            }
        };
        let message = self.secrets.mask(&text::chain(error)).into_owned();
        let problem = Problem { retry: Some(Retry::No), ..Problem::new(code, &message, hint) };
        let gone = Gone { cause: None, exit: Exit::NeverStarted, force: Force::None };
        self.stage = Stage::Over(gone.clone());
        self.conclude(&gone, Some(Outcome::Failed(problem)));
    }

    /// Works until the run is over and its ending is on disk.
    pub(super) async fn work(mut self) -> RunRecord {
        self.look_at_files();
        loop {
            if let Stage::Over(gone) = &self.stage {
                let gone = gone.clone();
                self.end(&gone).await;
                self.parent.dismiss();
                return self.record;
            }
            match self.next().await {
                Wake::Child => self.reap(),
                Wake::Told => {
                    self.stop(StopCause::Asked { reason: Some("its supervisor was told to end".to_owned()) }, GRACE)
                }
                Wake::Files => self.look_at_files(),
                Wake::Deadline => self.stop(StopCause::Deadline, GRACE),
                Wake::Timer => {
                    self.timer = None;
                    self.advance(Event::Timer);
                }
                Wake::Quiet => self.look_at_quiet(),
                Wake::Closing => self.look_for_the_end(),
            }
        }
    }

    async fn next(&mut self) -> Wake {
        let (deadline, timer) = (self.deadline, self.timer);
        let (at_work, look) = (self.stage == Stage::Working, self.vigil.next);
        tokio::select! {
            wake = self.signals.next() => wake,
            () = self.parent.stirs() => Wake::Child,
            () = self.closing.notified(), if at_work => Wake::Closing,
            () = self.seat.changed() => Wake::Files,
            () = tokio::time::sleep_until(deadline), if at_work => Wake::Deadline,
            () = tokio::time::sleep_until(timer.unwrap_or(deadline)), if timer.is_some() => Wake::Timer,
            () = tokio::time::sleep_until(look), if at_work => Wake::Quiet,
        }
    }

    fn reap(&mut self) {
        let leader = self.record.state.leader().map(|leader| leader.pid);
        for (pid, exit) in self.parent.reap() {
            if Some(pid) == leader {
                self.advance(Event::LeaderEnded(exit));
            }
        }
        // A child of ours that ended may have been the last one.
        if matches!(self.stage, Stage::Sweeping(_)) {
            self.look();
        }
    }

    fn stop(&mut self, cause: StopCause, grace: Duration) {
        // It may have ended by itself in this very moment; then it was not stopped.
        self.reap();
        if self.stage != Stage::Working {
            return;
        }
        self.stopping_since = Some(Instant::now());
        self.record.quiet = None;
        self.seen.add(&self.parent.family());
        if let Some(leader) = self.record.state.leader().cloned() {
            self.record.state = RunState::Stopping { leader, cause: cause.clone() };
            self.save_news(Durability::Synced);
        }
        self.advance(Event::Stop { cause, grace });
    }

    /// A later request may give less time, never more.
    fn hasten(&mut self, grace: Duration) {
        let sooner = self.stopping_since.map(|since| since + grace);
        if matches!(self.stage, Stage::Asked(_)) && sooner < self.timer {
            self.timer = sooner;
        }
    }

    fn advance(&mut self, event: Event) {
        let stage = std::mem::replace(&mut self.stage, Stage::Working);
        let (stage, actions) = plan::apply(stage, event);
        self.stage = stage;
        actions.iter().for_each(|action| self.act(action));
    }

    fn act(&mut self, action: &Action) {
        let leader = self.record.state.leader().cloned();
        match action {
            Action::Interrupt => leader.iter().for_each(|leader| tell(leader, Order::Interrupt)),
            Action::StopNested if self.tree => self.tell_nested(Order::Terminate),
            Action::StopNested => {}
            Action::Terminate => self.terminate(leader.as_ref()),
            Action::KillOwn => {
                self.left = self.family();
                self.left.own.iter().for_each(|member| tell(&member.mark, Order::Kill));
            }
            Action::TerminateRest => {
                self.family().own.iter().for_each(|member| tell(&member.mark, Order::Terminate));
                self.tell_nested(Order::Terminate);
            }
            Action::KillRest => self.family().all().for_each(|member| tell(&member.mark, Order::Kill)),
            Action::Arm(wait) => self.timer = Some(Instant::now() + *wait),
            Action::Look => self.look(),
        }
    }

    /// Counts what is left. That nobody is, is the kernel's word; without it somebody is, whatever the look at /proc found:
    /// a process that was forked during the look, or one that has ended and is reaped in a moment.
    fn look(&mut self) {
        self.stopping_since.get_or_insert_with(Instant::now);
        let spared = !self.tree && !self.parent.family().nested.is_empty();
        self.left = self.family();
        self.unseen = self.left.all().next().is_none() && !spared && !self.parent.is_childless();
        let (own, nested) =
            (self.left.own.len() + usize::from(self.unseen), self.left.nested.len() + self.left.below.len());
        self.advance(Event::Left { own, nested });
    }

    /// A look at the family as the stop sees it: nested runs that are to live on are none of its business.
    fn family(&mut self) -> Family {
        let mut family = self.parent.family();
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

    fn look_at_files(&mut self) {
        if let Some(ask) = self.folder.stop_asked() {
            if self.stage == Stage::Working {
                self.tree = ask.tree;
                self.stop(StopCause::Asked { reason: ask.reason }, ask.grace);
            } else {
                self.hasten(ask.grace);
            }
        }
        self.watch_new_folders();
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        let announced = layout.as_ref().is_some_and(|layout| self.announce(layout));
        let digest = layout.as_ref().and_then(|layout| self.read_status(layout));
        let lives = self.keep(digest, announced);
        self.listen_for_life(layout.as_ref(), lives);
        self.hold_to_budget();
    }

    /// MassGen takes seconds to end after its last word. Its answer may be read before, if it is whole.
    fn look_for_the_end(&mut self) {
        self.look_at_files();
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        let finished = layout.and_then(|layout| answers::finished(&self.files, &layout, self.record.digest.as_ref()));
        if let Some(answer) = finished.filter(|_| self.stage == Stage::Working && self.record.ready.is_none()) {
            self.record.ready = Some(answers::fact(&self.files, &answer, &self.secrets));
            self.save_news(Durability::Plain);
        }
    }

    /// Takes note of signs of life. A quiet that ends is off the record at once, and news where there was trouble to tell.
    fn listen_for_life(&mut self, layout: Option<&Layout>, known_otherwise: bool) {
        let signs = self.signs(layout);
        let now = clock::now();
        if !self.vigil.note(signs, known_otherwise, now) {
            return;
        }
        match self.record.quiet.take().map(|quiet| quiet.trouble(&quiet.looked).is_some()) {
            Some(true) => self.save_news(Durability::Plain),
            Some(false) => self.save(Durability::Plain),
            None => {}
        }
    }

    /// The sizes of what grows while a run does anything. status.json is none of it: its time goes on in every case.
    fn signs(&self, layout: Option<&Layout>) -> Signs {
        let size = |path: &Path| self.files.open_file(path).map(|(_, size)| size).unwrap_or_default();
        let outputs = layout.map(|layout| self.files.list(&layout.attempt.join("agent_outputs"))).unwrap_or_default();
        let of_file = |file: Option<PathBuf>| file.map(|file| size(&file)).unwrap_or_default();
        Signs([
            of_file(layout.and_then(|layout| layout.events(&self.files))),
            of_file(layout.and_then(|layout| layout.massgen_log(&self.files))),
            outputs.iter().map(|output| output.size).sum(),
            size(Path::new(STDOUT)),
            size(Path::new(STDERR)),
        ])
    }

    /// The run may have gone quiet: what it seems to do then goes on record, and is news where it becomes trouble.
    fn look_at_quiet(&mut self) {
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        self.listen_for_life(layout.as_ref(), false);
        let Some(leader) = self.record.state.leader().cloned() else {
            self.vigil = Vigil::begin(clock::now());
            return;
        };
        if self.vigil.next > Instant::now() {
            return;
        }
        let family = self.parent.family();
        let sample = Sample::take(&family.own, &leader);
        if let Some(before) = self.vigil.before {
            let evidence = self.evidence(&family, &leader, sample.percent_since(&before), layout.as_ref());
            self.tell_quiet(Quiet { since: self.vigil.since.clone(), looked: clock::now(), evidence });
        }
        self.vigil.looked(sample);
    }

    fn tell_quiet(&mut self, quiet: Quiet) {
        let code = |quiet: &Quiet| quiet.trouble(&quiet.looked).map(|problem| problem.code);
        let is_news = self.record.quiet.as_ref().and_then(code) != code(&quiet);
        self.record.quiet = Some(quiet);
        if is_news {
            self.save_news(Durability::Plain);
        } else {
            self.save(Durability::Plain);
        }
    }

    fn evidence(&self, family: &Family, leader: &Leader, cpu_percent: u32, layout: Option<&Layout>) -> Seen {
        let events = layout.and_then(|layout| layout.events(&self.files));
        let tail = events.and_then(|events| self.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
        let latest = events::latest(&tail, &self.secrets);
        let count = |members: &[group::Member]| u32::try_from(members.len()).unwrap_or(u32::MAX);
        Seen {
            processes: count(&family.own),
            cpu_percent,
            leader_state: senses::state(leader),
            connections: senses::connections(family),
            tools: latest.open_tools,
            runs: count(&family.nested),
            last_event: latest.last_event,
            last_error: latest.last_error,
        }
    }

    /// Does what follows from what was spent; the record says already how much that is.
    fn hold_to_budget(&mut self) {
        if self.stage != Stage::Working {
            return;
        }
        match self.verdict {
            Verdict::Fine | Verdict::Steer => {}
            Verdict::Stop => self.stop(StopCause::Budget, GRACE),
        }
    }

    /// What this run and all below it have spent by now: news where a threshold is passed, and then the agents are told to finish.
    fn account(&mut self) -> bool {
        self.purse.count_own(self.record.digest.as_ref());
        if let Some(own) = &self.record.log_dir {
            self.purse.count_others(&self.files, own);
        }
        self.purse.count_below(&self.state, &self.folder);
        (self.record.spent, self.record.spent_below) = (self.purse.spent(), self.purse.spent_below());
        let verdict = self.purse.verdict();
        let passed = verdict > self.verdict;
        if passed && verdict == Verdict::Steer && self.stage == Stage::Working {
            self.steer();
        }
        self.verdict = self.verdict.max(verdict);
        passed
    }

    /// MassGen shows it to each agent around its next tool call; an agent that calls none never sees it.
    fn steer(&mut self) {
        let used = self.record.spec.allowance.cap.percent(self.record.spent_in_all());
        let content = format!(
            "{used} % of this run's budget is spent, and at 100 % it is stopped. Finish now: give or present the best answer \
             that you have, or vote. Start no new research and no new runs."
        );
        if let Err(error) = self.folder.put_message(inbox::BUDGET, &inbox::message(&content, &[])) {
            tracing::warn!(error = text::chain(&error), "the agents could not be told to finish");
        }
    }

    /// Until none is new: one may have been made between a look and the watch of its parent.
    fn watch_new_folders(&mut self) {
        loop {
            let own = Layout::watched(&self.files, self.record.log_dir.as_deref());
            let own = own.iter().map(|folder| self.files.absolute(folder)).collect::<Vec<_>>();
            self.purse.count_below(&self.state, &self.folder);
            let below = self.purse.watched_below().map(|run| self.state.folder(run).path().to_owned());
            let children = Some(self.folder.children()).filter(|children| children.exists());
            let folders: Vec<PathBuf> = own.into_iter().chain(below).chain(children).collect();
            let new = folders.iter().fold(false, |new, folder| self.seat.add(folder) | new);
            if !new {
                return;
            }
        }
    }

    /// MassGen has made its log folder: the run is under way.
    fn announce(&mut self, layout: &Layout) -> bool {
        if self.record.log_dir.is_some() {
            return false;
        }
        self.record.log_dir = Some(layout.log.clone());
        if let RunState::Starting { leader: Some(leader) } = &self.record.state {
            self.record.state = RunState::Running { leader: leader.clone() };
        }
        true
    }

    /// A new digest, where status.json has changed and is whole; the last good one stays otherwise.
    fn read_status(&mut self, layout: &Layout) -> Option<Digest> {
        let path = layout.status();
        let from = self.files.stamp(&path)?;
        if Some(&from) == self.read_from.as_ref() || from.bytes > status::MOST_BYTES {
            return None;
        }
        let bytes = self.files.head(&path, status::MOST_BYTES).ok()?;
        let digest = status::masked_digest(&bytes, &self.secrets);
        let mut digest = digest.inspect_err(|error| tracing::debug!(%error, "kept the last good digest")).ok()?;
        self.poll.correct(&mut digest, &self.files, layout, &self.secrets);
        self.read_from = Some(from);
        Some(digest)
    }

    /// Takes the digest over; `true` where anything but the time has changed.
    fn keep(&mut self, digest: Option<Digest>, announced: bool) -> bool {
        let before = self.record.digest.as_ref();
        let news = announced || digest.as_ref().is_some_and(|digest| digest.tells_news(before));
        let spent = self.record.spent_in_all();
        let changed = digest.is_some() && digest.as_ref() != before;
        self.record.digest = digest.or(self.record.digest.take());
        let passed = self.account();
        let changed = changed || self.record.spent_in_all() != spent;
        if news || passed {
            self.save_news(Durability::Plain);
        } else if changed || self.unsaved {
            self.save(Durability::Plain);
        }
        changed || announced
    }

    fn save_news(&mut self, durability: Durability) {
        self.record.seq += 1;
        self.save(durability);
    }

    /// Writes the record, or remembers that it has to be written again.
    fn save(&mut self, durability: Durability) {
        let saved = self.folder.save(&self.record, &self.lock, durability);
        if let (Err(error), false) = (&saved, self.unsaved) {
            tracing::warn!(error = text::chain(error), "the record could not be written");
        }
        self.unsaved = saved.is_err();
    }

    /// Writes the ending, again and again until it is on disk, or the run's folder is gone.
    async fn end(&mut self, gone: &Gone) {
        if self.record.state.ended().is_none() {
            self.last_words().await;
            self.conclude(gone, None);
        }
        // Where the whole folder is gone, nobody will ever look for it.
        while self.unsaved && self.folder.path().exists() {
            tokio::time::sleep(RETRY).await;
            self.save(Durability::Synced);
        }
    }

    /// Waits for the rest of what MassGen printed.
    async fn last_words(&mut self) {
        let outputs = std::mem::take(&mut self.outputs);
        let all = futures_util::future::join_all(outputs);
        // Who holds the pipe still has nothing to say about this run's end.
        let _held = tokio::time::timeout(LAST_WORDS, all).await;
    }

    /// All evidence is in: the ending goes on record.
    fn conclude(&mut self, gone: &Gone, known: Option<Outcome>) {
        let layout = Layout::find(&self.files, self.record.log_dir.as_deref());
        if let Some(layout) = &layout {
            self.announce(layout);
            let last = self.read_status(layout);
            self.record.digest = last.or(self.record.digest.take());
        }
        self.account();
        self.record.quiet = None;
        let digest = self.record.digest.as_ref();
        let answer = layout.as_ref().and_then(|layout| answers::best(&self.files, layout, digest));
        let warnings = layout.as_ref().map(|layout| self.warnings(layout)).unwrap_or_default();
        let outcome = known.unwrap_or_else(|| self.judge(gone, layout.as_ref(), answer.as_ref()));
        self.record.changed = self.before.as_ref().and_then(|before| Some(before.until(&self.project_files()?)));
        let warnings = self.with_clean_repository(warnings);
        let warnings = self.with_nothing_changed(warnings, &outcome);
        let at = clock::now();
        let took = self.record.started.as_ref().map(|started| started.until(&at)).unwrap_or_default();
        let outcome = self.with_broken(outcome);
        let answer = answer.as_ref().map(|answer| answers::fact(&self.files, answer, &self.secrets));
        self.record.state = RunState::Ended(Ending {
            outcome,
            exit: gone.exit,
            at,
            took,
            answer,
            stop: self.report(gone).map(Box::new),
            warnings,
        });
        provenance::keep(&self.folder, &self.record, &self.lock, &self.secrets);
        // Who waits is told before the disk has it for good: a power cut in these milliseconds makes it `lost`, with its answer.
        self.save_news(Durability::Plain);
        if let (Err(error), false) = (self.folder.sync_ending(&self.lock), self.unsaved) {
            tracing::warn!(error = text::chain(&error), "the ending may not survive a power cut");
        }
    }

    /// The files of the project, of a run that may write there.
    fn project_files(&self) -> Option<Files> {
        let spec = self.spec();
        (spec.context == Context::Write).then(|| Files::of(&spec.project, self.state.root())).flatten()
    }

    /// A run that could write in the project and did not is no failure, and not what was asked for either.
    fn with_nothing_changed(&self, mut warnings: Vec<Warning>, outcome: &Outcome) -> Vec<Warning> {
        let is_nothing = self.record.changed.as_ref().is_some_and(|changed| changed.count == 0);
        if is_nothing && *outcome == Outcome::Succeeded && warnings.iter().all(|warning| warning.code != NOT_APPLIED) {
            warnings.push(warnings::nothing_changed());
        }
        warnings
    }

    /// Removes what MassGen left in the project's repository. Branches with changes that it did not apply stay, and the warning of that names
    /// them; without such a branch there was nothing to apply.
    fn with_clean_repository(&self, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let Some(repository) = &self.repository else { return warnings };
        let is_shared = self.shares_project();
        let not_applied = warnings.iter().position(|warning| warning.code == NOT_APPLIED);
        let kept = repository.clean(self.folder.path(), is_shared, not_applied.is_some());
        let Some(at) = not_applied.filter(|_| !is_shared) else { return warnings };
        if kept.is_empty() {
            warnings.remove(at);
        } else if let Some(warning) = warnings.get_mut(at) {
            warning.hint = format!("{}; the changes are in these branches: {}", warning.hint, kept.join(", "));
        }
        warnings
    }

    /// Whether another live run may write in the same project; also if that is unknown.
    fn shares_project(&self) -> bool {
        let Ok(live) = Ledger::of(&self.state).live(None) else { return true };
        let others = live.iter().filter(|id| **id != self.spec().id).filter_map(|id| self.state.load(id).ok());
        let mut specs = others.map(|record| record.spec);
        specs.any(|spec| spec.context == Context::Write && spec.project == self.spec().project)
    }

    /// What the run lacked, by MassGen's own log.
    fn warnings(&self, layout: &Layout) -> Vec<Warning> {
        let log = layout.massgen_log(&self.files);
        let log = log.and_then(|log| self.files.both_ends(&log, warnings::LOG_BYTES).ok()).unwrap_or_default();
        let found = warnings::warnings(&log, self.record.digest.as_ref()).into_iter();
        found.map(|found| Warning { message: self.secrets.mask(&found.message).into_owned(), ..found }).collect()
    }

    /// A MassGen that could not be imported is remembered, so that no other run has to find that out.
    fn with_broken(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed(problem) = outcome else { return outcome };
        if problem.code != broken::CODE || self.record.log_dir.is_some() {
            return Outcome::Failed(problem);
        }
        let (program, seen) = (&self.spec().program, self.state.root().join(FAILED_IMPORTS));
        let problem = broken::explained(problem, program);
        if let Err(error) = broken::keep(&problem, program, &seen) {
            tracing::warn!(error = text::chain(&error), "that MassGen cannot be imported could not be kept");
        }
        Outcome::Failed(problem)
    }

    fn judge(&self, gone: &Gone, layout: Option<&Layout>, answer: Option<&Answer>) -> Outcome {
        let digest = self.record.digest.as_ref();
        let tail = |log: &str| self.files.tail(&PathBuf::from(log), TELLING_BYTES).unwrap_or_default();
        let (stderr, stdout) = (tail(STDERR), tail(STDOUT));
        let model_error = digest.and_then(|digest| digest.first_error.as_deref());
        let provider = self.provider(digest.and_then(|digest| digest.first_error_agent.as_deref()));
        let events = layout.and_then(|layout| layout.events(&self.files));
        let events = events.and_then(|events| self.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
        let agents = events::last_words(&events, &self.secrets);
        let (agents, is_answering) = (agents.as_deref(), events::is_answering(&events));
        let words = Words { stderr: &stderr, stdout: &stdout, model_error, agents, is_answering, provider };
        let answer = answer.map(|answer| answer.source);
        let outcome = outcome(&Evidence { stopped: gone.cause.as_ref(), exit: gone.exit, answer, digest, words });
        if let Outcome::Failed(problem) = outcome {
            return Outcome::Failed(blamed(problem, digest, &self.keys));
        }
        outcome
    }

    /// Whose model the failing agent uses; without a known agent, that of all where it is one.
    fn provider(&self, failing: Option<&str>) -> Option<&str> {
        let of_agent = failing.and_then(|agent| self.providers.get(agent));
        let mut all = self.providers.values();
        let first = all.next();
        let of_all = first.filter(|first| all.all(|other| other == *first));
        of_agent.or(of_all).map(String::as_str)
    }

    /// How the stop went; none where none was asked for and nothing was left to sweep.
    fn report(&self, gone: &Gone) -> Option<StopReport> {
        let survivors = self
            .left
            .all()
            .map(|member| Survivor { pid: member.mark.pid, name: self.secrets.mask(&member.name).into_owned() });
        let took = self.stopping_since.map(|since| since.elapsed()).unwrap_or_default();
        let wanted = gone.cause.is_some() || gone.force > Force::None;
        let unseen = self.unseen.then(|| Survivor { pid: 0, name: "unseen".to_owned() });
        let survivors = survivors.chain(unseen).collect();
        wanted.then(|| StopReport { took, force: gone.force, processes: self.seen.count(), survivors })
    }
}

/// Whoever is gone needs no signal.
fn tell(mark: &ProcessMark, order: Order) {
    let reached = group::order(mark, order);
    tracing::debug!(pid = mark.pid, ?order, reached, "told");
}
