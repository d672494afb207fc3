//! What is under way between the nodes. Messages wait there in no order: any of them may be
//! delivered next, or never, which is how one is lost.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft_core::client::protocol::RoleName;
use raft_core::message::{Body, Message};
use raft_core::types::{NodeId, Term};

use crate::node::Core;

/// A message under way, encoded as on the wire.
pub(crate) struct Envelope {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) term: Term,
    pub(crate) kind: Kind,
    bytes: Box<[u8]>,
    fingerprint: u64,
}

/// What of a message's kind matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PreVote,
    PreVoteReply { granted: bool },
    VoteReply,
    AppendReply,
    Other,
}

impl Envelope {
    pub(crate) fn new(message: &Message<'_>) -> Envelope {
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).expect("the buffer has room for the message");
        bytes.truncate(length);
        let Message { from, to, term, ref body } = *message;
        let kind = match *body {
            Body::PreVote { .. } => Kind::PreVote,
            Body::PreVoteReply { granted } => Kind::PreVoteReply { granted },
            Body::VoteReply { .. } => Kind::VoteReply,
            Body::AppendReply { .. } => Kind::AppendReply,
            _ => Kind::Other,
        };
        Envelope { from, to, term, kind, fingerprint: fingerprint(&bytes), bytes: bytes.into() }
    }

    pub(crate) fn message(&self) -> Message<'_> {
        Message::decode(&self.bytes).expect("it was encoded as a message")
    }

    /// Whether it is of an earlier term than its receiver, or answers what that does not wait for
    /// any more: the receiver should take nothing from it.
    pub(crate) fn is_stale(&self, receiver: &Core) -> bool {
        let (term, role) = (receiver.term(), receiver.role());
        match self.kind {
            // These two are of the term that would be campaigned in.
            Kind::PreVote | Kind::PreVoteReply { granted: true } => self.term <= term,
            // Nobody is candidate or leader in the same term again.
            Kind::VoteReply if self.term == term => role != RoleName::Candidate,
            Kind::AppendReply if self.term == term => role != RoleName::Leader,
            _ => self.term < term,
        }
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Envelope) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Hash for Envelope {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.fingerprint.hash(hasher);
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}→{} in term {}: ", self.from, self.to, self.term)?;
        match self.message().body {
            Body::Append { previous, commit, round, entries } => {
                let ids: Vec<String> = entries.iter().map(|entry| entry.header.id().to_string()).collect();
                let (round, entries) = (round.0, ids.join(" "));
                write!(formatter, "append [{entries}] behind {previous}, commit {commit}, round {round}")
            }
            body => write!(formatter, "{body:?}"),
        }
    }
}

/// The messages under way, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Invariant: in the order of their fingerprints.
    messages: Vec<Arc<Envelope>>,
}

impl Network {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Envelope>> {
        self.messages.iter()
    }

    pub(crate) fn insert(&mut self, envelope: Arc<Envelope>) {
        if let Err(place) = self.place(&envelope) {
            self.messages.insert(place, envelope);
        }
    }

    pub(crate) fn remove(&mut self, envelope: &Envelope) {
        if let Ok(place) = self.place(envelope) {
            self.messages.remove(place);
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Envelope) -> bool) {
        self.messages.retain(|envelope| keep(envelope));
    }

    fn place(&self, envelope: &Envelope) -> Result<usize, usize> {
        self.messages.binary_search_by_key(&envelope.fingerprint, |other| other.fingerprint)
    }
}

impl Hash for Network {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.messages.len().hash(hasher);
        self.messages.iter().for_each(|envelope| envelope.fingerprint.hash(hasher));
    }
}
