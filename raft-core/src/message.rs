//! What nodes say to each other.
//!
//! A message is one postcard value; the records of an append message are its last field, byte for
//! byte as they stand in the log. New kinds of messages are added at the end of [`Body`], so that
//! the numbers of the present ones stay.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::Records;
use crate::raft::event::Expulsion;
use crate::session::operation::Operation;
use crate::storage::SnapshotId;
use crate::types::{EntryId, Index, Millis, NodeId, Nonce, Term};
use crate::wire::Bytes;

/// The longest encoding of a message without its records or its forwarded operation.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 128;

/// A message from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// Who sent it.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's term; of a pre-vote and of its granting, the term that would be campaigned in.
    pub term: Term,
    /// What it says.
    #[serde(borrow)]
    pub body: Body<'a>,
}

/// A number that a leader counts up and its followers send back: an answer to round n shows that
/// the leader was still heard after it had begun round n (dissertation, section 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Round(pub u64);

/// A number that a follower gives to a read it asks its leader about; starts at random in each
/// life of the follower, so that an old answer never fits a new read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReadTicket(pub u64);

/// A number that a node gives to an operation it forwards. It counts up, and starts at random in each life of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForwardTicket(pub u64);

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<'a> {
    /// Would you vote for me? (Dissertation, section 9.6.) Changes nothing at the receiver.
    PreVote {
        /// The sender's last entry.
        last: EntryId,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteReply {
        /// Whether the vote would be given.
        granted: bool,
    },
    /// Vote for me (Raft paper, figure 2, "RequestVote RPC").
    Vote {
        /// The sender's last entry.
        last: EntryId,
        /// Whether the leader itself asked for this election (section 3.10).
        transfer: bool,
    },
    /// The answer to [`Body::Vote`].
    VoteReply {
        /// Whether the vote was given. It is durable.
        granted: bool,
    },
    /// Entries, or none: then a heartbeat (figure 2, "AppendEntries RPC").
    Append {
        /// The entry right before the first one here.
        previous: EntryId,
        /// The leader's commit index.
        commit: Index,
        /// The leader's round.
        round: Round,
        /// Entries that follow `previous`.
        #[serde(borrow)]
        entries: Records<'a>,
    },
    /// The answer to [`Body::Append`]: what holds by now, so that answers merge.
    AppendReply {
        /// The latest round heard.
        round: Round,
        /// The log equals the leader's up to here, durably. 0 while that is not known.
        matched: Index,
        /// An append that could not be taken.
        rejected: Option<Rejection>,
        /// Whether the answer shows anything of a quorum: not if the node may have forgotten a vote or an acknowledgement.
        counts: bool,
    },
    /// From which index on may I serve a read that begins now?
    ReadRequest {
        /// The follower's number for it; it stands for all reads with lower ones too.
        ticket: ReadTicket,
    },
    /// The answer to [`Body::ReadRequest`].
    ReadReply {
        /// The number in the request.
        ticket: ReadTicket,
        /// Apply up to here first.
        index: Index,
    },
    /// Propose this for me, once: in this message's term, if you lead it.
    Forward {
        /// The sender's number for it.
        ticket: ForwardTicket,
        /// The first ticket of the sender's life, which tells its lives apart.
        first: ForwardTicket,
        /// The latest round that the sender has heard from this leader.
        round: Round,
        /// The secret of the operation's session.
        secret: Option<Nonce>,
        /// The operation.
        #[serde(borrow)]
        operation: Operation<'a>,
    },
    /// The answer to [`Body::Forward`].
    Forwarded {
        /// The number in the request.
        ticket: ForwardTicket,
        /// The entry that was appended for it, which may still be lost; or why none was.
        outcome: Result<EntryId, ProposeError>,
    },
    /// Campaign at once: the leader hands over (dissertation, section 3.10, "TimeoutNow").
    Campaign,
    /// You neither vote nor campaign any more, and nothing you acknowledge counts.
    Expelled {
        /// Why.
        reason: Expulsion,
    },
    /// A part of a snapshot, or none: then a heartbeat, and the question how much has arrived.
    Snapshot {
        /// Which snapshot.
        snapshot: SnapshotId,
        /// Where in it `data` begins.
        offset: u64,
        /// The leader's round.
        round: Round,
        /// The part.
        #[serde(borrow)]
        data: Bytes<'a>,
    },
    /// The answer to [`Body::Snapshot`], until the snapshot is whole and installed; that is told as
    /// the acknowledgement of its last entry, by [`Body::AppendReply`].
    SnapshotReply {
        /// The last entry of the snapshot that is meant.
        through: EntryId,
        /// So much of it has arrived, without gaps.
        received: u64,
        /// The latest round heard.
        round: Round,
        /// What was sent behind that is lost, or was not taken: go on from there.
        resend: bool,
        /// As in [`Body::AppendReply`].
        counts: bool,
    },
    /// How a replica was after an entry that asked for it ([`crate::entry::EntryKind::Check`]).
    Digest {
        /// The entry.
        check: EntryId,
        /// The digest of sessions and state machine.
        digest: u64,
        /// Whose state that is: the sender's, or that of the replica whose snapshot it began with.
        by: NodeId,
    },
}

/// An append that does not fit the receiver's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rejection {
    /// The index of `previous` in the append, by which its leader tells a late rejection.
    pub previous: Index,
    /// The receiver's last entry at or before `previous` whose term is not after that of
    /// `previous`: the logs can only be equal up to there.
    pub hint: EntryId,
}

/// Why nothing was appended for a proposal. All of these are definite: it is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// This node does not lead.
    #[error("this node is not the leader; ask the leader, or again when there is one")]
    NotLeader {
        /// Who leads, where it is known.
        leader: Option<NodeId>,
    },
    /// It leads, but has not yet committed and applied the entry its term begins with, or the one that opens the
    /// session.
    #[error("this node has not applied enough of its log yet; try again at once")]
    NotReady,
    /// A limit on what may be under way is reached.
    #[error("the limit on commands under way is reached; try again shortly")]
    Busy,
    /// The command is over the limit.
    #[error("the command is longer than {limit} bytes; send it in parts")]
    TooLong {
        /// The limit in bytes.
        limit: u32,
    },
    /// The secret is not the session's.
    #[error("the secret is not that of the session")]
    WrongSecret,
    /// The leader's log has no room for another entry.
    #[error("the disk of the leader is full, or its log in memory; make room there, then send it again")]
    NoSpace,
    /// The leader is handing over to another member.
    #[error("the leader hands over to node {to}; try again there, or here in {within} ms")]
    Transferring {
        /// Who will lead, if all goes well.
        to: NodeId,
        /// By then it has been given up, if not.
        within: Millis,
    },
}

impl<'a> Message<'a> {
    /// Encodes the message into `buffer`, which has room with [`MESSAGE_HEAD_BYTES_MAX`] and the
    /// bytes of its entries or operation. Gives the length.
    ///
    /// # Errors
    /// [`NoRoom`] if the buffer is too short.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, NoRoom> {
        postcard::to_slice(self, buffer).map(|bytes| bytes.len()).map_err(|_| NoRoom)
    }

    /// The most bytes that [`Message::encode`] can write for it.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let tail = match &self.body {
            Body::Append { entries, .. } => entries.wire_bytes(),
            Body::Snapshot { data, .. } => data.0.len(),
            Body::Forward { operation, .. } => operation.command().len(),
            _ => 0,
        };
        MESSAGE_HEAD_BYTES_MAX + tail
    }

    /// Reads a message. What is given back is whole: its entries follow each other and the entry
    /// named before them, and their checksums are right.
    ///
    /// # Errors
    /// [`MessageError`] says which of this does not hold.
    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, MessageError> {
        let message: Message<'a> = match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => message,
            Ok(_) => return Err(MessageError::TooLong),
            Err(_) => return Err(MessageError::Malformed),
        };
        if let Body::Append { previous, entries, .. } = &message.body
            && !entries.follow(*previous)
        {
            return Err(MessageError::Order { previous: *previous });
        }
        Ok(message)
    }
}

/// The buffer is too short for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the buffer is too short for the message")]
pub struct NoRoom;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// They are no message of this version, or its entries are damaged.
    #[error("the bytes are no message, or its entries are damaged")]
    Malformed,
    /// Bytes are left behind the message.
    #[error("there are bytes behind the end of the message")]
    TooLong,
    /// The entries do not follow the entry named before them.
    #[error("the entries do not follow entry {previous}")]
    Order {
        /// The entry named before them.
        previous: EntryId,
    },
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::entry::{EntryHeader, EntryKind};
    use crate::types::ClusterTime;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn record(term: u64, index: u64) -> Vec<u8> {
        let id = EntryId::new(Term(term), Index(index));
        let header = EntryHeader::new(id, ClusterTime(5), EntryKind::Operation, &[b"payload"]).unwrap();
        [header.encode().as_slice(), b"payload"].concat()
    }

    fn bodies(entries: Records<'_>) -> Vec<Body<'_>> {
        let most = EntryId::new(Term(u64::MAX), Index(u64::MAX));
        let rejected = Some(Rejection { previous: most.index, hint: most });
        let snapshot = SnapshotId { through: most, time: ClusterTime(u64::MAX), bytes: u64::MAX, checksum: u32::MAX };
        vec![
            Body::PreVote { last: most },
            Body::PreVoteReply { granted: true },
            Body::Vote { last: most, transfer: true },
            Body::VoteReply { granted: false },
            Body::Append {
                previous: EntryId::new(Term(1), Index(1)),
                commit: most.index,
                round: Round(u64::MAX),
                entries,
            },
            Body::AppendReply { round: Round(u64::MAX), matched: most.index, rejected, counts: true },
            Body::ReadRequest { ticket: ReadTicket(u64::MAX) },
            Body::ReadReply { ticket: ReadTicket(u64::MAX), index: most.index },
            Body::Forward {
                ticket: ForwardTicket(u64::MAX),
                first: ForwardTicket(u64::MAX),
                round: Round(u64::MAX),
                secret: Some(Nonce(u128::MAX)),
                operation: Operation::Plain { command: Bytes(&[1; 300]) },
            },
            Body::Forwarded { ticket: ForwardTicket(u64::MAX), outcome: Ok(most) },
            Body::Forwarded {
                ticket: ForwardTicket(1),
                outcome: Err(ProposeError::Transferring { to: node(u64::MAX), within: Millis(u64::MAX) }),
            },
            Body::Campaign,
            Body::Expelled { reason: Expulsion::Forgot { acknowledged: most, added: most.index } },
            Body::Snapshot { snapshot, offset: u64::MAX, round: Round(u64::MAX), data: Bytes(&[2; 300]) },
            Body::SnapshotReply {
                through: most,
                received: u64::MAX,
                round: Round(u64::MAX),
                resend: true,
                counts: true,
            },
            Body::Digest { check: most, digest: u64::MAX, by: node(u64::MAX) },
        ]
    }

    #[test]
    fn every_kind_reads_back_within_its_bound_and_no_cut_does() {
        let bytes = [record(1, 2), record(2, 3)].concat();
        let entries = Records::check(EntryId::new(Term(1), Index(1)), &bytes).unwrap();
        for body in bodies(entries) {
            let message = Message { from: node(u64::MAX), to: node(1), term: Term(u64::MAX), body };
            let mut buffer = vec![0; message.bytes_max()];
            let length = message.encode(&mut buffer).unwrap();
            assert_eq!(Message::decode(&buffer[..length]), Ok(message));
            assert_eq!(Message::decode(&buffer[..length + 1]), Err(MessageError::TooLong));
            for cut in 0..length {
                assert!(Message::decode(&buffer[..cut]).is_err());
            }
            assert_eq!(message.encode(&mut buffer[..length - 1]), Err(NoRoom));
        }
    }

    #[test]
    fn entries_that_do_not_follow_are_refused() {
        let bytes = record(1, 2);
        let entries = Records::check(EntryId::new(Term(1), Index(1)), &bytes).unwrap();
        let previous = EntryId::new(Term(1), Index(7));
        let body = Body::Append { previous, commit: Index(0), round: Round(0), entries };
        let message = Message { from: node(1), to: node(2), term: Term(1), body };
        let mut buffer = [0; 256];
        let length = message.encode(&mut buffer).unwrap();
        assert_eq!(Message::decode(&buffer[..length]), Err(MessageError::Order { previous }));
    }
}
