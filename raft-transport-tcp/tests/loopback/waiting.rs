//! The port of a node that waits: whom it answers what, and what it bears.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use raft_core::types::{ClusterId, ClusterKey, Incarnation};
use raft_transport_tcp::frame::{Frame, FrameKind, header};
use raft_transport_tcp::handshake::{HANDSHAKE_BYTES_MAX, Hello, Refusal, Role};
use raft_transport_tcp::network::BindError;
use raft_transport_tcp::setup::{SetupReply, SetupRequest};
use raft_transport_tcp::waiting::{Candidate, Invitation, Reply, WaitingPort};

use crate::{addresses, id, identity};

/// A node that waits, and what it has heard.
#[derive(Default)]
struct Heard {
    requests: Vec<SetupRequest>,
    invitations: Vec<Invitation>,
}

const EMPTY: SetupReply = SetupReply::Empty { incarnation: Incarnation(5) };

impl Candidate for Heard {
    type Error = Infallible;

    fn setup(&mut self, request: &SetupRequest) -> Result<Reply, Infallible> {
        self.requests.push(request.clone());
        Ok(match request {
            SetupRequest::Complete(cluster) => Reply::Created { cluster: *cluster, node: id(1) },
            _ => Reply::Waits(EMPTY),
        })
    }

    fn invited(&mut self, invitation: Invitation) -> Result<(), Infallible> {
        self.invitations.push(invitation);
        Ok(())
    }
}

fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    [header(kind, body).unwrap().as_slice(), body].concat()
}

fn hello(hello: &Hello) -> Vec<u8> {
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    frame(FrameKind::Hello, postcard::to_slice(hello, &mut buffer).unwrap())
}

fn request(request: &SetupRequest) -> Vec<u8> {
    [hello(&Hello::new(Role::Setup)), frame(FrameKind::Setup, &request.encode())].concat()
}

struct World {
    port: WaitingPort,
    address: std::net::SocketAddr,
    heard: Heard,
}

impl World {
    fn new() -> World {
        let [address] = addresses();
        World { port: WaitingPort::bind(address).unwrap(), address, heard: Heard::default() }
    }

    fn turn(&mut self) {
        let Ok(()) = self.port.wait(&mut self.heard, Duration::from_millis(1)) else { panic!("it waits") };
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// All that comes back until the connection ends.
    fn answer(&mut self, stream: &mut TcpStream) -> Vec<u8> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            self.turn();
            match stream.read(&mut chunk) {
                Ok(0) => return bytes,
                Ok(read) => bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return bytes,
            }
            assert!(Instant::now() < end, "the connection does not end");
        }
    }

    fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        self.answer(&mut stream)
    }

    fn refusal(&mut self, bytes: &[u8]) -> Refusal {
        let answer = self.exchange(bytes);
        let frame = Frame::decode(&answer, HANDSHAKE_BYTES_MAX).unwrap().unwrap();
        assert_eq!(frame.kind, FrameKind::Refused);
        postcard::from_bytes(frame.body).unwrap()
    }
}

#[test]
fn a_founder_is_answered_and_all_others_are_told_that_it_waits() {
    let mut world = World::new();
    let answer = world.exchange(&request(&SetupRequest::Ask));
    let reply = Frame::decode(&answer, 4096).unwrap().unwrap();
    assert_eq!((reply.kind, SetupReply::decode(reply.body)), (FrameKind::SetupReply, Some(EMPTY)));
    let created = Refusal::Created { cluster: ClusterId(9), node: id(1) };
    assert_eq!(world.refusal(&request(&SetupRequest::Complete(ClusterId(9)))), created);
    assert_eq!(world.heard.requests, [SetupRequest::Ask, SetupRequest::Complete(ClusterId(9))]);

    assert_eq!(world.refusal(&hello(&Hello::new(Role::Client { cluster: None }))), Refusal::Waiting);
    assert_eq!(world.heard.invitations, []);
    let role = Role::Node { identity: identity(2), wanted: id(1), address: "h:2".try_into().unwrap() };
    assert_eq!(world.refusal(&hello(&Hello::new(role).with_key(ClusterKey(8)))), Refusal::Waiting);
    let (cluster, key, address) = (ClusterId(7), ClusterKey(8), "h:2".to_owned());
    assert_eq!(world.heard.invitations, [Invitation { cluster, key, node: id(1), from: id(2), address }]);
    assert!(matches!(WaitingPort::bind(world.address), Err(BindError::InUse { .. })));
}

#[test]
fn what_is_not_a_request_ends_its_own_connection() {
    let mut world = World::new();
    let good = request(&SetupRequest::Ask);
    let mut bad = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        frame(FrameKind::Setup, &SetupRequest::Ask.encode()),
        frame(FrameKind::Message, b"x"),
        frame(FrameKind::Hello, b"RAFT\x07\x09"),
        [hello(&Hello::new(Role::Setup)), frame(FrameKind::Setup, b"\xff")].concat(),
        [hello(&Hello::new(Role::Setup)), hello(&Hello::new(Role::Setup))].concat(),
    ];
    let mut long = frame(FrameKind::Setup, b"");
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    bad.push([hello(&Hello::new(Role::Setup)), long].concat());
    bad.extend((0..good.len() * 8).step_by(7).map(|bit| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A length that grew would wait for bytes that never come.
        [bytes, vec![0; 8192]].concat()
    }));
    for bytes in bad {
        let answer = world.exchange(&bytes);
        let frame = Frame::decode(&answer, 4096).unwrap_or_default();
        assert!(frame.is_none_or(|frame| frame.kind == FrameKind::Refused), "{bytes:?}");
    }
    assert_eq!(world.heard.requests, [], "nothing was taken for a request");
    // It still answers, also what comes byte by byte.
    let mut stream = world.connect();
    for byte in good {
        stream.write_all(&[byte]).unwrap();
        world.turn();
    }
    assert!(!world.answer(&mut stream).is_empty());
}

#[test]
fn those_who_say_nothing_are_let_go_and_keep_nobody_out_for_long() {
    let mut world = World::new();
    let mut silent: Vec<TcpStream> = (0..80).map(|_| world.connect()).collect();
    world.turn();
    let begin = Instant::now();
    let answer = world.exchange(&request(&SetupRequest::Ask));
    assert!(!answer.is_empty(), "it was answered after {:?}", begin.elapsed());
    for stream in &mut silent {
        assert!(world.answer(stream).is_empty());
    }
}
