//! What a power loss may make of a disk, for tests that try all of it.

use std::fmt;

use raft_storage_file::simulated::Fate;

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
