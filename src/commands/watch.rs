//! `massgen-mcp watch`: a live table of runs in a terminal, with keys to open, steer and kill them. It restores the screen in every
//! case when it ends; the runs are not affected.

mod draw;
mod pages;
mod state;
mod steer;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::pages::OpenPages;
use self::state::{KeyPress, RunRow, ScreenState, UiAction};
use super::next_steps::person_words;
use super::selection::found_records;
use super::summary::{summary_line, view_of};
use super::{kill, runs};
use crate::fleet::results::ResultPart;
use crate::fleet::{Cursor, Fleet, Selection, WaitUntil};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{DEFAULT_GRACE, RunId, RunRecord};
use crate::view::{self, Detail};

/// The runs to watch.
#[derive(Debug, clap::Args)]
#[command(after_help = "Needs a terminal. Keys: up and down choose, Enter opens, p opens its page in\n\
                        the browser and keeps it up to date, s steers, k kills, q leaves; the runs go on.\n\
                        Exit codes: 0 left; 1 it could not be done; 2 the command line is wrong.")]
pub struct WatchArgs {
    /// Only runs with this label; default: the latest 20.
    #[arg(long)]
    group: Option<String>,
}

/// How often tokens and times are redrawn and sampled.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two reads of the runs.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// The most characters of an answer that are shown.
const MAX_ANSWER_CHARS: u64 = 30_000;

/// An event for the screen.
enum ScreenEvent {
    Key(KeyPress),
    /// The terminal was resized.
    Resized,
    RunsChanged {
        rows: Vec<RunRow>,
        /// Whether a tick has passed since the last sample.
        tick: bool,
    },
    RunOpened {
        id: RunId,
        lines: Vec<String>,
    },
    Note(String),
    /// The terminal's input has ended.
    InputClosed,
}

pub(super) async fn watch(fleet: Fleet, args: &WatchArgs) -> Result<ExitCode, Refusal> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let hint = "run it in a terminal; elsewhere use `massgen-mcp runs --json`, or `massgen-mcp wait`";
        return Err(Refusal::new("no_terminal", "watch draws on a terminal, and this is none", hint));
    }
    let selection = args.group.clone().map_or(Selection::Latest, Selection::Group);
    found_records(&selection, fleet.snapshot(&selection).await?)?;
    let unusable = |error: std::io::Error| {
        let hint = "use `massgen-mcp runs --json`, or another terminal";
        Refusal::new("no_terminal", format!("this terminal cannot be drawn on: {error}"), hint)
    };
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let mut pages = OpenPages::default();
    let result = run_screen(&mut terminal, &fleet, selection, &mut pages).await;
    ratatui::restore();
    pages.close().await;
    result.map(|()| ExitCode::SUCCESS).map_err(unusable)
}

async fn run_screen(
    terminal: &mut DefaultTerminal,
    fleet: &Fleet,
    selection: Selection,
    pages: &mut OpenPages,
) -> std::io::Result<()> {
    let (sender, mut receiver) = mpsc::channel(16);
    let key_sender = sender.clone();
    // A read of the terminal cannot be cancelled; the thread ends with the process.
    std::thread::spawn(move || forward_input(&key_sender));
    tokio::spawn(watch_runs(fleet.clone(), selection, sender.clone()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut screen = ScreenState::default();
    loop {
        terminal.draw(|frame| draw::draw(frame, &screen))?;
        let event = tokio::select! {
            event = receiver.recv() => event.unwrap_or(ScreenEvent::InputClosed),
            _ = terminate.recv() => ScreenEvent::InputClosed,
            _ = hang_up.recv() => ScreenEvent::InputClosed,
        };
        match event {
            ScreenEvent::Key(key) => match screen.handle_key(key) {
                UiAction::Quit => return Ok(()),
                UiAction::OpenPage(id) => pages.open(id, fleet, &sender),
                action @ (UiAction::None | UiAction::OpenRun(_) | UiAction::Kill(_) | UiAction::Steer(_, _)) => {
                    perform_action(action, fleet, &sender)
                }
            },
            ScreenEvent::Resized => terminal.autoresize()?,
            ScreenEvent::RunsChanged { rows, tick } => screen.update_rows(rows, tick),
            ScreenEvent::RunOpened { id, lines } => screen.show_details(&id, lines),
            ScreenEvent::Note(note) => screen.set_note(note),
            ScreenEvent::InputClosed => return Ok(()),
        }
    }
}

/// Forwards key presses until the receiver or the terminal is closed.
fn forward_input(sender: &mpsc::Sender<ScreenEvent>) {
    loop {
        let screen_event = match event::read() {
            Ok(Event::Key(key)) => key_of(key).map(ScreenEvent::Key),
            Ok(Event::Resize(_, _)) => Some(ScreenEvent::Resized),
            Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => None,
            Err(_) => Some(ScreenEvent::InputClosed),
        };
        let was_last = matches!(screen_event, Some(ScreenEvent::InputClosed));
        if screen_event.is_some_and(|screen_event| sender.blocking_send(screen_event).is_err()) || was_last {
            return;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "keys are the terminal's, and most of them mean nothing here")]
fn key_of(key: KeyEvent) -> Option<KeyPress> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => KeyPress::Interrupt,
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
        KeyCode::Char(c) => KeyPress::Char(c),
        KeyCode::Up => KeyPress::Up,
        KeyCode::Down => KeyPress::Down,
        KeyCode::PageUp => KeyPress::PageUp,
        KeyCode::PageDown => KeyPress::PageDown,
        KeyCode::Enter => KeyPress::Enter,
        KeyCode::Backspace => KeyPress::Backspace,
        KeyCode::Esc => KeyPress::Escape,
        _ => return None,
    })
}

/// Reads the runs after each notable change, and at each tick for tokens and times.
async fn watch_runs(fleet: Fleet, selection: Selection, sender: mpsc::Sender<ScreenEvent>) {
    let mut sampled_at = None::<Instant>;
    loop {
        let read_at = Instant::now();
        let snapshot = fleet.snapshot(&selection).await.map_err(Refusal::from);
        let tick = sampled_at.is_none_or(|at| read_at.duration_since(at) >= TICK_INTERVAL);
        if tick {
            sampled_at = Some(read_at);
        }
        let (event, records) = match snapshot {
            Ok(snapshot) => {
                let rows = snapshot.runs.iter().map(|record| run_row(&fleet, record)).collect();
                (ScreenEvent::RunsChanged { rows, tick }, snapshot.runs)
            }
            Err(refusal) => (ScreenEvent::Note(refusal_text(&refusal, &fleet)), Vec::new()),
        };
        if sender.send(event).await.is_err() {
            return;
        }
        if records.iter().any(|record| record.state.ending().is_none()) {
            let since = Some(Cursor::from_runs(&records));
            let remaining = TICK_INTERVAL.saturating_sub(read_at.elapsed());
            // An error is ignored here: the next read fails in the same way and reports it.
            let _result = fleet.wait(&selection, WaitUntil::Change, since, remaining, sender.closed()).await;
            tokio::time::sleep(MIN_REFRESH_INTERVAL).await;
        } else {
            tokio::time::sleep(TICK_INTERVAL).await;
        }
    }
}

fn run_row(fleet: &Fleet, record: &RunRecord) -> RunRow {
    let run = view_of(fleet, record, Detail::Brief);
    RunRow::from_record(record, &run, |text| sanitize_line(text, fleet))
}

/// Performs an action in a task of its own, which sends the result to the screen.
fn perform_action(action: UiAction, fleet: &Fleet, sender: &mpsc::Sender<ScreenEvent>) {
    let (fleet, sender) = (fleet.clone(), sender.clone());
    tokio::spawn(async move {
        let event = match action {
            UiAction::None | UiAction::Quit | UiAction::OpenPage(_) => return,
            UiAction::OpenRun(id) => {
                let lines =
                    details_lines(&fleet, &id).await.unwrap_or_else(|refusal| vec![refusal_text(&refusal, &fleet)]);
                ScreenEvent::RunOpened { id, lines }
            }
            UiAction::Kill(id) => ScreenEvent::Note(match kill::stop_run(&fleet, &id, DEFAULT_GRACE, None).await {
                Ok(record) => sanitize_line(&kill::receipt_line(&view::receipt(&record)), &fleet),
                Err(refusal) => refusal_text(&refusal, &fleet),
            }),
            UiAction::Steer(id, message) => ScreenEvent::Note(match steer::steer(&fleet, &id, message).await {
                Ok(note) => sanitize_line(&note, &fleet),
                Err(refusal) => refusal_text(&refusal, &fleet),
            }),
        };
        // The screen may be closed by now.
        let _sent = sender.send(event).await;
    });
}

/// The lines for an opened run: its summary, its answer, and all details.
async fn details_lines(fleet: &Fleet, id: &RunId) -> Result<Vec<String>, Refusal> {
    let record = fleet.run_record(id).await?;
    let run = view_of(fleet, &record, Detail::Full);
    let mut lines = vec![summary_line(&run)];
    lines.extend(run.problem.iter().map(|problem| format!("hint: {}", problem.hint)));
    lines.push(String::new());
    match fleet.read_page(id, ResultPart::Answer, 0, MAX_ANSWER_CHARS).await {
        Ok((_, page)) => {
            let title = if page.is_partial { "the best answer so far" } else { "the answer" };
            lines.push(format!("--- {title}, of {} ---", page.winner.as_deref().unwrap_or("?")));
            lines.extend(page.page.text.lines().map(str::to_owned));
            if page.page.next_offset.is_some() {
                lines.push(format!("(of {} characters; all of it: massgen-mcp result {id})", page.page.total_chars));
            }
        }
        Err(error) => lines.push(format!("--- {} ---", Refusal::from(error).message())),
    }
    lines.push(String::new());
    lines.push("--- details ---".to_owned());
    lines.extend(runs::fact_lines(&run));
    Ok(lines.iter().map(|line| sanitize_line(line, fleet)).collect())
}

fn refusal_text(refusal: &Refusal, fleet: &Fleet) -> String {
    sanitize_line(&format!("{} ({}); {}", refusal.message(), refusal.code(), refusal.hint(person_words)), fleet)
}

/// A text for one line of the screen.
fn sanitize_line(text: &str, fleet: &Fleet) -> String {
    text::safe_name(&fleet.secrets().mask(text))
}
