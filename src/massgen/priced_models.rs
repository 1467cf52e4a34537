//! Which models MassGen has a price for (`token_manager/token_manager.py`): those in LiteLLM's list and in MassGen's own families. MassGen
//! reports a cost of 0 for all other models, so no dollar budget limits them. This file reads the installed list; MassGen itself fetches
//! the newest one.

use std::path::Path;

/// LiteLLM's list, relative to the package folder.
const PRICE_LIST: &str = "litellm/model_prices_and_context_window_backup.json";
/// The name prefixes of models with prices in MassGen itself.
const PRICED_FAMILIES: [&str; 9] = ["gpt-3.5", "gpt-4", "gpt-5", "o1", "o3", "o4", "claude-", "gemini-", "grok-"];

/// Knows which models have a price.
pub struct PricedModels {
    list: String,
}

impl PricedModels {
    /// Reads the list of an installed package; without a package or a list, only the families are known.
    pub fn load(package: Option<&Path>) -> PricedModels {
        let list =
            package.and_then(Path::parent).and_then(|folder| std::fs::read_to_string(folder.join(PRICE_LIST)).ok());
        PricedModels { list: list.unwrap_or_default() }
    }

    /// Whether MassGen has a price for a model.
    pub fn has(&self, model: &str) -> bool {
        let name = model.rsplit('/').next().unwrap_or(model);
        let names = [model.to_owned(), format!("openrouter/{model}"), name.to_owned(), name.replace('.', "-")];
        let lower_name = name.to_lowercase();
        PRICED_FAMILIES.iter().any(|family| lower_name.starts_with(family))
            || names.iter().any(|name| self.list.contains(&format!("\"{name}\": {{")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_the_list_and_of_known_families_have_a_price() {
        let root = tempfile::tempdir().expect("temp");
        let package = root.path().join("massgen");
        let list = root.path().join(PRICE_LIST);
        std::fs::create_dir_all(list.parent().expect("parent")).expect("mkdir");
        std::fs::write(&list, r#"{"deepseek-chat": {"input_cost_per_token": 1}, "openrouter/z/m-1": {}}"#)
            .expect("written");
        let prices = PricedModels::load(Some(&package));
        for known in ["deepseek-chat", "z/m-1", "openai/gpt-5-mini", "claude-sonnet-4-5", "Gemini-2.5-pro"] {
            assert!(prices.has(known), "{known}");
        }
        for unknown in ["scripted", "my-gpt-5", "chat", "", "llama-local"] {
            assert!(!prices.has(unknown), "{unknown}");
        }
        assert!(PricedModels::load(None).has("gpt-5") && !PricedModels::load(None).has("deepseek-chat"));
    }
}
