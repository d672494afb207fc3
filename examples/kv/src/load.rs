//! Clients that add to counters: threads that keep many increments in flight, and what they saw.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use raft_client::{
    Answer, BlockingClient, CommandError, Completion, Consistency, Engine, EngineError, Options, QueryError, Retry,
    SessionKey,
};
use thiserror::Error;

use crate::command::{Command, Page, Query, Reply, decode, encode};

/// How many clients there are, each with a connection and, unless told otherwise, a session.
pub const CLIENTS: usize = 8;
/// How many counters they share.
pub const COUNTERS: usize = 4;

/// How many commands each client has in flight.
pub const IN_FLIGHT: usize = 16;
/// How long a client waits for its last answers; what has none by then is unknown.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// How long a client waits for its session to be closed.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// How long a client waits for news before it looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// Why nobody knows what the clients saw.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operating system fails a client.
    #[error("{0}")]
    Client(#[from] EngineError),
    /// A client's thread is gone.
    #[error("a client's thread panicked")]
    Panicked,
    /// Nobody could be asked for the counters.
    #[error("the counters cannot be read: {0}")]
    Read(#[from] QueryError),
    /// Something else has written to them.
    #[error("the counters are no numbers")]
    Counters,
}

/// What the clients' threads share with the one that directs them.
#[derive(Debug, Default)]
pub struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Shared {
    /// How many commands were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// What the clients saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The answers, for each counter.
    pub values: Vec<Vec<u64>>,
    /// Commands whose outcome nobody knows.
    pub unknown: u64,
    /// Commands that were not executed.
    pub refused: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Commands answered from the session table.
    pub replayed: u64,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<Done, EngineError>>>,
}

impl Load {
    /// Starts the clients.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(endpoints: &[String], sessions: bool, shared: &Arc<Shared>) -> io::Result<Load> {
        let mut load = Load { shared: shared.clone(), clients: Vec::new() };
        for number in 0..CLIENTS {
            let (options, shared) = (Options::new(endpoints.to_vec()), shared.clone());
            let client = move || Client::new(&options, sessions, number)?.run(&shared);
            load.clients.push(thread::Builder::new().name(format!("client-{number}")).spawn(client)?);
        }
        Ok(load)
    }

    /// Lets the clients come to their end, and gathers what they saw.
    ///
    /// # Errors
    /// [`LoadError`]: what one of them saw is lost.
    pub fn finish<T>(mut self, mut meanwhile: impl FnMut() -> T) -> Result<Done, LoadError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Done { values: vec![Vec::new(); COUNTERS], ..Done::default() };
        for client in std::mem::take(&mut self.clients) {
            while !client.is_finished() {
                meanwhile();
                thread::sleep(LOOK);
            }
            let done = client.join().map_err(|_| LoadError::Panicked)??;
            all.values.iter_mut().zip(done.values).for_each(|(all, values)| all.extend(values));
            all.unknown += done.unknown;
            all.refused += done.refused;
            all.retries += done.retries;
            all.replayed += done.replayed;
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The key of a counter.
fn counter(number: usize) -> String {
    format!("counter-{number}")
}

/// What the counters stand at, as the nodes at these endpoints have it, within `patience`.
///
/// # Errors
/// [`LoadError`]: nobody answers, or the answer makes no sense.
pub fn read_counters(
    endpoints: &[String],
    consistency: Consistency,
    patience: Duration,
) -> Result<Vec<u64>, LoadError> {
    let mut client = BlockingClient::new(&Options::new(endpoints.to_vec()))?;
    client.set_timeout(Some(patience));
    let bytes = client.query(consistency, &encode(&Query::List { prefix: "counter-", after: "", limit: u32::MAX }))?;
    let page: Page<'_> = decode(&bytes).ok_or(LoadError::Counters)?;
    let value = |number| {
        let key = counter(number);
        let Some((_, value, _)) = page.items.iter().find(|(found, ..)| *found == key) else { return Ok(0) };
        std::str::from_utf8(value.0).ok().and_then(|text| text.parse().ok()).ok_or(LoadError::Counters)
    };
    (0..COUNTERS).map(value).collect()
}

/// One client.
struct Client {
    engine: Engine,
    /// `None`: its commands go without, and are sent again blindly.
    session: Option<SessionKey>,
    commands: Vec<Vec<u8>>,
    /// The counter of each command in flight, by its ticket.
    in_flight: Vec<Option<usize>>,
    flying: usize,
    /// The counter whose turn it is.
    turn: usize,
    done: Done,
}

impl Client {
    fn new(options: &Options, sessions: bool, number: usize) -> Result<Client, EngineError> {
        let mut engine = Engine::new(options)?;
        let session = sessions.then(|| engine.open_session());
        let commands = (0..COUNTERS).map(|number| encode(&Command::Incr { key: &counter(number), by: 1 })).collect();
        let done = Done { values: vec![Vec::new(); COUNTERS], ..Done::default() };
        Ok(Client { engine, session, commands, in_flight: Vec::new(), flying: 0, turn: number, done })
    }

    fn run(mut self, shared: &Shared) -> Result<Done, EngineError> {
        let mut stopped: Option<Instant> = None;
        loop {
            if stopped.is_none() && shared.stop.load(Ordering::Relaxed) {
                stopped = Some(Instant::now());
            }
            match stopped {
                None => self.submit(),
                Some(since) if self.flying == 0 || since.elapsed() > DRAIN_MAX => break,
                Some(_) => {}
            }
            self.engine.poll(Some(LOOK))?;
            while let Some((ticket, completion)) = self.engine.next_completion() {
                let Some(counter) = self.in_flight.get_mut(ticket.index()).and_then(Option::take) else { continue };
                self.flying -= 1;
                if let Completion::Command(result) = completion {
                    self.note(counter, result, shared);
                }
            }
        }
        self.done.unknown += self.flying as u64;
        self.close()?;
        let stats = self.engine.stats();
        (self.done.retries, self.done.replayed) = (stats.retries, stats.replayed);
        Ok(self.done)
    }

    fn submit(&mut self) {
        while self.flying < IN_FLIGHT {
            let counter = self.turn % COUNTERS;
            let Some(command) = self.commands.get(counter) else { return };
            let ticket = match self.session {
                Some(session) => self.engine.submit(session, command, None),
                None => self.engine.submit_plain(command, Retry::Always, None),
            };
            // Full is full: more is submitted when some are completed.
            let Ok(ticket) = ticket else { return };
            if self.in_flight.len() <= ticket.index() {
                self.in_flight.resize(ticket.index() + 1, None);
            }
            if let Some(slot) = self.in_flight.get_mut(ticket.index()) {
                *slot = Some(counter);
            }
            self.flying += 1;
            self.turn += 1;
        }
    }

    fn note(&mut self, counter: usize, result: Result<Answer, CommandError>, shared: &Shared) {
        let value = match result {
            Ok(answer) => answer.bytes.as_deref().and_then(|bytes| match decode(bytes) {
                Some(Reply::Counted { value }) => u64::try_from(value).ok(),
                _ => None,
            }),
            Err(CommandError::NotExecuted(_)) => {
                self.done.refused += 1;
                return;
            }
            Err(CommandError::Unknown(_)) => None,
        };
        match (value, self.done.values.get_mut(counter)) {
            (Some(value), Some(values)) => {
                values.push(value);
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // An answer without its value cannot be compared, which is as good as none.
            _ => self.done.unknown += 1,
        }
    }

    /// Closes the session; if that takes too long, it expires by itself.
    fn close(&mut self) -> Result<(), EngineError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        self.engine.close_session(session);
        let begin = Instant::now();
        while self.engine.is_closing() && begin.elapsed() < CLOSE_MAX {
            self.engine.poll(Some(LOOK))?;
        }
        Ok(())
    }
}
