//! The parameters of the tools, as they are after `arguments` has converted them. Each field's description states its
//! default and range. The call checks ranges; the schema omits them, because a client that validates a schema refuses
//! without suggesting a fix. Placeholders such as `{max_wait_s}` in a description stand for the operator's limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fleet::WaitUntil;
use crate::run::{Context, DEFAULT_GRACE, Mode};
use crate::view::Detail;

/// Parameters of `run_massgen`.
#[derive(Debug, Default, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RunMassgen {
    /// The question or task.
    #[schemars(with = "String")]
    pub(super) question: Option<String>,
    /// In its place, a UTF-8 file of the project.
    #[schemars(with = "String")]
    pub(super) question_file: Option<String>,
    /// A path, @examples/NAME or @rehearsal. Default: MassGen's own.
    #[serde(rename(deserialize = "massgen_config"))]
    #[schemars(with = "String")]
    pub(super) config: Option<String>,
    /// Many runs in one call: configs × questions × variants, repeat times. The answer's plan says which is which.
    #[schemars(with = "Vec<String>")]
    pub(super) configs: Option<Vec<String>>,
    /// With configs.
    #[schemars(with = "Vec<String>")]
    pub(super) questions: Option<Vec<String>>,
    /// Times each.
    #[schemars(with = "u64")]
    pub(super) repeat: Option<u64>,
    /// Stop the rest once so many have succeeded.
    #[schemars(with = "u64")]
    pub(super) keep: Option<usize>,
    /// Merge patch on the config; agents by id: {"agents": {"agent_a": {"backend": {"model": "gpt-5"}}}}.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(super) overrides: Option<serde_json::Value>,
    /// Several overrides, each with runs of its own.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub(super) variants: Option<Vec<serde_json::Value>>,
    /// A new label, to read and stop its runs by.
    #[schemars(with = "String")]
    pub(super) group: Option<String>,
    /// Default {timeout_s}, at most {max_timeout_s}.
    #[schemars(with = "f64")]
    pub(super) timeout_s: Option<f64>,
    /// full, the default: answer, improve, vote. quick: one answer each.
    #[schemars(with = "ModeParam")]
    pub(super) mode: Option<ModeParam>,
    /// Access to the project folder, for agents with a cwd. Default none.
    #[schemars(with = "ContextParam")]
    pub(super) context: Option<ContextParam>,
    /// An ended run: its agents go on with the conversation and its config.
    #[schemars(with = "String")]
    pub(super) continue_run: Option<String>,
    /// Build on an answer: {run_id, answer}, such as agent2.1; default its best.
    #[serde(rename(deserialize = "from_run"))]
    #[schemars(with = "AnswerReference")]
    pub(super) from: Option<AnswerReference>,
    /// Most to spend in all: agents get a message at 80 %, are stopped at 100 %.
    #[schemars(with = "f64")]
    pub(super) budget_usd: Option<f64>,
    /// The same in tokens, also where models have no price.
    #[schemars(with = "u64")]
    pub(super) max_tokens: Option<u64>,
    /// The same key is the same run, for all clients.
    #[schemars(with = "String")]
    pub(super) request_key: Option<String>,
    /// Another although the same is live.
    pub(super) fresh: bool,
    /// Only check, and show config, limits, warnings, forecast.
    pub(super) dry_run: bool,
    /// Seconds to wait for the end, at most {max_wait_s}.
    pub(super) wait_s: f64,
}

/// `from_run` of `run_massgen`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct AnswerReference {
    pub(super) run_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) answer: Option<String>,
}

/// Parameters of `steer_run`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SteerRun {
    /// A live run.
    pub(super) run_id: String,
    /// At most 8000 characters.
    pub(super) message: String,
    /// Agent ids. Default: all.
    #[serde(default)]
    pub(super) agents: Vec<String>,
    /// Seconds to wait for the delivery.
    #[serde(default)]
    pub(super) wait_s: f64,
}

/// Parameters of `list_configs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListConfigs {
    /// What it should have: words of name, provider, model or key; ready, multi-provider, 3 agents, web search, free.
    pub(super) query: String,
    /// next_offset of the last page.
    pub(super) offset: usize,
    /// Default 10, at most 50.
    pub(super) limit: usize,
}

impl Default for ListConfigs {
    fn default() -> ListConfigs {
        ListConfigs { query: String::new(), offset: 0, limit: 10 }
    }
}

/// Parameters of `check_status`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CheckStatus {
    /// Without any: the latest 20.
    #[schemars(with = "String")]
    pub(super) run_id: Option<String>,
    /// At most 100.
    #[schemars(with = "Vec<String>")]
    pub(super) run_ids: Option<Vec<String>>,
    /// All its runs.
    #[schemars(with = "String")]
    pub(super) group: Option<String>,
    /// All that still run.
    pub(super) live: bool,
    /// Seconds to sleep, at most {max_wait_s}; 45 is good.
    pub(super) wait_s: f64,
    /// change, the default: any event. any_done, all_done: an end, or an answer.
    pub(super) until: UntilParam,
    /// The last cursor: what happened since ends the wait at once; any_done waits for the next end.
    #[schemars(with = "String")]
    pub(super) since: Option<String>,
    /// full adds paths, limits, tokens, exit.
    pub(super) detail: DetailParam,
}

/// Parameters of `read_result`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReadResult {
    /// Or group.
    #[schemars(with = "String")]
    pub(super) run_id: Option<String>,
    /// Its part table, the default, compares time, cost, success, agreement; answers, side by side; manifest.
    #[schemars(with = "String")]
    pub(super) group: Option<String>,
    /// answer, the default; answers: all; report: votes with reasons, time, money; files: the winner's workspace; file:PATH; log; agent:ID; errors; manifest: hashes that prove a text, lineage.
    #[schemars(with = "String")]
    pub(super) part: Option<String>,
    /// next_offset of the last page.
    pub(super) offset: u64,
    /// Most characters; less may fit.
    pub(super) limit: u64,
}

impl Default for ReadResult {
    fn default() -> ReadResult {
        ReadResult { run_id: None, group: None, part: None, offset: 0, limit: u64::MAX }
    }
}

/// Parameters of `kill_run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KillRun {
    /// Or run_ids, group or all.
    #[schemars(with = "String")]
    pub(super) run_id: Option<String>,
    /// Several.
    #[schemars(with = "Vec<String>")]
    pub(super) run_ids: Option<Vec<String>>,
    /// All its runs.
    #[schemars(with = "String")]
    pub(super) group: Option<String>,
    /// This client's live runs in this project.
    pub(super) all: bool,
    /// Seconds to end politely. Default 5, at most 60.
    pub(super) grace_s: f64,
    /// For the record.
    #[schemars(with = "String")]
    pub(super) reason: Option<String>,
    /// Its nested runs, too. Default true.
    pub(super) tree: bool,
}

impl Default for KillRun {
    fn default() -> KillRun {
        KillRun {
            run_id: None,
            run_ids: None,
            group: None,
            all: false,
            grace_s: DEFAULT_GRACE.as_secs_f64(),
            reason: None,
            tree: true,
        }
    }
}

/// `mode`.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum ModeParam {
    #[default]
    Full,
    Quick,
}

/// `context`.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum ContextParam {
    #[default]
    None,
    Read,
    Write,
}

/// `until`.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum UntilParam {
    #[default]
    Change,
    AnyDone,
    AllDone,
}

/// `detail`.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum DetailParam {
    #[default]
    Brief,
    Full,
}

impl From<ModeParam> for Mode {
    fn from(value: ModeParam) -> Mode {
        match value {
            ModeParam::Full => Mode::Full,
            ModeParam::Quick => Mode::Quick,
        }
    }
}

impl From<Mode> for ModeParam {
    fn from(mode: Mode) -> ModeParam {
        match mode {
            Mode::Full => ModeParam::Full,
            Mode::Quick => ModeParam::Quick,
        }
    }
}

impl From<Context> for ContextParam {
    fn from(context: Context) -> ContextParam {
        match context {
            Context::None => ContextParam::None,
            Context::Read => ContextParam::Read,
            Context::Write => ContextParam::Write,
        }
    }
}

impl From<ContextParam> for Context {
    fn from(value: ContextParam) -> Context {
        match value {
            ContextParam::None => Context::None,
            ContextParam::Read => Context::Read,
            ContextParam::Write => Context::Write,
        }
    }
}

impl From<UntilParam> for WaitUntil {
    fn from(value: UntilParam) -> WaitUntil {
        match value {
            UntilParam::Change => WaitUntil::Change,
            UntilParam::AnyDone => WaitUntil::AnyAnswered,
            UntilParam::AllDone => WaitUntil::AllAnswered,
        }
    }
}

impl From<DetailParam> for Detail {
    fn from(value: DetailParam) -> Detail {
        match value {
            DetailParam::Brief => Detail::Brief,
            DetailParam::Full => Detail::Full,
        }
    }
}
