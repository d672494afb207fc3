//! Which states have been met in any space: spaces overlap, and what lies in two of them is one state.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use crate::memo::Same;
use crate::world::World;

/// The shards, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// The states met so far, by their hashes. Should two states have the same hash, they count once.
pub struct Met([Mutex<HashSet<u64, BuildHasherDefault<Same>>>; SHARDS]);

impl Default for Met {
    fn default() -> Met {
        Met(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Met {
    /// Notes a state; gives whether it is new. What a space still allows to happen is no part of it.
    pub(crate) fn note(&self, world: &World) -> bool {
        let mut hasher = DefaultHasher::new();
        world.happened().hash(&mut hasher);
        let hash = hasher.finish();
        let shard = usize::try_from(hash % SHARDS as u64).ok().and_then(|shard| self.0.get(shard));
        let shard = shard.expect("there are so many shards");
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }
}
