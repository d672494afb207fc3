//! A cluster in one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use raft_core::client::protocol::RoleName;
use raft_core::clock::Clock;
use raft_core::configuration::Configuration;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::replica::Observer;
use raft_core::session::operation::Outcome;
use raft_core::types::{EntryId, Instant, NodeId};
use raft_node::memory::{MemoryHub, MemoryNetwork, MemoryStorage};
use raft_node::{EventLoop, Failed, Handle, NodeOptions, NodeReplica, Pending};

/// Adds the first bytes of commands.
#[derive(Debug, Default)]
pub(crate) struct Adder(u64);

impl StateMachine for Adder {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
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

/// Hears of nothing.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn applied(&mut self, _: EntryId, _: Option<Outcome<'_>>) {}
    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}
    fn ignored(&mut self, _: NodeId, _: StepError) {}
}

type Interruption = Box<dyn FnOnce()>;

/// A clock that all nodes share. A node's thread can be made to lose the processor right after it has looked at it.
#[derive(Clone, Default)]
pub(crate) struct SharedClock {
    now: Rc<Cell<u64>>,
    /// What happens meanwhile, and before which look that is: 0 is the next one.
    interruption: Rc<RefCell<Option<(usize, Interruption)>>>,
}

impl Clock for SharedClock {
    fn now(&self) -> Instant {
        let now = Instant(self.now.get());
        let due = self.interruption.borrow_mut().as_mut().is_some_and(|(looks, _)| {
            let due = *looks == 0;
            *looks = looks.saturating_sub(1);
            due
        });
        if due {
            let taken = self.interruption.borrow_mut().take();
            if let Some((_, interruption)) = taken {
                interruption();
            }
        }
        now
    }
}

type Loop = EventLoop<MemoryStorage, MemoryNetwork, Adder, SharedClock>;

pub(crate) fn id(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

struct Node {
    event_loop: RefCell<Loop>,
    handle: Handle,
    clock: SharedClock,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) hub: MemoryHub,
    now: Rc<Cell<u64>>,
    nodes: Rc<Vec<Node>>,
}

impl World {
    pub(crate) fn new(configuration: &Configuration, raft: Config) -> World {
        let (hub, now) = (MemoryHub::new(), Rc::new(Cell::new(0)));
        let nodes = configuration.members().iter().map(|member| {
            let (network, peers) = hub.join(member.id);
            let clock = SharedClock { now: Rc::clone(&now), interruption: Rc::default() };
            let raft = Config { seed: member.id.get(), ..raft };
            let options = NodeOptions { raft, ..NodeOptions::new(member.id) };
            let (mut storage, machine) = (MemoryStorage::new(), Adder::default());
            raft_node::create(&mut storage, configuration).unwrap();
            let (event_loop, handle) =
                EventLoop::new(options, storage, network, peers, machine, clock.clone()).unwrap();
            Node { event_loop: RefCell::new(event_loop), handle, clock }
        });
        let nodes = Rc::new(nodes.collect());
        World { hub, now, nodes }
    }

    fn node(&self, node: u64) -> &Node {
        &self.nodes[usize::try_from(node).unwrap() - 1]
    }

    pub(crate) fn handle(&self, node: u64) -> Handle {
        self.node(node).handle.clone()
    }

    pub(crate) fn turn(&self, node: u64) {
        self.node(node).event_loop.borrow_mut().turn(&mut Nobody).unwrap();
    }

    /// Time passes, in which these nodes run and others do not.
    pub(crate) fn run(&self, some: &[u64], millis: u64) {
        for _ in 0..millis / 10 {
            self.now.set(self.now.get() + 10);
            for _ in 0..3 {
                some.iter().for_each(|&node| self.turn(node));
            }
        }
    }

    pub(crate) fn look<T>(
        &self,
        node: u64,
        look: impl FnOnce(&NodeReplica<MemoryStorage, MemoryNetwork, Adder>) -> T,
    ) -> T {
        look(self.node(node).event_loop.borrow().replica())
    }

    pub(crate) fn leads(&self, node: u64) -> bool {
        self.look(node, |replica| replica.raft().role() == RoleName::Leader)
    }

    /// Lets these nodes elect one of them.
    pub(crate) fn elect(&self, some: &[u64]) -> u64 {
        for _ in 0..1000 {
            self.run(some, 50);
            if let Some(leader) = some.iter().copied().find(|&node| self.leads(node)) {
                self.run(some, 2000);
                if self.leads(leader) {
                    return leader;
                }
            }
        }
        panic!("no leader");
    }

    /// The two others of three.
    pub(crate) fn others(&self, node: u64) -> [u64; 2] {
        [node % 3 + 1, (node + 1) % 3 + 1]
    }

    /// Nothing passes between a node and those.
    pub(crate) fn part(&self, node: u64, others: &[u64]) {
        for &other in others {
            self.hub.cut(id(node), id(other));
            self.hub.cut(id(other), id(node));
        }
    }

    /// Adds so much, by that node, and waits until it has the answer.
    pub(crate) fn add(&self, node: u64, some: &[u64], amount: u8) {
        let mut done = self.handle(node).propose_plain(vec![amount]);
        self.run(some, 100);
        assert!(answer(&mut done).is_some_and(|it| it.is_ok()));
    }

    /// The node's thread loses the processor after so many more looks at its clock; meanwhile that happens.
    pub(crate) fn interrupt(&self, node: u64, looks: usize, interruption: impl FnOnce() + 'static) {
        *self.node(node).clock.interruption.borrow_mut() = Some((looks, Box::new(interruption)));
    }
}

/// The answer, if it is there.
pub(crate) fn answer<T>(pending: &mut Pending<T>) -> Option<Result<T, Failed>> {
    match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
