//! Warm starts under the environments of clients. A warm run sees what its own interpreter would see, with a stand-in and on real
//! MassGen. The second run of real MassGen is warm in each environment or gives the reason.

use serde_json::{Value, json};

use crate::lab::{Client, Lab};

/// Variables with their values.
type Variables = &'static [(&'static str, &'static str)];

const CLIENT_VARIABLES: Variables = &[("LOGNAME", "u"), ("SHELL", "/bin/sh"), ("TERM", "xterm"), ("USER", "u")];

/// Prints the environment, the encodings, the locale and the time zone of an interpreter.
const PRINT_ENVIRONMENT: &str = "import locale, time\nprint(*(f'{n}={v}' for n, v in sorted(os.environ.items()) if n not in ('PATH', 'MASSGEN_LOG_BASE_DIR')), \
     sep='\\n')\nprint(locale.setlocale(locale.LC_CTYPE), sys.getfilesystemencoding(), locale.getpreferredencoding(False).lower(), time.tzname, \
     [(s.encoding, s.errors) for s in (sys.stdin, sys.stdout, sys.stderr)])";

/// A stand-in that executes its question as Python code.
const STAND_IN: &str = "
import gettext, os, sys
import dotenv, yaml
gettext.gettext('path')

def main():
    config = sys.argv[sys.argv.index('--config') + 1]
    exec(yaml.safe_load(open(config))['prompt'], globals())

if __name__ == '__main__':
    main()
";

/// Runs a question; returns the kind of start, the reason of a cold start, and the output.
async fn run(lab: &Lab, client: &Client, arguments: Value) -> (String, String, String) {
    let id = client.start(arguments).await;
    client.end(&id).await;
    let status = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let details = &status["runs"][0]["details"];
    let detail = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
    let output = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
    (detail("start"), detail("cold_because"), output.replace(&id, "RUN"))
}

async fn environment_of(lab: &Lab, variables: &[(&str, &str)]) -> (String, String, String) {
    let client = lab.client_of(lab.command_with(variables)).await;
    let status = run(lab, &client, json!({"question": PRINT_ENVIRONMENT, "config": "@rehearsal", "fresh": true})).await;
    client.close().await;
    status
}

const UTF_8_LOCALES: &[Variables] = &[
    CLIENT_VARIABLES,
    &[],
    &[("LANG", "C")],
    &[("LANG", "C.UTF-8")],
    &[("LANG", "xx_XX.UTF-8")],
    &[("LC_CTYPE", "C")],
    &[("LC_ALL", "C.UTF-8")],
    &[("LC_MESSAGES", "xx_XX"), ("LANGUAGE", "xx")],
];

#[tokio::test]
async fn a_run_sees_what_its_own_interpreter_would_see() {
    let lab = Lab::python(STAND_IN).await;
    let others: &[Variables] = &[&[("LC_ALL", "POSIX")], &[("TZ", "Asia/Tokyo")]];
    let all = [UTF_8_LOCALES, others].concat();
    let mut cold = Vec::new();
    for variables in &all {
        cold.push(environment_of(&lab, variables).await.2);
    }
    let lab = lab.with_warm_starts();
    for (variables, cold) in all.iter().zip(cold) {
        let (start, because, output) = environment_of(&lab, variables).await;
        assert_eq!((start.as_str(), because.as_str(), output), ("warm", "", cold), "{variables:?}");
    }
    // Runs with the same encoding share a process, whatever the name of their locale. The second process has another time zone.
    assert_eq!(lab.warm_processes().len(), 2, "{:?}", lab.warm_processes());
    lab.nobody_is_left().await;
}

/// A run of real MassGen: the kind of start, the reason of a cold start, its answer, and the kinds of its events in order.
#[derive(Debug, PartialEq)]
struct Observation {
    start: String,
    because: String,
    answer: String,
    events: Vec<String>,
}

async fn observe(lab: &Lab, client: &Client, context: &str) -> Observation {
    let question = json!({"question": "What is 6*7?", "config": "c.yaml", "context": context, "fresh": true});
    let (id, start, because) = {
        let id = client.start(question).await;
        let ended = client.end(&id).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let status = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
        let details = &status["runs"][0]["details"];
        let detail = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
        (id, detail("start"), detail("cold_because"))
    };
    let answer = client.call("read_result", json!({"run_id": id})).await["text"].as_str().expect("text").to_owned();
    let logs =
        std::fs::read_dir(lab.run_folder(&id).join("logs")).expect("logs").flatten().next().expect("a log folder");
    let events = std::fs::read_to_string(logs.path().join("turn_1/attempt_1/events.jsonl")).expect("events");
    let kind = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        format!("{} {}", event["event_type"], event["agent_id"])
    };
    Observation { start, because, answer, events: events.lines().map(kind).collect() }
}

/// Variables of every run here: an invalid key, and a closed proxy for MassGen's requests for price lists.
const OFFLINE: Variables = &[
    ("OPENAI_API_KEY", "no-key-at-all"),
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ("https_proxy", "http://127.0.0.1:9"),
    ("NO_PROXY", "127.0.0.1,localhost"),
    ("no_proxy", "127.0.0.1,localhost"),
];

/// The client's variables, the `context` of the run, and the number of warm processes afterwards.
const MATRIX: &[(Variables, &str, usize)] = &[
    (CLIENT_VARIABLES, "none", 1),
    (&[], "none", 1),
    (&[("LANG", "C")], "none", 1),
    (&[("LANG", "xx_XX.UTF-8")], "none", 1),
    // This variable does not reach MassGen.
    (&[("PYTHONUTF8", "1")], "none", 1),
    // `configs/.env` exists in the project.
    (CLIENT_VARIABLES, "read", 1),
    (&[("LC_ALL", "POSIX")], "none", 1),
    (&[("TZ", "Asia/Tokyo")], "none", 2),
    (&[("ALL_PROXY", "http://127.0.0.1:9")], "none", 3),
];

#[tokio::test]
async fn the_second_run_of_real_massgen_is_warm_in_every_environment() {
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let config = massgen_mcp::rehearsal::config_yaml("@rehearsal/agents=1", &rehearsal.base_url()).expect("config");
    let lab = Lab::real().await;
    lab.put("c.yaml", &config);
    lab.put("configs/.env", "SOME_API_KEY=of-the-project\n");
    let client = lab.client_of(lab.command_with(&[OFFLINE, CLIENT_VARIABLES].concat())).await;
    let cold = observe(&lab, &client, "none").await;
    assert_eq!((cold.start.as_str(), cold.because.as_str()), ("cold", "the setting `warm` is off"));
    client.close().await;

    let lab = lab.with_warm_starts();
    let warm = Observation { start: "warm".to_owned(), because: String::new(), ..cold };
    for (variables, context, processes) in MATRIX {
        run_twice(&lab, &[OFFLINE, variables].concat(), context, &warm).await;
        assert_eq!(lab.warm_processes().len(), *processes, "{variables:?}");
    }
    let client = lab.client_of(lab.command_with(&[OFFLINE, &[("TZ", "Europe/Paris")]].concat())).await;
    let fourth = observe(&lab, &client, "none").await;
    assert_eq!(fourth.start, "cold");
    assert!(fourth.because.ends_with("three warm processes are there for other environments"), "{}", fourth.because);
    client.close().await;
    lab.warm_up(&["--stop"]);
    lab.nobody_is_left().await;
}

async fn run_twice(lab: &Lab, variables: &[(&str, &str)], context: &str, warm: &Observation) {
    let client = lab.client_of(lab.command_with(variables)).await;
    for number in 1..=2 {
        assert_eq!(observe(lab, &client, context).await, *warm, "run {number} with {variables:?}");
    }
    client.close().await;
}
