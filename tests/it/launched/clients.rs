//! Clients that are gone or read nothing while their pipes stay open.

use serde_json::json;

use super::{server_under, shell};
use crate::lab::{Lab, fake};
use crate::raw::{Raw, request};

/// The test holds the ends of the pipes, but the server's parent is a shell, which the test kills.
#[tokio::test]
async fn a_server_without_its_parent_ends_after_a_silence_and_not_before() {
    let started = |lab: &Lab| {
        let shell = shell("exec 3<&0; \"$@\" <&3 3<&- & wait; true");
        let mut command = server_under(lab, &shell.each_ref().map(String::as_str));
        command.env("MASSGEN_MCP_ORPHAN_SILENCE_MS", "3000");
        Raw::start(command)
    };
    let (orphan_lab, other_lab) = (Lab::fake(), Lab::fake());
    let (mut orphan, mut other) = (started(&orphan_lab), started(&other_lab));
    for server in [&mut orphan, &mut other] {
        server.initialize("2025-11-25").await;
        server.lives().await;
    }
    orphan.child.kill().await.expect("the shell is gone");
    orphan.lives().await;
    orphan_lab.nobody_is_left().await;
    // Its pipes were open until now.
    drop(orphan);
    other.lives().await;
    other.child.kill().await.expect("the shell is gone");
    other_lab.nobody_is_left().await;
}

/// The requests cause far more output than pipes hold, in answers and in refusals.
#[tokio::test]
async fn a_client_that_closes_stdin_and_never_reads_ends_the_server() {
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
