//! Whole replicas under random faults: messages are lost, repeated and overtake each other, links
//! are cut, disks are slow and small, nodes crash and lose what was not durable, disks are wiped,
//! members come and go, leadership is handed over, logs are compacted; and clients with sessions
//! repeat their commands on any node until they have an answer. All the time it is checked that
//!
//! - a term has one leader (election safety), who has all that was ever applied (leader completeness),
//! - logs that agree on an entry agree on all before it (log matching), as far as they hold entries,
//! - all replicas apply the same entries with the same outcomes, and have the same state after the
//!   same entry, however they came by it (state machine safety),
//! - of consecutive configurations, each two quorums have a member in common, and no log holds two
//!   that are not committed,
//! - no command is executed twice, and every client is told the one answer of its command,
//! - a read, by lease or not, sees all that was answered before it began;
//!
//! and, when the faults have ended, that all commands are answered, the members agree on who they
//! are, and all replicas are equal.
//!
//! A failure prints its seed and what happened. `SEED=n` runs that seed alone, `SEEDS=n` so many.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

mod checks;
mod clients;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod machine;
mod members;
mod told;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use told::Coverage;
use world::{Kind, Trace, World};

/// Runs the seeds; gives what they covered.
fn run_seeds(kind: Kind, seeds: u64) -> Coverage {
    let number = |name| std::env::var(name).ok().map(|value: String| value.parse::<u64>().unwrap());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(seeds),
    };
    let mut covered = Coverage::default();
    for seed in seeds {
        let trace = Trace::default();
        let run = || {
            let mut world = World::new(seed, kind, Rc::clone(&trace));
            world.run();
            world.covered
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(one) => covered.add(&one),
            Err(panic) => {
                println!("{kind:?}, SEED={seed}:\n{}", trace.borrow().join("\n"));
                resume_unwind(panic);
            }
        }
    }
    println!("{kind:?}: {covered:?}");
    covered
}

/// One seed alone may not meet everything.
fn whole_run() -> bool {
    std::env::var_os("SEED").is_none() && std::env::var_os("SEEDS").is_none()
}

#[test]
fn the_same_members_under_faults() {
    let covered = run_seeds(Kind::Steady, 60);
    if whole_run() {
        covered.assert_met(&["commands", "reads", "lease_reads", "snapshots_made", "crashes", "transfers_done"]);
    }
}

#[test]
fn changing_members_under_faults() {
    let covered = run_seeds(Kind::Changing, 100);
    if whole_run() {
        let not_met: &[&str] = &["decays", "diverged"];
        let all = covered.counts().into_iter().map(|(name, _)| name);
        covered.assert_met(&all.filter(|name| !not_met.contains(name)).collect::<Vec<_>>());
    }
}

#[test]
fn a_replica_whose_state_decays_is_stopped() {
    let covered = run_seeds(Kind::Decay, 30);
    if whole_run() {
        covered.assert_met(&["diverged"]);
    }
}
