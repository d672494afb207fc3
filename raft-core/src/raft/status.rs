//! How a node is, for its operators.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::raft::Raft;
use crate::raft::role::Role;
use crate::storage::Storage;
use crate::types::{Index, Millis, NodeId, Term};

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<const NODES: usize> {
    /// The node.
    pub id: NodeId,
    /// What it does.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads that term, where it is known.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: Index,
    /// The last durable entry.
    pub saved: Index,
    /// The last entry known to be committed.
    pub commit: Index,
    /// The last entry applied.
    pub applied: Index,
    /// Elections won since the start.
    pub elections_won: u64,
    /// Of a leader: its followers.
    pub followers: Vec<PeerStatus, NODES>,
}

/// How a follower is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// Its log equals the leader's up to here, durably.
    pub matched: Index,
    /// The first entry not yet sent to it.
    pub next: Index,
    /// How long ago it was heard from.
    pub silent_for: Millis,
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// How the node is.
    #[must_use]
    pub fn status(&self) -> Status<NODES> {
        let mut followers = Vec::new();
        if let Role::Leader(leader) = &self.role {
            let peers = self.members.iter().zip(&leader.followers).filter(|&(&id, _)| id != self.id);
            followers.extend(peers.map(|(&id, follower)| PeerStatus {
                id,
                matched: follower.matched,
                next: follower.next,
                silent_for: self.now.since(follower.heard_at),
            }));
        }
        Status {
            id: self.id,
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
            last: self.storage.last().index,
            saved: self.saved.through.index,
            commit: self.commit,
            applied: self.applied,
            elections_won: self.elections_won,
            followers,
        }
    }
}
