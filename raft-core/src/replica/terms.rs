//! Which terms a log has: what a snapshot says of it, so that nobody takes in a history that contradicts its own.

use crate::snapshot::Terms;
use crate::storage::Storage;
use crate::types::{EntryId, Index, Term};

impl Terms {
    /// The terms of a log up to `through`, which it holds; what lies before the log is taken from `of_snapshot`, which its
    /// latest snapshot says.
    #[must_use]
    pub fn of<S: Storage>(storage: &S, through: EntryId, of_snapshot: Terms) -> Terms {
        let (mut terms, base, mut last) = (Terms::NONE, storage.base(), through);
        while last.index > base.index {
            let begin = first_of(storage, last.term, base.index.next(), last.index);
            if !terms.push(EntryId::new(last.term, begin)) {
                return terms;
            }
            let before = begin.previous();
            last = EntryId::new(storage.term(before).unwrap_or_default(), before);
        }
        if base != EntryId::ZERO {
            terms.push(base);
        }
        for begin in of_snapshot.begins().filter(|begin| begin.index <= base.index) {
            terms.push(begin);
        }
        terms
    }
}

/// The first entry of `term` in `first ..= last`, the last of which is of that term. Terms never go down along a log.
fn first_of<S: Storage>(storage: &S, term: Term, first: Index, last: Index) -> Index {
    let (mut low, mut high) = (first, last);
    while low < high {
        let middle = Index(low.0 + (high.0 - low.0) / 2);
        if storage.term(middle).is_some_and(|found| found >= term) { high = middle } else { low = middle.next() }
    }
    high
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::entry::{EntryHeader, EntryKind};
    use crate::ring::RingLog;
    use crate::types::ClusterTime;

    fn shown(terms: Terms) -> Vec<(u64, u64)> {
        terms.begins().map(|begin| (begin.term.0, begin.index.0)).collect()
    }

    #[test]
    fn they_are_those_of_the_log_and_before_it_those_of_its_snapshot() {
        let mut log = RingLog::<64, 4096>::new();
        for (index, term) in (1..).zip([1, 1, 1, 4, 4, 6, 7, 7]) {
            let id = EntryId::new(Term(term), Index(index));
            let header = EntryHeader::new(id, ClusterTime(0), EntryKind::Noop, &[]).unwrap();
            log.append(&header, &[]).unwrap();
        }
        let through = |index| EntryId::new(log.term(Index(index)).unwrap(), Index(index));
        assert_eq!(shown(Terms::of(&log, through(8), Terms::NONE)), [(7, 7), (6, 6), (4, 4), (1, 1)]);
        let early = Terms::of(&log, through(5), Terms::NONE);
        assert_eq!(shown(early), [(4, 4), (1, 1)]);
        for (index, term) in [(1, 1), (3, 1), (4, 4), (9, 4)] {
            assert_eq!(early.at(Index(index)), Some(Term(term)), "index {index}");
        }
        assert_eq!(Terms::NONE.at(Index(5)), None);
    }

    #[test]
    fn the_earliest_are_left_out_when_there_are_too_many() {
        let mut terms = Terms::NONE;
        let pushed = (1..20).rev().take_while(|&term| terms.push(EntryId::new(Term(term), Index(term * 2)))).count();
        assert_eq!(pushed, crate::snapshot::TERMS_MAX);
        assert_eq!(terms.at(Index(3)), None, "nothing is known of it");
        assert_eq!(terms.at(Index(38)), Some(Term(19)));
        let mut longer = Terms::NONE;
        longer.push(EntryId::new(Term(3), Index(9)));
        longer.push(EntryId::new(Term(3), Index(5)));
        assert_eq!(shown(longer), [(3, 5)], "a term that begins earlier");
    }
}
