//! A client that blocks its caller: one request at a time, with its I/O on the calling thread, so
//! that a request crosses no thread.

use std::time::{Duration, Instant};

use raft_core::client::protocol::{Consistency, NodeStatus};

use crate::engine::{Engine, EngineError, Retry, SessionKey, SubmitError, Ticket};
use crate::options::Options;
use crate::outcome::{Answer, CommandError, Completion, Obstacle, QueryError, Reason};
use crate::stats::Stats;

/// How long closing waits at most for the cluster to hear of it; else the session expires by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A client for one thread, with one session.
///
/// Between calls it does nothing: a session that was left alone for longer than it lives is
/// replaced by the next command.
#[derive(Debug)]
pub struct BlockingClient {
    engine: Engine,
    session: SessionKey,
    timeout: Option<Duration>,
}

impl BlockingClient {
    /// A client of the nodes in `options`. Connects with the first request.
    ///
    /// # Errors
    /// [`EngineError`] for options that are not valid and an operating system that is out of means.
    pub fn new(options: &Options) -> Result<BlockingClient, EngineError> {
        let mut engine = Engine::new(options)?;
        let session = engine.open_session();
        Ok(BlockingClient { engine, session, timeout: None })
    }

    /// How long each request may take from now on; `None`, as at the start, sets no limit.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Has `command` executed exactly once.
    ///
    /// # Errors
    /// [`CommandError::NotExecuted`] if it was not and never will be; [`CommandError::Unknown`] if
    /// nobody can tell.
    pub fn execute(&mut self, command: &[u8]) -> Result<Answer, CommandError> {
        let ticket = self.engine.submit(self.session, command, self.timeout);
        self.finish_command(ticket)
    }

    /// Has `command` executed without a session: at most once, or at least once if `retry` says so.
    ///
    /// # Errors
    /// As for [`BlockingClient::execute`].
    pub fn execute_plain(&mut self, command: &[u8], retry: Retry) -> Result<Answer, CommandError> {
        let ticket = self.engine.submit_plain(command, retry, self.timeout);
        self.finish_command(ticket)
    }

    /// Asks the state machine.
    ///
    /// # Errors
    /// [`QueryError`]; it may be asked again.
    pub fn query(&mut self, consistency: Consistency, query: &[u8]) -> Result<Vec<u8>, QueryError> {
        let ticket = self.engine.query(consistency, query, self.timeout);
        match self.wait(ticket).map_err(QueryError)? {
            Completion::Query(result) => result,
            _ => Err(QueryError(Reason::Failed)),
        }
    }

    /// Asks the node at `endpoint` how it is.
    ///
    /// # Errors
    /// [`QueryError`]; it may be asked again.
    pub fn status(&mut self, endpoint: &str) -> Result<NodeStatus, QueryError> {
        let ticket = self.engine.status(endpoint, self.timeout);
        match self.wait(ticket).map_err(QueryError)? {
            Completion::Status(result) => result,
            _ => Err(QueryError(Reason::Failed)),
        }
    }

    /// Why the last request got no answer, by the endpoint that it stands at: see [`Engine::obstacles`].
    pub fn obstacles(&self) -> impl Iterator<Item = (&str, Obstacle<'_>)> {
        self.engine.obstacles()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Closes the session, so that the cluster need not remember it until it expires. Waits a
    /// short while for the cluster; says whether it heard of it.
    pub fn close(mut self) -> bool {
        self.engine.close_session(self.session);
        let end = Instant::now() + CLOSE_TIMEOUT;
        while self.engine.is_closing() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.engine.poll(Some(left)).is_err() {
                return false;
            }
        }
        true
    }

    fn finish_command(&mut self, ticket: Result<Ticket, SubmitError>) -> Result<Answer, CommandError> {
        let sent = ticket.is_ok();
        match self.wait(ticket) {
            Ok(Completion::Command(result)) => result,
            Err(reason) if !sent => Err(CommandError::NotExecuted(reason)),
            Err(reason) => Err(CommandError::Unknown(reason)),
            Ok(_) => Err(CommandError::Unknown(Reason::Failed)),
        }
    }

    /// Polls until the request is completed. There is no other, since each call waits for its own.
    fn wait(&mut self, ticket: Result<Ticket, SubmitError>) -> Result<Completion, Reason> {
        let ticket = ticket.map_err(Reason::from)?;
        loop {
            while let Some((completed, completion)) = self.engine.next_completion() {
                if completed == ticket {
                    return Ok(completion);
                }
            }
            self.engine.poll(None).map_err(|_| Reason::Failed)?;
        }
    }
}
