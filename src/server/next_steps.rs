//! The next step in the words of an agent: which tool to call, and what to ask the person for. Pure.

use crate::run::{NextStep, Step};

/// The words of the steps that differ between an agent and a person.
const AGENT_WORDS: &[(Step, &str)] = &[
    (Step::StartInterrupted, "nothing was run and nothing was spent; call run_massgen again"),
    (Step::CorrectConfig, "correct the config, then call run_massgen again: what a run needs could not be added to it"),
    (Step::MendAndStart, "correct what is named, then call run_massgen again; nothing was spent"),
    (
        Step::CorrectNamedCause,
        "correct what the message names (the config, a missing program, a full disk), then call run_massgen again",
    ),
    (
        Step::SetKey,
        "the person who configured this server has to put the key into its `env` or into ~/.massgen/.env; or use a config of which no key is missing (list_configs)",
    ),
    (Step::AskConfigAuthor, "the config's author has to correct it as the message says; then call run_massgen again"),
    (
        Step::CorrectOverrides,
        "the run had `overrides`: correct them as the message says, if it is about what they change, else the config's author has to correct it; then call run_massgen again",
    ),
    (
        Step::StartNewConversation,
        "start a new run without continue_run (and without `session_id` in its config), and say in its question what matters of the earlier one",
    ),
    (
        Step::WaitForRateLimit,
        "the provider limits requests: call run_massgen again in some minutes; if it repeats, use fewer agents",
    ),
    (Step::WaitForProvider, "the provider is overloaded: call run_massgen again later, or with another model"),
    (
        Step::RetryCutStream,
        "the connection broke while the model answered: call run_massgen again; if it repeats, check the proxy in between",
    ),
    (Step::CheckNetwork, "check `base_url` in the config and the network of this machine, then call run_massgen again"),
    (
        Step::CheckNetworkAndProxy,
        "check `base_url`, proxy, certificates (SSL_CERT_FILE) and network, then call run_massgen again",
    ),
    (Step::RetrySoon, "the model provider could not answer now; call run_massgen again in some minutes"),
    (
        Step::RetryAfterProviderError,
        "the model provider answered with an error; call run_massgen again later, or with another model",
    ),
    (
        Step::WaitForLimitOrLoad,
        "the provider limits requests or is overloaded: call run_massgen again later, or with another model",
    ),
    (
        Step::ReadErrorsRetryOnce,
        "see read_result with part `errors`; run it again once, and if it repeats it is a fault of MassGen or of the config",
    ),
    (
        Step::ReadErrorsOfAgents,
        "see read_result with part `errors` for what each agent met, then change the config or the question",
    ),
    (Step::ReadErrorsAndLog, "see read_result with part `errors`, and part `log` for everything it printed"),
    (
        Step::RetryOtherModel,
        "call run_massgen again later or with another model; a larger timeout_s helps only if the model is just slow",
    ),
    (
        Step::ReadBestAfterSignal,
        "a person or the system (out of memory, perhaps) ended it; read_result gives the best answer so far",
    ),
    (
        Step::StartAlone,
        "the other runs of the experiment are not touched by it; start it alone with run_massgen to see more",
    ),
    (Step::UpdateForMore, "read the answer with read_result; update massgen-mcp to see more"),
    (
        Step::NameFilesToChange,
        "only the winner's final presentation writes: ask for the changes by file names, and give every agent a `cwd`; read_result part `files` shows what is in its workspace",
    ),
    (Step::ReadErrorsOfTools, "their tools were missing: see read_result part `errors`"),
    (Step::ReadErrorsOfOthers, "the answer is of the others; read_result part `errors` has each error"),
    (Step::ContinueOrRestart, "a person can let it go on with SIGCONT; or kill_run, then run_massgen again"),
    (Step::ReadLogAndRestart, "see read_result with part `log` for what it did last; kill_run, then run_massgen again"),
    (
        Step::WaitForModel,
        "models that think are silent for minutes: wait on; after ten, kill_run, and start again later or with another model",
    ),
    (Step::WaitForTool, "wait on if such a call may take so long; else kill_run, and ask for less in the question"),
    (
        Step::WaitForText,
        "a very long answer can keep MassGen busy for minutes: wait on, or kill_run and ask for less text",
    ),
    (Step::StopAndLimitAnswers, "kill_run, then run_massgen again with overrides {}"),
    (
        Step::SetVariable,
        "the person who configured this server has to set it in the server's environment, its env_file or ~/.massgen/.env; list_configs shows configs with all their keys",
    ),
    (
        Step::DisableBroadcast,
        "set orchestrator.coordination.broadcast to \"agents\" or false by overrides; steer_run reaches the agents",
    ),
    (Step::RaiseLimit, "read_result has the best answer so far; for more, run it with a larger {}"),
    (Step::RestartAfterLoss, "read_result gives the best answer so far, if any; start it again with run_massgen"),
    (
        Step::RaiseTimeout,
        "read_result gives the best answer so far, if any; for more time start it again with a larger timeout_s",
    ),
    (
        Step::RaiseMassgenTimeout,
        "read_result gives what it presented, if anything; raise timeout_s, or timeout_settings in the config",
    ),
    (
        Step::CompareGroup,
        "all are over: read_result with this group compares them (table), part answers has the answers side by side",
    ),
    (
        Step::ResumeOrStopGroup,
        "call run_massgen with the same arguments and request_key again to go on; kill_run with the group ends it",
    ),
    (
        Step::WaitForItsTurn,
        "check_status says whether it still waits for its turn; part `table` of its group shows the others",
    ),
    (Step::WaitForAnswer, "wait with check_status and wait_s, then read again"),
    (Step::ReadStatus, "check_status with detail full shows what is on record; runs that end from now on have one"),
    (Step::FindRun, "call check_status without arguments to see the latest runs and their run_id"),
    (Step::ListRuns, "call check_status without arguments to see the latest runs"),
    (Step::ListOtherRuns, "the record is damaged; other runs are not: see check_status without arguments"),
    (
        Step::ReportFault,
        "runs are not touched by it; call check_status to see them, and tell the operator to look at the server's log",
    ),
    (Step::RetryStart, "nothing was spent; call run_massgen again, and tell the operator if it repeats"),
    (
        Step::ContinueEndedRun,
        "the run has ended: see read_result; to say something to its agents all the same, call run_massgen with continue_run set to this run and the message as its question",
    ),
    (
        Step::ContinueWithMessage,
        "its agents never saw it: see read_result; to say it all the same, call run_massgen with continue_run set to this run and the message as its question",
    ),
    (
        Step::RestartWithInstruction,
        "nothing was sent: kill_run it and start again with the instruction in the question; or wait for its end, then call run_massgen with continue_run set to this run and the instruction as its question",
    ),
    (
        Step::NameAgents,
        "name agents as check_status does, or leave `agents` out to reach all; a run that has just begun may not have named them yet",
    ),
    (
        Step::WaitOrStop,
        "its agents take none up, perhaps because they call no tools: wait for the end with check_status, or kill_run it",
    ),
    (
        Step::WaitForEnd,
        "wait for its end with check_status (wait_s, until any_done), then call again; steer_run reaches agents that call tools, and `from_run` builds on the answer of an agent once there is one",
    ),
    (Step::AskWholeQuestion, "call run_massgen without continue_run, with the whole question"),
    (
        Step::BuildOnAnswer,
        "call run_massgen with `from_run` set to this run in place of continue_run: its answer is material for other agents, and a conversation of their own begins",
    ),
    (
        Step::ChooseGroup,
        "nothing was started: no runs can be added to those of another call; choose a new group, or leave it out and get one; check_status with the group shows the runs that it has",
    ),
    (
        Step::ChooseGroupForRun,
        "nothing was started: no run can be added to it; choose a new group for this run, or leave it out; check_status with the group shows the runs that it has",
    ),
    (
        Step::WaitForPlannedRun,
        "wait for its turn with check_status; kill_run with the group stops the whole experiment",
    ),
    (
        Step::WaitToBuildOn,
        "of a live run wait with check_status until an agent has answered; else call run_massgen without `from_run`",
    ),
    (Step::NameAnswer, "name one of these, or leave `answer` out for the best; read_result part answers shows them"),
    (
        Step::QuoteAnswer,
        "call run_massgen without `from_run`, and say in the question what matters of the answer (read_result has it); continue_run goes on with a whole conversation that has ended",
    ),
    (Step::WaitBeforeStart, "wait that long before the next start; check_status with wait_s is a good way to"),
    (Step::WaitForQueue, "wait with check_status until some runs have ended, or stop some with kill_run"),
    (Step::WaitForOwnRun, "wait with check_status until one of your runs has ended, then start this one"),
    (
        Step::FindConfig,
        "{}list_configs finds configs. A config is a path relative to the project, a name in ~/.config/massgen/agents, or @examples/NAME; @rehearsal only practises: its answers are scripted",
    ),
];

/// The step in the words of an agent.
pub fn agent_words(step: &NextStep) -> String {
    step.words(AGENT_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_words() {
        for step in Step::ALL {
            let rows = AGENT_WORDS.iter().filter(|(known, _)| known == step).count();
            assert_eq!(rows, usize::from(step.shared_words().is_none()), "{step:?}");
        }
    }
}
