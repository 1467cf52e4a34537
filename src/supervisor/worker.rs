//! The supervisor's main loop: it waits for one event at a time and calls the parts that the event concerns; each part does one job and
//! calls no other part. Once MassGen runs, an error with the record never ends the loop: the supervisor does not abandon a run because a
//! disk is full.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::agent_facts::AgentFacts;
use super::budget::{BudgetDecision, BudgetPolicy};
use super::budget_monitor::{self, BudgetMonitor};
use super::liveness::LivenessMonitor;
use super::outcome_reader::{self, OutcomeReader};
use super::plan::LeaderExit;
use super::proc_sampler::CpuSample;
use super::project_monitor::{self, ProjectMonitor};
use super::reaper::Reaper;
use super::record_writer::{RecordWriter, StartRoute};
use super::run_context::RunContext;
use super::signals::{SignalEvent, Signals};
use super::status_reader::StatusReader;
use super::stop_driver::{RunProcesses, StopDriver};
use super::{SupervisorError, activity, leader};
use crate::clock;
use crate::crash;
use crate::massgen::launch::Launch;
use crate::massgen::layout::Layout;
use crate::massgen::{answers, inbox, text};
use crate::registry::RECORD_FILE;
use crate::run::{
    ConfigChoice, DEFAULT_GRACE, Digest, Ending, Outcome, Problem, QuietPeriod, Retry, RunRecord, RunSpec, Step,
    StopCause,
};
use crate::watch::{Subscription, Watcher};

/// How long to wait for the rest of MassGen's output; another process may hold the pipe forever.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// A shorter wait for an import is not reported.
const MIN_REPORTED_IMPORT: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    run: RunContext,
    deadline: Instant,
    signals: Signals,
    subscription: Subscription,
    /// Reaps the run's processes.
    reaper: Reaper,
    /// The tasks that copy MassGen's output.
    outputs: Vec<JoinHandle<()>>,
    /// Notified when MassGen seems to have printed its last line.
    final_line: Arc<Notify>,
    record: RecordWriter,
    stop: StopDriver,
    status: StatusReader,
    budget: BudgetMonitor,
    liveness: LivenessMonitor,
    project: ProjectMonitor,
    outcome: OutcomeReader,
}

/// The events that wake the supervisor.
enum WakeReason {
    ChildExited,
    TerminationSignal,
    FilesChanged,
    DeadlinePassed,
    TimerExpired,
    LivenessCheck,
    FinalLine,
}

impl Worker {
    /// Prepares the supervision of a run. `record` shows it as started, `agents` are from its config, and `project` is the state of its
    /// project.
    pub(super) fn new(
        run: RunContext,
        record: RecordWriter,
        signals: Signals,
        agents: AgentFacts,
        project: ProjectMonitor,
    ) -> Worker {
        let mut subscription = Watcher::start().subscribe();
        // The supervisor's own writes must not wake it.
        subscription.watch_folder_except(run.folder.path(), Some(RECORD_FILE));
        let spec = &record.get().spec;
        let policy = BudgetPolicy {
            allowance: spec.allowance.clone(),
            models: agents.models.clone(),
            is_rehearsal: matches!(spec.config, ConfigChoice::Rehearsal(_)),
        };
        Worker {
            deadline: Instant::now() + spec.timeout,
            signals,
            subscription,
            reaper: Reaper::Supervisor(None),
            outputs: Vec::new(),
            final_line: Arc::default(),
            stop: StopDriver::new(),
            status: StatusReader::default(),
            budget: BudgetMonitor::new(policy),
            liveness: LivenessMonitor::new(clock::now()),
            project,
            outcome: OutcomeReader::new(agents),
            record,
            run,
        }
    }

    fn spec(&self) -> &RunSpec {
        &self.record.get().spec
    }

    /// Starts MassGen and records its process. If the record cannot be written now, nothing is started.
    pub(super) async fn start(&mut self, me: &Path, launch: &Launch) -> Result<(), SupervisorError> {
        crash::point("supervisor-began");
        let (folder, secrets) = (&self.run.folder, &self.run.secrets);
        let warm_start =
            leader::request_warm_start(launch, folder, &self.run.state, self.spec(), super::report_ready).await;
        let cold_start_reason = warm_start.as_ref().err().map(ToString::to_string);
        if let (Some(reason), true) = (&cold_start_reason, self.spec().warm) {
            tracing::warn!(reason, "MassGen is started cold");
        }
        let keeper = warm_start.as_ref().ok();
        self.record.plan_start(StartRoute {
            import_wait: keeper
                .map(|warm_start| warm_start.import_wait)
                .filter(|waited| *waited >= MIN_REPORTED_IMPORT),
            keeper: keeper.map(|warm_start| warm_start.keeper.clone()),
            cold_start_reason,
        })?;
        crash::point("start-recorded");
        let started = match warm_start {
            Ok(warm_start) => warm_start.fork_leader(folder, secrets, &self.final_line).await,
            Err(_) => leader::start_cold(me, launch, folder, secrets, &self.final_line),
        };
        match started {
            Ok(started) => {
                crash::point("massgen-started");
                (self.outputs, self.reaper) = (started.outputs, started.reaper);
                self.record.leader_started(started.leader);
                crash::point("massgen-recorded");
            }
            Err(source) => self.fail_start(&SupervisorError::Io { operation: "start MassGen", source }),
        }
        Ok(())
    }

    /// Ends the run before MassGen has started.
    pub(super) fn fail_start(&mut self, error: &SupervisorError) {
        let (code, next) = match error {
            SupervisorError::Config(_) => ("config_invalid", Step::CorrectConfig),
            SupervisorError::NotARun { .. }
            | SupervisorError::AlreadySupervised(_)
            | SupervisorError::Record(_)
            | SupervisorError::NoQuestion(_)
            | SupervisorError::Io { .. }
            | SupervisorError::Rehearsal(_)
            | SupervisorError::EnvFile(_)
            | SupervisorError::Ledger(_)
            | SupervisorError::Script(_) => ("start_failed", Step::MendAndStart),
        };
        let message = self.run.secrets.mask(&text::error_chain(error)).into_owned();
        let problem = Problem { retry: Some(Retry::No), ..Problem::new(code, &message, next) };
        let exit = self.stop.never_started();
        self.record_ending(&exit, Some(Outcome::Failed(problem)));
    }

    /// Runs until the run is over and its ending is on disk.
    pub(super) async fn run(mut self) -> RunRecord {
        self.refresh();
        loop {
            if let Some(exit) = self.stop.finished().cloned() {
                self.finish(&exit).await;
                self.reaper.release();
                return self.record.into_record();
            }
            match self.next_wake().await {
                WakeReason::ChildExited => self.reap(),
                WakeReason::TerminationSignal => {
                    let reason = Some("its supervisor was told to end".to_owned());
                    self.begin_stop(StopCause::Requested { reason }, DEFAULT_GRACE);
                }
                WakeReason::FilesChanged => self.refresh(),
                WakeReason::DeadlinePassed => self.begin_stop(StopCause::Deadline, DEFAULT_GRACE),
                WakeReason::TimerExpired => {
                    self.stop.timer_expired(processes(&self.reaper, &self.record));
                }
                WakeReason::LivenessCheck => self.check_liveness(),
                WakeReason::FinalLine => self.check_final_answer(),
            }
        }
    }

    async fn next_wake(&mut self) -> WakeReason {
        let (deadline, timer) = (self.deadline, self.stop.timer());
        let (is_working, check) = (self.stop.is_working(), self.liveness.next_check());
        tokio::select! {
            signal = self.signals.next() => match signal {
                SignalEvent::ChildExited => WakeReason::ChildExited,
                SignalEvent::Termination => WakeReason::TerminationSignal,
            },
            () = self.reaper.wait_for_exits() => WakeReason::ChildExited,
            () = self.final_line.notified(), if is_working => WakeReason::FinalLine,
            () = self.subscription.changed() => WakeReason::FilesChanged,
            () = tokio::time::sleep_until(deadline), if is_working => WakeReason::DeadlinePassed,
            () = tokio::time::sleep_until(timer.unwrap_or(deadline)), if timer.is_some() => WakeReason::TimerExpired,
            () = tokio::time::sleep_until(check), if is_working => WakeReason::LivenessCheck,
        }
    }

    fn reap(&mut self) {
        let ended = self.reaper.reap();
        self.stop.processes_ended(&ended, processes(&self.reaper, &self.record));
    }

    fn begin_stop(&mut self, cause: StopCause, grace: Duration) {
        // If the leader has just ended by itself, it does not count as stopped.
        self.reap();
        if !self.stop.is_working() {
            return;
        }
        self.stop.announce(processes(&self.reaper, &self.record));
        self.record.stopping(cause.clone());
        self.stop.stop(cause, grace, processes(&self.reaper, &self.record));
    }

    fn handle_stop_request(&mut self) {
        let Some(request) = self.run.folder.stop_request() else { return };
        if self.stop.is_working() {
            self.stop.choose_scope(request.tree);
            self.begin_stop(StopCause::Requested { reason: request.reason }, request.grace);
        } else {
            self.stop.shorten_grace(request.grace);
        }
    }

    /// Handles changes in the watched folders.
    fn refresh(&mut self) {
        self.handle_stop_request();
        self.watch_new_folders();
        let layout = self.layout();
        let is_new = layout.as_ref().is_some_and(|layout| self.record.log_dir_found(layout.log.clone()));
        let digest = layout.as_ref().and_then(|layout| self.status.read(&self.run, layout));
        let shows_activity = self.apply_digest(digest, is_new);
        self.update_liveness(layout.as_ref(), shows_activity);
        if self.stop.is_working() && self.budget.is_exhausted() {
            self.begin_stop(StopCause::Budget, DEFAULT_GRACE);
        }
    }

    /// Repeats until no folder is new: one may be created between the scan and the watch of its parent.
    fn watch_new_folders(&mut self) {
        let run = &self.run;
        loop {
            let own = Layout::watched_folders(&run.files, self.record.get().log_dir.as_deref());
            let own = own.iter().map(|folder| run.files.absolute(folder)).collect::<Vec<_>>();
            let below = self.budget.active_descendants(run).map(|id| run.state.run_folder(id).path().to_owned());
            let children = Some(run.folder.children()).filter(|children| children.exists());
            let folders: Vec<PathBuf> = own.into_iter().chain(below).chain(children).collect();
            let new = folders.iter().fold(false, |new, folder| self.subscription.watch_folder(folder) | new);
            if !new {
                return;
            }
        }
    }

    fn layout(&self) -> Option<Layout> {
        self.run.layout(self.record.get().log_dir.as_deref())
    }

    /// Records the digest and the spend; `true` if anything but the time has changed.
    fn apply_digest(&mut self, digest: Option<Digest>, is_log_dir_new: bool) -> bool {
        let change = self.record.digest_read(digest);
        let (is_spend_changed, is_threshold_passed) = self.update_spend();
        let is_changed = change.is_changed || is_spend_changed;
        self.record.publish(is_changed, is_log_dir_new || change.is_notable || is_threshold_passed);
        is_changed || is_log_dir_new
    }

    /// Updates the spend of this run and all runs below it: whether it has changed, and whether it has passed a threshold. In that
    /// case it requests the agents of a working run to finish.
    fn update_spend(&mut self) -> (bool, bool) {
        let record = self.record.get();
        let update = self.budget.update(&self.run, record.digest.as_ref(), record.log_dir.as_deref());
        let is_changed = self.record.spend_counted(update.spent, update.by_descendants);
        if update.passed == Some(BudgetDecision::Steer) && self.stop.is_working() {
            self.send_budget_message();
        }
        (is_changed, update.passed.is_some())
    }

    /// MassGen shows the message to each agent around its next tool call; an agent that calls no tool never sees it.
    fn send_budget_message(&self) {
        let record = self.record.get();
        let content = budget_monitor::finish_message(record.spec.allowance.cap, record.total_spent());
        if let Err(error) = self.run.folder.put_message(inbox::BUDGET_KIND, &inbox::message(&content, &[])) {
            tracing::warn!(error = text::error_chain(&error), "the message to finish could not be sent to the agents");
        }
    }

    /// MassGen takes seconds to end after its last line. If the answer is complete, it is made available before that.
    fn check_final_answer(&mut self) {
        self.refresh();
        let (run, record) = (&self.run, self.record.get());
        let is_wanted = self.stop.is_working() && record.ready_answer.is_none();
        let layout = self.layout().filter(|_| is_wanted);
        let complete = layout.and_then(|layout| answers::complete(&run.files, &layout, record.digest.as_ref()));
        if let Some(answer) = complete {
            self.record.answer_ready(answers::summarize(&run.files, &answer, &run.secrets));
        }
    }

    /// Records activity.
    fn update_liveness(&mut self, layout: Option<&Layout>, is_known_active: bool) {
        let counters = activity::growth_counters(&self.run, layout);
        if self.liveness.observe(counters, is_known_active, clock::now()) {
            self.record.activity_seen();
        }
    }

    /// If the run is quiet, records what it seems to do.
    fn check_liveness(&mut self) {
        let layout = self.layout();
        self.update_liveness(layout.as_ref(), false);
        let Some(leader) = self.record.get().state.leader() else {
            self.liveness = LivenessMonitor::new(clock::now());
            return;
        };
        if !self.liveness.is_due() {
            return;
        }
        let tree = self.reaper.process_tree();
        if let Some((since, cpu_percent)) = self.liveness.record_sample(CpuSample::take(&tree.own, leader)) {
            let evidence = activity::evidence(&self.run, layout.as_ref(), &tree, leader, cpu_percent);
            self.record.quiet_sampled(QuietPeriod { since, sampled_at: clock::now(), evidence });
        }
    }

    /// Writes the ending and retries until it is on disk or the run's folder is gone.
    async fn finish(&mut self, exit: &LeaderExit) {
        if self.record.get().state.ending().is_none() {
            self.drain_outputs().await;
            self.record_ending(exit, None);
        }
        self.record.retry_until_saved().await;
    }

    /// Waits for the rest of MassGen's output.
    async fn drain_outputs(&mut self) {
        let outputs = std::mem::take(&mut self.outputs);
        let all = futures_util::future::join_all(outputs);
        // A descendant may keep the pipe open; its output does not affect the outcome, so do not wait for it.
        let _timed_out = tokio::time::timeout(OUTPUT_DRAIN_TIMEOUT, all).await;
    }

    /// Records the ending, once all evidence is complete.
    fn record_ending(&mut self, exit: &LeaderExit, known: Option<Outcome>) {
        let layout = self.layout();
        if let Some(layout) = &layout {
            self.record.log_dir_found(layout.log.clone());
            self.record.digest_read(self.status.read(&self.run, layout));
        }
        self.update_spend();
        let (run, record) = (&self.run, self.record.get());
        let (spec, digest) = (&record.spec, record.digest.as_ref());
        let answer = layout.as_ref().and_then(|layout| answers::best(&run.files, layout, digest));
        let warnings = layout.as_ref().map(|layout| outcome_reader::log_warnings(run, layout, digest));
        let outcome =
            known.unwrap_or_else(|| self.outcome.outcome(run, digest, exit, layout.as_ref(), answer.as_ref()));
        let changed_files = self.project.changed_files(spec, &run.state);
        let warnings = self.project.clean(run, spec, warnings.unwrap_or_default());
        let warnings = project_monitor::warn_if_unchanged(changed_files.as_ref(), &outcome, warnings);
        let ended_at = clock::now();
        let duration = record.started.as_ref().map(|started| started.duration_until(&ended_at)).unwrap_or_default();
        let ending = Ending {
            outcome: outcome_reader::remember_broken_import(run, record, outcome),
            exit: exit.exit,
            ended_at,
            duration,
            answer: answer.as_ref().map(|answer| answers::summarize(&run.files, answer, &run.secrets)),
            stop: self.stop.report(exit, &run.secrets).map(Box::new),
            warnings,
        };
        self.record.ended(ending, changed_files, &run.secrets);
    }
}

/// The run's processes, for its stop.
fn processes<'a>(reaper: &'a Reaper, record: &'a RecordWriter) -> RunProcesses<'a> {
    RunProcesses { reaper, leader: record.get().state.leader() }
}
