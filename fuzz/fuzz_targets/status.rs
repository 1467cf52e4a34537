//! The reader of status.json: any bytes give a digest within its bounds, or are torn.
#![no_main]

use libfuzzer_sys::fuzz_target;
use massgen_mcp::massgen::{status, text};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(digest) = status::digest(bytes) {
        assert!(digest.agents.len() <= 64);
        assert!(digest.cost_usd.is_none_or(|cost| cost.is_finite() && cost > 0.0));
        for word in digest.agents.iter().map(|agent| &agent.id).chain(&digest.winner).chain(&digest.phase) {
            assert!(word.chars().count() <= 64 && text::remove_harmful(word) == *word);
        }
    }
});
