//! Converts `@rehearsal[/directive]*` into a MassGen config with scripted models.
//!
//! A directive applies to every agent, or to one agent with its letter as a prefix (`b:status=500`). Pure: it returns the YAML as
//! text and writes no file.

use super::script::{Script, ScriptError, malformed_directive, truncate_shown};

/// The name of the rehearsal; directives may follow.
pub const NAME: &str = "@rehearsal";
const AGENT_LETTERS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];
const DEFAULT_AGENTS: usize = 2;

/// Whether a `config` argument names the rehearsal: `@rehearsal` or `@rehearsal/...`.
#[must_use]
pub fn is_rehearsal(config: &str) -> bool {
    config.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks the directives of `@rehearsal/...` without an endpoint, so that a typo is refused before a run starts.
///
/// # Errors
///
/// If it is not the rehearsal's name, or a directive is unknown, malformed or for an agent that does not exist.
pub fn check_name(name: &str) -> Result<(), ScriptError> {
    agent_scripts(name).map(|_| ())
}

/// The YAML of a MassGen config for `@rehearsal[/directive]*` with this endpoint; two agents, or `agents=N`.
///
/// # Errors
///
/// The same as [`check_name`].
pub fn config_yaml(name: &str, base_url: &str) -> Result<String, ScriptError> {
    let scripts = agent_scripts(name)?;
    let mut yaml =
        String::from("# A rehearsal: every model here is scripted and answers from this machine.\nagents:\n");
    for (letter, script) in AGENT_LETTERS.iter().zip(&scripts) {
        yaml.push_str(&agent_yaml(*letter, script, base_url));
    }
    if scripts.iter().any(|script| script.command.is_some()) {
        yaml.push_str(ORCHESTRATOR_YAML);
    }
    Ok(yaml)
}

/// MassGen refuses an agent with a `cwd` unless the orchestrator has these two keys.
const ORCHESTRATOR_YAML: &str = "\
orchestrator:
  snapshot_storage: snapshots
  agent_temporary_workspace: temp_workspaces
";

/// One script for each agent, in the order of their letters.
fn agent_scripts(name: &str) -> Result<Vec<Script>, ScriptError> {
    if !is_rehearsal(name) {
        return Err(ScriptError::NotRehearsal { name: truncate_shown(name), expected: NAME });
    }
    let directives: Vec<&str> = name.split('/').skip(1).collect();
    let count = agent_count(&directives)?;
    let mut scripts: Vec<Script> = AGENT_LETTERS[..count].iter().map(|letter| default_script(*letter)).collect();
    for directive in directives.iter().filter(|directive| !directive.starts_with("agents=")) {
        apply_directive(&mut scripts, directive)?;
    }
    Ok(scripts)
}

fn default_script(letter: char) -> Script {
    Script { label: Some(format!("agent_{letter}")), ..Script::default() }
}

fn agent_count(directives: &[&str]) -> Result<usize, ScriptError> {
    let found = directives.iter().rev().find_map(|directive| Some((directive, directive.strip_prefix("agents=")?)));
    let Some((directive, value)) = found else {
        return Ok(DEFAULT_AGENTS);
    };
    let count = value.parse().ok().filter(|count| (1..=AGENT_LETTERS.len()).contains(count));
    count.ok_or_else(|| malformed_directive(directive, "a number from 1 to 5"))
}

fn apply_directive(scripts: &mut [Script], directive: &str) -> Result<(), ScriptError> {
    let Some((letter, directive)) = split_agent_letter(directive) else {
        return scripts.iter_mut().try_for_each(|script| script.apply(directive));
    };
    let agents = scripts.len();
    let index = AGENT_LETTERS.iter().position(|known| *known == letter);
    match index.and_then(|index| scripts.get_mut(index)) {
        Some(script) => script.apply(directive),
        None => Err(ScriptError::NoSuchAgent { directive: truncate_shown(directive), agents }),
    }
}

/// Splits a directive for one agent: `b:hang` is `hang` for the agent with the letter b.
fn split_agent_letter(directive: &str) -> Option<(char, &str)> {
    let (letter, directive) = directive.split_once(':')?;
    let mut letters = letter.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    letters.next().is_none().then_some((letter, directive))
}

fn agent_yaml(letter: char, script: &Script, base_url: &str) -> String {
    let mut yaml = format!(
        "  - id: agent_{letter}
    backend:
      type: chatcompletion
      model: \"{script}\"
      base_url: \"{base_url}\"
"
    );
    if script.command.is_some() {
        yaml.push_str(&shell_server_yaml(letter));
    }
    yaml
}

/// The keys that give an agent a shell tool without any download.
///
/// MassGen adds a file server, which `npx` downloads, to every agent with a `cwd`, even with `exclude_file_operation_mcps` (which
/// only removes the workspace tools), unless a server with that name exists. A server without a `type` passes MassGen's
/// validation, has that name, and is not started.
fn shell_server_yaml(letter: char) -> String {
    format!(
        "      cwd: ws_{letter}
      enable_mcp_command_line: true
      command_line_execution_mode: local
      exclude_file_operation_mcps: true
      mcp_servers:
        - name: filesystem
          args: []
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::script::Behavior;

    const URL: &str = "http://127.0.0.1:8/v1";

    #[test]
    fn the_rehearsal_is_recognized_by_its_name() {
        for name in ["@rehearsal", "@rehearsal/", "@rehearsal/hang", "@rehearsal/nonsense"] {
            assert!(is_rehearsal(name), "{name}");
        }
        for name in ["", "rehearsal", "@rehearsals", "@rehearsal.yaml", "@examples/rehearsal", "./@rehearsal"] {
            assert!(!is_rehearsal(name), "{name}");
        }
    }

    #[test]
    fn the_default_config_has_two_agents() {
        let expected = "\
# A rehearsal: every model here is scripted and answers from this machine.
agents:
  - id: agent_a
    backend:
      type: chatcompletion
      model: \"rehearsal/name=agent_a\"
      base_url: \"http://127.0.0.1:8/v1\"
  - id: agent_b
    backend:
      type: chatcompletion
      model: \"rehearsal/name=agent_b\"
      base_url: \"http://127.0.0.1:8/v1\"
";
        assert_eq!(config_yaml("@rehearsal", URL).unwrap(), expected);
    }

    #[test]
    fn a_letter_gives_a_directive_to_one_agent() {
        let scripts = agent_scripts("@rehearsal/b:status=500/delay=1/agents=3/c:delay=2").unwrap();
        let behaviors: Vec<Behavior> = scripts.iter().map(|script| script.behavior).collect();
        let delays: Vec<f64> = scripts.iter().map(|script| script.delay.as_secs_f64()).collect();
        assert_eq!(behaviors, [Behavior::Cooperative, Behavior::HttpError(500), Behavior::Cooperative]);
        assert_eq!(delays, [1.0, 1.0, 2.0]);
    }

    #[test]
    fn only_an_agent_with_a_command_gets_a_shell() {
        let yaml = config_yaml("@rehearsal/b:command=echo%20%24%7BHOME%7D", URL).unwrap();
        let (first, second) = yaml.split_once("agent_b").unwrap();
        assert!(!first.contains("cwd"), "{yaml}");
        assert!(second.contains("cwd: ws_b") && second.contains("enable_mcp_command_line: true"), "{yaml}");
        assert!(yaml.ends_with(ORCHESTRATOR_YAML) && !yaml.contains('$'), "{yaml}");
    }

    #[test]
    fn a_typo_is_refused() {
        let refused = [
            "@rehearsal/",
            "@rehearsal/hnag",
            "@rehearsal/c:hang",
            "@rehearsal/agents=0",
            "@rehearsal/agents=6",
            "@rehearsal/agents",
            "@rehearsal/a:agents=2",
            "@rehearsal/A:hang",
            "@rehearsal/ab:hang",
            "@rehearsal/z:hang",
            "@rehearsal/b:",
            "rehearsal",
        ];
        for name in refused {
            let error = check_name(name).unwrap_err();
            assert!(!error.to_string().is_empty(), "{name}");
        }
        assert!(matches!(check_name("@rehearsal/c:hang"), Err(ScriptError::NoSuchAgent { agents: 2, .. })));
        assert_eq!(check_name("@rehearsal/agents=3/c:hang"), Ok(()));
    }
}
