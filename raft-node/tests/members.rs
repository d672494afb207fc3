//! Members that come and go, on threads, over memory, while a client goes on counting.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use raft_core::client::protocol::{Consistency, NotExecuted, RoleName};
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Member, Suffrage, voters};
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::raft::event::Expulsion;
use raft_core::ring::Never;
use raft_core::types::{ClusterId, NodeId};
use raft_node::memory::{Disconnected, MemoryHub, MemoryStorage};
use raft_node::{Failed, Handle, Node, NodeOptions, OrderDone, Pending, Stopped, SystemClock, create, join, start};

/// Counts the commands.
#[derive(Debug, Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: Position, _: &[u8], answer: &mut Answer<'_>) {
        self.0 += 1;
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

fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

#[derive(Default)]
struct Cluster {
    hub: MemoryHub,
    nodes: BTreeMap<u64, TestNode>,
}

impl Cluster {
    /// Starts a node: one of those the cluster begins with, or one that joins.
    fn launch(&mut self, node: u64, joins: bool) {
        let known = voters(ClusterId(1), 3).unwrap();
        let mut options = NodeOptions::new(id(node));
        options.raft.snapshot_after_entries = 50;
        options.raft.snapshot_keep_entries = 5;
        options.raft.check_after_entries = 40;
        let (network, peers) = self.hub.join(id(node));
        let clock = SystemClock::new();
        let mut storage = MemoryStorage::new();
        let started = if joins {
            join(options, known, storage, network, peers, Counter::default(), clock)
        } else {
            create(&mut storage, &known).unwrap();
            start(options, storage, network, peers, Counter::default(), clock)
        };
        self.nodes.insert(node, started.unwrap());
    }

    fn handles(&self) -> Vec<Handle> {
        self.nodes.values().map(Node::handle).collect()
    }

    /// Has the leader do something, whoever that is.
    fn order(&self, order: impl Fn(&Handle) -> Pending<OrderDone>) -> Result<OrderDone, Failed> {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            for handle in self.handles() {
                let status = handle.status().wait().unwrap();
                if status.role == RoleName::Leader {
                    match order(&handle).wait() {
                        Err(Failed::NotExecuted(
                            NotExecuted::Refused(_) | NotExecuted::Change(ChangeError::UnderWay),
                        )) => {}
                        result => return result,
                    }
                }
            }
            assert!(Instant::now() < patience, "nobody leads");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn change(&self, changes: &[MemberChange]) {
        self.order(|handle| handle.change_members(changes.to_vec(), false)).unwrap();
    }

    /// Waits until those are the voters, and no change is under way.
    fn wait_for_voters(&self, voters: &[u64]) {
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            for handle in self.handles() {
                let (status, members) = (handle.status().wait().unwrap(), handle.members().wait().unwrap());
                let now = members.members().iter().filter(|member| member.votes()).map(|member| member.id.get());
                if status.role == RoleName::Leader && !members.is_joint() && now.eq(voters.iter().copied()) {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the voters never were {voters:?}");
    }

    fn stop(&mut self, node: u64) {
        let node = self.nodes.remove(&node).unwrap();
        node.handle().stop();
        node.join().unwrap();
    }

    /// Waits until a node that was removed has noticed, and stopped.
    fn wait_for_removed(&mut self, node: u64) {
        let ended = self.nodes.remove(&node).unwrap().join();
        assert!(matches!(ended, Err(Stopped::Expelled(Expulsion::Removed { .. }))), "{ended:?}");
    }
}

#[test]
fn every_member_is_replaced_while_commands_go_on() {
    let mut cluster = Cluster::default();
    (1..=3).for_each(|node| cluster.launch(node, false));
    let counting = Arc::new(AtomicBool::new(true));
    let hub_handles = Arc::new(std::sync::Mutex::new(cluster.handles()));
    let client = {
        let (counting, handles) = (Arc::clone(&counting), Arc::clone(&hub_handles));
        thread::spawn(move || {
            let (mut done, mut unknown) = (0, 0);
            while counting.load(Ordering::Relaxed) {
                for handle in handles.lock().unwrap().clone() {
                    match handle.propose_plain(b"x".to_vec()).wait() {
                        Ok(_) => done += 1,
                        Err(Failed::Unknown) => unknown += 1,
                        Err(Failed::NotExecuted(_)) => thread::sleep(Duration::from_millis(1)),
                    }
                }
            }
            (done, unknown)
        })
    };
    (4..=5).for_each(|node| cluster.launch(node, true));
    *hub_handles.lock().unwrap() = cluster.handles();
    let add = |node| MemberChange::Add(Member::new(id(node), Suffrage::Joining, "").unwrap());
    cluster.change(&[add(4), add(5)]);
    cluster.wait_for_voters(&[1, 2, 3, 4, 5]);
    cluster.order(|handle| handle.transfer(Some(id(4)))).unwrap();
    cluster.launch(6, true);
    cluster.change(&[add(6)]);
    cluster.wait_for_voters(&[1, 2, 3, 4, 5, 6]);
    cluster.change(&[1, 2, 3].map(|node| MemberChange::Remove(id(node))));
    cluster.wait_for_voters(&[4, 5, 6]);
    *hub_handles.lock().unwrap() = (4..=6).map(|node| cluster.nodes[&node].handle()).collect();
    (1..=3).for_each(|node| cluster.wait_for_removed(node));
    thread::sleep(Duration::from_millis(300));
    counting.store(false, Ordering::Relaxed);
    let (done, unknown) = client.join().unwrap();
    let handle = cluster.nodes[&5].handle();
    let patience = Instant::now() + Duration::from_secs(60);
    let sum = loop {
        match handle.read(Consistency::Linearizable, Vec::new()).wait() {
            Ok(bytes) => break u64::from_le_bytes(bytes.try_into().unwrap()),
            Err(error) => assert!(Instant::now() < patience, "no read within a minute: {error}"),
        }
    };
    assert!(done > 0, "commands were done");
    assert!((done..=done + unknown).contains(&sum), "{done} done and {unknown} unknown, and {sum} were counted");
    (4..=6).for_each(|node| cluster.stop(node));
}
