//! Reads the evidence of how a run went, once MassGen has ended: the ends of its outputs, its events, its log. `massgen/outcome` decides.
//! It also records that a MassGen cannot be imported, so that no other run has to discover it.

use std::path::PathBuf;

use super::agent_facts::AgentFacts;
use super::plan::LeaderExit;
use super::run_context::RunContext;
use crate::massgen::answers::Answer;
use crate::massgen::layout::Layout;
use crate::massgen::outcome::{OutcomeEvidence, outcome};
use crate::massgen::reasons::{RunOutput, attribute_problem};
use crate::massgen::{broken_import, events, text, warnings};
use crate::registry::{FAILED_IMPORTS_FOLDER, STDERR_LOG, STDOUT_LOG};
use crate::run::{Digest, Outcome, RunRecord, Warning};

/// How much of the end of an output is searched for a failure reason, in bytes.
const REASON_TAIL_BYTES: u64 = 64 << 10;

pub(super) struct OutcomeReader {
    agents: AgentFacts,
}

impl OutcomeReader {
    pub(super) fn new(agents: AgentFacts) -> OutcomeReader {
        OutcomeReader { agents }
    }

    /// The outcome, from all evidence of the run.
    pub(super) fn outcome(
        &self,
        run: &RunContext,
        digest: Option<&Digest>,
        exit: &LeaderExit,
        layout: Option<&Layout>,
        answer: Option<&Answer>,
    ) -> Outcome {
        let tail = |log: &str| run.files.tail(&PathBuf::from(log), REASON_TAIL_BYTES).unwrap_or_default();
        let (stderr, stdout) = (tail(STDERR_LOG), tail(STDOUT_LOG));
        let model_error = digest.and_then(|digest| digest.first_error.as_deref());
        let provider = self.agents.provider(digest.and_then(|digest| digest.first_error_agent.as_deref()));
        let events = layout.and_then(|layout| layout.events(&run.files));
        let events = events.and_then(|events| run.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
        let agent_text = events::last_agent_text(&events, &run.secrets);
        let (agent_text, is_answering) = (agent_text.as_deref(), events::is_answering(&events));
        let output = RunOutput { stderr: &stderr, stdout: &stdout, model_error, agent_text, is_answering, provider };
        let outcome = outcome(&OutcomeEvidence {
            stop_cause: exit.cause.as_ref(),
            exit: exit.exit,
            answer: answer.map(|answer| answer.source),
            digest,
            output,
        });
        if let Outcome::Failed(problem) = outcome {
            return Outcome::Failed(attribute_problem(problem, digest, &self.agents.key_variables));
        }
        outcome
    }
}

/// The warnings about the run, according to MassGen's own log.
pub(super) fn log_warnings(run: &RunContext, layout: &Layout, digest: Option<&Digest>) -> Vec<Warning> {
    let log = layout.massgen_log(&run.files);
    let log = log.and_then(|log| run.files.head_and_tail(&log, warnings::MAX_LOG_BYTES).ok()).unwrap_or_default();
    let found = warnings::warnings(&log, digest).into_iter();
    found.map(|found| Warning { message: run.secrets.mask(&found.message).into_owned(), ..found }).collect()
}

/// Records a MassGen that could not be imported, so that no other run has to discover it.
pub(super) fn remember_broken_import(run: &RunContext, record: &RunRecord, outcome: Outcome) -> Outcome {
    let Outcome::Failed(problem) = outcome else { return outcome };
    if problem.code != broken_import::CODE || record.log_dir.is_some() {
        return Outcome::Failed(problem);
    }
    let (program, failures) = (&record.spec.program, run.state.root().join(FAILED_IMPORTS_FOLDER));
    let problem = broken_import::with_package_version(problem, program);
    if let Err(error) = broken_import::record_failure(&problem, program, &failures) {
        tracing::warn!(error = text::error_chain(&error), "the failed import of MassGen could not be recorded");
    }
    Outcome::Failed(problem)
}
