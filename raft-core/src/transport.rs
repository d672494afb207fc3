//! What the core asks of a network: the pluggable part called `Transport`, and what a node's event
//! loop asks of it beyond that: `Network`.
//!
//! Neither ever blocks but in [`Network::wait`]. A network loses, delays and repeats messages;
//! so nothing here returns an error for a message that did not arrive.

use crate::client::protocol::{Request, Response};
use crate::configuration::Configuration;
use crate::message::Message;
use crate::types::{Incarnation, Millis, NodeId};

/// The links to the other members.
pub trait Transport {
    /// Takes the next message that has arrived, already checked to come from the member it names.
    fn receive(&mut self) -> Option<Message<'_>>;

    /// Takes the next node whose connection to this one was closed or reset at its other end, each time once: what
    /// happens at once when its process dies. All that had arrived before has been taken by [`Transport::receive`].
    /// Transports without connections never say so.
    fn closed_link(&mut self) -> Option<NodeId> {
        None
    }

    /// How many bytes of entries a message to `peer` may carry, if the link can take a message
    /// now; `None` if it cannot: not connected, or enough is waiting to be sent. Never blocks
    /// and never changes because of another peer.
    fn room(&self, peer: NodeId) -> Option<usize>;

    /// The most bytes of entries, or of an operation, that a message may ever carry: what [`Transport::room`] returns is
    /// not less while it returns anything. A longer entry would never leave its leader.
    fn payload_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Encodes `message` at once into its link. Without [`Transport::room`], it is dropped.
    fn send(&mut self, message: &Message<'_>);

    /// Hands what was sent to the network, as far as it takes it now.
    fn flush(&mut self);

    /// These are the members from now on: links to those that are new are made by their addresses, and a node whose
    /// storage is not the one named here is refused. Links to others may be given up once nothing has been sent on
    /// them for a while. Called again with what has not changed, too.
    fn configure(&mut self, configuration: &Configuration) {
        let _ = configuration;
    }

    /// The life of the storage of `node`, this node included, where the handshake has told it.
    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        let _ = node;
        None
    }
}

/// A connection of a client: a number that is never used again in the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Wakes something that waits, from any thread.
pub trait Wake {
    /// Ends its present or its next wait.
    fn wake(&self);
}

/// The whole network of one node, as its event loop sees it: it waits for all sockets at once,
/// keeps the links to the members supplied, and carries requests of clients.
pub trait Network {
    /// The links to the members, which the replica owns.
    type Peers: Transport;
    /// Wakes the loop from another thread.
    type Waker: Wake + Clone + Send + Sync + 'static;
    /// Why the network failed for good.
    type Error;

    /// A handle that ends the present or the next [`Network::wait`], from any thread.
    fn waker(&self) -> Self::Waker;

    /// Waits until something can be received or sent, the waker was called, or `timeout` has
    /// passed (`None`: for ever); then reads what has arrived, sends on what waited, and takes
    /// care of connections. Returns at once while something received has not been taken.
    ///
    /// # Errors
    /// The network failed for good. Faults of single connections are no errors.
    fn wait(&mut self, peers: &mut Self::Peers, timeout: Option<Millis>) -> Result<(), Self::Error>;

    /// The longest request or response that a connection of a client takes, in bytes.
    fn client_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Takes the next request that a client has sent. The network bounds what one client may
    /// have under way, by not reading further from it.
    fn request(&mut self) -> Option<(ClientId, Request<'_>)>;

    /// Answers a request. The answer to a client that has gone is dropped.
    fn respond(&mut self, client: ClientId, response: &Response<'_>);

    /// Hands the answers to the network, as far as it takes them now.
    fn flush(&mut self);
}
