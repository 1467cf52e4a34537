//! `massgen-mcp completions`: prints the script with which a shell completes commands and flags. It writes no file.

use std::io::Write;
use std::process::ExitCode;

/// A supported shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// For ~/.local/share/bash-completion/completions/massgen-mcp.
    Bash,
    /// For a file `_massgen-mcp` in a folder of $fpath.
    Zsh,
    /// For ~/.config/fish/completions/massgen-mcp.fish.
    Fish,
}

/// Prints the completion script for a command line, without hidden subcommands.
pub fn completions(shell: Shell, command: &clap::Command) -> ExitCode {
    let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned();
    let about = command.get_about().cloned().unwrap_or_default();
    let arguments = command.get_arguments().cloned();
    let mut command = clap::Command::new("massgen-mcp").about(about).args(arguments).subcommands(visible);
    let target_shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Generate into a buffer: the library would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(target_shell, &mut command, "massgen-mcp", &mut script);
    let _written = std::io::stdout().write_all(&script);
    ExitCode::SUCCESS
}
