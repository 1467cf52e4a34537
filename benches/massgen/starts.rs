//! The cost of a run of two agents, from the call to its end: MassGen started by hand, by this server cold, and by this server warm;
//! one run, and several at once. The ways alternate. A server version without warm starts is measured cold only.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::{Phase, Session};
use crate::figures::print_figure;
use crate::processes::{Quantity, Sampler, Usage};
use crate::workspace::{Programs, Workspace};

const QUESTION: &str = "What is 6*7?";
/// The number of concurrent runs.
const MANY: usize = 10;
/// The number of measurements of a single run.
const TIMES: usize = 3;

/// One of the ways to start a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ByHand,
    Cold,
    Warm,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::ByHand => "by hand",
            Way::Cold => "cold",
            Way::Warm => "warm",
        }
    }
}

/// The measurements of concurrent runs.
struct Round {
    /// Seconds until each run was over, and until its answer was readable.
    ended_s: Vec<f64>,
    answered_s: Vec<f64>,
    usage: Usage,
}

pub(crate) async fn measure(programs: &Programs, quick: bool) -> anyhow::Result<()> {
    let (hand, cold, warm) =
        (Workspace::new(programs).await?, Workspace::new(programs).await?, Workspace::new(programs).await?);
    for workspace in [&hand, &cold, &warm] {
        workspace.config("@rehearsal", "")?;
    }
    let mut cold_agent = Session::with(cold.server(false)).await?;
    let mut warm_agent = Session::with(warm.server(true)).await?;
    // One run before the measurement fills the page cache.
    by_hand(&hand, 1, Quantity::Time).await?;
    let is_warm = is_warm(&mut warm_agent).await?;
    for (at_once, times) in [(1, if quick { 1 } else { TIMES }), (MANY, 1)].into_iter().take(if quick { 1 } else { 2 })
    {
        let (mut rounds, mut memory) = (Vec::new(), Vec::new());
        for round in 0..=times {
            let (quantity, target) =
                if round < times { (Quantity::Time, &mut rounds) } else { (Quantity::Memory, &mut memory) };
            target.push((Way::ByHand, by_hand(&hand, at_once, quantity).await?));
            target.push((Way::Cold, by_server(&cold, &mut cold_agent, at_once, quantity).await?));
            if is_warm {
                target.push((Way::Warm, by_server(&warm, &mut warm_agent, at_once, quantity).await?));
            }
        }
        for way in [Way::ByHand, Way::Cold, Way::Warm] {
            print_round(way, at_once, &rounds, &memory)?;
        }
    }
    cold_agent.end().await?;
    warm_agent.end().await?;
    Ok(())
}

/// Whether the server starts runs warm. The first run may still be cold.
async fn is_warm(agent: &mut Session) -> anyhow::Result<bool> {
    for _ in 0..3 {
        let id = start(agent, "Is it warm?").await?;
        ended(agent, &id).await?;
        let full = agent.call(Phase::Wait, "check_status", json!({"run_id": id, "detail": "full"})).await?;
        match full["runs"][0]["details"]["start"].as_str() {
            Some("warm") => return Ok(true),
            None => return Ok(false),
            Some(_) => {}
        }
    }
    Ok(false)
}

async fn by_hand(workspace: &Workspace<'_>, at_once: usize, quantity: Quantity) -> anyhow::Result<Round> {
    let (sampler, started) = (Sampler::start(workspace.root(), None, quantity), Instant::now());
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..at_once {
        let mut run = tokio::process::Command::from(workspace.massgen(&format!("{QUESTION} ({number})")));
        let folder = workspace.project().join(format!("by-hand-{number}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(workspace.project().join("team.yaml"), folder.join("team.yaml"))?;
        run.current_dir(folder);
        runs.spawn(async move { (run.status().await, started.elapsed().as_secs_f64()) });
    }
    let mut ended_s = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (status, took) = run?;
        ensure!(status?.success(), "MassGen failed");
        ended_s.push(took);
    }
    Ok(Round { answered_s: ended_s.clone(), ended_s, usage: sampler.end()? })
}

async fn by_server(
    workspace: &Workspace<'_>,
    agent: &mut Session,
    at_once: usize,
    quantity: Quantity,
) -> anyhow::Result<Round> {
    let (sampler, started) = (Sampler::start(workspace.root(), agent.pid, quantity), Instant::now());
    let mut live_runs = Vec::new();
    for number in 0..at_once {
        live_runs.push(start(agent, &format!("{QUESTION} ({number})")).await?);
    }
    let (mut ended_s, mut answered_s): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut unanswered, mut since) = (live_runs.clone(), Value::Null);
    while !live_runs.is_empty() {
        let mut arguments = json!({"run_ids": live_runs, "wait_s": 45});
        if !since.is_null() {
            arguments["since"] = since;
        }
        let mut status = agent.call(Phase::Wait, "check_status", arguments).await?;
        let took = started.elapsed().as_secs_f64();
        for run in status["runs"].as_array().context("runs")? {
            let id = run["run_id"].as_str().context("run_id")?;
            let is_over = is_over(run);
            ensure!(!is_over || run["state"] == "succeeded", "{run}");
            if (is_over || run["answer_ready"] == true) && unanswered.iter().any(|open| open == id) {
                unanswered.retain(|open| open != id);
                answered_s.push(took);
            }
            if is_over {
                live_runs.retain(|live| live != id);
                ended_s.push(took);
            }
        }
        since = status["cursor"].take();
    }
    let usage = sampler.end()?;
    // Processes of ended runs can live for a moment and must not count in the next round.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Round { ended_s, answered_s, usage })
}

async fn start(agent: &mut Session, question: &str) -> anyhow::Result<String> {
    let arguments = json!({"question": question, "config": "team.yaml", "fresh": true});
    let run = agent.call(Phase::Start, "run_massgen", arguments).await?;
    Ok(run["run_id"].as_str().context("run_id")?.to_owned())
}

async fn ended(agent: &mut Session, id: &str) -> anyhow::Result<()> {
    let arguments = json!({"run_id": id, "wait_s": 45, "until": "any_done"});
    while !is_over(&agent.call(Phase::Wait, "check_status", arguments.clone()).await?["runs"][0]) {}
    Ok(())
}

/// Whether a run has ended, by its status.
pub(crate) fn is_over(run: &Value) -> bool {
    !matches!(run["state"].as_str(), Some("queued" | "starting" | "running" | "stopping"))
}

fn print_round(way: Way, at_once: usize, rounds: &[(Way, Round)], memory: &[(Way, Round)]) -> anyhow::Result<()> {
    let samples_of = |rounds: &[(Way, Round)], select: &dyn Fn(&Round) -> Vec<f64>| -> Vec<f64> {
        rounds.iter().filter(|(other, _)| *other == way).flat_map(|(_, round)| select(round)).collect()
    };
    let select = |select: &dyn Fn(&Round) -> Vec<f64>| samples_of(rounds, select);
    let at = json!({"way": way.name(), "at_once": at_once});
    let last = |round: &Round| round.ended_s.iter().copied().fold(0.0, f64::max);
    let samples = select(&|round| vec![last(round)]);
    if samples.is_empty() {
        return Ok(());
    }
    print_figure("run of two agents: all are over", "s", at.clone(), &samples)?;
    print_figure("run of two agents: one is over", "s", at.clone(), &select(&|round| round.ended_s.clone()))?;
    if way != Way::ByHand {
        print_figure(
            "run of two agents: its answer is there",
            "s",
            at.clone(),
            &select(&|round| round.answered_s.clone()),
        )?;
    }
    let each = |number: f64| vec![number / at_once as f64];
    print_figure("run of two agents: processor", "s a run", at.clone(), &select(&|round| each(round.usage.cpu_s)))?;
    print_figure(
        "run of two agents: memory at most",
        "MiB a run",
        at,
        &samples_of(memory, &|round| each(round.usage.memory_mib)),
    )
}
