//! Rounds of all systems in turn, and their medians.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::heap;
use crate::systems::System;
use crate::work::{Cluster, Work};

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Of each system at each point, all rounds together.
    pub(crate) measured: Duration,
    pub(crate) rounds: u32,
}

/// What one system did at one point.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) system: System,
    /// By round.
    nanoseconds_per_entry: Vec<f64>,
    /// Of all rounds.
    entries: u64,
    allocations: u64,
}

impl Figures {
    /// Of the median round.
    pub(crate) fn nanoseconds_per_entry(&self) -> f64 {
        median(self.nanoseconds_per_entry.clone())
    }

    /// Of all rounds.
    pub(crate) fn allocations_per_entry(&self) -> f64 {
        self.allocations as f64 / self.entries as f64
    }

    /// Whether it took memory from the heap though it must not.
    pub(crate) fn broke_its_word(&self) -> bool {
        self.system.needs_no_heap() && self.allocations > 0
    }

    /// How many times the other's time this one needs. Rounds are compared with their neighbours, and the median is
    /// given, so that a slow spell of the machine drops out.
    pub(crate) fn ratio_to(&self, other: &Figures) -> f64 {
        let rounds = self.nanoseconds_per_entry.iter().zip(&other.nanoseconds_per_entry);
        median(rounds.map(|(this, other)| this / other).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// A cluster with the turns that it does in a round.
struct Runner {
    system: System,
    cluster: Box<dyn Cluster>,
    turns: u64,
    /// Nanoseconds per entry, by round.
    rounds: Vec<f64>,
    entries: u64,
    allocations: u64,
}

/// Measures the systems at one point.
pub(crate) fn point(work: Work, systems: &[System], plan: Plan) -> Vec<Figures> {
    let round = plan.measured / plan.rounds;
    let mut runners: Vec<_> = systems.iter().map(|&system| Runner::start(system, work, round)).collect();
    for number in 0..plan.rounds as usize {
        // Nobody always comes behind the same other one.
        let count = runners.len();
        (0..count).for_each(|place| runners[(place + number) % count].round(work));
    }
    runners.into_iter().map(Runner::figures).collect()
}

impl Runner {
    /// Starts a cluster and warms it up for about as long as a round, which tells how many turns a round has.
    fn start(system: System, work: Work, round: Duration) -> Runner {
        let mut cluster = system.start(work);
        let (start, mut turns) = (Instant::now(), 1);
        while start.elapsed() < round {
            cluster.run(turns);
            turns *= 2;
        }
        let per_turn = start.elapsed().as_secs_f64() / (turns - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, and a guess anyway")]
        let turns = (round.as_secs_f64() / per_turn).ceil() as u64;
        Runner { system, cluster, turns, rounds: Vec::new(), entries: 0, allocations: 0 }
    }

    fn round(&mut self, work: Work) {
        let entries = self.turns * work.in_flight as u64;
        let (allocations, start) = (heap::allocations(), Instant::now());
        black_box(&mut self.cluster).run(self.turns);
        let elapsed = start.elapsed();
        self.allocations += heap::allocations() - allocations;
        self.entries += entries;
        self.rounds.push(elapsed.as_secs_f64() * 1e9 / entries as f64);
    }

    fn figures(self) -> Figures {
        Figures {
            system: self.system,
            nanoseconds_per_entry: self.rounds,
            entries: self.entries,
            allocations: self.allocations,
        }
    }
}
