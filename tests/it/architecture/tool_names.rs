//! The string literals of a source file, without tests and doc comments: only the modules that speak to a reader may name tools.

use syn::visit::{self, Visit};

use super::dependencies::{is_test, item_attributes};

/// The tools of the server.
const TOOLS: [&str; 6] = ["run_massgen", "check_status", "read_result", "kill_run", "steer_run", "list_configs"];

/// The literals of a source text that name a tool.
pub(super) fn literals_with_tools(text: &str) -> Vec<String> {
    let file = syn::parse_file(text).expect("Rust");
    let mut literals = Literals::default();
    literals.visit_file(&file);
    literals.0.into_iter().filter(|literal| TOOLS.iter().any(|tool| literal.contains(tool))).collect()
}

#[derive(Default)]
struct Literals(Vec<String>);

impl<'ast> Visit<'ast> for Literals {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    /// Doc comments are attributes.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.0.push(literal.value());
    }

    /// The body of a macro has no syntax tree.
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        let body = mac.tokens.to_string().replace("\\\"", "");
        self.0.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
    }
}
