//! The closed-loop load on etcd: each client has one put outstanding and sends the next when it is answered.
//!
//! One thread does all of it. On a machine where the generator shares its cores with the servers, that takes the least
//! from them, and a thread of this client makes many times the puts that etcd answers.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::task::{JoinSet, LocalSet};

use crate::etcd::{put_method, put_request};
use crate::grpc::{CallError, Channel, ConnectError, Framed, MethodHead};
use crate::run::Run;

/// Latencies above this are recorded as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// How long the last puts may take after the measured time is over.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// So many failures are printed in full; all are counted.
const ERRORS_PRINTED_MAX: u64 = 5;

/// One load: who puts what, where, for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The leader's gRPC address.
    pub leader: SocketAddr,
    /// Clients with one put outstanding each; at least 1.
    pub clients: u32,
    /// Connections they share; at least 1, at most one per client.
    pub connections: u32,
    /// Length of each value in bytes.
    pub value_bytes: usize,
    /// Load before measuring starts.
    pub warm_up: Duration,
    /// Measured time.
    pub measured: Duration,
}

/// Why a load could not be run to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No connection to the leader.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Puts stayed without an answer.
    #[error("puts were still unanswered {} s after the measured time; is the leader gone?", LAST_ANSWERS.as_secs())]
    Unanswered,
}

struct Recorder {
    begin: Instant,
    end: Instant,
    latencies_ns: Histogram<u64>,
    errors: u64,
}

impl Recorder {
    fn new(begin: Instant, end: Instant) -> Self {
        let latencies_ns =
            Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("the bounds are constants that are in order");
        Self { begin, end, latencies_ns, errors: 0 }
    }

    /// A put counts where it ends: answered within the measured time.
    fn acknowledged(&mut self, started: Instant, ended: Instant) {
        if ended >= self.begin && ended < self.end {
            let ns = u64::try_from(ended.duration_since(started).as_nanos()).unwrap_or(LATENCY_NS_MAX);
            self.latencies_ns.saturating_record(ns);
        }
    }

    fn failed(&mut self, error: &CallError) {
        self.errors += 1;
        if self.errors <= ERRORS_PRINTED_MAX {
            eprintln!("etcd-load: a put failed: {error}");
        }
    }

    fn result(&self, clients: u32) -> Run {
        let micros = |quantile| self.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        Run {
            clients: u64::from(clients),
            puts_per_second: self.latencies_ns.len() as f64 / self.end.duration_since(self.begin).as_secs_f64(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            entries_per_sync: None,
            errors: self.errors,
        }
    }
}

/// Runs `load` on the current thread's runtime and returns what came of it.
pub async fn run(load: &Load) -> Result<Run, LoadError> {
    LocalSet::new().run_until(run_local(load)).await
}

async fn run_local(load: &Load) -> Result<Run, LoadError> {
    let connections = load.connections.clamp(1, load.clients.max(1));
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(Channel::connect(load.leader).await?);
    }
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.measured;
    let recorder = Rc::new(RefCell::new(Recorder::new(begin, end)));
    let method = put_method(load.leader);
    let value = noise(load.value_bytes);
    let mut clients = JoinSet::new();
    for (id, channel) in (0..load.clients).zip(channels.iter().cycle()) {
        let request = put_request(format!("k{id:07}").as_bytes(), &value);
        clients.spawn_local(client(channel.clone(), method.clone(), request, Rc::clone(&recorder)));
    }
    let all = async { while clients.join_next().await.is_some() {} };
    let patience = end + LAST_ANSWERS;
    tokio::time::timeout_at(patience.into(), all).await.map_err(|_| LoadError::Unanswered)?;
    let result = recorder.borrow().result(load.clients);
    Ok(result)
}

async fn client(mut channel: Channel, method: MethodHead, request: Framed, recorder: Rc<RefCell<Recorder>>) {
    let end = recorder.borrow().end;
    loop {
        let started = Instant::now();
        if started >= end {
            return;
        }
        match channel.call(&method, request.clone()).await {
            Ok(_) => recorder.borrow_mut().acknowledged(started, Instant::now()),
            Err(error) => {
                recorder.borrow_mut().failed(&error);
                // A broken connection stays broken; trying again would only count the same failure many times.
                if matches!(error, CallError::Stream(_)) {
                    return;
                }
            }
        }
    }
}

/// Bytes that do not compress, the same in every run (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_within_the_measured_time_count() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut recorder = Recorder::new(at(1_000), at(3_000));
        recorder.acknowledged(at(990), at(999));
        recorder.acknowledged(at(990), at(1_000));
        recorder.acknowledged(at(2_000), at(2_010));
        recorder.acknowledged(at(2_990), at(3_000));
        recorder.failed(&CallError::NoStatus);
        let result = recorder.result(4);
        assert_eq!((result.clients, result.puts_per_second, result.errors), (4, 1.0, 1));
        assert!((result.p50_us - 10_000.0).abs() <= 10.0, "three digits: {}", result.p50_us);
    }

    #[test]
    fn values_have_their_length() {
        assert_eq!(noise(256).len(), 256);
        assert_ne!(noise(256)[..8], noise(256)[8..16]);
    }
}
