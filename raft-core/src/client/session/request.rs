//! What a session sends, and how the response to it is known.

use core::fmt;

use crate::client::attempts::Attempts;
use crate::client::protocol::{Request, RequestBody, RequestId};
use crate::client::session::{ClientSession, Lease, Phase};
use crate::session::operation::Operation;
use crate::types::{Instant, Nonce, Sequence};
use crate::wire::Bytes;

/// An operation of a session that is to be sent now.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The attempt, to be handed back when its end is known.
    pub token: Token,
    /// What is asked in it.
    pub operation: SessionOperation,
}

/// What a session asks of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOperation {
    secret: Option<Nonce>,
    /// Without the command's bytes.
    operation: Operation<'static>,
}

/// One attempt that was sent, of one operation of one session.
///
/// Only [`ClientSession::transmit`] makes one, and it cannot be copied: its end is reported once, by
/// [`ClientSession::respond`], [`ClientSession::lost`] or [`ClientSession::refuse_to_send`]. A session
/// ignores the tokens of every other session, so that a late answer may be handed to whichever
/// session stands where the one that asked stood before.
#[derive(PartialEq, Eq)]
pub struct Token {
    /// The secret of the session, which no other session has.
    nonce: Nonce,
    what: What,
    attempt: u32,
}

impl Token {
    pub(super) fn new(nonce: Nonce, what: What, attempt: u32) -> Token {
        Token { nonce, what, attempt }
    }

    /// Whether it belongs to the session with that secret.
    pub(super) fn is_of(&self, nonce: Nonce) -> bool {
        self.nonce == nonce
    }

    /// The operation.
    #[must_use]
    pub fn what(&self) -> What {
        self.what
    }

    /// Which attempt it is. Each further attempt for the same operation has a greater number, and so have
    /// those of the keep-alives that follow a keep-alive.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl fmt::Debug for Token {
    /// Without the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { what, attempt, .. } = self;
        formatter.debug_struct("Token").field("what", what).field("attempt", attempt).finish_non_exhaustive()
    }
}

/// An operation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Opens it.
    Open,
    /// Renews it.
    KeepAlive,
    /// Ends it.
    Close,
    /// The command of that number.
    Command(Sequence),
}

impl SessionOperation {
    /// The request that carries it, under an id of the program's choice. `command` is what was
    /// submitted under the number in its token, the same for each attempt; it is not read for the
    /// other operations.
    #[must_use]
    pub fn request<'a>(&self, id: RequestId, forward: bool, command: &'a [u8]) -> Request<'a> {
        let operation = match self.operation {
            Operation::Command { session, sequence, acknowledge, .. } => {
                Operation::Command { session, sequence, acknowledge, command: Bytes(command) }
            }
            other => other,
        };
        Request { id, forward, body: RequestBody::Operate { secret: self.secret, operation } }
    }
}

impl<const WINDOW: usize> ClientSession<WINDOW> {
    /// Opens the session. Every attempt carries the same nonce, so that they open it once.
    pub(super) fn send_open(&mut self, now: Instant) -> Option<Outgoing> {
        let Phase::Opening(opening) = &mut self.phase else { return None };
        if !opening.is_due(now) {
            return None;
        }
        let attempt = opening.send(now, &self.pace, &mut self.jitter);
        let wake = opening.wake(now);
        let operation = Operation::Open { nonce: self.nonce, fifo: self.fifo };
        self.wake_by(wake);
        let token = Token::new(self.nonce, What::Open, attempt);
        Some(Outgoing { token, operation: SessionOperation { secret: None, operation } })
    }

    /// Renews the session, if the timers asked for it.
    pub(super) fn send_keep_alive(&mut self, now: Instant) -> Option<Outgoing> {
        let acknowledge = self.commands.acknowledge();
        self.send_beside(now, What::KeepAlive, |lease| {
            (lease.keep_alive.as_mut(), Operation::KeepAlive { session: lease.session, acknowledge })
        })
    }

    /// Closes the session, once it was asked for and no command is awaited.
    pub(super) fn send_close(&mut self, now: Instant) -> Option<Outgoing> {
        if !self.closing || !self.is_idle() {
            return None;
        }
        self.send_beside(now, What::Close, |lease| {
            let close = lease.close.get_or_insert_with(|| Attempts::new(now, Instant::NEVER));
            (Some(close), Operation::Close { session: lease.session })
        })
    }

    /// Sends an operation of the open session that is no command, if it is due.
    fn send_beside(
        &mut self,
        now: Instant,
        what: What,
        choose: impl FnOnce(&mut Lease) -> (Option<&mut Attempts>, Operation<'static>),
    ) -> Option<Outgoing> {
        let Phase::Open(lease) = &mut self.phase else { return None };
        let (attempts, operation) = choose(lease);
        let attempts = attempts.filter(|attempts| attempts.is_due(now))?;
        let attempt = attempts.send(now, &self.pace, &mut self.jitter);
        let wake = attempts.wake(now);
        self.wake_by(wake);
        let token = Token::new(self.nonce, what, attempt);
        Some(Outgoing { token, operation: SessionOperation { secret: Some(self.nonce), operation } })
    }

    /// Sends the lowest command that is due and inside the window.
    pub(super) fn send_command(&mut self, now: Instant) -> Option<Outgoing> {
        let Phase::Open(lease) = &self.phase else { return None };
        let session = lease.session;
        let acknowledge = self.commands.acknowledge();
        let end = Sequence(acknowledge.0.saturating_add(self.window()));
        while let Some((sequence, attempts)) = self.commands.first_from(self.cursor)
            && sequence < end
        {
            self.cursor = sequence.next();
            if attempts.is_due(now) {
                let attempt = attempts.send(now, &self.pace, &mut self.jitter);
                let wake = attempts.wake(now);
                self.wake_by(wake);
                let token = Token::new(self.nonce, What::Command(sequence), attempt);
                let operation = Operation::Command { session, sequence, acknowledge, command: Bytes(&[]) };
                return Some(Outgoing { token, operation: SessionOperation { secret: Some(self.nonce), operation } });
            }
            let (wake, waits) = (attempts.wake(now), !attempts.is_sent());
            self.wake_by(wake);
            if self.fifo && waits {
                // Those after it would only be refused as out of order.
                self.cursor = sequence;
                return None;
            }
        }
        None
    }
}
