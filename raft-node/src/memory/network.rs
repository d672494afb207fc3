//! A network within one process: nodes joined by a hub, with links that can be cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raft_core::client::protocol::{Request, Response};
use raft_core::message::Message;
use raft_core::transport::{ClientId, Network, Transport, Wake};
use raft_core::types::{Millis, NodeId};
use thiserror::Error;

/// The most messages that wait for one node; its peers' links are full until it takes some.
const MESSAGES_MAX: usize = 1024;
/// The most bytes of entries in a message.
const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Joins nodes into a network.
#[derive(Clone, Debug, Default)]
pub struct MemoryHub(Arc<Mutex<Links>>);

#[derive(Debug, Default)]
struct Links {
    inboxes: BTreeMap<NodeId, Arc<Inbox>>,
    /// Pairs (from, to) between which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
}

#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<Arrived>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Arrived {
    messages: VecDeque<Vec<u8>>,
    woken: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The states here are whole between any two statements, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryHub {
    /// A hub without nodes.
    #[must_use]
    pub fn new() -> MemoryHub {
        MemoryHub::default()
    }

    /// Joins `node`: its network and its links. A node that joins again takes its place anew.
    #[must_use]
    pub fn join(&self, node: NodeId) -> (MemoryNetwork, MemoryPeers) {
        let inbox = Arc::new(Inbox::default());
        lock(&self.0).inboxes.insert(node, Arc::clone(&inbox));
        let peers = MemoryPeers { node, hub: self.clone(), inbox: Arc::clone(&inbox), current: Vec::new() };
        (MemoryNetwork { inbox }, peers)
    }

    /// Lets nothing pass from `from` to `to` any more.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        lock(&self.0).cut.insert((from, to));
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        lock(&self.0).cut.clear();
    }

    fn inbox(&self, from: NodeId, to: NodeId) -> Option<Arc<Inbox>> {
        let links = lock(&self.0);
        if links.cut.contains(&(from, to)) { None } else { links.inboxes.get(&to).cloned() }
    }
}

/// The links of one node. The hub knows every node that has joined it by its id, member or not: so nothing is made of a
/// configuration here, and as there is no handshake, nobody's incarnation is met.
#[derive(Debug)]
pub struct MemoryPeers {
    node: NodeId,
    hub: MemoryHub,
    inbox: Arc<Inbox>,
    /// The message that was taken last.
    current: Vec<u8>,
}

impl Transport for MemoryPeers {
    fn receive(&mut self) -> Option<Message<'_>> {
        self.current = lock(&self.inbox.state).messages.pop_front()?;
        Some(Message::decode(&self.current).expect("the hub carries what nodes encoded"))
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        let inbox = self.hub.inbox(self.node, peer)?;
        let waiting = lock(&inbox.state).messages.len();
        (waiting < MESSAGES_MAX).then_some(ENTRY_BYTES_MAX)
    }

    fn send(&mut self, message: &Message<'_>) {
        let Some(inbox) = self.hub.inbox(self.node, message.to) else { return };
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).expect("the buffer has room for the message");
        bytes.truncate(length);
        let mut arrived = lock(&inbox.state);
        if arrived.messages.len() < MESSAGES_MAX {
            arrived.messages.push_back(bytes);
            inbox.news.notify_one();
        }
    }

    fn flush(&mut self) {}
}

/// What one node waits for.
#[derive(Debug)]
pub struct MemoryNetwork {
    inbox: Arc<Inbox>,
}

/// A network in memory has no way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the network is gone")]
pub enum Disconnected {}

/// Wakes a node.
#[derive(Clone, Debug)]
pub struct MemoryWaker(Arc<Inbox>);

impl Wake for MemoryWaker {
    fn wake(&self) {
        lock(&self.0.state).woken = true;
        self.0.news.notify_one();
    }
}

impl Network for MemoryNetwork {
    type Peers = MemoryPeers;
    type Waker = MemoryWaker;
    type Error = Disconnected;

    fn waker(&self) -> MemoryWaker {
        MemoryWaker(Arc::clone(&self.inbox))
    }

    fn wait(&mut self, _: &mut MemoryPeers, timeout: Option<Millis>) -> Result<(), Disconnected> {
        let until = timeout.map(|timeout| Instant::now() + Duration::from_millis(timeout.0));
        let mut arrived = lock(&self.inbox.state);
        while arrived.messages.is_empty() && !arrived.woken {
            let news = &self.inbox.news;
            arrived = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => news.wait(arrived).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => news.wait_timeout(arrived, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        arrived.woken = false;
        Ok(())
    }

    fn request(&mut self) -> Option<(ClientId, Request<'_>)> {
        None // Programs in the same process use the handle.
    }

    fn respond(&mut self, _: ClientId, _: &Response<'_>) {}

    fn flush(&mut self) {}
}
