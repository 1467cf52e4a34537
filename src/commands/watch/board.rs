//! What the screen of `watch` shows, and what keys do to it. Pure: it reads no run and no terminal, and does nothing by itself;
//! what is to be done is a wish for its caller.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::commands::summary::money;
use crate::run::{RunId, RunRecord};
use crate::view::RunView;

/// How many samples of a run's tokens are kept.
const SAMPLES: usize = 32;
/// How many lines a page key moves.
const PAGE: usize = 10;
/// The longest message to a run, in characters.
const MESSAGE: usize = 2_000;

/// A run, in texts that are harmless in a terminal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) id: RunId,
    pub(super) state: String,
    pub(super) is_over: bool,
    pub(super) phase: String,
    pub(super) elapsed_s: u64,
    /// How many agents are at what.
    pub(super) agents: String,
    /// What each agent is at.
    pub(super) each: Vec<String>,
    pub(super) votes: String,
    pub(super) cost: String,
    pub(super) money: String,
    pub(super) tokens: Option<u64>,
    pub(super) question: String,
    /// What went wrong, and what to do about it.
    pub(super) problem: Vec<String>,
}

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) rows: Vec<Row>,
    chosen: Option<RunId>,
    samples: HashMap<RunId, VecDeque<u64>>,
    pub(super) front: Front,
    pub(super) note: String,
}

/// What is in front of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Front {
    /// Nothing.
    #[default]
    Table,
    /// An opened run.
    Opened { id: RunId, lines: Vec<String>, top: usize },
    /// A message that is being written.
    Message { id: RunId, text: String },
    /// The question whether to kill a run.
    Sure { id: RunId },
}

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C.
    Break,
    Char(char),
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Leave,
    Open(RunId),
    /// Its page in the browser.
    Page(RunId),
    Kill(RunId),
    Steer(RunId, String),
}

impl Row {
    /// A row of a run; `clean` makes a text harmless.
    pub(super) fn of(record: &RunRecord, run: &RunView, clean: impl Fn(&str) -> String) -> Row {
        let votes: Vec<_> = run.votes.iter().map(|(label, count)| format!("{label}:{count}")).collect();
        let each = run.agents.iter().map(|(id, at)| clean(&format!("{id} {at}")));
        let question = record.spec.question.split_whitespace().take(100).collect::<Vec<_>>().join(" ");
        let label = run.group.as_ref().map(|group| format!("[{group}] ")).unwrap_or_default();
        let told = |code: &str, message: &str, hint: &str| [format!("{code}: {message}"), format!("hint: {hint}")];
        let problem = run.problem.iter().flat_map(|problem| told(&problem.code, &problem.message, &problem.hint));
        let warning = run.warning.iter().flat_map(|warning| told(&warning.code, &warning.message, &warning.hint));
        Row {
            id: record.spec.id.clone(),
            state: clean(&run.state),
            is_over: record.state.ended().is_some(),
            phase: clean(run.queue.as_deref().or(run.phase.as_deref()).unwrap_or_default()),
            elapsed_s: run.elapsed_s,
            agents: clean(&counted(&run.agents)),
            each: each.collect(),
            votes: clean(&votes.join(" ")),
            cost: run.cost_usd.map(|usd| format!("${usd:.4}")).unwrap_or_default(),
            money: clean(&money(run).unwrap_or_default()),
            tokens: run.tokens,
            question: clean(&format!("{label}{question}")),
            problem: problem.chain(warning).map(|line| clean(&line)).collect(),
        }
    }
}

/// `2 voted, 1 working`: the first word of what each is at, most frequent first.
fn counted(agents: &BTreeMap<String, String>) -> String {
    let mut counts = BTreeMap::new();
    for at in agents.values() {
        *counts.entry(at.split(' ').next().unwrap_or_default()).or_insert(0) += 1;
    }
    let mut counts: Vec<(&str, u32)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

impl Board {
    /// Takes what was seen; `tick` says that it is time for another sample.
    pub(super) fn see(&mut self, rows: Vec<Row>, tick: bool) {
        self.samples.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|_| tick) {
            let samples = self.samples.entry(row.id.clone()).or_default();
            samples.push_back(row.tokens.unwrap_or_default());
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
        self.rows = rows;
        if self.chosen().is_none() {
            self.chosen = self.rows.first().map(|row| row.id.clone());
        }
    }

    /// Shows an opened run, unless the person went on to something else.
    pub(super) fn opened(&mut self, id: &RunId, lines: Vec<String>) {
        if let Front::Opened { id: wanted, lines: shown, .. } = &mut self.front
            && wanted == id
        {
            *shown = lines;
        }
    }

    pub(super) fn note(&mut self, note: String) {
        self.note = note;
    }

    /// The row that is chosen.
    pub(super) fn chosen(&self) -> Option<(usize, &Row)> {
        self.rows.iter().enumerate().find(|(_, row)| Some(&row.id) == self.chosen.as_ref())
    }

    /// How many tokens were added from sample to sample, the latest last.
    pub(super) fn added(&self, id: &RunId) -> Vec<u64> {
        let samples = self.samples.get(id).into_iter().flatten();
        let next = self.samples.get(id).into_iter().flatten().skip(1);
        samples.zip(next).map(|(before, after)| after.saturating_sub(*before)).collect()
    }

    /// What a key does.
    pub(super) fn press(&mut self, key: Key) -> Wish {
        if key == Key::Break {
            return Wish::Leave;
        }
        self.note.clear();
        match std::mem::take(&mut self.front) {
            Front::Table => self.press_at_table(key),
            Front::Opened { id, lines, top } => {
                self.front = turned(id, lines, top, key);
                Wish::Nothing
            }
            Front::Message { id, text } => self.press_at_message(id, text, key),
            Front::Sure { id } => match key {
                Key::Char('y') => {
                    self.note = format!("stopping {id} …");
                    Wish::Kill(id)
                }
                Key::Char(_) | Key::Up | Key::Down | Key::PageUp | Key::PageDown => Wish::Nothing,
                Key::Enter | Key::Escape | Key::Backspace | Key::Break => Wish::Nothing,
            },
        }
    }

    fn press_at_table(&mut self, key: Key) -> Wish {
        match key {
            Key::Up => self.choose(-1),
            Key::Down => self.choose(1),
            Key::PageUp => self.choose(-(PAGE as isize)),
            Key::PageDown => self.choose(PAGE as isize),
            Key::Escape | Key::Char('q') => return Wish::Leave,
            Key::Enter | Key::Char('o') => return self.open(),
            Key::Char('p') => return self.page(),
            Key::Char('s') => self.ask(|id| Front::Message { id, text: String::new() }),
            Key::Char('k') => self.ask(|id| Front::Sure { id }),
            Key::Char(_) | Key::Backspace | Key::Break => {}
        }
        Wish::Nothing
    }

    fn open(&mut self) -> Wish {
        let Some((_, row)) = self.chosen() else { return Wish::Nothing };
        let id = row.id.clone();
        self.front = Front::Opened { id: id.clone(), lines: vec!["…".to_owned()], top: 0 };
        Wish::Open(id)
    }

    fn page(&mut self) -> Wish {
        let Some((_, row)) = self.chosen() else { return Wish::Nothing };
        let id = row.id.clone();
        self.note = format!("writing the page of {id} …");
        Wish::Page(id)
    }

    /// Only a run that goes on can be steered or killed.
    fn ask(&mut self, front: impl Fn(RunId) -> Front) {
        match self.chosen() {
            Some((_, row)) if row.is_over => self.note = format!("{} is over", row.id),
            Some((_, row)) => self.front = front(row.id.clone()),
            None => {}
        }
    }

    fn press_at_message(&mut self, id: RunId, mut text: String, key: Key) -> Wish {
        match key {
            Key::Escape => return Wish::Nothing,
            Key::Enter if text.trim().is_empty() => return Wish::Nothing,
            Key::Enter => {
                self.note = format!("sending to {id} …");
                return Wish::Steer(id, text);
            }
            Key::Backspace => drop(text.pop()),
            Key::Char(c) if text.chars().count() < MESSAGE => text.push(c),
            Key::Char(_) | Key::Up | Key::Down | Key::PageUp | Key::PageDown | Key::Break => {}
        }
        self.front = Front::Message { id, text };
        Wish::Nothing
    }

    fn choose(&mut self, by: isize) {
        let Some((at, _)) = self.chosen() else { return };
        let last = self.rows.len().saturating_sub(1);
        let wanted = at.saturating_add_signed(by).min(last);
        self.chosen = self.rows.get(wanted).map(|row| row.id.clone());
    }
}

/// An opened run after a key; the table again, where it was closed.
fn turned(id: RunId, lines: Vec<String>, top: usize, key: Key) -> Front {
    let by: isize = match key {
        Key::Up => -1,
        Key::Down => 1,
        Key::PageUp => -(PAGE as isize),
        Key::PageDown => PAGE as isize,
        Key::Escape | Key::Enter | Key::Char('q') => return Front::Table,
        Key::Char(_) | Key::Backspace | Key::Break => 0,
    };
    let top = top.saturating_add_signed(by).min(lines.len().saturating_sub(1));
    Front::Opened { id, lines, top }
}

#[cfg(test)]
mod tests;
