//! The checks that only read: kernel, folders, settings, keys, MassGen and its flags. They change no run and no setting.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::CheckResult;
use crate::commands::context::massgen_program;
use crate::commands::next_steps::person_words;
use crate::massgen::configs::{self, ConfigPlaces, Tree};
use crate::massgen::docker::DockerEngine;
use crate::massgen::program::{self, ProgramError};
use crate::massgen::variables::VariableSources;
use crate::massgen::{self, broken_import, flags, launch, text};
use crate::refusal::Refusal;
use crate::registry::{FAILED_IMPORTS_FOLDER, StateFolder};
use crate::run::{ConfigChoice, Context};
use crate::secrets;
use crate::settings::Settings;
use crate::supervisor::kernel;
use crate::watch;

/// Less free space gives a warning: each run leaves logs of some megabytes.
const MIN_FREE_BYTES: u64 = 1_000_000_000;

pub(super) fn kernel() -> CheckResult {
    let release = kernel::kernel_release().unwrap_or_else(|| "of unknown release".to_owned());
    let (major, minor) = kernel::MIN_LINUX;
    if let Err(missing) = kernel::check_features() {
        let hint = format!("runs need Linux {major}.{minor} or newer, and a container that allows it");
        return CheckResult::problem("kernel", text::error_chain(&missing), hint);
    }
    match kernel::parse_release(&release) {
        Some(version) if version < kernel::MIN_LINUX => {
            let hint = format!("use Linux {major}.{minor} or newer");
            CheckResult::problem("kernel", format!("Linux {release} is too old"), hint)
        }
        Some(_) | None => CheckResult::ok("kernel", format!("Linux {release}, with child subreapers and pidfds")),
    }
}

pub(super) fn inotify() -> CheckResult {
    let hint = "raise fs.inotify.max_user_instances (sysctl), or end programs that use them up";
    match watch::probe_inotify() {
        Ok(allowed) if (1..128).contains(&allowed.instances) => {
            let message = format!("only {} instances for all programs of yours", allowed.instances);
            CheckResult::warning("inotify", message, hint)
        }
        Ok(allowed) => CheckResult::ok(
            "inotify",
            format!("{} instances and {} watches allowed", allowed.instances, allowed.watches),
        ),
        Err(error) => {
            CheckResult::warning("inotify", format!("none to be had: {error}; waits look twice a second instead"), hint)
        }
    }
}

pub(super) fn state_folder(settings: &Settings) -> CheckResult {
    let name = "state folder";
    let home = settings.state_folder.display();
    if let Err(error) = StateFolder::open(&settings.state_folder) {
        return CheckResult::from_refusal(name, &Refusal::from(error));
    }
    let written = tempfile::tempfile_in(&settings.state_folder).and_then(|mut file| file.write_all(&[0; 4096]));
    if let Err(error) = written {
        let hint = "make it yours and make room, or name another with --home";
        return CheckResult::problem(name, format!("cannot write in `{home}`: {error}"), hint);
    }
    let mode = settings.state_folder.metadata().map(|meta| meta.permissions().mode() & 0o077).unwrap_or_default();
    if mode != 0 {
        let message = format!("`{home}` can be entered by others, and runs keep questions and answers there");
        return CheckResult::warning(name, message, format!("chmod 700 {home}"));
    }
    let free =
        rustix::fs::statvfs(&settings.state_folder).map(|space| space.f_bavail * space.f_frsize).unwrap_or(u64::MAX);
    if free < MIN_FREE_BYTES {
        let message = format!("`{home}` has {:.1} GB left", free as f64 / 1e9);
        return CheckResult::warning(name, message, "make room, or forget old runs with `massgen-mcp prune`");
    }
    CheckResult::ok(name, format!("`{home}` is yours and can be written"))
}

pub(super) fn settings_file(settings: &Settings) -> CheckResult {
    let file = settings.file.as_ref().map_or("no file".to_owned(), |path| format!("`{}`", path.display()));
    CheckResult::ok("settings", file)
}

pub(super) fn project(settings: &Settings) -> CheckResult {
    match &settings.project {
        Ok(project) => CheckResult::ok("project", format!("`{}`", project.display())),
        Err(none) => {
            let refusal = Refusal::no_project(none);
            CheckResult::warning("project", refusal.message(), refusal.hint(person_words))
        }
    }
}

/// A note for missing keys: a client may start its server with other variables than this shell has.
const VARIABLES_NOTE: &str = "this shell's variables, env_file and the user's .env files are looked at; a client hands its server the \
                     variables that its own settings name";

pub(super) fn keys(settings: &Settings) -> CheckResult {
    if let Err(error) = settings.env_file.as_deref().map(secrets::read_env_file).transpose() {
        return CheckResult::problem("keys", text::error_chain(&error), "correct env_file in the settings");
    }
    let names = variable_sources(settings, None).names().into_iter();
    let keys: Vec<_> = names.filter(|name| secrets::is_secret_name(name)).collect();
    if keys.is_empty() {
        return CheckResult::warning(
            "keys",
            "no API key is set: only rehearsals and local models can run",
            VARIABLES_NOTE,
        );
    }
    CheckResult::ok("keys", format!("MassGen would have {}", keys.join(", ")))
}

/// The sources of variables for a run without access to the project.
fn variable_sources<'a>(settings: &'a Settings, package: Option<&'a Path>) -> VariableSources<'a> {
    VariableSources {
        home: settings.user_home.as_deref(),
        env_file: settings.env_file.as_deref(),
        pass_env: &settings.pass_env,
        project: settings.project_folder(),
        context: Context::None,
        package,
    }
}

pub(super) fn program(settings: &Settings) -> (Option<PathBuf>, CheckResult) {
    let program = match massgen_program(settings) {
        Ok(program) => program,
        Err(error) => {
            let hint = match &error {
                ProgramError::NotExecutable(_) => "correct --massgen or MASSGEN_MCP_MASSGEN, or leave it out",
                ProgramError::Missing { .. } => "run `massgen-mcp setup` once, or name one with --massgen",
            };
            return (None, CheckResult::problem("MassGen", text::error_chain(&error), hint));
        }
    };
    if let Some(problem) = broken_import::version_problem(&program) {
        return (Some(program), CheckResult::problem("MassGen", problem.message, person_words(&problem.next)));
    }
    let path = program.display();
    let tested = massgen::VERSION;
    let check = match program::version(&program) {
        Some(version) if version == tested => CheckResult::ok("MassGen", format!("{version} at {path}")),
        version => {
            let version = version.unwrap_or_else(|| "of unknown version".to_owned());
            let hint =
                format!("{tested} is the version that was tried; `massgen-mcp setup` makes one where there is none");
            CheckResult::warning("MassGen", format!("{version} at {path}"), hint)
        }
    };
    (Some(program), check)
}

/// MassGen starts the tools of its agents by the bare name `fastmcp`.
pub(super) fn tools(program: &Path) -> CheckResult {
    let folder = program::scripts(program);
    if program::has_fastmcp(program) {
        return CheckResult::ok("tools", format!("`fastmcp` is in `{}`", folder.display()));
    }
    let message =
        format!("`fastmcp` is not in `{}`, so command_line and other tools of agents do not start", folder.display());
    CheckResult::warning(
        "tools",
        message,
        "name the massgen of its own environment with --massgen, or install it again",
    )
}

pub(super) fn default_config(settings: &Settings, program: &Path) -> CheckResult {
    let name = "default config";
    let package = program::package(program);
    let home = settings.user_home.as_deref();
    let sources = ConfigPlaces { project: settings.project_folder(), home, package: package.as_deref() };
    let path = match configs::resolve(None, sources) {
        Ok(ConfigChoice::File(path)) => path,
        Ok(ConfigChoice::Rehearsal(_)) | Err(_) => {
            return CheckResult::ok(name, "there is none; each run has to name its config, such as @examples/NAME");
        }
    };
    let shown = path.display();
    let tree = std::fs::read_to_string(&path).ok().and_then(|text| Tree::parse_file(&path, &text).ok());
    let Some(tree) = tree else {
        return CheckResult::warning(
            name,
            format!("`{shown}` cannot be read as a config"),
            "mend it, or name another with each run",
        );
    };
    let variables = variable_sources(settings, package.as_deref());
    let available = variables.names();
    let engine = || DockerEngine::find(variables.docker_host().as_deref());
    let warnings = configs::warnings(&tree, Context::None, |variable| available.contains(variable), engine);
    let messages: Vec<String> = warnings.iter().map(|warning| warning.message.clone()).collect();
    let Some(first) = warnings.into_iter().next() else {
        return CheckResult::ok(name, format!("`{shown}` has all of its keys"));
    };
    let hint = if first.code == "api_key_missing" { VARIABLES_NOTE.to_owned() } else { person_words(&first.next) };
    CheckResult::warning(name, format!("`{shown}`: {}", messages.join("; ")), hint)
}

pub(super) async fn flags(settings: &Settings, program: &Path) -> CheckResult {
    let hint = "use the MassGen that `massgen-mcp setup` makes, or look at its installation";
    match flags::missing(program).await {
        Ok(missing) if missing.is_empty() => {
            // MassGen starts, so a recorded import failure is out of date.
            broken_import::clear_failure(program, &settings.state_folder.join(FAILED_IMPORTS_FOLDER));
            CheckResult::ok("flags", format!("MassGen knows all {} that it is started with", launch::FLAGS.len()))
        }
        Ok(missing) => CheckResult::problem("flags", format!("MassGen does not know {}", missing.join(", ")), hint),
        Err(error) => CheckResult::problem("flags", text::error_chain(&error), hint),
    }
}
