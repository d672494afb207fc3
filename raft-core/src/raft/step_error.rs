//! What no correct member sends, and how a node says so.

use thiserror::Error;

use crate::configuration::ConfigurationError;
use crate::raft::event::SnapshotRefusal;
use crate::types::{EntryId, Index, NodeId, Term};

/// What is wrong with a message that was ignored: no correct member sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StepError {
    /// It is for somebody else.
    #[error("the message is for node {to}")]
    NotForThisNode {
        /// Whom it is for.
        to: NodeId,
    },
    /// The sender claims to be this node.
    #[error("the message claims to come from this node itself")]
    FromItself,
    /// No cluster holds so many elections.
    #[error("term {term} is too far ahead to be one")]
    TermTooFarAhead {
        /// The term.
        term: Term,
    },
    /// A second leader in one term.
    #[error("node {from} claims to lead term {term}, which has another leader")]
    SecondLeader {
        /// The sender.
        from: NodeId,
        /// The term.
        term: Term,
    },
    /// An entry contradicts a committed one.
    #[error("entry {found} contradicts what is committed up to index {commit}")]
    ContradictsCommitted {
        /// The entry (term/index).
        found: EntryId,
        /// The commit index.
        commit: Index,
    },
    /// An entry of a later term than the message.
    #[error("entry {found} is of a later term than its message")]
    EntryOfLaterTerm {
        /// The entry (term/index).
        found: EntryId,
    },
    /// A snapshot that ends where no log can.
    #[error("index {index} is too high to be one")]
    IndexTooHigh {
        /// The index.
        index: Index,
    },
    /// An entry of an earlier cluster time than the one before it.
    #[error("entry {found} is of an earlier cluster time than the entry before it")]
    TimeGoesBack {
        /// The entry (term/index).
        found: EntryId,
    },
    /// A log that does not begin with a configuration.
    #[error("the first entry of the log is no configuration")]
    NoFirstConfiguration,
    /// A configuration of another cluster.
    #[error("the configuration at index {index} is that of another cluster")]
    ForeignConfiguration {
        /// Its index.
        index: Index,
    },
    /// An acknowledgement of entries or rounds that were never sent.
    #[error("the sender acknowledges what was never sent")]
    NeverSent,
    /// A configuration that is not valid.
    #[error("the configuration at index {index} is not valid")]
    Configuration {
        /// Its index.
        index: Index,
        /// What is wrong with it.
        #[source]
        error: ConfigurationError,
    },
    /// The cluster has grown beyond what this program was built for.
    #[error("the cluster has {members} members, and this program was built for at most {most}; build it for more")]
    TooManyMembers {
        /// Its members.
        members: usize,
        /// What the program was built for.
        most: usize,
    },
    /// Two configurations would be dropped: but the first was committed when the second was made.
    #[error("entry {found} would drop a configuration that must have been committed")]
    DropsConfigurations {
        /// The entry (term/index) that contradicts the log.
        found: EntryId,
    },
    /// A snapshot that was received whole was not taken.
    #[error("the snapshot through entry {through} was not taken: {reason:?}")]
    Snapshot {
        /// Its last entry.
        through: EntryId,
        /// Why.
        reason: SnapshotRefusal,
    },
}
