//! The overrides of a start, independent of who may write them: their form, the keys that MassGen knows, and the config
//! that they leave. Pure. Which content is allowed is decided in `trust`.

use serde_json::Value;

use crate::massgen::configs::{self, EditError, Needs, Tree};
use crate::massgen::{names, text};
use crate::refusal::Refusal;

/// Explains what overrides are.
const OVERRIDES_HINT: &str = "give a JSON merge patch (RFC 7386) on the config, such as {\"orchestrator\": {\"max_new_answers_per_agent\": 1}}, \
                     with agents by their ids: {\"agents\": {\"agent_a\": {\"backend\": {\"model\": \"gpt-5\"}}}}";

/// Overrides as a tree; literal API keys in them are refused.
pub(super) fn parse(overrides: Option<&Value>) -> Result<Option<Tree>, Refusal> {
    if overrides.is_some_and(configs::is_too_deep) {
        let most = configs::MAX_OVERRIDES_DEPTH;
        return Err(refuse(
            &format!("they have more than {most} levels of objects and lists"),
            &format!("call again with at most {most} levels"),
        ));
    }
    let patch = overrides.map(Tree::from_json).transpose();
    let patch = patch.map_err(|_| refuse("an object is needed", OVERRIDES_HINT))?;
    let key = patch.as_ref().and_then(|patch| patch.secrets().into_iter().next());
    match key {
        Some(key) => {
            let message = format!("`overrides` has a secret written in it, at `{}`", key.key);
            let hint = "nothing was done with it; write ${NAME_OF_A_VARIABLE} there, or leave it out: MassGen gets its keys from the operator";
            Err(Refusal::new("secret_in_arguments", message, hint))
        }
        None => Ok(patch),
    }
}

/// Refuses a key that MassGen would ignore, if another key was probably meant: the run would cost money without the
/// intended setting.
pub(super) fn check_known_keys(overrides: &Value, config: Option<&Tree>) -> Result<(), Refusal> {
    let Some(unknown) = configs::unknown_key(overrides, config) else { return Ok(()) };
    let message = format!("`overrides` sets `{}`, which MassGen does not know and would pass over", unknown.key);
    let hint = format!("did you mean `{}`? nothing was started; call again with that, or without it", unknown.near);
    Err(Refusal::new("overrides_invalid", message, hint))
}

/// Refuses overrides that leave the config without agents, or with a section that MassGen cannot read: MassGen would end
/// at its start.
pub(super) fn check_effective_config(config: &Tree) -> Result<(), Refusal> {
    if let Some(found) = configs::malformed_section(config) {
        let message = format!("`overrides` leave `{}` with a value that MassGen cannot read", found.key);
        let hint = format!("nothing was started; `{}` must be {}", found.key, found.wanted);
        return Err(Refusal::new("overrides_invalid", message, hint));
    }
    if Needs::from_config(config).agents.is_empty() {
        return Err(Refusal::new(
            "overrides_invalid",
            "the overrides leave the config without an agent",
            "nothing was started; keep one at least: an agent whose value is null is taken away",
        ));
    }
    Ok(())
}

/// The refusal of overrides that cannot be merged into the config.
pub(super) fn edit_refusal(error: &EditError) -> Refusal {
    let EditError::NoSuchAgent { id, known } = error else {
        return refuse(&text::error_chain(error), OVERRIDES_HINT);
    };
    let similar = names::nearest(id, known.iter().map(String::as_str));
    let similar = similar.map(|similar| format!("; did you mean {similar}?")).unwrap_or_default();
    let hint = match known.is_empty() {
        true => "give `agents` as a list of whole agents: the config has none".to_owned(),
        false => format!("its agents are {}{similar}", text::single_line(&known.join(", "), 400)),
    };
    refuse(&format!("the config has no agent `{}`", text::single_line(id, 80)), &hint)
}

fn refuse(reason: &str, hint: &str) -> Refusal {
    Refusal::new("overrides_invalid", format!("`overrides` cannot be applied: {reason}"), hint)
}
