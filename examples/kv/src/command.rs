//! The store's commands and queries, and what it answers, as bytes: postcard, with new variants
//! added at the end only, so that logs written by older versions stay readable.

use raft_core::wire::Bytes;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes. The shortest has one.
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// The longest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;

/// What a write depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// Nothing.
    Always,
    /// The key is absent.
    Absent,
    /// The key's revision is this one.
    Revision(u64),
}

/// What changes the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command<'a> {
    /// Sets a key.
    Put {
        key: &'a str,
        #[serde(borrow)]
        value: Bytes<'a>,
        condition: Condition,
    },
    /// Removes a key.
    Delete { key: &'a str, condition: Condition },
    /// Adds to a key whose value is a decimal number of 64 bits; absent counts as 0.
    Incr { key: &'a str, by: i64 },
    /// Sets a key to `new` if its value is `old`.
    Cas {
        key: &'a str,
        #[serde(borrow)]
        old: Bytes<'a>,
        #[serde(borrow)]
        new: Bytes<'a>,
    },
}

/// The answer to a command. Its revision is the index at which the command was executed. Short,
/// so that the session table can keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The key was set or removed.
    Done,
    /// The key was added to, and is this now.
    Counted { value: i64 },
    /// The condition did not hold: the key's revision, if there is one. Nothing has changed.
    ConditionFailed { revision: Option<u64> },
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
pub(crate) enum Query<'a> {
    /// One key.
    Get { key: &'a str },
    /// Keys that begin with `prefix` and come after `after`, in order, at most `limit`.
    List { prefix: &'a str, after: &'a str, limit: u32 },
}

/// The answer to [`Query::Get`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found<'a> {
    /// The index of the last command executed.
    pub(crate) at: u64,
    /// The key's value and revision, if there is one.
    #[serde(borrow)]
    pub(crate) value: Option<(Bytes<'a>, u64)>,
}

/// The answer to [`Query::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page<'a> {
    /// The index of the last command executed.
    pub(crate) at: u64,
    /// Keys with their values and revisions.
    #[serde(borrow)]
    pub(crate) items: Vec<(&'a str, Bytes<'a>, u64)>,
    /// Whether there are more after the last one.
    pub(crate) more: bool,
}

/// Whether this can be a key.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

/// The bytes of a command, query or answer.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("these types always have an encoding")
}

/// Reads a command, query or answer; `None` for bytes that are none.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}
