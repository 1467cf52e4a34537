//! What comes before a start: the question, the config with its overrides, the limits of both.
//! Nothing is started here, and nothing reaches a run that was not checked here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::calls::{Desk, parsed, ranged};
use super::params::RunMassgen;
use super::trust::{MOST_QUESTION, bad_config, bad_overrides, know_keys, patch};
use super::warnings::effective_config;
use crate::fleet::{Keys, Limits, Start};
use crate::massgen::configs::{self, Changes, Effective, Needs, Sources, Tree};
use crate::massgen::pages::hex;
use crate::massgen::variables::Origins;
use crate::massgen::{broken, launch, program, setup, text};
use crate::refusal::Refusal;
use crate::registry::FAILED_IMPORTS;
use crate::rehearsal;
use crate::run::{BuiltOn, Cap, ConfigChoice, Context, Continued, Mode, RunSpec, Usd};

/// The longest request_key, in characters.
const MOST_KEY: usize = 200;

/// The smallest and the largest budget, in US dollars.
const LEAST_BUDGET: f64 = 0.000_001;
const MOST_BUDGET: f64 = 1e9;

/// What a run has where the call does not say otherwise.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    pub(super) timeout: Duration,
    pub(super) cap: Cap,
}

/// A config as it was checked.
struct Checked {
    choice: ConfigChoice,
    listed_as: Option<String>,
    /// Of a file: what MassGen is to read, but for the question.
    effective: Option<Effective>,
    /// With what MassGen needs besides.
    overrides: Option<Value>,
    hash: String,
}

impl Desk {
    /// Checks everything about a start that can be checked before the ledger is asked.
    pub(super) async fn prepare(&self, asked: RunMassgen) -> Result<Start, Refusal> {
        let request = request(&asked, &self.defaults());
        let from = self.built_on(&asked).await?;
        let (asked, continues) = self.with_conversation(asked).await?;
        let desk = self.clone();
        let prepared = tokio::task::spawn_blocking(move || desk.prepared(asked, continues, from, request)).await;
        prepared.map_err(|_| Refusal::panicked())?
    }

    fn prepared(
        &self,
        asked: RunMassgen,
        continues: Option<Continued>,
        from: Option<BuiltOn>,
        request: String,
    ) -> Result<Start, Refusal> {
        let question = self.question(&asked)?;
        let program = self.program()?;
        let context = asked.context.map(Context::from).unwrap_or_default();
        self.check_project(context)?;
        let checked = self.config(asked.config.as_deref(), asked.overrides.as_ref(), &program, context)?;
        let spec = RunSpec {
            group: asked.group.map(group_name).transpose()?,
            timeout: self.timeout(asked.timeout_s)?,
            mode: asked.mode.map(Mode::from).unwrap_or_default(),
            context,
            pass_env: self.settings.pass_env.clone(),
            env_file: self.settings.env_file.clone(),
            warm: self.settings.warm,
            overrides: checked.overrides,
            listed_as: checked.listed_as,
            config_hash: checked.hash,
            continues,
            from,
            ..RunSpec::plain(
                self.fleet.state().fresh_id()?,
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
                (Some((name, effective.text)), Keys(keys.collect()))
            }
            None => (None, Keys::default()),
        };
        let asked_cap = cap(asked.budget_usd, asked.max_tokens)?;
        let request_key = asked.request_key.map(request_key).transpose()?;
        let start = Start {
            spec,
            config,
            keys,
            asked: asked_cap,
            limits: Limits::from(&self.settings),
            request,
            request_key,
            fresh: asked.fresh,
            share: None,
        };
        match effective_config(&start).and_then(|config| configs::without_writers(&config, context)) {
            Some(problem) => Err(Refusal::new(configs::CONTEXT_UNUSED, problem.message, problem.hint)),
            None => Ok(start),
        }
    }

    /// What a run that goes on with a conversation takes over from the run before it, where the call does not say otherwise. It is
    /// checked as if the call had said it.
    async fn with_conversation(&self, mut asked: RunMassgen) -> Result<(RunMassgen, Option<Continued>), Refusal> {
        let Some(name) = &asked.continue_run else { return Ok((asked, None)) };
        let (before, continued) = self.fleet.to_continue(&parsed(name)?).await?;
        let before = before.spec;
        if asked.config.is_none() {
            asked.overrides = asked.overrides.or(before.overrides);
            asked.config = Some(before.config.name());
        }
        asked.mode = asked.mode.or(Some(before.mode.into()));
        asked.context = asked.context.or(Some(before.context.into()));
        Ok((asked, Some(continued)))
    }

    /// The limits of a run whose call names none. A run that draws on a budget gets a share of what is left, which is no fixed amount: then
    /// the call has another effect than one that names the operator's limit.
    fn defaults(&self) -> Defaults {
        let spending = &self.settings.spending;
        let is_nested = self.fleet.parent().is_some();
        let has_pool = is_nested || spending.server_budget_usd.is_some() || spending.day_budget_usd.is_some();
        let most = Limits::from(&self.settings).each.cap;
        let cap = Cap { usd: most.usd.filter(|_| !has_pool), tokens: most.tokens.filter(|_| !is_nested) };
        Defaults { cap, ..self.defaults_of_each() }
    }

    /// The same of an experiment, whose budget is for all its runs.
    pub(super) fn defaults_of_each(&self) -> Defaults {
        Defaults { timeout: self.settings.limits.timeout, cap: Cap::default() }
    }

    /// The question of a call that asks only one.
    pub(super) async fn question_of(&self, asked: &RunMassgen) -> Result<String, Refusal> {
        let (desk, asked) = (self.clone(), asked.clone());
        let question = tokio::task::spawn_blocking(move || desk.question(&asked)).await;
        question.map_err(|_| Refusal::panicked())?
    }

    /// The answer that a run is to build on. A conversation that goes on has its own last answer.
    async fn built_on(&self, asked: &RunMassgen) -> Result<Option<BuiltOn>, Refusal> {
        let Some(from) = &asked.from else { return Ok(None) };
        if asked.continue_run.is_some() {
            let message = "both `from_run` and `continue_run` were given";
            let hint = "give one: with continue_run the same agents go on with their conversation and its config; with from_run the \
                        agents of any config get one answer as material";
            return Err(Refusal::new("from_conflict", message, hint));
        }
        let label = from.answer.as_deref().map(|label| label.trim().to_owned());
        Ok(Some(self.fleet.to_build_on(&parsed(&from.run_id)?, label).await?))
    }

    /// The MassGen to start. One that is known not to start is refused before anything else.
    fn program(&self) -> Result<PathBuf, Refusal> {
        let seen = self.seen();
        let program = program::find(self.places(&setup::venv(&self.settings.home), &seen))?;
        broken::problem(&program, &seen).map_or(Ok(program), |problem| Err(Refusal::broken(problem)))
    }

    /// The folder with failures of MassGen's import.
    pub(super) fn seen(&self) -> PathBuf {
        self.fleet.state().root().join(FAILED_IMPORTS)
    }

    pub(super) fn places<'a>(&'a self, own_venv: &'a Path, seen: &'a Path) -> program::Places<'a> {
        let (named, project) = (self.settings.massgen.as_deref(), self.settings.project_folder());
        program::Places { named, project, own_venv, seen }
    }

    fn timeout(&self, asked: Option<f64>) -> Result<Duration, Refusal> {
        let limits = &self.settings.limits;
        match asked {
            Some(seconds) => {
                Ok(Duration::from_secs_f64(ranged("timeout_s", seconds, 1.0, limits.max_timeout.as_secs_f64())?))
            }
            None => Ok(limits.timeout),
        }
    }

    fn question(&self, asked: &RunMassgen) -> Result<String, Refusal> {
        let question = match (&asked.question, &asked.question_file) {
            (Some(question), None) => question.clone(),
            (None, Some(file)) => self.question_file(file)?,
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
        // What was given in the call has been looked at; a file has not.
        if let Some(variable) = self.fleet.secrets().name_in(&question) {
            return Err(Refusal::secret("question_file".to_owned(), variable));
        }
        checked_question(question)
    }

    fn config(
        &self,
        name: Option<&str>,
        overrides: Option<&Value>,
        program: &Path,
        context: Context,
    ) -> Result<Checked, Refusal> {
        if name.is_some_and(|name| name.trim().is_empty()) {
            return Err(Refusal::new(
                "config_missing",
                "the name of a config is empty",
                "leave it out for MassGen's default config, or give a path (list_configs finds configs)",
            ));
        }
        patch(overrides)?;
        let package = program::package(program);
        self.check_env_files(context, package.as_deref())?;
        let mut completed = None;
        if let Some(name) = name.filter(|name| rehearsal::is_rehearsal(name)) {
            rehearsal::check(name)?;
            if let Some(overrides) = overrides {
                let mut config = rehearsed(name)?;
                self.allow_overrides(Some(overrides), Some(&config))?;
                know_keys(overrides, Some(&config))?;
                completed = Some(configs::with_folders(overrides, &config));
                completed.iter().try_for_each(|all| config.merge(all)).map_err(|error| bad_overrides(&error))?;
                some_agent_is_left(&config)?;
            }
            let hash = hash(&format!("{name}\n{}", completed.as_ref().map(Value::to_string).unwrap_or_default()));
            let choice = ConfigChoice::Rehearsal(name.to_owned());
            return Ok(Checked { choice, listed_as: None, effective: None, overrides: completed, hash });
        }
        let choice = configs::resolve(name, self.sources(package.as_deref()));
        let choice = choice.map_err(|error| self.without_project(error.into()))?;
        let ConfigChoice::File(path) = &choice else { return Err(Refusal::panicked()) };
        let original = self.original(path, overrides, package.as_deref())?;
        if let Some(overrides) = overrides {
            let config = Tree::of_file(path, &original).ok();
            know_keys(overrides, config.as_ref())?;
            completed =
                Some(config.map_or_else(|| overrides.clone(), |config| configs::with_folders(overrides, &config)));
        }
        let changes =
            Changes { overrides: completed.as_ref(), project: self.settings.project_folder(), ..Changes::default() };
        let effective = configs::effective(path, &original, changes);
        let effective = effective.map_err(|error| match overrides {
            Some(_) => bad_overrides(&error),
            None => bad_config(path, &error),
        })?;
        if overrides.is_some() {
            Tree::read(&effective.text).ok().as_ref().map_or(Ok(()), some_agent_is_left)?;
        }
        let hash = hash(&effective.text);
        let listed_as = configs::name_of(path, self.sources(package.as_deref()));
        Ok(Checked { choice, listed_as, effective: Some(effective), overrides: completed, hash })
    }

    /// Refuses to hand over a folder that is not there.
    fn check_project(&self, context: Context) -> Result<(), Refusal> {
        if context == Context::None {
            return Ok(());
        }
        match &self.settings.project {
            Err(none) => Err(Refusal::no_project(none)),
            Ok(project) if !project.is_dir() => Err(Refusal::no_project(&launch::Gone(project.clone()))),
            Ok(_) => Ok(()),
        }
    }

    /// A refusal, which may be only for want of a project.
    pub(super) fn without_project(&self, refusal: Refusal) -> Refusal {
        match &self.settings.project {
            Ok(project) if project.is_dir() => refusal,
            Ok(project) => refusal.also(&Refusal::no_project(&launch::Gone(project.clone()))),
            Err(none) => refusal.also(&Refusal::no_project(none)),
        }
    }

    pub(super) fn sources<'a>(&'a self, package: Option<&'a Path>) -> Sources<'a> {
        Sources { project: self.settings.project_folder(), home: self.settings.user_home.as_deref(), package }
    }

    /// Where the variables of a run would come from.
    pub(super) fn origins<'a>(&'a self, context: Context, package: Option<&'a Path>) -> Origins<'a> {
        Origins {
            home: self.settings.user_home.as_deref(),
            env_file: self.settings.env_file.as_deref(),
            pass_env: &self.settings.pass_env,
            project: self.settings.project_folder(),
            context,
            package,
        }
    }
}

pub(super) fn cap(dollars: Option<f64>, count: Option<u64>) -> Result<Cap, Refusal> {
    Ok(Cap { usd: dollars.map(budget).transpose()?, tokens: count })
}

fn budget(dollars: f64) -> Result<Usd, Refusal> {
    let asked = ranged("budget_usd", dollars, LEAST_BUDGET, MOST_BUDGET)?;
    Usd::from_f64(asked).ok_or_else(|| Refusal::out_of_range("budget_usd", dollars, LEAST_BUDGET, MOST_BUDGET))
}

/// What the agent asked for, in one text; how it waits for it and names it is no part of that.
pub(super) fn request(asked: &RunMassgen, defaults: &Defaults) -> String {
    let mut told = serde_json::to_value(asked).unwrap_or_default();
    if let Some(told) = told.as_object_mut() {
        // A parameter that is not used is as if it did not exist, so that a later version's request is the same still.
        // So is one with its default; where a conversation goes on, mode and context default to those of the run before.
        let continues = asked.continue_run.is_some();
        told.retain(|name, value| {
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
        // As `checked_question` hands it on.
        for name in ["question", "questions"] {
            told.get_mut(name).map(trim);
        }
    }
    told.to_string()
}

fn trim(questions: &mut Value) {
    match questions {
        Value::String(question) => *question = question.trim().to_owned(),
        Value::Array(all) => all.iter_mut().for_each(trim),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}

/// Overrides may take agents away, but not all of them.
fn some_agent_is_left(config: &Tree) -> Result<(), Refusal> {
    if !Needs::of(config).agents.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        "overrides_invalid",
        "the overrides leave the config without an agent",
        "nothing was started; keep one at least: an agent whose value is null is taken away",
    ))
}

pub(super) fn request_key(key: String) -> Result<String, Refusal> {
    if (1..=MOST_KEY).contains(&key.chars().count()) {
        return Ok(key);
    }
    Err(Refusal::new(
        "out_of_range",
        format!("`request_key` must have 1 to {MOST_KEY} characters"),
        "choose a shorter one",
    ))
}

/// The config of a rehearsal, as its run will have it but for the address of its models.
fn rehearsed(name: &str) -> Result<Tree, Refusal> {
    Tree::read(&rehearsal::config(name, "http://127.0.0.1:9/v1")?).map_err(|error| bad_config(Path::new(name), &error))
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(super) fn group_name(group: String) -> Result<String, Refusal> {
    let good = (1..=64).contains(&group.chars().count()) && text::name(&group) == group;
    let refusal = || {
        Refusal::new(
            "group_invalid",
            "`group` must be 1 to 64 characters without control and hidden characters",
            "choose a short label",
        )
    };
    if good { Ok(group) } else { Err(refusal()) }
}

/// The question as MassGen gets it, without white space around it. MassGen would wait at a prompt for ever where the question is empty, and
/// no argument can hold a NUL.
pub(super) fn checked_question(question: String) -> Result<String, Refusal> {
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
    if question.len() as u64 > MOST_QUESTION {
        let message = format!("the question has {} bytes, and {MOST_QUESTION} is the most", question.len());
        return Err(Refusal::new(
            "question_too_long",
            message,
            "put the material into files and use `context`: \"read\"",
        ));
    }
    Ok(question)
}
