//! What a client can ask of the sessions and the state machine, as it stands in the log; and what
//! comes of it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{Index, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

/// The payload of an entry of kind [`crate::entry::EntryKind::Operation`].
///
/// The secret is not in here: the leader compares it before it proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation<'a> {
    /// Opens a session, or finds the one that was opened with this nonce and lives.
    Open {
        /// The client's random number: names the attempt, and becomes the session's secret.
        nonce: Nonce,
        /// Whether commands must run in the order of their numbers.
        fifo: bool,
    },
    /// Renews a session and raises its acknowledgement.
    KeepAlive {
        /// The session.
        session: SessionId,
        /// The lowest number whose answer the client still waits for.
        acknowledge: Sequence,
    },
    /// Ends a session and forgets its answers.
    Close {
        /// The session.
        session: SessionId,
    },
    /// A command to be executed exactly once.
    Command {
        /// The session.
        session: SessionId,
        /// The command's number in it.
        sequence: Sequence,
        /// The lowest number whose answer the client still waits for.
        acknowledge: Sequence,
        /// What the state machine is to execute.
        #[serde(borrow)]
        command: Bytes<'a>,
    },
    /// A command without a session: executed as often as it stands in the log.
    Plain {
        /// What the state machine is to execute.
        #[serde(borrow)]
        command: Bytes<'a>,
    },
}

/// The longest encoding of an operation without its command's bytes.
pub const OPERATION_HEAD_BYTES_MAX: usize = 40;

impl<'a> Operation<'a> {
    /// The session it belongs to.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match *self {
            Operation::KeepAlive { session, .. }
            | Operation::Close { session }
            | Operation::Command { session, .. } => Some(session),
            Operation::Open { .. } | Operation::Plain { .. } => None,
        }
    }

    /// The bytes of its command, if it has one.
    #[must_use]
    pub fn command(&self) -> &'a [u8] {
        match *self {
            Operation::Command { command, .. } | Operation::Plain { command } => command.0,
            _ => &[],
        }
    }

    /// Encodes all but the command's bytes into `head`; the payload is the head and then those
    /// bytes, which are given back.
    #[must_use]
    pub fn encode<'h>(&self, head: &'h mut [u8; OPERATION_HEAD_BYTES_MAX]) -> (&'h [u8], &'a [u8]) {
        let command = self.command();
        let with_empty = match *self {
            Operation::Command { session, sequence, acknowledge, .. } => {
                Operation::Command { session, sequence, acknowledge, command: Bytes(&[]) }
            }
            Operation::Plain { .. } => Operation::Plain { command: Bytes(&[]) },
            other => other,
        };
        let encoded = crate::wire::encode_with_tail(&with_empty, command.len(), head)
            .expect("the head of an operation is never longer than its bound");
        (encoded, command)
    }

    /// Reads the payload of an operation entry.
    ///
    /// # Errors
    /// [`OperationError`] for bytes that are none.
    pub fn decode(payload: &'a [u8]) -> Result<Operation<'a>, OperationError> {
        match postcard::take_from_bytes(payload) {
            Ok((operation, [])) => Ok(operation),
            _ => Err(OperationError),
        }
    }
}

/// The bytes are no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes are no operation on a session or state machine")]
pub struct OperationError;

/// What came of an operation when it was applied; the answer is borrowed from where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<'a> {
    /// The session is open.
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
    /// The session was renewed.
    KeptAlive,
    /// The session is closed.
    Closed,
    /// The command was executed, now or before, and this is its answer.
    Answered {
        /// The index at which it was executed.
        index: Index,
        /// What the state machine wrote.
        #[serde(borrow)]
        answer: Bytes<'a>,
        /// Whether it was executed before and this is the kept answer.
        replayed: bool,
    },
    /// The command was executed, now or before, and its answer was too long to keep.
    Executed {
        /// The index at which it was executed.
        index: Index,
        /// Whether it was executed before.
        replayed: bool,
    },
    /// The session layer refused it: it was not executed by this entry.
    Refused(Refusal),
}

/// Why the session layer did not execute a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its number lies below the acknowledgement: the client said it waits for it no longer.
    #[error("the number lies below what the client has acknowledged")]
    Stale,
    /// Its number lies at or beyond the acknowledgement plus the window.
    #[error("the number lies beyond the session's window; acknowledge answers first, then send it again")]
    WindowFull,
    /// Its number belongs to another command.
    #[error("the number was used for a different command")]
    Mismatch,
    /// The session is not known: never opened, closed or expired.
    #[error("the session is not open: it was closed, has expired, or never was; open a new one")]
    SessionExpired,
    /// A number before it has not been executed, and the session is first-in, first-out.
    #[error("a command before it has not arrived; send it again afterwards")]
    OutOfOrder,
    /// No room for another session.
    #[error("the table of sessions is full; try again in {retry_after} ms")]
    TableFull {
        /// When the next session may expire.
        retry_after: Millis,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(operation: Operation<'_>) {
        let mut head = [0; OPERATION_HEAD_BYTES_MAX];
        let (head, tail) = operation.encode(&mut head);
        let payload = [head, tail].concat();
        assert_eq!(Operation::decode(&payload), Ok(operation));
        let mut longer = payload.clone();
        longer.push(0);
        assert_eq!(Operation::decode(&longer), Err(OperationError));
        for length in 0..payload.len() {
            assert_eq!(Operation::decode(&payload[..length]), Err(OperationError));
        }
    }

    #[test]
    fn operations_read_back_as_they_were_written() {
        let (session, most) = (SessionId(u64::MAX), Sequence(u64::MAX));
        round_trip(Operation::Open { nonce: Nonce(u128::MAX), fifo: true });
        round_trip(Operation::KeepAlive { session, acknowledge: most });
        round_trip(Operation::Close { session });
        for command in [&b""[..], b"x", &[7; 200]] {
            round_trip(Operation::Command { session, sequence: most, acknowledge: most, command: Bytes(command) });
            round_trip(Operation::Plain { command: Bytes(command) });
        }
    }
}
