//! `massgen-mcp watch`: a live table of runs in a terminal, with keys to open, steer and kill them. It owns the screen while it
//! runs and gives it back however it ends; the runs do not notice.

mod board;
mod draw;
mod pages;
mod steer;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::board::{Board, Key, Row, Wish};
use self::pages::Pages;
use super::selection::existing;
use super::summary::{one_line, view_of};
use super::{kill, look};
use crate::fleet::results::Part;
use crate::fleet::{Cursor, Fleet, Selection, Until};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord};
use crate::view::{self, Detail};

/// Which runs to watch.
#[derive(Debug, clap::Args)]
#[command(after_help = "Needs a terminal. Keys: up and down choose, Enter opens, p opens its page in\n\
                        the browser and keeps it up to date, s steers, k kills, q leaves; the runs go on.\n\
                        Exit codes: 0 left; 1 it could not be done; 2 the command line is wrong.")]
pub struct Watch {
    /// Only those with this label; otherwise the latest 20.
    #[arg(long)]
    group: Option<String>,
}

/// How often tokens and times are shown anew, and sampled.
const TICK: Duration = Duration::from_secs(1);
/// The least time between two looks, however much happens.
const BREATH: Duration = Duration::from_millis(100);
/// How long a run that is killed by a key has to close what it has open.
const GRACE: Duration = Duration::from_secs(5);
/// How much of an answer is shown, in characters.
const ANSWER: u64 = 30_000;

/// What the screen hears of.
enum News {
    Key(Key),
    /// The terminal has another size.
    Resized,
    Runs {
        rows: Vec<Row>,
        /// Whether a tick has passed since the last sample.
        tick: bool,
    },
    Opened {
        id: RunId,
        lines: Vec<String>,
    },
    Note(String),
    /// There is nobody to type any more.
    Deaf,
}

pub(super) async fn watch(fleet: Fleet, how: &Watch) -> Result<ExitCode, Refusal> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let hint = "run it in a terminal; elsewhere use `massgen-mcp runs --json`, or `massgen-mcp wait`";
        return Err(Refusal::new("no_terminal", "watch draws on a terminal, and this is none", hint));
    }
    let selection = how.group.clone().map_or(Selection::Latest, Selection::Group);
    existing(&selection, fleet.look_all(&selection).await?)?;
    let unusable = |error: std::io::Error| {
        let hint = "use `massgen-mcp runs --json`, or another terminal";
        Refusal::new("no_terminal", format!("this terminal cannot be drawn on: {error}"), hint)
    };
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let mut pages = Pages::default();
    let shown = show(&mut terminal, &fleet, selection, &mut pages).await;
    ratatui::restore();
    pages.close().await;
    shown.map(|()| ExitCode::SUCCESS).map_err(unusable)
}

async fn show(
    terminal: &mut DefaultTerminal,
    fleet: &Fleet,
    selection: Selection,
    pages: &mut Pages,
) -> std::io::Result<()> {
    let (to, mut news) = mpsc::channel(16);
    let keys = to.clone();
    // A read of the terminal cannot be broken off; the thread ends with the process.
    std::thread::spawn(move || listen(&keys));
    tokio::spawn(look_on(fleet.clone(), selection, to.clone()));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut board = Board::default();
    loop {
        terminal.draw(|frame| draw::draw(frame, &board))?;
        let heard = tokio::select! {
            heard = news.recv() => heard.unwrap_or(News::Deaf),
            _ = terminate.recv() => News::Deaf,
            _ = hang_up.recv() => News::Deaf,
        };
        match heard {
            News::Key(key) => match board.press(key) {
                Wish::Leave => return Ok(()),
                Wish::Page(id) => pages.open(id, fleet, &to),
                wish @ (Wish::Nothing | Wish::Open(_) | Wish::Kill(_) | Wish::Steer(_, _)) => fulfil(wish, fleet, &to),
            },
            News::Resized => terminal.autoresize()?,
            News::Runs { rows, tick } => board.see(rows, tick),
            News::Opened { id, lines } => board.opened(&id, lines),
            News::Note(note) => board.note(note),
            News::Deaf => return Ok(()),
        }
    }
}

/// Hands on what is typed, until nobody wants it or the terminal is gone.
fn listen(to: &mpsc::Sender<News>) {
    loop {
        let heard = match event::read() {
            Ok(Event::Key(key)) => key_of(key).map(News::Key),
            Ok(Event::Resize(_, _)) => Some(News::Resized),
            Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => None,
            Err(_) => Some(News::Deaf),
        };
        let was_last = matches!(heard, Some(News::Deaf));
        if heard.is_some_and(|heard| to.blocking_send(heard).is_err()) || was_last {
            return;
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "keys are the terminal's, and most of them mean nothing here")]
fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Break,
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Enter => Key::Enter,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

/// Looks at the runs whenever something happens to them, and at every tick for what is no news: tokens and time.
async fn look_on(fleet: Fleet, selection: Selection, to: mpsc::Sender<News>) {
    let mut sampled = None::<Instant>;
    loop {
        let begun = Instant::now();
        let looked = fleet.look_all(&selection).await.map_err(Refusal::from);
        let tick = sampled.is_none_or(|at| begun.duration_since(at) >= TICK);
        if tick {
            sampled = Some(begun);
        }
        let (news, records) = match looked {
            Ok(sight) => {
                let rows = sight.runs.iter().map(|record| row(&fleet, record)).collect();
                (News::Runs { rows, tick }, sight.runs)
            }
            Err(refusal) => (News::Note(words(&refusal, &fleet)), Vec::new()),
        };
        if to.send(news).await.is_err() {
            return;
        }
        if records.iter().any(|record| record.state.ended().is_none()) {
            let since = Some(Cursor::of(&records));
            let left = TICK.saturating_sub(begun.elapsed());
            // What went wrong with it goes wrong with the next look as well, and is told there.
            let _news = fleet.wait(&selection, Until::Change, since, left, to.closed()).await;
            tokio::time::sleep(BREATH).await;
        } else {
            tokio::time::sleep(TICK).await;
        }
    }
}

fn row(fleet: &Fleet, record: &RunRecord) -> Row {
    let run = view_of(fleet, record, Detail::Brief);
    Row::of(record, &run, |text| clean(text, fleet))
}

/// Does what a key asked for, beside the screen, which hears how it went.
fn fulfil(wish: Wish, fleet: &Fleet, to: &mpsc::Sender<News>) {
    let (fleet, to) = (fleet.clone(), to.clone());
    tokio::spawn(async move {
        let news = match wish {
            Wish::Nothing | Wish::Leave | Wish::Page(_) => return,
            Wish::Open(id) => {
                let lines = opened(&fleet, &id).await.unwrap_or_else(|refusal| vec![words(&refusal, &fleet)]);
                News::Opened { id, lines }
            }
            Wish::Kill(id) => News::Note(match kill::stop(&fleet, &id, GRACE, None).await {
                Ok(record) => clean(&kill::line(&view::receipt(&record)), &fleet),
                Err(refusal) => words(&refusal, &fleet),
            }),
            Wish::Steer(id, message) => News::Note(match steer::steer(&fleet, &id, message).await {
                Ok(said) => clean(&said, &fleet),
                Err(refusal) => words(&refusal, &fleet),
            }),
        };
        // The screen may be gone by now.
        let _nobody = to.send(news).await;
    });
}

/// What is shown of an opened run: how it is, its answer, and everything else that is known.
async fn opened(fleet: &Fleet, id: &RunId) -> Result<Vec<String>, Refusal> {
    let record = fleet.look(id).await?;
    let run = view_of(fleet, &record, Detail::Full);
    let mut lines = vec![one_line(&run)];
    lines.extend(run.problem.iter().map(|problem| format!("hint: {}", problem.hint)));
    lines.push(String::new());
    match fleet.read(id, Part::Answer, 0, ANSWER).await {
        Ok((_, reading)) => {
            let kind = if reading.partial { "the best answer so far" } else { "the answer" };
            lines.push(format!("--- {kind}, of {} ---", reading.winner.as_deref().unwrap_or("?")));
            lines.extend(reading.page.text.lines().map(str::to_owned));
            if reading.page.next_offset.is_some() {
                lines.push(format!("(of {} characters; all of it: massgen-mcp result {id})", reading.page.total_chars));
            }
        }
        Err(error) => lines.push(format!("--- {} ---", Refusal::from(error).message())),
    }
    lines.push(String::new());
    lines.push("--- details ---".to_owned());
    lines.extend(look::lines(&run));
    Ok(lines.iter().map(|line| clean(line, fleet)).collect())
}

fn words(refusal: &Refusal, fleet: &Fleet) -> String {
    clean(&format!("{} ({}); {}", refusal.message(), refusal.code(), refusal.hint()), fleet)
}

/// A text for one line of the screen.
fn clean(text: &str, fleet: &Fleet) -> String {
    text::name(&fleet.secrets().mask(text))
}
