//! Bad input: each invalid call gets an error result with code, message and hint. Nothing is started and nothing is lost.

use serde_json::json;

use crate::lab::Lab;

#[tokio::test]
async fn every_invalid_call_has_its_error_code_and_starts_nothing() {
    let lab = Lab::scripted("exit 0");
    lab.put("empty.txt", " \n");
    lab.put("latin1.txt", "x");
    std::fs::write(lab.project().join("latin1.txt"), [0xff, 0xfe]).expect("write");
    lab.put("notes.md", "no config");
    let client = lab.client().await;
    let table = [
        ("run_massgen", json!({}), "question_missing"),
        ("run_massgen", json!({"question": "", "config": "@rehearsal"}), "question_missing"),
        ("run_massgen", json!({"question": " \n\t", "config": "@rehearsal"}), "question_missing"),
        ("run_massgen", json!({"question_file": "empty.txt", "config": "@rehearsal"}), "question_empty"),
        ("run_massgen", json!({"question": "a\u{0}b", "config": "@rehearsal"}), "question_invalid"),
        ("run_massgen", json!({"question": "q", "question_file": "empty.txt"}), "question_conflict"),
        ("run_massgen", json!({"question_file": "nope.txt"}), "question_file_unreadable"),
        ("run_massgen", json!({"question_file": "latin1.txt"}), "question_file_unreadable"),
        ("run_massgen", json!({"question_file": "."}), "question_file_unreadable"),
        ("run_massgen", json!({"question": "q", "budget": 3}), "invalid_arguments"),
        ("run_massgen", json!({"question": [7]}), "invalid_arguments"),
        ("run_massgen", json!({"question": 7}), "config_missing"),
        ("run_massgen", json!({"question": "q", "mode": "slow"}), "invalid_arguments"),
        ("run_massgen", json!({"question": "q"}), "config_missing"),
        ("run_massgen", json!({"question": "q", "config": "nope.yaml"}), "config_missing"),
        ("run_massgen", json!({"question": "q", "config": "@examples/nope"}), "config_missing"),
        ("run_massgen", json!({"question": "q", "config": "notes.md"}), "config_unsuitable"),
        ("run_massgen", json!({"question": "q", "config": "@rehearsal/nope"}), "rehearsal_invalid"),
        ("run_massgen", json!({"question": "q", "config": "@rehearsal", "group": "x".repeat(65)}), "group_invalid"),
        ("run_massgen", json!({"question": "q", "config": "@rehearsal", "timeout_s": 0.5}), "out_of_range"),
        ("run_massgen", json!({"question": "q", "config": "@rehearsal", "timeout_s": 7201}), "out_of_range"),
        ("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": -0.5}), "out_of_range"),
        ("check_status", json!({"wait_s": -1}), "out_of_range"),
        ("check_status", json!({"run_id": "mg-00000000"}), "unknown_run"),
        ("check_status", json!({"run_id": "../../etc"}), "bad_run_id"),
        ("check_status", json!({"run_id": "mg-../../x"}), "bad_run_id"),
        ("check_status", json!({"run_ids": vec!["mg-00000000"; 101]}), "out_of_range"),
        ("check_status", json!({"run_id": "mg-00000000", "group": "g"}), "selection_unclear"),
        ("check_status", json!({"group": "nobody"}), "unknown_group"),
        ("check_status", json!({"until": "dawn"}), "invalid_arguments"),
        ("read_result", json!({}), "selection_unclear"),
        ("read_result", json!({"run_id": "mg-00000000", "group": "g"}), "selection_unclear"),
        ("read_result", json!({"group": "nobody"}), "unknown_group"),
        ("read_result", json!({"run_id": "mg-00000000"}), "unknown_run"),
        ("read_result", json!({"run_id": "mg-00000000", "part": "soul"}), "bad_part"),
        ("read_result", json!({"run_id": "mg-00000000", "limit": 40_001}), "unknown_run"),
        ("kill_run", json!({}), "selection_unclear"),
        ("kill_run", json!({"run_id": "mg-00000000", "grace_s": 61}), "out_of_range"),
        ("kill_run", json!({"group": "nobody"}), "unknown_group"),
    ];
    for (tool, arguments, code) in table {
        assert_eq!(client.refused(tool, arguments.clone()).await, code, "{tool} {arguments}");
    }
    let listed = client.call("check_status", json!({})).await;
    assert_eq!(listed["runs"], json!([]), "nothing was started");
    assert_eq!(std::fs::read_dir(lab.state().join("runs")).expect("runs").count(), 0);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_part_outside_the_run_is_not_found() {
    let lab = Lab::scripted(
        "folder=\"$MASSGEN_LOG_BASE_DIR/log_1/turn_1\"; mkdir -p \"$folder/final/a/workspace\"; cd \"$folder/final/a\"; \
         printf answer > answer.txt; printf inside > workspace/in.txt; ln -s /etc/passwd workspace/out.txt",
    );
    let client = lab.client().await;
    let run = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 30})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let id = run["run_id"].as_str().expect("run_id");
    let listing = client.call("read_result", json!({"run_id": id, "part": "files"})).await;
    assert_eq!(listing["text"], "         6  in.txt");
    let inside = client.call("read_result", json!({"run_id": id, "part": "file:in.txt"})).await;
    assert_eq!(inside["text"], "inside");
    for path in ["out.txt", "../answer.txt", "../../../../../../spec.json", "/etc/passwd", "nope"] {
        let code = client.refused("read_result", json!({"run_id": id, "part": format!("file:{path}")})).await;
        assert_eq!(code, "nothing_to_read", "{path}");
    }
    assert_eq!(
        client.refused("read_result", json!({"run_id": id, "part": "agent:../../etc"})).await,
        "nothing_to_read"
    );
    client.close().await;
}
