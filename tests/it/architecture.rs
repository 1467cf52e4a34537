//! Rules of the repository, kept by tests: which module may use which, no circles between files, no path of a machine in any file, files
//! that say what they are for, documents that match the code.

mod dependencies;
mod tool_names;

use std::collections::{BTreeMap, BTreeSet};

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn top_module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("in src");
    let first = inside.components().next().expect("name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The table of modules in ARCHITECTURE.md: each module with those that it may use.
fn module_table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, table) = text.split_once("| module | for | uses |\n| --- | --- | --- |\n").expect("the table of modules");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let uses = names(cells.last().expect("uses"));
        names(cells.first().expect("module")).into_iter().map(move |module| (module, uses.clone())).collect::<Vec<_>>()
    })
    .collect()
}

/// The source files of the library, each with its module path; tests are left out.
fn library() -> Vec<(dependencies::Module, String)> {
    let src = root().join("src");
    let files = sources(&src).into_iter().filter(|path| !path.ends_with("main.rs") && !path.ends_with("tests.rs"));
    files
        .map(|path| {
            let inside = path.strip_prefix(&src).expect("in src").with_extension("");
            let names = inside.iter().map(|name| name.to_string_lossy().into_owned());
            let module = names.filter(|name| name != "lib").collect();
            (module, std::fs::read_to_string(&path).expect("source"))
        })
        .collect()
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table = module_table();
    for path in sources(&root().join("src")) {
        let module = top_module(&path);
        if matches!(module.as_str(), "main" | "lib") || path.ends_with("tests.rs") {
            continue;
        }
        let allowed = table.get(&module).unwrap_or_else(|| panic!("{module} is not in the table of ARCHITECTURE.md"));
        let text = std::fs::read_to_string(&path).expect("source");
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(used == module || allowed.contains(&used), "{} uses {used}", path.display());
        }
    }
    let unknown: Vec<_> = table.keys().filter(|name| !root().join(format!("src/{name}.rs")).exists()).collect();
    assert!(unknown.is_empty(), "in the table, but no modules: {unknown:?}");
}

/// Lower modules give a typed next step. The rehearsal's model plays an agent and calls tools.
#[test]
fn only_the_server_and_the_commands_name_tools() {
    let may_name = |module: &dependencies::Module| {
        module.first().is_none_or(|top| ["server", "commands"].contains(&top.as_str()))
            || module.join("/") == "rehearsal/model/meta_agent"
    };
    for (module, text) in library().into_iter().filter(|(module, _)| !may_name(module)) {
        let named = tool_names::literals_with_tools(&text);
        assert!(named.is_empty(), "{} names tools: {named:#?}", module.join("/"));
    }
}

#[test]
fn a_tool_is_found_in_literals_and_macros_and_not_in_tests_and_docs() {
    let found = |text: &str| tool_names::literals_with_tools(text).len();
    assert_eq!(found("const A: &str = \"call kill_run\"; fn f() { g(format!(\"see \\\"read_result\\\" {}\", 1)) }"), 2);
    assert_eq!(
        found("/// As check_status.\nfn run_massgen() {} #[cfg(test)] mod tests { const B: &str = \"kill_run\"; }"),
        0
    );
}

#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let circles = dependencies::circles(&dependencies::dependencies(&library()));
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found_through_imports_paths_macros_and_other_names() {
    let file = |module: &str, text: &str| (module.split('/').map(str::to_owned).collect(), text.to_owned());
    let files = [
        file("m", "mod a; mod b; mod c; pub use b::Thing; pub struct Own;"),
        file("m/a", "use super::Thing; fn used() {}"),
        file("m/b", "pub struct Thing; fn f() { let _ = format!(\"{:?}\", super::c::g()); }"),
        file("m/c", "use crate::m::a as other; use super::Own; pub fn g() { other::used() }"),
        file("n", "use crate::m::Thing; #[cfg(test)] mod tests { use crate::o::f; }"),
        file("o", "use crate::n; pub fn f() {}"),
    ];
    let circles = dependencies::circles(&dependencies::dependencies(&files));
    let names: Vec<Vec<String>> =
        circles.iter().map(|circle| circle.iter().map(|module| module.join("/")).collect()).collect();
    assert_eq!(names, [["m/a", "m/b", "m/c"]]);
}

#[test]
fn each_outside_world_has_its_module() {
    for (world, modules) in [
        ("rmcp::", &["server", "commands"][..]),
        ("anyhow", &["main"]),
        ("axum", &["rehearsal"]),
        ("pidfd_send_signal", &["supervisor"]),
        ("nix::sys", &["inherited_state"]),
        ("signal_hook::", &["inherited_state"]),
        ("inotify::", &["watch"]),
        ("ratatui", &["commands"]),
        ("dotenvy", &["secrets"]),
        ("similar::", &["report"]),
        ("strsim::", &["massgen"]),
        ("maud::", &["report"]),
        ("plotters", &["report"]),
        ("open::that", &["commands"]),
    ] {
        for path in sources(&root().join("src")) {
            let uses = std::fs::read_to_string(&path)
                .expect("source")
                .lines()
                .any(|line| line.contains(world) && !line.trim_start().starts_with("//"));
            assert!(!uses || modules.contains(&top_module(&path).as_str()), "{} knows {world}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for folder in ["src", "tests", "examples", "benches"] {
        for path in sources(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).expect("source");
            assert!(text.starts_with("//!"), "{} begins with what it is for", path.display());
            assert_ne!(path.file_name().and_then(|name| name.to_str()), Some("mod.rs"));
        }
    }
}

/// Every text file of the project, with its text.
fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        // Of a worktree, `.git` is a file that names the place of the repository.
        if matches!(name.to_str(), Some("target" | ".git")) {
            continue;
        }
        if path.is_dir() {
            found.extend(texts(&path));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
    found
}

#[test]
fn no_file_names_a_machine() {
    for (path, text) in texts(root()) {
        for folder in ["work", "root", "farm"] {
            let absolute = |line: &&str| {
                line.match_indices(&format!("/{folder}/"))
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c)))
            };
            let line = text.lines().find(absolute);
            assert!(
                line.is_none() || path.ends_with("architecture.rs"),
                "{}: {}",
                path.display(),
                line.unwrap_or_default()
            );
        }
    }
}

/// The names after `start` in a text, each as far as a name goes.
fn names_after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start)
        .skip(1)
        .map(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default())
}

#[test]
fn the_table_of_faults_names_the_tests_there_are() {
    let table = std::fs::read_to_string(root().join("tests/FAULTS.md")).expect("table");
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .map(|path| std::fs::read_to_string(path).expect("source"))
        .collect();
    let is_fault =
        |name: &&str| name.starts_with('f') && name.get(1..3).is_some_and(|number| number.parse::<u8>().is_ok());
    let tests: BTreeSet<&str> = names_after(&code, "fn ").filter(is_fault).collect();
    let listed: BTreeSet<&str> = names_after(&table, "`").filter(is_fault).collect();
    let unlike: Vec<_> = tests.symmetric_difference(&listed).collect();
    assert!(unlike.is_empty(), "only in the code, or only in the table: {unlike:?}");
    for number in 1..=56 {
        assert!(table.contains(&format!("| F{number} ")), "F{number} has no row");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "BENCHMARKS.md", "CONTRIBUTING.md"].map(PathBuf::from).into();
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("folder").flatten();
        let texts = entries.map(|entry| Path::new(folder).join(entry.file_name()));
        documents.extend(texts.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    for document in documents {
        let text = std::fs::read_to_string(root().join(&document)).expect("document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(
                file.is_empty() || file.contains("://") || root().join(&document).with_file_name(file).exists(),
                "{} links to {link}",
                document.display()
            );
        }
    }
}

#[test]
fn settings_are_listed_in_the_readme_as_they_are_in_the_code() {
    let path = root().join("README.md");
    let text = std::fs::read_to_string(&path).expect("README");
    let (before, rest) = text.split_once("<!-- settings: ").expect("the beginning of the table");
    let (note, rest) = rest.split_once('\n').expect("a line");
    let (table, after) = rest.split_once("<!-- settings end -->").expect("the end of the table");
    let wanted = massgen_mcp::settings::markdown();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let whole = format!("{before}<!-- settings: {note}\n{wanted}<!-- settings end -->{after}");
        std::fs::write(&path, whole).expect("written");
    } else {
        assert_eq!(table, wanted, "UPDATE_GOLDEN=1 rewrites it");
    }
}

fn json(file: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(root().join(file)).expect("file")).expect("JSON")
}

#[test]
fn the_manifest_lists_the_tools_there_are() {
    let manifest = json("mcp-manifest.json");
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().expect("list").iter().map(|tool| tool["name"].as_str().expect("name").to_owned()).collect()
    };
    assert_eq!(names(&manifest["tools"]), names(&json("tests/data/tools.json")));
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_a_person_is_asked_for_in_a_bundle_reaches_the_server() {
    let manifest = json("mcp-manifest.json");
    let settings = massgen_mcp::settings::markdown() + "`MASSGEN_MCP_SETTINGS`";
    let given = manifest["server"]["mcp_config"]["env"].as_object().expect("variables");
    for variable in given.keys() {
        assert!(settings.contains(&format!("`{variable}`")), "{variable} is no setting");
    }
    for asked in manifest["user_config"].as_object().expect("what is asked").keys() {
        let placeholder = format!("${{user_config.{asked}}}");
        assert!(given.values().any(|value| *value == *placeholder), "{asked} goes nowhere");
    }
}

#[test]
fn the_registry_is_told_of_the_crate_that_this_is() {
    let (server, readme) = (json("server.json"), std::fs::read_to_string(root().join("README.md")).expect("README"));
    let package = &server["packages"][0];
    assert_eq!((&server["version"], &package["version"]), (&env!("CARGO_PKG_VERSION").into(), &server["version"]));
    assert_eq!((&package["registryType"], &package["identifier"]), (&"cargo".into(), &env!("CARGO_PKG_NAME").into()));
    // The registry looks for this line in the README of the crate, and crates.io shows no comments.
    assert!(readme.contains(&format!("mcp-name: {}", server["name"].as_str().expect("name"))));
    let settings = massgen_mcp::settings::markdown();
    for variable in package["environmentVariables"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("name");
        assert!(settings.contains(&format!("`{name}`")), "{name} is no setting");
    }
}
