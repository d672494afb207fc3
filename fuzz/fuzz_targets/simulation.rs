//! A whole simulated cluster from bytes: the first eight are the seed that a world is drawn from, those behind them
//! switch its faults off or make them rarer, and shorten it. All that can come of this must be survived, so no checker
//! may object. See `raft-sim` for what these worlds are like and what is checked.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use raft_sim::options::{Every, Options};
use raft_sim::registers::RegisterLoad;
use raft_sim::run::run_with;

/// The longest time for faults, in milliseconds: many short worlds instead of a long one.
const FAULTY_MILLIS_MAX: u64 = 6_000;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((seed, changes)) = data.split_first_chunk() else { return Corpus::Reject };
    let seed = u64::from_le_bytes(*seed);
    let options = change(Options::draw(seed), changes);
    let outcome = run_with(seed, options, RegisterLoad::default(), false);
    if let Some(violation) = outcome.violation {
        panic!("seed {seed}: VIOLATION of {violation}\n{}", outcome.options);
    }
    Corpus::Keep
});

/// What a byte makes of the mean time between two faults. Faults only ever become rarer: how many can be survived at
/// once was decided as the world was drawn.
fn rarer(every: &mut Every, byte: u8) {
    *every = match byte % 4 {
        0 => *every,
        1 => 0,
        more => every.saturating_mul(more.into()),
    };
}

/// What a byte makes of a chance.
fn less(chance: &mut u64, byte: u8) {
    *chance = if byte % 4 == 1 { 0 } else { *chance >> (byte % 4) };
}

fn change(mut options: Options, bytes: &[u8]) -> Options {
    let mut bytes = bytes.iter().copied();
    // What is not told stays as it was drawn.
    let mut next = || bytes.next().unwrap_or(0);
    options.faulty_millis = options.faulty_millis.min(FAULTY_MILLIS_MAX) >> (next() % 3);
    let Options { network, disks, clocks, processes, operator, load, .. } = &mut options;
    let chances =
        [&mut network.lost, &mut network.doubled, &mut network.replayed, &mut network.damaged, &mut network.slow];
    chances.into_iter().for_each(|chance| less(chance, next()));
    let times = [
        &mut network.parted,
        &mut network.clogged,
        &mut disks.stalled,
        &mut disks.failed,
        &mut disks.full,
        &mut disks.decayed,
        &mut clocks.jumped,
        &mut processes.crashed,
        &mut processes.killed,
        &mut processes.blackout,
        &mut processes.paused,
        &mut processes.stopped,
        &mut processes.wiped,
        &mut processes.restored,
        &mut processes.doubled,
        &mut operator.members_changed,
        &mut operator.transferred,
        &mut operator.snapshot_made,
        &mut load.crashed,
        &mut load.silent,
        &mut load.storm,
        &mut load.hostile,
    ];
    times.into_iter().for_each(|every| rarer(every, next()));
    less(&mut clocks.drift, next());
    less(&mut load.plain_percent, next());
    disks.garbage &= next() % 2 == 0;
    options
}
