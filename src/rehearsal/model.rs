//! The replies of the scripted model to MassGen's requests. Pure: the same script, request and history give the same reply.
//!
//! MassGen shows its agents a block with the existing answers (the last message that contains one counts) and offers the tools
//! `new_answer` and `vote`. The request for the final presentation has no such block and no `vote`, but still offers `new_answer`.

mod meta_agent;
mod text;

use serde_json::json;

use self::meta_agent::MetaAgentStep;
use super::{
    openai::{ChatMessage, ChatRequest, ReplyContent},
    script::{Behavior, Script},
};

const NEW_ANSWER: &str = "new_answer";
const VOTE: &str = "vote";
const SHELL_TOOL: &str = "execute_command";
const COMMAND_CALL_ID_PREFIX: &str = "call_rehearsal_command_";

/// The facts about earlier calls that a reply depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallHistory {
    /// The number of this call at the endpoint; makes every answer different.
    pub(super) number: usize,
    /// Whether this agent has already called its command.
    pub(super) has_commanded: bool,
}

/// A reply and its kind, which decides its delay.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedReply {
    pub(super) kind: ReplyKind,
    pub(super) content: ReplyContent,
}

/// The kinds of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    Command,
    Answer,
    Vote,
    Presentation,
    TextOnly,
    /// A call of our own tools by a meta-agent.
    MetaAgent,
}

/// Decides the reply.
pub(super) fn plan_reply(script: &Script, request: &ChatRequest, history: CallHistory) -> PlannedReply {
    let state = CoordinationState::from_request(request);
    let kind = reply_kind(script, request, &state, history);
    if let Some(reply) = meta_agent_reply(script, request, &state, kind, history) {
        return reply;
    }
    let content = match kind {
        ReplyKind::Command => shell_call(script, request, history),
        ReplyKind::Answer => tool_call(
            history,
            NEW_ANSWER,
            json!({"content": text::answer(script, &request.model, &state.question, history.number)}),
        ),
        ReplyKind::Vote => tool_call(
            history,
            VOTE,
            json!({"agent_id": state.vote_target, "reason": text::vote_reason(script, &state.vote_target)}),
        ),
        ReplyKind::Presentation => ReplyContent::Text(text::presentation(script, &request.model, &state.question)),
        ReplyKind::TextOnly | ReplyKind::MetaAgent => ReplyContent::Text(text::plain_text(script, &state.question)),
    };
    PlannedReply { kind, content }
}

/// The reply of a meta-agent in place of an answer or a presentation; the presentation repeats its report.
fn meta_agent_reply(
    script: &Script,
    request: &ChatRequest,
    state: &CoordinationState,
    kind: ReplyKind,
    history: CallHistory,
) -> Option<PlannedReply> {
    let config = script.meta_config.as_deref()?;
    let content = match kind {
        ReplyKind::Answer if !state.has_answers => match meta_agent::next_step(config, &state.question, request)? {
            MetaAgentStep::Call { tool, arguments } => {
                return Some(PlannedReply {
                    kind: ReplyKind::MetaAgent,
                    content: tool_call(history, &tool, arguments),
                });
            }
            MetaAgentStep::Report { run_id, text } => {
                tool_call(history, NEW_ANSWER, json!({"content": text::report(&run_id, &text)}))
            }
        },
        ReplyKind::Presentation => {
            ReplyContent::Text(state.user_texts.iter().rev().find_map(|text| text::find_report(text))?.to_owned())
        }
        ReplyKind::Command | ReplyKind::Answer | ReplyKind::Vote | ReplyKind::TextOnly | ReplyKind::MetaAgent => {
            return None;
        }
    };
    Some(PlannedReply { kind, content })
}

fn reply_kind(script: &Script, request: &ChatRequest, state: &CoordinationState, history: CallHistory) -> ReplyKind {
    let may_vote = request.offers(VOTE);
    let may_answer = request.offers(NEW_ANSWER) && (may_vote || state.is_coordinating);
    match script.behavior {
        Behavior::TextOnly => return ReplyKind::TextOnly,
        Behavior::NeverVote if may_answer => return ReplyKind::Answer,
        Behavior::Cooperative
        | Behavior::NeverVote
        | Behavior::HttpError(_)
        | Behavior::Hang
        | Behavior::DropStream => {}
    }
    let shell = script.command.is_some() && request.find_tool_by_suffix(SHELL_TOOL).is_some();
    if may_answer && shell && !history.has_commanded {
        ReplyKind::Command
    } else if may_answer && (!state.has_answers || !may_vote || is_after_command(request)) {
        ReplyKind::Answer
    } else if may_vote {
        ReplyKind::Vote
    } else {
        ReplyKind::Presentation
    }
}

/// Whether the last tool result is that of the command.
fn is_after_command(request: &ChatRequest) -> bool {
    let last = request.messages.iter().rev().find(|message| message.role == "tool");
    let id = last.and_then(|message| message.tool_call_id.as_deref());
    id.is_some_and(|id| id.starts_with(COMMAND_CALL_ID_PREFIX))
}

fn shell_call(script: &Script, request: &ChatRequest, history: CallHistory) -> ReplyContent {
    ReplyContent::ToolCall {
        id: format!("{COMMAND_CALL_ID_PREFIX}{}", history.number),
        tool: request.find_tool_by_suffix(SHELL_TOOL).unwrap_or(SHELL_TOOL).to_owned(),
        arguments: json!({"command": script.command}),
    }
}

fn tool_call(history: CallHistory, tool: &str, arguments: serde_json::Value) -> ReplyContent {
    ReplyContent::ToolCall { id: format!("call_rehearsal_{}", history.number), tool: tool.to_owned(), arguments }
}

/// The state of the run, from a request.
struct CoordinationState {
    question: String,
    /// The texts of all user messages.
    user_texts: Vec<String>,
    /// Whether a block of answers exists; if so, this is not the final presentation.
    is_coordinating: bool,
    /// Whether the block contains an answer.
    has_answers: bool,
    /// The agent to vote for: the lowest number with an answer, so that all agents agree.
    vote_target: String,
}

impl CoordinationState {
    fn from_request(request: &ChatRequest) -> Self {
        let texts: Vec<String> =
            request.messages.iter().filter(|texts| texts.role == "user").map(ChatMessage::text).collect();
        let agents = texts.iter().rev().find_map(|text| answers_block(text)).map(answering_agents);
        let question = texts.iter().rev().find_map(|text| question(text));
        Self {
            question: question.or(texts.last().map(String::as_str)).unwrap_or_default().trim().to_owned(),
            is_coordinating: agents.is_some(),
            has_answers: agents.as_ref().is_some_and(|agents| !agents.is_empty()),
            vote_target: choose_vote(&agents.unwrap_or_default(), &request.choices(VOTE, "agent_id")),
            user_texts: texts,
        }
    }
}

const QUESTION_END_MARK: &str = "<END OF ORIGINAL MESSAGE>";

/// Finds the question. It may contain these marks itself, so it ends at the last one. Answers of this model contain none.
fn question(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once(QUESTION_END_MARK)?;
    before.split_once("<ORIGINAL MESSAGE>").map(|(_, question)| question)
}

/// The content of the block of answers, which follows the question.
fn answers_block(text: &str) -> Option<&str> {
    let after = text.rsplit_once(QUESTION_END_MARK).map_or(text, |(_, after)| after);
    let (_, block) = after.split_once("<CURRENT ANSWERS from the agents>")?;
    Some(block.split_once("<END OF CURRENT ANSWERS>").map_or(block, |(block, _)| block))
}

fn choose_vote(agents: &[u32], choices: &[&str]) -> String {
    let names: Vec<String> = agents.iter().map(|number| format!("agent{number}")).collect();
    let allowed = |name: &&String| choices.is_empty() || choices.contains(&name.as_str());
    let chosen = names.iter().find(allowed).map(String::as_str);
    chosen.or(choices.first().copied()).unwrap_or("agent1").to_owned()
}

/// The numbers of the agents with an answer in a block, the lowest first: an answer of agent 1 begins with, for example, `<agent1.2>`.
fn answering_agents(block: &str) -> Vec<u32> {
    let label = |rest: &str| {
        let (label, _) = rest.split_once('>')?;
        let (agent, version) = label.split_once('.').unwrap_or((label, "1"));
        version.parse::<u32>().ok().and(agent.parse().ok())
    };
    let mut agents: Vec<u32> = block.split("<agent").skip(1).filter_map(label).collect();
    agents.sort_unstable();
    agents.dedup();
    agents
}

#[cfg(test)]
mod tests;
