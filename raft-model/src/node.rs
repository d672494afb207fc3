//! One node: the core over its disk, and a clock that moves by steps which are either too short to
//! matter or longer than every limit.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft_core::client::protocol::RoleName;
use raft_core::configuration::{Configuration, bootstrap};
use raft_core::message::Message;
use raft_core::raft::Raft;
use raft_core::raft::config::Config;
use raft_core::storage::{Saved, Storage};
use raft_core::types::{Index, Instant, Millis, NodeId};

use crate::disk::{Disk, Slot};
use crate::network::Envelope;
use crate::space::{Limits, Saves};

/// The nodes of every space.
pub(crate) const NODES: usize = 3;

/// The core as it is checked.
pub(crate) type Core = Raft<Disk, NODES>;

/// So long that jitter is never 0, and that no number of short steps adds up to it.
const ELECTION_TIMEOUT: Millis = Millis(1 << 40);

/// A node that runs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    raft: Core,
    now: Instant,
    /// What the core was told last that is durable.
    reported: Saved,
    /// Of all above, but for time and chance.
    fingerprint: u64,
}

/// What an input has brought about.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) node: Arc<Node>,
    pub(crate) sent: Vec<Arc<Envelope>>,
    /// The entries that became committed as far as this node knows, and those it applied.
    pub(crate) committed: Vec<Slot>,
    pub(crate) applied: Vec<Slot>,
    /// Why the core took a message for one that no correct node sends.
    pub(crate) refused: Option<String>,
}

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Input {
    Receive(Arc<Envelope>),
    /// Its clock goes to the moment that the core has named.
    Tick,
    /// Its clock goes on by more than an election timeout: a leader has lost its quorum then; a
    /// follower has not heard its leader lately, but does not campaign yet.
    Silence,
    Propose,
    /// The members are changed as the space says.
    Change,
    /// It hands leadership over to the other.
    HandOver(NodeId),
    /// What was changed so far becomes durable, but the core does not learn of it yet.
    Write,
    /// The core learns what is durable.
    Report,
    /// Both at once.
    Save,
}

impl Node {
    /// A node that was created with `configuration`; or that joins a cluster with it, if `joins`.
    pub(crate) fn create(id: NodeId, limits: &Limits, configuration: &Configuration, joins: bool) -> Node {
        let mut disk = Disk::default();
        if !joins {
            bootstrap(&mut disk, configuration).expect("an empty disk has room for the first entry");
            disk.flush().expect("a disk in memory does not fail");
        }
        Node::start(id, limits, configuration, disk)
    }

    /// What starts again after a crash that left the first `kept` of the changes under way.
    pub(crate) fn restart(&self, limits: &Limits, configuration: &Configuration, kept: usize) -> Node {
        Node::start(self.raft.id(), limits, configuration, self.disk().crashed(kept))
    }

    fn start(id: NodeId, limits: &Limits, configuration: &Configuration, mut disk: Disk) -> Node {
        let config = Config {
            election_timeout: ELECTION_TIMEOUT,
            heartbeat_interval: Millis(1),
            disk_stall_max: ELECTION_TIMEOUT,
            message_bytes_max: if limits.one_entry_each { 1 } else { 1 << 16 },
            ..Config::default()
        };
        let now = Instant(0);
        let reported = disk.saved().expect("a disk in memory does not fail");
        let raft = if disk.slots().is_empty() {
            Raft::join(id, config, configuration, disk, now)
        } else {
            Raft::new(id, config, disk, now)
        };
        let raft = raft.expect("a node starts with what was durable");
        let mut node = Node { raft, now, reported, fingerprint: 0 };
        // What lies before the first commit of this life was applied before.
        let commit = node.raft.commit();
        if node.raft.last_applied() < commit {
            node.raft.applied(commit).later();
        }
        node.seal();
        node
    }

    pub(crate) fn raft(&self) -> &Core {
        &self.raft
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.raft.storage()
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The log in the view.
    pub(crate) fn log(&self) -> &[Slot] {
        self.disk().slots()
    }

    pub(crate) fn leads(&self) -> bool {
        self.raft.role() == RoleName::Leader
    }

    /// Whether [`Input::Silence`] would change anything.
    pub(crate) fn hears(&self) -> bool {
        self.leads() || (self.raft.leader().is_some() && self.now < self.before_deadline())
    }

    /// Whether the core can be told something new of what is durable.
    pub(crate) fn can_report(&self) -> bool {
        let mut disk = self.disk().clone();
        disk.saved().is_ok_and(|saved| saved != self.reported)
    }

    fn before_deadline(&self) -> Instant {
        Instant(self.raft.deadline().0.saturating_sub(1))
    }

    /// What comes of `input`; `None` if the core refuses it without any effect.
    pub(crate) fn take(&self, limits: &Limits, input: &Input) -> Option<Outcome> {
        let mut node = self.clone();
        let committed = node.raft.commit();
        let applied = node.raft.last_applied();
        let refused = node.feed(limits, input)?;
        let mut sent = Vec::new();
        node.work(limits, &mut sent);
        node.seal();
        let since = |from: Index, to: Index| {
            let slots = node.log().iter();
            slots.filter(|slot| from < slot.id.index && slot.id.index <= to).copied().collect()
        };
        let committed = since(committed, node.raft.commit());
        let applied = since(applied, node.raft.last_applied());
        Some(Outcome { node: Arc::new(node), sent, committed, applied, refused })
    }

    fn feed(&mut self, limits: &Limits, input: &Input) -> Option<Option<String>> {
        match input {
            Input::Receive(envelope) => {
                let message: Message<'_> = envelope.message();
                return Some(self.raft.step(self.now, &message).err().map(|error| error.to_string()));
            }
            Input::Tick => self.tick(self.raft.deadline()),
            Input::Silence if self.leads() => {
                self.tick(self.now.after(ELECTION_TIMEOUT));
                // One that needs nobody else leads on: that is as good as a heartbeat.
                if self.leads() {
                    return None;
                }
            }
            Input::Silence => self.tick(self.before_deadline()),
            Input::Propose => {
                // No other proposal has the same payload.
                let payload = [self.raft.term().0, self.raft.storage().last().index.0].map(u64::to_le_bytes).concat();
                let kind = raft_core::entry::EntryKind::Operation;
                self.raft.propose(self.now, kind, &[&payload]).ok()?.1.later();
            }
            Input::Change => {
                let changes = (limits.change)();
                self.raft.change_members(self.now, &changes, true).ok()?.1.later();
            }
            Input::HandOver(to) => self.raft.transfer(self.now, Some(*to)).ok()?.later(),
            Input::Write => self.raft.storage_mut().flush().expect("a disk in memory does not fail"),
            Input::Report => self.report(),
            Input::Save => self.save(),
        }
        Some(None)
    }

    fn tick(&mut self, now: Instant) {
        self.now = now;
        self.raft.tick(now).later();
    }

    fn save(&mut self) {
        self.raft.storage_mut().flush().expect("a disk in memory does not fail");
        self.report();
    }

    fn report(&mut self) {
        self.reported = self.raft.storage_mut().saved().expect("a disk in memory does not fail");
        self.raft.saved(self.reported).later();
    }

    /// Does what is ready, as a program does: saves, if that is not left to chance, sends, applies.
    fn work(&mut self, limits: &Limits, sent: &mut Vec<Arc<Envelope>>) {
        while limits.saves == Saves::AtOnce && self.disk().unsaved() > 0 {
            self.save();
        }
        let mut number = 0;
        while let Some(to) = self.raft.recipient(number) {
            number += 1;
            let mut ready = self.raft.ready();
            while let Some(message) = ready.message(to, usize::MAX).expect("a disk in memory does not fail") {
                sent.push(Arc::new(Envelope::new(&message)));
                number = 0;
            }
        }
        if let Some(range) = self.raft.ready().apply() {
            self.raft.applied(*range.end()).later();
        }
    }

    fn seal(&mut self) {
        let mut hasher = DefaultHasher::new();
        self.raft.fingerprint(&mut hasher);
        (self.disk(), self.reported).hash(&mut hasher);
        self.fingerprint = hasher.finish();
    }
}
