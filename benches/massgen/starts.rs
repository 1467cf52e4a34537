//! The cost of a run of two agents, from the call to its end: MassGen started by hand, by this server cold, and by this server warm;
//! one run, and several at once. The ways alternate. A server version without warm starts is measured cold only.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::{Phase, Session};
use crate::figures::tell;
use crate::processes::{Of, Taken, Watch};
use crate::world::{Place, World};

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
    fn word(self) -> &'static str {
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
    over: Vec<f64>,
    answered: Vec<f64>,
    taken: Taken,
}

pub(crate) async fn measure(place: &Place, quick: bool) -> anyhow::Result<()> {
    let (hand, cold, warm) = (World::new(place).await?, World::new(place).await?, World::new(place).await?);
    for world in [&hand, &cold, &warm] {
        world.config("@rehearsal", "")?;
    }
    let mut cold_agent = Session::with(cold.server(false)).await?;
    let mut warm_agent = Session::with(warm.server(true)).await?;
    // One run before the measurement fills the page cache.
    by_hand(&hand, 1, Of::Time).await?;
    let is_warm = is_warm(&mut warm_agent).await?;
    for (at_once, times) in [(1, if quick { 1 } else { TIMES }), (MANY, 1)].into_iter().take(if quick { 1 } else { 2 })
    {
        let (mut rounds, mut memory) = (Vec::new(), Vec::new());
        for round in 0..=times {
            let (of, kept) = if round < times { (Of::Time, &mut rounds) } else { (Of::Memory, &mut memory) };
            kept.push((Way::ByHand, by_hand(&hand, at_once, of).await?));
            kept.push((Way::Cold, by_server(&cold, &mut cold_agent, at_once, of).await?));
            if is_warm {
                kept.push((Way::Warm, by_server(&warm, &mut warm_agent, at_once, of).await?));
            }
        }
        for way in [Way::ByHand, Way::Cold, Way::Warm] {
            told(way, at_once, &rounds, &memory)?;
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

async fn by_hand(world: &World<'_>, at_once: usize, of: Of) -> anyhow::Result<Round> {
    let (watch, begun) = (Watch::begin(world.root(), None, of), Instant::now());
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..at_once {
        let mut run = tokio::process::Command::from(world.massgen(&format!("{QUESTION} ({number})")));
        let folder = world.project().join(format!("by-hand-{number}"));
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(world.project().join("team.yaml"), folder.join("team.yaml"))?;
        run.current_dir(folder);
        runs.spawn(async move { (run.status().await, begun.elapsed().as_secs_f64()) });
    }
    let mut over = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (status, took) = run?;
        ensure!(status?.success(), "MassGen failed");
        over.push(took);
    }
    Ok(Round { answered: over.clone(), over, taken: watch.end()? })
}

async fn by_server(world: &World<'_>, agent: &mut Session, at_once: usize, of: Of) -> anyhow::Result<Round> {
    let (watch, begun) = (Watch::begin(world.root(), agent.pid, of), Instant::now());
    let mut open = Vec::new();
    for number in 0..at_once {
        open.push(start(agent, &format!("{QUESTION} ({number})")).await?);
    }
    let (mut over, mut answered): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut silent, mut since) = (open.clone(), Value::Null);
    while !open.is_empty() {
        let mut asked = json!({"run_ids": open, "wait_s": 45});
        if !since.is_null() {
            asked["since"] = since;
        }
        let mut seen = agent.call(Phase::Wait, "check_status", asked).await?;
        let took = begun.elapsed().as_secs_f64();
        for run in seen["runs"].as_array().context("runs")? {
            let id = run["run_id"].as_str().context("run_id")?;
            let is_over = is_over(run);
            ensure!(!is_over || run["state"] == "succeeded", "{run}");
            if (is_over || run["answer_ready"] == true) && silent.iter().any(|silent| silent == id) {
                silent.retain(|silent| silent != id);
                answered.push(took);
            }
            if is_over {
                open.retain(|open| open != id);
                over.push(took);
            }
        }
        since = seen["cursor"].take();
    }
    let taken = watch.end()?;
    // Processes of ended runs can live for a moment and must not count in the next round.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Round { over, answered, taken })
}

async fn start(agent: &mut Session, question: &str) -> anyhow::Result<String> {
    let asked = json!({"question": question, "config": "team.yaml", "fresh": true});
    let run = agent.call(Phase::Start, "run_massgen", asked).await?;
    Ok(run["run_id"].as_str().context("run_id")?.to_owned())
}

async fn ended(agent: &mut Session, id: &str) -> anyhow::Result<()> {
    let asked = json!({"run_id": id, "wait_s": 45, "until": "any_done"});
    while !is_over(&agent.call(Phase::Wait, "check_status", asked.clone()).await?["runs"][0]) {}
    Ok(())
}

/// Whether a run has ended, by its status.
pub(crate) fn is_over(run: &Value) -> bool {
    !matches!(run["state"].as_str(), Some("queued" | "starting" | "running" | "stopping"))
}

fn told(way: Way, at_once: usize, rounds: &[(Way, Round)], memory: &[(Way, Round)]) -> anyhow::Result<()> {
    let samples_of = |rounds: &[(Way, Round)], of: &dyn Fn(&Round) -> Vec<f64>| -> Vec<f64> {
        rounds.iter().filter(|(other, _)| *other == way).flat_map(|(_, round)| of(round)).collect()
    };
    let of = |of: &dyn Fn(&Round) -> Vec<f64>| samples_of(rounds, of);
    let at = json!({"way": way.word(), "at_once": at_once});
    let last = |round: &Round| round.over.iter().copied().fold(0.0, f64::max);
    let samples = of(&|round| vec![last(round)]);
    if samples.is_empty() {
        return Ok(());
    }
    tell("run of two agents: all are over", "s", at.clone(), &samples)?;
    tell("run of two agents: one is over", "s", at.clone(), &of(&|round| round.over.clone()))?;
    if way != Way::ByHand {
        tell("run of two agents: its answer is there", "s", at.clone(), &of(&|round| round.answered.clone()))?;
    }
    let each = |number: f64| vec![number / at_once as f64];
    tell("run of two agents: processor", "s a run", at.clone(), &of(&|round| each(round.taken.cpu_s)))?;
    tell(
        "run of two agents: memory at most",
        "MiB a run",
        at,
        &samples_of(memory, &|round| each(round.taken.memory_mib)),
    )
}
