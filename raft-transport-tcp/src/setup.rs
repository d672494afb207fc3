//! How a cluster is created with nodes that wait: what is said, and what a node that waits does. No I/O.
//!
//! Whoever creates the cluster (the founder) draws its id and its key, and goes through all nodes twice. First each node
//! *promises* the creation: durably, and to one creation only. When all have, each *completes* it, and is a member from then on.
//! So no node becomes a member before all have promised, and no two clusters are made of nodes that overlap.
//!
//! A founder may be cut off at any message. What it leaves is found by the next one that is asked for the same members: it goes
//! on with the creation that was promised, under its id. Founders that run at once go through the nodes in the same order,
//! that of their incarnations, so that one of them gets the first node that they share, and the other one finds its promise there.
//! A promise is never taken back over the network: who wants another cluster empties the directory of the node.
//!
//! Each connection carries one request: a hello of [`Role::Setup`](crate::handshake::Role::Setup), [`SetupRequest`] right
//! behind it, and then the answer, [`SetupReply`]. A node that belongs to a cluster answers
//! [`Refusal::Created`](crate::handshake::Refusal::Created) instead.

use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration};
use raft_core::types::{ClusterId, ClusterKey, Incarnation, NodeId};
use raft_core::wire::Bytes;
use serde::{Deserialize, Serialize};

/// The longest body of a frame between a founder and a node that waits, in bytes.
pub const SETUP_BYTES_MAX: usize = 4096;

/// A cluster that is being created. Its configuration names the storage of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The secret of the cluster's nodes.
    pub key: ClusterKey,
    /// What the log of each of them begins with.
    pub configuration: Configuration,
}

impl Creation {
    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.configuration.cluster()
    }

    /// The id of the node with that storage; `None` if it is not one of those that the cluster is created with.
    #[must_use]
    pub fn node(&self, storage: Incarnation) -> Option<NodeId> {
        let members = self.configuration.members().iter();
        members.filter(|member| member.incarnation == Some(storage)).map(|member| member.id).next()
    }
}

/// What a founder asks of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupRequest {
    /// What it is.
    Ask,
    /// To promise a creation.
    Promise(Box<Creation>),
    /// To complete the creation that it has promised.
    Complete(ClusterId),
}

/// What a node that waits is: the answer to every request, also to one that it did not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupReply {
    /// It has promised nothing.
    Empty {
        /// The life of its storage.
        incarnation: Incarnation,
    },
    /// It has promised a creation.
    Promised {
        /// The life of its storage.
        incarnation: Incarnation,
        /// The creation.
        creation: Box<Creation>,
    },
}

/// What a node that waits does with a request, before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it only answers.
    Answer,
    /// It promises the creation in the request, durably, as that node of it.
    Promise(NodeId),
    /// It completes the creation that it has promised, and is a member.
    Complete,
}

/// What a node whose storage has that incarnation does with a request, if it has promised `promised`.
#[must_use]
pub fn step(incarnation: Incarnation, promised: Option<&Creation>, request: &SetupRequest) -> Step {
    match (request, promised) {
        (SetupRequest::Promise(creation), None) => creation.node(incarnation).map_or(Step::Answer, Step::Promise),
        (SetupRequest::Complete(cluster), Some(promised)) if promised.cluster() == *cluster => Step::Complete,
        _ => Step::Answer,
    }
}

#[derive(Serialize, Deserialize)]
struct CreationOnWire<'a> {
    key: ClusterKey,
    #[serde(borrow)]
    configuration: Bytes<'a>,
}

#[derive(Serialize, Deserialize)]
enum RequestOnWire<'a> {
    Ask,
    #[serde(borrow)]
    Promise(CreationOnWire<'a>),
    Complete(ClusterId),
}

#[derive(Serialize, Deserialize)]
enum ReplyOnWire<'a> {
    Empty(Incarnation),
    Promised(Incarnation, #[serde(borrow)] CreationOnWire<'a>),
}

impl CreationOnWire<'_> {
    fn read(&self) -> Option<Creation> {
        let configuration = Configuration::decode(self.configuration.0).ok()?;
        Some(Creation { key: self.key, configuration })
    }
}

fn on_wire<'b>(creation: &Creation, buffer: &'b mut [u8]) -> CreationOnWire<'b> {
    let payload = creation.configuration.encode(buffer).expect("the buffer has room for any configuration");
    CreationOnWire { key: creation.key, configuration: Bytes(payload) }
}

fn bytes<T: Serialize>(message: &T) -> Vec<u8> {
    let mut buffer = [0; SETUP_BYTES_MAX];
    postcard::to_slice(message, &mut buffer).expect("no message of a setup is longer than the limit").to_vec()
}

impl SetupRequest {
    /// The body of its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        bytes(&match self {
            SetupRequest::Ask => RequestOnWire::Ask,
            SetupRequest::Promise(creation) => RequestOnWire::Promise(on_wire(creation, &mut buffer)),
            SetupRequest::Complete(cluster) => RequestOnWire::Complete(*cluster),
        })
    }

    /// Reads the body of a frame; `None` for other bytes.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<SetupRequest> {
        Some(match postcard::from_bytes(body).ok()? {
            RequestOnWire::Ask => SetupRequest::Ask,
            RequestOnWire::Promise(creation) => SetupRequest::Promise(Box::new(creation.read()?)),
            RequestOnWire::Complete(cluster) => SetupRequest::Complete(cluster),
        })
    }
}

impl SetupReply {
    /// The body of its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        bytes(&match self {
            SetupReply::Empty { incarnation } => ReplyOnWire::Empty(*incarnation),
            SetupReply::Promised { incarnation, creation } => {
                ReplyOnWire::Promised(*incarnation, on_wire(creation, &mut buffer))
            }
        })
    }

    /// Reads the body of a frame; `None` for other bytes.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<SetupReply> {
        Some(match postcard::from_bytes(body).ok()? {
            ReplyOnWire::Empty(incarnation) => SetupReply::Empty { incarnation },
            ReplyOnWire::Promised(incarnation, creation) => {
                SetupReply::Promised { incarnation, creation: Box::new(creation.read()?) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use raft_core::configuration::{ADDRESS_BYTES_MAX, MEMBERS_MAX, Member};
    use raft_core::session::limits::SessionLimits;

    use super::*;

    /// A creation with nodes from 1 on, whose storages are called after them.
    fn creation(cluster: u128, members: usize, address: &str) -> Creation {
        let members = (1..=members as u64).map(|id| {
            let member = Member::voter(NodeId::new(id).unwrap(), address).unwrap();
            Member { incarnation: Some(Incarnation(u128::from(id) << 100)), ..member }
        });
        let configuration = Configuration::new(ClusterId(cluster), SessionLimits::default(), members).unwrap();
        Creation { key: ClusterKey(u128::MAX), configuration }
    }

    const SECOND: Incarnation = Incarnation(2 << 100);

    #[test]
    fn a_node_promises_once_and_completes_what_it_has_promised() {
        let (one, other) = (creation(1, 3, "h:1"), creation(2, 3, "h:1"));
        let promise = |creation: &Creation| SetupRequest::Promise(Box::new(creation.clone()));
        let second = NodeId::new(2).unwrap();
        assert_eq!(step(SECOND, None, &SetupRequest::Ask), Step::Answer);
        assert_eq!(step(SECOND, None, &promise(&one)), Step::Promise(second));
        assert_eq!(step(Incarnation(5), None, &promise(&one)), Step::Answer, "another storage was meant");
        assert_eq!(step(SECOND, None, &SetupRequest::Complete(one.cluster())), Step::Answer, "it was not promised");
        for again in [&one, &other] {
            assert_eq!(step(SECOND, Some(&one), &promise(again)), Step::Answer, "what was promised stays");
        }
        assert_eq!(step(SECOND, Some(&one), &SetupRequest::Complete(other.cluster())), Step::Answer);
        assert_eq!(step(SECOND, Some(&one), &SetupRequest::Complete(one.cluster())), Step::Complete);
    }

    #[test]
    fn the_longest_message_fits_and_all_are_read_as_they_were_written() {
        let address = "x".repeat(ADDRESS_BYTES_MAX);
        let longest = creation(u128::MAX, MEMBERS_MAX, &address);
        for request in [
            SetupRequest::Ask,
            SetupRequest::Promise(Box::new(longest.clone())),
            SetupRequest::Complete(ClusterId(u128::MAX)),
        ] {
            assert_eq!(SetupRequest::decode(&request.encode()), Some(request));
        }
        let incarnation = Incarnation(u128::MAX);
        for reply in
            [SetupReply::Empty { incarnation }, SetupReply::Promised { incarnation, creation: Box::new(longest) }]
        {
            assert_eq!(SetupReply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn messages_have_these_bytes_and_others_are_none() {
        assert_eq!(SetupRequest::Ask.encode(), [0]);
        assert_eq!(SetupRequest::Complete(ClusterId(300)).encode(), [2, 0xac, 2]);
        assert_eq!(SetupReply::Empty { incarnation: Incarnation(5) }.encode(), [0, 5]);
        let creation = Creation { key: ClusterKey(9), ..creation(1, 1, "h:1") };
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let payload = creation.configuration.encode(&mut buffer).unwrap();
        let body = [&[1, 9, u8::try_from(payload.len()).unwrap()][..], payload].concat();
        assert_eq!(SetupRequest::Promise(Box::new(creation.clone())).encode(), body);
        let incarnation = Incarnation(5);
        let body = [&[1, 5, 9, u8::try_from(payload.len()).unwrap()][..], payload].concat();
        assert_eq!(SetupReply::Promised { incarnation, creation: Box::new(creation) }.encode(), body);
        for cut in 1..body.len() {
            assert_eq!(SetupReply::decode(&body[..cut]), None);
        }
        for bytes in [&b""[..], b"\x03", b"\xff\xff", b"\x01\x05\x09\x02\x01\x01"] {
            assert_eq!((SetupRequest::decode(bytes), SetupReply::decode(bytes)), (None, None));
        }
    }
}
