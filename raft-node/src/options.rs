//! What a program can set for its node.

use raft_core::raft::config::Config;
use raft_core::types::{Millis, NodeId};

/// The settings of a node. They concern this node alone.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// This node.
    pub id: NodeId,
    /// Timeouts and limits of consensus. A `seed` of 0 is replaced by a random one.
    pub raft: Config,
    /// The longest answer of a command that is handed to the client that waits for it, in bytes.
    /// (How much of it is kept is a limit of the cluster.)
    pub answer_bytes_max: usize,
    /// The longest answer to a query, in bytes; 3 MiB unless set, as for clients.
    pub query_bytes_max: usize,
    /// The most letters in the handle's mailbox; beyond, it answers `Busy`.
    pub mailbox_letters_max: usize,
    /// The most requests that wait for the log or for a confirmed leader; beyond, `Busy`.
    pub waiting_requests_max: usize,
    /// After so long without a decision a request is answered: unknown, or, for a read, not
    /// confirmed.
    pub request_timeout: Millis,
    /// How long an orderly stop waits for what is under way.
    pub stop_timeout: Millis,
}

impl NodeOptions {
    /// The defaults, for node `id`.
    #[must_use]
    pub fn new(id: NodeId) -> NodeOptions {
        NodeOptions {
            id,
            raft: Config::default(),
            answer_bytes_max: 64 << 10,
            query_bytes_max: 3 << 20,
            mailbox_letters_max: 1 << 16,
            waiting_requests_max: 1 << 16,
            request_timeout: Millis(10_000),
            stop_timeout: Millis(1_000),
        }
    }
}
