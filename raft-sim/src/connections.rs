//! The connections of a simulated engine.

use std::collections::VecDeque;
use std::io;

use raft_client::{ConnectionEvent, Connections, LinkFault};
use raft_core::client::protocol::{Request, Response};
use raft_core::types::{ClusterId, Index, NodeId};
use raft_transport_tcp::client::{ConnectionError, SendError};
use raft_transport_tcp::frame::{FrameError, FrameKind};

use crate::endpoint::{body, framed, request_frame, response_in};

/// The address of a node.
pub(crate) fn address(node: NodeId) -> String {
    format!("node-{node}:1")
}

/// The node at an address.
fn node_at(address: &str) -> Option<NodeId> {
    NodeId::new(address.strip_prefix("node-")?.strip_suffix(":1")?.parse().ok()?)
}

/// What an engine has sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// It wants a connection.
    Dial { node: NodeId, connection: u64 },
    /// A request on a connection.
    Request { node: NodeId, connection: u64, frame: Vec<u8> },
    /// It has ended a connection.
    HangUp { connection: u64 },
}

/// The connection to one endpoint.
#[derive(Debug)]
struct Connection {
    node: NodeId,
    number: u64,
    established: bool,
    /// Responses, and the last entry that was applied where each was given.
    arrived: VecDeque<(Vec<u8>, Index)>,
}

/// All connections of one engine.
#[derive(Debug)]
pub(crate) struct SimConnections {
    cluster: ClusterId,
    by_endpoint: Vec<Option<Connection>>,
    /// The number of the next connection: no two have the same, whosever they are.
    next: u64,
    sent: Vec<Sent>,
    happened: VecDeque<(usize, ConnectionEvent)>,
    /// The response that was taken last.
    current: (Vec<u8>, Index),
    /// Whether one was taken since the engine was last allowed to take one.
    taken: bool,
}

impl SimConnections {
    /// Connections to nodes of `cluster`, whose numbers begin with `first`.
    pub(crate) fn new(cluster: ClusterId, first: u64) -> SimConnections {
        SimConnections {
            cluster,
            by_endpoint: Vec::new(),
            next: first,
            sent: Vec::new(),
            happened: VecDeque::new(),
            current: (Vec::new(), Index::ZERO),
            taken: false,
        }
    }

    /// Lets the engine take one more response, no more than one at a time: so it is known which one a request was answered by.
    pub(crate) fn allow_response(&mut self) {
        self.taken = false;
    }

    /// The last entry that was applied where the response was given that the engine has taken since it was allowed to; `None`
    /// if it has taken none.
    pub(crate) fn taken_at(&self) -> Option<Index> {
        self.taken.then_some(self.current.1)
    }

    /// Takes what was sent.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        core::mem::take(&mut self.sent)
    }

    /// A frame has arrived from a node: the answer to a dial, or to a request. It may be of a connection that has ended;
    /// then it arrives on the one that took its place, if there is one.
    pub(crate) fn arrived(&mut self, node: NodeId, frame: &[u8], applied: Index) {
        if let Some(number) = connection_in(frame, FrameKind::Welcome) {
            return self.accepted(number);
        }
        if let Some(number) = connection_in(frame, FrameKind::Refused) {
            return self.lost(|connection| connection.number == number, refused);
        }
        if response_in(frame).is_none() {
            // What was damaged on the way ends the connection.
            let damaged = || LinkFault::Connection(ConnectionError::Frame(FrameError::Checksum));
            return self.lost(|connection| connection.node == node && connection.established, damaged);
        }
        let open = self.by_endpoint.iter_mut().enumerate();
        let mut established = open.filter_map(|(endpoint, slot)| Some((endpoint, slot.as_mut()?)));
        let found = established.find(|(_, connection)| connection.node == node && connection.established);
        if let Some((endpoint, connection)) = found {
            connection.arrived.push_back((frame.to_vec(), applied));
            self.happened.push_back((endpoint, ConnectionEvent::Readable));
        }
    }

    fn accepted(&mut self, number: u64) {
        for (endpoint, slot) in self.by_endpoint.iter_mut().enumerate() {
            if let Some(connection) = slot.as_mut().filter(|connection| connection.number == number)
                && !connection.established
            {
                connection.established = true;
                self.happened.push_back((endpoint, ConnectionEvent::Established(self.cluster)));
            }
        }
    }

    /// Those connections end, whatever is under way on them.
    pub(crate) fn break_to(&mut self, node: NodeId) {
        self.lost(|connection| connection.node == node, refused);
    }

    fn lost(&mut self, concerns: impl Fn(&Connection) -> bool, fault: impl Fn() -> LinkFault) {
        for (endpoint, slot) in self.by_endpoint.iter_mut().enumerate() {
            if let Some(connection) = slot.take_if(|connection| concerns(connection)) {
                self.sent.push(Sent::HangUp { connection: connection.number });
                self.happened.push_back((endpoint, ConnectionEvent::Lost(fault())));
            }
        }
    }
}

fn refused() -> LinkFault {
    LinkFault::Connection(ConnectionError::Io(io::ErrorKind::ConnectionReset.into()))
}

/// A frame that says something of a connection: that it is wanted, accepted, or at its end.
pub(crate) fn connection_frame(kind: FrameKind, connection: u64) -> Vec<u8> {
    framed(kind, &connection.to_le_bytes())
}

/// The connection of which a frame says that.
pub(crate) fn connection_in(frame: &[u8], kind: FrameKind) -> Option<u64> {
    Some(u64::from_le_bytes(body(frame, kind)?.try_into().ok()?))
}

impl Connections for SimConnections {
    fn dial(&mut self, endpoint: usize, address: &str, _: usize, _: Option<ClusterId>) -> Result<(), LinkFault> {
        let node = node_at(address).ok_or_else(|| LinkFault::Resolve(io::ErrorKind::NotFound.into()))?;
        if endpoint >= self.by_endpoint.len() {
            self.by_endpoint.resize_with(endpoint + 1, || None);
        }
        let slot = self.by_endpoint.get_mut(endpoint).expect("it was made long enough");
        assert!(slot.is_none(), "an endpoint is dialed while there is no connection to it");
        let number = self.next;
        self.next += 1;
        *slot = Some(Connection { node, number, established: false, arrived: VecDeque::new() });
        self.sent.push(Sent::Dial { node, connection: number });
        Ok(())
    }

    fn send(&mut self, endpoint: usize, request: &Request<'_>) -> Result<(), SendError> {
        let open = self.by_endpoint.get(endpoint).and_then(Option::as_ref);
        let connection = open.filter(|connection| connection.established).ok_or(SendError::NotEstablished)?;
        let (node, connection) = (connection.node, connection.number);
        self.sent.push(Sent::Request { node, connection, frame: request_frame(request) });
        Ok(())
    }

    fn flush(&mut self, _: usize) -> Result<(), LinkFault> {
        Ok(())
    }

    fn response(&mut self, endpoint: usize) -> Result<Option<Response<'_>>, LinkFault> {
        let open = self.by_endpoint.get_mut(endpoint).and_then(Option::as_mut);
        let Some(connection) = open.filter(|connection| !connection.arrived.is_empty()) else { return Ok(None) };
        if self.taken {
            self.happened.push_back((endpoint, ConnectionEvent::Readable));
            return Ok(None);
        }
        self.current = connection.arrived.pop_front().expect("it is not empty");
        self.taken = true;
        Ok(response_in(&self.current.0))
    }

    fn hang_up(&mut self, endpoint: usize) {
        if let Some(connection) = self.by_endpoint.get_mut(endpoint).and_then(Option::take) {
            self.sent.push(Sent::HangUp { connection: connection.number });
        }
        self.happened.retain(|&(happened_to, _)| happened_to != endpoint);
    }

    fn next_event(&mut self) -> Option<(usize, ConnectionEvent)> {
        self.happened.pop_front()
    }
}
