//! One run: a world of one seed, from its beginning to its verdict.

use std::panic::{self, AssertUnwindSafe};

use crate::coverage::Coverage;
use crate::options::Options;
use crate::random::Random;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::Workload;
use crate::world::{MILLI, World};

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
    /// What really happened.
    pub coverage: Coverage,
    /// The same for the same seed, in every build.
    pub hash: u64,
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
        hash: world.trace.hash(),
        lines: world.trace.lines().map(str::to_owned).collect(),
        coverage: world.coverage,
    }
}

fn message(panicked: &(dyn std::any::Any + Send)) -> String {
    let text = panicked.downcast_ref::<String>().cloned();
    text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
