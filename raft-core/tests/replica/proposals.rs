//! What a leader appends for those who ask, and what it does not.

use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::config::Config;
use raft_core::session::operation::Operation;
use raft_core::storage::Storage;
use raft_core::types::{Instant, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use crate::world::{THREE, World, id};

const OPEN: Operation<'static> = Operation::Open { nonce: Nonce(1), fifo: false };

fn in_session(session: SessionId) -> [Operation<'static>; 3] {
    let (sequence, acknowledge) = (Sequence(1), Sequence(1));
    [
        Operation::Command { session, sequence, acknowledge, command: Bytes(b"x") },
        Operation::KeepAlive { session, acknowledge },
        Operation::Close { session },
    ]
}

#[test]
fn nothing_is_appended_for_a_session_that_is_not_applied_yet() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.pass(50);
    let opened = world.propose(leader, &OPEN);
    let now = Instant(world.now);
    for session in [SessionId(opened.index.0), SessionId(opened.index.0 + 1), SessionId(u64::MAX)] {
        for (operation, secret) in in_session(session).into_iter().zip([1, 2, 3]) {
            let refused = world.node(leader).propose(now, Some(Nonce(secret)), &operation);
            assert_eq!(refused, Err(ProposeError::NotReady));
            assert_eq!(world.node(leader).propose(now, None, &operation), Err(ProposeError::WrongSecret));
        }
    }
    assert_eq!(world.node(leader).raft().storage().last(), opened, "nothing else was appended");
    world.pass(50);
    let [command, ..] = in_session(SessionId(opened.index.0));
    let now = Instant(world.now);
    assert_eq!(world.node(leader).propose(now, Some(Nonce(2)), &command), Err(ProposeError::WrongSecret));
    world.node(leader).propose(now, Some(Nonce(1)), &command).unwrap();
}

#[test]
fn neither_is_it_when_a_follower_forwards_it_together_with_the_open() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.pass(50);
    let follower = leader % 3 + 1;
    let last = world.node(leader).raft().storage().last();
    let session = SessionId(last.index.0 + 1);
    let open = world.node(follower).forward(None, &OPEN).unwrap();
    let guesses = in_session(session).map(|it| world.node(follower).forward(Some(Nonce(666)), &it).unwrap());
    world.pass(50);
    let told = &world.told[follower as usize - 1].forwarded;
    let answer = |ticket: ForwardTicket| told.iter().find(|(answered, _)| *answered == ticket).unwrap().1;
    assert_eq!(answer(open).unwrap().index.0, session.0);
    assert_eq!(guesses.map(answer), [Err(ProposeError::NotReady); 3]);
    assert_eq!(world.node(leader).raft().storage().last().index.0, session.0);
}

#[test]
fn a_session_that_has_ended_is_for_the_log_to_refuse() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.pass(50);
    let (now, last) = (Instant(world.now), world.node(leader).raft().last_applied());
    for operation in in_session(SessionId(last.0)) {
        world.node(leader).propose(now, Some(Nonce(9)), &operation).unwrap();
    }
}

const PLAIN: Operation<'static> = Operation::Plain { command: Bytes(b"x") };

/// What a follower forwards, as it leaves it, and who leads.
fn forwarded(world: &mut World) -> (u64, u64, Vec<u8>) {
    let leader = world.leader();
    world.pass(50);
    let follower = leader % 3 + 1;
    world.node(follower).forward(None, &PLAIN).unwrap();
    let sent = core::mem::take(&mut world.node(follower).transport_mut().link.sent);
    let [(to, bytes)] = &sent[..] else { panic!("it was sent at once, and alone: {sent:?}") };
    assert_eq!(*to, leader);
    (leader, follower, bytes.clone())
}

fn arrives(world: &mut World, at: u64, bytes: &[u8]) {
    world.node(at).transport_mut().link.arrived.push_back(bytes.to_vec());
    world.pass(50);
}

#[test]
fn a_command_without_a_session_runs_once_however_often_the_network_repeats_it() {
    let mut world = World::new(&THREE, Config::default());
    let (leader, follower, bytes) = forwarded(&mut world);
    for _ in 0..3 {
        arrives(&mut world, leader, &bytes);
    }
    assert_eq!(world.node(leader).machine().executed.len(), 1);
    assert_eq!(world.told[follower as usize - 1].forwarded.len(), 1, "and is answered once");
    world.node(follower).forward(None, &PLAIN).unwrap();
    world.pass(50);
    arrives(&mut world, leader, &bytes);
    assert_eq!(world.node(leader).machine().executed.len(), 2, "the next one is another");
}

#[test]
fn it_runs_under_no_later_leader_and_not_when_the_same_one_leads_again() {
    let mut world = World::new(&THREE, Config::default());
    let (leader, follower, bytes) = forwarded(&mut world);
    for next in [follower, leader] {
        let (now, leads) = (Instant(world.now), world.leader());
        world.node(leads).transfer(now, Some(id(next))).unwrap();
        world.pass(100);
        assert_eq!(world.leader(), next);
        // It was late. Or this is the second copy, and the first was executed: nobody can tell.
        for _ in 0..2 {
            arrives(&mut world, next, &bytes);
        }
    }
    assert_eq!(world.node(leader).machine().executed.len(), 0);
    assert_eq!(world.told[follower as usize - 1].forwarded, [], "its outcome is unknown");
}

#[test]
fn one_that_led_and_leads_no_more_refuses_it_once_and_for_all() {
    let mut world = World::new(&THREE, Config::default());
    let (leader, follower, bytes) = forwarded(&mut world);
    // The leader knows what it has taken in its term.
    arrives(&mut world, leader, &bytes);
    let ticket = world.node(follower).forward(None, &PLAIN).unwrap();
    let sent = core::mem::take(&mut world.node(follower).transport_mut().link.sent);
    let late = &sent.iter().find(|(to, _)| *to == leader).unwrap().1;
    let now = Instant(world.now);
    world.node(leader).transfer(now, Some(id(follower))).unwrap();
    world.pass(100);
    assert_eq!(world.leader(), follower);
    for _ in 0..2 {
        arrives(&mut world, leader, late);
    }
    let refused = Err(ProposeError::NotLeader { leader: Some(id(follower)) });
    assert_eq!(world.told[follower as usize - 1].forwarded[1..], [(ticket, refused)]);
    assert_eq!(world.node(leader).machine().executed.len(), 1);
}
