//! The outcome of a run from evidence: why this program stopped it (if it did), how its process ended, whether a final answer exists, and
//! what it printed. Pure. Neither the exit code nor status.json decides alone: MassGen exits with 0 after total failures and with 1, 2 or
//! 120 after successes, and writes `completed` before an answer exists.

use super::reasons::{self, RunOutput};
use crate::run::{AnswerSource, Digest, Exit, Finish, Outcome, Problem, Retry, Step, StopCause};

/// Everything known after MassGen's process has ended.
#[derive(Debug, Clone, Copy)]
pub struct OutcomeEvidence<'a> {
    /// Why this program stopped it, if it did.
    pub stop_cause: Option<&'a StopCause>,
    /// How its process ended.
    pub exit: Exit,
    /// The source of the best answer, if one exists.
    pub answer: Option<AnswerSource>,
    /// The newest valid digest.
    pub digest: Option<&'a Digest>,
    /// What it printed.
    pub output: RunOutput<'a>,
}

/// Decides the outcome from the evidence.
pub fn outcome(evidence: &OutcomeEvidence<'_>) -> Outcome {
    match evidence.stop_cause {
        Some(StopCause::Requested { reason }) => Outcome::Killed { reason: reason.clone(), problem: None },
        Some(StopCause::Deadline) => Outcome::TimedOut { ours: true, problem: timeout_problem(evidence) },
        Some(StopCause::Budget) => Outcome::OverBudget,
        None => unstopped_outcome(evidence),
    }
}

fn unstopped_outcome(evidence: &OutcomeEvidence<'_>) -> Outcome {
    let timed_out = evidence.digest.is_some_and(|digest| digest.finish_reason == Some(Finish::Timeout))
        || reasons::reports_timeout(evidence.output.stderr);
    match (evidence.exit, evidence.answer) {
        (Exit::Unknown, _) => Outcome::Lost,
        (Exit::Signal(signal), _) if is_crash(signal) => Outcome::Failed(crash_problem(signal)),
        (Exit::Signal(signal), _) => {
            Outcome::Killed { reason: None, problem: Some(Box::new(foreign_signal_problem(signal))) }
        }
        (Exit::Code(_), _) if timed_out => Outcome::TimedOut { ours: false, problem: timeout_problem(evidence) },
        (Exit::Code(_), Some(AnswerSource::Final)) => Outcome::Succeeded,
        (Exit::Code(_) | Exit::NeverStarted, _) => Outcome::Failed(failure(evidence)),
    }
}

fn failure(evidence: &OutcomeEvidence<'_>) -> Problem {
    let is_resumed_end = evidence.exit == Exit::Code(1) && reasons::reports_resumed_end(evidence.output.stdout);
    let ended_well = evidence.exit == Exit::Code(0) || is_resumed_end;
    let exited_with_an_error = matches!(evidence.exit, Exit::Code(code) if code != 0);
    let massgen_error = || reasons::massgen_error(evidence.output.stdout).filter(|_| exited_with_an_error);
    // If MassGen itself reports why it ends, a traceback has another cause.
    let problem =
        reasons::problem(evidence.output).filter(|problem| problem.code != "crashed" || massgen_error().is_none());
    problem.or_else(massgen_error).unwrap_or_else(|| {
        let code = if ended_well { "agents_failed" } else { "crashed" };
        let ended = format!("MassGen ended with {} and no final answer", describe_exit(evidence.exit));
        let hint = Step::ReadErrorsAndLog;
        Problem::new(code, &(ended + &last_output(evidence)), hint)
    })
}

/// What used up the time, if a larger limit would not have helped: model calls that failed and were retried, or that got no response. With
/// several agents, only if none of them made progress.
fn timeout_problem(evidence: &OutcomeEvidence<'_>) -> Option<Box<Problem>> {
    let digest = evidence.digest.filter(|_| evidence.answer.is_none() && !evidence.output.is_answering)?;
    let is_silent = digest.tokens == Some(0) && !digest.agents.is_empty();
    if digest.agents.iter().any(|agent| agent.answers > 0) || !(is_silent || digest.agents.len() == 1) {
        return None;
    }
    let failed = reasons::failed_call_problem(evidence.output).map(|problem| {
        let message = format!("its time was spent in retries of a call to a model: {}", problem.message);
        Problem { message, ..problem }
    });
    failed.or_else(|| is_silent.then(|| unanswered_call_problem(evidence.output.provider))).map(Box::new)
}

fn unanswered_call_problem(provider: Option<&str>) -> Problem {
    let problem =
        Problem::new("model_silent", "its time ran out before any call to a model was answered", Step::RetryOtherModel);
    Problem { retry: Some(Retry::Later), provider: provider.map(str::to_owned), ..problem }
}

/// If no rule matches, the last lines are the best explanation.
fn last_output(evidence: &OutcomeEvidence<'_>) -> String {
    let lines = reasons::last_lines(evidence.output.stderr);
    lines.map(|lines| format!("; it said: {lines}")).unwrap_or_default()
}

fn crash_problem(signal: i32) -> Problem {
    let problem = Problem::new("crashed", &format!("MassGen was ended by {}", signal_name(signal)), Step::RetryOnce);
    Problem { retry: Some(Retry::Now), ..problem }
}

fn foreign_signal_problem(signal: i32) -> Problem {
    let problem = Problem::new(
        "killed_from_outside",
        &format!("MassGen was ended by {}, which massgen-mcp did not send", signal_name(signal)),
        Step::ReadBestAfterSignal,
    );
    Problem { retry: Some(Retry::Now), ..problem }
}

fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => signal_name(signal),
        Exit::NeverStarted => "no process started".to_owned(),
        Exit::Unknown => "an unknown exit code".to_owned(),
    }
}

/// Signals by which a faulty program ends: SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
fn is_crash(signal: i32) -> bool {
    matches!(signal_name(signal).as_str(), "SIGILL" | "SIGABRT" | "SIGBUS" | "SIGFPE" | "SIGSEGV" | "SIGSYS")
}

/// The exit code or signal of MassGen's process, for display; `unknown` if no process observed its end.
pub fn exit_label(exit: Exit) -> Option<String> {
    match exit {
        Exit::Code(code) => Some(code.to_string()),
        Exit::Signal(signal) => Some(signal_name(signal)),
        Exit::NeverStarted => None,
        Exit::Unknown => Some("unknown".to_owned()),
    }
}

/// `SIGTERM` for 15; `signal N` if it has no common name.
pub fn signal_name(signal: i32) -> String {
    use rustix::process::Signal;
    const NAMES: [(Signal, &str); 15] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::SYS, "SIGSYS"),
    ];
    let named = NAMES.iter().find(|(known, _)| known.as_raw() == signal);
    named.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    const NO_KEY: &str = "Streaming error: The api_key client option must be set";

    fn judge(
        stopped: Option<StopCause>,
        exit: Exit,
        answer: Option<AnswerSource>,
        finish: Option<Finish>,
        stderr: &str,
    ) -> String {
        let digest = finish.map(|finish| Digest { finish_reason: Some(finish), ..Digest::default() });
        let output = RunOutput { stderr, ..RunOutput::default() };
        match outcome(&OutcomeEvidence { stop_cause: stopped.as_ref(), exit, answer, digest: digest.as_ref(), output })
        {
            Outcome::Succeeded => "succeeded".to_owned(),
            Outcome::Failed(problem) => format!("failed {}", problem.code),
            Outcome::TimedOut { ours, problem } => {
                let side = if ours { "ours" } else { "massgen" };
                format!("timed_out {side}{}", problem.map(|problem| format!(" {}", problem.code)).unwrap_or_default())
            }
            Outcome::OverBudget => "over_budget".to_owned(),
            Outcome::Killed { problem, .. } => format!("killed {}", problem.map(|p| p.code).unwrap_or_default()),
            Outcome::Lost => "lost".to_owned(),
        }
    }

    /// Observed endings of MassGen: exit code, answer, finish_reason, standard error → outcome.
    #[test]
    fn every_observed_ending_has_the_right_outcome() {
        use AnswerSource::{Final, Partial};
        use Finish::{Completed, Error, InProgress, Timeout};
        type Row = (&'static str, Exit, Option<AnswerSource>, Option<Finish>, &'static str, &'static str);
        let table: &[Row] = &[
            ("success", Exit::Code(0), Some(Final), Some(Completed), "", "succeeded"),
            ("single quick success", Exit::Code(0), Some(Final), Some(InProgress), "", "succeeded"),
            (
                "missing config",
                Exit::Code(1),
                None,
                None,
                "❌ Configuration error: Configuration file not found",
                "failed config_invalid",
            ),
            (
                "unknown flag",
                Exit::Code(2),
                None,
                None,
                "usage: massgen [-h]\nmassgen: error: unrecognized",
                "failed config_invalid",
            ),
            ("wizard that gave up", Exit::Code(0), None, None, "", "failed agents_failed"),
            (
                "openai key missing",
                Exit::Code(1),
                None,
                None,
                "❌ Configuration error: OpenAI API key not found",
                "failed api_key_missing",
            ),
            ("chatcompletion key missing", Exit::Code(0), None, None, NO_KEY, "failed api_key_missing"),
            (
                "connection refused",
                Exit::Code(0),
                None,
                Some(InProgress),
                "Streaming error: Connection error.",
                "failed model_unreachable",
            ),
            ("500", Exit::Code(0), None, Some(Error), "Streaming error: Error code: 500", "failed model_error"),
            ("401", Exit::Code(0), None, None, "Streaming error: Error code: 401", "failed api_key_rejected"),
            (
                "text only",
                Exit::Code(0),
                None,
                None,
                "[ERROR] orchestrator: no successful agents",
                "failed agents_failed",
            ),
            ("one of two dead", Exit::Code(0), Some(Final), Some(Error), "Error code: 500", "succeeded"),
            ("presentation 500", Exit::Code(0), Some(Final), Some(Completed), "Error code: 500", "succeeded"),
            ("own timeout, no answer", Exit::Code(0), None, Some(Timeout), "No answers available", "timed_out massgen"),
            (
                "own timeout, hung model",
                Exit::Code(0),
                None,
                Some(InProgress),
                "❌ No answers available from any agents due to timeout",
                "timed_out massgen",
            ),
            ("own timeout, an answer", Exit::Code(0), Some(Final), Some(Timeout), "", "timed_out massgen"),
            (
                "interrupted from outside in start-up",
                Exit::Signal(2),
                None,
                None,
                "Traceback",
                "killed killed_from_outside",
            ),
            (
                "terminated from outside",
                Exit::Signal(15),
                Some(Partial),
                Some(InProgress),
                "",
                "killed killed_from_outside",
            ),
            (
                "terminated in the presentation",
                Exit::Signal(15),
                Some(Partial),
                Some(Completed),
                "",
                "killed killed_from_outside",
            ),
            ("segmentation fault", Exit::Signal(11), None, None, "", "failed crashed"),
            ("restart bug", Exit::Code(2), Some(Final), Some(Completed), "", "succeeded"),
            ("resumed session", Exit::Code(1), Some(Final), Some(Completed), "", "succeeded"),
            ("stdout closed", Exit::Code(120), Some(Final), Some(Completed), "BrokenPipe", "succeeded"),
            (
                "disk full",
                Exit::Code(1),
                None,
                None,
                "Traceback (most recent call last):\nOSError: full",
                "failed crashed",
            ),
            (
                "api_key in the backend",
                Exit::Code(2),
                None,
                None,
                "❌ Error: got multiple values for keyword argument 'api_key'",
                "failed config_invalid",
            ),
            ("nobody saw it", Exit::Unknown, Some(Final), Some(Completed), "", "lost"),
        ];
        for (name, exit, answer, finish, stderr, expected) in table {
            assert_eq!(judge(None, *exit, *answer, *finish, stderr), *expected, "{name}");
        }
    }

    /// Standard error, answers and tokens of each agent → the problem of a run that timed out without a final answer.
    #[test]
    fn a_timeout_names_the_failed_calls_that_took_its_time() {
        let code = |stderr: &str, agents: &[(u32, u64)]| {
            let agent = |(answers, tokens): &(u32, u64)| AgentDigest {
                answers: *answers,
                tokens: Some(*tokens),
                ..AgentDigest::default()
            };
            let tokens = Some(agents.iter().map(|(_, tokens)| tokens).sum());
            let digest = Digest { agents: agents.iter().map(agent).collect(), tokens, ..Digest::default() };
            let output = RunOutput { stderr, provider: Some("p"), ..RunOutput::default() };
            let evidence = OutcomeEvidence {
                stop_cause: Some(&StopCause::Deadline),
                exit: Exit::Signal(15),
                answer: None,
                digest: Some(&digest),
                output,
            };
            outcome(&evidence).problem().map(|problem| (problem.code.clone(), problem.retry, problem.provider.clone()))
        };
        let classified = |code: &str, retry| Some((code.to_owned(), Some(retry), Some("p".to_owned())));
        let rate_limited = "Streaming error: Error code: 429 - slow down";
        let waits =
            "[2026-11-26 20:53:18 - openai._base_client:1618 - INFO] Retrying request to /responses in 30.0 seconds";
        assert_eq!(code(rate_limited, &[(0, 0), (0, 0)]), classified("rate_limited", Retry::Later));
        assert_eq!(
            code(rate_limited, &[(0, 900)]),
            classified("rate_limited", Retry::Later),
            "the only agent went no further"
        );
        assert_eq!(code(rate_limited, &[(0, 0), (0, 900)]), None, "the other agent was at work");
        assert_eq!(code(rate_limited, &[(1, 900)]), None, "there is an answer");
        assert_eq!(code(waits, &[(0, 0)]), classified("model_busy", Retry::Later));
        assert_eq!(code("Streaming error: Error code: 402", &[(0, 0)]), classified("no_credit", Retry::No));
        assert_eq!(code("Traceback (most recent call last):", &[(0, 0)]), classified("model_silent", Retry::Later));
        assert_eq!(code("", &[(0, 7)]), None);
        // MassGen counts tokens when a call ends.
        assert_eq!(code("", &[(0, 0)]), classified("model_silent", Retry::Later));
        assert_eq!(code("", &[]), None, "without agents nothing is known of calls");
    }

    #[test]
    fn a_resumed_turn_that_ended_without_an_answer_did_not_crash() {
        let code = |stdout: &str| {
            let output = RunOutput { stdout, ..RunOutput::default() };
            let evidence =
                OutcomeEvidence { stop_cause: None, exit: Exit::Code(1), answer: None, digest: None, output };
            outcome(&evidence).problem().map(|problem| problem.code.clone()).expect("a problem")
        };
        assert_eq!(code("❌ Session error: too many values to unpack (expected 3)\n"), "agents_failed");
        assert_eq!(code("❌ Session error: Session 'x' not found in .massgen/sessions\n"), "conversation_lost");
        assert_eq!(code(""), "crashed");
    }

    #[test]
    fn massgens_error_takes_precedence_over_an_unrelated_traceback() {
        let problem = |exit, stderr| {
            let output = RunOutput { stdout: "❌ Error: the disk is full\n", stderr, ..RunOutput::default() };
            let evidence = OutcomeEvidence { stop_cause: None, exit, answer: None, digest: None, output };
            outcome(&evidence)
                .problem()
                .map(|problem| (problem.code.clone(), problem.message.clone()))
                .expect("a problem")
        };
        let warnings = "jwt.py:10: DeprecationWarning: use joserfc\n  from authlib.jose import JsonWebKey";
        let expected = ("massgen_error".to_owned(), "❌ Error: the disk is full".to_owned());
        assert_eq!(problem(Exit::Code(2), warnings), expected);
        assert_eq!(problem(Exit::Code(2), "Traceback (most recent call last):\nKeyError: 1"), expected);
        assert_eq!(
            problem(Exit::Code(0), "").0,
            "agents_failed",
            "anybody can forge a line; an error has its exit code"
        );
    }

    #[test]
    fn our_stop_takes_precedence_over_massgens_output() {
        let cause = StopCause::Requested { reason: None };
        let done = (Exit::Code(0), Some(AnswerSource::Final), Some(Finish::Completed));
        assert_eq!(judge(Some(cause), done.0, done.1, done.2, ""), "killed ");
        assert_eq!(judge(Some(StopCause::Deadline), Exit::Signal(9), None, None, ""), "timed_out ours");
        let answered = judge(Some(StopCause::Deadline), done.0, done.1, done.2, "Error code: 429");
        assert_eq!(answered, "timed_out ours", "an answer needs no excuse");
        assert_eq!(judge(Some(StopCause::Budget), Exit::Signal(15), None, None, ""), "over_budget");
    }

    #[test]
    fn exit_codes_and_signals_have_labels() {
        for (exit, expected) in [
            (Exit::Code(0), Some("0")),
            (Exit::Code(120), Some("120")),
            (Exit::Signal(1), Some("SIGHUP")),
            (Exit::Signal(2), Some("SIGINT")),
            (Exit::Signal(9), Some("SIGKILL")),
            (Exit::Signal(15), Some("SIGTERM")),
            (Exit::Signal(64), Some("signal 64")),
            (Exit::NeverStarted, None),
            (Exit::Unknown, Some("unknown")),
        ] {
            assert_eq!(exit_label(exit).as_deref(), expected, "{exit:?}");
        }
    }

    /// How the process ended and the end of its standard error → code, message and retry of the problem.
    #[test]
    fn a_failure_without_a_known_reason_says_how_massgen_ended() {
        let problem = |exit, stderr| {
            let output = RunOutput { stderr, ..RunOutput::default() };
            let evidence = OutcomeEvidence { stop_cause: None, exit, answer: None, digest: None, output };
            let problem = outcome(&evidence).problem().cloned().expect("a problem");
            (problem.code, problem.message, problem.retry)
        };
        for (exit, stderr, code, message, retry) in [
            (Exit::Code(0), "", "agents_failed", "MassGen ended with exit code 0 and no final answer", None),
            (
                Exit::Code(3),
                "one\n\ntwo\n",
                "crashed",
                "MassGen ended with exit code 3 and no final answer; it said: one | two",
                None,
            ),
            (Exit::NeverStarted, "", "crashed", "MassGen ended with no process started and no final answer", None),
            (Exit::Signal(4), "", "crashed", "MassGen was ended by SIGILL", Some(Retry::Now)),
            (Exit::Signal(6), "", "crashed", "MassGen was ended by SIGABRT", Some(Retry::Now)),
            (
                Exit::Signal(9),
                "",
                "killed_from_outside",
                "MassGen was ended by SIGKILL, which massgen-mcp did not send",
                Some(Retry::Now),
            ),
        ] {
            assert_eq!(problem(exit, stderr), (code.to_owned(), message.to_owned(), retry), "{exit:?}");
        }
    }

    /// Exit code, standard output and standard error → code. The exit code tells an error line from one that an agent wrote.
    #[test]
    fn a_known_reason_comes_before_the_error_line_of_massgen() {
        let line = "❌ Error: the disk is full\n";
        let resumed = "❌ Session error: too many values to unpack (expected 3)\n";
        for (code, stdout, stderr, expected) in [
            (1, line, "Streaming error: Error code: 401", "api_key_rejected"),
            (1, line, "Traceback (most recent call last):\nKeyError: 1", "massgen_error"),
            (1, "", "Traceback (most recent call last):\nKeyError: 1", "crashed"),
            (0, line, "Streaming error: Error code: 401", "api_key_rejected"),
            (0, resumed, "", "agents_failed"),
            (2, resumed, "", "crashed"),
        ] {
            let output = RunOutput { stdout, stderr, ..RunOutput::default() };
            let exit = Exit::Code(code);
            let evidence = OutcomeEvidence { stop_cause: None, exit, answer: None, digest: None, output };
            let found = outcome(&evidence).problem().map(|problem| problem.code.clone());
            assert_eq!(found.as_deref(), Some(expected), "exit code {code}, {stdout:?}, {stderr:?}");
        }
    }

    /// The only agent has used no tokens; an answer, or one in progress, shows that its time was not lost in failed calls.
    #[test]
    fn a_timeout_has_no_problem_if_there_is_an_answer_or_one_in_progress() {
        let digest = Digest { tokens: Some(0), agents: vec![AgentDigest::default()], ..Digest::default() };
        let message = |answer, is_answering| {
            let stderr = "Streaming error: Error code: 429 - slow down";
            let output = RunOutput { stderr, is_answering, ..RunOutput::default() };
            let stop_cause = Some(&StopCause::Deadline);
            let evidence =
                OutcomeEvidence { stop_cause, exit: Exit::Signal(15), answer, digest: Some(&digest), output };
            outcome(&evidence).problem().map(|problem| problem.message.clone())
        };
        let told = message(None, false).expect("a problem");
        assert!(told.starts_with("its time was spent in retries of a call to a model: "), "{told}");
        assert!(told.ends_with("Error code: 429 - slow down"), "{told}");
        for (answer, is_answering) in
            [(Some(AnswerSource::Partial), false), (None, true), (Some(AnswerSource::Partial), true)]
        {
            assert_eq!(message(answer, is_answering), None, "{answer:?}, answering: {is_answering}");
        }
    }
}
