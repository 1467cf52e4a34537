//! The observations of a quiet run as run.json holds them. Fields that an older version did not write read as not sampled.

use serde::{Deserialize, Serialize};

use super::moment::MomentFile;
use crate::run::{ActivityEvidence, QuietPeriod};

#[derive(Serialize, Deserialize)]
pub(super) struct QuietPeriodFile {
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

impl From<&QuietPeriod> for QuietPeriodFile {
    fn from(quiet: &QuietPeriod) -> QuietPeriodFile {
        let ActivityEvidence { processes, cpu_percent, leader_state, connections, tools, runs, last_event, last_error } =
            quiet.evidence.clone();
        QuietPeriodFile {
            since: MomentFile::from(&quiet.since),
            looked: MomentFile::from(&quiet.sampled_at),
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

impl From<QuietPeriodFile> for QuietPeriod {
    fn from(file: QuietPeriodFile) -> QuietPeriod {
        let evidence = ActivityEvidence {
            processes: file.processes,
            cpu_percent: file.cpu_percent,
            leader_state: file.leader_state,
            connections: file.connections,
            tools: file.tools,
            runs: file.runs,
            last_event: file.last_event,
            last_error: file.last_error,
        };
        QuietPeriod { since: file.since.into(), sampled_at: file.looked.into(), evidence }
    }
}
