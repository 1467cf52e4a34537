//! An installed MassGen, located by its program's path: version, package, interpreter and fingerprint. It reads files and executes nothing.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The program by which MassGen starts its tool servers.
pub(super) const FASTMCP: &str = "fastmcp";

/// The folder of the installed `massgen` package, found through the interpreter in the program's first line.
pub fn package(program: &Path) -> Option<PathBuf> {
    site_packages(program)?.into_iter().map(|site| site.join("massgen")).find(|package| package.is_dir())
}

/// The installed version, from the package's metadata (MassGen has no `--version`).
pub fn version(program: &Path) -> Option<String> {
    metadata_folders(program).find_map(|folder| version_from_name(folder.file_name()?.to_str()?))
}

/// The version of a package in MassGen's environment.
pub fn version_of_package(program: &Path, package: &str) -> Option<String> {
    metadata_folders(program).find_map(|folder| {
        let (name, version) = folder.file_stem()?.to_str()?.rsplit_once('-')?;
        (name == package).then(|| version.to_owned())
    })
}

/// Identifies an installation; it changes as soon as any package is installed, updated or removed.
///
/// # Errors
///
/// If its files cannot be read, or the program is not a Python script.
pub fn installation_fingerprint(program: &Path) -> io::Result<String> {
    let python = interpreter(program).ok_or(io::ErrorKind::InvalidData)?;
    let fingerprints = [Some(program.to_owned()), Some(python.clone()), metadata(program)];
    let fingerprints: io::Result<Vec<_>> = fingerprints.iter().flatten().map(|path| file_fingerprint(path)).collect();
    Ok(format!("{program:?}\0{python:?}\0{:?}\0{:?}", fingerprints?, packages(program)))
}

/// The file attributes that an installation changes.
fn file_fingerprint(path: &Path) -> io::Result<(u64, i64, i64, u64)> {
    path.metadata().map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

fn version_from_name(name: &str) -> Option<String> {
    Some(name.strip_prefix("massgen-")?.strip_suffix(".dist-info")?.to_owned())
}

/// The metadata folder of the installed package, `massgen-*.dist-info`; every installation rewrites it.
pub fn metadata(program: &Path) -> Option<PathBuf> {
    metadata_folders(program)
        .find(|folder| folder.file_name().and_then(|name| version_from_name(name.to_str()?)).is_some())
}

/// Whether the package with this metadata folder runs from its source, which may change without an installation
/// (`direct_url.json`, PEP 610). A package installed from an index has no such file.
pub fn is_editable(metadata: &Path) -> bool {
    let read = std::fs::read(metadata.join("direct_url.json")).ok();
    let origin: serde_json::Value = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    origin["dir_info"]["editable"] == true
}

/// MassGen and all packages installed with it, each by name and version, sorted.
pub fn packages(program: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        metadata_folders(program).filter_map(|folder| Some(folder.file_name()?.to_owned())).collect();
    names.sort_unstable();
    names
}

/// The Python that runs a program: an absolute path without arguments in the first line. If the path is too long for that, pip and uv write
/// it in the second line.
pub fn interpreter(program: &Path) -> Option<PathBuf> {
    let script = std::fs::File::open(program).ok()?;
    // A compiled program may have no line end in its first megabytes.
    let mut lines = BufReader::new(std::io::Read::take(script, 4096)).lines().map_while(Result::ok);
    let first = lines.next()?;
    let named = match first.strip_prefix("#!")?.trim() {
        "/bin/sh" => lines.next()?.strip_prefix("'''exec' ")?.split_whitespace().next()?.trim_matches('"').to_owned(),
        named => named.to_owned(),
    };
    Some(PathBuf::from(named)).filter(|named| named.is_absolute() && !named.to_string_lossy().contains(' '))
}

/// The metadata folders of all installed packages.
fn metadata_folders(program: &Path) -> impl Iterator<Item = PathBuf> {
    let sites = site_packages(program).unwrap_or_default().into_iter();
    let entries = sites.filter_map(|site| std::fs::read_dir(site).ok()).flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "dist-info"))
}

/// The folder of the programs installed with MassGen, including `fastmcp`. MassGen starts its tool servers by that bare name
/// (`massgen/filesystem_manager/_filesystem_manager.py`), so this folder must come first in a run's PATH. The program itself may be a link
/// from another folder (`uv tool install`, pipx), or a script copied there.
pub fn scripts(program: &Path) -> PathBuf {
    let folders = script_folders(program);
    let found = folders.iter().find(|folder| executable(&folder.join(FASTMCP)).is_some());
    found.or(folders.first()).cloned().unwrap_or_else(|| PathBuf::from("/"))
}

/// Whether `fastmcp` is installed with MassGen. Without it, no tool server of an agent starts.
pub fn has_fastmcp(program: &Path) -> bool {
    executable(&scripts(program).join(FASTMCP)).is_some()
}

/// The folder of the script with all links resolved, and the folder of its interpreter. The interpreter's links lead out of a virtual
/// environment, so they are not resolved.
fn script_folders(program: &Path) -> Vec<PathBuf> {
    let script = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let programs = [Some(script), interpreter(program)].into_iter().flatten();
    programs.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

/// The possible package folders, in Python's search order: relative to the script (a virtual environment, `pip install --user`,
/// `/usr/local`), then relative to the interpreter.
fn site_packages(program: &Path) -> Option<Vec<PathBuf>> {
    let python = interpreter(program)?;
    let prefixes = script_folders(program).into_iter().filter_map(|folder| folder.parent().map(Path::to_owned));
    let sites = prefixes.flat_map(|prefix| libraries(&prefix.join("lib"), &python));
    let mut unique = Vec::new();
    sites.filter(|site| site.is_dir()).for_each(|site| {
        if !unique.contains(&site) {
            unique.push(site);
        }
    });
    Some(unique)
}

/// An interpreter's package folders below a `lib` folder. Debian names its own `dist-packages`, some of them without a version.
fn libraries(lib: &Path, python: &Path) -> Vec<PathBuf> {
    let versioned = python.canonicalize().ok().and_then(|python| Some(python.file_name()?.to_str()?.to_owned()));
    let versioned = versioned.filter(|name| name.starts_with("python3."));
    let is_matching = |name: &str| name == "python3" || versioned.as_deref().is_none_or(|versioned| name == versioned);
    let folders = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let matching = folders.filter(|folder| {
        folder.file_name().to_str().is_some_and(|name| name.starts_with("python") && is_matching(name))
    });
    matching.flat_map(|folder| ["site-packages", "dist-packages"].map(|kind| folder.path().join(kind))).collect()
}

pub(super) fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let meta = path.metadata().ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}
