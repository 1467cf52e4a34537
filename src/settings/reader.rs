//! Turns given values with their sources into typed values: each kind of value is read in one way, whatever its source.
//! It remembers each effective value with its source, and prefers nothing: which source counts is decided before.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Prices, SettingsError, table};

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// A flag.
    Flag,
    /// An environment variable.
    Variable,
    /// The settings file.
    File {
        /// Which.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// Not given by anyone: the default.
    Default,
}

/// An effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The setting's key.
    pub key: &'static str,
    /// Its value for people; never a secret, since no setting is one.
    pub value: String,
    /// Who gave it.
    pub source: SettingSource,
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawSetting {
    /// A text: of a flag, of a variable, in quotes in the file.
    Text(OsString),
    /// A number or a truth value of the file.
    Scalar(String),
    /// A list of texts of the file.
    List(Vec<OsString>),
    /// The prices of the file.
    Prices(Prices),
    /// Something that no setting can be, in words.
    Unsupported(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct GivenSetting {
    pub(super) raw: RawSetting,
    pub(super) source: SettingSource,
}

impl fmt::Display for RawSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawSetting::Text(text) => write!(f, "{}", text.display()),
            RawSetting::Scalar(text) | RawSetting::Unsupported(text) => f.write_str(text),
            RawSetting::List(_) => f.write_str("a list"),
            RawSetting::Prices(_) => f.write_str("a table"),
        }
    }
}

impl SettingSource {
    /// The source in words, for a setting.
    pub fn describe(&self, key: &str) -> String {
        let setting = table::find(key);
        match self {
            SettingSource::Flag => setting.and_then(table::Setting::flag).unwrap_or_default(),
            SettingSource::Variable => setting.and_then(table::Setting::variable).unwrap_or_default(),
            SettingSource::File { path, line } => format!("{}, line {line}", path.display()),
            SettingSource::Default => "default".to_owned(),
        }
    }

    /// Where to correct a value: one who gave a flag may mean the variable, and the other way round.
    fn location(&self, key: &str) -> String {
        match self {
            SettingSource::Flag | SettingSource::Variable => {
                format!("{} or {}", SettingSource::Flag.describe(key), SettingSource::Variable.describe(key))
            }
            SettingSource::File { path, line } => format!("`{}`, line {line}, {key}", path.display()),
            SettingSource::Default => key.to_owned(),
        }
    }
}

/// Gives the values one by one.
pub(super) struct SettingsReader {
    given: BTreeMap<&'static str, GivenSetting>,
    working: Option<PathBuf>,
    user_home: Option<PathBuf>,
    effective: Vec<EffectiveSetting>,
}

impl SettingsReader {
    /// A reader of what was given. Relative paths are meant from the file's folder, or from `working`, where it is there.
    pub(super) fn new(
        given: BTreeMap<&'static str, GivenSetting>,
        working: Option<PathBuf>,
        user_home: Option<PathBuf>,
    ) -> SettingsReader {
        SettingsReader { given, working, user_home, effective: Vec::new() }
    }

    /// What was read, in that order.
    pub(super) fn into_effective(self) -> Vec<EffectiveSetting> {
        self.effective
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Result<bool, SettingsError> {
        let given = self.given(key);
        let value = given.text().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| given.invalid(key, "true or false"))?;
        Ok(self.record_parsed(key, given, value))
    }

    pub(super) fn integer(&mut self, key: &'static str, least: u32, most: u32) -> Result<u32, SettingsError> {
        let given = self.given(key);
        let value = given.text().and_then(|text| text.parse().ok()).filter(|number| (least..=most).contains(number));
        let value = value.ok_or_else(|| given.invalid(key, format!("a whole number from {least} to {most}")))?;
        Ok(self.record_parsed(key, given, value))
    }

    /// A whole number above 0, or no limit: `0` or `none`.
    pub(super) fn count(&mut self, key: &'static str, most: u64) -> Result<Option<u64>, SettingsError> {
        let wanted = format!("a whole number from 1 to {most}, 0 or none");
        self.limit(key, &wanted, |text| text.parse().ok().filter(|number| *number <= most))
    }

    /// A number above 0, or no limit.
    pub(super) fn amount(&mut self, key: &'static str, unit: &str) -> Result<Option<f64>, SettingsError> {
        let finite = |number: &f64| number.is_finite() && *number >= 0.0;
        self.limit(key, &format!("a number of {unit}, 0 or none"), |text| text.parse().ok().filter(finite))
    }

    fn limit<T: PartialEq + Default + fmt::Display>(
        &mut self,
        key: &'static str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let given = self.given(key);
        let value = match given.text() {
            Some("none") => Some(T::default()),
            Some(text) => parse(text),
            None => None,
        };
        let value = value.ok_or_else(|| given.invalid(key, wanted))?;
        let value = (value != T::default()).then_some(value);
        self.record(key, &given.source, value.as_ref().map_or_else(|| "none".to_owned(), T::to_string));
        Ok(value)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<T, SettingsError> {
        let given = self.given(key);
        let found = words.iter().find(|(word, _)| given.text() == Some(word));
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let (word, value) = found.ok_or_else(|| given.invalid(key, format!("one of {}", all())))?;
        self.record(key, &given.source, (*word).to_owned());
        Ok(*value)
    }

    /// A path, absolute, where one was given; `kind` says what must be there.
    pub(super) fn path(&mut self, key: &'static str, kind: PathKind) -> Result<Option<PathBuf>, SettingsError> {
        let given = self.given(key);
        if given.source == SettingSource::Default {
            self.record(
                key,
                &SettingSource::Default,
                table::find(key).map_or("none", |row| row.default).replace('`', ""),
            );
            return Ok(None);
        }
        let path = match &given.raw {
            RawSetting::Text(text) => self.existing_path(text, &given.source, kind),
            RawSetting::Scalar(_) | RawSetting::List(_) | RawSetting::Prices(_) | RawSetting::Unsupported(_) => {
                Err(kind.expected())
            }
        };
        let path = path.map_err(|wanted| given.invalid(key, wanted))?;
        self.record(key, &given.source, path.display().to_string());
        Ok(Some(path))
    }

    /// Paths that are there, with links resolved.
    pub(super) fn paths(&mut self, key: &'static str, kind: PathKind) -> Result<Vec<PathBuf>, SettingsError> {
        let given = self.given(key);
        let listed = given.list().ok_or_else(|| given.invalid(key, "a list of paths"))?;
        let mut paths = Vec::new();
        for item in listed {
            let path = self.existing_path(&item, &given.source, kind);
            paths.push(path.map_err(|wanted| given.invalid_item(key, &item, wanted))?);
        }
        self.record(key, &given.source, join_values(paths.iter().map(|path| path.display())));
        Ok(paths)
    }

    /// Names of environment variables, or beginnings of names with a star.
    pub(super) fn names(&mut self, key: &'static str) -> Result<Vec<String>, SettingsError> {
        let given = self.given(key);
        let listed = given.list().ok_or_else(|| given.invalid(key, "a list of names"))?;
        let mut names = Vec::new();
        for item in listed {
            let name = item.to_str().filter(|name| is_name_pattern(name)).map(str::to_owned);
            names.push(name.ok_or_else(|| given.invalid_item(key, &item, "the name of a variable, or PREFIX_*"))?);
        }
        self.record(key, &given.source, join_values(names.iter()));
        Ok(names)
    }

    pub(super) fn prices(&mut self, key: &'static str) -> Prices {
        let given = self.given(key);
        let prices = match given.raw {
            RawSetting::Prices(prices) => prices,
            RawSetting::Text(_) | RawSetting::Scalar(_) | RawSetting::List(_) | RawSetting::Unsupported(_) => {
                Prices::default()
            }
        };
        let shown = prices.0.iter().map(|(model, price)| format!("{model} {}/{}", price.input, price.output));
        self.record(key, &given.source, join_values(shown));
        prices
    }

    /// Replaces the effective value of what was read: it follows from others as well.
    pub(super) fn set_effective(&mut self, key: &str, value: impl fmt::Display) {
        if let Some(entry) = self.effective.iter_mut().find(|entry| entry.key == key) {
            entry.value = value.to_string();
        }
    }

    /// Whether it is the default.
    pub(super) fn is_default(&self, key: &str) -> bool {
        !self.given.contains_key(key)
    }

    /// An error about a value that was read well and does not go with others.
    pub(super) fn invalid(&self, key: &'static str, wanted: impl fmt::Display) -> SettingsError {
        self.given(key).invalid(key, wanted)
    }

    fn given(&self, key: &'static str) -> GivenSetting {
        let default = || table::find(key).map_or("", |setting| setting.default).into();
        self.given
            .get(key)
            .cloned()
            .unwrap_or_else(|| GivenSetting { raw: RawSetting::Text(default()), source: SettingSource::Default })
    }

    fn record_parsed<T: fmt::Display>(&mut self, key: &'static str, given: GivenSetting, value: T) -> T {
        self.record(key, &given.source, value.to_string());
        value
    }

    fn record(&mut self, key: &'static str, source: &SettingSource, value: String) {
        self.effective.push(EffectiveSetting { key, value, source: source.clone() });
    }

    /// An absolute path to something of a kind, which records and answers can name; else what it should have been.
    fn existing_path(&self, text: &OsStr, source: &SettingSource, kind: PathKind) -> Result<PathBuf, &'static str> {
        let path = self.resolve_path(text, source).ok_or(match self.working {
            Some(_) => kind.expected(),
            None => "an absolute path, and the working folder is gone",
        })?;
        let path = kind.check(path).ok_or(kind.expected())?;
        if path.to_str().is_some() { Ok(path) } else { Err("a path in UTF-8") }
    }

    /// An absolute path: `~/` is the user's home folder, what is relative is meant from who gave it.
    fn resolve_path(&self, text: &OsStr, source: &SettingSource) -> Option<PathBuf> {
        if text.is_empty() {
            return None;
        }
        let of_file = match source {
            SettingSource::File { path, .. } => path.parent(),
            SettingSource::Flag | SettingSource::Variable | SettingSource::Default => None,
        };
        let base = of_file.or(self.working.as_deref()).unwrap_or(Path::new(""));
        std::path::absolute(base.join(expand_home(Path::new(text), self.user_home.as_deref()))).ok()
    }
}

/// A path with the user's home folder in place of its `~`.
pub(super) fn expand_home(path: &Path, user_home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user_home) {
        (Ok(rest), Some(home)) => home.join(rest),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}

/// What a path must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    /// Anything, also nothing yet.
    Any,
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A file or a folder.
    FileOrFolder,
}

impl PathKind {
    fn check(self, path: PathBuf) -> Option<PathBuf> {
        match self {
            PathKind::Any => Some(path),
            PathKind::Folder => path.canonicalize().ok().filter(|path| path.is_dir()),
            PathKind::File => path.canonicalize().ok().filter(|path| path.is_file()),
            PathKind::FileOrFolder => path.canonicalize().ok(),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            PathKind::Any => "a path",
            PathKind::Folder => "a folder",
            PathKind::File => "a file",
            PathKind::FileOrFolder => "a file or a folder",
        }
    }
}

impl GivenSetting {
    /// A number or a word.
    fn text(&self) -> Option<&str> {
        match &self.raw {
            RawSetting::Text(text) => text.to_str().map(str::trim),
            RawSetting::Scalar(text) => Some(text),
            RawSetting::List(_) | RawSetting::Prices(_) | RawSetting::Unsupported(_) => None,
        }
    }

    /// A list: of the file as it is, of a flag or a variable with colons between.
    fn list(&self) -> Option<Vec<OsString>> {
        match (&self.raw, &self.source) {
            (RawSetting::List(items), _) => Some(items.clone()),
            (RawSetting::Text(_), SettingSource::Default) => Some(Vec::new()),
            (RawSetting::Text(text), SettingSource::Flag | SettingSource::Variable) => {
                let parts = text.as_bytes().split(|byte| *byte == b':').filter(|part| !part.is_empty());
                Some(parts.map(|part| OsStr::from_bytes(part).to_owned()).collect())
            }
            (RawSetting::Text(_), SettingSource::File { .. })
            | (RawSetting::Scalar(_) | RawSetting::Prices(_) | RawSetting::Unsupported(_), _) => None,
        }
    }

    fn invalid(&self, key: &str, wanted: impl fmt::Display) -> SettingsError {
        let (place, value) = (self.source.location(key), self.raw.to_string());
        SettingsError::InvalidValue { place, value, wanted: wanted.to_string() }
    }

    fn invalid_item(&self, key: &str, item: &OsStr, wanted: &str) -> SettingsError {
        let (place, value) = (self.source.location(key), item.display().to_string());
        SettingsError::InvalidValue { place, value, wanted: wanted.to_owned() }
    }
}

fn join_values(items: impl Iterator<Item = impl fmt::Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A star alone is no beginning: it would let every variable through.
fn is_name_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| good(c) && !c.is_ascii_digit()) && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(key: &'static str, raw: RawSetting, source: SettingSource) -> SettingsReader {
        SettingsReader::new([(key, GivenSetting { raw, source })].into(), Some("/cwd".into()), Some("/home/u".into()))
    }

    fn flag(key: &'static str, text: &str) -> SettingsReader {
        reader(key, RawSetting::Text(text.into()), SettingSource::Flag)
    }

    #[test]
    fn zero_and_none_mean_no_limit() {
        for (text, value) in [("0", None), ("none", None), ("0.0", None), ("2.5", Some(2.5)), (" 3 ", Some(3.0))] {
            assert_eq!(flag("budget_usd", text).amount("budget_usd", "USD").expect("good"), value, "{text}");
        }
        for text in ["-1", "nan", "inf", "much", ""] {
            assert!(flag("budget_usd", text).amount("budget_usd", "USD").is_err(), "{text}");
        }
        assert_eq!(flag("max_tokens", "none").count("max_tokens", 9).expect("good"), None);
        assert!(flag("max_tokens", "10").count("max_tokens", 9).is_err());
    }

    #[test]
    fn an_error_names_what_to_correct() {
        let by_flag = flag("max_runs", "0").integer("max_runs", 1, 1000).expect_err("too few");
        assert_eq!(by_flag.to_string(), "--max-runs or MASSGEN_MCP_MAX_RUNS: `0` is not a whole number from 1 to 1000");
        let file = SettingSource::File { path: "/c/x.toml".into(), line: 3 };
        let by_file = reader("max_runs", RawSetting::Unsupported("a table".into()), file).integer("max_runs", 1, 9);
        assert_eq!(
            by_file.expect_err("a table").to_string(),
            "`/c/x.toml`, line 3, max_runs: `a table` is not a whole number from 1 to 9"
        );
    }

    #[test]
    fn paths_are_meant_from_who_gave_them() {
        let file = SettingSource::File { path: "/c/x.toml".into(), line: 1 };
        for (text, source, path) in [
            ("a/b", SettingSource::Flag, "/cwd/a/b"),
            ("a/b", file.clone(), "/c/a/b"),
            ("~/b", file.clone(), "/home/u/b"),
            ("~", SettingSource::Variable, "/home/u"),
            ("~b", SettingSource::Variable, "/cwd/~b"),
            ("/b", file, "/b"),
        ] {
            let read = reader("home", RawSetting::Text(text.into()), source).path("home", PathKind::Any);
            assert_eq!(read.expect("good"), Some(path.into()), "{text}");
        }
        assert!(flag("home", "").path("home", PathKind::Any).is_err());
        assert!(flag("env_file", "/no/such/file").path("env_file", PathKind::File).is_err());
    }

    #[test]
    fn lists_have_colons_in_a_flag_and_brackets_in_the_file() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().canonicalize().expect("path");
        let two = format!("{}::/", path.display());
        let read = flag("read_folders", &two).paths("read_folders", PathKind::Folder);
        assert_eq!(read.expect("good"), [path, "/".into()]);
        let file = SettingSource::File { path: "/c/x.toml".into(), line: 1 };
        assert!(
            reader("read_folders", RawSetting::Text("/".into()), file).paths("read_folders", PathKind::Folder).is_err()
        );
        let gone = flag("read_folders", "/:/no/such").paths("read_folders", PathKind::Folder).expect_err("gone");
        assert!(gone.to_string().contains("`/no/such` is not a folder"), "{gone}");
    }

    #[test]
    fn only_names_of_variables_are_passed_on() {
        let good = flag("pass_env", "MY_KEY:AWS_*").names("pass_env");
        assert_eq!(good.expect("good"), ["MY_KEY", "AWS_*"]);
        for bad in ["*", "A*B", "A=B", "1A", "A,B", "é"] {
            assert!(flag("pass_env", bad).names("pass_env").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_read_is_remembered_with_its_source() {
        let mut reader = flag("max_runs", "7");
        reader.integer("max_runs", 1, 9).expect("good");
        reader.boolean("read_only").expect("default");
        let told: Vec<_> = reader.into_effective().into_iter().map(|e| (e.value, e.source.describe(e.key))).collect();
        assert_eq!(told, [("7".into(), "--max-runs".to_owned()), ("false".into(), "default".to_owned())]);
    }
}
