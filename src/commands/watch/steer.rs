//! What the key for steering does. The table, the input line and the note that tells how it went are the screen's.

use crate::fleet::Fleet;
use crate::refusal::Refusal;
use crate::run::RunId;

/// Sends a message to the agents of a run, and says in one line what came of it.
#[expect(clippy::unused_async, reason = "the fleet's steering, which takes this place, waits for the disk")]
pub(super) async fn steer(_fleet: &Fleet, id: &RunId, _message: String) -> Result<String, Refusal> {
    let hint = "let it go on, or kill it and start it again with a better question";
    Err(Refusal::new("steer_unavailable", format!("{id} cannot be steered by this version"), hint))
}
