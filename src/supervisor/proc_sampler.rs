//! Samples a quiet run in /proc: its CPU use, the state of its process, and the remote ends of its open connections.
//! It only observes: it touches no process and reads no data of a connection.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};
use tokio::time::Instant;

use super::group::{ProcessInfo, ProcessTree};
use crate::run::Leader;

/// The most connections that are reported.
const MAX_CONNECTIONS: usize = 8;

/// A run's CPU time at one moment: the time it has used, and the time its leader has waited for a CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuSample {
    taken_at: Instant,
    cpu_demand: Duration,
}

impl CpuSample {
    pub(super) fn take(own: &[ProcessInfo], leader: &Leader) -> CpuSample {
        let stats = own.iter().filter_map(|process| open_process(process)?.stat().ok());
        // A reaped child's CPU time moves to its parent's cutime/cstime, so the sum never decreases.
        let ticks = |stat: procfs::process::Stat| {
            stat.utime + stat.stime + (stat.cutime.max(0) + stat.cstime.max(0)).unsigned_abs()
        };
        let ticks: u64 = stats.map(ticks).sum();
        let had = Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second().max(1) as f64);
        // Under load a runnable process may get no CPU; run_delay counts that wait as demand.
        let queued = Process::new(leader.pid.cast_signed()).and_then(|leader| leader.schedstat());
        let queued = Duration::from_nanos(queued.map(|stat| stat.run_delay).unwrap_or_default());
        CpuSample { taken_at: Instant::now(), cpu_demand: had + queued }
    }

    /// How much of one CPU was wanted between an earlier sample and this one, in percent.
    pub(super) fn percent_since(&self, before: &CpuSample) -> u32 {
        let window = self.taken_at.duration_since(before.taken_at).as_secs_f64();
        let demand_s = self.cpu_demand.saturating_sub(before.cpu_demand).as_secs_f64();
        if window > 0.0 { (demand_s * 100.0 / window).round() as u32 } else { 0 }
    }
}

fn open_process(process: &ProcessInfo) -> Option<Process> {
    Process::new(process.identity.pid.cast_signed()).ok()
}

/// The state of a process as the kernel reports it.
pub(super) fn process_state(leader: &Leader) -> Option<char> {
    Some(Process::new(leader.pid.cast_signed()).ok()?.stat().ok()?.state)
}

/// The outgoing TCP connections of the run's own processes that are open or being opened, without those between two of its
/// processes.
pub(super) fn connections(tree: &ProcessTree) -> Vec<String> {
    let mut tables: BTreeMap<PathBuf, SocketTable> = BTreeMap::new();
    for process in tree.own.iter().filter_map(open_process) {
        let sockets = socket_inodes(&process);
        // Processes in the same network namespace share one table, which may be long.
        let network = std::fs::read_link(format!("/proc/{}/ns/net", process.pid)).unwrap_or_default();
        if !sockets.is_empty() {
            tables.entry(network).or_insert_with(|| SocketTable::read(&process)).sockets.extend(sockets);
        }
    }
    let all: BTreeSet<String> = tables.values().flat_map(SocketTable::outgoing).collect();
    all.into_iter().take(MAX_CONNECTIONS).collect()
}

fn socket_inodes(process: &Process) -> Vec<u64> {
    let fds = process.fd().into_iter().flatten().flatten();
    fds.filter_map(|fd| if let FDTarget::Socket(inode) = fd.target { Some(inode) } else { None }).collect()
}

struct SocketTable {
    entries: Vec<TcpNetEntry>,
    /// The sockets of the run.
    sockets: HashSet<u64>,
}

impl SocketTable {
    fn read(process: &Process) -> SocketTable {
        let (four, six) = (process.tcp().unwrap_or_default(), process.tcp6().unwrap_or_default());
        SocketTable { entries: four.into_iter().chain(six).collect(), sockets: HashSet::new() }
    }

    fn outgoing(&self) -> Vec<String> {
        let own: Vec<&TcpNetEntry> = self.entries.iter().filter(|entry| self.sockets.contains(&entry.inode)).collect();
        let served: HashSet<u16> =
            own.iter().filter(|e| e.state == TcpState::Listen).map(|e| e.local_address.port()).collect();
        let is_open = |entry: &&&TcpNetEntry| matches!(entry.state, TcpState::Established | TcpState::SynSent);
        let within = |entry: &TcpNetEntry| {
            let (local, remote) = (entry.local_address, entry.remote_address);
            served.contains(&local.port()) || (remote.ip() == local.ip() && served.contains(&remote.port()))
        };
        own.iter()
            .filter(is_open)
            .filter(|entry| !within(entry))
            .map(|entry| entry.remote_address.to_string())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::group;
    use std::net::{TcpListener, TcpStream};

    fn myself() -> (Leader, ProcessTree) {
        let identity = group::identify(std::process::id()).expect("alive");
        let own =
            vec![ProcessInfo { identity: identity.clone(), parent_pid: 0, process_group: None, name: "me".to_owned() }];
        (identity, ProcessTree { own, ..ProcessTree::default() })
    }

    #[test]
    fn connections_are_listed_unless_both_ends_are_in_the_run() {
        let (_, tree) = myself();
        let within = TcpListener::bind("127.0.0.1:0").expect("port");
        let _own = TcpStream::connect(within.local_addr().expect("address")).expect("connected");
        // A connection whose remote end has no owner: dropping the listener closes its backlog.
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address");
        assert!(!connections(&tree).contains(&address.to_string()));
        let stream = TcpStream::connect(address).expect("connected");
        let (_accepted, _) = listener.accept().expect("accepted");
        drop(listener);
        assert!(connections(&tree).contains(&address.to_string()));
        drop(stream);
        assert!(!connections(&tree).contains(&address.to_string()));
    }

    #[test]
    fn a_busy_process_shows_cpu_use() {
        let (leader, tree) = myself();
        let first = CpuSample::take(&tree.own, &leader);
        let started_at = Instant::now();
        while started_at.elapsed() < Duration::from_millis(300) {
            std::hint::black_box(started_at.elapsed());
        }
        let second = CpuSample::take(&tree.own, &leader);
        assert!(second.percent_since(&first) >= 20, "{}", second.percent_since(&first));
        assert_eq!(first.percent_since(&second), 0, "CPU time never decreases");
        assert!(process_state(&leader).is_some());
    }
}
