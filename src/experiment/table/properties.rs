//! Property tests of tables of random runs: counts add up, the order does not matter, exports can be parsed.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use super::*;

/// A runner with the same inputs every time.
fn cases(number: u32) -> TestRunner {
    let config = Config { cases: number, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn any_trial() -> impl Strategy<Value = Trial> {
    let state = prop::sample::select(vec!["succeeded", "succeeded", "failed", "running", "not_started", "?"]);
    let text = prop_oneof!["[=+@-]?\\PC{0,8}", Just("a\r\nb,\"c\"\t".to_owned())];
    let number = prop_oneof![4 => 0.0..1e6_f64, 1 => any::<f64>()];
    let position = (0..4_usize, 0..7_usize, 1..4_u32, any::<[u8; 5]>(), state);
    let facts = (prop::option::of(number.clone()), prop::option::of(number), prop::option::of(any::<u64>()));
    let texts = (
        prop::option::of(text.clone()),
        prop::option::of(text),
        prop::collection::btree_map("[ab]", any::<u32>(), 0..3),
    );
    (position, facts, texts).prop_map(
        |((arm, question, repeat, run, state), (took_s, cost_usd, tokens), (answer, winner, votes))| {
            let (run, state, model) = (RunId::from_bytes(run), state.to_owned(), winner.clone());
            Trial {
                run,
                arm,
                question,
                repeat,
                state,
                took_s,
                cost_usd,
                tokens,
                answer,
                winner,
                model,
                votes,
                partial_by: None,
            }
        },
    )
}

fn any_trials() -> impl Strategy<Value = Vec<Trial>> {
    prop::collection::vec(any_trial(), 0..40)
}

/// A table in which some names are missing: runs without a name must be shown as well.
fn compared(trials: Vec<Trial>) -> ComparisonTable {
    let (arms, questions) =
        (vec!["=one".to_owned(), "two\n".to_owned(), "three".to_owned()], vec!["\"why\", he said".to_owned()]);
    ComparisonTable::new(Comparison { group: "g".to_owned(), arms, questions, trials })
}

#[test]
fn every_run_is_in_one_row_and_in_one_arm() {
    cases(60)
        .run(&any_trials(), |trials| {
            let count = trials.len();
            let table = compared(trials);
            for rows in [&table.rows, &table.arms] {
                prop_assert_eq!(rows.iter().map(|row| row.planned).sum::<usize>(), count);
                prop_assert!(
                    rows.iter().all(|row| row.succeeded <= row.ended
                        && row.ended <= row.started
                        && row.started <= row.planned)
                );
                prop_assert!(rows.iter().all(|row| row.unpriced + row.cost_usd.map_or(0, |_| 1) <= row.ended));
                prop_assert!(
                    rows.iter().all(|row| row.winners.iter().map(|winner| winner.share).sum::<f64>() <= 1.0 + 1e-9)
                );
            }
            Ok(())
        })
        .expect("holds");
}

#[test]
fn the_order_of_runs_does_not_matter() {
    let shuffled = any_trials().prop_flat_map(|trials| (Just(trials.clone()), Just(trials).prop_shuffle()));
    cases(30)
        .run(&shuffled, |(one, other)| {
            let (one, other) = (compared(one), compared(other));
            prop_assert_eq!(one.to_text(), other.to_text());
            prop_assert_eq!((one.rows, one.arms, one.differences), (other.rows, other.arms, other.differences));
            Ok(())
        })
        .expect("holds");
}

#[test]
fn means_and_intervals_lie_within_the_values() {
    let values = prop::collection::vec(prop_oneof![0.0..1e6_f64, Just(0.0), Just(1e20)], 1..60);
    cases(100)
        .run(&values, |values| {
            let mean = bootstrap::mean_with_interval(values.clone()).expect("mean");
            let (least, most) = values.iter().fold((f64::MAX, 0.0_f64), |(low, high), v| (low.min(*v), high.max(*v)));
            let is_within = |value: f64| value >= least * (1.0 - 1e-9) && value <= most * (1.0 + 1e-9);
            prop_assert!(is_within(mean.mean));
            prop_assert_eq!(mean.interval.is_some(), values.len() >= bootstrap::MIN_SAMPLE_SIZE);
            prop_assert!(mean.interval.is_none_or(|(low, high)| low <= high && is_within(low) && is_within(high)));
            Ok(())
        })
        .expect("holds");
}

#[test]
fn agreement_is_a_share_and_equal_answers_are_similar() {
    cases(300)
        .run(&prop::collection::vec("[aB .,é漢\\n]{0,12}", 2..6), |answers| {
            let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
            let agreement = agreement::among_answers(&answers).expect("pairs");
            prop_assert_eq!(agreement.pairs, answers.len() * (answers.len() - 1) / 2);
            prop_assert!(
                0.0 <= agreement.same
                    && agreement.same <= agreement.similarity + 1e-9
                    && agreement.similarity <= 1.0 + 1e-9
            );
            Ok(())
        })
        .expect("holds");
}

/// Whether the value contains a null.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn exports_can_be_parsed() {
    cases(60)
        .run(&any_trials(), |trials| {
            let table = compared(trials);
            prop_assert!(!has_null(&table.to_json()));
            let csv = table.to_csv();
            let lines: Vec<_> =
                csv::Reader::from_reader(csv.as_bytes()).into_records().collect::<Result<_, _>>().expect("CSV");
            prop_assert_eq!(lines.len(), table.comparison.trials.len());
            for (line, trial) in lines.iter().zip(&table.comparison.trials) {
                prop_assert_eq!(&line[0], trial.run.as_str());
                prop_assert_eq!(line[5].parse(), Ok(trial.repeat));
                prop_assert_eq!(line[7].parse().ok(), Measure::Took.value(trial));
                prop_assert!(
                    !line.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n'])),
                    "{:?}",
                    line
                );
            }
            Ok(())
        })
        .expect("holds");
}
