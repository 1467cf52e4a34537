//! `massgen-mcp setup` on machines where it cannot work: a clear error that says what to install. Every test on real MassGen covers
//! the successful case, because the same code sets it up.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use massgen_mcp::massgen::VERSION;

use crate::lab::{Lab, PROGRAM};

/// Runs `setup` with only these programs in PATH; returns its standard error.
fn setup_error(programs: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("temp");
    for (name, script) in programs {
        put_program(&folder.path().join(name), script);
    }
    let ended = setup_in(folder.path(), &folder.path().to_string_lossy()).output().expect("ran");
    assert!(!ended.status.success());
    assert!(!folder.path().join(format!("state/massgen-{VERSION}/.finished")).exists());
    String::from_utf8(ended.stderr).expect("UTF-8")
}

fn put_program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("write");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// `setup` with its state folder and home below a folder.
fn setup_in(folder: &Path, path: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("setup").arg("--home").arg(folder.join("state")).env("PATH", path).env("HOME", folder);
    for name in ["MASSGEN_MCP_MASSGEN", "MASSGEN_MCP_HOME", "MASSGEN_MCP_PROJECT"] {
        command.env_remove(name);
    }
    command.current_dir(folder);
    command
}

#[test]
fn setup_without_python_says_what_to_install() {
    let stderr = setup_error(&[]);
    assert!(stderr.contains("MassGen needs Python 3.11") && stderr.contains("no python3 is in PATH"), "{stderr}");
    assert!(stderr.contains("hint: ") && stderr.contains("apt-get install python3"), "{stderr}");
}

#[test]
fn setup_names_a_python_that_is_too_old() {
    let stderr = setup_error(&[("python3", "echo 3 9")]);
    assert!(stderr.contains("python3 is 3.9"), "{stderr}");
}

#[test]
fn setup_names_the_package_that_adds_venv() {
    let stderr =
        setup_error(&[("python3", "case \"$1\" in -c) echo 3 11;; *) echo 'No module named venv' >&2; exit 1;; esac")]);
    assert!(stderr.contains("No module named venv") && stderr.contains("apt-get install python3-venv"), "{stderr}");
}

/// A Python whose virtual environments have a Python that only records its arguments and the list of packages.
const RECORDING_PYTHON: &str = r#"case "$1" in -c) echo 3 11; exit;; esac
mkdir -p "$3/bin"
cat > "$3/bin/python" <<'END'
#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
for word; do [ "$before" = -r ] && cp "$word" "$(dirname "$0")/packages"; before=$word; done
touch "$(dirname "$0")/massgen"; chmod +x "$(dirname "$0")/massgen"
END
chmod +x "$3/bin/python""#;

#[test]
fn tested_versions_are_installed_unless_the_newest_are_requested() {
    for latest in [false, true] {
        let folder = tempfile::tempdir().expect("temp");
        put_program(&folder.path().join("python3"), RECORDING_PYTHON);
        let mut command = setup_in(folder.path(), &format!("{}:/usr/bin:/bin", folder.path().display()));
        let ended = command.args(latest.then_some("--latest")).output().expect("ran");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let bin = folder.path().join(format!("state/massgen-{VERSION}/bin"));
        let recorded = std::fs::read_to_string(bin.join("asked")).expect("asked");
        assert!(recorded.contains("-m pip install --quiet uv=="), "{recorded}");
        assert_eq!(recorded.contains(&format!("--upgrade massgen=={VERSION}")), latest, "{recorded}");
        let packages = std::fs::read_to_string(bin.join("packages")).unwrap_or_default();
        assert_eq!(packages.contains(&format!("\nmassgen=={VERSION}\n")) && packages.contains("\nmcp==1."), !latest);
        let setup_again =
            || setup_in(folder.path(), &format!("{}:/usr/bin:/bin", folder.path().display())).output().expect("ran");
        let times = || std::fs::read_to_string(bin.join("asked")).expect("asked").lines().count();
        assert!(
            setup_again().status.success() && times() == recorded.lines().count(),
            "a finished installation stays unchanged"
        );
    }
}

#[test]
fn a_named_massgen_that_does_not_run_is_not_replaced() {
    let folder = tempfile::tempdir().expect("temp");
    let ended =
        Command::new(PROGRAM).args(["setup", "--massgen", "/no/such/massgen", "--home"]).arg(folder.path()).output();
    let ended = ended.expect("ran");
    assert!(!ended.status.success());
    let stderr = String::from_utf8(ended.stderr).expect("UTF-8");
    assert!(
        stderr.contains("`/no/such/massgen` is not an executable file") && stderr.contains("--massgen"),
        "{stderr}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0, "nothing was set up");
}

#[tokio::test]
async fn empty_options_count_as_absent() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command
        .env("MASSGEN_MCP_MASSGEN", "")
        .env("MASSGEN_MCP_PROJECT", "${user_config.project}")
        .env("MASSGEN_MCP_MAX_WAIT_S", " ");
    lab.client_of(command).await.close().await;
}
