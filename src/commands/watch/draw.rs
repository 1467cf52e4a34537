//! Draws the screen of `watch`: from the screen state to a frame. Pure; all texts were sanitized before.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row as RunGrid, Table, TableState, Wrap};

use super::state::{Overlay, RunRow, ScreenState};

/// The height of the details of the selected run.
const DETAILS_HEIGHT: u16 = 8;
/// The least width of a screen that shows votes and questions.
const WIDE_SCREEN: u16 = 110;
/// The number of bars of a trend on wide and on narrow screens.
const TREND_WIDTH: u16 = 20;
const NARROW_TREND_WIDTH: u16 = 6;

/// A column of the table.
struct Column {
    content: ColumnContent,
    name: &'static str,
    width: Constraint,
    /// The least width of a screen that shows it.
    min_screen_width: u16,
}

/// The content of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnContent {
    Run,
    State,
    Phase,
    Time,
    Agents,
    Votes,
    Cost,
    Tokens,
    Trend,
    Question,
}

const fn column(content: ColumnContent, name: &'static str, width: Constraint, min_screen_width: u16) -> Column {
    Column { content, name, width, min_screen_width }
}

const COLUMNS: &[Column] = &[
    column(ColumnContent::Run, "RUN", Constraint::Length(11), 0),
    column(ColumnContent::State, "STATE", Constraint::Length(11), 0),
    column(ColumnContent::Phase, "PHASE", Constraint::Length(14), 72),
    column(ColumnContent::Time, "TIME", Constraint::Length(6), 0),
    column(ColumnContent::Agents, "AGENTS", Constraint::Fill(2), 60),
    column(ColumnContent::Votes, "VOTES", Constraint::Length(12), WIDE_SCREEN),
    column(ColumnContent::Cost, "COST", Constraint::Length(8), 0),
    column(ColumnContent::Tokens, "TOKENS", Constraint::Length(6), 0),
    column(ColumnContent::Trend, "TREND", Constraint::Length(TREND_WIDTH), 60),
    column(ColumnContent::Question, "QUESTION", Constraint::Fill(2), WIDE_SCREEN),
];
/// The bars of a trend, from zero to the maximum.
const BAR_CHARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &ScreenState) {
    let details_height = if frame.area().height >= 2 * DETAILS_HEIGHT { DETAILS_HEIGHT } else { 0 };
    let parts = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(details_height), Constraint::Length(1)];
    let [top, middle, details_area, bottom] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Line::from(summary(&screen.rows)).style(Modifier::BOLD), top);
    match &screen.overlay {
        Overlay::RunDetails { id, lines, top } => {
            let area = Rect { height: middle.height + details_area.height, ..middle };
            draw_details(frame, area, &format!(" {id} "), lines, *top);
        }
        Overlay::None | Overlay::MessageInput { .. } | Overlay::ConfirmKill { .. } => {
            draw_table(frame, middle, screen);
            if details_height > 0 {
                let lines = screen.selected_row().map(|(_, row)| run_facts(row)).unwrap_or_default();
                let block = Block::new().borders(Borders::TOP);
                frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), details_area);
            }
        }
    }
    frame.render_widget(footer(screen, bottom.width), bottom);
}

fn summary(rows: &[RunRow]) -> String {
    let live = rows.iter().filter(|row| !row.has_ended).count();
    let tokens: u64 = rows.iter().filter_map(|row| row.tokens).sum();
    format!("massgen-mcp: {} runs, {live} live, {} tokens", rows.len(), format_count(tokens))
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, screen: &ScreenState) {
    if screen.rows.is_empty() {
        frame.render_widget(Line::from("no runs yet; they appear here by themselves"), area);
        return;
    }
    let columns: Vec<_> = COLUMNS.iter().filter(|column| area.width >= column.min_screen_width).collect();
    let trend = if area.width >= WIDE_SCREEN { TREND_WIDTH } else { NARROW_TREND_WIDTH };
    let width = |column: &&Column| {
        if column.content == ColumnContent::Trend { Constraint::Length(trend) } else { column.width }
    };
    let widths: Vec<_> = columns.iter().map(width).collect();
    let cells =
        screen.rows.iter().map(|row| RunGrid::new(columns.iter().map(|column| cell(screen, row, column, trend))));
    let names = RunGrid::new(columns.iter().map(|column| column.name)).style(Modifier::DIM);
    let table = Table::new(cells, widths).header(names).row_highlight_style(Modifier::REVERSED).column_spacing(1);
    let mut selected = TableState::default().with_selected(screen.selected_row().map(|(index, _)| index));
    frame.render_stateful_widget(table, area, &mut selected);
}

fn cell<'a>(screen: &ScreenState, row: &'a RunRow, column: &Column, trend: u16) -> Span<'a> {
    match column.content {
        ColumnContent::Run => Span::raw(row.id.as_str()),
        ColumnContent::State => Span::styled(row.state.as_str(), state_style(&row.state)),
        ColumnContent::Phase => Span::raw(row.phase.as_str()),
        ColumnContent::Time => Span::raw(format_time(row.elapsed_s)),
        ColumnContent::Agents => Span::raw(row.agents.as_str()),
        ColumnContent::Votes => Span::raw(row.votes.as_str()),
        ColumnContent::Cost => Span::raw(row.cost.as_str()),
        ColumnContent::Tokens => Span::raw(row.tokens.map(format_count).unwrap_or_default()),
        ColumnContent::Trend => Span::raw(sparkline(&trend_of(screen, row), usize::from(trend))),
        ColumnContent::Question => Span::raw(row.question.as_str()),
    }
}

/// The trend of a run; empty for an ended run without samples from its live time.
fn trend_of(screen: &ScreenState, row: &RunRow) -> Vec<u64> {
    let added = screen.tokens_per_sample(&row.id);
    if row.has_ended && added.iter().all(|tokens| *tokens == 0) { Vec::new() } else { added }
}

fn state_style(state: &str) -> Style {
    let color = match state {
        "running" | "starting" => Color::Cyan,
        "succeeded" => Color::Green,
        "queued" | "stopping" | "killed" => Color::Yellow,
        "failed" | "timed_out" | "over_budget" | "lost" => Color::Red,
        _ => Color::Reset,
    };
    Style::new().fg(color)
}

/// The facts about the selected run.
fn run_facts(row: &RunRow) -> Vec<Line<'_>> {
    let mut lines = vec![Line::from(row.question.as_str())];
    lines.extend((!row.agent_lines.is_empty()).then(|| Line::from(row.agent_lines.join(", "))));
    lines.extend((!row.cost_line.is_empty()).then(|| Line::from(row.cost_line.as_str())));
    lines.extend(row.problem.iter().map(|line| Line::from(line.as_str()).style(Color::Red)));
    lines
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[String], top: usize) {
    // Lay out only the visible lines: the text may be a whole answer.
    let visible: Vec<_> =
        lines.iter().skip(top).take(usize::from(area.height)).map(|line| Line::from(line.as_str())).collect();
    let block = Block::new().borders(Borders::TOP).title(title);
    frame.render_widget(Paragraph::new(visible).wrap(Wrap { trim: false }).block(block), area);
}

fn footer(screen: &ScreenState, width: u16) -> Line<'_> {
    let text = match &screen.overlay {
        Overlay::None if !screen.note.is_empty() => screen.note.clone(),
        Overlay::None => "↑↓ choose   Enter open   p page   s steer   k kill   q leave".to_owned(),
        Overlay::RunDetails { .. } => "↑↓ PgUp PgDn scroll   Esc back".to_owned(),
        Overlay::ConfirmKill { id } => format!("kill {id} with all that it started? y: yes, any other key: no"),
        Overlay::MessageInput { id, text } => {
            let prompt = format!("to {id} (Enter sends, Esc does not): ");
            // Show the end of a long message, where the user is typing.
            let max_chars = usize::from(width).saturating_sub(prompt.chars().count() + 1);
            let hidden = text.chars().count().saturating_sub(max_chars);
            format!("{prompt}{}█", text.chars().skip(hidden).collect::<String>())
        }
    };
    let style =
        if matches!(screen.overlay, Overlay::ConfirmKill { .. }) { Style::new().fg(Color::Red) } else { Style::new() };
    Line::styled(text, style)
}

/// Formats a time as minutes and seconds, or hours and minutes.
fn format_time(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}", seconds / 3600, seconds / 60 % 60),
    }
}

/// Formats a number in at most five characters.
fn format_count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..100_000 => format!("{:.1}k", count as f64 / 1e3),
        100_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

/// The last `width` numbers as bars, scaled to their maximum.
fn sparkline(numbers: &[u64], width: usize) -> String {
    let last = &numbers[numbers.len().saturating_sub(width)..];
    let max = last.iter().copied().max().unwrap_or_default();
    let bar = |number: &u64| match max {
        0 => BAR_CHARS[0],
        _ => BAR_CHARS[usize::try_from((number * 7).div_ceil(max)).unwrap_or_default().min(7)],
    };
    last.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::{KeyPress, UiAction};
    use super::*;

    fn row(id: &str, state: &str, tokens: u64) -> RunRow {
        RunRow {
            id: id.parse().expect("id"),
            state: state.to_owned(),
            has_ended: state == "succeeded",
            phase: "enforcement".to_owned(),
            elapsed_s: 125,
            agents: "2 voted, 1 working".to_owned(),
            agent_lines: vec!["agent_a voted agent1.1".to_owned(), "agent_b working".to_owned()],
            votes: "agent1.1:2".to_owned(),
            cost: "$0.0123".to_owned(),
            cost_line: format!("$0.0123, {tokens} tokens"),
            tokens: Some(tokens),
            question: "Which is best?".to_owned(),
            problem: Vec::new(),
        }
    }

    fn test_screen() -> ScreenState {
        let mut screen = ScreenState::default();
        for tokens in [0, 0, 1_000, 8_000] {
            screen.update_rows(vec![row("mg-00000001", "running", tokens), row("mg-00000002", "succeeded", 500)], true);
        }
        screen
    }

    fn rendered(screen: &ScreenState, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("terminal");
        terminal.draw(|frame| draw(frame, screen)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn a_wide_screen_shows_every_column_and_the_selected_run() {
        let lines = rendered(&test_screen(), 150, 20);
        assert_eq!(lines[0], "massgen-mcp: 2 runs, 1 live, 8.5k tokens");
        for name in ["RUN", "STATE", "PHASE", "TIME", "AGENTS", "VOTES", "COST", "TOKENS", "TREND", "QUESTION"] {
            assert!(lines[1].contains(name), "{name} in {}", lines[1]);
        }
        for text in [
            "mg-00000001",
            "running",
            "enforcement",
            "2:05",
            "2 voted, 1 working",
            "agent1.1:2",
            "$0.0123",
            "8.0k",
            "▁▂█",
        ] {
            assert!(lines[2].contains(text), "{text} in {}", lines[2]);
        }
        assert!(lines[2].ends_with("Which is best?"), "{}", lines[2]);
        assert!(lines.iter().any(|line| line == "agent_a voted agent1.1, agent_b working"), "{lines:#?}");
        assert!(lines[19].contains("Enter open"), "{}", lines[19]);
    }

    #[test]
    fn a_narrow_or_low_screen_keeps_the_important_columns() {
        let lines = rendered(&test_screen(), 80, 24);
        for text in ["mg-00000001", "running", "2:05", "$0.0123", "8.0k", "▁▂█"] {
            assert!(lines[2].contains(text), "{text} in {}", lines[2]);
        }
        let low = rendered(&test_screen(), 80, 6);
        assert!(low[3].starts_with("mg-00000002") && low[5].contains("Enter open"), "{low:#?}");
        for (width, height) in [(1, 1), (5, 3), (20, 2)] {
            rendered(&test_screen(), width, height);
        }
    }

    #[test]
    fn overlays_say_what_their_keys_do() {
        let mut screen = test_screen();
        assert_eq!(rendered(&ScreenState::default(), 80, 24)[1], "no runs yet; they appear here by themselves");
        screen.handle_key(KeyPress::Char('k'));
        assert!(rendered(&screen, 80, 24)[23].starts_with("kill mg-00000001 with all that it started?"));
        screen.handle_key(KeyPress::Escape);
        screen.handle_key(KeyPress::Char('s'));
        "a longer message".repeat(9).chars().for_each(|c| drop(screen.handle_key(KeyPress::Char(c))));
        let foot = rendered(&screen, 80, 24).pop().expect("a line");
        assert!(foot.starts_with("to mg-00000001 (Enter sends") && foot.ends_with("message█"), "{foot}");
        screen.handle_key(KeyPress::Escape);
        let UiAction::OpenRun(id) = screen.handle_key(KeyPress::Enter) else { panic!("a run is chosen") };
        screen.show_details(&id, (0..50).map(|number| format!("line {number}")).collect());
        screen.handle_key(KeyPress::PageDown);
        let lines = rendered(&screen, 80, 24);
        assert!(lines[1].contains("mg-00000001") && lines[2] == "line 10" && lines[22] == "line 30", "{lines:#?}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [999, 1_234, 99_949, 123_456, 1_234_567].map(format_count),
            ["999", "1.2k", "99.9k", "123k", "1.2M"]
        );
        assert_eq!([5, 65, 3_599, 3_725].map(format_time), ["0:05", "1:05", "59:59", "1h02"]);
        assert_eq!(sparkline(&[0, 0], 8), "▁▁");
        assert_eq!(sparkline(&[0, 1, 50, 100], 3), "▂▅█");
        assert_eq!(sparkline(&[], 3), "");
    }
}
