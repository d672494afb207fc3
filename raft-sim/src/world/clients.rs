//! What clients do in the world.

use std::fmt::Write;

use raft_core::client::protocol::{Consistency, Request, RequestBody, RequestId};
use raft_core::types::{Index, Instant, NodeId};
use raft_core::wire::Bytes;

use super::{Caller, Due, MILLI, Mail, World};
use crate::client::{Client, End, Errand, Told};
use crate::endpoint::{request_frame, request_in, response_in};
use crate::network::Place;
use crate::violation::Violation;
use crate::workload::{Kind, Operation, Workload};

/// The number of those who are not clients: an answer to it finds nobody.
pub(super) const NOBODY: usize = usize::MAX;
/// How often a leader is asked that has been replaced, within an election timeout.
const DOUBTS: usize = 40;

/// Who sends a request, if not a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Onlooker,
    Operator,
    Stranger,
    /// A stranger, for whom nothing may be done.
    Guesser,
}

impl<W: Workload> World<W> {
    pub(super) fn add_client(&mut self, number: usize) {
        let nodes = (1..=self.ids).filter_map(NodeId::new).collect();
        let attempt_timeout = self.options.attempt_timeout();
        let client = Client::new(self.random.fork(), self.options.load, attempt_timeout, nodes);
        self.clients.push(Caller { client, act_number: 0 });
        self.queue.put(self.now, Due::Client(number, 0));
    }

    fn caller(&mut self, number: usize) -> &mut Caller {
        self.clients.get_mut(number).expect("clients are never taken away from the list")
    }

    /// What a client's clock shows: it runs as the world's does.
    fn client_clock(&self) -> Instant {
        Instant(self.now / MILLI)
    }

    /// The next operation of the workload, how it is asked for, and whether its answer may be stale.
    pub(super) fn next_errand(&mut self) -> (Operation, Errand, bool) {
        let load = self.options.load;
        let operation = self.workload.next(&mut self.random);
        let (plain, query) = (self.random.below(100), self.random.below(100));
        let consistency = match () {
            () if query < load.stale_percent => Consistency::Stale,
            () if query < load.stale_percent + load.lease_percent => Consistency::Lease,
            () => Consistency::Linearizable,
        };
        let errand = match &operation.kind {
            Kind::Query(query) => Errand::Query(consistency, query.clone()),
            Kind::Command(command) if plain < load.plain_percent => Errand::Plain(command.clone()),
            Kind::Command(command) => Errand::Command(command.clone()),
        };
        let leases_hold = self.options.leases_hold();
        let any = consistency == Consistency::Stale || (consistency == Consistency::Lease && !leases_hold);
        let stale = matches!(operation.kind, Kind::Query(_)) && any;
        (operation, errand, stale)
    }

    pub(super) fn client_turn(&mut self, number: usize, act: u64) -> Result<(), Violation> {
        if self.caller(number).act_number != act {
            return Ok(());
        }
        self.begin_operations(number);
        self.client_acts(number)
    }

    /// Begins operations as far as the client has thought long enough.
    fn begin_operations(&mut self, number: usize) {
        let (now, load, open) = (self.client_clock(), self.options.load, self.open);
        while open && self.caller(number).client.think_at <= now {
            let think = self.random.between(1, load.think_max.max(1));
            self.caller(number).client.think_at = now.after(raft_core::types::Millis(think));
            if self.caller(number).client.awaited() as u64 >= load.window {
                return;
            }
            let (operation, errand, stale) = self.next_errand();
            let begun = self.begun;
            if self.caller(number).client.begin(now, begun, errand) {
                let workload = &self.workload;
                self.trace.note(self.now, &[8, number as u64, begun as u64], |line| {
                    write!(line, "client {number} begins operation {begun}: {}", workload.describe(&operation))
                });
                self.judge.began(self.now, begun, number, operation, stale);
                self.begun += 1;
            }
        }
    }

    /// Lets a client do what is to be done, takes what it tells, and sees when it wants to be asked again.
    pub(super) fn client_acts(&mut self, number: usize) -> Result<(), Violation> {
        let now = self.client_clock();
        let open = self.open;
        let caller = self.caller(number);
        caller.client.act(now);
        caller.act_number += 1;
        let act = caller.act_number;
        let think = if open { caller.client.think_at } else { Instant::NEVER };
        let next = caller.client.deadline().min(think);
        for told in caller.client.take_told() {
            self.hear_client(number, told)?;
        }
        if next < Instant::NEVER {
            let at = next.0.saturating_mul(MILLI).max(self.now + 1);
            self.queue.put(at, Due::Client(number, act));
        }
        Ok(())
    }

    fn hear_client(&mut self, number: usize, told: Told) -> Result<(), Violation> {
        let now = self.now;
        match told {
            Told::Sent { to, frame, once } => {
                if let Some(request) = request_in(&frame) {
                    self.trace.note(now, &[5, number as u64, to.get(), request.id.0], |line| {
                        write!(line, "client {number}>{to} {request:?}")
                    });
                    self.judge.sent(number, &request, false);
                }
                self.send(0, Place::Client(number), Place::Node(to.get()), Mail::Request(frame, once));
                Ok(())
            }
            Told::Numbered { operation, nonce, sequence } => {
                self.trace.note(now, &[3, number as u64, operation as u64, sequence.0], |line| {
                    write!(line, "client {number}, operation {operation} is its command {sequence}")
                });
                self.judge.numbered(operation, nonce, sequence);
                Ok(())
            }
            Told::Ended { operation, end } => {
                let what = match &end {
                    End::Done { .. } => "done",
                    End::NotExecuted => "not executed",
                    End::Unknown => "unknown",
                };
                self.coverage.count("operation", what);
                self.trace.note(now, &[4, number as u64, operation as u64], |line| {
                    write!(line, "client {number}, operation {operation}: {end:?}")
                });
                self.judge.ended(now, operation, end)
            }
            Told::Heard { nonce, sequence, answer } => self.judge.heard(nonce, sequence, answer.as_ref()),
        }
    }

    /// A node's answer has arrived at a client.
    pub(super) fn answer(&mut self, number: usize, from: u64, frame: &[u8], applied: Index) -> Result<(), Violation> {
        let now = self.client_clock();
        // What was damaged on the way ends the connection.
        let (Some(response), Some(from)) = (response_in(frame), NodeId::new(from)) else { return Ok(()) };
        let Some(caller) = self.clients.get_mut(number) else { return Ok(()) };
        caller.client.respond(now, from, &response, applied);
        self.client_acts(number)
    }

    /// Nobody listens where a client's request went: it is told at once, unless the network is cut.
    pub(super) fn hang_up(&mut self, number: usize, node: u64) -> Result<(), Violation> {
        let cut = self.links.is_cut(Place::Node(node), Place::Client(number));
        let (now, Some(node)) = (self.client_clock(), NodeId::new(node)) else { return Ok(()) };
        let Some(caller) = self.clients.get_mut(number).filter(|_| !cut) else { return Ok(()) };
        caller.client.disconnected(now, node);
        self.client_acts(number)
    }

    /// From now on nothing is heard of any client, nor of strangers.
    pub(crate) fn dismiss_clients(&mut self) {
        (self.open, self.faulty) = (false, false);
        for caller in &mut self.clients {
            caller.client.silent_until = Instant::NEVER;
        }
        self.dismiss_engines();
    }

    /// Some client crashes, and is there again at once.
    pub(super) fn crash_client(&mut self) -> Result<(), Violation> {
        let number = usize::try_from(self.random.below(self.clients.len() as u64)).unwrap_or(0);
        let keeps = self.random.below(100) < self.options.load.keeps_session_percent;
        let now = self.client_clock();
        self.trace.say(self.now, &format!("client {number} crashes, keeps its session: {keeps}"));
        self.coverage.count("client crash", if keeps { "keeps its session" } else { "loses its session" });
        self.caller(number).client.crash(now, keeps);
        self.client_acts(number)
    }

    /// Some client sends nothing for longer than its session may live, or shorter.
    pub(super) fn silence_client(&mut self) {
        let number = usize::try_from(self.random.below(self.clients.len() as u64)).unwrap_or(0);
        let ttl = self.options.limits.ttl.0;
        if self.random.chance(300_000) {
            self.caller(number).client.close();
            self.coverage.count("client silence", "closes its session");
            return;
        }
        let for_millis = self.random.between(1, ttl.min(5_000) * 2);
        let until = self.client_clock().after(raft_core::types::Millis(for_millis));
        self.caller(number).client.silent_until = until;
        self.trace.say(self.now, &format!("client {number} is silent for {for_millis} ms"));
        self.coverage.count("client silence", if for_millis > ttl { "beyond its lease" } else { "within its lease" });
    }

    /// Somebody reads from any node.
    pub(super) fn look_on(&mut self) {
        self.coverage.count("onlooker", "reads from any node");
        let to = 1 + self.random.below(self.ids);
        let consistency = if self.random.chance(500_000) { Consistency::Lease } else { Consistency::Linearizable };
        self.ask(to, consistency);
    }

    /// A node leads while another one still believes that it does: that one is asked again and again to answer by its lease,
    /// for it must notice before it does.
    pub(super) fn doubt_older_leaders(&mut self, newer: usize) {
        if !self.faulty {
            return;
        }
        let within = self.options.raft.election_timeout.0 * MILLI;
        let older: Vec<usize> = self.leaders().filter(|place| *place != newer).collect();
        for place in older {
            let id = self.nodes_mut(place).id.get();
            self.coverage.count("onlooker", "doubts an older leader");
            for _ in 0..DOUBTS {
                let after = self.random.between(1, within);
                self.queue.put(self.now + after, Due::Doubt(id));
            }
        }
    }

    /// Somebody reads from that node. What it shows is looked at when the answer leaves.
    pub(super) fn ask(&mut self, to: u64, consistency: Consistency) {
        let drawn = (0..8).map(|_| self.workload.next(&mut self.random)).find_map(|operation| match operation.kind {
            Kind::Query(query) => Some(query),
            Kind::Command(_) => None,
        });
        let Some(query) = drawn else { return };
        let id = RequestId(self.random.bits());
        let body = RequestBody::Query { consistency, query: Bytes(&query) };
        let request = Request { id, forward: false, body };
        self.send_for_nobody(to, &request, Sender::Onlooker);
    }

    /// Sends a request of somebody who is not a client.
    pub(super) fn send_for_nobody(&mut self, to: u64, request: &Request<'_>, sender: Sender) {
        self.judge.sent(NOBODY, request, sender == Sender::Guesser);
        self.trace.note(self.now, &[7, to, request.id.0], |line| write!(line, "{sender:?}>{to} {request:?}"));
        // Nobody gives an order twice; a query may arrive as often as it likes.
        let mail = Mail::Request(request_frame(request), sender == Sender::Operator);
        self.send(0, Place::Client(NOBODY), Place::Node(to), mail);
    }
}
