//! Nodes' processes: how they start, are turned, and end.

use std::fmt::Write;

use raft_core::client::protocol::{ResponseBody, RoleName};
use raft_core::raft::config::Config;
use raft_core::raft::event::{Event, Expulsion};
use raft_core::replica::PollError;
use raft_core::session::operation::{Outcome, Refusal};
use raft_core::transport::ClientId;
use raft_core::types::{Index, NodeId};
use raft_node::{Stopped, Turn};
use raft_storage_file::simulated::Fate;

use super::{Due, MILLI, Mail, World};
use crate::endpoint::{Departing, Packet, response_in};
use crate::network::Place;
use crate::node::{CannotStart, Hearing, Node, State};
use crate::violation::Violation;
use crate::workload::Workload;

/// What a turn takes at most, besides its syncs, in microseconds.
const TURN_MICROS_MAX: u64 = 100;
/// The most requests of clients that wait at one node; a network would not read further from its clients.
const REQUESTS_MAX: usize = 256;

impl<W: Workload> World<W> {
    /// Starts the process of a node, if there is none.
    pub(super) fn start(&mut self, place: usize) -> Result<(), Violation> {
        let (now, seed) = (self.now, self.random.bits() | 1);
        let (first, machine) = (self.first.clone(), self.workload.machine());
        let id = self.nodes_mut(place).id;
        let raft = Config { seed, ..self.options.raft_of(id) };
        let segment_bytes = self.options.segment_bytes;
        let node = self.nodes_mut(place);
        if !matches!(node.state, State::Down) {
            return Ok(());
        }
        let started = node.start(now, raft, &first, segment_bytes, machine);
        let (id, lives) = (node.id, node.lives);
        self.trace.note(now, &[1, id.get(), lives], |line| write!(line, "node {id} starts"));
        match started {
            Ok(()) => {
                self.copy_disk(place);
                self.judge_start(place)?;
                self.wake(place);
                Ok(())
            }
            Err(error) => self.could_not_start(place, &error),
        }
    }

    /// Somebody makes a copy of the node's files now and then, and may bring it back one day.
    fn copy_disk(&mut self, place: usize) {
        if self.options.processes.restored > 0 && self.random.chance(500_000) {
            let node = self.nodes_mut(place);
            node.old_disk = Some(node.disk.after_power_loss(|_| Fate::Lost));
        }
    }

    fn could_not_start(&mut self, place: usize, error: &CannotStart) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes_mut(place);
        let (id, tampered, may_stop) = (node.id, node.tampered, node.may_stop);
        self.trace.say(now, &format!("node {id} cannot start: {error}"));
        if tampered {
            // It is refused for good, as it should be: an operator replaces it.
            self.nodes_mut(place).state = State::Gone;
            self.coverage.count("storage", "refused at start");
            self.settle_as(place, "is refused at its start");
            return Ok(());
        }
        if may_stop {
            // A call failed while it started, or the power went. It is tried again.
            self.lose_power(place);
            self.queue.put(now + 100 * MILLI, Due::Start(place));
            return Ok(());
        }
        Err(Violation::CannotStart { node: id, error: error.to_string() })
    }

    /// Has the loop turned as soon as the node is free.
    pub(super) fn wake(&mut self, place: usize) {
        let now = self.now;
        let node = self.nodes_mut(place);
        let at = now.max(node.busy_until);
        self.turn_by(place, at);
    }

    fn turn_by(&mut self, place: usize, at: u64) {
        let node = self.nodes_mut(place);
        if at >= node.turn_at {
            return;
        }
        node.turn_at = at;
        node.turn_number += 1;
        let number = node.turn_number;
        self.queue.put(at, Due::Turn(place, number));
    }

    pub(super) fn turn_if(&mut self, place: usize, number: u64) -> Result<(), Violation> {
        if self.nodes_mut(place).turn_number == number { self.turn(place) } else { Ok(()) }
    }

    /// Turns the loop of a node once.
    fn turn(&mut self, place: usize) -> Result<(), Violation> {
        let now = self.now;
        self.close_links(place);
        let node = self.nodes_mut(place);
        node.turn_at = u64::MAX;
        let State::Up(process) = &mut node.state else { return Ok(()) };
        node.clock.show(now);
        let syncs = process.replica().raft().storage().inner().metrics();
        let mut hearing = Hearing::default();
        let turned = process.turn(&mut hearing);
        let after = process.replica().raft().storage().inner().metrics();
        let syncs = (after.syncs - syncs.syncs) + 3 * (after.rotations - syncs.rotations);
        node.disk.forget_calls();
        let works = self.time_of_turn(place, syncs);
        self.judge_turn(place, &mut hearing)?;
        self.watch(place, &hearing);
        self.settle(place);
        self.nodes_mut(place).note_configuration();
        self.depart(place, works)?;
        match turned {
            Ok(Turn::By(at)) => {
                let node = self.nodes_mut(place);
                node.busy_until = now + works;
                let at = node.clock.moment(at).max(node.busy_until);
                self.turn_by(place, at);
                if !self.nodes_mut(place).post.borrow().arrived.is_empty() {
                    self.wake(place);
                }
                Ok(())
            }
            Ok(Turn::Ended) => {
                let id = self.nodes_mut(place).id;
                self.trace.say(now, &format!("node {id} has stopped"));
                self.coverage.count("stop", "ended in order");
                self.nodes_mut(place).end_process();
                self.start_later(place);
                Ok(())
            }
            Err(stopped) => self.stopped(place, &stopped),
        }
    }

    /// How long a turn takes that has synced so often.
    fn time_of_turn(&mut self, place: usize, syncs: u64) -> u64 {
        let disks = self.options.disks;
        let now = self.now;
        let stalls = self.nodes_mut(place).stalled_until > now;
        let mut works = self.random.between(1, TURN_MICROS_MAX);
        for _ in 0..syncs {
            let most = if stalls { disks.stall_max } else { disks.sync_max };
            works += self.random.between(disks.sync_min, most);
        }
        works
    }

    /// Some links take nothing for a turn: their buffers are full.
    fn close_links(&mut self, place: usize) {
        let mut closed = std::collections::BTreeSet::new();
        let ids = self.ids;
        if self.faulty && self.random.chance(50_000) {
            closed = (1..=ids).filter(|_| self.random.chance(500_000)).filter_map(NodeId::new).collect();
        }
        let (now, here) = (self.now, Place::Node(self.nodes_mut(place).id.get()));
        let full = (1..=ids).filter(|id| self.links.is_full(now, here, Place::Node(*id)));
        closed.extend(full.filter_map(NodeId::new));
        self.nodes_mut(place).post.borrow_mut().closed = closed;
    }

    /// Sends what a node has sent. It leaves when the turn is over, for it may rest on what that turn has saved.
    fn depart(&mut self, place: usize, after: u64) -> Result<(), Violation> {
        let node = self.nodes_mut(place);
        let (id, incarnation) = (node.id, node.identity.incarnation);
        let applied = node.process().map_or(Index::ZERO, |process| process.replica().raft().last_applied());
        let departing = core::mem::take(&mut node.post.borrow_mut().departing);
        for departing in departing {
            match departing {
                Departing::Message { to, meant_for, frame } => {
                    self.trace_message(id, &frame);
                    let packet = Packet { from: id, incarnation, meant_for, frame, damaged: false };
                    self.send(after, Place::Node(id.get()), Place::Node(to.get()), Mail::Message(packet));
                }
                Departing::Response { client, frame } => {
                    let Ok(client) = usize::try_from(client.0) else { continue };
                    if let Some(response) = response_in(&frame) {
                        self.trace.note(self.now, &[6, id.get(), client as u64, response.id.0], |line| {
                            write!(line, "{id}>client {client} {response:?}")
                        });
                        self.judge.answers(client, id, applied, &response)?;
                        if let ResponseBody::Outcome(Outcome::Refused(Refusal::TableFull { .. })) = response.body {
                            self.refused_for_room_at = Some(self.now);
                        }
                    }
                    self.send(after, Place::Node(id.get()), Place::Client(client), Mail::Response(frame));
                }
            }
        }
        Ok(())
    }

    fn trace_message(&mut self, from: NodeId, frame: &[u8]) {
        let sum = u64::from(raft_core::crc::crc32c(0, frame));
        self.trace.note(self.now, &[2, from.get(), sum], |line| {
            let body = frame.get(raft_transport_tcp::frame::FRAME_HEADER_BYTES..).unwrap_or(&[]);
            match raft_core::message::Message::decode(body) {
                Ok(message) => {
                    write!(line, "{from}>{} term {} {:?}", message.to, message.term, message.body)
                }
                Err(_) => write!(line, "{from}> what nobody can read"),
            }
        });
    }

    /// Takes note of what a node has told.
    fn watch(&mut self, place: usize, hearing: &Hearing) {
        let (now, id) = (self.now, self.nodes_mut(place).id);
        for event in &hearing.events {
            self.trace.say(now, &format!("node {id}: {event:?}"));
            self.coverage.event(event);
            if matches!(event, Event::BecameLeader { .. }) {
                self.doubt_older_leaders(place);
            }
        }
        for (from, error) in &hearing.ignored {
            self.trace.say(now, &format!("node {id} ignores a message of {from}: {error}"));
            self.coverage.count("message", "ignored");
        }
    }

    /// A process has ended by itself.
    fn stopped(
        &mut self,
        place: usize,
        stopped: &Stopped<raft_storage_file::StorageError, std::convert::Infallible>,
    ) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes_mut(place);
        let (id, may_stop, tampered) = (node.id, node.may_stop, node.tampered);
        self.trace.say(now, &format!("node {id} has ended: {stopped:?}"));
        match stopped {
            Stopped::Expelled(expulsion) => {
                self.coverage.count("member", "told that it is none");
                // While it is there to be asked: it may be the last one that is up, and those that know better be down.
                let member = self.latest_configuration().member(id).is_some() && !self.is_known_without(id, expulsion);
                self.nodes_mut(place).end_process();
                self.nodes_mut(place).state = State::Gone;
                self.settle_as(place, "is told that it is no member");
                self.judge.expelled(id, tampered, member)
            }
            Stopped::Replica(PollError::Diverged { .. } | PollError::UnknownOperation { .. }) => {
                Err(Violation::Stopped { node: id, error: format!("{stopped:?}") })
            }
            Stopped::Replica(_) if may_stop => {
                self.coverage.count("storage", "stopped by an error");
                self.lose_power(place);
                self.start_later(place);
                Ok(())
            }
            Stopped::Replica(_) if tampered => {
                // What cannot be read now may be read at a start, or be refused there.
                self.coverage.count("storage", "stopped by decay");
                self.nodes_mut(place).end_process();
                self.start_later(place);
                Ok(())
            }
            _ => Err(Violation::Stopped { node: id, error: format!("{stopped:?}") }),
        }
    }

    /// Whether the entry that is said to have removed a node is known to some node, up or down, and does so.
    fn is_known_without(&self, id: NodeId, expulsion: &Expulsion) -> bool {
        let Expulsion::Removed { by } = expulsion else { return false };
        let known = self.nodes.iter().flat_map(|node| &node.configurations);
        known.filter(|(entry, _)| entry == by).any(|(_, configuration)| configuration.member(id).is_none())
    }

    /// A process that ended is started again before long; at once when the faults are over, for it may be one that is needed:
    /// a node that was told to stop just before does so yet.
    pub(super) fn start_later(&mut self, place: usize) {
        let most = if self.faulty { self.options.processes.down_max_millis.max(1) } else { 1 };
        let after = self.random.between(1, most) * MILLI;
        self.queue.put(self.now + after, Due::Start(place));
    }

    pub(super) fn resume(&mut self, place: usize) -> Result<(), Violation> {
        let node = self.nodes_mut(place);
        if let State::Paused(_) = node.state
            && let State::Paused(process) = core::mem::replace(&mut node.state, State::Down)
        {
            node.state = State::Up(process);
            self.wake(place);
        }
        Ok(())
    }

    pub(super) fn take_request(&mut self, place: usize, client: usize, frame: Vec<u8>) {
        let node = self.nodes_mut(place);
        let mut post = node.post.borrow_mut();
        if post.requests.len() < REQUESTS_MAX {
            post.requests.push_back((ClientId(client as u64), frame));
        }
        drop(post);
        self.wake(place);
    }

    /// The nodes that lead, or believe so.
    pub(super) fn leaders(&self) -> impl Iterator<Item = usize> + '_ {
        let leads = |node: &Node<W::Machine>| {
            node.process().is_some_and(|process| process.replica().raft().role() == RoleName::Leader)
        };
        (0..self.nodes.len()).filter(move |place| self.nodes.get(*place).is_some_and(leads))
    }
}
