//! Tests of the keys, and of what the screen keeps between updates.

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

fn test_screen() -> ScreenState {
    let mut screen = ScreenState::default();
    screen.update_rows(vec![row(1, "running", 5), row(2, "killed", 5), row(3, "running", 5)], true);
    screen
}

fn selected_index(screen: &ScreenState) -> Option<usize> {
    screen.selected_row().map(|(index, _)| index)
}

#[test]
fn the_selection_stays_with_its_run_and_within_the_list() {
    let mut screen = test_screen();
    assert_eq!(selected_index(&screen), Some(0));
    screen.handle_key(KeyPress::Up);
    assert_eq!(selected_index(&screen), Some(0));
    screen.handle_key(KeyPress::Down);
    screen.update_rows(vec![row(4, "running", 0), row(1, "running", 0), row(2, "killed", 0)], true);
    assert_eq!(selected_index(&screen), Some(2), "a new run came in above");
    screen.handle_key(KeyPress::PageDown);
    assert_eq!(selected_index(&screen), Some(2));
    screen.update_rows(vec![row(4, "running", 0)], true);
    assert_eq!(selected_index(&screen), Some(0), "the chosen one is gone");
    screen.update_rows(Vec::new(), true);
    assert_eq!((selected_index(&screen), screen.handle_key(KeyPress::Enter)), (None, UiAction::None));
}

#[test]
fn a_kill_needs_a_confirmation_and_a_live_run() {
    let mut screen = test_screen();
    let first: RunId = "mg-00000001".parse().expect("id");
    assert_eq!(screen.handle_key(KeyPress::Char('k')), UiAction::None);
    assert_eq!(screen.handle_key(KeyPress::Enter), UiAction::None, "that is no yes");
    screen.handle_key(KeyPress::Char('k'));
    assert_eq!(screen.handle_key(KeyPress::Char('y')), UiAction::Kill(first));
    screen.handle_key(KeyPress::Down);
    screen.handle_key(KeyPress::Char('k'));
    assert_eq!((screen.handle_key(KeyPress::Char('y')), screen.overlay.clone()), (UiAction::None, Overlay::None));
}

#[test]
fn a_message_is_written_and_sent_or_not() {
    let mut screen = test_screen();
    let first: RunId = "mg-00000001".parse().expect("id");
    screen.handle_key(KeyPress::Char('s'));
    for key in [KeyPress::Char('q'), KeyPress::Char('x'), KeyPress::Backspace, KeyPress::Char('!')] {
        assert_eq!(screen.handle_key(key), UiAction::None);
    }
    assert_eq!(screen.handle_key(KeyPress::Enter), UiAction::Steer(first, "q!".to_owned()));
    for end in [KeyPress::Escape, KeyPress::Enter] {
        screen.handle_key(KeyPress::Char('s'));
        assert_eq!(
            (screen.handle_key(end), screen.overlay.clone()),
            (UiAction::None, Overlay::None),
            "nothing was written"
        );
    }
}

#[test]
fn an_opened_run_scrolls_and_late_lines_are_not_shown() {
    let mut screen = test_screen();
    let UiAction::OpenRun(id) = screen.handle_key(KeyPress::Enter) else { panic!("opened") };
    screen.show_details(&id, vec!["a".to_owned(), "b".to_owned()]);
    screen.handle_key(KeyPress::PageDown);
    assert!(matches!(&screen.overlay, Overlay::RunDetails { top: 1, .. }), "{:?}", screen.overlay);
    screen.handle_key(KeyPress::Char('q'));
    screen.show_details(&id, vec!["late".to_owned()]);
    assert_eq!(screen.overlay, Overlay::None);
    assert_eq!(screen.handle_key(KeyPress::Char('q')), UiAction::Quit);
}

#[test]
fn the_page_of_the_selected_run_opens_whether_or_not_it_has_ended() {
    let mut screen = test_screen();
    for number in [1, 2] {
        let id: RunId = format!("mg-0000000{number}").parse().expect("id");
        assert_eq!(
            (screen.handle_key(KeyPress::Char('p')), screen.overlay.clone()),
            (UiAction::OpenPage(id), Overlay::None)
        );
        screen.handle_key(KeyPress::Down);
    }
    assert_eq!(ScreenState::default().handle_key(KeyPress::Char('p')), UiAction::None);
}

#[test]
fn ctrl_c_quits_in_every_state() {
    for before in [KeyPress::Enter, KeyPress::Char('s'), KeyPress::Char('k'), KeyPress::Up] {
        let mut screen = test_screen();
        screen.handle_key(before);
        assert_eq!(screen.handle_key(KeyPress::Interrupt), UiAction::Quit);
    }
}

#[test]
fn samples_are_taken_at_ticks_and_kept_while_the_run_is_listed() {
    let mut screen = test_screen();
    let id: RunId = "mg-00000001".parse().expect("id");
    screen.update_rows(vec![row(1, "running", 9)], true);
    screen.update_rows(vec![row(1, "running", 90)], false);
    screen.update_rows(vec![row(1, "running", 19)], true);
    assert_eq!(screen.tokens_per_sample(&id), [4, 10]);
    for tokens in 0..100 {
        screen.update_rows(vec![row(1, "running", tokens)], true);
    }
    assert_eq!(screen.tokens_per_sample(&id).len(), MAX_SAMPLES - 1);
    screen.update_rows(Vec::new(), true);
    assert!(screen.tokens_per_sample(&id).is_empty());
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
    let extras = crate::view::RunExtras {
        folder: std::path::Path::new("/r"),
        children: &[],
        dependents: &[],
        queue_position: None,
        pending_messages: 0,
        awaited_models: &std::collections::BTreeMap::new(),
        wording: crate::commands::next_steps::person_words,
    };
    let mut run = crate::view::run_view(&record, &extras, crate::view::Detail::Brief, &crate::clock::now());
    run.agents.insert("a\u{202e}".to_owned(), "voted x".to_owned());
    run.agents.insert("b".to_owned(), "working".to_owned());
    run.agents.insert("c".to_owned(), "voted y".to_owned());
    let row = RunRow::from_record(&record, &run, crate::massgen::text::safe_name);
    assert_eq!((row.question.as_str(), row.agents.as_str()), ("q␛[2J", "2 voted, 1 working"));
    assert_eq!(row.agent_lines[0], "a\u{fffd} voted x");
}
