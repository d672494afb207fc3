//! What must hold in every state (Raft paper, figure 3).

use raft_core::types::Index;

use crate::disk::Slot;
use crate::world::World;

/// At most one leader is elected in each term.
pub const ELECTION_SAFETY: &str = "election safety";
/// If two logs hold the same entry, they are equal up to there.
pub const LOG_MATCHING: &str = "log matching";
/// An entry committed in a term is in the logs of the leaders of all later ones.
pub const LEADER_COMPLETENESS: &str = "leader completeness";
/// No two nodes apply different entries at one index.
pub const STATE_MACHINE_SAFETY: &str = "state machine safety";
/// The core never takes a message of a correct node for one that none would send.
pub const NOTHING_REFUSED: &str = "no message of a correct node is refused";
/// The core never finds its own state impossible.
pub const NO_PANIC: &str = "the core's own assertions hold";

/// All of them.
pub const PROPERTIES: [&str; 6] =
    [ELECTION_SAFETY, LOG_MATCHING, LEADER_COMPLETENESS, STATE_MACHINE_SAFETY, NOTHING_REFUSED, NO_PANIC];

pub(crate) fn election_safety(world: &World) -> bool {
    !world.history().two_leaders()
}

pub(crate) fn log_matching(world: &World) -> bool {
    let [one, two, three] = world.nodes();
    let equal = |first: &[Slot], second: &[Slot]| {
        let pairs = || first.iter().zip(second);
        let common = pairs().rposition(|(first, second)| first.id == second.id);
        common.is_none_or(|common| pairs().take(common + 1).all(|(first, second)| first == second))
    };
    equal(one.log(), two.log()) && equal(two.log(), three.log()) && equal(one.log(), three.log())
}

pub(crate) fn leader_completeness(world: &World) -> bool {
    let mut leaders = world.nodes().iter().filter(|node| node.leads());
    leaders.all(|leader| {
        let mut earlier = world.history().chosen().iter().filter(|chosen| chosen.in_term < leader.raft().term());
        earlier.all(|chosen| at(leader.log(), chosen.slot.id.index) == Some(&chosen.slot))
    })
}

fn at(log: &[Slot], index: Index) -> Option<&Slot> {
    log.iter().find(|slot| slot.id.index == index)
}

pub(crate) fn state_machine_safety(world: &World) -> bool {
    !world.history().two_applied()
}
