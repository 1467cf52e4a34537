//! Messages for the agents of a live run, in the format of MassGen's runtime inbox: JSON files that MassGen reads in name order and deletes
//! around an agent's tool call. The agents receive them with their next tool results. Pure.

/// The kind, in the file name, of a message that asks the agents to finish soon.
pub const BUDGET_KIND: &str = "budget";
/// The kind, in the file name, of a message from a caller.
pub const STEER_KIND: &str = "steer";

/// The text of a message file. Without `agents`, the message is for all of them.
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
    fn a_message_for_all_agents_lists_none() {
        assert_eq!(message("a\n\"b\"", &[]), r#"{"content":"a\n\"b\"","source":"massgen-mcp"}"#);
        let addressed = message("a", &["agent_b".to_owned()]);
        assert_eq!(addressed, r#"{"content":"a","source":"massgen-mcp","target_agents":["agent_b"]}"#);
    }
}
