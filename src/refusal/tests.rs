//! Each error has its code, and a hint that names the next step with names that exist.

use std::collections::BTreeSet;
use std::io;

use serde_json::Value;

use super::*;
use crate::ledger::BudgetPool;
use crate::massgen::copy::CopyError;
use crate::run::RunId;
use crate::server::agent_words;

#[test]
fn a_damaged_file_is_named_with_its_place_and_without_types() {
    let source = |text: &str| serde_json::from_str::<u64>(text).expect_err("damaged");
    let record = RegistryError::Format { path: "r/run.json".into(), source: source("\n \"x\"") };
    assert_eq!(Refusal::from(record).message(), "`r/run.json` is not a run record (line 2, column 4)");
    let manifest = VerifyError::Damaged { run: "mg-00000000".parse().expect("an id"), source: source("[") };
    assert_eq!(Refusal::from(manifest).message(), "the manifest of mg-00000000 cannot be read (line 1, column 0)");
}

fn id() -> RunId {
    "mg-00000000".parse().expect("an id")
}

fn io_error() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn syntax_error() -> serde_json::Error {
    serde_json::from_str::<u64>("x").expect_err("no number")
}

/// A refusal, its code, and a part of its hint.
type Row = (Refusal, &'static str, &'static str);

fn of_records() -> Vec<Row> {
    let path = || "r/run.json".into();
    let io = RegistryError::Io { operation: "write", path: path(), source: io_error() };
    let format = RegistryError::Format { path: path(), source: syntax_error() };
    let newer = RegistryError::NewerVersion { path: path(), version: 9 };
    let exited = LaunchError::ExitedEarly { said: "no".to_owned() };
    let not_started = LaunchError::NotStarted { program: "p".into(), source: io_error() };
    let launch = |error: LaunchError| Refusal::from(FleetError::Launch(error));
    vec![
        (RegistryError::Unknown(id()).into(), "unknown_run", "call check_status without arguments"),
        (io.into(), "state_folder", "or names another with --home or MASSGEN_MCP_HOME"),
        (newer.into(), "newer_record", "the operator has to update this one"),
        (format.into(), "unreadable_record", "see check_status without arguments"),
        (launch(exited), "start_failed", "call run_massgen again, and tell the operator if it repeats"),
        (launch(not_started), "start_failed", "call run_massgen again, and tell the operator if it repeats"),
        (InvalidRunId("x".to_owned()).into(), "bad_run_id", "call check_status without arguments"),
        (InvalidPart("x".to_owned()).into(), "bad_part", "file:PATH one of them; agent:ID: what one agent said"),
        (Refusal::unknown_group("g"), "unknown_group", "call check_status without arguments"),
        (Refusal::panicked(), "internal_error", "call check_status to see them, and tell the operator"),
        (Refusal::out_of_range("limit", 1e300, 1.0, 50.0), "out_of_range", "call again with `limit` from 1 to 50"),
        (Refusal::contains_secret("group".to_owned(), "KEY"), "secret_in_arguments", "take it out and call again"),
        (Refusal::no_project(&io_error()), "no_project", "name its folder with --project or MASSGEN_MCP_PROJECT"),
    ]
}

fn of_starts() -> Vec<Row> {
    let missing = |similar: &[&str]| {
        let (name, places) = ("x".to_owned(), "p".to_owned());
        ConfigError::Missing { name, places, similar: similar.iter().map(|near| (*near).to_owned()).collect() }
    };
    let unsuitable = ConfigError::NotAConfig { path: "c".into(), why: "it is a folder".to_owned() };
    let unknown = |directive: &str| ScriptError::Unknown { directive: directive.to_owned() };
    let broken = || Box::new(Problem::new(broken_import::CODE, "m", Step::RepairMassgen));
    let timed_out = ValidateError::TimedOut { program: "p".into() };
    vec![
        (StartError::BrokenImport(broken()).into(), broken_import::CODE, "`massgen-mcp setup`"),
        (StartError::TooDeep { most: 2 }.into(), "too_deep", "this is final: do not try again from here"),
        (StartError::SameAsAncestor { ancestor: id() }.into(), "same_as_ancestor", "this is final"),
        (
            missing(&["a.yaml", "b.yaml"]).into(),
            "config_missing",
            "did you mean a.yaml, b.yaml? list_configs finds configs",
        ),
        (missing(&[]).into(), "config_missing", "list_configs finds configs"),
        (
            ConfigError::NoDefault { places: "p".to_owned() }.into(),
            "config_missing",
            "give `massgen_config`; list_configs",
        ),
        (unsuitable.into(), "config_unsuitable", "give a MassGen config: a YAML or JSON file"),
        (unknown("agnets").into(), "rehearsal_invalid", "did you mean `agents"),
        (unknown("soul").into(), "rehearsal_invalid", "or @rehearsal/directive/directive"),
        (ProgramError::NotExecutable("p".into()).into(), "program_missing", "correct --massgen (MASSGEN_MCP_MASSGEN)"),
        (ProgramError::Missing { places: "p".to_owned() }.into(), "program_missing", "run `massgen-mcp setup` once"),
        (timed_out.into(), "validation_failed", "start it without dry_run, or tell the operator"),
        (ValidateError::BrokenImport(broken()).into(), broken_import::CODE, "`massgen-mcp setup`"),
    ]
}

fn of_ledger() -> Vec<Row> {
    let newer = LedgerError::NewerVersion { path: "ledger.json".into(), version: 2 };
    let above = LedgerError::AboveRunCap { asked: "$2".to_owned(), most: "$1".to_owned() };
    let amounts = || ("$1".to_owned(), "$2".to_owned());
    let exhausted = |pool| LedgerError::InsufficientBudget { pool, left: amounts().0, asked: amounts().1 };
    vec![
        (LedgerError::Registry(RegistryError::Unknown(id())).into(), "unknown_run", "call check_status"),
        (LedgerError::KeyReused(id()).into(), "request_key_taken", "or choose another request_key for this one"),
        (LedgerError::TooManyStarts { most: 1, wait_s: 5 }.into(), "too_many_starts", "check_status with wait_s"),
        (
            LedgerError::QueueFull(3).into(),
            "queue_full",
            "wait with check_status until some runs have ended, or stop some",
        ),
        (LedgerError::TreeFull(0).into(), "tree_full", "this is final: runs may not start others here"),
        (LedgerError::TreeFull(3).into(), "tree_full", "wait with check_status until one of your runs has ended"),
        (LedgerError::ParentStopping(id()).into(), "parent_ending", "this is final"),
        (newer.into(), "newer_record", "the operator has to update this massgen-mcp"),
        (above.into(), "budget_not_allowed", "only the operator can raise it"),
        (exhausted(BudgetPool::Day).into(), "budget_exhausted", "ask for no more than what is left"),
        (exhausted(BudgetPool::Parent(id())).into(), "budget_exhausted", "do not try again: work with what you have"),
    ]
}

fn of_other_runs() -> Vec<Row> {
    let group = || "g".to_owned();
    let no_tools = SteerError::NoTools { run: id(), agents: "a".to_owned() };
    let unknown = |near: Option<&str>| SteerError::UnknownAgent {
        run: id(),
        agent: "x".to_owned(),
        known: "a".to_owned(),
        near: near.map(str::to_owned),
    };
    let session = ContinueError::Session { run: id(), source: CopyError::TooLarge };
    let answer = BasisError::Unknown { run: id(), label: "l".to_owned(), there: "agent1.1".to_owned() };
    let copy = BasisError::Copy { run: id(), source: CopyError::TooLarge };
    vec![
        (SteerError::RunEnded(id()).into(), "run_over", "call run_massgen with continue_run set to this run"),
        (
            SteerError::NeverDelivered(id()).into(),
            "never_delivered",
            "call run_massgen with continue_run set to this run",
        ),
        (no_tools.into(), "agents_without_tools", "kill_run it and start again with the instruction in the question"),
        (SteerError::InvalidMessage("is empty".to_owned()).into(), "message_invalid", "say in a few sentences"),
        (SteerError::ContainsSecret("KEY".to_owned()).into(), "secret_in_arguments", "take it out and call again"),
        (unknown(Some("a")).into(), "unknown_agent", "did you mean a? call again with that"),
        (unknown(None).into(), "unknown_agent", "leave `agents` out to reach all"),
        (
            SteerError::TooManyPending(id()).into(),
            "too_many_messages",
            "wait for the end with check_status, or kill_run it",
        ),
        (
            ContinueError::NotEnded(id()).into(),
            "run_not_over",
            "check_status (wait_s, until any_done), then call again",
        ),
        (ContinueError::NoAnswer(id()).into(), "nothing_to_continue", "call run_massgen without continue_run"),
        (ContinueError::TooLong(id()).into(), "cannot_continue", "call run_massgen with `from_run` set to this run"),
        (session.into(), "cannot_continue", "call run_massgen with `from_run` set to this run"),
        (ExperimentError::GroupTaken(group()).into(), "group_taken", "choose a new group, or leave it out and get one"),
        (ExperimentError::GroupIsExperiment(group()).into(), "group_taken", "choose a new group for this run"),
        (ExperimentError::RunIsPlanned { run: id(), group: group() }.into(), "not_started", "kill_run with the group"),
        (ExperimentError::KeyReused(group()).into(), "request_key_taken", "or choose another request_key"),
        (BasisError::NoAnswer(id()).into(), "nothing_to_build_on", "else call run_massgen without `from_run`"),
        (answer.into(), "unknown_answer", "read_result part answers shows them"),
        (copy.into(), "cannot_build_on", "call run_massgen without `from_run`"),
    ]
}

fn of_reads() -> Vec<Row> {
    let missing = ReadError::Missing { what: "w".to_owned(), instead: "see part `log`".into() };
    let unreadable = ReadError::Unreadable { path: "p".into(), source: io_error() };
    let binary = ReadError::Binary { path: "p".into(), bytes: 9 };
    let damaged = VerifyError::Damaged { run: id(), source: syntax_error() };
    vec![
        (missing.into(), "nothing_to_read", "see part `log`"),
        (unreadable.into(), "unreadable", "try another part: answer, answers, files, log, errors"),
        (binary.into(), "binary_file", "part `files` lists the others"),
        (ReadError::Fleet(RegistryError::Unknown(id()).into()).into(), "unknown_run", "call check_status"),
        (VerifyError::NotEnded(id()).into(), "run_not_over", "wait for its end with `massgen-mcp wait`"),
        (VerifyError::NoManifest(id()).into(), "no_manifest", "runs that end from now on have one"),
        (damaged.into(), "manifest_damaged", "`massgen-mcp status` shows what is on record"),
        (VerifyError::Fleet(RegistryError::Unknown(id()).into()).into(), "unknown_run", "call check_status"),
    ]
}

fn all() -> Vec<Row> {
    [of_records(), of_starts(), of_ledger(), of_other_runs(), of_reads()].into_iter().flatten().collect()
}

#[test]
fn each_error_has_its_code_and_a_hint_with_the_next_step() {
    for (refusal, code, hint) in all() {
        assert_eq!(refusal.code(), code, "{refusal:?}");
        assert!(refusal.hint(agent_words).contains(hint), "{code}: {hint:?} is not in {:?}", refusal.hint(agent_words));
        assert!(!refusal.message().is_empty() && !refusal.message().contains('\n'), "{refusal:?}");
        assert!(
            refusal.to_text(agent_words).starts_with(&format!("{code}: "))
                && refusal.to_text(agent_words).ends_with(&refusal.hint(agent_words))
        );
    }
}

/// The names of tools and of everything in their schemas.
fn names_of_the_interface() -> BTreeSet<String> {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, inner)| {
                names.insert(name.clone());
                collect(inner, names);
            }),
            Value::Array(list) => list.iter().for_each(|inner| collect(inner, names)),
            Value::String(text) => drop(names.insert(text.clone())),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let tools: Value = serde_json::from_str(include_str!("../../tests/data/tools.json")).expect("JSON");
    let mut names = BTreeSet::new();
    collect(&tools, &mut names);
    names
}

#[test]
fn hints_name_only_tools_and_parameters_that_exist() {
    let known = names_of_the_interface();
    for (refusal, code, _) in all() {
        let hint = refusal.hint(agent_words);
        let words = hint.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|word| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        for name in names {
            assert!(known.contains(name), "the hint of {code} names `{name}`");
        }
    }
}

#[test]
fn a_secret_in_a_refusal_is_masked_and_a_long_text_is_cut() {
    let secrets = Secrets::default().with_values(vec!["sk-0123456789abcdef".to_owned()]);
    let long = "x".repeat(MAX_TEXT_CHARS * 2);
    let refusal = Refusal::new("code", format!("no sk-0123456789abcdef {long}"), "not sk-0123456789abcdef\u{1b}");
    let masked = refusal.masked(&secrets);
    assert!(
        !masked.to_text(agent_words).contains("sk-0123456789abcdef") && !masked.to_text(agent_words).contains('\u{1b}'),
        "{masked:?}"
    );
    assert_eq!(masked.message().chars().count(), MAX_TEXT_CHARS);
}
