//! Full disks.

use crate::cluster::{PATIENCE, with_cluster};
use crate::disks::Mount;
use crate::rights::{self, Need};

/// The node with the small disk.
const SMALL: usize = 3;
/// Room for the first segment of a log, and not for the second.
const SMALL_MIB: u32 = 7;
/// Room for all that is written here.
const LARGE_MIB: u32 = 64;
/// The values that are written, in all twice as much as the small disk holds.
const VALUE_BYTES: usize = 256 << 10;
const VALUES: usize = 56;
/// Elections are not what this is about: a machine that is busy should not bring them about.
const EXTRA: [&str; 4] = ["--election-timeout", "2000", "--heartbeat", "100"];

#[test]
fn a_full_disk_of_a_follower_stops_nobody() {
    fill("a_full_disk_of_a_follower_stops_nobody", false);
}

#[test]
fn a_full_disk_of_the_leader_does_not_stop_the_cluster() {
    fill("a_full_disk_of_the_leader_does_not_stop_the_cluster", true);
}

/// Writes more than the disk of one node holds, which leads or not; then gives it room.
fn fill(name: &str, leads: bool) {
    if !rights::granted(name, &[Need::Namespaces, Need::Mounts]) {
        return;
    }
    with_cluster(3, &EXTRA, |cluster, _| {
        let disk = Mount::memory(&cluster.nodes.disk(SMALL), SMALL_MIB);
        cluster.start_all();
        cluster.make_leader(if leads { SMALL } else { 1 });
        let mut client = cluster.client(PATIENCE);
        let value = "v".repeat(VALUE_BYTES);
        for number in 0..VALUES {
            let put = client.put(&format!("key-{number}"), &value);
            assert!(put.is_ok(), "value {number}: {put:?}; node {SMALL}: {}", cluster.nodes.tail(SMALL));
        }
        cluster.nodes.check();
        let behind = cluster.wait_for("the nodes do not answer", |view| {
            let (leader, small) = (view.leader()?.1, view.0[SMALL - 1]?);
            Some((leader.node.get() != SMALL as u64, leader.commit.0 > small.saved.0))
        });
        assert_eq!(behind, (true, true), "the disk was not full");
        disk.resize(LARGE_MIB);
        cluster.wait_for("the node does not go on when there is room", |view| {
            let (leader, small) = (view.leader()?.1, view.0[SMALL - 1]?);
            (small.applied >= leader.commit).then_some(())
        });
        client.put("key", "after").unwrap();
        cluster.settle();
        // The data must not outlive its disk.
        (1..=3).for_each(|node| cluster.nodes.kill(node));
        drop(disk);
    });
}
