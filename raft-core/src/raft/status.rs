//! How a node is, for its operators.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::configuration::Suffrage;
use crate::raft::Raft;
use crate::raft::event::Expulsion;
use crate::raft::progress::{Progress, ProgressState};
use crate::raft::role::Role;
use crate::storage::Storage;
use crate::types::{EntryId, Index, Millis, NodeId, Term};

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status<const NODES: usize> {
    /// The node.
    pub id: NodeId,
    /// What it does.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads that term, where it is known.
    pub leader: Option<NodeId>,
    /// The entry before the first one of its log.
    pub base: Index,
    /// The last entry that its snapshot covers; 0 without one.
    pub snapshot: Index,
    /// The last entry of its log.
    pub last: Index,
    /// The last durable entry.
    pub saved: Index,
    /// The last entry known to be committed.
    pub commit: Index,
    /// The last entry applied.
    pub applied: Index,
    /// The entry of the configuration that holds.
    pub configuration: EntryId,
    /// Whether that is a joint one.
    pub joint: bool,
    /// Why it takes part in nothing any more.
    pub expelled: Option<Expulsion>,
    /// Of a leader: to whom it hands over.
    pub transfer: Option<NodeId>,
    /// Elections won since the start.
    pub elections_won: u64,
    /// Events that were lost because nobody took them.
    pub events_lost: u64,
    /// Of a leader: its followers.
    pub followers: Vec<PeerStatus, NODES>,
}

/// How a follower is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// What it takes part in.
    pub suffrage: Suffrage,
    /// Its log equals the leader's up to here, durably.
    pub matched: Index,
    /// The first entry not yet sent to it.
    pub next: Index,
    /// How it is sent entries.
    pub replication: Replication,
    /// How many entries of the leader's log it lacks.
    pub lag_entries: u64,
    /// About how many bytes these are.
    pub lag_bytes: u64,
    /// How long ago it was heard from.
    pub silent_for: Millis,
}

/// How a follower is sent entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Replication {
    /// Where the logs part is not known.
    Probing,
    /// Entries flow.
    Replicating,
    /// A snapshot is under way.
    Snapshot {
        /// The bytes that have arrived.
        received: u64,
        /// All its bytes.
        bytes: u64,
    },
    /// It is sent nothing, since it has lost entries that it had acknowledged.
    Forgot,
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// How the node is.
    #[must_use]
    pub fn status(&self) -> Status<NODES> {
        let mut followers = Vec::new();
        let mut transfer = None;
        if let Role::Leader(leader) = &self.role {
            transfer = leader.transfer.map(|transfer| transfer.to);
            let peers = self.membership.peers().iter().zip(&leader.followers).filter(|(peer, _)| peer.id != self.id);
            followers.extend(peers.map(|(peer, follower)| self.peer_status(peer.id, peer.suffrage, follower)));
        }
        Status {
            id: self.id,
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            base: self.storage.base().index,
            snapshot: self.storage.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index),
            last: self.storage.last().index,
            saved: self.saved.through.index,
            commit: self.commit,
            applied: self.applied,
            configuration: self.membership.entry,
            joint: self.membership.is_joint(),
            expelled: self.expelled,
            transfer,
            elections_won: self.elections_won,
            events_lost: self.events.lost,
            followers,
        }
    }

    fn peer_status(&self, id: NodeId, suffrage: Suffrage, follower: &Progress) -> PeerStatus {
        let replication = match &follower.state {
            _ if follower.forgot => Replication::Forgot,
            ProgressState::Probe { .. } => Replication::Probing,
            ProgressState::Replicate(_) => Replication::Replicating,
            ProgressState::Snapshot(sending) => {
                Replication::Snapshot { received: sending.acknowledged, bytes: sending.snapshot.bytes }
            }
        };
        PeerStatus {
            id,
            suffrage,
            matched: follower.matched,
            next: follower.next,
            replication,
            lag_entries: self.storage.last().index.since(follower.matched),
            lag_bytes: self.storage.bytes_behind(follower.matched),
            silent_for: self.now.since(follower.heard_at),
        }
    }
}

/// A device can log it whole.
#[cfg(feature = "defmt")]
const _: () = {
    const fn is_format<T: defmt::Format>() {}
    is_format::<Status<3>>();
    is_format::<crate::raft::event::Event>();
};
