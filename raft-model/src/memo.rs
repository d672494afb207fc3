//! What came of each input to each state of a node, so that the core runs once for each. The same
//! node in the same state turns up in very many states of the whole, and is kept once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use crate::node::{Input, Node, Outcome};
use crate::space::Limits;

/// The shards of each table, so that threads seldom wait for each other.
const SHARDS: usize = 64;
/// When a shard has so many outcomes, it begins anew: that bounds the memory.
const SHARD_OUTCOMES_MAX: usize = 20_000;

type Table<V> = [Mutex<HashMap<u64, V, BuildHasherDefault<Same>>>; SHARDS];

/// The outcomes known so far.
pub(crate) struct Memo {
    outcomes: Table<Option<Arc<Outcome>>>,
    nodes: Table<Arc<Node>>,
}

/// The keys are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the keys are numbers");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Default for Memo {
    fn default() -> Memo {
        let (outcomes, nodes) = (std::array::from_fn(|_| Mutex::default()), std::array::from_fn(|_| Mutex::default()));
        Memo { outcomes, nodes }
    }
}

impl Memo {
    /// As [`Node::take`].
    pub(crate) fn take(&self, node: &Node, limits: &Limits, input: &Input) -> Option<Arc<Outcome>> {
        let mut hasher = DefaultHasher::new();
        (node.fingerprint(), input).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(known) = with(&self.outcomes, key, |shard| shard.get(&key).cloned()) {
            return known;
        }
        let outcome = node.take(limits, input).map(|mut outcome| {
            outcome.node = self.once(outcome.node);
            Arc::new(outcome)
        });
        with(&self.outcomes, key, |shard| {
            if shard.len() >= SHARD_OUTCOMES_MAX {
                shard.clear();
            }
            shard.insert(key, outcome.clone());
        });
        outcome
    }

    /// The node, or one in the same state that is there already.
    pub(crate) fn once(&self, node: Arc<Node>) -> Arc<Node> {
        let key = node.fingerprint();
        with(&self.nodes, key, |shard| {
            if shard.len() >= SHARD_OUTCOMES_MAX {
                shard.retain(|_, node| Arc::strong_count(node) > 1);
            }
            Arc::clone(shard.entry(key).or_insert(node))
        })
    }
}

fn with<V, T>(table: &Table<V>, key: u64, look: impl FnOnce(&mut HashMap<u64, V, BuildHasherDefault<Same>>) -> T) -> T {
    let shard = usize::try_from(key % SHARDS as u64).ok().and_then(|shard| table.get(shard));
    let shard = shard.expect("there are so many shards");
    // A thread that ended over a shard has left it whole.
    look(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use crate::setup::Setup;
    use crate::spaces::spaces;
    use crate::world::{Run, World};

    /// A walk of the last steps that are there, or others, by chance.
    fn walk(run: &Run, start: &World, seed: u64) -> usize {
        let (mut known, mut real, mut chance) = (start.clone(), start.clone(), seed);
        for step in 0..60 {
            let actions = |world: &World| {
                let mut actions = Vec::new();
                world.actions(&run.space.limits, &mut actions);
                actions
            };
            let (known_actions, real_actions) = (actions(&known), actions(&real));
            assert_eq!(known_actions, real_actions);
            chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let place = usize::try_from(chance >> 33).unwrap();
            let Some(action) = real_actions.get(place % real_actions.len().max(1)) else { return step };
            // The real one is not told what came of the same inputs in other walks, at other times.
            match (known.next(run, action), real.next(&Run::new(&run.space), action)) {
                (Some(next_known), Some(next_real)) => (known, real) = (next_known, next_real),
                (None, None) => {}
                (one, other) => panic!("{action:?} leads to {one:?} or {other:?}"),
            }
            assert!(known == real, "after {action:?}");
        }
        60
    }

    #[test]
    fn nodes_with_equal_fingerprints_go_on_alike() {
        for space in spaces() {
            let run = Run::new(&space);
            let mut setup = Setup::new(&space);
            (space.start)(&mut setup);
            let start = setup.world();
            let steps: usize = (0..30).map(|seed| walk(&run, &start, seed)).sum();
            assert!(steps > 300, "{}: {steps} steps", space.name);
        }
    }
}
