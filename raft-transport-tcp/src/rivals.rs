//! Two processes with one storage: which of them a node is linked with.
//!
//! The lock of a data directory keeps out a second process on it, but not one on a copy of it. Both copies have the
//! same identity, and each could vote once in a term. So a node is linked with one of them at a time: with the one
//! that was there first, until its connections have ended or were silent for too long. A process that is started
//! again waits for no more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raft_core::types::NodeId;

use crate::handshake::{ProcessId, Refusal};

/// How often the same is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Who else wants to be the process of a member.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    rival: Option<Rival>,
    logged: Option<(Refusal, Instant)>,
}

/// A process that was refused because another one was linked.
#[derive(Debug)]
struct Rival {
    process: ProcessId,
    /// When it tried first, and last.
    since: Instant,
    tried_at: Instant,
    /// The other one was heard so long after `since` that it cannot have been its predecessor.
    is_copy: bool,
}

impl Rivals {
    /// Whether a process may be linked. `heard_at` is when another one with the same storage was heard last, if such a
    /// one is linked.
    ///
    /// # Errors
    /// [`Refusal::AlreadyLinked`], or [`Refusal::Copied`] once that is known. A process known as a copy stays out, also
    /// when the other one has ended: that one is started again, and finds its place free.
    pub(crate) fn admit(
        &mut self,
        node: NodeId,
        process: ProcessId,
        heard_at: Option<Instant>,
        silence_max: Duration,
        now: Instant,
    ) -> Result<(), Refusal> {
        let known = self.rival.as_mut().filter(|rival| rival.process == process);
        let Some(heard_at) = heard_at else {
            return if known.is_some_and(|rival| rival.is_copy) { Err(Refusal::Copied { node }) } else { Ok(()) };
        };
        if let Some(rival) = known {
            rival.tried_at = now;
            // An end that was not noticed keeps its connection for so long at most, and what a dead process has sent
            // arrives sooner.
            rival.is_copy |= heard_at >= rival.since + silence_max;
            return Err(if rival.is_copy { Refusal::Copied { node } } else { Refusal::AlreadyLinked { node } });
        }
        // One that goes on trying is not forgotten for another, else two copies would hide each other.
        let forgotten = |rival: &Rival| !rival.is_copy && now.duration_since(rival.tried_at) >= silence_max;
        if self.rival.as_ref().is_none_or(forgotten) {
            self.rival = Some(Rival { process, since: now, tried_at: now, is_copy: false });
        }
        Err(Refusal::AlreadyLinked { node })
    }

    /// Logs a refusal: when it is a new one, and then once in a while.
    pub(crate) fn log(&mut self, refusal: Refusal, now: Instant) {
        let copied = matches!(refusal, Refusal::Copied { .. });
        let worse = |logged: Refusal| copied && logged != refusal;
        if self.logged.is_some_and(|(logged, at)| now.duration_since(at) < LOG_INTERVAL && !worse(logged)) {
            return;
        }
        self.logged = Some((refusal, now));
        if copied {
            tracing::error!(%refusal, "ALARM: refused a process that runs with a copied storage");
        } else {
            tracing::warn!(%refusal, "refused a second process of a member");
        }
    }
}

/// How often processes with a copied storage were refused: for a program to watch, from any thread.
#[derive(Clone, Debug, Default)]
pub struct CopyAlarm(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    refused: AtomicU64,
    node: AtomicU64,
}

impl CopyAlarm {
    /// How many connections were refused. Anything but 0 means that a data directory was copied, and that the copy is
    /// running.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The member whose storage was copied; if several were, the one that was refused last.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        NodeId::new(self.0.node.load(Ordering::Relaxed))
    }

    pub(crate) fn raise(&self, node: NodeId) {
        self.0.node.store(node.get(), Ordering::Relaxed);
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    #[derive(Debug, PartialEq)]
    enum Answer {
        In,
        Linked,
        Copied,
    }
    use Answer::{Copied, In, Linked};

    struct Door {
        rivals: Rivals,
        begin: Instant,
    }

    impl Door {
        fn new() -> Door {
            Door { rivals: Rivals::default(), begin: Instant::now() }
        }

        /// `process` knocks at a second, when another one was heard last at another second.
        fn knock(&mut self, process: u128, at: u64, heard_at: Option<u64>) -> Answer {
            let time = |second| self.begin + Duration::from_secs(second);
            let node = NodeId::new(3).unwrap();
            match self.rivals.admit(node, ProcessId(process), heard_at.map(time), SILENCE, time(at)) {
                Ok(()) => In,
                Err(Refusal::AlreadyLinked { .. }) => Linked,
                Err(_) => Copied,
            }
        }
    }

    #[test]
    fn a_process_that_is_started_again_waits_for_the_old_connections_and_no_longer() {
        let mut door = Door::new();
        assert_eq!(door.knock(2, 1, Some(0)), Linked);
        assert_eq!(door.knock(2, 4, Some(0)), Linked);
        assert_eq!(door.knock(2, 5, None), In, "nothing was heard of the old one");
        assert_eq!(door.knock(3, 6, None), In);
    }

    #[test]
    fn who_is_heard_long_after_the_other_began_to_try_runs_beside_it() {
        let mut door = Door::new();
        assert_eq!(door.knock(2, 1, Some(1)), Linked);
        assert_eq!(door.knock(2, 6, Some(5)), Linked, "perhaps its last words were long under way");
        assert_eq!(door.knock(2, 7, Some(6)), Copied);
        assert_eq!(door.knock(2, 90, None), Copied, "it does not take the place of one that is started again");
        assert_eq!(door.knock(1, 91, None), In);
        assert_eq!(door.knock(2, 92, Some(91)), Copied);
    }

    #[test]
    fn two_copies_do_not_hide_each_other() {
        let mut door = Door::new();
        let knocks = (0..12).map(|second| door.knock(2 + u128::from(second % 2), second, Some(second)));
        let refusals: Vec<Answer> = knocks.collect();
        assert!(refusals.iter().all(|answer| *answer != In));
        assert!(refusals.contains(&Copied), "{refusals:?}");
    }
}
