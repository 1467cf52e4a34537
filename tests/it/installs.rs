//! Installations of MassGen: behind links, as `uv tool install` and pipx create them, and one that cannot be imported. Each is the real
//! MassGen behind links, with a folder of packages in front of its own; the tests install nothing.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use massgen_mcp::massgen::program;
use serde_json::{Value, json};

use crate::lab::Lab;

/// Writes an executable file.
fn put_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("folder")).expect("mkdir");
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// The `site-packages` folder that a program is installed in.
fn site_packages(program: &Path) -> PathBuf {
    program::package(program).expect("package").parent().expect("folder").to_owned()
}

/// A virtual environment with MassGen's script. Its packages take precedence over those of the real MassGen.
fn layered_venv(lab: &Lab) -> PathBuf {
    let real = lab.massgen().canonicalize().expect("MassGen");
    let python = program::interpreter(&real).expect("interpreter");
    let venv = lab.project().join("layered");
    let site = venv.join("lib").join(site_packages(&real).parent().expect("python").file_name().expect("name"));
    let site = site.join("site-packages");
    std::fs::create_dir_all(&site).expect("mkdir");
    std::fs::write(site.join("real.pth"), site_packages(&real).to_str().expect("UTF-8")).expect("written");
    let settings = python.parent().and_then(Path::parent).expect("environment").join("pyvenv.cfg");
    std::fs::copy(settings, venv.join("pyvenv.cfg")).expect("copied");
    let script = std::fs::read_to_string(&real).expect("script");
    let rest = script.split_once('\n').expect("lines").1;
    put_program(&venv.join("bin/massgen"), &format!("#!{}\n{rest}", venv.join("bin/python").display()));
    symlink(python.canonicalize().expect("Python"), venv.join("bin/python")).expect("linked");
    venv
}

/// Imitates mcp 2 for MassGen: the real mcp package without the function that mcp 2 removed.
fn put_mcp_2(venv: &Path, real: &Path) {
    let python = std::fs::read_dir(venv.join("lib")).expect("lib").flatten().next().expect("python").path();
    let site = python.join("site-packages");
    let copied = std::process::Command::new("cp").arg("-r").arg(real.join("mcp")).arg(&site).status();
    assert!(copied.expect("cp").success());
    let module = site.join("mcp/client/streamable_http.py");
    let text = std::fs::read_to_string(&module).expect("module").replace("streamablehttp_client", "renamed_client");
    std::fs::write(module, text).expect("written");
    std::fs::create_dir(site.join("mcp-2.3.0.dist-info")).expect("mkdir");
}

#[tokio::test]
async fn real_massgen_behind_a_chain_of_links_has_its_tools() {
    let lab = Lab::real().await;
    let real = lab.massgen().canonicalize().expect("MassGen");
    let (first, second) = (lab.home().join("tools/massgen"), lab.home().join(".local/bin/massgen"));
    for (link, to) in [(&first, real.as_path()), (&second, Path::new("../../tools/massgen"))] {
        std::fs::create_dir_all(link.parent().expect("folder")).expect("mkdir");
        symlink(to, link).expect("linked");
    }
    let lab = lab.named(second);
    let client = lab.client().await;
    let config = "@rehearsal/agents=1/command=echo%20by%20hand%20%3Enote.txt";
    let id = client.start(json!({"question": "write it", "config": config})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], run.get("warning")), (&json!("succeeded"), None), "{run}");
    let bin = std::fs::read_link(lab.run_folder(&id).join("bin")).expect("link");
    assert_eq!(Some(bin.as_path()), real.parent());
    let files = client.call("read_result", json!({"run_id": id, "part": "files"})).await;
    assert!(files["text"].as_str().expect("text").contains("note.txt"), "command_line ran: {files}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_doctor_warns_when_tools_are_not_next_to_the_interpreter() {
    let lab = Lab::real().await;
    let venv = layered_venv(&lab);
    let lab = lab.named(venv.join("bin/massgen"));
    let checked = |lab: &Lab| {
        let output = lab.command().into_std().args(["doctor", "--json", "--no-rehearsal"]).output().expect("ran");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("list").iter();
        checks.filter(|check| check["check"] == "tools").map(|check| check["verdict"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(checked(&lab), ["warning"]);
    put_program(&venv.join("bin/fastmcp"), "#!/bin/sh\n");
    assert_eq!(checked(&lab), ["ok"]);
}

#[tokio::test]
async fn real_massgen_that_cannot_be_imported_fails_once_and_is_refused_afterwards() {
    let lab = Lab::real().await;
    let real = site_packages(lab.massgen());
    let venv = layered_venv(&lab);
    put_mcp_2(&venv, &real);
    let lab = lab.named(venv.join("bin/massgen"));
    let client = lab.client().await;
    // MassGen's metadata is not where the server looks for its version, so the first start is not refused.
    let arguments = json!({"question": "q", "config": "@rehearsal"});
    let id = client.start(arguments.clone()).await;
    let run = client.end(&id).await;
    let problem = &run["problem"];
    assert_eq!((&problem["code"], &problem["retry"]), (&json!("massgen_broken"), &json!("no")), "{run}");
    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let message = full["runs"][0]["problem"]["message"].as_str().expect("message");
    assert!(problem["message"].as_str().expect("message").contains("mcp 2.3.0"), "{run}");
    assert!(message.contains("mcp 2.3.0") && message.contains("streamablehttp_client"), "{run}");
    let hint = problem["hint"].as_str().expect("hint");
    assert!(hint.contains("pip install 'mcp<2'") && hint.contains("massgen-mcp setup"), "{run}");
    let tried = std::fs::read_dir(lab.state().join("runs")).expect("runs").count();

    assert_eq!(
        client.refused("run_massgen", json!({"question": "other", "config": "@rehearsal"})).await,
        "massgen_broken"
    );
    let dry = json!({"question": "other", "config": "@rehearsal", "dry_run": true});
    assert_eq!(client.refused("run_massgen", dry).await, "massgen_broken");
    let listed = client.call("list_configs", json!({})).await;
    assert_eq!(listed["problem"]["code"], "massgen_broken", "{listed}");
    assert_eq!(std::fs::read_dir(lab.state().join("runs")).expect("runs").count(), tried, "no other run was created");

    // After a change of the installation the server tries again.
    let site = venv.join("lib").join(real.parent().expect("python").file_name().expect("name")).join("site-packages");
    std::fs::rename(site.join("mcp-2.3.0.dist-info"), site.join("mcp-1.30.0.dist-info")).expect("renamed");
    std::fs::remove_dir_all(site.join("mcp")).expect("removed");
    let id = client.start(arguments).await;
    assert_eq!(client.end(&id).await["state"], "succeeded");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_dry_run_reports_that_real_massgen_cannot_be_imported() {
    let lab = Lab::real().await;
    let real = site_packages(lab.massgen());
    let venv = layered_venv(&lab);
    put_mcp_2(&venv, &real);
    let lab = lab.named(venv.join("bin/massgen"));
    lab.put(
        "c.yaml",
        "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m, base_url: 'http://127.0.0.1:9'}\n",
    );
    let client = lab.client().await;
    let arguments = json!({"question": "q", "config": "c.yaml", "dry_run": true});
    assert_eq!(client.refused("run_massgen", arguments).await, "massgen_broken");
    let listed = client.call("list_configs", json!({})).await;
    assert_eq!(listed["problem"]["code"], "massgen_broken", "no second run was started: {listed}");
    client.close().await;
}

#[tokio::test]
async fn incompatible_versions_are_refused_without_a_start() {
    let lab = Lab::fake();
    let venv = lab.project().join("venv");
    let tried = venv.join("tried");
    for package in ["massgen-0.1.12", "mcp-2.3.0"] {
        std::fs::create_dir_all(venv.join(format!("lib/python3.11/site-packages/{package}.dist-info"))).expect("mkdir");
    }
    put_program(&venv.join("bin/python"), &format!("#!/bin/sh\ntouch {}\nexit 1\n", tried.display()));
    put_program(&venv.join("bin/massgen"), &format!("#!{}\n", venv.join("bin/python").display()));
    let lab = lab.named(venv.join("bin/massgen"));
    let client = lab.client().await;
    let (is_refused, refusal) = client.ask("run_massgen", json!({"question": "q", "config": "@rehearsal"})).await;
    assert!(is_refused && refusal["code"] == "massgen_broken", "{refusal}");
    assert!(refusal["message"].as_str().expect("message").contains("mcp 2.3.0"), "{refusal}");
    assert_eq!(client.call("list_configs", json!({})).await["problem"]["retry"], "no");
    assert!(!tried.exists(), "nothing was executed");
    client.close().await;

    let setup = lab.command().into_std().arg("setup").stderr(std::process::Stdio::piped()).output().expect("ran");
    let output = String::from_utf8_lossy(&setup.stderr).into_owned();
    assert!(!setup.status.success() && output.contains("mcp 2.3.0") && output.contains("--massgen"), "{output}");
    let doctor = lab.command().into_std().args(["doctor", "--no-rehearsal"]).output().expect("ran");
    let output = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(output.contains("problem  MassGen: ") && output.contains("mcp<2"), "{output}");
}
