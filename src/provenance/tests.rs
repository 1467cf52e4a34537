//! Tests that a manifest lists the files of a run, that every later change is found, and that every version can be parsed.

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

/// The folder of an ended run.
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
    let changed =
        check_run(manifest, files, &record()).into_iter().filter(|check| check.finding != CheckFinding::Unchanged);
    changed.map(|check| (check.finding, check.subject, check.path)).collect()
}

#[test]
fn a_manifest_has_the_inputs_and_outputs_of_a_run() {
    let (_root, files) = folder();
    let secrets = Secrets::default().with_values(["quiet-word".to_owned()]);
    let manifest = Manifest::for_run(&files, &record(), &secrets);
    let answer = manifest.answer.as_ref().expect("answer");
    assert_eq!((answer.agent.as_str(), answer.chars, answer.file.bytes), ("a", 2, 2));
    assert_eq!(answer.file.sha256, "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049");
    let paths: Vec<_> =
        manifest.workspace.iter().flat_map(|workspace| &workspace.files).map(|file| &file.path).collect();
    assert_eq!(paths, ["b.txt", "sub/a.txt"], "no link is followed");
    assert_eq!(manifest.models, [("a".to_owned(), "m".to_owned())].into());
    assert_eq!((manifest.is_final, manifest.state.as_str(), manifest.exit.as_deref()), (true, "succeeded", Some("0")));
    assert_eq!((manifest.took_s, manifest.spent.cost_usd, manifest.question.chars), (Some(1.5), 1.5, 12));
    let text = manifest.to_json();
    assert!(!text.contains("quiet-word") && !text.contains("sk-0123"), "{text}");
    assert_eq!(Manifest::from_json(text.as_bytes()).expect("reads"), manifest);
}

#[test]
fn files_with_secrets_in_their_names_are_counted_and_not_listed() {
    let (root, files) = folder();
    put(&root.path().join(FINAL).join("workspace/quiet-word.txt"), "c");
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default().with_values(["quiet-word".to_owned()]));
    let workspace = manifest.workspace.as_ref().expect("workspace");
    let paths: Vec<_> = workspace.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((paths, workspace.left_out.as_ref().map(|left| left.files)), (vec!["b.txt", "sub/a.txt"], Some(1)));
    let agent_secrets = Secrets::default().with_values(["final/a/answer".to_owned()]);
    assert_eq!(Manifest::for_run(&files, &record(), &agent_secrets).answer, None);
    assert_eq!(differences(&manifest, &files), [(CheckFinding::NotRecorded, "file", "quiet-word.txt".to_owned())]);
}

#[test]
fn every_change_is_found() {
    let (root, files) = folder();
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    assert_eq!(differences(&manifest, &files), []);
    let path_of = |path: &str| root.path().join(FINAL).join(path);
    put(&path_of("answer.txt"), "43");
    put(&path_of("workspace/c.txt"), "c");
    std::fs::remove_file(path_of("workspace/b.txt")).expect("removed");
    std::fs::remove_file(path_of("workspace/sub/a.txt")).expect("removed");
    std::os::unix::fs::symlink("../c.txt", path_of("workspace/sub/a.txt")).expect("link");
    let expected = [
        (CheckFinding::Changed, "answer", format!("{FINAL}/answer.txt")),
        (CheckFinding::Missing, "file", "b.txt".to_owned()),
        (CheckFinding::Missing, "file", "sub/a.txt".to_owned()),
        (CheckFinding::Added, "file", "c.txt".to_owned()),
    ];
    assert_eq!(differences(&manifest, &files), expected);
    let changed_question = Manifest { question: ManifestQuestion::default(), ..manifest };
    assert!(differences(&changed_question, &files).contains(&(CheckFinding::Changed, "question", String::new())));
}

#[test]
fn another_best_answer_is_found_as_added() {
    let (root, files) = folder();
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    put(&root.path().join("logs/log_1/turn_2/final/a/answer.txt"), "43");
    let path = "logs/log_1/turn_2/final/a/answer.txt".to_owned();
    assert_eq!(differences(&manifest, &files), [(CheckFinding::Added, "answer", path)]);
}

#[test]
fn a_huge_workspace_is_listed_up_to_the_limit() {
    let (root, files) = folder();
    for number in 0..2_001 {
        put(&root.path().join(FINAL).join(format!("workspace/many/{number:04}")), "");
    }
    let manifest = Manifest::for_run(&files, &record(), &Secrets::default());
    let workspace = manifest.workspace.as_ref().expect("workspace");
    assert_eq!((workspace.files.len(), &workspace.left_out), (2_000, &Some(OmittedFiles { files: 3, bytes: 1 })));
    let findings: Vec<_> = differences(&manifest, &files).into_iter().map(|(findings, ..)| findings).collect();
    assert_eq!(findings, [CheckFinding::NotRecorded; 3]);
}

#[test]
fn the_manifests_of_every_version_can_be_read() {
    let known = Manifest::from_json(include_bytes!("../../tests/data/records/v1/manifest.json")).expect("reads");
    let path = PathBuf::from(FINAL).join("answer.txt").to_string_lossy().into_owned();
    assert_eq!((known.version, known.answer.expect("answer").file.path), (MANIFEST_VERSION, path));
    let future = br#"{"version": 9, "final": true, "mood": "good", "config": {"hash": "h", "kind": 3}}"#;
    let future = Manifest::from_json(future).expect("reads");
    assert_eq!((future.version, future.is_final, future.config.hash.as_str()), (9, true, "h"));
}
