//! Leases, on threads that lose the processor between any two steps.

use std::cell::Cell;
use std::rc::Rc;

use raft_core::client::protocol::{Consistency, RoleName};
use raft_core::configuration::Lease;
use raft_core::raft::ReadState;
use raft_core::raft::config::Config;
use raft_core::storage::Storage;
use raft_core::types::{Instant, Millis};

use crate::world::{THREE, Told, World};

const LEASE: Lease = Lease { duration: Millis(400), drift_per_mille: 0 };

/// A follower begins to poll and loses the processor; then it takes an entry that its leader has appended meanwhile.
/// Counted from when it began, its wait would be over before the leader's lease.
#[test]
fn a_follower_counts_the_lease_from_after_it_has_taken_the_entry() {
    let mut world = World::of(&THREE, Config::default(), Some(LEASE));
    let leader = world.leader();
    world.pass(500);
    let (next, third) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let time = Rc::new(Cell::new(world.now));
    // What happens while the follower does not run: the leader appends, and another acknowledges.
    let others = |world: &mut World| [leader, third].repeat(3).into_iter().for_each(|node| world.poll(node));
    for _ in 0..60 {
        world.now += 5;
        others(&mut world);
    }
    let (appended, entry) = (world.now, world.command(leader));
    others(&mut world);
    assert_eq!(world.node(leader).raft().commit(), entry.index);
    world.node(next).transport_mut().pause = Some((Rc::clone(&time), appended));
    world.node(next).poll(&|| Instant(time.get()), &mut Told::default()).unwrap();
    assert_eq!((time.get(), world.node(next).raft().storage().last()), (appended, entry));
    world.cut = [leader].into();
    let leads = |world: &World| world.nodes[next as usize - 1].raft().role() == RoleName::Leader;
    while !leads(&world) {
        world.pass(5);
    }
    assert!(world.now < appended + 400, "it leads while the lease lasts");
    while world.node(next).raft().commit() <= entry.index {
        world.pass(5);
    }
    assert!(world.now >= appended + 400, "it has committed {} ms after the entry", world.now - appended);
}

/// The leader's thread loses the processor; a read that is asked then is judged by what the clock shows then.
#[test]
fn a_read_by_lease_is_judged_by_the_clock_after_it_was_asked() {
    let mut world = World::of(&THREE, Config::default(), Some(LEASE));
    let leader = world.leader();
    world.pass(500);
    world.command(leader);
    world.pass(10);
    let now = world.now;
    for (later, state) in [(0, ReadState::Ready), (1_000, ReadState::Waiting)] {
        let read = world.node(leader).read(&|| Instant(now + later), Consistency::Lease).unwrap();
        assert_eq!(world.node(leader).read_state(read), state, "{later} ms later");
    }
}
