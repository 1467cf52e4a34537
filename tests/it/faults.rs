//! The fault suite: each test is named after the fault that it is for; `tests/FAULTS.md` lists them all.

mod content;
mod files;
mod identity;
mod ledger;
mod money;
mod process_life;
mod protocol;
mod server_life;

#[path = "faults/identity.rs"]
mod identity_warm;
#[path = "faults/money.rs"]
mod money_warm;
#[path = "faults/process_life.rs"]
mod process_life_warm;
#[path = "faults/server_life.rs"]
mod server_life_warm;
