//! The power goes at every call to the disk while a node's directory is created, while its log is written, cut back and
//! rotated, while snapshots are made, received and compacted behind, and at starts; with every subset of what was not
//! synced that is worth trying, names in the directory included. It goes again at every call of the recovery that
//! follows, and at every call of the one after that, with nothing, all or half of what was not synced.
//!
//! `CRASH_STATES` says how many different states of the disk are to be tried, `CRASH_SEED` that only one script is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod power;

use std::collections::BTreeMap;

use power::enumeration::{Counts, Enumeration};
use power::script::Action;
use power::seeds;

/// As many as take some ten seconds.
const STATES: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };

/// How often at least the scripts must lead to each thing that is counted.
const LEAST: usize = if cfg!(debug_assertions) { 4 } else { 10 };

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn the_power_goes_at_every_call() {
    let begun = std::time::Instant::now();
    let seed = number("CRASH_SEED");
    let wanted = number("CRASH_STATES").map_or(STATES, |states| usize::try_from(states).unwrap());
    let total = seed.map_or_else(|| seeds::many(wanted), seeds::one);
    let states = total.states();
    let Counts { scripts, points, by_depth: [first, second, third], torn, suspect, newest, oldest, creation, .. } =
        total.counts;
    let Counts { rotations, adopted, installed, segments_removed, snapshots_removed, starts, .. } = total.counts;
    println!(
        "{states} different states of the disk in {:.1} s, from {scripts} scripts and {points} crash points; met first by \
         a power loss: {first}, by one in the recovery from it: {second}, by one in the recovery from that: {third}\n\
         {torn} with a torn tail, {suspect} with a suspect one, {newest} with what was on its way and {oldest} without, \
         {creation} of a directory in creation\n\
         the scripts have {rotations} rotations, {starts} starts, {adopted} new snapshots ({installed} received), \
         and remove {segments_removed} segments and {snapshots_removed} snapshots",
        begun.elapsed().as_secs_f64(),
    );
    if seed.is_some() {
        return;
    }
    assert!(states >= wanted);
    for (what, count) in [
        ("power losses during recovery", second),
        ("power losses during the second recovery", third),
        ("torn tails", torn),
        ("suspect tails", suspect),
        ("what was on its way", newest),
        ("what was before", oldest),
        ("creation", creation),
        ("rotations", rotations),
        ("starts", starts),
        ("snapshots", adopted),
        ("received snapshots", installed),
        ("removed segments", segments_removed),
        ("removed snapshots", snapshots_removed),
    ] {
        assert!(count >= LEAST, "the scripts must lead to {what}");
    }
}

#[test]
fn a_seed_leads_to_the_same_states_each_time() {
    let states = |seed| {
        let mut script = seeds::script_of(seed);
        script.actions.truncate(8);
        script.actions.push(Action::Flush);
        let Enumeration { seen, counts, .. } = Enumeration::of(&script);
        (seen.into_iter().collect::<BTreeMap<_, _>>(), counts)
    };
    let first = states(2);
    assert!(first.1.points > 10 && first.0.len() > 100, "{:?}", first.1);
    assert_eq!(states(2), first);
    assert!(states(3) != first);
}
