//! The limits of a session table. They are replicated: two replicas with different limits would
//! evict differently.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::Millis;

/// The largest window a session can have, in commands.
pub const WINDOW_MAX: u16 = 1024;

/// The limits of a session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionLimits {
    /// The sessions that can live at once.
    pub sessions: u32,
    /// W: the commands a session can have in flight, and so the answers kept for it.
    pub window: u16,
    /// R: the longest answer that is kept, in bytes.
    pub answer_bytes: u32,
    /// How long a session lives after it was renewed last, in cluster time.
    pub ttl: Millis,
    /// The most that one entry moves cluster time ahead, so that no pause or jump evicts all.
    pub time_step_max: Millis,
    /// If set, an open that meets a full table evicts the session that was renewed least recently,
    /// provided it has been idle for at least so long. If not, it is refused.
    pub evict_idle: Option<Millis>,
}

impl Default for SessionLimits {
    /// 1,024 sessions of 64 commands and answers of 64 bytes; five minutes.
    fn default() -> SessionLimits {
        SessionLimits {
            sessions: 1024,
            window: 64,
            answer_bytes: 64,
            ttl: Millis(300_000),
            time_step_max: Millis(30_000),
            evict_idle: None,
        }
    }
}

impl SessionLimits {
    /// Checks that a table can work with these limits.
    ///
    /// # Errors
    /// The first limit that is out of its bounds.
    pub fn check(&self) -> Result<(), LimitsError> {
        if self.sessions == 0 {
            return Err(LimitsError::NoSessions);
        }
        if self.window == 0 || self.window > WINDOW_MAX {
            return Err(LimitsError::Window { window: self.window });
        }
        if self.ttl < Millis(10) {
            return Err(LimitsError::Ttl { ttl: self.ttl });
        }
        if self.time_step_max == Millis(0) || self.time_step_max > self.ttl {
            return Err(LimitsError::TimeStep { step: self.time_step_max });
        }
        if self.evict_idle.is_some_and(|idle| idle < Millis(self.ttl.0 / 2)) {
            return Err(LimitsError::EvictIdle { least: Millis(self.ttl.0 / 2) });
        }
        Ok(())
    }
}

/// Why limits are not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// A table without sessions.
    #[error("a table needs room for at least one session")]
    NoSessions,
    /// The window is 0 or over [`WINDOW_MAX`].
    #[error("the window is {window} commands; it must be 1 to {WINDOW_MAX}")]
    Window {
        /// The window asked for.
        window: u16,
    },
    /// The time to live is too short to renew in.
    #[error("the time to live is {ttl} ms; it must be at least 10 ms")]
    Ttl {
        /// The time to live asked for.
        ttl: Millis,
    },
    /// The cap on one step of cluster time is 0 or over the time to live.
    #[error("the largest step of cluster time is {step} ms; it must be 1 ms up to the time to live")]
    TimeStep {
        /// The step asked for.
        step: Millis,
    },
    /// Sessions could be evicted while their clients still use them.
    #[error("sessions may be evicted when idle for no less than half their time to live: {least} ms")]
    EvictIdle {
        /// The least that is valid.
        least: Millis,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_taken_up_to_their_bounds_and_refused_beyond_them() {
        let good = SessionLimits::default();
        let check = |limits: SessionLimits| limits.check();
        assert_eq!(check(SessionLimits { sessions: 0, ..good }), Err(LimitsError::NoSessions));
        for window in [0, WINDOW_MAX + 1] {
            assert_eq!(check(SessionLimits { window, ..good }), Err(LimitsError::Window { window }));
        }
        let short = SessionLimits { ttl: Millis(10), time_step_max: Millis(10), ..good };
        assert_eq!(check(SessionLimits { window: WINDOW_MAX, ..short }), Ok(()));
        assert_eq!(check(SessionLimits { ttl: Millis(9), ..short }), Err(LimitsError::Ttl { ttl: Millis(9) }));
        for step in [Millis(0), Millis(11)] {
            assert_eq!(check(SessionLimits { time_step_max: step, ..short }), Err(LimitsError::TimeStep { step }));
        }
        let evicting = |idle| SessionLimits { evict_idle: Some(Millis(idle)), ..short };
        assert_eq!(check(evicting(4)), Err(LimitsError::EvictIdle { least: Millis(5) }));
        assert_eq!(check(evicting(5)), Ok(()));
    }
}
