//! Turns of nodes' loops: when they happen, what they see, how long they take, and what interrupts them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::rc::Rc;

use raft_core::client::protocol::ResponseBody;
use raft_core::message::Message;
use raft_core::session::operation::{Outcome, Refusal};
use raft_core::types::{Index, NodeId};
use raft_node::Turn;

use super::{Due, MILLI, Mail, World};
use crate::endpoint::{Departing, Packet, response_in};
use crate::judge::node_view;
use crate::network::Place;
use crate::node::{Hearing, Interrupting, State};
use crate::thread::{Interruption, Pace};
use crate::violation::Violation;
use crate::workload::Workload;

/// What a turn takes at most, besides its syncs and calls, in microseconds.
const TURN_MICROS_MAX: u64 = 100;
/// What a call of the loop takes at most, in microseconds, and what it takes in a slow turn.
const CALL_MICROS_MAX: u64 = 2;
const SLOW_CALL_MICROS_MAX: u64 = 3_000;
/// An interruption that is to come after the last call of a turn.
const AFTER_THE_TURN: u64 = u64::MAX;

impl<W: Workload> World<W> {
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
        self.nodes_mut(place).turn_at = u64::MAX;
        if !self.is_up(place) || self.is_interrupted(place) {
            return Ok(());
        }
        self.close_links(place);
        let committed = self.begin_turn(place);
        let node = self.nodes_mut(place);
        let State::Up(process) = &mut node.state else { return Ok(()) };
        let mut hearing = Hearing::new(Rc::clone(&node.thread));
        let before = process.replica().raft().storage().syncs();
        let turned = process.turn(&mut hearing);
        let syncs = process.replica().raft().storage().syncs() - before;
        let works = node.thread.end(syncs) - now;
        node.disk.forget_calls();
        node.post.borrow_mut().let_in_packets();
        node.post.borrow_mut().let_in_requests();
        self.judge_turn(place, &mut hearing)?;
        self.watch(place, &hearing);
        self.settle(place);
        self.nodes_mut(place).note_configuration();
        self.judge_taken(place, committed);
        self.depart(place, works)?;
        match turned {
            Ok(Turn::By(at)) => {
                let node = self.nodes_mut(place);
                node.busy_until = now + works;
                let at = node.thread.clock.get().moment(at).max(node.busy_until);
                self.turn_by(place, at);
                if self.nodes_mut(place).post.borrow().is_waiting() {
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

    /// If the thread is to lose the processor in the turn that would begin now, it does so: the turn is run when it has it again.
    fn is_interrupted(&mut self, place: usize) -> bool {
        let (now, committed) = (self.now, self.judge.committed_last());
        let node = self.nodes_mut(place);
        let Some(interrupting) = node.interrupting.as_mut().filter(|interrupting| interrupting.since.is_none()) else {
            return false;
        };
        (interrupting.since, interrupting.committed) = (Some(now), committed);
        let Interrupting { call, micros, asleep, .. } = *interrupting;
        let until = now + micros;
        node.busy_until = until;
        self.turn_by(place, until);
        let fault = match (asleep, self.options.clocks.counts_sleep) {
            (false, _) => "interrupted turn",
            (true, true) => "sleeping machine",
            (true, false) => "sleeping machine and clock",
        };
        self.meets(place, fault, until);
        self.trace.note(now, &[7, place as u64, call, micros], |line| write!(line, "for {micros} us, at call {call}"));
        true
    }

    /// Tells a node's thread what is to come in a turn. Returns the last entry that was known to be committed anywhere when the
    /// turn began.
    fn begin_turn(&mut self, place: usize) -> Index {
        let (now, faulty, committed) = (self.now, self.faulty, self.judge.committed_last());
        let disks = self.options.disks;
        let slow = faulty && self.random.chance(self.options.processes.slow_turn);
        let reads_part = faulty && self.random.chance(self.options.network.part_read);
        let (some, counts_sleep) = (self.random.bits(), self.options.clocks.counts_sleep);
        let starts_after = self.random.between(1, TURN_MICROS_MAX);
        let node = self.nodes_mut(place);
        let most = if node.stalled_until > now { disks.stall_max } else { disks.sync_max };
        let call_max = if slow { SLOW_CALL_MICROS_MAX } else { CALL_MICROS_MAX };
        let pace = Pace { call_max, sync: (disks.sync_min, most) };
        let applied = node.process().map_or(Index::ZERO, |process| process.replica().raft().last_applied());
        let interrupting = node.interrupting.take();
        let interruption = interrupting.map(|interrupting| Interruption {
            call: interrupting.call,
            until: now + starts_after,
            still: interrupting.asleep && !counts_sleep,
            reads: match some % 4 {
                0 => (true, false),
                1 => (false, true),
                _ => (true, true),
            },
        });
        let since = interrupting.and_then(|interrupting| interrupting.since);
        node.thread.begin(since.unwrap_or(now + starts_after), pace, applied, interruption);
        if reads_part && interrupting.is_none() {
            let mut post = node.post.borrow_mut();
            let part = |all: usize, some: u64| usize::try_from(some % (all as u64 + 1)).unwrap_or(0);
            let (packets, requests) = (part(post.arrived.len(), some), part(post.requests.len(), some >> 32));
            post.keep_back(packets, requests);
        }
        interrupting.map_or(committed, |interrupting| interrupting.committed)
    }

    /// What a read must show is known when the node takes it, at the latest.
    fn judge_taken(&mut self, place: usize, committed_before: Index) {
        let committed = self.judge.committed_last();
        let node = self.nodes_mut(place);
        let before = node.standings.0;
        let taken = core::mem::take(&mut node.post.borrow_mut().taken);
        for taken in taken {
            if let Ok(client) = usize::try_from(taken.client.0) {
                self.judge.took(client, taken.id, before);
                self.judge.taken(client, taken.id, if taken.present { committed } else { committed_before });
            }
        }
    }

    /// Some links take nothing for a turn: their buffers are full.
    fn close_links(&mut self, place: usize) {
        let mut closed = BTreeSet::new();
        let ids = self.ids;
        if self.faulty && self.random.chance(50_000) {
            closed = (1..=ids).filter(|_| self.random.chance(500_000)).filter_map(NodeId::new).collect();
        }
        let (now, here) = (self.now, Place::Node(self.nodes_mut(place).id.get()));
        let full = (1..=ids).filter(|id| self.links.is_full(now, here, Place::Node(*id)));
        closed.extend(full.filter_map(NodeId::new));
        // A connection may also end though both nodes live.
        let ended = (self.faulty && self.random.chance(2_000)).then(|| self.random.between(1, ids));
        let node = self.nodes_mut(place);
        let ended = ended.and_then(NodeId::new).filter(|ended| *ended != node.id);
        let mut post = node.post.borrow_mut();
        post.closed = closed;
        post.ended.extend(ended);
    }

    /// Sends what a node has sent. It leaves when the turn is over, for it may rest on what that turn has saved.
    fn depart(&mut self, place: usize, after: u64) -> Result<(), Violation> {
        let node = self.nodes_mut(place);
        let (id, incarnation, expelled) = (node.id, node.identity.incarnation, node.expelled);
        let view = node.process().map(|process| node_view(id, process.replica().raft()));
        let departing = core::mem::take(&mut node.post.borrow_mut().departing);
        for departing in departing {
            match departing {
                Departing::Message { to, meant_for, frame } => {
                    self.trace_message(id, &frame);
                    if let (Some(view), Some(message)) = (&view, message_in(&frame)) {
                        self.judge.says(view, &message)?;
                        if expelled {
                            self.judge.expelled_sends(id, &message.body)?;
                        }
                    }
                    let packet = Packet { from: id, incarnation, meant_for, frame, damaged: false };
                    self.send(after, Place::Node(id.get()), Place::Node(to.get()), Mail::Message(packet));
                }
                Departing::Response { client, frame, applied } => {
                    let Ok(client) = usize::try_from(client.0) else { continue };
                    if let Some(response) = response_in(&frame) {
                        self.trace.note(self.now, &[6, id.get(), client as u64, response.id.0], |line| {
                            write!(line, "{id}>client {client} {response:?}")
                        });
                        self.judge_answer(place, client, applied, &response)?;
                        if let ResponseBody::Outcome(Outcome::Refused(Refusal::TableFull { .. })) = response.body {
                            self.refused_for_room_at = Some(self.now);
                        }
                    }
                    self.send(after, Place::Node(id.get()), Place::Client(client), Mail::Response(frame, applied));
                }
            }
        }
        Ok(())
    }

    fn trace_message(&mut self, from: NodeId, frame: &[u8]) {
        let sum = u64::from(raft_core::crc::crc32c(0, frame));
        self.trace.note(self.now, &[2, from.get(), sum], |line| match message_in(frame) {
            Some(message) => {
                write!(line, "{from}>{} term {} {:?}", message.to, message.term, message.body)
            }
            None => write!(line, "{from}> what nobody can read"),
        });
    }

    /// The thread of some node loses the processor in its next turn, or its whole machine falls asleep.
    pub(super) fn interrupt(&mut self, asleep: bool) {
        let Some(place) = self.pick_up() else { return };
        let timeout = self.options.raft.election_timeout.0;
        let longest = match self.random.below(4) {
            0 => 50,
            1 => self.options.processes.pause_max_millis.max(1),
            // So long that others elect a leader, and leases end.
            _ => 8 * timeout,
        };
        let micros = self.random.between(1, longest * MILLI);
        // Often at one of the first calls, and sometimes between two turns.
        let call = match self.random.below(10) {
            0 => AFTER_THE_TURN,
            1..=6 => self.random.between(1, 3),
            _ => {
                let most = 1 << self.random.between(1, 8);
                self.random.below(most)
            }
        };
        let node = self.nodes_mut(place);
        if node.interrupting.is_none() {
            node.interrupting = Some(Interrupting { since: None, call, micros, asleep, committed: Index::ZERO });
        }
    }

    /// A node does not read its sockets for a while, or the one from some place; its loop turns and its clock runs. What has
    /// arrived is read at once in the end.
    pub(super) fn neglect_sockets(&mut self) {
        let Some(place) = self.pick_up() else { return };
        let until = self.now + self.random.between(1, 3 * self.options.raft.election_timeout.0) * MILLI;
        let places = self.places();
        let from = if self.random.chance(500_000) { self.random.pick(&places).copied() } else { None };
        let now = self.now;
        let node = self.nodes_mut(place);
        if node.unread.until > now {
            return;
        }
        (node.unread.until, node.unread.from) = (until, from);
        self.meets(place, "unread sockets", until);
        self.queue.put(until, Due::Read(place));
    }

    /// A node reads what has waited in its sockets.
    pub(super) fn read_sockets(&mut self, place: usize) -> Result<(), Violation> {
        let now = self.now;
        let node = self.nodes_mut(place);
        if node.unread.until > now {
            return Ok(());
        }
        for (from, mail) in core::mem::take(&mut node.unread.mail) {
            self.deliver(place, from, mail);
        }
        Ok(())
    }
}

/// The message in a frame of a node's.
fn message_in(frame: &[u8]) -> Option<Message<'_>> {
    Message::decode(frame.get(raft_transport_tcp::frame::FRAME_HEADER_BYTES..)?).ok()
}
