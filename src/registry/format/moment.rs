//! Moments and process identities as run.json holds them.

use serde::{Deserialize, Serialize};

use crate::run::{Moment, ProcessIdentity};

#[derive(Serialize, Deserialize)]
pub(super) struct MomentFile {
    wall: jiff::Timestamp,
    boot_ms: u64,
    boot_id: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProcessIdentityFile {
    pid: u32,
    start_ticks: u64,
    boot_id: String,
}

impl From<&Moment> for MomentFile {
    fn from(moment: &Moment) -> MomentFile {
        MomentFile { wall: moment.wall, boot_ms: moment.boot_ms, boot_id: moment.boot_id.clone() }
    }
}

impl From<MomentFile> for Moment {
    fn from(file: MomentFile) -> Moment {
        Moment { wall: file.wall, boot_ms: file.boot_ms, boot_id: file.boot_id }
    }
}

impl From<&ProcessIdentity> for ProcessIdentityFile {
    fn from(identity: &ProcessIdentity) -> ProcessIdentityFile {
        ProcessIdentityFile { pid: identity.pid, start_ticks: identity.start_ticks, boot_id: identity.boot_id.clone() }
    }
}

impl From<ProcessIdentityFile> for ProcessIdentity {
    fn from(file: ProcessIdentityFile) -> ProcessIdentity {
        ProcessIdentity { pid: file.pid, start_ticks: file.start_ticks, boot_id: file.boot_id }
    }
}
