//! What clients and nodes say to each other: requests carry an id and are answered in any order.
//!
//! A request or response is one postcard value. New variants are added at the end.

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[cfg(doc)]
use crate::configuration::Configuration;
use crate::configuration::MEMBERS_MAX;
use crate::configuration::change::{ChangeError, MemberChange};
use crate::message::ProposeError;
use crate::raft::TransferError;
use crate::session::operation::{Operation, Outcome};
use crate::types::{ClusterTime, EntryId, Index, NodeId, Nonce, Term};
use crate::wire::Bytes;

/// The longest encoding of a request or response without the bytes it carries.
pub const HEAD_BYTES_MAX: usize = 256;

/// A number by which a client knows the response to a request; unique on its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// Comes back in the response.
    pub id: RequestId,
    /// Whether a node that does not lead brings the request to the leader; else it names the leader.
    pub forward: bool,
    /// What is asked.
    #[serde(borrow)]
    pub body: RequestBody<'a>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RequestBody<'a> {
    /// An operation on the sessions or the state machine, to go through the log.
    Operate {
        /// The secret of the operation's session; `None` for an operation without one.
        secret: Option<Nonce>,
        /// The operation.
        #[serde(borrow)]
        operation: Operation<'a>,
    },
    /// A query of the state machine.
    Query {
        /// How fresh the answer must be.
        consistency: Consistency,
        /// What the state machine is asked.
        #[serde(borrow)]
        query: Bytes<'a>,
    },
    /// How the node is.
    Status,
    /// Who the members are, as the node knows it.
    Members,
    /// Change the members: all of it at once, or nothing.
    Change {
        /// The changes, as [`encode_changes`] writes them.
        #[serde(borrow)]
        changes: Bytes<'a>,
        /// Also if a majority of the new voters does not answer.
        force: bool,
    },
    /// Hand leadership over.
    Transfer {
        /// To whom; `None`: to the member that has most of the log.
        to: Option<NodeId>,
    },
    /// Make a snapshot of this node's state.
    Snapshot,
}

/// The most changes of members in one request.
pub const CHANGES_MAX: usize = MEMBERS_MAX;

/// Writes changes of members for [`RequestBody::Change`].
///
/// # Errors
/// [`ProtocolError::NoRoom`] if the buffer is too short, or there are more than [`CHANGES_MAX`].
pub fn encode_changes<'b>(changes: &[MemberChange], buffer: &'b mut [u8]) -> Result<&'b [u8], ProtocolError> {
    if changes.len() > CHANGES_MAX {
        return Err(ProtocolError::NoRoom);
    }
    postcard::to_slice(changes, buffer).map(|bytes| &*bytes).map_err(|_| ProtocolError::NoRoom)
}

/// Reads what [`encode_changes`] wrote.
///
/// # Errors
/// [`ProtocolError::Malformed`] for bytes that are none.
pub fn decode_changes(bytes: &[u8]) -> Result<heapless::Vec<MemberChange, CHANGES_MAX>, ProtocolError> {
    postcard::from_bytes(bytes).map_err(|_| ProtocolError::Malformed { expected: "list of changes" })
}

/// How fresh the answer to a query must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Consistency {
    /// It shows every command that was answered before the query was sent.
    #[default]
    Linearizable,
    /// It shows the state of the node asked, however old.
    Stale,
    /// As linearizable, if no clock drifts by more than the cluster was told: a leader that holds a
    /// lease answers by itself. Without a lease it is the same as linearizable. If a clock does, nothing
    /// is promised: a client does not tell the last index it saw, by which each could at least be kept
    /// from going back in time (dissertation, section 6.4.1, end).
    Lease,
}

/// What a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response<'a> {
    /// The id in the request.
    pub id: RequestId,
    /// The answer.
    #[serde(borrow)]
    pub body: ResponseBody<'a>,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResponseBody<'a> {
    /// What came of the operation, from the committed log.
    Outcome(#[serde(borrow)] Outcome<'a>),
    /// The state machine's answer to the query.
    Answer(#[serde(borrow)] Bytes<'a>),
    /// How the node is.
    Status(NodeStatus),
    /// The request was not executed and will not be.
    NotExecuted {
        /// Why.
        reason: NotExecuted,
        /// Where the leader is reached, as the configuration says; empty if not known.
        leader_address: &'a str,
    },
    /// The operation may be executed, or not: the node cannot tell.
    Unknown,
    /// Who the members are.
    Members {
        /// The entry of the configuration.
        entry: EntryId,
        /// Its payload: see [`Configuration::decode`].
        #[serde(borrow)]
        configuration: Bytes<'a>,
    },
    /// The change of the members is committed.
    Changed {
        /// Its entry.
        entry: EntryId,
    },
    /// This node has handed over: it follows the new leader.
    Transferred {
        /// Who leads now.
        to: NodeId,
    },
    /// The snapshot is durable.
    SnapshotMade {
        /// The last entry that it covers.
        through: Index,
    },
}

/// Why a request was not executed. All of these are definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum NotExecuted {
    /// Nothing was appended for it.
    #[error(transparent)]
    Refused(ProposeError),
    /// It was appended, and another leader's entry was committed in its place.
    #[error("another leader's entry was committed in its place; send it again")]
    Overtaken,
    /// The node stopped leading, or could not reach its leader, before a read was confirmed.
    #[error("there was no leader to confirm the read; send it again")]
    Unconfirmed,
    /// The node is stopping.
    #[error("the node is stopping; ask another one")]
    Stopping,
    /// The answer to the query is longer than a response may be.
    #[error("the answer is longer than a response may be; ask for less")]
    AnswerTooLong,
    /// The node does not know this kind of request.
    #[error("the node does not know this kind of request; it runs an older version")]
    Unsupported,
    /// The members cannot be changed so.
    #[error(transparent)]
    Change(ChangeError),
    /// Leadership cannot be handed over so.
    #[error(transparent)]
    Transfer(TransferError),
    /// It was begun, and the other did not take over: this node leads on, or a third one leads.
    #[error("the other node did not take over; look who leads, then try again, or another one")]
    NotTakenOver,
    /// The node has no snapshot that could be made, or no room for it.
    #[error("no snapshot could be made; look into the node's log")]
    NoSnapshot,
}

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}

impl RoleName {
    /// The name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        }
    }
}

/// How a node is. Counts are since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// What it does.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads that term, where it is known.
    pub leader: Option<NodeId>,
    /// The entry of the configuration that holds.
    pub configuration: EntryId,
    /// Whether that is the first of two steps.
    pub joint: bool,
    /// Whether it takes part in nothing any more: it was removed, or has lost what it had acknowledged.
    pub expelled: bool,
    /// The last entry that its snapshot covers; 0 without one.
    pub snapshot: Index,
    /// The entry before the first of its log.
    pub base: Index,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry that is durable.
    pub saved: Index,
    /// The last entry known to be committed.
    pub commit: Index,
    /// The last entry applied.
    pub applied: Index,
    /// The cluster time at that entry.
    pub cluster_time: ClusterTime,
    /// How many sessions are open.
    pub sessions: u32,
    /// How many can be.
    pub sessions_max: u32,
    /// The memory of the session table, in bytes; fixed at start.
    pub session_bytes: u64,
    /// Commands executed.
    pub executed: u64,
    /// Commands answered from the session table.
    pub replayed: u64,
    /// Operations refused by the session layer.
    pub refused: u64,
    /// Elections won.
    pub elections_won: u64,
    /// Syncs of the storage.
    pub syncs: u64,
    /// Entries these syncs made durable.
    pub entries_synced: u64,
    /// Bytes written to the storage.
    pub bytes_written: u64,
    /// The bytes of the entries that the log holds; an estimate.
    pub log_bytes: u64,
    /// Whether the disk has no room for the log to go on: commands are refused until there is some.
    pub full: bool,
    /// Snapshots that were to be made since the node's start and found no room.
    pub snapshots_failed: u64,
}

/// Why bytes are no request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// They are none of this version.
    #[error("the bytes are no {expected} of this version")]
    Malformed {
        /// What they were to be.
        expected: &'static str,
    },
    /// The buffer is too short for the encoding.
    #[error("the buffer is too short for the encoding")]
    NoRoom,
}

impl<'a> Request<'a> {
    /// The most bytes that [`Request::encode`] can write for it.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let tail = match &self.body {
            RequestBody::Operate { operation, .. } => operation.command().len(),
            RequestBody::Query { query, .. } => query.0.len(),
            RequestBody::Change { changes, .. } => changes.0.len(),
            _ => 0,
        };
        HEAD_BYTES_MAX + tail
    }

    /// Encodes it into `buffer`; gives the length.
    ///
    /// # Errors
    /// [`ProtocolError::NoRoom`] if the buffer is too short.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, ProtocolError> {
        postcard::to_slice(self, buffer).map(|bytes| bytes.len()).map_err(|_| ProtocolError::NoRoom)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`ProtocolError::Malformed`] for bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Request<'a>, ProtocolError> {
        match postcard::take_from_bytes(bytes) {
            Ok((request, [])) => Ok(request),
            _ => Err(ProtocolError::Malformed { expected: "request" }),
        }
    }
}

impl<'a> Response<'a> {
    /// The most bytes that [`Response::encode`] can write for it.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let tail = match &self.body {
            ResponseBody::Outcome(Outcome::Answered { answer, .. }) | ResponseBody::Answer(answer) => answer.0.len(),
            ResponseBody::NotExecuted { leader_address, .. } => leader_address.len(),
            ResponseBody::Members { configuration, .. } => configuration.0.len(),
            _ => 0,
        };
        HEAD_BYTES_MAX + tail
    }

    /// Encodes it into `buffer`; gives the length.
    ///
    /// # Errors
    /// [`ProtocolError::NoRoom`] if the buffer is too short.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, ProtocolError> {
        postcard::to_slice(self, buffer).map(|bytes| bytes.len()).map_err(|_| ProtocolError::NoRoom)
    }

    /// Reads a response.
    ///
    /// # Errors
    /// [`ProtocolError::Malformed`] for bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Response<'a>, ProtocolError> {
        match postcard::take_from_bytes(bytes) {
            Ok((response, [])) => Ok(response),
            _ => Err(ProtocolError::Malformed { expected: "response" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Millis, Sequence, SessionId};

    /// Longer than [`HEAD_BYTES_MAX`], so that the room for it must have been counted.
    const LONG: [u8; 300] = [b'x'; 300];
    const MOST: EntryId = EntryId { term: Term(u64::MAX), index: Index(u64::MAX) };

    #[test]
    fn requests_read_back_within_their_bounds() {
        let most = u64::MAX;
        let (session, sequence) = (SessionId(most), Sequence(most));
        let operation = Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(&LONG) };
        for body in [
            RequestBody::Operate { secret: Some(Nonce(u128::MAX)), operation },
            RequestBody::Query { consistency: Consistency::Lease, query: Bytes(&LONG) },
            RequestBody::Change { changes: Bytes(&LONG), force: true },
            RequestBody::Transfer { to: NodeId::new(most) },
            RequestBody::Status,
        ] {
            let request = Request { id: RequestId(most), forward: true, body };
            let mut buffer = std::vec![0; request.bytes_max()];
            let length = request.encode(&mut buffer).unwrap();
            assert_eq!(Request::decode(&buffer[..length]), Ok(request));
            assert!(Request::decode(&buffer[..length - 1]).is_err());
        }
    }

    #[test]
    fn responses_read_back_within_their_bounds() {
        let outcome = Outcome::Answered { index: MOST.index, answer: Bytes(&LONG), replayed: true };
        let refused = ProposeError::Transferring { to: NodeId::new(u64::MAX).unwrap(), within: Millis(u64::MAX) };
        let leader_address = core::str::from_utf8(&LONG).unwrap();
        for body in [
            ResponseBody::Outcome(outcome),
            ResponseBody::Answer(Bytes(&LONG)),
            ResponseBody::NotExecuted { reason: NotExecuted::Refused(refused), leader_address },
            ResponseBody::Members { entry: MOST, configuration: Bytes(&LONG) },
            ResponseBody::Changed { entry: MOST },
        ] {
            let response = Response { id: RequestId(u64::MAX), body };
            let mut buffer = std::vec![0; response.bytes_max()];
            let length = response.encode(&mut buffer).unwrap();
            assert_eq!(Response::decode(&buffer[..length]), Ok(response));
            assert!(Response::decode(&buffer[..length - 1]).is_err());
        }
    }

    #[test]
    fn a_request_changes_as_many_members_as_there_can_be() {
        let changes: std::vec::Vec<_> = (1..=17).map(|node| MemberChange::Remove(NodeId::new(node).unwrap())).collect();
        let mut buffer = [0; 512];
        let encoded = encode_changes(&changes[..CHANGES_MAX], &mut buffer).unwrap();
        assert_eq!(decode_changes(encoded).unwrap(), changes[..CHANGES_MAX]);
        assert_eq!(encode_changes(&changes, &mut buffer), Err(ProtocolError::NoRoom));
    }

    #[test]
    fn roles_have_a_name_each() {
        let roles = [RoleName::Follower, RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader];
        assert_eq!(roles.map(RoleName::as_str), ["follower", "pre-candidate", "candidate", "leader"]);
    }
}
