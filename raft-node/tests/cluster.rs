//! Whole nodes on threads, over memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::client::protocol::{Consistency, NotExecuted, RoleName};
use raft_core::configuration::{Configuration, voters};
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::ProposeError;
use raft_core::ring::Never;
use raft_core::session::operation::Refusal;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::types::{ClusterId, NodeId, Nonce, Sequence, SessionId};
use raft_node::memory::{Disconnected, MemoryHub, MemoryStorage};
use raft_node::{Failed, Handle, Node, NodeOptions, StartError, Stopped, SystemClock, create, join, start};

/// Adds the command's first byte to a sum, and answers the sum.
#[derive(Debug, Default)]
struct Adder(u64);

/// What the adder cannot bear.
const UNBEARABLE: u8 = 13;

impl StateMachine for Adder {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        assert_ne!(command.first(), Some(&UNBEARABLE), "a bug of the state machine's");
        self.0 += command.first().copied().map_or(0, u64::from);
        answer.write(&self.0.to_le_bytes());
    }

    fn query(&self, _: &[u8], answer: &mut dyn Sink) {
        answer.write(&self.0.to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        state.write(&self.0.to_le_bytes());
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        let mut bytes = [0; 8];
        state.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

type TestNode = Node<Never, Disconnected>;

struct Cluster {
    hub: MemoryHub,
    nodes: BTreeMap<NodeId, TestNode>,
}

fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn configuration() -> Configuration {
    voters(ClusterId(1), 3).unwrap()
}

/// The storage of a node that the cluster is created with.
fn created() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    create(&mut storage, &configuration()).unwrap();
    storage
}

impl Cluster {
    fn start() -> Cluster {
        let hub = MemoryHub::new();
        let launch = |node: NodeId| {
            let (network, peers) = hub.join(node);
            let options = NodeOptions::new(node);
            start(options, created(), network, peers, Adder::default(), SystemClock::new()).unwrap()
        };
        let nodes = (1..=3).map(|node| (id(node), launch(id(node)))).collect();
        Cluster { hub, nodes }
    }

    fn handle(&self, node: NodeId) -> Handle {
        self.nodes[&node].handle()
    }

    /// Waits for a leader among `nodes` that its followers know too.
    fn leader(&self, nodes: &[NodeId]) -> NodeId {
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            for &node in nodes {
                let status = self.handle(node).status().wait().unwrap();
                if status.role == RoleName::Leader && status.commit == status.last {
                    return node;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("nobody was elected within a minute");
    }

    fn stop(self) {
        for node in self.nodes.values() {
            node.handle().stop();
        }
        for node in self.nodes.into_values() {
            node.join().unwrap();
        }
    }
}

/// Repeats a request until it is not refused for want of a leader.
fn until_led<T>(mut request: impl FnMut() -> Result<T, Failed>) -> Result<T, Failed> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        match request() {
            Err(Failed::NotExecuted(
                NotExecuted::Refused(ProposeError::NotLeader { .. } | ProposeError::NotReady)
                | NotExecuted::Unconfirmed
                | NotExecuted::Overtaken,
            )) if Instant::now() < patience => thread::sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

fn open(handle: &Handle, nonce: Nonce) -> SessionId {
    match until_led(|| handle.propose(None, OwnedOperation::Open { nonce, fifo: false }).wait()) {
        Ok(OwnedOutcome::Opened { session, .. }) => session,
        other => panic!("a session was to be opened: {other:?}"),
    }
}

fn add(handle: &Handle, nonce: Nonce, session: SessionId, sequence: u64, amount: u8) -> Result<OwnedOutcome, Failed> {
    until_led(|| {
        let (sequence, acknowledge) = (Sequence(sequence), Sequence(1));
        let command = OwnedOperation::Command { session, sequence, acknowledge, command: vec![amount] };
        handle.propose(Some(nonce), command).wait()
    })
}

fn sum(handle: &Handle) -> u64 {
    let bytes = until_led(|| handle.read(Consistency::Linearizable, Vec::new()).wait()).unwrap();
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn a_command_runs_once_whichever_node_it_is_sent_to_and_however_often() {
    let cluster = Cluster::start();
    let nonce = Nonce(99);
    let session = open(&cluster.handle(id(1)), nonce);
    let mut indexes = Vec::new();
    for node in [1, 2, 3, 1] {
        match add(&cluster.handle(id(node)), nonce, session, 1, 5) {
            Ok(OwnedOutcome::Answered { index, answer, replayed }) => {
                assert_eq!(answer, 5u64.to_le_bytes());
                assert_eq!(replayed, !indexes.is_empty());
                indexes.push(index);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(indexes.iter().all(|&index| index == indexes[0]));
    for node in 1..=3 {
        assert_eq!(sum(&cluster.handle(id(node))), 5);
    }
    cluster.stop();
}

#[test]
fn a_wrong_secret_and_an_unknown_session_are_refused() {
    let cluster = Cluster::start();
    let session = open(&cluster.handle(id(2)), Nonce(7));
    let wrong = add(&cluster.handle(id(3)), Nonce(8), session, 1, 5);
    assert_eq!(wrong, Err(Failed::NotExecuted(NotExecuted::Refused(ProposeError::WrongSecret))));
    let unknown = add(&cluster.handle(id(3)), Nonce(8), SessionId(1), 1, 5);
    assert_eq!(unknown, Ok(OwnedOutcome::Refused(Refusal::SessionExpired)));
    assert_eq!(sum(&cluster.handle(id(1))), 0);
    cluster.stop();
}

#[test]
fn a_leader_cut_off_answers_nothing_false_and_the_others_go_on() {
    let cluster = Cluster::start();
    let all = [id(1), id(2), id(3)];
    let old = cluster.leader(&all);
    let others: Vec<NodeId> = all.into_iter().filter(|&node| node != old).collect();
    for &other in &others {
        cluster.hub.cut(old, other);
        cluster.hub.cut(other, old);
    }
    // A write to the old leader cannot be committed, a read of it not confirmed.
    let lost = cluster.handle(old).propose_plain(vec![1]);
    let stale = cluster.handle(old).read(Consistency::Linearizable, Vec::new());
    let new = cluster.leader(&others);
    assert!(until_led(|| cluster.handle(new).propose_plain(vec![10]).wait()).is_ok());
    assert!(matches!(stale.wait(), Err(Failed::NotExecuted(_))));
    cluster.hub.heal();
    // Another leader's entry stands where the lost one stood: that is a definite answer.
    assert!(matches!(lost.wait(), Err(Failed::NotExecuted(NotExecuted::Overtaken))));
    assert_eq!(sum(&cluster.handle(old)), 10);
    cluster.stop();
}

#[test]
fn to_create_to_start_and_to_join_are_three_calls_and_none_does_the_work_of_another() {
    let (hub, clock) = (MemoryHub::new(), SystemClock::new());
    let starts = |storage| {
        let (network, peers) = hub.join(id(1));
        start(NodeOptions::new(id(1)), storage, network, peers, Adder::default(), clock)
    };
    let joins = |storage| {
        let (network, peers) = hub.join(id(1));
        join(NodeOptions::new(id(1)), configuration(), storage, network, peers, Adder::default(), clock)
    };
    assert!(matches!(starts(MemoryStorage::new()), Err(StartError::Empty)), "nothing is created by starting");
    assert!(joins(created()).is_err(), "a node that has a log has joined already");
    let mut storage = created();
    assert!(matches!(create(&mut storage, &configuration()), Err(StartError::Create(_))), "it is created once");
    let other = voters(ClusterId(2), 3).unwrap();
    assert!(matches!(create(&mut storage, &other), Err(StartError::Create(_))));

    let joined = joins(MemoryStorage::new()).unwrap();
    joined.handle().stop();
    joined.join().unwrap();
    let node = starts(storage).unwrap();
    let handle = node.handle();
    handle.stop();
    node.join().unwrap();
    assert_eq!(handle.propose_plain(Vec::new()).wait(), Err(Failed::NotExecuted(NotExecuted::Stopping)));
}

/// A node whose state machine panics ends, and whoever waits learns that the outcome is unknown. Nobody skips the entry:
/// who applies it ends alike, and who has not yet will.
#[test]
fn a_state_machine_that_panics_ends_its_node_and_no_entry_is_skipped() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader(&[id(1), id(2), id(3)]);
    let handle = cluster.handle(leader);
    until_led(|| handle.propose_plain(vec![7]).wait()).unwrap();
    assert_eq!(handle.propose_plain(vec![UNBEARABLE]).wait(), Err(Failed::Unknown));
    assert!(matches!(cluster.nodes.remove(&leader).unwrap().join(), Err(Stopped::Panicked)));
    for node in cluster.nodes.into_values() {
        assert!(node.handle().propose_plain(vec![1]).wait().is_err(), "nothing comes after the entry");
        node.handle().stop();
        assert!(matches!(node.join(), Ok(()) | Err(Stopped::Panicked)));
    }
}
