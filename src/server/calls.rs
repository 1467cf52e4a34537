//! The dispatch of tool calls: parses the arguments, calls the function of the tool and makes its answer safe and short
//! enough for the client.

use serde_json::{Map, Value};

use super::answers::to_json;
use super::arguments::parse_arguments;
use super::caller::Caller;
use super::context::ServerContext;
use super::params::RunMassgen;
use super::{answer_hints, configs, experiments, results, sanitize, single_run, status, steering, stops, tools};
use crate::refusal::Refusal;

/// Executes a call.
pub(super) async fn execute(
    context: &ServerContext,
    tool: &str,
    arguments: Map<String, Value>,
    caller: Caller,
) -> Result<Value, Refusal> {
    sanitize::check_input(&arguments, context.fleet.secrets())?;
    let client = caller.client;
    let answer = sanitize::make_safe(dispatch(context, tool, arguments, caller).await, context.fleet.secrets())?;
    Ok(client.fit_value(answer, answer_hints::remaining_hint(tool)))
}

async fn dispatch(
    context: &ServerContext,
    tool: &str,
    arguments: Map<String, Value>,
    caller: Caller,
) -> Result<Value, Refusal> {
    if context.settings.read_only && tools::MUTATING_TOOLS.contains(&tool) {
        let hint = "only looking is allowed here: check_status, read_result, list_configs";
        return Err(Refusal::new("read_only", format!("this server is read-only, {tool} is not to be had"), hint));
    }
    context.fleet.state().create_root()?;
    match tool {
        "list_configs" => to_json(configs::list(context, parse_arguments(tool, arguments)?, caller.client).await?),
        "run_massgen" => start_runs(context, parse_arguments(tool, arguments)?, caller).await,
        "check_status" => to_json(status::check(context, parse_arguments(tool, arguments)?, caller).await?),
        "read_result" => {
            to_json(results::read(&context.fleet, parse_arguments(tool, arguments)?, caller.client).await?)
        }
        "kill_run" => to_json(stops::stop(context, parse_arguments(tool, arguments)?, caller).await?),
        "steer_run" => to_json(steering::send(context, parse_arguments(tool, arguments)?, caller).await?),
        other => Err(Refusal::new("unknown_tool", format!("there is no tool `{other}`"), "see the list of tools")),
    }
}

/// Starts the one run or the many runs that a call asks for.
async fn start_runs(context: &ServerContext, request: RunMassgen, caller: Caller) -> Result<Value, Refusal> {
    let request = experiments::normalize_variants(request)?;
    if experiments::is_requested(&request) {
        return experiments::start(context, request, caller).await;
    }
    single_run::start(context, request, caller).await
}
