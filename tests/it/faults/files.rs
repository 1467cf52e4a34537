//! Files: F25 to F33. For a file system that is full, read-only or without inotify, the server runs in a user and mount namespace of
//! its own: the mount ends with the last process there and does not affect the machine.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use massgen_mcp::massgen::files::{EntryKind, RunFiles};
use massgen_mcp::massgen::pages::hex;
use massgen_mcp::massgen::status;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::lab::{Client, Lab, fake, is_over, wait_until};

/// The content of files that no answer may contain.
const SECRET: &str = "what lies outside of the run";
/// A status.json with values that the tests look for.
const GOOD: &str = r#"{"coordination": {"phase": "enforcement"}, "costs": {"total_estimated_cost": 0.25}, "agents": {"agent_a": {"status": "answered", "answer_count": 1, "latest_answer_label": "agent1.1"}}}"#;
/// The attempt folder of the stand-in, in a run's folder.
const ATTEMPT: &str = "logs/log_20260101_000000_000000/turn_1/attempt_1";
/// The folder of the presented answer of `agent_a`.
const FINAL: &str = "logs/log_20260101_000000_000000/turn_1/final/agent_a";

/// A run that has written a valid status and an answer, and waits until its file `go` exists.
struct Held {
    id: String,
    folder: PathBuf,
    go: PathBuf,
}

impl Held {
    async fn start(lab: &Lab, client: &Client, then: &str) -> Held {
        let name = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let go = lab.project().join(format!("go-{name}"));
        let until = format!("until {}", go.display());
        // The status comes last: tests wait for it and then overwrite the answer.
        let script = format!("announce\nfinal agent_a the answer\nstatus {GOOD}\n{until}\n{then}\nexit 0");
        let id = client.start(fake(&script)).await;
        client.until(&id, |run| run["cost_usd"] == 0.25).await;
        Held { folder: lab.run_folder(&id), id, go }
    }

    fn status(&self) -> PathBuf {
        self.folder.join(ATTEMPT).join("status.json")
    }

    fn answer(&self) -> PathBuf {
        self.folder.join(FINAL).join("answer.txt")
    }

    fn let_go(&self) {
        std::fs::write(&self.go, "").expect("write");
    }

    async fn end(&self, client: &Client) -> Value {
        self.let_go();
        client.end(&self.id).await
    }
}

static SEQUENCE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// A file with the secret, and a folder with such a file, neither of any run.
fn outside(lab: &Lab) -> (PathBuf, PathBuf) {
    let file = lab.put("outside/secret.txt", SECRET);
    lab.put("outside/answer.txt", SECRET);
    let folder = file.parent().expect("parent").to_owned();
    (file, folder)
}

/// Replaces a path by a link.
fn replace_by_link(path: &Path, target: &Path) {
    let draft = path.with_extension("draft");
    symlink(target, &draft).expect("link");
    if path.is_dir() {
        std::fs::remove_dir_all(path).expect("removed");
    }
    std::fs::rename(draft, path).expect("renamed");
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// All pages of a part, put together, and the hash of the whole that each page has.
async fn all_pages(client: &Client, id: &str, part: &str) -> (String, String) {
    let (mut text, mut offset, mut hash) = (String::new(), json!(0), None);
    loop {
        let page = client.call("read_result", json!({"run_id": id, "part": part, "offset": offset})).await;
        text.push_str(page["text"].as_str().expect("text"));
        let told = page["sha256"].as_str().expect("sha256").to_owned();
        assert_eq!(hash.get_or_insert_with(|| told.clone()), &told, "every page tells the hash of the whole");
        if page["next_offset"].is_null() {
            assert_eq!(page["total_chars"], text.chars().count() as u64);
            return (text, told);
        }
        offset = page["next_offset"].clone();
    }
}

// F25 -----------------------------------------------------------------------------------------------------------------

/// Damages a status.json.
type Spoil = Box<dyn FnOnce(&Path)>;

/// Damages a run's status.json, ends the run and gives its last status.
async fn spoilt(lab: &Lab, client: &Client, spoil: impl FnOnce(&Path)) -> Value {
    let run = Held::start(lab, client, "").await;
    spoil(&run.status());
    let ended = run.end(client).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let all = client.call("check_status", json!({"run_id": run.id, "detail": "full"})).await;
    assert!(!all.to_string().contains(SECRET) && !lab.record(&run.id).to_string().contains(SECRET), "{all}");
    ended
}

#[tokio::test]
async fn f25_a_torn_missing_or_foreign_status_leaves_the_last_good_digest() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let foreign = lab.put("outside/status.json", &format!(r#"{{"coordination": {{"phase": "{SECRET}"}}}}"#));
    let (_, folder) = outside(&lab);
    let write = |bytes: &[u8]| {
        let bytes = bytes.to_owned();
        move |path: &Path| std::fs::write(path, bytes).expect("write")
    };
    let spoils: Vec<(&str, Spoil)> = vec![
        ("missing", Box::new(|path| std::fs::remove_file(path).expect("removed"))),
        ("empty", Box::new(write(b""))),
        ("cut", Box::new(write(&GOOD.as_bytes()[..GOOD.len() - 1]))),
        ("cut early", Box::new(write(&GOOD.as_bytes()[..9]))),
        ("not UTF-8", Box::new(write(b"{\"coordination\": {\"phase\": \"\xff\xfe\"}}\xc3"))),
        ("no object", Box::new(write(b"[1, 2]"))),
        ("past the bound", Box::new(|path| File::create(path).and_then(|file| file.set_len(70 << 20)).expect("grown"))),
        (
            "a folder",
            Box::new(|path| std::fs::remove_file(path).and_then(|()| std::fs::create_dir(path)).expect("made")),
        ),
        ("a link outside", Box::new(move |path| replace_by_link(path, &foreign))),
        ("a link to a folder", Box::new(move |path| replace_by_link(path, &folder))),
        ("a link to itself", Box::new(|path| replace_by_link(path, path))),
    ];
    let agents = json!({"agent_a": "answered agent1.1"});
    for (what, spoil) in spoils {
        let ended = spoilt(&lab, &client, spoil).await;
        assert_eq!((&ended["cost_usd"], &ended["agents"]), (&json!(0.25), &agents), "{what}: {ended}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f25_wrong_types_and_nan_end_no_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for text in [
        r#"{"coordination": 7, "costs": [], "agents": "none", "results": {"votes": 3}, "finish_reason": {}}"#,
        r#"{"costs": {"total_estimated_cost": NaN}, "agents": {"agent_a": [null]}}"#,
        r#"{"costs": {"total_estimated_cost": -Infinity}, "agents": {"agent_a": {"answer_count": 1e300}}}"#,
        "{}",
    ] {
        let ended = spoilt(&lab, &client, |path| std::fs::write(path, text).expect("write")).await;
        assert!(ended.get("votes").is_none(), "{text}: {ended}");
        assert_eq!(ended["cost_usd"], 0.25, "what was seen spent stays spent: {text}: {ended}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f25_a_status_of_50_megabytes_is_read() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("announce\nbig-status 50\nfinal agent_a x\nexit 0")).await;
    let ended = client.end(&id).await;
    assert_eq!((&ended["state"], &ended["agents"]["agent_a"].is_string()), (&json!("succeeded"), &true), "{ended}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[test]
fn f25_a_status_cut_at_any_byte_is_torn_and_never_half_read() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/status");
    for name in ["early.json", "mid.json", "v0.1.12_complete.json"] {
        let whole = std::fs::read(samples.join(name)).expect(name);
        let whole = whole.trim_ascii();
        assert!(status::digest(whole).is_ok());
        for at in 0..whole.len() {
            assert!(status::digest(&whole[..at]).is_err(), "{name} cut at {at}");
        }
    }
}

// F26 -----------------------------------------------------------------------------------------------------------------

/// Ends a run with a file as its answer.
async fn ended_with(lab: &Lab, client: &Client, make: impl FnOnce(&Path)) -> (Held, Value) {
    let run = Held::start(lab, client, "").await;
    make(&run.answer());
    let ended = run.end(client).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    (run, ended)
}

#[tokio::test]
async fn f26_an_answer_of_0_bytes_is_no_answer() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let run = Held::start(&lab, &client, "").await;
    for folder in [FINAL.to_owned(), format!("{ATTEMPT}/final/agent_a")] {
        File::create(run.folder.join(folder).join("answer.txt")).expect("emptied");
    }
    let ended = run.end(&client).await;
    assert_eq!((&ended["state"], &ended["exit"], ended.get("best")), (&json!("failed"), &json!("0"), None), "{ended}");
    assert_eq!(client.refused("read_result", json!({"run_id": run.id})).await, "nothing_to_read");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f26_pages_of_an_answer_of_any_size_are_the_file() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let mixed = "Zażółć — 漢字 🦀 plain\n".chars().cycle();
    let five_megabytes: String = mixed
        .scan(0, |size, c| {
            *size += c.len_utf8();
            (*size <= 5 << 20).then_some(c)
        })
        .collect();
    for whole in ["x".to_owned(), five_megabytes] {
        let (run, ended) = ended_with(&lab, &client, |path| std::fs::write(path, &whole).expect("write")).await;
        assert_eq!(ended["answer_chars"], whole.chars().count() as u64);
        let (text, hash) = all_pages(&client, &run.id, "answer").await;
        assert_eq!((sha256(text.as_bytes()), hash), (sha256(whole.as_bytes()), sha256(whole.as_bytes())));
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f26_invalid_utf8_split_across_pages_is_marked_once_and_hashed_as_it_is() {
    let lab = Lab::fake();
    let client = lab.client().await;
    // Cut, overlong, stray and surrogate bytes, with a period that no page length divides.
    let period = b"ab\xf0\x9f\xa6\xc0\xafz\xe2\x82\xed\xa0\x80\xff\xc5\xbc\xf0\x9f\xa6\x80!";
    let whole: Vec<u8> = period.iter().copied().cycle().take(130_003).collect();
    let (run, _) = ended_with(&lab, &client, |path| std::fs::write(path, &whole).expect("write")).await;
    let (text, hash) = all_pages(&client, &run.id, "answer").await;
    assert!(text == String::from_utf8_lossy(&whole), "the pages are not what std makes of it");
    assert_eq!(hash, sha256(&whole));
    client.close().await;
    lab.nobody_is_left().await;
}

/// The file is sparse: 600 MB of NUL, which is UTF-8 and one line. Each page reads the whole file, so the test reads only the first
/// and the last page.
#[tokio::test]
async fn f26_one_line_of_600_megabytes_is_paged_in_little_memory() {
    const SIZE: u64 = 600_000_000;
    let lab = Lab::fake();
    let client = lab.client().await;
    let (run, ended) = ended_with(&lab, &client, |path| {
        File::options().write(true).truncate(true).open(path).and_then(|file| file.set_len(SIZE)).expect("grown");
    })
    .await;
    assert_eq!(ended["answer_chars"], SIZE);
    let first = client.call("read_result", json!({"run_id": run.id})).await;
    // The symbol for NUL has three bytes, and a page has 48 KiB.
    assert_eq!((&first["total_chars"], &first["next_offset"]), (&json!(SIZE), &json!(16 << 10)));
    let last = client.call("read_result", json!({"run_id": run.id, "offset": SIZE - 9})).await;
    assert_eq!((last["text"].as_str(), last.get("next_offset")), (Some("␀".repeat(9).as_str()), None));
    assert_eq!((&first["sha256"], &last["sha256"]), (&last["sha256"], &json!(sha256_of_zeros(SIZE))));
    assert!(peak_memory(client.pid) < 100 << 20, "{}", peak_memory(client.pid));
    client.close().await;
    lab.nobody_is_left().await;
}

fn sha256_of_zeros(size: u64) -> String {
    let (mut hash, block) = (Sha256::new(), vec![0; 1 << 20]);
    for _ in 0..size / block.len() as u64 {
        hash.update(&block);
    }
    hash.update(&block[..(size % block.len() as u64) as usize]);
    hex(&hash.finalize())
}

/// The most memory that a process ever had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("number") << 10
}

// F27, F28, F30: in a namespace of its own -----------------------------------------------------------------------------------

/// The server's command in a user and mount namespace of its own, after `preparation` in a shell.
fn in_namespace(lab: &Lab, preparation: &str) -> Command {
    let server = lab.command();
    let server = server.as_std();
    let mut command = Command::new("unshare");
    // Without a fork, so that the server has the pid of the started process.
    command.args(["--user", "--map-root-user", "--mount", "sh", "-e", "-c"]);
    command.arg(format!("{preparation}\nexec \"$@\"")).arg("sh").arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stderr(Stdio::inherit());
    command
}

/// A state folder on a small file system, and a server that uses it.
struct Small {
    lab: Lab,
    client: Client,
}

impl Small {
    async fn new(options: &str) -> Small {
        let lab = Lab::fake();
        let mount = format!("mount -t tmpfs -o mode=700,{options} none '{}'", lab.state().display());
        let client = lab.client_of(in_namespace(&lab, &mount)).await;
        Small { lab, client }
    }

    /// The state folder as the server sees it.
    fn state(&self) -> PathBuf {
        Path::new("/proc")
            .join(self.client.pid.to_string())
            .join("root")
            .join(self.lab.state().strip_prefix("/").expect("absolute"))
    }

    /// Fills the file system except for some pages of 4096 bytes.
    fn fill(&self, spare: u64) {
        let mut filler = File::create(self.state().join("filler")).expect("made");
        let page = [b'x'; 4096];
        while filler.write_all(&page).is_ok() {}
        let size = filler.metadata().expect("meta").len() / 4096;
        filler.set_len(size.saturating_sub(spare) * 4096).expect("cut");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.state().join("filler")).expect("removed");
    }

    /// Uses all inodes except for some.
    fn crowd(&self, spare: usize) {
        let crowd = self.state().join("crowd");
        std::fs::create_dir(&crowd).expect("made");
        let made = (0..).take_while(|number| File::create(crowd.join(number.to_string())).is_ok()).count();
        (0..spare.min(made)).for_each(|number| std::fs::remove_file(crowd.join(number.to_string())).expect("removed"));
    }

    fn disperse(&self) {
        std::fs::remove_dir_all(self.state().join("crowd")).expect("removed");
    }

    /// Starts a run that creates the file `mark`; `None` if the start was refused.
    async fn attempt(&self, mark: &Path) -> Option<Value> {
        let (refused, answer) =
            self.client.ask("run_massgen", fake(&format!("touch {}\nexit 0", mark.display()))).await;
        if !refused {
            return Some(answer);
        }
        let code = answer["code"].as_str().expect("code");
        assert!(["state_folder", "start_failed"].contains(&code), "{answer}");
        assert!(!mark.exists(), "refused, and started all the same: {answer}");
        None
    }

    /// With free space again, every run has ended, and a run says whether MassGen started.
    async fn settle(&self, mark: &Path, started: Option<Value>) {
        if let Some(run) = started {
            let ended = self.client.end(run["run_id"].as_str().expect("run_id")).await;
            let never = ended["problem"]["code"] == "start_failed";
            assert_eq!(never, !mark.exists(), "{ended}");
        }
        // A supervisor that gave up may hold its lock for a moment after the refusal arrives.
        let all = self.client.call("check_status", json!({"wait_s": 40, "until": "all_done"})).await;
        assert!(all["runs"].as_array().expect("runs").iter().all(is_over), "{all}");
        assert_eq!(all.get("unreadable"), None);
        let drafts = std::fs::read_dir(self.state().join("runs")).expect("runs").flatten();
        let drafts: Vec<_> = drafts.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")).collect();
        assert!(drafts.is_empty(), "{drafts:?}");
    }

    async fn close(self) {
        self.client.close().await;
        self.lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn f27_a_disk_that_is_full_at_any_write_of_a_start_refuses_it_or_records_its_end() {
    let small = Small::new("size=1m").await;
    let (mut refused, mut begun) = (0, 0);
    for spare in 0..12 {
        let mark = small.lab.project().join(format!("started-{spare}"));
        small.fill(spare);
        let started = small.attempt(&mark).await;
        *if started.is_some() { &mut begun } else { &mut refused } += 1;
        small.make_room();
        small.settle(&mark, started).await;
    }
    assert!(refused > 0 && begun > 0, "{refused} refused, {begun} begun");
    small.close().await;
}

#[tokio::test]
async fn f27_a_disk_without_free_inodes_starts_no_run_without_an_owner() {
    let small = Small::new("size=4m,nr_inodes=400").await;
    let (mut refused, mut begun) = (0, 0);
    for spare in 0..16 {
        let mark = small.lab.project().join(format!("started-{spare}"));
        small.crowd(spare);
        let started = small.attempt(&mark).await;
        *if started.is_some() { &mut begun } else { &mut refused } += 1;
        small.disperse();
        small.settle(&mark, started).await;
    }
    assert!(refused > 0 && begun > 0, "{refused} refused, {begun} begun");
    small.close().await;
}

#[tokio::test]
async fn f27_a_disk_that_fills_during_a_run_delays_only_the_record_of_its_end() {
    let small = Small::new("size=1m").await;
    let (lab, client) = (&small.lab, &small.client);
    let run = Held::start(lab, client, "flood 200").await;
    small.fill(0);
    let killed = client.call("kill_run", json!({"run_id": run.id})).await;
    let receipt = &killed["receipts"][0];
    assert!(receipt.to_string().contains("No space left"), "what cannot be asked for is said: {killed}");
    run.let_go();
    wait_until("MassGen has ended", || !lab.processes().iter().any(|line| line.contains("--automation"))).await;
    let now = client.call("check_status", json!({"run_id": run.id})).await;
    assert_eq!(now["runs"][0]["state"], "running", "{now}");
    assert!(lab.processes().iter().any(|line| line.contains(" supervise ")), "{:?}", lab.processes());
    small.make_room();
    let ended = client.end(&run.id).await;
    assert_eq!((&ended["state"], &ended["exit"]), (&json!("succeeded"), &json!("0")), "{ended}");
    small.close().await;
}

#[tokio::test]
async fn f28_a_read_only_state_folder_shows_all_and_changes_nothing() {
    let lab = Lab::fake();
    let writer = lab.client().await;
    let over = Held::start(&lab, &writer, "").await;
    over.end(&writer).await;
    let live = Held::start(&lab, &writer, "").await;

    let state = lab.state().display().to_string();
    let mount = format!("mount --bind '{state}' '{state}'\nmount -o remount,bind,ro '{state}'");
    let reader = lab.client_of(in_namespace(&lab, &mount)).await;
    let mark = lab.project().join("started");
    let touch = format!("touch {}", mark.display());
    assert_eq!(reader.refused("run_massgen", fake(&touch)).await, "state_folder");
    assert!(!mark.exists());
    let page = reader.call("read_result", json!({"run_id": over.id})).await;
    assert_eq!(page["text"], "the answer");
    let killed = reader.call("kill_run", json!({"run_id": live.id})).await;
    assert!(killed.to_string().contains("Read-only"), "{killed}");
    let seen = reader.call("check_status", json!({"run_ids": [over.id, live.id]})).await;
    assert_eq!((&seen["runs"][0]["state"], &seen["runs"][1]["state"]), (&json!("succeeded"), &json!("running")));
    // A wait in the read-only folder returns with the end that the supervisor writes.
    live.let_go();
    assert_eq!(reader.end(&live.id).await["state"], "succeeded");
    reader.close().await;
    writer.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f29_a_log_folder_that_is_deleted_during_a_run_leaves_what_was_read() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let run = Held::start(&lab, &client, "remove-logs").await;
    let ended = run.end(&client).await;
    assert_eq!((&ended["state"], &ended["exit"]), (&json!("failed"), &json!("0")), "its answer is gone: {ended}");
    assert_eq!(ended["cost_usd"], 0.25, "{ended}");
    assert_eq!(client.refused("read_result", json!({"run_id": run.id})).await, "nothing_to_read");
    client.call("read_result", json!({"run_id": run.id, "part": "errors"})).await;
    client.call("read_result", json!({"run_id": run.id, "part": "log"})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f29_a_log_folder_that_is_created_again_is_read_again() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let again = lab.project().join("again");
    let richer = GOOD.replace("enforcement", "presentation");
    let then = format!("remove-logs\nannounce\nstatus {richer}\nfinal agent_a second\nuntil {}", again.display());
    let run = Held::start(&lab, &client, &then).await;
    run.let_go();
    client.until(&run.id, |run| run["phase"] == "presentation").await;
    std::fs::write(again, "").expect("write");
    assert_eq!(client.end(&run.id).await["state"], "succeeded");
    let page = client.call("read_result", json!({"run_id": run.id})).await;
    assert_eq!(page["text"], "second");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f30_without_inotify_every_wait_sees_changes() {
    let lab = Lab::fake();
    let client = lab.client_of(in_namespace(&lab, "echo 0 > /proc/sys/user/max_inotify_instances")).await;
    let run = Held::start(&lab, &client, "").await;
    let ended = client.until(&run.id, |run| run["phase"] == "enforcement").await;
    assert_eq!(ended["state"], "running");
    let supervisor = lab.processes().into_iter().find(|line| line.contains(" supervise ")).expect("supervisor");
    for pid in [client.pid.to_string().as_str(), supervisor.split(' ').next().expect("pid")] {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("fds").flatten();
        let mut open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert!(!open.any(|target| target.to_string_lossy().contains("inotify")), "{pid} has inotify after all");
    }
    assert_eq!(run.end(&client).await["state"], "succeeded");
    let live = Held::start(&lab, &client, "").await;
    let killed = client.call("kill_run", json!({"run_id": live.id})).await;
    assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
    client.close().await;
    lab.nobody_is_left().await;
}

// F31 to F33 ----------------------------------------------------------------------------------------------------------

/// Reads a part, and gives the answer or the refusal as text.
async fn said(client: &Client, id: &str, part: &str) -> String {
    let (_, answer) = client.ask("read_result", json!({"run_id": id, "part": part})).await;
    assert!(!answer.to_string().contains(SECRET), "{part}: {answer}");
    answer.to_string()
}

#[tokio::test]
async fn f31_no_part_reads_a_file_outside_of_the_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (file, folder) = outside(&lab);
    let run = Held::start(&lab, &client, "").await;
    let workspace = run.folder.join(FINAL).join("workspace");
    std::fs::create_dir(&workspace).expect("made");
    std::fs::write(workspace.join("own.txt"), "own").expect("write");
    symlink(&file, workspace.join("door.txt")).expect("link");
    symlink(&folder, workspace.join("yard")).expect("link");
    symlink("/", workspace.join("root")).expect("link");
    std::fs::write(run.folder.join(ATTEMPT).join("secret.txt"), SECRET).expect("write");
    run.end(&client).await;

    let up = "../".repeat(24);
    let absolute = file.display().to_string();
    let parts = [
        format!("file:{absolute}"),
        format!("file:{up}{absolute}"),
        "file:../../../attempt_1/secret.txt".to_owned(),
        "file:door.txt".to_owned(),
        "file:yard/secret.txt".to_owned(),
        format!("file:root{absolute}"),
        "file:.".to_owned(),
        "file:own.txt/../door.txt".to_owned(),
        "file:own.txt\0".to_owned(),
        format!("agent:{up}{absolute}"),
        "agent:../secret".to_owned(),
        "agent:..".to_owned(),
        "agent:/".to_owned(),
    ];
    for part in &parts {
        assert_eq!(client.refused("read_result", json!({"run_id": run.id, "part": part})).await, "nothing_to_read");
        said(&client, &run.id, part).await;
    }
    assert!(said(&client, &run.id, "file:own.txt").await.contains(r#""text":"own""#));
    let listing = said(&client, &run.id, "files").await;
    assert!(listing.contains("own.txt") && !listing.contains("door") && !listing.contains("secret"), "{listing}");
    for id in ["../..", "mg-../../..", "mg-00000000/../..", "/"] {
        assert_eq!(client.refused("read_result", json!({"run_id": id})).await, "bad_run_id");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f31_links_in_place_of_a_runs_files_are_not_followed() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (file, folder) = outside(&lab);
    let run = Held::start(&lab, &client, "").await;
    run.end(&client).await;
    // Folders come after what they contain: a place below a link would be outside of the run.
    let places = [
        run.answer(),
        run.folder.join(FINAL).join("workspace"),
        run.folder.join(FINAL),
        run.folder.join(ATTEMPT).join("agent_outputs"),
        run.folder.join(ATTEMPT).join("massgen.log"),
        run.folder.join(ATTEMPT).join("snapshot_mappings.json"),
        run.folder.join("stdout.log"),
        run.folder.join("stderr.log"),
        run.folder.join("logs"),
    ];
    for place in places {
        std::fs::create_dir_all(place.parent().expect("parent")).expect("made");
        let parent = place.parent().expect("parent").canonicalize().expect("a folder");
        assert!(parent.starts_with(run.folder.canonicalize().expect("a folder")), "{}", place.display());
        let target = if place.extension().is_some() { &file } else { &folder };
        replace_by_link(&place, target);
        for part in ["answer", "answers", "files", "file:secret.txt", "log", "agent:secret", "errors"] {
            said(&client, &run.id, part).await;
        }
    }
    client.close().await;
    lab.nobody_is_left().await;
}

/// A file becomes a link to the outside between its listing and its opening: once forced, then as a race.
#[test]
fn f31_a_link_swapped_in_after_the_listing_does_not_open() {
    let (root, outside) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
    let (secret, own) = (outside.path().join("own.txt"), root.path().join("w/own.txt"));
    std::fs::create_dir(root.path().join("w")).expect("made");
    std::fs::write(&secret, SECRET).expect("write");
    std::fs::write(&own, "own").expect("write");
    let files = RunFiles::open(root.path()).expect("open");
    let path = Path::new("w/own.txt");

    assert_eq!(files.list(Path::new("w"))[0].kind, EntryKind::File);
    replace_by_link(&own, &secret);
    assert!(files.open_file(path).is_err() && files.head(path, 99).is_err() && files.tail(path, 99).is_err());
    std::fs::rename(root.path().join("w"), root.path().join("gone")).expect("renamed");
    symlink(outside.path(), root.path().join("w")).expect("link");
    assert!(files.open_file(path).is_err(), "nor through a folder that was swapped");
    assert!(!files.has_file(path) && files.list(Path::new("w")).is_empty());

    // The same while another thread swaps without pause.
    std::fs::remove_file(root.path().join("w")).expect("removed");
    std::fs::rename(root.path().join("gone"), root.path().join("w")).expect("renamed");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                replace_by_link(&own, &secret);
                let draft = own.with_extension("text");
                std::fs::write(&draft, "own").and_then(|()| std::fs::rename(&draft, &own)).expect("swapped back");
            }
        });
        for _ in 0..3000 {
            if files.has_file(path)
                && let Ok(text) = files.head(path, 99)
            {
                assert_eq!(text, b"own");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// On a file system in memory, where a hundred thousand files are created quickly.
#[tokio::test]
async fn f32_a_workspace_of_100000_files_is_listed_within_bounds() {
    let small = Small::new("size=64m,nr_inodes=200000").await;
    let (lab, client) = (&small.lab, &small.client);
    let run = Held::start(lab, client, "").await;
    let beside_the_answer = small.state().join("runs").join(&run.id).join(FINAL);
    let (workspace, empty) = (beside_the_answer.join("workspace"), beside_the_answer.join("empty"));
    std::fs::create_dir(&workspace).expect("made");
    files(&workspace, 60_000);
    (0..400).for_each(|folder| files(&workspace.join(format!("d-{folder}")), 100));
    for folder in 0..100 {
        (0..100).for_each(|inner| std::fs::create_dir_all(empty.join(format!("{folder}/{inner}"))).expect("made"));
    }
    run.end(client).await;

    let all = listing(client, &run.id).await;
    assert_eq!((all.len(), all[1000].as_str()), (1001, "(the first 1000 files, in 1 folders; the rest is on disk)"));
    // Empty folders are bounded as well.
    std::fs::rename(&workspace, beside_the_answer.join("full")).expect("renamed");
    std::fs::rename(&empty, &workspace).expect("renamed");
    let none = listing(client, &run.id).await;
    assert_eq!(none, ["(the first 0 files, in 1000 folders; the rest is on disk)"]);
    small.close().await;
}

fn files(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).expect("made");
    (0..count).for_each(|number| drop(File::create(folder.join(format!("f-{number}"))).expect("made")));
}

/// The lines of a workspace's listing.
async fn listing(client: &Client, id: &str) -> Vec<String> {
    let begun = Instant::now();
    let (text, _) = all_pages(client, id, "files").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn f33_an_agents_name_is_never_a_path() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let run = Held::start(&lab, &client, "").await;
    // The files that the names would reach if they were joined to a path.
    for place in [ATTEMPT, "logs", ""] {
        std::fs::create_dir_all(run.folder.join(place).join("etc")).expect("made");
        std::fs::write(run.folder.join(place).join("etc/answer.txt"), SECRET).expect("write");
        std::fs::write(run.folder.join(place).join("etc.txt"), SECRET).expect("write");
    }
    let before = everything_in(&lab.project());
    let agent = r#"{"status": "answered", "answer_count": 1, "latest_answer_label": "../../etc"}"#;
    let status = format!(
        r#"{{"agents": {{"../../etc": {agent}, "..": {agent}, "/etc": {agent}}}, "results": {{"winner": "../../etc", "votes": {{"../../etc": 2}}}}, "costs": {{"total_estimated_cost": 0.75}}}}"#
    );
    std::fs::write(run.status(), status).expect("write");
    let shown = client.until(&run.id, |run| run["cost_usd"] == 0.75).await;
    assert!(shown["agents"].get("../../etc").is_some(), "shown as it is, as a word: {shown}");
    run.end(&client).await;
    for part in ["answers", "files", "log", "errors", "agent:../../etc", "agent:..", "agent:/etc", "file:../../etc"] {
        said(&client, &run.id, part).await;
    }
    assert!(said(&client, &run.id, "answer").await.contains("the answer"));
    let mut after = everything_in(&lab.project());
    after.retain(|path| *path != run.go);
    assert_eq!(before, after, "nothing was written outside");
    client.close().await;
    lab.nobody_is_left().await;
}

fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).expect("folder").flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}
