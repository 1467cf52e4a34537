//! Prints for people and scripts: lines and JSON on standard output, errors on standard error, without secrets and control characters.

use std::fmt::Display;
use std::io::Write;

use serde_json::Value;

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
    let refusal = with_command_hints(refusal).masked(&Secrets::from_environment(None).unwrap_or_default());
    let (code, message, hint) = (refusal.code(), refusal.message().to_owned(), refusal.hint().to_owned());
    if as_json {
        print_to_stderr(refusal.into_json());
    } else {
        print_to_stderr(format_args!("massgen-mcp: {message} ({code})\nhint: {hint}"));
    }
}

/// Replaces hints that name tools by hints that name commands.
fn with_command_hints(refusal: Refusal) -> Refusal {
    let hint = match (refusal.code(), refusal.hint()) {
        ("bad_run_id" | "unknown_run" | "unknown_group", _) => "`massgen-mcp runs` lists the latest runs",
        ("unreadable_record", _) => "the record is damaged; other runs are not: see `massgen-mcp runs`",
        ("nothing_to_read", hint) if hint.contains("check_status") => "wait with `massgen-mcp wait`, then read again",
        (_, _) => return refusal,
    };
    Refusal::new(refusal.code(), refusal.message().to_owned(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunId;

    #[test]
    fn hints_for_people_name_commands_and_keep_code_and_message() {
        for refusal in [
            Refusal::from("nope".parse::<RunId>().expect_err("none")),
            Refusal::unknown_group("g"),
            Refusal::new("nothing_to_read", "no agent has answered yet", "wait with check_status and wait_s"),
        ] {
            let (code, message) = (refusal.code(), refusal.message().to_owned());
            let replaced = with_command_hints(refusal);
            assert_eq!((replaced.code(), replaced.message()), (code, message.as_str()));
            assert!(
                replaced.hint().contains("`massgen-mcp ") && !replaced.hint().contains("check_status"),
                "{}",
                replaced.hint()
            );
        }
        let other = Refusal::new("state_folder", "m", "h");
        assert_eq!(with_command_hints(other.clone()), other);
    }
}
