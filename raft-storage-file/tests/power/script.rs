//! What a node does, written by hand.

use raft_core::types::{ClusterId, Incarnation, NodeId};
use raft_storage_file::{Identity, Options, SuspectTail};

/// One thing that a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Append entries of a term, of that many bytes each.
    Append(u64, Vec<usize>),
    /// Adopt a term, and vote in it for a node if it is not 0.
    Vote(u64, u64),
    /// Drop the entries behind an index.
    Truncate(u64),
    Flush,
    /// Flush, and write a witness of it.
    Witness,
    /// Make a snapshot of the state after the entry at an index.
    Take(u64),
    /// Receive one of the state after an entry of that term and index.
    Receive(u64, u64),
    /// Begin one that is not finished.
    Begin,
    Compact(u64),
    /// Syncs on the side take their time from now on, or are done.
    HoldSyncs(bool),
    /// Close, and open again.
    Reopen,
}

use Action::{Append, Begin, Compact, Flush, HoldSyncs, Receive, Reopen, Take, Truncate, Vote};

/// What a node does, from the creation of its directory on, and with which sizes.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) options: Options,
    pub(crate) actions: Vec<Action>,
}

pub(crate) fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(99) }
}

/// Sizes so small that a few entries fill a segment. A suspect tail is cut.
pub(crate) fn options() -> Options {
    let sizes = Options {
        segment_bytes: 2048,
        segment_bytes_first: 1024,
        cache_bytes: 100,
        reserve_bytes: 0,
        ..Options::default()
    };
    Options { suspect_tail: SuspectTail::Cut, ..sizes }
}

fn append(term: u64, lengths: &[usize]) -> Action {
    Append(term, lengths.to_vec())
}

/// As many entries, of 60 bytes and more.
fn some(term: u64, count: usize) -> Action {
    Append(term, (0..count).map(|at| 60 + at * 7 % 40).collect())
}

/// Votes alone and with entries, batches within a sector and over many, payloads of zeros, conflicts within what waits,
/// within the last segment and across segments, rotations, and starts in between.
pub(crate) fn of_logs() -> Script {
    let actions = vec![
        Vote(1, 7),
        Flush,
        append(1, &[0, 40]),
        Flush,
        append(1, &[300]),
        Vote(2, 0),
        append(2, &[900, 10]),
        Flush,
        append(2, &[20, 20, 20]),
        Truncate(6),
        append(3, &[5]),
        Vote(3, 2),
        Flush,
        Truncate(4),
        Flush,
        append(3, &[700, 600]),
        Flush,
        append(3, &[1]),
        Reopen,
        Reopen,
        append(4, &[33; 8]),
        Vote(4, 3),
        Flush,
        Truncate(3),
        append(5, &[512, 64]),
        Flush,
        append(5, &[2500]),
        Flush,
        append(5, &[100]),
        Flush,
        Vote(6, 7),
        Truncate(2),
        Flush,
        Reopen,
        append(7, &[1200]),
        Flush,
        append(7, &[1200]),
        Flush,
    ];
    Script { options: options(), actions }
}

/// Own snapshots with compaction between rotations, one that takes its time, two that wait for it; received ones before the
/// log, in its middle by another term, behind it, twice before a flush, with entries and votes in the same flush,
/// with a rotation in it, after a truncation; and starts in between.
pub(crate) fn of_snapshots() -> Script {
    let actions = vec![
        some(1, 4),
        Flush,
        Take(3),
        Begin,
        some(1, 12),
        Flush,
        some(1, 8),
        Flush,
        Take(14),
        Compact(14),
        some(2, 12),
        Flush,
        HoldSyncs(true),
        Take(20),
        Take(22),
        some(2, 8),
        Flush,
        Take(25),
        HoldSyncs(false),
        Flush,
        Compact(25),
        Reopen,
        some(2, 6),
        Flush,
        Truncate(40),
        Flush,
        Receive(3, 45),
        Flush,
        some(3, 9),
        Flush,
        Take(47),
        Compact(46),
        Vote(4, 1),
        some(4, 2),
        Receive(5, 80),
        Receive(5, 90),
        some(5, 20),
        Vote(6, 1),
        Flush,
        Compact(90),
        some(6, 10),
        Flush,
        Reopen,
        some(6, 10),
        Flush,
        Begin,
        Take(125),
        Compact(120),
        Reopen,
        Receive(7, 200),
        Flush,
        Reopen,
        some(7, 1),
        Flush,
    ];
    Script { options: options(), actions }
}
