//! The cluster clock of a leader: the time of the last entry in its log when it was elected, plus
//! what its own monotonic clock has counted since.

use crate::types::{ClusterTime, Instant, Millis};

/// Counts cluster time while this node leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterClock {
    time: ClusterTime,
    counted_to: Instant,
    /// The most that is credited between two readings: a node that was suspended for longer has
    /// not led meanwhile, and must not let sessions expire for it.
    step_max: Millis,
}

impl ClusterClock {
    /// Goes on from `last`, the time of the last entry in the log.
    pub(crate) fn new(last: ClusterTime, now: Instant, step_max: Millis) -> ClusterClock {
        ClusterClock { time: last, counted_to: now, step_max }
    }

    /// Counts up to `now` and gives the time. Never goes back, whatever `now` does.
    pub(crate) fn read(&mut self, now: Instant) -> ClusterTime {
        let counted = now.since(self.counted_to).min(self.step_max);
        self.counted_to = self.counted_to.max(now);
        self.time = self.time.after(counted);
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_the_log_and_credits_no_pause() {
        let mut clock = ClusterClock::new(ClusterTime(500), Instant(90_000), Millis(100));
        assert_eq!(clock.read(Instant(90_010)), ClusterTime(510));
        assert_eq!(clock.read(Instant(90_005)), ClusterTime(510), "never back");
        assert_eq!(clock.read(Instant(3_600_000)), ClusterTime(610), "an hour's pause counts as one step");
        assert_eq!(clock.read(Instant(3_600_001)), ClusterTime(611));
    }
}
