//! A fast sum over bytes: not for what lies on a disk, but to tell whether two disks are alike.

/// Takes pieces of bytes and makes a number of them.
pub(super) struct Digest {
    state: u64,
}

impl Digest {
    /// Odd, and without a pattern in its bits: that of the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    pub(super) fn new() -> Digest {
        Digest { state: Digest::FACTOR }
    }

    fn word(&mut self, word: u64) {
        let mixed = (self.state.rotate_left(23) ^ word).wrapping_mul(Digest::FACTOR);
        self.state = mixed ^ (mixed >> 29);
    }

    /// Takes in a piece; where it ends counts.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.word(u64::from(*byte)));
    }

    pub(super) fn finish(mut self) -> u64 {
        self.word(0);
        self.word(0);
        self.state
    }
}
