//! Brings what happens in a world before the checkers.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::client::protocol::{
    Consistency, NotExecuted, Request, RequestBody, RequestId, Response, ResponseBody, RoleName,
};
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::message::ProposeError;
use raft_core::raft::Raft;
use raft_core::raft::config::Config;
use raft_core::session::operation::Operation as LogOperation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Incarnation, Index, NodeId, Nonce, Sequence, SessionId, Term};

use crate::check::completeness::Completeness;
use crate::check::durability::Durability;
use crate::check::elections::Elections;
use crate::check::histories::{self, Record};
use crate::check::logs::Logs;
use crate::check::memory::Memory;
use crate::check::reads::Reads;
use crate::check::replies::Replies;
use crate::check::sessions::Sessions;
use crate::check::states::{Applied, States};
use crate::check::table::Table;
use crate::check::times::Times;
use crate::check::votes::Votes;
use crate::client::{End, OperationNumber};
use crate::options::Options;
use crate::violation::Violation;
use crate::watched::{Execution, LogChange};
use crate::workload::{Kind, Operation, Workload};

/// An operation of a client, as far as it has come.
#[derive(Clone, Debug)]
struct Case {
    record: Record,
    /// A stale read is no part of the history.
    stale: bool,
    key: Option<(Nonce, Sequence)>,
    refused: bool,
}

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
    logs: Logs,
    durability: Durability,
    times: Times,
    states: States,
    sessions: Sessions,
    table: Table,
    replies: Replies,
    reads: Reads,
    memory: Memory,
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
    in_doubt: usize,
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

impl Judge {
    pub(crate) fn new(options: &Options) -> Judge {
        let network = options.network;
        Judge {
            elections: Elections::default(),
            votes: Votes::default(),
            completeness: Completeness::default(),
            logs: Logs::default(),
            durability: Durability::default(),
            times: Times::default(),
            states: States::default(),
            sessions: Sessions::default(),
            table: Table::new(options.limits),
            replies: Replies::default(),
            reads: Reads::default(),
            memory: Memory::default(),
            payloads: BTreeMap::new(),
            terms: BTreeMap::new(),
            stripped: BTreeSet::new(),
            cases: Vec::new(),
            moment: 0,
            leases_hold: options.leases_hold(),
            repeats: network.doubled + network.replayed > 0,
            outcomes: BTreeMap::new(),
            done: 0,
            in_doubt: 0,
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
        if life.tampered {
            return Ok(());
        }
        self.check("what was acknowledged is there at a start");
        self.votes.started(life.node, life.storage, state)?;
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
            LogChange::Saved(saved) if !life.tampered => {
                self.check("term and vote of what is saved");
                self.durability.saved(life.storage, saved.through);
                self.votes.saved(life.node, life.storage, saved.hard_state)
            }
            LogChange::Saved(_) | LogChange::HardState(_) => Ok(()),
            LogChange::Replaced(snapshot) => {
                // It becomes durable as a whole, and stands for all that was acknowledged before it.
                let EntryId { index, term } = snapshot.through;
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
        let sum = (!stripped).then(|| {
            let sum = raft_core::crc::crc32c(u32::from(header.kind as u8), payload);
            raft_core::crc::crc32c(sum, &header.time.0.to_le_bytes())
        });
        self.check("an entry is the same in every log");
        self.logs.appended(life.node, entry, before, sum)?;
        self.times.appended(entry, EntryId::new(before, entry.index.previous()), header.time)?;
        if stripped {
            self.stripped.insert(life.place);
        } else {
            self.payloads.entry(entry).or_insert_with(|| Payload { kind: header.kind, payload: payload.to_vec() });
        }
        Ok(())
    }

    /// A node leads.
    pub(crate) fn elected(
        &mut self,
        life: Life,
        term: Term,
        holds: impl FnOnce(EntryId) -> bool,
    ) -> Result<(), Violation> {
        self.check("an elected leader holds what was committed");
        self.elections.won(term, life.node)?;
        self.completeness.leads(term, life.node, holds)
    }

    /// A node knows that entry to be committed.
    pub(crate) fn committed(&mut self, entry: EntryId) {
        self.completeness.committed(entry);
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
        let applied = Applied { entry, outcome: outcome.clone(), executed };
        self.check("an applied entry comes to the same everywhere");
        if !self.states.applied((life.place, life.number), life.node, applied)? {
            return Ok(());
        }
        let Judge { payloads, times, table, sessions, replies, .. } = self;
        let payload = payloads.get(&entry).filter(|payload| payload.kind == EntryKind::Operation);
        let operation = payload.and_then(|payload| LogOperation::decode(&payload.payload).ok());
        let operation = operation.as_ref().zip(outcome.as_ref());
        // Nobody saw the first entry being appended: the storages were made with it.
        table.applied(entry.index, times.of(entry).unwrap_or_default(), operation)?;
        if let Some((operation, outcome)) = operation {
            sessions.applied(entry.index, operation, outcome)?;
            replies.applied(entry.index, operation, outcome);
            self.check("an operation comes to what the rules say");
        }
        outcome.iter().for_each(|outcome| self.count(outcome));
        Ok(())
    }

    fn count(&mut self, outcome: &OwnedOutcome) {
        use raft_core::session::operation::Refusal;
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

    /// A turn of a node's loop is over: its table is that of the log up to the last entry it applied, and it keeps no
    /// more than it was told that it may.
    pub(crate) fn turned<S: Storage, const NODES: usize>(
        &mut self,
        life: Life,
        raft: &Raft<S, NODES>,
        config: &Config,
        (digest, bytes): (u32, usize),
    ) -> Result<(), Violation> {
        self.memory.sessions((life.place, life.number), life.node, bytes)?;
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
        self.check("a table of sessions is what the log makes it");
        self.table.compare(life.node, raft.last_applied(), digest)
    }

    /// A client sends a request.
    pub(crate) fn sent(&mut self, client: usize, request: &Request<'_>) {
        match &request.body {
            RequestBody::Operate { operation, .. } => self.replies.sent(client, request.id, operation),
            RequestBody::Query { consistency: Consistency::Lease, .. } if !self.leases_hold => {}
            RequestBody::Query { consistency: Consistency::Linearizable | Consistency::Lease, .. } => {
                self.reads.sent(client, request.id, self.completeness.last().index);
            }
            _ => {}
        }
    }

    /// A node takes a request from its network, while `committed` is the last entry that any node has known to be committed.
    pub(crate) fn taken(&mut self, client: usize, request: RequestId, committed: Index) {
        self.reads.taken(client, request, committed);
    }

    /// The last entry that any node has known to be committed.
    pub(crate) fn committed_last(&self) -> Index {
        self.completeness.last().index
    }

    /// A stranger asks something of a session whose secret it does not know.
    pub(crate) fn guessed(&mut self, request: RequestId) {
        self.replies.guessed(request);
    }

    /// A node that has applied all entries up to `applied` answers a client.
    pub(crate) fn answers(
        &mut self,
        client: usize,
        node: NodeId,
        applied: Index,
        response: &Response<'_>,
    ) -> Result<(), Violation> {
        match &response.body {
            ResponseBody::Outcome(outcome) => {
                let outcome = OwnedOutcome::from(*outcome);
                self.check("a reply rests on the log");
                self.replies.told(client, response.id, node, applied, &outcome)
            }
            ResponseBody::NotExecuted { reason: NotExecuted::Refused(ProposeError::WrongSecret), .. } => {
                self.replies.told_of_wrong_secret(client, response.id, node)
            }
            ResponseBody::Answer(_) => {
                if self.reads.shown(client, response.id, node, applied)? {
                    self.check("a read is fresh");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A node ended since it was told that it is no member any more.
    pub(crate) fn expelled(&self, node: NodeId, tampered: bool, member: bool) -> Result<(), Violation> {
        if tampered || !member { Ok(()) } else { Err(Violation::WronglyExpelled { node }) }
    }

    /// A client has begun an operation; their numbers follow each other.
    pub(crate) fn began(&mut self, number: OperationNumber, client: usize, operation: Operation, stale: bool) {
        assert_eq!(number, self.cases.len(), "operations are numbered one after the other");
        self.moment += 1;
        let record = Record { client, operation, began: self.moment, ended: None };
        self.cases.push(Case { record, stale, key: None, refused: false });
    }

    /// The operation became a command of a session.
    pub(crate) fn numbered(&mut self, number: OperationNumber, nonce: Nonce, sequence: Sequence) {
        if let Some(case) = self.cases.get_mut(number) {
            case.key = Some((nonce, sequence));
        }
    }

    /// An operation has come to its end.
    pub(crate) fn ended(&mut self, number: OperationNumber, end: End) -> Result<(), Violation> {
        self.moment += 1;
        let Some(case) = self.cases.get_mut(number) else { return Ok(()) };
        match end {
            End::Done { answer } => {
                self.done += 1;
                *self.checked.entry("an answer is that of the one execution").or_default() += 1;
                case.record.ended = Some((self.moment, answer.clone()));
                match case.key {
                    Some((nonce, sequence)) => self.sessions.heard(nonce, sequence, answer.as_ref()),
                    None => Ok(()),
                }
            }
            End::NotExecuted if self.repeats => Ok(()),
            End::NotExecuted => {
                case.refused = true;
                case.key.map_or(Ok(()), |(nonce, sequence)| self.sessions.refused(nonce, sequence))
            }
            End::Unknown => {
                let command = matches!(case.record.operation.kind, Kind::Command(_));
                self.in_doubt += usize::from(command && case.key.is_none());
                Ok(())
            }
        }
    }

    /// Of how many commands nobody knows whether they ran, not even the log: they had no session.
    pub(crate) fn in_doubt(&self) -> usize {
        self.in_doubt
    }

    /// A client has got an answer to a command.
    pub(crate) fn heard(
        &mut self,
        nonce: Nonce,
        sequence: Sequence,
        answer: Option<&Vec<u8>>,
    ) -> Result<(), Violation> {
        self.sessions.heard(nonce, sequence, answer)
    }

    /// The run is over: what clients saw is checked as a whole.
    pub(crate) fn finish<W: Workload>(&mut self, workload: &W) -> Result<(), Violation> {
        let records: Vec<Record> =
            self.cases.iter().filter(|case| self.may_have_happened(case)).map(|case| case.record.clone()).collect();
        *self.checked.entry("an operation of a linearizable history").or_default() += records.len() as u64;
        let undecided = histories::check(workload, &records)?;
        *self.checked.entry("a history that is too entangled to decide").or_default() += undecided;
        Ok(())
    }

    /// Whether an operation is part of the history. One whose outcome its client never learned is so only if the log
    /// shows that it ran: that the log is the same everywhere was checked before.
    fn may_have_happened(&self, case: &Case) -> bool {
        let query = matches!(case.record.operation.kind, Kind::Query(_));
        match (case.stale || case.refused, &case.record.ended, case.key) {
            (true, ..) => false,
            (false, Some(_), _) => true,
            (false, None, Some((nonce, sequence))) => self.sessions.ran_at(nonce, sequence).is_some(),
            (false, None, None) => !query,
        }
    }

    /// The last session that was opened with this secret.
    pub(crate) fn opened_by(&self, nonce: Nonce) -> Option<SessionId> {
        self.sessions.opened_by(nonce)
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
