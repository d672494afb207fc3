//! Many sessions and many requests in flight over one connection to the leader, on the thread of
//! the caller.

mod connections;
mod core;
mod dispatch;
mod links;
mod secrets;
pub(crate) mod slab;
mod sockets;
mod timers;

use std::io;
use std::time::Duration;

use raft_core::client::protocol::Consistency;
use raft_core::types::{ClusterId, Instant};
use thiserror::Error;

use crate::options::{Options, OptionsError};
use crate::outcome::{Completion, Obstacle};
use crate::stats::Stats;
use dispatch::millis;
use slab::Place;
use sockets::Sockets;

pub use connections::{ConnectionEvent, Connections};
pub use core::EngineCore;
pub use links::LinkFault;
pub use secrets::Secrets;
pub use sockets::Waker;

/// Drives sessions and requests: submit, [`Engine::poll`], take completions, and again.
///
/// All that is in flight goes over one connection to the leader; others are made only to find it.
/// Host names are resolved on this thread when a connection is made.
#[derive(Debug)]
pub struct Engine {
    /// The moment from which its clock counts.
    epoch: std::time::Instant,
    core: EngineCore<Sockets>,
}

/// A session of an [`Engine`]. If the session of the cluster behind it ends, the next command
/// opens another one; the commands in flight at its end are never sent under the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(Place);

/// A request of an [`Engine`], by which its completion is known. Not used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(Place);

impl Ticket {
    /// A small number, less than the most requests that were ever under way at once, and held by no
    /// other request until the completion of this one was taken: for tables of what the program
    /// knows of each.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// Whether a command without a session is sent again when its outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No: it is executed at most once, and its outcome is unknown if there is no answer within
    /// [`Options::attempt_timeout`].
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
    /// As many requests as [`Options::requests_max`] are under way.
    #[error("{limit} requests are under way, and this client allows no more; poll until one is completed")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The operating system gave no random bytes for the secret of a new session.
    #[error("the operating system gives no random bytes, which sessions need for their secrets")]
    Random,
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

impl Engine {
    /// An engine over the nodes in `options`. Connects when there is something to send.
    ///
    /// # Errors
    /// [`EngineError`] for options that are not valid and an operating system that is out of means.
    pub fn new(options: &Options) -> Result<Engine, EngineError> {
        // What is wrong with the options is said before anything is opened.
        options.check()?;
        let secrets = options.seed.map_or_else(Secrets::of_system, Secrets::seeded);
        let core = EngineCore::new(options, secrets, Sockets::new(options)?)?;
        Ok(Engine { epoch: std::time::Instant::now(), core })
    }

    /// A new session, which is opened by its first command.
    pub fn open_session(&mut self) -> SessionKey {
        self.core.open_session()
    }

    /// Takes no further commands for the session; closes it once its commands are completed, while
    /// the engine is polled.
    pub fn close_session(&mut self, session: SessionKey) {
        let now = self.now();
        self.core.close_session(now, session);
    }

    /// Whether a session that was closed by the program is still to be closed in the cluster.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.core.is_closing()
    }

    /// Submits a command, to be executed exactly once. It is given up after `deadline`; without
    /// one, it is tried until it is answered or its session is over, which is not before there
    /// was a leader to open it.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn submit(
        &mut self,
        session: SessionKey,
        command: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        let now = self.now();
        self.core.submit(now, session, command, after(now, deadline))
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
        let now = self.now();
        self.core.submit_plain(now, command, retry, after(now, deadline))
    }

    /// Asks a query of the state machine. It is asked again until it is answered.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn query(
        &mut self,
        consistency: Consistency,
        query: &[u8],
        deadline: Option<Duration>,
    ) -> Result<Ticket, SubmitError> {
        let now = self.now();
        self.core.query(now, consistency, query, after(now, deadline))
    }

    /// Asks the node at `endpoint` how it is, once.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn status(&mut self, endpoint: &str, deadline: Option<Duration>) -> Result<Ticket, SubmitError> {
        let now = self.now();
        self.core.status(now, endpoint, after(now, deadline))
    }

    /// Sends what is to be sent, waits until something arrives, a timer runs out, or `timeout` has
    /// passed (`None`: no limit), and takes in what arrived. Does not wait if there are completions
    /// to take.
    ///
    /// # Errors
    /// [`EngineError::Poll`]: the operating system failed. Faults of connections are no errors.
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<(), EngineError> {
        let now = self.now();
        if self.core.was_away(now) {
            self.sockets().wait(Some(Duration::ZERO)).map_err(EngineError::Poll)?;
            self.core.take_in(now);
        }
        self.core.run(now);
        let wait = self.longest_wait(self.now(), timeout);
        self.sockets().wait(wait).map_err(EngineError::Poll)?;
        let now = self.now();
        self.core.take_in(now);
        self.core.run(now);
        Ok(())
    }

    /// The next request that came to its end.
    pub fn next_completion(&mut self) -> Option<(Ticket, Completion)> {
        self.core.next_completion()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Why there is no connection to the endpoints to which there is none, though one was tried.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &LinkFault)> {
        self.core.faults()
    }

    /// What stands in the way of the requests under way, by the endpoint that it stands at: why a node refused last, if
    /// none has answered since, and the [faults](Engine::faults) of connections. Empty if nothing is known to.
    pub fn obstacles(&self) -> impl Iterator<Item = (&str, Obstacle<'_>)> {
        self.core.obstacles()
    }

    /// The cluster of this engine: [`Options::cluster`], or else that of the first node that was reached; `None` until
    /// then.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.core.cluster()
    }

    /// A handle that ends [`Engine::poll`] from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.core.connections().waker()
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn longest_wait(&self, now: Instant, timeout: Option<Duration>) -> Option<Duration> {
        if self.core.has_completions() {
            return Some(Duration::ZERO);
        }
        let next = self.core.deadline(now);
        let own = (next != Instant::NEVER).then(|| Duration::from_millis(next.since(now).0));
        match (own, timeout) {
            (Some(own), Some(timeout)) => Some(own.min(timeout)),
            (own, timeout) => own.or(timeout),
        }
    }

    fn sockets(&mut self) -> &mut Sockets {
        self.core.connections_mut()
    }
}

/// The moment `time` from now.
fn after(now: Instant, time: Option<Duration>) -> Instant {
    time.map_or(Instant::NEVER, |time| now.after(millis(time)))
}
