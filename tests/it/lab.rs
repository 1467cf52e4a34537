//! The environment of a test: a state folder, a project and a home folder of its own, clients of the real server, and checks that no
//! process is left.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use massgen_mcp::massgen::program::{self, ProgramPlaces};
use massgen_mcp::massgen::setup::{self, PackageVersions};
use massgen_mcp::registry::FAILED_IMPORTS_FOLDER;
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// How long a test waits for a condition; far longer than it takes, so that a loaded machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// The program that cargo built.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_massgen-mcp");

/// The environment of one test.
pub(crate) struct Lab {
    root: TempDir,
    massgen: PathBuf,
    /// Whether runs are forked from a process that has imported MassGen.
    is_warm: bool,
}

impl Lab {
    /// With the real MassGen, which is set up first where it is missing.
    pub(crate) async fn real() -> Lab {
        let lab = Lab::with(real_massgen().await);
        assert!(lab.massgen.is_file());
        lab
    }

    /// With the real MassGen, kept warm if the name of the calling module ends in `_warm`. Such modules are the same tests, compiled a
    /// second time: what holds for a cold start must hold for a warm one.
    pub(crate) async fn real_in(module: &str) -> Lab {
        Lab::real().await.warm_in(module)
    }

    /// With the scripted stand-in, in the same way: for warm starts, a Python script that executes the stand-in after the fork.
    pub(crate) async fn fake_in(module: &str) -> Lab {
        if !is_warm(module) {
            return Lab::fake();
        }
        let become_it = format!("os.execv({:?}, sys.argv)", fake_program());
        Lab::python(&format!("import os, sys, dotenv\nif __name__ == '__main__':\n    {become_it}\n"))
            .await
            .warm_in(module)
    }

    /// With a Python script in place of MassGen, run by MassGen's interpreter.
    pub(crate) async fn python(script: &str) -> Lab {
        let interpreter = program::interpreter(&real_massgen().await).expect("MassGen's Python");
        Lab::with_script(&format!("#!{}\n{script}\n", interpreter.display()))
    }

    fn warm_in(mut self, module: &str) -> Lab {
        self.is_warm = is_warm(module);
        if self.is_warm {
            self.warm_up(&["--rehearsal"]);
        }
        self
    }

    /// Keeps MassGen warm from now on.
    pub(crate) fn warm(self) -> Lab {
        let lab = self.with_warm_starts();
        lab.warm_up(&["--rehearsal"]);
        lab
    }

    /// Makes runs start a warm process from now on; none exists yet.
    pub(crate) fn with_warm_starts(mut self) -> Lab {
        self.is_warm = true;
        self
    }

    /// Calls `massgen-mcp warm`.
    pub(crate) fn warm_up(&self, arguments: &[&str]) {
        let done = self.command().into_std().arg("warm").args(arguments).status().expect("ran");
        assert!(done.success(), "warm {arguments:?}: {done}");
    }

    /// With a shell script in place of MassGen.
    pub(crate) fn scripted(script: &str) -> Lab {
        Lab::with_script(&format!("#!/bin/sh\n{script}\n"))
    }

    fn with_script(script: &str) -> Lab {
        use std::os::unix::fs::PermissionsExt;
        let mut lab = Lab::with(PathBuf::new());
        let program = lab.root.path().join("bin/massgen");
        std::fs::create_dir(lab.root.path().join("bin")).expect("mkdir");
        std::fs::write(&program, script).expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        lab.massgen = program;
        lab
    }

    /// With the scripted stand-in: the question of a run is its script.
    pub(crate) fn fake() -> Lab {
        Lab::with(fake_program())
    }

    fn with(massgen: PathBuf) -> Lab {
        let root = tempfile::tempdir().expect("temp");
        for folder in ["state", "project", "home"] {
            std::fs::create_dir(root.path().join(folder)).expect("mkdir");
        }
        Lab { root, massgen, is_warm: false }
    }

    /// With another program in place of MassGen.
    pub(crate) fn named(mut self, massgen: PathBuf) -> Lab {
        self.massgen = massgen;
        self
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    pub(crate) fn run_folder(&self, id: &str) -> PathBuf {
        self.state().join("runs").join(id)
    }

    /// Puts a file into the project.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.project().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(&path, text).expect("write");
        path
    }

    /// The server's command line, in an environment without any key.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("--home")
            .arg(self.state())
            .arg("--project")
            .arg(self.project())
            .arg("--massgen")
            .arg(&self.massgen);
        self.at_home(&mut command);
        command.stderr(Stdio::null());
        command
    }

    /// The server's command line in the environment that a client gives: `HOME`, `PATH`, these variables and no others.
    pub(crate) fn command_with(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = self.command();
        command.env_clear().env("PATH", std::env::var_os("PATH").expect("PATH"));
        self.at_home(&mut command);
        command.envs(variables.iter().copied());
        command
    }

    /// Sets the environment of a program that gets no flags for this lab.
    pub(crate) fn surroundings(&self, command: &mut Command) {
        self.at_home(command);
        command.env("MASSGEN_MCP_HOME", self.state()).env("MASSGEN_MCP_PROJECT", self.project());
        command.env("MASSGEN_MCP_MASSGEN", &self.massgen);
    }

    /// Sets a home folder of the test's own and removes the developer's variables. The limits are high; tests of limits change them.
    fn at_home(&self, command: &mut Command) {
        command.env("HOME", self.home());
        command.env("MASSGEN_MCP_STARTS_PER_MINUTE", "10000").env("MASSGEN_MCP_MAX_RUNS", "1000");
        command.env("MASSGEN_MCP_TRUSTED_CONFIGS", self.project());
        // A warm process outlives servers.
        command.env("MASSGEN_MCP_WARM", self.is_warm.to_string());
        for name in ["OPENAI_API_KEY", "RUST_LOG", "XDG_CONFIG_HOME", "MASSGEN_MCP_SETTINGS"] {
            command.env_remove(name);
        }
    }

    /// The user's home folder.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn massgen(&self) -> &Path {
        &self.massgen
    }

    /// Starts a server and a session with it.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(self.command()).await
    }

    pub(crate) async fn client_of(&self, command: Command) -> Client {
        let server = TokioChildProcess::new(command).expect("server starts");
        let pid = server.id().expect("pid");
        Client { session: ().serve(server).await.expect("session"), pid }
    }

    /// A run's record, as it is on disk.
    pub(crate) fn record(&self, id: &str) -> Value {
        let text = std::fs::read(self.run_folder(id).join("run.json")).expect("run.json");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The processes of this lab: their environment or command line names its folder.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mark = self.root.path().to_str().expect("UTF-8").to_owned();
        let others = everyone().filter(|pid| *pid != std::process::id() && !is_warm_process(*pid));
        others.filter_map(|pid| described(pid, &mark)).collect()
    }

    /// Makes a command, and every process that it starts, crash at a point of `src/crash.rs`. [`Lab::crashed`] asserts that it did.
    pub(crate) fn crash_at(&self, command: &mut Command, point: &str) {
        command.env("MASSGEN_MCP_CRASH_AT", point).env("MASSGEN_MCP_CRASH_MARKER", self.crash_marker());
    }

    fn crash_marker(&self) -> PathBuf {
        self.root.path().join("crashes")
    }

    /// Waits until as many processes have crashed at this point and are gone, and gives their pids.
    pub(crate) async fn crashed(&self, point: &str, count: usize) -> Vec<u32> {
        let crashes = || -> Vec<u32> {
            let marker = std::fs::read_to_string(self.crash_marker()).unwrap_or_default();
            let lines = marker.lines().filter_map(|line| line.split_once(' '));
            lines.filter(|(name, _)| *name == point).map(|(_, pid)| pid.parse().expect("pid")).collect()
        };
        let is_over = || crashes().len() >= count && !crashes().into_iter().any(is_alive);
        wait_until(&format!("{count} processes crash at {point}"), is_over).await;
        let pids = crashes();
        assert_eq!(pids.len(), count, "processes that crashed at {point}");
        pids
    }

    /// Sends a signal to the one supervisor of this lab.
    pub(crate) fn signal_supervisor(&self, signal: &str) {
        let processes = self.processes();
        let line = processes.iter().find(|line| line.contains(" supervise ")).expect("supervisor");
        let pid = line.split(' ').next().expect("pid");
        assert!(std::process::Command::new("kill").args([signal, pid]).status().expect("kill").success());
    }

    pub(crate) fn kill_supervisor(&self) {
        self.signal_supervisor("-KILL");
    }

    /// Warm processes of this lab, which belong to no run.
    pub(crate) fn warm_processes(&self) -> Vec<String> {
        let mark = self.root.path().to_str().expect("UTF-8").to_owned();
        everyone().filter(|pid| is_warm_process(*pid)).filter_map(|pid| described(pid, &mark)).collect()
    }

    /// Waits until nothing of this lab is left but servers.
    pub(crate) async fn only_servers_are_left(&self) {
        let is_server = |line: &String| line.contains("massgen-mcp --home");
        wait_until("only servers are left", || self.processes().iter().all(is_server)).await;
    }

    /// Waits until no process of this lab is left.
    pub(crate) async fn nobody_is_left(&self) {
        wait_until("no process is left", || self.processes().is_empty()).await;
    }
}

impl Drop for Lab {
    /// A test that failed must not leave its runs behind.
    fn drop(&mut self) {
        for line in self.processes().into_iter().chain(self.warm_processes()) {
            let pid = line.split(' ').next().unwrap_or_default();
            let _gone = std::process::Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
    }
}

fn is_warm(module: &str) -> bool {
    module.ends_with("_warm")
}

fn fake_program() -> PathBuf {
    let fake = Path::new(PROGRAM).with_file_name("examples").join("fake-massgen");
    assert!(fake.is_file(), "{} is built by a whole `cargo test`", fake.display());
    fake
}

/// A session with a server.
pub(crate) struct Client {
    session: RunningService<RoleClient, ()>,
    pub(crate) pid: u32,
}

impl Client {
    /// Calls a tool; the call must be accepted.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let (error, answer) = self.ask(tool, arguments.clone()).await;
        assert!(!error, "{tool} {arguments} was refused: {answer}");
        answer
    }

    /// Calls a tool; the call must be refused. Gives the code.
    pub(crate) async fn refused(&self, tool: &str, arguments: Value) -> String {
        let (error, answer) = self.ask(tool, arguments.clone()).await;
        assert!(error, "{tool} {arguments} was done: {answer}");
        for field in ["code", "message", "hint"] {
            assert!(answer[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {answer}");
        }
        answer["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Calls a tool that this server does not have.
    pub(crate) async fn unknown_tool(&self, tool: &str) {
        let answer = self.session.call_tool(CallToolRequestParams::new(tool.to_owned())).await;
        assert!(answer.is_err_and(|error| error.to_string().contains("not found")), "{tool} is there");
    }

    /// Calls a tool. Gives whether it was refused, and the answer: text and structured content of a result must be equal, and a refusal
    /// must be text alone.
    pub(crate) async fn ask(&self, tool: &str, arguments: Value) -> (bool, Value) {
        let call =
            CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().expect("object").clone());
        let answer = self.session.call_tool(call).await.expect("answered");
        let refused = answer.is_error == Some(true);
        let text = &answer.content[0].as_text().expect("text").text;
        let text = if refused { refusal(text) } else { serde_json::from_str(text).expect("JSON") };
        assert_eq!(answer.structured_content, (!refused).then(|| text.clone()));
        assert!(
            refused || output_schema(tool).is_valid(&text),
            "{tool} answers otherwise than its schema says: {text}"
        );
        (refused, text)
    }

    /// Calls a tool during which the server may die.
    pub(crate) async fn broken_off(self, tool: &str, arguments: Value) {
        let call =
            CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().expect("object").clone());
        let _answered_or_not = self.session.call_tool(call).await;
        let _ended = self.session.cancel().await;
    }

    pub(crate) async fn start(&self, arguments: Value) -> String {
        let run = self.call("run_massgen", arguments).await;
        run["run_id"].as_str().expect("run_id").to_owned()
    }

    /// Waits until a run has ended and gives its full status.
    pub(crate) async fn end(&self, id: &str) -> Value {
        self.until(id, is_over).await;
        self.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0].take()
    }

    /// Waits with check_status, never with a timer, until a run's status satisfies a condition.
    pub(crate) async fn until(&self, id: &str, good: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        // The first call does not wait, because the condition may hold already.
        let mut arguments = json!({"run_id": id});
        loop {
            let mut answer = self.call("check_status", arguments.clone()).await;
            let run = answer["runs"][0].take();
            if good(&run) {
                return run;
            }
            assert!(!is_over(&run) && begun.elapsed() < PATIENCE, "{run}");
            arguments = json!({"run_id": id, "wait_s": 40, "since": answer["cursor"].take()});
        }
    }

    pub(crate) async fn close(self) {
        self.session.cancel().await.expect("closed");
    }

    /// Kills the server.
    pub(crate) async fn kill_server(self) {
        let killed = std::process::Command::new("kill").args(["-KILL", &self.pid.to_string()]).status().expect("kill");
        assert!(killed.success());
        self.session.waiting().await.expect("the session ends with its server");
    }
}

/// Whether a run has ended, by its status.
pub(crate) fn is_over(run: &Value) -> bool {
    let ends = ["succeeded", "failed", "timed_out", "over_budget", "killed", "lost"];
    run["state"].as_str().is_some_and(|state| ends.contains(&state))
}

/// The schema of a tool's answer, from the list that clients get.
fn output_schema(tool: &str) -> jsonschema::Validator {
    let listed: Value = serde_json::from_str(include_str!("../data/tools.json")).expect("JSON");
    let tools = listed.as_array().expect("list");
    let schema = tools.iter().find(|listed| listed["name"] == tool).map(|listed| &listed["outputSchema"]);
    jsonschema::validator_for(schema.expect("listed")).expect("a schema")
}

/// Parses the text of a refusal: `code: message.`, and the hint in the next line.
pub(crate) fn refusal(text: &str) -> Value {
    assert!(serde_json::from_str::<Value>(text).is_err(), "a client takes it for structured content: {text}");
    let (sentence, hint) = text.split_once('\n').unwrap_or_else(|| panic!("no hint: {text}"));
    let (code, message) = sentence.split_once(": ").unwrap_or_else(|| panic!("no code: {text}"));
    json!({"code": code, "message": message, "hint": hint})
}

/// Arguments of run_massgen for a script of the stand-in.
pub(crate) fn fake(script: &str) -> Value {
    json!({"question": format!("#!fake\n{script}"), "config": "@rehearsal"})
}

/// The same with agents that call tools, so that messages can reach them.
pub(crate) fn tooled(script: &str) -> Value {
    json!({"question": format!("#!fake\n{script}"), "config": "@rehearsal/command=true"})
}

/// Waits until a condition holds.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn everyone() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process exists and is not a zombie: the kernel has released the locks of a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn is_warm_process(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "massgen-warm")
}

/// `PID command line` of a live process that names the mark.
fn described(pid: u32, mark: &str) -> Option<String> {
    let read = |part: &str| std::fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default();
    let (line, environment) = (read("cmdline"), read("environ"));
    let state = String::from_utf8_lossy(&read("stat")).rsplit_once(") ").map(|(_, rest)| rest.to_owned())?;
    let names = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(mark);
    let of_ours = names(&line) || names(&environment);
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    (of_ours && !state.starts_with(['Z', 'X'])).then(|| format!("{pid} {line}"))
}

/// The MassGen that the tests use: the one that is named or found, else the pinned version, installed by this program.
async fn real_massgen() -> PathBuf {
    let named = std::env::var_os("MASSGEN_MCP_MASSGEN").map(PathBuf::from);
    let state = default_state();
    let own_venv = setup::venv_folder(&state);
    let (project, seen) = (Path::new(env!("CARGO_MANIFEST_DIR")), state.join(FAILED_IMPORTS_FOLDER));
    let (project, named) = (Some(project), named.as_deref());
    match program::find(ProgramPlaces { named, project, own_venv: &own_venv, failed_imports: &seen }) {
        Ok(program) if !program.starts_with(&own_venv) => program,
        Ok(_) | Err(_) => setup::setup(&state, &seen, PackageVersions::Locked, |_| {})
            .await
            .unwrap_or_else(|error| panic!("{error}; {}", error.hint())),
    }
}

fn default_state() -> PathBuf {
    let home = std::env::var_os("MASSGEN_MCP_HOME").map(PathBuf::from);
    let xdg = || std::env::var_os("XDG_STATE_HOME").map(|state| PathBuf::from(state).join("massgen-mcp"));
    let user = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".local/state/massgen-mcp");
    home.or_else(xdg).unwrap_or_else(user)
}

/// A random number generator with the same numbers in every run of a test.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides as u64).expect("small")
    }
}

/// How many folders a process watches.
pub(crate) fn watches(pid: u32) -> usize {
    let infos = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("fdinfo").flatten();
    infos
        .filter_map(|info| std::fs::read_to_string(info.path()).ok())
        .map(|info| info.matches("inotify wd:").count())
        .sum()
}

/// Whether a process has this file open.
pub(crate) fn has_open(pid: u32, file: &Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == file)
}
