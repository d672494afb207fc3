//! The load by the client protocol: sessions with one request under way each, over few connections.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use raft_client::{Completion, Consistency, Engine, Options, SessionKey, SubmitError, Ticket};

use crate::bench::figures::Figures;
use crate::bench::{BenchError, Schedule, Work};

/// How long the last requests may take after the measured time. What has no answer then has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long the sessions may take to be closed.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long a thread waits for news before it looks at the clock.
const LOOK: Duration = Duration::from_millis(20);

/// Threads that make load.
pub(crate) struct Load {
    threads: Vec<JoinHandle<Result<Figures, BenchError>>>,
}

impl Load {
    /// Starts a thread with a connection for each share of the clients.
    pub(super) fn start(
        endpoints: &[String],
        connections: u32,
        clients: u32,
        work: &Work,
        schedule: Schedule,
    ) -> Result<Load, BenchError> {
        let mut threads = Vec::new();
        for number in 0..connections {
            let options = Options::new(endpoints.to_vec());
            let share: Vec<u32> = (number..clients).step_by(connections as usize).collect();
            let work = work.clone();
            let make = move || Share::new(&options, &share, &work, schedule)?.run();
            threads.push(thread::Builder::new().name(format!("load-{number}")).spawn(make)?);
        }
        Ok(Load { threads })
    }

    /// Waits for the last answers.
    pub(super) fn finish(self) -> Result<Figures, BenchError> {
        let mut all = Figures::new();
        for thread in self.threads {
            all.add(&thread.join().map_err(|_| BenchError::Panicked)??);
        }
        Ok(all)
    }
}

/// One client.
struct Client {
    session: SessionKey,
    put: Vec<u8>,
    get: Vec<u8>,
    /// Counts up, so that reads are spread evenly among puts.
    turn: u8,
}

/// A request under way.
#[derive(Clone, Copy)]
struct Flight {
    client: usize,
    read: bool,
    began: Instant,
}

/// The clients of one connection.
struct Share {
    engine: Engine,
    clients: Vec<Client>,
    reads: u8,
    /// By their tickets.
    flights: Vec<Option<Flight>>,
    flying: usize,
    schedule: Schedule,
    figures: Figures,
}

impl Share {
    fn new(options: &Options, share: &[u32], work: &Work, schedule: Schedule) -> Result<Share, BenchError> {
        let mut engine = Engine::new(options)?;
        let client = |&number: &u32| Client {
            session: engine.open_session(),
            put: work.put(number),
            get: work.get(number),
            // Each client begins elsewhere, or all would read at once.
            turn: u8::try_from(number % 100).unwrap_or_default(),
        };
        let clients = share.iter().map(client).collect();
        let figures = Figures::new();
        Ok(Share { engine, clients, reads: work.reads, flights: Vec::new(), flying: 0, schedule, figures })
    }

    fn run(mut self) -> Result<Figures, BenchError> {
        for client in 0..self.clients.len() {
            self.submit(client, Instant::now());
        }
        let patience = self.schedule.end + LAST_ANSWERS;
        while self.flying > 0 {
            self.engine.poll(Some(LOOK))?;
            let now = Instant::now();
            while let Some((ticket, completion)) = self.engine.next_completion() {
                self.complete(ticket, &completion, now);
            }
            if now > patience {
                self.figures.errors += self.flying as u64;
                break;
            }
        }
        self.close()?;
        Ok(self.figures)
    }

    fn submit(&mut self, number: usize, now: Instant) {
        let Some(client) = self.clients.get_mut(number) else { return };
        client.turn = (client.turn + 1) % 100;
        let read = spread(client.turn, self.reads);
        let ticket = if read {
            self.engine.query(Consistency::Linearizable, &client.get, None)
        } else {
            self.engine.submit(client.session, &client.put, None)
        };
        match ticket {
            Ok(ticket) => self.note(ticket, Flight { client: number, read, began: now }),
            Err(error) => self.fail(&error),
        }
    }

    fn note(&mut self, ticket: Ticket, flight: Flight) {
        if self.flights.len() <= ticket.index() {
            self.flights.resize(ticket.index() + 1, None);
        }
        if let Some(slot) = self.flights.get_mut(ticket.index()) {
            *slot = Some(flight);
            self.flying += 1;
        }
    }

    /// A client that cannot go on stands still.
    fn fail(&mut self, error: &SubmitError) {
        eprintln!("kv bench: {error}");
        self.figures.errors += 1;
    }

    fn complete(&mut self, ticket: Ticket, completion: &Completion, now: Instant) {
        let Some(flight) = self.flights.get_mut(ticket.index()).and_then(Option::take) else { return };
        self.flying -= 1;
        let done = match completion {
            Completion::Command(result) => result.is_ok(),
            Completion::Query(result) => result.is_ok(),
            Completion::Status(_) => false,
        };
        if !done {
            self.figures.errors += 1;
        } else if self.schedule.counts(now) {
            let latencies = if flight.read { &mut self.figures.reads } else { &mut self.figures.puts };
            latencies.record(now.duration_since(flight.began));
        }
        if now < self.schedule.end {
            self.submit(flight.client, Instant::now());
        }
    }

    /// Closes the sessions, so that the next measurement finds room in the table.
    fn close(&mut self) -> Result<(), BenchError> {
        for client in &self.clients {
            self.engine.close_session(client.session);
        }
        let begin = Instant::now();
        while self.engine.is_closing() && begin.elapsed() < CLOSE_MAX {
            self.engine.poll(Some(LOOK))?;
        }
        Ok(())
    }
}

/// Whether the request of this turn, of a hundred, is one of so many reads that are spread evenly.
fn spread(turn: u8, reads: u8) -> bool {
    let before = |turn: u16| turn * u16::from(reads) / 100;
    before(u16::from(turn) + 1) > before(u16::from(turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_as_many_as_asked_for_and_spread() {
        for reads in 0..=100 {
            let count = (0..100).filter(|turn| spread(*turn, reads)).count();
            assert_eq!(count, usize::from(reads));
        }
        assert_eq!((0..4).map(|turn| spread(turn, 50)).collect::<Vec<_>>(), [false, true, false, true]);
    }
}
