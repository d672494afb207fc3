//! What a replica does beyond consensus: it lets sessions expire in an idle cluster, makes
//! snapshots and drops what they cover, writes down which storage each member has, keeps the
//! transport informed, compares states, and tells its observer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod divergence;
mod leases;
mod proposals;
mod room;
mod world;

use raft_core::client::protocol::{Consistency, RoleName};
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Lease, Suffrage};
use raft_core::message::{Body, ForwardTicket, Message, ProposeError};
use raft_core::raft::ReadState;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::session::operation::Operation;
use raft_core::storage::Storage;
use raft_core::types::{Incarnation, Instant, Millis, Nonce, SessionId};
use raft_core::wire::Bytes;

use world::{THREE, Told, World, id};

#[test]
fn a_session_expires_in_an_idle_cluster_by_one_clock_entry_at_a_time() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.propose(leader, &Operation::Open { nonce: Nonce(1), fifo: false });
    world.pass(100);
    assert_eq!(world.node(leader).sessions().sessions(), 1);
    let before = world.node(leader).raft().commit();
    world.pass(11_000);
    assert!(world.nodes.iter().all(|node| node.sessions().sessions() == 0), "on all replicas");
    let entries = world.node(leader).raft().commit().since(before);
    // Time moves by at most a second with each entry; half of that is left before the next.
    assert!((10..=24).contains(&entries), "{entries} entries in eleven seconds");
    let idle = world.node(leader).raft().commit();
    world.pass(5_000);
    assert_eq!(world.node(leader).raft().commit(), idle, "without a session nobody needs the time");
}

#[test]
fn the_time_is_not_written_while_other_entries_carry_it() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.propose(leader, &Operation::Open { nonce: Nonce(1), fifo: false });
    for _ in 0..20 {
        world.command(leader);
        world.pass(400);
    }
    let clocks = world.told[leader as usize - 1].applied.len() - world.node(leader).machine().executed.len();
    assert_eq!(clocks, 3, "entry 1, the start of the term, the session");
}

#[test]
fn snapshots_are_made_by_entries_and_by_bytes_and_the_log_is_cut_behind_what_is_kept() {
    let by_entries = Config { snapshot_after_entries: 20, ..Config::default() };
    let by_bytes = Config { snapshot_after_bytes: 20 * 34, ..Config::default() };
    for config in [by_entries, by_bytes] {
        let mut world = World::new(&THREE, Config { snapshot_keep_entries: 5, ..config });
        let leader = world.leader();
        for _ in 0..10 {
            world.command(leader);
            world.pass(10);
        }
        assert!(world.nodes.iter().all(|node| node.raft().storage().snapshot().is_none()), "not yet due");
        for _ in 0..16 {
            world.command(leader);
            world.pass(10);
        }
        for node in &world.nodes {
            let (snapshot, base) = (node.raft().storage().snapshot().unwrap(), node.raft().storage().base());
            assert!((13..=24).contains(&snapshot.through.index.0), "{snapshot:?}");
            assert_eq!(base.index.0, snapshot.through.index.0 - 5);
        }
    }
}

#[test]
fn a_snapshot_is_made_when_it_is_asked_for_and_what_starts_again_begins_with_it() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    for _ in 0..7 {
        world.command(leader);
    }
    world.pass(50);
    let applied = world.node(leader).make_snapshot();
    world.pass(10);
    assert_eq!(world.node(leader).raft().storage().snapshot().unwrap().through.index, applied);
    let again = world.node(leader).make_snapshot();
    world.pass(10);
    assert_eq!(again, applied, "nothing has happened since");
    let mut log = world.node(leader).raft().storage().clone();
    log.crash(0);
    world.start(leader, log);
    world.pass(300);
    let told = &world.told[leader as usize - 1];
    assert_eq!(told.restored.iter().map(|snapshot| snapshot.through.index).collect::<Vec<_>>(), [applied]);
    assert!(told.applied.iter().all(|entry| entry.index > applied), "nothing is applied twice");
    assert_eq!(world.node(leader).machine().executed.len(), 7);
}

#[test]
fn a_draft_that_finds_no_room_leaves_everything_as_it_is() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.command(leader);
    world.pass(50);
    world.node(leader).make_snapshot();
    let mut log = world.node(leader).raft().storage().clone();
    log.draft_bytes_max = 10;
    world.start(leader, log);
    world.node(leader).make_snapshot();
    world.pass(500);
    assert!(world.node(leader).raft().storage().snapshot().is_none());
    let now = world.leader();
    world.command(now);
    world.pass(50);
    assert_eq!(world.node(leader).machine().executed.len(), 2);
}

#[test]
fn leaders_write_down_which_storage_each_member_has_and_transports_are_told() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.pass(200);
    assert_eq!(world.node(leader).transport_mut().configured, [[1, 2, 3]], "once, while nothing changes");
    let before = world.node(leader).raft().configuration_entry();
    world.node(leader).transport_mut().met = (1..=2).map(|node| (node, Incarnation(node.into()))).collect();
    world.pass(100);
    let incarnations = |world: &mut World| -> Vec<Option<u128>> {
        let configuration = world.node(leader).configuration();
        configuration.members().iter().map(|member| member.incarnation.map(|it| it.0)).collect()
    };
    assert_eq!(incarnations(&mut world), [Some(1), Some(2), None]);
    world.node(leader).transport_mut().met.insert(3, Incarnation(3));
    world.pass(100);
    assert_eq!(incarnations(&mut world), [Some(1), Some(2), Some(3)]);
    let entry = world.node(leader).raft().configuration_entry();
    assert!(entry > before);
    world.pass(500);
    assert_eq!(world.node(leader).raft().configuration_entry(), entry, "what is known is not written again");
    let follower = leader % 3 + 1;
    let configuration = world.node(leader).configuration().clone();
    assert_eq!(*world.node(follower).configuration(), configuration);
}

#[test]
fn a_witness_has_no_state_and_reads_nothing() {
    let mut world = World::new(&[Suffrage::Voter, Suffrage::Voter, Suffrage::Witness], Config::default());
    let leader = world.leader();
    world.command(leader);
    world.pass(100);
    let now = Instant(world.now);
    assert_eq!(world.node(3).machine().executed.len(), 0);
    assert!(matches!(world.node(3).read(&|| now, Consistency::Linearizable), Err(ProposeError::NotLeader { .. })));
    // It will never see what an operation answers, so it sends whoever asks to the leader.
    let refused = world.node(3).forward(None, &Operation::Open { nonce: Nonce(1), fifo: false });
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(id(leader)) }));
    let follower = 3 - leader;
    let read = world.node(follower).read(&|| now, Consistency::Lease).unwrap();
    world.pass(50);
    assert_eq!(world.node(follower).read_state(read), ReadState::Ready);
}

#[test]
fn members_and_leadership_change_through_the_replica_and_the_observer_is_told() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    let (now, gone) = (Instant(world.now), leader % 3 + 1);
    let entry = world.node(leader).change_members(now, &[MemberChange::Remove(id(gone))], false).unwrap();
    world.pass(100);
    let events = &world.told[leader as usize - 1].events;
    assert!(events.contains(&Event::ConfigurationCommitted { entry, joint: true }), "{events:?}");
    assert_eq!(world.node(leader).configuration().members().len(), 2);
    let (now, next) = (Instant(world.now), (leader + 1) % 3 + 1);
    world.node(leader).transfer(now, Some(id(next))).unwrap();
    world.pass(100);
    assert_eq!(world.node(next).raft().role(), RoleName::Leader);
    let status = world.node(next).status();
    assert_eq!((status.node, status.leader, status.joint), (id(next), Some(id(next)), false));
}

#[test]
fn an_operation_is_brought_to_the_leader_and_its_answer_back() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    let follower = leader % 3 + 1;
    let operation = Operation::Plain { command: Bytes(b"x") };
    let ticket = world.node(follower).forward(None, &operation).unwrap();
    world.pass(50);
    let told = &world.told[follower as usize - 1];
    let [(answered, Ok(entry))] = told.forwarded[..] else { panic!("{:?}", told.forwarded) };
    assert_eq!(answered, ticket);
    assert!(told.applied.contains(&entry));
    assert_eq!(world.node(leader).forward(None, &operation), Err(ProposeError::NotLeader { leader: None }));
    // What the link cannot take now is not sent.
    let longest = vec![0; 1 << 16];
    assert!(world.node(follower).forward(None, &Operation::Plain { command: Bytes(&longest) }).is_ok());
    let longer = vec![0; (1 << 16) + 1];
    let longer = Operation::Plain { command: Bytes(&longer) };
    assert_eq!(world.node(follower).forward(None, &longer), Err(ProposeError::Busy));
    world.node(follower).transport_mut().link.closed.insert(leader);
    assert_eq!(world.node(follower).forward(None, &operation), Err(ProposeError::Busy));
}

#[test]
fn the_leader_alone_tells_a_wrong_secret() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    let opened = world.propose(leader, &Operation::Open { nonce: Nonce(1), fifo: false });
    world.pass(50);
    let close = Operation::Close { session: SessionId(opened.index.0) };
    let (now, follower) = (Instant(world.now), leader % 3 + 1);
    for secret in [Some(Nonce(2)), None] {
        assert_eq!(world.node(leader).propose(now, secret, &close), Err(ProposeError::WrongSecret));
        let elsewhere = Err(ProposeError::NotLeader { leader: Some(id(leader)) });
        assert_eq!(world.node(follower).propose(now, secret, &close), elsewhere);
    }
    world.node(leader).propose(now, Some(Nonce(1)), &close).unwrap();
}

#[test]
fn with_a_lease_the_leader_asks_nobody_before_it_answers_a_read() {
    let lease = Lease { duration: Millis(80), drift_per_mille: 10 };
    let mut world = World::of(&THREE, Config::default(), Some(lease));
    let leader = world.leader();
    world.command(leader);
    world.pass(10);
    let now = Instant(world.now);
    let by_lease = world.node(leader).read(&|| now, Consistency::Lease).unwrap();
    let by_round = world.node(leader).read(&|| now, Consistency::Linearizable).unwrap();
    assert_eq!(world.node(leader).read_state(by_lease), ReadState::Ready);
    assert_eq!(world.node(leader).read_state(by_round), ReadState::Waiting);
}

#[test]
fn a_poll_that_leaves_messages_behind_asks_for_the_next_one_at_once() {
    let mut world = World::new(&THREE, Config::default());
    let leader = world.leader();
    world.pass(50);
    let (now, mut told) = (Instant(world.now), Told::default());
    assert!(world.node(leader).poll(&|| now, &mut told).unwrap() > now, "there is nothing to do");
    let (from, to) = (id(leader % 3 + 1), id(leader));
    let body = Body::Forwarded { ticket: ForwardTicket(1), outcome: Err(ProposeError::Busy) };
    let message = Message { from, to, term: world.node(leader).raft().term(), body };
    let mut bytes = [0; 64];
    let length = message.encode(&mut bytes).unwrap();
    for _ in 0..300 {
        world.node(leader).transport_mut().link.arrived.push_back(bytes[..length].to_vec());
    }
    assert_eq!(world.node(leader).poll(&|| now, &mut told), Ok(now));
    assert!((1..300).contains(&told.forwarded.len()), "one poll takes in so many");
    assert!(world.node(leader).poll(&|| now, &mut told).unwrap() > now);
    assert_eq!(told.forwarded.len(), 300);
}

#[test]
fn the_storage_is_told_of_quiet_times() {
    let mut world = World::new(&THREE, Config::default());
    world.node(1).witness().unwrap();
    assert_eq!(world.node(1).raft().storage().witnessed, 1);
}
