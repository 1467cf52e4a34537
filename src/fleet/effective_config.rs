//! Makes the config that MassGen reads, at the admission of a run: the checked config of the request with the question, and with what only
//! this run has. It is written once, with the run's folder. The config of a rehearsal is made by the run's supervisor.

use std::path::{Path, PathBuf};

use super::answer_basis::BasisFiles;
use super::{Fleet, StartRequest};
use crate::massgen::basis::BasisCopy;
use crate::massgen::run_config::{self, ConfigSource};
use crate::massgen::text::error_chain;
use crate::registry::RegistryError;

impl Fleet {
    /// The effective config of a request: its name in the run's folder, and its text. `None` for a rehearsal.
    ///
    /// A config that cannot take the question is handed on without it: the run's supervisor finds that, does not start MassGen, and ends the
    /// run as `config_invalid`.
    pub(super) fn effective_config(
        &self,
        start: &StartRequest,
        answer: Option<&BasisFiles>,
    ) -> Result<Option<(&'static str, String)>, RegistryError> {
        let Some((name, checked)) = &start.config else { return Ok(None) };
        // The folder does not exist yet, but its name is certain.
        let basis_folder = self.state().run_folder(&start.spec.id).basis();
        let staged = answer.map_or_else(PathBuf::new, BasisFiles::folder);
        let answer = BasisCopy { folder: &staged, final_folder: &basis_folder };
        // Keys that were taken out of the config are secrets too.
        let secrets = self.secrets().with_values(start.keys.0.iter().map(|(_, value)| value.clone()));
        let question = run_config::agents_question(&start.spec, answer, &secrets);
        let question =
            question.map_err(|source| RegistryError::Io { operation: "read", path: staged.clone(), source })?;
        let source = ConfigSource { path: Path::new(name), text: checked, overrides: None };
        let effective = run_config::effective_config(&start.spec, source, &question, &basis_folder);
        Ok(Some(match effective {
            Ok(effective) => (if effective.is_json { "config.json" } else { "config.yaml" }, effective.text),
            Err(error) => {
                tracing::warn!(run = %start.spec.id, error = error_chain(&error), "the question does not fit into the config");
                (name, checked.clone())
            }
        }))
    }
}
