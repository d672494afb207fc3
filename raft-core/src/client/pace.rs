//! How long a client waits: for an answer, and before it tries again.

use crate::random::Random;
use crate::types::Millis;

/// How often a time is doubled at most, so that it stays within reach.
const DOUBLINGS_MAX: u32 = 16;
/// How often the wait for an answer is doubled at most: a lost answer is to be noticed soon.
const TIMEOUT_DOUBLINGS_MAX: u32 = 3;

/// The times by which a client tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// After how long without an answer a request is sent again. Doubles with each attempt, up to
    /// eight times this.
    pub attempt_timeout: Millis,
    /// The first pause before a request that was refused for now is sent again; doubles each time.
    pub back_off: Millis,
    /// The longest such pause.
    pub back_off_max: Millis,
}

impl Default for Pace {
    /// A second for an answer; pauses from 10 ms to 500 ms.
    fn default() -> Pace {
        Pace { attempt_timeout: Millis(1000), back_off: Millis(10), back_off_max: Millis(500) }
    }
}

impl Pace {
    /// How long attempt `number` (1, 2, …) waits for its answer: up to a quarter longer than the
    /// bare timeout, so that requests sent together are not repeated together.
    #[must_use]
    pub fn timeout(&self, number: u32, jitter: &mut Jitter) -> Millis {
        let doublings = number.saturating_sub(1).min(TIMEOUT_DOUBLINGS_MAX);
        let bare = self.attempt_timeout.0.max(1).saturating_mul(1 << doublings);
        Millis(bare.saturating_add(jitter.below(bare / 4 + 1)))
    }

    /// How long to pause after `failures` (1, 2, …) in a row: half to all of the
    /// doubled pause, and a millisecond at least.
    #[must_use]
    pub fn pause(&self, failures: u32, jitter: &mut Jitter) -> Millis {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let whole = self.back_off.0.max(1).saturating_mul(1 << doublings).min(self.back_off_max.0.max(1));
        let half = whole / 2;
        Millis((half + jitter.below(whole - half + 1)).max(1))
    }
}

/// A seeded generator: equal seeds give equal runs. Not fit for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Jitter(Random);

impl Jitter {
    /// The generator of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Jitter {
        Jitter(Random::new(seed))
    }

    /// The next number of all 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds_and_repeat_with_the_seed() {
        let pace = Pace::default();
        let (mut jitter, mut twin) = (Jitter::new(3), Jitter::new(3));
        for number in 0..100_u32 {
            let whole = (10_u64 << number.clamp(1, 8).saturating_sub(1)).min(500);
            let pause = pace.pause(number, &mut jitter);
            assert!((whole / 2..=whole).contains(&pause.0), "{pause} of {whole}");
            assert_eq!(pause, pace.pause(number, &mut twin));
            let bare = 1000_u64 << number.clamp(1, 4).saturating_sub(1);
            let timeout = pace.timeout(number, &mut jitter);
            assert!((bare..=bare + bare / 4).contains(&timeout.0), "{timeout} of {bare}");
            assert_eq!(timeout, pace.timeout(number, &mut twin));
        }
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let most = Millis(u64::MAX);
        let pace = Pace { attempt_timeout: most, back_off: most, back_off_max: most };
        let mut jitter = Jitter::new(1);
        assert_eq!(pace.timeout(u32::MAX, &mut jitter), most);
        assert!(pace.pause(u32::MAX, &mut jitter) >= Millis(u64::MAX / 2));
        let none = Pace { attempt_timeout: Millis(0), back_off: Millis(0), back_off_max: Millis(0) };
        assert!(none.timeout(1, &mut jitter) >= Millis(1));
        assert_eq!(none.pause(1, &mut jitter), Millis(1));
    }

    #[test]
    fn chance_spreads_waits_over_all_of_their_range() {
        let pace = Pace { attempt_timeout: Millis(4), back_off: Millis(2), back_off_max: Millis(2) };
        let mut jitter = Jitter::new(1);
        let (mut timeouts, mut pauses) = ([false; 8], [false; 8]);
        for _ in 0..100 {
            timeouts[usize::try_from(pace.timeout(1, &mut jitter).0).unwrap()] = true;
            pauses[usize::try_from(pace.pause(1, &mut jitter).0).unwrap()] = true;
        }
        assert_eq!(timeouts, [false, false, false, false, true, true, false, false], "the timeout to a quarter more");
        assert_eq!(pauses, [false, true, true, false, false, false, false, false], "half of the pause to all of it");
    }
}
