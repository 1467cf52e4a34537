//! Converts the arguments of a client to the tool's input schema. An empty value counts as absent. A value of another
//! type is converted if nothing is lost ("45" for 45, and 45 for "45"). Anything else is refused in JSON terms. This
//! module knows no tool.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::stdio::{self, ParseFault, UnparsableArgument};
use super::tools;
use crate::massgen::{names, text};
use crate::refusal::Refusal;

/// Renamed parameters: tool, former name, current name. Frameworks and Python reserve the former names.
const RENAMED_PARAMS: [(&str, &str, &str); 2] =
    [("run_massgen", "config", "massgen_config"), ("run_massgen", "from", "from_run")];
/// Numbers for which 0 is a real value and does not mean absent.
const ZERO_IS_A_VALUE: [&str; 1] = ["grace_s"];
/// The largest integer that every JSON reader represents exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
/// The most decimal digits that a double preserves.
const MAX_FRACTION_DIGITS: usize = 15;
/// How many characters of a caller's name or value a refusal repeats.
const MAX_SHOWN_CHARS: usize = 60;

/// Parses the arguments of a call.
pub(super) fn parse_arguments<T: DeserializeOwned>(
    tool: &str,
    mut arguments: Map<String, Value>,
) -> Result<T, Refusal> {
    apply_renamed_params(tool, &mut arguments)?;
    let coerced =
        tools::input_schema(tool).map_or(Ok(arguments.clone()), |schema| coerce_object(arguments, schema, ""));
    let coerced = coerced.map_err(|error| error.into_refusal(tool))?;
    // A value may pass the schema and still be invalid for its type. serde's own message is about Rust types, which
    // does not help the caller.
    serde_path_to_error::deserialize(Value::Object(coerced)).map_err(|error| {
        let message = format!(
            "`{}` has a value that {tool} does not take",
            text::single_line(&error.path().to_string(), MAX_SHOWN_CHARS)
        );
        Refusal::new("invalid_arguments", message, format!("correct it by the input schema of {tool}, then call again"))
    })
}

/// The refusal of a call with an argument that the transport could not parse.
pub(super) fn unreadable_refusal(tool: &str, UnparsableArgument { argument, fault }: &UnparsableArgument) -> Refusal {
    let name = text::single_line(argument, MAX_SHOWN_CHARS);
    let (message, hint) = match fault {
        ParseFault::TooDeep(most) => (
            format!("`{name}` is nested too deep: it may have {most} levels of objects and lists"),
            format!("call {tool} again with fewer levels in `{name}`"),
        ),
        ParseFault::NumberTooLarge => (
            format!("`{name}` has a number that is too large to be read"),
            format!("call {tool} again with a smaller number in `{name}`"),
        ),
    };
    Refusal::new("invalid_arguments", message, hint)
}

/// Replaces former parameter names with the current ones.
fn apply_renamed_params(tool: &str, arguments: &mut Map<String, Value>) -> Result<(), Refusal> {
    for (_, old_name, name) in RENAMED_PARAMS.iter().filter(|(of_tool, _, _)| *of_tool == tool) {
        let takes_object = *name == "from_run";
        let is_given = |value: &Value| !(is_absent(name, value) || takes_object && is_empty_object(value));
        let Some(value) = arguments.shift_remove(*old_name).filter(is_given) else { continue };
        let given = arguments.get(*name).filter(|given| is_given(given));
        if given.is_some_and(|given| *given != value) {
            let message = format!("`{old_name}` and `{name}` are the same parameter, and their values differ");
            return Err(Refusal::new("arguments_conflict", message, format!("call again with `{name}` alone")));
        }
        arguments.insert((*name).to_owned(), value);
    }
    Ok(())
}

/// Whether a value counts as absent. Clients with strict schemas have to send every parameter.
fn is_absent(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) => false,
        Value::Number(number) => number.as_f64() == Some(0.0) && !ZERO_IS_A_VALUE.contains(&name),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(|item| match item {
            Value::String(text) => text.trim().is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
        }),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Why a value does not fit its parameter.
enum ArgumentError {
    UnknownField { inside: String, name: String, known: Vec<String> },
    MissingField { place: String },
    WrongType { place: String, wanted: &'static str, given: String },
    InvalidValue { place: String, given: String, words: Vec<String> },
    Unparsable(UnparsableArgument),
}

fn coerce_object(
    arguments: Map<String, Value>,
    schema: &Value,
    inside: &str,
) -> Result<Map<String, Value>, ArgumentError> {
    let no_properties = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&no_properties);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let path_of = |name: &str| if inside.is_empty() { name.to_owned() } else { format!("{inside}.{name}") };
    let mut coerced = Map::new();
    for (name, value) in arguments.into_iter().filter(|(_, value)| !value.is_null()) {
        let is_required = required.contains(&name.as_str());
        let Some(property) = properties.get(&name) else {
            let known = properties.keys().cloned().collect();
            return Err(ArgumentError::UnknownField { inside: inside.to_owned(), name, known });
        };
        let is_empty_text = value.as_str().is_some_and(|text| text.trim().is_empty());
        if is_empty_text || !is_required && is_absent(&name, &value) {
            continue;
        }
        let value = coerce(value, property, &path_of(&name))?;
        let is_empty = is_absent(&name, &value) || (property.get("properties").is_some() && is_empty_object(&value));
        if is_required || !is_empty {
            coerced.insert(name, value);
        }
    }
    match required.into_iter().find(|name| !coerced.contains_key(*name)) {
        // The parent decides whether an empty object counts as absent.
        Some(name) if inside.is_empty() || !coerced.is_empty() => {
            Err(ArgumentError::MissingField { place: path_of(name) })
        }
        Some(_) | None => Ok(coerced),
    }
}

/// Whether an object has only absent fields.
fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.iter().all(|(name, value)| is_absent(name, value)))
}

/// Converts the value to the type that the schema requires at this place.
fn coerce(value: Value, schema: &Value, path: &str) -> Result<Value, ArgumentError> {
    let kind = schema["type"].as_str().unwrap_or_default();
    let has_fields = schema.get("properties").is_some();
    let error =
        ArgumentError::WrongType { place: path.to_owned(), wanted: type_description(kind), given: short_value(&value) };
    let nested = value.as_str().filter(|_| ["array", "object"].contains(&kind)).and_then(stdio::nesting_fault);
    if let Some(fault) = nested {
        return Err(ArgumentError::Unparsable(UnparsableArgument { argument: path.to_owned(), fault }));
    }
    match kind {
        "string" => coerce_enum(value, schema, path, error),
        "integer" => as_integer(&value).ok_or_else(|| integer_error(&value, error)),
        "number" => into_number(value).ok_or(error),
        "boolean" => as_bool(&value).ok_or(error),
        "array" => {
            let items = coerce_list(value, &schema["items"]).ok_or(error)?.into_iter().enumerate();
            let coerced = items.map(|(n, item)| coerce(item, &schema["items"], &format!("{path}[{n}]")));
            coerced.collect::<Result<_, _>>().map(Value::Array)
        }
        "object" => match coerce_map(wrap_single_field(value, schema)) {
            Some(Value::Object(given)) if has_fields => coerce_object(given, schema, path).map(Value::Object),
            Some(free) if !has_fields => Ok(free),
            Some(_) | None => Err(error),
        },
        _ => Ok(value),
    }
}

fn coerce_enum(value: Value, schema: &Value, path: &str, error: ArgumentError) -> Result<Value, ArgumentError> {
    let text = as_text(value).ok_or(error)?;
    let Some(choices) = schema["enum"].as_array() else { return Ok(Value::String(text)) };
    let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
    match choices.iter().find(|choice| **choice == text.trim()) {
        Some(choice) => Ok(Value::from(*choice)),
        None => {
            let choices = choices.into_iter().map(str::to_owned).collect();
            Err(ArgumentError::InvalidValue { place: path.to_owned(), given: text, words: choices })
        }
    }
}

/// Converts a string, an integer, a boolean or a fraction to text. A number such as 10.0 or 1e20 can be written in
/// several ways, so its original text is unknown.
fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        Value::Number(number) => Some(number.to_string()).filter(|text| {
            let digits = text.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
            digits <= MAX_FRACTION_DIGITS && !text.contains(['e', 'E']) && !text.ends_with(".0")
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn as_integer(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Number(number) if number.is_u64() => return Some(value.clone()),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (number.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&number)).then(|| Value::from(number as u64))
}

/// A whole number outside the range of all integers has the right type and the wrong size.
fn integer_error(value: &Value, misfit: ArgumentError) -> ArgumentError {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let Some(number) = number.filter(|number| number.is_finite() && number.fract() == 0.0) else { return misfit };
    let ArgumentError::WrongType { place, given, .. } = misfit else { return misfit };
    let wanted = match place.as_str() {
        _ if number > 0.0 => "a smaller whole number",
        "offset" => "a whole number, 0 or more",
        _ => "a whole number, 1 or more",
    };
    ArgumentError::WrongType { place, wanted, given }
}

fn into_number(value: Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value),
        Value::String(text) => serde_json::Number::from_f64(text.trim().parse().ok()?).map(Value::Number),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn as_bool(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(value.clone()),
        Value::String(text) => text.trim().to_ascii_lowercase().parse::<bool>().ok().map(Value::Bool),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Accepts a list, the JSON text of a list, or a single item.
fn coerce_list(value: Value, items: &Value) -> Option<Vec<Value>> {
    let is_text_list = items["type"] == "string";
    match value {
        Value::Array(items) => Some(items),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Array(items)) => Some(items),
            Ok(one @ Value::Object(_)) if !is_text_list => Some(vec![one]),
            Ok(_) | Err(_) => is_text_list.then(|| vec![Value::String(text)]),
        },
        Value::Object(_) if !is_text_list => Some(vec![value]),
        Value::Bool(_) | Value::Number(_) if is_text_list => Some(vec![value]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Accepts an object or its JSON text. A free-form object may also be a list: `overrides` was a list of variants before
/// `variants` existed.
fn coerce_map(value: Value) -> Option<Value> {
    match value {
        Value::Object(_) | Value::Array(_) => Some(value),
        Value::String(text) => {
            serde_json::from_str(&text).ok().filter(|value: &Value| value.is_object() || value.is_array())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// If the schema requires only one field, a string in place of the object sets that field.
fn wrap_single_field(value: Value, schema: &Value) -> Value {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match (value, &required[..]) {
        (Value::String(text), [only]) if !text.trim_start().starts_with(['{', '[']) => json!({ *only: text }),
        (value, _) => value,
    }
}

fn type_description(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "an object",
    }
}

/// A short form of a value.
fn short_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => text::single_line(&value.to_string(), MAX_SHOWN_CHARS),
        Value::String(given) => format!("the text `{}`", text::single_line(given, MAX_SHOWN_CHARS)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

impl ArgumentError {
    fn into_refusal(self, tool: &str) -> Refusal {
        let (message, hint) = match self {
            ArgumentError::Unparsable(argument) => return unreadable_refusal(tool, &argument),
            ArgumentError::UnknownField { inside, name, known } => {
                let subject = if inside.is_empty() { tool } else { &inside };
                let message = format!("{subject} has no parameter `{}`", text::single_line(&name, MAX_SHOWN_CHARS));
                let hint = match names::nearest(&name, known.iter().map(String::as_str)) {
                    Some(similar) => format!("`{similar}` is there: call {tool} again with that, or without it"),
                    None => format!("call {tool} again without it; there are {}", known.join(", ")),
                };
                (message, hint)
            }
            ArgumentError::MissingField { place } => {
                (format!("`{place}` is missing"), format!("call {tool} again with `{place}`"))
            }
            ArgumentError::WrongType { place, wanted, given } => {
                let hint = format!("call {tool} again with {wanted} as `{place}`");
                (format!("`{place}` must be {wanted}, and it is {given}"), hint)
            }
            ArgumentError::InvalidValue { place, given, words } => {
                let similar = names::nearest(&given, words.iter().map(String::as_str));
                let similar = similar.map(|word| format!("; did you mean {word}?")).unwrap_or_default();
                let message = format!("`{place}` has no value `{}`", text::single_line(&given, MAX_SHOWN_CHARS));
                (message, format!("call {tool} again with one of {} as `{place}`{similar}", words.join(", ")))
            }
        };
        Refusal::new("invalid_arguments", message, hint)
    }
}

#[cfg(test)]
mod tests;
