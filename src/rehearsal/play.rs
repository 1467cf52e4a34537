//! What the scripted model says to a request of MassGen's. Pure: the same part, request and history give the same reply.
//!
//! MassGen shows its agents, in the last of its messages that has it, a block of the answers that exist, and offers the tools
//! `new_answer` and `vote`. The final presentation has no such block and no `vote`; `new_answer` is offered there still.

mod lead;
mod text;

use serde_json::json;

use self::lead::Step;
use super::{
    script::{Manner, Script},
    wire::{Message, Request, Speech},
};

const NEW_ANSWER: &str = "new_answer";
const VOTE: &str = "vote";
const SHELL: &str = "execute_command";
const COMMAND_CALL: &str = "call_rehearsal_command_";

/// What has to be known beside the request itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct History {
    /// The number of this call at the endpoint; makes every answer a new one.
    pub(super) number: usize,
    /// Whether this agent has already asked for its command.
    pub(super) commanded: bool,
}

/// What a reply is, which decides how long it is held back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) speech: Speech,
}

/// The moments of a run at which the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Answer,
    Vote,
    Presentation,
    Talk,
    /// A call of our own tools, by the part of a meta-agent.
    Lead,
}

/// Finds what to say.
pub(super) fn line(script: &Script, request: &Request, history: History) -> Line {
    let scene = Scene::of(request);
    let kind = kind(script, request, &scene, history);
    if let Some(line) = lead(script, request, &scene, kind, history) {
        return line;
    }
    let speech = match kind {
        Kind::Command => ask_shell(script, request, history),
        Kind::Answer => call(
            history,
            NEW_ANSWER,
            json!({"content": text::answer(script, &request.model, &scene.question, history.number)}),
        ),
        Kind::Vote => {
            call(history, VOTE, json!({"agent_id": scene.favourite, "reason": text::reason(script, &scene.favourite)}))
        }
        Kind::Presentation => Speech::Text(text::presentation(script, &request.model, &scene.question)),
        Kind::Talk | Kind::Lead => Speech::Text(text::talk(script, &scene.question)),
    };
    Line { kind, speech }
}

/// What the part of a meta-agent says in place of its answer and of its presentation, which repeats what it reported.
fn lead(script: &Script, request: &Request, scene: &Scene, kind: Kind, history: History) -> Option<Line> {
    let config = script.meta.as_deref()?;
    let speech = match kind {
        Kind::Answer if !scene.answered => match lead::step(config, &scene.question, request)? {
            Step::Call { tool, arguments } => {
                return Some(Line { kind: Kind::Lead, speech: call(history, &tool, arguments) });
            }
            Step::Report { run_id, text } => {
                call(history, NEW_ANSWER, json!({"content": text::report(&run_id, &text)}))
            }
        },
        Kind::Presentation => Speech::Text(scene.said.iter().rev().find_map(|said| text::reported(said))?.to_owned()),
        Kind::Command | Kind::Answer | Kind::Vote | Kind::Talk | Kind::Lead => return None,
    };
    Some(Line { kind, speech })
}

fn kind(script: &Script, request: &Request, scene: &Scene, history: History) -> Kind {
    let may_vote = request.offers(VOTE);
    let may_answer = request.offers(NEW_ANSWER) && (may_vote || scene.coordinating);
    match script.manner {
        Manner::TextOnly => return Kind::Talk,
        Manner::NeverVotes if may_answer => return Kind::Answer,
        Manner::Willing | Manner::NeverVotes | Manner::Refuses(_) | Manner::Hangs | Manner::Drops => {}
    }
    let shell = script.command.is_some() && request.tool_ending(SHELL).is_some();
    if may_answer && shell && !history.commanded {
        Kind::Command
    } else if may_answer && (!scene.answered || !may_vote || heard_from_shell(request)) {
        Kind::Answer
    } else if may_vote {
        Kind::Vote
    } else {
        Kind::Presentation
    }
}

/// Whether the conversation has just come back from the command that was asked for.
fn heard_from_shell(request: &Request) -> bool {
    let last = request.messages.iter().rev().find(|message| message.role == "tool");
    let id = last.and_then(|message| message.tool_call_id.as_deref());
    id.is_some_and(|id| id.starts_with(COMMAND_CALL))
}

fn ask_shell(script: &Script, request: &Request, history: History) -> Speech {
    Speech::Call {
        id: format!("{COMMAND_CALL}{}", history.number),
        tool: request.tool_ending(SHELL).unwrap_or(SHELL).to_owned(),
        arguments: json!({"command": script.command}),
    }
}

fn call(history: History, tool: &str, arguments: serde_json::Value) -> Speech {
    Speech::Call { id: format!("call_rehearsal_{}", history.number), tool: tool.to_owned(), arguments }
}

/// What a request says about the state of the run.
struct Scene {
    question: String,
    /// All that the user's side has said.
    said: Vec<String>,
    /// There is a block of answers, so this is not the final presentation.
    coordinating: bool,
    /// The block has an answer in it.
    answered: bool,
    /// Whom to vote for. The lowest of those that have an answer, so that all agents agree.
    favourite: String,
}

impl Scene {
    fn of(request: &Request) -> Self {
        let said: Vec<String> = request.messages.iter().filter(|said| said.role == "user").map(Message::text).collect();
        let answering = said.iter().rev().find_map(|text| block(text)).map(agents);
        let question = said.iter().rev().find_map(|text| question(text));
        Self {
            question: question.or(said.last().map(String::as_str)).unwrap_or_default().trim().to_owned(),
            coordinating: answering.is_some(),
            answered: answering.as_ref().is_some_and(|agents| !agents.is_empty()),
            favourite: favourite(&answering.unwrap_or_default(), &request.choices(VOTE, "agent_id")),
            said,
        }
    }
}

const QUESTION_ENDS: &str = "<END OF ORIGINAL MESSAGE>";

/// The question may hold anything, these marks too, so it ends at the last of them. No answer of ours holds one.
fn question(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once(QUESTION_ENDS)?;
    before.split_once("<ORIGINAL MESSAGE>").map(|(_, question)| question)
}

/// What stands in the block of answers, which follows the question.
fn block(text: &str) -> Option<&str> {
    let after = text.rsplit_once(QUESTION_ENDS).map_or(text, |(_, after)| after);
    let (_, block) = after.split_once("<CURRENT ANSWERS from the agents>")?;
    Some(block.split_once("<END OF CURRENT ANSWERS>").map_or(block, |(block, _)| block))
}

fn favourite(answering: &[u32], choices: &[&str]) -> String {
    let names: Vec<String> = answering.iter().map(|number| format!("agent{number}")).collect();
    let allowed = |name: &&String| choices.is_empty() || choices.contains(&name.as_str());
    let chosen = names.iter().find(allowed).map(String::as_str);
    chosen.or(choices.first().copied()).unwrap_or("agent1").to_owned()
}

/// The numbers of the agents with an answer in a block, lowest first: an answer of agent 1 begins with `<agent1.2>`.
fn agents(block: &str) -> Vec<u32> {
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
