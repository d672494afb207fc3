//! Brings what happens in a world before the checkers.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::session::operation::Operation as LogOperation;
use raft_core::session::owned::OwnedOutcome;
use raft_core::storage::Storage;
use raft_core::types::{EntryId, Incarnation, Index, NodeId, Nonce, Sequence, SessionId, Term};
use thiserror::Error;

use crate::check::elections::Elections;
use crate::check::histories::{self, Record};
use crate::check::logs::Logs;
use crate::check::sessions::Sessions;
use crate::check::states::{Applied, States};
use crate::check::votes::Votes;
use crate::client::{End, OperationNumber};
use crate::options::Options;
use crate::watched::{Execution, LogChange};
use crate::workload::{Operation, Workload};

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum Violation {
    #[error("election safety: nodes {one} and {other} both led in term {term}")]
    TwoLeaders { term: Term, one: NodeId, other: NodeId },
    #[error("leader completeness: node {leader}, which leads in term {term}, lacks committed entry {committed:?}")]
    LeaderLacks { term: Term, leader: NodeId, committed: EntryId },
    #[error("votes: the term of node {node} went back from {before} to {after}")]
    TermWentBack { node: NodeId, before: Term, after: Term },
    #[error("votes: node {node} voted for {one:?} and for {other:?} in term {term}")]
    VotedTwice { node: NodeId, term: Term, one: Option<NodeId>, other: Option<NodeId> },
    #[error("log matching: node {node} holds another entry {entry:?} than others, or others before it")]
    LogsDiffer { node: NodeId, entry: EntryId },
    #[error("durability: node {node} said that entry {acknowledged:?} was durable, and does not hold it any more")]
    Lost { node: NodeId, acknowledged: EntryId },
    #[error("state machine safety: node {node} applied entry {index} after entry {before}")]
    AppliedOutOfOrder { node: NodeId, before: Index, index: Index },
    #[error("state machine safety: node {node} differs\n  first: {first}\n  here:  {here}")]
    StatesDiffer { node: NodeId, first: String, here: String },
    #[error("exactly once: entry {index} mixes up session {session}")]
    SessionMixedUp { session: SessionId, index: Index },
    #[error("exactly once: entry {index} replays command {sequence} of session {session}, which did not run before")]
    ReplayOfNothing { session: SessionId, sequence: Sequence, index: Index },
    #[error("exactly once: command {sequence} of session {session} ran at {first} and again at {second}")]
    RanTwice { session: SessionId, sequence: Sequence, first: Index, second: Index },
    #[error("exactly once: command {sequence} of session {session} ran at {index}; its client knew it would not")]
    RanAfterRefusal { session: SessionId, sequence: Sequence, index: Index },
    #[error("exactly once: the client of command {sequence} was told that it did not run; it ran at {index}")]
    RefusedAndRan { sequence: Sequence, index: Index },
    #[error("exactly once: command {sequence} got two answers; it ran at {index}")]
    AnswersDiffer { sequence: Sequence, index: Index },
    #[error("exactly once: command {sequence} was answered and did not run")]
    AnsweredAndDidNotRun { sequence: Sequence },
    #[error("cluster time went back at entry {entry:?}")]
    TimeWentBack { entry: EntryId },
    #[error("linearizability: no order of these operations on key {key} is possible\n{operations}")]
    NotLinearizable { key: u64, operations: String },
    #[error("memory: the sessions of node {node} take {bytes} bytes and had {before}")]
    MemoryGrew { node: NodeId, before: usize, bytes: usize },
    #[error("network: node {node} took in {frames} damaged frames")]
    DamageTaken { node: NodeId, frames: u64 },
    #[error("node {node} was told that it is no member, and is one")]
    WronglyExpelled { node: NodeId },
    #[error("node {node} cannot start: {error}")]
    CannotStart { node: NodeId, error: String },
    #[error("node {node} ended: {error}")]
    Stopped { node: NodeId, error: String },
    #[error("liveness: {what}, {millis} ms after the faults ended")]
    Stuck { what: String, millis: u64 },
    #[error("a calm cluster held {elections} elections")]
    Unrest { elections: usize },
    #[error("it panicked: {message}")]
    Panicked { message: String },
}

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
#[derive(Debug, Default)]
pub(crate) struct Judge {
    elections: Elections,
    votes: Votes,
    logs: Logs,
    states: States,
    sessions: Sessions,
    payloads: BTreeMap<EntryId, Payload>,
    /// The terms of the entries in the log of each machine.
    terms: BTreeMap<usize, BTreeMap<Index, Term>>,
    /// Machines whose logs hold entries without payloads: witnesses, which have no state.
    stripped: BTreeSet<usize>,
    cases: Vec<Case>,
    /// Moments of the history: no two are equal.
    moment: u64,
    /// The last entry that any node knew to be committed.
    committed: EntryId,
    /// Whether the network repeats requests. What a client concludes from a refusal rests on connections that do not:
    /// of one copy that was refused it knows, of another one it does not.
    repeats: bool,
    memory: BTreeMap<(usize, u64), usize>,
    /// Outcomes of operations on sessions, counted.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
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
        Judge { repeats: network.doubled + network.replayed > 0, ..Judge::default() }
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
        self.votes.started(life.node, life.storage, state)?;
        self.logs.started(life.node, life.storage, holds)
    }

    /// A node's storage was told something.
    pub(crate) fn log_changed(&mut self, life: Life, change: &LogChange) -> Result<(), Violation> {
        match change {
            LogChange::Appended { header, payload } => self.appended(life, header, payload),
            LogChange::Truncated { last } => {
                let terms = self.terms.entry(life.place).or_default();
                terms.split_off(&last.next());
                let term = terms.get(last).copied().unwrap_or_default();
                self.logs.truncated(life.storage, EntryId::new(term, *last));
                Ok(())
            }
            LogChange::Saved(saved) if !life.tampered => {
                self.logs.saved(life.storage, saved.through);
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
        self.logs.appended(life.node, entry, before, sum)?;
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
        self.elections.won(term, life.node, self.committed, holds)
    }

    /// A node knows that entry to be committed.
    pub(crate) fn committed(&mut self, entry: EntryId) {
        if entry.index > self.committed.index {
            self.committed = entry;
        }
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
        let last_time = self.states.last_time();
        if !self.states.applied((life.place, life.number), life.node, applied)? {
            return Ok(());
        }
        if let (Some((_, time)), Some(before)) = (executed, last_time)
            && time < before
        {
            return Err(Violation::TimeWentBack { entry });
        }
        let Some(outcome) = outcome else { return Ok(()) };
        self.count(&outcome);
        if let Some(payload) = self.payloads.get(&entry).filter(|payload| payload.kind == EntryKind::Operation)
            && let Ok(operation) = LogOperation::decode(&payload.payload)
        {
            self.sessions.applied(entry.index, &operation, &outcome)?;
        }
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

    /// The memory of a node's session table, which is fixed for its life.
    pub(crate) fn memory(&mut self, life: Life, bytes: usize) -> Result<(), Violation> {
        let before = *self.memory.entry((life.place, life.number)).or_insert(bytes);
        if before == bytes { Ok(()) } else { Err(Violation::MemoryGrew { node: life.node, before, bytes }) }
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
            End::Unknown => Ok(()),
        }
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
    pub(crate) fn finish<W: Workload>(&self, workload: &W) -> Result<(), Violation> {
        let records: Vec<Record> =
            self.cases.iter().filter(|case| self.may_have_happened(case)).map(|case| case.record.clone()).collect();
        histories::check(workload, &records)
    }

    /// Whether an operation is part of the history. One whose outcome its client never learned is so only if the log
    /// shows that it ran: that the log is the same everywhere was checked before.
    fn may_have_happened(&self, case: &Case) -> bool {
        let query = matches!(case.record.operation.kind, crate::workload::Kind::Query(_));
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

    /// In how many terms there was a leader.
    pub(crate) fn elections(&self) -> usize {
        self.elections.terms()
    }
}
