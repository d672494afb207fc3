//! What can be wrong: a kind for each promise that is not kept.

use raft_core::raft::event::Expulsion;
use raft_core::types::{ClusterTime, EntryId, Index, NodeId, Sequence, SessionId, Term};
use thiserror::Error;

/// What is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum Violation {
    #[error("election safety: nodes {one} and {other} both led in term {term}")]
    TwoLeaders { term: Term, one: NodeId, other: NodeId },
    #[error("leader completeness: node {leader}, which leads in term {term}, lacks committed entry {committed:?}")]
    LeaderLacks { term: Term, leader: NodeId, committed: EntryId },
    #[error("leader completeness: node {leader} leads in term {term} and committed {committed:?} by counting")]
    CommittedByCounting { leader: NodeId, term: Term, committed: EntryId },
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
    #[error(
        "exactly once: command {sequence} of session {session}, whose commands run in order, ran too late at {index}"
    )]
    RanOutOfOrder { session: SessionId, sequence: Sequence, index: Index },
    #[error("exactly once: the client of command {sequence} was told that it did not run; it ran at {index}")]
    RefusedAndRan { sequence: Sequence, index: Index },
    #[error("exactly once: command {sequence} got two answers; it ran at {index}")]
    AnswersDiffer { sequence: Sequence, index: Index },
    #[error("exactly once: command {sequence} was answered and did not run")]
    AnsweredAndDidNotRun { sequence: Sequence },
    #[error("exactly once: entry {index} came to {outcome}, which is against the rules of sessions")]
    AgainstTheRules { index: Index, outcome: String },
    #[error("exactly once: the sessions of node {node} are not what the log up to entry {index} makes them")]
    TablesDiffer { node: NodeId, index: Index },
    #[error("exactly once: node {node} told what no entry of that operation came to: {outcome}")]
    NotFromTheLog { node: NodeId, outcome: String },
    #[error("exactly once: the command without a session at entry {index} ran once more than it was asked for")]
    RanUnasked { index: Index },
    #[error("exactly once: node {node} answered two requests with the one execution at entry {index}")]
    AnsweredTwo { node: NodeId, index: Index },
    #[error(
        "not executed: by what node {node} did or said, {entries} entries were made and {refused} copies refused of {arrived}"
    )]
    RefusedAndAppended { node: NodeId, arrived: u64, refused: u64, entries: u64 },
    #[error("not executed: node {node} said of {said} entries that they were overtaken, and {lost} were")]
    NotOvertaken { node: NodeId, said: u64, lost: u64 },
    #[error("not executed: node {node} gave a reason that is not true: {reason}")]
    UntrueReason { node: NodeId, reason: String },
    #[error("operators: node {node} said {said}, and {but}")]
    UntrueToOperator { node: NodeId, said: String, but: &'static str },
    #[error("a full table: the open at entry {index} was promised room at {due:?}; at {time:?} there is room: {room}")]
    NotFull { index: Index, due: ClusterTime, time: ClusterTime, room: bool },
    #[error("secrets: node {leader} proposed {entry:?} for session {session}, and nobody with its secret asked for it")]
    ProposedWithoutSecret { leader: NodeId, session: SessionId, entry: EntryId },
    #[error("commitment: node {node} knows {other:?} to be committed, where {one:?} is")]
    CommittedOtherwise { node: NodeId, one: EntryId, other: EntryId },
    #[error("secrets: node {node} called the secret of session {session} wrong, and it is not")]
    RightSecretRefused { node: NodeId, session: SessionId },
    #[error("secrets: node {node} did for somebody without the session's secret: {outcome}")]
    WrongSecretLetIn { node: NodeId, outcome: String },
    #[error("engine: it sent command {sequence}, which nobody awaits under that number")]
    SentUnasked { sequence: Sequence },
    #[error("engine: it acknowledged command {sequence}, whose end it had not said")]
    AcknowledgedUnheard { sequence: Sequence },
    #[error("engine: request {request} was given up for {reason}, and that is not so")]
    GaveUp { request: usize, reason: String },
    #[error("engine: request {request} came to an end and was not awaited")]
    EndedUnasked { request: usize },
    #[error("engine: request {request} was done, and it was never sent")]
    DoneUnsent { request: usize },
    #[error("engine: command {sequence} was said to have run at {told}, and ran at {ran}")]
    WrongIndex { sequence: Sequence, told: Index, ran: Index },
    #[error("leases: {sessions} sessions that nobody used any more are still there")]
    OutlivedTheirLeases { sessions: usize },
    #[error("leases: a client that renewed its session in time was told that it had ended")]
    EvictedInTime,
    #[error("cluster time: it went back at entry {entry:?}")]
    TimeWentBack { entry: EntryId },
    #[error("linearizability: no order of these operations on key {key} is possible\n{operations}")]
    NotLinearizable { key: u64, operations: String },
    #[error("read freshness: node {node} read at entry {applied}; entry {committed} was committed before")]
    StaleRead { node: NodeId, applied: Index, committed: Index },
    #[error("read freshness: node {older} may still read by its lease, and node {newer} has committed in term {term}")]
    LeaseTooLong { older: NodeId, newer: NodeId, term: Term },
    #[error("memory: node {node} has {entries} entries {what}, and is to have {most} at most")]
    OverTheLimit { node: NodeId, what: &'static str, entries: u64, most: u64 },
    #[error("memory: the sessions of node {node} take {bytes} bytes and had {before}")]
    MemoryGrew { node: NodeId, before: usize, bytes: usize },
    #[error("a rule of the protocol: node {node} is guilty of {rule}")]
    RuleBroken { node: NodeId, rule: &'static str },
    #[error("network: node {node} took in {frames} damaged frames")]
    DamageTaken { node: NodeId, frames: u64 },
    #[error("node {node} was told that it is no member, and is one")]
    WronglyExpelled { node: NodeId },
    #[error("expulsions: node {node} was expelled, as {expelled:?}, and does not know it any more")]
    ExpulsionLost { node: NodeId, expelled: Expulsion },
    #[error("expulsions: node {node} was expelled, and {what} all the same")]
    ActsThoughExpelled { node: NodeId, what: &'static str },
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
