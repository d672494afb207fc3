//! The spaces that are explored.

use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Member, Suffrage, voters};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, NodeId};

use crate::seen::Event;
use crate::setup::Setup;
use crate::space::{Limits, PreVotes, Saves, Space};

/// The least that there is anything to explore in.
const LIMITS: Limits = Limits {
    terms: 3,
    entries: 3,
    crashes: 0,
    heartbeats: 0,
    repeats: 0,
    changes: 0,
    change: Vec::new,
    saves: Saves::AtOnce,
    pre_votes: PreVotes::AtOnce,
    stale_requests: false,
    one_entry_each: false,
};

fn three_voters() -> Configuration {
    voters(ClusterId(1), 3).expect("three voters are a configuration")
}

fn space(name: &'static str) -> Space {
    Space {
        name,
        about: "",
        reaches: &[Event::Elected, Event::Committed],
        limits: LIMITS,
        configuration: three_voters,
        join: &[],
        start: |_| {},
    }
}

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("nodes are numbered from 1 on")
}

fn keep_one() -> Vec<MemberChange> {
    vec![MemberChange::Remove(node(2)), MemberChange::Remove(node(3))]
}

fn two_voters_and_a_learner() -> Configuration {
    let members = [(1, Suffrage::Voter), (2, Suffrage::Voter), (3, Suffrage::Learner)];
    let members = members.map(|(id, suffrage)| Member::new(node(id), suffrage, "").expect("an empty address is short"));
    Configuration::new(ClusterId(1), SessionLimits::default(), members).expect("two voters are a configuration")
}

fn two_voters() -> Configuration {
    voters(ClusterId(1), 2).expect("two voters are a configuration")
}

fn replace() -> Vec<MemberChange> {
    vec![MemberChange::Promote(node(3)), MemberChange::Remove(node(2))]
}

fn join() -> Vec<MemberChange> {
    vec![MemberChange::Add(Member::new(node(3), Suffrage::Joining, "").expect("an empty address is short"))]
}

/// Node 1 leads term 2, and all have committed its first entry.
fn elected(setup: &mut Setup) {
    setup.elect(1, &[2]);
    setup.talk(1, 2);
    setup.talk(1, 3);
    setup.lose();
}

/// Figure 8 (c): node 1 has led term 2 and told nobody of its entry, node 2 has led term 3 likewise;
/// now node 1 leads term 4 by the vote of node 3.
fn figure_8(setup: &mut Setup) {
    setup.elect(1, &[3]);
    setup.lose();
    setup.elect(2, &[3]);
    setup.lose();
    setup.silence(1);
    setup.elect(1, &[3]);
}

/// Node 1 has led term 2 and told nobody of its entry; node 2 leads term 3 and has committed
/// another one with node 3.
fn diverged(setup: &mut Setup) {
    setup.elect(1, &[3]);
    setup.lose();
    setup.elect(2, &[3]);
    setup.talk(2, 3);
    setup.lose();
}

/// All spaces.
#[must_use]
pub fn spaces() -> Vec<Space> {
    let l = LIMITS;
    vec![
        Space { limits: Limits { terms: 3, entries: 2, pre_votes: PreVotes::Apart, ..l }, ..space("prevote") },
        Space { limits: Limits { terms: 3, entries: 3, ..l }, ..space("basic33") },
        Space { limits: Limits { terms: 4, entries: 3, ..l }, ..space("basic43") },
        Space { limits: Limits { terms: 3, entries: 3, saves: Saves::Apart, crashes: 1, ..l }, ..space("crash33") },
        Space { limits: Limits { terms: 3, entries: 2, saves: Saves::Apart, crashes: 1, ..l }, ..space("crash32") },
        Space { limits: Limits { terms: 3, entries: 2, saves: Saves::Late, crashes: 1, ..l }, ..space("late32") },
        Space {
            limits: Limits { terms: 3, entries: 4, repeats: 1, heartbeats: 1, ..l },
            start: elected,
            ..space("repeats")
        },
        Space { limits: Limits { terms: 3, entries: 3, repeats: 1, stale_requests: true, ..l }, ..space("stale") },
        Space {
            limits: Limits { terms: 5, entries: 3, one_entry_each: true, ..l },
            start: figure_8,
            ..space("figure 8")
        },
        Space { limits: Limits { terms: 4, entries: 4, heartbeats: 1, ..l }, start: diverged, ..space("diverged") },
        Space {
            limits: Limits { terms: 3, entries: 5, changes: 1, change: keep_one, ..l },
            start: elected,
            ..space("shrink")
        },
        Space {
            limits: Limits { terms: 3, entries: 4, changes: 1, change: replace, heartbeats: 1, ..l },
            configuration: two_voters_and_a_learner,
            start: elected,
            ..space("replace")
        },
        Space {
            limits: Limits { terms: 3, entries: 6, changes: 1, change: join, heartbeats: 2, ..l },
            configuration: two_voters,
            join: &[3],
            start: elected,
            ..space("grow")
        },
    ]
}
