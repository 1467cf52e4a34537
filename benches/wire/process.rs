//! Kernel counters of a process: memory, CPU time, wake-ups and bytes read.

use std::fs::read_to_string;

use anyhow::Context;

/// Resident memory, in KiB.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    field(&read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")
}

/// Memory that is not shared with other processes, in KiB.
pub(crate) fn private(pid: u32) -> anyhow::Result<f64> {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(field(&rollup, "Private_Clean:")? + field(&rollup, "Private_Dirty:")?)
}

/// CPU time of all threads, in milliseconds.
pub(crate) fn busy(pid: u32) -> anyhow::Result<f64> {
    let of_thread = |stat: String| stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default();
    Ok(threads(pid, "schedstat")?.map(of_thread).sum::<f64>() / 1e6)
}

/// The number of voluntary context switches of all threads, which is the number of wake-ups.
pub(crate) fn sleeps(pid: u32) -> anyhow::Result<f64> {
    let of_thread = |status: String| field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
    Ok(threads(pid, "status")?.map(of_thread).sum())
}

/// Bytes that the process has read with system calls.
pub(crate) fn read(pid: u32) -> anyhow::Result<f64> {
    field(&read_to_string(format!("/proc/{pid}/io"))?, "rchar:")
}

fn threads(pid: u32, file: &'static str) -> anyhow::Result<impl Iterator<Item = String>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(tasks.flatten().filter_map(move |task| read_to_string(task.path().join(file)).ok()))
}

fn field(text: &str, name: &str) -> anyhow::Result<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
    Ok(rest.split_whitespace().next().context(name.to_owned())?.parse()?)
}

/// The pids and command lines of processes whose command line contains this text.
pub(crate) fn with_command_line(text: &str) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let lines = pids.filter_map(|pid| Some((pid, read_to_string(format!("/proc/{pid}/cmdline")).ok()?)));
    lines.map(|(pid, line)| (pid, line.replace('\0', " "))).filter(|(_, line)| line.contains(text)).collect()
}
