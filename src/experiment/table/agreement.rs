//! How far answers to one question agree: as texts, and by their words; those of one arm, and those of two. Pure, and bounded in
//! the number of pairs and in the length of what is held beside each other; it never judges which answer is right.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::iter::once;

use super::differences::compared_pairs;
use super::{Agreement, ArmAgreement, Trial};

/// The most pairs that are looked at: with more answers than 14 there would be ever more of them, which tell ever less.
const MAX_PAIRS: usize = 100;

/// The most answers of an arm to a question that are held beside those of another arm, so that their pairs are [`MAX_PAIRS`].
const MAX_ANSWERS_PER_ARM: usize = 10;

/// The most characters of an answer whose words are counted. Whether texts are the same is asked of the whole.
const MAX_CHARS: usize = 10_000;

/// What may stand round an answer without being part of it. A sign, a point or a bracket at the front may well be.
const TRIMMED_CHARS: &str = "\"'`*_“”‘’„«»";
/// What may end it besides.
const TRAILING_PUNCTUATION: &str = ".,;:!?…。，！？";

/// Of the answers to one question by one arm, in order of repeats; none with fewer than two.
pub(super) fn among_answers(answers: &[&str]) -> Option<Agreement> {
    if answers.len() < 2 {
        return None;
    }
    let seen: Vec<NormalizedAnswer> =
        answers.iter().take(MAX_PAIRS + 1).map(|answer| NormalizedAnswer::new(answer)).collect();
    mean_of_pairs(neighbours_first(seen.len()).take(MAX_PAIRS).map(|(a, b)| (&seen[a], &seen[b])))
}

/// Of arms with each other, by pair of arms and then by question; nothing of a question that one of both has no answer to.
pub(super) fn arm_agreements(arms: usize, trials: &[Trial]) -> Vec<ArmAgreement> {
    let mut questions: BTreeMap<usize, BTreeMap<usize, Vec<&str>>> = BTreeMap::new();
    for trial in trials {
        if let Some(answer) = trial.final_answer() {
            questions.entry(trial.question).or_default().entry(trial.arm).or_default().push(answer);
        }
    }
    let mut all = Vec::new();
    for (question, of_arms) in questions {
        let seen = |answers: Vec<&str>| {
            answers.into_iter().take(MAX_ANSWERS_PER_ARM).map(NormalizedAnswer::new).collect::<Vec<_>>()
        };
        let of_arms: BTreeMap<usize, Vec<NormalizedAnswer>> =
            of_arms.into_iter().map(|(arm, answers)| (arm, seen(answers))).collect();
        for (a, b) in compared_pairs(arms) {
            let (Some(of_a), Some(of_b)) = (of_arms.get(&a), of_arms.get(&b)) else { continue };
            let pairs = of_a.iter().flat_map(|one| of_b.iter().map(move |other| (one, other)));
            all.extend(mean_of_pairs(pairs).map(|agreement| ArmAgreement { a, b, question, agreement }));
        }
    }
    all.sort_by_key(|between| (between.a, between.b, between.question));
    all
}

fn mean_of_pairs<'a>(all: impl Iterator<Item = (&'a NormalizedAnswer, &'a NormalizedAnswer)>) -> Option<Agreement> {
    let (mut pairs, mut same, mut similarity) = (0, 0, 0.0);
    for (a, b) in all {
        pairs += 1;
        same += usize::from(a.text == b.text);
        similarity += a.similarity(b);
    }
    (pairs > 0).then(|| Agreement { pairs, same: same as f64 / pairs as f64, similarity: similarity / pairs as f64 })
}

/// Of several questions: each counts once, however many pairs it has.
pub(super) fn mean_over_questions(questions: &[Agreement]) -> Option<Agreement> {
    let mean = |value: fn(&Agreement) -> f64| questions.iter().map(value).sum::<f64>() / questions.len() as f64;
    (!questions.is_empty()).then(|| Agreement {
        pairs: questions.iter().map(|agreement| agreement.pairs).sum(),
        same: mean(|agreement| agreement.same),
        similarity: mean(|agreement| agreement.similarity),
    })
}

/// All pairs of so many, those next to each other first, so that each one takes part about as often as any other.
fn neighbours_first(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..count).flat_map(move |apart| (apart..count).map(move |b| (b - apart, b)))
}

/// An answer as it is compared.
struct NormalizedAnswer {
    /// Without case, blanks and what stands at the ends.
    text: String,
    /// Each two words that follow each other, as a number, in order of the numbers.
    bigrams: Vec<u64>,
}

impl NormalizedAnswer {
    fn new(answer: &str) -> NormalizedAnswer {
        let plain = normalize(answer);
        let end = plain.char_indices().nth(MAX_CHARS).map_or(plain.len(), |(end, _)| end);
        let twos = bigrams(&plain[..end]);
        NormalizedAnswer { text: plain, bigrams: twos }
    }

    /// Dice's coefficient of both bags of word pairs: twice what they share by what they have, from 0 to 1. It is the same
    /// either way, takes one pass, and sees an order of words, of which a bag of single words knows nothing; a sentence that
    /// was moved costs little, as it would not by an edit distance, which takes the product of both lengths besides.
    fn similarity(&self, other: &NormalizedAnswer) -> f64 {
        let all = self.bigrams.len() + other.bigrams.len();
        2.0 * shared_count(&self.bigrams, &other.bigrams) as f64 / all as f64
    }
}

fn normalize(answer: &str) -> String {
    let around = |c: char| c.is_whitespace() || TRIMMED_CHARS.contains(c);
    let bare = answer.trim_start_matches(around).trim_end_matches(|c| around(c) || TRAILING_PUNCTUATION.contains(c));
    bare.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning and the end count as words, so that a text of one word, or of none, has pairs as well.
fn bigrams(text: &str) -> Vec<u64> {
    let words: Vec<&str> = once("").chain(words(text)).chain(once("")).collect();
    let mut twos: Vec<u64> = words.windows(2).map(hash_words).collect();
    twos.sort_unstable();
    twos
}

fn hash_words(words: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

/// Runs of letters and digits; where a script has no blanks between words, each character ends one.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).flat_map(|run| run.split_inclusive(|c| c >= '\u{2e80}'))
}

/// How many the two sorted lists have in common, each as often as both have it.
fn shared_count(a: &[u64], b: &[u64]) -> usize {
    let (mut at, mut count) = (0, 0);
    for two in a {
        at += b[at..].iter().take_while(|other| *other < two).count();
        if b.get(at) == Some(two) {
            at += 1;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_but_for_what_does_not_matter() {
        for (a, b, wanted) in [
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
            assert_eq!(normalize(a) == normalize(b), wanted, "{a:?} and {b:?}");
        }
    }

    #[test]
    fn similarity_is_the_share_of_word_pairs() {
        for (a, b, wanted) in [
            ("", "", 1.0),
            ("", "word", 0.0),
            ("one two three", "One, two: three?", 1.0),
            ("one two three", "four five six", 0.0),
            // Of (begin one)(one two)(two three)(three end) three are shared with (begin one)(one two)(two three)(three four)…
            ("one two three", "one two three four", 6.0 / 9.0),
            ("a a a", "a a a a", 8.0 / 9.0),
            ("一二三", "一二四", 4.0 / 8.0),
            ("👩‍👩‍👧", "🦀", 1.0),
        ] {
            let (a, b) = (NormalizedAnswer::new(a), NormalizedAnswer::new(b));
            assert!((a.similarity(&b) - wanted).abs() < 1e-9, "{:?} {:?}: {}", a.text, b.text, a.similarity(&b));
            assert!((b.similarity(&a) - wanted).abs() < 1e-9, "either way");
        }
    }

    #[test]
    fn pairs_are_all_of_few_and_a_hundred_of_many() {
        assert_eq!((among_answers(&[]), among_answers(&["alone"])), (None, None));
        let two = among_answers(&["yes", "Yes."]).expect("a pair");
        assert_eq!((two.pairs, two.same, two.similarity), (1, 1.0, 1.0));
        let three = among_answers(&["yes", "yes", "no"]).expect("pairs");
        assert_eq!((three.pairs, three.same), (3, 1.0 / 3.0));
        assert_eq!(among_answers(&["x"; 14]).map(|agreement| agreement.pairs), Some(91));
        assert_eq!(among_answers(&["x"; 500]).map(|agreement| agreement.pairs), Some(100));
        let mut met: Vec<_> = neighbours_first(4).collect();
        met.sort_unstable();
        assert_eq!(met, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn each_question_counts_once() {
        let one = Agreement { pairs: 1, same: 1.0, similarity: 1.0 };
        let many = Agreement { pairs: 99, same: 0.0, similarity: 0.5 };
        assert_eq!(mean_over_questions(&[one, many]), Some(Agreement { pairs: 100, same: 0.5, similarity: 0.75 }));
        assert_eq!(mean_over_questions(&[]), None);
    }
}
