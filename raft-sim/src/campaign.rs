//! Many runs, on all cores: each seed is a world of its own, so their order does not matter.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::check::histories::Checked;
use crate::coverage::Coverage;
use crate::options::Options;
use crate::run::{self, Outcome};
use crate::workload::Workload;

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many worlds there were.
    pub seeds: u64,
    /// The simulated time of all of them, in milliseconds.
    pub millis: u64,
    /// The operations of all clients.
    pub operations: u64,
    /// How many histories of clients were checked.
    pub checked: Checked,
    /// What happened in them.
    pub coverage: Coverage,
    /// Those in which something was not as it must be, by seed.
    pub failures: Vec<Outcome>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.millis += outcome.millis;
        self.operations += outcome.operations;
        self.checked.decided += outcome.checked.decided;
        self.checked.undecided += outcome.checked.undecided;
        self.coverage.merge(&outcome.coverage);
        if outcome.violation.is_some() {
            self.failures.push(outcome);
        }
    }
}

/// Which runs to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub first: u64,
    /// How many; without a limit of time, exactly so many unless `failures_max` are found before.
    pub seeds: u64,
    /// Until when.
    pub for_at_most: Option<Duration>,
    /// After so many failures no further world is begun.
    pub failures_max: usize,
    /// On how many threads.
    pub threads: usize,
    /// How many nodes every world begins with, instead of what is drawn.
    pub nodes: Option<u64>,
}

/// Runs the worlds of a plan. `told` hears of progress: how many were run, and how many simulated milliseconds.
pub fn run<W: Workload>(plan: &Plan, workload: impl Fn(u64) -> W + Sync, told: impl Fn(u64, u64) + Sync) -> Summary {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let end = plan.for_at_most.map(|time| Instant::now() + time);
    thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= plan.seeds {
                        return;
                    }
                    let seed = plan.first.wrapping_add(number);
                    let mut options = Options::draw(seed);
                    options.nodes = plan.nodes.unwrap_or(options.nodes);
                    let outcome = run::run_with(seed, options, workload(seed), false);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(outcome);
                    enough.fetch_or(summary.failures.len() >= plan.failures_max, Ordering::Relaxed);
                    told(summary.seeds, summary.millis);
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|outcome| outcome.seed);
    summary
}
