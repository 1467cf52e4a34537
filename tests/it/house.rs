//! The rules of the house, kept by a test: who may use whom, no machine's path in any file, files that say what they are for.

use std::path::{Path, PathBuf};

/// Each room with the rooms that it may use; a room not named here may use none.
const ROOMS: &[(&str, &[&str])] = &[
    ("run", &[]),
    ("experiment", &["run"]),
    ("clock", &["run"]),
    ("crash", &[]),
    ("inherited", &[]),
    ("pidfd", &[]),
    ("secrets", &[]),
    ("watch", &[]),
    ("massgen", &["run", "secrets"]),
    ("registry", &["crash", "experiment", "run"]),
    ("rehearsal", &[]),
    ("settings", &["run"]),
    ("ledger", &["registry", "run"]),
    ("warm", &["massgen", "registry", "run", "secrets"]),
    ("provenance", &["experiment", "massgen", "registry", "run", "secrets"]),
    (
        "supervisor",
        &[
            "clock",
            "crash",
            "ledger",
            "massgen",
            "pidfd",
            "provenance",
            "registry",
            "rehearsal",
            "run",
            "secrets",
            "warm",
            "watch",
        ],
    ),
    ("report", &["experiment", "massgen", "run"]),
    (
        "fleet",
        &[
            "crash",
            "experiment",
            "ledger",
            "massgen",
            "provenance",
            "registry",
            "report",
            "run",
            "secrets",
            "settings",
            "supervisor",
            "warm",
            "watch",
        ],
    ),
    ("conductor", &["experiment", "fleet", "ledger", "massgen", "registry", "run", "secrets", "supervisor", "watch"]),
    ("refusal", &["fleet", "ledger", "massgen", "registry", "rehearsal", "run", "secrets"]),
    ("view", &["experiment", "massgen", "run"]),
    (
        "server",
        &[
            "clock",
            "experiment",
            "fleet",
            "ledger",
            "massgen",
            "pidfd",
            "refusal",
            "registry",
            "rehearsal",
            "run",
            "secrets",
            "settings",
            "view",
        ],
    ),
    (
        "commands",
        &[
            "clock",
            "fleet",
            "massgen",
            "provenance",
            "refusal",
            "registry",
            "report",
            "run",
            "secrets",
            "settings",
            "supervisor",
            "view",
            "warm",
            "watch",
        ],
    ),
];

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

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("in src");
    let first = inside.components().next().expect("name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn rooms_use_only_what_they_may() {
    for path in sources(&root().join("src")) {
        let room = room_of(&path);
        if matches!(room.as_str(), "main" | "lib") {
            continue;
        }
        let (_, allowed) =
            ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} is not in the table"));
        let text = std::fs::read_to_string(&path).expect("source");
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(used == room || allowed.contains(&used.as_str()), "{} uses {used}", path.display());
        }
    }
}

#[test]
fn outside_worlds_have_one_room_each() {
    for (world, rooms) in [
        ("rmcp::", &["server", "commands"][..]),
        ("anyhow", &["main"]),
        ("axum", &["rehearsal"]),
        ("pidfd_send_signal", &["supervisor"]),
        ("nix::sys", &["inherited"]),
        ("signal_hook::", &["inherited"]),
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
            assert!(!uses || rooms.contains(&room_of(&path).as_str()), "{} knows {world}", path.display());
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
            assert!(line.is_none() || path.ends_with("house.rs"), "{}: {}", path.display(), line.unwrap_or_default());
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
    let tests: std::collections::BTreeSet<&str> = names_after(&code, "fn ").filter(is_fault).collect();
    let listed: std::collections::BTreeSet<&str> = names_after(&table, "`").filter(is_fault).collect();
    let unlike: Vec<_> = tests.symmetric_difference(&listed).collect();
    assert!(unlike.is_empty(), "only in the code, or only in the table: {unlike:?}");
    for number in 1..=56 {
        assert!(table.contains(&format!("| F{number} ")), "F{number} has no row");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "BENCHMARKS.md",
        "CONTRIBUTING.md",
        "docs/clients.md",
        "docs/extending.md",
        "docs/meta-agents.md",
        "docs/providers.md",
    ] {
        let text = std::fs::read_to_string(root().join(document)).expect("document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(
                file.is_empty() || file.contains("://") || root().join(document).with_file_name(file).exists(),
                "{document} links to {link}"
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
