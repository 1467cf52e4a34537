//! Process life: F1 to F13.

use serde_json::json;

use crate::lab::{Lab, fake};

#[tokio::test]
async fn f13_exit_0_without_any_answer_is_no_success() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id =
        client.start(fake("announce\nstatus {\"finish_reason\": \"completed\", \"is_complete\": true}\nexit 0")).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("failed"), &json!("0")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
