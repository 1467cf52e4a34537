//! Warm starts: the behaviour of the warm process itself. Modules whose names end in `_warm` check that warm runs behave like cold
//! ones: they are the tests of cold runs, compiled a second time.

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, wait_until};

/// A stand-in that executes its question as Python code and reads a variable at its import.
const STAND_IN: &str = "
import os, subprocess, sys, threading, time
import dotenv, yaml
AT_IMPORT = os.environ.get('CORP_MODE')
dotenv.load_dotenv(os.path.join(os.path.expanduser('~'), 'keys.env'))
dotenv.load_dotenv(os.path.join(os.getcwd(), 'configs', '.env'))

def main():
    config = sys.argv[sys.argv.index('--config') + 1]
    exec(yaml.safe_load(open(config))['prompt'], globals())

if __name__ == '__main__':
    main()
";

const WAIT_FOR_GO: &str = "while not os.path.exists(GO):\n    time.sleep(0.02)\n";

/// Programs with different outputs and endings, and programs that print their environment.
const PROGRAMS: [&str; 20] = [
    "print('out'); print('err', file=sys.stderr)",
    "sys.stdout.write('no end of line')",
    "sys.exit(3)",
    "sys.exit('why')",
    "sys.exit(None)",
    "sys.exit(True)",
    "sys.exit(300)",
    "sys.exit(-1)",
    "raise ValueError('told in a traceback')",
    "raise KeyboardInterrupt",
    "os.kill(os.getpid(), 9)",
    "os.abort()",
    "os._exit(7)",
    "import atexit; atexit.register(print, 'at the end'); sys.exit(4)",
    "threading.Thread(target=lambda: (time.sleep(0.2), print('later'))).start()",
    "print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), repr(sys.stdin.read()), os.umask(0))",
    "print(__name__, __file__ == sys.argv[0], sys.argv[1:3], sys.path[0] == os.path.dirname(__file__), threading.active_count())",
    "print(sorted(os.listdir('/proc/self/fd')), open('/proc/self/comm').read())",
    "import signal\nfor name in ('INT', 'TERM', 'HUP', 'QUIT', 'CHLD', 'PIPE', 'USR1'):\n    print(name, signal.getsignal(getattr(signal, 'SIG' + name)))\nprint(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "print(*(f'{n}={v}' for n, v in sorted(os.environ.items()) if n not in ('PATH', 'MASSGEN_LOG_BASE_DIR')), sep='\\n')",
];

/// The exit and the logs of a run, without its own id.
fn outcome_of(lab: &Lab, id: &str, run: &Value) -> [String; 3] {
    let log = |name: &str| std::fs::read_to_string(lab.run_folder(id).join(name)).expect("log").replace(id, "RUN");
    [run["exit"].to_string(), log("stdout.log"), log("stderr.log")]
}

async fn start(client: &Client, id: &str) -> String {
    let status = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    status["runs"][0]["details"]["start"].as_str().expect("a start").to_owned()
}

/// Runs Python code to its end; returns how it was started, its exit and its logs.
async fn run(lab: &Lab, client: &Client, text: &str) -> (String, [String; 3]) {
    run_with(lab, client, text, json!({"config": "@rehearsal"})).await
}

async fn run_with(lab: &Lab, client: &Client, text: &str, mut arguments: Value) -> (String, [String; 3]) {
    (arguments["question"], arguments["fresh"]) = (text.into(), true.into());
    let id = client.start(arguments).await;
    let ended = client.end(&id).await;
    (start(client, &id).await, outcome_of(lab, &id, &ended))
}

#[tokio::test]
async fn a_program_cannot_distinguish_a_warm_start_from_a_cold_one() {
    let lab = Lab::python(STAND_IN).await;
    let client = lab.client().await;
    let mut cold = Vec::new();
    for program in PROGRAMS {
        cold.push(run(&lab, &client, program).await);
    }
    client.close().await;
    let lab = lab.warm();
    let client = lab.client().await;
    for (program, (start, left)) in PROGRAMS.iter().zip(cold) {
        assert_eq!(start, "cold");
        assert_eq!(run(&lab, &client, program).await, ("warm".to_owned(), left), "{program}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

const CONFIG: &str = "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m}\n";
/// Prints the values reversed, because keys would be masked.
const PRINT_VARIABLES: &str =
    "print(AT_IMPORT, *((os.environ.get(name) or '')[::-1] for name in ('CORP_MODE', 'OPENAI_API_KEY', 'OTHER')))";

/// A server with these variables, which are passed to MassGen.
async fn client_with(lab: &Lab, variables: &[(&str, &str)]) -> Client {
    let mut command = lab.command();
    command.args(["--pass-env", "CORP_MODE:CORP_API_KEY:OTHER"]).envs(variables.iter().copied());
    lab.client_of(command).await
}

async fn output_of(lab: &Lab, client: &Client, text: &str) -> (String, String) {
    let (start, [_, output, _]) = run_with(lab, client, text, json!({"config": "c.yaml"})).await;
    (start, output.trim_end().to_owned())
}

fn warm_output(output: &str) -> (String, String) {
    ("warm".to_owned(), output.to_owned())
}

#[tokio::test]
async fn no_variable_leaks_from_the_warm_process_or_from_run_to_run() {
    let lab = Lab::python(STAND_IN).await.warm();
    lab.put("c.yaml", CONFIG);
    let first = client_with(&lab, &[("CORP_MODE", "x"), ("OPENAI_API_KEY", "key-of-one")]).await;
    assert_eq!(output_of(&lab, &first, PRINT_VARIABLES).await, warm_output("x x eno-fo-yek"));
    let only = |count: usize| {
        let lab = &lab;
        async move { wait_until("the number of warm processes", || lab.warm_processes().len() == count).await }
    };
    only(2).await;
    // Another key and a variable that the import did not read: the same warm process is used.
    let second = client_with(&lab, &[("CORP_MODE", "x"), ("OPENAI_API_KEY", "key-of-two"), ("OTHER", "o")]).await;
    assert_eq!(output_of(&lab, &second, PRINT_VARIABLES).await, warm_output("x x owt-fo-yek o"));
    assert_eq!(output_of(&lab, &first, PRINT_VARIABLES).await, warm_output("x x eno-fo-yek"));
    only(2).await;
    // A different value of a variable that the import read: another warm process.
    let third = client_with(&lab, &[("CORP_MODE", "y"), ("OPENAI_API_KEY", "key-of-three")]).await;
    assert_eq!(output_of(&lab, &third, PRINT_VARIABLES).await, warm_output("y y eerht-fo-yek"));
    only(3).await;
    for line in lab.warm_processes() {
        let pid = line.split(' ').next().expect("pid");
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).expect("environment");
        assert!(!environment.contains("key-of"), "{environment}");
    }
    for client in [first, second, third] {
        client.close().await;
    }
    lab.nobody_is_left().await;
}

/// The reason of a cold start.
async fn cold_reason(client: &Client, id: &str) -> String {
    let status = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    status["runs"][0]["details"]["cold_because"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned()
}

#[tokio::test]
async fn an_import_that_reads_a_key_makes_runs_cold_and_is_not_repeated() {
    let imports = "if __name__ != '__main__':\n    open(os.path.expanduser('~/imports'), 'a').write('i')\n";
    let asks = STAND_IN.replace("CORP_MODE", "CORP_API_KEY");
    let (before, after) = asks.split_once("AT_IMPORT").expect("the place");
    // The import would never end, so this checks that the run does not wait for it.
    let endless = "if __name__ != '__main__':\n    threading.Event().wait()\n";
    let script = format!("{before}{imports}AT_IMPORT{after}");
    let script = script.replace(
        "dotenv.load_dotenv(os.path.join(os.path.exp",
        &format!("{endless}dotenv.load_dotenv(os.path.join(os.path.exp"),
    );
    let lab = Lab::python(&script).await.with_warm_starts();
    lab.put("c.yaml", CONFIG);
    for key in ["key-of-one", "key-of-two"] {
        let client = client_with(&lab, &[("CORP_API_KEY", key)]).await;
        let id = client.start(json!({"question": "print(AT_IMPORT[::-1])", "config": "c.yaml", "fresh": true})).await;
        client.end(&id).await;
        let because = cold_reason(&client, &id).await;
        assert_eq!(because, "MassGen's import reads CORP_API_KEY, which no warm process is given");
        let log = std::fs::read_to_string(lab.run_folder(&id).join("supervisor.log")).expect("log");
        assert!(log.contains(&because), "{log}");
        let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
        assert_eq!(output.trim_end(), key.chars().rev().collect::<String>());
        client.close().await;
    }
    let imports = std::fs::read_to_string(lab.home().join("imports")).expect("imports");
    assert_eq!(imports, "i", "a refusal is remembered");
    let mut command = lab.command();
    command.args(["--pass-env", "CORP_API_KEY", "doctor", "--no-rehearsal"]).env("CORP_API_KEY", "key-of-three");
    let output = String::from_utf8(command.output().await.expect("ran").stdout).expect("UTF-8");
    let line = output.lines().find(|line| line.contains("warm starts")).unwrap_or_else(|| panic!("{output}"));
    assert!(line.starts_with("warning") && line.contains("MassGen's import reads CORP_API_KEY"), "{line}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_doctor_accepts_a_warm_process_for_another_environment() {
    let lab = Lab::python(STAND_IN).await.warm();
    let mut doctor = lab.command();
    doctor.args(["doctor", "--no-rehearsal"]);
    let output = String::from_utf8(doctor.output().await.expect("ran").stdout).expect("UTF-8");
    let line = output.lines().find(|line| line.contains("warm starts")).unwrap_or_else(|| panic!("{output}"));
    assert!(line.starts_with("ok") && line.ends_with("warm processes: 1"), "{line}");
}

#[tokio::test]
async fn a_cold_start_says_why() {
    let lab = Lab::python(STAND_IN).await;
    lab.put("c.yaml", CONFIG);
    let client = lab.client().await;
    let id = client.start(json!({"question": "print(1)", "config": "c.yaml"})).await;
    client.end(&id).await;
    assert_eq!(cold_reason(&client, &id).await, "the setting `warm` is off");
    client.close().await;
    // Only a Python script can be kept warm.
    let lab = Lab::fake().with_warm_starts();
    let client = lab.client().await;
    let id = client.start(crate::lab::fake("exit 0")).await;
    client.end(&id).await;
    assert!(cold_reason(&client, &id).await.starts_with("MassGen cannot be kept warm: "));
    client.close().await;
}

#[tokio::test]
async fn a_warm_process_ends_when_its_state_folder_is_removed() {
    let endless = "if __name__ != '__main__':\n    threading.Event().wait()\n";
    for (script, imports) in
        [(STAND_IN.to_owned(), false), (STAND_IN.replace("def main", &format!("{endless}def main")), true)]
    {
        let lab = Lab::python(&script).await.with_warm_starts();
        if imports {
            let mut begins = lab.command().arg("warm").spawn().expect("started");
            wait_until("it imports", || lab.warm_processes().len() == 1).await;
            begins.kill().await.expect("killed");
        } else {
            lab.warm_up(&[]);
        }
        warm_process(&lab).await;
        std::fs::remove_dir_all(lab.state()).expect("removed");
        wait_until("the warm process has ended", || lab.warm_processes().is_empty()).await;
    }
}

#[tokio::test]
async fn warm_stop_returns_after_all_processes_ended_and_another_can_start() {
    let lab = Lab::python(STAND_IN).await.warm();
    for _ in 0..5 {
        let before = warm_process(&lab).await;
        lab.warm_up(&["--stop"]);
        assert!(lab.warm_processes().is_empty());
        lab.warm_up(&["--rehearsal"]);
        assert_ne!(warm_process(&lab).await, before);
    }
    lab.warm_up(&["--stop"]);
}

#[tokio::test]
async fn env_files_are_read_for_each_run() {
    let lab = Lab::python(STAND_IN).await;
    let file = lab.home().join("keys.env");
    std::fs::write(&file, "FROM_HOME=before\n").expect("written");
    let lab = lab.warm();
    lab.put("configs/.env", "OF_PROJECT=here\n");
    let client = lab.client().await;
    let text = "print(os.environ.get('FROM_HOME'), os.environ.get('OF_PROJECT'))";
    let there = json!({"config": "@rehearsal", "context": "read"});
    std::fs::write(&file, "FROM_HOME=after\n").expect("written");
    let (start, [_, output, _]) = run_with(&lab, &client, text, there).await;
    assert_eq!((start.as_str(), output.as_str()), ("warm", "after here\n"));
    let (_, [_, output, _]) = run(&lab, &client, text).await;
    assert_eq!(output, "after None\n", "a run outside the project has none of its variables");
    client.close().await;
    lab.nobody_is_left().await;
}

fn send_signal(pid: &str, signal: &str) {
    assert!(std::process::Command::new("kill").args([signal, pid]).status().expect("kill").success());
}

/// The pid of the one warm process.
async fn warm_process(lab: &Lab) -> String {
    // A keeper has the same name for an instant, before it sets its own.
    wait_until("one warm process is running", || lab.warm_processes().len() == 1).await;
    lab.warm_processes()[0].split(' ').next().expect("pid").to_owned()
}

/// Starts a run that waits for a file, with a grandchild in its own session.
async fn start_waiting_run(lab: &Lab, client: &Client) -> String {
    let go = lab.project().join("go");
    let stray = "subprocess.Popen(['sleep', '300'], start_new_session=True)";
    let text = format!("GO = {go:?}\nstray = {stray}\nprint('ready')\n{WAIT_FOR_GO}stray.kill()");
    let id = client.start(json!({"question": text, "config": "@rehearsal"})).await;
    let stdout = lab.run_folder(&id).join("stdout.log");
    wait_until("the run is working", || std::fs::read_to_string(&stdout).is_ok_and(|output| output.contains("ready")))
        .await;
    id
}

#[tokio::test]
async fn f53_runs_survive_the_warm_process_and_the_next_run_starts_another() {
    let lab = Lab::python(STAND_IN).await.warm();
    let client = lab.client().await;
    let id = start_waiting_run(&lab, &client).await;
    let first = warm_process(&lab).await;
    send_signal(&first, "-KILL");
    wait_until("the process is gone", || lab.warm_processes().is_empty()).await;
    lab.put("go", "");
    assert_eq!(client.end(&id).await["exit"], "0");
    assert_eq!(start(&client, &id).await, "warm");
    assert_eq!(run(&lab, &client, "print(1)").await.0, "warm");
    assert_ne!(warm_process(&lab).await, first);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f54_a_run_whose_keeper_is_killed_ends_completely_with_exit_unknown() {
    let lab = Lab::python(STAND_IN).await.warm();
    let client = lab.client().await;
    let id = start_waiting_run(&lab, &client).await;
    let keeper = lab.record(&id)["keeper"]["pid"].to_string();
    send_signal(&keeper, "-KILL");
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("lost"), &json!("unknown")), "{run}");
    lab.only_servers_are_left().await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f55_a_warm_process_that_does_not_answer_makes_runs_cold() {
    let lab = Lab::python(STAND_IN).await.warm();
    let client = lab.client().await;
    let pid = warm_process(&lab).await;
    send_signal(&pid, "-STOP");
    let (start, [exit, ..]) = run(&lab, &client, "sys.exit(3)").await;
    assert_eq!((start.as_str(), exit.as_str()), ("cold", "\"3\""));
    send_signal(&pid, "-CONT");
    // The request that timed out starts nothing after the process continues.
    assert_eq!(run(&lab, &client, "sys.exit(3)").await.0, "warm");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f56_a_failed_import_makes_runs_cold_with_the_reason() {
    let lab = Lab::python("import no_such_module").await;
    let failed = lab.command().arg("warm").output().await.expect("ran");
    let output = String::from_utf8(failed.stderr).expect("UTF-8");
    assert!(failed.status.code() == Some(1) && output.contains("not_warm"), "{output}");
    let mut command = lab.command();
    command.env("MASSGEN_MCP_WARM", "true");
    let client = lab.client_of(command).await;
    let (start, [exit, _, output]) = run(&lab, &client, "print(1)").await;
    assert_eq!((start.as_str(), exit.as_str()), ("cold", "\"1\""));
    assert!(output.contains("no_such_module"), "{output}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_supervisor_that_waits_for_an_import_obeys_a_stop() {
    let lab =
        Lab::python(&format!("if __name__ != '__main__':\n    import threading; threading.Event().wait()\n{STAND_IN}"))
            .await;
    let mut command = lab.command();
    command.env("MASSGEN_MCP_WARM", "true");
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "time.sleep(300)", "config": "@rehearsal"})).await;
    let waits = || lab.processes().iter().any(|line| line.contains(" supervise ")) && lab.warm_processes().len() == 1;
    wait_until("the supervisor waits for an endless import", waits).await;
    lab.signal_supervisor("-TERM");
    let run = client.end(&id).await;
    assert_eq!(run["state"], "killed", "{run}");
    // Without a stop the wait for an import lasts a minute.
    assert!(run["elapsed_s"].as_u64().is_some_and(|seconds| seconds < 60), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_changed_program_is_imported_again() {
    let lab = Lab::python(STAND_IN).await.warm();
    let client = lab.client().await;
    let text = std::fs::read_to_string(lab.massgen()).expect("script");
    std::fs::write(lab.massgen(), text.replace("AT_IMPORT = ", "AT_IMPORT = 'new' # ")).expect("written");
    let (start, [_, output, _]) = run(&lab, &client, "print(AT_IMPORT)").await;
    assert_eq!((start.as_str(), output.as_str()), ("warm", "new\n"));
    wait_until("both processes are running", || lab.warm_processes().len() == 2).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_warm_command_starts_and_stops_a_process_and_an_idle_one_ends() {
    let lab = Lab::python(STAND_IN).await.warm();
    let pid = warm_process(&lab).await;
    lab.warm_up(&["--rehearsal"]);
    assert_eq!(warm_process(&lab).await, pid, "the existing process is kept");
    lab.warm_up(&["--stop"]);
    wait_until("the warm process has ended", || lab.warm_processes().is_empty()).await;

    // The warm process's own program, with a shorter idle time.
    let folder = lab.state().join("warm");
    let script = std::fs::read_dir(&folder).expect("folder").flatten().map(|entry| entry.path());
    let script = script.into_iter().find(|path| path.extension().is_some_and(|e| e == "py")).expect("the program");
    let text = std::fs::read_to_string(lab.massgen()).expect("script");
    let interpreter = text.lines().next().and_then(|line| line.strip_prefix("#!")).expect("interpreter");
    let mut command = tokio::process::Command::new(interpreter);
    let lock = std::fs::File::create(folder.join("short.lock")).expect("lock");
    command.arg("-u").arg(script).arg("short").arg(lab.massgen()).arg("0.2").current_dir(&folder).stdin(lock);
    let ended = command.status().await.expect("ran");
    assert_eq!((ended.code(), ended.signal()), (Some(0), None));
    assert!(!folder.join("short.sock").exists());
    lab.nobody_is_left().await;
}
