//! The fault suite: each test is named after its fault. `tests/FAULTS.md` lists the faults with their tests, and a test here compares
//! the list with the code.

use std::collections::BTreeSet;
use std::path::Path;

mod content;
mod driver;
mod files;
mod hints;
mod identity;
mod ledger;
mod money;
mod process_life;
mod protocol;
mod server_life;
mod warning_hints;

#[path = "faults/identity.rs"]
mod identity_warm;
#[path = "faults/money.rs"]
mod money_warm;
#[path = "faults/process_life.rs"]
mod process_life_warm;
#[path = "faults/server_life.rs"]
mod server_life_warm;

/// The names of all functions in the Rust files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// Whether this is the name of a test of a numbered fault, such as `f07_…`.
fn is_of_a_fault(name: &str) -> bool {
    let digits = name.strip_prefix('f').and_then(|rest| rest.split_once('_')).map(|(digits, _)| digits);
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[test]
fn the_list_of_faults_names_every_test_and_only_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    ["src", "tests"].iter().for_each(|folder| functions(&root.join(folder), &mut known));
    let list = std::fs::read_to_string(root.join("tests/FAULTS.md")).expect("list");
    let rows: Vec<Vec<&str>> =
        list.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").collect()).collect();
    let quoted = |row: &Vec<&str>| -> Vec<String> {
        row.get(1).into_iter().flat_map(|tests| tests.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    };
    let named: BTreeSet<String> = rows.iter().flat_map(quoted).filter(|name| name.matches('_').count() > 2).collect();
    let missing: Vec<&String> = named.iter().filter(|name| !name.contains('/') && !known.contains(*name)).collect();
    assert!(missing.is_empty(), "tests/FAULTS.md names tests that do not exist: {missing:?}");
    let unlisted: Vec<&String> = known.iter().filter(|name| is_of_a_fault(name) && !named.contains(*name)).collect();
    assert!(unlisted.is_empty(), "tests/FAULTS.md does not name {unlisted:?}");
    for number in 1..=60 {
        let is_of_number = |row: &&Vec<&str>| row[0].trim_start_matches("| ").starts_with(&format!("F{number} "));
        let row = rows.iter().find(is_of_number).unwrap_or_else(|| panic!("F{number} has no row"));
        assert!(row.len() == 3 && !quoted(row).is_empty(), "F{number} has no test: {row:?}");
    }
}
