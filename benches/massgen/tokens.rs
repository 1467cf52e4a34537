//! The tokens that a run costs an agent with different tools: the tool list, the start, the waits, the answer.

use serde_json::{Value, json};

use crate::agent::{Cost, PhaseCosts};
use crate::figures::print_figure;
use crate::peers::{blocking_shell, fastmcp, polling_shell, this_server};
use crate::workspace::{Programs, Workspace};

const QUESTION: &str = "Which of two sorting algorithms should a small embedded device use, and why?";

/// A kind of run: its name, the rehearsal's directives, and MassGen's own settings.
struct Scenario {
    name: &'static str,
    rehearsal: &'static str,
    settings: &'static str,
    takes_long: bool,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "two agents, short", rehearsal: "@rehearsal/chars=1500", settings: "", takes_long: false },
    Scenario { name: "two agents, slow", rehearsal: "@rehearsal/chars=1500/delay=20", settings: "", takes_long: true },
    Scenario {
        name: "five agents, three answers each",
        rehearsal: "@rehearsal/agents=5/chars=1500/delay=2/never-vote",
        settings: "orchestrator:\n  max_new_answers_per_agent: 3\n",
        takes_long: false,
    },
];

pub(crate) async fn measure(programs: &Programs, quick: bool) -> anyhow::Result<()> {
    for scenario in SCENARIOS.iter().filter(|scenario| !(quick && scenario.takes_long)) {
        let workspaces = [
            Workspace::new(programs).await?,
            Workspace::new(programs).await?,
            Workspace::new(programs).await?,
            Workspace::new(programs).await?,
        ];
        for workspace in &workspaces {
            workspace.config(scenario.rehearsal, scenario.settings)?;
        }
        let [a, b, c, d] = &workspaces;
        // Concurrent, because load changes a token count by at most one poll.
        let all_costs = tokio::try_join!(
            this_server(a, QUESTION),
            fastmcp(b, programs, QUESTION),
            polling_shell(c, QUESTION),
            blocking_shell(d, QUESTION)
        )?;
        let own = total_tokens(&all_costs.0.total());
        for (tool, costs) in [
            ("massgen-mcp", &all_costs.0),
            ("FastMCP over BackgroundShellManager", &all_costs.1),
            ("shell, looking at status.json", &all_costs.2),
            ("shell, blocking", &all_costs.3),
        ] {
            print_scenario(scenario.name, tool, costs, own)?;
        }
    }
    Ok(())
}

fn total_tokens(cost: &Cost) -> f64 {
    (cost.read + cost.written) as f64
}

fn print_scenario(scenario: &str, tool: &str, costs: &PhaseCosts, own: f64) -> anyhow::Result<()> {
    for (phase, cost) in &costs.0 {
        print_line(scenario, tool, phase.name(), cost, None)?;
    }
    let total = costs.total();
    print_line(scenario, tool, "total", &total, Some(total_tokens(&total) / own))
}

fn print_line(scenario: &str, tool: &str, phase: &str, cost: &Cost, ratio: Option<f64>) -> anyhow::Result<()> {
    let mut at = json!({"scenario": scenario, "who": tool, "phase": phase, "calls": cost.calls, "read": cost.read,
        "written": cost.written, "bytes_read": cost.bytes_read, "largest": cost.largest});
    if let Some(ratio) = ratio {
        at["ratio"] = Value::from((ratio * 100.0).round() / 100.0);
    }
    print_figure("tokens of a run", "tokens", at, &[total_tokens(cost)])
}
