//! The generator of all jitter: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), so that equal
//! seeds give equal runs.

use crate::types::Millis;

/// A seeded generator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time of at least `least` and less than twice that.
    pub(crate) fn timeout(&mut self, least: Millis) -> Millis {
        Millis(least.0.saturating_add(self.next() % least.0.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_lie_in_their_range_and_repeat_with_the_seed() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        for _ in 0..1000 {
            let timeout = one.timeout(Millis(150));
            assert!((150..300).contains(&timeout.0));
            assert_eq!(timeout, two.timeout(Millis(150)));
        }
        assert_ne!(Random::new(1).next(), Random::new(2).next());
    }
}
