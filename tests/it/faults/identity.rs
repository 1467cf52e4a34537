//! Identity and clocks: F21 to F24. `src/run.rs` has the tests of durations when the wall clock jumps (F23).

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::lab::{Lab, fake, is_over, wait_until};

/// A process that belongs to no run, with a child of its own.
struct Stranger {
    process: Child,
    child: String,
}

impl Stranger {
    async fn start() -> Stranger {
        let process = Command::new("sh").args(["-c", "sleep 300 & wait"]).spawn().expect("started");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let child = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
        wait_until("the stranger has a child", || !child().is_empty()).await;
        Stranger { child: child(), process }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn lives(&mut self) -> bool {
        self.process.try_wait().expect("asked").is_none()
    }

    fn child_lives(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        for pid in [&self.child, &self.pid().to_string()] {
            let _gone = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
        let _reaped = self.process.wait();
    }
}

/// Makes a finished run look as if it still ran, with this process as MassGen's. Its supervisor must have exited: until then it holds
/// the lock.
fn rewind(lab: &Lab, id: &str, leader: &Value) {
    let mut record = lab.record(id);
    record["state"] = json!("running");
    record["leader"] = leader.clone();
    record.as_object_mut().expect("object").remove("ending");
    std::fs::write(lab.run_folder(id).join("run.json"), record.to_string()).expect("written");
}

fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit_once(") ").expect("name").1.split(' ').nth(19).expect("field 22").parse().expect("number")
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id").trim().to_owned()
}

async fn a_stranger_survives(leader: impl Fn(u32) -> Value) {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    lab.only_servers_are_left().await;
    let mut stranger = Stranger::start().await;
    rewind(&lab, &id, &leader(stranger.pid()));
    client.until(&id, |run| run["state"] == "lost").await;
    let killed = client.call("kill_run", json!({"run_id": id})).await;
    assert_eq!(killed["receipts"][0]["state"], "lost", "{killed}");
    lab.only_servers_are_left().await;
    assert!(stranger.lives() && stranger.child_lives(), "a process of no run, or its child, was signalled");
    client.close().await;
}

#[tokio::test]
async fn f21_a_recycled_pid_is_never_signalled() {
    a_stranger_survives(|pid| json!({"pid": pid, "start_ticks": start_ticks(pid) - 1, "boot_id": boot_id()})).await;
}

#[tokio::test]
async fn f22_a_process_recorded_before_the_last_boot_is_not_signalled() {
    a_stranger_survives(|pid| json!({"pid": pid, "start_ticks": start_ticks(pid), "boot_id": "an earlier boot"})).await;
}

#[tokio::test]
async fn f21_the_recorded_process_is_recognized_and_ended() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    lab.only_servers_are_left().await;
    let mut massgen = Stranger::start().await;
    let pid = massgen.pid();
    rewind(&lab, &id, &json!({"pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}));
    client.call("check_status", json!({"run_id": id})).await;
    wait_until("the process of the run is ended", || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    })
    .await;
    assert!(!massgen.lives());
    client.close().await;
}

/// A supervisor that is stopped past its deadline, as on a sleeping machine, ends its run when it continues.
#[tokio::test]
async fn f24_a_deadline_that_passes_during_sleep_ends_the_run_on_waking() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let mut asked = fake("announce\nforever");
    asked["timeout_s"] = json!(1);
    let id = client.start(asked).await;
    lab.signal_supervisor("-STOP");
    let waited = client.call("check_status", json!({"run_id": id, "wait_s": 2, "until": "all_done"})).await;
    assert!(!is_over(&waited["runs"][0]), "the run of a stopped supervisor is not lost: {waited}");
    lab.signal_supervisor("-CONT");
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("timed_out"), &json!("timeout_s_reached")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
