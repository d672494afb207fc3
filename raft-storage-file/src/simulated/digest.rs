//! A fast sum over bytes: not for what lies on a disk, but to tell whether two disks are alike.

use std::hash::Hasher;

/// Takes pieces of bytes and makes a number of them.
pub(super) struct Digest {
    /// Four sums side by side, for a processor that adds to one while it multiplies another.
    lanes: [u64; 4],
}

/// Odd, and without a pattern in its bits: that of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(state: u64, word: u64) -> u64 {
    let mixed = (state.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    mixed ^ (mixed >> 29)
}

impl Digest {
    pub(super) fn new() -> Digest {
        Digest { lanes: [1, 2, 3, 4].map(|lane| FACTOR.rotate_left(lane)) }
    }

    fn words(&mut self, words: [u64; 4]) {
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = mixed(*lane, word);
        }
    }

    /// Takes in a piece; where it ends counts.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let (fours, others) = words.as_chunks::<4>();
        fours.iter().for_each(|four| self.words(four.map(u64::from_le_bytes)));
        others.iter().for_each(|word| self.words([u64::from_le_bytes(*word), 0, 0, 0]));
        rest.iter().for_each(|byte| self.words([u64::from(*byte), 0, 0, 0]));
        self.words([bytes.len() as u64, 0, 0, 0]);
    }

    /// The number.
    pub(super) fn number(&self) -> u64 {
        self.lanes.into_iter().fold(FACTOR, |state, lane| mixed(mixed(state, lane), 0))
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }

    fn finish(&self) -> u64 {
        self.number()
    }
}
