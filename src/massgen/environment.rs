//! Which environment variables reach MassGen: those that any program needs, those that MassGen and its model providers read, and those that
//! the operator names. No other variables of this server are passed on. Pure: it reads no environment and no file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::configs::SECRET_VARIABLE_PREFIX;
use crate::secrets::is_secret_name;

/// Variables that any program may need. A `*` at one end of a name matches any text.
const BASE_VARIABLES: &[&str] = &[
    // The user and the system.
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "DISPLAY",
    "LD_LIBRARY_PATH",
    // The network.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // The caches of npx and uvx, which start MCP servers.
    "NPM_CONFIG_*",
    "npm_config_*",
    "UV_CACHE_DIR",
];

/// What MassGen and the libraries of its model providers read.
const PROVIDER_VARIABLES: &[&str] = &[
    "*_API_KEY",
    "*_BASE_URL",
    "*_API_BASE",
    "*_ENDPOINT",
    "OPENAI_*",
    "ANTHROPIC_*",
    "AZURE_*",
    "AWS_*",
    "GOOGLE_*",
    "GEMINI_*",
    "VERTEX*",
    "CLOUDSDK_*",
    "HF_*",
    "HUGGINGFACE_*",
    "LITELLM_*",
    "OLLAMA_*",
    "VLLM_*",
    "SGLANG_*",
    "UI_TARS_*",
    "ELEVENLABS_*",
    "CLAUDE_CODE_*",
    "CLAUDE_CONFIG_DIR",
    "CODEX_*",
    "LOGFIRE_*",
    "DOCKER_*",
    "MASSGEN_*",
];

/// This program's own variables, which MassGen does not need, except those that hold keys moved out of a config.
pub const OWN_PREFIX: &str = "MASSGEN_MCP_";

/// The variables for a run on real models: those that any program, MassGen and its providers need, and those that match `extra`. Each entry
/// of `extra` is a name or a pattern such as `CORP_*`.
pub fn select(variables: impl Iterator<Item = (OsString, OsString)>, extra: &[String]) -> Vec<(OsString, OsString)> {
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let wanted =
        |name: &str| [BASE_VARIABLES, PROVIDER_VARIABLES, &extra].iter().any(|patterns| matches_any(name, patterns));
    variables
        .filter(|(name, _)| {
            name.to_str().is_some_and(|name| {
                wanted(name) && (!name.starts_with(OWN_PREFIX) || name.starts_with(SECRET_VARIABLE_PREFIX))
            })
        })
        .collect()
}

/// The variables for a rehearsal: those that any program needs, without names that look like a key.
pub fn without_keys(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    variables
        .filter(|(name, _)| {
            name.to_str().is_some_and(|name| matches_any(name, BASE_VARIABLES) && !is_secret_name(name))
        })
        .collect()
}

/// The variables of this environment and of an env file. The environment takes precedence, unless its value is empty: clients pass an empty
/// value for a field that a person did not fill in.
pub fn merge(
    environment: impl Iterator<Item = (OsString, OsString)>,
    file: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let mut merged: BTreeMap<OsString, OsString> =
        file.iter().map(|(name, value)| (name.into(), value.into())).collect();
    for (name, value) in environment {
        if !value.is_empty() || !merged.contains_key(&name) {
            merged.insert(name, value);
        }
    }
    merged.into_iter().collect()
}

/// Sets a variable, replacing any existing value.
pub fn set_variable(environment: &mut Vec<(OsString, OsString)>, name: &str, value: impl Into<OsString>) {
    environment.retain(|(known, _)| known != OsStr::new(name));
    environment.push((name.into(), value.into()));
}

fn matches_any(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == *pattern,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(names: &[&str]) -> impl Iterator<Item = (OsString, OsString)> {
        names.iter().map(|name| (OsString::from(name), OsString::from("v"))).collect::<Vec<_>>().into_iter()
    }

    fn names(variables: Vec<(OsString, OsString)>) -> Vec<String> {
        variables.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    const ALL: [&str; 9] = [
        "PATH",
        "LC_ALL",
        "OPENAI_API_KEY",
        "XAI_API_KEY",
        "DATABASE_PASSWORD",
        "CORP_ID",
        "MASSGEN_LOG_BACKENDS",
        "MASSGEN_MCP_HOME",
        "npm_config__authToken",
    ];

    #[test]
    fn unlisted_variables_are_not_passed_to_massgen() {
        let found = names(select(variables(&ALL), &[]));
        assert_eq!(
            found,
            ["PATH", "LC_ALL", "OPENAI_API_KEY", "XAI_API_KEY", "MASSGEN_LOG_BACKENDS", "npm_config__authToken"]
        );
        let extra = ["CORP_*".to_owned(), "DATABASE_PASSWORD".to_owned(), "MASSGEN_MCP_HOME".to_owned()];
        let found = names(select(variables(&ALL), &extra));
        assert!(found.contains(&"CORP_ID".to_owned()) && found.contains(&"DATABASE_PASSWORD".to_owned()));
        assert!(!found.contains(&"MASSGEN_MCP_HOME".to_owned()), "ours stay ours");
    }

    #[test]
    fn a_rehearsal_has_no_key_at_all() {
        assert_eq!(names(without_keys(variables(&ALL))), ["PATH", "LC_ALL"]);
    }

    #[test]
    fn the_environment_wins_over_the_file_unless_it_is_empty() {
        let own = [("A", "own"), ("B", ""), ("C", "own")].map(|(name, value)| (name.into(), value.into()));
        let file =
            [("A", "file"), ("B", "file"), ("D", "file")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all = merge(own.into_iter(), &file);
        let expected = [("A", "own"), ("B", "file"), ("C", "own"), ("D", "file")];
        assert_eq!(all, expected.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    }
}
