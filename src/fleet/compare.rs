//! Collects the runs of a group for a comparison: the arm, the question and the result of each run. The module
//! `experiment::table` computes the totals.

use std::path::{Path, PathBuf};

use super::results::RunReader;
use super::{Fleet, FleetError, Selection, blocking};
use crate::experiment::table::{Comparison, ComparisonTable, Trial};
use crate::massgen::configs::{Needs, Tree};
use crate::registry::{Experiment, RunFolder};
use crate::run::{Exit, RunId, RunRecord, Usd};

/// The most bytes of an answer that are compared.
const MAX_ANSWER_BYTES: u64 = 256 << 10;

/// A comparison, and the files that hold it for other programs.
#[derive(Debug)]
pub struct ExportedComparison {
    /// The comparison.
    pub table: ComparisonTable,
    /// `table.csv`, one line per run; `None` if the group is not an experiment and so has no folder.
    pub csv: Option<PathBuf>,
    /// `table.json`, the complete comparison.
    pub json: Option<PathBuf>,
}

impl Fleet {
    /// Compares the runs of a group; `None` if no run has that label. For an experiment, the tables are also written to its
    /// folder.
    pub async fn export_comparison(&self, group: &str) -> Result<Option<ExportedComparison>, FleetError> {
        let Some(comparison) = self.comparison(group).await? else { return Ok(None) };
        let folder = self.state.experiment(group);
        blocking(move || {
            let table = ComparisonTable::new(comparison);
            let export = |name, text: String| folder.export(name, text.as_bytes());
            let (csv, json) = if folder.path().exists() {
                (
                    Some(export("table.csv", table.to_csv())?),
                    Some(export("table.json", format!("{:#}", table.to_json()))?),
                )
            } else {
                (None, None)
            };
            Ok(Some(ExportedComparison { table, csv, json }))
        })
        .await?
    }

    /// The current state of a group's runs, for a comparison; `None` if no run has that label.
    pub async fn comparison(&self, group: &str) -> Result<Option<Comparison>, FleetError> {
        let snapshot = self.snapshot(&Selection::Group(group.to_owned())).await?;
        if snapshot.runs.is_empty() && snapshot.experiment.is_none() {
            return Ok(None);
        }
        let (fleet, group) = (self.clone(), group.to_owned());
        let comparing = blocking(move || {
            let mut comparison = Comparison { group, ..Comparison::default() };
            match &snapshot.experiment {
                Some(status) => fleet.add_planned_runs(&status.experiment, &snapshot.runs, &mut comparison),
                None => fleet.add_labelled_runs(&snapshot.runs, &mut comparison),
            }
            comparison
        });
        Ok(Some(comparing.await?))
    }

    fn add_planned_runs(&self, experiment: &Experiment, runs: &[RunRecord], comparison: &mut Comparison) {
        let plan = &experiment.plan;
        comparison.arms = plan.arms.iter().map(|arm| arm.label.clone()).collect();
        comparison.questions = plan.questions.clone();
        for planned in &plan.runs {
            let run = runs.iter().find(|run| run.spec.id == planned.id);
            let trial = Trial {
                run: planned.id.clone(),
                arm: planned.arm,
                question: planned.question,
                repeat: planned.repeat,
                ..run.map_or_else(|| removed_trial(&planned.id), |run| self.trial(run))
            };
            comparison.trials.push(trial);
        }
    }

    /// Adds runs that share only a label. An arm is a config with its overrides; a repeat has the same arm and question.
    fn add_labelled_runs(&self, runs: &[RunRecord], comparison: &mut Comparison) {
        for run in runs.iter().rev() {
            let arm = index_of(&mut comparison.arms, arm_label(run));
            let question = index_of(&mut comparison.questions, run.spec.question.clone());
            let earlier = comparison.trials.iter().filter(|trial| (trial.arm, trial.question) == (arm, question));
            let repeat = earlier.count() as u32 + 1;
            comparison.trials.push(Trial { arm, question, repeat, ..self.trial(run) });
        }
    }

    /// The comparison data of a run; the caller sets the arm and the question.
    fn trial(&self, run: &RunRecord) -> Trial {
        let ending = run.state.ending();
        let folder = self.run_folder(&run.spec.id);
        let succeeded = ending.filter(|_| run.state.as_str() == "succeeded");
        let winner = succeeded.and_then(|ending| ending.answer.as_ref()).map(|answer| answer.agent.clone());
        let has_run = ending.is_some_and(|ending| ending.exit != Exit::NeverStarted);
        let reader = has_run
            .then(|| RunReader::open(folder.path(), run.clone(), self.secrets.clone(), self.wording).ok())
            .flatten();
        let spent = run.total_spent();
        Trial {
            state: if run.is_never_started() { "not_started".to_owned() } else { run.state.as_str().to_owned() },
            took_s: ending.filter(|_| has_run).map(|ending| ending.duration.as_secs_f64()),
            cost_usd: spent.known_usd().filter(|_| has_run && !spent.is_unpriced).map(Usd::as_f64),
            tokens: Some(spent.tokens).filter(|_| has_run),
            model: winner.as_deref().and_then(|winner| agent_model(&folder, winner)),
            votes: reader.as_ref().map(RunReader::votes).unwrap_or_default(),
            answer: succeeded.and(reader).and_then(|reader| reader.best_answer_text(MAX_ANSWER_BYTES)),
            partial_by: ending
                .filter(|_| winner.is_none())
                .and_then(|ending| ending.answer.as_ref())
                .map(|answer| answer.agent.clone()),
            winner,
            ..removed_trial(&run.spec.id)
        }
    }
}

/// A run without a record: only its id is known.
fn removed_trial(id: &RunId) -> Trial {
    Trial {
        run: id.clone(),
        arm: 0,
        question: 0,
        repeat: 1,
        state: "forgotten".to_owned(),
        took_s: None,
        cost_usd: None,
        tokens: None,
        answer: None,
        winner: None,
        partial_by: None,
        model: None,
        votes: Default::default(),
    }
}

fn index_of(labels: &mut Vec<String>, label: String) -> usize {
    labels.iter().position(|known| *known == label).unwrap_or_else(|| {
        labels.push(label);
        labels.len() - 1
    })
}

/// The label of an arm: the config and its overrides.
fn arm_label(run: &RunRecord) -> String {
    let config = run.spec.config_name();
    match &run.spec.overrides {
        Some(overrides) => format!("{config} {overrides}"),
        None => config,
    }
}

/// The model that a run's config gives an agent.
fn agent_model(folder: &RunFolder, agent: &str) -> Option<String> {
    let files = ["config.yaml", "config.json"].map(|name| folder.path().join(name));
    let read = |path: &Path| Some((path.to_owned(), std::fs::read_to_string(path).ok()?));
    let (path, text) = files.iter().find_map(|path| read(path))?;
    let tree = Tree::parse_file(&path, &text).ok()?;
    Needs::from_config(&tree).model(agent).map(str::to_owned)
}
