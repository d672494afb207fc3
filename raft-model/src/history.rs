//! What has happened so far, as the properties need it: who led which term, which entries were
//! committed and applied.

use std::hash::{DefaultHasher, Hash, Hasher};

use raft_core::types::{NodeId, Term};

use crate::disk::Slot;
use crate::node::Outcome;

/// An entry that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) struct Chosen {
    pub(crate) slot: Slot,
    /// The term of the node that committed it first.
    pub(crate) in_term: Term,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// Who was leader of which term, by terms.
    leaders: Vec<(Term, NodeId)>,
    /// The committed entries and the applied ones, by index from 1 on.
    chosen: Vec<Chosen>,
    applied: Vec<Slot>,
    /// Whether a second leader was seen in a term.
    two_leaders: bool,
    /// Whether two entries were applied at one index.
    two_applied: bool,
    fingerprint: u64,
}

impl History {
    /// All begin with the same entry.
    pub(crate) fn new(first: Slot) -> History {
        let chosen = vec![Chosen { slot: first, in_term: first.id.term }];
        let (two_leaders, two_applied) = (false, false);
        History { leaders: Vec::new(), chosen, applied: vec![first], two_leaders, two_applied, fingerprint: 0 }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn chosen(&self) -> &[Chosen] {
        &self.chosen
    }

    pub(crate) fn two_leaders(&self) -> bool {
        self.two_leaders
    }

    pub(crate) fn two_applied(&self) -> bool {
        self.two_applied
    }

    /// Whether `outcome` adds anything to it.
    pub(crate) fn is_touched(&self, outcome: &Outcome) -> bool {
        let raft = outcome.node.raft();
        let known = self.leaders.contains(&(raft.term(), raft.id()));
        !outcome.committed.is_empty() || !outcome.applied.is_empty() || (outcome.node.leads() && !known)
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let raft = outcome.node.raft();
        if outcome.node.leads() {
            self.note_leader(raft.term(), raft.id());
        }
        for &slot in &outcome.committed {
            if slot.id.index.since(self.last()) > 0 {
                self.chosen.push(Chosen { slot, in_term: raft.term() });
            }
        }
        for slot in &outcome.applied {
            match self.applied.iter().find(|applied| applied.id.index == slot.id.index) {
                Some(applied) => self.two_applied |= applied != slot,
                None => self.applied.push(*slot),
            }
        }
        let mut hasher = DefaultHasher::new();
        (&self.leaders, &self.chosen, &self.applied, self.two_leaders, self.two_applied).hash(&mut hasher);
        self.fingerprint = hasher.finish();
    }

    fn note_leader(&mut self, term: Term, id: NodeId) {
        match self.leaders.binary_search_by_key(&term, |&(term, _)| term) {
            Ok(place) => self.two_leaders |= self.leaders.get(place).is_some_and(|&(_, leader)| leader != id),
            Err(place) => self.leaders.insert(place, (term, id)),
        }
    }

    fn last(&self) -> raft_core::types::Index {
        self.chosen.last().map_or(raft_core::types::Index::ZERO, |chosen| chosen.slot.id.index)
    }
}
