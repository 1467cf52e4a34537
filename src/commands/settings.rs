//! `massgen-mcp settings`: prints the value and the source of each setting. No setting is a secret.

use std::process::ExitCode;

use super::output::print_line;
use crate::settings::Settings;

/// Shows the settings.
pub fn settings(settings: &Settings) -> ExitCode {
    match &settings.file {
        Some(path) => print_line(format_args!("settings file: {}\n", path.display())),
        None => print_line("settings file: none\n"),
    }
    let rows = settings.effective_settings();
    let width = |text: fn(&crate::settings::EffectiveSetting) -> usize| rows.iter().map(text).max().unwrap_or_default();
    let (keys, values) = (width(|row| row.key.len()), width(|row| row.value.chars().count()).min(MAX_COLUMN_CHARS));
    for row in rows {
        print_line(format_args!("{:keys$}  {:values$}  {}", row.key, row.value, row.source.describe(row.key)));
    }
    ExitCode::SUCCESS
}

/// The widest column; only the row of a longer value is wider.
const MAX_COLUMN_CHARS: usize = 40;
