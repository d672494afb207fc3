//! One run: a world of one seed, from its beginning to its verdict.

use std::panic::{self, AssertUnwindSafe};

use raft_core::session::limits::SessionLimits;

use crate::check::histories::Checked;
use crate::coverage::Coverage;
use crate::history;
use crate::options::Options;
use crate::random::Random;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::Workload;
use crate::world::{MILLI, World};

/// What the last clock entry takes at most, from when it is due until it is applied.
const LAST_ENTRY_MILLIS: u64 = 200;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What the world was like.
    pub options: Options,
    /// The first thing that was not as it must be.
    pub violation: Option<Violation>,
    /// How much time passed in it, in milliseconds.
    pub millis: u64,
    /// How many operations clients began.
    pub operations: u64,
    /// How many histories of clients were checked.
    pub checked: Checked,
    /// What really happened.
    pub coverage: Coverage,
    /// The same for the same seed, in every build.
    pub hash: u64,
    /// What clients saw, if the run was watched.
    pub history: Vec<history::Operation>,
    /// What happened, line by line, if the run was watched.
    pub lines: Vec<String>,
}

/// Runs the world of `seed`, as it is drawn.
pub fn run<W: Workload>(seed: u64, workload: W, watched: bool) -> Outcome {
    run_with(seed, Options::draw(seed), workload, watched)
}

/// Runs a world of `seed` with these options.
pub fn run_with<W: Workload>(seed: u64, options: Options, workload: W, watched: bool) -> Outcome {
    let faulty_millis = options.faulty_millis;
    live(seed, options, workload, watched, |world| {
        world.run_until(faulty_millis * MILLI)?;
        world.heal_and_finish()
    })
}

/// Runs a world without faults for so long: nobody may be elected but once.
pub fn run_calm<W: Workload>(seed: u64, millis: u64, workload: W, watched: bool) -> Outcome {
    live(seed, Options::calm(seed), workload, watched, |world| {
        world.run_until(millis * MILLI)?;
        match world.judge.elections() {
            1 => Ok(()),
            elections => Err(Violation::Unrest { elections }),
        }
    })
}

/// Runs a world without faults in which clients renew their sessions as they should, and then are heard of no more: no
/// session may end before, and all of them must have ended in time. No other world can tell, for in all of them
/// something keeps clients or leaders from doing what they should.
pub fn run_leases<W: Workload>(seed: u64, workload: W, watched: bool) -> Outcome {
    let mut options = Options::calm(seed);
    options.load.silent = 0;
    options.load.crashed = 0;
    options.load.hostile = 0;
    let SessionLimits { ttl, time_step_max, .. } = options.limits;
    // What the slowest clock takes for what is promised: the lease, the largest step, and a clock entry.
    let rate = 1_000_000 - options.clocks.drift / 2;
    let promised = (ttl.0 + time_step_max.0 + LAST_ENTRY_MILLIS) * 1_000_000 / rate;
    live(seed, options, workload, watched, |world| {
        world.run_until(4 * ttl.0 * MILLI)?;
        if world.judge.refused_as_expired() > 0 {
            return Err(Violation::EvictedInTime);
        }
        world.dismiss_clients();
        world.run_until(4 * ttl.0 * MILLI + promised * MILLI)?;
        match world.judge.open_sessions() {
            0 => Ok(()),
            sessions => Err(Violation::OutlivedTheirLeases { sessions }),
        }
    })
}

/// Runs a world in which nothing happens but that the links of one node go down and up again each so many milliseconds.
/// Gives how many terms there were, beside the verdict.
pub fn run_flapping<W: Workload>(seed: u64, every: u64, millis: u64, workload: W) -> (Outcome, u64) {
    let mut options = Options::calm(seed);
    options.network.flapping = every;
    let mut terms = 0;
    let outcome = live(seed, options, workload, false, |world| {
        world.run_until(millis * MILLI)?;
        terms = world.term_max();
        Ok(())
    });
    (outcome, terms)
}

fn live<W: Workload>(
    seed: u64,
    options: Options,
    workload: W,
    watched: bool,
    life: impl FnOnce(&mut World<W>) -> Result<(), Violation>,
) -> Outcome {
    let mut world = World::new(options.clone(), Random::new(seed), workload, Trace::new(watched));
    // A panic leaves the world in the midst of something: it is looked at, and not run any further.
    let lived = panic::catch_unwind(AssertUnwindSafe(|| life(&mut world)));
    let verdict = match lived {
        Ok(verdict) => verdict.and_then(|()| world.verdict()),
        Err(panicked) => Err(Violation::Panicked { message: message(panicked.as_ref()) }),
    };
    world.count_outcomes();
    Outcome {
        seed,
        options,
        violation: verdict.err(),
        millis: world.now / MILLI,
        operations: world.begun as u64,
        checked: world.checked,
        history: if watched { world.history() } else { Vec::new() },
        hash: world.trace.hash(),
        lines: world.trace.lines().map(str::to_owned).collect(),
        coverage: world.coverage,
    }
}

fn message(panicked: &(dyn std::any::Any + Send)) -> String {
    let text = panicked.downcast_ref::<String>().cloned();
    text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
