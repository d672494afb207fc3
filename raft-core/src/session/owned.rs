//! Operations and outcomes that own their bytes, for programs with a heap.

use alloc::vec::Vec;

use crate::session::operation::{Operation, Outcome, Refusal};
use crate::types::{Index, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

/// An [`Operation`] that owns its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedOperation {
    /// See [`Operation::Open`].
    Open {
        /// The client's random number.
        nonce: Nonce,
        /// Whether commands must run in the order of their numbers.
        fifo: bool,
    },
    /// See [`Operation::KeepAlive`].
    KeepAlive {
        /// The session.
        session: SessionId,
        /// The lowest number whose answer the client still waits for.
        acknowledge: Sequence,
    },
    /// See [`Operation::Close`].
    Close {
        /// The session.
        session: SessionId,
    },
    /// See [`Operation::Command`].
    Command {
        /// The session.
        session: SessionId,
        /// The command's number in it.
        sequence: Sequence,
        /// The lowest number whose answer the client still waits for.
        acknowledge: Sequence,
        /// What the state machine is to execute.
        command: Vec<u8>,
    },
    /// See [`Operation::Plain`].
    Plain {
        /// What the state machine is to execute.
        command: Vec<u8>,
    },
}

impl OwnedOperation {
    /// The operation, borrowed.
    #[must_use]
    pub fn borrow(&self) -> Operation<'_> {
        match self {
            &OwnedOperation::Open { nonce, fifo } => Operation::Open { nonce, fifo },
            &OwnedOperation::KeepAlive { session, acknowledge } => Operation::KeepAlive { session, acknowledge },
            &OwnedOperation::Close { session } => Operation::Close { session },
            OwnedOperation::Command { session, sequence, acknowledge, command } => Operation::Command {
                session: *session,
                sequence: *sequence,
                acknowledge: *acknowledge,
                command: Bytes(command),
            },
            OwnedOperation::Plain { command } => Operation::Plain { command: Bytes(command) },
        }
    }
}

/// An [`Outcome`] that owns its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedOutcome {
    /// See [`Outcome::Opened`].
    Opened {
        /// Its id.
        session: SessionId,
        /// Whether it was open already, by the same nonce.
        again: bool,
        /// How long it lives after it was renewed last.
        ttl: Millis,
        /// How many commands it may have in flight.
        window: u16,
    },
    /// See [`Outcome::KeptAlive`].
    KeptAlive,
    /// See [`Outcome::Closed`].
    Closed,
    /// See [`Outcome::Answered`].
    Answered {
        /// The index at which it was executed.
        index: Index,
        /// What the state machine wrote.
        answer: Vec<u8>,
        /// Whether it was executed before and this is the kept answer.
        replayed: bool,
    },
    /// See [`Outcome::Executed`].
    Executed {
        /// The index at which it was executed.
        index: Index,
        /// Whether it was executed before.
        replayed: bool,
    },
    /// See [`Outcome::Refused`].
    Refused(Refusal),
}

impl From<Outcome<'_>> for OwnedOutcome {
    fn from(outcome: Outcome<'_>) -> OwnedOutcome {
        match outcome {
            Outcome::Opened { session, again, ttl, window } => OwnedOutcome::Opened { session, again, ttl, window },
            Outcome::KeptAlive => OwnedOutcome::KeptAlive,
            Outcome::Closed => OwnedOutcome::Closed,
            Outcome::Answered { index, answer, replayed } => {
                OwnedOutcome::Answered { index, answer: answer.0.to_vec(), replayed }
            }
            Outcome::Executed { index, replayed } => OwnedOutcome::Executed { index, replayed },
            Outcome::Refused(refusal) => OwnedOutcome::Refused(refusal),
        }
    }
}
