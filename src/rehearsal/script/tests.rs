//! Tests that directives are parsed, refused if invalid, and formatted as a name again.

use super::*;

#[test]
fn a_name_without_directives_is_the_default_script() {
    assert_eq!(Script::parse("rehearsal"), Ok(Script::default()));
}

#[test]
fn every_directive_is_read() {
    let script = Script::parse(
        "rehearsal/delay=1.5/final-delay=2/chars=300/command=echo%20%22a%2Fb%22/tokens=7,8/cost=0.25/name=agent_a/status=429",
    )
    .unwrap();
    assert_eq!(script.delay, Duration::from_millis(1500));
    assert_eq!(script.final_delay, Duration::from_secs(2));
    assert_eq!(script.chars, Some(300));
    assert_eq!(script.command.as_deref(), Some("echo \"a/b\""));
    assert_eq!(script.usage, ReportedUsage { input: 7, output: 8, cost: Some(0.25) });
    assert_eq!(script.label.as_deref(), Some("agent_a"));
    assert_eq!(script.behavior, Behavior::HttpError(429));
}

#[test]
fn behaviors_are_parsed_and_the_last_one_applies() {
    let table = [
        ("rehearsal/hang", Behavior::Hang),
        ("rehearsal/drop", Behavior::DropStream),
        ("rehearsal/never-vote", Behavior::NeverVote),
        ("rehearsal/text-only", Behavior::TextOnly),
        ("rehearsal/hang/status=500", Behavior::HttpError(500)),
    ];
    for (name, behavior) in table {
        assert_eq!(Script::parse(name).unwrap().behavior, behavior, "{name}");
    }
}

#[test]
fn a_script_can_be_formatted_and_parsed_again() {
    let names = [
        "rehearsal",
        "rehearsal/name=agent_b/delay=0.25/final-delay=10/chars=5/command=sleep%2030/tokens=0,4000000000/cost=0.000125/drop",
        "rehearsal/command=%24%7BHOME%7D%20%22%0A/status=599",
        "rehearsal/never-vote",
        "rehearsal/text-only",
        "rehearsal/hang",
        "rehearsal/meta",
        "rehearsal/meta=%40rehearsal%2Fcost%3D0.02",
    ];
    for name in names {
        let script = Script::parse(name).unwrap();
        let written = script.to_string();
        assert_eq!(Script::parse(&written), Ok(script), "{written}");
        assert!(!written.contains(['"', '$', '\n', ' ']), "{written}");
    }
}

#[test]
fn invalid_directives_are_refused_by_name() {
    let malformed = [
        "delay=",
        "delay",
        "delay=-1",
        "delay=NaN",
        "delay=1e9",
        "final-delay=x",
        "chars=0",
        "chars=2000001",
        "status=200",
        "status=600",
        "hang=1",
        "tokens=5",
        "tokens=1,-2",
        "cost=-1",
        "cost=NaN",
        "command=",
        "meta=",
        "command=%20",
        "command=%00",
        "command=%FF",
        "name=",
        "name=a%20b",
    ];
    for directive in malformed {
        let error = Script::parse(&format!("rehearsal/{directive}")).unwrap_err();
        assert!(matches!(&error, ScriptError::Malformed { directive: named, .. } if named == directive), "{error}");
        assert!(error.to_string().contains("never-vote"), "{error}");
    }
    for directive in ["", "hnag", "delays=1", "b:hang", "agents=2", "HANG"] {
        let error = Script::parse(&format!("rehearsal/{directive}")).unwrap_err();
        assert!(!matches!(error, ScriptError::NotRehearsal { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`{directive}`")), "{error}");
    }
}

#[test]
fn another_model_is_not_the_rehearsal_and_long_names_are_cut() {
    for name in ["", "gpt-5", "@rehearsal", "rehearsals", "Rehearsal"] {
        assert!(matches!(Script::parse(name), Err(ScriptError::NotRehearsal { .. })), "{name}");
    }
    let error = Script::parse(&format!("rehearsal/{}", "é".repeat(5000))).unwrap_err();
    assert!(error.to_string().chars().count() < 400);
}
