//! Where a replica's time comes from.

use crate::types::Instant;

/// A monotonic clock. Safety rests on it for leases alone, and there on three things: it never goes back; it counts
/// what passes while the machine sleeps; and its rate is within the drift that the cluster was created with.
///
/// A replica reads it itself, after it has taken a message or a request and before it answers: a thread may lose the
/// processor between any two steps, and an instant that was read before a client asked would make a lease that has
/// ended look as if it lasted.
pub trait Clock {
    /// The time since an arbitrary start, now.
    fn now(&self) -> Instant;
}

/// A function that reads a clock.
impl<F: Fn() -> Instant> Clock for F {
    fn now(&self) -> Instant {
        self()
    }
}
