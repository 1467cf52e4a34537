//! What tools take as text: the names of runs, parts, cursors, rehearsals and models' texts, and a config to be edited.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use massgen_mcp::fleet::Cursor;
use massgen_mcp::fleet::results::Part;
use massgen_mcp::massgen::configs::{self, Changes, Needs, Tree};
use massgen_mcp::massgen::text;
use massgen_mcp::rehearsal;
use massgen_mcp::run::RunId;

fuzz_target!(|bytes: &[u8]| {
    let Ok(given) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = given.parse::<RunId>() {
        assert!(id.as_str() == given && !given.contains(['/', '.']));
    }
    if let Ok(Part::File(path) | Part::Agent(path)) = given.parse::<Part>() {
        assert!(!path.is_empty());
    }
    let _cursor = Cursor::given(given).to_string();
    let _known = rehearsal::check(given);
    let cleaned = text::clean(given);
    assert!(!cleaned.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    assert!(text::line(given, 40).chars().count() <= 40);
    // The edit proves its own result; here it must only come to an end.
    for prompt in [None, Some("a \"long\" question\n")] {
        let changes = Changes { project: Some(Path::new("/")), prompt, ..Changes::default() };
        let _edited = configs::effective(Path::new("c.yaml"), given, changes);
    }
    if let Ok(config) = Tree::read(given) {
        let _timeout = config.own_timeout();
        let _needs = Needs::of(&config);
        let _forbidden = configs::forbidden(&config, Some(Path::new("/")));
    }
});
