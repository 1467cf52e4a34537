//! Finds the MassGen program that a run executes. It reads files and executes nothing; `setup` installs MassGen, and `installation` reads
//! what is installed.

use std::path::{Path, PathBuf};

use super::broken_import;
use super::installation::executable;
pub use super::installation::{
    has_fastmcp, installation_fingerprint, interpreter, is_editable, metadata, package, packages, scripts, version,
    version_of_package,
};

/// Why no usable MassGen was found.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The operator named a path that is not an executable file.
    #[error("`{}` is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    /// No MassGen was found anywhere.
    #[error("no massgen found (looked in {places})")]
    Missing {
        /// The places that were searched, in order.
        places: String,
    },
}

/// Where to look for a MassGen.
#[derive(Debug, Clone, Copy)]
pub struct ProgramPlaces<'a> {
    /// The path set by the operator (`--massgen` or MASSGEN_MCP_MASSGEN).
    pub named: Option<&'a Path>,
    /// The project folder: `uv run massgen` would run its `.venv/bin/massgen`.
    pub project: Option<&'a Path>,
    /// The virtual environment that `setup` creates.
    pub own_venv: &'a Path,
    /// The folder of recorded import failures.
    pub failed_imports: &'a Path,
}

/// The absolute path of the MassGen to run: the named one, else the project's, else the one in PATH, else the one from `setup`. A MassGen
/// that is known not to start is skipped if another one exists.
pub fn find(places: ProgramPlaces<'_>) -> Result<PathBuf, ProgramError> {
    if let Some(named) = places.named {
        let absolute = std::path::absolute(named).unwrap_or_else(|_| named.to_owned());
        return executable(&absolute).ok_or(ProgramError::NotExecutable(absolute));
    }
    let project_program = places.project.map(|project| project.join(".venv/bin/massgen"));
    let own_program = places.own_venv.join("bin/massgen");
    let candidates =
        [project_program.as_deref().and_then(executable), which::which("massgen").ok(), executable(&own_program)];
    let is_working = |program: &&PathBuf| broken_import::known_problem(program, places.failed_imports).is_none();
    let mut candidates = candidates.iter().flatten();
    let found = candidates.clone().find(is_working).or_else(|| candidates.next()).cloned();
    found.ok_or_else(|| {
        let project_program = project_program.iter().map(|path| format!("{}, ", path.display())).collect::<String>();
        ProgramError::Missing { places: format!("{project_program}PATH, {}", own_program.display()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::VERSION;
    use crate::massgen::installation::FASTMCP;
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
    fn a_named_program_is_used_or_an_error() {
        let folder = tempfile::tempdir().expect("temp");
        let program = venv(folder.path());
        let (project, own_venv, failed_imports) = (Some(folder.path()), folder.path(), folder.path());
        let places = |named| ProgramPlaces { named, project, own_venv, failed_imports };
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
        let places =
            ProgramPlaces { named: None, project: Some(&project), own_venv: &own, failed_imports: folder.path() };
        assert_eq!(find(places).expect("found"), program);
        let sites = project.join(".venv/lib/python3.11/site-packages");
        std::fs::create_dir(sites.join("mcp-2.3.0.dist-info")).expect("mkdir");
        assert_ne!(find(places).expect("found"), program, "one that does not start is passed over");
    }

    #[test]
    fn package_and_version_are_read_from_the_files() {
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
    fn an_interpreter_is_read_from_the_first_line_or_after_a_shell() {
        let folder = tempfile::tempdir().expect("temp");
        let program = folder.path().join("massgen");
        for (text, expected) in [
            ("#!/v/bin/python\nimport x\n", Some("/v/bin/python")),
            ("#!/bin/sh\n'''exec' \"/v/bin/python3\" \"$0\" \"$@\"\n' '''\nimport x\n", Some("/v/bin/python3")),
            ("#!/usr/bin/env python3\nimport x\n", None),
            ("#!/bin/sh\necho\n", None),
            ("no script", None),
        ] {
            std::fs::write(&program, text).expect("write");
            assert_eq!(interpreter(&program).as_deref(), expected.map(Path::new), "{text}");
        }
    }

    /// A script with its tools in the same folder, and the packages installed with it.
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

    /// Where pip, pipx, uv and Debian install MassGen: name, script, first line, packages, links, the named program.
    #[test]
    fn tools_and_packages_are_found_for_every_kind_of_installation() {
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
    fn a_copied_script_has_the_tools_of_its_interpreter() {
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
