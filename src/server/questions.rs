//! The question of a start: from the call or from a file, trimmed and checked. Whether a file may be read is decided in
//! `trust`.

use super::context::ServerContext;
use super::params::RunMassgen;
use super::trust::{self, MAX_QUESTION_BYTES};
use crate::refusal::Refusal;
use crate::secrets::Secrets;
use crate::settings::Settings;

/// Reads the question of a call that asks only one.
pub(super) async fn load(context: &ServerContext, request: &RunMassgen) -> Result<String, Refusal> {
    let (context, request) = (context.clone(), request.clone());
    let question =
        tokio::task::spawn_blocking(move || read(&context.settings, context.fleet.secrets(), &request)).await;
    question.map_err(|_| Refusal::panicked())?
}

/// Reads the question of a call that asks only one. It may read a file, so it blocks.
pub(super) fn read(settings: &Settings, secrets: &Secrets, request: &RunMassgen) -> Result<String, Refusal> {
    let question = match (&request.question, &request.question_file) {
        (Some(question), None) => question.clone(),
        (None, Some(file)) => trust::read_question_file(settings, file)?,
        (Some(_), Some(_)) => {
            let message = "both `question` and `question_file` were given";
            return Err(Refusal::new("question_conflict", message, "give exactly one of them"));
        }
        (None, None) => {
            return Err(Refusal::new(
                "question_missing",
                "no question was given",
                "give `question` or `question_file`",
            ));
        }
    };
    // The arguments were already searched for secrets; a question file was not.
    if let Some(variable) = secrets.find_name(&question) {
        return Err(Refusal::contains_secret("question_file".to_owned(), variable));
    }
    check(question)
}

/// The question without surrounding whitespace. An empty question is refused because MassGen would wait at a prompt for
/// ever. A NUL is refused because no argument can contain it.
pub(super) fn check(question: String) -> Result<String, Refusal> {
    let question = question.trim().to_owned();
    if question.is_empty() {
        return Err(Refusal::new("question_empty", "the question is empty", "say what the agents are to answer"));
    }
    if question.contains('\0') {
        return Err(Refusal::new(
            "question_invalid",
            "the question has a NUL character in it",
            "take it out, then call again",
        ));
    }
    if question.len() as u64 > MAX_QUESTION_BYTES {
        let message = format!("the question has {} bytes, and {MAX_QUESTION_BYTES} is the most", question.len());
        return Err(Refusal::new(
            "question_too_long",
            message,
            "put the material into files and use `context`: \"read\"",
        ));
    }
    Ok(question)
}
