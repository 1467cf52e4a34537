//! The fault suite: each test is named after the fault that it is for; `tests/FAULTS.md` lists them all.

mod content;
mod files;
mod identity;
mod money;
mod process_life;
mod protocol;
mod server_life;
