//! The spaces that are explored.

use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, voters};
use raft_core::types::{ClusterId, NodeId};

use crate::seen::Event;
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

fn keep_only(first: u64) -> Vec<MemberChange> {
    (1..=3).filter(|&id| id != first).filter_map(NodeId::new).map(MemberChange::Remove).collect()
}

/// All spaces.
#[must_use]
pub fn spaces() -> Vec<Space> {
    vec![
        Space { limits: Limits { terms: 3, entries: 3, ..LIMITS }, ..space("basic3") },
        Space { limits: Limits { terms: 3, entries: 2, pre_votes: PreVotes::Apart, ..LIMITS }, ..space("prevote") },
        Space { limits: Limits { terms: 3, entries: 2, saves: Saves::Apart, ..LIMITS }, ..space("apart") },
        Space { limits: Limits { terms: 2, entries: 2, saves: Saves::Apart, crashes: 1, ..LIMITS }, ..space("apart-crash") },
        Space { limits: Limits { terms: 2, entries: 3, changes: 1, change: || keep_only(1), ..LIMITS }, ..space("shrink") },
    ]
}
