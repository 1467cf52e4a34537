//! The arms of an experiment: one for each config and variant of the call, each checked like a single start.

use serde_json::Value;

use crate::fleet::StartRequest;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::server::context::ServerContext;
use crate::server::params::RunMassgen;
use crate::server::starts;

/// The longest label of an arm, in characters.
const MAX_LABEL_CHARS: usize = 160;

/// The label of an arm until its config is known.
const DEFAULT_CONFIG_LABEL: &str = "the default config";

/// Prepares the start of each arm, with the arm's label.
pub(super) async fn prepare(
    context: &ServerContext,
    params: &RunMassgen,
    questions: &[String],
) -> Result<Vec<(String, StartRequest)>, Refusal> {
    let mut arms: Vec<(String, StartRequest)> = Vec::new();
    for (variant, arm_params) in arm_requests(params, questions) {
        let label = label(arm_params.config.as_deref().unwrap_or(DEFAULT_CONFIG_LABEL), &variant);
        let start = starts::prepare(context, arm_params).await.map_err(|refusal| refusal.with_location(&label))?;
        if arms.iter().any(|(_, earlier)| is_same_start(earlier, &start)) {
            return Err(duplicate_refusal(&label));
        }
        // The call may name no config or a full path. The arm uses the name that list_configs shows.
        arms.push((self::label(&start.spec.config_name(), &variant), start));
    }
    Ok(arms)
}

/// The arms of a call: one single-run call per arm, with the label of its variant.
fn arm_requests(request: &RunMassgen, questions: &[String]) -> Vec<(String, RunMassgen)> {
    let configs: Vec<Option<String>> = match &request.configs {
        Some(configs) => configs.iter().cloned().map(Some).collect(),
        None => vec![request.config.clone()],
    };
    let variants: Vec<Option<Value>> = match &request.overrides {
        Some(Value::Array(variants)) => variants.iter().cloned().map(Some).collect(),
        one => vec![one.clone()],
    };
    let arm_params = |config: &Option<String>, overrides: &Option<Value>| RunMassgen {
        question: questions.first().cloned(),
        config: config.clone(),
        overrides: overrides.clone(),
        mode: request.mode,
        context: request.context,
        timeout_s: request.timeout_s,
        from: request.from.clone(),
        fresh: true,
        ..RunMassgen::default()
    };
    let variant_of = |overrides: &Option<Value>| {
        let chosen_variant = overrides.as_ref().filter(|_| variants.len() > 1);
        chosen_variant.map(|variant| format!(" with {variant}")).unwrap_or_default()
    };
    let pairs = configs.iter().flat_map(|config| variants.iter().map(move |variant| (config, variant)));
    pairs.map(|(config, variant)| (variant_of(variant), arm_params(config, variant))).collect()
}

/// The label that distinguishes an arm from the others.
fn label(config: &str, variant: &str) -> String {
    text::single_line(&format!("{config}{variant}"), MAX_LABEL_CHARS)
}

/// Refuses parameters that exclude each other.
pub(super) fn check_no_contradictions(request: &RunMassgen) -> Result<(), Refusal> {
    let both_given = |one: &str, other: &str| {
        let message = format!("both `{one}` and `{other}` were given");
        Err(Refusal::new("arguments_conflict", message, "nothing was started: give one of them"))
    };
    match request {
        RunMassgen { config: Some(_), configs: Some(_), .. } => both_given("massgen_config", "configs"),
        RunMassgen { question: Some(_), questions: Some(_), .. } => both_given("question", "questions"),
        RunMassgen { question_file: Some(_), questions: Some(_), .. } => both_given("question_file", "questions"),
        RunMassgen { continue_run: Some(_), .. } => {
            let message = "`continue_run` goes on with one conversation, and several runs were asked for";
            Err(Refusal::new(
                "arguments_conflict",
                message,
                "nothing was started: leave one or the other out; `from_run` gives one answer of that run to all of these",
            ))
        }
        _ => check_no_duplicates(request),
    }
}

/// Refuses duplicates: a mistake, or a repetition that `repeat` must express to be counted.
fn check_no_duplicates(request: &RunMassgen) -> Result<(), Refusal> {
    let texts = [request.configs.as_deref(), request.questions.as_deref()].into_iter().flatten();
    let duplicate = texts.flat_map(|list| {
        list.iter().enumerate().filter(|(n, text)| list[..*n].iter().any(|earlier| earlier.trim() == text.trim()))
    });
    duplicate.map(|(_, text)| text).next().map_or(Ok(()), |text| Err(duplicate_refusal(&text::single_line(text, 80))))
}

fn duplicate_refusal(noun: &str) -> Refusal {
    let message = format!("`{noun}` is there twice");
    Refusal::new("arguments_conflict", message, "nothing was started: name it once; `repeat` asks for it several times")
}

/// Two configs may be equal in content, or become equal through the overrides.
fn is_same_start(one: &StartRequest, other: &StartRequest) -> bool {
    one.spec.config_hash == other.spec.config_hash && one.spec.config == other.spec.config
}
