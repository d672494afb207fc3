//! Many scripts, on all processors, until there were enough states.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::draw;
use super::enumeration::{Counts, Enumeration};
use super::script::{self, Script};

/// The script of a seed: the first ones are written by hand.
pub(crate) fn script_of(seed: u64) -> Script {
    match seed {
        0 => script::of_logs(),
        1 => script::of_snapshots(),
        _ => draw::script(seed),
    }
}

/// What came of the seeds so far.
#[derive(Default)]
pub(crate) struct Total {
    /// By what is on the disk and what is allowed.
    states: HashSet<u64>,
    pub(crate) counts: Counts,
    next_seed: u64,
    /// Those whose predecessors are not done yet. The outcome does not depend on which thread is faster.
    waiting: BTreeMap<u64, Enumeration>,
    merged: u64,
    done: bool,
}

impl Total {
    /// How many different states there were.
    pub(crate) fn states(&self) -> usize {
        self.states.len()
    }

    fn add(&mut self, enumeration: &Enumeration) {
        self.states.extend(enumeration.seen.keys());
        self.counts += enumeration.counts;
    }

    fn finish(&mut self, seed: u64, enumeration: Enumeration, states_wanted: usize) {
        self.waiting.insert(seed, enumeration);
        while !self.done
            && let Some(enumeration) = self.waiting.remove(&self.merged)
        {
            self.add(&enumeration);
            self.merged += 1;
            self.done = self.states() >= states_wanted;
        }
    }
}

/// Tries one seed.
pub(crate) fn one(seed: u64) -> Total {
    let mut total = Total::default();
    total.add(&tell(seed));
    total
}

/// Tries seeds from 0 on, until there were that many states.
pub(crate) fn many(states_wanted: usize) -> Total {
    let total = Mutex::new(Total::default());
    let locked = || total.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || loop {
        let seed = {
            let mut total = locked();
            if total.done {
                return;
            }
            total.next_seed += 1;
            total.next_seed - 1
        };
        match catch_unwind(|| tell(seed)) {
            Ok(enumeration) => locked().finish(seed, enumeration, states_wanted),
            Err(panic) => {
                locked().done = true;
                resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Tries a seed; says how to do so again if something is wrong.
fn tell(seed: u64) -> Enumeration {
    let script = script_of(seed);
    catch_unwind(AssertUnwindSafe(|| Enumeration::of(&script))).unwrap_or_else(|panic| {
        eprintln!(
            "seed {seed} failed: {script:?}\nto see it again:\n    \
             CRASH_SEED={seed} cargo test -p raft-storage-file --test crash_points -- --nocapture"
        );
        resume_unwind(panic)
    })
}
