//! An isolated workspace for a measurement: a state folder, a project, a home folder, and a scripted model in this process, without any
//! keys. Its processes and files are removed at the end, also after an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use massgen_mcp::massgen::program::{self, ProgramPlaces};
use massgen_mcp::massgen::setup;
use massgen_mcp::registry::FAILED_IMPORTS_FOLDER;
use massgen_mcp::rehearsal::{self, Rehearsal};
use tempfile::TempDir;

use crate::processes;

/// The programs to measure.
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) massgen: PathBuf,
}

impl Programs {
    pub(crate) fn find() -> anyhow::Result<Programs> {
        let named = std::env::var_os("MASSGEN_MCP_MASSGEN").map(PathBuf::from);
        let xdg = || std::env::var_os("XDG_STATE_HOME").map(|state| PathBuf::from(state).join("massgen-mcp"));
        let user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state/massgen-mcp"));
        let home = std::env::var_os("MASSGEN_MCP_HOME").map(PathBuf::from).or_else(xdg).or_else(user);
        let home = home.context("HOME")?;
        let (own_venv, seen) = (setup::venv_folder(&home), home.join(FAILED_IMPORTS_FOLDER));
        let (named, project) = (named.as_deref(), Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        let massgen = program::find(ProgramPlaces { named, project, own_venv: &own_venv, failed_imports: &seen })
            .context("`cargo run --release -- setup` installs MassGen")?;
        Ok(Programs { server: PathBuf::from(env!("CARGO_BIN_EXE_massgen-mcp")), massgen })
    }

    /// The interpreter in the first line of MassGen's program.
    pub(crate) fn python(&self) -> anyhow::Result<PathBuf> {
        let program = std::fs::read_to_string(&self.massgen)?;
        let line = program.lines().next().and_then(|line| line.strip_prefix("#!"));
        Ok(PathBuf::from(line.context("MassGen's program names no interpreter")?))
    }
}

/// The workspace of one way to run MassGen.
pub(crate) struct Workspace<'a> {
    root: TempDir,
    programs: &'a Programs,
    model: Rehearsal,
}

impl<'a> Workspace<'a> {
    pub(crate) async fn new(programs: &'a Programs) -> anyhow::Result<Workspace<'a>> {
        let root = tempfile::tempdir()?;
        for folder in ["state", "project", "home"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        Ok(Workspace { root, programs, model: rehearsal::serve().await? })
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// Writes a config with the agents of a rehearsal, followed by further settings of MassGen.
    pub(crate) fn config(&self, rehearsal: &str, settings: &str) -> anyhow::Result<()> {
        let yaml = rehearsal::config_yaml(rehearsal, &self.model.base_url())?;
        Ok(std::fs::write(self.project().join("team.yaml"), yaml + settings)?)
    }

    /// A command with the environment of this workspace.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let own = self.programs.massgen.parent().unwrap_or(Path::new("/"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("HOME", self.root.path().join("home")).env("PATH", format!("{}:{path}", own.display()));
        command.env("OPENAI_API_KEY", "rehearsal").env("MASSGEN", &self.programs.massgen).env("LANG", "C.UTF-8");
        // The server sets this for its runs too: without it litellm requests prices from the network.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("PYTHONUNBUFFERED", "1");
        // Each run of MassGen requests prices too. A closed port refuses immediately; name resolution can take seconds.
        for proxy in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        command.current_dir(self.project()).stderr(Stdio::null());
        command
    }

    /// This server. A version without warm starts ignores `warm`.
    pub(crate) fn server(&self, warm: bool) -> Command {
        let mut command = self.command(&self.programs.server);
        command.arg("--home").arg(self.root.path().join("state")).arg("--project").arg(self.project());
        command.arg("--massgen").arg(&self.programs.massgen).args(["--max-runs", "100", "--starts-per-minute", "1000"]);
        command.env("MASSGEN_MCP_TRUSTED_CONFIGS", self.project()).env("MASSGEN_MCP_WARM", warm.to_string());
        command
    }

    /// MassGen itself, with the command line from its automation guide.
    pub(crate) fn massgen(&self, question: &str) -> Command {
        let mut command = self.command(&self.programs.massgen);
        command.args(["--automation", "--no-parse-at-references", "--config", "team.yaml", "--", question]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Workspace<'_> {
    /// Leaves no run behind, also after an error.
    fn drop(&mut self) {
        processes::kill_all(self.root.path());
    }
}
