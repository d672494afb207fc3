//! What a node is in its term, with the state that it has only as that.

use crate::message::{ReadTicket, Rejection, Round};
use crate::raft::clock::ClusterClock;
use crate::raft::progress::{Progress, Uncommitted};
use crate::types::{EntryId, Index, Instant, NodeId};

/// The role, with its state.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one, in place, and no heap to put it on")]
pub(crate) enum Role<const NODES: usize> {
    Follower(Follower),
    PreCandidate(Election<NODES>),
    Candidate(Election<NODES>),
    Leader(Leader<NODES>),
}

/// A node that campaigns for nothing.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// When it will campaign, unless it hears from a leader or votes.
    pub(crate) election_at: Instant,
    /// The leader of its term, once it was heard from.
    pub(crate) leader: Option<Following>,
}

/// What a follower knows of its leader and owes to it.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    pub(crate) leader: NodeId,
    pub(crate) heard_at: Instant,
    /// The link to it has been closed at its end since.
    pub(crate) link_down: bool,
    /// The log equals the leader's up to here, in the view; what of it is durable is told.
    pub(crate) matched: Index,
    /// How much of it has been told.
    pub(crate) matched_told: Index,
    /// The latest round heard, and the latest told.
    pub(crate) round: Round,
    pub(crate) round_told: Round,
    /// An append that could not be taken, to be told.
    pub(crate) rejected: Option<Rejection>,
    /// How much has arrived of a snapshot, to be told: its last entry, and whether what was sent
    /// behind that has to be sent again.
    pub(crate) received: Option<Received>,
    /// The latest read that must be asked about, the latest that was, and the one answered last.
    pub(crate) read_wanted: Option<ReadTicket>,
    pub(crate) read_asked: Option<(ReadTicket, Instant)>,
    pub(crate) read_confirmed: Option<(ReadTicket, Index)>,
    /// The latest one whose answer had been reached before a later answer came.
    pub(crate) read_reached: Option<ReadTicket>,
}

impl Following {
    pub(crate) fn new(leader: NodeId, now: Instant) -> Following {
        Following {
            leader,
            heard_at: now,
            link_down: false,
            matched: Index::ZERO,
            matched_told: Index::ZERO,
            round: Round::default(),
            round_told: Round::default(),
            rejected: None,
            received: None,
            read_wanted: None,
            read_asked: None,
            read_confirmed: None,
            read_reached: None,
        }
    }
}

/// How much of a snapshot has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Received {
    pub(crate) through: EntryId,
    pub(crate) bytes: u64,
    pub(crate) resend: bool,
}

/// An election or a question whether to hold one.
#[derive(Clone, Debug)]
pub(crate) struct Election<const NODES: usize> {
    /// When to begin anew.
    pub(crate) again_at: Instant,
    /// What each member answered, in the order of the members.
    pub(crate) votes: [Option<bool>; NODES],
    /// Whom the request was sent to.
    pub(crate) asked: [bool; NODES],
    /// Whether the leader itself asked for it: then those that hear it vote too.
    pub(crate) transfer: bool,
}

impl<const NODES: usize> Election<NODES> {
    pub(crate) fn new(again_at: Instant) -> Election<NODES> {
        Election { again_at, votes: [None; NODES], asked: [false; NODES], transfer: false }
    }
}

/// The leader of the term.
#[derive(Clone, Debug)]
pub(crate) struct Leader<const NODES: usize> {
    /// The entry its term begins with. Until it is committed, nothing of earlier terms is known
    /// to be (Raft paper, section 5.4.2), so no read is confirmed.
    pub(crate) term_start: Index,
    pub(crate) clock: ClusterClock,
    pub(crate) heartbeat_at: Instant,
    /// The followers, in the order of the members; that of the leader itself is not used.
    pub(crate) followers: [Progress; NODES],
    pub(crate) uncommitted: Uncommitted,
    /// The present round, and whether a message has gone out with it.
    pub(crate) round: Round,
    pub(crate) round_used: bool,
    /// The latest round that a quorum has answered.
    pub(crate) round_confirmed: Round,
    /// Whether a follower waits for the answer to a read.
    pub(crate) reads_asked: bool,
    pub(crate) transfer: Option<Transfer>,
    /// Whether the log had no room for the entry that was to be appended last, and who was asked last to lead instead.
    pub(crate) full: bool,
    pub(crate) full_tried: Option<NodeId>,
    /// An entry that is not saved yet, and since when at least.
    pub(crate) unsaved: Option<(Index, Instant)>,
    pub(crate) lease: LeaseMark,
}

/// A hand-over that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// When it is given up.
    pub(crate) until: Instant,
    /// The round in which the other was told to campaign last.
    pub(crate) told: Option<Round>,
}

/// By what a leader knows that it may answer reads by itself: its last committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeaseMark {
    /// An entry that is not committed yet, and when it was appended.
    pub(crate) pending: Option<(Index, Instant)>,
    /// Until when the lease lasts.
    pub(crate) until: Instant,
    /// Before this nothing is committed: the lease of an earlier leader may still last.
    pub(crate) commit_from: Instant,
}
