//! Tables of hand-made runs with known results.

use serde_json::json;

use super::*;

/// A minimal successful run.
fn trial(arm: usize, question: usize, repeat: u32) -> Trial {
    let run = RunId::from_bytes([0, arm as u8, question as u8, (repeat >> 8) as u8, repeat as u8]);
    Trial {
        run,
        arm,
        question,
        repeat,
        state: "succeeded".to_owned(),
        took_s: Some(10.0),
        cost_usd: Some(0.01),
        tokens: Some(100),
        answer: Some("42".to_owned()),
        winner: Some("agent_a".to_owned()),
        partial_by: None,
        model: Some("m".to_owned()),
        votes: BTreeMap::new(),
    }
}

fn in_state(state: &str, trial: Trial) -> Trial {
    Trial { state: state.to_owned(), ..trial }
}

fn took(seconds: f64, trial: Trial) -> Trial {
    Trial { took_s: Some(seconds), ..trial }
}

fn voted(votes: &[u32], trial: Trial) -> Trial {
    let votes = votes.iter().enumerate().map(|(n, votes)| (format!("agent{n}.1"), *votes)).collect();
    Trial { votes, ..trial }
}

fn table(trials: Vec<Trial>) -> ComparisonTable {
    let count = |index: fn(&Trial) -> usize| trials.iter().map(index).max().map_or(0, |last| last + 1);
    let arms = (0..count(|trial| trial.arm)).map(|n| format!("config {n}")).collect();
    let questions = (0..count(|trial| trial.question)).map(|n| format!("Question {n}?")).collect();
    ComparisonTable::new(Comparison { group: "g".to_owned(), arms, questions, trials })
}

fn mean(n: usize, mean: f64) -> Option<Mean> {
    Some(Mean { n, mean, interval: None })
}

#[test]
fn no_runs_give_an_empty_table() {
    let table = table(vec![]);
    assert_eq!((table.rows.len(), table.arms.len(), table.differences.len()), (0, 0, 0));
    assert_eq!(table.to_text(), "Group g: 0 arms, 0 questions, 0 runs planned, 0 ended, 0 succeeded.\n");
    assert_eq!(table.to_csv().lines().count(), 1);
    assert_eq!(table.to_json()["runs"], json!([]));
}

#[test]
fn one_run_is_shown_with_its_values() {
    let table = table(vec![voted(&[3, 1], trial(0, 0, 1))]);
    let row = &table.rows[0];
    assert_eq!((row.planned, row.started, row.ended, row.succeeded, row.unpriced), (1, 1, 1, 1, 0));
    assert_eq!((row.took_s, row.cost_usd, row.tokens), (mean(1, 10.0), mean(1, 0.01), mean(1, 100.0)));
    assert_eq!((row.answer_chars, row.agreement, row.margin), (mean(1, 2.0), None, mean(1, 0.5)));
    assert_eq!(table.arms, [ComparisonRow { question: None, ..row.clone() }]);
    assert!(table.to_text().contains("\na1 | q1 | 1/1/1 | 10.0 | $0.01000 | 100 | 2 | - | agent_a (m) 100 % | 50 %\n"));
}

#[test]
fn failures_count_for_cost_and_not_for_answers() {
    let failed = |repeat| in_state("failed", took(f64::from(repeat), voted(&[2], trial(0, 0, repeat))));
    let row = &table(vec![failed(1), failed(2)]).rows[0];
    assert_eq!((row.planned, row.ended, row.succeeded), (2, 2, 0));
    assert_eq!((row.took_s, row.tokens), (mean(2, 1.5), mean(2, 100.0)));
    assert_eq!(
        (row.answer_chars, row.agreement, row.margin),
        (None, None, None),
        "a partial answer is none to compare"
    );
    assert!(row.winners.is_empty());
}

#[test]
fn unfinished_runs_are_counted_and_not_measured() {
    let states = ["not_started", "queued", "starting", "running", "stopping", "of the future", "succeeded", "lost"];
    let trials =
        states.iter().zip(1..).map(|(state, repeat)| in_state(state, took(f64::from(repeat), trial(0, 0, repeat))));
    let row = &table(trials.collect()).rows[0];
    assert_eq!((row.planned, row.started, row.ended, row.succeeded), (8, 6, 2, 1));
    assert_eq!(row.took_s, mean(2, 7.5));
}

#[test]
fn a_partly_unknown_cost_is_left_out_and_counted() {
    let unpriced = |repeat| Trial { cost_usd: None, ..trial(0, 0, repeat) };
    let table = table(vec![trial(0, 0, 1), unpriced(2), unpriced(3), in_state("running", unpriced(4))]);
    assert_eq!((table.rows[0].cost_usd, table.rows[0].unpriced), (mean(1, 0.01), 2));
    assert!(table.to_text().contains("| $0.01000 (2 unpriced) |"));
}

#[test]
fn impossible_numbers_are_missing_values() {
    for impossible in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX] {
        let table = table(vec![Trial { cost_usd: Some(impossible), took_s: Some(impossible), ..trial(0, 0, 1) }]);
        assert_eq!((table.rows[0].cost_usd, table.rows[0].took_s), (None, None), "{impossible}");
        assert!(!table.to_csv().to_lowercase().contains("nan") && !table.to_csv().contains("inf"));
    }
}

#[test]
fn margins_are_shares_of_all_votes() {
    for (votes, expected) in [
        (&[][..], None),
        (&[0, 0], None),
        (&[2], Some(1.0)),
        (&[2, 2], Some(0.0)),
        (&[1, 3], Some(0.5)),
        (&[3, 3, 2], Some(0.0)),
        (&[u32::MAX, u32::MAX, 0], Some(0.0)),
    ] {
        let row = &table(vec![voted(votes, trial(0, 0, 1))]).rows[0];
        assert_eq!(row.margin.map(|margin| margin.mean), expected, "{votes:?}");
    }
}

#[test]
fn winners_are_shares_of_the_successes_and_sorted_by_wins() {
    let won = |repeat, agent: Option<&str>, model: Option<&str>| Trial {
        winner: agent.map(str::to_owned),
        model: model.map(str::to_owned),
        ..trial(0, 0, repeat)
    };
    let trials = vec![
        won(1, Some("a"), None),
        won(2, Some("b"), Some("m")),
        won(3, Some("b"), Some("m")),
        won(4, None, None),
        in_state("failed", won(5, Some("c"), None)),
    ];
    let winner = |agent: &str, model: Option<&str>, share| Winner {
        agent: agent.to_owned(),
        model: model.map(str::to_owned),
        share,
    };
    assert_eq!(table(trials).rows[0].winners, [winner("b", Some("m"), 0.5), winner("a", None, 0.25)]);
}

#[test]
fn an_arm_counts_each_question_once() {
    let answer = |text: &str, trial| Trial { answer: Some(text.to_owned()), ..trial };
    let mut trials: Vec<Trial> = (1..=9).map(|repeat| answer("long ago", took(100.0, trial(0, 0, repeat)))).collect();
    trials.extend([answer("one", took(10.0, trial(0, 1, 1))), answer("two", took(30.0, trial(0, 1, 2)))]);
    let table = table(trials);
    assert_eq!(table.rows[0].took_s, Some(Mean { n: 9, mean: 100.0, interval: Some((100.0, 100.0)) }));
    assert_eq!(table.arms[0].took_s, mean(2, 60.0), "and two questions are too few for an interval");
    assert_eq!(table.arms[0].agreement, Some(Agreement { pairs: 37, same: 0.5, similarity: 0.5 }));
}

#[test]
fn equal_answers_of_any_script_agree() {
    for text in ["zażółć gęślą jaźń", "漢字", "👩‍👩‍👧", ""] {
        let answered = |repeat| Trial { answer: Some(text.to_owned()), ..trial(0, 0, repeat) };
        let row = &table((1..=3).map(answered).collect()).rows[0];
        assert_eq!(row.agreement, Some(Agreement { pairs: 3, same: 1.0, similarity: 1.0 }), "{text}");
        assert_eq!(row.answer_chars, mean(3, text.chars().count() as f64));
    }
}

/// Two arms on `questions` questions; the second arm takes 9 to 11 seconds more.
fn two_arms(questions: usize) -> Vec<Trial> {
    let pair = |question| {
        let base = 100.0 * question as f64;
        let more = 9.0 + (question % 3) as f64;
        [took(base, trial(0, question, 1)), took(base + more, trial(1, question, 1))]
    };
    (0..questions).flat_map(pair).collect()
}

#[test]
fn a_difference_is_computed_question_by_question() {
    let table = table(two_arms(6));
    let difference =
        table.differences.iter().find(|difference| difference.measure == Measure::Took).expect("difference");
    assert_eq!((difference.a, difference.b, difference.pairs, difference.mean), (0, 1, 6, 10.0));
    let (low, high) = difference.interval.expect("interval");
    assert!(
        (9.0..10.0).contains(&low) && (10.0..=11.0).contains(&high),
        "whatever lies between questions: {low} {high}"
    );
    let text = table.to_text();
    let line = text.lines().last().expect("line");
    assert!(line.starts_with("a2 beside a1: no difference seen in success [0, 0]; takes 10.0 s more [9."), "{line}");
}

#[test]
fn few_questions_are_too_few_to_tell() {
    for (questions, count) in [(1, "1 question"), (4, "4 questions")] {
        let table = table(two_arms(questions));
        assert!(
            table.differences.iter().all(|difference| difference.pairs == questions && difference.interval.is_none())
        );
        assert!(table.to_text().ends_with(&format!("a2 beside a1: too few to tell ({count})\n")));
    }
}

#[test]
fn arms_without_a_common_question_get_no_verdict() {
    let table = table(vec![trial(0, 0, 1), trial(1, 1, 1)]);
    assert_eq!(table.differences, []);
    assert!(table.to_text().ends_with("a2 beside a1: too few to tell (0 questions)\n"));
}

#[test]
fn an_unknown_measure_is_reported_as_unknown() {
    let unpriced = two_arms(5).into_iter().map(|trial| Trial { cost_usd: None, ..trial });
    let text = table(unpriced.collect()).to_text();
    assert!(text.contains("; nothing known in cost; "), "{text}");
}

#[test]
fn many_arms_are_each_compared_with_the_first() {
    let table = table((0..20).flat_map(|arm| (0..5).map(move |question| trial(arm, question, 1))).collect());
    assert_eq!(table.differences.len(), 19 * Measure::ALL.len());
    assert!(table.differences.iter().all(|difference| difference.a == 0));
    assert!(table.to_text().contains("each is set beside the first alone"));
}

#[test]
fn each_line_of_a_text_is_bounded() {
    let long = "| \n\u{1b}ż".repeat(9_000);
    let trials = (1..=9).map(|repeat| {
        let (winner, model) = (Some(format!("{repeat}{long}")), Some(long.clone()));
        Trial { winner, model, cost_usd: None, ..trial(0, 0, repeat) }
    });
    let (arms, questions, trials) = (vec![long.clone(); 2], vec![long.clone()], trials.collect());
    let text = ComparisonTable::new(Comparison { group: long.clone(), arms, questions, trials }).to_text();
    assert!(text.lines().all(|line| line.chars().count() <= 700), "{text}");
    assert_eq!(text.lines().count(), 1 + 2 + 1 + 3 + (1 + 9) + 2, "{text}");
}

fn answered(text: &str, trial: Trial) -> Trial {
    Trial { answer: Some(text.to_owned()), ..trial }
}

/// Two arms on three questions: the same answer with other punctuation, different answers, and one failed run.
fn two_answered_arms() -> ComparisonTable {
    table(vec![
        answered("4", trial(0, 0, 1)),
        answered("**4.**", trial(1, 0, 1)),
        answered("2", trial(0, 1, 1)),
        answered("17 is one", trial(1, 1, 1)),
        answered("Yes | no\nmaybe", trial(0, 2, 1)),
        in_state("failed", trial(1, 2, 1)),
    ])
}

#[test]
fn arms_agree_question_by_question() {
    let table = two_answered_arms();
    let agreements: Vec<_> = table.arm_agreements.iter().map(|b| (b.a, b.b, b.question, b.agreement.same)).collect();
    assert_eq!(agreements, [(0, 1, 0, 1.0), (0, 1, 1, 0.0)], "nothing of a question that one of both did not answer");
    let text = table.to_text();
    assert!(text.contains("\na1 and a2: the same on 1 of 2 questions (q1 the same, q2 0 % alike)\n"), "{text}");
    let json = table.to_json();
    let first =
        json!({"arm": "a2", "beside": "a1", "question": "q1", "pairs": 1, "same_share": 1.0, "similarity_share": 1.0});
    assert_eq!(json["agreements"][0], first, "{json}");
}

#[test]
fn every_answer_of_one_arm_is_compared_with_every_answer_of_the_other() {
    let mut trials: Vec<_> = (1..=2).map(|repeat| answered("yes", trial(0, 0, repeat))).collect();
    trials.extend([answered("yes", trial(1, 0, 1)), answered("no", trial(1, 0, 2))]);
    let two = table(trials);
    assert_eq!((two.arm_agreements[0].agreement.pairs, two.arm_agreements[0].agreement.same), (4, 0.5));
    assert!(two.to_text().contains("a1 and a2: the same on 0 of 1 question (q1 50 % the same, 50 % alike)"));
    let many = (0..2).flat_map(|arm| (1..=30).map(move |repeat| trial(arm, 0, repeat)));
    assert_eq!(table(many.collect()).arm_agreements[0].agreement.pairs, 100);
}

#[test]
fn a_small_table_has_the_answers_and_a_large_one_has_none() {
    let text = two_answered_arms().to_text();
    assert!(text.contains("\nq1 a1: 4\nq1 a2: **4.**\nq2 a1: 2\nq2 a2: 17 is one\nq3 a1: Yes / no maybe\n"), "{text}");
    let text = table((1..=21).map(|repeat| trial(0, 0, repeat)).collect()).to_text();
    assert!(!text.contains("Answers"), "{text}");
}

#[test]
fn answers_are_grouped_by_question() {
    let text = two_answered_arms().answers();
    let run = |arm, question| trial(arm, question, 1).run.to_string();
    let answers = format!("a1 {} by agent_a:\n    4\na2 {} by agent_a:\n    **4.**\n", run(0, 0), run(1, 0));
    let of_first = format!("q1 = Question 0?\na1 and a2: the same\n{answers}");
    assert!(text.contains(&of_first), "{text}");
    assert!(text.contains("    Yes | no\n    maybe\n"), "an answer keeps its lines: {text}");
    assert!(text.ends_with(&format!("a2 {}: failed, no final answer\n", run(1, 2))), "{text}");
}

#[test]
fn a_partial_answer_is_named_and_not_compared() {
    let killed = Trial { answer: None, winner: None, partial_by: Some("agent_b".to_owned()), ..trial(0, 0, 1) };
    let text = table(vec![in_state("killed", killed)]).answers();
    assert!(text.ends_with(": killed, no final answer; its best so far is of agent_b\n"), "{text}");
}

#[test]
fn a_long_answer_is_cut_with_a_pointer_to_the_whole() {
    let forged = format!("{}\na2 mg-zzzzzzzz by agent_b:", "ż".repeat(1_990));
    let table = table(vec![answered(&forged, trial(0, 0, 1)), answered(&"x".repeat(2_001), trial(0, 0, 2))]);
    let text = table.answers();
    assert!(text.lines().all(|line| !line.starts_with("a2 ")), "an answer is no heading: {text}");
    let second = trial(0, 0, 2).run;
    assert!(text.contains(&format!("\na1 #2 {second} by agent_a:\n")), "{text}");
    assert!(text.contains(&format!("cut at 2000 of 2001 characters: the answer of {second} has all")), "{text}");
}

#[test]
fn json_has_units_and_leaves_out_what_is_unknown() {
    let json = table(vec![
        voted(&[3, 1], trial(0, 0, 1)),
        in_state(
            "not_started",
            Trial {
                took_s: None,
                cost_usd: None,
                tokens: None,
                answer: None,
                winner: None,
                model: None,
                ..trial(0, 0, 2)
            },
        ),
    ])
    .to_json();
    assert_eq!(json["arms"], json!([{"key": "a1", "text": "config 0"}]));
    assert_eq!(json["rows"][0]["took_s"], json!({"n": 1, "mean": 10.0}));
    assert_eq!(json["runs"][0]["margin_share"], json!(0.5));
    let planned =
        json!({"run": "mg-00000002", "arm": "a1", "question": "q1", "repeat": 2, "state": "not_started", "votes": {}});
    assert_eq!(json["runs"][1], planned);
}
