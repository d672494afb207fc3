//! Clients that are engines: what happens to them, and what they say.

use std::fmt::Write;

use raft_client::{Answer, CommandError, Completion, Reason};
use raft_core::client::protocol::RequestBody;
use raft_core::session::operation::Operation as LogOperation;
use raft_core::types::{Index, Instant, Millis, NodeId};
use raft_transport_tcp::frame::FrameKind;

use super::{CLUSTER, Due, MILLI, Mail, World};
use crate::check::completions::RequestNumber;
use crate::client::End;
use crate::connections::{Sent, connection_frame, connection_in};
use crate::endpoint::{request_in, response_in};
use crate::engine_client::{Ended, EngineClient, Happened, is_operation};
use crate::network::Place;
use crate::violation::Violation;
use crate::workload::Workload;

/// The first place of an engine on the network, and how many places each has for its lives.
const ENGINES: usize = 1 << 20;
const LIVES_MAX: usize = 1 << 20;
/// What an engine pauses at most between two attempts, in milliseconds.
const BACK_OFF_MAX: u64 = 500;

/// An engine, and how its turns are counted.
pub(super) struct EngineCaller {
    client: EngineClient,
    life: usize,
    act_number: u64,
}

/// The number of the engine at a place of the network, and its life.
fn engine_at(client: usize) -> Option<(usize, usize)> {
    let place = client.checked_sub(ENGINES)?;
    Some((place / LIVES_MAX, place % LIVES_MAX)).filter(|(number, _)| *number < LIVES_MAX)
}

impl<W: Workload> World<W> {
    pub(super) fn add_engine(&mut self) {
        let number = self.engines.len();
        let client = self.new_engine(number, 0);
        self.engines.push(EngineCaller { client, life: 0, act_number: 0 });
        self.queue.put(self.now, Due::Engine(number, 0));
    }

    fn new_engine(&mut self, number: usize, life: usize) -> EngineClient {
        let first = ((number as u64) << 20 | life as u64) << 32;
        EngineClient::new(self.random.fork(), &self.options, CLUSTER, self.ids, first)
    }

    fn engine(&mut self, number: usize) -> &mut EngineCaller {
        self.engines.get_mut(number).expect("engines are never taken away from the list")
    }

    /// Where engines are on the network.
    pub(super) fn engine_places(&self) -> impl Iterator<Item = Place> {
        let places = self.engines.iter().enumerate();
        places.map(|(number, caller)| Place::Client(ENGINES + number * LIVES_MAX + caller.life))
    }

    fn engine_clock(&self) -> Instant {
        Instant(self.now / MILLI)
    }

    pub(super) fn engine_turn(&mut self, number: usize, act: u64) -> Result<(), Violation> {
        if self.engine(number).act_number != act {
            return Ok(());
        }
        let now = self.engine_clock();
        if self.engine(number).client.silent_until <= now {
            self.submit_to_engine(number)?;
        }
        self.engine_acts(number)
    }

    /// Submits operations as far as the program has thought long enough.
    fn submit_to_engine(&mut self, number: usize) -> Result<(), Violation> {
        let (now, load, open) = (self.engine_clock(), self.options.load, self.open);
        while open && self.engine(number).client.think_at <= now {
            let think = self.random.between(1, load.think_max.max(1));
            self.engine(number).client.think_at = now.after(Millis(think));
            self.trouble_engine(number)?;
            if self.engine(number).client.completions.awaited() as u64 >= load.window {
                return Ok(());
            }
            let (operation, errand, stale) = self.next_errand();
            let begun = self.begun;
            if self.engine(number).client.begin(now, begun, errand) {
                let workload = &self.workload;
                self.trace.note(self.now, &[19, number as u64, begun as u64], |line| {
                    write!(line, "engine {number} begins operation {begun}: {}", workload.describe(&operation))
                });
                self.judge.began(self.now, begun, ENGINES + number, operation, stale);
                self.begun += 1;
            }
        }
        Ok(())
    }

    /// Things that happen to programs.
    fn trouble_engine(&mut self, number: usize) -> Result<(), Violation> {
        if !self.faulty {
            return Ok(());
        }
        let (now, engines, ttl) = (self.engine_clock(), self.options.engines, self.options.limits.ttl.0);
        if self.random.chance(engines.replaced) && self.engine(number).client.replace_session(now) {
            self.coverage.count("engine", "replaces a session");
        }
        if self.random.chance(engines.broken)
            && let Some(node) = NodeId::new(1 + self.random.below(self.ids))
        {
            self.coverage.count("engine", "loses a connection");
            self.engine(number).client.connections().break_to(node);
        }
        if self.random.chance(engines.paused) {
            let pause = self.random.between(1, 2 * ttl);
            self.coverage.count("engine", if pause > ttl { "pauses beyond its leases" } else { "pauses" });
            // When what it sends now has left: answers arrive meanwhile.
            self.engine(number).client.pause_next = Millis(pause);
        }
        if self.random.chance(engines.crashed) {
            self.crash_engine(number)?;
        }
        if self.random.chance(10_000)
            && let Some(node) = NodeId::new(1 + self.random.below(self.ids))
        {
            self.engine(number).client.ask_status(now, node);
        }
        Ok(())
    }

    /// Its process ends, and another one begins; nobody will ever ask for what it waited for.
    fn crash_engine(&mut self, number: usize) -> Result<(), Violation> {
        self.trace.say(self.now, &format!("engine {number} crashes"));
        self.coverage.count("engine", "crashes");
        let lost: Vec<RequestNumber> = self.engine(number).client.completions.awaits().collect();
        for operation in lost.into_iter().filter(|request| is_operation(*request)) {
            self.judge.ended(self.now, operation, End::Unknown)?;
        }
        let life = self.engine(number).life + 1;
        let client = self.new_engine(number, life);
        let caller = self.engine(number);
        (caller.client, caller.life) = (client, life);
        Ok(())
    }

    /// A node was added: programs come to know of it.
    pub(super) fn engines_learn(&mut self, node: NodeId) {
        let now = self.engine_clock();
        for caller in &mut self.engines {
            caller.client.ask_status(now, node);
        }
    }

    /// Lets an engine do what is to be done, takes what it sends and says, and sees when it wants to be turned again.
    fn engine_acts(&mut self, number: usize) -> Result<(), Violation> {
        let (now, open) = (self.engine_clock(), self.open);
        let caller = self.engine(number);
        caller.act_number += 1;
        let act = caller.act_number;
        let client = &mut caller.client;
        let mut next = client.silent_until;
        if client.silent_until <= now {
            client.act(now);
            let think = if open { client.think_at } else { Instant::NEVER };
            next = client.deadline(now).min(think);
            let pause = core::mem::take(&mut client.pause_next);
            if pause > Millis(0) {
                client.silent_until = now.after(pause);
                next = client.silent_until;
            }
        }
        for happened in client.take_happened() {
            match happened {
                Happened::Sent(sent) => self.engine_sent(number, sent)?,
                Happened::Ended(ended) => self.engine_completed(number, ended)?,
            }
        }
        if next < Instant::NEVER {
            let at = next.0.saturating_mul(MILLI).max(self.now + 1);
            self.queue.put(at, Due::Engine(number, act));
        }
        Ok(())
    }

    fn engine_sent(&mut self, number: usize, sent: Sent) -> Result<(), Violation> {
        let here = ENGINES + number * LIVES_MAX + self.engine(number).life;
        let (node, frame) = match sent {
            Sent::Dial { node, connection } => (node, connection_frame(FrameKind::Hello, connection)),
            Sent::Request { node, connection, frame } => {
                if let Some(request) = request_in(&frame) {
                    self.trace.note(self.now, &[17, number as u64, node.get(), request.id.0], |line| {
                        write!(line, "engine {number}>{node} {request:?}")
                    });
                    self.judge.sent(here, &request, false);
                    self.number_command(number, &request.body)?;
                }
                (node, [&connection.to_le_bytes(), &frame[..]].concat())
            }
            Sent::HangUp { connection } => {
                self.sockets.remove(&connection);
                return Ok(());
            }
        };
        self.send(0, Place::Client(here), Place::Node(node.get()), Mail::Request(frame, true));
        Ok(())
    }

    /// A command on the wire shows its number.
    fn number_command(&mut self, number: usize, body: &RequestBody<'_>) -> Result<(), Violation> {
        let completions = &mut self.engine(number).client.completions;
        match body {
            RequestBody::Operate {
                secret: Some(nonce),
                operation: LogOperation::Command { sequence, acknowledge, command, .. },
            } => {
                completions.acknowledged(*nonce, *acknowledge)?;
                if let Some(operation) = completions.command_sent(*nonce, *sequence, command.0)? {
                    self.judge.numbered(operation, *nonce, *sequence);
                }
                Ok(())
            }
            RequestBody::Operate { secret: Some(nonce), operation: LogOperation::KeepAlive { acknowledge, .. } } => {
                completions.acknowledged(*nonce, *acknowledge)
            }
            RequestBody::Operate { operation: LogOperation::Plain { command }, .. } => {
                completions.plain_sent(command.0)
            }
            _ => Ok(()),
        }
    }

    /// An engine says that a request has come to its end.
    fn engine_completed(&mut self, number: usize, ended: Ended) -> Result<(), Violation> {
        let Ended { request, completion, applied } = ended;
        let request = request.ok_or(Violation::EndedUnasked { request: RequestNumber::MAX })?;
        self.trace.note(self.now, &[18, number as u64, request as u64], |line| {
            write!(line, "engine {number}, request {request}: {completion:?}")
        });
        let reason = reason_of(&completion);
        let (what, end, index) = end_of(completion, applied);
        self.coverage.count("engine", what);
        let done = matches!(end, End::Done { .. });
        let key = self.engine(number).client.completions.ended(request, done)?;
        self.coverage.checked("a completion of an engine agrees with the log", 1);
        if let Some(reason) = reason {
            self.judge.gave_up(request, key.map(|(nonce, _)| nonce), reason)?;
        }
        if let (Some((nonce, sequence)), Some(told)) = (key, index)
            && let Some(ran) = self.judge.ran_at(nonce, sequence)
            && ran != told
        {
            return Err(Violation::WrongIndex { sequence, told, ran });
        }
        if is_operation(request) { self.judge.ended(self.now, request, end) } else { Ok(()) }
    }

    /// Something has arrived at a node over a connection of an engine.
    pub(super) fn arrive_from_engine(&mut self, client: usize, id: u64, frame: &[u8]) {
        let (answers, here) = (Place::Client(client), Place::Node(id));
        if let Some(connection) = connection_in(frame, FrameKind::Hello) {
            let kind = match self.reach(id) {
                Some(place) if self.nodes_mut(place).is_asleep() => return,
                Some(place) => {
                    let lives = self.nodes_mut(place).lives;
                    self.sockets.insert(connection, (place, lives));
                    FrameKind::Welcome
                }
                None => FrameKind::Refused,
            };
            return self.send(0, here, answers, Mail::Response(connection_frame(kind, connection), Index::ZERO));
        }
        let Some((connection, frame)) = frame.split_first_chunk() else { return };
        let connection = u64::from_le_bytes(*connection);
        let Some((place, lives)) = self.sockets.get(&connection).copied() else { return };
        // Where two machines have one address, what is sent there comes to one of them, and that may be another than before.
        let still_there = self.reach(id) == Some(place);
        let node = self.nodes_mut(place);
        if still_there && node.process().is_some() && node.lives == lives {
            return self.deliver(place, answers, Mail::Request(frame.to_vec(), true));
        }
        // The process at the other end is gone.
        self.sockets.remove(&connection);
        self.send(0, here, answers, Mail::Response(connection_frame(FrameKind::Refused, connection), Index::ZERO));
    }

    /// Something has arrived at an engine from a node. Answers may come late, and twice.
    pub(super) fn arrive_at_engine(
        &mut self,
        client: usize,
        id: u64,
        frame: Vec<u8>,
        applied: Index,
    ) -> Result<(), Violation> {
        let Some((number, life)) = engine_at(client) else { return Ok(()) };
        let known = self.engines.get(number).is_some_and(|caller| caller.life == life);
        let Some(node) = NodeId::new(id).filter(|_| known) else { return Ok(()) };
        if self.faulty && response_in(&frame).is_some() && self.random.chance(self.options.engines.late) {
            let again = self.random.chance(300_000);
            let after = self.random.between(1, 3 * self.options.limits.ttl.0) * MILLI;
            let mail = Mail::Response(frame.clone(), applied);
            self.queue.put(self.now + after, Due::Arrival(Place::Node(id), Place::Client(client), mail));
            self.coverage.count("engine", if again { "hears an answer twice" } else { "hears an answer late" });
            if !again {
                return Ok(());
            }
        }
        self.engine(number).client.connections().arrived(node, &frame, applied);
        self.engine_acts(number)
    }

    /// Whether a client's place is that of an engine.
    pub(super) fn is_engine(client: usize) -> bool {
        engine_at(client).is_some()
    }

    /// The operations that engines wait for.
    pub(super) fn engines_await(&self) -> impl Iterator<Item = RequestNumber> {
        self.engines.iter().flat_map(|caller| caller.client.completions.awaits())
    }

    /// How much longer than other clients an engine may need to find the leader, in microseconds: its pauses and attempts
    /// do not know the election timeout.
    pub(super) fn engine_patience(&self) -> u64 {
        let attempts = 10 * self.options.attempt_timeout().0;
        if self.engines.is_empty() { 0 } else { 4 * (BACK_OFF_MAX + attempts) * MILLI }
    }

    /// The faults are over: programs run, and know all nodes.
    pub(super) fn wake_engines(&mut self) -> Result<(), Violation> {
        let now = self.engine_clock();
        let nodes: Vec<NodeId> = (1..=self.ids).filter_map(NodeId::new).collect();
        for number in 0..self.engines.len() {
            let client = &mut self.engine(number).client;
            (client.silent_until, client.think_at) = (Instant(0), Instant(0));
            for node in &nodes {
                client.ask_status(now, *node);
            }
            self.engine_acts(number)?;
        }
        Ok(())
    }

    /// From now on nothing is heard of any engine.
    pub(super) fn dismiss_engines(&mut self) {
        for caller in &mut self.engines {
            caller.client.silent_until = Instant::NEVER;
        }
    }
}

/// Why a command has no answer.
fn reason_of(completion: &Completion) -> Option<Reason> {
    match completion {
        Completion::Command(Err(CommandError::NotExecuted(reason) | CommandError::Unknown(reason))) => Some(*reason),
        _ => None,
    }
}

/// What a completion says, for the marks and for the judge; and the index at which it says that a command ran. `applied` is the
/// last entry that was applied where a query was answered.
fn end_of(completion: Completion, applied: Index) -> (&'static str, End, Option<Index>) {
    let done = |answer, at| End::Done { answer, at: Some(at) };
    match completion {
        Completion::Command(Ok(Answer { bytes, index, .. })) => ("done", done(bytes, index), Some(index)),
        Completion::Command(Err(CommandError::NotExecuted(_))) => ("not executed", End::NotExecuted, None),
        Completion::Command(Err(CommandError::Unknown(_))) => ("unknown", End::Unknown, None),
        Completion::Query(Ok(answer)) => ("answered", done(Some(answer), applied), None),
        Completion::Status(Ok(_)) => ("status", done(None, applied), None),
        Completion::Query(Err(_)) | Completion::Status(Err(_)) => ("not answered", End::Unknown, None),
    }
}
