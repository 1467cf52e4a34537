//! A ledger file that is damaged, missing, unreadable or of a newer version: no budget is spent twice, no request starts a second
//! run, and live runs go on.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, is_over};

/// Makes the content of the damaged file from the text of the valid ledger.
type Damage = fn(&str) -> Vec<u8>;

/// Every kind of damage that a crash, a full disk or another program can leave.
const DAMAGES: [(&str, Damage); 8] = [
    ("empty", |_| Vec::new()),
    ("cut in half", |whole| whole.as_bytes()[..whole.len() / 2].to_vec()),
    ("cut before its last character", |whole| whole.as_bytes()[..whole.len() - 1].to_vec()),
    ("no JSON", |_| b"not a ledger".to_vec()),
    ("no UTF-8", |whole| {
        whole.replacen("\"version\"", "\"v\u{0}\"", 1).into_bytes().into_iter().chain([0xff]).collect()
    }),
    ("a list", |_| b"[1, 2]".to_vec()),
    ("without its fields", |_| b"{}".to_vec()),
    ("with values of other types", |whole| whole.replacen("\"entries\":[", "\"entries\":{\"a\":[", 1).into_bytes()),
];

/// A status line of a script that has cost so many dollars.
fn costs(usd: &str) -> String {
    let costs = format!(r#"{{"total_estimated_cost": {usd}, "total_input_tokens": 5, "total_output_tokens": 5}}"#);
    let tokens = format!(r#"{{"input_tokens": 5, "output_tokens": 5, "estimated_cost": {usd}}}"#);
    format!(
        r#"status {{"costs": {costs}, "agents": {{"agent_a": {{"status": "answered", "token_usage": {tokens}}}}}}}"#
    )
}

/// A day with a budget of 3 USD, of which an ended run has spent 0.50 and a live run has reserved 1.
struct Day {
    lab: Lab,
    client: Client,
    live: String,
}

impl Day {
    async fn begin() -> Day {
        let lab = Lab::fake();
        let client = Day::server(&lab).await;
        let mut ended = fake(&format!("announce\n{}\nfinal agent_a done", costs("0.5")));
        ended["budget_usd"] = json!(1);
        let ended = client.start(ended).await;
        client.end(&ended).await;
        lab.only_servers_are_left().await;
        let live = client.start(Day::keyed()).await;
        client.until(&live, |run| run["state"] == "running").await;
        Day { lab, client, live }
    }

    async fn server(lab: &Lab) -> Client {
        let mut command = lab.command();
        command.env("MASSGEN_MCP_DAY_BUDGET_USD", "3");
        lab.client_of(command).await
    }

    /// The request of the live run.
    fn keyed() -> Value {
        let mut asked = fake("announce\nforever");
        asked["budget_usd"] = json!(1);
        asked["request_key"] = json!("key");
        asked
    }

    fn ledger(&self) -> PathBuf {
        self.lab.state().join("ledger.json")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.ledger()).expect("ledger")
    }

    /// What a start with this budget is answered.
    async fn ask_for(&self, usd: f64) -> (bool, Value) {
        let mut asked = fake("announce\nforever");
        (asked["budget_usd"], asked["fresh"]) = (json!(usd), json!(true));
        self.client.ask("run_massgen", asked).await
    }

    async fn kill(&self, id: &str) -> Value {
        self.client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        self.client.end(id).await
    }

    async fn close(self) {
        self.client.close().await;
        self.lab.nobody_is_left().await;
    }
}

/// Exactly 1.50 USD of the day are left, as before.
async fn assert_nothing_is_forgotten(day: &Day, what: &str) {
    let today = day.client.call("check_status", json!({})).await["today"].take();
    assert_eq!(
        (&today["runs"], &today["live"], &today["cost_usd"]),
        (&json!(2), &json!(1), &json!(0.5)),
        "{what}: {today}"
    );
    let again = day.client.call("run_massgen", Day::keyed()).await;
    assert_eq!((&again["run_id"], &again["reused"]), (&json!(day.live), &json!(true)), "{what}: {again}");
    let (is_refused, told) = day.ask_for(1.6).await;
    assert!(is_refused && told["code"] == "budget_exhausted", "{what}: {told}");
    assert!(told["message"].as_str().is_some_and(|message| message.contains("$1.50 left")), "{what}: {told}");
    let (is_refused, started) = day.ask_for(1.5).await;
    assert!(!is_refused, "{what}: {started}");
    day.kill(started["run_id"].as_str().expect("run_id")).await;
    serde_json::from_str::<Value>(&day.text()).unwrap_or_else(|error| panic!("{what}: it is written again: {error}"));
}

#[tokio::test]
async fn a_damaged_ledger_is_rebuilt_from_the_runs() {
    for (what, damage) in DAMAGES {
        let day = Day::begin().await;
        std::fs::write(day.ledger(), damage(&day.text())).expect("damaged");
        assert_nothing_is_forgotten(&day, what).await;
        assert_eq!(day.kill(&day.live).await["state"], "killed", "{what}");
        day.close().await;
    }
}

#[tokio::test]
async fn a_missing_ledger_is_rebuilt_from_the_runs() {
    let day = Day::begin().await;
    std::fs::remove_file(day.ledger()).expect("removed");
    assert_nothing_is_forgotten(&day, "missing").await;
    day.kill(&day.live).await;
    day.close().await;
}

/// A newer program wrote it: this one neither decides by it nor writes it. Live runs go on, can be read and stopped, and end.
#[tokio::test]
async fn a_newer_ledger_refuses_starts_and_is_never_written() {
    // With a further field, and with a field in another form.
    for (field, value) in [("of_a_later_version", json!([1])), ("entries", json!({"by_run": []}))] {
        let day = Day::begin().await;
        let mut newer: Value = serde_json::from_str(&day.text()).expect("JSON");
        (newer["version"], newer[field]) = (json!(2), value);
        let newer = newer.to_string();
        std::fs::write(day.ledger(), &newer).expect("written");
        assert_newer_is_kept(day, &newer).await;
    }
}

async fn assert_newer_is_kept(day: Day, newer: &str) {
    let (is_refused, told) = day.ask_for(0.1).await;
    assert!(is_refused && told["code"] == "newer_record", "{told}");
    assert_eq!(told["hint"], "the operator has to update this massgen-mcp");
    assert!(told["message"].as_str().is_some_and(|message| message.contains("of version 2")), "{told}");
    let begun = json!({"configs": ["@rehearsal", "@rehearsal/agents=3"], "question": "q"});
    assert_eq!(day.client.refused("run_massgen", begun).await, "newer_record", "nor does an experiment begin");
    let seen = day.client.call("check_status", json!({})).await;
    let ended: Vec<bool> = seen["runs"].as_array().expect("runs").iter().map(is_over).collect();
    assert_eq!((ended, seen.get("today")), (vec![false, true], None), "{seen}");
    assert_eq!(day.kill(&day.live).await["state"], "killed");
    day.lab.only_servers_are_left().await;
    assert_eq!(day.text(), newer, "the file is as it was");
    day.close().await;
}

/// A ledger that exists and cannot be read may hold anything: nothing starts.
#[tokio::test]
async fn a_ledger_that_cannot_be_read_refuses_starts_and_says_who_can_help() {
    let day = Day::begin().await;
    std::fs::remove_file(day.ledger()).and_then(|()| std::fs::create_dir(day.ledger())).expect("a folder in its place");
    let (is_refused, told) = day.ask_for(0.1).await;
    assert!(is_refused && told["code"] == "state_folder", "{told}");
    assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("--home or MASSGEN_MCP_HOME")), "{told}");
    assert_eq!(day.kill(&day.live).await["state"], "killed");
    day.close().await;
}
