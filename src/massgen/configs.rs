//! Which config a run uses and what MassGen is given of it: resolves a name the way MassGen 0.1.97 does, but once and by
//! the project folder, and writes an effective copy where the original would mean something else in the run's own folder.
//! It judges no content by itself: `policy` says what an untrusted author may not, `validate` what MassGen says, in its words.

mod catalogue;
mod needs;
mod policy;
mod tree;
mod validate;

use std::path::{Path, PathBuf};

use self::tree::{Node, Scalar};
use crate::run::ConfigChoice;

pub use self::catalogue::{Catalogue, Listed, Source, catalogue};
pub use self::needs::{Agent, Key, Needs, Secret};
pub use self::policy::{Forbidden, forbidden};
pub use self::tree::{EditError, Tree};
pub use self::validate::{Finding, Question, ValidateError, Verdict, validate};

/// The longest question that goes on the command line, in bytes: one argument may have 128 KiB, and somebody's may be escaped.
pub const QUESTION_ARG_BYTES: usize = 100_000;
/// The largest config file, in bytes.
const MOST_BYTES: u64 = 4 << 20;

/// A config that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file is not there.
    #[error("there is no config `{name}` (looked for {places})")]
    Missing {
        /// As it was asked for.
        name: String,
        /// Where it was looked for.
        places: String,
    },
    /// None was named, and there is no default one.
    #[error("no config was given, and there is none of MassGen's default ones (looked for {places})")]
    NoDefault {
        /// Where it was looked for.
        places: String,
    },
    /// It is not a config file by its ending, its kind or its size.
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
pub struct Sources<'a> {
    /// Relative names are meant from here.
    pub project: &'a Path,
    /// The user's home folder, with `.config/massgen`.
    pub home: Option<&'a Path>,
    /// The installed package, with its `configs`.
    pub package: Option<&'a Path>,
}

/// Resolves what `config` of run_massgen names: a path, `@examples/…`, a name in `~/.config/massgen/agents`, or nothing.
pub fn resolve(name: Option<&str>, sources: Sources<'_>) -> Result<ConfigChoice, ConfigError> {
    let Some(name) = name else {
        let in_project = sources.project.join(".massgen/config.yaml");
        let places =
            std::iter::once(in_project).chain(sources.home.map(|home| home.join(".config/massgen/config.yaml")));
        return first_file(places).map_err(|places| ConfigError::NoDefault { places }).and_then(checked);
    };
    if let Some(example) = name.strip_prefix("@examples/") {
        return find_example(name, example, sources.package);
    }
    let direct = sources.project.join(expand_home(name, sources.home));
    let agents = sources.home.map(|home| home.join(".config/massgen/agents"));
    let named = agents.into_iter().flat_map(|agents| [agents.join(name), with_ending(&agents, name)]);
    first_file(std::iter::once(direct).chain(named))
        .map_err(|places| ConfigError::Missing { name: name.to_owned(), places })
        .and_then(checked)
}

fn with_ending(folder: &Path, name: &str) -> PathBuf {
    let has_one = name.ends_with(".yaml") || name.ends_with(".yml");
    folder.join(if has_one { name.to_owned() } else { format!("{name}.yaml") })
}

fn first_file(places: impl Iterator<Item = PathBuf>) -> Result<ConfigChoice, String> {
    let mut looked = Vec::new();
    for place in places {
        if place.exists() {
            return Ok(ConfigChoice::File(std::path::absolute(&place).unwrap_or(place)));
        }
        looked.push(place.display().to_string());
    }
    Err(looked.join(", "))
}

fn checked(choice: ConfigChoice) -> Result<ConfigChoice, ConfigError> {
    let ConfigChoice::File(path) = &choice else { return Ok(choice) };
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let why = match (path.metadata(), ending.as_deref()) {
        (Err(error), _) => error.to_string(),
        (Ok(meta), _) if !meta.is_file() => "it is not a regular file".to_owned(),
        (Ok(meta), _) if meta.len() > MOST_BYTES => {
            format!("it has {} bytes, and {MOST_BYTES} is the most", meta.len())
        }
        (Ok(_), Some("yaml" | "yml" | "json")) => return Ok(choice),
        (Ok(_), _) => "its name does not end in .yaml, .yml or .json".to_owned(),
    };
    Err(ConfigError::NotAConfig { path: path.clone(), why })
}

fn expand_home(name: &str, home: Option<&Path>) -> PathBuf {
    match (name.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

/// MassGen takes the first file that contains the name, in the order of the disk; this takes an exact stem first, then the
/// first by path, so that the same name always means the same file.
fn find_example(name: &str, example: &str, package: Option<&Path>) -> Result<ConfigChoice, ConfigError> {
    let missing = |places: String| ConfigError::Missing { name: name.to_owned(), places };
    let root = package
        .map(|package| package.join("configs"))
        .ok_or_else(|| missing("the massgen package, which was not found".to_owned()))?;
    let mut all = Vec::new();
    collect_yaml(&root, &mut all);
    all.sort();
    let found = example_among(example, &all, &root);
    found.map(|path| ConfigChoice::File(path.to_owned())).ok_or_else(|| missing(root.display().to_string()))
}

/// The file that a name means, among all the files below `root`, sorted.
fn example_among<'a>(example: &str, all: &'a [PathBuf], root: &Path) -> Option<&'a Path> {
    let stem = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == example);
    let contains = |path: &&PathBuf| path.strip_prefix(root).is_ok_and(|path| path.to_string_lossy().contains(example));
    all.iter().find(stem).or_else(|| all.iter().find(contains)).map(PathBuf::as_path)
}

fn collect_yaml(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_yaml(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
}

/// What an effective config has to change.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    /// Set where MassGen will not run in the project: relative paths that name something there are made absolute.
    pub project: Option<&'a Path>,
    /// Set where the question is too long for the command line: it goes in as `prompt`.
    pub prompt: Option<&'a str>,
}

/// The text of an effective config, or `None` where the original will do as it is. Where only paths were to be changed and
/// the config cannot be read, it is left as it is: MassGen says better what is wrong with it. A long question has nowhere else
/// to go; then that is an error, since MassGen without a question would wait for one for ever.
pub fn effective(original: &str, changes: Changes<'_>) -> Result<Option<String>, EditError> {
    let mut tree = match Tree::read(original) {
        Ok(tree) => tree,
        Err(_) if changes.prompt.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let moved = changes.project.is_some_and(|project| tree.move_paths(project));
    if let Some(prompt) = changes.prompt {
        tree.set_prompt(prompt)?;
    }
    if moved || changes.prompt.is_some() { tree.text().map(Some) } else { Ok(None) }
}

impl Tree {
    /// Makes relative paths that name something in the project absolute. Whether there were any.
    pub fn move_paths(&mut self, project: &Path) -> bool {
        self.rewrite(&mut |key, scalar| {
            let moved = names_a_path(key).then(|| in_project(&scalar.text, project));
            moved.flatten().map(|path| Scalar::quoted(&path))
        })
    }

    /// Puts the question in, where MassGen looks for it when there is none on its command line.
    pub fn set_prompt(&mut self, prompt: &str) -> Result<(), EditError> {
        self.merge(&serde_json::json!({ "prompt": prompt }))
    }

    /// MassGen's own timeout, in seconds.
    pub fn own_timeout(&self) -> Option<f64> {
        self.root.get("timeout_settings")?.get("orchestrator_timeout_seconds").and_then(Node::text)?.parse().ok()
    }
}

/// MassGen's own timeout in a config, in seconds.
pub fn own_timeout(config: &str) -> Option<f64> {
    Tree::read(config).ok()?.own_timeout()
}

/// Keys whose values are paths; of `cwd`, `snapshot_storage` and the like MassGen makes folders of its own.
fn names_a_path(key: &str) -> bool {
    matches!(key, "path" | "context_paths" | "args" | "command" | "protected_paths")
        || ["_path", "_file", "_directory"].iter().any(|ending| key.ends_with(ending))
}

/// A bare word (`npx`, `python`) is a program or a flag, not a path, unless it begins like one.
fn in_project(text: &str, project: &Path) -> Option<String> {
    let looks_relative = text == "." || text == ".." || text.contains('/') || text.contains('.');
    let path = Path::new(text);
    let is_path = looks_relative && !text.starts_with(['-', '~', '$']) && path.is_relative() && !text.contains("://");
    let whole = project.join(path);
    (is_path && whole.exists()).then(|| whole.to_string_lossy().into_owned())
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
        match resolve(name, Sources { project, home: Some(&home), package: None })? {
            ConfigChoice::File(path) => Ok(path.strip_prefix(project).expect("inside").to_owned()),
            ConfigChoice::Rehearsal(_) => unreachable!("no rehearsal was asked for"),
        }
    }

    #[test]
    fn names_resolve_as_massgen_would_from_the_project() {
        let folder = project();
        let of = |name| resolved(name, folder.path());
        assert_eq!(of(Some("two.yaml")).expect("found"), Path::new("two.yaml"));
        assert_eq!(of(None).expect("found"), Path::new(".massgen/config.yaml"));
        assert_eq!(of(Some("mine")).expect("found"), Path::new("home/.config/massgen/agents/mine.yaml"));
        assert!(matches!(of(Some("nope.yaml")), Err(ConfigError::Missing { .. })));
        assert!(matches!(of(Some("docs")), Err(ConfigError::NotAConfig { .. })));
        assert!(matches!(of(Some("server.py")), Err(ConfigError::NotAConfig { .. })));
        assert!(matches!(of(Some("@examples/x")), Err(ConfigError::Missing { .. })));
    }

    #[test]
    fn relative_paths_keep_meaning_the_project() {
        let folder = project();
        let text = "orchestrator:\n  context_paths:\n    - path: docs\n    - path: ./docs/a.md\n    - path: .  # all\n\
                    agents:\n  - id: a\n    backend:\n      cwd: docs/a.md\n      model: docs/a.md\n      mcp_servers:\n\
                    \x20       - {command: python, args: [server.py, -u, 'npx', '@x/y']}\n      fast: yes\n";
        let made =
            effective(text, Changes { project: Some(folder.path()), prompt: None }).expect("YAML").expect("changed");
        let inside = |path: &str| format!("\"{}\"", folder.path().join(path).display());
        let expected = format!(
            "orchestrator:\n  context_paths:\n    - path: docs\n    - path: {}\n    - path: {}\nagents:\n  - id: a\n    \
             backend:\n      cwd: docs/a.md\n      model: docs/a.md\n      mcp_servers:\n        - command: python\n          \
             args:\n            - {}\n            - -u\n            - \"npx\"\n            - \"@x/y\"\n      fast: yes\n",
            inside("./docs/a.md"),
            inside("."),
            inside("server.py")
        );
        assert_eq!(made, expected, "and nothing else, the bare word `docs` least of all");
    }

    #[test]
    fn an_original_that_will_do_is_left_alone() {
        let folder = project();
        let changes = Changes { project: Some(folder.path()), prompt: None };
        assert_eq!(effective("agents: [{id: a}]", changes).expect("YAML"), None);
        assert_eq!(
            effective("agents: [", changes).expect("left alone"),
            None,
            "what is not YAML is for MassGen to refuse"
        );
    }

    #[test]
    fn a_long_question_goes_in_as_prompt_or_nowhere() {
        let changes = Changes { project: None, prompt: Some("a\n\"b\"") };
        let made = effective("agents: []", changes).expect("YAML").expect("changed");
        assert_eq!(made, "agents: []\n\"prompt\": \"a\\n\\\"b\\\"\"\n");
        assert!(effective("agents: [", changes).is_err(), "a run without its question would never end");
    }

    #[test]
    fn massgens_own_timeout_is_found() {
        assert_eq!(own_timeout("timeout_settings:\n  orchestrator_timeout_seconds: 90\n"), Some(90.0));
        assert_eq!(own_timeout("agents: []"), None);
    }
}
