//! A client for many tasks: one thread does the I/O, and any executor polls the futures.

use std::future::Future;
use std::time::Duration;

use raft_core::client::protocol::{Consistency, NodeStatus};

use crate::engine::{EngineError, Retry};
use crate::options::Options;
use crate::outcome::{Answer, CommandError, QueryError, Reason};
use crate::stats::Stats;

/// A handle to a client; its clones share one session, one connection and one thread, which ends
/// with the last of them.
#[derive(Clone, Debug)]
pub struct Client {}

impl Client {
    /// Starts a client of the nodes in `options`. Connects with the first request.
    ///
    /// # Errors
    /// [`EngineError`] for options that are not valid and an operating system that is out of means.
    pub fn start(options: &Options) -> Result<Client, EngineError> {
        options.check()?;
        unimplemented!()
    }

    /// Has `command` executed exactly once. A future that is dropped takes nothing back.
    ///
    /// # Errors
    /// [`CommandError::NotExecuted`] if it was not and never will be; [`CommandError::Unknown`] if
    /// nobody can tell.
    pub fn execute(
        &self,
        command: Vec<u8>,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Answer, CommandError>> + Send + use<> {
        let _ = (command, deadline);
        async { Err(CommandError::NotExecuted(Reason::Closed)) }
    }

    /// Has `command` executed without a session: at most once, or at least once if `retry` says so.
    ///
    /// # Errors
    /// As for [`Client::execute`].
    pub fn execute_plain(
        &self,
        command: Vec<u8>,
        retry: Retry,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Answer, CommandError>> + Send + use<> {
        let _ = (command, retry, deadline);
        async { Err(CommandError::NotExecuted(Reason::Closed)) }
    }

    /// Asks the state machine.
    ///
    /// # Errors
    /// [`QueryError`]; it may be asked again.
    pub fn query(
        &self,
        consistency: Consistency,
        query: Vec<u8>,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Vec<u8>, QueryError>> + Send + use<> {
        let _ = (consistency, query, deadline);
        async { Err(QueryError(Reason::Closed)) }
    }

    /// Asks the node at `endpoint` how it is.
    ///
    /// # Errors
    /// [`QueryError`]; it may be asked again.
    pub fn status(
        &self,
        endpoint: &str,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<NodeStatus, QueryError>> + Send + use<> {
        let _ = (endpoint, deadline);
        async { Err(QueryError(Reason::Closed)) }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Takes no further requests, waits for those under way, and closes the session. Gives whether
    /// the cluster heard of it.
    pub fn close(self) -> impl Future<Output = bool> + Send + use<> {
        async { true }
    }
}
