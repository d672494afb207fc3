//! What a program can set for its network.

use std::net::SocketAddr;
use std::time::Duration;

use raft_core::types::NodeId;

use crate::handshake::Identity;

/// The settings of a [`crate::network::TcpNetwork`].
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Where to accept connections of nodes and clients.
    pub listen: SocketAddr,
    /// Who this node is.
    pub identity: Identity,
    /// The other members and where they listen, as `host:port`. Names are looked up anew at each
    /// dial. This node itself may be among them and is passed over.
    pub peers: Vec<(NodeId, String)>,
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
    /// The connections of clients.
    pub clients_max: usize,
    /// The connections whose handshake is not done.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// A node that has nothing to say says so at this interval.
    pub keep_alive: Duration,
    /// A connection between nodes on which nothing was heard for so long is given up.
    pub silence_max: Duration,
    /// A client's connection without a request under way is closed after so long a silence.
    pub client_silence_max: Duration,
}

impl TcpOptions {
    /// The defaults, for a node that listens at `listen` and has these peers.
    #[must_use]
    pub fn new(listen: SocketAddr, identity: Identity, peers: Vec<(NodeId, String)>) -> TcpOptions {
        TcpOptions {
            listen,
            identity,
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
            client_silence_max: Duration::from_secs(600),
        }
    }
}
