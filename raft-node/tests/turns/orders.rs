//! What operators are told.

use raft_core::client::protocol::NotExecuted;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Member, Suffrage, voters};
use raft_core::raft::config::Config;
use raft_core::storage::Storage;
use raft_core::types::ClusterId;
use raft_node::{Failed, OrderDone, Pending};

use crate::world::{World, answer, id};

/// Replaces its log by snapshots early.
fn world() -> World {
    let raft = Config { snapshot_after_entries: 5, snapshot_keep_entries: 0, ..Config::default() };
    World::new(&voters(ClusterId(1), 3).unwrap(), raft)
}

fn add_learner(world: &World, leader: u64, learner: u64) -> Pending<OrderDone> {
    let learner = Member::new(id(learner), Suffrage::Learner, "").unwrap();
    world.handle(leader).change_members(vec![MemberChange::Add(learner)], true)
}

fn wait(world: &World, order: &mut Pending<OrderDone>) -> Result<OrderDone, Failed> {
    for _ in 0..600 {
        world.run(&[1, 2, 3], 10);
        if let Some(answer) = answer(order) {
            return answer;
        }
    }
    panic!("there is no answer");
}

/// A leader that is cut off appends a change, which another leader's entries overwrite, and gets a snapshot.
#[test]
fn a_change_that_a_snapshot_has_skipped_is_told_by_what_the_snapshot_holds() {
    // Nothing else has changed: it is not there. Or a later change is, which says nothing about this one.
    for (changed_since, expected) in [(false, Failed::NotExecuted(NotExecuted::Overtaken)), (true, Failed::Unknown)] {
        let world = world();
        let leader = world.elect(&[1, 2, 3]);
        let others = world.others(leader);
        world.part(leader, &others);
        let mut change = add_learner(&world, leader, 9);
        world.run(&[leader], 20);
        let appended = world.look(leader, |replica| replica.raft().configuration_entry());
        assert!(answer(&mut change).is_none());
        let next = world.elect(&others);
        for _ in 0..20 {
            world.add(next, &others, 1);
        }
        if changed_since {
            let mut other = add_learner(&world, next, 8);
            world.run(&others, 50);
            assert!(matches!(answer(&mut other), Some(Ok(OrderDone::Changed { .. }))));
            world.add(next, &others, 1);
        }
        for _ in 0..10 {
            world.add(next, &others, 1);
        }
        world.hub.heal();
        assert_eq!(wait(&world, &mut change), Err(expected));
        let base = world.look(leader, |replica| replica.raft().storage().base());
        assert!(base.index > appended.index, "a snapshot has taken the place of the log");
    }
}

/// The same, with a log that is whole: while other entries stand in the change's place it may still win, so that
/// nothing is said; once they are committed it is lost for good.
#[test]
fn a_change_that_was_overwritten_is_told_when_that_is_committed() {
    let world = World::new(&voters(ClusterId(1), 3).unwrap(), Config::default());
    let leader = world.elect(&[1, 2, 3]);
    let others = world.others(leader);
    world.part(leader, &others);
    let mut change = add_learner(&world, leader, 9);
    world.run(&[leader], 20);
    let next = world.elect(&others);
    world.add(next, &others, 1);
    world.hub.heal();
    assert_eq!(wait(&world, &mut change), Err(Failed::NotExecuted(NotExecuted::Overtaken)));
    let leader = world.elect(&[1, 2, 3]);
    let mut change = add_learner(&world, leader, 7);
    let Ok(OrderDone::Changed { entry }) = wait(&world, &mut change) else { panic!("nothing is in its way") };
    for node in 1..=3 {
        let term = world.look(node, |replica| replica.raft().storage().term(entry.index));
        assert_eq!(term, Some(entry.term));
        assert!(world.look(node, |replica| replica.configuration().member(id(7)).is_some()));
    }
}

#[test]
fn a_hand_over_that_is_not_taken_up_is_told_so() {
    let world = world();
    let leader = world.elect(&[1, 2, 3]);
    let [target, third] = world.others(leader);
    world.part(target, &[leader, third]);
    let mut transfer = world.handle(leader).transfer(Some(id(target)));
    world.run(&[leader, third], 4000);
    assert_eq!(answer(&mut transfer), Some(Err(Failed::NotExecuted(NotExecuted::NotTakenOver))));
    assert!(world.leads(leader));
}

/// A leader stands still as soon as it has begun to hand over. It hears of the one who leads by then, and tells whether
/// that is whom it was to hand over to.
#[test]
fn another_leader_than_the_one_that_was_asked_for_is_no_success() {
    let mut told = Vec::new();
    for which in 0..2 {
        for asked in [false, true] {
            let world = world();
            let leader = world.elect(&[1, 2, 3]);
            let term = world.look(leader, |replica| replica.raft().term());
            let others = world.others(leader);
            let target = others[which];
            world.part(leader, &others);
            let mut transfer = world.handle(leader).transfer(asked.then(|| id(target)));
            world.turn(leader);
            let next = world.elect(&others);
            world.hub.heal();
            let answer = wait(&world, &mut transfer);
            let later = world.look(next, |replica| replica.raft().term()) > term.next();
            let expected = match next == target || !asked {
                true => Ok(OrderDone::Transferred { to: id(next) }),
                false if later => Err(Failed::Unknown),
                false => Err(Failed::NotExecuted(NotExecuted::NotTakenOver)),
            };
            assert_eq!(answer, expected);
            told.push(answer.is_ok());
        }
    }
    assert_eq!(told.iter().filter(|done| **done).count(), 3, "only one of two is elected: {told:?}");
}

#[test]
fn a_snapshot_is_told_to_be_made_once_it_is_there() {
    let world = World::new(&voters(ClusterId(1), 3).unwrap(), Config::default());
    let leader = world.elect(&[1, 2, 3]);
    world.add(leader, &[1, 2, 3], 1);
    let applied = world.look(leader, |replica| replica.raft().last_applied());
    let mut order = world.handle(leader).snapshot();
    let Ok(OrderDone::SnapshotMade { through }) = wait(&world, &mut order) else { panic!("there is room for it") };
    assert!(through >= applied);
    let snapshot = world.look(leader, |replica| replica.raft().storage().snapshot());
    assert_eq!(snapshot.map(|it| it.through.index), Some(through));
}
