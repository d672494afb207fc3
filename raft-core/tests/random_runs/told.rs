//! What nodes tell, and what a run has met.

use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::event::{Event, SnapshotRefusal};
use raft_core::replica::Observer;
use raft_core::session::operation::{Outcome, Refusal};
use raft_core::storage::SnapshotId;
use raft_core::types::{EntryId, Instant, NodeId, SessionId};

/// What one node told while it was polled.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) restored: Option<SnapshotId>,
    /// With the outcome, unless the entry was no operation.
    pub(crate) applied: Vec<(EntryId, Option<String>)>,
    pub(crate) opened: Vec<(EntryId, SessionId)>,
    pub(crate) answered: Vec<(EntryId, u64)>,
    pub(crate) expired: Vec<EntryId>,
    pub(crate) forwarded: Vec<(ForwardTicket, Result<EntryId, ProposeError>)>,
    pub(crate) events: Vec<Event>,
}

impl Observer for Told {
    fn applied(&mut self, entry: EntryId, outcome: Option<Outcome<'_>>) {
        self.applied.push((entry, outcome.map(|outcome| format!("{outcome:?}"))));
        match outcome {
            Some(Outcome::Opened { session, .. }) => self.opened.push((entry, session)),
            Some(Outcome::Answered { answer, .. }) => {
                self.answered.push((entry, u64::from_le_bytes(answer.0.try_into().unwrap())));
            }
            Some(Outcome::Refused(Refusal::SessionExpired)) => self.expired.push(entry),
            _ => {}
        }
    }

    fn forwarded(&mut self, ticket: ForwardTicket, outcome: Result<EntryId, ProposeError>) {
        self.forwarded.push((ticket, outcome));
    }

    fn ignored(&mut self, from: NodeId, error: StepError) {
        // What the node itself has no room for is nobody's fault.
        let no_room = matches!(error, StepError::Snapshot { reason: SnapshotRefusal::NoSpace, .. });
        assert!(no_room, "node {from} sent what no correct member sends: {error}");
    }

    fn event(&mut self, _: Instant, event: Event) {
        self.events.push(event);
    }

    fn restored(&mut self, snapshot: SnapshotId) {
        // What was applied in the same poll before is part of it.
        self.restored = Some(snapshot);
        self.applied.clear();
    }
}

macro_rules! coverage {
    ($($name:ident)*) => {
        /// How often something has happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Coverage {
            $(pub(crate) $name: u64,)*
        }

        impl Coverage {
            pub(crate) fn add(&mut self, other: &Coverage) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

coverage! {
    commands reads lease_reads learner_reads sessions_expired crashes wipes decays diverged
    snapshots_made snapshots_sent snapshots_installed snapshots_refused
    changes_asked changes_refused changes_committed joint_committed changes_dropped expelled
    transfers_asked transfers_refused transfers_begun transfers_done
}

impl Coverage {
    /// Counts the events of a node.
    pub(crate) fn meet(&mut self, event: &Event) {
        match event {
            Event::SnapshotSending { .. } => self.snapshots_sent += 1,
            Event::SnapshotInstalled { .. } => self.snapshots_installed += 1,
            Event::SnapshotRefused { .. } => self.snapshots_refused += 1,
            Event::ConfigurationCommitted { joint, .. } => {
                self.changes_committed += 1;
                self.joint_committed += u64::from(*joint);
            }
            Event::ConfigurationDropped { .. } => self.changes_dropped += 1,
            Event::Expelled { .. } => self.expelled += 1,
            Event::TransferBegan { .. } => self.transfers_begun += 1,
            _ => {}
        }
    }

    pub(crate) fn assert_met(&self, names: &[&str]) {
        for (name, count) in self.counts() {
            assert!(count > 0 || !names.contains(&name), "no run has met: {name}");
        }
    }
}
