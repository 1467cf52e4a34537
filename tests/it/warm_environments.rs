//! Warm starts under the environments that clients give: what a run sees is what its own interpreter would see, on a stand-in and on
//! real MassGen, whose second run is warm in each of them or says why not.

use serde_json::{Value, json};

use crate::lab::{Client, Lab};

const SIX: &[(&str, &str)] = &[("LOGNAME", "u"), ("SHELL", "/bin/sh"), ("TERM", "xterm"), ("USER", "u")];

/// What an interpreter makes of its environment.
const SEE: &str = "import locale, time\nprint(*(f'{n}={v}' for n, v in sorted(os.environ.items()) if n not in ('PATH', 'MASSGEN_LOG_BASE_DIR')), \
     sep='\\n')\nprint(locale.setlocale(locale.LC_CTYPE), sys.getfilesystemencoding(), sys.flags.utf8_mode, time.tzname, \
     [(s.encoding, s.errors) for s in (sys.stdin, sys.stdout, sys.stderr)])";

/// A program that does what its question says.
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

/// Runs a question; how it was started, why it was not warm, and what it said.
async fn run(lab: &Lab, client: &Client, arguments: Value) -> (String, String, String) {
    let id = client.start(arguments).await;
    client.end(&id).await;
    let seen = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let details = &seen["runs"][0]["details"];
    let word = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
    let said = std::fs::read_to_string(lab.run_folder(&id).join("stdout.log")).expect("log");
    (word("start"), word("cold_because"), said.replace(&id, "RUN"))
}

async fn see(lab: &Lab, variables: &[(&str, &str)]) -> (String, String, String) {
    let client = lab.client_of(lab.command_with(variables)).await;
    let seen = run(lab, &client, json!({"question": SEE, "config": "@rehearsal", "fresh": true})).await;
    client.close().await;
    seen
}

const UTF_8: &[&[(&str, &str)]] = &[
    SIX,
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
    let others: &[&[(&str, &str)]] = &[&[("LC_ALL", "POSIX")], &[("TZ", "Asia/Tokyo")]];
    let all = [UTF_8, others].concat();
    let mut cold = Vec::new();
    for variables in &all {
        cold.push(see(&lab, variables).await.2);
    }
    let lab = lab.with_warm_starts();
    for (variables, cold) in all.iter().zip(cold) {
        let (start, because, said) = see(&lab, variables).await;
        assert_eq!((start.as_str(), because.as_str(), said), ("warm", "", cold), "{variables:?}");
    }
    // All of one encoding share a process, whatever their locale is called.
    assert_eq!(lab.warm_processes().len(), 3, "{:?}", lab.warm_processes());
    lab.nobody_is_left().await;
}
