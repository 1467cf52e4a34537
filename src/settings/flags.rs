//! The global flags, generated from the table of settings, and the corresponding environment variables.
//! Values are taken as given; nothing is checked here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Command};
use etcetera::BaseStrategy;

use super::reader::{GivenSetting, RawSetting, SettingSource};
use super::table::{Setting, SettingForm, TABLE};

/// The name of the settings file's flag.
const FILE_FLAG: &str = "settings";
/// The settings file's variable.
pub(super) const FILE_VARIABLE: &str = "MASSGEN_MCP_SETTINGS";
/// The flags that the short help shows as well.
const IN_SHORT_HELP: [&str; 4] = ["home", "massgen", "project", FILE_FLAG];

/// The values given by flags and, after [`Flags::with_environment`], by variables.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub(super) given: BTreeMap<&'static str, GivenSetting>,
    pub(super) file: FileChoice,
}

/// The settings file to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum FileChoice {
    /// No file.
    #[default]
    Absent,
    /// A named file, which must exist.
    Named(PathBuf),
    /// The default file, which may be missing.
    Default(PathBuf),
}

impl Flags {
    /// Adds the values of environment variables for settings without a flag, and the default settings file.
    #[must_use]
    pub fn with_environment(mut self) -> Flags {
        for setting in TABLE {
            let given = setting.variable().and_then(|name| read_variable(&name));
            if let Some(value) = given {
                let by_variable = GivenSetting { raw: RawSetting::Text(value), source: SettingSource::Variable };
                self.given.entry(setting.key).or_insert(by_variable);
            }
        }
        if self.file == FileChoice::Absent {
            let named = read_variable(FILE_VARIABLE).map(|path| FileChoice::Named(path.into()));
            self.file = named.or_else(default_file).unwrap_or_default();
        }
        self
    }
}

/// Reads a variable of ours. If a user leaves a field empty, clients pass an empty variable or the unexpanded placeholder; both
/// count as not set.
fn read_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| is_set(value))
}

fn is_set(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    !text.trim().is_empty() && !text.contains("${")
}

/// The default settings file, in the user's config folder and deliberately not in the project, where agents may write.
fn default_file() -> Option<FileChoice> {
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(FileChoice::Default(base.config_dir().join("massgen-mcp/massgen-mcp.toml")))
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE_FLAG)
            .long(FILE_FLAG)
            .value_name("FILE")
            .value_parser(ValueParser::os_string())
            .global(true)
            .help(format!(
                "The settings file [env: {FILE_VARIABLE}; default: $XDG_CONFIG_HOME/massgen-mcp/massgen-mcp.toml or \
                 ~/.config/massgen-mcp/massgen-mcp.toml, where it is there]"
            ));
        TABLE.iter().filter_map(arg).fold(command.arg(file), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

/// Joins switches and their values: `--warm false` becomes `--warm=false`. Without this, clap would either reject such a value or
/// take any following word as the value of a switch.
pub fn join_switch_values(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let switches: Vec<String> =
        TABLE.iter().filter(|setting| setting.form() == SettingForm::Switch).filter_map(Setting::flag).collect();
    let mut joined: Vec<OsString> = Vec::new();
    let mut words = words.into_iter();
    for word in words.by_ref() {
        match joined.last_mut() {
            Some(switch) if (word == "true" || word == "false") && switches.iter().any(|flag| *switch == **flag) => {
                switch.push("=");
                switch.push(&word);
            }
            _ if word == "--" => {
                joined.push(word);
                break;
            }
            _ => joined.push(word),
        }
    }
    joined.extend(words);
    joined
}

fn arg(setting: &'static Setting) -> Option<Arg> {
    let arg = Arg::new(setting.key)
        .long(setting.flag()?.trim_start_matches('-').to_owned())
        .value_parser(ValueParser::os_string())
        .global(true)
        .hide_short_help(!IN_SHORT_HELP.contains(&setting.key))
        .help(help_text(setting));
    match setting.form() {
        SettingForm::Value(name) | SettingForm::Path(name) => Some(arg.value_name(name)),
        SettingForm::Switch => {
            Some(arg.value_name("true|false").num_args(0..=1).require_equals(true).default_missing_value("true"))
        }
        SettingForm::FileOnly => None,
    }
}

fn help_text(setting: &Setting) -> String {
    let mut meaning = setting.meaning.replace('`', "");
    if let Some(first) = meaning.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let (variable, default) = (setting.variable().unwrap_or_default(), setting.default.replace('`', ""));
    format!("{meaning} [env: {variable}; default: {default}]")
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let mut flags = Flags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in TABLE.iter().filter(|setting| setting.form() != SettingForm::FileOnly) {
            if let Some(value) = matches.get_one::<OsString>(setting.key) {
                self.given.insert(
                    setting.key,
                    GivenSetting { raw: RawSetting::Text(value.clone()), source: SettingSource::Flag },
                );
            }
        }
        if let Some(path) = matches.get_one::<OsString>(FILE_FLAG) {
            self.file = FileChoice::Named(path.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn command() -> Command {
        Flags::augment_args(Command::new("massgen-mcp").subcommand(Command::new("prune")))
    }

    #[test]
    fn each_setting_of_the_table_is_a_flag() {
        let command = command();
        let known: Vec<_> = command.get_arguments().filter_map(Arg::get_long).collect();
        for setting in TABLE {
            let flag = setting.flag();
            let is_flag = flag.as_ref().is_some_and(|flag| known.contains(&flag.trim_start_matches('-')));
            assert_eq!(is_flag, setting.key != "prices", "{}", setting.key);
        }
        command.debug_assert();
    }

    #[test]
    fn a_flag_is_accepted_before_and_after_the_command() {
        for line in [["massgen-mcp", "--keep-days", "3", "prune"], ["massgen-mcp", "prune", "--keep-days", "3"]] {
            let matches = command().try_get_matches_from(line).expect("parses");
            let flags = Flags::from_arg_matches(&matches).expect("flags");
            assert_eq!(flags.given["keep_days"].raw, RawSetting::Text("3".into()));
        }
    }

    #[test]
    fn a_switch_alone_means_on() {
        for (word, value) in [("--read-only", "true"), ("--read-only=false", "false")] {
            let matches = command().try_get_matches_from(["massgen-mcp", word]).expect("parses");
            let flags = Flags::from_arg_matches(&matches).expect("flags");
            assert_eq!(flags.given["read_only"].raw, RawSetting::Text(value.into()));
        }
    }

    #[test]
    fn a_switch_takes_its_value_as_a_word_of_its_own() {
        for (line, expected) in [
            ("m --warm false --read-only true prune", "m --warm=false --read-only=true prune"),
            ("m --warm prune", "m --warm prune"),
            ("m --home true", "m --home true"),
            ("m result -- --warm false", "m result -- --warm false"),
        ] {
            let words = join_switch_values(line.split(' ').map(OsString::from));
            assert_eq!(words.join(OsStr::new(" ")), expected);
        }
        let words = join_switch_values(["massgen-mcp", "prune", "--warm", "false"].map(OsString::from));
        let flags = Flags::from_arg_matches(&command().try_get_matches_from(words).expect("parses")).expect("flags");
        assert_eq!(flags.given["warm"].raw, RawSetting::Text("false".into()));
    }

    #[test]
    fn empty_values_and_placeholders_are_not_set() {
        for empty in ["", "  ", "${user_config.project}"] {
            assert!(!is_set(OsStr::new(empty)), "{empty:?}");
        }
        assert!(is_set(OsStr::new("/project")));
    }
}
