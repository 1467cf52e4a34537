//! Information before and after a start: dry runs, changes to the project, conversations, and which configs are ready.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, is_over, wait_until};

/// A stand-in that records each cold start and reports every config as valid.
const VALIDATING_STAND_IN: &str = r#"import builtins, os, sys, dotenv
if __name__ != "__main__":
    builtins.is_warm = True
elif not hasattr(builtins, "is_warm"):
    with open(os.path.join(os.path.expanduser("~"), "cold"), "a") as file:
        file.write("x")
if __name__ == "__main__":
    assert sys.argv[1] == "--validate" and sys.argv[3] == "--json", sys.argv
    print('{"valid": true, "warnings": [{"message": "asked in ' + os.path.basename(os.getcwd())[:6] + '"}]}')
"#;

const CONFIG: &str = "agents: [{id: a, backend: {type: vllm, model: m}}]\n";

fn dry_run_of(config: &str) -> Value {
    json!({"question": "q", "config": config, "dry_run": true})
}

#[tokio::test]
async fn a_dry_run_uses_the_warm_process_and_says_if_there_is_none() {
    let lab = Lab::python(VALIDATING_STAND_IN).await.warm();
    let cold = lab.home().join("cold");
    let cold = || std::fs::read_to_string(&cold).map(|starts| starts.len()).unwrap_or_default();
    let before = cold();
    lab.put("c.yaml", CONFIG);
    let client = lab.client().await;
    let report = client.call("run_massgen", dry_run_of("c.yaml")).await;
    assert!(report["ok"] == true && report["notes"].is_null(), "{report}");
    assert_eq!(report["warnings"][0]["code"], "massgen_warns", "the warning is MassGen's own: {report}");
    assert_eq!(cold(), before, "MassGen was not started cold");

    lab.warm_up(&["--stop"]);
    lab.put("other.yaml", &format!("{CONFIG}ui: {{}}\n"));
    let report = client.call("run_massgen", dry_run_of("other.yaml")).await;
    assert_eq!((&report["ok"], cold()), (&json!(true), before), "it has started a warm process: {report}");
    assert_eq!(lab.warm_processes().len(), 1);
    client.close().await;

    let mut command = lab.command();
    command.args(["--warm", "false"]);
    let client = lab.client_of(command).await;
    lab.put("third.yaml", &format!("{CONFIG}ui: {{x: 1}}\n"));
    let report = client.call("run_massgen", dry_run_of("third.yaml")).await;
    assert_eq!(cold(), before + 1);
    let note = report["notes"][0].as_str().unwrap_or_default();
    assert!(note.contains("the setting `warm` is off"), "{report}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_limits_of_the_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let arguments = json!({"questions": ["a", "b"], "configs": ["@rehearsal", "@rehearsal/delay=1"], "budget_usd": 1,
        "max_tokens": 5000, "dry_run": true});
    let report = client.call("run_massgen", arguments).await;
    assert_eq!((report["budget_usd"].as_f64(), report["max_tokens"].as_u64()), (Some(1.0), Some(5000)), "{report}");
    for arm in report["arms"].as_array().expect("arms") {
        let limits = &arm["dry_run"]["limits"];
        assert_eq!((limits["budget_usd"].as_f64(), limits["max_tokens"].as_u64()), (Some(1.0), Some(5000)), "{report}");
        assert!(arm["dry_run"]["forecast"].is_null(), "no data for a forecast: {report}");
    }
    client.close().await;
}

/// All files and folders below a folder.
fn all_paths(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("folder").flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { all_paths(&path) } else { BTreeSet::new() }.into_iter().chain([path]))
        .collect()
}

async fn run_with_write_access(client: &Client, script: &str, more: Value) -> (Value, Value) {
    let mut arguments = fake(script);
    let fields = arguments.as_object_mut().expect("object");
    let with_cwd = json!({"agents": {"a": {"backend": {"cwd": "workspace"}}}});
    let write = json!({"context": "write", "config": "c.yaml", "overrides": with_cwd});
    fields.extend(write.as_object().cloned().unwrap_or_default());
    fields.extend(more.as_object().cloned().unwrap_or_default());
    let start = client.call("run_massgen", arguments).await;
    let run = client.until(start["run_id"].as_str().expect("run_id"), is_over).await;
    (start, run)
}

/// A start with `context: write` that cannot write is refused; returns the suggested overrides.
async fn suggested_overrides(client: &Client, mut arguments: Value) -> Value {
    arguments["context"] = json!("write");
    arguments["question"] = json!("q");
    let (refused, refusal) = client.ask("run_massgen", arguments.clone()).await;
    assert_eq!((refused, &refusal["code"]), (true, &json!("context_unused")), "{refusal}");
    arguments["dry_run"] = json!(true);
    assert_eq!(client.refused("run_massgen", arguments).await, "context_unused");
    let hint = refusal["hint"].as_str().expect("hint");
    let (_, overrides) = hint.split_once("overrides: ").expect("overrides");
    let (overrides, _) = overrides.split_once("; or").expect("an end");
    serde_json::from_str(overrides).expect("JSON")
}

#[tokio::test]
async fn a_run_with_write_access_reports_its_changes_and_leaves_nothing_else() {
    let lab = Lab::fake();
    lab.put("c.yaml", CONFIG);
    lab.put("README.md", "old");
    lab.put(".massgen/config.yaml", CONFIG);
    let client = lab.client().await;
    let before = all_paths(&lab.project());

    let overrides = json!({"overrides": suggested_overrides(&client, json!({"config": "c.yaml"})).await});
    assert_eq!(overrides["overrides"]["agents"]["a"]["backend"]["cwd"], "workspace");
    let (start, run) =
        run_with_write_access(&client, "announce\nworkspace notes.txt x\nfinal agent_a done", overrides).await;
    assert_eq!(start["warnings"].as_array().map(Vec::len), None, "{start}");
    assert_eq!((&run["state"], &run["changed"]), (&json!("succeeded"), &json!([])), "{run}");
    assert_eq!(run["warning"]["code"], "nothing_changed", "{run}");
    assert_eq!(all_paths(&lab.project()), before, "nothing is left in the project");

    let (readme, new) = (lab.project().join("README.md"), lab.project().join("docs/new.md"));
    std::fs::create_dir(lab.project().join("docs")).expect("made");
    let script = format!("announce\nasked {}\ntouch {}\nfinal agent_a done", readme.display(), new.display());
    let (_, run) = run_with_write_access(&client, &script, json!({})).await;
    assert_eq!((&run["changed"], &run["warning"]), (&json!(["README.md", "docs/new.md"]), &Value::Null), "{run}");
    let many: Vec<String> = (0..30).map(|n| format!("touch {}/f{n:02}", lab.project().display())).collect();
    let (_, run) =
        run_with_write_access(&client, &format!("announce\n{}\nfinal agent_a done", many.join("\n")), json!({})).await;
    assert_eq!(run["changed"], json!(["f00", "f01", "f02", "27 more"]), "{run}");
    let full = json!({"run_id": run["run_id"], "detail": "full"});
    let full = client.call("check_status", full).await;
    assert_eq!(full["runs"][0]["changed"].as_array().map(Vec::len), Some(21), "{full}");

    let (_, run) = run_with_write_access(&client, &script, json!({"context": "read"})).await;
    assert_eq!(run["changed"], Value::Null, "only runs with write access report changes");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_config_of_a_queued_run_has_its_question_and_is_not_written_again() {
    let lab = Lab::fake();
    lab.put("c.yaml", CONFIG);
    lab.put("two.yaml", "agents: [{id: b, backend: {type: vllm, model: n}}]\n");
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_RUNS", "1");
    let client = lab.client_of(command).await;
    let first = client.start(fake("announce\nforever")).await;
    client.until(&first, |run| run["state"] == "running").await;
    let queued = |script: &str| json!({"question": format!("#!fake\n{script}"), "config": "c.yaml"});
    let second = client.start(queued("announce\nfinal agent_a second")).await;
    let third = client.start(queued("announce\nfinal agent_a third")).await;
    let experiment = client
        .call(
            "run_massgen",
            json!({"questions": ["#!fake\nannounce\nfinal agent_a fourth"], "configs": ["c.yaml", "two.yaml"]}),
        )
        .await;
    client.until(&third, |run| run["state"] == "queued").await;
    let file = |id: &str| lab.run_folder(id).join("config.yaml");
    let version = |id: &str| {
        let metadata = file(id).metadata().expect("config.yaml");
        (std::fs::read_to_string(file(id)).expect("config.yaml"), metadata.ino(), metadata.mtime_nsec())
    };
    let before = version(&second);
    assert!(before.0.contains("final agent_a second"), "{}", before.0);
    // A version of this program that left the question to the supervisor wrote such a config.
    std::fs::write(file(&third), CONFIG).expect("written");

    client.call("kill_run", json!({"run_id": first})).await;
    assert_eq!(client.end(&second).await["state"], "succeeded");
    assert_eq!(version(&second), before, "the supervisor only reads the config");
    let run = client.end(&third).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("start_failed")), "{run}");
    assert!(run["problem"]["message"].as_str().is_some_and(|text| text.contains("question of this run")), "{run}");
    let ids: Vec<&str> = experiment["run_ids"].as_array().expect("run_ids").iter().flat_map(Value::as_str).collect();
    assert_eq!(ids.len(), 2, "{experiment}");
    for id in ids {
        assert_eq!(client.end(id).await["state"], "succeeded");
        assert!(version(id).0.contains("final agent_a fourth"), "{}", version(id).0);
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_config_that_cannot_name_the_project_is_config_invalid_and_massgen_is_not_started() {
    let lab = Lab::fake();
    lab.put("c.yaml", "agents: [\n");
    let client = lab.client().await;
    let start = |context: &str| json!({"question": fake("announce\nfinal agent_a done")["question"], "config": "c.yaml", "context": context});
    let run = client.end(&client.start(start("read")).await).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("config_invalid")), "{run}");
    assert!(run["problem"]["message"].as_str().is_some_and(|text| text.contains("the config is no YAML")), "{run}");
    let id = client.start(start("none")).await;
    client.end(&id).await;
    let config = std::fs::read_to_string(lab.run_folder(&id).join("config.yaml")).expect("config.yaml");
    assert!(config.contains("\"prompt\": \"#!fake"), "MassGen gets the question and says what is wrong: {config}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn variables_of_the_project_reach_only_runs_with_the_project_as_context() {
    let lab = Lab::python(
        "import os, sys, dotenv\nif __name__ == '__main__':\n    dotenv.load_dotenv(os.path.join('configs', '.env'))\n    \
         print('value', os.environ.get('OF_PROJECT'))\n",
    )
    .await;
    lab.put("configs/.env", "OF_PROJECT=here\n");
    let client = lab.client().await;
    for (context, expected) in [("read", "value here\n"), ("none", "value None\n")] {
        let id = client.start(json!({"question": "q", "config": "@rehearsal", "context": context})).await;
        client.end(&id).await;
        let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("stdout");
        assert_eq!(output, expected, "{context}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn real_massgen_leaves_nothing_in_a_project_that_no_agent_changes() {
    let lab = Lab::real().await;
    let readme = lab.put("README.md", "old\n");
    let client = lab.client().await;
    let mut arguments = json!({"question": "q", "config": "@rehearsal/agents=1", "context": "write", "mode": "quick"});
    arguments["overrides"] = suggested_overrides(&client, json!({"config": "@rehearsal/agents=1"})).await;
    let start = client.call("run_massgen", arguments).await;
    assert!(start["warnings"].is_null(), "{start}");
    let run = client.until(start["run_id"].as_str().expect("run_id"), is_over).await;
    assert_eq!((&run["state"], &run["warning"]["code"]), (&json!("succeeded"), &json!("changes_not_applied")), "{run}");
    let effective =
        std::fs::read_to_string(lab.run_folder(run["run_id"].as_str().expect("run_id")).join("config.yaml"));
    let effective = effective.expect("config.yaml");
    assert!(effective.contains(lab.project().to_str().expect("UTF-8")) && effective.contains("write"), "{effective}");
    assert_eq!(all_paths(&lab.project()), BTreeSet::from([readme]));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_warm_start_reports_the_import_it_waited_for() {
    let go = "until = os.path.join(os.path.expanduser('~'), 'go')";
    let script = format!(
        "import os, sys, time, dotenv\n{go}\nif __name__ != '__main__':\n    while not os.path.exists(until):\n        \
         time.sleep(0.01)\n"
    );
    let lab = Lab::python(&script).await.with_warm_starts();
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    wait_until("the import is running", || lab.warm_processes().len() == 1).await;
    let started = std::time::Instant::now();
    wait_until("the import takes long enough to be reported", || started.elapsed().as_millis() > 1100).await;
    std::fs::write(lab.home().join("go"), "").expect("written");
    client.end(&id).await;
    let status = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let details = &status["runs"][0]["details"];
    assert!(details["start"] == "warm" && details["import_s"].as_u64() >= Some(1), "{details}");
    client.close().await;
    lab.warm_up(&["--stop"]);
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_continued_conversation_is_announced_and_from_with_it_is_refused() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let first = client.start(fake("announce\nfinal agent_a one")).await;
    client.end(&first).await;
    let arguments = json!({"question": "#!fake\nannounce\nfinal agent_a two", "continue_run": first});
    let answer = client.call("run_massgen", arguments).await;
    let announcement = answer["continues"].as_str().expect("an announcement");
    assert!(
        announcement.starts_with(&format!("turn 2 of the conversation of {first};")) && announcement.contains("config"),
        "{answer}"
    );
    client.end(answer["run_id"].as_str().expect("run_id")).await;
    let both = json!({"question": "q", "continue_run": first, "from": {"run_id": first}});
    let (_, refusal) = client.ask("run_massgen", both).await;
    let hint = refusal["hint"].as_str().unwrap_or_default();
    assert!(
        refusal["code"] == "from_conflict" && hint.contains("conversation") && hint.contains("material"),
        "{refusal}"
    );
    let (_, refusal) = client.ask("read_result", json!({"run_id": first, "part": "votes"})).await;
    let hint = refusal["hint"].as_str().unwrap_or_default();
    assert!(refusal["code"] == "bad_part" && hint.contains("report: who voted for what"), "{refusal}");
    client.close().await;
    lab.nobody_is_left().await;
}

fn config_names(listed: &Value) -> Vec<&str> {
    listed["configs"].as_array().expect("configs").iter().filter_map(|config| config["config"].as_str()).collect()
}

#[tokio::test]
async fn configs_are_found_by_requirement_and_listed_briefly() {
    let lab = Lab::real().await;
    let one = "agents:\n  - {id: a, backend: {type: chatcompletion, model: m, base_url: 'http://one:1/v1'}}\n";
    let two = "  - {id: b, backend: {type: chatcompletion, model: n, base_url: 'http://two:2/v1'}}\n";
    lab.put("good/one.yaml", one);
    lab.put("good/two.yaml", &format!("# Two providers.\n{one}{two}"));
    lab.put("keyless.yaml", "agents: [{id: a, backend: {type: gemini}}]\n");
    lab.put("away.yaml", one);
    let mut command = lab.command();
    command.env("OPENAI_API_KEY", "canary-of-a-test").env("MASSGEN_MCP_TRUSTED_CONFIGS", lab.project().join("good"));
    let client = lab.client_of(command).await;
    let list = async |query: &str| client.call("list_configs", json!({"query": query})).await;

    // An agent needs one call for this.
    let found = list("ready multi-provider project").await;
    let first = &found["configs"][0];
    assert_eq!((config_names(&found), &first["providers"]), (vec!["good/two.yaml"], &json!(2)), "{found}");
    assert_eq!(first["agents"], json!(["a: one:1/m", "b: two:2/n"]), "{found}");
    assert!(first["ready"] == true && first["keys"] == json!(["OPENAI_API_KEY"]), "{found}");

    let all = list("").await;
    assert_eq!(config_names(&all)[..2], ["good/one.yaml", "good/two.yaml"], "ready configs come first: {all}");
    assert!(all.to_string().len() < 4_000, "{} bytes: {all}", all.to_string().len());
    let own = list("project").await;
    let entry =
        |name: &str| own["configs"].as_array().expect("configs").iter().find(|one| one["config"] == name).cloned();
    assert_eq!(own["matching"], 4, "{own}");
    let (without_key, away) = (entry("keyless.yaml").expect("listed"), entry("away.yaml").expect("listed"));
    assert!(without_key["ready"] == false && without_key["missing_keys"].is_array(), "{own}");
    let problem = away["problem"].as_str().unwrap_or_default();
    assert!(away["ready"] == false && problem.starts_with("refused: "), "{own}");
    let (_, refusal) = client.ask("run_massgen", json!({"question": "q", "config": "away.yaml"})).await;
    assert_eq!(refusal["code"], "config_forbidden", "the list agrees with a start");
    assert!(refusal["hint"].as_str().is_some_and(|hint| hint.contains("~/.config/massgen/agents")), "{refusal}");

    assert_eq!(config_names(&list("rehearsal").await), ["@rehearsal"]);
    let none = list("no-such-word").await;
    assert!(none["hint"].as_str().is_some_and(|hint| hint.contains("multi-provider")), "{none}");
    client.close().await;
}
