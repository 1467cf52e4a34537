//! Reads the clocks that runs are measured with. It never waits.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use crate::run::Moment;

/// The current moment.
pub fn now() -> Moment {
    let boot = clock_gettime(ClockId::Boottime);
    let boot_ms = boot.tv_sec.unsigned_abs() * 1000 + boot.tv_nsec.unsigned_abs() / 1_000_000;
    Moment { wall: jiff::Timestamp::now(), boot_ms, boot_id: boot_id().to_owned() }
}

/// The id of the current boot; empty if the kernel does not provide it.
pub fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        text.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}
