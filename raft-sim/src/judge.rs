//! Brings what happens in a world before the checkers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use raft_core::client::protocol::{RequestId, RoleName};
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::message::{Body, Message};
use raft_core::raft::Raft;
use raft_core::raft::config::Config;
use raft_core::session::memory::HeapMemory;
use raft_core::session::operation::{Operation as LogOperation, Refusal};
use raft_core::session::owned::OwnedOutcome;
use raft_core::session::table::SessionTable;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Incarnation, Index, NodeId, Nonce, SessionId, Term};

use crate::check::committed::Committed;
use crate::check::completeness::Completeness;
use crate::check::copies::{Content, Copies};
use crate::check::durability::Durability;
use crate::check::elections::Elections;
use crate::check::expulsions::Expulsions;
use crate::check::logs::Logs;
use crate::check::memory::Memory;
use crate::check::orders::Orders;
use crate::check::reads::Reads;
use crate::check::replies::Replies;
use crate::check::rooms::Rooms;
use crate::check::rules::{NodeView, Rules};
use crate::check::secrets::Secrets;
use crate::check::sessions::Sessions;
use crate::check::states::{Applied, States};
use crate::check::table::Table;
use crate::check::times::Times;
use crate::check::votes::Votes;
use crate::options::Options;
use crate::violation::Violation;
use crate::watched::{Execution, LogChange};

use answers::Asked;
pub(crate) use answers::Forwarding;
use cases::Case;

mod answers;
mod cases;

/// What is known of an entry that was appended somewhere.
#[derive(Clone, Debug)]
struct Payload {
    kind: EntryKind,
    payload: Vec<u8>,
}

/// All checkers.
#[derive(Debug)]
pub(crate) struct Judge {
    elections: Elections,
    votes: Votes,
    completeness: Completeness,
    expulsions: Expulsions,
    logs: Logs,
    durability: Durability,
    times: Times,
    states: States,
    sessions: Sessions,
    table: Table,
    replies: Replies,
    reads: Reads,
    memory: Memory,
    committed: Committed,
    copies: Copies,
    secrets: Secrets,
    rooms: Rooms,
    orders: Orders,
    /// What was asked of nodes, by whom and under which number. A stranger's numbers are chosen by chance.
    asked: BTreeMap<(usize, RequestId), Asked>,
    /// The last index of any entry that was appended.
    last_appended: Index,
    rules: Rules,
    /// For each machine, in which life and after which entry its table of sessions was compared last.
    compared: BTreeMap<usize, (u64, Index)>,
    /// Configurations that leaders have appended in the turn that is judged.
    changed: Vec<EntryId>,
    payloads: BTreeMap<EntryId, Payload>,
    /// The terms of the entries in the log of each machine.
    terms: BTreeMap<usize, BTreeMap<Index, Term>>,
    /// Machines whose logs hold entries without payloads: witnesses, which have no state.
    stripped: BTreeSet<usize>,
    cases: Vec<Case>,
    /// Moments of the history: no two are equal.
    moment: u64,
    /// Whether the network repeats requests. What a client concludes from a refusal rests on connections that do not:
    /// of one copy that was refused it knows, of another one it does not.
    repeats: bool,
    leases_hold: bool,
    /// Outcomes of operations on sessions, counted.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// How many operations of clients were done.
    pub(crate) done: u64,
    /// Where commands without a session were executed, by what they say.
    ran_plain: BTreeMap<Content, BTreeSet<Index>>,
    /// How often each check was made.
    pub(crate) checked: BTreeMap<&'static str, u64>,
}

/// Which life of which machine something happened in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) node: NodeId,
    pub(crate) storage: Incarnation,
    pub(crate) place: usize,
    pub(crate) number: u64,
    /// Its storage was tampered with: what it holds proves nothing.
    pub(crate) tampered: bool,
}

/// A node, for the rules.
pub(crate) fn node_view<S: Storage, const NODES: usize>(node: NodeId, raft: &Raft<S, NODES>) -> NodeView {
    let status = raft.status();
    NodeView {
        node,
        suspect: raft.suspect_through().is_some(),
        commit: status.commit,
        base: status.base,
        configuration: status.configuration,
    }
}

impl Judge {
    pub(crate) fn new(options: &Options) -> Judge {
        let network = options.network;
        Judge {
            elections: Elections::default(),
            votes: Votes::default(),
            completeness: Completeness::default(),
            expulsions: Expulsions::default(),
            logs: Logs::default(),
            durability: Durability::default(),
            times: Times::default(),
            states: States::default(),
            sessions: Sessions::default(),
            table: Table::new(options.limits),
            replies: Replies::default(),
            reads: Reads::default(),
            memory: Memory::default(),
            committed: Committed::default(),
            copies: Copies::default(),
            secrets: Secrets::default(),
            rooms: Rooms::default(),
            orders: Orders::default(),
            asked: BTreeMap::new(),
            last_appended: Index::ZERO,
            rules: Rules::default(),
            compared: BTreeMap::new(),
            changed: Vec::new(),
            payloads: BTreeMap::new(),
            terms: BTreeMap::new(),
            stripped: BTreeSet::new(),
            cases: Vec::new(),
            moment: 0,
            leases_hold: options.leases_hold(),
            repeats: network.doubled + network.replayed > 0,
            outcomes: BTreeMap::new(),
            done: 0,
            ran_plain: BTreeMap::new(),
            checked: BTreeMap::new(),
        }
    }

    fn check(&mut self, what: &'static str) {
        *self.checked.entry(what).or_default() += 1;
    }

    /// A node has started.
    pub(crate) fn started<S: Storage>(&mut self, life: Life, storage: &S, restored: Index) -> Result<(), Violation> {
        self.states.restored((life.place, life.number), restored);
        let (base, last) = (storage.base(), storage.last());
        let indexes = (base.index.0..=last.index.0).map(Index);
        let terms = indexes.filter_map(|index| storage.term(index).map(|term| (index, term)));
        self.terms.insert(life.place, terms.collect());
        let state = storage.hard_state();
        let holds = |entry: EntryId| entry.index <= base.index || storage.term(entry.index) == Some(entry.term);
        if self.expulsions.started(life.node, life.storage, life.tampered, state.expelled)? {
            self.check("an expelled node is expelled in its next life");
        }
        if life.tampered {
            return Ok(());
        }
        self.check("what was acknowledged is there at a start");
        self.votes.started(life.node, life.storage, state)?;
        let snapshot = storage.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        self.orders.started(life.node, life.storage, snapshot)?;
        self.durability.started(life.node, life.storage, holds)
    }

    /// A node's storage was told something.
    pub(crate) fn log_changed(&mut self, life: Life, change: &LogChange) -> Result<(), Violation> {
        match change {
            LogChange::Appended { header, payload } => self.appended(life, header, payload),
            LogChange::Truncated { last } => {
                let terms = self.terms.entry(life.place).or_default();
                terms.split_off(&last.next());
                let term = terms.get(last).copied().unwrap_or_default();
                self.durability.truncated(life.storage, EntryId::new(term, *last));
                Ok(())
            }
            LogChange::Saved(saved) => {
                self.expulsions.saved(life.storage, life.tampered, saved.hard_state.expelled);
                if life.tampered {
                    return Ok(());
                }
                self.check("term and vote of what is saved");
                self.durability.saved(life.storage, saved.through);
                self.votes.saved(life.node, life.storage, saved.hard_state)
            }
            LogChange::HardState(_) => Ok(()),
            LogChange::Replaced(snapshot) => {
                // It becomes durable as a whole, and stands for all that was acknowledged before it.
                let EntryId { index, term } = snapshot.through;
                self.durability.replaced(life.storage, snapshot.through);
                self.terms.insert(life.place, BTreeMap::from([(index, term)]));
                Ok(())
            }
        }
    }

    fn appended(&mut self, life: Life, header: &EntryHeader, payload: &[u8]) -> Result<(), Violation> {
        let entry = header.id();
        let terms = self.terms.entry(life.place).or_default();
        let before = terms.get(&entry.index.previous()).copied().unwrap_or_default();
        terms.insert(entry.index, entry.term);
        let stripped = header.kind == EntryKind::Stripped;
        if header.kind == EntryKind::Configuration && self.rules.appended(entry) {
            self.changed.push(entry);
        }
        let sum = (!stripped).then(|| {
            let sum = raft_core::crc::crc32c(u32::from(header.kind as u8), payload);
            raft_core::crc::crc32c(sum, &header.time.0.to_le_bytes())
        });
        self.check("an entry is the same in every log");
        self.logs.appended(life.node, entry, before, sum)?;
        self.times.appended(entry, EntryId::new(before, entry.index.previous()), header.time)?;
        if stripped {
            self.stripped.insert(life.place);
        } else if let Entry::Vacant(vacant) = self.payloads.entry(entry) {
            // A leader appends before anybody else can: this is it.
            vacant.insert(Payload { kind: header.kind, payload: payload.to_vec() });
            self.last_appended = self.last_appended.max(entry.index);
            if header.kind == EntryKind::Operation {
                self.proposed(life, entry, payload)?;
            }
        }
        Ok(())
    }

    /// A node follows a leader.
    pub(crate) fn followed(&mut self, term: Term, leader: NodeId) -> Result<(), Violation> {
        self.check("whoever is followed leads in that term");
        self.elections.followed(term, leader)
    }

    /// A node sends a message to another.
    pub(crate) fn says(&mut self, view: &NodeView, message: &Message<'_>) -> Result<(), Violation> {
        self.check("a node says what it may");
        if let Body::Append { .. } | Body::Snapshot { .. } = message.body {
            // It may have been elected in a turn whose end it did not live to see.
            self.elections.won(message.term, message.from)?;
        }
        Rules::says(view, message)
    }

    /// A node leads, in a term that starts at `start`.
    pub(crate) fn elected(
        &mut self,
        life: Life,
        (term, start): (Term, Index),
        holds: impl FnOnce(EntryId) -> bool,
    ) -> Result<(), Violation> {
        self.check("an elected leader holds what was committed");
        self.rules.leads(term, start);
        self.elections.won(term, life.node)?;
        self.completeness.leads(term, life.node, holds)
    }

    /// A node knows that entry to be committed.
    pub(crate) fn committed(&mut self, life: Life, entry: EntryId) -> Result<(), Violation> {
        self.completeness.committed(entry);
        match self.terms.get(&life.place) {
            Some(log) if !life.tampered => {
                self.committed.learns((life.place, life.number), life.node, entry.index, log)
            }
            _ => Ok(()),
        }
    }

    /// A node that leads in `term` knows that entry to be committed.
    pub(crate) fn leader_commits(&mut self, life: Life, term: Term, entry: EntryId) -> Result<(), Violation> {
        self.completeness.leader_commits((life.place, life.node), term, entry)
    }

    /// A node's state was made anew from a snapshot.
    pub(crate) fn restored(&mut self, life: Life, index: Index) {
        self.states.restored((life.place, life.number), index);
    }

    /// A node has applied an entry.
    pub(crate) fn applied(
        &mut self,
        life: Life,
        entry: EntryId,
        outcome: Option<OwnedOutcome>,
        executed: Option<&Execution>,
    ) -> Result<(), Violation> {
        if self.stripped.contains(&life.place) {
            return Ok(());
        }
        let executed = executed.map(|execution| (execution.digest, execution.time));
        let time = executed.map(|(_, time)| time);
        let applied = Applied { entry, outcome: outcome.clone(), executed };
        self.check("an applied entry comes to the same everywhere");
        if !self.states.applied((life.place, life.number), life.node, applied)? {
            return Ok(());
        }
        if self.payloads.get(&entry).is_some_and(|payload| payload.kind == EntryKind::Configuration) {
            self.rules.applied(entry);
        }
        let Judge { payloads, times, table, sessions, replies, rooms, ran_plain, .. } = self;
        let payload = payloads.get(&entry).filter(|payload| payload.kind == EntryKind::Operation);
        let operation = payload.and_then(|payload| LogOperation::decode(&payload.payload).ok());
        let operation = operation.as_ref().zip(outcome.as_ref());
        // Nobody saw the first entry being appended: the storages were made with it.
        table.applied(entry.index, times.of(entry).unwrap_or_default(), operation)?;
        match operation {
            Some((_, OwnedOutcome::Refused(Refusal::TableFull { retry_after }))) => {
                rooms.refused(entry.index, table.time(), *retry_after, table.has_room())?;
            }
            None | Some((_, OwnedOutcome::Refused(Refusal::SessionExpired))) => {
                rooms.passed(table.time(), table.has_room())?;
            }
            Some(_) => rooms.changed(),
        }
        if time.is_some_and(|time| time != table.time()) {
            return Err(Violation::AgainstTheRules { index: entry.index, outcome: format!("the time {time:?}") });
        }
        if let Some((LogOperation::Plain { .. }, _)) = operation {
            let content = operation.map(|(operation, _)| Content::of(operation));
            content.map(|content| ran_plain.entry(content).or_default().insert(entry.index));
        }
        if let Some((operation, outcome)) = operation {
            sessions.applied(entry.index, operation, outcome)?;
            replies.applied(entry.index, operation, outcome);
            self.check("an operation comes to what the rules say");
        }
        outcome.iter().for_each(|outcome| self.count(outcome));
        Ok(())
    }

    fn count(&mut self, outcome: &OwnedOutcome) {
        let name = match outcome {
            OwnedOutcome::Opened { again: false, .. } => "opened",
            OwnedOutcome::Opened { .. } => "opened again",
            OwnedOutcome::KeptAlive => "kept alive",
            OwnedOutcome::Closed => "closed",
            OwnedOutcome::Answered { replayed: false, .. } | OwnedOutcome::Executed { replayed: false, .. } => {
                "executed"
            }
            OwnedOutcome::Answered { .. } | OwnedOutcome::Executed { .. } => "replayed",
            OwnedOutcome::Refused(Refusal::SessionExpired) => "refused: expired",
            OwnedOutcome::Refused(Refusal::Stale) => "refused: stale",
            OwnedOutcome::Refused(Refusal::WindowFull) => "refused: window full",
            OwnedOutcome::Refused(Refusal::Mismatch) => "refused: mismatch",
            OwnedOutcome::Refused(Refusal::OutOfOrder) => "refused: out of order",
            OwnedOutcome::Refused(Refusal::TableFull { .. }) => "refused: table full",
            OwnedOutcome::Refused(_) => "refused otherwise",
        };
        *self.outcomes.entry(name).or_default() += 1;
    }

    /// A machine turns out to be a witness.
    pub(crate) fn has_no_state(&mut self, life: Life) {
        self.stripped.insert(life.place);
    }

    /// Whether that machine is one of those.
    pub(crate) fn is_without_state(&self, place: usize) -> bool {
        self.stripped.contains(&place)
    }

    /// A turn of a node's loop is over: its table is that of the log up to the last entry it applied, and it keeps no
    /// more than it was told that it may.
    pub(crate) fn turned<S: Storage, const NODES: usize>(
        &mut self,
        life: Life,
        raft: &Raft<S, NODES>,
        config: &Config,
        sessions: &SessionTable<HeapMemory>,
    ) -> Result<(), Violation> {
        self.judge_configuration(life, raft)?;
        self.memory.sessions((life.place, life.number), life.node, sessions.bytes())?;
        if raft.role() == RoleName::Leader {
            let own = self.terms.get(&life.place).into_iter().flat_map(|terms| terms.range(raft.commit().next()..));
            let uncommitted = own.filter(|(_, term)| **term == raft.term()).count() as u64;
            self.check("what a leader has under way is within its limits");
            Memory::leader(&raft.status(), uncommitted, config)?;
        }
        if raft.is_witness() {
            self.has_no_state(life);
        }
        if self.stripped.contains(&life.place) || raft.awaits_restore() {
            return Ok(());
        }
        // Nothing but entries and snapshots changes a table: one that was compared after them is not summed up again.
        let compared = (life.number, raft.last_applied());
        if self.compared.insert(life.place, compared) == Some(compared) {
            return Ok(());
        }
        self.check("a table of sessions is what the log makes it");
        self.table.compare(life.node, raft.last_applied(), sessions.digest())
    }

    /// A node works by its latest configuration, and the configurations that it appended as the leader were in order.
    fn judge_configuration<S: Storage, const NODES: usize>(
        &mut self,
        life: Life,
        raft: &Raft<S, NODES>,
    ) -> Result<(), Violation> {
        let (storage, terms) = (raft.storage(), self.terms.get(&life.place));
        let holds = |entry: EntryId| storage.term(entry.index) == Some(entry.term);
        for entry in core::mem::take(&mut self.changed) {
            let earlier = |other: EntryId| {
                other.index < entry.index && terms.is_some_and(|terms| terms.get(&other.index) == Some(&other.term))
            };
            let before = self.rules.latest(Index::ZERO, earlier).map_or(Index::FIRST, |before| before.index);
            self.rules.changed(life.node, entry, before, raft.commit())?;
        }
        if life.tampered || storage.last() == EntryId::ZERO {
            return Ok(());
        }
        let view = node_view(life.node, raft);
        let held = self.rules.latest(view.base, holds);
        // Entry 1 was appended when the storages were made.
        let held = held.or((view.base < Index::FIRST)
            .then(|| EntryId::new(storage.term(Index::FIRST).unwrap_or_default(), Index::FIRST)));
        self.check("a node works by its latest configuration");
        self.rules.works(&view, held)
    }

    /// A node takes a request from its network, while `committed` is the last entry that any node has known to be committed.
    pub(crate) fn taken(&mut self, client: usize, request: RequestId, committed: Index) {
        self.reads.taken(client, request, committed);
    }

    /// The last entry that any node has known to be committed.
    pub(crate) fn committed_last(&self) -> Index {
        self.completeness.last().index
    }

    /// Whether a node's storage says that it was expelled.
    pub(crate) fn is_expelled(&self, life: Life) -> bool {
        self.expulsions.holds(life.storage)
    }

    /// A storage's disk is another one from now on.
    pub(crate) fn disk_replaced(&mut self, storage: Incarnation) {
        self.expulsions.replaced(storage);
    }

    /// A node that was expelled before this turn, and still is, sends a message.
    pub(crate) fn expelled_sends(&mut self, node: NodeId, body: &Body<'_>) -> Result<(), Violation> {
        self.check("an expelled node sends nothing that counts");
        Expulsions::sends(node, body)
    }

    /// A node ended since it was told that it is no member any more.
    pub(crate) fn expelled(&self, node: NodeId, tampered: bool, member: bool) -> Result<(), Violation> {
        if tampered || !member { Ok(()) } else { Err(Violation::WronglyExpelled { node }) }
    }

    /// The last session that was opened with this secret.
    pub(crate) fn opened_by(&self, nonce: Nonce) -> Option<SessionId> {
        self.sessions.opened_by(nonce)
    }

    /// By whose nonce a session was opened, if it ever was.
    pub(crate) fn opener_of(&self, session: SessionId) -> Option<Nonce> {
        self.sessions.opener(session)
    }

    /// The last index of any entry that any node has appended.
    pub(crate) fn last_appended(&self) -> Index {
        self.last_appended
    }

    /// The session that was opened last, or so many before it.
    pub(crate) fn opened_last(&self, before: u64) -> Option<SessionId> {
        self.sessions.opened_last(before)
    }

    /// How many operations were refused because their session had ended.
    pub(crate) fn refused_as_expired(&self) -> u64 {
        self.outcomes.get("refused: expired").copied().unwrap_or(0)
    }

    /// How many sessions live after the last entry that any node has applied.
    pub(crate) fn open_sessions(&self) -> usize {
        self.table.sessions()
    }

    /// In how many terms there was a leader.
    pub(crate) fn elections(&self) -> usize {
        self.elections.terms()
    }
}
