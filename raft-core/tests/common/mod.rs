//! A log in memory whose durable copy follows behind: when its syncs complete, and what of the
//! unsynced rest survives a crash, is for the test to say.

pub(crate) mod parts;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use raft_core::configuration::{self, Configuration};
use raft_core::entry::{EntryHeader, Records};
use raft_core::ring::Never;
use raft_core::storage::{Full, HardState, ReadError, Saved, Storage};
use raft_core::types::{ClusterTime, EntryId, Index, Term};

/// What a log holds: records one behind the other from index 1 on, and the hard state.
#[derive(Clone, Debug, Default)]
struct Image {
    hard_state: HardState,
    bytes: Vec<u8>,
    /// Of each entry: its term, its time, and where its record ends.
    entries: Vec<(Term, ClusterTime, usize)>,
}

/// A change, as it is on its way to the disk.
#[derive(Clone, Debug)]
enum Change {
    Append(EntryHeader, Vec<u8>),
    Truncate(Index),
    HardState(HardState),
}

/// The log.
#[derive(Clone, Debug)]
pub(crate) struct DeferredLog {
    view: Image,
    durable: Image,
    /// Changes of the view that are not durable yet, oldest first.
    changes: VecDeque<Change>,
    /// The syncs under way: how many of the changes each covers.
    syncs: VecDeque<usize>,
    /// So many more syncs may complete by themselves: for tests that cannot get at the log.
    pub(crate) allowed: Rc<Cell<u32>>,
    /// Whether syncs wait for [`DeferredLog::complete`].
    pub(crate) deferred: bool,
    /// The most entries there is room for.
    pub(crate) entries_max: usize,
}

impl Image {
    fn end(&self, index: Index) -> usize {
        index.0.checked_sub(1).map_or(0, |at| self.entries[at as usize].2)
    }

    fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::ZERO, |&(term, ..)| EntryId::new(term, Index(self.entries.len() as u64)))
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Append(header, payload) => {
                self.bytes.extend_from_slice(&header.encode());
                self.bytes.extend_from_slice(payload);
                self.entries.push((header.term, header.time, self.bytes.len()));
            }
            Change::Truncate(last) => {
                self.bytes.truncate(self.end(*last));
                self.entries.truncate(last.0 as usize);
            }
            Change::HardState(hard_state) => self.hard_state = *hard_state,
        }
    }
}

impl DeferredLog {
    /// The log of a member of a new cluster: durable, and its syncs complete at once.
    pub(crate) fn new(configuration: &Configuration) -> DeferredLog {
        let mut log = DeferredLog {
            view: Image::default(),
            durable: Image::default(),
            changes: VecDeque::new(),
            syncs: VecDeque::new(),
            allowed: Rc::default(),
            deferred: false,
            entries_max: usize::MAX,
        };
        configuration::bootstrap(&mut log, configuration).unwrap();
        log.flush().unwrap();
        log
    }

    /// The oldest sync under way completes; gives whether there was one.
    pub(crate) fn complete(&mut self) -> bool {
        let Some(covered) = self.syncs.pop_front() else { return false };
        self.settle(covered);
        true
    }

    /// The power fails: `survive` of the changes that were not durable have reached the disk by
    /// chance, the others are lost.
    pub(crate) fn crash(&mut self, survive: usize) {
        self.settle(survive.min(self.changes.len()));
        self.view = self.durable.clone();
        self.changes.clear();
        self.syncs.clear();
    }

    /// How many changes are not durable.
    pub(crate) fn unsaved(&self) -> usize {
        self.changes.len()
    }

    /// The ids of all entries in the view.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.view.entries.iter().zip(1..).map(|(&(term, ..), index)| EntryId::new(term, Index(index)))
    }

    fn settle(&mut self, changes: usize) {
        for change in self.changes.drain(..changes) {
            self.durable.change(&change);
        }
        for covered in &mut self.syncs {
            *covered = covered.saturating_sub(changes);
        }
    }

    fn change(&mut self, change: Change) {
        self.view.change(&change);
        self.changes.push_back(change);
    }
}

impl Storage for DeferredLog {
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
        self.view.entries.last().map_or(ClusterTime(0), |&(_, time, _)| time)
    }

    fn term(&self, index: Index) -> Option<Term> {
        match index.0.checked_sub(1) {
            None => Some(Term::ZERO),
            Some(at) => self.view.entries.get(at as usize).map(|&(term, ..)| term),
        }
    }

    fn read(&mut self, from: Index, through: Index, bytes_max: usize) -> Result<Records<'_>, ReadError<Never>> {
        if from == Index::ZERO || from > self.last().index {
            return Err(ReadError::Missing(from));
        }
        let start = self.view.end(from.previous());
        let fits = |index: &Index| self.view.end(*index) - start <= bytes_max;
        let more = (from.0 + 1..=through.0.min(self.last().index.0)).map(Index).take_while(fits);
        let end = self.view.end(more.last().unwrap_or(from));
        Ok(Records::parse(&self.view.bytes[start..end]).expect("the log holds what was appended"))
    }

    fn append(&mut self, header: &EntryHeader, parts: &[&[u8]]) -> Result<(), Full> {
        assert_eq!(header.index, self.last().index.next(), "entries are appended in order");
        if self.view.entries.len() >= self.entries_max {
            return Err(Full);
        }
        self.change(Change::Append(*header, parts.concat()));
        Ok(())
    }

    fn truncate(&mut self, last: Index) {
        self.change(Change::Truncate(last));
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.change(Change::HardState(hard_state));
    }

    fn flush(&mut self) -> Result<(), Never> {
        let covered = self.changes.len();
        if !self.deferred {
            self.settle(covered);
            self.syncs.clear();
        } else if covered > self.syncs.back().copied().unwrap_or(0) {
            self.syncs.push_back(covered);
        }
        Ok(())
    }

    fn saved(&mut self) -> Result<Saved, Never> {
        while self.allowed.get() > 0 && self.complete() {
            self.allowed.set(self.allowed.get() - 1);
        }
        Ok(Saved { hard_state: self.durable.hard_state, through: self.durable.last() })
    }
}
