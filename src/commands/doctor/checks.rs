//! The checks that only look: kernel, folders, settings, keys, MassGen and its flags. None of them changes anything.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Check;
use crate::commands::context::program_of;
use crate::massgen::configs::{self, Sources, Tree};
use crate::massgen::docker::Engine;
use crate::massgen::program::{self, ProgramError};
use crate::massgen::variables::Origins;
use crate::massgen::{self, broken, flags, launch, text};
use crate::refusal::Refusal;
use crate::registry::{FAILED_IMPORTS, StateFolder};
use crate::run::{ConfigChoice, Context};
use crate::secrets;
use crate::settings::Settings;
use crate::supervisor::kernel;
use crate::watch;

/// Runs leave logs of some megabytes each; below this there is room for few.
const ENOUGH_BYTES: u64 = 1_000_000_000;

pub(super) fn kernel() -> Check {
    let release = kernel::release().unwrap_or_else(|| "of unknown release".to_owned());
    let (major, minor) = kernel::LINUX_AT_LEAST;
    if let Err(missing) = kernel::try_out() {
        let hint = format!("runs need Linux {major}.{minor} or newer, and a container that allows it");
        return Check::problem("kernel", text::chain(&missing), hint);
    }
    match kernel::version(&release) {
        Some(version) if version < kernel::LINUX_AT_LEAST => {
            let hint = format!("use Linux {major}.{minor} or newer");
            Check::problem("kernel", format!("Linux {release} is too old"), hint)
        }
        Some(_) | None => Check::ok("kernel", format!("Linux {release}, with child subreapers and pidfds")),
    }
}

pub(super) fn inotify() -> Check {
    let hint = "raise fs.inotify.max_user_instances (sysctl), or end programs that use them up";
    match watch::try_out() {
        Ok(allowed) if (1..128).contains(&allowed.instances) => {
            let message = format!("only {} instances for all programs of yours", allowed.instances);
            Check::warning("inotify", message, hint)
        }
        Ok(allowed) => {
            Check::ok("inotify", format!("{} instances and {} watches allowed", allowed.instances, allowed.watches))
        }
        Err(error) => {
            Check::warning("inotify", format!("none to be had: {error}; waits look twice a second instead"), hint)
        }
    }
}

pub(super) fn state_folder(settings: &Settings) -> Check {
    let name = "state folder";
    let home = settings.home.display();
    if let Err(error) = StateFolder::open(&settings.home) {
        return Check::refused(name, &Refusal::from(error));
    }
    let tried = tempfile::tempfile_in(&settings.home).and_then(|mut file| file.write_all(&[0; 4096]));
    if let Err(error) = tried {
        let hint = "make it yours and make room, or name another with --home";
        return Check::problem(name, format!("cannot write in `{home}`: {error}"), hint);
    }
    let mode = settings.home.metadata().map(|meta| meta.permissions().mode() & 0o077).unwrap_or_default();
    if mode != 0 {
        let message = format!("`{home}` can be entered by others, and runs keep questions and answers there");
        return Check::warning(name, message, format!("chmod 700 {home}"));
    }
    let free = rustix::fs::statvfs(&settings.home).map(|space| space.f_bavail * space.f_frsize).unwrap_or(u64::MAX);
    if free < ENOUGH_BYTES {
        let message = format!("`{home}` has {:.1} GB left", free as f64 / 1e9);
        return Check::warning(name, message, "make room, or forget old runs with `massgen-mcp prune`");
    }
    Check::ok(name, format!("`{home}` is yours and can be written"))
}

pub(super) fn settings_file(settings: &Settings) -> Check {
    let file = settings.file.as_ref().map_or("no file".to_owned(), |path| format!("`{}`", path.display()));
    Check::ok("settings", file)
}

pub(super) fn project(settings: &Settings) -> Check {
    match &settings.project {
        Ok(project) => Check::ok("project", format!("`{}`", project.display())),
        Err(none) => {
            let refusal = Refusal::no_project(none);
            Check::warning("project", refusal.message(), refusal.hint())
        }
    }
}

/// A client may start its server with other variables than this shell has.
const WHOSE: &str = "this shell's variables, env_file and the user's .env files are looked at; a client hands its server the \
                     variables that its own settings name";

pub(super) fn keys(settings: &Settings) -> Check {
    if let Err(error) = settings.env_file.as_deref().map(secrets::env_file).transpose() {
        return Check::problem("keys", text::chain(&error), "correct env_file in the settings");
    }
    let names = origins(settings, None).names().into_iter();
    let keys: Vec<_> = names.filter(|name| secrets::looks_like_a_key(name)).collect();
    if keys.is_empty() {
        return Check::warning("keys", "no API key is set: only rehearsals and local models can run", WHOSE);
    }
    Check::ok("keys", format!("MassGen would have {}", keys.join(", ")))
}

/// Where the variables of a run come from that is given nothing of the project.
fn origins<'a>(settings: &'a Settings, package: Option<&'a Path>) -> Origins<'a> {
    Origins {
        home: settings.user_home.as_deref(),
        env_file: settings.env_file.as_deref(),
        pass_env: &settings.pass_env,
        project: settings.project_folder(),
        context: Context::None,
        package,
    }
}

pub(super) fn program(settings: &Settings) -> (Option<PathBuf>, Check) {
    let found = match program_of(settings) {
        Ok(found) => found,
        Err(error) => {
            let hint = match &error {
                ProgramError::NotExecutable(_) => "correct --massgen or MASSGEN_MCP_MASSGEN, or leave it out",
                ProgramError::Missing { .. } => "run `massgen-mcp setup` once, or name one with --massgen",
            };
            return (None, Check::problem("MassGen", text::chain(&error), hint));
        }
    };
    if let Some(problem) = broken::by_versions(&found) {
        return (Some(found), Check::problem("MassGen", problem.message, problem.hint));
    }
    let at = found.display();
    let tried = massgen::VERSION;
    let check = match program::version(&found) {
        Some(version) if version == tried => Check::ok("MassGen", format!("{version} at {at}")),
        version => {
            let version = version.unwrap_or_else(|| "of unknown version".to_owned());
            let hint =
                format!("{tried} is the version that was tried; `massgen-mcp setup` makes one where there is none");
            Check::warning("MassGen", format!("{version} at {at}"), hint)
        }
    };
    (Some(found), check)
}

/// MassGen starts the tools of its agents by the bare name `fastmcp`.
pub(super) fn tools(program: &Path) -> Check {
    let folder = program::scripts(program);
    if program::has_fastmcp(program) {
        return Check::ok("tools", format!("`fastmcp` is in `{}`", folder.display()));
    }
    let message =
        format!("`fastmcp` is not in `{}`, so command_line and other tools of agents do not start", folder.display());
    Check::warning("tools", message, "name the massgen of its own environment with --massgen, or install it again")
}

pub(super) fn default_config(settings: &Settings, program: &Path) -> Check {
    let name = "default config";
    let package = program::package(program);
    let home = settings.user_home.as_deref();
    let sources = Sources { project: settings.project_folder(), home, package: package.as_deref() };
    let path = match configs::resolve(None, sources) {
        Ok(ConfigChoice::File(path)) => path,
        Ok(ConfigChoice::Rehearsal(_)) | Err(_) => {
            return Check::ok(name, "there is none; each run has to name its config, such as @examples/NAME");
        }
    };
    let at = path.display();
    let tree = std::fs::read_to_string(&path).ok().and_then(|text| Tree::of_file(&path, &text).ok());
    let Some(tree) = tree else {
        return Check::warning(
            name,
            format!("`{at}` cannot be read as a config"),
            "mend it, or name another with each run",
        );
    };
    let origins = origins(settings, package.as_deref());
    let there = origins.names();
    let engine = || Engine::find(origins.docker_host().as_deref());
    let warnings = configs::warnings(&tree, Context::None, |variable| there.contains(variable), engine);
    let messages: Vec<String> = warnings.iter().map(|warning| warning.message.clone()).collect();
    let Some(first) = warnings.into_iter().next() else {
        return Check::ok(name, format!("`{at}` has all of its keys"));
    };
    let hint = if first.code == "api_key_missing" { WHOSE.to_owned() } else { first.hint };
    Check::warning(name, format!("`{at}`: {}", messages.join("; ")), hint)
}

pub(super) async fn flags(settings: &Settings, program: &Path) -> Check {
    let hint = "use the MassGen that `massgen-mcp setup` makes, or look at its installation";
    match flags::missing(program).await {
        Ok(missing) if missing.is_empty() => {
            // It starts: a failure that was seen before no longer holds.
            broken::forget(program, &settings.home.join(FAILED_IMPORTS));
            Check::ok("flags", format!("MassGen knows all {} that it is started with", launch::FLAGS.len()))
        }
        Ok(missing) => Check::problem("flags", format!("MassGen does not know {}", missing.join(", ")), hint),
        Err(error) => Check::problem("flags", text::chain(&error), hint),
    }
}
