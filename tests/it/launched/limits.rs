//! Closed and odd streams, umasks and resource limits.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::{check_run_succeeds, checked_launcher, server_under, shell, with_launcher};
use crate::lab::{Lab, PATIENCE, fake};

#[tokio::test]
async fn runs_succeed_with_odd_streams_and_limits() {
    for (setup, check, left) in [
        ("exec 2>&-", "[ -e /proc/self/fd/2 ] || echo closed", "closed"),
        ("exec 2</dev/null", "echo >&2 || echo unwritable", "unwritable"),
        ("exec 2>/dev/full", "echo >&2 || echo full", "full"),
        ("ulimit -v 614400", "ulimit -v", "614400"),
        ("ulimit -n 24", "ulimit -n", "24"),
    ] {
        let (lab, shell) = (Lab::fake(), shell(setup));
        let launcher = checked_launcher(&shell, check, left).await;
        let client = lab.client_of(server_under(&lab, &launcher)).await;
        check_run_succeeds(&lab, &client).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// A closed stdin counts as end of input, a closed stdout as a stream without reader. The server ends, and none of its files becomes a
/// standard stream.
#[tokio::test]
async fn a_server_without_input_or_output_ends() {
    for (setup, check) in [
        ("exec <&-", "[ -e /proc/self/fd/0 ] || echo none"),
        ("exec >&-", "[ -e /proc/self/fd/1 ] || echo none >&2"),
        ("exec <&- >&- 2>&-", "true"),
    ] {
        let (lab, shell) = (Lab::fake(), shell(setup));
        let launcher = shell.each_ref().map(String::as_str);
        let mut look_command = Command::new("sh");
        look_command.args(["-c", check]);
        let output = with_launcher(&launcher, &look_command).stderr(Stdio::piped()).output().await.expect("started");
        assert!([output.stdout, output.stderr].concat() == b"none\n" || check == "true", "{setup}");
        let mut command = server_under(&lab, &launcher);
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time").expect("started");
        assert!(ended.success(), "{setup}: {ended}");
        let left = std::fs::read_dir(lab.state()).expect("state").flatten().map(|entry| entry.file_name());
        assert!(left.into_iter().all(|name| name == "runs" || name == "pruned"), "{setup}");
        lab.nobody_is_left().await;
    }
}

/// The modes of a run's folder and of everything below it, the folder first.
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
async fn under_any_umask_only_the_owner_can_read_a_run() {
    for (umask, massgens) in [("0777", "0077"), ("0000", "0000"), ("0027", "0027")] {
        let (lab, shell) =
            (Lab::scripted("umask; mkdir \"$MASSGEN_LOG_BASE_DIR/log_1\""), shell(&format!("umask {umask}")));
        let launcher = checked_launcher(&shell, "umask", umask).await;
        let client = lab.client_of(server_under(&lab, &launcher)).await;
        let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
        client.end(&id).await;
        let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
        assert_eq!(output.trim(), massgens, "only the owner's bits are restored");
        let all = modes(&lab.run_folder(&id));
        assert_eq!(all[0].1, 0o700, "{umask}: other users cannot enter the folder");
        assert!(all.len() > 8 && all.iter().all(|(_, mode)| mode & 0o600 == 0o600), "{umask}: {all:?}");
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// A warm run has the umask of its own launcher, not that of the warm process's launcher.
#[tokio::test]
async fn a_warm_run_has_the_umask_of_its_own_launcher() {
    let lab = Lab::python("import os\nif __name__ == '__main__':\n    print(oct(os.umask(0)))\n").await.warm();
    let shell = shell("umask 0007");
    let launcher = checked_launcher(&shell, "umask", "0007").await;
    let client = lab.client_of(server_under(&lab, &launcher)).await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    client.end(&id).await;
    let run = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    assert_eq!(run["runs"][0]["details"]["start"], "warm");
    let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
    assert_eq!(output.trim(), "0o7");
    client.close().await;
    lab.nobody_is_left().await;
}

/// A write above `ulimit -f` is an error. SIGXFSZ would end the server, and a supervisor with its run.
#[tokio::test]
async fn a_limit_on_file_sizes_ends_neither_server_nor_run() {
    let (lab, shell) = (Lab::fake(), shell("ulimit -f 0"));
    let launcher = checked_launcher(&shell, "ulimit -f", "0").await;
    let client = lab.client_of(server_under(&lab, &launcher)).await;
    assert_eq!(client.refused("run_massgen", fake("announce")).await, "state_folder");
    assert_eq!(client.call("check_status", json!({})).await["runs"], json!([]));
    client.close().await;

    let (lab, shell) = (Lab::fake(), self::shell("ulimit -f 200"));
    let launcher = checked_launcher(&shell, "ulimit -f", "200").await;
    let client = lab.client_of(server_under(&lab, &launcher)).await;
    let id = client.start(fake("announce\nflood 20000\nfinal agent_a done")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    let size = lab.run_folder(&id).join("stdout.log").metadata().expect("log").len();
    assert_eq!(size, 200 * 512, "the log stops at the limit");
    client.close().await;
    lab.nobody_is_left().await;
}
