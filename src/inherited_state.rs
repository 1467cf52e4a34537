//! What a process inherits from its launcher and must not depend on: the signal mask, ignored signals, and a umask that takes
//! permissions from the owner. Each of our processes resets them before anything else, so that its children inherit none of it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use procfs::process::Process;
use rustix::fs::Mode;
use rustix::process::{Signal, umask};
use signal_hook::consts::FORBIDDEN;

/// The highest signal number of Linux.
const MAX_SIGNAL: i32 = 64;

/// What an ignored SIGHUP means to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SighupPolicy {
    /// `nohup`: the user wants it to survive the terminal, so it stays ignored.
    KeepIgnored,
    /// Nothing: this process has a session of its own.
    Reset,
}

/// Resets the signal mask, the dispositions and the owner's bits of the umask.
///
/// It must be called while the process has one thread. Only `exec` resets dispositions without unsafe code: if a signal is ignored,
/// this process executes `me`, its own program, once, with the same process id, arguments and environment.
pub fn reset(me: &Path, hang_up: SighupPolicy) {
    umask(umask(Mode::empty()) & (Mode::RWXG | Mode::RWXO));
    // Fails for no valid mask, and the empty one is valid.
    let _valid = SigSet::empty().thread_set_mask();
    let handled: Vec<_> = ignored_signals()
        .into_iter()
        .filter(|signal| should_reset(*signal, hang_up) && install_noop_handler(*signal).is_ok())
        .collect();
    let still_ignored = ignored_signals();
    // One that is still ignored would also be after `exec`, which would never end.
    if !handled.is_empty() && !handled.iter().any(|signal| still_ignored.contains(signal)) {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let _not_executed: io::Error = Command::new(me).arg0(name).args(arguments).exec();
    }
    // Its default is death; with a handler, a write beyond `ulimit -f` fails with EFBIG.
    let _known = install_noop_handler(Signal::XFSZ.as_raw());
}

/// Rust ignores SIGPIPE itself, and resets it in children.
fn should_reset(signal: i32, hang_up: SighupPolicy) -> bool {
    let is_kept = signal == Signal::HUP.as_raw() && hang_up == SighupPolicy::KeepIgnored;
    signal != Signal::PIPE.as_raw() && !is_kept && !FORBIDDEN.contains(&signal)
}

/// A handler that does nothing, which `exec` replaces by the default.
fn install_noop_handler(signal: i32) -> io::Result<()> {
    signal_hook::flag::register(signal, Arc::default()).map(drop)
}

fn ignored_signals() -> Vec<i32> {
    let set = Process::myself().and_then(|process| process.status()).map(|status| status.sigign).unwrap_or_default();
    (1..=MAX_SIGNAL).filter(|signal| set & (1 << (signal - 1)) != 0).collect()
}
