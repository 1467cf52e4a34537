//! Names that people and models write: finds the known name that was probably meant, and reads `file://` addresses. It does not access the
//! disk.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use strsim::{jaro_winkler, normalized_damerau_levenshtein};

/// The longest name that is compared with known names, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The most similar known name, if it is similar enough.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (similarity(name, known), known));
    scored.filter(|(score, _)| *score > 0.0).max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, known)| known)
}

/// How similar two names are, from 0 (unrelated) to 1 (equal except for case).
pub fn similarity(name: &str, known: &str) -> f64 {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || known.len() > MAX_NAME_BYTES {
        return 0.0;
    }
    let (name, known) = (name.to_lowercase(), known.to_lowercase());
    let (edit_similarity, prefix_similarity) =
        (normalized_damerau_levenshtein(&name, &known), jaro_winkler(&name, &known));
    // Typing errors change few characters; a name with a missing end still has the right beginning.
    if edit_similarity >= 0.7 || prefix_similarity >= 0.9 { edit_similarity.max(prefix_similarity) } else { 0.0 }
}

/// The path in a `file://` address of this machine; any other text unchanged.
pub fn local_path(name: &str) -> Cow<'_, str> {
    let path = name.strip_prefix("file://localhost/").or_else(|| name.strip_prefix("file:///"));
    match path.map(|path| percent_decode_str(path).decode_utf8()) {
        Some(Ok(path)) => Cow::Owned(format!("/{path}")),
        Some(Err(_)) | None => Cow::Borrowed(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_name_is_found_if_similar_enough() {
        let known = ["budget_usd", "max_tokens", "timeout_s", "wait_s", "question", "questions", "run_id", "run_ids"];
        for (name, expected) in [
            ("budget", Some("budget_usd")),
            ("timeout", Some("timeout_s")),
            ("Wait_S", Some("wait_s")),
            ("questoin", Some("question")),
            ("max_token", Some("max_tokens")),
            ("runid", Some("run_id")),
            ("temperature", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"run_id".repeat(2_000), known), None);
    }

    #[test]
    fn a_file_url_is_its_path() {
        for (name, path) in [
            ("file:///a/team%20one.yaml", "/a/team one.yaml"),
            ("file://localhost/a.yaml", "/a.yaml"),
            ("file://team.yaml", "file://team.yaml"),
            ("file:///%ff", "file:///%ff"),
            ("team.yaml", "team.yaml"),
        ] {
            assert_eq!(local_path(name), path);
        }
    }
}
