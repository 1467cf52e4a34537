//! Which config a run uses and what MassGen receives: resolves a name as MassGen does, but only once and relative to the project folder,
//! and writes an effective copy if the original would mean something else in the run's own folder. It does not judge content itself:
//! `policy` defines what an untrusted author may not use, `validate` reports what MassGen says.

mod catalogue;
mod examples;
mod keys;
mod listed;
mod needs;
mod overrides;
mod policy;
mod query;
mod shape;
mod suggestions;
mod tools;
mod tree;
mod validate;
mod warnings;

use std::path::{Path, PathBuf};

use self::examples::Examples;
use self::tree::{Node, Scalar};
use crate::massgen::names;
use crate::run::ConfigChoice;

pub use self::catalogue::{Catalogue, ConfigFacts, list_configs, name_of};
pub use self::listed::{ConfigOrigin, ListedConfig};
pub use self::needs::{ConfigSecret, ConfiguredAgent, Needs, RequiredKey, SECRET_VARIABLE_PREFIX};
pub use self::overrides::{
    MAX_DEPTH as MAX_OVERRIDES_DEPTH, UnknownKey, changed_keys, is_too_deep, unknown_key, with_folders,
};
pub use self::policy::{PolicyViolation, find_violation, paths_in_project};
pub use self::query::{CONDITIONS, Near};
pub use self::shape::{MalformedSection, malformed_section};
pub use self::tree::{EditError, Tree};
pub use self::validate::{Finding, ValidateError, ValidationReport, ValidationRequest, validate};
pub use self::warnings::{
    CONTEXT_UNUSED, FATAL_CODES, ignored_keys_problem, no_files_problem, warnings, without_writers,
};

/// The largest config file, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Why a config is not available.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file does not exist.
    #[error("there is no config `{name}` (looked for {places})")]
    Missing {
        /// The requested name.
        name: String,
        /// The places that were searched.
        places: String,
        /// Similar config names.
        similar: Vec<String>,
    },
    /// No config was named and no default config exists.
    #[error("no config was given, and there is none of MassGen's default ones (looked for {places})")]
    NoDefault {
        /// The places that were searched.
        places: String,
    },
    /// The file's extension, type or size rules out a config.
    #[error("`{}` cannot be a config: {why}", path.display())]
    NotAConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Where configs are looked for.
#[derive(Debug, Clone, Copy)]
pub struct ConfigPlaces<'a> {
    /// The base of relative names; without it there is no project.
    pub project: Option<&'a Path>,
    /// The user's home folder, with `.config/massgen`.
    pub home: Option<&'a Path>,
    /// The installed package, with its `configs`.
    pub package: Option<&'a Path>,
}

/// Resolves the `massgen_config` of run_massgen: a path, a `file://` address, `@examples/…`, a name in `~/.config/massgen/agents`, or
/// nothing. If it does not exist, the error suggests similar names.
pub fn resolve(name: Option<&str>, sources: ConfigPlaces<'_>) -> Result<ConfigChoice, ConfigError> {
    locate(name, sources).map_err(|error| match error {
        ConfigError::Missing { name, places, similar } if similar.is_empty() => {
            ConfigError::Missing { similar: suggestions::similar_names(&name, sources), name, places }
        }
        ConfigError::Missing { .. } | ConfigError::NoDefault { .. } | ConfigError::NotAConfig { .. } => error,
    })
}

fn locate(name: Option<&str>, sources: ConfigPlaces<'_>) -> Result<ConfigChoice, ConfigError> {
    let Some(name) = name.map(names::local_path) else {
        let in_project = sources.project.map(|project| project.join(".massgen/config.yaml"));
        let paths = in_project.into_iter().chain(sources.home.map(|home| home.join(".config/massgen/config.yaml")));
        return first_file(paths).map_err(|paths| ConfigError::NoDefault { places: paths }).and_then(check_file);
    };
    let name = &*name;
    if let Some(example) = name.strip_prefix("@examples/") {
        return find_example(name, example, sources.package);
    }
    let direct = expand_home(name, sources.home);
    let direct = match sources.project {
        Some(project) => Some(project.join(direct)),
        None => Some(direct).filter(|path| path.is_absolute()),
    };
    let agents = sources.home.map(|home| home.join(".config/massgen/agents"));
    let named = agents.into_iter().flat_map(|agents| [agents.join(name), with_extension(&agents, name)]);
    first_file(direct.into_iter().chain(named))
        .map_err(|paths| ConfigError::Missing { name: name.to_owned(), places: paths, similar: Vec::new() })
        .and_then(check_file)
}

fn with_extension(folder: &Path, name: &str) -> PathBuf {
    let has_one = name.ends_with(".yaml") || name.ends_with(".yml");
    folder.join(if has_one { name.to_owned() } else { format!("{name}.yaml") })
}

fn first_file(paths: impl Iterator<Item = PathBuf>) -> Result<ConfigChoice, String> {
    let mut searched = Vec::new();
    for path in paths {
        if path.exists() {
            return Ok(ConfigChoice::File(std::path::absolute(&path).unwrap_or(path)));
        }
        let path = path.display().to_string();
        if !searched.contains(&path) {
            searched.push(path);
        }
    }
    Err(searched.join(", "))
}

fn check_file(choice: ConfigChoice) -> Result<ConfigChoice, ConfigError> {
    let ConfigChoice::File(path) = &choice else { return Ok(choice) };
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let reason = match (path.metadata(), ending.as_deref()) {
        (Err(error), _) => error.to_string(),
        (Ok(meta), _) if !meta.is_file() => "it is not a regular file".to_owned(),
        (Ok(meta), _) if meta.len() > MAX_CONFIG_BYTES => {
            format!("it has {} bytes, and {MAX_CONFIG_BYTES} is the most", meta.len())
        }
        (Ok(_), Some("yaml" | "yml" | "json")) => return Ok(choice),
        (Ok(_), _) => "its name does not end in .yaml, .yml or .json".to_owned(),
    };
    Err(ConfigError::NotAConfig { path: path.clone(), why: reason })
}

fn expand_home(name: &str, home: Option<&Path>) -> PathBuf {
    match (name.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

fn find_example(name: &str, example: &str, package: Option<&Path>) -> Result<ConfigChoice, ConfigError> {
    let missing = |places: String, similar| ConfigError::Missing { name: name.to_owned(), places, similar };
    let package = package.ok_or_else(|| missing("the massgen package, which was not found".to_owned(), Vec::new()))?;
    let examples = Examples::in_package(package);
    let choice = examples.find(example).map(|path| ConfigChoice::File(path.to_owned()));
    choice.ok_or_else(|| missing(examples.root().display().to_string(), examples.similar_names(example)))
}

/// The changes for an effective config.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigChanges<'a> {
    /// A JSON merge patch for the config.
    pub overrides: Option<&'a serde_json::Value>,
    /// Set if MassGen will not run in the project: relative paths to existing project files become absolute.
    pub project: Option<&'a Path>,
    /// The question; it replaces a `prompt` in the config.
    pub prompt: Option<&'a str>,
    /// The name of the session that MassGen restores.
    pub session: Option<&'a str>,
    /// A folder that agents with file access may read.
    pub read: Option<&'a Path>,
    /// The project, and the agents' access to it: `read` or `write`.
    pub context: Option<(&'a Path, &'a str)>,
}

/// The config that MassGen reads.
pub struct EffectiveConfig {
    /// The file's text.
    pub text: String,
    /// The same as a tree; `None` if this program cannot parse the config.
    pub tree: Option<Tree>,
    /// Keys removed from the config, by the variables that replace them.
    pub secrets: Vec<ConfigSecret>,
    /// Whether the text is JSON; MassGen decides that by the file extension.
    pub is_json: bool,
}

/// The effective config of an original read from `path`. If the original cannot be parsed, the question is appended anyway: MassGen reports
/// the fault better, and if MassGen can parse it after all, it must find a question or it would wait for one forever. Returns an error if
/// overrides were given for such a config, or if a change cannot be made safely.
pub fn effective_config(path: &Path, original: &str, changes: ConfigChanges<'_>) -> Result<EffectiveConfig, EditError> {
    let mut tree = match Tree::parse_file(path, original) {
        Ok(tree) => tree,
        Err(error) if changes.overrides.is_some() || changes.context.is_some() => return Err(error),
        Err(_) => return Ok(unparsed_config(path, original, changes)),
    };
    if let Some(overrides) = changes.overrides {
        tree.merge(overrides)?;
    }
    let secrets = tree.replace_secrets();
    if let Some(project) = changes.project {
        tree.make_paths_absolute(project);
    }
    if let Some(prompt) = changes.prompt {
        tree.set_prompt(prompt)?;
    }
    if let Some(session) = changes.session {
        tree.merge(&serde_json::json!({ "session_id": session }))?;
    }
    if let Some(folder) = changes.read {
        tree.add_context_path(folder, "read")?;
    }
    // Same effect as MassGen's own `--cwd-context`, which would make MassGen work in the project.
    if let Some((project, permission)) = changes.context {
        tree.add_context_path(project, permission)?;
    }
    Ok(EffectiveConfig { text: tree.to_yaml()?, tree: Some(tree), secrets, is_json: false })
}

fn unparsed_config(path: &Path, original: &str, changes: ConfigChanges<'_>) -> EffectiveConfig {
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let added = [("session_id", changes.session), ("prompt", changes.prompt)];
    let added = added.into_iter().filter_map(|(key, value)| Some((key, serde_json::Value::from(value?))));
    let text = added.fold(original.to_owned(), |text, (key, value)| format!("{text}\n\"{key}\": {value}\n"));
    EffectiveConfig { text, tree: None, secrets: Vec::new(), is_json }
}

impl Tree {
    /// Makes relative paths to existing project files absolute; true if any path changed.
    pub fn make_paths_absolute(&mut self, project: &Path) -> bool {
        self.rewrite_scalars(&mut |key, scalar| {
            let absolute = is_path_key(key).then(|| path_in_project(&scalar.text, project));
            absolute.flatten().map(|path| Scalar::quoted(&path))
        })
    }

    /// Gives all agents with file access another folder; it replaces the config's own entry for that folder.
    fn add_context_path(&mut self, folder: &Path, permission: &str) -> Result<(), EditError> {
        let is_other = |item: &Node| item.get("path").unwrap_or(item).text().map(Path::new) != Some(folder);
        let path = serde_json::json!({"path": folder.to_string_lossy(), "permission": permission});
        self.append(["orchestrator", "context_paths"], is_other, &path)
    }

    /// Adds the question where MassGen looks for it if its command line has none.
    pub fn set_prompt(&mut self, prompt: &str) -> Result<(), EditError> {
        self.merge(&serde_json::json!({ "prompt": prompt }))
    }

    /// The question in the config.
    pub fn prompt(&self) -> Option<&str> {
        self.root.get("prompt").and_then(Node::text)
    }

    /// MassGen's own timeout, in seconds.
    pub fn own_timeout(&self) -> Option<f64> {
        self.root.get("timeout_settings")?.get("orchestrator_timeout_seconds").and_then(Node::text)?.parse().ok()
    }
}

/// Keys with path values. `cwd`, `snapshot_storage` and the like are absent: MassGen creates folders for them.
fn is_path_key(key: &str) -> bool {
    matches!(key, "path" | "context_paths" | "args" | "command" | "protected_paths")
        || ["_path", "_file", "_directory"].iter().any(|ending| key.ends_with(ending))
}

/// A bare word (`npx`, `python`) is a program or a flag, not a path, unless it begins like a path.
fn path_in_project(text: &str, project: &Path) -> Option<String> {
    let looks_relative = text == "." || text == ".." || text.contains('/') || text.contains('.');
    let path = Path::new(text);
    let is_path = looks_relative && !text.starts_with(['-', '~', '$']) && path.is_relative() && !text.contains("://");
    let absolute = project.join(path);
    (is_path && absolute.exists()).then(|| absolute.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temp");
        for file in
            ["two.yaml", "docs/a.md", ".massgen/config.yaml", "server.py", "home/.config/massgen/agents/mine.yaml"]
        {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, "agents: []\n").expect("write");
        }
        folder
    }

    fn resolved(name: Option<&str>, project: &Path) -> Result<PathBuf, ConfigError> {
        let home = project.join("home");
        match resolve(name, ConfigPlaces { project: Some(project), home: Some(&home), package: None })? {
            ConfigChoice::File(path) => Ok(path.strip_prefix(project).expect("inside").to_owned()),
            ConfigChoice::Rehearsal(_) => unreachable!("no rehearsal was asked for"),
        }
    }

    #[test]
    fn names_resolve_as_in_massgen_from_the_project() {
        let folder = project();
        let resolve = |name| resolved(name, folder.path());
        assert_eq!(resolve(Some("two.yaml")).expect("found"), Path::new("two.yaml"));
        assert_eq!(resolve(None).expect("found"), Path::new(".massgen/config.yaml"));
        assert_eq!(resolve(Some("mine")).expect("found"), Path::new("home/.config/massgen/agents/mine.yaml"));
        let missing = resolve(Some("nope.yaml"));
        let Err(ConfigError::Missing { places, .. }) = missing else { panic!("{missing:?}") };
        assert_eq!(places.matches("agents/nope.yaml").count(), 1, "each place is named once: {places}");
        assert!(matches!(resolve(Some("docs")), Err(ConfigError::NotAConfig { .. })));
        assert!(matches!(resolve(Some("server.py")), Err(ConfigError::NotAConfig { .. })));
        assert!(matches!(resolve(Some("@examples/x")), Err(ConfigError::Missing { .. })));
    }

    #[test]
    fn similar_names_are_suggested_for_a_missing_one() {
        let folder = project();
        let suggested = |name: &str| match resolved(Some(name), folder.path()) {
            Err(ConfigError::Missing { similar, .. }) => similar,
            other => panic!("{name}: {other:?}"),
        };
        for (name, best) in [
            ("two.yml", "two.yaml"),
            ("tow.yaml", "two.yaml"),
            ("configs\\two.yaml", "two.yaml"),
            ("file://two.yaml", "two.yaml"),
            (".massgen\\config.yaml", ".massgen/config.yaml"),
            ("mien", "mine"),
            ("@rehersal", "@rehearsal"),
            ("@rehersal/hang", "@rehearsal/hang"),
            ("rehearsal", "@rehearsal"),
            ("@example/basic", "@examples/basic"),
        ] {
            assert_eq!(suggested(name).first().map(String::as_str), Some(best), "{name}");
        }
        assert_eq!(suggested("entirely-other.yaml"), Vec::<String>::new());
        let address = format!("file://{}", folder.path().join("two.yaml").display());
        assert_eq!(resolved(Some(&address), folder.path()).expect("found"), Path::new("two.yaml"));
    }

    #[test]
    fn the_project_is_added_once_with_the_requested_access() {
        let effective = |text: &str| {
            let changes = ConfigChanges { context: Some((Path::new("/p"), "write")), ..ConfigChanges::default() };
            effective_config(Path::new("c.yaml"), text, changes).map(|yaml| yaml.text)
        };
        let paths = "orchestrator:\n  context_paths:\n    - path: /p/.\n      permission: read\n    - path: /q\n";
        let yaml = effective(paths).expect("YAML");
        assert!(yaml.contains("/q") && !yaml.contains("read") && yaml.contains("\"write\""), "{yaml}");
        assert!(effective("agents: []\n").expect("YAML").contains("\"/p\""));
        assert!(effective("agents: [").is_err(), "a run without what it was to have is none");
    }

    #[test]
    fn relative_paths_stay_relative_to_the_project() {
        let folder = project();
        let text = "orchestrator:\n  context_paths:\n    - path: docs\n    - path: ./docs/a.md\n    - path: .  # all\n\
                    agents:\n  - id: a\n    backend:\n      cwd: docs/a.md\n      model: docs/a.md\n      mcp_servers:\n\
                    \x20       - {command: python, args: [server.py, -u, 'npx', '@x/y']}\n      fast: yes\n";
        let changes = ConfigChanges { project: Some(folder.path()), ..ConfigChanges::default() };
        let yaml = effective_config(Path::new("two.yaml"), text, changes).expect("YAML").text;
        let inside = |path: &str| format!("\"{}\"", folder.path().join(path).display());
        let expected = format!(
            "orchestrator:\n  context_paths:\n    - path: docs\n    - path: {}\n    - path: {}\nagents:\n  - id: a\n    \
             backend:\n      cwd: docs/a.md\n      model: docs/a.md\n      mcp_servers:\n        - command: python\n          \
             args:\n            - {}\n            - -u\n            - \"npx\"\n            - \"@x/y\"\n      fast: yes\n",
            inside("./docs/a.md"),
            inside("."),
            inside("server.py")
        );
        assert_eq!(yaml, expected, "and nothing else, the bare word `docs` least of all");
    }

    #[test]
    fn the_question_is_added_as_prompt_to_any_config() {
        let with_prompt = |name: &str, text: &str, prompt: &str| {
            let changes = ConfigChanges { prompt: Some(prompt), ..ConfigChanges::default() };
            effective_config(Path::new(name), text, changes).map(|effective| effective.text)
        };
        let yaml = with_prompt("a.yaml", "prompt: old\nagents: []", "a\n\"b\"").expect("YAML");
        assert_eq!(yaml, "prompt: \"a\\n\\\"b\\\"\"\nagents: []\n");
        let broken = with_prompt("a.yaml", "agents: [", "q").expect("MassGen says what is wrong with it");
        assert_eq!(broken, "agents: [\n\"prompt\": \"q\"\n");
        let json = with_prompt("a.json", "{\n\t\"agents\": []}", "q").expect("JSON");
        assert_eq!(json, "\"agents\": []\n\"prompt\": \"q\"\n");
        let unusual = with_prompt("a.yaml", "agents: []", "a\u{7f}\u{85}\u{9b}\u{2028}\u{feff}ż🦀").expect("YAML");
        assert!(!unusual.contains(['\u{7f}', '\u{85}', '\u{9b}', '\u{2028}', '\u{feff}']), "{unusual:?}");
    }

    #[test]
    fn a_session_id_is_added_to_any_config() {
        let changes = ConfigChanges { session: Some("mg-00000000"), prompt: Some("q"), ..ConfigChanges::default() };
        let effective = |text: &str| effective_config(Path::new("a.yaml"), text, changes).expect("made").text;
        assert_eq!(
            effective("session_id: other\nagents: []"),
            "session_id: \"mg-00000000\"\nagents: []\n\"prompt\": \"q\"\n"
        );
        assert_eq!(effective("agents: ["), "agents: [\n\"session_id\": \"mg-00000000\"\n\n\"prompt\": \"q\"\n");
    }

    #[test]
    fn a_context_folder_is_added_after_the_existing_ones() {
        let changes = ConfigChanges { read: Some(Path::new("/f")), ..ConfigChanges::default() };
        let effective = |text: &str| effective_config(Path::new("a.yaml"), text, changes).expect("made").text;
        let own = "\"path\": \"/f\"\n      \"permission\": \"read\"\n";
        assert_eq!(
            effective("agents: []\n"),
            format!("agents: []\n\"orchestrator\":\n  \"context_paths\":\n    - {own}")
        );
        let known = "orchestrator:\n  x: 1\n  context_paths:\n    - path: docs\n";
        assert_eq!(effective(known), format!("{known}    - {own}"));
        for unusual in [
            "orchestrator: null\n",
            "orchestrator:\n  context_paths: null\n",
            "o: &o {context_paths: []}\norchestrator: *o\n",
        ] {
            assert!(effective(unusual).contains("/f"), "{}", effective(unusual));
        }
        assert_eq!(effective("agents: ["), "agents: [", "MassGen says what is wrong with it");
    }

    #[test]
    fn overrides_need_a_parsable_config() {
        let patch = serde_json::json!({"ui": {"display": "simple"}});
        let changes = ConfigChanges { overrides: Some(&patch), ..ConfigChanges::default() };
        assert!(effective_config(Path::new("a.yaml"), "agents: [", changes).is_err());
        assert!(effective_config(Path::new("a.yaml"), "agents: []", changes).is_ok());
    }

    #[test]
    fn massgens_own_timeout_is_found() {
        let timeout_of = |text: &str| Tree::parse(text).expect("YAML").own_timeout();
        assert_eq!(timeout_of("timeout_settings:\n  orchestrator_timeout_seconds: 90\n"), Some(90.0));
        assert_eq!(timeout_of("agents: []"), None);
    }
}
