//! Messages as members, removed members and strangers form them who lie. Numbers are told relative to those of the
//! node that is lied to, so that a few bytes of input come near its limits; but any number can be told.

use arbitrary::Arbitrary;
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Member, Suffrage};
use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind, Records};
use raft_core::message::{Body, ForwardTicket, Message, ReadTicket, Rejection, Round};
use raft_core::raft::event::Expulsion;
use raft_core::session::limits::SessionLimits;
use raft_core::session::operation::Operation;
use raft_core::snapshot::{HEAD_BYTES, HEAD_BYTES_MAX, Head, Terms};
use raft_core::storage::SnapshotId;
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, Millis, NodeId, Nonce, Term};
use raft_core::wire::Bytes;

/// The cluster of the node that is lied to.
pub const CLUSTER: ClusterId = ClusterId(7);
/// That node. The others that lie are 2 to 8, of which some were never members.
pub const NODE: u64 = 1;
const NODES: u64 = 8;
/// The most entries of one message.
const ENTRIES_MAX: usize = 12;

/// The node of that number.
///
/// # Panics
/// For 0.
#[must_use]
pub fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("nodes are numbered from 1 on")
}

/// Where the node that is lied to stands.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Its term.
    pub term: Term,
    /// What it has applied.
    pub applied: Index,
    /// What it has committed.
    pub commit: Index,
    /// What of its log is durable.
    pub saved: Index,
    /// The last entry of its log.
    pub last: EntryId,
    /// The entry before the first of its log.
    pub base: EntryId,
    /// The cluster time of the last entry.
    pub time: ClusterTime,
}

/// A number, most often one near to a mark.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Number {
    Last(i8),
    Commit(i8),
    Applied(i8),
    Base(i8),
    Saved(i8),
    Small(u8),
    Exact(u64),
    FromEnd(u8),
}

impl Number {
    fn of(self, marks: &Marks) -> u64 {
        let near = |mark: u64, by: i8| mark.saturating_add_signed(by.into());
        match self {
            Number::Last(by) => near(marks.last.index.0, by),
            Number::Commit(by) => near(marks.commit.0, by),
            Number::Applied(by) => near(marks.applied.0, by),
            Number::Base(by) => near(marks.base.index.0, by),
            Number::Saved(by) => near(marks.saved.0, by),
            Number::Small(number) => number.into(),
            Number::Exact(number) => number,
            Number::FromEnd(number) => u64::MAX - u64::from(number),
        }
    }
}

/// A term.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Era {
    /// The node's own.
    Own,
    Next,
    Before(u8),
    Ahead(u8),
    OfLast,
    OfBase,
    Exact(u64),
}

impl Era {
    fn of(self, marks: &Marks) -> Term {
        let own = marks.term.0;
        Term(match self {
            Era::Own => own,
            Era::Next => own.saturating_add(1),
            Era::Before(by) => own.saturating_sub(by.into()),
            // As far as it is believed, with the highest bit.
            Era::Ahead(by) => own.saturating_add(1 << (by % 42)),
            Era::OfLast => marks.last.term.0,
            Era::OfBase => marks.base.term.0,
            Era::Exact(term) => term,
        })
    }
}

/// The name of an entry.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Id {
    Last,
    Base,
    Zero,
    Made { term: Era, index: Number },
}

impl Id {
    fn of(self, marks: &Marks) -> EntryId {
        match self {
            Id::Last => marks.last,
            Id::Base => marks.base,
            Id::Zero => EntryId::ZERO,
            Id::Made { term, index } => EntryId::new(term.of(marks), Index(index.of(marks))),
        }
    }
}

/// A list of members.
#[derive(Clone, Debug, Arbitrary)]
pub struct Members {
    of_another_cluster: bool,
    /// Of each node from 1 on: what it takes part in, and whether it voted before; 0 if it is no member.
    parts: [u8; NODES as usize],
    /// So many more, who take no part in anything else.
    crowd: u8,
    priority: u8,
    registered: bool,
}

impl Members {
    /// The payload of its entry; something else if there can be no such list.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let member = |(id, &part): (u64, &u8)| {
            let suffrage = match part % 8 {
                1 => Suffrage::Voter,
                2 => Suffrage::Learner,
                3 => Suffrage::Witness,
                4 => Suffrage::Joining,
                5 => Suffrage::Leaving,
                6 => Suffrage::LeavingWitness,
                7 => Suffrage::JoiningWitness,
                _ => return None,
            };
            let member = Member::new(node(id), suffrage, "h:1").ok()?;
            let incarnation = self.registered.then_some(Incarnation(id.into()));
            Some(Member { outgoing_voter: part & 8 != 0, priority: self.priority & part, incarnation, ..member })
        };
        let crowd = (0..u64::from(self.crowd % 20)).filter_map(|more| Member::voter(node(100 + more), "").ok());
        let members = (1..).zip(&self.parts).filter_map(member).chain(crowd);
        let cluster = if self.of_another_cluster { ClusterId(8) } else { CLUSTER };
        let limits = SessionLimits { ttl: Millis(1000), time_step_max: Millis(100), ..SessionLimits::default() };
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        match Configuration::new(cluster, limits, members) {
            Ok(configuration) => configuration.encode(&mut buffer).map(<[u8]>::to_vec).unwrap_or_default(),
            Err(_) => self.parts.to_vec(),
        }
    }
}

/// What an entry holds.
#[derive(Clone, Debug, Arbitrary)]
pub enum Payload {
    Noop,
    Clock,
    Check,
    Stripped,
    Members(Members),
    NoMembers([u8; 3]),
    Command(u8),
    Open { nonce: u8, fifo: bool },
    OfSession { session: Number, sequence: Number, acknowledge: Number },
    Unknown([u8; 2]),
    Verdict { term: Era, index: Number, digest: u8 },
}

impl Payload {
    /// Its kind and its bytes.
    #[must_use]
    pub fn of(&self, marks: &Marks) -> (EntryKind, Vec<u8>) {
        use raft_core::types::{Sequence, SessionId};
        let operation = |operation: Operation<'_>| {
            let mut head = [0; raft_core::session::operation::OPERATION_HEAD_BYTES_MAX];
            let (head, command) = operation.encode(&mut head);
            (EntryKind::Operation, [head, command].concat())
        };
        match self {
            Payload::Noop => (EntryKind::Noop, Vec::new()),
            Payload::Clock => (EntryKind::Clock, Vec::new()),
            Payload::Check => (EntryKind::Check, Vec::new()),
            Payload::Stripped => (EntryKind::Stripped, Vec::new()),
            Payload::Members(members) => (EntryKind::Configuration, members.payload()),
            Payload::NoMembers(bytes) => (EntryKind::Configuration, bytes.to_vec()),
            Payload::Command(length) => operation(Operation::Plain { command: Bytes(&vec![9; usize::from(*length)]) }),
            Payload::Open { nonce, fifo } => {
                operation(Operation::Open { nonce: Nonce(u128::from(*nonce)), fifo: *fifo })
            }
            Payload::OfSession { session, sequence, acknowledge } => operation(Operation::Command {
                session: SessionId(session.of(marks)),
                sequence: Sequence(sequence.of(marks)),
                acknowledge: Sequence(acknowledge.of(marks)),
                command: Bytes(b"x"),
            }),
            Payload::Unknown(bytes) => (EntryKind::Operation, bytes.to_vec()),
            Payload::Verdict { term, index, digest } => {
                let numbers = [term.of(marks).0, index.of(marks), u64::from(*digest)];
                (EntryKind::Verdict, numbers.map(u64::to_le_bytes).concat())
            }
        }
    }
}

/// An entry, by what makes it differ from the one before it.
#[derive(Clone, Debug, Arbitrary)]
pub struct Written {
    terms_later: u8,
    millis_later: i8,
    payload: Payload,
}

/// A snapshot.
#[derive(Clone, Debug, Arbitrary)]
pub struct Taken {
    through: Id,
    time: Number,
    configuration: Id,
    members: Members,
    /// How long the head says that the session table is, and how much follows.
    session_bytes: Number,
    rest: u8,
    lie: Lie,
}

/// What of a snapshot's name is not true.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Lie {
    None,
    Checksum,
    Longer(u8),
    Shorter(u8),
    Length(u64),
    Content(u8),
}

/// What liars agree on: the snapshot of which they send parts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    id: SnapshotId,
    content: Vec<u8>,
}

impl Taken {
    fn of(&self, marks: &Marks) -> Snapshot {
        let members = self.members.payload();
        let head = Head {
            configuration: self.configuration.of(marks),
            configuration_bytes: u32::try_from(members.len()).unwrap_or(0),
            session_bytes: self.session_bytes.of(marks),
            check: None,
            terms: Terms::NONE,
        };
        let mut content = [head.encode(&mut [0; HEAD_BYTES_MAX]), &members, &vec![5; usize::from(self.rest)]].concat();
        if let Lie::Content(at) = self.lie {
            content[usize::from(at) % HEAD_BYTES] ^= 1;
        }
        let (bytes, checksum) = (content.len() as u64, crc32c(0, &content));
        let (bytes, checksum) = match self.lie {
            Lie::Checksum => (bytes, checksum ^ 1),
            Lie::Longer(by) => (bytes + u64::from(by), checksum),
            Lie::Shorter(by) => (bytes.saturating_sub(by.into()), checksum),
            Lie::Length(bytes) => (bytes, checksum),
            Lie::None | Lie::Content(_) => (bytes, checksum),
        };
        let (through, time) = (self.through.of(marks), ClusterTime(self.time.of(marks)));
        Snapshot { id: SnapshotId { through, time, bytes, checksum }, content }
    }
}

/// What a message says.
#[derive(Clone, Debug, Arbitrary)]
pub enum Said {
    PreVote {
        last: Id,
    },
    PreVoteReply {
        granted: bool,
    },
    Vote {
        last: Id,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        previous: Id,
        commit: Number,
        round: u8,
        entries: Vec<Written>,
    },
    AppendReply {
        round: u8,
        matched: Number,
        rejected: Option<(Number, Id)>,
    },
    ReadRequest {
        ticket: Number,
    },
    ReadReply {
        ticket: Number,
        index: Number,
    },
    Forward {
        secret: Option<u8>,
        payload: Payload,
    },
    Forwarded {
        entry: Option<Id>,
    },
    Campaign,
    Removed {
        by: Id,
    },
    Forgot {
        acknowledged: Id,
    },
    NewSnapshot {
        snapshot: Taken,
        offset: u8,
        length: u8,
        round: u8,
    },
    /// The next parts of the snapshot that was begun last.
    MoreSnapshot {
        offset: u16,
        length: u8,
        round: u8,
    },
    AllSnapshot {
        round: u8,
    },
    SnapshotReply {
        through: Id,
        received: Number,
        round: u8,
        resend: bool,
    },
    Digest {
        check: Id,
        digest: u8,
    },
}

/// A message.
#[derive(Clone, Debug, Arbitrary)]
pub struct Sent {
    from: u8,
    misdirected: bool,
    term: Era,
    said: Said,
}

impl Sent {
    /// The message, encoded; `None` if nobody could encode it so that it can be read.
    #[must_use]
    pub fn encode(&self, marks: &Marks, snapshot: &mut Option<Snapshot>) -> Option<Vec<u8>> {
        let records = self.records(marks);
        let (_, forwarded) = match &self.said {
            Said::Forward { payload, .. } => payload.of(marks),
            _ => (EntryKind::Noop, Vec::new()),
        };
        if let Said::NewSnapshot { snapshot: taken, .. } = &self.said {
            *snapshot = Some(taken.of(marks));
        }
        let body = self.body(marks, snapshot.as_ref(), &records, &forwarded)?;
        let from = node(1 + u64::from(self.from) % (NODES + 1));
        let to = node(if self.misdirected { NODE + 1 } else { NODE });
        let message = Message { from, to, term: self.term.of(marks), body };
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).expect("a message fits its bound");
        bytes.truncate(length);
        Some(bytes)
    }

    fn body<'a>(
        &self,
        marks: &Marks,
        snapshot: Option<&'a Snapshot>,
        records: &'a [u8],
        forwarded: &'a [u8],
    ) -> Option<Body<'a>> {
        let round = |round: u8| Round(if round == u8::MAX { u64::MAX } else { round.into() });
        let part = |offset: usize, length: usize, of_round: u8| {
            let snapshot = snapshot?;
            let content = &snapshot.content;
            let start = offset.min(content.len());
            let data = Bytes(&content[start..(start + length).min(content.len())]);
            Some(Body::Snapshot { snapshot: snapshot.id, offset: offset as u64, round: round(of_round), data })
        };
        Some(match self.said {
            Said::PreVote { last } => Body::PreVote { last: last.of(marks) },
            Said::PreVoteReply { granted } => Body::PreVoteReply { granted },
            Said::Vote { last, transfer } => Body::Vote { last: last.of(marks), transfer },
            Said::VoteReply { granted } => Body::VoteReply { granted },
            Said::Append { previous, commit, round: of_round, .. } => Body::Append {
                previous: previous.of(marks),
                commit: Index(commit.of(marks)),
                round: round(of_round),
                entries: Records::parse(records).ok()?,
            },
            Said::AppendReply { round: of_round, matched, rejected } => Body::AppendReply {
                round: round(of_round),
                matched: Index(matched.of(marks)),
                rejected: rejected.map(|(previous, hint)| rejection(previous.of(marks), hint.of(marks))),
                counts: of_round % 3 != 0,
            },
            Said::ReadRequest { ticket } => Body::ReadRequest { ticket: ReadTicket(ticket.of(marks)) },
            Said::ReadReply { ticket, index } => {
                Body::ReadReply { ticket: ReadTicket(ticket.of(marks)), index: Index(index.of(marks)) }
            }
            Said::Forward { secret, .. } => Body::Forward {
                ticket: ForwardTicket(1),
                first: ForwardTicket(1),
                round: Round(1),
                secret: secret.map(|secret| Nonce(secret.into())),
                operation: Operation::decode(forwarded).ok()?,
            },
            Said::Forwarded { entry } => Body::Forwarded {
                ticket: ForwardTicket(1),
                outcome: entry.map(|entry| entry.of(marks)).ok_or(raft_core::message::ProposeError::Busy),
            },
            Said::Campaign => Body::Campaign,
            Said::Removed { by } => Body::Expelled { reason: Expulsion::Removed { by: by.of(marks) } },
            Said::Forgot { acknowledged } => Body::Expelled { reason: forgot(acknowledged.of(marks)) },
            Said::NewSnapshot { offset, length, round, .. } => part(offset.into(), length.into(), round)?,
            Said::MoreSnapshot { offset, length, round } => part(offset.into(), length.into(), round)?,
            Said::AllSnapshot { round } => part(0, usize::from(u16::MAX), round)?,
            Said::SnapshotReply { through, received, round: of_round, resend } => Body::SnapshotReply {
                through: through.of(marks),
                received: received.of(marks),
                round: round(of_round),
                resend,
                counts: of_round % 3 != 0,
            },
            Said::Digest { check, digest } => {
                Body::Digest { check: check.of(marks), digest: digest.into(), by: node(1 + u64::from(digest) % NODES) }
            }
        })
    }

    /// The records of an append: they follow its `previous`, as anything else is refused before it gets far.
    fn records(&self, marks: &Marks) -> Vec<u8> {
        let Said::Append { previous, entries, .. } = &self.said else { return Vec::new() };
        let (mut id, mut time, mut bytes) = (previous.of(marks), marks.time, Vec::new());
        for entry in entries.iter().take(ENTRIES_MAX) {
            id = EntryId::new(Term(id.term.0.saturating_add(entry.terms_later.into())), id.index.next());
            // The first one may be of any time; those behind it go on from there.
            let earlier = if bytes.is_empty() { i64::MIN } else { 0 };
            time = ClusterTime(time.0.saturating_add_signed(i64::from(entry.millis_later).max(earlier)));
            let (kind, payload) = entry.payload.of(marks);
            let Ok(header) = EntryHeader::new(id, time, kind, &[&payload]) else { return bytes };
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&payload);
        }
        bytes
    }
}

fn rejection(previous: u64, hint: EntryId) -> Rejection {
    Rejection { previous: Index(previous), hint }
}

/// Said of the first member with that id, or of one that was added lately.
fn forgot(acknowledged: EntryId) -> Expulsion {
    let added = if acknowledged.index.0 % 2 == 0 { Index(1) } else { acknowledged.index };
    Expulsion::Forgot { acknowledged, added }
}
