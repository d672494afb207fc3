//! The spaces that are explored.

use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Member, Suffrage, voters};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, NodeId};

use crate::seen::Event;
use crate::setup::Setup;
use crate::space::{Limits, PreVotes, Saves, Space};

/// All spaces.
#[must_use]
pub fn spaces() -> Vec<Space> {
    [elections(), disks(), networks(), old_entries(), members()].concat()
}

/// Three voters, two elections, and nothing that goes wrong but lost and overtaken messages.
const LIMITS: Limits = Limits {
    terms: 3,
    entries: 3,
    crashes: 0,
    heartbeats: 0,
    repeats: 0,
    changes: 0,
    change: Vec::new,
    transfers: 0,
    saves: Saves::AtOnce,
    pre_votes: PreVotes::AtOnce,
    stale_messages: false,
    one_entry_each: false,
};

fn space(name: &'static str, about: &'static str) -> Space {
    Space {
        name,
        about,
        whole: false,
        reaches: &[Event::Elected, Event::Committed],
        limits: LIMITS,
        configuration: || voters(ClusterId(1), 3).expect("three voters are a configuration"),
        join: &[],
        start: |_| {},
    }
}

fn elections() -> Vec<Space> {
    let overtaken = &[Event::Elected, Event::Committed, Event::EarlierTermCommitted, Event::Dropped];
    vec![
        Space {
            whole: true,
            reaches: overtaken,
            start: first_candidate,
            ..space("elections", "two elections, with what their leaders append and propose")
        },
        Space {
            limits: Limits { terms: 4, ..LIMITS },
            reaches: overtaken,
            start: first_candidate,
            ..space("more elections", "three of them")
        },
        Space {
            limits: Limits { entries: 2, pre_votes: PreVotes::Apart, ..LIMITS },
            reaches: &[Event::Elected, Event::Committed, Event::Dropped],
            ..space("pre-votes", "pre-votes are lost and overtaken like all other messages")
        },
        Space {
            limits: Limits { transfers: 1, stale_messages: true, ..LIMITS },
            whole: true,
            start: elected,
            ..space("transfer", "a leader hands over, and whoever is told to campaign does it at once")
        },
    ]
}

fn disks() -> Vec<Space> {
    let crashed = &[Event::Elected, Event::Committed, Event::Lost];
    vec![
        Space {
            limits: Limits { terms: 2, entries: 2, saves: Saves::Late, crashes: 1, ..LIMITS },
            whole: true,
            reaches: crashed,
            ..space("late disks", "one election; a crash at any moment before, during and after a save")
        },
        Space {
            limits: Limits { saves: Saves::Apart, crashes: 1, ..LIMITS },
            reaches: crashed,
            start: first_candidate,
            ..space("crashes", "two elections and a crash, which loses what was not saved, or a part of it")
        },
    ]
}

fn networks() -> Vec<Space> {
    let repeated = &[Event::Elected, Event::Committed, Event::Repeated];
    vec![
        Space {
            limits: Limits { terms: 2, entries: 2, repeats: 2, stale_messages: true, ..LIMITS },
            whole: true,
            reaches: repeated,
            start: first_candidate,
            ..space("repeats", "one election; any two messages arrive twice, or one three times, however late")
        },
        Space {
            limits: Limits { repeats: 1, stale_messages: true, ..LIMITS },
            reaches: repeated,
            start: first_candidate,
            ..space("late messages", "two elections; messages of the first arrive during the second")
        },
        Space {
            limits: Limits { entries: 4, repeats: 1, heartbeats: 1, ..LIMITS },
            reaches: repeated,
            start: elected,
            ..space("pipeline", "a leader with several entries under way; then another election")
        },
    ]
}

fn old_entries() -> Vec<Space> {
    vec![
        Space {
            limits: Limits { terms: 5, one_entry_each: true, ..LIMITS },
            whole: true,
            reaches: &[Event::EarlierTermCommitted, Event::Dropped],
            start: figure_8,
            ..space("figure 8", "the third leader of Raft's figure 8 sends its entries one by one")
        },
        Space {
            limits: Limits { terms: 4, entries: 4, ..LIMITS },
            whole: true,
            reaches: &[Event::EarlierTermCommitted, Event::Dropped],
            start: diverged,
            ..space("two logs", "logs that have parted, and a leader that has committed")
        },
    ]
}

fn members() -> Vec<Space> {
    let changed = &[Event::Elected, Event::Joint, Event::Changed];
    vec![
        Space {
            limits: Limits { entries: 4, changes: 1, change: keep_one, ..LIMITS },
            whole: true,
            reaches: &[Event::Elected, Event::Joint, Event::Changed, Event::ChangeDropped],
            start: elected,
            ..space("shrink", "two of three voters are removed at once: the new half is one node alone")
        },
        Space {
            limits: Limits { entries: 5, changes: 1, change: keep_one, heartbeats: 1, ..LIMITS },
            reaches: &[Event::Elected, Event::Joint, Event::ChangeDropped],
            start: elected,
            ..space("busy shrink", "the same with entries of clients in between, and heartbeats")
        },
        Space {
            limits: Limits { entries: 4, changes: 1, change: replace, ..LIMITS },
            configuration: two_voters_and_a_learner,
            whole: true,
            reaches: changed,
            start: elected,
            ..space("replace", "of two voters one makes room for a learner")
        },
        Space {
            limits: Limits { entries: 5, change: keep_one, saves: Saves::Apart, crashes: 1, ..LIMITS },
            reaches: &[Event::Elected, Event::Joint, Event::Changed, Event::ChangeDropped, Event::ChangeLost],
            start: changing,
            ..space(
                "changing crash",
                "two of three voters are removed; a crash loses what was not saved, or a part of it",
            )
        },
        Space {
            limits: Limits { entries: 5, changes: 1, change: keep_one, repeats: 1, stale_messages: true, ..LIMITS },
            reaches: &[Event::Elected, Event::Joint, Event::Changed, Event::ChangeDropped, Event::Repeated],
            start: elected,
            ..space("changing repeats", "two of three voters are removed; a message arrives twice, however late")
        },
        Space {
            limits: Limits { terms: 2, entries: 5, changes: 1, change: join, heartbeats: 1, ..LIMITS },
            configuration: || voters(ClusterId(1), 2).expect("two voters are a configuration"),
            join: &[3],
            reaches: &[Event::Joint, Event::Changed],
            start: elected,
            ..space("grow", "a node with an empty log joins two voters and becomes one by itself")
        },
        Space {
            limits: Limits { entries: 5, change: join, heartbeats: 1, ..LIMITS },
            configuration: || voters(ClusterId(1), 2).expect("two voters are a configuration"),
            join: &[3],
            reaches: changed,
            start: joined,
            ..space("promote", "it has the log, and becomes a voter while another leader is elected")
        },
    ]
}

fn node(number: u64) -> NodeId {
    NodeId::new(number).expect("nodes are numbered from 1 on")
}

fn member(number: u64, suffrage: Suffrage) -> Member {
    Member::new(node(number), suffrage, "").expect("no address is a short one")
}

fn two_voters_and_a_learner() -> Configuration {
    let members = [member(1, Suffrage::Voter), member(2, Suffrage::Voter), member(3, Suffrage::Learner)];
    Configuration::new(ClusterId(1), SessionLimits::default(), members).expect("two voters are a configuration")
}

fn keep_one() -> Vec<MemberChange> {
    vec![MemberChange::Remove(node(2)), MemberChange::Remove(node(3))]
}

fn replace() -> Vec<MemberChange> {
    vec![MemberChange::Promote(node(3)), MemberChange::Remove(node(2))]
}

fn join() -> Vec<MemberChange> {
    vec![MemberChange::Add(member(3, Suffrage::Joining))]
}

/// The nodes are alike at first, so it may as well be node 1 that campaigns first.
fn first_candidate(setup: &mut Setup) {
    setup.campaign(1, 2);
}

/// Node 1 leads term 2, and all have its first entry.
fn elected(setup: &mut Setup) {
    setup.elect(1, &[2]);
    setup.talk(1, 2);
    setup.talk(1, 3);
    setup.lose();
}

/// And node 1 has appended a change of the members.
fn changing(setup: &mut Setup) {
    elected(setup);
    setup.change(1);
}

/// And node 3, whose log was empty, has been added and has got all of it.
fn joined(setup: &mut Setup) {
    elected(setup);
    setup.change(1);
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
