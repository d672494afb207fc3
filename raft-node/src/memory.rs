//! A storage, a network and a clock in memory, for tests and for a start.

mod network;
mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raft_core::clock::Clock;
use raft_core::types::{Instant, Millis};

pub use network::{Disconnected, MemoryHub, MemoryNetwork, MemoryPeers, MemoryWaker};
pub use storage::MemoryStorage;

/// A clock that moves only when it is told to. Clones show the same time. A node looks at it when
/// it is woken: call [`crate::Handle::wake`] after moving it.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at 0.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves it ahead.
    pub fn advance(&self, millis: Millis) {
        self.0.fetch_add(millis.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::SeqCst))
    }
}
