//! The examples work: the client completes a run, MassGen accepts the meta-agent's config, the snippets are well-formed.

use std::path::{Path, PathBuf};

use crate::lab::{Lab, PROGRAM};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

#[tokio::test]
async fn the_example_client_completes_a_run_of_real_massgen() {
    let lab = Lab::real().await;
    let client = Path::new(PROGRAM).with_file_name("examples").join("client");
    let mut command = tokio::process::Command::new(client);
    lab.surroundings(&mut command);
    let ended = command
        .env("MASSGEN_MCP", PROGRAM)
        .arg("How many?")
        .output()
        .await
        .expect("the example, which a whole `cargo test` builds");
    let (answer, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{stderr}");
    assert!(answer.contains("How many?") && stderr.contains("\"succeeded\""), "{answer} {stderr}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn massgen_accepts_the_meta_agent_config() {
    let lab = Lab::real().await;
    let mut command = tokio::process::Command::new(lab.massgen());
    lab.surroundings(&mut command);
    command.arg("--validate").arg(example("meta_agent.yaml")).args(["--strict", "--json"]).current_dir(lab.project());
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").stdin(std::process::Stdio::null());
    let ended = command.output().await.expect("ran");
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!((&report["valid"], &report["warning_count"]), (&true.into(), &0.into()), "{report}");
}

#[test]
fn snippets_of_untested_clients_are_well_formed() {
    for name in ["claude-desktop.json", "cursor.json", "vscode.json"] {
        let text = std::fs::read_to_string(example("clients").join(name)).expect("snippet");
        let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let servers = config.get("mcpServers").or(config.get("servers")).expect("servers");
        assert_eq!(servers["massgen"]["command"], "massgen-mcp", "{name}");
    }
}

/// The document with each quoted snippet replaced by the content of the file that it names.
fn with_snippets(document: &str) -> String {
    const MARK: &str = "<!-- file: ";
    let mut parts = document.split(MARK);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").expect("the end of the mark");
        let text = std::fs::read_to_string(example("clients").join(name)).expect("snippet");
        let language = match Path::new(name).extension().and_then(|ending| ending.to_str()) {
            Some("py") => "python",
            Some(ending) => ending,
            None => "",
        };
        let after =
            rest.strip_prefix("```").and_then(|quote| quote.split_once("\n```\n")).map_or(rest, |(_, after)| after);
        result += &format!("{MARK}{name} -->\n```{language}\n{text}```\n{after}");
    }
    result
}

#[test]
fn documented_snippets_are_those_of_the_client_tests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let document = std::fs::read_to_string(&path).expect("document");
    let expected = with_snippets(&document);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).expect("written");
    } else {
        assert_eq!(document, expected, "UPDATE_GOLDEN=1 rewrites it");
    }
    for file in std::fs::read_dir(example("clients")).expect("folder").flatten() {
        let name = file.file_name().into_string().expect("UTF-8");
        let (quote, link) = (format!("<!-- file: {name} -->"), format!("(../examples/clients/{name})"));
        assert!(expected.contains(&quote) || expected.contains(&link), "docs/clients.md does not show {name}");
    }
}

#[test]
fn every_tested_client_has_a_documented_snippet_and_pinned_versions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let read =
        |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document = read(folder.join("../../docs/clients.md"));
    for client in read(folder.join("clients.toml")).split("\n[").skip(1) {
        let (id, rows) = client.split_once("]\n").expect("a name");
        let value = |key: &str| {
            let start = format!("{key} = \"");
            rows.lines().find_map(|line| line.strip_prefix(&start)).map(|rest| rest.trim_end_matches('"'))
        };
        for name in [value("snippet").or_else(|| panic!("{id} has no snippet")), value("program")].into_iter().flatten()
        {
            assert!(document.contains(&format!("<!-- file: {name} -->")), "docs/clients.md does not quote {name}");
        }
        let pins = if value("npm").is_some() { format!("npm/{id}/package-lock.json") } else { format!("pip/{id}.txt") };
        assert!(!read(folder.join(pins)).is_empty(), "{id} has no pins");
    }
}

#[test]
fn the_example_settings_file_is_accepted_and_names_every_setting() {
    let lab = Lab::fake();
    let settings_file = lab.home().join(".config/massgen-mcp/massgen-mcp.toml");
    std::fs::create_dir_all(settings_file.parent().expect("folder")).expect("mkdir");
    std::fs::copy(example("massgen-mcp.toml"), &settings_file).expect("copied");
    let settings = || {
        let mut command = lab.command().into_std();
        for name in ["STARTS_PER_MINUTE", "MAX_RUNS", "TRUSTED_CONFIGS", "WARM"] {
            command.env_remove(format!("MASSGEN_MCP_{name}"));
        }
        command.arg("settings").output().expect("ran")
    };
    let ended = settings();
    let output = String::from_utf8(ended.stdout).expect("UTF-8");
    assert!(ended.status.success(), "{output}");
    assert!(output.starts_with(&format!("settings file: {}", settings_file.display())), "{output}");
    assert!(output.contains("massgen-mcp.toml, line "), "{output}");
    // The settings that are commented out must be valid too.
    let text = std::fs::read_to_string(&settings_file).expect("text");
    let all: Vec<_> = text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect();
    std::fs::write(&settings_file, all.join("\n")).expect("written");
    for folder in ["papers", "massgen"] {
        std::fs::create_dir(lab.home().join(folder)).expect("mkdir");
    }
    std::fs::write(lab.home().join("massgen/keys.env"), "").expect("written");
    let output = String::from_utf8(settings().stdout).expect("UTF-8");
    let from_file = output.lines().filter(|line| line.contains("massgen-mcp.toml, line ")).count();
    // The lab gives home, project and MassGen's program by flag.
    assert_eq!(from_file, massgen_mcp::settings::TABLE.len() - 3, "{output}");
}
