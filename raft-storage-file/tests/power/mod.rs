//! Power cuts at every call to the disk: what tests of it share.
//!
//! [`script`] and [`draw`] say what a node does, [`run`] lets it do so until the power goes, [`image`] is what it may
//! leave behind, [`enumeration`] tries all that a power loss may make of that, and [`seeds`] does it for many scripts.

use std::fmt;

use raft_storage_file::simulated::Fate;

pub(crate) mod draw;
pub(crate) mod enumeration;
pub(crate) mod image;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod seeds;

/// The fates to try for `count` things: all combinations of a few things; of many the whole, nothing,
/// every beginning and end, every hole and every lone survivor, and a few by chance. Only nothing, the whole and
/// every second one if it is not to be `thorough`.
pub(crate) fn fates(count: usize, thorough: bool) -> Vec<Vec<Fate>> {
    let choose = |kept: &dyn Fn(usize) -> bool| -> Vec<Fate> {
        (0..count).map(|thing| if kept(thing) { Fate::Kept } else { Fate::Lost }).collect()
    };
    if !thorough {
        let halves = [choose(&|thing| thing % 2 == 0), choose(&|thing| thing % 2 == 1)];
        return [choose(&|_| false), choose(&|_| true)].into_iter().chain(halves).collect();
    }
    let mut fates = Vec::new();
    if count <= 5 {
        fates.extend((0..1usize << count).map(|bits| choose(&|thing| bits >> thing & 1 == 1)));
    } else {
        fates.extend([choose(&|_| false), choose(&|_| true)]);
        for at in 0..count {
            fates.push(choose(&|thing| thing < at));
            fates.push(choose(&|thing| thing >= at));
            fates.push(choose(&|thing| thing == at));
            fates.push(choose(&|thing| thing != at));
        }
        for seed in 1..=4u64 {
            let random = |thing: usize| (seed * 0x9e37_79b9).wrapping_mul(thing as u64 * 2 + 1) >> 7 & 1 == 1;
            fates.push(choose(&random));
        }
    }
    for at in 0..count {
        for others in [Fate::Kept, Fate::Lost] {
            fates.push((0..count).map(|thing| if thing == at { Fate::Garbage } else { others }).collect());
        }
    }
    fates
}

/// How it came to a state, for when something is wrong with it.
pub(crate) struct Trail<'a> {
    /// The power loss before this one, if the power goes during a recovery.
    pub(crate) before: Option<&'a Trail<'a>>,
    /// The call at which the power went.
    pub(crate) call: usize,
    /// What became of what was not synced.
    pub(crate) fates: &'a [Fate],
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            write!(formatter, "{before}, then during the recovery ")?;
        }
        write!(formatter, "the power goes at call {}, and what was not synced is {:?}", self.call, self.fates)
    }
}

/// Says how it came to a state, if something panics while that is looked at.
pub(crate) struct Telling<'a>(pub(crate) &'a Trail<'a>);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this is what {} leads to", self.0);
        }
    }
}
