//! What becomes of a request: done with its answer; not executed, with the reason; unknown.

use raft_core::client::protocol::{NodeStatus, NotExecuted};
use raft_core::client::session::SessionEnd;
use raft_core::session::operation::Refusal;
use raft_core::types::Index;
use thiserror::Error;

use crate::engine::{LinkFault, SubmitError};

/// The answer to a command that was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the state machine answered; `None` if the command was executed, but its answer was too
    /// long to keep.
    pub bytes: Option<Vec<u8>>,
    /// The index at which it was executed.
    pub index: Index,
    /// Whether it was executed by an earlier attempt and this answer was kept.
    pub replayed: bool,
}

/// Why there is no answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// It was not executed and never will be.
    #[error("not executed: {0}")]
    NotExecuted(Reason),
    /// It was executed once, or not at all, or still will be; and nothing can tell.
    #[error("the outcome is unknown: {0}")]
    Unknown(Reason),
}

impl CommandError {
    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        match self {
            CommandError::NotExecuted(reason) | CommandError::Unknown(reason) => reason,
        }
    }
}

/// Why there is no answer to a query. A query has no effect, so it may be asked again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no answer: {0}")]
pub struct QueryError(pub Reason);

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
    /// The only attempt, which was not to be repeated, got no answer.
    #[error("the connection was lost, or no answer came, and it was not to be sent again")]
    NoAnswer,
    /// It is longer than [`Options::message_bytes_max`](crate::Options::message_bytes_max).
    #[error("it is longer than {limit} bytes, the most this client sends")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The session takes no more at once.
    #[error("as many commands as the session's window are in flight")]
    WindowFull,
    /// The endpoint is none, or too many are known.
    #[error("the endpoint is not of the form host:port, or too many are known already")]
    Endpoint,
    /// As much waits as this client allows.
    #[error("too many requests wait in this client; try again shortly")]
    Busy,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
    /// The operating system failed the client: see [`EngineError`](crate::EngineError).
    #[error("the operating system fails this client")]
    Failed,
}

/// What stands in the way of requests at one endpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Obstacle<'a> {
    /// The node refused.
    #[error("{0}")]
    Refused(Reason),
    /// There is no connection to it.
    #[error("{0}")]
    Link(&'a LinkFault),
}

impl From<raft_core::client::session::Reason> for Reason {
    fn from(reason: raft_core::client::session::Reason) -> Reason {
        use raft_core::client::session::Reason as Core;
        match reason {
            Core::Deadline => Reason::Deadline,
            Core::SessionOver(end) => Reason::SessionOver(end),
            Core::Session(refusal) => Reason::Session(refusal),
            Core::Node(refusal) => Reason::Node(refusal),
            _ => Reason::Failed,
        }
    }
}

impl From<SubmitError> for Reason {
    fn from(error: SubmitError) -> Reason {
        match error {
            SubmitError::WindowFull => Reason::WindowFull,
            SubmitError::TooLong { limit, .. } => Reason::TooLong { limit },
            SubmitError::Closed => Reason::Closed,
            SubmitError::Busy { .. } => Reason::Busy,
            SubmitError::Random => Reason::Failed,
            SubmitError::Endpoint => Reason::Endpoint,
        }
    }
}

/// What became of a request of an [`Engine`](crate::Engine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Of a command, with or without a session.
    Command(Result<Answer, CommandError>),
    /// Of a query: the state machine's answer.
    Query(Result<Vec<u8>, QueryError>),
    /// Of a question for a node's status.
    Status(Result<NodeStatus, QueryError>),
}
