//! MassGen's example configs, by the names that people and its documents use. A name has the meaning that MassGen's own resolver gives it
//! (`cli/config_loading.py`, `resolve_config_path`); names printed by `--list-examples` work too.

use std::path::{Path, PathBuf};

/// The most similar names that an error suggests.
const MAX_SUGGESTIONS: usize = 3;

/// The example configs of a package, in the order in which MassGen searches them.
pub(super) struct Examples {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Examples {
    /// The examples of an installed `massgen` package; empty if it has no `configs`.
    pub(super) fn in_package(package: &Path) -> Examples {
        let root = package.join("configs");
        let folders = search_order(&root, python_minor(package));
        Examples { files: folders.iter().flat_map(|folder| yaml_files(folder)).collect(), root }
    }

    /// The folder that contains them.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that `@examples/NAME` refers to: as in MassGen, the first one whose path contains the name; else the one that
    /// `massgen --list-examples` prints under this name, which MassGen itself does not find.
    pub(super) fn find(&self, name: &str) -> Option<&Path> {
        if name.trim().is_empty() {
            return None;
        }
        let is_printed =
            |path: &&PathBuf| self.printed_name(path).is_some_and(|printed| printed == without_extension(name));
        let found = self.containing(name).next();
        found.or_else(|| self.files.iter().find(is_printed).map(PathBuf::as_path))
    }

    /// Each file with the shortest name that occurs in no other file's path, so that the name refers to this file on every machine.
    pub(super) fn shortest_names(&self) -> Vec<(String, PathBuf)> {
        let named = |path: &PathBuf| Some((format!("@examples/{}", self.shortest_name(path)?), path.clone()));
        let mut named: Vec<_> = self.files.iter().filter_map(named).collect();
        named.sort();
        named
    }

    /// The example names that share the most words with a name, at most three.
    pub(super) fn similar_names(&self, name: &str) -> Vec<String> {
        let wanted_words = words(name);
        let shared = |name: &str| words(name).iter().filter(|word| wanted_words.contains(word)).count();
        let mut scored: Vec<_> =
            self.shortest_names().into_iter().map(|(name, path)| (shared(&self.relative_path(&path)), name)).collect();
        scored.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.len().cmp(&other.1.len())));
        let similar = scored.into_iter().filter(|(shared, _)| *shared > 0);
        similar.map(|(_, name)| name).take(MAX_SUGGESTIONS).collect()
    }

    fn shortest_name(&self, path: &Path) -> Option<String> {
        let inside = self.relative_path(path);
        let stem = path.file_stem()?.to_str()?;
        let names = [stem, without_extension(&inside), &inside, &format!("configs/{inside}")].map(str::to_owned);
        names.into_iter().find(|name| self.containing(name).eq([path]))
    }

    fn containing(&self, name: &str) -> impl Iterator<Item = &Path> {
        let contains = move |path: &&PathBuf| path.to_str().is_some_and(|path| path.contains(name));
        self.files.iter().filter(contains).map(PathBuf::as_path)
    }

    /// `--list-examples` prints `basic/multi/two.yaml` as `basic_multi_two`.
    fn printed_name(&self, path: &Path) -> Option<String> {
        Some(without_extension(&self.relative_path(path)).replace('/', "_")).filter(|name| !name.is_empty())
    }

    fn relative_path(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

fn without_extension(name: &str) -> &str {
    name.strip_suffix(".yaml").unwrap_or(name)
}

fn words(name: &str) -> Vec<String> {
    let words = without_extension(name).split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir())).map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The 11 in `…/lib/python3.11/site-packages/massgen`.
fn python_minor(package: &Path) -> u32 {
    let names = package.components().rev().filter_map(|part| part.as_os_str().to_str());
    names.filter_map(|name| name.strip_prefix("python3.")?.parse().ok()).next().unwrap_or(11)
}

/// The folders in the order of Python's `Path.rglob`, of which MassGen takes the first match: within a folder, the order on disk; across
/// folders, an order that differs between Python 3.11, 3.12 and 3.13.
fn search_order(root: &Path, minor: u32) -> Vec<PathBuf> {
    let mut order = vec![root.to_owned()];
    match minor {
        ..=11 => depth_first(root, &mut order),
        12 => siblings_first(root, &mut order),
        13.. => last_first(root, &mut order),
    }
    order
}

fn depth_first(folder: &Path, order: &mut Vec<PathBuf>) {
    for subfolder in subfolders(folder) {
        order.push(subfolder.clone());
        depth_first(&subfolder, order);
    }
}

fn siblings_first(folder: &Path, order: &mut Vec<PathBuf>) {
    let folders = subfolders(folder);
    order.extend(folders.iter().cloned());
    folders.iter().for_each(|folder| siblings_first(folder, order));
}

fn last_first(root: &Path, order: &mut Vec<PathBuf>) {
    let mut stack = vec![root.to_owned()];
    while let Some(folder) = stack.pop() {
        let folders = subfolders(&folder);
        order.extend(folders.iter().cloned());
        stack.extend(folders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[&str]) -> tempfile::TempDir {
        let package = tempfile::tempdir().expect("temp");
        for file in files {
            let path = package.path().join("configs").join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, "agents: []\n").expect("write");
        }
        package
    }

    #[test]
    fn a_name_is_a_part_of_the_path_or_massgens_printed_name() {
        let package = package(&["basic/multi/two_minds.yaml", "meta/massgen_runs.yaml", "meta/README.md"]);
        let examples = Examples::in_package(package.path());
        let found = |name: &str| examples.find(name).map(|path| examples.relative_path(path));
        for name in [
            "two_minds",
            "minds",
            "multi/two_minds.yaml",
            "configs/basic/multi/two_minds.yaml",
            "basic_multi_two_minds",
            "basic_multi_two_minds.yaml",
        ] {
            assert_eq!(found(name).as_deref(), Some("basic/multi/two_minds.yaml"), "{name}");
        }
        assert_eq!(found("configs/meta/massgen_runs.yaml").as_deref(), Some("meta/massgen_runs.yaml"));
        for name in ["", " ", "three_minds", "README", "basic_multi"] {
            assert_eq!(found(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_listed_name_matches_no_other_path() {
        let package = package(&["a/one.yaml", "b/one.yaml", "b/one-more.yaml", "c/b/one.yaml", "longer.yaml"]);
        let examples = Examples::in_package(package.path());
        let names: Vec<String> = examples.shortest_names().into_iter().map(|(name, _)| name).collect();
        let expected = ["a/one", "c/b/one", "configs/b/one.yaml", "longer", "one-more"];
        assert_eq!(names, expected.map(|name| format!("@examples/{name}")));
        for (name, path) in examples.shortest_names() {
            assert_eq!(examples.find(name.strip_prefix("@examples/").expect("prefix")), Some(path.as_path()));
        }
    }

    #[test]
    fn similar_names_are_suggested() {
        let package = package(&["tools/mcp/gemini_mcp_example.yaml", "tools/mcp/claude.yaml", "basic/x.yaml"]);
        let examples = Examples::in_package(package.path());
        let suggested = examples.similar_names("providers/gemini/gemini_mcp_example");
        assert_eq!(suggested, ["@examples/gemini_mcp_example", "@examples/claude"]);
        assert!(examples.similar_names("nothing alike").is_empty());
    }

    #[test]
    fn each_python_searches_in_its_own_order() {
        let package = package(&["a/x/1.yaml", "a/y/1.yaml", "b/x/1.yaml"]);
        let root = package.path().join("configs");
        let [first, second] = <[PathBuf; 2]>::try_from(subfolders(&root)).expect("two folders");
        let below = |folder: &PathBuf| subfolders(folder);
        let order = |parts: &[&[PathBuf]]| [std::slice::from_ref(&root), parts.concat().as_slice()].concat();
        let one = std::slice::from_ref;
        let depth_first_order = order(&[one(&first), &below(&first), one(&second), &below(&second)]);
        assert_eq!(search_order(&root, 11), depth_first_order);
        let by_level = order(&[&[first.clone(), second.clone()], &below(&first), &below(&second)]);
        assert_eq!(search_order(&root, 12), by_level);
        let backwards = order(&[&[first.clone(), second.clone()], &below(&second), &below(&first)]);
        assert_eq!(search_order(&root, 13), backwards);
        assert_eq!(python_minor(Path::new("/v/lib/python3.12/site-packages/massgen")), 12);
        assert_eq!(python_minor(Path::new("/src/massgen")), 11);
    }
}
