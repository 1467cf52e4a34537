//! What tools take as text: the names of runs, parts, cursors, rehearsals and models' texts, and a config to be edited.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use massgen_mcp::fleet::Cursor;
use massgen_mcp::fleet::results::ResultPart;
use massgen_mcp::massgen::configs::{self, ConfigChanges, Needs, Tree};
use massgen_mcp::massgen::text;
use massgen_mcp::rehearsal;
use massgen_mcp::run::RunId;

fuzz_target!(|bytes: &[u8]| {
    let Ok(given) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = given.parse::<RunId>() {
        assert!(id.as_str() == given && !given.contains(['/', '.']));
    }
    if let Ok(ResultPart::File(path) | ResultPart::Agent(path)) = given.parse::<ResultPart>() {
        assert!(!path.is_empty());
    }
    let _cursor = Cursor::parse(given).to_string();
    let _known = rehearsal::check_name(given);
    let cleaned = text::remove_harmful(given);
    assert!(!cleaned.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    assert!(text::single_line(given, 40).chars().count() <= 40);
    // The edit proves its own result; here it must only come to an end.
    for prompt in [None, Some("a \"long\" question\n")] {
        let changes = ConfigChanges { project: Some(Path::new("/")), prompt, ..ConfigChanges::default() };
        let _edited = configs::effective_config(Path::new("c.yaml"), given, changes);
    }
    if let Ok(config) = Tree::parse(given) {
        let _timeout = config.own_timeout();
        let _needs = Needs::from_config(&config);
        let _forbidden = configs::find_violation(&config, Some(Path::new("/")));
    }
});
