//! What can be done about a problem. Lower modules name the step; `server` and `commands` say it, each in the words of its reader: an agent
//! calls tools, a person types commands. The disk keeps the step's label. Pure.

/// How a step is worded: the words of an agent, or those of a person.
pub type Wording = fn(&NextStep) -> String;

/// The next step, with the fact that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    step: Step,
    /// Stands in place of `{}` in the words; empty if the step needs none.
    detail: String,
}

macro_rules! steps {
    ($($name:ident = $label:literal $(, shared $text:literal)?;)*) => {
        /// A known step.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the words of each step explain it")]
        pub enum Step {
            /// Advice in words for every reader. Versions up to 0.2.0 recorded their words as well.
            Advice,
            $($name,)*
        }

        impl Step {
            /// Every step except [`Step::Advice`].
            pub const ALL: &[Step] = &[$(Step::$name,)*];

            /// The label on disk; it never changes.
            pub fn label(self) -> &'static str {
                match self {
                    Step::Advice => "advice",
                    $(Step::$name => $label,)*
                }
            }

            /// The words, if they are the same for every reader.
            pub fn shared_words(self) -> Option<&'static str> {
                match self {
                    Step::Advice => Some("{}"),
                    $(Step::$name => steps!(@words $($text)?),)*
                }
            }
        }
    };
    (@words $text:literal) => { Some($text) };
    (@words) => { None };
}

steps! {
    StartInterrupted = "start_interrupted";
    CorrectConfig = "correct_config";
    MendAndStart = "mend_and_start";
    CorrectNamedCause = "correct_named_cause";
    InstallMassgen = "install_massgen", shared "the person who configured this server has to run `massgen-mcp setup`, or to point --massgen at a working massgen";
    RepairMassgen = "repair_massgen", shared "no retry helps: the person who configured this server has to run `massgen-mcp setup`, or, where mcp is named, `pip install 'mcp<2'` in MassGen's environment";
    SetKey = "set_key";
    LogIn = "log_in", shared "the person who configured this server has to log in to that program once here, or to put its API key into `env` of this server";
    InstallAgentProgram = "install_agent_program", shared "the person who configured this server has to install the program that the message names; or use another backend";
    RemoveApiKey = "remove_api_key", shared "take `api_key` out of that backend in the config: MassGen reads the key from the backend's variable, such as OPENAI_API_KEY";
    AskConfigAuthor = "ask_config_author";
    CorrectOverrides = "correct_overrides";
    StartNewConversation = "start_new_conversation";
    AddCredit = "add_credit", shared "the provider's account has no credit, billing or budget left: the person who configured this server has to add it, or use another provider";
    WaitForQuota = "wait_for_quota", shared "the account's quota of this period is used up: wait until it is renewed, have it raised, or use another model";
    CorrectKey = "correct_key", shared "the provider refused the API key; the person who configured this server has to correct it before another run";
    ShortenRequest = "shorten_request", shared "one request exceeds the account's tokens per minute: shorten question and context, or have the limit raised";
    LowerMaxTokens = "lower_max_tokens", shared "set a smaller max_tokens (max_completion_tokens) in the config, as the message says";
    ShortenPrompt = "shorten_prompt", shared "the prompt is too long for the model: shorten question and files, or use a model with a larger context";
    WaitForRateLimit = "wait_for_rate_limit";
    EnableModel = "enable_model", shared "the account may not use this model: the person who configured this server has to enable what the message names, or use another model";
    CorrectModel = "correct_model", shared "correct the model's name (or base_url) in the config, or use a model that the account has";
    WaitForProvider = "wait_for_provider";
    CorrectTls = "correct_tls", shared "the secure connection failed: correct http/https in base_url, or give the proxy's certificate in SSL_CERT_FILE";
    RetryCutStream = "retry_cut_stream";
    CorrectAddress = "correct_address", shared "no model's API answers there (a proxy or login page?): correct base_url or the proxy, then start again";
    CheckNetwork = "check_network";
    CheckNetworkAndProxy = "check_network_and_proxy";
    RetrySoon = "retry_soon";
    RetryAfterProviderError = "retry_after_provider_error";
    CorrectModelSettings = "correct_model_settings", shared "the provider refused the request: correct the model's settings as the message says, or use another model";
    ShortenOrChangeModel = "shorten_or_change_model", shared "the prompt is too long for the model or the account's rate limit: shorten question and files, or use another model";
    WaitForLimitOrLoad = "wait_for_limit_or_load";
    ReadErrorsRetryOnce = "read_errors_retry_once";
    ReadErrorsOfAgents = "read_errors_of_agents";
    ReadErrorsAndLog = "read_errors_and_log";
    CorrectModelAddress = "correct_model_address", shared "check that `base_url` leads to a model's API, not to a proxy or a web page; then start again";
    RetryOtherModel = "retry_other_model";
    RetryOnce = "retry_once", shared "run it again once; if it repeats, it is a fault of MassGen or of a library under it";
    ReadBestAfterSignal = "read_best_after_signal";
    StartAlone = "start_alone";
    UpdateForMore = "update_for_more";
    NameFilesToChange = "name_files_to_change";
    ReadErrorsOfTools = "read_errors_of_tools";
    WriteDirectly = "write_directly", shared "for direct writes set orchestrator.coordination.write_mode to legacy";
    MergeBranches = "merge_branches", shared "for direct writes set orchestrator.coordination.write_mode to legacy; the changes are in these branches: {}";
    RunOutsideContainer = "run_outside_container", shared "run massgen-mcp outside of a container, or set command_line_execution_mode to local";
    ReadErrorsOfOthers = "read_errors_of_others";
    ContinueOrRestart = "continue_or_restart";
    ReadLogAndRestart = "read_log_and_restart";
    WaitForModel = "wait_for_model";
    WaitForTool = "wait_for_tool";
    WaitForText = "wait_for_text";
    StopAndLimitAnswers = "stop_and_limit_answers";
    LimitAnswers = "limit_answers", shared "run it again with overrides {}";
    SetVariable = "set_variable";
    DisableBroadcast = "disable_broadcast";
    UseOtherModels = "use_other_models", shared "use a config whose models have prices; only the person who configured this server can allow others (unknown_cost)";
    RaiseLimit = "raise_limit";
    RestartAfterLoss = "restart_after_loss";
    RaiseTimeout = "raise_timeout";
    RaiseMassgenTimeout = "raise_massgen_timeout";
    CompareGroup = "compare_group";
    ResumeOrStopGroup = "resume_or_stop_group";
    WaitForItsTurn = "wait_for_its_turn";
    WaitForAnswer = "wait_for_answer";
    ReadStatus = "read_status";
    FindRun = "find_run";
    ListRuns = "list_runs";
    ListOtherRuns = "list_other_runs";
    ReportFault = "report_fault";
    RetryStart = "retry_start";
    ContinueEndedRun = "continue_ended_run";
    ContinueWithMessage = "continue_with_message";
    RestartWithInstruction = "restart_with_instruction";
    NameAgents = "name_agents";
    WaitOrStop = "wait_or_stop";
    WaitForEnd = "wait_for_end";
    AskWholeQuestion = "ask_whole_question";
    BuildOnAnswer = "build_on_answer";
    ChooseGroup = "choose_group";
    ChooseGroupForRun = "choose_group_for_run";
    WaitForPlannedRun = "wait_for_planned_run";
    WaitToBuildOn = "wait_to_build_on";
    NameAnswer = "name_answer";
    QuoteAnswer = "quote_answer";
    WaitBeforeStart = "wait_before_start";
    WaitForQueue = "wait_for_queue";
    WaitForOwnRun = "wait_for_own_run";
    FindConfig = "find_config";
}

impl Step {
    /// The step of a label; `None` for one of a newer version.
    pub fn from_label(label: &str) -> Option<Step> {
        Step::ALL.iter().copied().find(|step| step.label() == label)
    }

    /// This step, with its fact.
    pub fn with(self, detail: impl Into<String>) -> NextStep {
        NextStep { step: self, detail: detail.into() }
    }
}

impl NextStep {
    /// The step.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The fact that belongs to it; empty if there is none.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The same step with its fact changed, to mask secrets or to limit the length.
    #[must_use]
    pub fn map_detail(self, change: impl FnOnce(&str) -> String) -> NextStep {
        NextStep { detail: change(&self.detail), ..self }
    }

    /// The words: those for every reader, or else those in `table`, which is the table of one reader.
    pub fn words(&self, table: &[(Step, &str)]) -> String {
        let own = table.iter().find(|(step, _)| *step == self.step).map(|(_, words)| *words);
        let words = own.or_else(|| self.step.shared_words()).unwrap_or_default();
        words.replacen("{}", &self.detail, 1)
    }
}

impl From<Step> for NextStep {
    fn from(step: Step) -> NextStep {
        step.with("")
    }
}

impl From<&str> for NextStep {
    fn from(advice: &str) -> NextStep {
        Step::Advice.with(advice)
    }
}

impl From<String> for NextStep {
    fn from(advice: String) -> NextStep {
        Step::Advice.with(advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_lead_back_to_their_steps() {
        for step in Step::ALL {
            assert_eq!(Step::from_label(step.label()), Some(*step));
        }
        assert_eq!(Step::from_label("of_a_newer_version"), None);
    }

    #[test]
    fn a_fact_stands_in_the_words() {
        let step = Step::LimitAnswers.with("{\"a\": {}}");
        assert_eq!(step.words(&[]), "run it again with overrides {\"a\": {}}");
        assert_eq!(step.words(&[(Step::LimitAnswers, "as {} says")]), "as {\"a\": {}} says");
        assert_eq!(NextStep::from("wait {}").words(&[]), "wait {}");
    }
}
