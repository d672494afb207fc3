//! A simulated client: the session and route logic that ships, over the simulated network.

use std::collections::BTreeMap;

use raft_core::client::pace::{Jitter, Pace};
use raft_core::client::protocol::{Consistency, NotExecuted, Request, RequestBody, RequestId, Response, ResponseBody};
use raft_core::client::route::Route;
use raft_core::client::session::{ClientSession, Completion, Token, What};
use raft_core::message::ProposeError;
use raft_core::session::operation::{Operation, Outcome};
use raft_core::types::{Index, Instant, Millis, NodeId, Nonce, Sequence};
use raft_core::wire::Bytes;

use crate::endpoint::request_frame;
use crate::options::LoadOptions;
use crate::random::Random;

/// The most commands of one session in flight.
const WINDOW: usize = 8;

/// What an operation is, for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A command of the session.
    Command(Vec<u8>),
    /// A command without a session: sent once.
    Plain(Vec<u8>),
    /// A query.
    Query(Consistency, Vec<u8>),
}

/// The number of an operation in the history.
pub(crate) type OperationNumber = usize;

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Executed, with that answer; `None` if it was too long to keep. And where: the entry of a command without a session,
    /// or the last one that was applied where a query was answered.
    Done {
        answer: Option<Vec<u8>>,
        at: Option<Index>,
    },
    NotExecuted,
    Unknown,
}

/// What a client tells the world.
#[derive(Debug)]
pub(crate) enum Told {
    /// A frame leaves for a node. What must not arrive twice says so: a connection delivers once, and only a session
    /// makes repetition harmless.
    Sent { to: NodeId, frame: Vec<u8>, once: bool },
    /// A command got its number: by whose nonce, and which.
    Numbered { operation: OperationNumber, nonce: Nonce, sequence: Sequence },
    /// An operation has come to its end.
    Ended { operation: OperationNumber, end: End },
    /// An answer from the log for a command of a session, whether anybody still waited for it.
    Heard { nonce: Nonce, sequence: Sequence, answer: Option<Vec<u8>> },
}

/// A request under way.
#[derive(Debug)]
struct Sent {
    node: usize,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Session {
        nonce: Nonce,
        token: Token,
    },
    /// An attempt of a query or of a plain command.
    Single {
        operation: OperationNumber,
        attempt: u32,
    },
}

/// A query or plain command under way.
#[derive(Clone, Debug)]
struct Single {
    errand: Errand,
    attempt: u32,
    /// When it is to be sent (again), or given up waiting for.
    at: Instant,
    sent: bool,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    random: Random,
    load: LoadOptions,
    pace: Pace,
    jitter: Jitter,
    nodes: Vec<NodeId>,
    route: Route,
    nonce: Nonce,
    session: Option<ClientSession<WINDOW>>,
    /// The commands of the session that are awaited, by number.
    commands: BTreeMap<u64, (OperationNumber, Vec<u8>)>,
    singles: BTreeMap<OperationNumber, Single>,
    sent: BTreeMap<u64, Sent>,
    /// Since when an answer of a node is waited for, if one is.
    silent_since: BTreeMap<usize, Instant>,
    next_request: u64,
    /// What was due could not be sent, since the route asked for a pause.
    held: bool,
    /// Until when it sends nothing, keep-alives included.
    pub(crate) silent_until: Instant,
    pub(crate) think_at: Instant,
    told: Vec<Told>,
}

impl Client {
    /// A client that waits so long for the answer to a first attempt.
    pub(crate) fn new(mut random: Random, load: LoadOptions, attempt_timeout: Millis, nodes: Vec<NodeId>) -> Client {
        let pace = Pace { attempt_timeout, back_off: Millis(10), back_off_max: attempt_timeout };
        let route = Route::new(nodes.len(), usize::try_from(random.below(nodes.len() as u64)).unwrap_or(0));
        Client {
            jitter: Jitter::new(random.bits()),
            pace,
            route,
            nodes,
            nonce: Nonce(0),
            session: None,
            commands: BTreeMap::new(),
            singles: BTreeMap::new(),
            sent: BTreeMap::new(),
            silent_since: BTreeMap::new(),
            // No two lives of a client use the same number, so that an answer of one is not taken for one of another.
            next_request: random.bits() >> 1,
            held: false,
            silent_until: Instant(0),
            think_at: Instant(0),
            told: Vec::new(),
            random,
            load,
        }
    }

    /// How many operations it waits for.
    pub(crate) fn awaited(&self) -> usize {
        self.commands.len() + self.singles.len()
    }

    /// The operations that it waits for.
    pub(crate) fn awaits(&self) -> impl Iterator<Item = OperationNumber> {
        self.commands.values().map(|(operation, _)| *operation).chain(self.singles.keys().copied())
    }

    /// Takes what it has to tell.
    pub(crate) fn take_told(&mut self) -> Vec<Told> {
        core::mem::take(&mut self.told)
    }

    /// There is a node that it did not know.
    pub(crate) fn learn(&mut self, node: NodeId) {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
            self.route.add_node();
        }
    }

    /// Begins an operation, if it can now.
    pub(crate) fn begin(&mut self, now: Instant, operation: OperationNumber, errand: Errand) -> bool {
        match errand {
            Errand::Command(bytes) => self.submit(now, operation, bytes),
            errand => {
                self.singles.insert(operation, Single { errand, attempt: 0, at: now, sent: false });
                true
            }
        }
    }

    fn submit(&mut self, now: Instant, operation: OperationNumber, bytes: Vec<u8>) -> bool {
        if self.session.as_ref().is_none_or(|session| session.over().is_some() && session.is_idle()) {
            self.nonce = Nonce(u128::from(self.random.bits()) << 64 | u128::from(self.random.bits()));
            let seed = self.random.bits();
            self.session = Some(ClientSession::new(self.nonce, self.load.fifo, self.pace, seed));
        }
        let Some(session) = &mut self.session else { return false };
        let Ok(sequence) = session.submit(now, Instant::NEVER) else { return false };
        self.commands.insert(sequence.0, (operation, bytes));
        self.told.push(Told::Numbered { operation, nonce: self.nonce, sequence });
        true
    }

    /// Does what time asks for, and sends what can be sent.
    pub(crate) fn act(&mut self, now: Instant) {
        if now < self.silent_until {
            return;
        }
        self.settle(now);
        self.hang_up_on_silence(now);
        self.held = self.route.ready_at() > now;
        if self.held {
            return;
        }
        while let Some(outgoing) = self.session.as_mut().and_then(|session| session.transmit(now)) {
            let empty = Vec::new();
            let command = match outgoing.token.what() {
                What::Command(sequence) => self.commands.get(&sequence.0).map_or(&empty, |(_, bytes)| bytes),
                _ => &empty,
            };
            let id = RequestId(self.next_request);
            let frame = request_frame(&outgoing.operation.request(id, self.load.forward, command));
            let owner = Owner::Session { nonce: self.nonce, token: outgoing.token };
            self.send(now, owner, frame);
        }
        let due: Vec<OperationNumber> =
            self.singles.iter().filter(|(_, single)| single.at <= now).map(|(operation, _)| *operation).collect();
        for operation in due {
            self.send_single(now, operation);
        }
    }

    /// Tells the ends of commands that came without an answer.
    fn settle(&mut self, now: Instant) {
        while let Some((sequence, completion)) = self.session.as_mut().and_then(|session| session.poll(now)) {
            self.completed(sequence, completion);
        }
    }

    fn send_single(&mut self, now: Instant, operation: OperationNumber) {
        let Some(single) = self.singles.get_mut(&operation) else { return };
        if single.sent {
            // It waited long enough. A plain command may have been executed; a query can be made again.
            single.sent = false;
            if matches!(single.errand, Errand::Plain(_)) {
                return self.end(operation, End::Unknown);
            }
            let target = self.route.target();
            self.route.failed(target, now, &self.pace, &mut self.jitter);
            if self.route.ready_at() > now {
                single.at = self.route.ready_at();
                return;
            }
        }
        single.attempt += 1;
        single.sent = true;
        single.at = now.after(self.pace.timeout(single.attempt, &mut self.jitter));
        let attempt = single.attempt;
        let body = match &single.errand {
            Errand::Query(consistency, query) => RequestBody::Query { consistency: *consistency, query: Bytes(query) },
            Errand::Plain(command) | Errand::Command(command) => {
                RequestBody::Operate { secret: None, operation: Operation::Plain { command: Bytes(command) } }
            }
        };
        let request = Request { id: RequestId(self.next_request), forward: self.load.forward, body };
        let frame = request_frame(&request);
        self.send(now, Owner::Single { operation, attempt }, frame);
    }

    fn send(&mut self, now: Instant, owner: Owner, frame: Vec<u8>) {
        let node = self.route.target();
        self.silent_since.entry(node).or_insert(now);
        let once = match owner {
            Owner::Session { .. } => false,
            Owner::Single { operation, .. } => {
                self.singles.get(&operation).is_some_and(|single| matches!(single.errand, Errand::Plain(_)))
            }
        };
        self.sent.insert(self.next_request, Sent { node, owner });
        self.next_request += 1;
        if self.sent.len() > 4 * WINDOW {
            // Requests whose answers were lost are not remembered for ever.
            self.sent.pop_first();
        }
        let to = *self.nodes.get(node).expect("the route leads over the nodes that are known");
        self.told.push(Told::Sent { to, frame, once });
    }

    /// A node has answered.
    pub(crate) fn respond(&mut self, now: Instant, from: NodeId, response: &Response<'_>, applied: Index) {
        let Some(sent) = self.sent.remove(&response.id.0) else { return };
        if self.nodes.get(sent.node) != Some(&from) {
            return;
        }
        self.silent_since.remove(&sent.node);
        if self.sent.values().any(|other| other.node == sent.node) {
            self.silent_since.insert(sent.node, now);
        }
        self.steer(now, sent.node, &response.body);
        match sent.owner {
            Owner::Session { nonce, token } => self.session_responded(now, nonce, token, &response.body),
            Owner::Single { operation, attempt } => {
                self.single_responded(now, operation, attempt, &response.body, applied);
            }
        }
        self.settle(now);
    }

    fn session_responded(&mut self, now: Instant, nonce: Nonce, token: Token, body: &ResponseBody<'_>) {
        if let (What::Command(sequence), Some(answer)) = (token.what(), answer_in(body)) {
            self.told.push(Told::Heard { nonce, sequence, answer });
        }
        if nonce != self.nonce {
            return;
        }
        let completed = self.session.as_mut().and_then(|session| session.respond(now, token, body));
        if let Some((sequence, completion)) = completed {
            self.completed(sequence, completion);
        }
    }

    fn completed(&mut self, sequence: Sequence, completion: Completion<'_>) {
        let Some((operation, _)) = self.commands.remove(&sequence.0) else { return };
        let end = match completion {
            Completion::Done { answer, .. } => End::Done { answer: answer.map(<[u8]>::to_vec), at: None },
            Completion::NotExecuted(_) => End::NotExecuted,
            Completion::Unknown(_) => End::Unknown,
        };
        self.told.push(Told::Ended { operation, end });
    }

    fn single_responded(
        &mut self,
        now: Instant,
        operation: OperationNumber,
        attempt: u32,
        body: &ResponseBody<'_>,
        applied: Index,
    ) {
        let Some(single) = self.singles.get_mut(&operation).filter(|single| single.attempt == attempt && single.sent)
        else {
            return;
        };
        let answer = match body {
            ResponseBody::Answer(answer) => Some(Some(answer.0.to_vec())),
            body => answer_in(body),
        };
        if let Some(answer) = answer {
            let at = match body {
                ResponseBody::Outcome(Outcome::Answered { index, .. } | Outcome::Executed { index, .. }) => *index,
                _ => applied,
            };
            return self.end(operation, End::Done { answer, at: Some(at) });
        }
        match body {
            ResponseBody::NotExecuted { reason, .. } => {
                let elsewhere = matches!(reason, NotExecuted::Refused(ProposeError::NotLeader { leader: Some(_) }));
                single.sent = false;
                single.at = if elsewhere { now } else { now.after(self.pace.pause(single.attempt, &mut self.jitter)) };
                if single.attempt > 60 && matches!(single.errand, Errand::Plain(_)) {
                    self.end(operation, End::NotExecuted);
                }
            }
            _ if matches!(single.errand, Errand::Plain(_)) => self.end(operation, End::Unknown),
            _ => {
                single.sent = false;
                single.at = now.after(self.pace.pause(single.attempt, &mut self.jitter));
            }
        }
    }

    fn end(&mut self, operation: OperationNumber, end: End) {
        self.singles.remove(&operation);
        self.told.push(Told::Ended { operation, end });
    }

    /// Learns from an answer where the leader is.
    fn steer(&mut self, now: Instant, node: usize, body: &ResponseBody<'_>) {
        match body {
            ResponseBody::Outcome(_) | ResponseBody::Answer(_) => self.route.answered(node),
            ResponseBody::NotExecuted { reason, .. } => {
                let hint = match reason {
                    NotExecuted::Refused(ProposeError::NotLeader { leader }) => *leader,
                    NotExecuted::Refused(ProposeError::Transferring { .. }) => None,
                    NotExecuted::Stopping | NotExecuted::Unconfirmed => {
                        self.route.failed(node, now, &self.pace, &mut self.jitter);
                        return;
                    }
                    _ => return,
                };
                let leader = hint.and_then(|leader| self.nodes.iter().position(|known| *known == leader));
                self.route.redirected(node, leader, now, &self.pace, &mut self.jitter);
            }
            // One that cannot tell may be cut off from the leader, and not know it.
            ResponseBody::Unknown => {
                self.route.failed(node, now, &self.pace, &mut self.jitter);
            }
            _ => {}
        }
    }

    /// Gives up connections from which nothing has come for so long as an answer is waited for.
    fn hang_up_on_silence(&mut self, now: Instant) {
        let patience = self.pace.attempt_timeout;
        let silent = self.silent_since.iter().filter(|(_, since)| since.after(patience) <= now).map(|(node, _)| *node);
        for node in silent.collect::<Vec<usize>>() {
            let node = *self.nodes.get(node).expect("only nodes that are known were sent anything");
            self.disconnected(now, node);
        }
    }

    /// The attempt under way to `node` is known to be lost: a connection that broke.
    pub(crate) fn disconnected(&mut self, now: Instant, node: NodeId) {
        let Some(place) = self.nodes.iter().position(|known| *known == node) else { return };
        self.route.failed(place, now, &self.pace, &mut self.jitter);
        self.silent_since.remove(&place);
        let lost: Vec<u64> = self.sent.iter().filter(|(_, sent)| sent.node == place).map(|(id, _)| *id).collect();
        for id in lost {
            let Some(sent) = self.sent.remove(&id) else { continue };
            match sent.owner {
                Owner::Session { nonce, token } if nonce == self.nonce => {
                    if let Some(session) = &mut self.session {
                        session.lost(now, token);
                    }
                }
                Owner::Session { .. } => {}
                Owner::Single { operation, attempt } => {
                    self.single_responded(now, operation, attempt, &ResponseBody::Unknown, Index::ZERO);
                }
            }
        }
    }

    /// It crashes. With its session, it goes on where it was, not knowing what of it was sent; without, nobody will
    /// ever ask for what it waited for.
    pub(crate) fn crash(&mut self, now: Instant, keeps_session: bool) {
        let singles: Vec<OperationNumber> = self.singles.keys().copied().collect();
        for operation in singles {
            self.end(operation, End::Unknown);
        }
        self.sent.clear();
        self.silent_since.clear();
        if let Some(session) = self.session.as_mut().filter(|_| keeps_session) {
            session.disconnected(now);
            return;
        }
        self.session = None;
        for (operation, _) in core::mem::take(&mut self.commands).into_values() {
            self.told.push(Told::Ended { operation, end: End::Unknown });
        }
    }

    /// It closes its session, once its commands have come to their ends.
    pub(crate) fn close(&mut self) {
        if let Some(session) = &mut self.session {
            session.close();
        }
    }

    /// When it has something to do without any news. What is due and held back by the route is sent as soon as that
    /// allows it, whenever the session wants to be looked at next.
    pub(crate) fn deadline(&self) -> Instant {
        let session = self.session.as_ref().map_or(Instant::NEVER, ClientSession::deadline);
        let singles = self.singles.values().map(|single| single.at).min().unwrap_or(Instant::NEVER);
        let silence = self.silent_since.values().map(|since| since.after(self.pace.attempt_timeout)).min();
        let waits = self.held && (self.awaited() > 0 || self.session.is_some());
        let pause = if waits { self.route.ready_at() } else { Instant::NEVER };
        let sends = singles.max(self.route.ready_at()).min(pause);
        session.min(sends).min(silence.unwrap_or(Instant::NEVER)).max(self.silent_until)
    }
}

/// The answer of the log to a command, if this is one.
fn answer_in(body: &ResponseBody<'_>) -> Option<Option<Vec<u8>>> {
    match body {
        ResponseBody::Outcome(Outcome::Answered { answer, .. }) => Some(Some(answer.0.to_vec())),
        ResponseBody::Outcome(Outcome::Executed { .. }) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
