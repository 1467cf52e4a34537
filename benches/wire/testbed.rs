//! A state folder with any number of ended and live runs of the stand-in. Its processes and files are removed at the end, also after
//! an error.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use massgen_mcp::run::RunId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::process;
use crate::programs::Programs;

/// Much longer than anything here should take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// The config of every run. The stand-in does not use it.
const CONFIG: &str = "agents:\n  - id: agent_a\n    backend: {type: openai, model: gpt-5-mini}\n";
/// An invalid key, because the config requires one.
const NO_KEY: &str = "opens-no-door";
/// A real status.json of MassGen.
const STATUS: &str = include_str!("../../tests/data/status/complete_with_tools_workspaces.json");

pub(crate) struct Testbed<'a> {
    root: TempDir,
    programs: &'a Programs,
    /// Ids of ended runs. The first run was executed; the others are copies of it.
    ended: Vec<String>,
    /// Ids of live runs.
    live: Vec<String>,
}

impl<'a> Testbed<'a> {
    pub(crate) fn new(programs: &'a Programs) -> anyhow::Result<Testbed<'a>> {
        let root = tempfile::tempdir()?;
        for folder in ["state", "project", "home"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        let testbed = Testbed { root, programs, ended: Vec::new(), live: Vec::new() };
        testbed.put("team.yaml", CONFIG)?;
        Ok(testbed)
    }

    /// Puts a file into the project.
    pub(crate) fn put(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.path().join("project").join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let passed = ["PATH", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(passed).env("HOME", self.root.path().join("home"));
        command.env("OPENAI_API_KEY", NO_KEY);
        command
    }

    /// A new server with a client.
    pub(crate) fn server(&self) -> anyhow::Result<Client> {
        let mut command = self.command(&self.programs.server);
        command.arg("--home").arg(self.root.path().join("state"));
        command.arg("--project").arg(self.root.path().join("project")).arg("--massgen").arg(&self.programs.fake);
        command.args(["--max-runs", "1000", "--starts-per-minute", "10000"]);
        Client::start(command)
    }

    /// A new bare server with a client.
    pub(crate) fn bare(&self) -> anyhow::Result<Client> {
        Client::start(self.command(&self.programs.bare))
    }

    /// The arguments of a run of this script, one command per line.
    pub(crate) fn arguments(&self, script: &str) -> anyhow::Result<Value> {
        let path = self.put("script", script)?;
        Ok(json!({"question": format!("#!fake\ndo {}", path.display()), "config": "team.yaml", "fresh": true}))
    }

    /// The script commands of a stand-in with a real status.
    pub(crate) fn working() -> anyhow::Result<String> {
        let status: Value = serde_json::from_str(STATUS)?;
        Ok(format!("announce\nanswer agent_a an answer\nstatus {status}\n"))
    }

    /// Adds ended runs until this number is on disk.
    pub(crate) fn fill(&mut self, count: usize) -> anyhow::Result<()> {
        if self.ended.is_empty() {
            let mut server = self.server()?;
            let mut arguments = self.arguments(&format!("{}final agent_a the answer\n", Testbed::working()?))?;
            arguments["wait_s"] = json!(20);
            let (run, _) = server.call("run_massgen", &arguments)?;
            ensure!(run["state"] == "succeeded", "{run}");
            self.ended.push(run_id(&run)?);
            server.end()?;
        }
        for number in self.ended.len()..count {
            let number = u16::try_from(number)?.to_be_bytes();
            let copy = RunId::from_bytes([0, 0, 0, number[0], number[1]]).to_string();
            copy_run(&self.run_folder(&self.ended[0]), &self.run_folder(&copy), (&self.ended[0], &copy))?;
            self.ended.push(copy);
        }
        Ok(())
    }

    /// Starts idle runs until this number is live.
    pub(crate) fn live(&mut self, count: usize) -> anyhow::Result<()> {
        let arguments = self.arguments(&format!("{}forever\n", Testbed::working()?))?;
        self.start_all(count, &arguments)
    }

    pub(crate) fn start_all(&mut self, count: usize, arguments: &Value) -> anyhow::Result<()> {
        let mut server = self.server()?;
        while self.live.len() < count {
            let (run, _) = server.call("run_massgen", arguments)?;
            self.live.push(run_id(&run)?);
        }
        for id in &self.live {
            wait_for_agents(&mut server, id)?;
        }
        server.end()
    }

    /// Kills the live runs.
    pub(crate) fn end_all(&mut self) -> anyhow::Result<()> {
        let mut server = self.server()?;
        for id in self.live.drain(..) {
            server.call("kill_run", &json!({"run_id": id, "grace_s": 0}))?;
        }
        server.end()
    }

    pub(crate) fn an_ended_run(&self) -> &str {
        &self.ended[self.ended.len() / 2]
    }

    pub(crate) fn a_live_run(&self) -> &str {
        &self.live[self.live.len() / 2]
    }

    /// The pids of the live runs' supervisors.
    pub(crate) fn supervisors(&self) -> Vec<u32> {
        self.live.iter().filter_map(|id| self.supervisor(id).ok()).collect()
    }

    pub(crate) fn supervisor(&self, id: &str) -> anyhow::Result<u32> {
        let line = format!("supervise {}", self.run_folder(id).display());
        Ok(process::with_command_line(&line).first().context("a supervisor")?.0)
    }

    /// The pid of a run's stand-in.
    pub(crate) fn massgen(&self, id: &str) -> anyhow::Result<Pid> {
        let folder = self.run_folder(id).display().to_string();
        let found = process::with_command_line(&folder).into_iter().find(|(_, line)| line.contains("--automation"));
        Pid::from_raw(found.context("a stand-in")?.0.cast_signed()).context("a pid")
    }

    pub(crate) fn run_folder(&self, id: &str) -> PathBuf {
        self.root.path().join("state/runs").join(id)
    }

    /// The folder of a run's status.json.
    pub(crate) fn attempt(&self, id: &str) -> PathBuf {
        self.run_folder(id).join("logs/log_20260101_000000_000000/turn_1/attempt_1")
    }

    /// Waits until no process is left; an error after the timeout.
    pub(crate) fn close(self) -> anyhow::Result<()> {
        let mark = self.mark();
        let started = Instant::now();
        while !process::with_command_line(&mark).is_empty() {
            if started.elapsed() > TIMEOUT {
                bail!("left behind: {:?}", process::with_command_line(&mark));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn mark(&self) -> String {
        self.root.path().display().to_string()
    }
}

impl Drop for Testbed<'_> {
    /// Leaves no run behind, also after an error.
    fn drop(&mut self) {
        let mark = self.mark();
        for pid in process::with_command_line(&mark).iter().filter_map(|(pid, _)| Pid::from_raw(pid.cast_signed())) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

pub(crate) fn run_id(run: &Value) -> anyhow::Result<String> {
    Ok(run["run_id"].as_str().context("run_id")?.to_owned())
}

/// Waits until a run has reported its agents; returns the cursor.
pub(crate) fn wait_for_agents(server: &mut Client, id: &str) -> anyhow::Result<String> {
    let mut arguments = json!({"run_id": id});
    loop {
        let (status, _) = server.call("check_status", &arguments)?;
        let run = &status["runs"][0];
        ensure!(run["state"] == "starting" || run["state"] == "running", "{run}");
        let cursor = &status["cursor"];
        if !run["agents"].is_null() {
            return Ok(cursor.as_str().context("cursor")?.to_owned());
        }
        arguments = json!({"run_id": id, "wait_s": 20, "since": cursor});
    }
}

/// Copies a run's folder and replaces its id in all files.
fn copy_run(from: &Path, to: &Path, (old, new): (&str, &str)) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(path)?, copy)?;
        } else if entry.file_type()?.is_dir() {
            copy_run(&path, &copy, (old, new))?;
        } else {
            std::fs::write(copy, std::fs::read_to_string(path)?.replace(old, new))?;
        }
    }
    Ok(())
}
