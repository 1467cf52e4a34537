//! The boundary between runs and agents: a call that contains a secret is refused, and every answer is masked and
//! sanitized in all its fields. This module knows no tool. Pages have character offsets, so they are sanitized earlier.

use serde_json::{Map, Value};

use crate::massgen::text;
use crate::refusal::Refusal;
use crate::secrets::Secrets;

/// The field that holds the text of a page.
const PAGE_FIELD: &str = "text";

/// Refuses a call whose arguments contain a known secret: the secret would be recorded and sent to the models.
pub(super) fn check_input(arguments: &Map<String, Value>, secrets: &Secrets) -> Result<(), Refusal> {
    let secret = arguments.iter().find_map(|(name, value)| Some((name, find_secret(name, value, secrets)?)));
    secret.map_or(Ok(()), |(field, variable)| {
        Err(Refusal::contains_secret(text::single_line(&secrets.mask(field), 40), variable))
    })
}

fn find_secret<'a>(name: &str, value: &Value, secrets: &'a Secrets) -> Option<&'a str> {
    secrets.find_name(name).or_else(|| match value {
        Value::String(text) => secrets.find_name(text),
        Value::Array(list) => list.iter().find_map(|value| find_secret("", value, secrets)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| find_secret(name, value, secrets)),
        // A password may be all digits, and a client may send it as a number.
        Value::Number(number) => secrets.find_name(&number.to_string()),
        Value::Null | Value::Bool(_) => None,
    })
}

/// Makes an answer or a refusal safe to send.
pub(super) fn make_safe(answer: Result<Value, Refusal>, secrets: &Secrets) -> Result<Value, Refusal> {
    answer.map(|answer| sanitize_output(answer, secrets)).map_err(|refusal| refusal.masked(secrets))
}

/// Makes an answer safe to show.
pub(super) fn sanitize_output(answer: Value, secrets: &Secrets) -> Value {
    let Value::Object(fields) = answer else { return sanitize_value(answer, secrets) };
    let field = |(name, value): (String, Value)| match value.as_str().filter(|_| name == PAGE_FIELD) {
        Some(text) => (name, Value::from(secrets.mask(text))),
        None => (name, sanitize_value(value, secrets)),
    };
    Value::Object(fields.into_iter().map(field).collect())
}

/// Makes a single line safe to show.
pub(super) fn sanitize_line(text: &str, secrets: &Secrets) -> String {
    text::replace_harmful(&secrets.mask(text))
}

fn sanitize_value(value: Value, secrets: &Secrets) -> Value {
    text::map_texts(value, &|text| sanitize_line(text, secrets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets() -> Secrets {
        Secrets::from_variables(
            [("A_KEY", "canary-one"), ("A_PASSWORD", "1234567890")].map(|(n, v)| (n.to_owned(), v.to_owned())),
        )
    }

    fn admitted(arguments: Value) -> Result<(), Refusal> {
        check_input(arguments.as_object().expect("object"), &secrets())
    }

    #[test]
    fn a_secret_anywhere_in_the_arguments_is_refused_by_the_name_of_its_variable() {
        assert!(admitted(json!({"question": "canary-on e", "timeout_s": 60, "x": [null, true]})).is_ok());
        for bad in
            [json!({"q": "is canary-one good?"}), json!({"q": {"canary-one": 1}}), json!({"q": [["canary-one"]]})]
        {
            let refusal =
                admitted(bad).expect_err("refused").to_json(crate::server::next_steps::agent_words).to_string();
            assert!(refusal.contains("secret_in_arguments") && refusal.contains("A_KEY"), "{refusal}");
            assert!(!refusal.contains("canary-one"), "{refusal}");
        }
        assert!(admitted(json!({"canary-one": 1})).is_err_and(|refusal| !refusal.message().contains("canary-one")));
        assert!(admitted(json!({"q": 1_234_567_890})).is_err());
    }

    #[test]
    fn output_is_masked_and_sanitized_in_keys_and_values() {
        let answer = json!({"text": "a\r\ncanary-one", "agents": {"canary-one\u{202e}": ["\u{1b}[2J", 7]}});
        let expected = json!({"text": "a\r\n**********", "agents": {"**********\u{fffd}": ["␛[2J", 7]}});
        assert_eq!(sanitize_output(answer, &secrets()), expected);
    }
}
