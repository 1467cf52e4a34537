//! A world of its own for a measuring: a state folder, a project and a home, a model that is scripted and answers from this
//! program, and nobody's keys. What is left in the end, whatever happened, is ended and removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use massgen_mcp::massgen::program::{self, ProgramPlaces};
use massgen_mcp::massgen::setup;
use massgen_mcp::registry::FAILED_IMPORTS_FOLDER;
use massgen_mcp::rehearsal::{self, Rehearsal};
use tempfile::TempDir;

use crate::processes;

/// The programs that are measured.
pub(crate) struct Place {
    pub(crate) server: PathBuf,
    pub(crate) massgen: PathBuf,
}

impl Place {
    pub(crate) fn find() -> anyhow::Result<Place> {
        let named = std::env::var_os("MASSGEN_MCP_MASSGEN").map(PathBuf::from);
        let xdg = || std::env::var_os("XDG_STATE_HOME").map(|state| PathBuf::from(state).join("massgen-mcp"));
        let user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state/massgen-mcp"));
        let home = std::env::var_os("MASSGEN_MCP_HOME").map(PathBuf::from).or_else(xdg).or_else(user);
        let home = home.context("HOME")?;
        let (own_venv, seen) = (setup::venv_folder(&home), home.join(FAILED_IMPORTS_FOLDER));
        let (named, project) = (named.as_deref(), Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        let massgen = program::find(ProgramPlaces { named, project, own_venv: &own_venv, failed_imports: &seen })
            .context("`cargo run --release -- setup` installs MassGen")?;
        Ok(Place { server: PathBuf::from(env!("CARGO_BIN_EXE_massgen-mcp")), massgen })
    }

    /// The interpreter that MassGen's program names in its first line.
    pub(crate) fn python(&self) -> anyhow::Result<PathBuf> {
        let program = std::fs::read_to_string(&self.massgen)?;
        let line = program.lines().next().and_then(|line| line.strip_prefix("#!"));
        Ok(PathBuf::from(line.context("MassGen's program names no interpreter")?))
    }
}

/// Where one way of running MassGen is measured.
pub(crate) struct World<'a> {
    root: TempDir,
    place: &'a Place,
    model: Rehearsal,
}

impl<'a> World<'a> {
    pub(crate) async fn new(place: &'a Place) -> anyhow::Result<World<'a>> {
        let root = tempfile::tempdir()?;
        for folder in ["state", "project", "home"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        Ok(World { root, place, model: rehearsal::serve().await? })
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    /// A config file whose agents play a rehearsal's parts, with more of MassGen's settings behind it.
    pub(crate) fn config(&self, rehearsal: &str, more: &str) -> anyhow::Result<()> {
        let yaml = rehearsal::config_yaml(rehearsal, &self.model.base_url())?;
        Ok(std::fs::write(self.project().join("team.yaml"), yaml + more)?)
    }

    /// A program with this world around it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let own = self.place.massgen.parent().unwrap_or(Path::new("/"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("HOME", self.root.path().join("home")).env("PATH", format!("{}:{path}", own.display()));
        command.env("OPENAI_API_KEY", "rehearsal").env("MASSGEN", &self.place.massgen).env("LANG", "C.UTF-8");
        // As the server has it for its runs: without it litellm asks the network for prices first.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("PYTHONUNBUFFERED", "1");
        // MassGen asks the network for prices too, run by run; a closed port says no at once, where a name may take seconds.
        for proxy in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        command.current_dir(self.project()).stderr(Stdio::null());
        command
    }

    /// This server; a version that knows of no warm starts takes no notice of `warm`.
    pub(crate) fn server(&self, warm: bool) -> Command {
        let mut command = self.command(&self.place.server);
        command.arg("--home").arg(self.root.path().join("state")).arg("--project").arg(self.project());
        command.arg("--massgen").arg(&self.place.massgen).args(["--max-runs", "100", "--starts-per-minute", "1000"]);
        command.env("MASSGEN_MCP_TRUSTED_CONFIGS", self.project()).env("MASSGEN_MCP_WARM", warm.to_string());
        command
    }

    /// MassGen itself, as its guide for automation starts it.
    pub(crate) fn massgen(&self, question: &str) -> Command {
        let mut command = self.command(&self.place.massgen);
        command.args(["--automation", "--no-parse-at-references", "--config", "team.yaml", "--", question]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for World<'_> {
    /// What failed must not leave its runs behind.
    fn drop(&mut self) {
        processes::end_all_of(self.root.path());
    }
}
