//! The store's commands and queries, and what it answers, as bytes: postcard, with new variants
//! added at the end only, so that logs written by older versions stay readable.

use raft_core::wire::Bytes;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// What a write depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key is absent.
    Absent,
    /// The key's revision is this one.
    Revision(u64),
}

/// What changes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// The key.
        key: &'a str,
        /// Its value from now on.
        #[serde(borrow)]
        value: Bytes<'a>,
        /// What must hold, or nothing is changed.
        condition: Condition,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a str,
        /// What must hold, or nothing is changed.
        condition: Condition,
    },
    /// Adds to a key whose value is a decimal number of 64 bits; absent counts as 0.
    Incr {
        /// The key.
        key: &'a str,
        /// What is added.
        by: i64,
    },
    /// Sets a key to `new` if its value is `old`.
    Cas {
        /// The key.
        key: &'a str,
        /// What its value must be.
        #[serde(borrow)]
        old: Bytes<'a>,
        /// Its value from now on.
        #[serde(borrow)]
        new: Bytes<'a>,
    },
}

/// The answer to a command. Its revision is the index at which the command was executed. Short,
/// so that the session table can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The key was set or removed.
    Done,
    /// The key was added to, and is this now.
    Counted {
        /// The sum.
        value: i64,
    },
    /// The condition did not hold: the key's revision, if there is one. Nothing has changed.
    ConditionFailed {
        /// The key's revision.
        revision: Option<u64>,
    },
    /// There was no such key to remove.
    NotFound,
    /// The value is no decimal number of 64 bits. Nothing has changed.
    NotANumber,
    /// The sum has more than 64 bits. Nothing has changed.
    Overflow,
    /// Key or value are outside their limits, or the bytes are no command. Nothing has changed.
    Invalid,
}

/// What only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query<'a> {
    /// One key.
    Get {
        /// The key.
        key: &'a str,
    },
    /// Keys that begin with `prefix` and come after `after`, in order, at most `limit`.
    List {
        /// What the keys begin with.
        prefix: &'a str,
        /// They come behind this key; the empty one is before all.
        after: &'a str,
        /// The most of them.
        limit: u32,
    },
}

/// The answer to [`Query::Get`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found<'a> {
    /// The index of the last command executed.
    pub at: u64,
    /// The key's value and revision, if there is one.
    #[serde(borrow)]
    pub value: Option<(Bytes<'a>, u64)>,
}

/// The answer to [`Query::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<'a> {
    /// The index of the last command executed.
    pub at: u64,
    /// Keys with their values and revisions.
    #[serde(borrow)]
    pub items: Vec<(&'a str, Bytes<'a>, u64)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Whether this can be a key.
#[must_use]
pub fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

/// The bytes of a command, query or answer.
///
/// # Panics
/// Never for the types of this module.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("these types always have an encoding")
}

/// Reads a command, query or answer; `None` for bytes that are none.
#[must_use]
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
