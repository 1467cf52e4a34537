//! A scripted stand-in for MassGen: the same arguments, files and output in milliseconds, and every kind of fault.
//! The question is the script: after a first line `#!fake`, one command per line. Any other question is answered immediately.
//! It is for faults and speed; other tests use the real MassGen.
//!
//! ```text
//! announce                 make log_…/turn_1/attempt_1 and print LOG_DIR and STATUS
//! status JSON              replace status.json atomically raw-status TEXT   write status.json in place, unchanged
//! subagent JSON            write this status as another MassGen that inherited the log folder
//! big-status MB            write a status.json of this size in megabytes
//! answer AGENT TEXT        an answer of an agent          final AGENT TEXT  a presented answer
//! print TEXT, complain TEXT, flood LINES                  to standard output, standard error, both
//! sleep SECONDS            until FILE: wait for a file    touch FILE
//! ignore                   ignore SIGINT and SIGTERM      count FILE        add a line to FILE at each SIGINT and continue
//! child                    a child that sleeps            stray             an orphaned grandchild in its own session
//! hold                     a stray that keeps standard output open          storm   strays that fork without pause
//! mark FILE                add a line to FILE, to count starts
//! deaf                     a stray that ignores SIGINT and SIGTERM
//! headless FILE            end the first thread while another lives, which then creates FILE
//! headless-child FILE      the same in a child with its own session
//! lock FILE                hold a lock on FILE in this process and in every process that it starts from now on
//! remove-logs              delete the log folder
//! environment              print every variable
//! do FILE                  run the commands in a file
//! raw JSON                 run the command in a JSON string, which can contain any character
//! log TEXT                 a line in massgen.log         agent-log AGENT TEXT   the output of an agent
//! file PATH TEXT           a file in the attempt's folder
//! workspace NAME TEXT      a file in the winner's workspace (agent_a's)
//! nest FILE JSON           start massgen-mcp as an agent's MCP server, call run_massgen with JSON, add the answer to FILE as a
//!                          line; a refusal as a JSON string
//! nest-for-ever FILE JSON  repeat `nest` without end
//! nest-call FILE TOOL JSON `nest` with another tool
//! take FILE                wait for a message in the inbox, remove the oldest, add it to FILE as a line
//! asked FILE               write the complete question to FILE
//! recall FILE              write the conversation to restore to FILE: the files of each turn's folder
//! burn                     use a core without end        connect ADDRESS   open a TCP connection and keep it
//! event JSON               a line in events.jsonl
//! A line that begins with `[` ends the script: an answer of an earlier run follows.
//! exit CODE, die SIGNAL (with a core dump if the signal causes one), stop (SIGSTOP), forever
//! ```

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, exit};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit, setsid};
use rustix::thread::{SecureComputingMode, set_secure_computing_mode};
use tokio::signal::unix::{SignalKind, signal};

/// The sleep of processes that only have to be alive, in seconds.
const SLEEP_S: &str = "300";
/// The script of a process that ignores SIGINT and SIGTERM.
const IGNORE_SIGNALS_SCRIPT: &str = "trap '' INT TERM; exec sleep 300";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        // More and longer findings than the server shows.
        Some("--validate") => {
            let finding = |n| {
                format!(
                    r#"{{"message": "finding {n} {}", "location": "agents[0]", "suggestion": "{}"}}"#,
                    "m".repeat(300),
                    "s".repeat(300)
                )
            };
            let findings: Vec<String> = (0..20).map(finding).collect();
            write_line(
                &mut std::io::stdout(),
                &format!(r#"{{"valid": true, "errors": [], "warnings": [{}]}}"#, findings.join(", ")),
            );
            return ExitCode::SUCCESS;
        }
        Some("--stray") => return leave_orphan(),
        Some("--storm") => return fork_storm(),
        Some("--headless") => {
            setsid().expect("a session of its own");
            end_first_thread(args.get(2).cloned().unwrap_or_default().into())
        }
        Some(_) | None => {}
    }
    let question = prompt(&args).expect("a question; without one MassGen would wait for input");
    let mut fake = Fake::new(&args, &question);
    let script = question.strip_prefix("#!fake").unwrap_or("\nannounce\nfinal agent_a a fake answer\n");
    fake.run_script(script).await;
    ExitCode::SUCCESS
}

/// The question from the config. Like MassGen, it expands environment variables.
fn prompt(args: &[String]) -> Option<String> {
    let question = config_value(args, "prompt")?;
    let mut parts = question.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    Some(parts.fold(first, |text, part| match part.split_once('}') {
        Some((name, rest)) => text + &std::env::var(name).unwrap_or_else(|_| format!("${{{name}}}")) + rest,
        None => text + "${" + part,
    }))
}

/// The value of a flag.
fn flag_value<'a>(args: &'a [String], flag: &str) -> Option<&'a String> {
    args.iter().skip_while(|arg| *arg != flag).nth(1)
}

/// The value of a text key in the config.
fn config_value(args: &[String], key: &str) -> Option<String> {
    let text = std::fs::read_to_string(flag_value(args, "--config")?).ok()?;
    let start = format!("\"{key}\": ");
    serde_json::from_str(text.lines().find_map(|line| line.strip_prefix(&start))?).ok()
}

/// Calls massgen-mcp as an agent of MassGen does: the server gets six variables, none of massgen-mcp's own.
fn nest(rest: &str) {
    let (file, arguments) = rest.split_once(' ').expect("nest FILE JSON");
    nest_call(file, "run_massgen", arguments);
}

fn nest_call(file: &str, tool: &str, arguments: &str) {
    let own = std::env::current_exe().expect("own path");
    let server = own.ancestors().nth(2).expect("target folder").join("massgen-mcp");
    let passed = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];
    let passed = passed.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(server);
    command.arg("--massgen").arg(&own).args(["--starts-per-minute", "10000"]).env_clear().envs(passed);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a server");
    let mut input = child.stdin.take().expect("input");
    let arguments: serde_json::Value = serde_json::from_str(arguments).expect("JSON");
    let hello = serde_json::json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "fake", "version": "1"}}});
    let ready = serde_json::json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}});
    writeln!(input, "{hello}\n{ready}\n{call}").expect("written");
    let output = std::io::BufReader::new(child.stdout.take().expect("output"));
    let answer = std::io::BufRead::lines(output).map_while(Result::ok).find(|line| line.contains("\"id\":1,"));
    drop(input);
    let _ended = child.wait();
    let answer: serde_json::Value = serde_json::from_str(&answer.unwrap_or_default()).unwrap_or_default();
    let text = &answer["result"]["content"][0]["text"];
    let is_refused = answer["result"]["isError"] == true;
    let line = text.as_str().filter(|_| !is_refused).map_or_else(|| text.to_string(), str::to_owned);
    let mut file = File::options().create(true).append(true).open(file).expect("a file");
    writeln!(file, "{line}").expect("written");
}

struct Fake {
    logs: PathBuf,
    answers: u32,
    /// A locked file. Processes that the stand-in starts inherit it as standard input.
    lock: Option<File>,
    inbox: PathBuf,
    /// The folder of the conversation to continue.
    session: Option<PathBuf>,
    turn: usize,
    question: String,
}

impl Fake {
    fn new(args: &[String], question: &str) -> Fake {
        let base = std::env::var_os("MASSGEN_LOG_BASE_DIR").map(PathBuf::from).unwrap_or_default();
        let session = config_value(args, "session_id").map(|name| Path::new(".massgen/sessions").join(name));
        let turn = 1 + session.as_ref().map_or(0, |session| sorted_entries(session).len());
        let logs = base.join("log_20260101_000000_000000");
        let inbox = flag_value(args, "--inbox-dir").map(PathBuf::from).unwrap_or_default();
        Fake { logs, answers: 0, lock: None, inbox, session, turn, question: question.to_owned() }
    }

    fn turn(&self) -> PathBuf {
        self.logs.join(format!("turn_{}", self.turn))
    }

    async fn take(&self, file: &Path) {
        loop {
            if let Some(path) =
                sorted_entries(&self.inbox).into_iter().find(|path| path.to_string_lossy().ends_with(".json"))
            {
                let text = std::fs::read_to_string(&path).expect("read");
                std::fs::remove_file(&path).expect("taken");
                let mut file = File::options().create(true).append(true).open(file).expect("open");
                return write_line(&mut file, &text);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn recall(&self, file: &Path) {
        let mut text = String::new();
        let mut folders = vec![self.session.clone().expect("a session to restore")];
        while let Some(folder) = folders.pop() {
            for path in sorted_entries(&folder).into_iter().rev() {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    text += &format!("{}: {}\n", path.display(), std::fs::read_to_string(&path).expect("read"));
                }
            }
        }
        write_file(file, text.as_bytes());
    }

    fn attempt(&self) -> PathBuf {
        self.turn().join("attempt_1")
    }

    async fn run_script(&mut self, script: &str) {
        let lines = script.lines().map(str::trim).take_while(|line| !line.starts_with('['));
        for line in lines.filter(|line| !line.is_empty()) {
            let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
            self.run_command(command, rest).await;
        }
    }

    async fn run_command(&mut self, command: &str, rest: &str) {
        match command {
            "announce" => self.announce(),
            "status" => self.status(rest.as_bytes()),
            "raw-status" => write_file(&self.attempt().join("status.json"), rest.as_bytes()),
            "subagent" => {
                let base = PathBuf::from(std::env::var_os("MASSGEN_LOG_BASE_DIR").expect("a folder for logs"));
                write_file(&base.join("log_99991231_subagent/turn_1/attempt_1/status.json"), rest.as_bytes());
            }
            "big-status" => self.big_status(rest),
            "answer" => self.answer(rest),
            "final" => self.present(rest),
            "print" => write_line(&mut std::io::stdout(), rest),
            "complain" => write_line(&mut std::io::stderr(), rest),
            "flood" => print_flood(rest),
            "sleep" => tokio::time::sleep(Duration::from_secs_f64(rest.parse().expect("seconds"))).await,
            "forever" => std::future::pending().await,
            "burn" => loop {
                std::hint::spin_loop();
            },
            "connect" => std::mem::forget(std::net::TcpStream::connect(rest).expect("connected")),
            "event" => append(&self.attempt().join("events.jsonl"), rest),
            "until" => wait_for_file(Path::new(rest)).await,
            "touch" => write_file(Path::new(rest), b""),
            "mark" => append_pid(Path::new(rest)),
            "nest" => nest(rest),
            "nest-call" => {
                let (file, call) = rest.split_once(' ').expect("nest-call FILE TOOL JSON");
                let (tool, arguments) = call.split_once(' ').expect("nest-call FILE TOOL JSON");
                nest_call(file, tool, arguments);
            }
            "nest-for-ever" => loop {
                nest(rest);
            },
            "take" => self.take(Path::new(rest)).await,
            "asked" => write_file(Path::new(rest), self.question.as_bytes()),
            "recall" => self.recall(Path::new(rest)),
            "ignore" => ignore_signals(),
            "count" => count_interrupts(PathBuf::from(rest)),
            "child" => self.spawn(without_output(Command::new("sleep").arg(SLEEP_S))),
            "stray" => self.spawn(without_output(&mut own_program("--stray"))),
            "hold" => self.spawn(&mut own_program("--stray")),
            "storm" => self.spawn(without_output(&mut own_program("--storm"))),
            "deaf" => {
                self.spawn(without_output(Command::new("setsid").args(["--fork", "sh", "-c", IGNORE_SIGNALS_SCRIPT])))
            }
            "headless" => end_first_thread(PathBuf::from(rest)),
            "headless-child" => self.spawn(without_output(own_program("--headless").arg(rest))),
            "lock" => self.lock = Some(lock_file(Path::new(rest))),
            "environment" => std::env::vars()
                .for_each(|(name, value)| write_line(&mut std::io::stdout(), &format!("{name}={value}"))),
            "do" => Box::pin(self.run_script(&std::fs::read_to_string(rest).expect("a script"))).await,
            "raw" => {
                let raw: String = serde_json::from_str(rest).expect("a JSON string");
                let (command, rest) = raw.split_once(' ').unwrap_or((&raw, ""));
                Box::pin(self.run_command(command, rest)).await;
            }
            "log" => write_file(&self.attempt().join("massgen.log"), format!("{rest}\n").as_bytes()),
            "agent-log" => {
                let (agent, text) = rest.split_once(' ').expect("agent and text");
                write_file(&self.attempt().join(format!("agent_outputs/{agent}.txt")), text.as_bytes());
            }
            "file" => {
                let (path, text) = rest.split_once(' ').expect("path and text");
                write_file(&self.attempt().join(path), text.as_bytes());
            }
            "workspace" => {
                let (name, text) = rest.split_once(' ').expect("name and text");
                write_file(&self.turn().join("final/agent_a/workspace").join(name), text.as_bytes());
            }
            "remove-logs" => std::fs::remove_dir_all(&self.logs).expect("removed"),
            "exit" => exit(rest.parse().expect("code")),
            "die" => kill_self(rest),
            "stop" => kill_self("STOP"),
            other => panic!("no such command: {other}"),
        }
    }

    fn announce(&self) {
        std::fs::create_dir_all(self.attempt()).expect("made");
        write_line(&mut std::io::stdout(), &format!("LOG_DIR: {}", self.logs.display()));
        write_line(&mut std::io::stdout(), &format!("STATUS: {}", self.attempt().join("status.json").display()));
    }

    fn status(&self, bytes: &[u8]) {
        let draft = self.attempt().join("status.json.tmp");
        write_file(&draft, bytes);
        std::fs::rename(draft, self.attempt().join("status.json")).expect("renamed");
    }

    fn big_status(&self, megabytes: &str) {
        let filler = "x".repeat(megabytes.parse::<usize>().expect("megabytes") << 20);
        let agent = r#"{"agent_a": {"status": "answered", "answer_count": 1, "latest_answer_label": "agent1.1"}}"#;
        self.status(format!(r#"{{"meta": {{"question": "{filler}"}}, "agents": {agent}}}"#).as_bytes());
    }

    fn answer(&mut self, rest: &str) {
        let (agent, text) = rest.split_once(' ').expect("agent and text");
        self.answers += 1;
        let stamp = format!("20260101_000000_{:06}", self.answers);
        write_file(&self.attempt().join(agent).join(stamp).join("answer.txt"), text.as_bytes());
    }

    fn spawn(&self, command: &mut Command) {
        let lock = self.lock.as_ref().map(|lock| lock.try_clone().expect("cloned"));
        spawn(command.stdin(lock.map_or_else(Stdio::null, Stdio::from)));
    }

    fn present(&self, rest: &str) {
        let (agent, text) = rest.split_once(' ').unwrap_or((rest, ""));
        for folder in [self.attempt(), self.turn()] {
            write_file(&folder.join("final").join(agent).join("answer.txt"), text.as_bytes());
        }
    }
}

/// The entries of a folder, sorted; empty if the folder does not exist.
fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn append_pid(path: &Path) {
    append(path, &std::process::id().to_string());
}

fn append(path: &Path, line: &str) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).expect("open");
    write_line(&mut file, line);
}

fn write_file(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

fn write_line(stream: &mut impl Write, line: &str) {
    writeln!(stream, "{line}").and_then(|()| stream.flush()).expect("written");
}

fn print_flood(lines: &str) {
    for number in 0..lines.parse::<u64>().expect("lines") {
        let line = format!("line {number} of a flood, with some filler at its end to make it longer");
        write_line(&mut std::io::stdout(), &line);
        write_line(&mut std::io::stderr(), &line);
    }
}

async fn wait_for_file(file: &Path) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A process with a signal handler does not die of the signal.
fn ignore_signals() {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        std::mem::forget(signal(kind).expect("listening"));
    }
}

fn count_interrupts(file: PathBuf) {
    let mut interrupts = signal(SignalKind::interrupt()).expect("listening");
    tokio::spawn(async move {
        while interrupts.recv().await.is_some() {
            let mut log = std::fs::File::options().create(true).append(true).open(&file).expect("open");
            write_line(&mut log, "SIGINT");
        }
    });
}

fn lock_file(path: &Path) -> File {
    let file = File::create(path).expect("made");
    file.lock().expect("locked");
    file
}

fn own_program(role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("massgen").arg(role);
    command
}

fn without_output(command: &mut Command) -> &mut Command {
    command.stdout(Stdio::null()).stderr(Stdio::null())
}

fn spawn(command: &mut Command) {
    drop(command.spawn().expect("spawned"));
}

/// Starts a sleeping process in a new session and ends, so that the process is an orphan.
fn leave_orphan() -> ExitCode {
    setsid().expect("a session of its own");
    spawn(Command::new("sleep").arg(SLEEP_S));
    ExitCode::SUCCESS
}

/// Starts a copy of itself in a new session and ends, without end.
fn fork_storm() -> ExitCode {
    setsid().expect("a session of its own");
    spawn(&mut own_program("--storm"));
    ExitCode::SUCCESS
}

/// Ends only the first thread: the process looks like a zombie but is alive.
fn end_first_thread(file: PathBuf) -> ! {
    std::thread::spawn(move || {
        while !std::fs::read_to_string("/proc/self/stat").expect("read").contains(") Z ") {
            std::thread::yield_now();
        }
        write_file(&file, b"");
        std::thread::sleep(Duration::from_secs(SLEEP_S.parse().expect("seconds")));
        exit(0)
    });
    // In this mode the kernel ends the thread at any system call except read and write.
    set_secure_computing_mode(SecureComputingMode::Strict).expect("strict");
    loop {
        std::thread::park();
    }
}

fn kill_self(name: &str) {
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).expect("as much as is allowed");
    let signal = match name {
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "SEGV" => Signal::SEGV,
        "ABRT" => Signal::ABORT,
        "HUP" => Signal::HUP,
        "STOP" => Signal::STOP,
        other => panic!("no such signal: {other}"),
    };
    kill_process(getpid(), signal).expect("sent");
    if signal == Signal::SEGV {
        // Rust's stack overflow handler consumes the first signal.
        kill_process(getpid(), signal).expect("sent");
    }
}
