//! Networks over real sockets on the loopback device.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod floods;
mod members;
mod waiting;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use raft_core::client::protocol::{Request, RequestBody, RequestId, Response, ResponseBody};
use raft_core::message::{Body, Message};
use raft_core::transport::{ClientId, Network, Transport};
use raft_core::types::{ClusterId, Incarnation, Millis, NodeId, Term};
use raft_core::wire::Bytes;
use raft_transport_tcp::client::{ClientConnection, ConnectionError};
use raft_transport_tcp::frame::{FrameKind, header};
use raft_transport_tcp::handshake::{Identity, Refusal};
use raft_transport_tcp::network::{BindError, TcpNetwork};
use raft_transport_tcp::options::TcpOptions;
use raft_transport_tcp::peers::TcpPeers;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn identity(node: u64) -> Identity {
    let incarnation = Incarnation(u128::from(node) + 100);
    Identity { cluster: ClusterId(7), node: id(node), incarnation, configuration: 1 }
}

/// Addresses that are free now.
fn addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

struct Side {
    network: TcpNetwork,
    peers: TcpPeers,
    received: Vec<u64>,
}

impl Side {
    fn new(identity: Identity, addresses: [SocketAddr; 2]) -> Side {
        let peers = vec![(id(1), addresses[0].to_string()), (id(2), addresses[1].to_string())];
        let listen = addresses[usize::try_from(identity.node.get()).unwrap() - 1];
        Side::with(TcpOptions::new(listen, identity, peers))
    }

    fn with(options: TcpOptions) -> Side {
        let (network, peers) = TcpNetwork::bind(options).unwrap();
        Side { network, peers, received: Vec::new() }
    }

    fn turn(&mut self) {
        self.network.wait(&mut self.peers, Some(Millis(1))).unwrap();
        while let Some(message) = self.peers.receive() {
            self.received.push(message.term.0);
        }
        self.network.flush();
    }

    fn refusal(&self) -> Option<Refusal> {
        self.peers.states().find_map(|state| state.refusal)
    }
}

/// Goes on until `done`, for a minute at most.
fn until(sides: &mut [&mut Side], mut done: impl FnMut(&mut [&mut Side]) -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !done(sides) {
        assert!(Instant::now() < patience, "it never came to pass");
        for side in sides.iter_mut() {
            side.turn();
        }
    }
}

fn send(side: &mut Side, from: u64, to: u64, term: u64) -> bool {
    let sent = side.peers.room(id(to)).is_some();
    let body = Body::PreVoteReply { granted: true };
    side.peers.send(&Message { from: id(from), to: id(to), term: Term(term), body });
    side.peers.flush();
    sent
}

#[test]
fn messages_pass_in_order_and_again_after_a_node_has_come_back() {
    let addresses = addresses();
    let (mut one, mut two) = (Side::new(identity(1), addresses), Side::new(identity(2), addresses));
    until(&mut [&mut one, &mut two], |sides| sides.iter().all(|side| side.peers.states().all(|link| link.sending)));
    for term in 1..=1000 {
        assert!(send(&mut one, 1, 2, term));
    }
    until(&mut [&mut one, &mut two], |sides| sides[1].received.len() == 1000);
    assert_eq!(two.received, (1..=1000).collect::<Vec<u64>>());

    assert_eq!(one.peers.closed_link(), None);
    drop(two);
    until(&mut [&mut one], |sides| sides[0].peers.closed_link() == Some(id(2)));
    assert_eq!(one.peers.closed_link(), None, "it is told once");
    until(&mut [&mut one], |sides| sides[0].peers.room(id(2)).is_none());
    let mut two = Side::new(identity(2), addresses);
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 5));
    until(&mut [&mut one, &mut two], |sides| sides[1].received.contains(&5));
}

#[test]
fn a_wiped_node_and_another_cluster_are_refused_by_name() {
    let addresses = addresses();
    let (mut one, mut two) = (Side::new(identity(1), addresses), Side::new(identity(2), addresses));
    until(&mut [&mut one, &mut two], |sides| sides.iter().all(|side| side.peers.states().all(|link| link.sending)));
    drop(two);
    let wiped = Identity { incarnation: Incarnation(0), ..identity(2) };
    let mut two = Side::new(wiped, addresses);
    let same_id = Some(Refusal::SameId { node: id(2) });
    until(&mut [&mut one, &mut two], |sides| sides.iter().all(|side| side.refusal() == same_id));
    drop(two);
    let mut two = Side::new(Identity { cluster: ClusterId(8), ..identity(2) }, addresses);
    let other = |side: &Side| matches!(side.refusal(), Some(Refusal::OtherCluster { .. }));
    until(&mut [&mut one, &mut two], |sides| sides.iter().all(|side| other(side)));
}

#[test]
fn a_message_in_another_nodes_name_breaks_the_connection_alone() {
    let addresses = addresses();
    let (mut one, mut two) = (Side::new(identity(1), addresses), Side::new(identity(2), addresses));
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 1));
    // In the name of node 2 itself: never handed out.
    send(&mut one, 2, 2, 99);
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 3) && sides[1].received.contains(&3));
    assert!(!two.received.contains(&99));
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let addresses = addresses();
    let (mut one, mut two) = (Side::new(identity(1), addresses), Side::new(identity(2), addresses));
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 1));
    let mut declared = header(FrameKind::Hello, b"").unwrap();
    declared[4..8].fill(0xff);
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &declared, &[0; 64]] {
        let mut stream = TcpStream::connect(addresses[1]).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.write_all(garbage).unwrap();
        let mut closed = false;
        until(&mut [&mut one, &mut two], |_| {
            closed |= match stream.read(&mut [0; 256]) {
                Ok(read) => read == 0,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            closed
        });
    }
    assert!(send(&mut one, 1, 2, 2));
    until(&mut [&mut one, &mut two], |sides| sides[1].received.contains(&2));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = TcpOptions::new(taken.local_addr().unwrap(), identity(1), Vec::new());
    assert!(matches!(TcpNetwork::bind(options), Err(BindError::InUse { .. })));
}

/// A client with its own poll.
struct TestClient {
    poll: Poll,
    connection: ClientConnection,
}

impl TestClient {
    fn dial(address: SocketAddr, cluster: Option<ClusterId>) -> TestClient {
        let poll = Poll::new().unwrap();
        let connection = ClientConnection::dial(address, cluster, 1 << 20, poll.registry(), Token(0)).unwrap();
        TestClient { poll, connection }
    }

    fn turn(&mut self) -> Result<(), ConnectionError> {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
        for event in &events {
            self.connection.ready(event)?;
        }
        Ok(())
    }
}

/// Answers requests with what they carry, the latest first.
fn echo(side: &mut Side) {
    side.turn();
    let mut requests: Vec<(ClientId, RequestId, Vec<u8>)> = Vec::new();
    while let Some((client, request)) = side.network.request() {
        if let RequestBody::Query { query, .. } = request.body {
            requests.push((client, request.id, query.0.to_vec()));
        }
    }
    for (client, id, query) in requests.into_iter().rev() {
        side.network.respond(client, &Response { id, body: ResponseBody::Answer(Bytes(&query)) });
    }
    side.network.flush();
}

#[test]
fn many_requests_of_a_client_are_under_way_at_once() {
    let mut side = Side::new(identity(1), addresses::<2>());
    let mut client = TestClient::dial(side.network.local_addr().unwrap(), Some(ClusterId(7)));
    while !client.connection.is_established() {
        echo(&mut side);
        client.turn().unwrap();
    }
    let (mut sent, mut answered) = (0u64, vec![false; 20_000]);
    while answered.iter().any(|&answered| !answered) {
        while sent < 20_000 {
            let (bytes, consistency) = (sent.to_le_bytes(), Default::default());
            let body = RequestBody::Query { consistency, query: Bytes(&bytes) };
            if client.connection.send(&Request { id: RequestId(sent), forward: false, body }).is_err() {
                break;
            }
            sent += 1;
        }
        client.connection.flush().unwrap();
        echo(&mut side);
        client.turn().unwrap();
        while let Some(Response { id, body }) = client.connection.response().unwrap() {
            assert_eq!(body, ResponseBody::Answer(Bytes(&id.0.to_le_bytes())));
            assert!(!std::mem::replace(&mut answered[usize::try_from(id.0).unwrap()], true));
        }
    }
}

#[test]
fn a_client_of_another_cluster_is_told_so() {
    let mut side = Side::new(identity(1), addresses::<2>());
    let mut client = TestClient::dial(side.network.local_addr().unwrap(), Some(ClusterId(9)));
    let refused = loop {
        echo(&mut side);
        if let Err(error) = client.turn() {
            break error;
        }
    };
    let expected = Refusal::OtherCluster { cluster: ClusterId(7) };
    assert!(matches!(refused, ConnectionError::Refused(refusal) if refusal == expected), "{refused}");
}
