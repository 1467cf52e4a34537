//! The pager: pages of any length, put together, are what std makes of the bytes, with one character for each, and none that
//! steers a terminal. The first byte is the length of a page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use massgen_mcp::massgen::pages::{hex, read_page};
use massgen_mcp::secrets::Secrets;
use sha2::{Digest as _, Sha256};

fuzz_target!(|bytes: &[u8]| {
    let Some((limit, bytes)) = bytes.split_first() else { return };
    let (limit, hash) = (u64::from(*limit) + 1, hex(&Sha256::digest(bytes)));
    let (mut text, mut offset) = (String::new(), 0);
    loop {
        let page = read_page(bytes, offset, limit, &Secrets::default()).expect("a slice is always read");
        assert!(page.sha256 == hash && page.text.chars().count() as u64 <= limit);
        text.push_str(&page.text);
        match page.next_offset {
            Some(next) => {
                assert!(next > offset);
                offset = next;
            }
            None => break,
        }
    }
    assert_eq!(text.chars().count(), String::from_utf8_lossy(bytes).chars().count());
    assert!(!text.replace("\r\n", "\n").chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
});
