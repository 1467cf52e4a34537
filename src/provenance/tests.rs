//! A manifest names what a run left, tells every later change of it, and stays readable in every version.

use std::path::PathBuf;

use super::*;
use crate::run::{
    AnswerSource, AnswerSummary, ConfigChoice, Ending, Exit, Moment, Outcome, RunSpec, RunState, Spend, Usd,
};

const FINAL: &str = "logs/log_1/turn_1/final/a";

fn record() -> RunRecord {
    let id = "mg-00000000".parse().expect("id");
    let spec = RunSpec {
        created: "2026-11-23T15:00:00Z".parse().expect("time"),
        config_hash: "ab".to_owned(),
        overrides: Some(serde_json::json!({"agents": [{"backend": {"api_key": "sk-0123456789"}}], "x": "quiet-word"})),
        ..RunSpec::new(id, "What is 6*7?", ConfigChoice::File("/p/two.yaml".into()), "/p".into(), "/b".into())
    };
    let at = |second| Moment {
        wall: jiff::Timestamp::from_second(second).expect("in range"),
        boot_ms: 0,
        boot_id: "b".to_owned(),
    };
    let answer = AnswerSummary { agent: "a".to_owned(), chars: 2, source: AnswerSource::Final };
    let ending = Ending {
        outcome: Outcome::Succeeded,
        exit: Exit::Code(0),
        ended_at: at(2),
        duration: std::time::Duration::from_millis(1_500),
        answer: Some(answer),
        stop: None,
        warnings: Vec::new(),
    };
    RunRecord {
        spec,
        version: 1,
        seq: 1,
        state: RunState::Ended(ending),
        digest: None,
        started: Some(at(1)),
        log_dir: None,
        spent: Spend { usd: Usd(1_500_000), tokens: 7, is_unpriced: false },
        spent_by_descendants: Spend::default(),
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: None,
    }
}

/// A run's folder as a run leaves it.
fn folder() -> (tempfile::TempDir, RunFiles) {
    let root = tempfile::tempdir().expect("temp");
    for (path, text) in [
        ("config.yaml".to_owned(), "agents:\n  - id: a\n    backend: {model: m}\nprompt: quiet-word"),
        (format!("{FINAL}/answer.txt"), "42"),
        (format!("{FINAL}/workspace/b.txt"), "b"),
        (format!("{FINAL}/workspace/sub/a.txt"), "a"),
    ] {
        put(&root.path().join(path), text);
    }
    let outside = root.path().join("config.yaml");
    std::os::unix::fs::symlink(outside, root.path().join(FINAL).join("workspace/link")).expect("link");
    let files = RunFiles::open(root.path()).expect("open");
    (root, files)
}

fn put(path: &std::path::Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
    std::fs::write(path, text).expect("written");
}

fn differences(manifest: &Manifest, files: &RunFiles) -> Vec<(CheckFinding, &'static str, String)> {
    let found =
        check_run(manifest, files, &record()).into_iter().filter(|check| check.finding != CheckFinding::Unchanged);
    found.map(|check| (check.finding, check.subject, check.path)).collect()
}

#[test]
fn a_manifest_says_what_a_run_was_and_left() {
    let (_root, files) = folder();
    let secrets = Secrets::default().with_values(["quiet-word".to_owned()]);
    let made = Manifest::for_run(&files, &record(), &secrets);
    let answer = made.answer.as_ref().expect("answer");
    assert_eq!((answer.agent.as_str(), answer.chars, answer.file.bytes), ("a", 2, 2));
    assert_eq!(answer.file.sha256, "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049");
    let paths: Vec<_> = made.workspace.iter().flat_map(|workspace| &workspace.files).map(|file| &file.path).collect();
    assert_eq!(paths, ["b.txt", "sub/a.txt"], "no link is followed");
    assert_eq!(made.models, [("a".to_owned(), "m".to_owned())].into());
    assert_eq!((made.is_final, made.state.as_str(), made.exit.as_deref()), (true, "succeeded", Some("0")));
    assert_eq!((made.took_s, made.spent.cost_usd, made.question.chars), (Some(1.5), 1.5, 12));
    let text = made.to_json();
    assert!(!text.contains("quiet-word") && !text.contains("sk-0123"), "{text}");
    assert_eq!(Manifest::from_json(text.as_bytes()).expect("reads"), made);
}

#[test]
fn what_has_a_secret_in_its_name_is_counted_and_not_named() {
    let (root, files) = folder();
    put(&root.path().join(FINAL).join("workspace/quiet-word.txt"), "c");
    let made = Manifest::for_run(&files, &record(), &Secrets::default().with_values(["quiet-word".to_owned()]));
    let workspace = made.workspace.as_ref().expect("workspace");
    let paths: Vec<_> = workspace.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((paths, workspace.left_out.as_ref().map(|left| left.files)), (vec!["b.txt", "sub/a.txt"], Some(1)));
    let of_agent = Secrets::default().with_values(["final/a/answer".to_owned()]);
    assert_eq!(Manifest::for_run(&files, &record(), &of_agent).answer, None);
    assert_eq!(differences(&made, &files), [(CheckFinding::NotRecorded, "file", "quiet-word.txt".to_owned())]);
}

#[test]
fn every_change_is_told() {
    let (root, files) = folder();
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    assert_eq!(differences(&manifest, &files), []);
    let place = |path: &str| root.path().join(FINAL).join(path);
    put(&place("answer.txt"), "43");
    put(&place("workspace/c.txt"), "c");
    std::fs::remove_file(place("workspace/b.txt")).expect("removed");
    std::fs::remove_file(place("workspace/sub/a.txt")).expect("removed");
    std::os::unix::fs::symlink("../c.txt", place("workspace/sub/a.txt")).expect("link");
    let expected = [
        (CheckFinding::Changed, "answer", format!("{FINAL}/answer.txt")),
        (CheckFinding::Missing, "file", "b.txt".to_owned()),
        (CheckFinding::Missing, "file", "sub/a.txt".to_owned()),
        (CheckFinding::Added, "file", "c.txt".to_owned()),
    ];
    assert_eq!(differences(&manifest, &files), expected);
    let asked = Manifest { question: ManifestQuestion::default(), ..manifest };
    assert!(differences(&asked, &files).contains(&(CheckFinding::Changed, "question", String::new())));
}

#[test]
fn another_answer_in_the_place_of_the_known_one_is_new() {
    let (root, files) = folder();
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    put(&root.path().join("logs/log_1/turn_2/final/a/answer.txt"), "43");
    let path = "logs/log_1/turn_2/final/a/answer.txt".to_owned();
    assert_eq!(differences(&manifest, &files), [(CheckFinding::Added, "answer", path)]);
}

#[test]
fn a_workspace_without_end_is_told_as_far_as_it_goes() {
    let (root, files) = folder();
    for number in 0..2_001 {
        put(&root.path().join(FINAL).join(format!("workspace/many/{number:04}")), "");
    }
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    let workspace = manifest.workspace.as_ref().expect("workspace");
    assert_eq!((workspace.files.len(), &workspace.left_out), (2_000, &Some(OmittedFiles { files: 3, bytes: 1 })));
    let found: Vec<_> = differences(&manifest, &files).into_iter().map(|(found, ..)| found).collect();
    assert_eq!(found, [CheckFinding::NotRecorded; 3]);
}

#[test]
fn the_manifests_of_every_version_stay_readable() {
    let known = Manifest::from_json(include_bytes!("../../tests/data/records/v1/manifest.json")).expect("reads");
    let path = PathBuf::from(FINAL).join("answer.txt").to_string_lossy().into_owned();
    assert_eq!((known.version, known.answer.expect("answer").file.path), (MANIFEST_VERSION, path));
    let future = br#"{"version": 9, "final": true, "mood": "good", "config": {"hash": "h", "kind": 3}}"#;
    let future = Manifest::from_json(future).expect("reads");
    assert_eq!((future.version, future.is_final, future.config.hash.as_str()), (9, true, "h"));
}
