//! The state of the screen of `watch`, and how keys change it. Pure: it reads no run and no terminal; an action that a key
//! requests is returned to the caller.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::commands::summary::cost_text;
use crate::run::{RunId, RunRecord};
use crate::view::RunView;

/// The most samples of a run's tokens that are kept.
const MAX_SAMPLES: usize = 32;
/// How many lines a page key moves.
const PAGE_LINES: usize = 10;
/// The longest message to a run, in characters.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// The row of a run, in texts that are sanitized for a terminal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunRow {
    pub(super) id: RunId,
    pub(super) state: String,
    pub(super) has_ended: bool,
    pub(super) phase: String,
    pub(super) elapsed_s: u64,
    /// The number of agents in each state.
    pub(super) agents: String,
    /// The state of each agent.
    pub(super) agent_lines: Vec<String>,
    pub(super) votes: String,
    pub(super) cost: String,
    pub(super) cost_line: String,
    pub(super) tokens: Option<u64>,
    pub(super) question: String,
    /// The problem and its hint.
    pub(super) problem: Vec<String>,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub(super) struct ScreenState {
    pub(super) rows: Vec<RunRow>,
    selected: Option<RunId>,
    samples: HashMap<RunId, VecDeque<u64>>,
    pub(super) overlay: Overlay,
    pub(super) note: String,
}

/// The overlay in front of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Overlay {
    /// No overlay.
    #[default]
    None,
    /// An opened run.
    RunDetails { id: RunId, lines: Vec<String>, top: usize },
    /// The input of a message.
    MessageInput { id: RunId, text: String },
    /// The confirmation before a run is killed.
    ConfirmKill { id: RunId },
}

/// A key with a function on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPress {
    Up,
    Down,
    PageUp,
    PageDown,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C.
    Interrupt,
    Char(char),
}

/// The action that a key requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UiAction {
    None,
    Quit,
    OpenRun(RunId),
    /// Open the run's page in the browser.
    OpenPage(RunId),
    Kill(RunId),
    Steer(RunId, String),
}

impl RunRow {
    /// The row of a run; `clean` sanitizes a text.
    pub(super) fn from_record(record: &RunRecord, run: &RunView, clean: impl Fn(&str) -> String) -> RunRow {
        let votes: Vec<_> = run.votes.iter().map(|(label, count)| format!("{label}:{count}")).collect();
        let agent_lines = run.agents.iter().map(|(id, state)| clean(&format!("{id} {state}")));
        let question = record.spec.question.split_whitespace().take(100).collect::<Vec<_>>().join(" ");
        let label = run.group.as_ref().map(|group| format!("[{group}] ")).unwrap_or_default();
        let lines_of = |code: &str, message: &str, hint: &str| [format!("{code}: {message}"), format!("hint: {hint}")];
        let problem = run.problem.iter().flat_map(|problem| lines_of(&problem.code, &problem.message, &problem.hint));
        let warning = run.warning.iter().flat_map(|warning| lines_of(&warning.code, &warning.message, &warning.hint));
        RunRow {
            id: record.spec.id.clone(),
            state: clean(&run.state),
            has_ended: record.state.ending().is_some(),
            phase: clean(run.queue.as_deref().or(run.phase.as_deref()).unwrap_or_default()),
            elapsed_s: run.elapsed_s,
            agents: clean(&status_counts(&run.agents)),
            agent_lines: agent_lines.collect(),
            votes: clean(&votes.join(" ")),
            cost: run.cost_usd.map(|usd| format!("${usd:.4}")).unwrap_or_default(),
            cost_line: clean(&cost_text(run).unwrap_or_default()),
            tokens: run.tokens,
            question: clean(&format!("{label}{question}")),
            problem: problem.chain(warning).map(|line| clean(&line)).collect(),
        }
    }
}

/// `2 voted, 1 working`: counts the first word of each agent's state, the most frequent first.
fn status_counts(agents: &BTreeMap<String, String>) -> String {
    let mut counts = BTreeMap::new();
    for state in agents.values() {
        *counts.entry(state.split(' ').next().unwrap_or_default()).or_insert(0) += 1;
    }
    let mut counts: Vec<(&str, u32)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

impl ScreenState {
    /// Replaces the rows; with `tick`, also takes a sample of the tokens.
    pub(super) fn update_rows(&mut self, rows: Vec<RunRow>, tick: bool) {
        self.samples.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|_| tick) {
            let samples = self.samples.entry(row.id.clone()).or_default();
            samples.push_back(row.tokens.unwrap_or_default());
            if samples.len() > MAX_SAMPLES {
                samples.pop_front();
            }
        }
        self.rows = rows;
        if self.selected_row().is_none() {
            self.selected = self.rows.first().map(|row| row.id.clone());
        }
    }

    /// Shows the lines of an opened run, unless the user has closed it.
    pub(super) fn show_details(&mut self, id: &RunId, lines: Vec<String>) {
        if let Overlay::RunDetails { id: open_id, lines: shown_lines, .. } = &mut self.overlay
            && open_id == id
        {
            *shown_lines = lines;
        }
    }

    pub(super) fn set_note(&mut self, note: String) {
        self.note = note;
    }

    /// The selected row.
    pub(super) fn selected_row(&self) -> Option<(usize, &RunRow)> {
        self.rows.iter().enumerate().find(|(_, row)| Some(&row.id) == self.selected.as_ref())
    }

    /// The number of tokens added between samples, the latest last.
    pub(super) fn tokens_per_sample(&self, id: &RunId) -> Vec<u64> {
        let samples = self.samples.get(id).into_iter().flatten();
        let next = self.samples.get(id).into_iter().flatten().skip(1);
        samples.zip(next).map(|(before, after)| after.saturating_sub(*before)).collect()
    }

    /// Handles a key.
    pub(super) fn handle_key(&mut self, key: KeyPress) -> UiAction {
        if key == KeyPress::Interrupt {
            return UiAction::Quit;
        }
        self.note.clear();
        match std::mem::take(&mut self.overlay) {
            Overlay::None => self.handle_table_key(key),
            Overlay::RunDetails { id, lines, top } => {
                self.overlay = scrolled_details(id, lines, top, key);
                UiAction::None
            }
            Overlay::MessageInput { id, text } => self.handle_message_key(id, text, key),
            Overlay::ConfirmKill { id } => match key {
                KeyPress::Char('y') => {
                    self.note = format!("stopping {id} …");
                    UiAction::Kill(id)
                }
                KeyPress::Char(_) | KeyPress::Up | KeyPress::Down | KeyPress::PageUp | KeyPress::PageDown => {
                    UiAction::None
                }
                KeyPress::Enter | KeyPress::Escape | KeyPress::Backspace | KeyPress::Interrupt => UiAction::None,
            },
        }
    }

    fn handle_table_key(&mut self, key: KeyPress) -> UiAction {
        match key {
            KeyPress::Up => self.move_selection(-1),
            KeyPress::Down => self.move_selection(1),
            KeyPress::PageUp => self.move_selection(-(PAGE_LINES as isize)),
            KeyPress::PageDown => self.move_selection(PAGE_LINES as isize),
            KeyPress::Escape | KeyPress::Char('q') => return UiAction::Quit,
            KeyPress::Enter | KeyPress::Char('o') => return self.open_selected(),
            KeyPress::Char('p') => return self.open_page(),
            KeyPress::Char('s') => self.open_overlay(|id| Overlay::MessageInput { id, text: String::new() }),
            KeyPress::Char('k') => self.open_overlay(|id| Overlay::ConfirmKill { id }),
            KeyPress::Char(_) | KeyPress::Backspace | KeyPress::Interrupt => {}
        }
        UiAction::None
    }

    fn open_selected(&mut self) -> UiAction {
        let Some((_, row)) = self.selected_row() else { return UiAction::None };
        let id = row.id.clone();
        self.overlay = Overlay::RunDetails { id: id.clone(), lines: vec!["…".to_owned()], top: 0 };
        UiAction::OpenRun(id)
    }

    fn open_page(&mut self) -> UiAction {
        let Some((_, row)) = self.selected_row() else { return UiAction::None };
        let id = row.id.clone();
        self.note = format!("writing the page of {id} …");
        UiAction::OpenPage(id)
    }

    /// Opens an overlay for the selected run; only a live run can be steered or killed.
    fn open_overlay(&mut self, overlay: impl Fn(RunId) -> Overlay) {
        match self.selected_row() {
            Some((_, row)) if row.has_ended => self.note = format!("{} is over", row.id),
            Some((_, row)) => self.overlay = overlay(row.id.clone()),
            None => {}
        }
    }

    fn handle_message_key(&mut self, id: RunId, mut text: String, key: KeyPress) -> UiAction {
        match key {
            KeyPress::Escape => return UiAction::None,
            KeyPress::Enter if text.trim().is_empty() => return UiAction::None,
            KeyPress::Enter => {
                self.note = format!("sending to {id} …");
                return UiAction::Steer(id, text);
            }
            KeyPress::Backspace => drop(text.pop()),
            KeyPress::Char(c) if text.chars().count() < MAX_MESSAGE_CHARS => text.push(c),
            KeyPress::Char(_)
            | KeyPress::Up
            | KeyPress::Down
            | KeyPress::PageUp
            | KeyPress::PageDown
            | KeyPress::Interrupt => {}
        }
        self.overlay = Overlay::MessageInput { id, text };
        UiAction::None
    }

    fn move_selection(&mut self, by: isize) {
        let Some((state, _)) = self.selected_row() else { return };
        let last = self.rows.len().saturating_sub(1);
        let target = state.saturating_add_signed(by).min(last);
        self.selected = self.rows.get(target).map(|row| row.id.clone());
    }
}

/// The overlay of an opened run after a key; none if the key closes it.
fn scrolled_details(id: RunId, lines: Vec<String>, top: usize, key: KeyPress) -> Overlay {
    let by: isize = match key {
        KeyPress::Up => -1,
        KeyPress::Down => 1,
        KeyPress::PageUp => -(PAGE_LINES as isize),
        KeyPress::PageDown => PAGE_LINES as isize,
        KeyPress::Escape | KeyPress::Enter | KeyPress::Char('q') => return Overlay::None,
        KeyPress::Char(_) | KeyPress::Backspace | KeyPress::Interrupt => 0,
    };
    let top = top.saturating_add_signed(by).min(lines.len().saturating_sub(1));
    Overlay::RunDetails { id, lines, top }
}

#[cfg(test)]
mod tests;
