//! A soak test: a thousand runs, fifty at a time, with a random kill of a run or a server every second.
//!
//! `cargo run --release --example soak [-- RUNS [AT_A_TIME]]` prints the numbers of lost runs, wrong answers and remaining processes,
//! and the file descriptors and memory of a server that lived through the whole test.
//! This program has all roles (server, supervisor, exec step, MassGen's stand-in), selected by its first argument, so it tests the
//! library itself. It uses no network and leaves no process or file.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use massgen_mcp::fleet::Fleet;
use massgen_mcp::registry::StateFolder;
use massgen_mcp::settings::Flags;
use massgen_mcp::{server, supervisor};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{Peer, RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};

/// The path of this program.
const ME: &str = "/proc/self/exe";

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let role = args.get(1).map(|role| role.to_string_lossy().into_owned()).unwrap_or_default();
    match role.as_str() {
        "--home" => runtime(false)?.block_on(serve(Path::new(&args[2]), Path::new(&args[4])))?,
        "supervise" => runtime(true)?.block_on(supervisor::supervise(Path::new(&args[2]), Path::new(ME)))?,
        "exec" => return become_massgen(&args),
        "--automation" => stand_in(&args)?,
        _ => return runtime(false)?.block_on(soak(number(&args, 1, 1000)?, number(&args, 2, 50)?)),
    }
    Ok(ExitCode::SUCCESS)
}

fn number(args: &[OsString], index: usize, default: usize) -> anyhow::Result<usize> {
    let argument = args.get(index).map(|text| text.to_string_lossy().parse().context("give numbers: RUNS AT_A_TIME"));
    argument.unwrap_or(Ok(default))
}

fn runtime(one_thread: bool) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = if one_thread {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

async fn serve(home: &Path, massgen: &Path) -> anyhow::Result<()> {
    let mut settings = Flags::default().resolve()?;
    settings.massgen = Some(massgen.to_owned());
    // The client sets the pace of the soak test; other tests cover the queue and its limits.
    (settings.limits.max_runs, settings.limits.starts_per_minute) = (1000, 10_000);
    let fleet = Fleet::new(StateFolder::open(home)?, Path::new(ME));
    server::serve(fleet, settings).await?;
    std::process::exit(0);
}

fn become_massgen(args: &[OsString]) -> anyhow::Result<ExitCode> {
    let pid = args[2].to_string_lossy().parse()?;
    let Err((_, error)) = supervisor::exec_massgen(pid, Path::new(&args[3]), &args[4..]);
    bail!(error)
}

/// The stand-in for MassGen: creates its log folder, works for a while, answers. Some runs leave an orphan, some never end by themselves.
fn stand_in(args: &[OsString]) -> anyhow::Result<()> {
    let config = std::fs::read_to_string(args.get(4).context("a config")?)?;
    let question = config.lines().find_map(|line| line.strip_prefix("\"prompt\": ")).context("a question")?;
    let question: String = serde_json::from_str(question)?;
    let number: u64 = question.rsplit(' ').next().context("a number")?.parse()?;
    let turn = PathBuf::from(std::env::var_os("MASSGEN_LOG_BASE_DIR").context("logs")?).join("log_1/turn_1");
    std::fs::create_dir_all(turn.join("attempt_1"))?;
    for step in 0..number % 7 {
        std::thread::sleep(Duration::from_millis(100));
        let status =
            json!({"coordination": {"phase": format!("step {step}")}, "agents": {"a": {"answer_count": step}}});
        let draft = turn.join("attempt_1/status.json.tmp");
        std::fs::write(&draft, status.to_string())?;
        std::fs::rename(draft, turn.join("attempt_1/status.json"))?;
    }
    if number.is_multiple_of(5) {
        Command::new("setsid").args(["sleep", "600"]).spawn()?;
    }
    if number.is_multiple_of(11) {
        std::thread::sleep(Duration::from_secs(600));
    }
    std::fs::create_dir_all(turn.join("final/a"))?;
    std::fs::write(turn.join("final/a/answer.txt"), answer(&question))?;
    Ok(())
}

fn answer(question: &str) -> String {
    format!("the answer to {question}\n").repeat(1 + question.len() % 50)
}

/// The counters of a soak test.
#[derive(Default)]
struct Tally {
    started: usize,
    ended: HashMap<String, usize>,
    lost: usize,
    wrong: usize,
    kills: usize,
    restarts: usize,
}

async fn soak(runs: usize, at_a_time: usize) -> anyhow::Result<ExitCode> {
    let root = tempfile::tempdir()?;
    let observer = Client::connect(root.path()).await?;
    let mut worker = Client::connect(root.path()).await?;
    // The footprint of a server is stable only after some work.
    let mut before = None;
    let (mut tally, mut live, mut dice) = (Tally::default(), HashMap::new(), Dice(0x5eed));
    let mut last_fault = Instant::now();
    let mut kills = tokio::task::JoinSet::new();
    while tally.started < runs || !live.is_empty() {
        // Only a few starts per round, so that kills happen on time.
        for _ in 0..at_a_time.saturating_sub(live.len()).min(5).min(runs - tally.started) {
            let question = format!("question number {}", tally.started);
            let run = worker.call("run_massgen", json!({"question": question, "config": "@rehearsal"})).await?;
            live.insert(run["run_id"].as_str().context("run_id")?.to_owned(), question);
            tally.started += 1;
        }
        if last_fault.elapsed() >= Duration::from_secs(1) {
            last_fault = Instant::now();
            if dice.roll(2) == 0 {
                worker.kill().await?;
                worker = Client::connect(root.path()).await?;
                tally.restarts += 1;
            } else if let Some(id) = live.keys().nth(dice.roll(live.len())).cloned() {
                let observer = observer.peer();
                kills.spawn(async move { call(&observer, "kill_run", json!({"run_id": id, "grace_s": 0})).await });
                tally.kills += 1;
            }
        }
        check_ended_runs(&observer, &mut live, &mut tally).await?;
        let a_tenth = tally.ended.values().sum::<usize>() * 10 >= runs;
        if let (None, true, Some(id)) = (before, a_tenth, live.keys().next()) {
            // The first real wait opens the file watcher, which stays open.
            observer.call("check_status", json!({"run_id": id, "wait_s": 0.05, "until": "all_done"})).await?;
            before = Some(observer.footprint()?);
        }
    }
    while let Some(killed) = kills.join_next().await {
        killed??;
    }
    let (before, after) = (before.context("no run has ended")?, observer.footprint()?);
    observer.close().await?;
    worker.close().await?;
    let left = left_processes(root.path())?;
    report(&tally, left, before, after)
}

/// Waits for an end and compares the answer of each ended run with the expected one.
async fn check_ended_runs(
    observer: &Client,
    live: &mut HashMap<String, String>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let ids: Vec<_> = live.keys().cloned().collect();
    if ids.is_empty() {
        return Ok(());
    }
    let status = observer.call("check_status", json!({"run_ids": ids, "wait_s": 0.5, "until": "any_done"})).await?;
    for run in status["runs"].as_array().context("runs")? {
        let state = run["state"].as_str().context("state")?.to_owned();
        if matches!(state.as_str(), "starting" | "running" | "stopping") {
            continue;
        }
        let id = run["run_id"].as_str().context("run_id")?;
        let question = live.remove(id).context("a run that was asked about")?;
        match state.as_str() {
            "succeeded" => {
                let page = observer.call("read_result", json!({"run_id": id})).await?;
                tally.wrong += usize::from(page["text"] != answer(&question));
            }
            "killed" => {}
            _ => tally.lost += 1,
        }
        *tally.ended.entry(state).or_default() += 1;
    }
    // Some runs never end by themselves; when only those are left, kill them.
    let forever = |question: &&String| {
        question.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n.is_multiple_of(11))
    };
    if live.values().all(|question| forever(&question)) {
        for id in live.keys() {
            observer.call("kill_run", json!({"run_id": id, "grace_s": 0})).await?;
        }
    }
    Ok(())
}

fn report(tally: &Tally, left: usize, before: Footprint, after: Footprint) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    writeln!(out, "runs started       {}, ended {:?}", tally.started, tally.ended)?;
    writeln!(out, "trouble made       {} kills, {} servers ended by SIGKILL", tally.kills, tally.restarts)?;
    writeln!(out, "runs lost          {}", tally.lost)?;
    writeln!(out, "answers wrong      {}", tally.wrong)?;
    writeln!(out, "processes left     {left}")?;
    writeln!(out, "file descriptors   {} after a tenth, {} at the end", before.descriptors, after.descriptors)?;
    writeln!(
        out,
        "resident memory    {} KiB after a tenth, {} KiB at the end",
        before.resident_kib, after.resident_kib
    )?;
    // Allow some growth for the allocator. A leak in every run would be much larger.
    let steady = after.descriptors <= before.descriptors && after.resident_kib <= before.resident_kib * 5 / 4;
    let passed = tally.lost == 0 && tally.wrong == 0 && left == 0 && steady;
    writeln!(out, "{}", if passed { "good" } else { "NOT GOOD" })?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Processes whose environment or command line names the soak's folder.
fn left_processes(root: &Path) -> anyhow::Result<usize> {
    let mark = root.to_str().context("UTF-8")?;
    let names = |pid: &str, part: &str| {
        std::fs::read(format!("/proc/{pid}/{part}")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(mark))
    };
    let started = Instant::now();
    loop {
        let pids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let left = pids.filter(|pid| pid.parse::<u32>().is_ok_and(|pid| pid != std::process::id()));
        let left = left.filter(|pid| names(pid, "cmdline") || names(pid, "environ")).count();
        // Servers that have just been stopped need a moment.
        if left == 0 || started.elapsed() > Duration::from_secs(10) {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The resources that a process holds.
#[derive(Clone, Copy)]
struct Footprint {
    descriptors: usize,
    resident_kib: u64,
}

struct Client {
    session: RunningService<RoleClient, ()>,
    pid: u32,
}

impl Client {
    async fn connect(root: &Path) -> anyhow::Result<Client> {
        let me = std::env::current_exe()?;
        let mut command = tokio::process::Command::new(&me);
        command.arg("--home").arg(root.join("state")).arg("--massgen").arg(&me);
        let server = TokioChildProcess::new(command)?;
        let pid = server.id().context("pid")?;
        Ok(Client { session: ().serve(server).await?, pid })
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
        call(self.session.peer(), tool, arguments).await
    }

    fn peer(&self) -> Peer<RoleClient> {
        self.session.peer().clone()
    }

    fn footprint(&self) -> anyhow::Result<Footprint> {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let resident_kib = line.trim().trim_end_matches(" kB").parse()?;
        Ok(Footprint { descriptors, resident_kib })
    }

    async fn kill(self) -> anyhow::Result<()> {
        let killed = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status()?;
        ensure!(killed.success(), "the server had ended by itself");
        self.session.waiting().await?;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        self.session.cancel().await?;
        Ok(())
    }
}

async fn call(server: &Peer<RoleClient>, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
    let object = arguments.as_object().cloned().unwrap_or_default();
    let answer = server.call_tool(CallToolRequestParams::new(tool).with_arguments(object)).await?;
    ensure!(answer.is_error != Some(true), "{tool} {arguments}: {:?}", answer.content);
    answer.structured_content.context("structured")
}

/// A random number generator with a fixed sequence.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap_or_default()
    }
}
