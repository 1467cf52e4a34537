//! Resets the state that a process inherits from its launcher and must not depend on: the signal mask, ignored signals, and a umask
//! that removes permissions of the owner. Each of our processes does this first, so that its children do not inherit it either.

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

/// How an inherited ignored SIGHUP is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SighupPolicy {
    /// It stays ignored: with `nohup`, the user wants the process to outlive the terminal.
    KeepIgnored,
    /// It is reset: this process has its own session.
    Reset,
}

/// Resets the signal mask, the dispositions and the owner's bits of the umask.
///
/// It must be called while the process has one thread. Only `exec` resets dispositions without unsafe code: if a signal is ignored,
/// this process executes its own program again, once, with the same process id, arguments and environment.
pub fn reset(program: &Path, sighup_policy: SighupPolicy) {
    umask(umask(Mode::empty()) & (Mode::RWXG | Mode::RWXO));
    // This cannot fail: the empty mask is valid.
    let _result = SigSet::empty().thread_set_mask();
    let handled: Vec<_> = ignored_signals()
        .into_iter()
        .filter(|signal| should_reset(*signal, sighup_policy) && install_noop_handler(*signal).is_ok())
        .collect();
    let still_ignored = ignored_signals();
    // A signal that is still ignored would stay ignored after `exec`, and this process would execute itself forever.
    if !handled.is_empty() && !handled.iter().any(|signal| still_ignored.contains(signal)) {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let _not_executed: io::Error = Command::new(program).arg0(name).args(arguments).exec();
    }
    // The default of SIGXFSZ ends the process; with a handler, a write over the `ulimit -f` limit fails with EFBIG.
    let _installed = install_noop_handler(Signal::XFSZ.as_raw());
}

/// Whether an ignored signal must be reset. Rust ignores SIGPIPE itself, and resets it in children.
fn should_reset(signal: i32, sighup_policy: SighupPolicy) -> bool {
    let is_kept = signal == Signal::HUP.as_raw() && sighup_policy == SighupPolicy::KeepIgnored;
    signal != Signal::PIPE.as_raw() && !is_kept && !FORBIDDEN.contains(&signal)
}

/// Installs a handler that does nothing; `exec` replaces it by the default.
fn install_noop_handler(signal: i32) -> io::Result<()> {
    signal_hook::flag::register(signal, Arc::default()).map(drop)
}

fn ignored_signals() -> Vec<i32> {
    let set = Process::myself().and_then(|process| process.status()).map(|status| status.sigign).unwrap_or_default();
    (1..=MAX_SIGNAL).filter(|signal| set & (1 << (signal - 1)) != 0).collect()
}
