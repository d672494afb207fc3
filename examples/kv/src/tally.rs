//! Acknowledgements against counts.
//!
//! Every command adds 1, and its answer is the counter's value after it. So the answers to commands that
//! were executed once each are 1, 2, 3 and so on up to what the counter stands at, each one once. A
//! value that no answer holds is an execution nobody was told of; an answer that does not fit is an
//! execution that is gone. A mere comparison of sums would let one make up for the other.

/// What came of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// What the counters stand at, together.
    pub counted: u64,
    /// Commands that were acknowledged and are not in the counters.
    pub lost: u64,
    /// Counts that no command accounts for.
    pub duplicated: u64,
    /// Commands without an answer: each accounts for one count, or none.
    pub unknown: u64,
}

impl Tally {
    /// Compares the answers of each counter with what it stands at.
    #[must_use]
    pub fn new(answers: Vec<Vec<u64>>, counted: &[u64], unknown: u64) -> Tally {
        let mut tally = Tally { unknown, ..Tally::default() };
        let mut unaccounted = 0;
        for (mut answers, &counted) in answers.into_iter().zip(counted) {
            let acknowledged = answers.len() as u64;
            answers.sort_unstable();
            answers.dedup();
            let fitting = answers.iter().filter(|value| (1..=counted).contains(value)).count() as u64;
            tally.acknowledged += acknowledged;
            tally.counted += counted;
            tally.lost += acknowledged - fitting;
            unaccounted += counted - fitting;
        }
        tally.duplicated = unaccounted.saturating_sub(unknown);
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: &[u64], counted: u64, unknown: u64) -> (u64, u64) {
        let tally = Tally::new(vec![answers.to_vec()], &[counted], unknown);
        assert_eq!((tally.acknowledged, tally.counted), (answers.len() as u64, counted));
        (tally.lost, tally.duplicated)
    }

    #[test]
    fn each_answer_has_one_place_and_each_place_one_answer() {
        assert_eq!(tally(&[2, 1, 3], 3, 0), (0, 0));
        assert_eq!(tally(&[], 0, 0), (0, 0));
        assert_eq!(tally(&[1, 2, 4], 4, 0), (0, 1), "nobody was told of 3");
        assert_eq!(tally(&[1, 2, 3], 2, 0), (1, 0), "3 is gone");
        assert_eq!(tally(&[1, 2, 2], 2, 0), (1, 0), "2 was executed again after it was gone");
        assert_eq!(tally(&[1, 2, 2], 3, 0), (1, 1), "sums alone would not show it");
    }

    #[test]
    fn an_unknown_outcome_accounts_for_one_count_at_most() {
        assert_eq!(tally(&[1, 3], 3, 1), (0, 0));
        assert_eq!(tally(&[1, 2], 2, 1), (0, 0));
        assert_eq!(tally(&[1, 4], 4, 1), (0, 1));
    }

    #[test]
    fn counters_are_compared_one_by_one() {
        let tally = Tally::new(vec![vec![1, 2], vec![1]], &[1, 2], 0);
        assert_eq!((tally.acknowledged, tally.counted, tally.lost, tally.duplicated), (3, 3, 1, 1));
    }
}
