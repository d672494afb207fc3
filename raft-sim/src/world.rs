//! The world: nodes, clients and the network between them, in one thread and in virtual time.

mod clients;
mod disks;
mod engines;
mod faults;
mod heal;
mod judged;
mod machines;
mod nodes;
mod operators;
mod settled;
mod strangers;
mod supervisors;
mod turns;

use std::collections::BTreeMap;

use raft_core::client::protocol::Consistency;
use raft_core::configuration::{Configuration, Member};
use raft_core::transport::ClientId;
use raft_core::types::{ClusterId, Incarnation, Index, NodeId};
use raft_storage_file::Identity;

use crate::check::histories::Checked;
use crate::client::Client;
use crate::connections::address;
use crate::coverage::Coverage;
use crate::endpoint::Packet;
use crate::judge::Judge;
use crate::network::{Arrival, Links, Parcel, Place};
use crate::node::Node;
use crate::options::Options;
use crate::queue::Queue;
use crate::random::Random;
use crate::thread::NodeClock;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::Workload;

use engines::EngineCaller;

pub(crate) use faults::Fault;

/// Microseconds in a millisecond: the world counts those, nodes and clients these.
pub(crate) const MILLI: u64 = 1_000;
/// The cluster's id.
const CLUSTER: ClusterId = ClusterId(0xc1);

/// What is on its way.
#[derive(Clone, Debug)]
pub(crate) enum Mail {
    Message(Packet),
    /// And whether it must not arrive twice.
    Request(Vec<u8>, bool),
    /// And the last entry that was applied where it was given.
    Response(Vec<u8>, Index),
}

impl Parcel for Mail {
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Mail::Message(packet) => &mut packet.frame,
            Mail::Request(frame, _) | Mail::Response(frame, _) => frame,
        }
    }

    fn damaged(&mut self) {
        if let Mail::Message(packet) = self {
            packet.damaged = true;
        }
    }

    fn may_repeat(&self) -> bool {
        !matches!(self, Mail::Request(_, true))
    }
}

/// Something that is due.
#[derive(Debug)]
pub(crate) enum Due {
    /// The loop of the node in that place is turned, unless it was turned since.
    Turn(usize, u64),
    /// A client acts.
    Client(usize, u64),
    /// An engine acts.
    Engine(usize, u64),
    Arrival(Place, Place, Mail),
    Fault(Fault),
    /// The node in that place starts again.
    Start(usize),
    /// Its process runs on.
    Resume(usize),
    /// What was cut between two places is whole again.
    Mend(Place, Place),
    /// The node in that place reads its sockets again.
    Read(usize),
    /// It is killed, if it still is in that life.
    Kill(usize, u64),
    /// Its disk is taken away for the copy that was made of it once.
    Restore(usize),
    /// An operator looks after a node whose disk was a copy.
    LookAfter(usize),
    /// Its disk has room again.
    Room(usize),
    /// Its power goes.
    PowerLoss(usize),
    /// Somebody reads from the node of that id, which was replaced as leader.
    Doubt(u64),
}

/// How a client's turns are counted.
struct Caller {
    client: Client,
    act_number: u64,
}

/// A world of one seed.
pub(crate) struct World<W: Workload> {
    pub(crate) options: Options,
    pub(crate) now: u64,
    random: Random,
    workload: W,
    queue: Queue<Due>,
    links: Links<Mail>,
    arrivals: Vec<Arrival<Mail>>,
    nodes: Vec<Node<W::Machine>>,
    clients: Vec<Caller>,
    engines: Vec<EngineCaller>,
    /// Which process, and which life of it, is at the other end of each connection of an engine.
    sockets: BTreeMap<u64, (usize, u64)>,
    first: Configuration,
    /// The highest id that any node was given.
    ids: u64,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    /// The node whose links go down and up, and whether they are down.
    flapping: Option<(u64, bool)>,
    /// The nodes that are kept from all others until one that has lost entries was told so, and which one that is.
    aside: Option<(usize, Vec<u64>)>,
    /// When a client was told last that the table of sessions was full.
    refused_for_room_at: Option<u64>,
    /// Whether faults happen.
    faulty: bool,
    /// Whether clients begin new operations.
    open: bool,
    /// How many operations were begun.
    pub(crate) begun: usize,
    /// How many histories were checked in the end.
    pub(crate) checked: Checked,
}

impl<W: Workload> World<W> {
    pub(crate) fn new(options: Options, mut random: Random, workload: W, trace: Trace) -> World<W> {
        let members = (1..=options.nodes).map(|id| {
            let incarnation = Some(Incarnation(u128::from(random.bits())));
            let id = NodeId::new(id).expect("ids begin at 1");
            Member { incarnation, ..Member::voter(id, &address(id)).expect("addresses are short enough") }
        });
        let members: Vec<Member> = members.collect();
        let first = Configuration::new(CLUSTER, options.limits, members.iter().cloned())
            .expect("the members and limits that are drawn are valid");
        let first = match options.lease {
            Some(lease) => first.with_lease(lease).expect("the leases that are drawn are valid"),
            None => first,
        };
        let judge = Judge::new(&options);
        let mut world = World {
            links: Links::new(random.fork(), options.network),
            ids: options.nodes,
            now: 0,
            workload,
            queue: Queue::new(),
            arrivals: Vec::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            engines: Vec::new(),
            sockets: BTreeMap::new(),
            first,
            judge,
            trace,
            coverage: Coverage::default(),
            flapping: None,
            aside: None,
            refused_for_room_at: None,
            faulty: true,
            open: true,
            begun: 0,
            checked: Checked::default(),
            random,
            options,
        };
        for member in members {
            let identity = Identity {
                cluster: CLUSTER,
                node: member.id,
                incarnation: member.incarnation.unwrap_or(Incarnation(0)),
            };
            world.add_node(identity, None);
        }
        for number in 0..world.options.clients {
            world.add_client(number);
        }
        for _ in 0..world.options.engines.engines {
            world.add_engine();
        }
        world.plan_faults();
        world
    }

    /// Puts up a machine whose disk is empty, and starts it.
    fn add_node(&mut self, identity: Identity, joins: Option<Configuration>) -> usize {
        let drift = self.options.clocks.drift;
        let rate = 1_000_000 - drift / 2 + self.random.below(drift + 1);
        // No two nodes were started at the same time.
        let clock = NodeClock::new(rate, self.random.below(100_000_000));
        let place = self.nodes.len();
        self.nodes.push(Node::new(identity, self.random.fork(), clock, joins));
        self.queue.put(self.now, Due::Start(place));
        place
    }

    /// Lets time pass until `end` (microseconds).
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub(crate) fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while let Some((at, due)) = self.queue.take_before(end) {
            self.now = at;
            self.handle(due)?;
        }
        self.now = end;
        Ok(())
    }

    fn handle(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Turn(place, number) => self.turn_if(place, number),
            Due::Client(client, number) => self.client_turn(client, number),
            Due::Engine(engine, number) => self.engine_turn(engine, number),
            Due::Arrival(from, to, mail) => self.arrive(from, to, mail),
            Due::Fault(fault) => self.fault(fault),
            Due::Start(place) => self.start(place),
            Due::Resume(place) => self.resume(place),
            Due::Mend(from, to) => {
                self.links.mend(from, to);
                Ok(())
            }
            Due::Read(place) => self.read_sockets(place),
            Due::Kill(place, lives) => {
                self.kill(place, lives);
                Ok(())
            }
            Due::Restore(place) => self.restore(place),
            Due::LookAfter(place) => {
                self.look_after(place);
                Ok(())
            }
            Due::Room(place) => self.make_room(place),
            Due::PowerLoss(place) => self.power_goes(place),
            Due::Doubt(id) => {
                self.ask(id, Consistency::Lease);
                Ok(())
            }
        }
    }

    /// Hands a parcel to the network.
    fn send(&mut self, after: u64, from: Place, to: Place, mail: Mail) {
        let mut arrivals = core::mem::take(&mut self.arrivals);
        self.links.send(self.now + after, (from, to), mail, &mut arrivals);
        for (latency, from, to, mail) in arrivals.drain(..) {
            self.queue.put(self.now + after + latency, Due::Arrival(from, to, mail));
        }
        self.arrivals = arrivals;
    }

    fn arrive(&mut self, from: Place, to: Place, mail: Mail) -> Result<(), Violation> {
        match (from, to, mail) {
            (Place::Client(client), Place::Node(id), Mail::Request(frame, _)) if Self::is_engine(client) => {
                self.arrive_from_engine(client, id, &frame);
            }
            (_, Place::Node(id), mail @ (Mail::Message(_) | Mail::Request(..))) => match self.reach(id) {
                Some(place) => self.deliver(place, from, mail),
                None => {
                    if let Place::Client(client) = from {
                        self.hang_up(client, id)?;
                    }
                }
            },
            (Place::Node(id), Place::Client(client), Mail::Response(frame, applied)) if Self::is_engine(client) => {
                self.arrive_at_engine(client, id, frame, applied)?;
            }
            (Place::Node(id), Place::Client(client), Mail::Response(frame, applied)) => {
                self.answer(client, id, &frame, applied)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Something has come to the machine of node `id`: to a process that reads its sockets, or not yet.
    fn deliver(&mut self, place: usize, from: Place, mail: Mail) {
        let now = self.now;
        let node = self.nodes_mut(place);
        if node.is_asleep() {
            return;
        }
        if node.unread.until > now && node.unread.from.is_none_or(|neglected| neglected == from) {
            node.unread.mail.push((from, mail));
            return;
        }
        let seen = !node.is_interrupted();
        match (from, mail) {
            (_, Mail::Message(packet)) => node.post.borrow_mut().take_packet(packet, seen),
            (Place::Client(client), Mail::Request(frame, _)) => {
                node.post.borrow_mut().take_request(ClientId(client as u64), frame.clone(), seen);
                self.overhear(place, client, &frame);
            }
            _ => return,
        }
        self.wake(place);
    }

    /// A process at the address of node `id`, if one listens: of two that claim it, either, until the faults end.
    fn reach(&mut self, id: u64) -> Option<usize> {
        let listens = |(_, node): &(usize, &Node<W::Machine>)| node.id.get() == id && node.process().is_some();
        let mut listening = self.nodes.iter().enumerate().filter(listens).map(|(place, _)| place);
        let (first, second) = (listening.next()?, listening.next());
        match second {
            Some(second) if self.faulty && self.random.chance(500_000) => Some(second),
            _ => Some(first),
        }
    }

    /// The highest term of any node.
    pub(crate) fn term_max(&self) -> u64 {
        let terms =
            self.nodes.iter().filter_map(|node| node.process()).map(|process| process.replica().raft().term().0);
        terms.max().unwrap_or(0)
    }

    fn nodes_mut(&mut self, place: usize) -> &mut Node<W::Machine> {
        self.nodes.get_mut(place).expect("nodes are never taken away from the list")
    }
}
