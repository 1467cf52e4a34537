//! Hints: each refusal of a call says what to do next, and the call that follows its hint is accepted. `src/refusal/tests.rs` has
//! the hints of errors that a call cannot provoke.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::lab::{Client, Lab, fake, tooled, wait_until};

/// A call that is refused: the tool, its arguments, the code, a part of the hint, and the arguments that follow the hint.
struct Refused {
    tool: &'static str,
    arguments: Value,
    code: &'static str,
    hint: &'static str,
    /// Null if the hint asks for no call of the same tool, or names the operator.
    followed: Value,
}

/// More levels than overrides may have, and fewer than the protocol's reader accepts.
const LEVELS: usize = 115;

/// A row of a table, in the order of the fields.
fn row(tool: &'static str, arguments: Value, code: &'static str, hint: &'static str, followed: Value) -> Refused {
    Refused { tool, arguments, code, hint, followed }
}

/// The arguments of a start, with these in addition or in place of others; null takes one out.
pub(super) fn start(more: Value) -> Value {
    let mut asked = json!({"question": "q", "massgen_config": "team.yaml", "fresh": true});
    let fields = asked.as_object_mut().expect("object");
    for (name, value) in more.as_object().expect("object") {
        fields.insert(name.clone(), value.clone());
    }
    fields.retain(|_, value| !value.is_null());
    asked
}

async fn check(client: &Client, rows: Vec<Refused>) {
    let mut wrong = Vec::new();
    for Refused { tool, arguments, code, hint, followed } in rows {
        let (is_refused, told) = client.ask(tool, arguments.clone()).await;
        let is_expected =
            is_refused && told["code"] == code && told["hint"].as_str().is_some_and(|told| told.contains(hint));
        if !is_expected {
            wrong.push(format!("{tool} {arguments:.300} expected {code} {hint:?}, got {told:.600}"));
        }
        if !followed.is_null() {
            let (is_refused, told) = client.ask(tool, followed.clone()).await;
            if is_refused {
                wrong
                    .push(format!("{tool} {followed:.300} follows the hint of {code} {hint:?} and is refused: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Puts a config of two agents and a question file into the project.
pub(super) fn put_team(lab: &Lab) {
    let agent = |id: &str| format!("  - id: {id}\n    backend: {{type: chatcompletion, model: m}}\n");
    lab.put("team.yaml", &format!("agents:\n{}{}", agent("agent_a"), agent("agent_b")));
    lab.put("q.txt", "q");
}

#[tokio::test]
async fn a_refused_start_says_how_to_correct_it() {
    let lab = Lab::fake();
    put_team(&lab);
    let client = lab.client().await;
    let good = start(json!({}));
    let deep = (0..LEVELS).fold(json!(1), |inner, _| json!({"orchestrator": inner}));
    let run = |more: Value, code, hint, followed: &Value| row("run_massgen", start(more), code, hint, followed.clone());
    check(
        &client,
        vec![
            run(json!({"question_file": "q.txt"}), "question_conflict", "give exactly one of them", &good),
            run(json!({"question": null}), "question_missing", "give `question` or `question_file`", &start(json!({"question": null, "question_file": "q.txt"}))),
            run(json!({"question": " "}), "question_missing", "give `question` or `question_file`", &good),
            run(json!({"question": "a\u{0}b"}), "question_invalid", "take it out, then call again", &good),
            run(json!({"question": "x".repeat((1 << 20) + 1)}), "question_too_long", "put the material into files and use `context`: \"read\"", &Value::Null),
            run(json!({"question": null, "question_file": "nowhere.txt"}), "question_file_unreadable", "a path relative to the project", &start(json!({"question": null, "question_file": "q.txt"}))),
            run(json!({"group": "a\nb"}), "group_invalid", "choose a short label", &start(json!({"group": "a b"}))),
            run(json!({"request_key": "k".repeat(1000)}), "out_of_range", "choose a shorter one", &start(json!({"request_key": "k"}))),
            run(json!({"timeout_s": 0.5}), "out_of_range", "call again with `timeout_s` from 1 to", &start(json!({"timeout_s": 1}))),
            run(json!({"budget_usd": 1e-9}), "out_of_range", "call again with `budget_usd` from", &start(json!({"budget_usd": 0.01}))),
            run(json!({"massgen_config": "taem.yaml"}), "config_missing", "did you mean team.yaml? list_configs finds configs", &good),
            run(json!({"massgen_config": "zzzzzzzz"}), "config_missing", "list_configs finds configs. A config is a path relative to the project", &good),
            run(json!({"massgen_config": "/etc/passwd"}), "config_unsuitable", "give a MassGen config: a YAML or JSON file", &good),
            run(json!({"massgen_config": "@rehearsal/bogus"}), "rehearsal_invalid", "the rehearsal is @rehearsal, or @rehearsal/directive", &start(json!({"massgen_config": "@rehearsal"}))),
            run(json!({"overrides": {"agents": {"agent_c": {"backend": {"model": "n"}}}}}), "overrides_invalid", "its agents are agent_a, agent_b; did you mean", &start(json!({"overrides": {"agents": {"agent_a": {"backend": {"model": "n"}}}}}))),
            run(json!({"overrides": {"orchestrator": {"max_new_answer_per_agent": 1}}}), "overrides_invalid", "did you mean `orchestrator.max_new_answers_per_agent`?", &start(json!({"overrides": {"orchestrator": {"max_new_answers_per_agent": 1}}}))),
            run(json!({"overrides": {"agents": []}}), "overrides_invalid", "keep one at least", &good),
            run(json!({"overrides": {"agents": 7}}), "overrides_invalid", "`agents` must be", &good),
            run(json!({"overrides": deep}), "overrides_invalid", "call again with at most", &good),
            run(json!({"overrides": {"agents": {"agent_a": {"backend": {"api_key": "sk-0123456789abcdef0123456789"}}}}}), "secret_in_arguments", "write ${NAME_OF_A_VARIABLE} there, or leave it out", &good),
            run(json!({"context": "everything"}), "invalid_arguments", "call run_massgen again with", &start(json!({"context": "none"}))),
            run(json!({"questoin": "q"}), "invalid_arguments", "`question` is there: call run_massgen again with that, or without it", &good),
            run(json!({"continue_run": "mg-00000000"}), "unknown_run", "call check_status without arguments", &Value::Null),
            run(json!({"continue_run": "the last"}), "bad_run_id", "call check_status without arguments", &Value::Null),
            run(json!({"from_run": "mg-00000000", "continue_run": "mg-00000000"}), "from_conflict", "give one: with continue_run the same agents go on", &Value::Null),
        ],
    )
    .await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_refused_experiment_says_how_to_correct_it() {
    let lab = Lab::fake();
    put_team(&lab);
    let client = lab.client().await;
    let run = |more: Value, code, hint, followed: &Value| row("run_massgen", start(more), code, hint, followed.clone());
    let two = json!({"massgen_config": null, "configs": ["team.yaml", "@rehearsal"]});
    let with_group =
        |group: &str| start(json!({"massgen_config": null, "configs": ["team.yaml", "@rehearsal"], "group": group}));
    client.call("run_massgen", with_group("first")).await;
    check(
        &client,
        vec![
            run(
                json!({"configs": ["team.yaml"]}),
                "arguments_conflict",
                "nothing was started: give one of them",
                &start(two.clone()),
            ),
            run(
                json!({"questions": ["q"]}),
                "arguments_conflict",
                "nothing was started: give one of them",
                &start(json!({"question": null, "questions": ["q", "r"]})),
            ),
            run(
                json!({"question": null, "questions": ["q", "q "]}),
                "arguments_conflict",
                "name it once; `repeat` asks for it several times",
                &start(json!({"repeat": 2})),
            ),
            run(
                json!({"overrides": {"ui": {}}, "variants": [{"ui": {}}]}),
                "arguments_conflict",
                "write into each variant what all have",
                &Value::Null,
            ),
            run(
                json!({"repeat": 2, "continue_run": "mg-00000000"}),
                "arguments_conflict",
                "leave one or the other out; `from_run` gives one answer",
                &Value::Null,
            ),
            run(json!({"repeat": 1001}), "out_of_range", "ask for fewer, or split them over groups", &Value::Null),
            run(
                json!({"repeat": 2, "keep": 3}),
                "out_of_range",
                "call again with `keep` from 1 to 2",
                &start(json!({"repeat": 2, "keep": 2})),
            ),
            row(
                "run_massgen",
                with_group("first"),
                "group_taken",
                "choose a new group, or leave it out and get one",
                with_group("second"),
            ),
            run(
                json!({"group": "first"}),
                "group_taken",
                "choose a new group for this run, or leave it out",
                &start(json!({"group": "third"})),
            ),
        ],
    )
    .await;
    for group in ["first", "second"] {
        client.call("kill_run", json!({"group": group, "grace_s": 0})).await;
    }
    client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_refused_look_stop_or_message_says_how_to_correct_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let ended = client
        .start(fake("announce\nanswer agent_a done\nagent-log agent_a said\nworkspace notes.txt x\nfinal agent_a done"))
        .await;
    client.end(&ended).await;
    let live = client.start(fake("announce\nforever")).await;
    let steered =
        client.start(tooled("announce\nstatus {\"agents\": {\"agent_a\": {\"status\": \"answered\"}}}\nforever")).await;
    for id in [&live, &steered] {
        client.until(id, |run| run["state"] == "running").await;
    }
    wait_until("the agents are known", || lab.record(&steered)["digest"]["agents"].is_array()).await;
    let in_group = start(json!({"massgen_config": "@rehearsal", "group": "g", "wait_s": 50}));
    client.call("run_massgen", in_group).await;
    let of = |id: &str, more: Value| {
        let mut asked = more;
        asked["run_id"] = json!(id);
        asked
    };
    let list = "call check_status without arguments";
    check(
        &client,
        vec![
            row("check_status", json!({"run_id": "x"}), "bad_run_id", list, json!({})),
            row("check_status", json!({"run_id": "mg-00000000"}), "unknown_run", list, json!({})),
            row("check_status", json!({"group": "nowhere"}), "unknown_group", list, json!({})),
            row(
                "check_status",
                of(&ended, json!({"group": "g"})),
                "selection_unclear",
                "give at most one of them",
                json!({"group": "g"}),
            ),
            row(
                "check_status",
                of(&ended, json!({"live": true})),
                "selection_unclear",
                "leave out either `live` or the names",
                json!({"live": true}),
            ),
            row(
                "check_status",
                of(&ended, json!({"wait_s": -1})),
                "out_of_range",
                "call again with `wait_s` from 0 to",
                of(&ended, json!({"wait_s": 0})),
            ),
            row(
                "check_status",
                of(&ended, json!({"until": "soon"})),
                "invalid_arguments",
                "call check_status again with",
                json!({"until": "change"}),
            ),
            row("read_result", json!({}), "selection_unclear", list, of(&ended, json!({}))),
            row(
                "read_result",
                of(&ended, json!({"part": "soul"})),
                "bad_part",
                "answers: every agent's, with labels",
                of(&ended, json!({"part": "answers"})),
            ),
            row(
                "read_result",
                json!({"group": "g", "part": "log"}),
                "bad_part",
                "table (the default",
                json!({"group": "g", "part": "answers"}),
            ),
            row("read_result", of(&live, json!({})), "nothing_to_read", "check_status", Value::Null),
            row(
                "read_result",
                of(&ended, json!({"part": "file:nowhere.txt"})),
                "nothing_to_read",
                "part `files` lists what there is",
                of(&ended, json!({"part": "files"})),
            ),
            row(
                "read_result",
                of(&ended, json!({"part": "agent:nobody"})),
                "nothing_to_read",
                "there is output of: agent_a",
                of(&ended, json!({"part": "agent:agent_a"})),
            ),
            row("kill_run", json!({}), "selection_unclear", list, of(&ended, json!({}))),
            row(
                "kill_run",
                of(&ended, json!({"grace_s": 61})),
                "out_of_range",
                "call again with `grace_s` from 0 to 60",
                of(&ended, json!({"grace_s": 60})),
            ),
            row(
                "steer_run",
                of(&ended, json!({"message": "m"})),
                "run_over",
                "call run_massgen with continue_run set to this run",
                Value::Null,
            ),
            row(
                "steer_run",
                of(&live, json!({"message": "m"})),
                "agents_without_tools",
                "kill_run it and start again with the instruction in the question",
                Value::Null,
            ),
            row(
                "steer_run",
                of(&steered, json!({"message": "x".repeat(8_001)})),
                "message_invalid",
                "say in a few sentences",
                of(&steered, json!({"message": "m"})),
            ),
            row(
                "steer_run",
                of(&steered, json!({"message": "m", "agents": ["agent_x"]})),
                "unknown_agent",
                "did you mean agent_",
                of(&steered, json!({"message": "m", "agents": ["agent_a"]})),
            ),
            row(
                "steer_run",
                of(&steered, json!({"message": "m", "agents": ["zzz"]})),
                "unknown_agent",
                "leave `agents` out to reach all",
                of(&steered, json!({"message": "m"})),
            ),
            row(
                "list_configs",
                json!({"limit": 51}),
                "out_of_range",
                "call again with `limit` from 1 to 50",
                json!({"limit": 50}),
            ),
        ],
    )
    .await;
    for id in [&live, &steered] {
        client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}

/// What only the operator can change: the hint names the setting, and with that setting the same call is accepted.
#[tokio::test]
async fn a_refusal_by_the_operators_settings_names_the_setting_that_allows_it() {
    let lab = Lab::fake();
    put_team(&lab);
    let outside = tempfile::tempdir().expect("temp");
    let elsewhere = outside.path().join("team.yaml");
    std::fs::copy(lab.project().join("team.yaml"), &elsewhere).expect("copied");
    lab.put("tools.yaml", "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m, mcp_servers: [{name: s, type: stdio, command: sh}]}\n");
    let untrusted = |settings: &[(&str, String)]| -> Command {
        let mut command = lab.command();
        command.env_remove("MASSGEN_MCP_TRUSTED_CONFIGS");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command
    };
    let away = start(json!({"massgen_config": elsewhere}));
    let tools = start(json!({"massgen_config": "tools.yaml"}));
    let folder = |path: &std::path::Path| path.display().to_string();
    let day = start(json!({"budget_usd": 2}));
    let table = [
        (
            away.clone(),
            "config_outside",
            "read_folders",
            vec![],
            vec![("MASSGEN_MCP_READ_FOLDERS", folder(outside.path()))],
        ),
        (
            tools.clone(),
            "config_forbidden",
            "trusted_configs",
            vec![],
            vec![("MASSGEN_MCP_TRUSTED_CONFIGS", folder(&lab.project()))],
        ),
        (tools, "config_forbidden", "allow_commands", vec![], vec![("MASSGEN_MCP_ALLOW_COMMANDS", "true".to_owned())]),
        (
            day.clone(),
            "budget_not_allowed",
            "only the operator can raise it",
            vec![("MASSGEN_MCP_BUDGET_USD", "1".to_owned())],
            vec![("MASSGEN_MCP_BUDGET_USD", "2".to_owned())],
        ),
        (
            day,
            "budget_exhausted",
            "ask for no more than what is left",
            vec![("MASSGEN_MCP_DAY_BUDGET_USD", "1".to_owned())],
            vec![("MASSGEN_MCP_DAY_BUDGET_USD", "9".to_owned())],
        ),
    ];
    for (asked, code, hint, refusing, allowing) in table {
        let client = lab.client_of(untrusted(&refusing)).await;
        check(&client, vec![row("run_massgen", asked.clone(), code, hint, Value::Null)]).await;
        client.close().await;
        let client = lab.client_of(untrusted(&allowing)).await;
        let (is_refused, told) = client.ask("run_massgen", asked).await;
        assert!(!is_refused, "{code}: {allowing:?} allows it: {told}");
        client.call("kill_run", json!({"run_id": told["run_id"], "grace_s": 0})).await;
        client.close().await;
    }
    lab.nobody_is_left().await;
}

/// A `configs/.env` file of the project that sets more than keys, and a project folder that was removed.
#[tokio::test]
async fn a_refusal_by_what_the_project_has_says_who_can_help() {
    let lab = Lab::fake();
    put_team(&lab);
    let env_file = lab.put("configs/.env", "OPENAI_BASE_URL=http://127.0.0.1:9\n");
    let mut command = lab.command();
    command.env_remove("MASSGEN_MCP_TRUSTED_CONFIGS");
    let client = lab.client_of(command).await;
    let asked = start(json!({"context": "read", "massgen_config": "@rehearsal"}));
    let refused = row(
        "run_massgen",
        asked.clone(),
        "env_file_forbidden",
        "only the operator can help: move that variable into the server's env_file",
        Value::Null,
    );
    check(&client, vec![refused]).await;
    std::fs::remove_file(env_file).expect("removed");
    std::fs::remove_dir_all(lab.project()).expect("removed");
    let refused = row(
        "run_massgen",
        asked,
        "no_project",
        "name its folder with --project or MASSGEN_MCP_PROJECT",
        start(json!({"massgen_config": "@rehearsal"})),
    );
    check(&client, vec![refused]).await;
    client.close().await;
    lab.nobody_is_left().await;
}
