//! When to try again what found no room: after a wait that doubles with each failure in a row.

use crate::types::{Instant, Millis};

/// The failures in a row, and until when nothing is tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
    until: Instant,
}

impl BackOff {
    /// Whether it may be tried at `now`.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// It was tried at `now`, in vain. The first wait is `first`; it doubles with each failure in a row, at most
    /// `doublings_max` times. Returns whether this was the first failure in a row.
    pub(crate) fn failed(&mut self, now: Instant, first: Millis, doublings_max: u32) -> bool {
        let doublings = self.failures.min(doublings_max);
        self.until = now.after(Millis(first.0.saturating_mul(1 << doublings.min(63))));
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// It has succeeded, or is not wanted any more.
    pub(crate) fn end(&mut self) {
        *self = BackOff::default();
    }

    /// The failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_bound_and_begins_again_after_a_success() {
        let (mut back_off, mut now) = (BackOff::default(), Instant(7));
        assert!(back_off.is_over(now));
        for (failures, wait) in (0..).zip([10, 20, 40, 40, 40]) {
            assert_eq!(back_off.failed(now, Millis(10), 2), failures == 0);
            assert!(!back_off.is_over(Instant(now.0 + wait - 1)));
            now = Instant(now.0 + wait);
            assert!(back_off.is_over(now));
        }
        back_off.end();
        assert!(back_off.is_over(Instant(0)) && back_off.failures() == 0);
        assert!(back_off.failed(now, Millis(u64::MAX), 90));
        assert!(!back_off.is_over(Instant(u64::MAX - 1)), "a wait that is too long for the clock does not wrap around");
    }
}
