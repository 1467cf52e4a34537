//! The agreement of answers to one question, as texts and by their words, within one arm and between two arms. Pure. The number
//! of pairs and the compared length are bounded. It does not judge which answer is right.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::iter::once;

use super::differences::compared_pairs;
use super::{Agreement, ArmAgreement, Trial};

/// The most pairs that are compared. Beyond 14 answers the number of pairs grows quickly, and each pair adds little.
const MAX_PAIRS: usize = 100;

/// The most answers of an arm to a question that are compared with those of another arm; this gives [`MAX_PAIRS`] pairs.
const MAX_ANSWERS_PER_ARM: usize = 10;

/// The most characters of an answer that count for its word similarity. Equality is tested on the whole text.
const MAX_CHARS: usize = 10_000;

/// Characters at the ends of an answer that are ignored. A sign, a point or a bracket at the front may be part of an answer.
const TRIMMED_CHARS: &str = "\"'`*_“”‘’„«»";
/// Further characters that are ignored at the end.
const TRAILING_PUNCTUATION: &str = ".,;:!?…。，！？";

/// The agreement of one arm's answers to one question, in order of repeats; `None` with fewer than two answers.
pub(super) fn among_answers(answers: &[&str]) -> Option<Agreement> {
    if answers.len() < 2 {
        return None;
    }
    let normalized: Vec<NormalizedAnswer> =
        answers.iter().take(MAX_PAIRS + 1).map(|answer| NormalizedAnswer::new(answer)).collect();
    mean_of_pairs(neighbours_first(normalized.len()).take(MAX_PAIRS).map(|(a, b)| (&normalized[a], &normalized[b])))
}

/// The agreement between arms, by pair of arms and then by question; questions that only one of the arms answered are left out.
pub(super) fn arm_agreements(arms: usize, trials: &[Trial]) -> Vec<ArmAgreement> {
    let mut questions: BTreeMap<usize, BTreeMap<usize, Vec<&str>>> = BTreeMap::new();
    for trial in trials {
        if let Some(answer) = trial.final_answer() {
            questions.entry(trial.question).or_default().entry(trial.arm).or_default().push(answer);
        }
    }
    let mut agreements = Vec::new();
    for (question, by_arm) in questions {
        let normalized = |answers: Vec<&str>| {
            answers.into_iter().take(MAX_ANSWERS_PER_ARM).map(NormalizedAnswer::new).collect::<Vec<_>>()
        };
        let by_arm: BTreeMap<usize, Vec<NormalizedAnswer>> =
            by_arm.into_iter().map(|(arm, answers)| (arm, normalized(answers))).collect();
        for (a, b) in compared_pairs(arms) {
            let (Some(answers_a), Some(answers_b)) = (by_arm.get(&a), by_arm.get(&b)) else { continue };
            let pairs = answers_a.iter().flat_map(|one| answers_b.iter().map(move |other| (one, other)));
            agreements.extend(mean_of_pairs(pairs).map(|agreement| ArmAgreement { a, b, question, agreement }));
        }
    }
    agreements.sort_by_key(|found| (found.a, found.b, found.question));
    agreements
}

fn mean_of_pairs<'a>(
    all_pairs: impl Iterator<Item = (&'a NormalizedAnswer, &'a NormalizedAnswer)>,
) -> Option<Agreement> {
    let (mut pairs, mut same, mut similarity) = (0, 0, 0.0);
    for (a, b) in all_pairs {
        pairs += 1;
        same += usize::from(a.text == b.text);
        similarity += a.similarity(b);
    }
    (pairs > 0).then(|| Agreement { pairs, same: same as f64 / pairs as f64, similarity: similarity / pairs as f64 })
}

/// The agreement over several questions: each counts once, with any number of pairs.
pub(super) fn mean_over_questions(questions: &[Agreement]) -> Option<Agreement> {
    let mean = |value: fn(&Agreement) -> f64| questions.iter().map(value).sum::<f64>() / questions.len() as f64;
    (!questions.is_empty()).then(|| Agreement {
        pairs: questions.iter().map(|agreement| agreement.pairs).sum(),
        same: mean(|agreement| agreement.same),
        similarity: mean(|agreement| agreement.similarity),
    })
}

/// All pairs of indices below `count`, neighbours first, so that each index appears about equally often in the first pairs.
fn neighbours_first(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..count).flat_map(move |distance| (distance..count).map(move |b| (b - distance, b)))
}

/// An answer, normalized for comparison.
struct NormalizedAnswer {
    /// In lower case, with single blanks and without the ignored characters at the ends.
    text: String,
    /// The hashes of each two adjacent words, sorted.
    bigrams: Vec<u64>,
}

impl NormalizedAnswer {
    fn new(answer: &str) -> NormalizedAnswer {
        let text = normalize(answer);
        let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(end, _)| end);
        let bigrams = bigrams(&text[..end]);
        NormalizedAnswer { text, bigrams }
    }

    /// Dice's coefficient of both multisets of word pairs: twice the shared pairs divided by all pairs, from 0 to 1. It is
    /// symmetric, takes one pass, and depends on the order of words, unlike a multiset of single words. Moving a sentence
    /// changes it little, unlike an edit distance, which also takes time proportional to the product of both lengths.
    fn similarity(&self, other: &NormalizedAnswer) -> f64 {
        let total = self.bigrams.len() + other.bigrams.len();
        2.0 * shared_count(&self.bigrams, &other.bigrams) as f64 / total as f64
    }
}

fn normalize(answer: &str) -> String {
    let is_trimmed = |c: char| c.is_whitespace() || TRIMMED_CHARS.contains(c);
    let trimmed =
        answer.trim_start_matches(is_trimmed).trim_end_matches(|c| is_trimmed(c) || TRAILING_PUNCTUATION.contains(c));
    trimmed.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Counts the beginning and the end as words, so that a text of one word, or of none, has pairs as well.
fn bigrams(text: &str) -> Vec<u64> {
    let words: Vec<&str> = once("").chain(words(text)).chain(once("")).collect();
    let mut hashes: Vec<u64> = words.windows(2).map(hash_words).collect();
    hashes.sort_unstable();
    hashes
}

fn hash_words(words: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// Splits into sequences of letters and digits; in scripts without blanks between words, each character ends a word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).flat_map(|run| run.split_inclusive(|c| c >= '\u{2e80}'))
}

/// The number of common elements of two sorted lists, counted with multiplicity.
fn shared_count(a: &[u64], b: &[u64]) -> usize {
    let (mut index, mut count) = (0, 0);
    for element in a {
        index += b[index..].iter().take_while(|other| *other < element).count();
        if b.get(index) == Some(element) {
            index += 1;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_ignores_case_whitespace_and_outer_punctuation() {
        for (a, b, expected) in [
            ("42", "42", true),
            ("**42.**\n", "42", true),
            ("The  answer\tis\n42!", "the answer is 42", true),
            ("“Zażółć”", "ZAŻÓŁĆ", true),
            ("東京。", "東京", true),
            ("", " \n", true),
            ("-5", "5", false),
            (".5", "5", false),
            ("[1]", "1", false),
            ("50 %", "50", false),
            ("4 2", "42", false),
            ("a, b", "a b", false),
        ] {
            assert_eq!(normalize(a) == normalize(b), expected, "{a:?} and {b:?}");
        }
    }

    #[test]
    fn similarity_is_the_share_of_word_pairs() {
        for (a, b, expected) in [
            ("", "", 1.0),
            ("", "word", 0.0),
            ("one two three", "One, two: three?", 1.0),
            ("one two three", "four five six", 0.0),
            // (begin one)(one two)(two three)(three end) shares three pairs with (begin one)(one two)(two three)(three four)…
            ("one two three", "one two three four", 6.0 / 9.0),
            ("a a a", "a a a a", 8.0 / 9.0),
            ("一二三", "一二四", 4.0 / 8.0),
            ("👩‍👩‍👧", "🦀", 1.0),
        ] {
            let (a, b) = (NormalizedAnswer::new(a), NormalizedAnswer::new(b));
            assert!((a.similarity(&b) - expected).abs() < 1e-9, "{:?} {:?}: {}", a.text, b.text, a.similarity(&b));
            assert!((b.similarity(&a) - expected).abs() < 1e-9, "either way");
        }
    }

    #[test]
    fn few_answers_are_compared_in_all_pairs_and_many_in_a_hundred() {
        assert_eq!((among_answers(&[]), among_answers(&["alone"])), (None, None));
        let two = among_answers(&["yes", "Yes."]).expect("a pair");
        assert_eq!((two.pairs, two.same, two.similarity), (1, 1.0, 1.0));
        let three = among_answers(&["yes", "yes", "no"]).expect("pairs");
        assert_eq!((three.pairs, three.same), (3, 1.0 / 3.0));
        assert_eq!(among_answers(&["x"; 14]).map(|agreement| agreement.pairs), Some(91));
        assert_eq!(among_answers(&["x"; 500]).map(|agreement| agreement.pairs), Some(100));
        let mut pairs: Vec<_> = neighbours_first(4).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn each_question_counts_once() {
        let one = Agreement { pairs: 1, same: 1.0, similarity: 1.0 };
        let many = Agreement { pairs: 99, same: 0.0, similarity: 0.5 };
        assert_eq!(mean_over_questions(&[one, many]), Some(Agreement { pairs: 100, same: 0.5, similarity: 0.75 }));
        assert_eq!(mean_over_questions(&[]), None);
    }
}
