//! A client for many tasks: one thread does the I/O, and any executor polls the futures.

mod actor;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use raft_core::client::protocol::{Consistency, NodeStatus};

use crate::engine::{Engine, EngineError, Retry, Waker};
use crate::options::Options;
use crate::outcome::{Answer, CommandError, QueryError, Reason};
use crate::stats::Stats;
use actor::{Actor, Ask, Message, Posted, Reply};

/// A handle to a client; its clones share one connection and one thread, which ends with the last
/// of them, once nobody waits for an answer any more.
///
/// A request is sent at once, not when its future is first polled; a future that is dropped takes
/// nothing back.
///
/// Commands run under a session. When more commands are in flight than a session allows, another
/// session is opened; with [`Options::fifo`] there is only one, and further commands are refused
/// as [`Reason::WindowFull`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What handles and the thread share.
struct Shared {
    mailbox: Sender<Message>,
    waker: Waker,
    mail: Arc<Mail>,
}

/// What is known of the mailbox, without taking from it.
#[derive(Default)]
struct Mail {
    /// Whether the thread sleeps, or is about to, and must be woken.
    sleeping: AtomicBool,
    /// Requests that wait or are under way.
    requests: AtomicUsize,
    /// How many there may be.
    requests_max: usize,
    stats: Mutex<Stats>,
}

impl Client {
    /// Starts a client of the nodes in `options`. Connects with the first request.
    ///
    /// # Errors
    /// [`EngineError`] for options that are not valid and an operating system that is out of means.
    pub fn start(options: &Options) -> Result<Client, EngineError> {
        let engine = Engine::new(options)?;
        let (mailbox, mail_in) = mpsc::channel();
        let mail = Arc::new(Mail { requests_max: options.requests_max, ..Mail::default() });
        let waker = engine.waker();
        let actor = Actor::new(engine, mail_in, Arc::clone(&mail), options.fifo);
        let thread = std::thread::Builder::new().name("raft-client".to_owned());
        thread.spawn(move || actor.run()).map_err(EngineError::Thread)?;
        Ok(Client { shared: Arc::new(Shared { mailbox, waker, mail }) })
    }

    /// Has `command` executed exactly once.
    ///
    /// # Errors
    /// [`CommandError::NotExecuted`] if it was not and never will be; [`CommandError::Unknown`] if
    /// nobody can tell.
    pub fn execute(
        &self,
        command: Vec<u8>,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Answer, CommandError>> + Send + use<> {
        self.command(Ask::Command(command), deadline)
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
        self.command(Ask::Plain(command, retry), deadline)
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
        let (reply, answer) = oneshot::channel();
        let posted = self.post(Ask::Query(consistency, query), Reply::Query(reply), deadline);
        async move {
            posted.map_err(QueryError)?;
            answer.await.unwrap_or(Err(QueryError(Reason::Failed)))
        }
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
        let (reply, answer) = oneshot::channel();
        let posted = self.post(Ask::Status(endpoint.to_owned()), Reply::Status(reply), deadline);
        async move {
            posted.map_err(QueryError)?;
            answer.await.unwrap_or(Err(QueryError(Reason::Failed)))
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.shared.mail.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no further requests from any handle, waits for those under way, and closes the
    /// sessions. Gives whether the cluster heard of it.
    pub fn close(self) -> impl Future<Output = bool> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        // If the thread is gone, there is nobody to answer.
        let _ = self.shared.mailbox.send(Message::Close(reply));
        self.shared.wake();
        async move { answer.await.unwrap_or(false) }
    }

    fn command(
        &self,
        ask: Ask,
        deadline: Option<Duration>,
    ) -> impl Future<Output = Result<Answer, CommandError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let posted = self.post(ask, Reply::Command(reply), deadline);
        async move {
            posted.map_err(CommandError::NotExecuted)?;
            // The thread has failed, and nobody knows how far it came.
            answer.await.unwrap_or(Err(CommandError::Unknown(Reason::Failed)))
        }
    }

    fn post(&self, ask: Ask, reply: Reply, deadline: Option<Duration>) -> Result<(), Reason> {
        let mail = &self.shared.mail;
        if mail.requests.fetch_add(1, Ordering::Relaxed) >= mail.requests_max {
            mail.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Busy);
        }
        // A deadline beyond what the clock can say is none.
        let until = deadline.and_then(|deadline| std::time::Instant::now().checked_add(deadline));
        if self.shared.mailbox.send(Message::Ask { ask, reply: Posted::new(reply), until }).is_err() {
            mail.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Closed);
        }
        self.shared.wake();
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Wakes the thread if it sleeps: a thread that is awake looks at its mailbox before it does.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.mail.sleeping.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.mailbox.send(Message::Stop);
        self.wake();
    }
}
