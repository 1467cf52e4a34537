//! What the scripted model says to a request of MassGen's. Pure: the same part, request and history give the same reply.
//!
//! MassGen shows its agents, in the last of its messages that has it, a block of the answers that exist, and offers the tools
//! `new_answer` and `vote`. The final presentation has no such block and no `vote`; `new_answer` is offered there still.

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

/// What has to be known beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallHistory {
    /// The number of this call at the endpoint; makes every answer a new one.
    pub(super) number: usize,
    /// Whether this agent has already asked for its command.
    pub(super) has_commanded: bool,
}

/// What a reply is, which decides how long it is held back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedReply {
    pub(super) kind: ReplyKind,
    pub(super) content: ReplyContent,
}

/// The moments of a run at which the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    Command,
    Answer,
    Vote,
    Presentation,
    TextOnly,
    /// A call of our own tools, by the part of a meta-agent.
    MetaAgent,
}

/// Finds what to say.
pub(super) fn plan_reply(script: &Script, request: &ChatRequest, history: CallHistory) -> PlannedReply {
    let scene = CoordinationState::from_request(request);
    let kind = reply_kind(script, request, &scene, history);
    if let Some(line) = meta_agent_reply(script, request, &scene, kind, history) {
        return line;
    }
    let speech = match kind {
        ReplyKind::Command => shell_call(script, request, history),
        ReplyKind::Answer => tool_call(
            history,
            NEW_ANSWER,
            json!({"content": text::answer(script, &request.model, &scene.question, history.number)}),
        ),
        ReplyKind::Vote => tool_call(
            history,
            VOTE,
            json!({"agent_id": scene.vote_target, "reason": text::vote_reason(script, &scene.vote_target)}),
        ),
        ReplyKind::Presentation => ReplyContent::Text(text::presentation(script, &request.model, &scene.question)),
        ReplyKind::TextOnly | ReplyKind::MetaAgent => ReplyContent::Text(text::plain_text(script, &scene.question)),
    };
    PlannedReply { kind, content: speech }
}

/// What the part of a meta-agent says in place of its answer and of its presentation, which repeats what it reported.
fn meta_agent_reply(
    script: &Script,
    request: &ChatRequest,
    scene: &CoordinationState,
    kind: ReplyKind,
    history: CallHistory,
) -> Option<PlannedReply> {
    let config = script.meta_config.as_deref()?;
    let speech = match kind {
        ReplyKind::Answer if !scene.has_answers => match meta_agent::next_step(config, &scene.question, request)? {
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
            ReplyContent::Text(scene.user_texts.iter().rev().find_map(|said| text::find_report(said))?.to_owned())
        }
        ReplyKind::Command | ReplyKind::Answer | ReplyKind::Vote | ReplyKind::TextOnly | ReplyKind::MetaAgent => {
            return None;
        }
    };
    Some(PlannedReply { kind, content: speech })
}

fn reply_kind(script: &Script, request: &ChatRequest, scene: &CoordinationState, history: CallHistory) -> ReplyKind {
    let may_vote = request.offers(VOTE);
    let may_answer = request.offers(NEW_ANSWER) && (may_vote || scene.is_coordinating);
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
    } else if may_answer && (!scene.has_answers || !may_vote || is_after_command(request)) {
        ReplyKind::Answer
    } else if may_vote {
        ReplyKind::Vote
    } else {
        ReplyKind::Presentation
    }
}

/// Whether the conversation has just come back from the command that was asked for.
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

/// What a request says about the state of the run.
struct CoordinationState {
    question: String,
    /// All that the user's side has said.
    user_texts: Vec<String>,
    /// There is a block of answers, so this is not the final presentation.
    is_coordinating: bool,
    /// The block has an answer in it.
    has_answers: bool,
    /// Whom to vote for. The lowest of those that have an answer, so that all agents agree.
    vote_target: String,
}

impl CoordinationState {
    fn from_request(request: &ChatRequest) -> Self {
        let said: Vec<String> =
            request.messages.iter().filter(|said| said.role == "user").map(ChatMessage::text).collect();
        let answering = said.iter().rev().find_map(|text| answers_block(text)).map(answering_agents);
        let question = said.iter().rev().find_map(|text| question(text));
        Self {
            question: question.or(said.last().map(String::as_str)).unwrap_or_default().trim().to_owned(),
            is_coordinating: answering.is_some(),
            has_answers: answering.as_ref().is_some_and(|agents| !agents.is_empty()),
            vote_target: choose_vote(&answering.unwrap_or_default(), &request.choices(VOTE, "agent_id")),
            user_texts: said,
        }
    }
}

const QUESTION_END_MARK: &str = "<END OF ORIGINAL MESSAGE>";

/// The question may hold anything, these marks too, so it ends at the last of them. No answer of ours holds one.
fn question(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once(QUESTION_END_MARK)?;
    before.split_once("<ORIGINAL MESSAGE>").map(|(_, question)| question)
}

/// What stands in the block of answers, which follows the question.
fn answers_block(text: &str) -> Option<&str> {
    let after = text.rsplit_once(QUESTION_END_MARK).map_or(text, |(_, after)| after);
    let (_, block) = after.split_once("<CURRENT ANSWERS from the agents>")?;
    Some(block.split_once("<END OF CURRENT ANSWERS>").map_or(block, |(block, _)| block))
}

fn choose_vote(answering: &[u32], choices: &[&str]) -> String {
    let names: Vec<String> = answering.iter().map(|number| format!("agent{number}")).collect();
    let allowed = |name: &&String| choices.is_empty() || choices.contains(&name.as_str());
    let chosen = names.iter().find(allowed).map(String::as_str);
    chosen.or(choices.first().copied()).unwrap_or("agent1").to_owned()
}

/// The numbers of the agents with an answer in a block, lowest first: an answer of agent 1 begins with `<agent1.2>`.
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
