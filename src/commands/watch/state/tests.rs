//! What keys do to the board, and what is kept between looks.

use super::*;
use crate::run::ConfigChoice;
use crate::run::RunSpec;

fn row(number: u32, state: &str, tokens: u64) -> RunRow {
    let id: RunId = format!("mg-0000000{number}").parse().expect("id");
    RunRow {
        id,
        state: state.to_owned(),
        has_ended: state != "running",
        phase: String::new(),
        elapsed_s: 0,
        agents: String::new(),
        agent_lines: Vec::new(),
        votes: String::new(),
        cost: String::new(),
        cost_line: String::new(),
        tokens: Some(tokens),
        question: String::new(),
        problem: Vec::new(),
    }
}

fn board() -> ScreenState {
    let mut board = ScreenState::default();
    board.update_rows(vec![row(1, "running", 5), row(2, "killed", 5), row(3, "running", 5)], true);
    board
}

fn chosen(board: &ScreenState) -> Option<usize> {
    board.selected_row().map(|(at, _)| at)
}

#[test]
fn the_choice_stays_with_its_run_and_within_the_list() {
    let mut board = board();
    assert_eq!(chosen(&board), Some(0));
    board.handle_key(KeyPress::Up);
    assert_eq!(chosen(&board), Some(0));
    board.handle_key(KeyPress::Down);
    board.update_rows(vec![row(4, "running", 0), row(1, "running", 0), row(2, "killed", 0)], true);
    assert_eq!(chosen(&board), Some(2), "a new run came in above");
    board.handle_key(KeyPress::PageDown);
    assert_eq!(chosen(&board), Some(2));
    board.update_rows(vec![row(4, "running", 0)], true);
    assert_eq!(chosen(&board), Some(0), "the chosen one is gone");
    board.update_rows(Vec::new(), true);
    assert_eq!((chosen(&board), board.handle_key(KeyPress::Enter)), (None, UiAction::None));
}

#[test]
fn a_kill_asks_first_and_only_of_a_run_that_goes_on() {
    let mut board = board();
    let first: RunId = "mg-00000001".parse().expect("id");
    assert_eq!(board.handle_key(KeyPress::Char('k')), UiAction::None);
    assert_eq!(board.handle_key(KeyPress::Enter), UiAction::None, "that is no yes");
    board.handle_key(KeyPress::Char('k'));
    assert_eq!(board.handle_key(KeyPress::Char('y')), UiAction::Kill(first));
    board.handle_key(KeyPress::Down);
    board.handle_key(KeyPress::Char('k'));
    assert_eq!((board.handle_key(KeyPress::Char('y')), board.overlay.clone()), (UiAction::None, Overlay::None));
}

#[test]
fn a_message_is_written_and_sent_or_not() {
    let mut board = board();
    let first: RunId = "mg-00000001".parse().expect("id");
    board.handle_key(KeyPress::Char('s'));
    for key in [KeyPress::Char('q'), KeyPress::Char('x'), KeyPress::Backspace, KeyPress::Char('!')] {
        assert_eq!(board.handle_key(key), UiAction::None);
    }
    assert_eq!(board.handle_key(KeyPress::Enter), UiAction::Steer(first, "q!".to_owned()));
    for end in [KeyPress::Escape, KeyPress::Enter] {
        board.handle_key(KeyPress::Char('s'));
        assert_eq!(
            (board.handle_key(end), board.overlay.clone()),
            (UiAction::None, Overlay::None),
            "nothing was written"
        );
    }
}

#[test]
fn an_opened_run_scrolls_and_what_comes_late_is_not_shown() {
    let mut board = board();
    let UiAction::OpenRun(id) = board.handle_key(KeyPress::Enter) else { panic!("opened") };
    board.show_details(&id, vec!["a".to_owned(), "b".to_owned()]);
    board.handle_key(KeyPress::PageDown);
    assert!(matches!(&board.overlay, Overlay::RunDetails { top: 1, .. }), "{:?}", board.overlay);
    board.handle_key(KeyPress::Char('q'));
    board.show_details(&id, vec!["late".to_owned()]);
    assert_eq!(board.overlay, Overlay::None);
    assert_eq!(board.handle_key(KeyPress::Char('q')), UiAction::Quit);
}

#[test]
fn the_page_of_the_chosen_run_is_asked_for_whether_it_goes_on_or_not() {
    let mut board = board();
    for number in [1, 2] {
        let id: RunId = format!("mg-0000000{number}").parse().expect("id");
        assert_eq!(
            (board.handle_key(KeyPress::Char('p')), board.overlay.clone()),
            (UiAction::OpenPage(id), Overlay::None)
        );
        board.handle_key(KeyPress::Down);
    }
    assert_eq!(ScreenState::default().handle_key(KeyPress::Char('p')), UiAction::None);
}

#[test]
fn from_everywhere_ctrl_c_leaves() {
    for before in [KeyPress::Enter, KeyPress::Char('s'), KeyPress::Char('k'), KeyPress::Up] {
        let mut board = board();
        board.handle_key(before);
        assert_eq!(board.handle_key(KeyPress::Interrupt), UiAction::Quit);
    }
}

#[test]
fn samples_are_taken_at_ticks_and_kept_as_long_as_they_are_shown() {
    let mut board = board();
    let id: RunId = "mg-00000001".parse().expect("id");
    board.update_rows(vec![row(1, "running", 9)], true);
    board.update_rows(vec![row(1, "running", 90)], false);
    board.update_rows(vec![row(1, "running", 19)], true);
    assert_eq!(board.tokens_per_sample(&id), [4, 10]);
    for tokens in 0..100 {
        board.update_rows(vec![row(1, "running", tokens)], true);
    }
    assert_eq!(board.tokens_per_sample(&id).len(), MAX_SAMPLES - 1);
    board.update_rows(Vec::new(), true);
    assert!(board.tokens_per_sample(&id).is_empty());
}

#[test]
fn a_row_is_made_of_clean_texts() {
    let id: RunId = "mg-00000001".parse().expect("id");
    let spec = RunSpec::new(id, "q\u{1b}[2J", ConfigChoice::Rehearsal("@rehearsal".into()), "/p".into(), "/b".into());
    let record = RunRecord {
        spec,
        version: 1,
        seq: 0,
        state: crate::run::RunState::Queued,
        digest: None,
        started: None,
        log_dir: None,
        spent: crate::run::Spend::default(),
        spent_by_descendants: crate::run::Spend::default(),
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: None,
    };
    let seen = crate::view::RunExtras {
        folder: std::path::Path::new("/r"),
        children: &[],
        dependents: &[],
        queue_position: None,
        pending_messages: 0,
        awaited_models: &std::collections::BTreeMap::new(),
    };
    let mut run = crate::view::run_view(&record, &seen, crate::view::Detail::Brief, &crate::clock::now());
    run.agents.insert("a\u{202e}".to_owned(), "voted x".to_owned());
    run.agents.insert("b".to_owned(), "working".to_owned());
    run.agents.insert("c".to_owned(), "voted y".to_owned());
    let row = RunRow::from_record(&record, &run, crate::massgen::text::safe_name);
    assert_eq!((row.question.as_str(), row.agents.as_str()), ("q␛[2J", "2 voted, 1 working"));
    assert_eq!(row.agent_lines[0], "a\u{fffd} voted x");
}
