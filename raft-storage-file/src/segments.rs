//! Which segments there are, and which of them a snapshot has made needless.

use std::collections::VecDeque;

use raft_core::types::Index;

use crate::error::{DiskError, Operation};
use crate::files::{Files, Name};

/// A segment that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: u64,
    /// No entry of the log that lies in a segment before this one is behind that index.
    pub(crate) after: Index,
}

/// The segments of the log, from the oldest to the one that is written.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Invariant: never empty; numbers go up by one.
    places: VecDeque<Place>,
}

impl Segments {
    /// The segments `places`, at least one.
    pub(crate) fn new(places: impl IntoIterator<Item = Place>) -> Segments {
        let places: VecDeque<Place> = places.into_iter().collect();
        assert!(!places.is_empty(), "a log lies in at least one segment");
        Segments { places }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.places.len() as u64
    }

    /// Takes note of the segment that is written from now on.
    pub(crate) fn push(&mut self, place: Place) {
        self.places.push_back(place);
    }

    /// Takes note that no entry is held any more that was written before now.
    pub(crate) fn drop_entries(&mut self) {
        self.places.iter_mut().for_each(|place| place.after = Index::ZERO);
    }

    /// The index from which on entries can be read back at the next start, at the latest.
    pub(crate) fn after(&self) -> Index {
        self.places.front().map_or(Index::ZERO, |place| place.after)
    }

    /// Removes the segments whose entries lie at or before `base`, oldest first, but never the one that
    /// is written; gives how many.
    pub(crate) fn remove_through<F: Files>(&mut self, files: &F, base: Index) -> Result<u64, DiskError> {
        let mut removed = 0;
        while let Some(first) = self.places.front()
            && self.places.get(1).is_some_and(|second| second.after <= base)
        {
            let name = Name::Segment(first.number);
            files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
            self.places.pop_front();
            removed += 1;
        }
        Ok(removed)
    }

    /// The number of the oldest one.
    pub(crate) fn first(&self) -> u64 {
        self.places.front().map_or(0, |place| place.number)
    }
}
