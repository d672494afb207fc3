//! Reads by lease.

use std::cell::RefCell;
use std::rc::Rc;

use raft_core::client::protocol::Consistency;
use raft_core::configuration::{Lease, voters};
use raft_core::raft::config::Config;
use raft_core::types::{ClusterId, Millis};

use crate::world::{World, answer};

/// The leader's thread loses the processor right after any of its looks at the clock. Meanwhile others lead and answer a
/// command, and then a client asks for a read by lease. It gets the value from before that command never.
#[test]
fn a_read_that_is_asked_while_the_thread_is_stopped_is_never_stale() {
    let mut asked_in_vain = 0;
    for looks in 0..8 {
        let lease = Lease { duration: Millis(400), drift_per_mille: 10 };
        let configuration = voters(ClusterId(1), 3).unwrap().with_lease(lease).unwrap();
        let world = World::new(&configuration, Config::default());
        let leader = world.elect(&[1, 2, 3]);
        world.add(leader, &[1, 2, 3], 1);
        let mut lasts = world.handle(leader).read(Consistency::Lease, Vec::new());
        world.turn(leader);
        assert!(answer(&mut lasts).is_some(), "the lease lasts");
        let read = Rc::new(RefCell::new(None));
        let (inner, slot) = (world.clone(), Rc::clone(&read));
        world.interrupt(leader, looks, move || {
            let others = inner.others(leader);
            inner.part(leader, &others);
            let next = inner.elect(&others);
            inner.add(next, &others, 41);
            *slot.borrow_mut() = Some(inner.handle(leader).read(Consistency::Lease, Vec::new()));
        });
        // A query that is there already makes the loop look at its clock for each step.
        let _before = world.handle(leader).read(Consistency::Linearizable, Vec::new());
        for _ in 0..4 {
            world.turn(leader);
        }
        let mut read = read.borrow_mut();
        let Some(read) = read.as_mut() else { panic!("it looks at its clock more than {looks} times in four turns") };
        match answer(read) {
            Some(Ok(sum)) => panic!("answered with {sum:?} after look {looks}, and 42 had been answered before"),
            Some(Err(_)) | None => asked_in_vain += 1,
        }
    }
    assert_eq!(asked_in_vain, 8);
}
