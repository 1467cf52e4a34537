//! CPU time and memory of the processes of a workspace. A process belongs to it if the folder is in its command line or environment,
//! or is its working folder.

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

/// The interval between two samples of CPU time. What a process uses after its last sample is lost.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// The number of CPU samples per memory sample. Reading memory is slow for the kernel when processes share much, and slows the
/// processes down. So memory is sampled in a separate round, whose times are not used.
const SAMPLES_PER_MEMORY_SAMPLE: usize = 5;

/// The quantity to sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// CPU time.
    Time,
    /// Memory.
    Memory,
}

/// The resources that the processes used while they were sampled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time in seconds.
    pub(crate) cpu_s: f64,
    /// The highest sum of all processes' memory, in MiB. Shared memory counts once.
    pub(crate) memory_mib: f64,
}

/// Samples the processes of a workspace, except one that belongs to no run.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Usage>,
}

impl Sampler {
    pub(crate) fn start(root: &Path, excluded: Option<u32>, quantity: Quantity) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stop_flag) = (root.to_owned(), Arc::clone(&stop));
        Sampler { stop, thread: std::thread::spawn(move || sample(&root, excluded, quantity, &stop_flag)) }
    }

    pub(crate) fn end(self) -> anyhow::Result<Usage> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the sampler panicked"))
    }
}

fn sample(root: &Path, excluded: Option<u32>, quantity: Quantity, stop: &AtomicBool) -> Usage {
    let mut known: HashMap<u32, bool> = HashMap::new();
    let mut spent: HashMap<u32, (f64, f64)> = HashMap::new();
    let mut memory_mib: f64 = 0.0;
    for number in 0_usize.. {
        let pids: Vec<u32> = all_pids().filter(|pid| Some(*pid) != excluded).collect();
        known.retain(|pid, _| pids.contains(pid));
        // A process can join later, by `exec` or by a change of its working folder.
        let mut is_own = |pid: &u32| {
            let is = known.entry(*pid).or_default();
            *is = *is || belongs_to(*pid, root);
            *is
        };
        let own: Vec<u32> = pids.into_iter().filter(|pid| is_own(pid)).collect();
        for pid in &own {
            let now = cpu_s(*pid).unwrap_or_default();
            // CPU time from before the first sample does not count.
            let first = if number == 0 { now } else { 0.0 };
            let (_, last) = spent.entry(*pid).or_insert((first, now));
            *last = last.max(now);
        }
        if quantity == Quantity::Memory && number.is_multiple_of(SAMPLES_PER_MEMORY_SAMPLE) {
            memory_mib = memory_mib.max(own.iter().filter_map(|pid| share_mib(*pid).ok()).sum());
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
    Usage { cpu_s: spent.values().map(|(first, last)| last - first).sum(), memory_mib }
}

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = std::process::id();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != own)
}

fn belongs_to(pid: u32, root: &Path) -> bool {
    let mark = root.as_os_str().as_bytes();
    let names = |file: &str| {
        let text = read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.windows(mark.len()).any(|window| window == mark)
    };
    let works_in = || read_link(format!("/proc/{pid}/cwd")).unwrap_or_default().starts_with(root);
    names("cmdline") || names("environ") || works_in()
}

/// CPU time of a process and of its reaped children, in seconds.
fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("stat")?;
    let ticks = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap_or_default());
    Ok(ticks.sum::<f64>() / procfs::ticks_per_second() as f64)
}

/// Memory of a process in MiB; of shared memory its proportional share.
fn share_mib(pid: u32) -> anyhow::Result<f64> {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Kills every process of a workspace.
pub(crate) fn kill_all(root: &Path) {
    let mut left: Vec<u32> = all_pids().filter(|pid| belongs_to(*pid, root)).collect();
    // Processes can start others meanwhile, so repeat.
    for _ in 0..10 {
        for pid in left.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _gone = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
        left = all_pids().filter(|pid| belongs_to(*pid, root)).collect();
        if left.is_empty() {
            break;
        }
    }
}
