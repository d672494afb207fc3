//! For programs that want their own state machine broken: see [`check()`].

use std::env;
use std::num::NonZeroUsize;
use std::thread;

use crate::campaign::{self, Plan};
use crate::check::histories::Checked;
use crate::run;
use crate::shrink::shrink;
use crate::workload::Workload;

/// How many worlds are run unless `RAFT_SIM_SEEDS` says otherwise: what takes some ten seconds.
const SEEDS: u64 = if cfg!(debug_assertions) { 30 } else { 500 };
/// How many lines of the simplest failing world are shown.
const LINES_MAX: usize = 80;

/// Runs a program's state machine in simulated clusters, and panics if anything is not as it must be: for tests.
///
/// `workload` makes the program's part of the world of a seed: its state machine, its model of it, and its operations.
/// Everything that the workload does has to follow from the seed and from the chance that it is handed, or a failure
/// cannot be replayed.
///
/// `RAFT_SIM_SEEDS=10000` runs more worlds; `RAFT_SIM_SEED=17` replays one, and prints all that happens in it.
///
/// ```
/// use raft_sim::registers::RegisterLoad;
///
/// raft_sim::check(|_seed| RegisterLoad::default());
/// ```
///
/// # Panics
/// If a property is violated. The message names it, the seed, and the simplest world found in which that happens.
pub fn check<W: Workload>(workload: impl Fn(u64) -> W + Sync) {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse().ok());
    if let Some(seed) = number("RAFT_SIM_SEED") {
        return replay(seed, workload(seed));
    }
    let plan = Plan {
        first: 1,
        seeds: number("RAFT_SIM_SEEDS").unwrap_or(SEEDS),
        for_at_most: None,
        failures_max: 1,
        nodes: None,
        threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let summary = campaign::run(&plan, &workload, |_, _| {});
    let Checked { decided, undecided } = summary.checked;
    println!("{} worlds, {} histories of clients checked, {undecided} undecided", summary.seeds, decided + undecided);
    let Some(failed) = summary.failures.into_iter().next() else { return };
    let seed = failed.seed;
    let violation = failed.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let (simpler, dropped) = shrink(failed, || workload(seed));
    let from = simpler.lines.len().saturating_sub(LINES_MAX);
    let lines: Vec<&str> = simpler.lines.iter().skip(from).map(String::as_str).collect();
    panic!(
        "seed {seed}: VIOLATION of {violation}\nreplay it with RAFT_SIM_SEED={seed}\n{}\n\
         it fails alike without {dropped:?}; the end of that world:\n{}",
        simpler.options,
        lines.join("\n"),
    );
}

fn replay<W: Workload>(seed: u64, workload: W) {
    let outcome = run::run(seed, workload, true);
    println!("{}", outcome.options);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = outcome.violation {
        panic!("seed {seed}: VIOLATION of {violation}");
    }
}
