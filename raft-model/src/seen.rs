//! What was seen to happen while a space was explored: a space in which nothing happens proves
//! nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use raft_core::types::EntryId;

use crate::node::{Node, Outcome};

/// Something worth seeing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node was elected.
    Elected,
    /// A leader committed an entry.
    Committed,
    /// With one of its own term it committed one of an earlier term.
    EarlierTermCommitted,
    /// A follower dropped entries that contradicted its leader's.
    Dropped,
    /// A crash lost changes that were not durable.
    Lost,
    /// A message arrived once more.
    Repeated,
    /// A leader committed a joint configuration.
    Joint,
    /// A leader committed the configuration behind it.
    Changed,
    /// A follower went back to the members of before, since their change was dropped.
    ChangeDropped,
    /// A crash lost a change of the members, and the node began again with those of before.
    ChangeLost,
}

/// All of them.
pub const EVENTS: [Event; 10] = [
    Event::Elected,
    Event::Committed,
    Event::EarlierTermCommitted,
    Event::Dropped,
    Event::Lost,
    Event::Repeated,
    Event::Joint,
    Event::Changed,
    Event::ChangeDropped,
    Event::ChangeLost,
];

/// How often each was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen([AtomicU64; EVENTS.len()]);

impl Seen {
    pub(crate) fn note(&self, event: Event) {
        if let Some(count) = self.0.get(event as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes what an input to the node `before` has brought about.
    pub(crate) fn compare(&self, before: &Node, outcome: &Outcome) {
        let (raft, earlier) = (outcome.node.raft(), before.raft());
        let dropped = |id: EntryId| !outcome.node.log().iter().any(|slot| slot.id == id);
        if outcome.node.leads() && !before.leads() {
            self.note(Event::Elected);
        }
        if before.log().iter().any(|slot| dropped(slot.id)) {
            self.note(Event::Dropped);
        }
        if dropped(earlier.configuration_entry()) && earlier.configuration_entry() != EntryId::ZERO {
            self.note(Event::ChangeDropped);
        }
        if !outcome.node.leads() || outcome.committed.is_empty() {
            return;
        }
        self.note(Event::Committed);
        if outcome.committed.iter().any(|slot| slot.id.term < raft.term()) {
            self.note(Event::EarlierTermCommitted);
        }
        // A leader that needs nobody else for it commits both configurations of a change at once.
        for raft in [earlier, raft] {
            if outcome.committed.iter().any(|slot| slot.id == raft.configuration_entry()) {
                self.note(if raft.status().joint { Event::Joint } else { Event::Changed });
            }
        }
    }

    pub(crate) fn times(&self, event: Event) -> u64 {
        self.0.get(event as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
