//! Lone surrogates in JSON. A JavaScript string that was cut inside an emoji contains one, and `JSON.stringify` writes
//! it as an escape that UTF-8 cannot represent. Pure.

/// The length of `\uXXXX` in bytes.
const ESCAPE_LEN: usize = 6;

/// Replaces each lone surrogate with U+FFFD; `None` if all surrogates are paired.
pub(super) fn replace_lone_surrogates(text: &[u8]) -> Option<Vec<u8>> {
    let mut repaired: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < text.len() {
        let step = match (utf16_unit(text, at), utf16_unit(text, at + ESCAPE_LEN)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE_LEN,
            (Some(0xd800..=0xdfff), _) => {
                let repaired = repaired.get_or_insert_with(|| text.to_vec());
                repaired[at..at + ESCAPE_LEN].copy_from_slice(br"\ufffd");
                ESCAPE_LEN
            }
            // An escaped backslash does not start another escape.
            _ if text[at] == b'\\' => 2,
            _ => 1,
        };
        at += step;
    }
    repaired
}

/// The UTF-16 code unit of an escape at this position.
fn utf16_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + ESCAPE_LEN)?.strip_prefix(br"\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_surrogates_are_replaced() {
        for (text, expected) in [
            (r#""a\ud83e\udd80b""#, None),
            (r#""a\\ud83eb""#, None),
            (r#""a\ud83eb""#, Some(r#""a\ufffdb""#)),
            (r#""\udd80\uD83E\ud83e\udd80""#, Some(r#""\ufffd\ufffd\ud83e\udd80""#)),
            (r#""\\\ud83e""#, Some(r#""\\\ufffd""#)),
            (r#""\ud83"#, None),
        ] {
            let repaired =
                replace_lone_surrogates(text.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
            assert_eq!(repaired.as_deref(), expected, "{text}");
        }
    }
}
