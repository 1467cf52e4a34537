//! Finds the id of a message that is too long to buffer, while its bytes are skipped. Pure.

/// The longest id that can be found, in bytes of JSON.
const MAX_ID_BYTES: usize = 300;

/// Searches for the value of `id` in the outermost object of a JSON text.
#[derive(Debug, Default)]
pub(super) struct IdScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The first bytes of the current name or value in the outermost object.
    token: Vec<u8>,
    is_id: bool,
    id: Option<Vec<u8>>,
}

impl IdScan {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| if self.in_string { self.in_string_byte(*byte) } else { self.structural_byte(*byte) });
    }

    /// The id as JSON, if one was found.
    pub(super) fn into_id(self) -> Option<Vec<u8>> {
        self.id
    }

    fn in_string_byte(&mut self, byte: u8) {
        self.push_token_byte(byte);
        let was_escaped = std::mem::take(&mut self.escaped);
        match byte {
            b'\\' => self.escaped = !was_escaped,
            b'"' => self.in_string = was_escaped,
            _ => {}
        }
    }

    fn structural_byte(&mut self, byte: u8) {
        match byte {
            b',' if self.depth == 1 => self.end_member(),
            b':' if self.depth == 1 => self.is_id = std::mem::take(&mut self.token) == b"\"id\"",
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                if self.depth == 1 {
                    self.end_member();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            byte => {
                self.in_string = byte == b'"';
                self.push_token_byte(byte);
            }
        }
    }

    fn end_member(&mut self) {
        let token = std::mem::take(&mut self.token);
        if std::mem::take(&mut self.is_id) {
            self.id = Some(token);
        }
    }

    fn push_token_byte(&mut self, byte: u8) {
        let is_blank = !self.in_string && byte.is_ascii_whitespace();
        if self.depth == 1 && self.token.len() < MAX_ID_BYTES && !is_blank {
            self.token.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Option<String> {
        let mut scan = IdScan::default();
        text.as_bytes().chunks(3).for_each(|piece| scan.push(piece));
        scan.into_id().map(|id| String::from_utf8(id).expect("UTF-8"))
    }

    #[test]
    fn an_id_is_found_at_any_position() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"id":8,"y":["a,b",{"id":9}]}}"#, Some("7")),
            (
                r#"{"method":"x","params":{"a":"\"},\"id\":1","b":"\\"},"jsonrpc":"2.0", "id" : "a\"b, c" }"#,
                Some(r#""a\"b, c""#),
            ),
            (r#"{"params":{"id":1},"text":"id"}"#, None),
            (r#"[{"id":1}]"#, None),
            (r#"{"id":5"#, None),
            ("no JSON: \"id\":5,", None),
        ] {
            assert_eq!(id(text).as_deref(), expected, "{text}");
        }
    }
}
