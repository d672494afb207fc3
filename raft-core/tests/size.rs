//! How much memory a node takes beside its log, with room for 3, 5 and 7 members. The bounds go up for what is said in ARCHITECTURE alone: the node is
//! to fit beside a program on a microcontroller, and it grows by what each member is given.

use raft_core::raft::Raft;
use raft_core::ring::RingLog;

type Log = RingLog<64, 4096>;

const fn beside_the_log<const NODES: usize>() -> usize {
    size_of::<Raft<Log, NODES>>() - size_of::<Log>()
}

#[test]
fn a_node_takes_no_more_memory_than_this() {
    let sizes = [beside_the_log::<3>(), beside_the_log::<5>(), beside_the_log::<7>()];
    println!("bytes beside the log, for 3, 5 and 7 members: {sizes:?}");
    for ((size, most), nodes) in sizes.into_iter().zip([4_200, 5_750, 7_300]).zip([3, 5, 7]) {
        assert!(size <= most, "{size} bytes for {nodes} members, and at most {most}");
    }
}
