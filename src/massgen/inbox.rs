//! Messages for the agents of a live run, as the runtime inbox of MassGen takes them up: files of JSON, read in the order
//! of their names and deleted, around an agent's tool call; shown to the agents with their next tool results. Pure.

/// What the file of a message to finish soon is called after.
pub const BUDGET_KIND: &str = "budget";
/// The prefix of the file of a message that a caller sent.
pub const STEER_KIND: &str = "steer";

/// The text of a message's file. Without `agents` it is for all of them.
pub fn message(content: &str, agents: &[String]) -> String {
    let mut message = serde_json::json!({"content": content, "source": "massgen-mcp"});
    // An empty list would reach no agent.
    if !agents.is_empty() {
        message["target_agents"] = serde_json::json!(agents);
    }
    message.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_for_all_names_nobody() {
        assert_eq!(message("a\n\"b\"", &[]), r#"{"content":"a\n\"b\"","source":"massgen-mcp"}"#);
        let one = message("a", &["agent_b".to_owned()]);
        assert_eq!(one, r#"{"content":"a","source":"massgen-mcp","target_agents":["agent_b"]}"#);
    }
}
