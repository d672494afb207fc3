//! Rules of the protocol that are judged where they are kept or broken, and not only by what comes of it: that may take
//! thousands of worlds.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::message::{Body, Message};
use raft_core::types::{EntryId, Index, NodeId, Term};

use crate::violation::Violation;

/// A node at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub struct NodeView {
    /// Whose it is.
    pub node: NodeId,
    /// Whether its log may have lost entries that it acknowledged.
    pub suspect: bool,
    /// Its commit index.
    pub commit: Index,
    /// The entry before the first one that it holds.
    pub base: Index,
    /// The configuration by which it works.
    pub configuration: EntryId,
}

/// What is known of configurations and of terms.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Every configuration that was appended to a log, the first one aside.
    configurations: BTreeSet<EntryId>,
    /// Those that were applied somewhere.
    committed: BTreeSet<EntryId>,
    /// Where each leader's term starts.
    starts: BTreeMap<Term, Index>,
}

impl Rules {
    /// A configuration was appended to some log. Returns whether it is new: then its leader has appended it.
    pub fn appended(&mut self, entry: EntryId) -> bool {
        self.configurations.insert(entry)
    }

    /// A configuration was applied.
    pub fn applied(&mut self, entry: EntryId) {
        self.committed.insert(entry);
    }

    /// A leader's term starts at `start`.
    pub fn leads(&mut self, term: Term, start: Index) {
        self.starts.insert(term, start);
    }

    /// A node sends `message` at the end of a turn after which it is as `view` says.
    ///
    /// A log that may have lost entries gives no vote, and acknowledges only what is committed.
    ///
    /// # Errors
    /// It may not say that.
    pub fn says(view: &NodeView, message: &Message<'_>) -> Result<(), Violation> {
        let broken = match message.body {
            Body::VoteReply { granted: true } if view.suspect => Some("a vote of a log that may have lost entries"),
            Body::PreVoteReply { granted: true } if view.suspect => {
                Some("a pre-vote of a log that may have lost entries")
            }
            Body::AppendReply { matched, .. } if view.suspect && matched > view.commit => {
                Some("an acknowledgement of a log that may have lost entries")
            }
            _ => None,
        };
        broken.map_or(Ok(()), |rule| Err(Violation::RuleBroken { node: view.node, rule }))
    }

    /// A node works by the latest configuration that it holds (dissertation, section 4.1). `held` is the latest one in
    /// the part of its log that is not compacted.
    ///
    /// # Errors
    /// It works by another one.
    pub fn works(&self, view: &NodeView, held: Option<EntryId>) -> Result<(), Violation> {
        let right = match held {
            Some(held) => view.configuration == held,
            // In the snapshot: the latest one that was committed up to there.
            None => {
                let missed = |entry: &&EntryId| entry.index > view.configuration.index && entry.index <= view.base;
                view.configuration.index <= view.base && !self.committed.iter().any(|entry| missed(&entry))
            }
        };
        let rule = "working by a configuration that is not the latest in its log";
        if right { Ok(()) } else { Err(Violation::RuleBroken { node: view.node, rule }) }
    }

    /// A leader has appended configuration `entry` in a turn after which its commit index is `commit`. `before` is the
    /// configuration before it in that log.
    ///
    /// The one before must be committed, and an entry of the leader's own term (dissertation, section 4.1; the bug in
    /// single-server changes of 2015).
    ///
    /// # Errors
    /// One of the two was not.
    pub fn changed(&self, node: NodeId, entry: EntryId, before: Index, commit: Index) -> Result<(), Violation> {
        let broken = if before > commit {
            Some("a change of the members before the last one was committed")
        } else if self.starts.get(&entry.term).is_some_and(|start| *start > commit) {
            Some("a change of the members before an entry of the term was committed")
        } else {
            None
        };
        broken.map_or(Ok(()), |rule| Err(Violation::RuleBroken { node, rule }))
    }

    /// The latest configuration in a log, of which `holds` tells which entries it has.
    #[must_use]
    pub fn latest(&self, base: Index, holds: impl Fn(EntryId) -> bool) -> Option<EntryId> {
        self.configurations
            .iter()
            .copied()
            .filter(|entry| entry.index > base && holds(*entry))
            .max_by_key(|entry| entry.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn entry(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    fn view() -> NodeView {
        NodeView { node: node(1), suspect: false, commit: Index(7), base: Index(4), configuration: entry(1, 1) }
    }

    fn says(view: NodeView, body: Body<'_>) -> bool {
        Rules::says(&view, &Message { from: node(1), to: node(2), term: Term(3), body }).is_ok()
    }

    #[test]
    fn a_log_that_may_have_lost_entries_gives_no_vote() {
        let granted = Body::VoteReply { granted: true };
        assert!(says(view(), granted));
        let suspect = NodeView { suspect: true, ..view() };
        assert!(!says(suspect, granted));
        assert!(!says(suspect, Body::PreVoteReply { granted: true }));
        assert!(says(suspect, Body::VoteReply { granted: false }));
    }

    #[test]
    fn a_log_that_may_have_lost_entries_acknowledges_what_is_committed() {
        let acknowledges = |matched| {
            let body = Body::AppendReply {
                round: raft_core::message::Round(1),
                matched: Index(matched),
                rejected: None,
                counts: true,
            };
            says(NodeView { suspect: true, ..view() }, body)
        };
        assert!(acknowledges(7) && !acknowledges(8));
    }

    #[test]
    fn a_node_works_by_the_latest_configuration_that_it_holds() {
        let mut rules = Rules::default();
        assert!(rules.appended(entry(2, 3)) && !rules.appended(entry(2, 3)));
        rules.appended(entry(2, 6));
        rules.applied(entry(2, 3));
        let held = |holds: fn(EntryId) -> bool| rules.latest(Index(4), holds);
        assert_eq!(held(|_| true), Some(entry(2, 6)));
        assert_eq!(held(|entry| entry.index < Index(6)), None);
        let works = |configuration, held| rules.works(&NodeView { configuration, ..view() }, held).is_ok();
        assert!(works(entry(2, 6), Some(entry(2, 6))));
        assert!(!works(entry(2, 3), Some(entry(2, 6))));
        assert!(works(entry(2, 3), None));
        assert!(!works(entry(1, 1), None), "the snapshot holds a later one");
        assert!(!works(entry(2, 6), None), "it was dropped");
    }

    #[test]
    fn members_change_one_step_after_the_other() {
        let mut rules = Rules::default();
        rules.leads(Term(3), Index(9));
        let changed = |before, commit| rules.changed(node(1), entry(3, 12), Index(before), Index(commit)).is_ok();
        assert!(changed(8, 9));
        assert!(!changed(10, 9), "the last change is not committed");
        assert!(!changed(8, 8), "nothing of this term is committed");
    }
}
