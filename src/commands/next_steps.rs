//! The next step in the words of a person at a shell: which command to type. Pure.

use crate::run::{NextStep, Step};

/// The words of the steps that differ between an agent and a person.
const PERSON_WORDS: &[(Step, &str)] = &[
    (Step::StartInterrupted, "nothing was run and nothing was spent; start it again"),
    (Step::CorrectConfig, "correct the config, then start it again: what a run needs could not be added to it"),
    (Step::MendAndStart, "correct what is named, then start it again; nothing was spent"),
    (
        Step::CorrectNamedCause,
        "correct what the message names (the config, a missing program, a full disk), then start it again",
    ),
    (
        Step::SetKey,
        "put the key into the server's `env` or into ~/.massgen/.env; or use a config of which no key is missing",
    ),
    (Step::AskConfigAuthor, "the config's author has to correct it as the message says; then start it again"),
    (
        Step::CorrectOverrides,
        "the run had overrides: correct them as the message says, if it is about what they change, else the config's author has to correct it; then start it again",
    ),
    (Step::StartNewConversation, "start a new run, and say in its question what matters of the earlier one"),
    (
        Step::WaitForRateLimit,
        "the provider limits requests: start it again in some minutes; if it repeats, use fewer agents",
    ),
    (Step::WaitForProvider, "the provider is overloaded: start it again later, or with another model"),
    (
        Step::RetryCutStream,
        "the connection broke while the model answered: start it again; if it repeats, check the proxy in between",
    ),
    (Step::CheckNetwork, "check `base_url` in the config and the network of this machine, then start it again"),
    (
        Step::CheckNetworkAndProxy,
        "check `base_url`, proxy, certificates (SSL_CERT_FILE) and network, then start it again",
    ),
    (Step::RetrySoon, "the model provider could not answer now; start it again in some minutes"),
    (
        Step::RetryAfterProviderError,
        "the model provider answered with an error; start it again later, or with another model",
    ),
    (
        Step::WaitForLimitOrLoad,
        "the provider limits requests or is overloaded: start it again later, or with another model",
    ),
    (
        Step::ReadErrorsRetryOnce,
        "see `massgen-mcp result --part errors`; run it again once, and if it repeats it is a fault of MassGen or of the config",
    ),
    (
        Step::ReadErrorsOfAgents,
        "see `massgen-mcp result --part errors` for what each agent met, then change the config or the question",
    ),
    (
        Step::ReadErrorsAndLog,
        "see `massgen-mcp result --part errors`, and `massgen-mcp logs` for everything it printed",
    ),
    (
        Step::RetryOtherModel,
        "start it again later or with another model; a larger timeout helps only if the model is just slow",
    ),
    (
        Step::ReadBestAfterSignal,
        "a person or the system (out of memory, perhaps) ended it; `massgen-mcp result` prints the best answer so far",
    ),
    (Step::StartAlone, "the other runs of the experiment are not touched by it; start it alone to see more"),
    (Step::UpdateForMore, "read the answer with `massgen-mcp result`; update massgen-mcp to see more"),
    (
        Step::NameFilesToChange,
        "only the winner's final presentation writes: ask for the changes by file names, and give every agent a `cwd`; `massgen-mcp result --part files` shows what is in its workspace",
    ),
    (Step::ReadErrorsOfTools, "their tools were missing: see `massgen-mcp result --part errors`"),
    (Step::ReadErrorsOfOthers, "the answer is of the others; `massgen-mcp result --part errors` has each error"),
    (Step::ContinueOrRestart, "let it go on with SIGCONT; or stop it (`massgen-mcp kill`) and start it again"),
    (
        Step::ReadLogAndRestart,
        "see `massgen-mcp logs` for what it did last; stop it (`massgen-mcp kill`) and start it again",
    ),
    (
        Step::WaitForModel,
        "models that think are silent for minutes: wait on; after ten, stop it (`massgen-mcp kill`), and start it again later or with another model",
    ),
    (
        Step::WaitForTool,
        "wait on if such a call may take so long; else stop it (`massgen-mcp kill`), and ask for less in the question",
    ),
    (
        Step::WaitForText,
        "a very long answer can keep MassGen busy for minutes: wait on, or stop it (`massgen-mcp kill`) and ask for less text",
    ),
    (Step::StopAndLimitAnswers, "stop it (`massgen-mcp kill`), then run it again with the overrides {}"),
    (Step::SetVariable, "set it in the server's environment, its env_file or ~/.massgen/.env"),
    (
        Step::DisableBroadcast,
        "set orchestrator.coordination.broadcast to \"agents\" or false by overrides; messages reach the agents of a live run",
    ),
    (Step::RaiseLimit, "`massgen-mcp result` prints the best answer so far; for more, run it with a larger {}"),
    (Step::RestartAfterLoss, "`massgen-mcp result` prints the best answer so far, if any; start it again"),
    (
        Step::RaiseTimeout,
        "`massgen-mcp result` prints the best answer so far, if any; for more time start it again with a larger timeout",
    ),
    (
        Step::RaiseMassgenTimeout,
        "`massgen-mcp result` prints what it presented, if anything; raise the timeout, or timeout_settings in the config",
    ),
    (Step::CompareGroup, "all are over: `massgen-mcp report` writes a page that compares them"),
    (Step::ResumeOrStopGroup, "the same call again goes on with it; `massgen-mcp kill` with the group ends it"),
    (
        Step::WaitForItsTurn,
        "`massgen-mcp status` says whether it still waits for its turn; `massgen-mcp runs` shows the others",
    ),
    (Step::WaitForAnswer, "wait with `massgen-mcp wait`, then read again"),
    (Step::ReadStatus, "`massgen-mcp status` shows what is on record; runs that end from now on have one"),
    (Step::FindRun, "`massgen-mcp runs` lists the latest runs"),
    (Step::ListRuns, "`massgen-mcp runs` lists the latest runs"),
    (Step::ListOtherRuns, "the record is damaged; other runs are not: see `massgen-mcp runs`"),
    (Step::ReportFault, "runs are not touched by it; `massgen-mcp runs` lists them"),
    (Step::RetryStart, "nothing was spent; start it again"),
    (Step::ContinueEndedRun, "the run has ended: `massgen-mcp result` prints its answer"),
    (Step::ContinueWithMessage, "its agents never saw it: `massgen-mcp result` prints its answer"),
    (
        Step::RestartWithInstruction,
        "nothing was sent: stop it (`massgen-mcp kill`) and start it again with the instruction in the question",
    ),
    (
        Step::NameAgents,
        "name agents as `massgen-mcp status` does; a run that has just begun may not have named them yet",
    ),
    (
        Step::WaitOrStop,
        "its agents take none up, perhaps because they call no tools: wait for the end, or stop it (`massgen-mcp kill`)",
    ),
    (Step::WaitForEnd, "wait for its end with `massgen-mcp wait`, then try again"),
    (Step::AskWholeQuestion, "start a new run with the whole question"),
    (Step::BuildOnAnswer, "start a new run that builds on its answer"),
    (Step::ChooseGroup, "nothing was started: no runs can be added to those of another call; choose a new group"),
    (Step::ChooseGroupForRun, "nothing was started: no run can be added to it; choose a new group for this run"),
    (Step::WaitForPlannedRun, "wait for its turn; `massgen-mcp kill` with the group stops the whole experiment"),
    (Step::WaitToBuildOn, "wait until an agent of a live run has answered, or start without an answer to build on"),
    (Step::NameAnswer, "name one of these; `massgen-mcp result --part answers` shows them"),
    (Step::QuoteAnswer, "start without it, and say in the question what matters of the answer"),
    (Step::WaitBeforeStart, "wait that long before the next start"),
    (Step::WaitForQueue, "wait until some runs have ended (`massgen-mcp wait`), or stop some (`massgen-mcp kill`)"),
    (Step::WaitForOwnRun, "wait until one of your runs has ended, then start this one"),
    (
        Step::FindConfig,
        "{}A config is a path relative to the project, a name in ~/.config/massgen/agents, or @examples/NAME; @rehearsal only practises: its answers are scripted",
    ),
];

/// The step in the words of a person.
pub(super) fn person_words(step: &NextStep) -> String {
    step.words(PERSON_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_words() {
        for step in Step::ALL {
            let rows = PERSON_WORDS.iter().filter(|(known, _)| known == step).count();
            assert_eq!(rows, usize::from(step.shared_words().is_none()), "{step:?}");
        }
    }

    #[test]
    fn no_words_name_a_tool() {
        let shared = Step::ALL.iter().filter_map(|step| step.shared_words());
        for words in PERSON_WORDS.iter().map(|(_, words)| *words).chain(shared) {
            for tool in ["run_massgen", "check_status", "read_result", "kill_run", "steer_run", "list_configs"] {
                assert!(!words.contains(tool), "{words}");
            }
        }
    }
}
