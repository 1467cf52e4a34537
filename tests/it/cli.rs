//! The commands for people, as processes: their output as text and as JSON, and their exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, tooled, wait_until};

mod screen;

/// This program with the lab's flags and these arguments.
fn command(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.command().into_std();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(lab: &Lab, arguments: &[&str]) -> Output {
    command(lab, arguments).output().expect("ran")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The output of a command that must succeed.
fn stdout_of(lab: &Lab, arguments: &[&str]) -> String {
    let output = run(lab, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn json_of(lab: &Lab, arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout_of(lab, arguments)).expect("JSON")
}

fn exit_code(lab: &Lab, arguments: &[&str]) -> i32 {
    run(lab, arguments).status.code().expect("a code")
}

/// Runs the stand-in in a group to its end; returns the run id.
async fn run_to_end(client: &Client, script: &str, group: &str) -> String {
    let id = start_run(client, script, group).await;
    client.end(&id).await;
    id
}

async fn start_run(client: &Client, script: &str, group: &str) -> String {
    let mut arguments = fake(script);
    arguments["group"] = json!(group);
    client.start(arguments).await
}

#[tokio::test]
async fn runs_are_printed_as_text_and_json_without_terminal_escapes() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let escapes = json!("final agent_a an \u{1b}[2Janswer\u{202e}");
    let succeeded = run_to_end(&client, &format!("announce\nlog \u{1b}]0;title\u{7}here\nraw {escapes}"), "g1").await;
    let failed = run_to_end(&client, "announce\nexit 1", "g2").await;

    let listed = stdout_of(&lab, &["runs"]);
    assert!(listed.find(&failed) < listed.find(&succeeded) && listed.contains("[g1] "), "the newest first: {listed}");
    assert!(!listed.contains('\u{1b}'), "{listed:?}");
    assert!(!stdout_of(&lab, &["runs", "--group", "g1"]).contains(&failed));
    let mut report = json_of(&lab, &["runs", "--json"]);
    let mut checked = client.call("check_status", json!({})).await;
    for listed in [&mut report, &mut checked] {
        let runs = listed["runs"].as_array_mut().expect("runs").iter_mut();
        assert!(runs.map(|run| run["age_s"].take()).all(|age| age.is_u64()), "age_s grows, so it is not compared");
    }
    let hint_of = |answer: &mut Value| answer["runs"][0]["problem"]["hint"].take().to_string();
    let (for_person, for_agent) = (hint_of(&mut report), hint_of(&mut checked));
    assert!(
        for_person.contains("massgen-mcp result") && for_agent.contains("read_result"),
        "each in its reader's words"
    );
    assert_eq!((&report["runs"], &report["today"]), (&checked["runs"], &checked["today"]), "as the tool shows them");
    assert!(listed.contains("2 runs, 0 of them live"), "{listed}");

    let status = stdout_of(&lab, &["status", &succeeded, &failed]);
    for fact in ["state: succeeded", "winner: agent_a", "config: @rehearsal", "problem:", "  hint: "] {
        assert!(status.lines().any(|line| line.starts_with(fact)), "{fact} in {status}");
    }
    let full = client.call("check_status", json!({"run_ids": [succeeded, failed], "detail": "full"})).await;
    let report = json_of(&lab, &["status", &succeeded, &failed, "--json"]);
    assert_eq!(report["runs"][0]["details"], full["runs"][0]["details"]);

    assert_eq!(stdout_of(&lab, &["result", &succeeded]), "an ␛[2Janswer\u{fffd}\n");
    let report = json_of(&lab, &["result", &succeeded, "--json"]);
    assert_eq!((&report["text"], &report["partial"]), (&json!("an ␛[2Janswer\u{fffd}"), &json!(false)), "{report}");
    assert_eq!((&report["winner"], &report["state"]), (&json!("agent_a"), &json!("succeeded")));
    assert_eq!(stdout_of(&lab, &["logs", &succeeded]), "␛]0;title␇here\n");
    assert!(stdout_of(&lab, &["result", &failed, "--part", "errors"]).contains(": "));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_refused_command_prints_code_and_hint() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let bare = run_to_end(&client, "announce\nexit 1", "g").await;
    client.close().await;
    for (arguments, expected_code) in [
        (&["status", "mg-00000000"][..], "unknown_run"),
        (&["wait", "nonsense"], "bad_run_id"),
        (&["kill", "--group", "none"], "unknown_group"),
        (&["result", &bare], "nothing_to_read"),
        (&["result", &bare, "--part", "all"], "bad_part"),
        (&["kill", &bare, "--grace-s", "61"], "out_of_range"),
        (&["runs", "--max-runs", "0"], "settings_invalid"),
        (&["runs", "--env-file", "Cargo.toml"], "env_file"),
        (&["status", "mg-00000000", "--home", "Cargo.toml"], "state_folder"),
    ] {
        let in_words = run(&lab, arguments);
        assert_eq!((in_words.status.code(), stdout(&in_words).as_str()), (Some(1), ""), "{arguments:?}");
        let report = stderr(&in_words);
        let lines: Vec<_> = report.lines().collect();
        assert!(lines.len() == 2 && lines[0].ends_with(&format!("({expected_code})")), "{report}");
        assert!(lines[1].starts_with("hint: ") && !lines[1].contains("check_status"), "{report}");
        let as_json = run(&lab, &[arguments, &["--json"]].concat());
        let report: Value = serde_json::from_str(&stderr(&as_json)).expect("JSON");
        assert_eq!((as_json.status.code(), &report["code"]), (Some(1), &json!(expected_code)), "{report}");
        assert!(report["message"].is_string() && report["hint"].is_string(), "{report}");
    }
    for arguments in [&["watch"][..], &["logs", "nonsense"]] {
        let output = run(&lab, arguments);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{arguments:?}");
        assert!(stderr(&output).contains("\nhint: "), "{}", stderr(&output));
    }
    assert!(stderr(&run(&lab, &["watch"])).contains("(no_terminal)"));
    assert_eq!(exit_code(&lab, &["wait"]), 2, "of nothing");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_outcome() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let succeeded = run_to_end(&client, "announce\nfinal agent_a done", "all").await;
    let failed = run_to_end(&client, "announce\nexit 1", "all").await;
    let mut arguments = fake("announce\nforever");
    arguments["timeout_s"] = json!(1);
    let late = client.start(arguments).await;
    let killed = start_run(&client, "announce\nforever", "all").await;
    assert_eq!(exit_code(&lab, &["wait", &succeeded]), 0);
    assert_eq!(exit_code(&lab, &["wait", &failed]), 3);
    assert_eq!(exit_code(&lab, &["wait", &late]), 4);
    assert_eq!(exit_code(&lab, &["wait", &killed, "--timeout-s", "1"]), 124);
    assert_eq!(exit_code(&lab, &["wait", &killed, &succeeded, "--any"]), 0);
    client.call("kill_run", json!({"run_id": killed, "grace_s": 0})).await;
    assert_eq!(exit_code(&lab, &["wait", "--group", "all"]), 6, "the largest");

    let costs = r#"{"total_estimated_cost": 9, "total_input_tokens": 1, "total_output_tokens": 0}"#;
    let mut arguments = fake(&format!("announce\nstatus {{\"costs\": {costs}, \"agents\": {{}}}}\nforever"));
    arguments["budget_usd"] = json!(1);
    let expensive = client.start(arguments).await;
    assert_eq!(exit_code(&lab, &["wait", &expensive]), 5);
    let lost = client.start(fake("announce\nforever")).await;
    client.until(&lost, |run| run["state"] == "running").await;
    let is_supervisor = |line: &&String| line.contains(" supervise ");
    wait_until("no other supervisor is running", || lab.processes().iter().filter(is_supervisor).count() == 1).await;
    lab.kill_supervisor();
    assert_eq!(exit_code(&lab, &["wait", &lost]), 7);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_prints_a_line_for_each_change() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let script = format!("announce\nuntil {}\nfinal agent_a done", gate.display());
    let id = client.start(fake(&script)).await;
    client.until(&id, |run| run["state"] == "running").await;
    let mut waiting = command(&lab, &["wait", &id, "--json"]).spawn().expect("starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("stdout")).lines();
    let mut next =
        || -> Option<Value> { lines.next().map(|line| serde_json::from_str(&line.expect("read")).expect("JSON")) };
    let first = next().expect("a line");
    assert_eq!((&first["run_id"], &first["state"]), (&json!(id), &json!("running")), "{first}");
    std::fs::write(&gate, "").expect("written");
    let last = std::iter::from_fn(&mut next).last().expect("a line");
    assert_eq!((&last["state"], &last["winner"]), (&json!("succeeded"), &json!("agent_a")), "{last}");
    assert_eq!(waiting.wait().expect("status").code(), Some(0));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_kill_prints_its_receipt_and_a_partial_answer_is_marked() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let first = start_run(&client, "announce\nanswer agent_a so far\nforever", "two").await;
    let second = start_run(&client, "announce\nignore\nforever", "two").await;
    for id in [&first, &second] {
        client.until(id, |run| run["state"] == "running").await;
    }
    let report = json_of(&lab, &["kill", "--group", "two", "--grace-s", "0.2", "--reason", "enough", "--json"]);
    let receipts = report["receipts"].as_array().expect("list");
    assert!(receipts.len() == 2 && receipts.iter().all(|receipt| receipt["state"] == "killed"), "{report}");
    assert_eq!(lab.record(&second)["ending"]["outcome"], "killed");
    assert!(stdout_of(&lab, &["status", &second]).contains("reason: enough"));
    let repeated = stdout_of(&lab, &["kill", &first]);
    assert!(repeated.starts_with(&format!("{first}  killed  ")), "{repeated}");
    let read = run(&lab, &["result", &first]);
    assert_eq!((stdout(&read).as_str(), read.status.code()), ("so far\n", Some(0)));
    assert!(stderr(&read).contains("only the best answer so far"), "{}", stderr(&read));
    client.close().await;
    lab.nobody_is_left().await;
}

/// Reads the output of a process until it contains this text.
fn read_until(child: &mut Child, expected: &str) -> String {
    let (mut printed, mut byte) = (Vec::new(), [0]);
    let stream = child.stdout.as_mut().expect("stdout");
    while !String::from_utf8_lossy(&printed).ends_with(expected) {
        assert_eq!(stream.read(&mut byte).expect("read"), 1, "{}", String::from_utf8_lossy(&printed));
        printed.push(byte[0]);
    }
    String::from_utf8(printed).expect("UTF-8")
}

#[tokio::test]
async fn a_log_is_followed_to_the_end_of_its_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let script = format!("announce\nlog first\nuntil {}\nfinal agent_a done", gate.display());
    let id = client.start(fake(&script)).await;
    client.until(&id, |run| run["state"] == "running").await;
    let mut following = command(&lab, &["logs", &id, "--follow"]).spawn().expect("starts");
    assert_eq!(read_until(&mut following, "\n"), "first\n");
    let log = lab.run_folder(&id).join("logs/log_20260101_000000_000000/turn_1/attempt_1/massgen.log");
    let mut file = std::fs::File::options().append(true).open(log).expect("the log");
    std::io::Write::write_all(&mut file, "zażółć \u{1b}[31m\nhalf".as_bytes()).expect("written");
    assert_eq!(read_until(&mut following, "half"), "zażółć ␛[31m\nhalf");
    std::io::Write::write_all(&mut file, b" a line\n").expect("written");
    std::fs::write(&gate, "").expect("written");
    let rest = following.wait_with_output().expect("ended");
    assert_eq!((stdout(&rest).as_str(), rest.status.code()), (" a line\n", Some(0)));

    let without_log = client.start(fake("announce\nprint only this\nfinal agent_a done")).await;
    client.end(&without_log).await;
    assert!(
        stdout_of(&lab, &["logs", &without_log, "-f"]).contains("only this"),
        "without a log the output is printed"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[test]
fn shell_completions_offer_only_public_commands() {
    let lab = Lab::fake();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout_of(&lab, &["completions", shell]);
        for word in ["doctor", "watch", "--timeout-s", "--follow"] {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{word} in {shell}");
        }
        assert!(!script.contains("supervise"), "an internal command, in {shell}");
    }
    let script = stdout_of(&lab, &["completions", "bash"]);
    let file = lab.put("completions.bash", &script);
    let ask = format!(
        "source {}; COMP_WORDS=(massgen-mcp wat); COMP_CWORD=1; _massgen__mcp massgen-mcp wat massgen-mcp; \
         echo ${{COMPREPLY[@]}}",
        file.display()
    );
    let completed = Command::new("bash").args(["-c", &ask]).output().expect("bash");
    assert_eq!(stdout(&completed), "watch\n", "{}", stderr(&completed));
    assert_eq!(exit_code(&lab, &["completions", "cmd"]), 2);
}

fn check_result<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().expect("list");
    let found = checks.iter().find(|found| found["check"] == check).unwrap_or_else(|| panic!("{check} in {report}"));
    (found["verdict"].as_str().expect("verdict"), found["message"].as_str().expect("message"))
}

#[tokio::test]
async fn the_doctor_rehearses_with_real_massgen() {
    let lab = Lab::real().await;
    let mut command = command(&lab, &["doctor", "--json"]);
    let output = command.env("SOME_API_KEY", "canary-of-a-key").output().expect("ran");
    let text = stdout(&output);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &json!(true)), "{report}");
    for check in ["kernel", "state folder", "settings", "MassGen", "tools", "flags", "rehearsal"] {
        assert_ne!(check_result(&report, check).0, "problem", "{report}");
    }
    assert!(check_result(&report, "rehearsal").1.contains(" succeeded in "), "{report}");
    assert!(check_result(&report, "keys").1.contains("SOME_API_KEY") && !text.contains("canary-of-a-key"), "{report}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong() {
    let lab = Lab::scripted("echo --config --automation; exit 0");
    let output = run(&lab, &["doctor"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.starts_with("problem  flags: ") && line.contains("--inbox-dir")), "{text}");
    assert!(!text.contains("rehearsal: "), "no rehearsal with this MassGen: {text}");

    let lab = Lab::scripted("echo no module >&2; exit 1");
    lab.put(".massgen/config.yaml", "agents:\n  - id: a\n    backend: {type: openai, model: gpt-5}\n");
    let output = run(&lab, &["doctor", "--json", "--no-rehearsal"]);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &json!(false)));
    assert_eq!(stderr(&output), "", "with --json standard error is empty");
    assert!(check_result(&report, "flags").1.contains("no module"), "{report}");
    assert_eq!(check_result(&report, "tools").0, "warning", "{report}");
    assert_eq!(check_result(&report, "default config").0, "warning");
    assert!(check_result(&report, "default config").1.contains("OPENAI_API_KEY"), "{report}");

    let output = run(&lab, &["doctor", "--json", "--massgen", "/no/such/massgen"]);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!((output.status.code(), check_result(&report, "MassGen").0), (Some(1), "problem"));

    let output = run(&lab, &["doctor", "--no-rehearsal", "--home", "/proc/nowhere"]);
    let text = stdout(&output);
    assert!(text.lines().any(|line| line.starts_with("problem  state folder: ")), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn keys_in_watch_open_and_kill_a_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let costs = r#"{"total_estimated_cost": 0.5, "total_input_tokens": 1200, "total_output_tokens": 34}"#;
    let script =
        format!("announce\nanswer agent_a so \u{1b}[2J far\nstatus {{\"costs\": {costs}, \"agents\": {{}}}}\nforever");
    let id = client.start(tooled(&script)).await;
    client.until(&id, |run| run["tokens"] == 1234).await;
    let screen = screen::Screen::start(&command(&lab, &["watch"]), 130, 24);
    screen.wait_for(&[&id, "running", "1.2k", "$0.5000", "Enter open"]).await;
    screen.type_keys("\r");
    screen.wait_for(&["--- the best answer so far, of agent_a ---", "so ␛[2J far", "--- details ---"]).await;
    screen.type_keys("q");
    screen.wait_for(&["s steer"]).await;
    screen.type_keys("sgo on");
    screen.wait_for(&["Enter sends", "go on"]).await;
    screen.type_keys("\u{1b}");
    screen.wait_for(&["k kill"]).await;
    screen.type_keys("smind the cost\r");
    screen.wait_for(&["has the message", "1 waiting"]).await;
    screen.type_keys("ky");
    screen.wait_for(&["killed", "force:"]).await;
    assert_eq!(lab.record(&id)["ending"]["outcome"], "killed");
    let later = client.start(fake("announce\nfinal agent_a done")).await;
    screen.wait_for(&[&later, "succeeded", "2 runs, 0 live"]).await;
    screen.type_keys("q");
    assert_eq!(screen.ended().await, Some(0));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_key_in_watch_opens_a_page_that_is_kept_up_to_date() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let script = format!("announce\nanswer agent_a so far\nuntil {}\nfinal agent_a all of it", gate.display());
    let (id, other) = (client.start(fake(&script)).await, client.start(fake("announce\nforever")).await);
    for id in [&id, &other] {
        client.until(id, |run| run["state"] == "running").await;
    }
    let openers = crate::pages::opener(&lab);
    let path = std::env::join_paths([openers.clone(), "/bin".into(), "/usr/bin".into()]).expect("a PATH");
    let mut watch = command(&lab, &["watch"]);
    let screen = screen::Screen::start(watch.env("PATH", path), 150, 24);
    let page = |id: &str| std::fs::read_to_string(lab.run_folder(id).join("report.html")).unwrap_or_default();
    let refreshes = |id: &str| page(id).contains("http-equiv=\"refresh\"");
    screen.wait_for(&[&id, &other, "p page"]).await;
    screen.type_keys("p");
    screen.wait_for(&[&format!("the page of {other} is open: ")]).await;
    wait_until("the page is opened", || openers.join("opened").exists()).await;
    assert!(refreshes(&other), "the browser reloads the page");
    screen.type_keys("\u{1b}[Bp");
    screen.wait_for(&[&format!("the page of {id} is open: ")]).await;
    assert!(refreshes(&id) && page(&id).contains("so far"));
    std::fs::write(&gate, "").expect("written");
    wait_until("the page shows the ended run", || page(&id).contains("all of it") && !refreshes(&id)).await;
    screen.type_keys("q");
    assert_eq!(screen.ended().await, Some(0));
    assert!(!refreshes(&other), "the page is no longer rewritten");
    client.call("kill_run", json!({"run_id": other})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn watch_restores_the_terminal_on_a_signal() {
    let lab = Lab::fake();
    let screen = screen::Screen::start(&command(&lab, &["watch"]), 80, 24);
    screen.wait_for(&["no runs yet"]).await;
    screen.signal("-TERM");
    assert_eq!(screen.ended().await, Some(0));
    let second = screen::Screen::start(&command(&lab, &["watch"]), 80, 24);
    second.wait_for(&["no runs yet"]).await;
    second.type_keys("\u{3}");
    assert_eq!(second.ended().await, Some(0));
}
