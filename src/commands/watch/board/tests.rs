//! What keys do to the board, and what is kept between looks.

use super::*;
use crate::run::ConfigChoice;
use crate::run::RunSpec;

fn row(number: u32, state: &str, tokens: u64) -> Row {
    let id: RunId = format!("mg-0000000{number}").parse().expect("id");
    Row {
        id,
        state: state.to_owned(),
        is_over: state != "running",
        phase: String::new(),
        elapsed_s: 0,
        agents: String::new(),
        each: Vec::new(),
        votes: String::new(),
        cost: String::new(),
        money: String::new(),
        tokens: Some(tokens),
        question: String::new(),
        problem: Vec::new(),
    }
}

fn board() -> Board {
    let mut board = Board::default();
    board.see(vec![row(1, "running", 5), row(2, "killed", 5), row(3, "running", 5)], true);
    board
}

fn chosen(board: &Board) -> Option<usize> {
    board.chosen().map(|(at, _)| at)
}

#[test]
fn the_choice_stays_with_its_run_and_within_the_list() {
    let mut board = board();
    assert_eq!(chosen(&board), Some(0));
    board.press(Key::Up);
    assert_eq!(chosen(&board), Some(0));
    board.press(Key::Down);
    board.see(vec![row(4, "running", 0), row(1, "running", 0), row(2, "killed", 0)], true);
    assert_eq!(chosen(&board), Some(2), "a new run came in above");
    board.press(Key::PageDown);
    assert_eq!(chosen(&board), Some(2));
    board.see(vec![row(4, "running", 0)], true);
    assert_eq!(chosen(&board), Some(0), "the chosen one is gone");
    board.see(Vec::new(), true);
    assert_eq!((chosen(&board), board.press(Key::Enter)), (None, Wish::Nothing));
}

#[test]
fn a_kill_asks_first_and_only_of_a_run_that_goes_on() {
    let mut board = board();
    let first: RunId = "mg-00000001".parse().expect("id");
    assert_eq!(board.press(Key::Char('k')), Wish::Nothing);
    assert_eq!(board.press(Key::Enter), Wish::Nothing, "that is no yes");
    board.press(Key::Char('k'));
    assert_eq!(board.press(Key::Char('y')), Wish::Kill(first));
    board.press(Key::Down);
    board.press(Key::Char('k'));
    assert_eq!((board.press(Key::Char('y')), board.front.clone()), (Wish::Nothing, Front::Table));
}

#[test]
fn a_message_is_written_and_sent_or_not() {
    let mut board = board();
    let first: RunId = "mg-00000001".parse().expect("id");
    board.press(Key::Char('s'));
    for key in [Key::Char('q'), Key::Char('x'), Key::Backspace, Key::Char('!')] {
        assert_eq!(board.press(key), Wish::Nothing);
    }
    assert_eq!(board.press(Key::Enter), Wish::Steer(first, "q!".to_owned()));
    for end in [Key::Escape, Key::Enter] {
        board.press(Key::Char('s'));
        assert_eq!((board.press(end), board.front.clone()), (Wish::Nothing, Front::Table), "nothing was written");
    }
}

#[test]
fn an_opened_run_scrolls_and_what_comes_late_is_not_shown() {
    let mut board = board();
    let Wish::Open(id) = board.press(Key::Enter) else { panic!("opened") };
    board.opened(&id, vec!["a".to_owned(), "b".to_owned()]);
    board.press(Key::PageDown);
    assert!(matches!(&board.front, Front::Opened { top: 1, .. }), "{:?}", board.front);
    board.press(Key::Char('q'));
    board.opened(&id, vec!["late".to_owned()]);
    assert_eq!(board.front, Front::Table);
    assert_eq!(board.press(Key::Char('q')), Wish::Leave);
}

#[test]
fn the_page_of_the_chosen_run_is_asked_for_whether_it_goes_on_or_not() {
    let mut board = board();
    for number in [1, 2] {
        let id: RunId = format!("mg-0000000{number}").parse().expect("id");
        assert_eq!((board.press(Key::Char('p')), board.front.clone()), (Wish::Page(id), Front::Table));
        board.press(Key::Down);
    }
    assert_eq!(Board::default().press(Key::Char('p')), Wish::Nothing);
}

#[test]
fn from_everywhere_ctrl_c_leaves() {
    for before in [Key::Enter, Key::Char('s'), Key::Char('k'), Key::Up] {
        let mut board = board();
        board.press(before);
        assert_eq!(board.press(Key::Break), Wish::Leave);
    }
}

#[test]
fn samples_are_taken_at_ticks_and_kept_as_long_as_they_are_shown() {
    let mut board = board();
    let id: RunId = "mg-00000001".parse().expect("id");
    board.see(vec![row(1, "running", 9)], true);
    board.see(vec![row(1, "running", 90)], false);
    board.see(vec![row(1, "running", 19)], true);
    assert_eq!(board.added(&id), [4, 10]);
    for tokens in 0..100 {
        board.see(vec![row(1, "running", tokens)], true);
    }
    assert_eq!(board.added(&id).len(), SAMPLES - 1);
    board.see(Vec::new(), true);
    assert!(board.added(&id).is_empty());
}

#[test]
fn a_row_is_made_of_clean_texts() {
    let id: RunId = "mg-00000001".parse().expect("id");
    let spec = RunSpec::plain(id, "q\u{1b}[2J", ConfigChoice::Rehearsal("@rehearsal".into()), "/p".into(), "/b".into());
    let record = RunRecord {
        spec,
        version: 1,
        seq: 0,
        state: crate::run::RunState::Queued,
        digest: None,
        started: None,
        log_dir: None,
        spent: crate::run::Spent::default(),
        spent_below: crate::run::Spent::default(),
        keeper: None,
        cold_because: None,
        import: None,
        changed: None,
        ready: None,
        quiet: None,
    };
    let seen = crate::view::Seen {
        folder: std::path::Path::new("/r"),
        children: &[],
        built_on_by: &[],
        queue: None,
        messages: 0,
        models: &std::collections::BTreeMap::new(),
    };
    let mut run = crate::view::run(&record, &seen, crate::view::Detail::Brief, &crate::clock::now());
    run.agents.insert("a\u{202e}".to_owned(), "voted x".to_owned());
    run.agents.insert("b".to_owned(), "working".to_owned());
    run.agents.insert("c".to_owned(), "voted y".to_owned());
    let row = Row::of(&record, &run, crate::massgen::text::name);
    assert_eq!((row.question.as_str(), row.agents.as_str()), ("q␛[2J", "2 voted, 1 working"));
    assert_eq!(row.each[0], "a\u{fffd} voted x");
}
