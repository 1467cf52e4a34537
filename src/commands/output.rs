//! Prints for people and scripts: lines and JSON on standard output, errors on standard error, without secrets and control characters.

use std::fmt::Display;
use std::io::Write;

use serde_json::Value;

use super::next_steps::person_words;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::secrets::Secrets;
use crate::view::json;

/// The exit codes of most commands, for `--help`.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 done; 1 it could not be done (code, message and hint are on standard error); 2 the \
                                command line is wrong.";

/// Prints one line on standard output.
pub(super) fn print_line(line: impl Display) {
    // A closed pipe means that the reader has exited.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

/// Prints one line on standard error.
pub(super) fn print_to_stderr(line: impl Display) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}

/// Prints a value as a line of JSON, without secrets and harmful characters.
pub(super) fn print_json(value: impl serde::Serialize, secrets: &Secrets) {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let value = text::map_texts(value, &|text| text::replace_harmful(&secrets.mask(text)));
    print_line(json::to_json_text(&value).unwrap_or_default());
}

/// Prints a line about a run, without secrets and harmful characters.
pub(super) fn print_sanitized(line: &str, secrets: &Secrets) {
    print_line(text::replace_harmful(&secrets.mask(line)));
}

/// Prints an error of the program itself, with a hint, on standard error.
pub(super) fn print_failure(error: &dyn std::error::Error, hint: &str) {
    print_to_stderr(format_args!("massgen-mcp: {}\nhint: {hint}", text::error_chain(error)));
}

/// Prints a refusal on standard error, as one line of JSON or as text.
pub(super) fn print_error(refusal: Refusal, as_json: bool) {
    let refusal = refusal.masked(&Secrets::from_environment(None).unwrap_or_default());
    let (code, message, hint) = (refusal.code(), refusal.message().to_owned(), refusal.hint(person_words));
    if as_json {
        print_to_stderr(refusal.to_json(person_words));
    } else {
        print_to_stderr(format_args!("massgen-mcp: {message} ({code})\nhint: {hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunId;

    #[test]
    fn hints_for_people_name_commands() {
        for refusal in [Refusal::from("nope".parse::<RunId>().expect_err("none")), Refusal::unknown_group("g")] {
            let hint = refusal.hint(person_words);
            assert!(hint.contains("`massgen-mcp ") && !hint.contains("check_status"), "{hint}");
        }
    }
}
