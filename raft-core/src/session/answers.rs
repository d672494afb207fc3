//! The kept answers: for each session a ring of one cell per number of the window.
//!
//! The numbers a session may use at a time lie in `acknowledge .. acknowledge + window`, so the
//! cell of a number is found by its remainder, and a number that comes into the window takes the
//! cell of one that has left it.

use core::ops::Range;

use crate::crc::crc32c;
use crate::session::limits::SessionLimits;
use crate::types::{Index, Sequence};

/// A cell's head: sequence (8), index (8), fingerprint (4 + 4) and length of the answer (4), each
/// little-endian. The same bytes stand in a snapshot.
pub(super) const HEAD_BYTES: usize = 28;

/// Stands for the length of an answer that was too long to keep.
const TOO_LONG: u32 = u32::MAX;

/// Where in the bytes of a memory things stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) sessions: usize,
    pub(super) window: usize,
    /// R: the longest answer that is kept.
    pub(super) answer_bytes: usize,
    cell_bytes: usize,
    /// All cells of all sessions; the scratch stands behind.
    pub(super) arena_bytes: usize,
}

impl Layout {
    /// The layout for these limits; sizes that overflow are `usize::MAX`, which no memory has.
    pub(super) const fn new(limits: &SessionLimits) -> Layout {
        let (sessions, window) = (limits.sessions as usize, limits.window as usize);
        let answer_bytes = limits.answer_bytes as usize;
        let cell_bytes = answer_bytes.saturating_add(HEAD_BYTES);
        let arena_bytes = cell_bytes.saturating_mul(window).saturating_mul(sessions);
        Layout { sessions, window, answer_bytes, cell_bytes, arena_bytes }
    }

    /// All cells of the session at `place`.
    fn block(&self, place: usize) -> Range<usize> {
        let block_bytes = self.cell_bytes * self.window;
        place * block_bytes..(place + 1) * block_bytes
    }

    /// The cell of `sequence`, of the session at `place`.
    fn cell(&self, place: usize, sequence: Sequence) -> Range<usize> {
        let window = u64::try_from(self.window).expect("a window is at most 1024");
        let at = usize::try_from(sequence.0 % window).expect("a remainder is less than the window");
        let start = self.block(place).start + at * self.cell_bytes;
        start..start + self.cell_bytes
    }

    /// What is known of `sequence`, of the session at `place`, if it has been executed and no
    /// number a window further on has. Whether it was forgotten since is for the caller to know.
    pub(super) fn find(&self, bytes: &[u8], place: usize, sequence: Sequence) -> Option<(Fact, Range<usize>)> {
        let cell = self.cell(place, sequence);
        let head = bytes.get(cell.clone()).and_then(<[u8]>::first_chunk).expect("the cells lie within the memory");
        let fact = Fact::decode(head);
        if fact.sequence != sequence || sequence == Sequence(0) {
            return None;
        }
        let answer = cell.start + HEAD_BYTES;
        let length = fact.answer.unwrap_or(0);
        assert!(length <= self.answer_bytes, "a kept answer fits its cell");
        Some((fact, answer..answer + length))
    }

    /// Keeps the fact, and the answer of which it tells if it is not too long.
    pub(super) fn keep(&self, bytes: &mut [u8], place: usize, fact: &Fact, answer: &[u8]) {
        assert_eq!(answer.len(), fact.answer.unwrap_or(0), "the fact tells of this answer");
        let cell = bytes.get_mut(self.cell(place, fact.sequence)).expect("the cells lie within the memory");
        let (head, kept) = cell.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&fact.encode());
        kept.get_mut(..answer.len()).expect("an answer that is kept fits its cell").copy_from_slice(answer);
    }

    /// Makes every cell of the session at `place` vacant.
    pub(super) fn clear(&self, bytes: &mut [u8], place: usize) {
        let block = bytes.get_mut(self.block(place)).expect("the cells lie within the memory");
        for cell in block.chunks_exact_mut(self.cell_bytes) {
            cell.first_chunk_mut::<8>().expect("a cell begins with its head").fill(0);
        }
    }

    /// What is kept of the session at `place`, in order of the numbers, from `acknowledge` on.
    pub(super) fn kept<'b>(
        &'b self,
        bytes: &'b [u8],
        place: usize,
        acknowledge: Sequence,
    ) -> impl Iterator<Item = (Fact, &'b [u8])> {
        // The number of the last cell may be the highest there is, so the end is included.
        let window = u64::try_from(self.window).expect("a window is at most 1024");
        let last = acknowledge.0.saturating_add(window - 1);
        (acknowledge.0..=last).filter_map(move |sequence| {
            let (fact, answer) = self.find(bytes, place, Sequence(sequence))?;
            Some((fact, bytes.get(answer).expect("the cells lie within the memory")))
        })
    }
}

/// What is kept of an executed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) sequence: Sequence,
    /// The index at which it was executed.
    pub(super) index: Index,
    pub(super) fingerprint: Fingerprint,
    /// The length of its answer; `None` if that was too long to keep.
    pub(super) answer: Option<usize>,
}

impl Fact {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let length = match self.answer {
            Some(length) => u32::try_from(length).expect("a kept answer is as long as a limit of 32 bits allows"),
            None => TOO_LONG,
        };
        let mut head = [0; HEAD_BYTES];
        let (sequence, rest) = head.split_at_mut(8);
        let (index, rest) = rest.split_at_mut(8);
        let (crc, rest) = rest.split_at_mut(4);
        let (command_bytes, answer_bytes) = rest.split_at_mut(4);
        sequence.copy_from_slice(&self.sequence.0.to_le_bytes());
        index.copy_from_slice(&self.index.0.to_le_bytes());
        crc.copy_from_slice(&self.fingerprint.crc.to_le_bytes());
        command_bytes.copy_from_slice(&self.fingerprint.length.to_le_bytes());
        answer_bytes.copy_from_slice(&length.to_le_bytes());
        head
    }

    pub(super) fn decode(head: &[u8; HEAD_BYTES]) -> Fact {
        let fields = || {
            let (sequence, rest) = head.split_first_chunk()?;
            let (index, rest) = rest.split_first_chunk()?;
            let (crc, rest) = rest.split_first_chunk()?;
            let (command_bytes, answer_bytes) = rest.split_first_chunk()?;
            let length = u32::from_le_bytes(answer_bytes.try_into().ok()?);
            Some(Fact {
                sequence: Sequence(u64::from_le_bytes(*sequence)),
                index: Index(u64::from_le_bytes(*index)),
                fingerprint: Fingerprint { crc: u32::from_le_bytes(*crc), length: u32::from_le_bytes(*command_bytes) },
                answer: if length == TOO_LONG { None } else { Some(usize::try_from(length).unwrap_or(usize::MAX)) },
            })
        };
        fields().expect("the head holds all its fields")
    }
}

/// Tells one command from another: its CRC-32C and its length.
///
/// This finds clients that number wrongly. It does not stop one that forges a collision, who could
/// have sent either command to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    crc: u32,
    length: u32,
}

impl Fingerprint {
    pub(super) fn of(command: &[u8]) -> Fingerprint {
        Fingerprint { crc: crc32c(0, command), length: u32::try_from(command.len()).unwrap_or(u32::MAX) }
    }
}
