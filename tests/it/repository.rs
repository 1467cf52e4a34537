//! Rules for documents of the repository: they name files and commands that exist, versions agree, and the changelog is well-formed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use massgen_mcp::massgen::VERSION;

/// Documents that describe the current repository. CHANGELOG.md and BENCHMARKS.md describe the past.
const DOCUMENTS: [&str; 10] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/clients.md",
    "docs/extending.md",
    "docs/meta-agents.md",
    "docs/mutants.md",
    "docs/providers.md",
    "tests/FAULTS.md",
    ".github/pull_request_template.md",
];

/// The folders whose files documents name by their path.
const FOLDERS: [&str; 9] =
    [".ci/", ".config/", "benches/", "docs/", "examples/", "fuzz/", "scripts/", "src/", "tests/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: impl AsRef<Path>) -> String {
    let path = root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn documents_name_files_that_exist() {
    for document in DOCUMENTS {
        let text = read(document);
        let paths = quoted(&text).filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder)));
        for path in paths.map(|name| name.split([' ', '*', '…']).next().unwrap_or_default()) {
            assert!(root().join(path).exists(), "{document} names `{path}`");
        }
    }
}

#[test]
fn documents_name_recipes_that_exist() {
    let justfile = read("justfile");
    let recipes: BTreeSet<&str> = justfile
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split([' ', ':']).next())
        .collect();
    assert!(recipes.contains("quick"), "{recipes:?}");
    for document in DOCUMENTS {
        let text = read(document);
        let commands = quoted(&text).chain(text.lines().filter_map(|line| line.strip_prefix("    ")));
        for command in commands.filter_map(|command| command.strip_prefix("just ")) {
            let name = command.split(' ').next().unwrap_or_default();
            assert!(recipes.contains(name), "{document} names `just {name}`");
        }
    }
}

#[test]
fn nextest_groups_name_modules_that_exist() {
    let (settings, modules) = (read(".config/nextest.toml"), read("tests/it/main.rs"));
    for group in settings.split("test(/^(").skip(1).filter_map(|rest| rest.split_once(")::/)")) {
        for module in group.0.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|name| !name.is_empty())
        {
            assert!(modules.contains(&format!("mod {module};")), ".config/nextest.toml names {module}");
        }
    }
}

/// All files below a folder, without fixtures and Python's caches.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_file() {
            found.push(path);
        } else if !path.ends_with("tests/data") && !path.ends_with("__pycache__") {
            found.extend(files(&path));
        }
    }
    found
}

#[test]
fn one_constant_has_the_version_of_massgen() {
    let owners = ["src/massgen.rs", "src/massgen/requirements.txt"].map(|owner| root().join(owner));
    for folder in ["src", "tests", "examples", "benches", "scripts", ".ci"] {
        for path in files(&root().join(folder)) {
            let names_it = std::fs::read_to_string(&path).is_ok_and(|text| text.contains(VERSION));
            assert_eq!(names_it, owners.contains(&path), "{} and the version of MassGen", path.display());
        }
    }
}

#[test]
fn documents_name_the_tested_version_of_massgen() {
    for document in DOCUMENTS {
        let text = read(document);
        for named in text.split("MassGen ").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            let end = named.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(named.len());
            assert_eq!(named[..end].trim_end_matches('.'), VERSION, "{document}");
        }
    }
    assert!(read("README.md").contains(&format!("Tried with MassGen {VERSION};")));
    assert!(read("docs/providers.md").contains(&format!("MassGen {VERSION} (")));
}

#[test]
fn documents_name_the_oldest_rust_that_cargo_accepts() {
    for document in ["README.md", "CONTRIBUTING.md"] {
        let expected = format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"));
        assert!(read(document).contains(&expected), "{document}: {expected}");
    }
}

#[test]
fn the_changelog_is_well_formed_and_has_the_package_version() {
    let text = read("CHANGELOG.md");
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    let titles: Vec<&str> = sections.iter().map(|section| section.lines().next().unwrap_or_default()).collect();
    assert_eq!(titles.first(), Some(&"[Unreleased]"));
    let newest = titles.get(1).copied().unwrap_or_default();
    assert!(newest.starts_with(concat!("[", env!("CARGO_PKG_VERSION"), "] - ")), "{newest} is not the package's");
    for (title, section) in titles.iter().zip(&sections) {
        let kinds: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let in_order: Vec<&str> = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
            .into_iter()
            .filter(|kind| kinds.contains(kind))
            .collect();
        assert_eq!(kinds, in_order, "{title}: each section once, in this order");
    }
}

#[test]
fn the_registry_manifest_names_this_repository() {
    let server: serde_json::Value = serde_json::from_str(&read("server.json")).expect("JSON");
    let name = server["name"].as_str().and_then(|name| name.strip_prefix("io.github.")).expect("a name on GitHub");
    assert_eq!(env!("CARGO_PKG_REPOSITORY"), format!("https://github.com/{name}"));
}
