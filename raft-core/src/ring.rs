//! A log in fixed memory: the storage of a device without a disk, and of tests.
//!
//! Records lie one behind the other in a ring of bytes; one that would cross the end begins at
//! the start instead, so that a record is always one run of bytes. "Durable" means in memory:
//! what is lost with the power is lost. A node whose ring forgets on restart must come back under
//! a new identity, since it has forgotten its vote.

use heapless::Deque;

use crate::entry::{EntryHeader, HEADER_BYTES, Records};
use crate::storage::{Full, HardState, ReadError, Saved, Storage};
use crate::types::{ClusterTime, EntryId, Index, Term};

/// A log of at most `ENTRIES` entries whose records have at most `BYTES` bytes together.
#[derive(Clone, Debug)]
pub struct RingLog<const ENTRIES: usize, const BYTES: usize> {
    hard_state: HardState,
    base: EntryId,
    base_time: ClusterTime,
    /// What is at the back of `entries`; the base if there is none. Asked for at every turn.
    last: EntryId,
    last_time: ClusterTime,
    /// Invariant: consecutive indexes from `base.index + 1`, records in order of their places
    /// around the ring.
    entries: Deque<Place, ENTRIES>,
    bytes: [u8; BYTES],
}

#[derive(Clone, Copy, Debug)]
struct Place {
    term: Term,
    time: ClusterTime,
    start: usize,
    end: usize,
}

/// The ring has no way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl core::fmt::Display for Never {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {}
    }
}

impl core::error::Error for Never {}

impl<const ENTRIES: usize, const BYTES: usize> Default for RingLog<ENTRIES, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const ENTRIES: usize, const BYTES: usize> RingLog<ENTRIES, BYTES> {
    /// An empty log.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(ENTRIES > 0 && BYTES > HEADER_BYTES, "a log has room for an entry") };
        RingLog {
            hard_state: HardState { term: Term::ZERO, vote: None, expelled: None },
            base: EntryId::ZERO,
            base_time: ClusterTime(0),
            last: EntryId::ZERO,
            last_time: ClusterTime(0),
            entries: Deque::new(),
            bytes: [0; BYTES],
        }
    }

    /// Forgets the entries up to and including `index`, which must have been applied everywhere
    /// they are still needed: a follower that lacks them can then only be helped by a snapshot.
    pub fn compact(&mut self, index: Index) {
        while self.base.index < index
            && let Some(place) = self.entries.pop_front()
        {
            self.base = EntryId::new(place.term, self.base.index.next());
            self.base_time = place.time;
        }
    }

    /// Notes a record that was put at `start..end`.
    fn push(&mut self, header: &EntryHeader, start: usize, end: usize) {
        let place = Place { term: header.term, time: header.time, start, end };
        self.entries.push_back(place).expect("there is room for an entry");
        (self.last, self.last_time) = (header.id(), header.time);
    }

    /// Forgets all entries: `base`, whose cluster time is `time`, takes their place.
    pub fn reset(&mut self, base: EntryId, time: ClusterTime) {
        self.entries.clear();
        (self.base, self.base_time) = (base, time);
        (self.last, self.last_time) = (base, time);
    }

    #[inline]
    fn place(&self, index: Index) -> Option<&Place> {
        let position = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(position).ok()?)
    }

    /// Where so many bytes with so many records can begin.
    #[inline]
    fn room(&self, entries: usize, bytes: usize) -> Option<usize> {
        if entries > ENTRIES - self.entries.len() {
            return None;
        }
        let (first, last) = match (self.entries.front(), self.entries.back()) {
            (Some(first), Some(last)) => (first.start, last.end),
            _ => return (bytes <= BYTES).then_some(0),
        };
        if last > first {
            // The free bytes lie behind the last record and before the first one.
            if BYTES - last >= bytes { Some(last) } else { (first >= bytes).then_some(0) }
        } else {
            (first - last >= bytes).then_some(last)
        }
    }
}

impl<const ENTRIES: usize, const BYTES: usize> Storage for RingLog<ENTRIES, BYTES> {
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.hard_state
    }

    fn base(&self) -> EntryId {
        self.base
    }

    #[inline]
    fn last(&self) -> EntryId {
        self.last
    }

    #[inline]
    fn last_time(&self) -> ClusterTime {
        self.last_time
    }

    #[inline]
    fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index { Some(self.base.term) } else { self.place(index).map(|place| place.term) }
    }

    #[inline]
    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        let first = *self.place(from).ok_or(ReadError::Missing(from))?;
        // Once a record does not fit, or lies before the first one because the ring has wrapped, so do all behind it.
        let fits = |place: &&Place| place.start >= first.start && place.end - first.start <= bytes_max;
        let (mut last_index, mut last) = (from, first);
        let mut beyond = through.min(self.last.index).next();
        let mut probe = beyond.previous();
        while last_index < probe {
            match self.place(probe).filter(fits) {
                Some(place) => (last_index, last) = (probe, *place),
                None => beyond = probe,
            }
            probe = Index(u64::midpoint(last_index.0, beyond.0));
        }
        let bytes = self.bytes.get(first.start..last.end).expect("records lie within the ring");
        Ok(Records::vouched(EntryId::new(first.term, from), EntryId::new(last.term, last_index), bytes))
    }

    #[inline]
    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        assert_eq!(header.index, self.last.index.next(), "entries are appended in order");
        let start = self.room(1, header.record_bytes()).ok_or(Full)?;
        let end = start + header.record_bytes();
        let record = self.bytes.get_mut(start..end).expect("the room was measured");
        let (encoded, mut rest) = record.split_first_chunk_mut::<HEADER_BYTES>().expect("a record has a header");
        *encoded = header.encode();
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
        assert!(rest.is_empty(), "the header tells the payload's length");
        self.push(header, start, end);
        Ok(())
    }

    #[inline]
    fn has_room(&mut self, payload_bytes: usize) -> bool {
        self.room(1, HEADER_BYTES.saturating_add(payload_bytes)).is_some()
    }

    #[inline]
    fn append_records(&mut self, records: Records<'_>) -> Result<(), Full> {
        let entries = usize::try_from(records.entries()).unwrap_or(usize::MAX);
        let room = if records.is_whole() { self.room(entries, records.bytes().len()) } else { None };
        let Some(start) = room else {
            return records.iter().try_for_each(|entry| self.append(&entry.header, &[entry.payload]));
        };
        assert!(records.follow(self.last), "entries are appended in order");
        let end = start + records.bytes().len();
        self.bytes.get_mut(start..end).expect("the room was measured").copy_from_slice(records.bytes());
        let mut start = start;
        for header in records.headers() {
            let end = start + header.record_bytes();
            self.push(&header, start, end);
            start = end;
        }
        assert_eq!(start, end, "records are whole");
        Ok(())
    }

    fn truncate(&mut self, last: Index) {
        assert!(last >= self.base.index, "compacted entries cannot be dropped");
        while self.last.index > last {
            self.entries.pop_back();
            let place = self.entries.back().map(|place| (place.term, place.time));
            let (term, time) = place.unwrap_or((self.base.term, self.base_time));
            (self.last, self.last_time) = (EntryId::new(term, self.last.index.previous()), time);
        }
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    fn flush(&mut self) -> Result<(), Never> {
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        Ok(Saved { hard_state: self.hard_state, through: self.last })
    }

    /// Counts the bytes that are left free where the ring wraps, too.
    fn bytes_behind(&self, index: Index) -> u64 {
        let first = self.place(index.max(self.base.index).next());
        let (Some(first), Some(last)) = (first, self.entries.back()) else { return 0 };
        let bytes = if last.end > first.start { last.end - first.start } else { BYTES - first.start + last.end };
        bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;

    type Small = RingLog<8, 160>;

    fn append(log: &mut Small, term: u64, payload: &[u8]) -> Result<(), Full> {
        let id = EntryId::new(Term(term), log.last().index.next());
        let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[payload]).unwrap();
        log.append(&header, &[payload])
    }

    fn read(log: &mut Small, from: u64, through: u64, bytes_max: usize) -> std::vec::Vec<u8> {
        let records = log.read(Index(from), Index(through), bytes_max).unwrap();
        records.iter().map(|entry| entry.payload[0]).collect()
    }

    #[test]
    fn it_fills_refuses_and_goes_round() {
        let mut log = Small::new();
        for payload in [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"dddddddd"] {
            append(&mut log, 1, payload).unwrap();
        }
        assert!(!log.has_room(1));
        assert_eq!(append(&mut log, 1, b"e"), Err(Full));
        assert_eq!(read(&mut log, 1, 4, 1000), b"abcd");
        log.compact(Index(2));
        append(&mut log, 2, b"eeeeeeee").unwrap();
        append(&mut log, 2, b"f").unwrap();
        assert_eq!(append(&mut log, 2, b"g"), Err(Full));
        assert_eq!(read(&mut log, 3, 6, 1000), b"cd", "a read ends where the ring wraps");
        assert_eq!(read(&mut log, 5, 6, 1000), b"ef");
        assert_eq!(log.read(Index(2), Index(6), 1000), Err(ReadError::Missing(Index(2))));
        assert_eq!((log.term(Index(2)), log.term(Index(1))), (Some(Term(1)), None));
        assert_eq!(log.last(), EntryId::new(Term(2), Index(6)));
    }

    #[test]
    fn reads_keep_to_their_bounds_but_give_one_entry() {
        let mut log = Small::new();
        for payload in [b"a", b"b", b"c"] {
            append(&mut log, 1, payload).unwrap();
        }
        assert_eq!(read(&mut log, 1, 3, 0), b"a");
        assert_eq!(read(&mut log, 1, 3, 66), b"ab");
        assert_eq!(read(&mut log, 2, 2, 1000), b"b");
        assert_eq!(read(&mut log, 2, 3, 66), b"bc");
    }

    #[test]
    fn a_truncated_tail_is_replaced() {
        let mut log = Small::new();
        for payload in [b"a", b"b", b"c"] {
            append(&mut log, 1, payload).unwrap();
        }
        log.truncate(Index(1));
        append(&mut log, 2, b"x").unwrap();
        assert_eq!(read(&mut log, 1, 9, 1000), b"ax");
        assert_eq!(log.last_time(), ClusterTime(2));
    }

    /// The ring against a list of entries, through whatever can be done to a log.
    #[test]
    fn it_holds_what_a_list_would_hold() {
        let mut random = crate::random::Random::new(5);
        let mut below = |limit: usize| usize::try_from(random.next() % limit as u64).unwrap();
        let (mut log, mut twin) = (RingLog::<12, 700>::new(), std::vec::Vec::<(u64, std::vec::Vec<u8>)>::new());
        let (mut term, mut wrapped) = (1, 0);
        for _ in 0..20_000 {
            let base = log.base().index.0;
            match below(6) {
                0..=2 => {
                    let mut records = std::vec::Vec::new();
                    let mut added = std::vec::Vec::new();
                    for place in 0..=below(4) {
                        let index = base + (twin.len() + place) as u64 + 1;
                        let payload = std::vec![index.to_le_bytes()[0]; below(60)];
                        let id = EntryId::new(Term(term), Index(index));
                        let header =
                            EntryHeader::new(id, ClusterTime(index), EntryKind::Operation, &[&payload]).unwrap();
                        records.extend(header.encode().into_iter().chain(payload.iter().copied()));
                        added.push((term, payload));
                    }
                    let appended = log.append_records(Records::parse(&records).unwrap());
                    let count = usize::try_from(log.last().index.0 - base).unwrap() - twin.len();
                    assert_eq!(count == added.len(), appended.is_ok(), "what is refused is the end of them");
                    twin.extend(added.into_iter().take(count));
                }
                3 => {
                    let count = below(twin.len() + 1);
                    log.compact(Index(base + count as u64));
                    twin.drain(..count);
                }
                4 => {
                    twin.truncate(below(twin.len() + 1).max(twin.len().saturating_sub(3)));
                    log.truncate(Index(base + twin.len() as u64));
                    term += 1;
                }
                _ => {}
            }
            assert_eq!(log.last().index.0, log.base().index.0 + twin.len() as u64);
            assert_eq!(log.last().term, twin.last().map_or(log.base().term, |entry| Term(entry.0)));
            let (from, most) = (below(twin.len() + 1), below(400));
            let (first, through) = (log.base().index.0 + 1 + from as u64, log.base().index.0 + twin.len() as u64);
            let Ok(read) = log.read(Index(first), Index(through), most) else {
                assert_eq!(from, twin.len());
                continue;
            };
            let entries: std::vec::Vec<_> =
                read.iter().map(|entry| (entry.header.term.0, entry.payload.to_vec())).collect();
            assert_eq!(entries, twin[from..from + entries.len()]);
            assert!(entries.len() == 1 || read.bytes().len() <= most);
            let next = twin.get(from + entries.len()).map(|entry| read.bytes().len() + HEADER_BYTES + entry.1.len());
            wrapped += usize::from(next.is_some_and(|bytes| bytes <= most));
        }
        assert!(wrapped > 100, "some reads end where the ring wraps, and only there too early");
    }

    #[test]
    fn what_is_stripped_is_kept_without_its_payload() {
        let (mut log, mut witness) = (Small::new(), Small::new());
        append(&mut log, 1, b"payload").unwrap();
        append(&mut log, 1, b"more").unwrap();
        witness.append_records(log.read(Index(1), Index(2), 1000).unwrap().stripped()).unwrap();
        let kept = witness.read(Index(1), Index(2), 1000).unwrap();
        assert_eq!(kept.bytes().len(), 2 * HEADER_BYTES);
        assert!(kept.headers().all(|header| header.kind == EntryKind::Stripped));
    }

    #[test]
    fn the_bytes_behind_an_entry_are_counted_around_the_end() {
        let mut log = Small::new();
        for payload in [b"aaaaaaaa", b"bbbbbbbb", b"cccccccc", b"dddddddd"] {
            append(&mut log, 1, payload).unwrap();
        }
        assert_eq!((log.bytes_behind(Index(0)), log.bytes_behind(Index(3)), log.bytes_behind(Index(4))), (160, 40, 0));
        log.compact(Index(2));
        append(&mut log, 1, b"eeeeeeee").unwrap();
        assert_eq!((log.bytes_behind(Index(2)), log.bytes_behind(Index(4))), (120, 40));
        append(&mut log, 1, b"ffffffff").unwrap();
        assert_eq!((log.bytes_behind(Index(2)), append(&mut log, 1, b"")), (160, Err(Full)), "full to the last byte");
    }

    #[test]
    fn a_log_alone_takes_no_snapshots() {
        let mut log = Small::new();
        log.begin_draft();
        assert_eq!(log.extend_draft(b"x"), Err(Full));
        assert_eq!((log.snapshot(), log.read_draft(0, 1)), (None, Err(ReadError::Missing(Index::ZERO))));
    }
}
