//! Which files a start may read, who may have written them, and what they may therefore contain. A file is opened once
//! and judged by the open file, so a link that changes meanwhile has no effect. This module does not call MassGen and
//! starts nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{overrides, project};
use crate::massgen::configs::{self, EditError, Tree};
use crate::massgen::variables::env_files;
use crate::massgen::{names, text};
use crate::refusal::Refusal;
use crate::run::Context;
use crate::secrets;
use crate::settings::Settings;

/// The largest config, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The largest question, in bytes: it goes into a config file, and MassGen repeats it in every status.json.
pub(super) const MAX_QUESTION_BYTES: u64 = 1 << 20;

/// Who may have written a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfigTrust {
    /// The operator or MassGen's authors wrote it.
    Trusted,
    /// An agent may have written it: agents can write to its folder.
    AgentWritable,
}

/// Reads an allowed config, and checks it with its overrides against the operator's policy.
pub(super) fn read_config(
    settings: &Settings,
    path: &Path,
    overrides: Option<&Value>,
    package: Option<&Path>,
) -> Result<String, Refusal> {
    let file = read_text_file(path, MAX_CONFIG_BYTES).map_err(|error| {
        let message = format!("cannot read `{}`: {error}", path.display());
        Refusal::new("config_missing", message, "give a config that is a UTF-8 text file")
    })?;
    let trust = config_trust(&file.canonical_path, settings, package).ok_or_else(|| {
        let message = format!("`{}` is outside of the folders that configs may come from", path.display());
        let hint = "use a config of the project or @examples/NAME (list_configs); only the operator can allow more, by \
                    read_folders in the settings";
        project::explain_missing(settings, Refusal::new("config_outside", message, hint))
    })?;
    check_policy(settings, path, &file.text, overrides, trust)?;
    Ok(file.text)
}

fn check_policy(
    settings: &Settings,
    path: &Path,
    original: &str,
    patch: Option<&Value>,
    trust: ConfigTrust,
) -> Result<(), Refusal> {
    if settings.trust.allow_commands {
        return Ok(());
    }
    let read = Tree::parse_file(path, original);
    check_overrides(settings, patch, read.as_ref().ok())?;
    if trust == ConfigTrust::Trusted {
        return Ok(());
    }
    let mut tree = read.map_err(|error| invalid_config(path, &error))?;
    if let Some(patch) = patch {
        tree.merge(patch).map_err(|error| overrides::edit_refusal(&error))?;
    }
    check_tree(settings, Some(&tree), "the config")
}

/// Refuses overrides that add what an agent may not add. Values that the config has already are allowed.
pub(super) fn check_overrides(
    settings: &Settings,
    patch: Option<&Value>,
    config: Option<&Tree>,
) -> Result<(), Refusal> {
    let changes = patch.map(|patch| config.map_or_else(|| patch.clone(), |config| config.effective_patch(patch)));
    check_tree(settings, overrides::parse(changes.as_ref())?.as_ref(), "overrides")
}

/// Refuses a tree with content that an agent may not add.
fn check_tree(settings: &Settings, tree: Option<&Tree>, subject: &str) -> Result<(), Refusal> {
    let Some(tree) = tree.filter(|_| !settings.trust.allow_commands) else { return Ok(()) };
    let project = settings.project_folder();
    let violation = configs::find_violation(tree, project).map(|violation| (violation.key, violation.reason));
    let violation = violation.or_else(|| {
        let leaves_allowed_folders =
            |path: &Path| path.canonicalize().is_ok_and(|canonical| !is_readable_place(&canonical, settings));
        // Without a project, relative paths are relative to the run's own folder.
        let paths = project.map(|project| configs::paths_in_project(tree, project)).unwrap_or_default();
        let outside = paths.into_iter().find(|(_, path)| leaves_allowed_folders(path));
        outside.map(|(key, _)| (key, "leads out of the project folder by a link"))
    });
    let Some((key, reason)) = violation else { return Ok(()) };
    let message = format!("{subject} may not have `{key}`: {}", reason);
    let hint = "leave it out or use another config (list_configs query ready); only the user can allow it: configs in \
                ~/.config/massgen/agents are trusted, and so are folders in the setting trusted_configs; allow_commands allows all";
    Err(Refusal::new("config_forbidden", message, hint))
}

/// Refuses a start in which MassGen would read an `.env` file that an agent can write and that sets more than API
/// keys: other variables could send the operator's keys elsewhere.
pub(super) fn check_env_files(settings: &Settings, context: Context, package: Option<&Path>) -> Result<(), Refusal> {
    if settings.trust.allow_commands {
        return Ok(());
    }
    let files = env_files(context, package, settings.project_folder());
    for file in files.into_iter().filter(|file| is_readable_place(file, settings)) {
        let trusted = settings.trust.trusted_configs.iter().any(|folder| file.starts_with(folder));
        let variables = secrets::read_env_file(&file).unwrap_or_default();
        let non_secret = variables.iter().map(|(name, _)| name).find(|name| !secrets::is_secret_name(name));
        if let Some(name) = non_secret.filter(|_| !trusted) {
            let message = format!(
                "MassGen would read `{}`, and {} there is no key: an agent could have put it there",
                file.display(),
                text::single_line(name, 80)
            );
            let hint = "only the operator can help: move that variable into the server's env_file, or name the file in \
                        trusted_configs; with context: none a configs/.env is not read";
            return Err(Refusal::new("env_file_forbidden", message, hint));
        }
    }
    Ok(())
}

/// Reads a question file.
pub(super) fn read_question_file(settings: &Settings, name: &str) -> Result<String, Refusal> {
    let name = &*names::local_path(name);
    let path = &settings.project_folder().unwrap_or(Path::new("")).join(name);
    let unreadable = |reason: String| {
        let message = format!("cannot read the question file `{}`: {reason}", path.display());
        Refusal::new("question_file_unreadable", message, "give a UTF-8 text file, by a path relative to the project")
    };
    if path.is_relative() {
        return Err(project::explain_missing(settings, unreadable("it is a relative path".to_owned())));
    }
    let file = read_text_file(path, MAX_QUESTION_BYTES).map_err(|reason| unreadable(reason.to_string()))?;
    if !is_readable_place(&file.canonical_path, settings) {
        let outside = unreadable("it is outside of the folders that question files may come from".to_owned());
        return Err(project::explain_missing(settings, outside));
    }
    // Windows editors write a byte order mark there, which is not part of the question.
    Ok(file.text.strip_prefix('\u{feff}').unwrap_or(&file.text).to_owned())
}

/// The refusal of a config that cannot be parsed.
pub(super) fn invalid_config(path: &Path, error: &EditError) -> Refusal {
    let message = format!("`{}` cannot be read: {}", path.display(), text::error_chain(error));
    Refusal::new("config_invalid", message, "correct the config, then call again")
}

/// A text file, with its real path.
struct TextFile {
    canonical_path: PathBuf,
    text: String,
}

/// Opens and reads a regular file; a pipe or a device is refused.
fn read_text_file(path: &Path, max_bytes: u64) -> io::Result<TextFile> {
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(without_waiting).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if meta.len() > max_bytes {
        return Err(io::Error::other(format!("it has {} bytes, and {max_bytes} is the most", meta.len())));
    }
    let canonical_path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(TextFile { canonical_path, text })
}

/// The trust in a file by its real path, with links resolved; `None` if configs may not come from there.
fn config_trust(canonical: &Path, settings: &Settings, package: Option<&Path>) -> Option<ConfigTrust> {
    let is_in = |path: &Path| path.canonicalize().is_ok_and(|path| canonical.starts_with(path));
    let named = settings.trust.trusted_configs.iter().any(|path| is_in(path));
    // A process that can write into MassGen's own package can already do more than write configs.
    let is_example = package.is_some_and(|package| is_in(&package.join("configs")));
    let is_open = is_readable_place(canonical, settings);
    let is_user_file = settings.user_home.as_deref().is_some_and(|home| is_in(&home.join(".config/massgen")));
    if named || is_example || (is_user_file && !is_open) {
        return Some(ConfigTrust::Trusted);
    }
    is_open.then_some(ConfigTrust::AgentWritable)
}

/// Whether a file, with links resolved, is in the project or in another folder that the operator allows.
fn is_readable_place(canonical: &Path, settings: &Settings) -> bool {
    let folders = settings.trust.read_folders.iter().map(PathBuf::as_path).chain(settings.project_folder());
    folders.into_iter().any(|folder| canonical.starts_with(folder))
}
