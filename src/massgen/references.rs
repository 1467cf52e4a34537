//! Files that a question names as `@notes.md`. MassGen would replace such a reference with the file's content, so runs start with
//! `--no-parse-at-references`: otherwise a question could open any folder. This file reads no referenced file.

use crate::run::Problem;

/// The most references that a warning names.
const MAX_NAMED_REFERENCES: usize = 3;
/// Extensions that mark a name as a file, not a decorator, an account or a package.
const FILE_EXTENSIONS: [&str; 32] = [
    "c", "cc", "cpp", "css", "csv", "docx", "go", "h", "html", "ipynb", "java", "jpg", "js", "json", "log", "md",
    "pdf", "png", "py", "rs", "rst", "sh", "sql", "toml", "ts", "tsv", "tsx", "txt", "xlsx", "xml", "yaml", "yml",
];

/// The warning about a question with such references. `exists` returns whether a file or folder of that name exists.
pub fn warning(question: &str, exists: impl Fn(&str) -> bool) -> Option<Problem> {
    let mut missing: Vec<String> = Vec::new();
    for name in references(question).filter(|name| looks_like_a_file(name) || exists(name)) {
        let reference = format!("`@{name}`");
        if missing.len() < MAX_NAMED_REFERENCES && !missing.contains(&reference) {
            missing.push(reference);
        }
    }
    let message = format!("{} in the question: no file is read for it, it stays as text", missing.join(", "));
    let hint = "give `context`: \"read\", and name the files without @, as paths in the project; or put their text into the question";
    (!missing.is_empty()).then(|| Problem::new("reference_not_read", &message, hint))
}

/// The words that begin with an `@`, as MassGen parses them (`path_handling/prompt_parser.py`): not inside a word, as in an e-mail address,
/// and not after a backslash.
fn references(question: &str) -> impl Iterator<Item = &str> {
    question.match_indices('@').filter_map(|(at, _)| {
        let before = question[..at].chars().next_back();
        let within = before.is_some_and(|c| c.is_alphanumeric() || "_.\\-@/".contains(c));
        let rest = &question[at + 1..];
        let end = rest.find(|c: char| c.is_whitespace() || "\"'`,;()[]{}<>|@".contains(c)).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches(['.', ':', '!', '?']);
        let name = name.strip_suffix(":w").unwrap_or(name);
        (!within && !name.is_empty()).then_some(name)
    })
}

fn looks_like_a_file(name: &str) -> bool {
    let is_path = ["./", "../", "~/", "/"].iter().any(|start| name.starts_with(start));
    let ending = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending.to_lowercase());
    is_path || ending.is_some_and(|ending| FILE_EXTENSIONS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(question: &str) -> Option<String> {
        let existing = ["docs", "Makefile", "src/main"];
        warning(question, |name| existing.contains(&name)).map(|warning| warning.message)
    }

    #[test]
    fn file_references_are_distinguished_from_other_uses_of_at() {
        for (question, name) in [
            ("Sum up @notes.md.", "`@notes.md`"),
            ("(@docs) and more", "`@docs`"),
            ("see @src/main, please", "`@src/main`"),
            ("@./a b", "`@./a`"),
            ("@/etc/passwd:w", "`@/etc/passwd`"),
            ("\"@Makefile\"", "`@Makefile`"),
            ("a @a.md b @b.md c @a.md d @c.md e @d.md", "`@a.md`, `@b.md`, `@c.md`"),
        ] {
            assert_eq!(
                named(question).and_then(|message| message.split(" in the").next().map(str::to_owned)),
                Some(name.into())
            );
        }
        for plain in [
            "mail me@example.md or a.b@docs",
            "use @dataclass and @app.route, @pytest.mark.parametrize",
            "@types/node and @modelcontextprotocol/server-filesystem",
            "@someone, hello @ all @@docs \\@notes.md",
            "@user@host.md",
            "no reference at all",
        ] {
            assert_eq!(named(plain), None, "{plain}");
        }
    }
}
