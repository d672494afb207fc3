//! The thread of an awaitable client.

use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use raft_core::client::protocol::{Consistency, NodeStatus};

use crate::awaitable::Mail;
use crate::engine::{Engine, EngineError, Retry, SessionKey, SubmitError, Ticket};
use crate::outcome::{Answer, CommandError, Completion, QueryError, Reason};

/// The most sessions that one client opens.
const SESSIONS_MAX: usize = 64;
/// How long the end waits at most for the cluster to hear that the sessions are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a client that is closing looks whether anybody still waits.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Messages taken in before the network is looked at again.
const MESSAGES_AT_ONCE: usize = 256;

/// What handles send to the thread.
pub(super) enum Message {
    /// A request.
    Ask { ask: Ask, reply: Posted, until: Option<Instant> },
    /// Finish what is under way, close the sessions, say so, and end.
    Close(oneshot::Sender<bool>),
    /// The last handle is gone: the same, with nobody to tell.
    Stop,
}

/// A reply on its way to the thread. If it never gets there, its request was certainly not sent.
pub(super) struct Posted(Option<Reply>);

impl Posted {
    pub(super) fn new(reply: Reply) -> Posted {
        Posted(Some(reply))
    }

    fn take(mut self) -> Option<Reply> {
        self.0.take()
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.refuse(Reason::Closed);
        }
    }
}

pub(super) enum Ask {
    Command(Vec<u8>),
    Plain(Vec<u8>, Retry),
    Query(Consistency, Vec<u8>),
    Status(String),
}

/// Where the answer goes.
pub(super) enum Reply {
    Command(oneshot::Sender<Result<Answer, CommandError>>),
    Query(oneshot::Sender<Result<Vec<u8>, QueryError>>),
    Status(oneshot::Sender<Result<NodeStatus, QueryError>>),
}

impl Reply {
    /// Answers; whoever does not wait any more is not told.
    fn complete(self, completion: Completion) {
        match (self, completion) {
            (Reply::Command(reply), Completion::Command(result)) => drop(reply.send(result)),
            (Reply::Query(reply), Completion::Query(result)) => drop(reply.send(result)),
            (Reply::Status(reply), Completion::Status(result)) => drop(reply.send(result)),
            // Dropped, which tells the other side that the client failed.
            _ => {}
        }
    }

    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Reply::Command(reply) => reply.is_canceled(),
            Reply::Query(reply) => reply.is_canceled(),
            Reply::Status(reply) => reply.is_canceled(),
        }
    }

    /// The request was not taken in.
    fn refuse(self, reason: Reason) {
        match self {
            Reply::Command(reply) => drop(reply.send(Err(CommandError::NotExecuted(reason)))),
            Reply::Query(reply) => drop(reply.send(Err(QueryError(reason)))),
            Reply::Status(reply) => drop(reply.send(Err(QueryError(reason)))),
        }
    }
}

pub(super) struct Actor {
    engine: Engine,
    mailbox: Receiver<Message>,
    mail: Arc<Mail>,
    sessions: Vec<SessionKey>,
    sessions_max: usize,
    /// Who waits for each request, by the small number of its ticket.
    waiting: Vec<Option<Reply>>,
    closing: bool,
    /// Who waits for the end.
    closed: Vec<oneshot::Sender<bool>>,
}

impl Actor {
    pub(super) fn new(engine: Engine, mailbox: Receiver<Message>, mail: Arc<Mail>, fifo: bool) -> Actor {
        Actor {
            engine,
            mailbox,
            mail,
            sessions: Vec::new(),
            // Two sessions have no common order.
            sessions_max: if fifo { 1 } else { SESSIONS_MAX },
            waiting: Vec::new(),
            closing: false,
            closed: Vec::new(),
        }
    }

    /// Runs until it was told to stop. A failure of the operating system ends it too: those who
    /// wait are told by the end of their channels.
    pub(super) fn run(mut self) {
        while !self.is_done() {
            if self.turn().is_err() {
                return;
            }
        }
        let heard = self.close_sessions();
        for reply in self.closed {
            // Whoever does not wait any more is not told.
            let _ = reply.send(heard);
        }
    }

    fn is_done(&self) -> bool {
        self.closing && self.waiting.iter().flatten().all(Reply::is_abandoned)
    }

    fn turn(&mut self) -> Result<(), EngineError> {
        let mut more = self.take_messages();
        if !more {
            // From here on whoever sends wakes the poll; what was sent just before is found here.
            self.mail.sleeping.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            more = self.take_messages();
        }
        let timeout = match (more, self.closing) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(LOOK_AROUND),
            (false, false) => None,
        };
        self.engine.poll(timeout)?;
        self.mail.sleeping.store(false, Ordering::SeqCst);
        while let Some((ticket, completion)) = self.engine.next_completion() {
            self.complete(ticket, completion);
        }
        *self.mail.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.engine.stats();
        Ok(())
    }

    /// Takes in messages. Gives whether there were any.
    fn take_messages(&mut self) -> bool {
        for taken in 0..MESSAGES_AT_ONCE {
            match self.mailbox.try_recv() {
                Ok(Message::Ask { ask, reply, until }) => self.ask(&ask, reply, until),
                Ok(Message::Close(reply)) => {
                    self.closing = true;
                    self.closed.push(reply);
                }
                Ok(Message::Stop) => self.closing = true,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return taken > 0,
            }
        }
        true
    }

    fn ask(&mut self, ask: &Ask, reply: Posted, until: Option<Instant>) {
        let Some(reply) = reply.take() else { return };
        let deadline = until.map(|until| until.saturating_duration_since(Instant::now()));
        let ticket = match ask {
            _ if self.closing => Err(Reason::Closed),
            _ if deadline.is_some_and(|deadline| deadline.is_zero()) => Err(Reason::Deadline),
            Ask::Command(command) => self.submit(command, deadline).map_err(Reason::from),
            Ask::Plain(command, retry) => self.engine.submit_plain(command, *retry, deadline).map_err(Reason::from),
            Ask::Query(consistency, query) => self.engine.query(*consistency, query, deadline).map_err(Reason::from),
            Ask::Status(endpoint) => self.engine.status(endpoint, deadline).map_err(Reason::from),
        };
        match ticket {
            Ok(ticket) => {
                if ticket.index() >= self.waiting.len() {
                    self.waiting.resize_with(ticket.index() + 1, || None);
                }
                if let Some(place) = self.waiting.get_mut(ticket.index()) {
                    *place = Some(reply);
                }
            }
            Err(reason) => {
                self.mail.requests.fetch_sub(1, Ordering::Relaxed);
                reply.refuse(reason);
            }
        }
    }

    /// Submits a command to the first session that has room, or a new one.
    fn submit(&mut self, command: &[u8], deadline: Option<Duration>) -> Result<Ticket, SubmitError> {
        for &session in &self.sessions {
            match self.engine.submit(session, command, deadline) {
                Err(SubmitError::WindowFull) => {}
                result => return result,
            }
        }
        if self.sessions.len() >= self.sessions_max {
            return Err(SubmitError::WindowFull);
        }
        let session = self.engine.open_session();
        self.sessions.push(session);
        self.engine.submit(session, command, deadline)
    }

    fn complete(&mut self, ticket: Ticket, completion: Completion) {
        if let Some(reply) = self.waiting.get_mut(ticket.index()).and_then(Option::take) {
            self.mail.requests.fetch_sub(1, Ordering::Relaxed);
            reply.complete(completion);
        }
    }

    /// Gives whether the cluster heard of it in time; if not, the sessions expire by themselves.
    fn close_sessions(&mut self) -> bool {
        for session in self.sessions.drain(..) {
            self.engine.close_session(session);
        }
        let end = Instant::now() + CLOSE_TIMEOUT;
        while self.engine.is_closing() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.engine.poll(Some(left)).is_err() {
                return false;
            }
        }
        true
    }
}
