//! Storages that were wiped or restored from a copy: see [`crate`].

use raft_core::client::protocol::RoleName;
use raft_core::message::{Body, Rejection, Round};
use raft_core::raft::Replication;
use raft_core::raft::event::{Event, Expulsion};
use raft_core::types::Index;

use crate::{Node, bodies, elect, entry, follower, id, save, step};

fn acknowledge(raft: &mut Node, from: u64, round: u64, matched: u64) {
    let reply = Body::AppendReply { round: Round(round), matched: Index(matched), rejected: None, counts: true };
    step(raft, from, 2, reply).unwrap();
}

/// Member 3 leads five members, has entries 2 to 4, and member 1 has acknowledged all of them.
fn leader() -> Node {
    let mut raft = follower(5);
    elect_of_five(&mut raft);
    for _ in 0..2 {
        let now = raft.deadline();
        raft.propose(now, raft_core::entry::EntryKind::Operation, &[b"x"]).unwrap().1.later();
    }
    save(&mut raft);
    bodies(&mut raft, 1);
    acknowledge(&mut raft, 1, 1, 4);
    raft
}

fn elect_of_five(raft: &mut Node) {
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true }] {
        for voter in [1, 2] {
            bodies(raft, voter);
            step(raft, voter, 2, body).unwrap();
        }
        save(raft);
    }
    assert_eq!(raft.role(), RoleName::Leader);
}

/// Member 1 answers in a later round that its log ends with entry 1.
fn forget(raft: &mut Node, round: u64) {
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    bodies(raft, 1);
    let rejected = Some(Rejection { previous: Index(9), hint: entry(1, 1) });
    step(raft, 1, 2, Body::AppendReply { round: Round(round), matched: Index(0), rejected, counts: true }).unwrap();
}

#[test]
fn known_bug_61_what_a_member_has_forgotten_counts_no_more() {
    let mut raft = leader();
    forget(&mut raft, 2);
    let forgotten = raft.status().followers.into_iter().find(|follower| follower.id == id(1)).unwrap();
    assert_eq!(forgotten.replication, Replication::Forgot);
    bodies(&mut raft, 2);
    acknowledge(&mut raft, 2, 1, 4);
    assert_eq!(raft.commit(), Index(1), "members 2 and 3 are no majority of five");
    bodies(&mut raft, 4);
    acknowledge(&mut raft, 4, 1, 4);
    assert_eq!(raft.commit(), Index(4));
    let events: Vec<Event> = core::iter::from_fn(|| raft.event()).map(|(_, event)| event).collect();
    assert!(events.contains(&Event::PeerForgot { peer: id(1), matched: Index(4), has: Index(1) }), "{events:?}");
}

#[test]
fn known_bug_61_an_answer_of_an_earlier_moment_shows_no_loss() {
    let mut raft = leader();
    forget(&mut raft, 1);
    let follower = raft.status().followers.into_iter().find(|follower| follower.id == id(1)).unwrap();
    assert_ne!(follower.replication, Replication::Forgot, "it was sent before the acknowledgement, or with it");
    let _ = bodies(&mut raft, 1);
}

#[test]
fn known_bug_61_a_member_is_told_once_in_a_round_that_it_forgot() {
    let mut raft = leader();
    forget(&mut raft, 2);
    bodies(&mut raft, 1);
    assert_eq!(bodies(&mut raft, 1), [""; 0]);
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    let told = bodies(&mut raft, 1);
    assert!(told.len() == 1 && told[0].starts_with("Expelled"), "{told:?}");
}

#[test]
fn known_bug_61_only_who_can_know_expels_and_only_if_it_holds() {
    let (removed, forgot) =
        (Expulsion::Removed { by: entry(1, 5) }, Expulsion::Forgot { acknowledged: entry(1, 5), added: Index(1) });
    for reason in [removed, forgot] {
        let mut raft = follower(3);
        step(&mut raft, 9, 1, Body::Expelled { reason }).unwrap();
        assert_eq!(raft.expelled(), None, "node 9 is nobody");
        step(&mut raft, 1, 1, Body::Expelled { reason }).unwrap();
        wait_for_leader(&mut raft);
        assert_eq!(raft.expelled(), None, "that is not durable yet");
        save(&mut raft);
        assert_eq!(raft.expelled(), Some(reason));
        step(&mut raft, 2, 5, Body::Vote { last: entry(4, 9), transfer: false }).unwrap();
        save(&mut raft);
        let votes = bodies(&mut raft, 2);
        assert_eq!(votes, ["VoteReply { granted: false }"]);
        let deadline = raft.deadline();
        raft.tick(deadline).later();
        assert_eq!(raft.role(), RoleName::Follower, "it does not campaign");
    }
    let wrong =
        [Expulsion::Removed { by: entry(1, 1) }, Expulsion::Forgot { acknowledged: entry(1, 1), added: Index(1) }];
    for reason in wrong {
        let mut raft = follower(3);
        step(&mut raft, 1, 1, Body::Expelled { reason }).unwrap();
        wait_for_leader(&mut raft);
        save(&mut raft);
        assert_eq!(raft.expelled(), None, "{reason:?}: it knows that entry");
    }
    let mut raft = follower(3);
    elect(&mut raft);
    step(&mut raft, 1, 2, Body::Expelled { reason: removed }).unwrap();
    wait_for_leader(&mut raft);
    save(&mut raft);
    assert_eq!((raft.role(), raft.expelled()), (RoleName::Follower, Some(removed)), "also a leader");
}

/// No leader is heard for an election timeout: whoever is said to be removed believes it then.
fn wait_for_leader(raft: &mut Node) {
    let deadline = raft.deadline();
    raft.tick(deadline).later();
}
