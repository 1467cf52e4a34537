//! However it is launched: signals, limits, umask, working folder and parents that a launcher leaves behind. Each test first shows
//! that the launcher does what the test needs of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use crate::lab::{Client, Lab, PATIENCE, PROGRAM, fake};
use crate::raw::{Raw, request};

/// Launchers that end by executing what follows them.
const BLOCKS: &[&str] = &["env", "--block-signal=CHLD,TERM,INT,HUP,USR1"];
const IGNORES: &[&str] = &["env", "--ignore-signal=CHLD,TERM,INT,QUIT,HUP,USR1,PIPE,TSTP"];
/// What a shell gives to the background jobs of a script.
const BACKGROUND: &[&str] = &["sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh"];
/// SIGHUP, as `nohup` ignores it, and SIGPIPE, which Rust programs ignore.
const HUP: u64 = 1;
const PIPE: u64 = 1 << 12;
/// 32 and 33, which glibc keeps for its threads and lets nobody change.
const OF_GLIBC: u64 = 0b11 << 31;

/// This lab's server, started by a launcher.
fn under(lab: &Lab, launcher: &[&str]) -> Command {
    after(launcher, &lab.command())
}

fn after(launcher: &[&str], command: &Command) -> Command {
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

/// What a program prints that such a launcher starts.
async fn seen_under(launcher: &[&str], program: &[&str]) -> String {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]);
    let seen = after(launcher, &command).output().await.expect("started");
    String::from_utf8_lossy(&seen.stdout).into_owned()
}

/// The signals that a process blocks and ignores, from the text of its `/proc/PID/status`.
fn signals(status: &str) -> (u64, u64) {
    let set = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {status}"));
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal") & !OF_GLIBC
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

async fn succeeds(lab: &Lab, client: &Client) {
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    assert_eq!(lab.record(&id)["state"], "ended");
}

#[tokio::test]
async fn no_process_of_ours_keeps_the_signals_that_its_launcher_blocked_or_ignored() {
    for launcher in [BLOCKS, IGNORES, BACKGROUND] {
        let left = signals(&seen_under(launcher, &["cat", "/proc/self/status"]).await);
        assert_ne!(left, (0, 0), "{launcher:?} leaves nothing");
        let lab = Lab::fake();
        let client = lab.client_of(under(&lab, launcher)).await;
        let id = client.start(fake("announce\nforever")).await;
        client.until(&id, |run| run["state"] == "running").await;
        let all = signals_of(&lab);
        assert_eq!(all.len(), 3, "server, supervisor and stand-in: {all:?}");
        for (line, (blocked, ignored)) in all {
            // Who was started by `nohup` stays so; what owns a run has a session of its own.
            let kept = if line.contains("massgen-mcp --home") { PIPE | (left.1 & HUP) } else { PIPE };
            assert_eq!((blocked, ignored), (0, kept), "{launcher:?}: {line}");
        }
        client.call("kill_run", json!({"run_id": id, "grace_s": 5})).await;
        let run = client.end(&id).await;
        assert_eq!((&run["state"], &run["exit"]), (&json!("killed"), &json!("SIGINT")), "the first signal did: {run}");
        succeeds(&lab, &client).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn a_server_whose_launcher_ignores_sigterm_ends_by_it() {
    let lab = Lab::fake();
    let client = lab.client_of(under(&lab, IGNORES)).await;
    let ended = std::process::Command::new("kill").args(["-TERM", &client.pid.to_string()]).status().expect("kill");
    assert!(ended.success());
    lab.nobody_is_left().await;
}

/// A stand-in that tells its dispositions, in Python.
const TELL_SIGNALS: &str = "
import signal
if __name__ == '__main__':
    for number in sorted(signal.valid_signals()):
        print(number, repr(signal.getsignal(number)))
    print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
";

#[tokio::test]
async fn cold_and_warm_runs_have_the_same_signals_whatever_the_launcher_left() {
    let mut seen = Vec::new();
    for launcher in [&["env"][..], BLOCKS, IGNORES, BACKGROUND] {
        for warm in [false, true] {
            let lab = Lab::python(TELL_SIGNALS).await;
            let mut command = under(&lab, launcher);
            command.env("MASSGEN_MCP_WARM", warm.to_string());
            if warm {
                let mut warm_up = under(&lab, launcher);
                warm_up.args(["warm", "--rehearsal"]).env("MASSGEN_MCP_WARM", "true").stdout(Stdio::null());
                assert!(warm_up.status().await.expect("ran").success());
            }
            let client = lab.client_of(command).await;
            let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
            client.end(&id).await;
            let run = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
            let start = if warm { "warm" } else { "cold" };
            assert_eq!(run["runs"][0]["details"]["start"], start, "{launcher:?}");
            let told = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
            let hang_up = told.lines().next().unwrap_or_default();
            assert!(hang_up.contains("SIG_DFL"), "{hang_up}");
            seen.push((format!("{launcher:?} {start}"), told));
            client.close().await;
            lab.nobody_is_left().await;
        }
    }
    for (launch, told) in &seen {
        assert_eq!(*told, seen[0].1, "{launch}");
    }
}

/// A shell that makes a setting and executes what follows it.
fn shell(setting: &str) -> [String; 4] {
    ["sh", "-c", &format!("{setting}; exec \"$@\""), "sh"].map(str::to_owned)
}

/// A shell's setting, shown to hold, as a launcher.
async fn setting<'a>(shell: &'a [String; 4], look: &str, left: &str) -> [&'a str; 4] {
    let launcher = shell.each_ref().map(String::as_str);
    assert_eq!(seen_under(&launcher, &["sh", "-c", look]).await.trim(), left, "{launcher:?}");
    launcher
}

#[tokio::test]
async fn runs_succeed_with_odd_streams_and_limits() {
    for (how, look, left) in [
        ("exec 2>&-", "[ -e /proc/self/fd/2 ] || echo closed", "closed"),
        ("exec 2</dev/null", "echo >&2 || echo unwritable", "unwritable"),
        ("exec 2>/dev/full", "echo >&2 || echo full", "full"),
        ("ulimit -v 614400", "ulimit -v", "614400"),
        ("ulimit -n 24", "ulimit -n", "24"),
    ] {
        let (lab, shell) = (Lab::fake(), shell(how));
        let launcher = setting(&shell, look, left).await;
        let client = lab.client_of(under(&lab, &launcher)).await;
        succeeds(&lab, &client).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// No input is the end of input, and no output is nobody who reads it: the server ends, and no file of ours becomes a stream.
#[tokio::test]
async fn a_server_without_input_or_output_ends() {
    for (how, look) in [
        ("exec <&-", "[ -e /proc/self/fd/0 ] || echo none"),
        ("exec >&-", "[ -e /proc/self/fd/1 ] || echo none >&2"),
        ("exec <&- >&- 2>&-", "true"),
    ] {
        let (lab, shell) = (Lab::fake(), shell(how));
        let launcher = shell.each_ref().map(String::as_str);
        let mut look_command = Command::new("sh");
        look_command.args(["-c", look]);
        let seen = after(&launcher, &look_command).stderr(Stdio::piped()).output().await.expect("started");
        assert!([seen.stdout, seen.stderr].concat() == b"none\n" || look == "true", "{how}");
        let mut command = under(&lab, &launcher);
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("started");
        assert!(ended.success(), "{how}: {ended}");
        let left = std::fs::read_dir(lab.state()).expect("state").flatten().map(|entry| entry.file_name());
        assert!(left.into_iter().all(|name| name == "runs" || name == "pruned"), "{how}");
        lab.nobody_is_left().await;
    }
}

/// The modes of all that a run has left, its folder first.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let meta = folder.symlink_metadata().expect("meta");
    let mut found = vec![(folder.to_owned(), meta.mode() & 0o777)];
    if meta.is_dir() {
        let inside = std::fs::read_dir(folder).expect("listed").flatten();
        found.extend(inside.flat_map(|entry| modes(&entry.path())));
    }
    found
}

#[tokio::test]
async fn no_umask_opens_a_run_to_others_or_closes_it_to_its_owner() {
    for (umask, massgens) in [("0777", "0077"), ("0000", "0000"), ("0027", "0027")] {
        let (lab, shell) =
            (Lab::scripted("umask; mkdir \"$MASSGEN_LOG_BASE_DIR/log_1\""), shell(&format!("umask {umask}")));
        let launcher = setting(&shell, "umask", umask).await;
        let client = lab.client_of(under(&lab, &launcher)).await;
        let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
        client.end(&id).await;
        let told = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
        assert_eq!(told.trim(), massgens, "the owner's own bits alone are given back");
        let all = modes(&lab.run_folder(&id));
        assert_eq!(all[0].1, 0o700, "{umask}: what is below is nobody else's");
        assert!(all.len() > 8 && all.iter().all(|(_, mode)| mode & 0o600 == 0o600), "{umask}: {all:?}");
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// A warm run has the umask of its own launcher, not that of the launcher of the process that it was forked from.
#[tokio::test]
async fn a_warm_run_has_the_umask_of_its_own_launcher() {
    let lab = Lab::python("import os\nif __name__ == '__main__':\n    print(oct(os.umask(0)))\n").await.warm();
    let shell = shell("umask 0007");
    let launcher = setting(&shell, "umask", "0007").await;
    let client = lab.client_of(under(&lab, &launcher)).await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    client.end(&id).await;
    let run = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    assert_eq!(run["runs"][0]["details"]["start"], "warm");
    let told = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
    assert_eq!(told.trim(), "0o7");
    client.close().await;
    lab.nobody_is_left().await;
}

/// A write beyond `ulimit -f` is an error: SIGXFSZ would end the server, and a supervisor with its run.
#[tokio::test]
async fn a_limit_on_file_sizes_ends_neither_server_nor_run() {
    let (lab, shell) = (Lab::fake(), shell("ulimit -f 0"));
    let launcher = setting(&shell, "ulimit -f", "0").await;
    let client = lab.client_of(under(&lab, &launcher)).await;
    assert_eq!(client.refused("run_massgen", fake("announce")).await, "state_folder");
    assert_eq!(client.call("check_status", json!({})).await["runs"], json!([]));
    client.close().await;

    let (lab, shell) = (Lab::fake(), self::shell("ulimit -f 200"));
    let launcher = setting(&shell, "ulimit -f", "200").await;
    let client = lab.client_of(under(&lab, &launcher)).await;
    let id = client.start(fake("announce\nflood 20000\nfinal agent_a done")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    let kept = lab.run_folder(&id).join("stdout.log").metadata().expect("log").len();
    assert_eq!(kept, 200 * 512, "the limit was met");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Who holds the ends of the pipes here is not the server's parent: a shell is, which dies.
#[tokio::test]
async fn a_server_whose_parent_is_gone_ends_after_a_silence_and_not_before() {
    let started = |lab: &Lab| {
        let shell = shell("exec 3<&0; \"$@\" <&3 3<&- & wait; true");
        let mut command = under(lab, &shell.each_ref().map(String::as_str));
        command.env("MASSGEN_MCP_ORPHAN_SILENCE_MS", "300");
        Raw::start(command)
    };
    let (orphaned, kept) = (Lab::fake(), Lab::fake());
    let (mut orphan, mut other) = (started(&orphaned), started(&kept));
    for server in [&mut orphan, &mut other] {
        server.initialize("2025-11-25").await;
        server.lives().await;
    }
    orphan.child.kill().await.expect("the shell is gone");
    orphan.lives().await;
    orphaned.nobody_is_left().await;
    assert!(orphan.send_all(b"\n").await.is_err(), "the pipes were open here");
    other.lives().await;
    other.child.kill().await.expect("the shell is gone");
    kept.nobody_is_left().await;
}

/// Asked for far more than pipes hold, in answers and in refusals.
#[tokio::test]
async fn a_client_that_ends_its_input_and_never_reads_ends_the_server() {
    let list = request(9, "tools/list", json!({}));
    let asked = |id: u32| format!("{}\n", request(id, "tools/list", json!({})));
    let answers: String = (10..400).map(asked).collect();
    let refusals = "not JSON\n".repeat(2000);
    let doubles = format!("{list}\n").repeat(2000);
    for unread in [answers, refusals, doubles] {
        let lab = Lab::fake();
        let mut raw = Raw::session(&lab).await;
        let id = raw.start_run(fake("announce\nforever")).await;
        raw.call(7, "check_status", json!({"run_id": id, "wait_s": 50})).await;
        raw.send(&unread).await;
        assert!(raw.end_unread().await.success());
        let client = lab.client().await;
        client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// A server that is given no project, in a working folder.
fn without_project(lab: &Lab, working: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--home").arg(lab.state()).current_dir(working).stderr(Stdio::null());
    lab.surroundings(&mut command);
    command.env_remove("MASSGEN_MCP_PROJECT").env_remove("MASSGEN_MCP_TRUSTED_CONFIGS");
    command
}

const CONFIG: &str = "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m}\n";

/// Refused, in words that lead to a project; what needs none is served.
async fn has_no_project(lab: &Lab, client: &Client, why: &str) {
    let relative = |path: PathBuf| path.strip_prefix("/").expect("absolute").to_str().expect("UTF-8").to_owned();
    let (config, question) = (relative(lab.put("c.yaml", CONFIG)), relative(lab.put("q.txt", "a question")));
    for (arguments, code) in [
        (json!({"question": "q", "config": config}), "config_missing"),
        (json!({"question": "q", "config": format!("/{config}")}), "config_outside"),
        (json!({"question": "q"}), "config_missing"),
        (json!({"question_file": question, "config": "@rehearsal"}), "question_file_unreadable"),
        (json!({"question_file": format!("/{question}"), "config": "@rehearsal"}), "question_file_unreadable"),
        (json!({"question": "q", "config": "@rehearsal", "context": "read"}), "no_project"),
        (json!({"configs": ["@rehearsal"], "questions": ["q"], "repeat": 2, "context": "write"}), "no_project"),
    ] {
        let (is_refused, answer) = client.ask("run_massgen", arguments.clone()).await;
        assert!(is_refused && answer["code"] == code, "{arguments}: {answer}");
        let said = |field: &str, word: &str| answer[field].as_str().is_some_and(|text| text.contains(word));
        assert!(said("message", why) && said("hint", "--project"), "{answer}");
    }
    let listed = client.call("list_configs", json!({})).await;
    let configs = listed["configs"].as_array().expect("a list");
    assert!(configs.iter().all(|config| config["source"] != "project"), "{listed}");
    succeeds(lab, client).await;
}

#[tokio::test]
async fn the_root_folder_is_no_project_unless_it_is_named() {
    let lab = Lab::fake();
    let client = lab.client_of(without_project(&lab, Path::new("/"))).await;
    has_no_project(&lab, &client, "the working folder is `/`").await;
    client.close().await;
    let mut doctor = without_project(&lab, Path::new("/"));
    let told = doctor.args(["doctor", "--no-rehearsal", "--json"]).output().await.expect("ran");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let checks = told["checks"].as_array().expect("checks");
    let project = checks.iter().find(|check| check["check"] == "project").expect("checked");
    assert_eq!(project["verdict"], "warning");
    assert!(project["hint"].as_str().is_some_and(|hint| hint.contains("--project")), "{project}");

    let mut named = without_project(&lab, Path::new("/"));
    named.args(["--project", "/", "--allow-commands"]);
    let client = lab.client_of(named).await;
    let config = lab.put("c.yaml", CONFIG);
    let id = client.start(json!({"question": "q", "config": config, "context": "read"})).await;
    client.end(&id).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// A shell that removes its working folder.
const REMOVES: &str = "rmdir \"$PWD\"";

#[tokio::test]
async fn a_working_folder_that_is_gone_keeps_no_server_from_serving() {
    let lab = Lab::fake();
    let shell = shell(REMOVES);
    let launcher = shell.each_ref().map(String::as_str);
    let working = || {
        let folder = lab.home().join("working");
        std::fs::create_dir(&folder).expect("made");
        folder
    };
    let (folder, mut gone) = (working(), under(&lab, &launcher));
    gone.current_dir(&folder);
    let client = lab.client_of(gone).await;
    assert!(!folder.exists(), "the launcher has removed it");
    lab.put("c.yaml", CONFIG);
    for (config, context) in [("@rehearsal", "none"), ("c.yaml", "read")] {
        let mut arguments = fake("announce\nfinal agent_a done");
        (arguments["config"], arguments["context"]) = (config.into(), context.into());
        let id = client.start(arguments).await;
        assert_eq!(client.end(&id).await["state"], "succeeded");
    }
    client.close().await;

    let folder = working();
    let mut gone = after(&launcher, &without_project(&lab, &folder));
    gone.current_dir(&folder);
    let client = lab.client_of(gone).await;
    has_no_project(&lab, &client, "the working folder is gone").await;
    client.close().await;

    let folder = working();
    let mut relative = after(&launcher, Command::new(PROGRAM).args(["--home", "state", "settings"]));
    let refused = relative.current_dir(&folder).stderr(Stdio::piped()).output().await.expect("ran");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("an absolute path"), "{said}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_folder_that_is_removed_after_the_start_is_named_by_what_needs_it() {
    let lab = Lab::fake();
    let working = lab.home().join("working");
    std::fs::create_dir(&working).expect("made");
    let mut command = lab.command();
    command.current_dir(&working).env("MASSGEN_MCP_MAX_RUNS", "1");
    let client = lab.client_of(command).await;
    let first = client.start(fake("announce\nforever")).await;
    let mut arguments = fake("announce");
    arguments["context"] = "read".into();
    let queued = client.start(arguments.clone()).await;
    std::fs::remove_dir(&working).expect("removed");
    std::fs::remove_dir_all(lab.project()).expect("removed");
    client.call("kill_run", json!({"run_id": first, "grace_s": 0})).await;

    let gone = format!("the folder `{}` is gone", lab.project().display());
    let says_which = |message: &serde_json::Value| message.as_str().is_some_and(|text| text.contains(&gone));
    let run = client.end(&queued).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("start_failed")), "{run}");
    assert!(says_which(&run["problem"]["message"]), "{run}");
    let (is_refused, answer) = client.ask("run_massgen", arguments).await;
    assert!(is_refused && answer["code"] == "no_project" && says_which(&answer["message"]), "{answer}");
    succeeds(&lab, &client).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_refused_before_anything_is_written() {
    let lab = Lab::fake();
    let odd = lab.home().join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&odd).expect("made");
    let given = |flag: &str| {
        let mut command = lab.command();
        command.arg(flag).arg(&odd);
        command
    };
    let homeless = || {
        let mut command = Command::new(PROGRAM);
        lab.surroundings(&mut command);
        command.env("HOME", &odd).env_remove("MASSGEN_MCP_HOME").env_remove("XDG_STATE_HOME");
        command
    };
    let plain = || {
        let mut command = Command::new(PROGRAM);
        lab.surroundings(&mut command);
        command.env_remove("MASSGEN_MCP_PROJECT").arg("--project").arg(&odd);
        command
    };
    for (mut command, names) in
        [(given("--read-folders"), "--read-folders"), (homeless(), "--home"), (plain(), "--project")]
    {
        let refused = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().await.expect("ran");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("UTF-8") && said.contains(names), "{said}");
    }
    for folder in [&odd, &lab.state()] {
        assert_eq!(std::fs::read_dir(folder).expect("listed").count(), 0, "{}", folder.display());
    }
    // The folder that it happens to be started in, and a home that it is not told to use, are no reason to refuse.
    let mut command = without_project(&lab, &odd);
    command.env("HOME", &odd);
    let client = lab.client_of(command).await;
    has_no_project(&lab, &client, "not UTF-8").await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_server_whose_state_folder_cannot_be_made_serves_and_says_how_to_name_another() {
    let lab = Lab::fake();
    let mut command = Command::new(PROGRAM);
    lab.surroundings(&mut command);
    // A folder in a file cannot be made, not even by root.
    command.env("HOME", lab.put("file", "")).env_remove("MASSGEN_MCP_HOME").env_remove("XDG_STATE_HOME");
    command.stderr(Stdio::null());
    let client = lab.client_of(command).await;
    let id = "mg-7f3k2q9d";
    for (tool, arguments) in [
        ("check_status", json!({})),
        ("list_configs", json!({})),
        ("run_massgen", fake("announce")),
        ("read_result", json!({"run_id": id})),
        ("kill_run", json!({"run_id": id})),
        ("steer_run", json!({"run_id": id, "message": "m"})),
    ] {
        let (is_refused, answer) = client.ask(tool, arguments).await;
        assert!(is_refused && answer["code"] == "state_folder", "{tool}: {answer}");
        assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("--home")), "{tool}: {answer}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_state_folder_that_is_removed_in_mid_session_is_made_again() {
    let lab = Lab::fake();
    let client = lab.client().await;
    succeeds(&lab, &client).await;
    lab.only_servers_are_left().await;
    std::fs::remove_dir_all(lab.state()).expect("removed");
    assert_eq!(client.call("check_status", json!({})).await["runs"], json!([]));
    succeeds(&lab, &client).await;
    lab.only_servers_are_left().await;
    std::fs::remove_dir_all(lab.state()).expect("removed");
    succeeds(&lab, &client).await;
    assert_eq!(lab.state().metadata().expect("made").mode() & 0o777, 0o700);
    client.close().await;
    lab.nobody_is_left().await;
}
