//! Numbers into fixed arrays, and back.

use raft_core::crc::crc32c;
use raft_core::raft::event::Expulsion;
use raft_core::storage::HardState;
use raft_core::types::{EntryId, Index, NodeId, Term};

use super::{FORMAT_VERSION, HeaderError};

/// The kinds of expulsion.
const REMOVED: u64 = 1;
const FORGOT: u64 = 2;
const CONTRADICTED: u64 = 3;

/// Fills an array of `N` bytes from its beginning. The layouts are constant, so that running over
/// its end is a mistake that the first test of a layout finds.
pub(super) struct Writer<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new() -> Writer<N> {
        Writer { bytes: [0; N], used: 0 }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer<N> {
        let end = self.used + bytes.len();
        self.bytes.get_mut(self.used..end).expect("every layout fits its array").copy_from_slice(bytes);
        self.used = end;
        self
    }

    pub(super) fn u32(&mut self, number: u32) -> &mut Writer<N> {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn u64(&mut self, number: u64) -> &mut Writer<N> {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn u128(&mut self, number: u128) -> &mut Writer<N> {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn entry_id(&mut self, id: EntryId) -> &mut Writer<N> {
        self.u64(id.term.0).u64(id.index.0)
    }

    pub(super) fn hard_state(&mut self, hard_state: HardState) -> &mut Writer<N> {
        self.u64(hard_state.term.0).u64(hard_state.vote.map_or(0, NodeId::get));
        match hard_state.expelled {
            None => self.u64(0).entry_id(EntryId::ZERO).u64(0),
            Some(Expulsion::Removed { by }) => self.u64(REMOVED).entry_id(by).u64(0),
            Some(Expulsion::Forgot { acknowledged, added }) => self.u64(FORGOT).entry_id(acknowledged).u64(added.0),
            Some(Expulsion::Contradicted { found }) => self.u64(CONTRADICTED).entry_id(found).u64(0),
        }
    }

    pub(super) fn finish(&self) -> [u8; N] {
        assert!(self.used == N, "every layout fills its array");
        self.bytes
    }

    /// Ends the array with the checksum over all before it.
    pub(super) fn checksummed(&mut self) -> [u8; N] {
        let (covered, _) = self.bytes.split_at(self.used);
        let checksum = crc32c(0, covered);
        self.u32(checksum);
        self.finish()
    }
}

/// Takes numbers from the beginning of bytes. The layouts are constant; zeros come behind the end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Begins to read an identity or a segment's header: checks magic, checksum and version, and
    /// stands behind the reserved bytes that follow them.
    pub(super) fn header<const N: usize>(bytes: &'a [u8; N], magic: [u8; 8]) -> Result<Reader<'a>, HeaderError> {
        let (covered, checksum) = bytes.split_last_chunk().ok_or(HeaderError::Damaged)?;
        Reader::versioned(covered, *checksum, magic)
    }

    /// The same for what has no fixed length: all of it but the checksum, and that.
    pub(super) fn versioned(covered: &'a [u8], checksum: [u8; 4], magic: [u8; 8]) -> Result<Reader<'a>, HeaderError> {
        if checksum != crc32c(0, covered).to_le_bytes() {
            return Err(HeaderError::Damaged);
        }
        let mut reader = Reader::new(covered);
        if reader.array() != magic {
            return Err(HeaderError::Damaged);
        }
        match reader.u32() {
            FORMAT_VERSION => {}
            version => return Err(HeaderError::OtherVersion { version }),
        }
        reader.u32();
        Ok(reader)
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                *bytes
            }
            None => [0; N],
        }
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    pub(super) fn entry_id(&mut self) -> EntryId {
        let (term, index) = (self.u64(), self.u64());
        EntryId::new(Term(term), Index(index))
    }

    pub(super) fn hard_state(&mut self) -> HardState {
        let (term, vote) = (self.u64(), self.u64());
        let (kind, entry, added) = (self.u64(), self.entry_id(), self.u64());
        let expelled = match kind {
            REMOVED => Some(Expulsion::Removed { by: entry }),
            FORGOT => Some(Expulsion::Forgot { acknowledged: entry, added: Index(added) }),
            CONTRADICTED => Some(Expulsion::Contradicted { found: entry }),
            // Another kind does not encode to the same bytes again, and that is checked.
            _ => None,
        };
        HardState { term: Term(term), vote: NodeId::new(vote), expelled }
    }
}
