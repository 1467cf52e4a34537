//! Small edits in the text of a config: a scalar replaced, a key added at the top; every other byte stays as it was, since
//! another YAML library than MassGen's own reads a few things otherwise (merge keys, `yes`, `0755`). Pure.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScanError};

/// A value of a config: a scalar, with the keys that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The keys from the top; places in lists are left out.
    pub(super) keys: Vec<String>,
    /// What it says.
    pub(super) text: String,
    /// Where it stands, in characters.
    span: Range<usize>,
}

impl Scalar {
    /// The nearest key.
    pub(super) fn key(&self) -> &str {
        self.keys.last().map(String::as_str).unwrap_or_default()
    }
}

/// A config, as text and as the values in it.
pub(super) struct Document<'a> {
    text: &'a str,
    /// All values, in the order of the text.
    pub(super) scalars: Vec<Scalar>,
    /// Where a key can be added at the top: after the brace of a flow mapping, or (`None`) at the end of a block mapping.
    brace: Option<usize>,
}

/// A config that cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is no YAML.
    #[error("the config is no YAML")]
    Scan(#[source] ScanError),
    /// It is something else than a mapping.
    #[error("the config is not a mapping of keys to values")]
    NotAMapping,
    /// The edited text would not say what it should.
    #[error("the config has a form in which it cannot be edited safely")]
    Unsafe,
}

enum Frame {
    List,
    Map { key: Option<String> },
}

impl Document<'_> {
    /// Reads the first document of a text.
    pub(super) fn read(text: &str) -> Result<Document<'_>, EditError> {
        let mut document = Document { text, scalars: Vec::new(), brace: None };
        let mut frames: Vec<Frame> = Vec::new();
        let mut top_seen = false;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(EditError::Scan)?;
            let (from, to) = (span.start.index(), span.end.index());
            match event {
                Event::MappingStart(..) => {
                    if !top_seen {
                        document.brace = text.chars().nth(from).filter(|c| *c == '{').map(|_| from + 1);
                    }
                    top_seen = true;
                    frames.push(Frame::Map { key: None });
                }
                Event::SequenceStart(..) if frames.is_empty() => return Err(EditError::NotAMapping),
                Event::SequenceStart(..) => frames.push(Frame::List),
                Event::MappingEnd | Event::SequenceEnd => {
                    frames.pop();
                    value_ended(&mut frames);
                }
                Event::Scalar(said, ..) => document.scalar(&mut frames, said.into_owned(), from..to),
                Event::Alias(_) => document.alias(&mut frames),
                Event::DocumentEnd => break,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
        }
        if top_seen { Ok(document) } else { Err(EditError::NotAMapping) }
    }

    fn scalar(&mut self, frames: &mut [Frame], text: String, span: Range<usize>) {
        if let Some(Frame::Map { key: key @ None }) = frames.last_mut() {
            *key = Some(text);
            return;
        }
        let keys = frames.iter().filter_map(|frame| match frame {
            Frame::Map { key } => key.clone(),
            Frame::List => None,
        });
        self.scalars.push(Scalar { keys: keys.collect(), text, span });
        value_ended(frames);
    }

    fn alias(&self, frames: &mut [Frame]) {
        match frames.last_mut() {
            Some(Frame::Map { key: key @ None }) => *key = Some(String::new()),
            Some(Frame::Map { key: Some(_) } | Frame::List) | None => value_ended(frames),
        }
    }

    /// The text with some values replaced and some keys added at the top, both as double-quoted texts. The result is read
    /// again, and given only if it says what it should.
    pub(super) fn edited(&self, replaced: &[(&Scalar, String)], added: &[(&str, &str)]) -> Result<String, EditError> {
        let chars: Vec<char> = self.text.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        let brace = self
            .brace
            .map(|brace| (brace..brace, added.iter().map(|(k, v)| format!("{}: {},", quoted(k), quoted(v))).collect()));
        let mut edits: Vec<(Range<usize>, String)> =
            replaced.iter().map(|(old, new)| (old.span.clone(), quoted(new))).collect();
        edits.extend(brace);
        edits.sort_by_key(|(span, _)| span.start);
        for (span, new) in edits {
            out.extend(chars.get(at..span.start).ok_or(EditError::Unsafe)?);
            out.push_str(&new);
            at = span.end;
        }
        out.extend(chars.get(at..).ok_or(EditError::Unsafe)?);
        if self.brace.is_none() {
            for (key, value) in added {
                out.push_str(&format!("\n{}: {}\n", quoted(key), quoted(value)));
            }
        }
        self.prove(&out, replaced, added)?;
        Ok(out)
    }

    fn prove(&self, edited: &str, replaced: &[(&Scalar, String)], added: &[(&str, &str)]) -> Result<(), EditError> {
        let new_text =
            |old: &Scalar| replaced.iter().find(|(scalar, _)| *scalar == old).map_or(&old.text, |(_, new)| new).clone();
        let mut expected: Vec<_> = self.scalars.iter().map(|old| (old.keys.clone(), new_text(old))).collect();
        expected.extend(added.iter().map(|(key, value)| (vec![(*key).to_owned()], (*value).to_owned())));
        let mut found: Vec<_> = Document::read(edited)?.scalars.into_iter().map(|new| (new.keys, new.text)).collect();
        expected.sort();
        found.sort();
        if found == expected { Ok(()) } else { Err(EditError::Unsafe) }
    }
}

/// A value has ended: in a mapping, a key comes next.
fn value_ended(frames: &mut [Frame]) {
    if let Some(Frame::Map { key }) = frames.last_mut() {
        // A mapping as a key is legal and never a config's; it counts as a key without a name.
        *key = if key.is_none() { Some(String::new()) } else { None };
    }
}

/// A JSON text is a double-quoted YAML scalar, but for a few characters that MassGen's YAML refuses or takes for line ends.
pub(super) fn quoted(text: &str) -> String {
    let escaped =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        if escaped(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(text: &str, old: &str, new: &str) -> Result<String, EditError> {
        let document = Document::read(text)?;
        let scalar = document.scalars.iter().find(|scalar| scalar.text == old).expect("there");
        document.edited(&[(scalar, new.to_owned())], &[])
    }

    #[test]
    fn only_the_value_changes_whatever_its_style() {
        for (text, expected) in [
            ("a: x # c\nb: 0755\n", "a: \"n\" # c\nb: 0755\n"),
            ("a: 'x'\nb: yes", "a: \"n\"\nb: yes"),
            ("{a: \"x\", b: [1]}", "{a: \"n\", b: [1]}"),
            ("l:\n- x\n- {<<: *b}\nb: &b {c: on}\n", ""),
            ("l:\n- x\n- y", "l:\n- \"n\"\n- y"),
            ("ż: 'ó'\na: x\n", "ż: 'ó'\na: \"n\"\n"),
            ("b: &b {c: on}\nl:\n- x\n- {<<: *b}\n", "b: &b {c: on}\nl:\n- \"n\"\n- {<<: *b}\n"),
        ] {
            match replace(text, "x", "n") {
                Ok(edited) => assert_eq!(edited, expected),
                Err(error) => assert!(expected.is_empty(), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn characters_that_a_yaml_may_not_have_are_escaped() {
        let text = "a\u{7f}\u{85}\u{9b}\u{2028}\u{feff}ż🦀";
        assert_eq!(quoted(text), "\"a\\u007f\\u0085\\u009b\\u2028\\ufeffż🦀\"");
        let edited = Document::read("a: 1\n").expect("YAML").edited(&[], &[("prompt", text)]);
        assert!(edited.is_ok(), "and it is read again as it was");
    }

    #[test]
    fn keys_lead_to_values() {
        let document = Document::read("t:\n  s: 8\na:\n- id: q\n  m: [{p: r}, u]\n").expect("YAML");
        let found: Vec<_> = document.scalars.iter().map(|s| format!("{}={}", s.keys.join("."), s.text)).collect();
        assert_eq!(found, ["t.s=8", "a.id=q", "a.m.p=r", "a.m=u"]);
    }

    #[test]
    fn a_key_is_added_at_the_top_of_any_form() {
        for text in
            ["a: 1\n", "a: 1", "---\na: {b: c}\n# end\n", "{\"a\": 1}", "{a: 1\n}\n", "a: 1\r\n", "\u{feff}a: 1\n"]
        {
            let edited = Document::read(text).expect("YAML").edited(&[], &[("prompt", "x: \"y\"\n# z")]).expect(text);
            let again = Document::read(&edited).expect("YAML");
            assert!(again.scalars.iter().any(|s| s.keys == ["prompt"] && s.text == "x: \"y\"\n# z"), "{edited}");
        }
        let closed = Document::read("a: 1\n...\n").expect("YAML").edited(&[], &[("p", "x")]);
        assert!(closed.is_err(), "what would be another document is refused");
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for text in ["", "- a\n", "just words", "a: [", "a\n b: ["] {
            assert!(Document::read(text).is_err(), "{text:?}");
        }
    }
}
