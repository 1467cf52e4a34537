//! What the kernel knows of the processes of a world, which are known by its folder: it stands in their command line or in their
//! environment, or they work in it.

use std::collections::HashMap;
use std::fs::{read, read_link, read_to_string};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};

/// How often a process's time on the processor is read: what it has in its last moments is missed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Memory is summed up at every so manieth look. That takes the kernel long where processes share much, and slows them down: it is
/// done in a round of its own, whose times do not count.
const MEMORY_EVERY: usize = 5;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Time on the processor.
    Time,
    /// Memory.
    Memory,
}

/// What processes took while somebody watched.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// Seconds on a processor.
    pub(crate) cpu_s: f64,
    /// The most memory of all at once, in MiB; what several share is counted once.
    pub(crate) memory_mib: f64,
}

/// Watches the processes of a world, but for one that is not of its runs.
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<Taken>,
}

impl Watch {
    pub(crate) fn begin(root: &Path, but: Option<u32>, of: Of) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let (root, seen) = (root.to_owned(), Arc::clone(&over));
        Watch { over, watcher: std::thread::spawn(move || watch(&root, but, of, &seen)) }
    }

    pub(crate) fn end(self) -> anyhow::Result<Taken> {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().map_err(|_| anyhow!("the watcher panicked"))
    }
}

fn watch(root: &Path, but: Option<u32>, of: Of, over: &AtomicBool) -> Taken {
    let mut known: HashMap<u32, bool> = HashMap::new();
    let mut spent: HashMap<u32, (f64, f64)> = HashMap::new();
    let mut memory_mib: f64 = 0.0;
    for look in 0_usize.. {
        let pids: Vec<u32> = everyone().filter(|pid| Some(*pid) != but).collect();
        known.retain(|pid, _| pids.contains(pid));
        // One that is not of it may become so, by `exec` or by going into its folder.
        let mut of_it = |pid: &u32| {
            let is = known.entry(*pid).or_default();
            *is = *is || is_of(*pid, root);
            *is
        };
        let own: Vec<u32> = pids.into_iter().filter(|pid| of_it(pid)).collect();
        for pid in &own {
            let now = cpu_s(*pid).unwrap_or_default();
            // What is there when the watch begins has a past that does not count.
            let first = if look == 0 { now } else { 0.0 };
            let (_, last) = spent.entry(*pid).or_insert((first, now));
            *last = last.max(now);
        }
        if of == Of::Memory && look.is_multiple_of(MEMORY_EVERY) {
            memory_mib = memory_mib.max(own.iter().filter_map(|pid| share_mib(*pid).ok()).sum());
        }
        if over.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Taken { cpu_s: spent.values().map(|(first, last)| last - first).sum(), memory_mib }
}

fn everyone() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != own)
}

fn is_of(pid: u32, root: &Path) -> bool {
    let mark = root.as_os_str().as_bytes();
    let names = |file: &str| {
        let text = read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(mark.len()).any(|window| window == mark)
    };
    let works_in = || read_link(format!("/proc/{pid}/cwd")).unwrap_or_default().starts_with(root);
    names("cmdline") || names("environ") || works_in()
}

/// Time on a processor, of its ended children as well where it has waited for them.
fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("stat")?;
    let ticks = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap_or_default());
    Ok(ticks.sum::<f64>() / procfs::ticks_per_second() as f64)
}

/// Its memory, of what it shares its part.
fn share_mib(pid: u32) -> anyhow::Result<f64> {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Ends every process of a world.
pub(crate) fn end_all_of(root: &Path) {
    let mut left: Vec<u32> = everyone().filter(|pid| is_of(*pid, root)).collect();
    // They may start others while they are ended.
    for _ in 0..10 {
        for pid in left.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
        left = everyone().filter(|pid| is_of(*pid, root)).collect();
        if left.is_empty() {
            break;
        }
    }
}
