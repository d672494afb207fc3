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
pub(crate) struct Same(u64);

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
    use std::collections::VecDeque;
    use std::collections::hash_map::Entry;

    use super::*;
    use crate::setup::Setup;
    use crate::spaces::spaces;
    use crate::world::{Action, Run, World};

    fn hash(world: &World) -> u64 {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    }

    /// All that may be next. The memo begins anew: what came of the same inputs at other times, to
    /// nodes with the same fingerprints, is not known.
    fn next(run: &mut Run, world: &World) -> Vec<(Action, World)> {
        let mut actions = Vec::new();
        world.actions(&run.space.limits, &mut actions);
        let of = |action: Action| {
            run.memo = Memo::default();
            let next = world.next(run, &action)?;
            Some((action, next))
        };
        actions.into_iter().filter_map(of).collect()
    }

    /// Where the ways out of a state lead, but for those that lead back to itself.
    fn hashes(from: u64, next: &[(Action, World)]) -> Vec<(&Action, u64)> {
        next.iter().map(|(action, world)| (action, hash(world))).filter(|&(_, to)| to != from).collect()
    }

    #[test]
    fn states_that_are_taken_for_one_go_on_alike() {
        let states_max = if cfg!(debug_assertions) { 150 } else { 2_000 };
        for space in spaces() {
            let mut run = Run { thorough: true, ..Run::new(&space) };
            let mut setup = Setup::new(&space);
            (space.start)(&mut setup);
            let start = setup.world();
            let (mut known, mut met_again) = (HashMap::from([(hash(&start), start.clone())]), 0);
            let mut queue = VecDeque::from([start]);
            while let Some(world) = queue.pop_front().filter(|_| known.len() < states_max) {
                for (action, world) in next(&mut run, &world) {
                    let from = hash(&world);
                    match known.entry(from) {
                        Entry::Vacant(place) => queue.push_back(place.insert(world).clone()),
                        Entry::Occupied(first) => {
                            met_again += 1;
                            let (one, other) = (next(&mut run, first.get()), next(&mut run, &world));
                            assert_eq!(hashes(from, &one), hashes(from, &other), "in {}, after {action:?}", space.name);
                        }
                    }
                }
            }
            assert!(met_again > states_max / 10, "{}: {met_again} times", space.name);
        }
    }
}
