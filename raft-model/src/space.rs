//! A space of states: where it begins, and how far it reaches.

use raft_core::configuration::Configuration;
use raft_core::configuration::change::MemberChange;

use crate::seen::Event;
use crate::setup::Setup;

/// When changes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saves {
    /// With the input that made them.
    AtOnce,
    /// Later, or never if a crash is first; the core learns of it at once.
    Apart,
    /// As before, and the core learns of it still later.
    Late,
}

/// How far pre-votes are explored. They change nothing where they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PreVotes {
    /// Those that are not lost arrive and are answered at once.
    AtOnce,
    /// They are messages like all others.
    Apart,
}

/// How far a space reaches.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The last term.
    pub(crate) terms: u64,
    /// The last index.
    pub(crate) entries: u64,
    /// So many crashes, each followed by a restart. While a node is down, nothing happens to it:
    /// that is as if all of it happened later.
    pub(crate) crashes: u8,
    /// So many rounds of heartbeats.
    pub(crate) heartbeats: u8,
    /// So many messages arrive and stay under way, to arrive once more.
    pub(crate) repeats: u8,
    /// So many changes of the members, all of them [`Limits::change`].
    pub(crate) changes: u8,
    pub(crate) change: fn() -> Vec<MemberChange>,
    /// So many times leadership is handed over.
    pub(crate) transfers: u8,
    pub(crate) saves: Saves,
    pub(crate) pre_votes: PreVotes,
    /// Whether messages arrive that are of an earlier term than their receiver, or answer what it
    /// does not wait for any more. Otherwise they are lost.
    pub(crate) stale_messages: bool,
    /// An append message carries one entry at most.
    pub(crate) one_entry_each: bool,
}

/// A space of states.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its name.
    pub name: &'static str,
    /// What is to be found out in it.
    pub about: &'static str,
    /// Whether it is small enough that all of it is always explored.
    pub whole: bool,
    /// What must happen in it at least once, or it shows nothing.
    pub reaches: &'static [Event],
    pub(crate) limits: Limits,
    pub(crate) configuration: fn() -> Configuration,
    /// The nodes whose logs are empty at first, by their ids.
    pub(crate) join: &'static [u64],
    /// What has happened before anything is left to chance.
    pub(crate) start: fn(&mut Setup),
}
