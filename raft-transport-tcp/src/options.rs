//! What a program can set for its network.

use std::net::SocketAddr;
use std::time::Duration;

use raft_core::configuration::MEMBERS_MAX;
use raft_core::types::{ClusterKey, Millis, NodeId};

use crate::handshake::Identity;

/// The settings of a [`crate::network::TcpNetwork`].
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Where to accept connections of nodes and clients.
    pub listen: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// The secret of the cluster's nodes, which a node that does not know it is refused by; none unless set.
    pub key: ClusterKey,
    /// The other members and where they listen, as `host:port`. Names are looked up anew at each dial. They are the
    /// members until the first configuration is known; from then on they say only where a member listens whose
    /// address the configuration leaves empty. This node itself may be among them and is passed over.
    pub peers: Vec<(NodeId, String)>,
    /// Where other nodes reach this one, as `host:port`: told to nodes that may not know it yet. If it is empty,
    /// the address in the configuration is told.
    pub advertise: String,
    /// Where the jitter of waits begins; should differ between nodes.
    pub seed: u64,
    /// The longest body of a frame between nodes or from a client, in bytes.
    pub frame_bytes_max: usize,
    /// So many bytes may wait for one peer before no further message to it is formed.
    pub peer_output_bytes_max: usize,
    /// So many bytes of answers may wait for one client before none of its requests is taken.
    pub client_output_bytes_max: usize,
    /// The requests that one client may have under way before it is not read further.
    pub client_requests_max: u32,
    /// The connections of clients. Where all places are taken, the client that has been idle for longest gives way, once
    /// that is a second; without one the new client is refused.
    pub clients_max: usize,
    /// The connections whose handshake is not done. One more takes the place of the oldest.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// A node that has nothing to say says so at this interval.
    pub keep_alive: Duration,
    /// A connection between nodes on which nothing was heard for so long is given up.
    pub silence_max: Duration,
    /// A link to a node that was removed is kept for so long: it must still be told so, and its last
    /// acknowledgements may be under way. Some election timeouts.
    pub removed_grace_ms: Millis,
    /// The nodes of the cluster that may be linked without being members as far as this node knows: those that join,
    /// and members it has not heard of yet. If all places are taken, the stranger whose last message is the oldest
    /// gives way once it is older than `keep_alive`. None at 0. Each may cost two connections and
    /// `frame_bytes_max` + `peer_output_bytes_max` of memory.
    pub strangers_max: usize,
    /// A stranger that has sent no message for so long is let go.
    pub stranger_idle_max: Duration,
    /// A client's connection without a request under way is closed after so long a silence.
    pub client_silence_max: Duration,
}

impl TcpOptions {
    /// The file descriptors that a network with these options has open at most: those of its clients, of handshakes,
    /// of links to members and strangers (two connections and a look-up each), and four of its own.
    #[must_use]
    pub fn descriptors_max(&self) -> usize {
        let links = MEMBERS_MAX.saturating_add(self.strangers_max).saturating_mul(3);
        self.clients_max.saturating_add(self.handshakes_max).saturating_add(links).saturating_add(4)
    }

    /// The defaults, for a node that listens at `listen` and has these peers.
    #[must_use]
    pub fn new(listen: SocketAddr, identity: Identity, peers: Vec<(NodeId, String)>) -> TcpOptions {
        let own = peers.iter().find(|(node, _)| *node == identity.node);
        TcpOptions {
            advertise: own.map(|(_, address)| address.clone()).unwrap_or_default(),
            listen,
            identity,
            key: ClusterKey::NONE,
            peers,
            seed: identity.node.get(),
            frame_bytes_max: 4 << 20,
            peer_output_bytes_max: 1 << 20,
            client_output_bytes_max: 1 << 20,
            client_requests_max: 4096,
            clients_max: 4096,
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            removed_grace_ms: Millis(10_000),
            strangers_max: 16,
            stranger_idle_max: Duration::from_secs(30),
            client_silence_max: Duration::from_secs(600),
        }
    }
}
