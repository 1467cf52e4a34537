//! The tokens that a run costs an agent with different tools: the tool list, the start, the waits, the answer.

use serde_json::{Value, json};

use crate::agent::{Bill, Cost};
use crate::figures::tell;
use crate::peers::{blocking_shell, fastmcp, looking_shell, this_server};
use crate::world::{Place, World};

const QUESTION: &str = "Which of two sorting algorithms should a small embedded device use, and why?";

/// A kind of run: its name, the rehearsal's directives, and MassGen's own settings.
struct Scenario {
    name: &'static str,
    rehearsal: &'static str,
    more: &'static str,
    takes_long: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "two agents, short", rehearsal: "@rehearsal/chars=1500", more: "", takes_long: false },
    Scenario { name: "two agents, slow", rehearsal: "@rehearsal/chars=1500/delay=20", more: "", takes_long: true },
    Scenario {
        name: "five agents, three answers each",
        rehearsal: "@rehearsal/agents=5/chars=1500/delay=2/never-vote",
        more: "orchestrator:\n  max_new_answers_per_agent: 3\n",
        takes_long: false,
    },
];

pub(crate) async fn measure(place: &Place, quick: bool) -> anyhow::Result<()> {
    for scenario in SCENARIOS.iter().filter(|scenario| !(quick && scenario.takes_long)) {
        let worlds =
            [World::new(place).await?, World::new(place).await?, World::new(place).await?, World::new(place).await?];
        for world in &worlds {
            world.config(scenario.rehearsal, scenario.more)?;
        }
        let [a, b, c, d] = &worlds;
        // Concurrent, because load changes a token count by at most one poll.
        let bills = tokio::try_join!(
            this_server(a, QUESTION),
            fastmcp(b, place, QUESTION),
            looking_shell(c, QUESTION),
            blocking_shell(d, QUESTION)
        )?;
        let own = whole(&bills.0.total());
        for (who, bill) in [
            ("massgen-mcp", &bills.0),
            ("FastMCP over BackgroundShellManager", &bills.1),
            ("shell, looking at status.json", &bills.2),
            ("shell, blocking", &bills.3),
        ] {
            told(scenario.name, who, bill, own)?;
        }
    }
    Ok(())
}

fn whole(cost: &Cost) -> f64 {
    (cost.read + cost.written) as f64
}

fn told(scenario: &str, who: &str, bill: &Bill, own: f64) -> anyhow::Result<()> {
    for (phase, cost) in &bill.0 {
        line(scenario, who, phase.word(), cost, None)?;
    }
    let total = bill.total();
    line(scenario, who, "total", &total, Some(whole(&total) / own))
}

fn line(scenario: &str, who: &str, phase: &str, cost: &Cost, ratio: Option<f64>) -> anyhow::Result<()> {
    let mut at = json!({"scenario": scenario, "who": who, "phase": phase, "calls": cost.calls, "read": cost.read,
        "written": cost.written, "bytes_read": cost.bytes_read, "largest": cost.largest});
    if let Some(ratio) = ratio {
        at["ratio"] = Value::from((ratio * 100.0).round() / 100.0);
    }
    tell("tokens of a run", "tokens", at, &[whole(cost)])
}
