//! The faults of a campaign, and the order in which they come.

use std::fmt;

use kv::chance::Chance;

/// One fault. Nodes and lengths are drawn when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The leader is killed.
    KillLeader,
    /// Some node is killed.
    KillAny,
    /// Two nodes are killed, one of them the leader: nothing goes on until one is back.
    KillTwo,
    /// All nodes are killed at once.
    KillAll,
    /// The leader and the others do not hear each other.
    Isolate,
    /// The leader does not hear the others; they hear it.
    Deafen,
    /// The others do not hear the leader; it hears them.
    Mute,
    /// The leader and one other do not hear each other; the third hears both.
    Cut,
    /// The leader stands still for a while, then goes on.
    PauseLeader,
    /// So does a node that need not lead.
    PauseAny,
    /// Packets are lost, everywhere.
    Lose,
    /// A node's sync fails, once.
    FailSync,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Fault::KillLeader => "kill-leader",
            Fault::KillAny => "kill",
            Fault::KillTwo => "kill-two",
            Fault::KillAll => "kill-all",
            Fault::Isolate => "isolate",
            Fault::Deafen => "deafen",
            Fault::Mute => "mute",
            Fault::Cut => "cut",
            Fault::PauseLeader => "pause-leader",
            Fault::PauseAny => "pause",
            Fault::Lose => "lose",
            Fault::FailSync => "fail-sync",
        })
    }
}

/// How often each fault comes in a round: in ten minutes, more than 200 kills and 60 partitions.
const ROUND: [(Fault, usize); 12] = [
    (Fault::KillLeader, 4),
    (Fault::KillAny, 3),
    (Fault::KillTwo, 1),
    (Fault::KillAll, 1),
    (Fault::Isolate, 1),
    (Fault::Deafen, 1),
    (Fault::Mute, 1),
    (Fault::Cut, 1),
    (Fault::PauseLeader, 1),
    (Fault::PauseAny, 1),
    (Fault::Lose, 1),
    (Fault::FailSync, 1),
];

/// Every kind of fault, as often as in a round, in an order that follows from chance.
pub(crate) fn round(chance: &mut Chance) -> Vec<Fault> {
    let mut faults: Vec<Fault> = ROUND.iter().flat_map(|&(fault, times)| vec![fault; times]).collect();
    for last in (1..faults.len()).rev() {
        let other = usize::try_from(chance.below(last as u64 + 1)).unwrap();
        faults.swap(last, other);
    }
    faults
}

#[test]
fn a_round_has_every_fault_and_follows_from_the_seed() {
    let (one, same, other) = (Chance::new(1), Chance::new(1), Chance::new(2));
    let [one, same, other] = [one, same, other].map(|mut chance| round(&mut chance));
    assert!(one == same && one != other);
    assert!(ROUND.iter().all(|(fault, times)| one.iter().filter(|&found| found == fault).count() == *times));
}
