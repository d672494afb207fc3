//! The words of the protocol as types, so that no two bare integers stand side by side.
//!
//! Each newtype has only the arithmetic that means something: a [`Term`] can be succeeded, an
//! [`Index`] can be moved by a count of entries, an [`Instant`] can be moved by [`Millis`].

use core::fmt;

use serde::{Deserialize, Serialize};

/// A term: the number of an election (dissertation, section 3.3). Term 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Term(pub u64);

impl Term {
    /// Before any election.
    pub const ZERO: Term = Term(0);

    /// The term after this one. Saturates: a term that high is only reached by a hostile peer.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

/// The position of an entry in the log. The first entry has index 1; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Index(pub u64);

impl Index {
    /// Before the first entry.
    pub const ZERO: Index = Index(0);
    /// The first entry, which holds the configuration the cluster was created with.
    pub const FIRST: Index = Index(1);

    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }

    /// Whether this is the index right after `previous`. Nothing follows the last there is.
    #[must_use]
    pub fn follows(self, previous: Index) -> bool {
        previous.0.checked_add(1) == Some(self.0)
    }

    /// The index before this one; the one before 0 is 0.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }

    /// The index `entries` further on.
    #[must_use]
    pub fn plus(self, entries: u64) -> Index {
        Index(self.0.saturating_add(entries))
    }

    /// How many entries lie in `earlier+1 ..= self`; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Index) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What names an entry for good: no two different entries ever have the same term and index
/// (dissertation, section 3.5, Log Matching), and equal ids mean equal logs up to there.
///
/// Ordered as logs are compared in an election: by term, then by index (section 3.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EntryId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The position in the log.
    pub index: Index,
}

impl EntryId {
    /// Before the first entry.
    pub const ZERO: EntryId = EntryId { term: Term::ZERO, index: Index::ZERO };

    /// The entry of `term` at `index`.
    #[must_use]
    pub fn new(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }
}

/// A member of the cluster. Zero is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NodeId(pub core::num::NonZeroU64);

impl NodeId {
    /// The node of that number; `None` for 0, which is no node.
    #[must_use]
    pub fn new(id: u64) -> Option<NodeId> {
        core::num::NonZeroU64::new(id).map(NodeId)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// A cluster: 128 random bits made once, at creation. Nodes of different clusters never talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

/// One life of a node's storage: 128 random bits made when the storage is created, so that a
/// wiped disk or a second process under the same node id can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u128);

/// A session: the index of the entry that opened it, so that ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// 128 random bits chosen by the client that opens a session. Opening again with the same nonce
/// gives the same session while it lives, and whoever holds it may use the session: it is the
/// session's secret, and is compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Nonce(pub u128);

/// The secret that the nodes of a cluster share: 128 random bits made once, at creation. Clients are told the cluster's
/// id, and never this. Compared in constant time, and not shown in logs.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct ClusterKey(pub u128);

impl ClusterKey {
    /// No key: that of a cluster whose program gave it none.
    pub const NONE: ClusterKey = ClusterKey(0);
}

macro_rules! secret {
    ($($name:ident, $shown:literal);*) => {$(
        impl PartialEq for $name {
            /// Compares all bits whatever they are, so that the time taken tells nothing about them.
            fn eq(&self, other: &$name) -> bool {
                let mut difference = 0;
                for (mine, theirs) in self.0.to_le_bytes().iter().zip(other.0.to_le_bytes()) {
                    difference |= core::hint::black_box(mine ^ theirs);
                }
                difference == 0
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            /// A secret is not shown in logs.
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str($shown)
            }
        }
    )*};
}

secret!(Nonce, "Nonce(..)"; ClusterKey, "ClusterKey(..)");

/// The number of a command within its session: 1, 2, 3, …
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first command of a session.
    pub const FIRST: Sequence = Sequence(1);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        Sequence(self.0.saturating_add(1))
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Millis(pub u64);

/// A moment on this node's own monotonic clock: milliseconds since an arbitrary start.
/// Never leaves the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Later than every moment.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// This moment moved ahead by `millis`; never past [`Instant::NEVER`].
    #[must_use]
    pub fn after(self, millis: Millis) -> Instant {
        Instant(self.0.saturating_add(millis.0))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A moment in the cluster's own time: milliseconds that leaders have counted since the cluster
/// was created. Stands still while there is no leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// This moment moved ahead by `millis`.
    #[must_use]
    pub fn after(self, millis: Millis) -> ClusterTime {
        ClusterTime(self.0.saturating_add(millis.0))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: ClusterTime) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )*};
}

display_as_number!(Term, Index, NodeId, SessionId, Sequence, Millis, Instant, ClusterTime);

macro_rules! display_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", self.0)
            }
        }
    )*};
}

display_as_hex!(ClusterId, Incarnation);

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_compared_by_term_before_index() {
        let short_new = EntryId::new(Term(2), Index(4));
        let long_old = EntryId::new(Term(1), Index(6));
        assert!(short_new > long_old);
    }

    #[test]
    fn secrets_compare_by_all_their_bits_and_are_not_shown() {
        for bit in 0..128 {
            assert_ne!(Nonce(0), Nonce(1 << bit));
            assert_ne!(ClusterKey(0), ClusterKey(1 << bit));
        }
        assert_eq!(Nonce(7), Nonce(7));
        assert_eq!(std::format!("{:?} {:?}", Nonce(12345), ClusterKey(12345)), "Nonce(..) ClusterKey(..)");
    }

    #[test]
    fn arithmetic_never_overflows() {
        assert_eq!(Index(0).previous(), Index(0));
        assert_eq!(Instant::NEVER.after(Millis(1)), Instant::NEVER);
        assert_eq!(Instant(1).since(Instant(2)), Millis(0));
        assert_eq!(ClusterTime(7).after(Millis(3)).since(ClusterTime(4)), Millis(6));
    }
}
