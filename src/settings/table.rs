//! The table of all settings: their names, defaults and meanings. Flags, variables, the table in the README and
//! `massgen-mcp settings` are generated from it. It reads nothing and checks nothing.

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the file; the names of its flag and its variable are derived from it.
    pub key: &'static str,
    /// The default value; a description if the default has to be searched for.
    pub default: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    form: SettingForm,
}

/// How a setting is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettingForm {
    /// A value of this name.
    Value(&'static str),
    /// A path whose default is searched for, so the default is a description.
    Path(&'static str),
    /// On or off; the flag alone means on.
    Switch,
    /// A table, only in the file.
    FileOnly,
}

impl Setting {
    /// Its flag, if it has one.
    pub fn flag(&self) -> Option<String> {
        (self.form != SettingForm::FileOnly).then(|| format!("--{}", self.key.replace('_', "-")))
    }

    /// Its environment variable, if it has one.
    pub fn variable(&self) -> Option<String> {
        (self.form != SettingForm::FileOnly).then(|| format!("MASSGEN_MCP_{}", self.key.to_uppercase()))
    }

    pub(super) fn form(&self) -> SettingForm {
        self.form
    }
}

/// The row of a key, if the setting exists.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.key == key)
}

/// The table as Markdown, for the README.
pub fn markdown() -> String {
    let code = |text: Option<String>| text.map(|text| format!("`{text}`")).unwrap_or_default();
    let mut table =
        String::from("| in the file | flag | variable | default | meaning |\n| --- | --- | --- | --- | --- |\n");
    for row in TABLE {
        let cells = [format!("`{}`", row.key), code(row.flag()), code(row.variable())];
        table.push_str(&format!("| {} | {} | {} |\n", cells.join(" | "), row.default, row.meaning));
    }
    table
}

const fn setting(key: &'static str, form: SettingForm, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, meaning, form }
}

/// All settings, in the order of the output.
pub const TABLE: &[Setting] = &[
    setting(
        "home",
        SettingForm::Path("FOLDER"),
        "`$XDG_STATE_HOME/massgen-mcp`, `~/.local/state/massgen-mcp`",
        "the state folder, with all runs",
    ),
    setting(
        "massgen",
        SettingForm::Path("FILE"),
        "the project's `.venv/bin/massgen`, the one in PATH, the one from `massgen-mcp setup`",
        "the MassGen program",
    ),
    setting(
        "project",
        SettingForm::Path("FOLDER"),
        "the folder that the server is started in, unless it is `/`",
        "the project folder, from which relative paths are meant",
    ),
    setting(
        "max_wait_s",
        SettingForm::Value("SECONDS"),
        "50",
        "the longest that a call may wait for a change; at most 110",
    ),
    setting(
        "page_chars",
        SettingForm::Value("N"),
        "20000",
        "the most characters of a page, and of a list, as JSON; fewer for clients that show their model less; 2000 to 40000",
    ),
    setting(
        "warm",
        SettingForm::Switch,
        "true",
        "runs are forked from a process that has imported MassGen, which saves some seconds each; it takes 0.4 GB and ends after 10 idle minutes",
    ),
    setting(
        "read_only",
        SettingForm::Switch,
        "false",
        "only the tools that look: nothing is started, stopped or removed",
    ),
    setting(
        "timeout_s",
        SettingForm::Value("SECONDS"),
        "1800",
        "how long a run may take where the agent does not say; at most `max_timeout_s`",
    ),
    setting(
        "max_timeout_s",
        SettingForm::Value("SECONDS"),
        "7200",
        "the longest that an agent may ask for; at most 86400",
    ),
    setting(
        "max_runs",
        SettingForm::Value("N"),
        "10",
        "runs at once, of all servers of the state folder, nested ones not counted; 1 to 1000",
    ),
    setting("max_queue", SettingForm::Value("N"), "100", "runs that wait for a free place; 0 to 10000"),
    setting("max_depth", SettingForm::Value("N"), "2", "how deep runs may be nested; 0 to 16"),
    setting("max_tree_runs", SettingForm::Value("N"), "8", "live runs below one that is not nested; 0 to 1000"),
    setting(
        "starts_per_minute",
        SettingForm::Value("N"),
        "30",
        "starts in a minute, of all servers of the state folder; 1 to 10000",
    ),
    setting(
        "budget_usd",
        SettingForm::Value("USD"),
        "10",
        "the most that a run and all below it may spend, and the default where the agent asks for none; 0 or none: no limit",
    ),
    setting("max_tokens", SettingForm::Value("N"), "none", "the same in tokens"),
    setting(
        "server_budget_usd",
        SettingForm::Value("USD"),
        "none",
        "the most that all runs that one server starts may spend",
    ),
    setting(
        "day_budget_usd",
        SettingForm::Value("USD"),
        "none",
        "the most that all runs of the state folder may spend in a day (UTC)",
    ),
    setting(
        "unknown_cost",
        SettingForm::Value("WORD"),
        "warn",
        "what a run comes to whose cost MassGen does not know: warn, deny or estimate (by `prices`)",
    ),
    setting(
        "prices",
        SettingForm::FileOnly,
        "none",
        "`[prices.\"model\"]` with `input` and `output`: USD per million tokens",
    ),
    setting(
        "read_folders",
        SettingForm::Value("PATHS"),
        "none",
        "more folders that configs and question files may come from",
    ),
    setting(
        "trusted_configs",
        SettingForm::Value("PATHS"),
        "none",
        "files and folders whose configs may bring in commands, MCP servers, tools, docker and wider paths, besides MassGen's examples and `~/.config/massgen`",
    ),
    setting("allow_commands", SettingForm::Switch, "false", "any config may, and overrides too"),
    setting(
        "pass_env",
        SettingForm::Value("NAMES"),
        "none",
        "more environment variables that reach MassGen: names, or `PREFIX_*`",
    ),
    setting("env_file", SettingForm::Value("FILE"), "none", "a .env file with keys for MassGen"),
    setting(
        "mask_env",
        SettingForm::Value("NAMES"),
        "none",
        "more environment variables whose values are secrets: names, or `PREFIX_*`",
    ),
    setting(
        "show_env",
        SettingForm::Value("NAMES"),
        "none",
        "environment variables that hold no secret although they are named like one: names, or `PREFIX_*`",
    ),
    setting("keep_days", SettingForm::Value("N"), "30", "days after its end for which a run is kept; 0: for ever"),
    setting("keep_runs", SettingForm::Value("N"), "1000", "ended runs that are kept, the latest; 0: all"),
    setting(
        "keep_gb",
        SettingForm::Value("GB"),
        "20",
        "disk space (GB of 10^9 bytes) for ended runs, the latest of them; 0: no limit",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_derived_from_the_key() {
        let row = find("max_wait_s").expect("row");
        assert_eq!(row.flag().as_deref(), Some("--max-wait-s"));
        assert_eq!(row.variable().as_deref(), Some("MASSGEN_MCP_MAX_WAIT_S"));
        assert_eq!(find("prices").expect("row").flag(), None);
    }

    #[test]
    fn every_key_is_unique() {
        let keys: std::collections::BTreeSet<_> = TABLE.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), TABLE.len());
    }
}
