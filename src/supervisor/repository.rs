//! Removes MassGen's leftovers from the Git repository of a project in which it may write. With `write_mode: auto`, its default, agents use
//! worktrees on branches `massgen/<8 hex digits>` and `presenter_<8 hex digits>`, and MassGen adds a line to `info/exclude`. The cleanup after
//! the run keeps branches with changes that MassGen did not apply. It never touches files of the project.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The line that MassGen adds to `info/exclude` (`_isolation_context_manager.py`, `_setup_scratch_in_worktree`).
const EXCLUDED: &str = "/.massgen_scratch/\n";

/// The state of a repository before a run.
#[derive(Debug)]
pub(super) struct Repository {
    project: PathBuf,
    /// Git's own folder, shared by all worktrees.
    common: PathBuf,
    /// The branches that have names in MassGen's format and that no live run uses.
    branches: BTreeSet<String>,
    /// The branches of runs that were live already. They are deleted too if they have no changes: those runs leave the cleanup to the
    /// last run in the project.
    of_live_runs: BTreeSet<String>,
    /// The user's own branches `massgen/…` with their commits. MassGen deletes them when it starts (`cleanup_orphaned_branches`).
    own: BTreeMap<String, String>,
    /// The text of `info/exclude`, if the file exists.
    exclude: Option<String>,
}

impl Repository {
    /// The repository of a project; `None` if the project has none or `git` cannot read it.
    pub(super) fn of(project: &Path) -> Option<Repository> {
        let common = git(project, ["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
        let common = PathBuf::from(common.trim_end_matches('\n'));
        let (used, unused): (Vec<_>, Vec<_>) = branches(project).into_iter().partition(|branch| branch.is_checked_out);
        let names = |branches: Vec<Branch>| branches.into_iter().map(|branch| branch.name).collect::<BTreeSet<_>>();
        let (branches, of_live_runs) = (names(unused), names(used));
        let exclude = std::fs::read_to_string(exclude_file(&common)).ok();
        // A live run has added the line.
        let exclude = match exclude {
            Some(text) if !of_live_runs.is_empty() => {
                Some(text.strip_suffix(EXCLUDED).unwrap_or(&text).to_owned()).filter(|text| !text.is_empty())
            }
            other => other,
        };
        let own = user_branches(project);
        Some(Repository { project: project.to_owned(), common, branches, of_live_runs, own, exclude })
    }

    /// Removes the leftovers of an ended run: always its worktree entries; the rest only if the project `is_shared` with no other run, since a
    /// branch does not show its run. With `keeps_changes`, branches with changes of agents stay; this returns their names.
    pub(super) fn clean(&self, run: &Path, is_shared: bool, keeps_changes: bool) -> Vec<String> {
        remove_worktree_entries(&self.common, run);
        self.restore_user_branches();
        if is_shared {
            return Vec::new();
        }
        let is_leftover = |branch: &Branch| !branch.is_checked_out && !self.branches.contains(&branch.name);
        let leftovers = branches(&self.project).into_iter().filter(is_leftover).map(|branch| branch.name);
        let may_hold_changes = |branch: &String| keeps_changes || self.of_live_runs.contains(branch);
        let (retained, deletable): (Vec<_>, Vec<_>) =
            leftovers.partition(|branch| may_hold_changes(branch) && self.has_changes(branch));
        for branch in &deletable {
            // If Git was killed while it wrote the branch, its lock file remains, and the branch cannot be deleted.
            let _missing = std::fs::remove_file(self.common.join(format!("refs/heads/{branch}.lock")));
        }
        if !deletable.is_empty() {
            let arguments = ["branch", "-q", "-D", "--"].into_iter().chain(deletable.iter().map(String::as_str));
            if git(&self.project, arguments).is_none() {
                tracing::warn!(branches = ?deletable, "branches that MassGen made could not be deleted");
            }
        }
        self.restore_exclude();
        retained
    }

    /// Whether agents committed to a branch; MassGen's own first commit, `[BASELINE] …`, is only a copy of the project.
    fn has_changes(&self, branch: &str) -> bool {
        let subjects = git(&self.project, ["log", "--format=%s", &format!("HEAD..refs/heads/{branch}")]);
        subjects.is_none_or(|subjects| subjects.lines().any(|subject| !subject.starts_with("[BASELINE]")))
    }

    fn restore_user_branches(&self) {
        let now = user_branches(&self.project);
        for (name, commit) in self.own.iter().filter(|(name, _)| !now.contains_key(*name)) {
            let restored = git(&self.project, ["branch", "--", name, commit]).is_some();
            tracing::warn!(name, commit, restored, "MassGen deleted a branch of the user");
        }
    }

    /// Removes MassGen's line from `info/exclude`, unless the file has other changes as well.
    fn restore_exclude(&self) {
        let path = exclude_file(&self.common);
        let before = self.exclude.as_deref().unwrap_or_default();
        let line_end = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        let has_only_massgens_line = |now: String| now == format!("{before}{line_end}{EXCLUDED}");
        if !std::fs::read_to_string(&path).is_ok_and(has_only_massgens_line) {
            return;
        }
        let restored = match &self.exclude {
            Some(before) => std::fs::write(&path, before),
            None => std::fs::remove_file(&path),
        };
        if let Err(error) = restored {
            tracing::warn!(%error, path = %path.display(), "MassGen's line in this file could not be removed");
        }
    }
}

/// Removes the entries of worktrees in a run's folder from the repository of its project. The worktrees' own files stay.
pub(super) fn forget_worktrees(project: &Path, run: &Path) {
    if let Some(common) = git(project, ["rev-parse", "--path-format=absolute", "--git-common-dir"]) {
        remove_worktree_entries(Path::new(common.trim_end_matches('\n')), run);
    }
}

/// The file `gitdir` of each entry names its worktree. `git worktree remove` would also delete the files that agents wrote there.
fn remove_worktree_entries(common: &Path, run: &Path) {
    for entry in std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        let place = std::fs::read_to_string(entry.path().join("gitdir")).unwrap_or_default();
        if !Path::new(place.trim_end()).starts_with(run) {
            continue;
        }
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "a worktree entry of the run could not be removed");
        }
    }
}

fn exclude_file(common: &Path) -> PathBuf {
    common.join("info/exclude")
}

struct Branch {
    name: String,
    is_checked_out: bool,
}

/// The branches that have names in MassGen's format.
fn branches(project: &Path) -> Vec<Branch> {
    let format = "--format=%(if)%(worktreepath)%(then)used%(else)free%(end) %(refname:lstrip=2)";
    let listed = git(project, ["for-each-ref", format, "refs/heads/massgen/", "refs/heads/presenter_*"]);
    let branch = |line: &str| {
        let (used, name) = line.split_once(' ')?;
        is_massgens(name).then(|| Branch { name: name.to_owned(), is_checked_out: used == "used" })
    };
    listed.unwrap_or_default().lines().filter_map(branch).collect()
}

/// The branches below `massgen/` that have no names in MassGen's format, each with its commit.
fn user_branches(project: &Path) -> BTreeMap<String, String> {
    let listed = git(project, ["for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/massgen/"]);
    let branch = |line: &str| {
        let (commit, name) = line.split_once(' ')?;
        (!is_massgens(name)).then(|| (name.to_owned(), commit.to_owned()))
    };
    listed.unwrap_or_default().lines().filter_map(branch).collect()
}

/// Whether a name is `massgen/` or `presenter_` and 8 hexadecimal digits.
fn is_massgens(name: &str) -> bool {
    let digits = name.strip_prefix("massgen/").or_else(|| name.strip_prefix("presenter_"));
    digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The output of a Git command; `None` if it fails. Git executes no program that the repository's config or hooks name.
fn git<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(project: &Path, arguments: I) -> Option<String> {
    let mut git = Command::new("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_")) {
        git.env_remove(name);
    }
    git.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-C"]).arg(project).args(arguments);
    let output = git.env("LC_ALL", "C").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        root: tempfile::TempDir,
    }

    impl Scene {
        /// A repository with one commit and a hook that leaves a trace if executed, and the folder of a run next to it.
        fn new() -> Scene {
            let scene = Scene { root: tempfile::tempdir().expect("temp") };
            std::fs::create_dir_all(scene.project()).expect("created");
            std::fs::create_dir_all(scene.run()).expect("created");
            scene.git(&["init", "-q"]);
            scene.git(&["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "one"]);
            scene
        }

        fn project(&self) -> PathBuf {
            self.root.path().join("project")
        }

        fn run(&self) -> PathBuf {
            self.root.path().join("run")
        }

        fn git(&self, arguments: &[&str]) -> String {
            git(&self.project(), arguments).unwrap_or_else(|| panic!("git {arguments:?}"))
        }

        fn branches(&self) -> Vec<String> {
            self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]).lines().map(str::to_owned).collect()
        }

        /// Creates the worktree and branches that MassGen leaves after an interrupted round and a completed one.
        fn create_massgen_leftovers(&self, folder: &Path) {
            let at = folder.join("work/.worktree/ctx_1");
            self.git(&["worktree", "add", "-q", "-b", "massgen/0123abcd", at.to_str().expect("UTF-8"), "HEAD"]);
            let commit = ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m"];
            self.git(&[&["-C", at.to_str().expect("UTF-8")], &commit[..], &["[ROUND] Auto-commit"]].concat());
            self.git(&["branch", "presenter_89abcdef", "massgen/0123abcd"]);
            self.git(&["branch", "massgen/00000000"]);
            std::fs::write(self.project().join(".git/refs/heads/massgen/00000000.lock"), "").expect("written");
            let exclude = self.project().join(".git/info/exclude");
            let before = std::fs::read_to_string(&exclude).unwrap_or_default();
            std::fs::create_dir_all(exclude.parent().expect("parent")).expect("created");
            std::fs::write(exclude, before + EXCLUDED).expect("written");
        }
    }

    #[test]
    fn the_cleanup_restores_the_repository() {
        let scene = Scene::new();
        scene.git(&["branch", "massgen/aaaaaaaa"]);
        scene.git(&["branch", "massgen/mine"]);
        let exclude = scene.project().join(".git/info/exclude");
        std::fs::create_dir_all(exclude.parent().expect("parent")).expect("created");
        std::fs::write(&exclude, "# mine\n").expect("written");
        let before = scene.branches();
        let repository = Repository::of(&scene.project()).expect("a repository");
        // MassGen does this when it starts.
        scene.git(&["branch", "-q", "-D", "massgen/mine"]);
        scene.create_massgen_leftovers(&scene.run());
        let hook = scene.project().join(".git/hooks/reference-transaction");
        std::fs::create_dir_all(hook.parent().expect("parent")).expect("created");
        std::fs::write(&hook, "#!/bin/sh\ntouch executed\n").expect("written");
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        assert!(repository.clean(&scene.run(), false, false).is_empty());
        assert_eq!(scene.branches(), before);
        assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 1);
        assert_eq!(std::fs::read_to_string(exclude).expect("text"), "# mine\n");
        assert!(scene.run().join("work/.worktree/ctx_1").exists(), "the agents' files stay in the run's folder");
        assert!(!scene.project().join("executed").exists() && !scene.project().join(".git/executed").exists());
    }

    #[test]
    fn branches_that_are_in_use_or_have_changes_are_not_deleted() {
        let scene = Scene::new();
        let repository = Repository::of(&scene.project()).expect("a repository");
        scene.create_massgen_leftovers(&scene.root.path().join("another"));
        assert!(repository.clean(&scene.run(), true, false).is_empty());
        assert!(scene.branches().contains(&"presenter_89abcdef".to_owned()));
        assert_eq!(repository.clean(&scene.run(), false, true), ["presenter_89abcdef"]);
        repository.clean(&scene.run(), false, false);
        assert!(scene.branches().contains(&"massgen/0123abcd".to_owned()), "its worktree is in use");
        assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 2);
        forget_worktrees(&scene.project(), &scene.root.path().join("another"));
        assert_eq!(scene.git(&["worktree", "list"]).lines().count(), 1);
    }

    #[test]
    fn the_last_of_two_overlapping_runs_cleans_up_for_both() {
        let scene = Scene::new();
        let exclude = scene.project().join(".git/info/exclude");
        let _none = std::fs::remove_file(&exclude);
        let before = scene.branches();
        let earlier = scene.root.path().join("earlier");
        let first = Repository::of(&scene.project()).expect("a repository");
        let at = earlier.join("work/.worktree/ctx_1");
        scene.git(&["worktree", "add", "-q", "-b", "massgen/0ca4080b", at.to_str().expect("UTF-8"), "HEAD"]);
        std::fs::create_dir_all(exclude.parent().expect("parent")).expect("created");
        std::fs::write(&exclude, EXCLUDED).expect("written");
        let second = Repository::of(&scene.project()).expect("a repository");
        assert!(first.clean(&earlier, true, false).is_empty());
        assert_eq!(scene.branches().len(), before.len() + 1, "the project is in use");
        assert!(second.clean(&scene.run(), false, false).is_empty());
        assert_eq!(scene.branches(), before);
        assert!(!exclude.exists());
    }

    #[test]
    fn a_folder_without_a_repository_is_accepted() {
        let root = tempfile::tempdir().expect("temp");
        assert!(Repository::of(root.path()).is_none() || root.path().ancestors().any(|at| at.join(".git").exists()));
    }
}
