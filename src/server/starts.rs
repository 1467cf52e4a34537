//! What comes before a start: the question, the config with its overrides, the operator's policy, what a dry run tells.
//! Nothing is started here, and nothing reaches a run that was not checked here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::calls::{Desk, parsed, ranged};
use super::params::RunMassgen;
use super::refusal::Refusal;
use crate::fleet::{Keys, Limits, Start};
use crate::massgen::configs::{self, Changes, Effective, Needs, Question, Sources, Tree};
use crate::massgen::pages::hex;
use crate::massgen::{program, setup, text};
use crate::rehearsal;
use crate::run::{Cap, ConfigChoice, Context, Continued, Mode, RunSpec, Usd};
use crate::secrets;
use crate::settings::Settings;

/// The largest question, in bytes: it goes into a config file, which MassGen repeats in every status.json.
const MOST_QUESTION: u64 = 1 << 20;
/// The longest request_key, in characters.
const MOST_KEY: usize = 200;

/// A config as it was checked.
struct Checked {
    choice: ConfigChoice,
    /// Of a file: what MassGen is to read, but for the question.
    effective: Option<Effective>,
    hash: String,
}

impl Desk {
    /// Checks everything about a start that can be checked before the ledger is asked.
    pub(super) async fn prepare(&self, asked: RunMassgen) -> Result<Start, Refusal> {
        let question = self.question(&asked).await?;
        let (asked, continues) = self.with_conversation(asked).await?;
        let program = program::find(self.places(&setup::venv(&self.settings.home)))?;
        let context = asked.context.map(Context::from).unwrap_or_default();
        let checked = self.config(asked.config.as_deref(), asked.overrides.as_ref(), &program, context)?;
        let spec = RunSpec {
            group: asked.group.map(group_name).transpose()?,
            timeout: self.timeout(asked.timeout_s)?,
            mode: asked.mode.map(Mode::from).unwrap_or_default(),
            context,
            pass_env: self.settings.pass_env.clone(),
            env_file: self.settings.env_file.clone(),
            overrides: asked.overrides,
            config_hash: checked.hash,
            continues,
            ..RunSpec::plain(
                self.fleet.state().fresh_id()?,
                &question,
                checked.choice,
                self.settings.project.clone(),
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
        let asked_cap =
            Cap { usd: asked.budget_usd.map(budget).transpose()?, tokens: asked.max_tokens.map(tokens).transpose()? };
        let request_key = asked.request_key.map(request_key).transpose()?;
        Ok(Start {
            spec,
            config,
            keys,
            asked: asked_cap,
            limits: Limits::from(&self.settings),
            request_key,
            fresh: asked.fresh,
        })
    }

    /// What a run that goes on with a conversation takes over from the run before it, where the call does not say otherwise. It is
    /// checked as if the call had said it.
    async fn with_conversation(&self, mut asked: RunMassgen) -> Result<(RunMassgen, Option<Continued>), Refusal> {
        let Some(name) = &asked.continue_run else { return Ok((asked, None)) };
        let (before, continued) = self.fleet.to_continue(&parsed(name)?).await?;
        let before = before.spec;
        if asked.config.is_none() {
            asked.overrides = asked.overrides.or(before.overrides);
            asked.config = Some(match before.config {
                ConfigChoice::File(path) => path.to_string_lossy().into_owned(),
                ConfigChoice::Rehearsal(name) => name,
            });
        }
        asked.mode = asked.mode.or(Some(before.mode.into()));
        asked.context = asked.context.or(Some(before.context.into()));
        Ok((asked, Some(continued)))
    }

    pub(super) fn places<'a>(&'a self, own_venv: &'a Path) -> program::Places<'a> {
        program::Places { named: self.settings.massgen.as_deref(), project: &self.settings.project, own_venv }
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

    async fn question(&self, asked: &RunMassgen) -> Result<String, Refusal> {
        let question = match (&asked.question, &asked.question_file) {
            (Some(question), None) => question.clone(),
            (None, Some(file)) => read_question(&self.settings, file).await?,
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
                "`config` is empty",
                "leave it out for MassGen's default config, or give a path",
            ));
        }
        let patch = overrides.map(Tree::from_json).transpose().map_err(|_| bad_overrides("it must be an object"))?;
        if let Some(secret) = patch.as_ref().and_then(|patch| patch.secrets().into_iter().next()) {
            return Err(Refusal::secret("overrides".to_owned(), &secret.variable));
        }
        if let Some(name) = name.filter(|name| rehearsal::is_rehearsal(name)) {
            rehearsal::check(name)?;
            self.allow(patch.as_ref(), "overrides")?;
            let hash = hash(&format!("{name}\n{}", overrides.map(Value::to_string).unwrap_or_default()));
            return Ok(Checked { choice: ConfigChoice::Rehearsal(name.to_owned()), effective: None, hash });
        }
        let package = program::package(program);
        let choice = configs::resolve(name, self.sources(package.as_deref()))?;
        let ConfigChoice::File(path) = &choice else { return Err(Refusal::panicked()) };
        let standing = Standing::of(path, &self.settings, package.as_deref())?;
        let original = std::fs::read_to_string(path).map_err(|error| {
            Refusal::new(
                "config_missing",
                format!("cannot read `{}`: {error}", path.display()),
                "give a UTF-8 text file",
            )
        })?;
        self.judge(path, &original, overrides, patch.as_ref(), standing)?;
        let project = (context == Context::None).then_some(self.settings.project.as_path());
        let effective = configs::effective(path, &original, Changes { overrides, project, ..Changes::default() });
        let effective = effective.map_err(|error| match overrides {
            Some(_) => bad_overrides(&text::chain(&error)),
            None => bad_config(path, &error),
        })?;
        let hash = hash(&effective.text);
        Ok(Checked { choice, effective: Some(effective), hash })
    }

    /// Holds a config, and what is changed in it, against the operator's policy.
    fn judge(
        &self,
        path: &Path,
        original: &str,
        overrides: Option<&Value>,
        patch: Option<&Tree>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        if self.settings.trust.allow_commands {
            return Ok(());
        }
        if standing == Standing::Trusted {
            return self.allow(patch, "overrides");
        }
        let mut tree = Tree::of_file(path, original).map_err(|error| bad_config(path, &error))?;
        if let Some(overrides) = overrides {
            tree.merge(overrides).map_err(|error| bad_overrides(&error.to_string()))?;
        }
        self.allow(Some(&tree), "the config")
    }

    fn allow(&self, tree: Option<&Tree>, whose: &str) -> Result<(), Refusal> {
        let forbidden = tree.and_then(|tree| configs::forbidden(tree, &self.settings.project));
        let Some(found) = forbidden.filter(|_| !self.settings.trust.allow_commands) else { return Ok(()) };
        let message = format!("{whose} may not have `{}`: {}", found.key, found.why);
        let hint = "leave it out or use another config (list_configs); only the operator can allow it, by trusted_configs \
                    or allow_commands in the settings";
        Err(Refusal::new("config_forbidden", message, hint))
    }

    pub(super) fn sources<'a>(&'a self, package: Option<&'a Path>) -> Sources<'a> {
        Sources { project: &self.settings.project, home: self.settings.user_home.as_deref(), package }
    }

    /// Which variables a run would have, by name.
    pub(super) fn variables(&self) -> BTreeSet<String> {
        let own = std::env::vars_os().filter(|(_, value)| !value.is_empty());
        let own = own.filter_map(|(name, _)| name.into_string().ok());
        let file = self.settings.env_file.as_deref().and_then(|file| secrets::env_file(file).ok()).unwrap_or_default();
        own.chain(file.into_iter().map(|(name, _)| name)).collect()
    }

    /// What a start would be, without one: the effective config, limits, what MassGen says of it, what it will take.
    pub(super) async fn rehearse_start(&self, start: Start) -> Result<DryRun, Refusal> {
        let cap = start.asked.and(start.limits.each.cap);
        let forecast = self.fleet.forecast(&start.spec.config_hash).await?;
        let forecast = forecast.map(|seen| {
            json!({"from_runs": seen.runs, "took_s": seen.took_s, "cost_usd": seen.cost_usd, "tokens": seen.tokens})
        });
        let limits = json!({
            "timeout_s": start.spec.timeout.as_secs(),
            "budget_usd": cap.usd.map(Usd::as_f64),
            "max_tokens": cap.tokens,
            "nested_depth": start.limits.each.depth,
        });
        let mut dry = DryRun {
            dry_run: true,
            ok: true,
            config: match &start.spec.config {
                ConfigChoice::File(path) => path.display().to_string(),
                ConfigChoice::Rehearsal(name) => name.clone(),
            },
            continues: start.spec.continues.as_ref().map(|before| format!("{}, as turn {}", before.run, before.turn)),
            agents: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            limits,
            forecast,
            effective_config: None,
        };
        if let Some((name, text)) = &start.config {
            self.validated(&mut dry, &start.spec, name, text).await?;
        }
        dry.ok = dry.problems.is_empty();
        Ok(dry)
    }

    async fn validated(&self, dry: &mut DryRun, spec: &RunSpec, name: &str, text: &str) -> Result<(), Refusal> {
        let cannot =
            |error: std::io::Error| Refusal::new("state_folder", format!("cannot check: {error}"), "tell the operator");
        let place = tempfile::Builder::new().prefix(".check-").tempdir_in(self.fleet.state().root()).map_err(cannot)?;
        let file = place.path().join(name);
        std::fs::write(&file, text).map_err(cannot)?;
        let cache = self.fleet.state().root().join("validated");
        let version = program::package(&spec.program).as_deref().and_then(program::version);
        let question = Question {
            program: &spec.program,
            version: version.as_deref(),
            config: &file,
            folder: place.path(),
            cache: &cache,
        };
        let verdict = configs::validate(question).await?;
        let needs = Tree::of_file(&file, text).map(|tree| Needs::of(&tree)).unwrap_or_default();
        let variables = self.variables();
        let verdict = verdict.with_needs(&needs, |name| variables.contains(name));
        let told = |finding: &configs::Finding| {
            let fix = finding.suggestion.as_deref().map(|fix| format!(" ({fix})")).unwrap_or_default();
            format!("{}: {}{fix}", finding.location, finding.message)
        };
        dry.problems = verdict.errors.iter().map(told).collect();
        dry.warnings = verdict.warnings.iter().map(told).collect();
        dry.agents = needs
            .agents
            .iter()
            .map(|agent| {
                format!("{}: {}", agent.id, agent.model.as_deref().or(agent.backend.as_deref()).unwrap_or("?"))
            })
            .collect();
        dry.effective_config = Some(text::cut(text, 8_000));
        Ok(())
    }
}

/// What a dry run tells.
#[derive(Debug, Serialize)]
pub(super) struct DryRun {
    dry_run: bool,
    /// Whether nothing speaks against a start.
    ok: bool,
    config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<String>,
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    limits: Value,
    /// Medians of earlier runs of this very config.
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_config: Option<String>,
}

/// Who may have written a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The operator, or MassGen's authors.
    Trusted,
    /// An agent may have: it can write where this file is.
    Open,
}

impl Standing {
    /// By the place of the file itself, links followed.
    fn of(path: &Path, settings: &Settings, package: Option<&Path>) -> Result<Standing, Refusal> {
        let real = path.canonicalize().map_err(|error| {
            Refusal::new("config_missing", format!("cannot read `{}`: {error}", path.display()), "give another config")
        })?;
        let home = settings.user_home.as_deref().map(|home| home.join(".config/massgen"));
        let built_in = [package.map(|package| package.join("configs")), home].into_iter().flatten();
        let built_in: Vec<PathBuf> = built_in.filter_map(|folder| folder.canonicalize().ok()).collect();
        if built_in.iter().chain(&settings.trust.trusted_configs).any(|place| real.starts_with(place)) {
            return Ok(Standing::Trusted);
        }
        within_reach(&real, settings).then_some(Standing::Open).ok_or_else(|| {
            let message = format!("`{}` is outside of the folders that configs may come from", path.display());
            let hint = "use a config of the project or @examples/NAME (list_configs); only the operator can allow more, by \
                        read_folders in the settings";
            Refusal::new("config_outside", message, hint)
        })
    }
}

/// Whether a file, links followed, lies in the project or in another folder that the operator named.
fn within_reach(real: &Path, settings: &Settings) -> bool {
    std::iter::once(&settings.project).chain(&settings.trust.read_folders).any(|folder| real.starts_with(folder))
}

fn bad_config(path: &Path, error: &configs::EditError) -> Refusal {
    let message = format!("`{}` cannot be read: {}", path.display(), text::chain(error));
    Refusal::new("config_invalid", message, "mend the config, then call again")
}

fn bad_overrides(why: &str) -> Refusal {
    Refusal::new(
        "overrides_invalid",
        format!("`overrides` cannot be applied: {why}"),
        "give a JSON merge patch (RFC 7386) on the config",
    )
}

fn budget(dollars: f64) -> Result<Usd, Refusal> {
    let refusal = || Refusal::new("out_of_range", "`budget_usd` must be more than 0", "give US dollars, such as 1.5");
    Usd::from_f64(dollars).filter(|usd| usd.0 > 0 && dollars < 1e9).ok_or_else(refusal)
}

fn tokens(count: u64) -> Result<u64, Refusal> {
    if count > 0 {
        Ok(count)
    } else {
        Err(Refusal::new("out_of_range", "`max_tokens` must be more than 0", "give a number of tokens"))
    }
}

fn request_key(key: String) -> Result<String, Refusal> {
    if (1..=MOST_KEY).contains(&key.chars().count()) {
        return Ok(key);
    }
    Err(Refusal::new(
        "out_of_range",
        format!("`request_key` must have 1 to {MOST_KEY} characters"),
        "choose a shorter one",
    ))
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn group_name(group: String) -> Result<String, Refusal> {
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

async fn read_question(settings: &Settings, name: &str) -> Result<String, Refusal> {
    let path = &settings.project.join(name);
    let unreadable = |why: String| {
        let message = format!("cannot read the question file `{}`: {why}", path.display());
        Refusal::new("question_file_unreadable", message, "give a UTF-8 text file, by a path relative to the project")
    };
    let real = tokio::fs::canonicalize(path).await.map_err(|error| unreadable(error.to_string()))?;
    if !within_reach(&real, settings) {
        return Err(unreadable("it is outside of the folders that question files may come from".to_owned()));
    }
    let meta = tokio::fs::metadata(&real).await.map_err(|error| unreadable(error.to_string()))?;
    if !meta.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    if meta.len() > MOST_QUESTION {
        return Err(unreadable(format!("it has {} bytes, and {MOST_QUESTION} is the most", meta.len())));
    }
    tokio::fs::read_to_string(&real).await.map_err(|error| unreadable(error.to_string()))
}

/// MassGen would wait at a prompt for ever where the question is empty, and no argument can hold a NUL.
fn checked_question(question: String) -> Result<String, Refusal> {
    if question.trim().is_empty() {
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
