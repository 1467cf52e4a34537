//! Problems of a run that still produced an answer, from MassGen's massgen.log and status.json: tool servers that did not connect, changes
//! not applied to the project, commands that did not run in Docker, agents that failed while others continued. Pure; it never decides the
//! outcome of a run.

use std::collections::BTreeMap;

use super::text;
use crate::run::{AgentState, Digest, Step, Warning};

/// How many bytes of each end of massgen.log are read; the log contains MassGen's own lines and whole answers.
pub const MAX_LOG_BYTES: u64 = 1 << 20;
/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 300;
/// The longest name, path or reason in a message, in characters.
const MAX_PART_CHARS: usize = 120;
/// The most servers or agents that a message names.
const MAX_NAMED: usize = 5;

/// The code for changes that exist only in the agents' copies of the project.
pub const NOT_APPLIED: &str = "changes_not_applied";
/// The codes of all warnings; those that make the answer itself doubtful come first.
const BY_WEIGHT: [&str; 5] = ["agents_failed", NOT_APPLIED, "nothing_changed", "mcp_not_connected", "docker_not_used"];

/// Warnings by importance. Unknown codes, from later versions, come last.
pub fn by_weight(warnings: &[Warning]) -> Vec<&Warning> {
    let rank = |warning: &&Warning| BY_WEIGHT.iter().position(|code| *code == warning.code).unwrap_or(usize::MAX);
    let mut sorted: Vec<&Warning> = warnings.iter().collect();
    sorted.sort_by_key(rank);
    sorted
}

/// A run with write access to the project changed nothing there.
pub fn nothing_changed_warning() -> Warning {
    warning(
        "nothing_changed",
        "no file of the project was changed, although the run could write there".to_owned(),
        Step::NameFilesToChange,
    )
}

/// The warnings of a run; [`by_weight`] sorts them.
pub fn warnings(log: &str, digest: Option<&Digest>) -> Vec<Warning> {
    let lines: Vec<LogLine<'_>> = log.lines().filter_map(LogLine::parse).collect();
    let found = [not_applied(&lines), not_connected(&lines), digest.and_then(failed_agents), not_in_docker(&lines)];
    found.into_iter().flatten().collect()
}

/// MassGen's own line: `20:53:57 | ERROR    | Failed to connect to …`. Model text spans several lines, or follows other words.
struct LogLine<'a> {
    is_error: bool,
    text: &'a str,
}

impl LogLine<'_> {
    fn parse(line: &str) -> Option<LogLine<'_>> {
        let mut parts = line.splitn(3, " | ");
        let (time, level, text) = (parts.next()?, parts.next()?, parts.next()?);
        let is_time = time.len() == 8 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        is_time.then_some(LogLine { is_error: level.trim() == "ERROR", text: text.trim() })
    }
}

/// `massgen/mcp_tools/client.py`, `_connect_server`: one line per attempt.
fn not_connected(lines: &[LogLine<'_>]) -> Option<Warning> {
    let mut servers: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for line in lines {
        let failed = line.text.strip_prefix("Failed to connect to ").and_then(|rest| rest.split_once(": "));
        let connected =
            line.text.strip_prefix("MCP server '").and_then(|rest| rest.strip_suffix("' connected successfully"));
        match (failed.filter(|_| line.is_error), connected) {
            (Some((server, _)), _) => servers.entry(server).or_default().0 += 1,
            (None, Some(server)) => servers.entry(server).or_default().1 += 1,
            (None, None) => {}
        }
    }
    let failed = servers.iter().filter(|(_, (failed, _))| *failed > 0);
    let server_names = failed.map(|(server, (failed, connected))| {
        let name = text::single_line(server, MAX_PART_CHARS);
        if *connected == 0 { name } else { format!("{name} ({failed} of {} times)", failed + connected) }
    });
    let server_names = list_names(server_names)?;
    Some(warning("mcp_not_connected", format!("MCP servers did not connect: {server_names}"), Step::ReadErrorsOfTools))
}

/// `massgen/orchestrator_collaborators`: `final_presentation_runner.py` gives the presenter a copy of the project (`write_mode`), and
/// `isolated_change_reviewer.py` applies the presenter's changes. Changes that agents made in earlier rounds are lost unless the presenter
/// makes them again.
fn not_applied(lines: &[LogLine<'_>]) -> Option<Warning> {
    const NOTHING: [&str; 4] = [
        "[Orchestrator] No isolated changes to review",
        "[Orchestrator] Review approved but no files were applied",
        "[Orchestrator] User rejected isolated changes",
        "[Orchestrator] Review modal failed",
    ];
    let isolated = |line: &LogLine<'_>| line.text.starts_with("[Orchestrator] Isolation: worktree at ");
    let start = lines.iter().rposition(isolated)?;
    let project = lines.get(start)?.text.rsplit_once("original removed from agent view: ")?.1;
    let after = lines.get(start..)?;
    let is_applied = after.iter().any(|line| line.text.starts_with("[Orchestrator] Applied isolated changes: "));
    let has_no_changes = after.iter().any(|line| NOTHING.iter().any(|pattern| line.text.starts_with(pattern)));
    (has_no_changes && !is_applied).then(|| {
        warning(
            NOT_APPLIED,
            format!(
                "no files were applied to `{}`: the agents worked in copies (write_mode)",
                text::single_line(project, MAX_PART_CHARS)
            ),
            Step::WriteDirectly,
        )
    })
}

/// `massgen/filesystem_manager/_filesystem_manager.py`.
fn not_in_docker(lines: &[LogLine<'_>]) -> Option<Warning> {
    let is_local = |line: &LogLine<'_>| {
        line.text.starts_with(
            "[FilesystemManager] Already running inside Docker container - switching to local execution mode",
        )
    };
    lines.iter().any(is_local).then(|| {
        warning(
            "docker_not_used",
            "agents' commands ran without Docker: MassGen runs in a container itself".to_owned(),
            Step::RunOutsideContainer,
        )
    })
}

/// Agents that MassGen abandoned, with the first model call error if it belongs to them.
fn failed_agents(digest: &Digest) -> Option<Warning> {
    let failed: Vec<_> = digest.agents.iter().filter(|agent| agent.state == AgentState::Failed).collect();
    let ids = list_names(failed.iter().map(|agent| text::single_line(&agent.id, MAX_PART_CHARS)))?;
    let model_error = digest.first_error.as_deref().filter(|_| {
        digest.first_error_agent.as_deref().is_none_or(|agent| failed.iter().any(|failed| failed.id == agent))
    });
    let reason =
        model_error.or_else(|| failed.iter().find_map(|agent| agent.error.as_deref())).unwrap_or("no reason given");
    Some(warning(
        "agents_failed",
        format!("failed while others went on: {ids}: {}", text::single_line(reason, MAX_PART_CHARS)),
        Step::ReadErrorsOfOthers,
    ))
}

/// Some names and the number of further ones; `None` if the list is empty.
fn list_names(names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<String> = names.collect();
    let omitted = names.len().saturating_sub(MAX_NAMED);
    let omitted = (omitted > 0).then(|| format!("{omitted} more"));
    let shown: Vec<String> = names.into_iter().take(MAX_NAMED).chain(omitted).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn warning(code: &str, message: String, next: Step) -> Warning {
    Warning { code: code.to_owned(), message: text::truncate_sentence(&message, MAX_MESSAGE_CHARS), next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    /// Lines of real MassGen logs.
    const NOT_CONNECTED: &str = "20:53:57 | INFO     | MCP: Server failure recorded - {'server_name': 'nosuch', 'failure_count': 1}\n\
        20:53:57 | ERROR    | Failed to connect to nosuch: Failed to connect to nosuch | Details: {'exception_type': 'MCPConnectionError'}\n\
        20:54:01 | INFO     | MCP server 'command_line' connected successfully\n";
    const IN_DOCKER: &str = "20:53:57 | INFO     | [FilesystemManager] Already running inside Docker container - switching to local \
        execution mode. The container provides isolation.\n";
    const ISOLATED: &str = "20:55:15 | INFO     | [Orchestrator] Isolation: worktree at /r/.massgen/w/.worktree/ctx_1, original removed \
        from agent view: /r\n";
    const NOTHING: &str = "20:55:22 | INFO     | [Orchestrator] No isolated changes to review\n";
    const EMPTY: &str =
        "20:55:22 | WARNING  | [Orchestrator] Review approved but no files were applied (empty change set)\n";
    const APPLIED: &str = "20:55:22 | INFO     | [Orchestrator] Applied isolated changes: ['b.txt']\n";

    fn of(log: &[&str], digest: Option<&Digest>) -> Vec<(String, String)> {
        let all = warnings(&log.concat(), digest).into_iter();
        all.map(|warning| (warning.code, warning.message)).collect()
    }

    fn codes(log: &[&str]) -> Vec<String> {
        of(log, None).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn unconnected_servers_are_named() {
        let warnings = of(&[NOT_CONNECTED], None);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].0 == "mcp_not_connected" && warnings[0].1.ends_with(": nosuch"), "{warnings:?}");
        let later = "20:54:09 | INFO     | MCP server 'nosuch' connected successfully\n";
        assert!(of(&[NOT_CONNECTED, later], None)[0].1.ends_with(": nosuch (1 of 2 times)"));
        let many: String = (0..9).map(|n| NOT_CONNECTED.replace("nosuch", &format!("s{n}"))).collect();
        assert!(of(&[&many], None)[0].1.ends_with(": s0, s1, s2, s3, s4, 4 more"));
    }

    #[test]
    fn changes_are_reported_as_not_applied_only_if_none_was() {
        assert_eq!(codes(&[ISOLATED, NOTHING]), ["changes_not_applied"]);
        assert_eq!(codes(&[ISOLATED, EMPTY]), ["changes_not_applied"]);
        assert!(of(&[ISOLATED, EMPTY], None)[0].1.contains("`/r`"));
        for lines in [&[ISOLATED, APPLIED][..], &[ISOLATED, EMPTY, APPLIED], &[NOTHING], &[ISOLATED]] {
            assert!(codes(lines).is_empty(), "{lines:?}");
        }
    }

    #[test]
    fn an_unused_docker_is_reported_and_model_texts_are_ignored() {
        assert_eq!(codes(&[IN_DOCKER]), ["docker_not_used"]);
        let line = format!("Stream chunk: {NOT_CONNECTED}").replace("20:5", "x");
        assert!(
            codes(&[
                &line,
                "Failed to connect to x: no\n",
                "20:53:57 | INFO     | he said: Failed to connect to x: y\n"
            ])
            .is_empty()
        );
    }

    #[test]
    fn failed_agents_are_reported_with_the_error_of_their_model() {
        let agent = |id: &str, state, error: Option<&str>| AgentDigest {
            id: id.to_owned(),
            state,
            error: error.map(str::to_owned),
            ..AgentDigest::default()
        };
        let failed = agent("agent_b", AgentState::Failed, Some("Agent failed to use workflow tools after 3 attempts"));
        let agents = vec![agent("agent_a", AgentState::Voted, None), failed];
        let digest = Digest {
            agents,
            first_error: Some("Error code: 500".to_owned()),
            first_error_agent: Some("agent_b".to_owned()),
            ..Digest::default()
        };
        let warnings = of(&[], Some(&digest));
        assert!(
            warnings[0].0 == "agents_failed" && warnings[0].1.ends_with("agent_b: Error code: 500"),
            "{warnings:?}"
        );
        let other = Digest { first_error_agent: Some("agent_a".to_owned()), ..digest };
        assert!(of(&[], Some(&other))[0].1.ends_with("agent_b: Agent failed to use workflow tools after 3 attempts"));
    }

    #[test]
    fn messages_are_bounded_and_the_most_important_comes_first() {
        let long = NOT_CONNECTED.replace("nosuch", &"ż".repeat(5000));
        let failed = AgentDigest { id: "agent_b".to_owned(), state: AgentState::Failed, ..AgentDigest::default() };
        let digest = Digest { agents: vec![failed], ..Digest::default() };
        let mut all = warnings(&[&long, IN_DOCKER, ISOLATED, NOTHING].concat(), Some(&digest));
        all.insert(0, warning("of_a_later_version", "x".to_owned(), Step::ReadErrorsOfTools));
        all.push(nothing_changed_warning());
        let codes: Vec<&str> = by_weight(&all).iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!((&codes[..5], codes[5]), (&BY_WEIGHT[..], "of_a_later_version"));
        assert!(all.iter().all(|warning| warning.message.chars().count() <= MAX_MESSAGE_CHARS));
    }
}
