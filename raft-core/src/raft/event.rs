//! What has happened, for those who watch: a short queue of typed events, which loses the oldest
//! when nobody takes them.

use core::fmt;

use heapless::Deque;

use crate::types::{EntryId, Index, Instant, Millis, NodeId, Term};

/// The most events that wait to be taken.
const EVENTS_MAX: usize = 16;

/// Something that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// It has seen a term begin.
    NewTerm {
        /// The term.
        term: Term,
    },
    /// It was elected.
    BecameLeader {
        /// Its term.
        term: Term,
        /// The entry that the term begins with.
        start: Index,
    },
    /// It has met the leader of its term.
    Follows {
        /// The term.
        term: Term,
        /// The leader.
        leader: NodeId,
    },
    /// It had a leader and has not heard from it for an election timeout.
    LostLeader {
        /// The leader.
        leader: NodeId,
    },
    /// It leads no more.
    SteppedDown {
        /// The term it led.
        term: Term,
        /// Why.
        reason: StepDown,
    },
    /// The members change; not committed yet.
    ConfigurationAppended {
        /// The entry.
        entry: EntryId,
        /// Whether it is the first of two steps.
        joint: bool,
    },
    /// The change is committed.
    ConfigurationCommitted {
        /// The entry.
        entry: EntryId,
        /// Whether it is the first of two steps.
        joint: bool,
    },
    /// The entry of the change was dropped, and the members are those of before.
    ConfigurationDropped {
        /// The entry that was dropped.
        entry: EntryId,
        /// The one that holds again.
        back_to: EntryId,
    },
    /// A follower lacks entries that were compacted, and is sent a snapshot.
    SnapshotSending {
        /// The follower.
        to: NodeId,
        /// The snapshot's last entry.
        through: EntryId,
    },
    /// The follower has installed it, or has come by its entries otherwise.
    SnapshotSent {
        /// The follower.
        to: NodeId,
        /// The follower's log reaches so far.
        matched: Index,
    },
    /// A snapshot has taken the place of the log.
    SnapshotInstalled {
        /// Its last entry.
        through: EntryId,
    },
    /// A snapshot was received whole, and is not valid or has no room.
    SnapshotRefused {
        /// Its last entry.
        through: EntryId,
        /// Why.
        reason: SnapshotRefusal,
    },
    /// A snapshot of this node's state was to be made, and there is no room for it. It is tried again after a while
    /// that grows with each failure; this is told once, until one was made.
    SnapshotFailed {
        /// The last entry that it was to cover.
        through: EntryId,
    },
    /// Leadership is being handed over.
    TransferBegan {
        /// To whom.
        to: NodeId,
        /// Why.
        reason: TransferReason,
    },
    /// It was not taken over in time.
    TransferFailed {
        /// By whom.
        to: NodeId,
    },
    /// The oldest entry that this leader has not saved is older than the limit.
    DiskStalled {
        /// How old it is at least.
        unsaved_for: Millis,
    },
    /// A member lacks entries that it had acknowledged: it counts no more, and must be removed.
    PeerForgot {
        /// The member.
        peer: NodeId,
        /// What it had acknowledged.
        matched: Index,
        /// What it has now, at most.
        has: Index,
    },
    /// Replicas have told different digests of one moment, and this leader has written down what more
    /// than half of them have: those with another one stop themselves.
    Diverged {
        /// The order to compare.
        check: EntryId,
    },
    /// This node neither votes nor campaigns any more, and acknowledges nothing that counts. That is durable by now.
    Expelled {
        /// Why.
        reason: Expulsion,
    },
}

/// Why a leader leads no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StepDown {
    /// There is a later term.
    HigherTerm,
    /// A majority was not heard from for an election timeout.
    LostQuorum,
    /// It is no voter of the committed configuration any more.
    Removed,
    /// Its log has no room for the entry its term would begin with.
    NoSpace,
}

/// Why leadership is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TransferReason {
    /// It was asked for.
    Asked,
    /// The other has a higher priority.
    Priority,
    /// This node's disk has stalled.
    DiskStalled,
    /// This node's log has no room.
    NoSpace,
    /// This node is no voter any more.
    Removed,
}

/// Why a snapshot is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SnapshotRefusal {
    /// Its checksum is wrong.
    Checksum,
    /// Its head or configuration is not valid.
    Invalid,
    /// It is another cluster's.
    Foreign,
    /// It has more members than this program was built for.
    TooManyMembers,
    /// There is no room for it.
    NoSpace,
}

/// Why a node neither votes nor campaigns, and acknowledges nothing that counts: in this life and every later one, until
/// it holds a committed configuration that added it since. Storages write it down, so a new kind is a new format. It follows the leader meanwhile, where there is one that sends it
/// the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Expulsion {
    /// A committed configuration lacks it.
    Removed {
        /// The configuration's entry.
        by: EntryId,
    },
    /// It lacks an entry that it had acknowledged: its storage was wiped, or restored from a copy.
    Forgot {
        /// The entry.
        acknowledged: EntryId,
        /// The index of the configuration that added the member which acknowledged it.
        added: Index,
    },
    /// A leader, or its snapshot, has another entry where this node has a committed one. One of the two logs has lost or
    /// changed what was committed, and no node can tell which one: keep this node's data until that is known.
    Contradicted {
        /// The other entry.
        found: EntryId,
    },
}

impl Expulsion {
    /// Whether it is said of a member that the configuration `added` has added, and not of an earlier one.
    #[must_use]
    pub fn concerns(&self, added: Index) -> bool {
        match self {
            Expulsion::Removed { by } => added < by.index,
            Expulsion::Forgot { added: of, .. } => added <= *of,
            // No configuration makes the log right.
            Expulsion::Contradicted { .. } => true,
        }
    }
}

impl fmt::Display for Expulsion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expulsion::Removed { by } => {
                write!(formatter, "it is not a member any more since entry {by}; add it again to have it back")
            }
            Expulsion::Forgot { acknowledged, added } => write!(
                formatter,
                "it lacks entry {acknowledged}, which it had acknowledged as the member that entry {added} added: its storage \
                 was wiped, restored from a copy, or lost a write; remove it from the cluster, then add it again with an empty \
                 storage"
            ),
            Expulsion::Contradicted { found } => write!(
                formatter,
                "entry {found} of a leader stands where this node has another, committed one: one of the two logs has lost or \
                 changed what was committed; keep the data of all members until it is known which; then, if this one is wrong, \
                 remove it from the cluster and add it again with an empty storage"
            ),
        }
    }
}

/// The events that have not been taken yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    queue: Deque<(Instant, Event), EVENTS_MAX>,
    pub(crate) lost: u64,
}

impl Events {
    pub(crate) fn push(&mut self, now: Instant, event: Event) {
        if self.queue.is_full() {
            self.queue.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.queue.push_back((now, event)).expect("there is room for one");
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Event)> {
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_nobody_takes_them_and_are_counted() {
        let mut events = Events::default();
        for term in 1..=20 {
            events.push(Instant(term), Event::NewTerm { term: Term(term) });
        }
        assert_eq!(events.lost, 4);
        assert_eq!(events.pop(), Some((Instant(5), Event::NewTerm { term: Term(5) })));
    }
}
