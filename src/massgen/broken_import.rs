//! Detects a MassGen that cannot be imported, from the installed package versions or from an earlier failed import. Nothing is executed
//! here. An observed failure is kept in a file named after the installation, so that later starts do not repeat the import. It expires when
//! a package is installed, updated or removed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{installation as program, pages, text};
use crate::run::{Problem, Retry, Step};

/// The stable problem code.
pub const CODE: &str = "massgen_broken";
/// The newest MassGen that is known not to start with mcp 2: it imports `streamablehttp_client`, which mcp 2 removed
/// (`massgen/mcp_tools/client.py`).
const LAST_MCP_1_VERSION: [u32; 3] = [0, 1, 97];
/// Exceptions that show a missing part of a package. Other failures, such as a missing system library or a full disk, can pass without a
/// new installation and are not kept.
const PACKAGE_ERRORS: [&str; 3] = ["cannot import name", "No module named", "has no attribute"];
/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why an installed MassGen cannot be imported, as far as is known without trying. `seen` is the folder of observed failures.
pub fn known_problem(program: &Path, folder: &Path) -> Option<Problem> {
    version_problem(program).or_else(|| recorded_failure(&failure_file(program, folder)?))
}

/// Why the installed package versions cannot work together.
pub fn version_problem(program: &Path) -> Option<Problem> {
    let (massgen, mcp) = (program::version(program)?, program::version_of_package(program, "mcp")?);
    let is_known = version_numbers(&massgen) <= LAST_MCP_1_VERSION.to_vec() && version_numbers(&mcp) >= vec![2];
    is_known
        .then(|| import_problem(&format!("MassGen {massgen} does not start with mcp {mcp}: it needs an mcp below 2")))
}

/// The same problem, with the version of the package that causes it.
pub fn with_package_version(problem: Problem, program: &Path) -> Problem {
    let Some(package) = package_in(&problem.message) else { return problem };
    let version = program::version_of_package(program, package).map(|version| format!(" {version}"));
    let prefix = format!("MassGen does not start with {package}{}: ", version.unwrap_or_default());
    let message = problem.message.split(" (/").next().unwrap_or_default();
    let message = message.split_once("Error: ").map_or(message, |(_, detail)| detail);
    Problem { message: text::truncate_sentence(&(prefix + message), MAX_MESSAGE_CHARS), ..problem }
}

/// Records a failure; it stays valid while the same packages are installed. Failures that may pass, and failures of a MassGen that runs
/// from source, are not recorded.
///
/// # Errors
///
/// If the file cannot be written.
pub fn record_failure(problem: &Problem, program: &Path, folder: &Path) -> io::Result<()> {
    let is_permanent = PACKAGE_ERRORS.iter().any(|pattern| problem.message.contains(pattern));
    let is_editable = program::metadata(program).as_deref().is_some_and(program::is_editable);
    let Some(file) = failure_file(program, folder).filter(|_| is_permanent && !is_editable) else { return Ok(()) };
    std::fs::create_dir_all(folder)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(json!({"message": problem.message}).to_string().as_bytes())?;
    draft.persist(file)?;
    Ok(())
}

/// Deletes a recorded failure after the same installation has worked.
pub fn clear_failure(program: &Path, folder: &Path) {
    if let Some(file) = failure_file(program, folder) {
        let _result = std::fs::remove_file(file);
    }
}

fn recorded_failure(file: &Path) -> Option<Problem> {
    let record: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(import_problem(&text::single_line(record["message"].as_str()?, MAX_MESSAGE_CHARS)))
}

fn failure_file(program: &Path, folder: &Path) -> Option<PathBuf> {
    let installation = program::installation_fingerprint(program).ok()?;
    Some(folder.join(format!("{}.json", pages::hex(&Sha256::digest(installation.as_bytes())))))
}

fn import_problem(message: &str) -> Problem {
    Problem { retry: Some(Retry::No), ..Problem::new(CODE, message, Step::RepairMassgen) }
}

/// The package named in an `ImportError`: `mcp` in `… from 'mcp.client.streamable_http' (…)`.
fn package_in(message: &str) -> Option<&str> {
    let starts = ["No module named '", " from partially initialized module '", " from '", "module '"];
    let module = starts.iter().find_map(|start| Some(message.split_once(start)?.1))?;
    module.split(['.', '\'']).next().filter(|package| !package.is_empty())
}

/// `2.3.0` → 2, 3, 0; stops at the first part that is not a number.
fn version_numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::VERSION;

    /// An installation with these packages.
    fn installed(packages: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("temp");
        let (program, python) = (root.path().join("bin/massgen"), root.path().join("bin/python"));
        std::fs::create_dir(root.path().join("bin")).expect("mkdir");
        std::fs::write(&python, "").expect("written");
        std::fs::write(&program, format!("#!{}\n", python.display())).expect("written");
        for package in packages {
            let folder = format!("lib/python3.11/site-packages/{package}.dist-info");
            std::fs::create_dir_all(root.path().join(folder)).expect("mkdir");
        }
        (root, program)
    }

    fn massgen() -> String {
        format!("massgen-{VERSION}")
    }

    #[test]
    fn incompatible_versions_are_known() {
        let [major, minor, patch] = LAST_MCP_1_VERSION;
        let (last, next) = (format!("{major}.{minor}.{patch}"), format!("{major}.{minor}.{}", patch + 1));
        let (last, next) = (last.as_str(), next.as_str());
        for (massgen, mcp, is_broken) in [
            (last, "2.3.0", true),
            (last, "2.0.0rc1", true),
            ("0.1.12", "3.0", true),
            (last, "1.30.0", false),
            (next, "2.3.0", false),
            ("0.2", "2.3.0", false),
        ] {
            let (_root, program) = installed(&[&format!("massgen-{massgen}"), &format!("mcp-{mcp}")]);
            let found = version_problem(&program);
            assert_eq!(found.is_some(), is_broken, "{massgen} {mcp}: {found:?}");
            if let Some(problem) = found {
                assert_eq!((problem.code.as_str(), problem.retry), (CODE, Some(Retry::No)));
                assert!(problem.message.contains(massgen) && problem.message.contains(mcp), "{}", problem.message);
                assert!(problem.next.step() == Step::RepairMassgen);
            }
        }
        assert_eq!(version_problem(&installed(&[&massgen()]).1), None);
    }

    #[test]
    fn a_failure_names_the_package_and_its_version() {
        let (_root, program) = installed(&[&massgen(), "litellm-1.80.0"]);
        for (message, expected) in [
            (
                "ImportError: cannot import name 'a' from 'litellm.b' (/x/litellm/b.py)",
                "MassGen does not start with litellm 1.80.0: cannot import name 'a' from 'litellm.b'",
            ),
            ("ModuleNotFoundError: No module named 'yaml'", "MassGen does not start with yaml: No module named 'yaml'"),
            ("ImportError: libGL.so.1: cannot open", "ImportError: libGL.so.1: cannot open"),
        ] {
            assert_eq!(with_package_version(import_problem(message), &program).message, expected);
        }
    }

    #[test]
    fn a_failure_is_kept_until_something_else_is_installed() {
        let (root, program) = installed(&[&massgen(), "mcp-1.0"]);
        let folder = root.path().join("state/broken");
        assert_eq!(known_problem(&program, &folder), None);
        let temporary = import_problem("ImportError: libGL.so.1: cannot open shared object file");
        record_failure(&temporary, &program, &folder).expect("done");
        assert_eq!(known_problem(&program, &folder), None, "this may pass by itself");
        let permanent = import_problem("ModuleNotFoundError: No module named 'yaml'");
        record_failure(&permanent, &program, &folder).expect("kept");
        assert_eq!(known_problem(&program, &folder), Some(permanent.clone()));
        let package = root.path().join("lib/python3.11/site-packages/pyyaml-6.0.dist-info");
        std::fs::create_dir(&package).expect("installed");
        assert_eq!(known_problem(&program, &folder), None, "another installation");
        std::fs::remove_dir(package).expect("removed");
        clear_failure(&program, &folder);
        assert_eq!(known_problem(&program, &folder), None);
        let origin = root.path().join(format!("lib/python3.11/site-packages/{}.dist-info/direct_url.json", massgen()));
        std::fs::write(origin, r#"{"dir_info": {"editable": true}}"#).expect("written");
        record_failure(&permanent, &program, &folder).expect("done");
        assert_eq!(known_problem(&program, &folder), None, "a source may change at any time");
    }
}
