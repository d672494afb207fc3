//! What a snapshot holds, byte by byte (dissertation, section 5.1).
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |--:|---|
//! | 4 | `RSNP` |
//! | 4 | version: 5; 6 if the last comparison of replicas is told; 7 if terms are, and 8 if both are |
//! | 8, 8 | term and index of the configuration |
//! | 4 | length of the configuration |
//! | 8 | length of the session table; 0 for a witness, which has none |
//! | 8, 8, 8, 8 | in versions 6 and 8: term and index of the last order to compare, the digest at it, and whose state that was |
//! | 4 | in versions 7 and 8: of how many terms it is told where they begin, at most 8; then of each, the latest first: |
//! | 8, 8 | the term, and the index from which on the log's entries have it |
//! | … | the configuration: the payload of its entry |
//! | … | the session table, as [`crate::session::encode`] writes it |
//! | … | the state of the machine, to the end |
//!
//! Its last entry, that entry's cluster time, the length and the checksum over all of it stand in
//! its [`SnapshotId`](crate::storage::SnapshotId), which travels with it.

use thiserror::Error;

use crate::configuration::{CONFIGURATION_BYTES_MAX, Configuration, ConfigurationError};
use crate::storage::{ReadError, Storage};
use crate::types::{EntryId, Index, NodeId, Term};

/// The bytes before the configuration, at least and at most.
pub const HEAD_BYTES: usize = 36;
/// As [`HEAD_BYTES`].
pub const HEAD_BYTES_MAX: usize = HEAD_BYTES + CHECK_BYTES + 4 + TERMS_MAX * TERM_BYTES;
/// The most terms that are told.
pub const TERMS_MAX: usize = 8;
const CHECK_BYTES: usize = 32;
const TERM_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"RSNP";
/// The version in which neither is told, and what is added to it for the last comparison and for terms. Earlier ones did
/// not say whose state was compared.
const VERSION: u32 = 5;
const WITH_CHECK: u32 = 1;
const WITH_TERMS: u32 = 2;
const VERSION_MAX: u32 = VERSION + WITH_CHECK + WITH_TERMS;

/// Where the latest terms of a log begin, the latest first. Whoever has committed entries finds out by it whether a
/// snapshot is of the same log, whose entries it has instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms([EntryId; TERMS_MAX]);

impl Terms {
    /// Nothing is told.
    pub const NONE: Terms = Terms([EntryId::ZERO; TERMS_MAX]);

    /// Adds an earlier one, or moves the beginning of the earliest one, if it is of the same term. Returns whether there
    /// was room.
    pub fn push(&mut self, begin: EntryId) -> bool {
        let free = self.begins().count();
        let same = self.begins().last().is_some_and(|last| last.term == begin.term);
        let place = self.0.get_mut(if same { free - 1 } else { free });
        place.map(|place| *place = begin).is_some()
    }

    /// Each term and the index from which on entries have it, the latest first.
    pub fn begins(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.0.iter().copied().take_while(|begin| *begin != EntryId::ZERO)
    }

    /// The term of the log's entry at `index`, as far as it is told.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<Term> {
        self.begins().find(|begin| begin.index <= index).map(|begin| begin.term)
    }
}

/// What a replica's state was when replicas were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The order to compare; [`EntryId::ZERO`] if there was none yet.
    pub check: EntryId,
    /// The digest of sessions and state machine then.
    pub digest: u64,
    /// Whose state it is: that of the replica which says so, or of the one whose snapshot that began with.
    pub by: NodeId,
}

/// What stands before the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The entry of the configuration.
    pub configuration: EntryId,
    /// The length of its payload.
    pub configuration_bytes: u32,
    /// The length of the session table.
    pub session_bytes: u64,
    /// The last comparison of replicas that the state has seen: what is restored from the snapshot finds in the log
    /// whether it was the right one.
    pub check: Option<Comparison>,
    /// Which terms the log has up to the last entry.
    pub terms: Terms,
}

impl Head {
    /// The bytes, in `buffer`.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; HEAD_BYTES_MAX]) -> &'b [u8] {
        let (has_check, has_terms) = (u32::from(self.check.is_some()), u32::from(self.terms != Terms::NONE));
        let version = VERSION + has_check * WITH_CHECK + has_terms * WITH_TERMS;
        let mut rest: &mut [u8] = buffer;
        put(&mut rest, &MAGIC);
        put(&mut rest, &version.to_le_bytes());
        put_id(&mut rest, self.configuration);
        put(&mut rest, &self.configuration_bytes.to_le_bytes());
        put(&mut rest, &self.session_bytes.to_le_bytes());
        if let Some(Comparison { check, digest, by }) = self.check {
            put_id(&mut rest, check);
            put(&mut rest, &digest.to_le_bytes());
            put(&mut rest, &by.get().to_le_bytes());
        }
        if has_terms > 0 {
            let count = u32::try_from(self.terms.begins().count()).unwrap_or(0);
            put(&mut rest, &count.to_le_bytes());
            self.terms.begins().for_each(|begin| put_id(&mut rest, begin));
        }
        buffer.split_at(self.bytes()).0
    }

    /// How many bytes it has.
    fn bytes(&self) -> usize {
        let check = if self.check.is_some() { CHECK_BYTES } else { 0 };
        let terms = match self.terms.begins().count() {
            0 => 0,
            count => 4 + count * TERM_BYTES,
        };
        HEAD_BYTES + check + terms
    }

    /// Reads the beginning of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError`]: it is none that this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Head, SnapshotError> {
        let mut rest = bytes;
        let magic: [u8; 4] = take(&mut rest)?;
        let version = u32::from_le_bytes(take(&mut rest)?);
        if magic != MAGIC {
            return Err(SnapshotError::Damaged);
        }
        if !(VERSION..=VERSION_MAX).contains(&version) {
            return Err(SnapshotError::Version { version });
        }
        let configuration = take_id(&mut rest)?;
        let configuration_bytes = u32::from_le_bytes(take(&mut rest)?);
        let session_bytes = u64::from_le_bytes(take(&mut rest)?);
        if configuration_bytes as usize > CONFIGURATION_BYTES_MAX {
            return Err(SnapshotError::Damaged);
        }
        let told = version - VERSION;
        let check = match told & WITH_CHECK {
            0 => None,
            _ => Some(take_comparison(&mut rest)?),
        };
        let terms = if told & WITH_TERMS == 0 { Terms::NONE } else { take_terms(&mut rest)? };
        Ok(Head { configuration, configuration_bytes, session_bytes, check, terms })
    }

    /// Where the configuration begins.
    #[must_use]
    pub fn configuration_at(&self) -> u64 {
        self.bytes() as u64
    }

    /// Where the session table begins.
    #[must_use]
    pub fn sessions_at(&self) -> u64 {
        self.configuration_at() + u64::from(self.configuration_bytes)
    }

    /// Where the state of the machine begins.
    #[must_use]
    pub fn state_at(&self) -> u64 {
        self.sessions_at().saturating_add(self.session_bytes)
    }
}

fn take<const COUNT: usize>(rest: &mut &[u8]) -> Result<[u8; COUNT], SnapshotError> {
    let (taken, behind) = rest.split_first_chunk().ok_or(SnapshotError::Damaged)?;
    *rest = behind;
    Ok(*taken)
}

fn take_id(rest: &mut &[u8]) -> Result<EntryId, SnapshotError> {
    let term = Term(u64::from_le_bytes(take(rest)?));
    Ok(EntryId::new(term, Index(u64::from_le_bytes(take(rest)?))))
}

fn take_comparison(rest: &mut &[u8]) -> Result<Comparison, SnapshotError> {
    let (check, digest) = (take_id(rest)?, u64::from_le_bytes(take(rest)?));
    let by = NodeId::new(u64::from_le_bytes(take(rest)?)).ok_or(SnapshotError::Damaged)?;
    Ok(Comparison { check, digest, by })
}

/// One term at least, each earlier than the one before it, and so is its beginning.
fn take_terms(rest: &mut &[u8]) -> Result<Terms, SnapshotError> {
    let (mut terms, mut later) = (Terms::NONE, EntryId::new(Term(u64::MAX), Index(u64::MAX)));
    let count = u32::from_le_bytes(take(rest)?);
    for _ in 0..count {
        let begin = take_id(rest)?;
        let earlier = begin.term < later.term && begin.index < later.index && begin.term > Term::ZERO;
        if !earlier || begin.index == Index::ZERO || !terms.push(begin) {
            return Err(SnapshotError::Damaged);
        }
        later = begin;
    }
    if count == 0 { Err(SnapshotError::Damaged) } else { Ok(terms) }
}

fn put(rest: &mut &mut [u8], field: &[u8]) {
    let (place, behind) = core::mem::take(rest).split_at_mut(field.len());
    place.copy_from_slice(field);
    *rest = behind;
}

fn put_id(rest: &mut &mut [u8], id: EntryId) {
    put(rest, &id.term.0.to_le_bytes());
    put(rest, &id.index.0.to_le_bytes());
}

/// Which of a storage's snapshots is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The latest whole one.
    Latest,
    /// The draft.
    Draft,
}

/// Reads the head and the configuration of a snapshot.
///
/// # Errors
/// [`OpenError`]: it is not valid, or could not be read.
pub fn open<S: Storage>(storage: &mut S, which: Which) -> Result<(Head, Configuration), OpenError<S::Error>> {
    let head = Head::decode(read(storage, which, 0, HEAD_BYTES_MAX)?)?;
    let bytes = read(storage, which, head.configuration_at(), head.configuration_bytes as usize)?;
    let configuration = Configuration::decode(bytes).map_err(SnapshotError::Configuration)?;
    Ok((head, configuration))
}

fn read<S: Storage>(storage: &mut S, which: Which, offset: u64, bytes: usize) -> Result<&[u8], ReadError<S::Error>> {
    match which {
        Which::Latest => storage.read_snapshot(offset, bytes),
        Which::Draft => storage.read_draft(offset, bytes),
    }
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They are none.
    #[error("the bytes are no snapshot, or a damaged one")]
    Damaged,
    /// They are one of another version.
    #[error(
        "the snapshot has format {version}, and this program reads formats {VERSION} to {VERSION_MAX}; run the version that made it, or one that reads both"
    )]
    Version {
        /// The version found.
        version: u32,
    },
    /// Its configuration is not valid.
    #[error("the configuration in the snapshot is not valid")]
    Configuration(#[source] ConfigurationError),
}

/// Why a snapshot could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError<E> {
    /// Its bytes are not valid.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The storage failed, or has none.
    #[error("the snapshot could not be read")]
    Read(#[from] ReadError<E>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_every_cut_is_found() {
        let configuration = EntryId::new(Term(3), Index(4));
        let head = Head { configuration, configuration_bytes: 50, session_bytes: 70, check: None, terms: Terms::NONE };
        let mut terms = Terms::NONE;
        assert!(terms.push(EntryId::new(Term(3), Index(7))) && terms.push(EntryId::new(Term(1), Index(1))));
        let by = NodeId::new(6).unwrap();
        let checked =
            Head { check: Some(Comparison { check: EntryId::new(Term(2), Index(9)), digest: 77, by }), ..head };
        assert_eq!((head.sessions_at(), head.state_at()), (86, 156));
        assert_eq!((checked.configuration_at(), checked.sessions_at(), checked.state_at()), (68, 118, 188));
        assert_eq!(Head { terms, ..checked }.configuration_at(), 68 + 4 + 32);
        let mut buffer = [0; HEAD_BYTES_MAX];
        for head in [Head { terms, ..checked }, Head { terms, ..head }, checked, head] {
            let bytes = head.encode(&mut buffer);
            assert_eq!(Head::decode(bytes), Ok(head));
            assert_eq!(bytes.len() as u64, head.configuration_at());
            for length in 0..bytes.len() {
                assert_eq!(Head::decode(&bytes[..length]), Err(SnapshotError::Damaged));
            }
        }
        let bytes = buffer;
        let mut newer = bytes;
        for version in [2, 9] {
            newer[4] = version;
            assert_eq!(Head::decode(&newer), Err(SnapshotError::Version { version: version.into() }));
        }
        let mut foreign = bytes;
        foreign[0] = b'X';
        assert_eq!(Head::decode(&foreign), Err(SnapshotError::Damaged));
        let long = Head { configuration_bytes: u32::MAX, ..head };
        assert_eq!(Head::decode(long.encode(&mut buffer)), Err(SnapshotError::Damaged));
        let longest = Head { configuration_bytes: u32::try_from(CONFIGURATION_BYTES_MAX).unwrap(), ..head };
        assert_eq!(Head::decode(longest.encode(&mut buffer)), Ok(longest));
    }

    #[test]
    fn terms_that_no_log_has_are_damage() {
        let configuration = EntryId::new(Term(3), Index(4));
        let of = |begins: &[(u64, u64)]| {
            let mut terms = Terms::NONE;
            for (place, &(term, index)) in terms.0.iter_mut().zip(begins) {
                *place = EntryId::new(Term(term), Index(index));
            }
            Head { configuration, configuration_bytes: 50, session_bytes: 70, check: None, terms }
        };
        let mut buffer = [0; HEAD_BYTES_MAX];
        let most: std::vec::Vec<(u64, u64)> = (1..=8).rev().map(|term| (term, term)).collect();
        for good in [&[(1, 1)][..], &[(9, 9), (8, 7)], &most] {
            let head = of(good);
            assert_eq!(Head::decode(head.encode(&mut buffer)), Ok(head));
        }
        for bad in [&[(1, 0)][..], &[(0, 1)], &[(3, 9), (3, 7)], &[(3, 9), (2, 9)], &[(3, 9), (4, 7)]] {
            assert_eq!(Head::decode(of(bad).encode(&mut buffer)), Err(SnapshotError::Damaged), "{bad:?}");
        }
        for count in [0, 9, u8::MAX] {
            of(&most).encode(&mut buffer);
            buffer[HEAD_BYTES] = count;
            assert_eq!(Head::decode(&buffer), Err(SnapshotError::Damaged));
        }
    }
}
