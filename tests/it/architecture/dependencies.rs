//! Which source file uses items of which other file, read from the syntax tree: `use` declarations and paths outside of tests.
//! An item that a file only re-exports belongs to the file that defines it. Macro bodies are searched for paths as well.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

/// A module of the crate, as the names that lead to it; empty for the crate's root.
pub(crate) type Module = Vec<String>;

/// What one file defines, re-exports and mentions.
#[derive(Default)]
struct Source {
    defined: BTreeSet<String>,
    /// Each imported name with the path that it stands for.
    imported: BTreeMap<String, Vec<String>>,
    /// Every path that the file mentions, imports included.
    paths: BTreeSet<Vec<String>>,
}

/// The files of a crate that each file uses; parents that a file uses are left out, since a child may use its ancestors.
pub(crate) fn dependencies(files: &[(Module, String)]) -> BTreeMap<Module, BTreeSet<Module>> {
    let sources: BTreeMap<Module, Source> = files.iter().map(|(module, text)| (module.clone(), source(text))).collect();
    sources
        .iter()
        .map(|(module, source)| {
            let used = source.paths.iter().filter_map(|path| definition(&sources, module, path, 0));
            (module.clone(), used.filter(|used| !module.starts_with(used)).collect())
        })
        .collect()
}

/// The files of each circle: sets of more than one file in which each reaches every other.
pub(crate) fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = uses.keys().map(|from| (from, reachable(uses, from))).collect();
    let mut found: Vec<BTreeSet<Module>> = Vec::new();
    for (module, far) in &reached {
        let circle: BTreeSet<Module> = far
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)))
            .map(|m| (*m).clone())
            .collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

fn reachable<'a>(uses: &'a BTreeMap<Module, BTreeSet<Module>>, from: &'a Module) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        open.extend(uses.get(next).into_iter().flatten().filter(|used| seen.insert(*used)));
    }
    seen
}

fn source(text: &str) -> Source {
    let file = syn::parse_file(text).expect("Rust");
    let mut source = Source::default();
    source.visit_file(&file);
    source
}

/// The file that defines what a path in a module stands for, following re-exports; none for what is not of this crate.
fn definition(sources: &BTreeMap<Module, Source>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    let (mut module, rest) = start(sources, from, path)?;
    let mut rest = rest.iter().peekable();
    while let Some(name) = rest.peek() {
        let below: Module = module.iter().cloned().chain([(*name).clone()]).collect();
        if !sources.contains_key(&below) {
            break;
        }
        module = below;
        rest.next();
    }
    let source = sources.get(&module)?;
    match rest.next() {
        Some(name) if !source.defined.contains(name) && depth < 8 => match source.imported.get(name) {
            Some(further) => definition(sources, &module, further, depth + 1),
            None => Some(module),
        },
        _ => Some(module),
    }
}

/// Where the look-up of a path begins, and what is left of the path.
fn start<'a>(sources: &BTreeMap<Module, Source>, from: &Module, path: &'a [String]) -> Option<(Module, &'a [String])> {
    let first = path.first()?;
    match first.as_str() {
        "crate" => Some((Module::new(), &path[1..])),
        "self" => Some((from.clone(), &path[1..])),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            Some((from[..from.len().checked_sub(ups)?].to_vec(), &path[ups..]))
        }
        name => {
            let below: Module = from.iter().cloned().chain([name.to_owned()]).collect();
            sources.contains_key(&below).then(|| (from.clone(), path))
        }
    }
}

impl Source {
    fn import(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.import(&with(path.ident.to_string()), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(before, item)),
            syn::UseTree::Name(name) if name.ident == "self" => self.bind(before.last().cloned(), before.to_vec()),
            syn::UseTree::Name(name) => self.bind(Some(name.ident.to_string()), with(name.ident.to_string())),
            syn::UseTree::Rename(name) => self.bind(Some(name.rename.to_string()), with(name.ident.to_string())),
            syn::UseTree::Glob(_) => {
                self.paths.insert(before.to_vec());
            }
        }
    }

    fn bind(&mut self, name: Option<String>, path: Vec<String>) {
        self.paths.insert(path.clone());
        if let Some(name) = name {
            self.imported.insert(name, path);
        }
    }

    /// The paths in the body of a macro, which has no syntax tree.
    fn search(&mut self, body: &str) {
        let words = body.replace(" :: ", "::");
        let words =
            words.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| word.contains("::"));
        self.paths.extend(words.map(|word| word.split("::").map(str::to_owned).collect::<Vec<_>>()));
    }
}

/// Whether an item is compiled only for tests.
pub(super) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

/// The attributes of an item that can be compiled only for tests.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of syn that grows")]
pub(super) fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Source {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an enum of syn that grows; other items define nothing that is imported"
    )]
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Fn(item) => Some(&item.sig.ident),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            _ => None,
        };
        if is_test(item_attributes(item)) {
            return;
        }
        self.defined.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.import(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.search(&mac.tokens.to_string());
        visit::visit_macro(self, mac);
    }
}
