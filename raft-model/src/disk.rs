//! A log in memory that is cheap to copy and to hash. Its durable copy follows when it is flushed;
//! a crash loses the changes that were not flushed, or the last ones of them.
//!
//! It stamps all entries with cluster time 0: that time decides nothing in consensus, and by it
//! states would differ that are one.

use std::hash::{DefaultHasher, Hash, Hasher};

use raft_core::entry::{EntryHeader, Records};
use raft_core::ring::Never;
use raft_core::storage::{Full, HardState, ReadError, Saved, Storage};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

/// An entry, as the properties compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) id: EntryId,
    /// A hash of kind and payload.
    pub(crate) content: u64,
}

/// What the view holds, or the disk. The log begins with entry 1: nothing is ever compacted.
#[derive(Clone, Debug, Default)]
struct Image {
    hard_state: HardState,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Where the record of each ends.
    ends: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(Slot, Vec<u8>),
    Truncate(Index),
    HardState(HardState),
}

/// The log of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    view: Image,
    durable: Image,
    /// The changes of the view that are not durable, oldest first.
    changes: Vec<Change>,
}

impl Image {
    fn last(&self) -> EntryId {
        self.slots.last().map_or(EntryId::ZERO, |slot| slot.id)
    }

    fn at(&self, index: Index) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.0).ok()?.checked_sub(1)?)
    }

    /// Where the record of the entry at `index` ends; 0 before the first one.
    fn end(&self, index: Index) -> usize {
        usize::try_from(index.0).ok().and_then(|index| self.ends.get(index.checked_sub(1)?)).map_or(0, |end| *end)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Append(slot, record) => {
                assert_eq!(slot.id.index, self.last().index.next(), "entries are appended in order");
                self.bytes.extend_from_slice(record);
                self.slots.push(*slot);
                self.ends.push(self.bytes.len());
            }
            Change::Truncate(last) => {
                self.bytes.truncate(self.end(*last));
                self.slots.retain(|slot| slot.id.index <= *last);
                self.ends.truncate(self.slots.len());
            }
            Change::HardState(hard_state) => self.hard_state = *hard_state,
        }
    }

    fn saved(&self) -> Saved {
        Saved { hard_state: self.hard_state, through: self.last() }
    }
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.view.hard_state, &self.view.slots).hash(hasher);
        self.changes.len().hash(hasher);
        // Without changes the durable copy is the view.
        if !self.changes.is_empty() {
            (self.durable.hard_state, &self.durable.slots).hash(hasher);
        }
        for change in &self.changes {
            std::mem::discriminant(change).hash(hasher);
            match change {
                Change::Append(slot, _) => slot.hash(hasher),
                Change::Truncate(last) => last.hash(hasher),
                Change::HardState(hard_state) => hard_state.hash(hasher),
            }
        }
    }
}

impl Disk {
    /// The entries in the view.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.view.slots
    }

    /// How many changes are not durable.
    pub(crate) fn unsaved(&self) -> usize {
        self.changes.len()
    }

    /// What a crash leaves, if the first `kept` of the changes that were not flushed had reached the
    /// disk all the same.
    pub(crate) fn crashed(&self, kept: usize) -> Disk {
        let mut durable = self.durable.clone();
        self.changes.iter().take(kept).for_each(|change| durable.change(change));
        Disk { view: durable.clone(), durable, changes: Vec::new() }
    }

    fn make(&mut self, change: Change) {
        self.view.change(&change);
        self.changes.push(change);
    }
}

impl Storage for Disk {
    type Error = Never;

    fn hard_state(&self) -> HardState {
        self.view.hard_state
    }

    fn base(&self) -> EntryId {
        EntryId::ZERO
    }

    fn last(&self) -> EntryId {
        self.view.last()
    }

    fn last_time(&self) -> ClusterTime {
        ClusterTime::default()
    }

    fn term(&self, index: Index) -> Option<Term> {
        if index == Index::ZERO { Some(Term::ZERO) } else { self.view.at(index).map(|slot| slot.id.term) }
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        self.view.at(from).ok_or(ReadError::Missing(from))?;
        let (start, mut last) = (self.view.end(from.previous()), from);
        while last < through && self.view.at(last.next()).is_some() && self.view.end(last.next()) - start <= bytes_max {
            last = last.next();
        }
        let end = self.view.end(last);
        let previous = self.view.at(from.previous()).map_or(EntryId::ZERO, |slot| slot.id);
        let bytes = self.view.bytes.get(start..end).expect("records lie within the log");
        Ok(Records::verified(previous, bytes).expect("the log holds what was appended, in order"))
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        let mut hasher = DefaultHasher::new();
        (header.kind, parts.concat()).hash(&mut hasher);
        let slot = Slot { id: header.id(), content: hasher.finish() };
        let header = EntryHeader::new(header.id(), ClusterTime::default(), header.kind, parts)
            .expect("it is a header already, but for its time");
        self.make(Change::Append(slot, [&header.encode(), parts.concat().as_slice()].concat()));
        Ok(())
    }

    fn truncate(&mut self, last: Index) {
        self.make(Change::Truncate(last));
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        // Writing what is there already makes no other state.
        if hard_state != self.view.hard_state {
            self.make(Change::HardState(hard_state));
        }
    }

    fn flush(&mut self) -> Result<(), Never> {
        self.changes.clear();
        self.durable.clone_from(&self.view);
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        Ok(self.durable.saved())
    }
}

#[cfg(test)]
mod tests {
    use raft_core::entry::EntryKind;

    use super::*;

    fn append(disk: &mut Disk, term: u64, payload: &[u8]) {
        let id = EntryId::new(Term(term), disk.last().index.next());
        let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[payload]).unwrap();
        disk.append(&header, &[payload]).unwrap();
    }

    fn terms(disk: &Disk) -> Vec<u64> {
        disk.slots().iter().map(|slot| slot.id.term.0).collect()
    }

    #[test]
    fn a_crash_keeps_a_beginning_of_what_was_not_flushed() {
        let mut disk = Disk::default();
        append(&mut disk, 1, b"a");
        append(&mut disk, 1, b"b");
        disk.flush().unwrap();
        disk.truncate(Index(1));
        append(&mut disk, 2, b"c");
        disk.set_hard_state(HardState { term: Term(3), vote: None, expelled: None });
        let after = |kept| {
            let crashed = disk.crashed(kept);
            (terms(&crashed), crashed.hard_state().term.0)
        };
        assert_eq!((after(0), after(1)), ((vec![1, 1], 0), (vec![1], 0)));
        assert_eq!((after(2), after(3)), ((vec![1, 2], 0), (vec![1, 2], 3)));
    }

    #[test]
    fn reads_keep_to_their_bounds_but_give_one_entry() {
        let mut disk = Disk::default();
        for payload in [b"a", b"b", b"c"] {
            append(&mut disk, 1, payload);
        }
        let mut read = |from, through, bytes| {
            let records = disk.read(Index(from), Index(through), bytes).unwrap();
            (records.first().index.0, records.last().index.0)
        };
        assert_eq!((read(1, 3, 1000), read(1, 2, 1000), read(2, 3, 1)), ((1, 3), (1, 2), (2, 2)));
        assert!(disk.read(Index(4), Index(4), 1000).is_err());
    }
}
