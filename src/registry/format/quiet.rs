//! What was found out about a quiet run, as run.json holds it. What an older version did not write reads as not looked at.

use serde::{Deserialize, Serialize};

use super::moment::MomentFile;
use crate::run::{Evidence, Quiet};

#[derive(Serialize, Deserialize)]
pub(super) struct QuietFile {
    since: MomentFile,
    looked: MomentFile,
    #[serde(default)]
    processes: u32,
    #[serde(default)]
    cpu_percent: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader_state: Option<char>,
    #[serde(default)]
    connections: Vec<String>,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    runs: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl From<&Quiet> for QuietFile {
    fn from(quiet: &Quiet) -> QuietFile {
        let Evidence { processes, cpu_percent, leader_state, connections, tools, runs, last_event, last_error } =
            quiet.evidence.clone();
        QuietFile {
            since: MomentFile::from(&quiet.since),
            looked: MomentFile::from(&quiet.looked),
            processes,
            cpu_percent,
            leader_state,
            connections,
            tools,
            runs,
            last_event,
            last_error,
        }
    }
}

impl From<QuietFile> for Quiet {
    fn from(file: QuietFile) -> Quiet {
        let evidence = Evidence {
            processes: file.processes,
            cpu_percent: file.cpu_percent,
            leader_state: file.leader_state,
            connections: file.connections,
            tools: file.tools,
            runs: file.runs,
            last_event: file.last_event,
            last_error: file.last_error,
        };
        Quiet { since: file.since.into(), looked: file.looked.into(), evidence }
    }
}
