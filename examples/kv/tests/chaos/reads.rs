//! Linearizable reads from each node, held against what was acknowledged before they began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kv::command::{Command, Condition, Query, encode};
use raft_client::{BlockingClient, Completion, Consistency, Engine, Options};
use raft_core::wire::Bytes;
use raft_sim::history::{Call, End};

use crate::cluster::value_in;
use crate::history::Recorder;

/// The key that is written and read.
const KEY: &str = "fresh";
/// How long a read may take before it counts as unanswered.
const READ_MAX: Duration = Duration::from_secs(5);
/// How long a write may take before the next one is tried.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// The pause between two requests: the load is for others to make.
const PAUSE: Duration = Duration::from_millis(25);

/// What became of the reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// They showed all that was acknowledged before.
    pub(crate) fresh: u64,
    /// They did not.
    pub(crate) stale: u64,
    /// There was no answer.
    pub(crate) failed: u64,
}

/// A thread that writes numbers that go up, and for each node one that reads them there.
#[derive(Debug)]
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    recorder: Arc<Recorder>,
    writer: JoinHandle<()>,
    readers: Vec<JoinHandle<Reads>>,
}

impl Readers {
    pub(crate) fn start(endpoints: &[String]) -> Readers {
        let (stop, floor) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let recorder = Arc::new(Recorder::new(KEY));
        let writer = {
            let (stop, floor, recorder) = (stop.clone(), floor.clone(), recorder.clone());
            let options = Options::new(endpoints.to_vec());
            thread::spawn(move || write(&options, &stop, &floor, &recorder))
        };
        let reader = |endpoint: &String| {
            let (stop, floor, recorder) = (stop.clone(), floor.clone(), recorder.clone());
            let endpoint = endpoint.clone();
            thread::spawn(move || read(&endpoint, &stop, &floor, &recorder))
        };
        Readers { readers: endpoints.iter().map(reader).collect(), writer, stop, recorder }
    }

    pub(crate) fn finish(self) -> Reads {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
        let mut all = Reads::default();
        for reader in self.readers {
            let Reads { fresh, stale, failed } = reader.join().unwrap();
            (all.fresh, all.stale, all.failed) = (all.fresh + fresh, all.stale + stale, all.failed + failed);
        }
        self.recorder.export_if_asked();
        all
    }
}

fn write(options: &Options, stop: &AtomicBool, floor: &AtomicU64, recorder: &Recorder) {
    let mut client = BlockingClient::new(options).unwrap();
    client.set_timeout(Some(WRITE_MAX));
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = number.to_string();
        let command = Command::Put { key: KEY, value: Bytes(value.as_bytes()), condition: Condition::Always };
        // One client, one command after the other under a session: the values go up in the order of the log, also
        // after one without an answer.
        let recorded = recorder.begin(Call::Write(number));
        let done = client.execute(&encode(&command)).is_ok();
        recorder.end(recorded, if done { End::Ok(None) } else { End::Unknown });
        if done {
            floor.store(number, Ordering::SeqCst);
        }
        thread::sleep(PAUSE);
    }
}

/// Reads at one node, in turn as a client that goes where it is sent, and as one for which the node asks the leader.
fn read(endpoint: &str, stop: &AtomicBool, floor: &AtomicU64, recorder: &Recorder) -> Reads {
    let mut reads = Reads::default();
    let mut forward = false;
    while !stop.load(Ordering::Relaxed) {
        forward = !forward;
        let wanted = floor.load(Ordering::SeqCst);
        let recorded = recorder.begin(Call::Read);
        let answer = ask(endpoint, forward, KEY, READ_MAX);
        let number = |value: &String| value.parse().unwrap();
        recorder.end(recorded, answer.as_ref().map_or(End::Unknown, |value| End::Ok(value.as_ref().map(number))));
        match answer {
            Some(value) if value.as_deref().unwrap_or("0").parse::<u64>().unwrap() >= wanted => reads.fresh += 1,
            Some(value) => {
                println!("STALE: {endpoint} read {value:?} when {wanted} had been acknowledged");
                reads.stale += 1;
            }
            None => reads.failed += 1,
        }
        thread::sleep(PAUSE);
    }
    reads
}

/// The value of a key by a linearizable read that is asked of a node over a new connection; nothing if there
/// is no answer in time.
fn ask(endpoint: &str, forward: bool, key: &str, patience: Duration) -> Option<Option<String>> {
    let mut reader = Reader::new(endpoint, forward);
    reader.ask(key, patience);
    reader.answer(patience)
}

/// A client that asks one node, and waits for as long as that takes.
#[derive(Debug)]
pub(crate) struct Reader(Engine);

impl Reader {
    pub(crate) fn new(endpoint: &str, forward: bool) -> Reader {
        let options = Options { forward, attempt_timeout: Duration::from_secs(600), ..Options::new([endpoint]) };
        Reader(Engine::new(&options).unwrap())
    }

    /// Sends a linearizable read of a key.
    pub(crate) fn ask(&mut self, key: &str, patience: Duration) {
        self.0.query(Consistency::Linearizable, &encode(&Query::Get { key }), Some(patience)).unwrap();
        self.0.poll(Some(Duration::ZERO)).unwrap();
    }

    /// The answer to what was asked, once there is one; nothing if it failed.
    pub(crate) fn answer(&mut self, patience: Duration) -> Option<Option<String>> {
        let begin = Instant::now();
        // The deadline of the request is the same; what is added is for a machine that is slow.
        while begin.elapsed() < patience * 2 {
            self.0.poll(Some(Duration::from_millis(20))).unwrap();
            if let Some((_, Completion::Query(result))) = self.0.next_completion() {
                return result.ok().map(|answer| value_in(&answer));
            }
        }
        None
    }
}
