//! A simulated client that is the engine that ships: several sessions, over simulated connections.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_client::{Completion, EngineCore, Options as ClientOptions, Retry, Secrets, SessionKey, Ticket};
use raft_core::types::{ClusterId, Index, Instant, Millis, NodeId};

use crate::check::completions::{Completions, RequestNumber, Submitted};
use crate::client::{Errand, OperationNumber};
use crate::connections::{Sent, SimConnections, address};
use crate::options::Options;
use crate::random::Random;

/// Questions for the status of nodes have numbers from here on.
const QUESTIONS: RequestNumber = 1 << 40;
/// How long an engine asks for the status of a node at most.
const QUESTION_MAX: Millis = Millis(1_000);

/// A request that came to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` for what stands for no request.
    pub(crate) request: Option<RequestNumber>,
    pub(crate) completion: Completion,
    /// The last entry that was applied where the response was given by which it came to its end, if one was.
    pub(crate) applied: Index,
}

/// What an engine did, in order.
#[derive(Debug)]
pub(crate) enum Happened {
    Sent(Sent),
    Ended(Ended),
}

/// A client.
#[derive(Debug)]
pub(crate) struct EngineClient {
    engine: EngineCore<SimConnections>,
    random: Random,
    sessions: Vec<SessionKey>,
    requests: BTreeMap<Ticket, RequestNumber>,
    happened: Vec<Happened>,
    questions: usize,
    pub(crate) completions: Completions,
    /// Until when its process does not run.
    pub(crate) silent_until: Instant,
    /// How long it does not run after its next turn.
    pub(crate) pause_next: Millis,
    pub(crate) think_at: Instant,
    attempt_timeout: Millis,
    hasty_percent: u64,
}

/// Whether a request is an operation of the history.
pub(crate) fn is_operation(request: RequestNumber) -> bool {
    request < QUESTIONS
}

impl EngineClient {
    /// A client that knows some of the first `nodes` nodes, and whose connections are numbered from `first`.
    pub(crate) fn new(mut random: Random, world: &Options, cluster: ClusterId, nodes: u64, first: u64) -> EngineClient {
        let mut endpoints: Vec<String> = (1..=nodes).filter_map(NodeId::new).map(address).collect();
        let known = random.between(1, nodes);
        while endpoints.len() as u64 > known {
            let at = usize::try_from(random.below(endpoints.len() as u64)).unwrap_or(0);
            endpoints.swap_remove(at);
        }
        let attempt_timeout = Duration::from_millis(world.attempt_timeout().0);
        let options = ClientOptions {
            cluster: random.chance(500_000).then_some(cluster),
            attempt_timeout,
            connect_timeout: attempt_timeout,
            fifo: world.load.fifo,
            forward: world.load.forward,
            ..ClientOptions::new(endpoints)
        };
        let connections = SimConnections::new(cluster, first);
        let mut engine = EngineCore::new(&options, Secrets::seeded(random.bits()), connections)
            .expect("these options are valid, and a seed has no end");
        let sessions = (0..world.engines.sessions.max(1)).map(|_| engine.open_session()).collect();
        EngineClient {
            engine,
            random,
            sessions,
            requests: BTreeMap::new(),
            happened: Vec::new(),
            questions: 0,
            completions: Completions::default(),
            silent_until: Instant(0),
            pause_next: Millis(0),
            think_at: Instant(0),
            attempt_timeout: world.attempt_timeout(),
            hasty_percent: world.engines.hasty_percent,
        }
    }

    /// Submits an operation, if it is taken in now.
    pub(crate) fn begin(&mut self, now: Instant, operation: OperationNumber, errand: Errand) -> bool {
        let hasty = self.random.below(100) < self.hasty_percent;
        let patience = self.random.between(1, 4 * self.attempt_timeout.0);
        let deadline = if hasty { now.after(Millis(patience)) } else { Instant::NEVER };
        let some = self.random.pick(&self.sessions).copied();
        let (ticket, submitted) = match errand {
            Errand::Command(bytes) if !self.completions.awaits_command(&bytes) => {
                let session = some.expect("it has a session at least");
                (self.engine.submit(now, session, &bytes, deadline), Submitted::Command(bytes))
            }
            Errand::Plain(bytes) if !self.completions.awaits_command(&bytes) => {
                let ticket = self.engine.submit_plain(now, &bytes, Retry::OnlyIfRefused, deadline);
                (ticket, Submitted::Plain(bytes))
            }
            Errand::Query(consistency, query) => {
                (self.engine.query(now, consistency, &query, deadline), Submitted::Question)
            }
            // The two could not be told apart on the wire.
            Errand::Command(_) | Errand::Plain(_) => return false,
        };
        let Ok(ticket) = ticket else { return false };
        self.await_end(ticket, operation, submitted);
        true
    }

    fn await_end(&mut self, ticket: Ticket, request: RequestNumber, submitted: Submitted) {
        let before = self.requests.insert(ticket, request);
        assert!(before.is_none(), "no two requests have the same ticket");
        self.completions.submitted(request, submitted);
    }

    /// Asks how a node is, and so comes to know where it is.
    pub(crate) fn ask_status(&mut self, now: Instant, node: NodeId) {
        if let Ok(ticket) = self.engine.status(now, &address(node), now.after(QUESTION_MAX)) {
            self.questions += 1;
            self.await_end(ticket, QUESTIONS + self.questions, Submitted::Question);
        }
    }

    /// Closes one of its sessions, and begins another one in its place. One after the other: a session that is to be closed
    /// needs room as well. Returns whether it does.
    pub(crate) fn replace_session(&mut self, now: Instant) -> bool {
        if self.engine.is_closing() {
            return false;
        }
        let at = usize::try_from(self.random.below(self.sessions.len() as u64)).unwrap_or(0);
        let next = self.engine.open_session();
        if let Some(session) = self.sessions.get_mut(at) {
            let before = core::mem::replace(session, next);
            self.engine.close_session(now, before);
        }
        true
    }

    pub(crate) fn connections(&mut self) -> &mut SimConnections {
        self.engine.connections_mut()
    }

    /// A turn of its loop.
    pub(crate) fn act(&mut self, now: Instant) {
        if self.engine.was_away(now) {
            self.take_in(now);
        } else if self.random.chance(300_000) {
            // What has arrived is taken in only after it has looked at its timers.
            self.engine.run(now);
        }
        self.take_in(now);
        self.engine.run(now);
        self.note(Index::ZERO);
    }

    fn take_in(&mut self, now: Instant) {
        loop {
            self.note(Index::ZERO);
            self.connections().allow_response();
            self.engine.take_in(now);
            let Some(applied) = self.connections().taken_at() else { return };
            self.note(applied);
        }
    }

    /// Takes note of what the engine did in one call: what came to its end may be acknowledged by what was sent in the same one.
    fn note(&mut self, applied: Index) {
        while let Some((ticket, completion)) = self.engine.next_completion() {
            let request = self.requests.remove(&ticket);
            self.happened.push(Happened::Ended(Ended { request, completion, applied }));
        }
        let sent = self.connections().take_sent();
        self.happened.extend(sent.into_iter().map(Happened::Sent));
    }

    /// What it did.
    pub(crate) fn take_happened(&mut self) -> Vec<Happened> {
        core::mem::take(&mut self.happened)
    }

    /// When it has something to do without any news.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        self.engine.deadline(now)
    }
}
