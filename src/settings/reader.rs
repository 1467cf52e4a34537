//! Converts given values into typed values; each type is parsed in the same way for all sources. It records each effective value
//! with its source. The precedence of sources is applied before.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Prices, SettingsError, table};

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// A flag.
    Flag,
    /// An environment variable.
    Variable,
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// The default.
    Default,
}

/// An effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The setting's key.
    pub key: &'static str,
    /// Its value as text; never a secret, because no setting is one.
    pub value: String,
    /// Its source.
    pub source: SettingSource,
}

/// A given value before parsing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RawSetting {
    /// A text: from a flag, a variable, or a string of the file.
    Text(OsString),
    /// A number or a boolean of the file.
    Scalar(String),
    /// A list of strings of the file.
    List(Vec<OsString>),
    /// The prices of the file.
    Prices(Prices),
    /// A description of a value of a type that no setting has.
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
    /// The name of the source, for a setting.
    pub fn describe(&self, key: &str) -> String {
        let setting = table::find(key);
        match self {
            SettingSource::Flag => setting.and_then(table::Setting::flag).unwrap_or_default(),
            SettingSource::Variable => setting.and_then(table::Setting::variable).unwrap_or_default(),
            SettingSource::File { path, line } => format!("{}, line {line}", path.display()),
            SettingSource::Default => "default".to_owned(),
        }
    }

    /// Where to correct a value; names both the flag and the variable, because either can replace the other.
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

/// Reads the values one by one.
pub(super) struct SettingsReader {
    given: BTreeMap<&'static str, GivenSetting>,
    working: Option<PathBuf>,
    user_home: Option<PathBuf>,
    effective: Vec<EffectiveSetting>,
}

impl SettingsReader {
    /// A reader of the given values. Relative paths are resolved from the file's folder, or from `working` if it exists.
    pub(super) fn new(
        given: BTreeMap<&'static str, GivenSetting>,
        working: Option<PathBuf>,
        user_home: Option<PathBuf>,
    ) -> SettingsReader {
        SettingsReader { given, working, user_home, effective: Vec::new() }
    }

    /// The values in the order in which they were read.
    pub(super) fn into_effective(self) -> Vec<EffectiveSetting> {
        self.effective
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Result<bool, SettingsError> {
        let given = self.given(key);
        let value = given.text().and_then(|text| text.parse().ok());
        let value = value.ok_or_else(|| given.invalid(key, "true or false"))?;
        Ok(self.record_parsed(key, given, value))
    }

    pub(super) fn integer(&mut self, key: &'static str, min: u32, max: u32) -> Result<u32, SettingsError> {
        let given = self.given(key);
        let value = given.text().and_then(|text| text.parse().ok()).filter(|number| (min..=max).contains(number));
        let value = value.ok_or_else(|| given.invalid(key, format!("a whole number from {min} to {max}")))?;
        Ok(self.record_parsed(key, given, value))
    }

    /// A whole number above 0, or no limit: `0` or `none`.
    pub(super) fn count(&mut self, key: &'static str, max: u64) -> Result<Option<u64>, SettingsError> {
        let expected = format!("a whole number from 1 to {max}, 0 or none");
        self.limit(key, &expected, |text| text.parse().ok().filter(|number| *number <= max))
    }

    /// A number above 0, or no limit.
    pub(super) fn amount(&mut self, key: &'static str, unit: &str) -> Result<Option<f64>, SettingsError> {
        let finite = |number: &f64| number.is_finite() && *number >= 0.0;
        self.limit(key, &format!("a number of {unit}, 0 or none"), |text| text.parse().ok().filter(finite))
    }

    fn limit<T: PartialEq + Default + fmt::Display>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let given = self.given(key);
        let value = match given.text() {
            Some("none") => Some(T::default()),
            Some(text) => parse(text),
            None => None,
        };
        let value = value.ok_or_else(|| given.invalid(key, expected))?;
        let value = (value != T::default()).then_some(value);
        self.record(key, &given.source, value.as_ref().map_or_else(|| "none".to_owned(), T::to_string));
        Ok(value)
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<T, SettingsError> {
        let given = self.given(key);
        let found = words.iter().find(|(word, _)| given.text() == Some(word));
        let choices = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let (word, value) = found.ok_or_else(|| given.invalid(key, format!("one of {}", choices())))?;
        self.record(key, &given.source, (*word).to_owned());
        Ok(*value)
    }

    /// An absolute path, if one was given; `kind` says what must exist there.
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
        let path = path.map_err(|expected| given.invalid(key, expected))?;
        self.record(key, &given.source, path.display().to_string());
        Ok(Some(path))
    }

    /// Existing paths, with links resolved.
    pub(super) fn paths(&mut self, key: &'static str, kind: PathKind) -> Result<Vec<PathBuf>, SettingsError> {
        let given = self.given(key);
        let items = given.list().ok_or_else(|| given.invalid(key, "a list of paths"))?;
        let mut paths = Vec::new();
        for item in items {
            let path = self.existing_path(&item, &given.source, kind);
            paths.push(path.map_err(|expected| given.invalid_item(key, &item, expected))?);
        }
        self.record(key, &given.source, join_values(paths.iter().map(|path| path.display())));
        Ok(paths)
    }

    /// Names of environment variables, or prefixes with a star.
    pub(super) fn names(&mut self, key: &'static str) -> Result<Vec<String>, SettingsError> {
        let given = self.given(key);
        let items = given.list().ok_or_else(|| given.invalid(key, "a list of names"))?;
        let mut names = Vec::new();
        for item in items {
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

    /// Replaces an effective value that also depends on other settings.
    pub(super) fn set_effective(&mut self, key: &str, value: impl fmt::Display) {
        if let Some(entry) = self.effective.iter_mut().find(|entry| entry.key == key) {
            entry.value = value.to_string();
        }
    }

    /// Whether the setting has its default.
    pub(super) fn is_default(&self, key: &str) -> bool {
        !self.given.contains_key(key)
    }

    /// An error about a valid value that conflicts with other settings.
    pub(super) fn invalid(&self, key: &'static str, expected: impl fmt::Display) -> SettingsError {
        self.given(key).invalid(key, expected)
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

    /// An absolute UTF-8 path to an existing entry of a kind; otherwise a description of the expected value.
    fn existing_path(&self, text: &OsStr, source: &SettingSource, kind: PathKind) -> Result<PathBuf, &'static str> {
        let path = self.resolve_path(text, source).ok_or(match self.working {
            Some(_) => kind.expected(),
            None => "an absolute path, and the working folder is gone",
        })?;
        let path = kind.check(path).ok_or(kind.expected())?;
        if path.to_str().is_some() { Ok(path) } else { Err("a path in UTF-8") }
    }

    /// An absolute path: `~/` is the user's home folder; a relative path is resolved from its source.
    fn resolve_path(&self, text: &OsStr, source: &SettingSource) -> Option<PathBuf> {
        if text.is_empty() {
            return None;
        }
        let file_folder = match source {
            SettingSource::File { path, .. } => path.parent(),
            SettingSource::Flag | SettingSource::Variable | SettingSource::Default => None,
        };
        let base = file_folder.or(self.working.as_deref()).unwrap_or(Path::new(""));
        std::path::absolute(base.join(expand_home(Path::new(text), self.user_home.as_deref()))).ok()
    }
}

/// Replaces a leading `~` by the user's home folder.
pub(super) fn expand_home(path: &Path, user_home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user_home) {
        (Ok(rest), Some(home)) => home.join(rest),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}

/// What must exist at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    /// Anything, or nothing yet.
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
    /// The text of a number or a word.
    fn text(&self) -> Option<&str> {
        match &self.raw {
            RawSetting::Text(text) => text.to_str().map(str::trim),
            RawSetting::Scalar(text) => Some(text),
            RawSetting::List(_) | RawSetting::Prices(_) | RawSetting::Unsupported(_) => None,
        }
    }

    /// The items of a list: of the file, or of a flag or a variable with colons as separators.
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

    fn invalid(&self, key: &str, expected: impl fmt::Display) -> SettingsError {
        let (place, value) = (self.source.location(key), self.raw.to_string());
        SettingsError::InvalidValue { place, value, wanted: expected.to_string() }
    }

    fn invalid_item(&self, key: &str, item: &OsStr, expected: &str) -> SettingsError {
        let (place, value) = (self.source.location(key), item.display().to_string());
        SettingsError::InvalidValue { place, value, wanted: expected.to_owned() }
    }
}

fn join_values(items: impl Iterator<Item = impl fmt::Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// Whether a text is a name or a prefix with a star. A star alone is refused, because it would match every variable.
fn is_name_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| is_allowed(c) && !c.is_ascii_digit()) && name.chars().all(is_allowed)
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
    fn an_error_names_the_place_to_correct() {
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
    fn paths_are_relative_to_their_source() {
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
        let list = format!("{}::/", path.display());
        let read = flag("read_folders", &list).paths("read_folders", PathKind::Folder);
        assert_eq!(read.expect("good"), [path, "/".into()]);
        let file = SettingSource::File { path: "/c/x.toml".into(), line: 1 };
        assert!(
            reader("read_folders", RawSetting::Text("/".into()), file).paths("read_folders", PathKind::Folder).is_err()
        );
        let gone = flag("read_folders", "/:/no/such").paths("read_folders", PathKind::Folder).expect_err("gone");
        assert!(gone.to_string().contains("`/no/such` is not a folder"), "{gone}");
    }

    #[test]
    fn only_names_of_variables_are_accepted() {
        let good = flag("pass_env", "MY_KEY:AWS_*").names("pass_env");
        assert_eq!(good.expect("good"), ["MY_KEY", "AWS_*"]);
        for bad in ["*", "A*B", "A=B", "1A", "A,B", "é"] {
            assert!(flag("pass_env", bad).names("pass_env").is_err(), "{bad}");
        }
    }

    #[test]
    fn effective_values_are_recorded_with_their_source() {
        let mut reader = flag("max_runs", "7");
        reader.integer("max_runs", 1, 9).expect("good");
        reader.boolean("read_only").expect("default");
        let effective: Vec<_> =
            reader.into_effective().into_iter().map(|e| (e.value, e.source.describe(e.key))).collect();
        assert_eq!(effective, [("7".into(), "--max-runs".to_owned()), ("false".into(), "default".to_owned())]);
    }
}
