//! How long to wait before dialing again: exponential, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one link.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    /// A linear congruential generator (Knuth's MMIX): jitter need not be better.
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, random: seed }
    }

    /// A connection has been made and held.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait after another failure: half of it certain, half by chance.
    pub(crate) fn failed(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chance = u32::try_from(self.random >> 48).unwrap_or(0);
        whole / 2 + whole * chance / (1 << 17)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(3);
        assert!((FIRST / 2..=FIRST).contains(&backoff.failed()));
        let waits: Vec<Duration> = (0..20).map(|_| backoff.failed()).collect();
        assert!(waits.iter().all(|&wait| wait <= LONGEST));
        assert!(waits[19] >= LONGEST / 2);
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }
}
