//! Entries of the log, in the one encoding that disk and wire share.
//!
//! A *record* is a header of 32 bytes, little-endian, and the payload right behind it:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C over all that follows: the other 28 bytes of the header, then the payload |
//! | 4 | 3 | payload length in bytes |
//! | 7 | 1 | kind |
//! | 8 | 8 | index |
//! | 16 | 8 | term |
//! | 24 | 8 | cluster time, milliseconds |
//!
//! The leader makes the checksum once; followers check it and keep the bytes they received, so
//! the same record stands on every disk and in every message.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::crc::crc32c;
use crate::types::{ClusterTime, EntryId, Index, Term};
use crate::wire::Bytes;

/// The bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// The longest payload that the format can hold: its length has 24 bits.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;

/// What an entry is for. The core reads none but [`EntryKind::Configuration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: what a leader appends at the start of its term (dissertation, section 6.4).
    Noop = 1,
    /// The members and limits of the cluster; entry 1 is one.
    Configuration = 2,
    /// An operation on the sessions or the state machine.
    Operation = 3,
    /// Nothing but its cluster time: lets sessions expire in an idle cluster.
    Clock = 4,
    /// The order to compare replicas as they are after this entry.
    Check = 5,
    /// What a majority has found in such a comparison.
    Verdict = 6,
    /// An entry without its payload, as a witness keeps it.
    Stripped = 7,
}

impl EntryKind {
    #[inline]
    fn from_byte(byte: u8) -> Option<EntryKind> {
        match byte {
            1 => Some(EntryKind::Noop),
            2 => Some(EntryKind::Configuration),
            3 => Some(EntryKind::Operation),
            4 => Some(EntryKind::Clock),
            5 => Some(EntryKind::Check),
            6 => Some(EntryKind::Verdict),
            7 => Some(EntryKind::Stripped),
            _ => None,
        }
    }
}

/// What stands before an entry's payload. Guarantee: `payload_bytes <= PAYLOAD_BYTES_MAX`, index
/// and term are not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryHeader {
    /// The entry's index.
    pub index: Index,
    /// The term of the leader that created it.
    pub term: Term,
    /// The cluster time that leader stamped it with.
    pub time: ClusterTime,
    /// What the payload is.
    pub kind: EntryKind,
    payload_bytes: u32,
    checksum: u32,
}

impl EntryHeader {
    /// Makes the header of an entry whose payload is `parts`, one behind the other.
    ///
    /// # Errors
    /// [`RecordError::TooLong`] if the parts are longer together than [`PAYLOAD_BYTES_MAX`];
    /// [`RecordError::Zero`] if index or term is 0.
    #[inline]
    pub fn new(id: EntryId, time: ClusterTime, kind: EntryKind, parts: &[&[u8]]) -> Result<EntryHeader, RecordError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let payload_bytes = match u32::try_from(bytes) {
            Ok(short) if bytes <= PAYLOAD_BYTES_MAX => short,
            _ => return Err(RecordError::TooLong { bytes }),
        };
        if id.index == Index::ZERO || id.term == Term::ZERO {
            return Err(RecordError::Zero);
        }
        let header = EntryHeader { index: id.index, term: id.term, time, kind, payload_bytes, checksum: 0 };
        Ok(EntryHeader { checksum: checksum(&header.encode(), parts), ..header })
    }

    /// Term and index.
    #[inline]
    #[must_use]
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// The header of the entry as a witness keeps it: without its payload. A configuration stays as
    /// it is, since a witness has to know who the members are; so does what has no payload.
    #[must_use]
    pub fn stripped(&self) -> EntryHeader {
        if self.kind == EntryKind::Configuration || self.payload_bytes == 0 {
            return *self;
        }
        EntryHeader::new(self.id(), self.time, EntryKind::Stripped, &[])
            .expect("nothing is not too long, and the entry's index and term are not 0")
    }

    /// The length of the payload in bytes.
    #[inline]
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes as usize
    }

    /// The length of header and payload in bytes.
    #[inline]
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes()
    }

    /// The header's 32 bytes.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let length_and_kind = self.payload_bytes | (u32::from(self.kind as u8) << 24);
        let first = u64::from(self.checksum) | (u64::from(length_and_kind) << 32);
        let words = [first, self.index.0, self.term.0, self.time.0];
        let mut bytes = [0; HEADER_BYTES];
        let (places, _) = bytes.as_chunks_mut::<8>();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// Reads a header without its payload: nothing is known yet of the checksum.
    ///
    /// # Errors
    /// As [`Entry::decode`], but for the checksum.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<EntryHeader, RecordError> {
        let (words, _) = bytes.as_chunks::<8>();
        let Some((&[first, index, term, time], _)) = words.split_first_chunk() else {
            return Err(RecordError::Short { bytes: bytes.len(), needed: HEADER_BYTES });
        };
        let [c0, c1, c2, c3, l0, l1, l2, kind] = first;
        let [index, term, time] = [index, term, time].map(u64::from_le_bytes);
        if index == 0 || term == 0 {
            return Err(RecordError::Zero);
        }
        Ok(EntryHeader {
            index: Index(index),
            term: Term(term),
            time: ClusterTime(time),
            kind: EntryKind::from_byte(kind).ok_or(RecordError::Kind { kind })?,
            payload_bytes: u32::from_le_bytes([l0, l1, l2, 0]),
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }
}

/// The checksum over all of an encoded header but the place of the checksum itself, and the payload. A call of its own,
/// so that the rest of [`EntryHeader::new`] is small enough to be inlined.
fn checksum(header: &[u8; HEADER_BYTES], parts: &[&[u8]]) -> u32 {
    let (_, covered) = header.split_at(4);
    parts.iter().fold(crc32c(0, covered), |crc, part| crc32c(crc, part))
}

/// An entry, borrowed from the record it was decoded from. Guarantee: the checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What stands before the payload.
    pub header: EntryHeader,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Entry<'a> {
    /// As a witness keeps it: see [`EntryHeader::stripped`].
    #[must_use]
    pub fn stripped(self) -> Entry<'a> {
        let header = self.header.stripped();
        Entry { header, payload: if header.payload_bytes == 0 { &[] } else { self.payload } }
    }

    /// Reads the record at the beginning of `bytes`; gives the entry and what lies behind it.
    ///
    /// # Errors
    /// Says what is wrong with the bytes: too short, a kind that is not known, index or term 0, or
    /// a checksum that does not fit.
    pub fn decode(bytes: &'a [u8]) -> Result<(Entry<'a>, &'a [u8]), RecordError> {
        let header = EntryHeader::decode(bytes)?;
        let short = RecordError::Short { bytes: bytes.len(), needed: header.record_bytes() };
        let (record, rest) = bytes.split_at_checked(header.record_bytes()).ok_or(short)?;
        let (_, covered) = record.split_at(4);
        if crc32c(0, covered) != header.checksum {
            return Err(RecordError::Checksum { index: header.index });
        }
        let (_, payload) = record.split_at(HEADER_BYTES);
        Ok((Entry { header, payload }, rest))
    }
}

/// Entries one behind the other, as a message or a read of the log carries them.
///
/// Guarantee: every record is whole with a right checksum, the indexes are consecutive, and terms
/// and cluster times never go down. The bytes are exactly those of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records<'a> {
    bytes: &'a [u8],
    entries: u32,
    first: EntryId,
    last: EntryId,
    /// Payloads are left out when these are encoded and looked at.
    stripped: bool,
}

impl<'a> Records<'a> {
    /// No entries.
    pub const EMPTY: Records<'static> =
        Records { bytes: &[], entries: 0, first: EntryId::ZERO, last: EntryId::ZERO, stripped: false };

    /// Checks all of `bytes` as records that follow each other.
    ///
    /// # Errors
    /// The first record that is damaged, or does not follow the one before it.
    pub fn parse(bytes: &'a [u8]) -> Result<Records<'a>, RecordError> {
        Records::read(bytes, |bytes| Entry::decode(bytes).map(|(entry, rest)| (entry.header, rest)))
    }

    /// As [`Records::parse`], and checks too that they follow `previous`.
    ///
    /// # Errors
    /// The first record that is damaged, or does not follow the one before it.
    pub fn check(previous: EntryId, bytes: &'a [u8]) -> Result<Records<'a>, RecordError> {
        Records::parse(bytes)?.behind(previous)
    }

    fn read(
        bytes: &'a [u8],
        take: impl Fn(&'a [u8]) -> Result<(EntryHeader, &'a [u8]), RecordError>,
    ) -> Result<Records<'a>, RecordError> {
        let mut rest = bytes;
        let mut records = Records { bytes, ..Records::EMPTY };
        let mut time = ClusterTime::default();
        while !rest.is_empty() {
            let (header, behind) = take(rest)?;
            let (found, previous) = (header.id(), records.last);
            if records.entries == 0 {
                records.first = found;
            } else if !found.index.follows(previous.index) || found.term < previous.term || header.time < time {
                return Err(RecordError::Order { previous, found });
            }
            (records.last, time, rest) = (found, header.time, behind);
            records.entries = records.entries.saturating_add(1);
        }
        Ok(records)
    }

    /// Whether the first one can stand right behind `previous`; so can none.
    #[must_use]
    pub fn follow(&self, previous: EntryId) -> bool {
        self.is_empty() || (self.first.index.follows(previous.index) && self.first.term >= previous.term)
    }

    /// Takes `bytes`, whose checksums were verified when they came into memory, as records that
    /// follow `previous`: checks all that [`Records::check`] checks but the checksums, so that a
    /// leader can read the tail of its log once per follower for little.
    ///
    /// # Errors
    /// The first record that is cut off, or does not follow the one before it.
    pub fn verified(previous: EntryId, bytes: &'a [u8]) -> Result<Records<'a>, RecordError> {
        Records::read(bytes, |bytes| {
            let header = EntryHeader::decode(bytes)?;
            let short = RecordError::Short { bytes: bytes.len(), needed: header.record_bytes() };
            let (_, rest) = bytes.split_at_checked(header.record_bytes()).ok_or(short)?;
            Ok((header, rest))
        })?
        .behind(previous)
    }

    /// Takes `bytes` as the records from `first` to `last`. A storage that knows where its records
    /// lie vouches for all that [`Records::check`] would find out, so that a read of the log costs
    /// the same for one entry and for a thousand. Builds with debug assertions check order and ends.
    #[inline]
    #[must_use]
    pub fn vouched(first: EntryId, last: EntryId, bytes: &'a [u8]) -> Records<'a> {
        let entries = u32::try_from(last.index.since(first.index)).unwrap_or(u32::MAX).saturating_add(1);
        let records = Records { bytes, entries, first, last, stripped: false };
        debug_assert_eq!(
            Records::verified(EntryId::new(first.term, first.index.previous()), bytes),
            Ok(records),
            "a storage gives the records that it has promised"
        );
        records
    }

    fn behind(self, previous: EntryId) -> Result<Records<'a>, RecordError> {
        if self.follow(previous) { Ok(self) } else { Err(RecordError::Order { previous, found: self.first }) }
    }

    /// The same entries as a witness keeps them: see [`EntryHeader::stripped`].
    #[must_use]
    pub fn stripped(self) -> Records<'a> {
        Records { stripped: true, ..self }
    }

    /// The records' bytes; whole ones, also if they are to be encoded stripped.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes of them are encoded into a message.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        if self.stripped { self.iter().map(|entry| entry.header.record_bytes()).sum() } else { self.bytes.len() }
    }

    /// How many entries there are.
    #[inline]
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first entry; [`EntryId::ZERO`] if there is none.
    #[inline]
    #[must_use]
    pub fn first(&self) -> EntryId {
        self.first
    }

    /// The last entry; [`EntryId::ZERO`] if there is none.
    #[inline]
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// Whether [`Records::bytes`] is what is encoded and looked at, nothing being stripped.
    #[inline]
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.stripped
    }

    /// The headers of the records in order; whole ones, also if they are to be encoded stripped.
    #[inline]
    pub fn headers(&self) -> impl Iterator<Item = EntryHeader> + use<'a> {
        self.walk().map(|(header, _)| header)
    }

    /// The entries in order. Their checksums were checked when this was made and are not again.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let stripped = self.stripped;
        self.walk().map(move |(header, record)| {
            let (_, payload) = record.split_at(HEADER_BYTES);
            let entry = Entry { header, payload };
            if stripped { entry.stripped() } else { entry }
        })
    }

    /// Headers and their whole records. Where a record begins depends on the length of the one before it, so that a walk
    /// would wait for one header after the other to come from memory. Most records are as long as the last one: a
    /// processor that may guess so, at a branch that it predicts, goes on to the next ones meanwhile.
    #[inline]
    fn walk(&self) -> impl Iterator<Item = (EntryHeader, &'a [u8])> + use<'a> {
        let (mut rest, mut record_bytes) = (self.bytes, 0);
        core::iter::from_fn(move || {
            let header = EntryHeader::decode(rest).ok()?;
            if record_bytes != header.record_bytes() {
                // The compiler must not see that both are equal from here on: it would drop the branch.
                record_bytes = core::hint::black_box(header.record_bytes());
            }
            let (record, behind) = rest.split_at_checked(record_bytes)?;
            rest = behind;
            Some((header, record))
        })
    }
}

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.stripped {
            return Bytes(self.bytes).serialize(serializer);
        }
        // A sequence of bytes is encoded as a run of bytes is, and does not have to lie together.
        let mut sequence = serializer.serialize_seq(Some(self.wire_bytes()))?;
        for entry in self.iter() {
            for byte in entry.header.encode().iter().chain(entry.payload) {
                sequence.serialize_element(byte)?;
            }
        }
        sequence.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Records<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Records<'a>, D::Error> {
        Records::parse(Bytes::deserialize(deserializer)?.0).map_err(serde::de::Error::custom)
    }
}

/// Why bytes are no record, or no run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record is cut off.
    #[error("the record needs {needed} bytes, and {bytes} are there")]
    Short {
        /// The bytes there are.
        bytes: usize,
        /// The bytes the record needs.
        needed: usize,
    },
    /// A payload over the format's limit.
    #[error("the payload has {bytes} bytes, over the limit of {PAYLOAD_BYTES_MAX}; send it in parts")]
    TooLong {
        /// The payload's bytes.
        bytes: usize,
    },
    /// Index or term is 0, which no entry has.
    #[error("index or term is 0, which no entry has")]
    Zero,
    /// A kind this version does not know.
    #[error("entries of kind {kind} are not known to this version; it was written by a newer one or is damaged")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// The checksum does not fit the bytes.
    #[error("the checksum of entry {index} does not fit its bytes: they are damaged")]
    Checksum {
        /// The index in the damaged header.
        index: Index,
    },
    /// An entry does not follow the one before it.
    #[error("entry {found} cannot follow entry {previous}")]
    Order {
        /// The entry before (term/index).
        previous: EntryId,
        /// The entry that does not follow it.
        found: EntryId,
    },
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn record(term: u64, index: u64, time: u64, payload: &[u8]) -> Vec<u8> {
        let id = EntryId::new(Term(term), Index(index));
        let header = EntryHeader::new(id, ClusterTime(time), EntryKind::Operation, &[payload]).unwrap();
        [header.encode().as_slice(), payload].concat()
    }

    /// The format's golden vector, as it stands in FORMAT.md.
    #[test]
    fn golden_vector() {
        let bytes = record(2, 1, 3, b"hi");
        let expected = [
            0x02, 0x00, 0x00, 0x03, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, b'h', b'i',
        ];
        assert_eq!(bytes[4..], expected);
        assert_eq!(bytes[..4], crc32c(0, &expected).to_le_bytes());
        assert_eq!(bytes[..4], [0x58, 0x5d, 0xaf, 0x4e]);
    }

    #[test]
    fn parts_make_the_same_record_as_the_whole() {
        let id = EntryId::new(Term(1), Index(1));
        let whole = EntryHeader::new(id, ClusterTime(0), EntryKind::Noop, &[b"abcdef"]).unwrap();
        let parts = EntryHeader::new(id, ClusterTime(0), EntryKind::Noop, &[b"ab", b"", b"cdef"]).unwrap();
        assert_eq!(whole, parts);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = record(7, 9, 11, b"payload");
        assert_eq!(Entry::decode(&bytes).unwrap().0.payload, b"payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Entry::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(Entry::decode(&bytes[..length]), Err(RecordError::Short { .. })));
        }
        for place in [8..16, 16..24] {
            let mut zeroed = bytes.clone();
            zeroed[place].fill(0);
            assert_eq!(EntryHeader::decode(&zeroed), Err(RecordError::Zero), "index and term are not 0");
        }
    }

    #[test]
    fn records_must_follow_each_other() {
        let start = EntryId::new(Term(1), Index(4));
        let good = [record(1, 5, 2, b"a"), record(3, 6, 2, b"")].concat();
        let records = Records::check(start, &good).unwrap();
        assert_eq!((records.entries(), records.last()), (2, EntryId::new(Term(3), Index(6))));
        assert_eq!(records.iter().map(|entry| entry.payload.len()).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(Records::verified(start, &good), Ok(records));
        assert!(matches!(Records::verified(start, &good[..good.len() - 1]), Err(RecordError::Short { .. })));
        for bad in [
            [record(1, 5, 2, b"a"), record(1, 7, 2, b"")].concat(), // a gap
            [record(2, 5, 2, b"a"), record(1, 6, 2, b"")].concat(), // the term goes down
            [record(1, 5, 2, b"a"), record(1, 6, 1, b"")].concat(), // the time goes down
            record(1, 6, 2, b"a"),                                  // does not follow the start
        ] {
            assert!(matches!(Records::check(start, &bad), Err(RecordError::Order { .. })));
            assert!(matches!(Records::verified(start, &bad), Err(RecordError::Order { .. })));
        }
    }

    /// Indexes saturate: the one after the last is the last.
    #[test]
    fn nothing_follows_the_last_index() {
        let (last, before) = (Index(u64::MAX), Index(u64::MAX - 1));
        let one = record(1, last.0, 2, b"a");
        assert!(Records::check(EntryId::new(Term(1), before), &one).is_ok());
        assert!(Records::check(EntryId::new(Term(1), last), &one).is_err());
        assert!(Records::parse(&[one.as_slice(), &one].concat()).is_err());
    }

    #[test]
    fn stripped_records_are_encoded_without_payloads_and_read_back() {
        let header =
            EntryHeader::new(EntryId::new(Term(1), Index(6)), ClusterTime(2), EntryKind::Configuration, &[b"c"]);
        let kept = [header.unwrap().encode().as_slice(), b"c"].concat();
        let bytes = [record(1, 5, 2, b"payload"), kept.clone(), record(1, 7, 3, b"")].concat();
        let records = Records::parse(&bytes).unwrap().stripped();
        let mut buffer = [0; 256];
        let encoded = postcard::to_slice(&records, &mut buffer).unwrap();
        assert_eq!(encoded.len(), 1 + records.wire_bytes());
        let read: Records<'_> = postcard::from_bytes(encoded).unwrap();
        let kinds: Vec<_> = read.iter().map(|entry| (entry.header.kind, entry.payload.len())).collect();
        assert_eq!(kinds, [(EntryKind::Stripped, 0), (EntryKind::Configuration, 1), (EntryKind::Operation, 0)]);
        assert!(read.iter().eq(records.iter()));
        assert_eq!((read.first(), read.last()), (records.first(), records.last()));
        let at = |index| EntryId::new(Term(1), Index(index));
        assert_eq!((records.first(), records.last()), (at(5), at(7)));
        assert!(Records::parse(&bytes).unwrap().is_whole() && !records.is_whole());
    }

    #[test]
    fn payloads_over_the_limit_are_refused() {
        let id = EntryId::new(Term(1), Index(1));
        let long = std::vec![0; PAYLOAD_BYTES_MAX + 1];
        assert!(matches!(
            EntryHeader::new(id, ClusterTime(0), EntryKind::Operation, &[&long]),
            Err(RecordError::TooLong { .. })
        ));
    }
}
