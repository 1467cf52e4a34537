//! Prepares a start: the question, the config with its overrides, and the limits of both. This module starts nothing.
//! Everything that reaches a run is checked here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::context::{ServerContext, check_range, parse_run_id};
use super::params::RunMassgen;
use super::trust::{
    MAX_QUESTION_BYTES, check_effective_config, check_known_keys, invalid_config, invalid_overrides, overrides_tree,
};
use super::warnings::effective_config;
use crate::fleet::{ConfigKeys, StartLimits, StartRequest};
use crate::massgen::configs::{self, ConfigChanges, ConfigPlaces, EffectiveConfig, Tree};
use crate::massgen::pages::hex;
use crate::massgen::variables::VariableSources;
use crate::massgen::{broken_import, launch, program, setup, text};
use crate::refusal::Refusal;
use crate::registry::FAILED_IMPORTS_FOLDER;
use crate::rehearsal;
use crate::run::{AnswerBasis, Cap, ConfigChoice, Context, Continuation, Mode, RunSpec, Usd};

/// The longest request_key, in characters.
const MAX_KEY_CHARS: usize = 200;

/// The smallest and the largest budget, in US dollars.
const MIN_BUDGET_USD: f64 = 0.000_001;
const MAX_BUDGET_USD: f64 = 1e9;

/// The limits of a run if the call does not set them.
#[derive(Debug, Default)]
pub(super) struct RequestDefaults {
    pub(super) timeout: Duration,
    pub(super) cap: Cap,
}

/// A checked config.
struct CheckedConfig {
    choice: ConfigChoice,
    listed_as: Option<String>,
    /// The config that MassGen reads, without the question; only for a config file.
    effective: Option<EffectiveConfig>,
    /// The overrides, with the additions that MassGen needs.
    overrides: Option<Value>,
    hash: String,
}

impl ServerContext {
    /// Checks everything about a start that can be checked before the ledger.
    pub(super) async fn prepare_start(&self, params: RunMassgen) -> Result<StartRequest, Refusal> {
        let request = request_text(&params, &self.request_defaults());
        let basis = self.resolve_basis(&params).await?;
        let (params, continues) = self.apply_continuation(params).await?;
        let context = self.clone();
        let prepared =
            tokio::task::spawn_blocking(move || context.build_start_request(params, continues, basis, request)).await;
        prepared.map_err(|_| Refusal::panicked())?
    }

    fn build_start_request(
        &self,
        params: RunMassgen,
        continues: Option<Continuation>,
        basis: Option<AnswerBasis>,
        request: String,
    ) -> Result<StartRequest, Refusal> {
        let question = self.read_question(&params)?;
        let program = self.program()?;
        let context = params.context.map(Context::from).unwrap_or_default();
        self.check_project(context)?;
        let checked = self.check_config(params.config.as_deref(), params.overrides.as_ref(), &program, context)?;
        let spec = RunSpec {
            group: params.group.map(check_group_name).transpose()?,
            timeout: self.check_timeout(params.timeout_s)?,
            mode: params.mode.map(Mode::from).unwrap_or_default(),
            context,
            pass_env: self.settings.pass_env.clone(),
            env_file: self.settings.env_file.clone(),
            warm: self.settings.warm,
            overrides: checked.overrides,
            listed_as: checked.listed_as,
            config_hash: checked.hash,
            continuation: continues,
            basis,
            ..RunSpec::new(
                self.fleet.state().new_id()?,
                &question,
                checked.choice,
                self.settings.project.clone().unwrap_or_default(),
                program,
            )
        };
        let (config, keys) = match checked.effective {
            Some(effective) => {
                let name = if effective.is_json { "config.json" } else { "config.yaml" };
                let keys = effective.secrets.into_iter().map(|secret| (secret.variable, secret.value));
                (Some((name, effective.text)), ConfigKeys(keys.collect()))
            }
            None => (None, ConfigKeys::default()),
        };
        let requested_cap = parse_cap(params.budget_usd, params.max_tokens)?;
        let request_key = params.request_key.map(check_request_key).transpose()?;
        let start = StartRequest {
            spec,
            config,
            keys,
            requested_cap,
            limits: StartLimits::from(&self.settings),
            request,
            request_key,
            fresh: params.fresh,
            share: None,
        };
        match effective_config(&start).and_then(|config| configs::without_writers(&config, context)) {
            Some(problem) => Err(Refusal::new(configs::CONTEXT_UNUSED, problem.message, problem.next)),
            None => Ok(start),
        }
    }

    /// What a continued run inherits from the run before it unless the call sets it. The inherited values are checked
    /// like values of the call.
    async fn apply_continuation(&self, mut request: RunMassgen) -> Result<(RunMassgen, Option<Continuation>), Refusal> {
        let Some(name) = &request.continue_run else { return Ok((request, None)) };
        let (before, continued) = self.fleet.resolve_continuation(&parse_run_id(name)?).await?;
        let before = before.spec;
        if request.config.is_none() {
            request.overrides = request.overrides.or(before.overrides);
            request.config = Some(before.config.name());
        }
        request.mode = request.mode.or(Some(before.mode.into()));
        request.context = request.context.or(Some(before.context.into()));
        Ok((request, Some(continued)))
    }

    /// The limits of a run whose call names none. A run that draws on a shared budget gets a share of the rest, which
    /// is no fixed amount. So a call without a budget is not the same request as a call that names the operator's
    /// limit.
    fn request_defaults(&self) -> RequestDefaults {
        let spending = &self.settings.spending;
        let is_nested = self.fleet.parent().is_some();
        let has_pool = is_nested || spending.server_budget_usd.is_some() || spending.day_budget_usd.is_some();
        let max_cap = StartLimits::from(&self.settings).per_run.cap;
        let cap = Cap { usd: max_cap.usd.filter(|_| !has_pool), tokens: max_cap.tokens.filter(|_| !is_nested) };
        RequestDefaults { cap, ..self.per_run_defaults() }
    }

    /// The defaults of a run in an experiment, where the budget applies to all runs.
    pub(super) fn per_run_defaults(&self) -> RequestDefaults {
        RequestDefaults { timeout: self.settings.limits.timeout, cap: Cap::default() }
    }

    /// Loads the question of a call that asks only one.
    pub(super) async fn load_question(&self, request: &RunMassgen) -> Result<String, Refusal> {
        let (context, request) = (self.clone(), request.clone());
        let question = tokio::task::spawn_blocking(move || context.read_question(&request)).await;
        question.map_err(|_| Refusal::panicked())?
    }

    /// The answer that a run builds on. A continued conversation uses its own last answer.
    async fn resolve_basis(&self, request: &RunMassgen) -> Result<Option<AnswerBasis>, Refusal> {
        let Some(basis) = &request.from else { return Ok(None) };
        if request.continue_run.is_some() {
            let message = "both `from_run` and `continue_run` were given";
            let hint = "give one: with continue_run the same agents go on with their conversation and its config; with from_run the \
                        agents of any config get one answer as material";
            return Err(Refusal::new("from_conflict", message, hint));
        }
        let label = basis.answer.as_deref().map(|label| label.trim().to_owned());
        Ok(Some(self.fleet.resolve_basis(&parse_run_id(&basis.run_id)?, label).await?))
    }

    /// The MassGen program. A program that is known to fail its import is refused first.
    fn program(&self) -> Result<PathBuf, Refusal> {
        let failed_imports = self.failed_imports_folder();
        let program =
            program::find(self.program_places(&setup::venv_folder(&self.settings.state_folder), &failed_imports))?;
        broken_import::known_problem(&program, &failed_imports)
            .map_or(Ok(program), |problem| Err(Refusal::broken_import(problem)))
    }

    /// The folder that records failed imports of MassGen.
    pub(super) fn failed_imports_folder(&self) -> PathBuf {
        self.fleet.state().root().join(FAILED_IMPORTS_FOLDER)
    }

    pub(super) fn program_places<'a>(
        &'a self,
        own_venv: &'a Path,
        failed_imports: &'a Path,
    ) -> program::ProgramPlaces<'a> {
        let (named, project) = (self.settings.massgen.as_deref(), self.settings.project_folder());
        program::ProgramPlaces { named, project, own_venv, failed_imports }
    }

    fn check_timeout(&self, requested: Option<f64>) -> Result<Duration, Refusal> {
        let limits = &self.settings.limits;
        match requested {
            Some(seconds) => {
                Ok(Duration::from_secs_f64(check_range("timeout_s", seconds, 1.0, limits.max_timeout.as_secs_f64())?))
            }
            None => Ok(limits.timeout),
        }
    }

    fn read_question(&self, request: &RunMassgen) -> Result<String, Refusal> {
        let question = match (&request.question, &request.question_file) {
            (Some(question), None) => question.clone(),
            (None, Some(file)) => self.read_question_file(file)?,
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
        if let Some(variable) = self.fleet.secrets().find_name(&question) {
            return Err(Refusal::contains_secret("question_file".to_owned(), variable));
        }
        check_question(question)
    }

    fn check_config(
        &self,
        name: Option<&str>,
        overrides: Option<&Value>,
        program: &Path,
        context: Context,
    ) -> Result<CheckedConfig, Refusal> {
        if name.is_some_and(|name| name.trim().is_empty()) {
            return Err(Refusal::new(
                "config_missing",
                "the name of a config is empty",
                "leave it out for MassGen's default config, or give a path (list_configs finds configs)",
            ));
        }
        overrides_tree(overrides)?;
        let package = program::package(program);
        self.check_env_files(context, package.as_deref())?;
        let mut completed = None;
        if let Some(name) = name.filter(|name| rehearsal::is_rehearsal(name)) {
            rehearsal::check_name(name)?;
            if let Some(overrides) = overrides {
                let mut config = rehearsal_config(name)?;
                self.check_overrides(Some(overrides), Some(&config))?;
                check_known_keys(overrides, Some(&config))?;
                completed = Some(configs::with_folders(overrides, &config));
                completed
                    .iter()
                    .try_for_each(|patch| config.merge(patch))
                    .map_err(|error| invalid_overrides(&error))?;
                check_effective_config(&config)?;
            }
            let hash = hash(&format!("{name}\n{}", completed.as_ref().map(Value::to_string).unwrap_or_default()));
            let choice = ConfigChoice::Rehearsal(name.to_owned());
            return Ok(CheckedConfig { choice, listed_as: None, effective: None, overrides: completed, hash });
        }
        let choice = configs::resolve(name, self.config_places(package.as_deref()));
        let choice = choice.map_err(|error| self.explain_missing_project(error.into()))?;
        let ConfigChoice::File(path) = &choice else { return Err(Refusal::panicked()) };
        let original = self.read_config(path, overrides, package.as_deref())?;
        if let Some(overrides) = overrides {
            let config = Tree::parse_file(path, &original).ok();
            check_known_keys(overrides, config.as_ref())?;
            completed =
                Some(config.map_or_else(|| overrides.clone(), |config| configs::with_folders(overrides, &config)));
        }
        let changes = ConfigChanges {
            overrides: completed.as_ref(),
            project: self.settings.project_folder(),
            ..ConfigChanges::default()
        };
        let effective = configs::effective_config(path, &original, changes);
        let effective = effective.map_err(|error| match overrides {
            Some(_) => invalid_overrides(&error),
            None => invalid_config(path, &error),
        })?;
        if overrides.is_some() {
            Tree::parse(&effective.text).ok().as_ref().map_or(Ok(()), check_effective_config)?;
        }
        let hash = hash(&effective.text);
        let listed_as = configs::name_of(path, self.config_places(package.as_deref()));
        Ok(CheckedConfig { choice, listed_as, effective: Some(effective), overrides: completed, hash })
    }

    /// Refuses to give access to a project folder that does not exist.
    fn check_project(&self, context: Context) -> Result<(), Refusal> {
        if context == Context::None {
            return Ok(());
        }
        match &self.settings.project {
            Err(reason) => Err(Refusal::no_project(reason)),
            Ok(project) if !project.is_dir() => Err(Refusal::no_project(&launch::MissingFolder(project.clone()))),
            Ok(_) => Ok(()),
        }
    }

    /// Adds a missing project as the possible cause of a refusal.
    pub(super) fn explain_missing_project(&self, refusal: Refusal) -> Refusal {
        match &self.settings.project {
            Ok(project) if project.is_dir() => refusal,
            Ok(project) => refusal.with_cause(&Refusal::no_project(&launch::MissingFolder(project.clone()))),
            Err(reason) => refusal.with_cause(&Refusal::no_project(reason)),
        }
    }

    pub(super) fn config_places<'a>(&'a self, package: Option<&'a Path>) -> ConfigPlaces<'a> {
        ConfigPlaces { project: self.settings.project_folder(), home: self.settings.user_home.as_deref(), package }
    }

    /// The sources of a run's environment variables.
    pub(super) fn variable_sources<'a>(&'a self, context: Context, package: Option<&'a Path>) -> VariableSources<'a> {
        VariableSources {
            home: self.settings.user_home.as_deref(),
            env_file: self.settings.env_file.as_deref(),
            pass_env: &self.settings.pass_env,
            project: self.settings.project_folder(),
            context,
            package,
        }
    }
}

pub(super) fn parse_cap(dollars: Option<f64>, count: Option<u64>) -> Result<Cap, Refusal> {
    Ok(Cap { usd: dollars.map(parse_budget).transpose()?, tokens: count })
}

fn parse_budget(dollars: f64) -> Result<Usd, Refusal> {
    let budget_usd = check_range("budget_usd", dollars, MIN_BUDGET_USD, MAX_BUDGET_USD)?;
    Usd::from_f64(budget_usd)
        .ok_or_else(|| Refusal::out_of_range("budget_usd", dollars, MIN_BUDGET_USD, MAX_BUDGET_USD))
}

/// A text that identifies the request. It excludes `request_key`, `fresh`, `dry_run` and `wait_s`.
pub(super) fn request_text(request: &RunMassgen, defaults: &RequestDefaults) -> String {
    let mut json = serde_json::to_value(request).unwrap_or_default();
    if let Some(json) = json.as_object_mut() {
        // Omit unused parameters, so that a later version computes the same text for the same request. Omit defaults
        // for the same reason; a continued run takes the defaults of mode and context from the run before.
        let continues = request.continue_run.is_some();
        json.retain(|name, value| {
            let is_default = match name.as_str() {
                "mode" => !continues && value.as_str() == Some("full"),
                "context" => !continues && value.as_str() == Some("none"),
                "timeout_s" => value.as_f64() == Some(defaults.timeout.as_secs_f64()),
                "budget_usd" => value.as_f64().and_then(Usd::from_f64) == defaults.cap.usd,
                "max_tokens" => value.as_u64() == defaults.cap.tokens,
                "repeat" => value.as_u64() == Some(1),
                "variants" | "questions" => value.as_array().is_some_and(Vec::is_empty),
                "request_key" | "fresh" | "dry_run" | "wait_s" => true,
                _ => matches!(value, Value::Null | Value::Bool(false)),
            };
            !is_default && !value.is_null()
        });
        // Trim the question as `check_question` does.
        for name in ["question", "questions"] {
            json.get_mut(name).map(trim_questions);
        }
    }
    json.to_string()
}

fn trim_questions(questions: &mut Value) {
    match questions {
        Value::String(question) => *question = question.trim().to_owned(),
        Value::Array(all) => all.iter_mut().for_each(trim_questions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}

pub(super) fn check_request_key(key: String) -> Result<String, Refusal> {
    if (1..=MAX_KEY_CHARS).contains(&key.chars().count()) {
        return Ok(key);
    }
    Err(Refusal::new(
        "out_of_range",
        format!("`request_key` must have 1 to {MAX_KEY_CHARS} characters"),
        "choose a shorter one",
    ))
}

/// The rehearsal config as the run will use it, without the address of its models.
fn rehearsal_config(name: &str) -> Result<Tree, Refusal> {
    Tree::parse(&rehearsal::config_yaml(name, "http://127.0.0.1:9/v1")?)
        .map_err(|error| invalid_config(Path::new(name), &error))
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(super) fn check_group_name(group: String) -> Result<String, Refusal> {
    let is_valid = (1..=64).contains(&group.chars().count()) && text::safe_name(&group) == group;
    let refusal = || {
        Refusal::new(
            "group_invalid",
            "`group` must be 1 to 64 characters without control and hidden characters",
            "choose a short label",
        )
    };
    if is_valid { Ok(group) } else { Err(refusal()) }
}

/// The question without surrounding whitespace. An empty question is refused because MassGen would wait at a prompt for
/// ever. A NUL is refused because no argument can contain it.
pub(super) fn check_question(question: String) -> Result<String, Refusal> {
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
