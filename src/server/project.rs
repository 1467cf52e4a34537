//! The project folder of a start: whether a run may have access to it, and refusals that a missing project may explain.

use crate::massgen::launch;
use crate::refusal::Refusal;
use crate::run::Context;
use crate::settings::Settings;

/// Refuses to give access to a project folder that does not exist.
pub(super) fn check_access(settings: &Settings, context: Context) -> Result<(), Refusal> {
    if context == Context::None {
        return Ok(());
    }
    match &settings.project {
        Err(reason) => Err(Refusal::no_project(reason)),
        Ok(project) if !project.is_dir() => Err(Refusal::no_project(&launch::MissingFolder(project.clone()))),
        Ok(_) => Ok(()),
    }
}

/// Adds a missing project as the possible cause of a refusal.
pub(super) fn explain_missing(settings: &Settings, refusal: Refusal) -> Refusal {
    match &settings.project {
        Ok(project) if project.is_dir() => refusal,
        Ok(project) => refusal.with_cause(&Refusal::no_project(&launch::MissingFolder(project.clone()))),
        Err(reason) => refusal.with_cause(&Refusal::no_project(reason)),
    }
}
