//! Process life: F1 to F13. After a kill that says killed no process of the run exists, and exit 0 is no success.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::lab::{Client, Lab, PROGRAM, fake, wait_until};

/// A running run, and a lock that all of its processes hold. If the lock is free, none of them lives, not even one that a scan of
/// /proc misses.
struct Bench {
    lab: Lab,
    client: Client,
    id: String,
}

impl Bench {
    /// Starts a script and waits until it runs. `@` in it stands for the project folder.
    async fn running(script: &str) -> Bench {
        let lab = Lab::fake_in(module_path!()).await;
        let client = lab.client().await;
        let id = client.start(script_in(&lab, &format!("lock @/lock\n{script}"))).await;
        client.until(&id, |run| run["state"] == "running").await;
        Bench { lab, client, id }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.project().join(name)
    }

    fn make(&self, name: &str) {
        self.lab.put(name, "");
    }

    /// Kills the run, asserts that no process of it is left, and gives the receipt.
    async fn kill(&self, grace_s: f64) -> Value {
        let receipt = killed(&self.client, &self.id, grace_s).await;
        self.nobody_lives();
        assert_eq!(receipt["survivors"], json!([]), "{receipt}");
        receipt
    }

    /// Asserts that no process of the run exists now; it does not wait.
    fn nobody_lives(&self) {
        let left = of_run(&self.lab);
        assert!(left.is_empty(), "{left:?}");
        assert!(is_free(&self.file("lock")), "a process that no scan finds holds the lock");
    }

    fn leader(&self) -> Pid {
        pid(self.lab.record(&self.id)["leader"]["pid"].as_i64().expect("leader"))
    }

    fn supervisor(&self) -> Pid {
        self.find(" supervise ")
    }

    /// The process whose command line has these words.
    fn find(&self, words: &str) -> Pid {
        let line = self.lab.processes().into_iter().find(|line| line.contains(words)).expect("there");
        pid(line.split(' ').next().and_then(|pid| pid.parse().ok()).expect("pid"))
    }

    /// Waits until the script has started this number of sleeping processes.
    async fn sleepers(&self, count: usize) {
        let asleep = || of_run(&self.lab).iter().filter(|line| line.contains("sleep 300")).count();
        wait_until("the sleepers have started", || asleep() == count).await;
    }

    /// Waits until the processes that fork without pause have been ten different ones.
    async fn storm_forks(&self) {
        let seen = RefCell::new(BTreeSet::new());
        wait_until("the storm forks", || {
            let now = of_run(&self.lab).into_iter().filter(|line| line.contains("--storm"));
            seen.borrow_mut().extend(now);
            seen.borrow().len() >= 10
        })
        .await;
    }

    async fn close(self) {
        self.client.close().await;
        self.lab.nobody_is_left().await;
    }
}

fn script_in(lab: &Lab, script: &str) -> Value {
    fake(&script.replace('@', lab.project().to_str().expect("UTF-8")))
}

async fn killed(client: &Client, id: &str, grace_s: f64) -> Value {
    loop {
        let mut answer = client.call("kill_run", json!({"run_id": id, "grace_s": grace_s})).await;
        let receipt = answer["receipts"][0].take();
        if receipt["state"] != "stopping" {
            return receipt;
        }
    }
}

/// The processes of runs: all but servers and supervisors.
fn of_run(lab: &Lab) -> Vec<String> {
    let ours = [format!(" {PROGRAM} "), " massgen-mcp supervise ".to_owned()];
    lab.processes().into_iter().filter(|line| !ours.iter().any(|ours| line.contains(ours))).collect()
}

fn is_free(lock: &Path) -> bool {
    File::open(lock).expect("lock").try_lock().is_ok()
}

fn pid(number: i64) -> Pid {
    Pid::from_raw(number.try_into().expect("pid")).expect("pid")
}

fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("sent");
}

/// The state letter of a process in /proc; `None` if there is no such process.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn facts(run: &Value) -> [&str; 3] {
    [&run["state"], &run["problem"]["code"], &run["exit"]].map(|fact| fact.as_str().unwrap_or("-"))
}

/// Runs each script to its end and compares state, problem code and exit.
async fn come_out(table: &[(&str, [&str; 3])]) {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    for (script, expected) in table {
        let id = client.start(fake(&format!("announce\n{script}"))).await;
        let run = client.end(&id).await;
        assert_eq!(facts(&run), *expected, "{script}: {run}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f01_every_exit_code_is_reported_and_none_decides_alone() {
    come_out(&[
        ("exit 0", ["failed", "agents_failed", "0"]),
        ("exit 1", ["failed", "crashed", "1"]),
        ("exit 2", ["failed", "crashed", "2"]),
        ("exit 3", ["failed", "crashed", "3"]),
        ("exit 4", ["failed", "crashed", "4"]),
        ("exit 77", ["failed", "crashed", "77"]),
        ("exit 255", ["failed", "crashed", "255"]),
        ("status {\"finish_reason\": \"timeout\"}\nexit 3", ["timed_out", "massgen_timeout", "3"]),
        ("final agent_a done\nexit 0", ["succeeded", "-", "0"]),
        ("final agent_a done\nexit 1", ["succeeded", "-", "1"]),
        ("final agent_a done\nexit 77", ["succeeded", "-", "77"]),
    ])
    .await;
}

#[tokio::test]
async fn f01_every_signal_is_reported_and_a_core_dump_is_a_crash() {
    come_out(&[
        ("die HUP", ["killed", "killed_from_outside", "SIGHUP"]),
        ("die INT", ["killed", "killed_from_outside", "SIGINT"]),
        ("die TERM", ["killed", "killed_from_outside", "SIGTERM"]),
        ("die KILL", ["killed", "killed_from_outside", "SIGKILL"]),
        ("die SEGV", ["failed", "crashed", "SIGSEGV"]),
        ("die ABRT", ["failed", "crashed", "SIGABRT"]),
    ])
    .await;
}

#[tokio::test]
async fn f02_a_program_that_is_no_executable_file_starts_nothing() {
    let lab = Lab::scripted("exit 0");
    let client = lab.client().await;
    let ask = || client.refused("run_massgen", json!({"question": "q", "config": "@rehearsal"}));
    std::fs::set_permissions(lab.massgen(), PermissionsExt::from_mode(0o644)).expect("chmod");
    assert_eq!(ask().await, "program_missing", "not executable");
    std::fs::remove_file(lab.massgen()).expect("removed");
    assert_eq!(ask().await, "program_missing", "missing");
    std::fs::create_dir(lab.massgen()).expect("mkdir");
    assert_eq!(ask().await, "program_missing", "a folder");
    assert_eq!(client.call("check_status", json!({})).await["runs"], json!([]));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f02_a_program_with_a_bad_interpreter_is_program_missing() {
    let lab = Lab::scripted("");
    let client = lab.client().await;
    for interpreter in ["/no/such/interpreter", "/dev/null", "/"] {
        std::fs::write(lab.massgen(), format!("#!{interpreter}\n")).expect("write");
        let run = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 50})).await;
        assert_eq!(facts(&run)[..2], ["failed", "program_missing"], "{interpreter}: {run}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f02_a_question_of_200_kb_arrives_whole() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let script = "#!fake\nannounce\nfinal agent_a ";
    // Longer than an argument of a program may be, and as long as a question may be.
    for bytes in [200 << 10, 1 << 20] {
        let answer = "x".repeat(bytes - script.len());
        let asked = json!({"question": format!("{script}{answer}"), "config": "@rehearsal"});
        let run = client.end(&client.start(asked).await).await;
        assert_eq!((&run["state"], &run["answer_chars"]), (&json!("succeeded"), &json!(answer.len())), "{run}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f02_a_question_is_added_to_a_config_that_has_an_end_mark() {
    let lab = Lab::fake_in(module_path!()).await;
    lab.put("ended.yaml", "agents: []\n...\n");
    let client = lab.client().await;
    let asked = json!({"question": "q", "config": "ended.yaml", "wait_s": 50});
    let run = client.call("run_massgen", asked).await;
    // Without a question MassGen would wait for one and never end.
    assert_eq!(facts(&run)[..2], ["succeeded", "-"], "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f03_the_last_lines_of_a_start_that_dies_at_once_are_in_the_answer() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let table = [
        ("one is wrong\ntwo is wrong\nthree is wrong", "crashed"),
        ("❌ Configuration error: one is wrong\n  - two is wrong\n  - three is wrong", "config_invalid"),
    ];
    // Several times, because its output races with its end.
    for (said, code) in table.iter().cycle().take(8) {
        let script: String = said.lines().map(|line| format!("complain {line}\n")).collect();
        let mut asked = fake(&format!("{script}exit 1"));
        asked["wait_s"] = json!(50);
        let run = client.call("run_massgen", asked).await;
        assert_eq!(facts(&run)[..2], ["failed", code], "{run}");
        for line in ["one is wrong", "two is wrong", "three is wrong"] {
            assert!(run["problem"]["message"].as_str().expect("message").contains(line), "{run}");
        }
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f04_a_leader_that_ignores_sigint_is_ended_with_sigterm() {
    let bench = Bench::running("count @/asked\nchild\nannounce\nforever").await;
    let receipt = bench.kill(0.2).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGTERM")), "{receipt}");
    assert_eq!(std::fs::read_to_string(bench.file("asked")).expect("asked"), "SIGINT\n");
    assert_eq!(bench.client.end(&bench.id).await["exit"], "SIGTERM");
    bench.close().await;
}

#[tokio::test]
async fn f05_a_leader_that_ignores_sigint_and_sigterm_is_killed() {
    let bench = Bench::running("ignore\nchild\nannounce\nforever").await;
    let receipt = bench.kill(0.2).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGKILL")), "{receipt}");
    assert_eq!(bench.client.end(&bench.id).await["exit"], "SIGKILL");
    bench.close().await;
}

#[tokio::test]
async fn f06_a_grandchild_that_double_forks_and_leaves_the_session_is_ended() {
    let bench = Bench::running("stray\nannounce\nforever").await;
    bench.sleepers(1).await;
    let receipt = bench.kill(60.0).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGTERM")), "{receipt}");
    assert!(receipt["processes"].as_u64() >= Some(2), "{receipt}");
    bench.close().await;
}

#[tokio::test]
async fn f06_a_grandchild_that_ignores_signals_is_killed() {
    let bench = Bench::running("deaf\nstray\nannounce\nforever").await;
    bench.sleepers(2).await;
    let receipt = bench.kill(60.0).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGKILL")), "{receipt}");
    bench.close().await;
}

#[tokio::test]
async fn f07_a_grandchild_that_holds_stdout_open_does_not_delay_the_end() {
    for (last, expected) in
        [("exit 3", ["failed", "crashed", "3"]), ("final agent_a done\nexit 0", ["succeeded", "-", "0"])]
    {
        let bench = Bench::running(&format!("hold\nannounce\nuntil @/go\n{last}")).await;
        bench.sleepers(1).await;
        bench.make("go");
        let run = bench.client.end(&bench.id).await;
        assert_eq!(facts(&run), expected, "{run}");
        bench.nobody_lives();
        bench.close().await;
    }
}

#[tokio::test]
async fn f08_processes_that_fork_without_pause_are_all_ended() {
    let bench = Bench::running("storm\nstorm\nannounce\nforever").await;
    bench.storm_forks().await;
    let receipt = bench.kill(1.0).await;
    assert_eq!((&receipt["state"], &receipt["survivors"]), (&json!("killed"), &json!([])), "{receipt}");
    assert!(receipt["processes"].as_u64() >= Some(2), "{receipt}");
    bench.close().await;
}

/// Stops the supervisor and lets the leader end: the leader is a zombie with a child in its group.
async fn with_a_zombie_leader(bench: &Bench) {
    let (leader, supervisor) = (bench.leader(), bench.supervisor());
    bench.sleepers(1).await;
    signal(supervisor, Signal::STOP);
    wait_until("the supervisor is stopped", || state(supervisor) == Some('T')).await;
    bench.make("go");
    // After a warm start the keeper may have reaped it already; the stopped supervisor does not know that yet.
    wait_until("the leader is dead", || matches!(state(leader), Some('Z') | None)).await;
}

#[tokio::test]
async fn f09_the_group_of_a_zombie_leader_is_ended() {
    let bench = Bench::running("child\nannounce\nuntil @/go\nexit 3").await;
    with_a_zombie_leader(&bench).await;
    assert_eq!(bench.client.call("check_status", json!({"run_id": bench.id})).await["runs"][0]["state"], "running");
    signal(bench.supervisor(), Signal::CONT);
    let run = bench.client.end(&bench.id).await;
    assert_eq!(facts(&run), ["failed", "crashed", "3"], "{run}");
    bench.nobody_lives();
    bench.close().await;
}

#[tokio::test]
async fn f09_a_process_whose_first_thread_has_ended_counts_as_alive() {
    let bench = Bench::running("headless-child @/headless\nuntil @/headless\nannounce\nforever").await;
    let receipt = bench.kill(60.0).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGTERM")), "{receipt}");
    bench.close().await;

    let bench = Bench::running("announce\nuntil @/go\nheadless @/headless").await;
    bench.make("go");
    wait_until("the leader has lost its first thread", || bench.file("headless").exists()).await;
    let run = bench.client.call("check_status", json!({"run_id": bench.id})).await["runs"][0].take();
    assert_eq!(run["state"], "running", "{run}");
    let receipt = bench.kill(60.0).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGINT")), "{receipt}");
    bench.close().await;
}

#[tokio::test]
async fn f10_a_stopped_leader_is_killed_and_one_that_is_continued_goes_on() {
    for woken in [false, true] {
        let bench = Bench::running("announce\nuntil @/go\nstop\nfinal agent_a done\nexit 0").await;
        let leader = bench.leader();
        bench.make("go");
        wait_until("the leader is stopped", || state(leader) == Some('T')).await;
        let run = bench.client.call("check_status", json!({"run_id": bench.id})).await["runs"][0].take();
        assert_eq!(run["state"], "running", "a stopped leader has not ended: {run}");
        if woken {
            signal(leader, Signal::CONT);
            assert_eq!(facts(&bench.client.end(&bench.id).await), ["succeeded", "-", "0"]);
            bench.nobody_lives();
        } else {
            let receipt = bench.kill(0.2).await;
            assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGKILL")), "{receipt}");
        }
        bench.close().await;
    }
}

#[tokio::test]
async fn f10_stopped_children_are_killed() {
    let bench = Bench::running("stray\nannounce\nforever").await;
    bench.sleepers(1).await;
    let stray = bench.find("sleep 300");
    signal(stray, Signal::STOP);
    wait_until("the child is stopped", || state(stray) == Some('T')).await;
    let receipt = bench.kill(60.0).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGKILL")), "{receipt}");
    bench.close().await;
}

/// The stop is requested after the leader's end and before the supervisor can know of the end. Which event the supervisor sees first
/// is chance, so the test repeats it.
#[tokio::test]
async fn f11_a_leader_that_ended_before_the_signal_was_not_killed() {
    for _ in 0..6 {
        let bench = Bench::running("child\nannounce\nuntil @/go\nfinal agent_a done\nexit 0").await;
        with_a_zombie_leader(&bench).await;
        let asked = bench.lab.run_folder(&bench.id).join("stop.json");
        let wake = async {
            wait_until("the stop is requested", || asked.exists()).await;
            signal(bench.supervisor(), Signal::TERM);
            signal(bench.supervisor(), Signal::CONT);
        };
        let (receipt, ()) = tokio::join!(bench.kill(60.0), wake);
        assert_eq!((&receipt["state"], &receipt["force"]), (&json!("succeeded"), &json!("SIGTERM")), "{receipt}");
        assert_eq!(bench.client.end(&bench.id).await["exit"], "0");
        bench.close().await;
    }
}

#[tokio::test]
async fn f11_a_kill_at_the_moment_of_the_end_reports_the_kill_or_the_end() {
    for _ in 0..6 {
        let bench = Bench::running("announce\nuntil @/go\nfinal agent_a done\nexit 0").await;
        bench.make("go");
        let receipt = bench.kill(60.0).await;
        let exit = bench.client.end(&bench.id).await["exit"].take();
        match receipt["state"].as_str().expect("state") {
            "succeeded" => assert_eq!((&receipt["force"], &exit), (&json!("none"), &json!("0")), "{receipt}"),
            "killed" => assert!(receipt["force"] == "SIGINT" && (exit == "SIGINT" || exit == "0"), "{exit} {receipt}"),
            other => panic!("{other}: {receipt}"),
        }
        bench.close().await;
    }
}

/// A second SIGINT would make MassGen exit without saving. The last request has no grace period: its SIGTERM comes long before the
/// minute that the other requests allow.
#[tokio::test]
async fn f12_many_stop_requests_send_one_sigint() {
    let bench = Bench::running("count @/asked\nannounce\nforever").await;
    let other = bench.lab.client().await;
    let last = async {
        wait_until("the first request has arrived", || bench.file("asked").exists()).await;
        signal(bench.supervisor(), Signal::INT);
        signal(bench.supervisor(), Signal::TERM);
        bench.kill(0.0).await
    };
    let (one, two, three) = tokio::join!(bench.kill(60.0), killed(&other, &bench.id, 60.0), last);
    for receipt in [one, two, three] {
        assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGTERM")), "{receipt}");
        assert!(receipt["took_s"].as_f64() < Some(60.0), "the last request shortens the stop: {receipt}");
    }
    assert_eq!(std::fs::read_to_string(bench.file("asked")).expect("asked"), "SIGINT\n");
    other.close().await;
    bench.close().await;
}

#[tokio::test]
async fn f13_exit_0_without_any_answer_is_no_success() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id =
        client.start(fake("announce\nstatus {\"finish_reason\": \"completed\", \"is_complete\": true}\nexit 0")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("failed"), &json!("0")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
