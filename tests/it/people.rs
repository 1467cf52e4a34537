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

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn aside(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The output of a command that must succeed.
fn said(lab: &Lab, arguments: &[&str]) -> String {
    let output = run(lab, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", aside(&output));
    out(&output)
}

fn said_json(lab: &Lab, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(lab, arguments)).expect("JSON")
}

fn code(lab: &Lab, arguments: &[&str]) -> i32 {
    run(lab, arguments).status.code().expect("a code")
}

/// Runs the stand-in in a group to its end; returns the run id.
async fn ended(client: &Client, script: &str, group: &str) -> String {
    let id = started(client, script, group).await;
    client.end(&id).await;
    id
}

async fn started(client: &Client, script: &str, group: &str) -> String {
    let mut asked = fake(script);
    asked["group"] = json!(group);
    client.start(asked).await
}

#[tokio::test]
async fn runs_are_printed_as_text_and_json_without_terminal_escapes() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let nasty = json!("final agent_a an \u{1b}[2Janswer\u{202e}");
    let good = ended(&client, &format!("announce\nlog \u{1b}]0;title\u{7}here\nraw {nasty}"), "g1").await;
    let bad = ended(&client, "announce\nexit 1", "g2").await;

    let listed = said(&lab, &["runs"]);
    assert!(listed.find(&bad) < listed.find(&good) && listed.contains("[g1] "), "the newest first: {listed}");
    assert!(!listed.contains('\u{1b}'), "{listed:?}");
    assert!(!said(&lab, &["runs", "--group", "g1"]).contains(&bad));
    let mut told = said_json(&lab, &["runs", "--json"]);
    let mut checked = client.call("check_status", json!({})).await;
    for listed in [&mut told, &mut checked] {
        let runs = listed["runs"].as_array_mut().expect("runs").iter_mut();
        assert!(runs.map(|run| run["age_s"].take()).all(|age| age.is_u64()), "which grows");
    }
    assert_eq!((&told["runs"], &told["today"]), (&checked["runs"], &checked["today"]), "as the tool shows them");
    assert!(listed.contains("2 runs, 0 of them live"), "{listed}");

    let status = said(&lab, &["status", &good, &bad]);
    for fact in ["state: succeeded", "winner: agent_a", "config: @rehearsal", "problem:", "  hint: "] {
        assert!(status.lines().any(|line| line.starts_with(fact)), "{fact} in {status}");
    }
    let full = client.call("check_status", json!({"run_ids": [good, bad], "detail": "full"})).await;
    let told = said_json(&lab, &["status", &good, &bad, "--json"]);
    assert_eq!(told["runs"][0]["details"], full["runs"][0]["details"]);

    assert_eq!(said(&lab, &["result", &good]), "an ␛[2Janswer\u{fffd}\n");
    let told = said_json(&lab, &["result", &good, "--json"]);
    assert_eq!((&told["text"], &told["partial"]), (&json!("an ␛[2Janswer\u{fffd}"), &json!(false)), "{told}");
    assert_eq!((&told["winner"], &told["state"]), (&json!("agent_a"), &json!("succeeded")));
    assert_eq!(said(&lab, &["logs", &good]), "␛]0;title␇here\n");
    assert!(said(&lab, &["result", &bad, "--part", "errors"]).contains(": "));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_refused_command_prints_code_and_hint() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let bare = ended(&client, "announce\nexit 1", "g").await;
    client.close().await;
    for (arguments, word) in [
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
        assert_eq!((in_words.status.code(), out(&in_words).as_str()), (Some(1), ""), "{arguments:?}");
        let told = aside(&in_words);
        let lines: Vec<_> = told.lines().collect();
        assert!(lines.len() == 2 && lines[0].ends_with(&format!("({word})")), "{told}");
        assert!(lines[1].starts_with("hint: ") && !lines[1].contains("check_status"), "{told}");
        let as_json = run(&lab, &[arguments, &["--json"]].concat());
        let told: Value = serde_json::from_str(&aside(&as_json)).expect("JSON");
        assert_eq!((as_json.status.code(), &told["code"]), (Some(1), &json!(word)), "{told}");
        assert!(told["message"].is_string() && told["hint"].is_string(), "{told}");
    }
    for arguments in [&["watch"][..], &["logs", "nonsense"]] {
        let output = run(&lab, arguments);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""), "{arguments:?}");
        assert!(aside(&output).contains("\nhint: "), "{}", aside(&output));
    }
    assert!(aside(&run(&lab, &["watch"])).contains("(no_terminal)"));
    assert_eq!(code(&lab, &["wait"]), 2, "of nothing");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_outcome() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let good = ended(&client, "announce\nfinal agent_a done", "all").await;
    let bad = ended(&client, "announce\nexit 1", "all").await;
    let mut asked = fake("announce\nforever");
    asked["timeout_s"] = json!(1);
    let late = client.start(asked).await;
    let killed = started(&client, "announce\nforever", "all").await;
    assert_eq!(code(&lab, &["wait", &good]), 0);
    assert_eq!(code(&lab, &["wait", &bad]), 3);
    assert_eq!(code(&lab, &["wait", &late]), 4);
    assert_eq!(code(&lab, &["wait", &killed, "--timeout-s", "1"]), 124);
    assert_eq!(code(&lab, &["wait", &killed, &good, "--any"]), 0);
    client.call("kill_run", json!({"run_id": killed, "grace_s": 0})).await;
    assert_eq!(code(&lab, &["wait", "--group", "all"]), 6, "the largest");

    let costs = r#"{"total_estimated_cost": 9, "total_input_tokens": 1, "total_output_tokens": 0}"#;
    let mut asked = fake(&format!("announce\nstatus {{\"costs\": {costs}, \"agents\": {{}}}}\nforever"));
    asked["budget_usd"] = json!(1);
    let dear = client.start(asked).await;
    assert_eq!(code(&lab, &["wait", &dear]), 5);
    let lost = client.start(fake("announce\nforever")).await;
    client.until(&lost, |run| run["state"] == "running").await;
    let is_supervisor = |line: &&String| line.contains(" supervise ");
    wait_until("it is the last supervisor", || lab.processes().iter().filter(is_supervisor).count() == 1).await;
    lab.kill_supervisor();
    assert_eq!(code(&lab, &["wait", &lost]), 7);
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
    let one = started(&client, "announce\nanswer agent_a so far\nforever", "two").await;
    let two = started(&client, "announce\nignore\nforever", "two").await;
    for id in [&one, &two] {
        client.until(id, |run| run["state"] == "running").await;
    }
    let told = said_json(&lab, &["kill", "--group", "two", "--grace-s", "0.2", "--reason", "enough", "--json"]);
    let receipts = told["receipts"].as_array().expect("list");
    assert!(receipts.len() == 2 && receipts.iter().all(|receipt| receipt["state"] == "killed"), "{told}");
    assert_eq!(lab.record(&two)["ending"]["outcome"], "killed");
    assert!(said(&lab, &["status", &two]).contains("reason: enough"));
    let again = said(&lab, &["kill", &one]);
    assert!(again.starts_with(&format!("{one}  killed  ")), "{again}");
    let read = run(&lab, &["result", &one]);
    assert_eq!((out(&read).as_str(), read.status.code()), ("so far\n", Some(0)));
    assert!(aside(&read).contains("only the best answer so far"), "{}", aside(&read));
    client.close().await;
    lab.nobody_is_left().await;
}

/// Reads the output of a process until it contains this text.
fn read_until(child: &mut Child, wanted: &str) -> String {
    let (mut said, mut byte) = (Vec::new(), [0]);
    let out = child.stdout.as_mut().expect("stdout");
    while !String::from_utf8_lossy(&said).ends_with(wanted) {
        assert_eq!(out.read(&mut byte).expect("read"), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    String::from_utf8(said).expect("UTF-8")
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
    assert_eq!((out(&rest).as_str(), rest.status.code()), (" a line\n", Some(0)));

    let silent = client.start(fake("announce\nprint only this\nfinal agent_a done")).await;
    client.end(&silent).await;
    assert!(said(&lab, &["logs", &silent, "-f"]).contains("only this"), "without a log, what it printed");
    client.close().await;
    lab.nobody_is_left().await;
}

#[test]
fn shell_completions_offer_only_public_commands() {
    let lab = Lab::fake();
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&lab, &["completions", shell]);
        for word in ["doctor", "watch", "--timeout-s", "--follow"] {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{word} in {shell}");
        }
        assert!(!script.contains("supervise"), "a command that nobody types, in {shell}");
    }
    let script = said(&lab, &["completions", "bash"]);
    let file = lab.put("completions.bash", &script);
    let ask = format!(
        "source {}; COMP_WORDS=(massgen-mcp wat); COMP_CWORD=1; _massgen__mcp massgen-mcp wat massgen-mcp; \
         echo ${{COMPREPLY[@]}}",
        file.display()
    );
    let completed = Command::new("bash").args(["-c", &ask]).output().expect("bash");
    assert_eq!(out(&completed), "watch\n", "{}", aside(&completed));
    assert_eq!(code(&lab, &["completions", "cmd"]), 2);
}

fn verdict<'a>(told: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = told["checks"].as_array().expect("list");
    let found = checks.iter().find(|found| found["check"] == check).unwrap_or_else(|| panic!("{check} in {told}"));
    (found["verdict"].as_str().expect("verdict"), found["message"].as_str().expect("message"))
}

#[tokio::test]
async fn the_doctor_rehearses_with_real_massgen() {
    let lab = Lab::real().await;
    let mut command = command(&lab, &["doctor", "--json"]);
    let output = command.env("SOME_API_KEY", "canary-of-a-key").output().expect("ran");
    let text = out(&output);
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((output.status.code(), &told["ok"]), (Some(0), &json!(true)), "{told}");
    for check in ["kernel", "state folder", "settings", "MassGen", "tools", "flags", "rehearsal"] {
        assert_ne!(verdict(&told, check).0, "problem", "{told}");
    }
    assert!(verdict(&told, "rehearsal").1.contains(" succeeded in "), "{told}");
    assert!(verdict(&told, "keys").1.contains("SOME_API_KEY") && !text.contains("canary-of-a-key"), "{told}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong() {
    let lab = Lab::scripted("echo --config --automation; exit 0");
    let output = run(&lab, &["doctor"]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.starts_with("problem  flags: ") && line.contains("--inbox-dir")), "{text}");
    assert!(!text.contains("rehearsal: "), "not with such a MassGen: {text}");

    let lab = Lab::scripted("echo no module >&2; exit 1");
    lab.put(".massgen/config.yaml", "agents:\n  - id: a\n    backend: {type: openai, model: gpt-5}\n");
    let output = run(&lab, &["doctor", "--json", "--no-rehearsal"]);
    let told: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!((output.status.code(), &told["ok"]), (Some(1), &json!(false)));
    assert_eq!(aside(&output), "", "programs are told nothing beside");
    assert!(verdict(&told, "flags").1.contains("no module"), "{told}");
    assert_eq!(verdict(&told, "tools").0, "warning", "{told}");
    assert_eq!(verdict(&told, "default config").0, "warning");
    assert!(verdict(&told, "default config").1.contains("OPENAI_API_KEY"), "{told}");

    let output = run(&lab, &["doctor", "--json", "--massgen", "/no/such/massgen"]);
    let told: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!((output.status.code(), verdict(&told, "MassGen").0), (Some(1), "problem"));

    let output = run(&lab, &["doctor", "--no-rehearsal", "--home", "/proc/nowhere"]);
    let text = out(&output);
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
    let screen = screen::Screen::of(&command(&lab, &["watch"]), 130, 24);
    screen.shows(&[&id, "running", "1.2k", "$0.5000", "Enter open"]).await;
    screen.types("\r");
    screen.shows(&["--- the best answer so far, of agent_a ---", "so ␛[2J far", "--- details ---"]).await;
    screen.types("q");
    screen.shows(&["s steer"]).await;
    screen.types("sgo on");
    screen.shows(&["Enter sends", "go on"]).await;
    screen.types("\u{1b}");
    screen.shows(&["k kill"]).await;
    screen.types("smind the cost\r");
    screen.shows(&["has the message", "1 waiting"]).await;
    screen.types("ky");
    screen.shows(&["killed", "force:"]).await;
    assert_eq!(lab.record(&id)["ending"]["outcome"], "killed");
    let later = client.start(fake("announce\nfinal agent_a done")).await;
    screen.shows(&[&later, "succeeded", "2 runs, 0 live"]).await;
    screen.types("q");
    assert_eq!(screen.ended().await, Some(0));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_key_in_watch_opens_a_page_that_is_kept_up_to_date() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let begun = format!("announce\nanswer agent_a so far\nuntil {}\nfinal agent_a all of it", gate.display());
    let (id, other) = (client.start(fake(&begun)).await, client.start(fake("announce\nforever")).await);
    for id in [&id, &other] {
        client.until(id, |run| run["state"] == "running").await;
    }
    let openers = crate::pages::opener(&lab);
    let path = std::env::join_paths([openers.clone(), "/bin".into(), "/usr/bin".into()]).expect("a PATH");
    let mut watch = command(&lab, &["watch"]);
    let screen = screen::Screen::of(watch.env("PATH", path), 150, 24);
    let page = |id: &str| std::fs::read_to_string(lab.run_folder(id).join("report.html")).unwrap_or_default();
    let refreshes = |id: &str| page(id).contains("http-equiv=\"refresh\"");
    screen.shows(&[&id, &other, "p page"]).await;
    screen.types("p");
    screen.shows(&[&format!("the page of {other} is open: ")]).await;
    wait_until("it is opened", || openers.join("opened").exists()).await;
    assert!(refreshes(&other), "the browser reads it again and again");
    screen.types("\u{1b}[Bp");
    screen.shows(&[&format!("the page of {id} is open: ")]).await;
    assert!(refreshes(&id) && page(&id).contains("so far"));
    std::fs::write(&gate, "").expect("written");
    wait_until("the page is of a run that is over", || page(&id).contains("all of it") && !refreshes(&id)).await;
    screen.types("q");
    assert_eq!(screen.ended().await, Some(0));
    assert!(!refreshes(&other), "nobody writes it anew any more");
    client.call("kill_run", json!({"run_id": other})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn watch_restores_the_terminal_on_a_signal() {
    let lab = Lab::fake();
    let screen = screen::Screen::of(&command(&lab, &["watch"]), 80, 24);
    screen.shows(&["no runs yet"]).await;
    screen.signal("-TERM");
    assert_eq!(screen.ended().await, Some(0));
    let again = screen::Screen::of(&command(&lab, &["watch"]), 80, 24);
    again.shows(&["no runs yet"]).await;
    again.types("\u{3}");
    assert_eq!(again.ended().await, Some(0));
}
