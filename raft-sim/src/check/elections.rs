//! Election Safety (Raft paper, figure 3): at most one leader in a term.

use std::collections::BTreeMap;

use raft_core::types::{NodeId, Term};

use crate::violation::Violation;

/// Who was elected, in which term.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<Term, NodeId>,
}

impl Elections {
    /// A node leads in `term`.
    ///
    /// # Errors
    /// Another node led in that term.
    pub fn won(&mut self, term: Term, node: NodeId) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node { Ok(()) } else { Err(Violation::TwoLeaders { term, one: leader, other: node }) }
    }

    /// Who was elected in a term.
    #[must_use]
    pub fn leader(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// A node follows `leader` in `term`.
    ///
    /// # Errors
    /// Another node led in that term.
    pub fn followed(&self, term: Term, leader: NodeId) -> Result<(), Violation> {
        match self.leaders.get(&term) {
            Some(&one) if one != leader => Err(Violation::TwoLeaders { term, one, other: leader }),
            _ => Ok(()),
        }
    }

    /// In how many terms there was a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let [one, two] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let mut elections = Elections::default();
        assert_eq!(elections.won(Term(2), one), Ok(()));
        assert_eq!(elections.won(Term(2), one), Ok(()));
        assert!(matches!(elections.won(Term(2), two), Err(Violation::TwoLeaders { .. })));
        assert_eq!(elections.won(Term(3), two), Ok(()));
        assert_eq!(elections.followed(Term(3), two), Ok(()));
        assert_eq!(elections.followed(Term(4), one), Ok(()), "its winner may have died before it could say so");
        assert!(matches!(elections.followed(Term(3), one), Err(Violation::TwoLeaders { .. })));
        assert_eq!(elections.terms(), 2);
    }
}
