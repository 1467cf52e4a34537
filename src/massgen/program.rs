//! Finding MassGen: which program a run will execute, what version it is, where its package lies.
//! It looks at files and never executes anything; putting a MassGen there is `setup`'s work.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::broken;

/// What MassGen starts its tool servers with.
const FASTMCP: &str = "fastmcp";

/// No MassGen to be found, or not one that can be run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The operator named one that is not an executable file.
    #[error("`{}` is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    /// None anywhere.
    #[error("no massgen found (looked in {places})")]
    Missing {
        /// Where it was looked for, in order.
        places: String,
    },
}

/// Where to look for a MassGen.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// What the operator named (`--massgen` or MASSGEN_MCP_MASSGEN).
    pub named: Option<&'a Path>,
    /// The project folder: its `.venv/bin/massgen` is what `uv run massgen` would run.
    pub project: Option<&'a Path>,
    /// The virtual environment that `setup` makes.
    pub own_venv: &'a Path,
    /// The folder with failures of imports that were seen.
    pub seen: &'a Path,
}

/// The MassGen to run: the named one, the project's, the one in PATH, the one from `setup`; an absolute path. One that is known not to
/// start is passed over where there is another.
pub fn find(places: Places<'_>) -> Result<PathBuf, ProgramError> {
    if let Some(named) = places.named {
        let absolute = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
        return executable(&absolute).ok_or(ProgramError::NotExecutable(absolute));
    }
    let of_project = places.project.map(|project| project.join(".venv/bin/massgen"));
    let own = places.own_venv.join("bin/massgen");
    let all = [of_project.as_deref().and_then(executable), which::which("massgen").ok(), executable(&own)];
    let works = |program: &&PathBuf| broken::problem(program, places.seen).is_none();
    let mut all = all.iter().flatten();
    let found = all.clone().find(works).or_else(|| all.next()).cloned();
    found.ok_or_else(|| {
        let of_project = of_project.iter().map(|path| format!("{}, ", path.display())).collect::<String>();
        ProgramError::Missing { places: format!("{of_project}PATH, {}", own.display()) }
    })
}

fn executable(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let meta = path.metadata().ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

/// The folder of the installed `massgen` package, found through the interpreter that the program's first line names.
pub fn package(program: &Path) -> Option<PathBuf> {
    site_packages(program)?.into_iter().map(|site| site.join("massgen")).find(|package| package.is_dir())
}

/// The installed version, from the package's metadata (MassGen has no `--version`).
pub fn version(program: &Path) -> Option<String> {
    metadata_folders(program).find_map(|folder| version_of(folder.file_name()?.to_str()?))
}

/// The version of a package that is installed beside MassGen.
pub fn version_of_package(program: &Path, package: &str) -> Option<String> {
    metadata_folders(program).find_map(|folder| {
        let (name, version) = folder.file_stem()?.to_str()?.rsplit_once('-')?;
        (name == package).then(|| version.to_owned())
    })
}

/// Tells one installation from another: another one as soon as any package is installed, updated or removed.
///
/// # Errors
///
/// Its files cannot be read, or it is no script of a Python.
pub fn installation(program: &Path) -> io::Result<String> {
    let python = interpreter(program).ok_or(io::ErrorKind::InvalidData)?;
    let marks = [Some(program.to_owned()), Some(python.clone()), metadata(program)];
    let marks: io::Result<Vec<_>> = marks.iter().flatten().map(|path| stamp(path)).collect();
    Ok(format!("{program:?}\0{python:?}\0{:?}\0{:?}", marks?, packages(program)))
}

/// Whether a file is the same as before: what an installation changes.
fn stamp(path: &Path) -> io::Result<(u64, i64, i64, u64)> {
    path.metadata().map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

fn version_of(name: &str) -> Option<String> {
    Some(name.strip_prefix("massgen-")?.strip_suffix(".dist-info")?.to_owned())
}

/// The folder with the metadata of the installed package, `massgen-*.dist-info`; every installation writes it anew.
pub fn metadata(program: &Path) -> Option<PathBuf> {
    metadata_folders(program).find(|folder| folder.file_name().and_then(|name| version_of(name.to_str()?)).is_some())
}

/// Whether a package with this folder of metadata is run from its source, which may change without another installation
/// (`direct_url.json`, PEP 610). An installation from an index has no such file.
pub fn is_editable(metadata: &Path) -> bool {
    let read = std::fs::read(metadata.join("direct_url.json")).ok();
    let origin: serde_json::Value = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    origin["dir_info"]["editable"] == true
}

/// MassGen and all that is installed beside it, each by its name and version, in order.
pub fn packages(program: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        metadata_folders(program).filter_map(|folder| Some(folder.file_name()?.to_owned())).collect();
    names.sort_unstable();
    names
}

/// The Python that a program is run by: an absolute path without arguments in its first line, or, where that would be too long, in
/// the second, as pip and uv then write it.
pub fn interpreter(program: &Path) -> Option<PathBuf> {
    let script = std::fs::File::open(program).ok()?;
    // A compiled program may have no line end at all in its first megabytes.
    let mut lines = BufReader::new(std::io::Read::take(script, 4096)).lines().map_while(Result::ok);
    let first = lines.next()?;
    let named = match first.strip_prefix("#!")?.trim() {
        "/bin/sh" => lines.next()?.strip_prefix("'''exec' ")?.split_whitespace().next()?.trim_matches('"').to_owned(),
        named => named.to_owned(),
    };
    Some(PathBuf::from(named)).filter(|named| named.is_absolute() && !named.to_string_lossy().contains(' '))
}

/// The folders with the metadata of all installed packages.
fn metadata_folders(program: &Path) -> impl Iterator<Item = PathBuf> {
    let sites = site_packages(program).unwrap_or_default().into_iter();
    let all = sites.filter_map(|site| std::fs::read_dir(site).ok()).flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.extension().is_some_and(|ending| ending == "dist-info"))
}

/// The folder of the programs that were installed with MassGen, `fastmcp` among them. MassGen starts its tool servers by that bare
/// name (`massgen/filesystem_manager/_filesystem_manager.py`), so this folder has to come first in a run's PATH. The program itself may
/// be a link from another folder (`uv tool install`, pipx), or a script that was copied there.
pub fn scripts(program: &Path) -> PathBuf {
    let folders = script_folders(program);
    let found = folders.iter().find(|folder| executable(&folder.join(FASTMCP)).is_some());
    found.or(folders.first()).cloned().unwrap_or_else(|| PathBuf::from("/"))
}

/// Whether `fastmcp` is installed beside MassGen. Without it, no tool server of an agent starts.
pub fn has_fastmcp(program: &Path) -> bool {
    executable(&scripts(program).join(FASTMCP)).is_some()
}

/// The folder of the script, all links resolved, and that of its interpreter. The interpreter's own links lead out of a virtual
/// environment, so they are not resolved.
fn script_folders(program: &Path) -> Vec<PathBuf> {
    let script = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let both = [Some(script), interpreter(program)].into_iter().flatten();
    both.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

/// Where packages may be, in the order in which Python looks: beside the script (a virtual environment, `pip install --user`,
/// `/usr/local`), then beside the interpreter.
fn site_packages(program: &Path) -> Option<Vec<PathBuf>> {
    let python = interpreter(program)?;
    let prefixes = script_folders(program).into_iter().filter_map(|folder| folder.parent().map(Path::to_owned));
    let sites = prefixes.flat_map(|prefix| libraries(&prefix.join("lib"), &python));
    let mut seen = Vec::new();
    sites.filter(|site| site.is_dir()).for_each(|site| {
        if !seen.contains(&site) {
            seen.push(site);
        }
    });
    Some(seen)
}

/// The package folders of an interpreter in a `lib` folder. Debian calls its own `dist-packages`, some of them without a version.
fn libraries(lib: &Path, python: &Path) -> Vec<PathBuf> {
    let versioned = python.canonicalize().ok().and_then(|python| Some(python.file_name()?.to_str()?.to_owned()));
    let versioned = versioned.filter(|name| name.starts_with("python3."));
    let is_ours = |name: &str| name == "python3" || versioned.as_deref().is_none_or(|versioned| name == versioned);
    let folders = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let ours = folders
        .filter(|folder| folder.file_name().to_str().is_some_and(|name| name.starts_with("python") && is_ours(name)));
    ours.flat_map(|folder| ["site-packages", "dist-packages"].map(|kind| folder.path().join(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::VERSION;
    use std::os::unix::fs::PermissionsExt;

    fn dist_info() -> String {
        format!("massgen-{VERSION}.dist-info")
    }

    fn venv(root: &Path) -> PathBuf {
        let site = root.join("lib/python3.11/site-packages");
        std::fs::create_dir_all(site.join("massgen")).expect("mkdir");
        std::fs::create_dir_all(site.join(dist_info())).expect("mkdir");
        let program = root.join("bin/massgen");
        std::fs::create_dir_all(root.join("bin")).expect("mkdir");
        std::fs::write(&program, format!("#!{}/bin/python3\nimport x\n", root.display())).expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        program
    }

    #[test]
    fn a_named_program_is_the_one_or_an_error() {
        let folder = tempfile::tempdir().expect("temp");
        let program = venv(folder.path());
        let (project, own_venv, seen) = (Some(folder.path()), folder.path(), folder.path());
        let places = |named| Places { named, project, own_venv, seen };
        assert_eq!(find(places(Some(&program))).expect("found"), program);
        let missing = folder.path().join("nope");
        assert!(matches!(find(places(Some(&missing))), Err(ProgramError::NotExecutable(_))));
    }

    #[test]
    fn the_projects_own_environment_comes_first() {
        let folder = tempfile::tempdir().expect("temp");
        let (project, own) = (folder.path().join("p"), folder.path().join("own"));
        venv(&own);
        let program = venv(&project.join(".venv"));
        let places = Places { named: None, project: Some(&project), own_venv: &own, seen: folder.path() };
        assert_eq!(find(places).expect("found"), program);
        let sites = project.join(".venv/lib/python3.11/site-packages");
        std::fs::create_dir(sites.join("mcp-2.3.0.dist-info")).expect("mkdir");
        assert_ne!(find(places).expect("found"), program, "one that does not start is passed over");
    }

    #[test]
    fn package_and_version_are_read_from_its_files() {
        let folder = tempfile::tempdir().expect("temp");
        let program = venv(folder.path());
        assert_eq!(version(&program).as_deref(), Some(VERSION));
        assert!(package(&program).expect("package").ends_with("site-packages/massgen"));
        let metadata = metadata(&program).expect("metadata");
        assert!(metadata.ends_with(dist_info()) && !is_editable(&metadata));
        std::fs::create_dir(metadata.with_file_name("litellm-1.80.0.dist-info")).expect("mkdir");
        assert_eq!(packages(&program), ["litellm-1.80.0.dist-info", &dist_info()]);
        let origin = r#"{"url": "file:///src", "dir_info": {"editable": true}}"#;
        std::fs::write(metadata.join("direct_url.json"), origin).expect("write");
        assert!(is_editable(&metadata));
        assert_eq!(version(Path::new("/proc/self/exe")), None);
    }

    #[test]
    fn an_interpreter_is_named_in_the_first_line_or_behind_a_shell() {
        let folder = tempfile::tempdir().expect("temp");
        let program = folder.path().join("massgen");
        for (text, wanted) in [
            ("#!/v/bin/python\nimport x\n", Some("/v/bin/python")),
            ("#!/bin/sh\n'''exec' \"/v/bin/python3\" \"$0\" \"$@\"\n' '''\nimport x\n", Some("/v/bin/python3")),
            ("#!/usr/bin/env python3\nimport x\n", None),
            ("#!/bin/sh\necho\n", None),
            ("no script", None),
        ] {
            std::fs::write(&program, text).expect("write");
            assert_eq!(interpreter(&program).as_deref(), wanted.map(Path::new), "{text}");
        }
    }

    /// A script with the tools beside it, and the packages that it is installed with.
    fn installed(root: &Path, script: &str, head: &str, site: &str) {
        let (script, site) = (root.join(script), root.join(site));
        let folder = script.parent().expect("folder");
        std::fs::create_dir_all(folder).expect("mkdir");
        std::fs::create_dir_all(site.join(dist_info())).expect("mkdir");
        std::fs::create_dir_all(site.join("massgen")).expect("mkdir");
        for program in [script.as_path(), &folder.join(FASTMCP)] {
            std::fs::write(program, head.replace("ROOT", &root.to_string_lossy())).expect("write");
            std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    }

    fn link(root: &Path, from: &str, to: &str) {
        std::fs::create_dir_all(root.join(from).parent().expect("folder")).expect("mkdir");
        std::os::unix::fs::symlink(to, root.join(from)).expect("linked");
    }

    /// Where pip, pipx, uv and Debian put MassGen: name, script, first line, packages, links, the program that is named.
    #[test]
    fn every_way_of_installing_has_its_tools_and_packages_found() {
        type Row = (
            &'static str,
            &'static str,
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str)],
            &'static str,
        );
        let table: &[Row] = &[
            ("venv", "v/bin/massgen", "#!ROOT/v/bin/python\n", "v/lib/python3.11/site-packages", &[], "v/bin/massgen"),
            (
                "uv tool install: a link in ~/.local/bin",
                "share/uv/tools/massgen/bin/massgen",
                "#!ROOT/share/uv/tools/massgen/bin/python3\n",
                "share/uv/tools/massgen/lib/python3.12/site-packages",
                &[("bin/massgen", "../share/uv/tools/massgen/bin/massgen")],
                "bin/massgen",
            ),
            (
                "pipx, behind two more links",
                "pipx/venvs/massgen/bin/massgen",
                "#!ROOT/pipx/venvs/massgen/bin/python\n",
                "pipx/venvs/massgen/lib/python3.13/site-packages",
                &[
                    ("local/massgen", "ROOT/pipx/venvs/massgen/bin/massgen"),
                    ("a/massgen", "../local/massgen"),
                    ("b", "a"),
                ],
                "b/massgen",
            ),
            (
                "pip install --user: packages beside the script, the interpreter elsewhere",
                "home/.local/bin/massgen",
                "#!ROOT/usr/bin/python3\n",
                "home/.local/lib/python3.11/site-packages",
                &[
                    ("usr/bin/python3", "python3.11"),
                    ("home/.local/lib/python3.9/site-packages/massgen-0.0.1.dist-info/x", "/"),
                ],
                "home/.local/bin/massgen",
            ),
            (
                "Debian: dist-packages",
                "usr/local/bin/massgen",
                "#!ROOT/usr/bin/python3\n",
                "usr/local/lib/python3.11/dist-packages",
                &[("usr/bin/python3", "python3.11")],
                "usr/local/bin/massgen",
            ),
            (
                "a project's .venv that is a link",
                "envs/one/bin/massgen",
                "#!ROOT/project/.venv/bin/python\n",
                "envs/one/lib/python3.11/site-packages",
                &[("project/.venv", "../envs/one")],
                "project/.venv/bin/massgen",
            ),
            (
                "a first line that is too long for the kernel",
                "v/bin/massgen",
                "#!/bin/sh\n'''exec' \"ROOT/v/bin/python\" \"$0\" \"$@\"\n",
                "v/lib/python3.11/site-packages",
                &[],
                "v/bin/massgen",
            ),
        ];
        for (name, script, head, site, links, named) in table {
            let folder = tempfile::tempdir().expect("temp");
            let root = folder.path().canonicalize().expect("path");
            installed(&root, script, head, site);
            std::fs::create_dir_all(root.join("usr/bin")).expect("mkdir");
            std::fs::write(root.join("usr/bin/python3.11"), "").expect("write");
            links.iter().for_each(|(from, to)| link(&root, from, &to.replace("ROOT", &root.to_string_lossy())));
            let program = root.join(named);
            assert_eq!(version(&program).as_deref(), Some(VERSION), "{name}");
            assert_eq!(scripts(&program), root.join(script).parent().expect("folder"), "{name}");
            assert!(has_fastmcp(&program) && package(&program).is_some(), "{name}");
        }
    }

    #[test]
    fn a_script_that_was_copied_elsewhere_has_the_tools_of_its_interpreter() {
        let folder = tempfile::tempdir().expect("temp");
        let root = folder.path().canonicalize().expect("path");
        let program = venv(&root.join("v"));
        let copy = root.join("massgen");
        std::fs::copy(&program, &copy).expect("copied");
        assert_eq!((scripts(&copy), has_fastmcp(&copy)), (root.clone(), false), "there is no fastmcp at all");
        std::fs::copy(&program, root.join("v/bin/fastmcp")).expect("copied");
        assert_eq!((scripts(&copy), has_fastmcp(&copy)), (root.join("v/bin"), true));
        assert_eq!(version(&copy).as_deref(), Some(VERSION));
    }
}
