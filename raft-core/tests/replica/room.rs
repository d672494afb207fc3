//! What becomes of snapshots and of the log when there is little room.

use raft_core::configuration::Suffrage;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::session::operation::Operation;
use raft_core::storage::{SnapshotId, Storage};
use raft_core::wire::Bytes;

use crate::common::parts::SNAPSHOTS;
use crate::world::{THREE, World};

fn states_written() -> u64 {
    SNAPSHOTS.with(core::cell::Cell::get)
}

fn failures(world: &mut World) -> usize {
    let events = core::mem::take(&mut world.told[0].events);
    events.iter().filter(|event| matches!(event, Event::SnapshotFailed { .. })).count()
}

fn snapshot(world: &mut World, node: u64) -> Option<SnapshotId> {
    world.node(node).raft().storage().snapshot()
}

#[test]
fn a_snapshot_without_room_is_tried_again_after_a_wait_that_grows_and_told_once() {
    let mut world = World::new(&[Suffrage::Voter], Config { snapshot_after_entries: 20, ..Config::default() });
    world.leader();
    world.node(1).raft().storage().no_drafts.set(true);
    for _ in 0..30 {
        world.command(1);
        world.pass(5);
    }
    let before = states_written();
    assert_eq!((before, failures(&mut world)), (1, 1));
    for _ in 0..600 {
        world.command(1);
        world.pass(5);
    }
    // Waits of 100, 200, 400, 800 and 1,600 ms begin within 3,000 ms, the first of them before.
    assert_eq!((states_written() - before, failures(&mut world)), (4, 0));
    assert_eq!(world.node(1).status().snapshots_failed, 5);
    world.node(1).raft().storage().no_drafts.set(false);
    world.pass(1_600);
    assert!(snapshot(&mut world, 1).is_some(), "there is room again");
    world.node(1).raft().storage().no_drafts.set(true);
    for _ in 0..30 {
        world.command(1);
    }
    world.pass(50);
    assert_eq!(failures(&mut world), 1, "after one that was made, a failure is news");
    let before = states_written();
    world.node(1).make_snapshot();
    world.pass(5);
    assert_eq!(states_written() - before, 1, "one that is asked for does not wait");
}

#[test]
fn what_is_kept_before_a_snapshot_is_bounded_by_bytes_and_by_entries() {
    let kept = |config: Config, command: &[u8]| {
        let config = Config { snapshot_after_entries: 20, uncommitted_bytes_max: 1 << 30, ..config };
        let mut world = World::new(&THREE, config);
        let leader = world.leader();
        for _ in 0..50 {
            world.propose(leader, &Operation::Plain { command: Bytes(command) });
            world.pass(10);
        }
        let (snapshot, base) = (snapshot(&mut world, leader).unwrap(), world.node(leader).raft().storage().base());
        snapshot.through.index.since(base.index)
    };
    let config = Config { snapshot_keep_entries: 1 << 40, ..Config::default() };
    // A record is 32 bytes longer than its payload, and that a byte or two longer than the command.
    let by_bytes = Config { snapshot_keep_bytes_max: Some(5_000), ..config };
    assert_eq!(kept(by_bytes, &[7; 950]), 5);
    assert_eq!(kept(by_bytes, &[7; 5_000]), 0, "nothing, if not a single entry is within the bound");
    let both = Config { snapshot_keep_entries: 3, ..by_bytes };
    assert_eq!(kept(both, &[7; 950]), 3);
    assert!(kept(config, b"x") >= 20, "by default, all of a short log is kept");
}

#[test]
fn by_default_a_quarter_of_the_snapshot_is_kept_but_some_mebibytes_at_least() {
    let config = Config { snapshot_keep_entries: 1 << 40, snapshot_after_entries: 20, ..Config::default() };
    let mut world = World::new(&[Suffrage::Voter], config);
    world.leader();
    for _ in 0..30 {
        world.propose(1, &Operation::Plain { command: Bytes(&vec![7; 1 << 20]) });
        world.pass(10);
    }
    let (snapshot, base) = (snapshot(&mut world, 1).unwrap(), world.node(1).raft().storage().base());
    // The state of this machine is all commands that were executed.
    let kept = snapshot.through.index.since(base.index);
    let expected = (snapshot.bytes / 4).max(4 << 20) / ((1 << 20) + 40);
    assert_eq!(kept, expected);
    assert!(kept >= 3);
}

#[test]
fn a_full_disk_has_a_snapshot_made_that_keeps_nothing_behind_it() {
    let mut world = World::new(&THREE, Config { snapshot_keep_entries: 1 << 40, ..Config::default() });
    let leader = world.leader();
    for _ in 0..10 {
        world.command(leader);
        world.pass(10);
    }
    assert_eq!(snapshot(&mut world, leader), None, "not due for any other reason");
    world.node(leader).raft().storage().full.set(true);
    world.pass(50);
    let (made, base) = (snapshot(&mut world, leader).unwrap(), world.node(leader).raft().storage().base());
    assert_eq!(made.through, base);
    assert!(world.node(leader).status().full);
    let before = states_written();
    for _ in 0..10 {
        world.command(leader);
        world.pass(10);
    }
    assert!(states_written() - before <= 2, "not for each entry, though the disk is still full");
}
