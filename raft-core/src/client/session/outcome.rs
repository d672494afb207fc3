//! What becomes of a command, and of a session.

use thiserror::Error;

use crate::client::protocol::NotExecuted;
use crate::session::operation::Refusal;
use crate::types::Index;

/// What became of a command. There is no fourth outcome, and none is ever taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion<'a> {
    /// It was executed, once.
    Done {
        /// The index at which it was executed.
        index: Index,
        /// What the state machine answered; `None` if that was too long to keep.
        answer: Option<&'a [u8]>,
        /// Whether it was executed by an earlier attempt and the answer was kept.
        replayed: bool,
    },
    /// It was not executed and never will be.
    NotExecuted(Reason),
    /// It was executed once, or not at all, or still will be; and nobody can tell.
    Unknown(Reason),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Reason {
    /// The time given for it was over.
    #[error("the deadline passed")]
    Deadline,
    /// Its session ended.
    #[error(transparent)]
    SessionOver(SessionEnd),
    /// The session layer refused it.
    #[error(transparent)]
    Session(Refusal),
    /// A node refused it.
    #[error(transparent)]
    Node(NotExecuted),
}

/// Why a session is over. Commands can be submitted to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The program closed it.
    #[error("the session was closed")]
    Closed,
    /// The cluster knows it no longer.
    #[error("the session has expired; open a new one")]
    Expired,
    /// None of its operations was answered for so long that the cluster may know it no longer.
    #[error("no operation of the session was answered for as long as it lives; open a new one")]
    Silent,
    /// The cluster refuses its operations for good.
    #[error("the cluster does not accept the session: {0}")]
    Refused(NotExecuted),
}

/// Why a command was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many as allowed are in flight.
    #[error("as many commands as the session's window are in flight; wait for an answer")]
    WindowFull,
    /// The session takes no more commands.
    #[error(transparent)]
    Over(SessionEnd),
}
