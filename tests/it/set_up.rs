//! `massgen-mcp setup` where it cannot work: a clear error that says what to install. That it works where it can is seen by
//! every test on real MassGen, which is set up by the same code.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, PROGRAM};

/// Runs `setup` with nothing but these programs in PATH; what it says on standard error.
fn refused(programs: &[(&str, &str)]) -> String {
    let world = tempfile::tempdir().expect("temp");
    for (name, script) in programs {
        let path = world.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let state = world.path().join("state");
    let mut command = Command::new(PROGRAM);
    command.arg("setup").arg("--home").arg(&state).env("PATH", world.path()).env("HOME", world.path());
    for name in ["MASSGEN_MCP_MASSGEN", "MASSGEN_MCP_HOME", "MASSGEN_MCP_PROJECT"] {
        command.env_remove(name);
    }
    let ended = command.current_dir(world.path()).output().expect("ran");
    assert!(!ended.status.success());
    assert!(!Path::new(&state).join("massgen-0.1.97/.finished").exists());
    String::from_utf8(ended.stderr).expect("UTF-8")
}

#[test]
fn without_python_it_says_what_to_install() {
    let said = refused(&[]);
    assert!(said.contains("MassGen needs Python 3.11") && said.contains("no python3 is in PATH"), "{said}");
    assert!(said.contains("hint: ") && said.contains("apt-get install python3"), "{said}");
}

#[test]
fn a_python_that_is_too_old_is_named() {
    let said = refused(&[("python3", "echo 3 9")]);
    assert!(said.contains("python3 is 3.9"), "{said}");
}

#[test]
fn a_python_without_venv_leads_to_its_package() {
    let said =
        refused(&[("python3", "case \"$1\" in -c) echo 3 11;; *) echo 'No module named venv' >&2; exit 1;; esac")]);
    assert!(said.contains("No module named venv") && said.contains("apt-get install python3-venv"), "{said}");
}

#[test]
fn a_named_massgen_that_does_not_run_is_not_replaced() {
    let world = tempfile::tempdir().expect("temp");
    let ended =
        Command::new(PROGRAM).args(["setup", "--massgen", "/no/such/massgen", "--home"]).arg(world.path()).output();
    let ended = ended.expect("ran");
    assert!(!ended.status.success());
    let said = String::from_utf8(ended.stderr).expect("UTF-8");
    assert!(said.contains("`/no/such/massgen` is not an executable file") && said.contains("--massgen"), "{said}");
    assert_eq!(std::fs::read_dir(world.path()).expect("list").count(), 0, "nothing was set up");
}

#[tokio::test]
async fn options_that_were_left_empty_count_as_not_given() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command
        .env("MASSGEN_MCP_MASSGEN", "")
        .env("MASSGEN_MCP_PROJECT", "${user_config.project}")
        .env("MASSGEN_MCP_MAX_WAIT_S", " ");
    lab.client_of(command).await.close().await;
}
