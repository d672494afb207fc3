//! Limits of different parts, in whole nodes over TCP.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::client::protocol::{HEAD_BYTES_MAX, NotExecuted, RoleName};
use raft_core::configuration::{Configuration, Member};
use raft_core::entry::HEADER_BYTES;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::{MESSAGE_HEAD_BYTES_MAX, ProposeError};
use raft_core::ring::Never;
use raft_core::session::limits::SessionLimits;
use raft_core::session::operation::OPERATION_HEAD_BYTES_MAX;
use raft_core::types::{ClusterId, Incarnation, NodeId};
use raft_node::memory::MemoryStorage;
use raft_node::{Failed, Handle, Node, NodeOptions, StartError, SystemClock, create, start};
use raft_transport_tcp::handshake;
use raft_transport_tcp::network::TcpNetwork;
use raft_transport_tcp::options::TcpOptions;

const FRAME_BYTES_MAX: usize = 1 << 20;
/// The longest entry that fits into a frame: by itself, and in a client's request, whose head is the longest.
const ENTRY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEAD_BYTES_MAX;
const _: () = assert!(HEAD_BYTES_MAX >= MESSAGE_HEAD_BYTES_MAX + HEADER_BYTES);

struct Idle;

impl StateMachine for Idle {
    fn apply(&mut self, _: Position, _: &[u8], _: &mut Answer<'_>) {}

    fn query(&self, _: &[u8], _: &mut dyn Sink) {}

    fn snapshot(&self, _: &mut dyn Sink) {}

    fn restore(&mut self, _: &mut dyn Source) -> Result<(), Damaged> {
        Ok(())
    }
}

type TestNode = Node<Never, std::io::Error>;

fn ids() -> impl Iterator<Item = NodeId> {
    (1..=3).filter_map(NodeId::new)
}

/// Starts three nodes with these limits.
fn cluster(entry_bytes_max: usize) -> Vec<Result<TestNode, StartError<Never>>> {
    let listeners: Vec<TcpListener> = ids().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let at: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    drop(listeners);
    let members: Vec<Member> = ids().zip(&at).map(|(id, at)| Member::voter(id, &at.to_string()).unwrap()).collect();
    let cluster = ClusterId(77);
    let created = Configuration::new(cluster, SessionLimits::default(), members).unwrap();
    let launch = |(node, &listen): (NodeId, &std::net::SocketAddr)| {
        let configuration = created.digest().unwrap();
        let incarnation = Incarnation(node.get().into());
        let identity = handshake::Identity { cluster, node, incarnation, configuration };
        let peers = ids().zip(&at).map(|(id, at)| (id, at.to_string())).collect();
        let tcp = TcpOptions { frame_bytes_max: FRAME_BYTES_MAX, ..TcpOptions::new(listen, identity, peers) };
        let (network, peers) = TcpNetwork::bind(tcp).unwrap();
        let (mut options, mut storage) = (NodeOptions::new(node), MemoryStorage::new());
        create(&mut storage, &created).unwrap();
        options.query_bytes_max = FRAME_BYTES_MAX / 2;
        options.raft.entry_bytes_max = entry_bytes_max;
        start(options, storage, network, peers, Idle, SystemClock::new())
    };
    ids().zip(&at).map(launch).collect()
}

/// The handle of the leader, and one of a node that follows it.
fn leader_and_follower(nodes: &[TestNode]) -> (Handle, Handle) {
    let patience = Instant::now() + Duration::from_secs(60);
    while Instant::now() < patience {
        let led: Vec<(Handle, RoleName)> = nodes
            .iter()
            .map(|node| (node.handle(), node.handle().status().wait().unwrap()))
            .filter(|(_, status)| status.leader.is_some() && status.commit >= status.last)
            .map(|(handle, status)| (handle, status.role))
            .collect();
        let of = |leads: bool| led.iter().find(|(_, role)| (*role == RoleName::Leader) == leads);
        if let (Some((leader, _)), Some((follower, _)), 3) = (of(true), of(false), led.len()) {
            return (leader.clone(), follower.clone());
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody was elected within a minute");
}

/// Proposes a command of that length, again while there is no leader or no room.
fn propose(handle: &Handle, bytes: usize) -> Result<(), Failed> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match handle.propose_plain(vec![0; bytes]).wait() {
            Err(Failed::NotExecuted(NotExecuted::Refused(
                ProposeError::NotLeader { .. } | ProposeError::Busy | ProposeError::NotReady,
            ))) if Instant::now() < patience => thread::sleep(Duration::from_millis(5)),
            result => return result.map(|_| ()),
        }
    }
}

#[test]
fn an_entry_longer_than_a_frame_is_refused_at_the_start_with_both_numbers() {
    for node in cluster(ENTRY_BYTES_MAX + 1) {
        let Err(StartError::Limits(error)) = node else { panic!("it was to be refused") };
        assert_eq!((error.needed_bytes, error.allowed_bytes), (FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX));
    }
}

/// Whatever is taken travels: by itself, and when a follower brings it to the leader.
#[test]
fn the_longest_entry_travels_and_a_longer_one_is_refused_on_every_node() {
    let nodes: Vec<TestNode> = cluster(ENTRY_BYTES_MAX).into_iter().map(Result::unwrap).collect();
    let (leader, follower) = leader_and_follower(&nodes);
    let head = (0..=OPERATION_HEAD_BYTES_MAX)
        .find(|head| propose(&leader, ENTRY_BYTES_MAX - head).is_ok())
        .expect("a command with its head is an entry");
    propose(&follower, ENTRY_BYTES_MAX - head).unwrap();
    for handle in [&leader, &follower] {
        for bytes in [ENTRY_BYTES_MAX - head + 1, ENTRY_BYTES_MAX + 1, 2 * FRAME_BYTES_MAX] {
            let refused = propose(handle, bytes);
            let too_long =
                |error| matches!(error, ProposeError::TooLong { limit } if limit as usize == ENTRY_BYTES_MAX);
            assert!(
                matches!(refused, Err(Failed::NotExecuted(NotExecuted::Refused(error))) if too_long(error)),
                "{bytes} bytes: {refused:?}"
            );
        }
        propose(handle, 1).unwrap();
    }
    for node in &nodes {
        node.handle().stop();
    }
    nodes.into_iter().for_each(|node| node.join().unwrap());
}
