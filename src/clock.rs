//! What time it is, by the clocks a run is measured with. It never waits.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use crate::run::Moment;

/// This moment.
pub fn now() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    let boot_ms = boot.tv_sec.unsigned_abs() * 1000 + boot.tv_nsec.unsigned_abs() / 1_000_000;
    Moment { wall: jiff::Timestamp::now(), boot_ms, boot_id: boot_id().to_owned() }
}

/// Which boot of the machine this is; empty where the kernel does not tell.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        told.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}
