//! `massgen-mcp settings`: every setting as it is in effect, and who gave it. It shows no secret, since no setting is one.

use std::process::ExitCode;

use super::output::print_line;
use crate::settings::Settings;

/// Shows the settings.
pub fn settings(settings: &Settings) -> ExitCode {
    match &settings.file {
        Some(path) => print_line(format_args!("settings file: {}\n", path.display())),
        None => print_line("settings file: none\n"),
    }
    let all = settings.effective_settings();
    let width = |text: fn(&crate::settings::EffectiveSetting) -> usize| all.iter().map(text).max().unwrap_or_default();
    let (keys, values) = (width(|row| row.key.len()), width(|row| row.value.chars().count()).min(MAX_COLUMN_CHARS));
    for row in all {
        print_line(format_args!("{:keys$}  {:values$}  {}", row.key, row.value, row.source.describe(row.key)));
    }
    ExitCode::SUCCESS
}

/// A longer value moves its own source only.
const MAX_COLUMN_CHARS: usize = 40;
