//! Replicas that have parted from each other: whoever differs from the majority stops, whatever
//! happens between the order to compare and the verdict.

use raft_core::client::protocol::{Consistency, RoleName};
use raft_core::configuration::Suffrage;
use raft_core::entry::EntryKind;
use raft_core::message::ProposeError;
use raft_core::raft::ReadState;
use raft_core::raft::config::Config;
use raft_core::raft::event::Event;
use raft_core::replica::PollError;
use raft_core::session::operation::Operation;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Instant};
use raft_core::wire::Bytes;

use crate::common::DeferredLog;
use crate::common::parts::Counter;
use crate::world::{THREE, World, id};

/// Replicas compare their states after so many entries.
const EVERY: u64 = 10;

#[test]
fn replicas_compare_their_states_as_often_as_they_were_told() {
    let mut world = World::new(&THREE, Config { check_after_entries: 10, ..Config::default() });
    let leader = world.leader();
    for _ in 0..40 {
        world.command(leader);
        world.pass(10);
    }
    let commands = world.node(leader).machine().executed.len();
    let others = world.told[leader as usize - 1].applied.len() - commands - 2;
    assert!((3..=4).contains(&others), "{others} orders to compare in 40 entries, and no verdict");
    let mut never = World::new(&THREE, Config { check_after_entries: 0, ..Config::default() });
    let leader = never.leader();
    for _ in 0..40 {
        never.command(leader);
    }
    never.pass(100);
    assert_eq!(never.told[leader as usize - 1].applied.len(), 42);
}

/// A state that has decayed: it counts a command that nobody has given.
fn decayed() -> Counter {
    Counter { executed: vec![b"decayed".to_vec()] }
}

/// A cluster that compares its states, of which one has decayed: a follower, or the leader.
struct Parted {
    world: World,
    leader: u64,
    odd: u64,
}

impl Parted {
    fn new(the_leader: bool) -> Parted {
        Parted::of(&THREE, the_leader)
    }

    fn of(members: &[Suffrage], the_leader: bool) -> Parted {
        let config = Config { check_after_entries: EVERY, snapshot_keep_entries: 0, ..Config::default() };
        let leader = World::new(members, config).leader();
        let odd = if the_leader { leader } else { leader % 3 + 1 };
        let mut world = World::new(members, config);
        world.may_stop.insert(odd);
        let log = world.node(odd).raft().storage().clone();
        world.start_with(odd, log, decayed());
        assert_eq!(world.leader(), leader, "all goes as in the other world");
        for _ in 0..EVERY {
            world.command(leader);
        }
        Parted { world, leader, odd }
    }

    /// Polls one node after the other until `is_so`.
    fn until(&mut self, is_so: impl Fn(&mut Parted) -> bool) {
        for _ in 0..100 {
            self.world.now += 5;
            for node in (1..=self.world.nodes.len() as u64).cycle().take(self.world.nodes.len() * 3) {
                self.world.poll(node);
                if is_so(self) {
                    return;
                }
            }
        }
        panic!("it never was so");
    }

    /// The last entry of that kind in a node's log.
    fn find(&mut self, node: u64, kind: EntryKind) -> Option<EntryId> {
        let mut log = self.world.node(node).raft().storage().clone();
        let kind_at =
            |log: &mut DeferredLog, index| log.read(index, index, 1).unwrap().iter().next().unwrap().header.kind;
        let ids: Vec<EntryId> = log.ids().collect();
        ids.into_iter().rev().find(|id| kind_at(&mut log, id.index) == kind)
    }

    fn has_applied(&mut self, node: u64, kind: EntryKind) -> bool {
        self.find(node, kind).is_some_and(|entry| self.world.node(node).raft().last_applied() >= entry.index)
    }

    /// The odd one loses its memory and starts again with all it has written, and with that state.
    fn restart(&mut self, machine: Counter) {
        let mut log = self.world.node(self.odd).raft().storage().clone();
        log.crash(usize::MAX);
        self.world.start_with(self.odd, log, machine);
    }

    /// The odd one is elected, by the one that is named, and stops before it has served anybody.
    fn elect_in_vain(&mut self) {
        let (odd, mut polls_as_leader) = (self.odd, 0);
        for _ in 0..200 {
            self.world.now += 5;
            for node in [1, 2, 3].repeat(3) {
                self.world.poll(node);
                let now = Instant(self.world.now);
                let replica = self.world.node(odd);
                if replica.raft().role() != RoleName::Leader {
                    continue;
                }
                polls_as_leader += 1;
                let command = Operation::Plain { command: Bytes(b"x") };
                assert_eq!(replica.propose(now, None, &command), Err(ProposeError::NotReady));
                for consistency in [Consistency::Linearizable, Consistency::Lease] {
                    let read = replica.read(&|| now, consistency).map(|read| replica.read_state(read));
                    assert!(!matches!(read, Ok(ReadState::Ready)), "{read:?}");
                }
            }
            if self.world.stopped.contains_key(&odd) {
                assert!(polls_as_leader > 0, "it led before it stopped");
                return;
            }
        }
        panic!("it goes on");
    }

    /// The odd one has stopped since it differs after that order to compare, and the others go on.
    fn assert_the_others_go_on(&mut self, check: EntryId) {
        assert_eq!(self.world.stopped.get(&self.odd), Some(&PollError::Diverged { index: check.index }));
        assert_eq!(self.world.stopped.len(), 1);
        self.world.cut = [self.odd].into();
        self.world.pass(500);
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != self.odd).collect();
        let leads = |&node: &u64| self.world.nodes[node as usize - 1].raft().role() == RoleName::Leader;
        let leader = others.iter().copied().find(leads).expect("one of the others leads");
        self.world.command(leader);
        self.world.pass(50);
        for node in others {
            assert_eq!(self.world.node(node).machine().executed.len() as u64, EVERY + 1);
        }
    }
}

#[test]
fn the_minority_that_differs_stops_and_never_serves_as_leader() {
    // A follower gets the verdict, and is made leader before it learns that this is committed.
    let mut parted = Parted::new(false);
    let (leader, odd) = (parted.leader, parted.odd);
    parted.until(|parted| parted.find(odd, EntryKind::Verdict).is_some());
    let check = parted.find(odd, EntryKind::Check).unwrap();
    let told = &parted.world.told[leader as usize - 1].events;
    assert!(told.contains(&Event::Diverged { check }), "{told:?}");
    let now = Instant(parted.world.now);
    parted.world.node(leader).transfer(now, Some(id(odd))).unwrap();
    parted.world.poll(leader);
    parted.elect_in_vain();
    parted.assert_the_others_go_on(check);

    // A leader writes it down against itself, tells nobody, and is elected again when it has started again.
    let mut parted = Parted::new(true);
    let odd = parted.odd;
    parted.until(|parted| parted.find(odd, EntryKind::Verdict).is_some());
    let check = parted.find(odd, EntryKind::Check).unwrap();
    for other in [odd % 3 + 1, (odd + 1) % 3 + 1] {
        parted.world.node(other).transport_mut().link.arrived.clear();
    }
    parted.restart(decayed());
    parted.world.cut = [odd % 3 + 1].into();
    parted.elect_in_vain();
    parted.assert_the_others_go_on(check);
}

#[test]
fn a_leader_that_differs_stops_by_its_own_verdict() {
    let mut parted = Parted::new(true);
    let odd = parted.odd;
    parted.until(|parted| parted.world.stopped.contains_key(&odd));
    let check = parted.find(odd, EntryKind::Check).unwrap();
    parted.assert_the_others_go_on(check);
}

#[test]
fn witnesses_have_no_voice_in_what_the_majority_has() {
    let members = [Suffrage::Voter, Suffrage::Voter, Suffrage::Voter, Suffrage::Witness, Suffrage::Witness];
    let leader = World::new(&members, Config { check_after_entries: EVERY, ..Config::default() }).leader();
    assert!((1..=3).contains(&leader), "a witness does not lead");
    let mut parted = Parted::of(&members, true);
    parted.until(|parted| parted.world.stopped.contains_key(&leader));
    let check = parted.find(leader, EntryKind::Check).unwrap();
    assert_eq!(parted.world.stopped.get(&leader), Some(&PollError::Diverged { index: check.index }));
}

#[test]
fn a_node_that_restarts_between_check_and_verdict_stops() {
    let mut parted = Parted::new(false);
    let (leader, odd) = (parted.leader, parted.odd);
    parted.until(|parted| parted.has_applied(odd, EntryKind::Check));
    let check = parted.find(odd, EntryKind::Check).unwrap();
    assert_eq!(parted.find(leader, EntryKind::Verdict), None);
    parted.restart(decayed());
    parted.until(|parted| parted.world.stopped.contains_key(&odd));
    parted.assert_the_others_go_on(check);
}

#[test]
fn so_does_one_that_begins_with_its_own_snapshot_behind_the_check() {
    let mut parted = Parted::new(false);
    let (leader, odd) = (parted.leader, parted.odd);
    parted.until(|parted| parted.has_applied(odd, EntryKind::Check));
    let check = parted.find(odd, EntryKind::Check).unwrap();
    parted.world.cut = [odd].into();
    parted.world.node(odd).make_snapshot();
    parted.world.poll(odd);
    parted.world.poll(odd);
    assert!(parted.world.node(odd).raft().storage().base() >= check, "the check is in its log no more");
    assert_eq!(parted.find(leader, EntryKind::Verdict), None);
    parted.restart(Counter::default());
    parted.world.poll(odd);
    assert_eq!(parted.world.told[odd as usize - 1].restored.len(), 1);
    parted.world.cut.clear();
    parted.until(|parted| parted.world.stopped.contains_key(&odd));
    parted.assert_the_others_go_on(check);
}

#[test]
fn a_check_is_due_again_after_a_snapshot() {
    let config = Config { check_after_entries: EVERY, snapshot_keep_entries: 0, ..Config::default() };
    let mut world = World::new(&THREE[..1], config);
    world.leader();
    for _ in 0..EVERY / 2 {
        world.command(1);
    }
    world.pass(10);
    let through = world.node(1).make_snapshot();
    world.pass(10);
    let mut log = world.node(1).raft().storage().clone();
    log.crash(usize::MAX);
    assert_eq!(log.base().index, through, "nothing else is known of what lies before");
    world.start(1, log);
    world.leader();
    let mut parted = Parted { world, leader: 1, odd: 1 };
    let checked = |parted: &mut Parted| parted.find(1, EntryKind::Check).map(|check| check.index.since(through));
    // The start of the term is the first entry behind the snapshot.
    for _ in 1..EVERY - 1 {
        parted.world.command(1);
        parted.world.pass(5);
    }
    assert_eq!(checked(&mut parted), None);
    parted.world.command(1);
    parted.world.pass(10);
    assert_eq!(checked(&mut parted), Some(EVERY + 1), "as soon as so many were applied");
}

/// A follower takes over the decayed state of the leader by a snapshot. Two of three say the same then, and it is wrong:
/// but it is one voice. The third is not stopped by it, however often they compare.
#[test]
fn a_decayed_state_that_was_handed_on_never_outvotes_the_healthy_one() {
    let mut parted = Parted::new(true);
    let (leader, taker) = (parted.leader, parted.leader % 3 + 1);
    let healthy = taker % 3 + 1;
    parted.world.cut = [taker].into();
    parted.world.pass(50);
    parted.world.node(leader).make_snapshot();
    parted.world.pass(50);
    let base = parted.world.node(leader).raft().storage().base();
    assert!(base > parted.world.node(taker).raft().storage().last(), "the leader has compacted what it lacks");
    parted.world.cut.clear();
    parted.until(|parted| parted.world.told[taker as usize - 1].restored.len() == 1);
    for _ in 0..4 * EVERY {
        parted.world.command(leader);
        parted.world.pass(10);
    }
    let executed = |parted: &mut Parted, node| parted.world.node(node).machine().executed.len();
    assert_eq!(executed(&mut parted, leader), executed(&mut parted, taker), "it has the decayed state");
    assert_eq!(executed(&mut parted, leader), executed(&mut parted, healthy) + 1);
    assert!(parted.world.stopped.is_empty(), "nobody knows who is right: {:?}", parted.world.stopped);
    assert_eq!(parted.find(healthy, EntryKind::Verdict), None);
}
