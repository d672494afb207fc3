//! Where a node's time comes from.

use std::time;

use raft_core::types::Instant;

/// A monotonic clock. It may stand still, and may run fast or slow, without harm to safety; it
/// must not go back.
pub trait Clock {
    /// The time since an arbitrary start.
    fn now(&self) -> Instant;
}

/// The system's monotonic clock; its start is when it was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: time::Instant,
}

impl SystemClock {
    /// A clock that begins at 0.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { start: time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
