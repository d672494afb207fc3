//! Many sessions and many requests in flight over one connection to the leader, on the thread of
//! the caller.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use raft_core::client::protocol::Consistency;
use thiserror::Error;

use crate::options::{Options, OptionsError};
use crate::outcome::Completion;
use crate::stats::Stats;

/// Drives sessions and requests: submit, [`Engine::poll`], take completions, and again.
#[derive(Debug)]
pub struct Engine {
    stats: Stats,
}

/// A session of an [`Engine`]. If the session of the cluster behind it ends, the next command
/// opens another one; the commands in flight at its end are never sent under the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

/// A request of an [`Engine`], by which its completion is known. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Whether a command without a session is sent again when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No: it is executed at most once, and its outcome may stay unknown.
    OnlyIfRefused,
    /// Yes: it may be executed several times.
    Always,
}

/// Why a request was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many commands as the session allows are in flight, or what is left of an ended session
    /// is still being settled.
    #[error("as many commands as the session's window are in flight; poll until one is completed")]
    WindowFull,
    /// It is longer than [`Options::message_bytes_max`].
    #[error("it is {given} bytes long, and this client sends {limit} at most")]
    TooLong {
        /// Its length in bytes.
        given: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The key is of a session that was closed.
    #[error("the session was closed by this program; open another one")]
    Closed,
    /// The endpoint is none, or more are known than the engine keeps.
    #[error("the endpoint is not of the form host:port, or too many are known already")]
    Endpoint,
}

/// Why an engine cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The options are not valid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The operating system has no means to wait for sockets.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[source] io::Error),
    /// The operating system gave no random bytes for the secrets of sessions.
    #[error("the operating system gives no random bytes, which sessions need for their secrets")]
    Random,
    /// The thread of an awaitable client could not be started.
    #[error("cannot start the client's thread: {0}")]
    Thread(#[source] io::Error),
}

/// Ends the present or the next [`Engine::poll`], from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Wakes the engine.
    pub fn wake(&self) {
        // A waker fails only when the engine it belongs to cannot wait any more, and then says so.
        let _ = self.0.wake();
    }
}

impl Engine {
    /// An engine over the nodes in `options`. Connects when there is something to send.
    ///
    /// # Errors
    /// [`EngineError`] for options that are not valid and an operating system that is out of means.
    pub fn new(options: &Options) -> Result<Engine, EngineError> {
        options.check()?;
        unimplemented!()
    }

    /// A new session, which is opened by its first command.
    pub fn open_session(&mut self) -> SessionKey {
        unimplemented!()
    }

    /// Takes no further commands for the session; closes it once its commands are completed.
    pub fn close_session(&mut self, session: SessionKey) {
        let _ = session;
    }

    /// Whether a session that was closed by the program is still to be closed in the cluster.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        false
    }

    /// Submits a command, to be executed exactly once. It is given up after `deadline`; without
    /// one, it is tried for as long as its session may live.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn submit(
        &mut self,
        session: SessionKey,
        command: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        let _ = (session, command, deadline);
        unimplemented!()
    }

    /// Submits a command without a session: it may be executed more than once if `retry` says so.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn submit_plain(
        &mut self,
        command: &[u8],
        retry: Retry,
        deadline: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        let _ = (command, retry, deadline);
        unimplemented!()
    }

    /// Asks a query of the state machine.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn query(
        &mut self,
        consistency: Consistency,
        query: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        let _ = (consistency, query, deadline);
        unimplemented!()
    }

    /// Asks the node at `endpoint` how it is.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn status(&mut self, endpoint: &str, deadline: Option<Duration>) -> Result<Ticket, SubmitError> {
        let _ = (endpoint, deadline);
        unimplemented!()
    }

    /// Sends what is to be sent, waits until something arrives, a timer runs out, or `timeout` has
    /// passed (`None`: no limit), and takes in what arrived. Returns at once if there are
    /// completions to take.
    ///
    /// # Errors
    /// [`EngineError::Poll`]: the operating system failed. Faults of connections are no errors.
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<(), EngineError> {
        let _ = timeout;
        unimplemented!()
    }

    /// The next request that came to its end.
    pub fn next_completion(&mut self) -> Option<(Ticket, Completion)> {
        None
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// A handle that ends [`Engine::poll`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        unimplemented!()
    }
}
