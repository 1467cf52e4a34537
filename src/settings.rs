//! The operator's settings. Precedence: flag, environment variable, settings file, default. They are read and checked once at the
//! start and never changed by an agent. This module enforces no setting.

mod file;
mod flags;
mod reader;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;

use self::flags::FileChoice;
use self::reader::{PathKind, SettingsReader};

pub use self::flags::{Flags, join_switch_values};
pub use self::reader::{EffectiveSetting, SettingSource};
pub use self::table::{Setting, TABLE, markdown};

/// The default timeout of a run.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// The default of the longest timeout that an agent may request.
pub const DEFAULT_MAX_TIMEOUT: Duration = Duration::from_secs(7200);
/// The default of the longest wait of a call: clients abort a call after 60 s.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(50);
/// The largest value of that setting: one widespread client moves a call to the background after 120 s.
pub const MAX_CONFIGURABLE_WAIT: Duration = Duration::from_secs(110);
/// The longest timeout that the operator may set, in seconds: a day.
const MAX_CONFIGURABLE_TIMEOUT_S: u32 = 86_400;
/// The largest token limit.
const MAX_CONFIGURABLE_TOKENS: u64 = 1_000_000_000_000;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings file, if one was read.
    pub file: Option<PathBuf>,
    /// The state folder, absolute.
    pub state_folder: PathBuf,
    /// The MassGen program, if one is set.
    pub massgen: Option<PathBuf>,
    /// The project folder, absolute.
    pub project: Result<PathBuf, ProjectError>,
    /// The user's home folder, if one exists.
    pub user_home: Option<PathBuf>,
    /// The longest that a call may wait.
    pub max_wait: Duration,
    /// The most characters of an answer that contains a page or a list.
    pub page_chars: u32,
    /// Whether only the tools that read are offered.
    pub read_only: bool,
    /// Whether runs may be forked from a process that has imported MassGen, which is started if memory allows.
    pub warm: bool,
    /// The limits of time and number.
    pub limits: Limits,
    /// The limits of money and tokens.
    pub spending: SpendingLimits,
    /// Which files may be configs, and which configs may run commands.
    pub trust: Trust,
    /// Extra environment variables that are passed to MassGen: names, or prefixes with a star at the end.
    pub pass_env: Vec<String>,
    /// A .env file with keys for MassGen, with links resolved.
    pub env_file: Option<PathBuf>,
    /// Additions and exceptions to the names of variables with secrets.
    pub secret_name_rules: SecretNameSettings,
    /// Which ended runs are kept.
    pub retention: Retention,
    effective_settings: Vec<EffectiveSetting>,
}

/// Why no project folder exists: none is set, and the working folder cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// The whole file system would be the project.
    #[error("the working folder is `/`")]
    Root,
    /// It was removed, or cannot be read.
    #[error("the working folder is gone")]
    Deleted,
    /// Records and clients could not name it.
    #[error("the name of the working folder is not UTF-8")]
    NotUtf8,
}

/// Limits of time and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The timeout of a run if the agent requests none; at most `max_timeout`.
    pub timeout: Duration,
    /// The longest timeout that an agent may request; at most a day.
    pub max_timeout: Duration,
    /// Runs at once of all servers of the state folder, without nested runs; 1 to 1000.
    pub max_runs: u32,
    /// Runs that may wait for a free slot; 0 to 10000.
    pub max_queue: u32,
    /// How deep runs may be nested; 0: a run cannot start runs.
    pub max_depth: u32,
    /// Live runs below a run that is not nested; 0 to 1000.
    pub max_tree_runs: u32,
    /// Starts per minute of all servers of the state folder; 1 to 10000.
    pub starts_per_minute: u32,
}

/// Limits of money (USD, above 0, finite) and tokens; `None` is no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct SpendingLimits {
    /// The most that a run and its descendants may spend, and the default if the agent requests no budget.
    pub budget_usd: Option<f64>,
    /// The same limit in tokens.
    pub max_tokens: Option<u64>,
    /// The most that all runs of one server may spend.
    pub server_budget_usd: Option<f64>,
    /// The most that all runs of the state folder may spend in a day (UTC).
    pub day_budget_usd: Option<f64>,
    /// How a run with a cost unknown to MassGen is handled.
    pub unknown_cost: UnknownCost,
    /// The prices of models, for estimates.
    pub prices: Prices,
}

/// How a run with a cost unknown to MassGen is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownCost {
    /// It continues, with a warning.
    #[default]
    Warn,
    /// It is stopped.
    Deny,
    /// Its cost is estimated from its tokens with the setting `prices`.
    Estimate,
}

/// The prices of models, by model name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices(BTreeMap<String, Price>);

/// The price of a model, in USD per million tokens; finite, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
}

/// The folders of configs and question files, and the configs that may run commands. All paths are absolute, with links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Additional folders for configs and question files.
    pub read_folders: Vec<PathBuf>,
    /// Files and folders whose configs may run commands, in addition to MassGen's examples and `~/.config/massgen`.
    pub trusted_configs: Vec<PathBuf>,
    /// Whether all configs and overrides may run commands.
    pub allow_commands: bool,
}

/// Environment variables that do or do not hold secrets, regardless of the built-in rules: names, or prefixes with a star.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNameSettings {
    /// Variables with secrets.
    pub masked: Vec<String>,
    /// Variables without secrets.
    pub shown: Vec<String>,
}

/// Which ended runs are kept; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// How long after its end a run is kept.
    pub keep_for: Option<Duration>,
    /// The number of runs that are kept, the latest first.
    pub keep_runs: Option<usize>,
    /// The disk space for kept runs, the latest first, in bytes.
    pub keep_bytes: Option<u64>,
}

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No home folder exists, and no state folder is set.
    #[error("there is no home folder to keep state in: set --home or MASSGEN_MCP_HOME")]
    NoHome(#[source] etcetera::HomeDirError),
    /// The path of the state folder is not UTF-8, so records could not name it.
    #[error("the name of the state folder `{}` is not UTF-8: set --home or MASSGEN_MCP_HOME", .0.display())]
    NotUtf8(PathBuf),
    /// The settings file does not exist or cannot be read.
    #[error("cannot read the settings file `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The settings file is not TOML.
    #[error("`{}`, line {line}: this is not TOML", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: Box<toml::de::Error>,
    },
    /// The settings file has an unknown key.
    #[error("`{}`, line {line}: there is no setting `{key}`", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// An invalid value of a setting.
    #[error("{place}: `{value}` is not {wanted}")]
    InvalidValue {
        /// The place to correct: flag and variable, or file, line and key.
        place: String,
        /// The given value.
        value: String,
        /// The expected value, in words.
        wanted: String,
    },
}

impl Flags {
    /// Reads the settings file if one exists, checks all given values and adds the defaults.
    pub fn resolve(self) -> Result<Settings, SettingsError> {
        // Only relative paths need the working folder.
        let working_folder = std::env::current_dir().ok();
        let user_home = etcetera::home_dir().ok().filter(|home| home.to_str().is_some());
        let file = self.file.read(working_folder.as_deref(), user_home.as_deref())?;
        let mut given = match &file {
            Some((path, text)) => file::parse(path, text)?,
            None => BTreeMap::new(),
        };
        given.extend(self.given);
        Settings::from_reader(
            SettingsReader::new(given, working_folder, user_home.clone()),
            file.map(|(path, _)| path),
            user_home,
        )
    }
}

impl Prices {
    /// All models with their prices.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Price)> {
        self.0.iter().map(|(model, price)| (model.as_str(), *price))
    }
}

impl FileChoice {
    /// The file's absolute path and its text. Only the default file may be missing.
    fn read(
        self,
        working_folder: Option<&Path>,
        user_home: Option<&Path>,
    ) -> Result<Option<(PathBuf, String)>, SettingsError> {
        let (path, is_required) = match self {
            FileChoice::Absent => return Ok(None),
            FileChoice::Named(path) => {
                (working_folder.unwrap_or(Path::new("")).join(reader::expand_home(&path, user_home)), true)
            }
            FileChoice::Default(path) => (path, false),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if is_missing(&error) && !is_required => Ok(None),
            Err(source) => Err(SettingsError::Unreadable { path, source }),
        }
    }
}

/// The home folder of some users is a file, such as `/dev/null`, so `NotADirectory` also means a missing file.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Settings {
    /// The project folder, if one exists.
    pub fn project_folder(&self) -> Option<&Path> {
        self.project.as_deref().ok()
    }

    /// Whether a setting has a value from a flag, a variable or the settings file.
    pub fn is_given(&self, key: &str) -> bool {
        self.effective_settings().iter().any(|known| known.key == key && known.source != SettingSource::Default)
    }

    /// All settings with their values and sources, in the order of [`TABLE`].
    pub fn effective_settings(&self) -> &[EffectiveSetting] {
        &self.effective_settings
    }

    fn from_reader(
        mut reader: SettingsReader,
        file: Option<PathBuf>,
        user_home: Option<PathBuf>,
    ) -> Result<Settings, SettingsError> {
        let home = reader.path("home", PathKind::Any)?.map_or_else(default_state_folder, Ok)?;
        reader.set_effective("home", home.display());
        let massgen = reader.path("massgen", PathKind::Any)?;
        let project = reader.path("project", PathKind::Folder)?.map_or_else(working_folder, Ok);
        match &project {
            Ok(project) => reader.set_effective("project", project.display()),
            Err(none) => reader.set_effective("project", format!("none: {none}")),
        }
        let max_wait_s = reader.integer("max_wait_s", 0, MAX_CONFIGURABLE_WAIT.as_secs() as u32)?;
        Ok(Settings {
            file,
            state_folder: home,
            massgen,
            project,
            user_home,
            max_wait: Duration::from_secs(max_wait_s.into()),
            page_chars: reader.integer("page_chars", 2_000, 40_000)?,
            warm: reader.boolean("warm")?,
            read_only: reader.boolean("read_only")?,
            limits: Limits::from_reader(&mut reader)?,
            spending: SpendingLimits::from_reader(&mut reader)?,
            trust: Trust::from_reader(&mut reader)?,
            pass_env: reader.names("pass_env")?,
            env_file: reader.path("env_file", PathKind::File)?,
            secret_name_rules: SecretNameSettings {
                masked: reader.names("mask_env")?,
                shown: reader.names("show_env")?,
            },
            retention: Retention::from_reader(&mut reader)?,
            effective_settings: reader.into_effective(),
        })
    }
}

impl Limits {
    fn from_reader(reader: &mut SettingsReader) -> Result<Limits, SettingsError> {
        let (timeout, max_timeout) = read_timeouts(reader)?;
        Ok(Limits {
            timeout: Duration::from_secs(timeout.into()),
            max_timeout: Duration::from_secs(max_timeout.into()),
            max_runs: reader.integer("max_runs", 1, 1000)?,
            max_queue: reader.integer("max_queue", 0, 10_000)?,
            max_depth: reader.integer("max_depth", 0, 16)?,
            max_tree_runs: reader.integer("max_tree_runs", 0, 1000)?,
            starts_per_minute: reader.integer("starts_per_minute", 1, 10_000)?,
        })
    }
}

/// Reads the default and the longest timeout; a lower maximum also lowers the default.
fn read_timeouts(reader: &mut SettingsReader) -> Result<(u32, u32), SettingsError> {
    let timeout = reader.integer("timeout_s", 1, MAX_CONFIGURABLE_TIMEOUT_S)?;
    let max = reader.integer("max_timeout_s", 1, MAX_CONFIGURABLE_TIMEOUT_S)?;
    if timeout > max && !reader.is_default("timeout_s") {
        return Err(reader.invalid("timeout_s", format!("at most max_timeout_s, which is {max}")));
    }
    let timeout = timeout.min(max);
    reader.set_effective("timeout_s", timeout);
    Ok((timeout, max))
}

impl SpendingLimits {
    fn from_reader(reader: &mut SettingsReader) -> Result<SpendingLimits, SettingsError> {
        let words = [("warn", UnknownCost::Warn), ("deny", UnknownCost::Deny), ("estimate", UnknownCost::Estimate)];
        Ok(SpendingLimits {
            budget_usd: reader.amount("budget_usd", "USD")?,
            max_tokens: reader.count("max_tokens", MAX_CONFIGURABLE_TOKENS)?,
            server_budget_usd: reader.amount("server_budget_usd", "USD")?,
            day_budget_usd: reader.amount("day_budget_usd", "USD")?,
            unknown_cost: reader.choice("unknown_cost", &words)?,
            prices: reader.prices("prices"),
        })
    }
}

impl Prices {
    /// The price of a model, if the operator set it.
    pub fn get(&self, model: &str) -> Option<Price> {
        self.0.get(model).copied()
    }
}

impl Trust {
    fn from_reader(reader: &mut SettingsReader) -> Result<Trust, SettingsError> {
        Ok(Trust {
            read_folders: reader.paths("read_folders", PathKind::Folder)?,
            trusted_configs: reader.paths("trusted_configs", PathKind::FileOrFolder)?,
            allow_commands: reader.boolean("allow_commands")?,
        })
    }
}

impl Retention {
    fn from_reader(reader: &mut SettingsReader) -> Result<Retention, SettingsError> {
        let days = reader.count("keep_days", 36_500)?;
        let runs = reader.count("keep_runs", 1_000_000)?;
        let gigabytes = reader.amount("keep_gb", "GB")?;
        Ok(Retention {
            keep_for: days.map(|days| Duration::from_secs(days * 86_400)),
            keep_runs: runs.and_then(|runs| usize::try_from(runs).ok()),
            keep_bytes: gigabytes.map(|gigabytes| (gigabytes * 1e9) as u64),
        })
    }
}

fn default_state_folder() -> Result<PathBuf, SettingsError> {
    let base = etcetera::base_strategy::Xdg::new().map_err(SettingsError::NoHome)?;
    // XDG defines a state folder on every system that this program supports.
    let home = base.state_dir().unwrap_or_else(|| base.home_dir().join(".local/state")).join("massgen-mcp");
    if home.to_str().is_some() { Ok(home) } else { Err(SettingsError::NotUtf8(home)) }
}

fn working_folder() -> Result<PathBuf, ProjectError> {
    let folder = Path::new(".").canonicalize().map_err(|_| ProjectError::Deleted)?;
    match folder.to_str() {
        None => Err(ProjectError::NotUtf8),
        Some("/") => Err(ProjectError::Root),
        Some(_) => Ok(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::reader::{GivenSetting, RawSetting};
    use super::*;

    fn flags(given: &[(&'static str, &str)]) -> Flags {
        let given = given.iter().map(|(key, text)| {
            (*key, GivenSetting { raw: RawSetting::Text(text.into()), source: SettingSource::Flag })
        });
        Flags { given: given.chain([("home", home())]).collect(), file: FileChoice::Absent }
    }

    fn home() -> GivenSetting {
        GivenSetting { raw: RawSetting::Text("state".into()), source: SettingSource::Flag }
    }

    fn with_file(text: &str, given: &[(&'static str, &str)]) -> (tempfile::TempDir, Result<Settings, SettingsError>) {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("massgen-mcp.toml");
        std::fs::write(&path, text).expect("write");
        let settings = Flags { file: FileChoice::Named(path), ..flags(given) }.resolve();
        (folder, settings)
    }

    #[test]
    fn paths_become_absolute_and_defaults_are_filled_in() {
        let folder = tempfile::tempdir().expect("temp");
        let settings = flags(&[("project", folder.path().to_str().expect("UTF-8"))]).resolve().expect("good");
        assert!(settings.state_folder.is_absolute() && settings.state_folder.ends_with("state"));
        assert_eq!(settings.max_wait, DEFAULT_MAX_WAIT);
        assert_eq!((settings.limits.timeout, settings.limits.max_timeout), (DEFAULT_TIMEOUT, DEFAULT_MAX_TIMEOUT));
        assert_eq!((settings.limits.max_runs, settings.spending.budget_usd), (10, Some(10.0)));
        assert_eq!(settings.spending.unknown_cost, UnknownCost::Warn);
        assert_eq!((settings.spending.max_tokens, settings.env_file), (None, None));
        let thirty_days = Duration::from_secs(30 * 86_400);
        let retention =
            Retention { keep_for: Some(thirty_days), keep_runs: Some(1000), keep_bytes: Some(20_000_000_000) };
        assert_eq!(settings.retention, retention);
    }

    #[test]
    fn every_setting_of_the_table_is_read_in_its_order() {
        let settings = flags(&[]).resolve().expect("good");
        let keys: Vec<_> = settings.effective_settings().iter().map(|effective| effective.key).collect();
        assert_eq!(keys, TABLE.iter().map(|setting| setting.key).collect::<Vec<_>>());
        for effective in settings.effective_settings() {
            assert!(!effective.value.is_empty(), "{}", effective.key);
        }
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let (_folder, settings) = with_file("max_runs = 3\nmax_queue = 4", &[("max_runs", "5")]);
        let settings = settings.expect("good");
        assert_eq!((settings.limits.max_runs, settings.limits.max_queue, settings.limits.max_depth), (5, 4, 2));
        let source = |key| settings.effective_settings().iter().find(|e| e.key == key).map(|e| e.source.describe(key));
        assert_eq!(source("max_runs").as_deref(), Some("--max-runs"));
        assert!(source("max_queue").is_some_and(|place| place.ends_with("massgen-mcp.toml, line 2")));
        assert_eq!(source("max_depth").as_deref(), Some("default"));
    }

    #[test]
    fn a_file_can_set_everything_and_its_paths_are_relative_to_its_folder() {
        let text = "read_only = true\nbudget_usd = 2.5\nday_budget_usd = 'none'\nunknown_cost = 'estimate'\n\
                    read_folders = ['.']\npass_env = ['X_*']\nkeep_gb = 0.5\nkeep_days = 0\n[prices.m]\ninput = 1\noutput = 2";
        let (folder, settings) = with_file(text, &[]);
        let settings = settings.expect("good");
        assert!(settings.read_only);
        assert_eq!((settings.spending.budget_usd, settings.spending.day_budget_usd), (Some(2.5), None));
        assert_eq!(settings.spending.unknown_cost, UnknownCost::Estimate);
        assert_eq!(settings.spending.prices.get("m"), Some(Price { input: 1.0, output: 2.0 }));
        assert_eq!(settings.trust.read_folders, [folder.path().canonicalize().expect("path")]);
        assert_eq!(settings.pass_env, ["X_*"]);
        assert_eq!((settings.retention.keep_bytes, settings.retention.keep_for), (Some(500_000_000), None));
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_file_may_be_missing() {
        let missing = PathBuf::from("/no/such/massgen-mcp.toml");
        let named = Flags { file: FileChoice::Named(missing.clone()), ..flags(&[]) }.resolve().expect_err("missing");
        assert_eq!(named.to_string(), "cannot read the settings file `/no/such/massgen-mcp.toml`");
        for default_path in [missing, "/dev/null/massgen-mcp.toml".into()] {
            Flags { file: FileChoice::Default(default_path), ..flags(&[]) }.resolve().expect("good");
        }
    }

    #[test]
    fn a_lower_maximum_lowers_the_default_and_a_higher_timeout_is_refused() {
        let lower = flags(&[("max_timeout_s", "600")]).resolve().expect("good");
        assert_eq!(lower.limits.timeout, Duration::from_secs(600));
        assert!(lower.effective_settings().iter().any(|e| e.key == "timeout_s" && e.value == "600"));
        let higher = flags(&[("timeout_s", "7201")]).resolve().expect_err("too long");
        assert!(higher.to_string().contains("--timeout-s") && higher.to_string().contains("7200"), "{higher}");
    }

    #[test]
    fn invalid_values_are_refused_with_their_variable() {
        for (key, text, variable) in [
            ("project", "/no/such/folder", "MASSGEN_MCP_PROJECT"),
            ("max_wait_s", "111", "MASSGEN_MCP_MAX_WAIT_S"),
            ("max_timeout_s", "86401", "MASSGEN_MCP_MAX_TIMEOUT_S"),
            ("read_only", "yes", "MASSGEN_MCP_READ_ONLY"),
            ("unknown_cost", "guess", "MASSGEN_MCP_UNKNOWN_COST"),
            ("keep_gb", "-1", "MASSGEN_MCP_KEEP_GB"),
        ] {
            let refused = flags(&[(key, text)]).resolve().expect_err(key).to_string();
            assert!(refused.contains(variable) && refused.contains(text), "{refused}");
        }
    }
}
