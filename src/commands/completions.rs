//! `massgen-mcp completions`: what a shell needs to complete commands and flags, on standard output. It touches no file.

use std::io::Write;
use std::process::ExitCode;

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// For ~/.local/share/bash-completion/completions/massgen-mcp.
    Bash,
    /// For a file `_massgen-mcp` in a folder of $fpath.
    Zsh,
    /// For ~/.config/fish/completions/massgen-mcp.fish.
    Fish,
}

/// Prints the completions of a command line, but for what is hidden.
pub fn completions(shell: Shell, command: &clap::Command) -> ExitCode {
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned();
    let about = command.get_about().cloned().unwrap_or_default();
    let arguments = command.get_arguments().cloned();
    let mut command = clap::Command::new("massgen-mcp").about(about).args(arguments).subcommands(shown);
    let kind = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Buffered first: the library would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut command, "massgen-mcp", &mut script);
    let _nobody = std::io::stdout().write_all(&script);
    ExitCode::SUCCESS
}
