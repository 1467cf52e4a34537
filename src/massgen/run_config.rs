//! The effective config of one run: the checked config with the question, and with what only this run has: the conversation that it
//! continues, the answer that it builds on, the project. It is made once, before the run starts. Pure, except that the answer is read.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::basis::{self, BasisCopy};
use super::configs::{self, ConfigChanges, EditError, EffectiveConfig, Tree};
use super::launch;
use crate::run::{Context, RunSpec};
use crate::secrets::Secrets;

/// A config without the parts of one run.
#[derive(Debug, Clone, Copy)]
pub struct ConfigSource<'a> {
    /// Its file, whose extension decides whether it is JSON.
    pub path: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// A JSON merge patch that the text does not contain yet.
    pub overrides: Option<&'a Value>,
}

/// The question as the agents receive it: with the answer that the run builds on, if there is one. Secrets in that answer are masked.
///
/// # Errors
///
/// If the answer cannot be read.
pub fn agents_question(spec: &RunSpec, answer: BasisCopy<'_>, secrets: &Secrets) -> io::Result<String> {
    match &spec.basis {
        Some(from) => basis::question_with_basis(&spec.question, &spec.id, from, answer, secrets),
        None => Ok(spec.question.clone()),
    }
}

/// The config that MassGen reads. `question` is from [`agents_question`], and `basis_folder` is where the run has its copy of the answer
/// that it builds on.
///
/// # Errors
///
/// If a change cannot be made safely, or if a config that cannot be parsed needs more than a question and a session.
pub fn effective_config(
    spec: &RunSpec,
    source: ConfigSource<'_>,
    question: &str,
    basis_folder: &Path,
) -> Result<EffectiveConfig, EditError> {
    let prompt = launch::escape_prompt(question);
    let context = Some(spec.context).filter(|context| *context != Context::None);
    let changes = ConfigChanges {
        overrides: source.overrides,
        project: None,
        prompt: Some(&prompt),
        session: spec.continuation.as_ref().map(|_| spec.id.as_str()),
        read: spec.basis.as_ref().map(|_| basis_folder),
        context: context.map(|context| (spec.project.as_path(), context.as_str())),
    };
    configs::effective_config(source.path, source.text, changes)
}

/// Whether a config holds the question of its run. `config` is the parsed `text`, if it can be parsed.
pub fn has_question(config: Option<&Tree>, text: &str, question: &str) -> bool {
    let prompt = launch::escape_prompt(question);
    match config {
        // The answer of an earlier run may follow the question.
        Some(config) => config.prompt().is_some_and(|found| found.starts_with(&prompt)),
        None => {
            let quoted = Value::from(prompt).to_string();
            text.contains(&format!("\"prompt\": {}", quoted.trim_end_matches('"')))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{AnswerBasis, ConfigChoice, Continuation};

    fn spec(question: &str) -> RunSpec {
        let (id, choice) = ("mg-00000000".parse().expect("id"), ConfigChoice::File("/p/c.yaml".into()));
        RunSpec::new(id, question, choice, "/p".into(), "/b".into())
    }

    fn effective(spec: &RunSpec, text: &str, question: &str) -> Result<String, EditError> {
        let source = ConfigSource { path: Path::new("config.yaml"), text, overrides: None };
        effective_config(spec, source, question, Path::new("/r/from")).map(|effective| effective.text)
    }

    #[test]
    fn a_config_has_the_question_and_what_the_run_needs() {
        let run = "mg-00000001".parse().expect("id");
        let basis = AnswerBasis { run, answer: None, agent: "a".to_owned() };
        let continuation = Continuation { run: "mg-00000002".parse().expect("id"), turn: 2 };
        let all = RunSpec {
            basis: Some(basis),
            continuation: Some(continuation),
            context: Context::Write,
            ..spec("costs ${MONEY}?")
        };
        let text = effective(&all, "prompt: old\nagents: []\n", "costs ${MONEY}?\n\nearlier").expect("YAML");
        for part in ["MASSGEN_MCP_DOLLAR", "\"session_id\": \"mg-00000000\"", "\"/r/from\"", "\"/p\"", "\"write\""] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("old"), "{text}");
        let plain = effective(&spec("q"), "agents: []\n", "q").expect("YAML");
        assert_eq!(plain, "agents: []\n\"prompt\": \"q\"\n");
    }

    #[test]
    fn a_config_without_its_question_is_recognized() {
        for (config, is_parsed) in
            [("agents: []\n", true), ("prompt: another\nagents: []\n", true), ("agents: [", false)]
        {
            for question in ["q", "a \"b\"\n${C}\\", "ends in a quote\"", "\u{85}\u{feff}ż🦀 \t"] {
                let has = |text: &str| {
                    let tree = Tree::parse(text).ok();
                    assert_eq!(tree.is_some(), is_parsed, "{text}");
                    has_question(tree.as_ref(), text, question)
                };
                assert!(!has(config), "{config}");
                assert!(has(&effective(&spec(question), config, question).expect("made")), "{config} {question}");
                let with_answer = format!("{question}\n\n[an answer]");
                assert!(has(&effective(&spec(question), config, &with_answer).expect("made")), "{config} {question}");
            }
        }
    }
}
