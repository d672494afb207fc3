//! A queue of jobs on one key: everything that clients do is one history, whose model is large and knows the time.

use std::collections::{BTreeMap, VecDeque};

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::types::ClusterTime;
use raft_sim::campaign::{self, Plan};
use raft_sim::random::Random;
use raft_sim::workload::{Kind, Operation, Workload};

/// How many worlds are run: fewer where they take ten times as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 20 } else { 200 };
/// The most memory that this process may have had.
const KIBIBYTES_MAX: u64 = 500_000;
/// So long a worker has a job for itself, in milliseconds of cluster time; then it is handed out again.
const LEASE_MILLIS: u64 = 300;

const ADD: u8 = 0;
const TAKE: u8 = 1;
const DONE: u8 = 2;

/// The jobs: when each one may be taken, and those that are done are gone.
#[derive(Debug, Default)]
struct Queue {
    free_at: BTreeMap<u64, u64>,
}

fn number(command: &[u8]) -> u64 {
    command.get(1..9).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl StateMachine for Queue {
    fn apply(&mut self, Position { time: ClusterTime(now), .. }: Position, command: &[u8], answer: &mut Answer<'_>) {
        match command.first() {
            Some(&ADD) => {
                self.free_at.insert(number(command), 0);
            }
            Some(&TAKE) => {
                if let Some((job, free_at)) = self.free_at.iter_mut().find(|(_, free_at)| **free_at <= now) {
                    *free_at = now + LEASE_MILLIS;
                    answer.write(&job.to_le_bytes());
                }
            }
            Some(&DONE) => answer.write(&[u8::from(self.free_at.remove(&number(command)).is_some())]),
            _ => {}
        }
    }

    fn query(&self, _: &[u8], answer: &mut dyn Sink) {
        answer.write(&(self.free_at.len() as u64).to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        for (job, free_at) in &self.free_at {
            state.write(&job.to_le_bytes());
            state.write(&free_at.to_le_bytes());
        }
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.free_at.clear();
        let mut job = [0; 8];
        while state.read(&mut job) == 8 {
            let mut free_at = [0; 8];
            state.read_exact(&mut free_at)?;
            self.free_at.insert(u64::from_le_bytes(job), u64::from_le_bytes(free_at));
        }
        Ok(())
    }

    fn digest(&self) -> u64 {
        let mix = |sum: u64, number: &u64| (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        self.free_at.iter().fold(0, |sum, (job, free_at)| mix(mix(sum, job), free_at))
    }
}

/// Workers and those who give them work.
#[derive(Debug, Default)]
struct Work {
    jobs: u64,
}

impl Workload for Work {
    type Machine = Queue;
    /// Jobs in the order in which they came, and when each may be taken.
    type Model = VecDeque<(u64, u64)>;

    fn machine(&self) -> Queue {
        Queue::default()
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let command = |what: u8, job: u64| Operation::command(0, [&[what][..], &job.to_le_bytes()].concat());
        match random.below(10) {
            0..=4 => {
                self.jobs += 1;
                command(ADD, self.jobs)
            }
            // The number makes each of them another one.
            5..=6 => command(TAKE, random.bits()),
            7..=8 => command(DONE, random.between(0, self.jobs)),
            _ => Operation::query(0, Vec::new()),
        }
    }

    fn model(&self, _: u64) -> Self::Model {
        VecDeque::new()
    }

    fn apply(&self, jobs: &mut Self::Model, position: Position, operation: &Operation) -> Vec<u8> {
        let Kind::Command(command) = &operation.kind else { return (jobs.len() as u64).to_le_bytes().to_vec() };
        let (now, job) = (position.time.0, number(command));
        match command.first() {
            Some(&ADD) => {
                let place = jobs.partition_point(|(other, _)| *other < job);
                jobs.insert(place, (job, 0));
                Vec::new()
            }
            Some(&TAKE) => match jobs.iter_mut().find(|(_, free_at)| *free_at <= now) {
                Some((job, free_at)) => {
                    *free_at = now + LEASE_MILLIS;
                    job.to_le_bytes().to_vec()
                }
                None => Vec::new(),
            },
            _ => {
                let there = jobs.iter().position(|(other, _)| *other == job);
                there.and_then(|place| jobs.remove(place));
                vec![u8::from(there.is_some())]
            }
        }
    }

    fn describe(&self, operation: &Operation) -> String {
        let job = number(operation.bytes());
        match operation.bytes().first() {
            Some(&ADD) => format!("add job {job}"),
            Some(&TAKE) => "take a job".to_owned(),
            Some(&DONE) => format!("job {job} is done"),
            _ => "count the jobs".to_owned(),
        }
    }
}

#[test]
fn a_long_history_on_one_key_is_decided_in_little_memory() {
    let plan = Plan { first: 1, seeds: SEEDS, for_at_most: None, failures_max: 1, threads: 2, nodes: None };
    let summary = campaign::run(&plan, |_| Work::default(), |_, _| {});
    let violation = summary.failures.first().map(|failed| (failed.seed, failed.violation.clone()));
    assert!(violation.is_none(), "{violation:?}");
    // A world in which nobody was answered has no history.
    assert!(summary.checked.decided > SEEDS * 9 / 10 && summary.checked.undecided == 0, "{:?}", summary.checked);
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("it is a number");
        println!("{kibibytes} KiB at most, {} operations", summary.operations);
        assert!(kibibytes < KIBIBYTES_MAX, "{kibibytes} KiB");
    }
}
