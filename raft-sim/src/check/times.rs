//! Cluster time never goes back along a log, and entries that were dropped leave no trace in it.

use std::collections::BTreeMap;

use raft_core::types::{ClusterTime, EntryId};

use crate::violation::Violation;

/// The cluster time of each entry that was appended anywhere.
#[derive(Clone, Debug, Default)]
pub struct Times {
    times: BTreeMap<EntryId, ClusterTime>,
}

impl Times {
    /// An entry was appended behind the entry `before`.
    ///
    /// # Errors
    /// Its time is earlier.
    pub fn appended(&mut self, entry: EntryId, before: EntryId, time: ClusterTime) -> Result<(), Violation> {
        self.times.insert(entry, time);
        let goes_back = self.times.get(&before).is_some_and(|earlier| time < *earlier);
        if goes_back { Err(Violation::TimeWentBack { entry }) } else { Ok(()) }
    }

    /// The time of an entry.
    #[must_use]
    pub fn of(&self, entry: EntryId) -> Option<ClusterTime> {
        self.times.get(&entry).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::{Index, Term};

    #[test]
    fn time_that_goes_back_is_found_on_its_own_log_only() {
        let entry = |term, index| EntryId::new(Term(term), Index(index));
        let mut times = Times::default();
        assert_eq!(times.appended(entry(1, 1), EntryId::ZERO, ClusterTime(5)), Ok(()));
        assert_eq!(times.appended(entry(1, 2), entry(1, 1), ClusterTime(90)), Ok(()));
        // Another leader's entry stands in the place of the last one, whose time is forgotten.
        assert_eq!(times.appended(entry(2, 2), entry(1, 1), ClusterTime(6)), Ok(()));
        assert_eq!(times.of(entry(2, 2)), Some(ClusterTime(6)));
        let back = times.appended(entry(2, 3), entry(2, 2), ClusterTime(5));
        assert_eq!(back, Err(Violation::TimeWentBack { entry: entry(2, 3) }));
    }
}
