//! Where a table keeps its sessions and their answers: fixed arrays on a device, boxes sized at
//! start on a server. The rules are the same for both.

use thiserror::Error;

use crate::session::answers::Layout;
use crate::session::limits::{LimitsError, SessionLimits};
use crate::types::{ClusterTime, Nonce, Sequence, SessionId};

/// Where a table keeps its sessions. What it gives back never changes its size or its place in
/// the order; the table alone writes to it.
pub trait SessionMemory {
    /// The parts, to read.
    fn parts(&self) -> Parts<'_>;

    /// The parts, to change.
    fn parts_mut(&mut self) -> PartsMut<'_>;
}

/// The parts of a memory, to read.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The sessions in order of their ids, one per slot.
    pub directory: &'a [Listing],
    /// What is known of each session.
    pub slots: &'a [Slot],
    /// The kept answers of all sessions, and behind them the scratch for the running answer.
    pub bytes: &'a [u8],
}

/// The parts of a memory, to change.
#[derive(Debug)]
pub struct PartsMut<'a> {
    /// The sessions in order of their ids, one per slot.
    pub directory: &'a mut [Listing],
    /// What is known of each session.
    pub slots: &'a mut [Slot],
    /// The kept answers of all sessions, and behind them the scratch for the running answer.
    pub bytes: &'a mut [u8],
}

/// One line of the directory. Sessions are found by it, and it alone is moved when one ends.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    pub(super) id: SessionId,
    /// The slot, and the block of answers. Invariant: the places in a directory are a permutation
    /// of all slots; those behind the living sessions are free.
    pub(super) place: usize,
}

impl Listing {
    /// A line that lists nothing yet.
    pub const VACANT: Listing = Listing { id: SessionId(0), place: 0 };
}

/// What is known of one session, apart from its answers.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub(super) nonce: Nonce,
    /// When it was renewed last. Invariant: not after the table's time.
    pub(super) renewed: ClusterTime,
    /// The lowest number whose answer the client still waits for. Invariant: at least 1, and never
    /// goes down.
    pub(super) acknowledge: Sequence,
    pub(super) fifo: bool,
}

impl Slot {
    /// A slot without a session.
    pub const VACANT: Slot =
        Slot { nonce: Nonce(0), renewed: ClusterTime(0), acknowledge: Sequence::FIRST, fifo: false };
}

impl<M: SessionMemory + ?Sized> SessionMemory for &mut M {
    fn parts(&self) -> Parts<'_> {
        (**self).parts()
    }

    fn parts_mut(&mut self) -> PartsMut<'_> {
        (**self).parts_mut()
    }
}

/// The bytes a memory needs for the answers of all sessions and a running answer of up to
/// `answer_bytes_max`: the second parameter of [`FixedMemory`]. `usize::MAX` if there is no such
/// number.
///
/// A running answer may be longer than what is kept of it (`limits.answer_bytes`): the client gets
/// it whole the first time. The scratch never holds less than an answer that is kept.
#[must_use]
pub const fn bytes_needed(limits: &SessionLimits, answer_bytes_max: usize) -> usize {
    let layout = Layout::new(limits);
    let scratch = if answer_bytes_max > layout.answer_bytes { answer_bytes_max } else { layout.answer_bytes };
    layout.arena_bytes.saturating_add(scratch)
}

/// Memory for up to `SESSIONS` sessions, and `BYTES` for their answers and the running one; see
/// [`bytes_needed`]. For a static, give the table a `&mut` of it.
#[derive(Debug)]
pub struct FixedMemory<const SESSIONS: usize, const BYTES: usize> {
    directory: [Listing; SESSIONS],
    slots: [Slot; SESSIONS],
    bytes: [u8; BYTES],
}

impl<const SESSIONS: usize, const BYTES: usize> FixedMemory<SESSIONS, BYTES> {
    /// Memory without sessions. Limits that need more than this are refused by the table.
    #[must_use]
    pub const fn new() -> FixedMemory<SESSIONS, BYTES> {
        const { assert!(SESSIONS > 0, "a table needs room for at least one session") };
        FixedMemory { directory: [Listing::VACANT; SESSIONS], slots: [Slot::VACANT; SESSIONS], bytes: [0; BYTES] }
    }
}

impl<const SESSIONS: usize, const BYTES: usize> Default for FixedMemory<SESSIONS, BYTES> {
    fn default() -> FixedMemory<SESSIONS, BYTES> {
        FixedMemory::new()
    }
}

impl<const SESSIONS: usize, const BYTES: usize> SessionMemory for FixedMemory<SESSIONS, BYTES> {
    fn parts(&self) -> Parts<'_> {
        Parts { directory: &self.directory, slots: &self.slots, bytes: &self.bytes }
    }

    fn parts_mut(&mut self) -> PartsMut<'_> {
        PartsMut { directory: &mut self.directory, slots: &mut self.slots, bytes: &mut self.bytes }
    }
}

/// Memory that is allocated once, at start, for given limits.
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct HeapMemory {
    directory: alloc::boxed::Box<[Listing]>,
    slots: alloc::boxed::Box<[Slot]>,
    bytes: alloc::boxed::Box<[u8]>,
}

#[cfg(feature = "alloc")]
impl HeapMemory {
    /// Allocates and touches all that tables with these limits ever need, with room for running
    /// answers of up to `answer_bytes_max`.
    ///
    /// # Errors
    /// [`CapacityError::Limits`] for limits no table works with; [`CapacityError::Allocation`] if
    /// the machine has not got so much memory.
    pub fn new(limits: &SessionLimits, answer_bytes_max: usize) -> Result<HeapMemory, CapacityError> {
        limits.check()?;
        let sessions = Layout::new(limits).sessions;
        let bytes = bytes_needed(limits, answer_bytes_max);
        let lines = sessions.saturating_mul(size_of::<Listing>() + size_of::<Slot>());
        let refused = CapacityError::Allocation { needed: lines.saturating_add(bytes) };
        Ok(HeapMemory {
            directory: filled(Listing::VACANT, sessions).ok_or(refused)?,
            slots: filled(Slot::VACANT, sessions).ok_or(refused)?,
            bytes: filled(0, bytes).ok_or(refused)?,
        })
    }
}

/// A box of `count` elements; `None` if the allocator has no room for it.
#[cfg(feature = "alloc")]
fn filled<T: Clone>(element: T, count: usize) -> Option<alloc::boxed::Box<[T]>> {
    let mut elements = alloc::vec::Vec::new();
    elements.try_reserve_exact(count).ok()?;
    elements.resize(count, element);
    Some(elements.into_boxed_slice())
}

#[cfg(feature = "alloc")]
impl SessionMemory for HeapMemory {
    fn parts(&self) -> Parts<'_> {
        Parts { directory: &self.directory, slots: &self.slots, bytes: &self.bytes }
    }

    fn parts_mut(&mut self) -> PartsMut<'_> {
        PartsMut { directory: &mut self.directory, slots: &mut self.slots, bytes: &mut self.bytes }
    }
}

impl Parts<'_> {
    /// What the memory takes in all, in bytes.
    pub(super) fn size(&self) -> usize {
        size_of_val(self.directory) + size_of_val(self.slots) + self.bytes.len()
    }

    /// Checks that tables with these limits, which are valid, fit in here.
    pub(super) fn hold(&self, limits: &SessionLimits) -> Result<(), CapacityError> {
        let (needed, held) = (Layout::new(limits).sessions, self.directory.len().min(self.slots.len()));
        if held < needed {
            return Err(CapacityError::Sessions { needed, held });
        }
        let (needed, held) = (bytes_needed(limits, 0), self.bytes.len());
        if held < needed {
            return Err(CapacityError::Bytes { needed, held });
        }
        Ok(())
    }
}

/// Why a memory cannot hold a table with the cluster's limits. They are replicated: a replica with
/// less room would evict differently, so it must not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// No table works with these limits.
    #[error("the limits of the sessions are not valid")]
    Limits(#[from] LimitsError),
    /// Too few sessions.
    #[error(
        "the cluster's limits ask for {needed} sessions, and there is room for {held}: build this replica with room \
         for {} more", needed.saturating_sub(*held)
    )]
    Sessions {
        /// What the limits ask for.
        needed: usize,
        /// What the memory has.
        held: usize,
    },
    /// Too few bytes for answers.
    #[error(
        "the cluster's limits ask for {needed} bytes for answers, and there are {held}: build this replica with {} \
         bytes more", needed.saturating_sub(*held)
    )]
    Bytes {
        /// What the limits ask for; `usize::MAX` also stands for more than that.
        needed: usize,
        /// What the memory has.
        held: usize,
    },
    /// The allocator has no room.
    #[error("the cluster's limits ask for {needed} bytes for sessions, which cannot be allocated here")]
    Allocation {
        /// What was asked for; `usize::MAX` also stands for more than that.
        needed: usize,
    },
}
