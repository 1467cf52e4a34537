//! The program under unusual launchers: signals, streams, limits, folders and parent processes. Each test first checks that the
//! launcher really has the effect under test.

mod clients;
mod folders;
mod limits;

use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::lab::{Client, Lab, fake};

/// Launchers: commands that execute the command line appended to them.
const BLOCKING: &[&str] = &["env", "--block-signal=CHLD,TERM,INT,HUP,USR1"];
const IGNORING: &[&str] = &["env", "--ignore-signal=CHLD,TERM,INT,QUIT,HUP,USR1,PIPE,TSTP"];
/// The signal state that a shell gives to background jobs of a script.
const BACKGROUND: &[&str] = &["sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh"];
/// SIGHUP, which `nohup` ignores, and SIGPIPE, which Rust programs ignore.
const HUP: u64 = 1;
const PIPE: u64 = 1 << 12;
/// Signals 32 and 33: glibc reserves them for its threads and no program can change them.
const GLIBC_SIGNALS: u64 = 0b11 << 31;

/// This lab's server, started by a launcher.
fn server_under(lab: &Lab, launcher: &[&str]) -> Command {
    with_launcher(launcher, &lab.command())
}

fn with_launcher(launcher: &[&str], command: &Command) -> Command {
    let command = command.as_std();
    let mut launched = Command::new(launcher[0]);
    launched.args(&launcher[1..]).arg(command.get_program()).args(command.get_args()).stderr(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launched.env(name, value),
            None => launched.env_remove(name),
        };
    }
    launched
}

/// The output of a program that the launcher starts.
async fn output_under(launcher: &[&str], program: &[&str]) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]);
    let output = with_launcher(launcher, &command).output().await.expect("started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The signals that a process blocks and ignores, from the text of its `/proc/PID/status`.
fn signals(status: &str) -> (u64, u64) {
    let set = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {status}"));
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal") & !GLIBC_SIGNALS
    };
    (set("SigBlk:"), set("SigIgn:"))
}

/// Command line and signals of every process of the lab.
fn signals_of(lab: &Lab) -> Vec<(String, (u64, u64))> {
    let of = |line: String| {
        let pid = line.split(' ').next().expect("pid").to_owned();
        Some((line, signals(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)))
    };
    lab.processes().into_iter().filter_map(of).collect()
}

async fn check_run_succeeds(lab: &Lab, client: &Client) {
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    assert_eq!(lab.record(&id)["state"], "ended");
}

/// A shell that makes a setting and executes the command line appended to it.
fn shell(setting: &str) -> [String; 4] {
    ["sh", "-c", &format!("{setting}; exec \"$@\""), "sh"].map(str::to_owned)
}

/// The shell as a launcher, after a check that its setting has an effect.
async fn checked_launcher<'a>(shell: &'a [String; 4], check: &str, left: &str) -> [&'a str; 4] {
    let launcher = shell.each_ref().map(String::as_str);
    assert_eq!(output_under(&launcher, &["sh", "-c", check]).await.trim(), left, "{launcher:?}");
    launcher
}

#[tokio::test]
async fn no_process_keeps_signals_blocked_or_ignored_by_the_launcher() {
    for launcher in [BLOCKING, IGNORING, BACKGROUND] {
        let left = signals(&output_under(launcher, &["cat", "/proc/self/status"]).await);
        assert_ne!(left, (0, 0), "{launcher:?} has no effect");
        let lab = Lab::fake();
        let client = lab.client_of(server_under(&lab, launcher)).await;
        let id = client.start(fake("announce\nforever")).await;
        client.until(&id, |run| run["state"] == "running").await;
        let all = signals_of(&lab);
        assert_eq!(all.len(), 3, "server, supervisor and stand-in: {all:?}");
        for (line, (blocked, ignored)) in all {
            // A server keeps SIGHUP ignored, as under `nohup`. A supervisor has its own session and does not need that.
            let expected = if line.contains("massgen-mcp --home") { PIPE | (left.1 & HUP) } else { PIPE };
            assert_eq!((blocked, ignored), (0, expected), "{launcher:?}: {line}");
        }
        client.call("kill_run", json!({"run_id": id, "grace_s": 5})).await;
        let run = client.end(&id).await;
        assert_eq!(
            (&run["state"], &run["exit"]),
            (&json!("killed"), &json!("SIGINT")),
            "the first signal ended the run: {run}"
        );
        check_run_succeeds(&lab, &client).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn sigterm_ends_a_server_whose_launcher_ignores_it() {
    let lab = Lab::fake();
    let client = lab.client_of(server_under(&lab, IGNORING)).await;
    let ended = std::process::Command::new("kill").args(["-TERM", &client.pid.to_string()]).status().expect("kill");
    assert!(ended.success());
    lab.nobody_is_left().await;
}

/// A stand-in in Python that prints its signal dispositions.
const PRINT_SIGNALS: &str = "
import signal
if __name__ == '__main__':
    for number in sorted(signal.valid_signals()):
        print(number, repr(signal.getsignal(number)))
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
";

#[tokio::test]
async fn cold_and_warm_runs_have_the_same_signals_under_any_launcher() {
    let mut results = Vec::new();
    for launcher in [&["env"][..], BLOCKING, IGNORING, BACKGROUND] {
        for warm in [false, true] {
            let lab = Lab::python(PRINT_SIGNALS).await;
            let mut command = server_under(&lab, launcher);
            command.env("MASSGEN_MCP_WARM", warm.to_string());
            if warm {
                let mut warm_up = server_under(&lab, launcher);
                warm_up.args(["warm", "--rehearsal"]).env("MASSGEN_MCP_WARM", "true").stdout(Stdio::null());
                assert!(warm_up.status().await.expect("ran").success());
            }
            let client = lab.client_of(command).await;
            let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
            client.end(&id).await;
            let run = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
            let start = if warm { "warm" } else { "cold" };
            assert_eq!(run["runs"][0]["details"]["start"], start, "{launcher:?}");
            let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
            let hang_up = output.lines().next().unwrap_or_default();
            assert!(hang_up.contains("SIG_DFL"), "{hang_up}");
            results.push((format!("{launcher:?} {start}"), output));
            client.close().await;
            lab.nobody_is_left().await;
        }
    }
    for (launch, output) in &results {
        assert_eq!(*output, results[0].1, "{launch}");
    }
}

/// With SIGCHLD blocked a run used to never end; with SIGTERM blocked a kill used to take ten seconds and SIGKILL.
#[tokio::test]
async fn real_massgen_ends_and_can_be_stopped_under_any_launcher() {
    let lab = Lab::real().await;
    let launcher = ["env", "--block-signal=CHLD,TERM,INT", "--ignore-signal=QUIT,HUP"];
    let client = lab.client_of(server_under(&lab, &launcher)).await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    assert_eq!(client.end(&id).await["state"], "succeeded");
    let id = client.start(json!({"question": "q", "config": "@rehearsal/hang"})).await;
    client.until(&id, |run| run["state"] == "running").await;
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("killed"), &json!("SIGTERM")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
