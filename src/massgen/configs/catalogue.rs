//! The configs that can run from here: the project's, the user's and MassGen's examples, each with its requirements. An unreadable file is
//! an entry with a problem. The search follows no linked folders and has a depth limit.

use std::path::{Path, PathBuf};

use super::listed::{ConfigOrigin, ListedConfig};
use super::query::{ConfigQuery, Near};
use super::{ConfigError, ConfigPlaces, EditError, Examples, Needs, Tree, locate};
use crate::massgen::text;
use crate::run::ConfigChoice;

/// How deep the project is searched; files directly in it have depth 1.
const MAX_DEPTH: usize = 3;
/// How many names in the project are checked, so that a huge tree costs only a moment.
const MAX_NAMES: usize = 20_000;
/// The most configs of the project in the list.
const MAX_PROJECT_CONFIGS: usize = 500;
/// The largest file that the list reads, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The longest description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// A part of the list.
#[derive(Debug)]
pub struct Catalogue {
    /// The configs of this page. Ready configs come first; among them the project's, then the user's, the examples, and the rehearsal.
    pub configs: Vec<ListedConfig>,
    /// The number of all configs.
    pub total: usize,
    /// The number of configs that match the query.
    pub matching: usize,
    /// The length of the whole list: all configs that match, else the nearest ones.
    pub found: usize,
    /// If no config matches the query: how near the listed configs come to it.
    pub near: Option<Near>,
}

/// What the caller of [`list_configs`] knows about configs.
pub struct ConfigFacts<'a> {
    /// Whether MassGen will have a variable.
    pub has_variable: &'a dyn Fn(&str) -> bool,
    /// Why a start with this file would be refused, if so.
    pub refusal_reason: &'a dyn Fn(&Path) -> Option<String>,
    /// Configs that are not files.
    pub extra_configs: Vec<ListedConfig>,
}

/// The names of the project's and the user's files that may be configs; their content is not read.
pub(super) fn config_names(sources: ConfigPlaces<'_>) -> Vec<String> {
    project_files(sources).into_iter().chain(user_files(sources)).map(|file| file.name).collect()
}

/// The name in [`list_configs`] of a file in the package, in the project or below the user's home folder; [`super::resolve`] maps this name
/// back to the same file.
pub fn name_of(path: &Path, sources: ConfigPlaces<'_>) -> Option<String> {
    let is_example = sources.package.is_some_and(|package| path.starts_with(package.join("configs")));
    let examples = if is_example { example_files(sources) } else { Vec::new() };
    let example = examples.into_iter().find(|file| file.path == path).map(|file| file.name);
    let in_project = || Some(path.strip_prefix(sources.project?).ok()?.to_str()?.to_owned());
    let user_name = || Some(user_file(path.to_owned(), sources.home?, sources)?.name);
    example.or_else(in_project).or_else(user_name)
}

/// Lists at most `limit` configs from `offset` on that match `query` (see [`super::CONDITIONS`]; every part must hold, and an empty query
/// matches all). If none match, lists those that match most of it.
pub fn list_configs(
    sources: ConfigPlaces<'_>,
    query: &str,
    (offset, limit): (usize, usize),
    facts: ConfigFacts<'_>,
) -> Catalogue {
    let mut files = project_files(sources);
    files.extend(user_files(sources));
    files.extend(example_files(sources));
    let mut listed: Vec<ListedConfig> = files.into_iter().filter_map(|found| list_file(found, &facts)).collect();
    listed.extend(facts.extra_configs);
    listed.sort_by_key(ListedConfig::rank);
    let total = listed.len();
    let matches = ConfigQuery::parse(query).found(&listed);
    let (best, nearest) = matches.best(listed);
    let found = best.len();
    let configs = best.into_iter().skip(offset).take(limit).collect();
    Catalogue { configs, total, matching: matches.matching(), found, near: nearest }
}

/// A possible config file and its name.
struct ConfigFile {
    name: String,
    origin: ConfigOrigin,
    path: PathBuf,
}

fn project_files(sources: ConfigPlaces<'_>) -> Vec<ConfigFile> {
    let mut search = ProjectSearch { files: Vec::new(), names: 0 };
    let Some(project) = sources.project else { return Vec::new() };
    search.search_folder(project, 1);
    search.files.sort();
    let named = search.files.into_iter().filter_map(|path| {
        let name = path.strip_prefix(project).ok()?.to_str()?.to_owned();
        Some(ConfigFile { name, origin: ConfigOrigin::Project, path })
    });
    named.take(MAX_PROJECT_CONFIGS).collect()
}

struct ProjectSearch {
    files: Vec<PathBuf>,
    names: usize,
}

impl ProjectSearch {
    fn search_folder(&mut self, folder: &Path, depth: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            self.names += 1;
            if self.names > MAX_NAMES {
                return;
            }
            let path = entry.path();
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && depth < MAX_DEPTH && is_searched_folder(&path, &name.to_string_lossy()) {
                self.search_folder(&path, depth + 1);
            } else if !is_folder && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                self.files.push(path);
            }
        }
    }
}

fn is_searched_folder(path: &Path, name: &str) -> bool {
    let is_hidden = name.starts_with('.') && name != ".massgen";
    let is_output =
        matches!(name, "node_modules" | "target" | "massgen_logs" | "sessions" | "snapshots" | "workspaces");
    !is_hidden && !is_output && !path.join("pyvenv.cfg").exists()
}

fn user_files(sources: ConfigPlaces<'_>) -> Vec<ConfigFile> {
    let Some(home) = sources.home else { return Vec::new() };
    let folder = home.join(".config/massgen");
    let mut files = ProjectSearch { files: Vec::new(), names: 0 };
    files.search_folder(&folder.join("agents"), MAX_DEPTH);
    files.files.sort();
    let default = folder.join("config.yaml");
    let default = default.is_file().then_some(default);
    default.into_iter().chain(files.files).filter_map(|path| user_file(path, home, sources)).collect()
}

/// The bare name if it resolves to this file: a project file of the same name takes precedence.
fn user_file(path: PathBuf, home: &Path, sources: ConfigPlaces<'_>) -> Option<ConfigFile> {
    let home_path = format!("~/{}", path.strip_prefix(home).ok()?.to_str()?);
    let stem = path.file_stem()?.to_str()?.to_owned();
    let leads_here =
        |name: &String| matches!(locate(Some(name), sources), Ok(ConfigChoice::File(file)) if file == path);
    let name = [stem, home_path].into_iter().find(leads_here)?;
    Some(ConfigFile { name, origin: ConfigOrigin::User, path })
}

fn example_files(sources: ConfigPlaces<'_>) -> Vec<ConfigFile> {
    let named = sources.package.map(|package| Examples::in_package(package).shortest_names()).unwrap_or_default();
    named.into_iter().map(|(name, path)| ConfigFile { name, origin: ConfigOrigin::Example, path }).collect()
}

/// The entry of a file; `None` if a project file is not a config.
fn list_file(config_file: ConfigFile, facts: &ConfigFacts<'_>) -> Option<ListedConfig> {
    let ConfigFile { name, origin: source, path } = config_file;
    let (description, read) = match read_text(&path) {
        Ok(text) if source != ConfigOrigin::User && !has_agents(&text) => return None,
        Ok(text) => (
            leading_comment(&text),
            Tree::parse(&text).map(|tree| Needs::from_config(&tree)).map_err(|error| edit_error_message(&error)),
        ),
        Err(_) if source == ConfigOrigin::Project => return None,
        Err(problem) => (String::new(), Err(problem)),
    };
    let (needs, read_problem) = match read {
        Ok(needs) => (needs, None),
        Err(problem) => (Needs::default(), Some(problem)),
    };
    // MassGen's own examples are trusted, and there are several hundred.
    let refusal_reason = || if source == ConfigOrigin::Example { None } else { (facts.refusal_reason)(&path) };
    let problem = read_problem.or_else(refusal_reason).or_else(|| known_failure(&needs));
    let missing = needs.missing(facts.has_variable).into_iter().map(super::RequiredKey::name).collect();
    Some(ListedConfig { name, origin: source, choice: ConfigChoice::File(path), needs, missing, description, problem })
}

/// The first known fault at which MassGen fails, except missing keys.
fn known_failure(needs: &Needs) -> Option<String> {
    let no_agents = || needs.agents.is_empty().then(|| "it has no agents".to_owned());
    needs.problems(|_| true).into_iter().next().map(|problem| problem.message).or_else(no_agents)
}

fn edit_error_message(error: &EditError) -> String {
    text::truncate(&text::error_chain(error), MAX_DESCRIPTION_CHARS)
}

fn read_text(path: &Path) -> Result<String, String> {
    let problem = |error: &dyn std::fmt::Display| text::single_line(&error.to_string(), MAX_DESCRIPTION_CHARS);
    let meta = path.metadata().map_err(|error| problem(&error))?;
    // Opening a pipe would block the reader forever.
    if !meta.is_file() || meta.len() > MAX_BYTES {
        let not_a_config =
            ConfigError::NotAConfig { path: path.to_owned(), why: "too large, or no regular file".to_owned() };
        return Err(problem(&not_a_config));
    }
    std::fs::read_to_string(path).map_err(|error| problem(&error))
}

/// Whether `agents` or `agent` is a top-level key, judged by a scan of the lines.
fn has_agents(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}');
    let is_flow = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#') && *line != "---");
    let is_flow = is_flow.is_some_and(|line| line.starts_with('{'));
    let top =
        text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#') && *line != "---");
    let indent = top.map_or(0, |line| line.len() - line.trim_start().len());
    text.lines().any(|line| {
        let is_top_level = is_flow || line.len() - line.trim_start().len() == indent;
        let key = line.trim_start_matches(['{', ' ', '\t']).trim_start_matches(['"', '\'']);
        let rest = key.strip_prefix("agents").or_else(|| key.strip_prefix("agent"));
        is_top_level && rest.is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    })
}

/// The comment at the beginning, without instructions to call MassGen.
fn leading_comment(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty());
    let comment = lines.map_while(|line| line.strip_prefix('#')).map(|line| line.trim_matches(['#', '=', '-', ' ']));
    let words: Vec<&str> = comment.filter(|line| !line.contains("--config")).collect();
    text::single_line(&words.join(" "), MAX_DESCRIPTION_CHARS)
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::*;

    fn lab() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temp");
        for (file, text) in [
            (
                "p/two.yaml",
                "# Two Minds\n# massgen --config two.yaml\nagents: [{id: a, backend: {type: openai, model: gpt-5}}]\n",
            ),
            (
                "p/.massgen/config.yaml",
                "agent: {id: x, backend: {type: claude, model: claude-x, mcp_servers: {a: b}}}\n",
            ),
            ("p/a/b/deep.yaml", "{\"agents\": []}\n"),
            ("p/a/b/c/deeper.yaml", "agents: []\n"),
            ("p/broken.yaml", "agents: [\n"),
            ("p/refused.yaml", "agents: [{id: a, backend: {type: openai}}]\n"),
            ("p/compose.yaml", "services:\n  agents: x\n"),
            ("p/.git/x.yaml", "agents: []\n"),
            ("p/node_modules/x.yaml", "agents: []\n"),
            ("p/venv/x.yaml", "agents: []\n"),
            ("p/venv/pyvenv.cfg", ""),
            ("p/shadowed", "not a config\n"),
            ("h/.config/massgen/config.yaml", "agents: []\n"),
            ("h/.config/massgen/agents/mine.yaml", "agents: []\n"),
            ("h/.config/massgen/agents/shadowed.yaml", "agents: []\n"),
            ("m/configs/a/one.yaml", "agents: [{backend: {type: grok}}]\n"),
            ("m/configs/b/one.yaml", "agents: []\n"),
            ("m/configs/b/one-more.yaml", "agents: []\n"),
            ("m/configs/b/limits.yaml", "gemini: {rpm: 1}\n"),
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        folder
    }

    fn list_page(folder: &Path, query: &str, page: (usize, usize)) -> Catalogue {
        let (project, home, package) = (folder.join("p"), folder.join("h"), folder.join("m"));
        let sources = ConfigPlaces { project: Some(&project), home: Some(&home), package: Some(&package) };
        let facts = ConfigFacts {
            has_variable: &|name| name == "OPENAI_API_KEY",
            refusal_reason: &|path| {
                path.ends_with("refused.yaml").then(|| "the config may not have `hooks`".to_owned())
            },
            extra_configs: Vec::new(),
        };
        let listed = list_configs(sources, query, page, facts);
        for config in &listed.configs {
            assert_eq!(resolve(Some(&config.name), sources).expect("resolves"), config.choice);
        }
        listed
    }

    fn config_names(listed: &Catalogue) -> Vec<&str> {
        listed.configs.iter().map(|config| config.name.as_str()).collect()
    }

    #[test]
    fn every_name_resolves_to_its_file_and_ready_configs_come_first() {
        let folder = lab();
        let listed = list_page(folder.path(), "", (0, 100));
        let expected = [
            "two.yaml",
            ".massgen/config.yaml",
            "a/b/deep.yaml",
            "broken.yaml",
            "refused.yaml",
            "~/.config/massgen/config.yaml",
            "mine",
            "~/.config/massgen/agents/shadowed.yaml",
            "@examples/a/one",
            "@examples/b/one.yaml",
            "@examples/one-more",
        ];
        assert_eq!(config_names(&listed), expected);
        assert_eq!((listed.total, listed.matching), (11, 11));
    }

    #[test]
    fn a_file_has_the_same_name_as_in_the_list() {
        let folder = lab();
        let (project, home, package) = (folder.path().join("p"), folder.path().join("h"), folder.path().join("m"));
        let sources = ConfigPlaces { project: Some(&project), home: Some(&home), package: Some(&package) };
        for listed in list_page(folder.path(), "", (0, 100)).configs {
            let ConfigChoice::File(path) = &listed.choice else { panic!("{listed:?}") };
            assert_eq!(name_of(path, sources), Some(listed.name));
        }
        assert_eq!(name_of(Path::new("/elsewhere/team.yaml"), sources), None);
    }

    #[test]
    fn an_entry_lists_its_needs_and_its_problem() {
        let folder = lab();
        let listed = list_page(folder.path(), "", (0, 5));
        let [two, default, empty, broken, refused] = listed.configs.as_slice() else { panic!("five") };
        assert_eq!((two.description.as_str(), two.origin.as_str(), two.missing.len()), ("Two Minds", "project", 0));
        assert_eq!(two.needs.agents[0].model.as_deref(), Some("gpt-5"));
        assert_eq!(
            (default.missing.as_slice(), default.needs.executes.as_slice()),
            (&["ANTHROPIC_API_KEY".to_owned()][..], &["mcp servers"][..])
        );
        let problems = [two, default, empty, broken, refused].map(|config| config.problem.as_deref().unwrap_or("none"));
        assert_eq!((problems[0], problems[1], problems[2]), ("none", "none", "it has no agents"));
        assert!(problems[3].starts_with("the config is no YAML"), "{problems:?}");
        assert_eq!(problems[4], "the config may not have `hooks`");
    }

    #[test]
    fn a_query_and_a_page_select_configs() {
        let folder = lab();
        assert_eq!(config_names(&list_page(folder.path(), "GPT two", (0, 9))), ["two.yaml"]);
        assert_eq!(config_names(&list_page(folder.path(), "minds openai_api", (0, 9))), ["two.yaml"]);
        assert_eq!(config_names(&list_page(folder.path(), "example grok", (0, 9))), ["@examples/a/one"]);
        let page = list_page(folder.path(), "one", (1, 1));
        assert_eq!((config_names(&page), page.matching, page.total), (vec!["@examples/b/one.yaml"], 3, 11));
        assert!(list_page(folder.path(), "nothing like it", (0, 9)).configs.is_empty());
    }

    #[test]
    fn a_query_finds_configs_by_their_needs() {
        let folder = lab();
        assert_eq!(config_names(&list_page(folder.path(), "Ready", (0, 9))), ["two.yaml"]);
        assert_eq!(config_names(&list_page(folder.path(), "ready project", (0, 9))), ["two.yaml"]);
        let none = list_page(folder.path(), "ready example", (0, 2));
        assert_eq!((none.matching, none.found, none.configs.len()), (0, 4, 2), "one of both holds for each");
        assert_eq!(none.near.map(|near| (near.parts, near.of)), Some((1, 2)));
        assert!(list_page(folder.path(), "multi-provider", (0, 9)).configs.is_empty());
        let text = "agents: [{backend: {type: openai, base_url: 'http://h:1/v'}}, {backend: {type: openai}}]\n";
        std::fs::write(folder.path().join("p/apart.yaml"), text).expect("write");
        assert_eq!(config_names(&list_page(folder.path(), "ready multi-provider", (0, 9))), ["apart.yaml"]);
        assert_eq!(config_names(&list_page(folder.path(), "h:1", (0, 9))), ["apart.yaml"]);
        let own = list_page(folder.path(), "project", (0, 9));
        assert!(
            own.configs.iter().all(|config| config.origin == ConfigOrigin::Project) && own.matching == 6,
            "{own:?}"
        );
    }

    #[test]
    fn agents_at_the_top_level_make_a_config() {
        for text in [
            "agents:\n",
            "\"agent\" : {}\n",
            "{agents: []}",
            "---\n agents:\n - x\n",
            "{\n  \"agents\": []\n}",
            "a: 1\nagents: []\n",
        ] {
            assert!(has_agents(text), "{text}");
        }
        for text in ["x:\n  agents: []\n", "agentsx: 1\n", "# agents: x\n", ""] {
            assert!(!has_agents(text), "{text}");
        }
    }
}
