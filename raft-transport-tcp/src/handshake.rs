//! The handshake: who dials says who it is and whom it wants, who accepts says who it is, or why
//! not. No message of Raft is read before.
//!
//! Bodies are postcard. A [`Hello`] begins with the bytes `RAFT` and the range of protocol
//! versions, in that place in every version to come. A body grows at its end: what an older node leaves out has a
//! value that says so, and what a newer one adds is passed over.

use heapless::String;
use raft_core::configuration::ADDRESS_BYTES_MAX;
use raft_core::types::{ClusterId, ClusterKey, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The protocol version that this code speaks.
pub const PROTOCOL_VERSION: u8 = 2;
/// The longest body of a frame before the handshake is done, in bytes.
pub const HANDSHAKE_BYTES_MAX: usize = 1024;

const MAGIC: [u8; 4] = *b"RAFT";

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id there.
    pub node: NodeId,
    /// The life of its storage.
    pub incarnation: Incarnation,
    /// The checksum of the configuration the cluster was created with; 0 if the node does not know it, which is
    /// compared with nothing: one that joined by a snapshot has never seen entry 1.
    pub configuration: u32,
}

/// One process that runs a node: drawn at random at each start. It tells a process from another that runs with a copy
/// of its storage, which nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId(pub u128);

impl ProcessId {
    /// That of a node of an older program, which does not say, and of clients. It is compared with nothing.
    pub const UNTOLD: ProcessId = ProcessId(0);

    /// Whether two processes are known to be two.
    #[must_use]
    pub fn differs(self, other: ProcessId) -> bool {
        self != other && self != ProcessId::UNTOLD && other != ProcessId::UNTOLD
    }

    /// What stands after the fields that every version has, and what comes after that.
    fn at_the_end(rest: &[u8]) -> Option<(ProcessId, &[u8])> {
        if rest.is_empty() { Some((ProcessId::UNTOLD, rest)) } else { postcard::take_from_bytes(rest).ok() }
    }
}

/// Where a node listens, as `host:port`; empty if it does not say.
pub type Address = String<ADDRESS_BYTES_MAX>;

/// What who dials says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hello {
    magic: [u8; 4],
    version_min: u8,
    version_max: u8,
    /// Who dials.
    pub role: Role,
    /// In which process.
    pub process: ProcessId,
    /// The secret of the cluster's nodes, from a node: whoever knows no more than what clients are told is not one.
    pub key: ClusterKey,
}

/// The fields that a hello had at first.
#[derive(Deserialize)]
struct FirstHello {
    magic: [u8; 4],
    version_min: u8,
    version_max: u8,
    role: Role,
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A node of the cluster.
    Node {
        /// Who it is.
        identity: Identity,
        /// Whom it wants to reach.
        wanted: NodeId,
        /// Where it can be dialed itself, by a node that knows no other address of it.
        address: Address,
    },
    /// A client of the cluster; of any, if it does not say which.
    Client {
        /// The cluster it wants to reach.
        cluster: Option<ClusterId>,
    },
    /// Whoever creates a cluster. A request follows at once, see `setup`; a node that belongs to a cluster refuses, as
    /// [`Refusal::Created`].
    Setup,
}

/// What who accepts answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Welcome {
    /// The protocol version that is spoken from now on.
    pub version: u8,
    /// Who accepted.
    pub identity: Identity,
    /// In which process.
    pub process: ProcessId,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No common version.
    #[error("no protocol version is known to both: the other side knows {version_min} to {version_max}")]
    Version {
        /// The lowest version the refuser knows.
        version_min: u8,
        /// The highest.
        version_max: u8,
    },
    /// Another cluster.
    #[error("it is a node of another cluster, {cluster}: check the addresses and the data directory")]
    OtherCluster {
        /// The refuser's cluster.
        cluster: ClusterId,
    },
    /// Created with other members or limits.
    #[error("it was created with other members or session limits: give all nodes of a cluster the same")]
    OtherConfiguration,
    /// Another node than was wanted.
    #[error("node {node} answers at this address, not the one that was wanted: check the addresses")]
    OtherNode {
        /// The refuser.
        node: NodeId,
    },
    /// Not a member, as far as the refuser knows, and there is no place for another stranger.
    #[error("it does not know node {node} as a member, and has no place for another stranger: try again later")]
    NotMember {
        /// The node that dialed.
        node: NodeId,
    },
    /// Two nodes with one id.
    #[error(
        "two nodes claim to be node {node}: stop one of them. If its data was wiped or copied, it must not come \
         back under this id: remove the node from the cluster, and add it anew under a new id"
    )]
    SameId {
        /// The id.
        node: NodeId,
    },
    /// No room for another connection.
    #[error("it has as many connections as it can; try again later")]
    TooMany,
    /// The first frame was no hello.
    #[error("the first bytes were no greeting of this protocol")]
    NoHello,
    /// The configuration names another storage for this member.
    #[error(
        "the storage of node {node} is not the one that the cluster's configuration names: its data was wiped, \
         copied or restored. Remove the node from the cluster, and add it anew under a new id with an empty storage"
    )]
    OtherStorage {
        /// The member.
        node: NodeId,
    },
    /// Another process with the same storage is linked, and was heard a short while ago. It may have ended without a
    /// sign of it; or it runs, and the storage was copied.
    #[error(
        "it is linked with another process that has the storage of node {node}. If that has ended, it will be noticed \
         within seconds; if it runs, the data directory was copied: stop this process"
    )]
    AlreadyLinked {
        /// The node.
        node: NodeId,
    },
    /// The other process with the same storage was heard long after this one had begun to try: they are two.
    #[error(
        "two processes run with the storage of node {node}: its data directory was copied. Stop this process and delete \
         its copy: it must not take the place of the other one, whose votes and entries it does not know"
    )]
    Copied {
        /// The node.
        node: NodeId,
    },
    /// The node belongs to no cluster yet.
    #[error(
        "the node at this address is empty and waits until a cluster is created with it or it is added to one; if it was \
         a member, its data is gone, and it must be removed and added under a new id"
    )]
    Waiting,
    /// The node belongs to a cluster: said to whoever creates one.
    #[error("it is node {node} of cluster {cluster} already")]
    Created {
        /// The cluster.
        cluster: ClusterId,
        /// The node's id there.
        node: NodeId,
    },
    /// The secret of the cluster's nodes is another one.
    #[error("it does not know the key of the cluster: check its data directory, which must be made by this cluster")]
    WrongKey,
}

impl Hello {
    /// The greeting of a client, or of a node that does not say which process of it this is.
    #[must_use]
    pub fn new(role: Role) -> Hello {
        Hello::of(ProcessId::UNTOLD, role)
    }

    /// The greeting of a process.
    #[must_use]
    pub fn of(process: ProcessId, role: Role) -> Hello {
        let (version, key) = (PROTOCOL_VERSION, ClusterKey::NONE);
        Hello { magic: MAGIC, version_min: version, version_max: version, role, process, key }
    }

    /// The same greeting with the secret of the cluster's nodes.
    #[must_use]
    pub fn with_key(self, key: ClusterKey) -> Hello {
        Hello { key, ..self }
    }

    /// Reads a greeting.
    ///
    /// # Errors
    /// [`Refusal::NoHello`] for other bytes, [`Refusal::Version`] if no version is common.
    pub fn decode(body: &[u8]) -> Result<Hello, Refusal> {
        let Some((&[m0, m1, m2, m3, version_min, version_max], _)) = body.split_first_chunk::<6>() else {
            return Err(Refusal::NoHello);
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Refusal::NoHello);
        }
        if !(version_min..=version_max).contains(&PROTOCOL_VERSION) {
            return Err(Refusal::Version { version_min: PROTOCOL_VERSION, version_max: PROTOCOL_VERSION });
        }
        let (FirstHello { magic, version_min, version_max, role }, rest) =
            postcard::take_from_bytes(body).map_err(|_| Refusal::NoHello)?;
        // What stands behind the fields that every version has.
        let (process, rest) = ProcessId::at_the_end(rest).ok_or(Refusal::NoHello)?;
        let key = if rest.is_empty() { Ok((ClusterKey::NONE, rest)) } else { postcard::take_from_bytes(rest) };
        let (key, _) = key.map_err(|_| Refusal::NoHello)?;
        Ok(Hello { magic, version_min, version_max, role, process, key })
    }

    /// What node `own` of a cluster with that key answers, where `is_welcome` knows the members, and whether there is a
    /// place for a stranger. It does not say which process it is.
    ///
    /// # Errors
    /// The first reason not to talk.
    pub fn answer(
        &self,
        own: &Identity,
        key: ClusterKey,
        is_welcome: impl Fn(NodeId) -> bool,
    ) -> Result<Welcome, Refusal> {
        let welcome = Welcome::of(ProcessId::UNTOLD, own);
        match self.role {
            Role::Client { cluster } if cluster.is_some_and(|cluster| cluster != own.cluster) => {
                Err(Refusal::OtherCluster { cluster: own.cluster })
            }
            Role::Client { .. } => Ok(welcome),
            Role::Setup => Err(Refusal::Created { cluster: own.cluster, node: own.node }),
            Role::Node { identity, wanted, .. } => {
                check_peer(own, &identity)?;
                if self.key != key {
                    return Err(Refusal::WrongKey);
                }
                if wanted != own.node {
                    return Err(Refusal::OtherNode { node: own.node });
                }
                if !is_welcome(identity.node) {
                    return Err(Refusal::NotMember { node: identity.node });
                }
                Ok(welcome)
            }
        }
    }
}

impl Welcome {
    /// The answer of a process of this node.
    #[must_use]
    pub fn of(process: ProcessId, own: &Identity) -> Welcome {
        Welcome { version: PROTOCOL_VERSION, identity: *own, process }
    }

    /// Reads a welcome; `None` for other bytes.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Welcome> {
        let ((version, identity), rest) = postcard::take_from_bytes(body).ok()?;
        Some(Welcome { version, identity, process: ProcessId::at_the_end(rest)?.0 })
    }

    /// Checks that the node which accepted is the one that was wanted.
    ///
    /// # Errors
    /// The first reason not to talk.
    pub fn check(&self, own: &Identity, wanted: NodeId) -> Result<(), Refusal> {
        if self.version != PROTOCOL_VERSION {
            return Err(Refusal::Version { version_min: self.version, version_max: self.version });
        }
        check_peer(own, &self.identity)?;
        if self.identity.node == wanted { Ok(()) } else { Err(Refusal::OtherNode { node: self.identity.node }) }
    }
}

fn check_peer(own: &Identity, peer: &Identity) -> Result<(), Refusal> {
    if peer.cluster != own.cluster {
        return Err(Refusal::OtherCluster { cluster: own.cluster });
    }
    if peer.node == own.node {
        return Err(Refusal::SameId { node: own.node });
    }
    if peer.configuration != own.configuration && peer.configuration != 0 && own.configuration != 0 {
        return Err(Refusal::OtherConfiguration);
    }
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests {
    use super::*;

    fn identity(cluster: u128, node: u64, configuration: u32) -> Identity {
        let node = NodeId::new(node).unwrap();
        Identity { cluster: ClusterId(cluster), node, incarnation: Incarnation(u128::from(node.get())), configuration }
    }

    fn dial(identity: Identity, wanted: u64) -> Result<Welcome, Refusal> {
        let address = Address::try_from("host:7000").unwrap();
        let hello = Hello::new(Role::Node { identity, wanted: NodeId::new(wanted).unwrap(), address });
        let hello = hello.with_key(ClusterKey(7));
        let mut buffer = [0; HANDSHAKE_BYTES_MAX];
        let body = postcard::to_slice(&hello, &mut buffer).unwrap();
        Hello::decode(body).unwrap().answer(&self::identity(1, 2, 9), ClusterKey(7), |node| node.get() <= 3)
    }

    #[test]
    fn nodes_that_do_not_belong_together_are_told_why() {
        assert!(dial(identity(1, 1, 9), 2).is_ok());
        assert_eq!(dial(identity(5, 1, 9), 2), Err(Refusal::OtherCluster { cluster: ClusterId(1) }));
        assert_eq!(dial(identity(1, 2, 9), 2), Err(Refusal::SameId { node: NodeId::new(2).unwrap() }));
        assert_eq!(dial(identity(1, 1, 8), 2), Err(Refusal::OtherConfiguration));
        assert!(dial(identity(1, 1, 0), 2).is_ok(), "it has joined, and does not know");
        assert_eq!(dial(identity(1, 1, 9), 3), Err(Refusal::OtherNode { node: NodeId::new(2).unwrap() }));
        assert_eq!(dial(identity(1, 4, 9), 2), Err(Refusal::NotMember { node: NodeId::new(4).unwrap() }));
    }

    #[test]
    fn a_hello_has_these_bytes_and_a_bound_on_its_address() {
        let longest = str::from_utf8(&[b'x'; ADDRESS_BYTES_MAX]).unwrap();
        let role = |address| Role::Node { identity: identity(1, 2, 9), wanted: NodeId::new(3).unwrap(), address };
        let hello = |address| Hello::of(ProcessId(300), role(address)).with_key(ClusterKey(5));
        let mut buffer = [0; HANDSHAKE_BYTES_MAX];
        let body = postcard::to_slice(&hello(Address::try_from("h:7").unwrap()), &mut buffer).unwrap();
        assert_eq!(body, b"RAFT\x02\x02\x00\x01\x02\x02\x09\x03\x03h:7\xac\x02\x05");
        let body = postcard::to_slice(&hello(Address::try_from(longest).unwrap()), &mut buffer).unwrap();
        let at = body.len() - ADDRESS_BYTES_MAX - 4;
        assert!(Hello::decode(body).is_ok());
        body[at] += 1;
        assert_eq!(Hello::decode(&buffer), Err(Refusal::NoHello), "one byte over the bound");
    }

    #[test]
    fn what_older_nodes_leave_out_and_newer_ones_add_is_read() {
        let first = b"RAFT\x02\x02\x00\x01\x02\x02\x09\x03\x03h:7";
        let read = |rest: &[u8]| Hello::decode(&[first, rest].concat()).map(|hello| hello.process);
        assert_eq!(read(b""), Ok(ProcessId::UNTOLD));
        assert_eq!(read(b"\xac\x02"), Ok(ProcessId(300)));
        assert_eq!(read(b"\xac\x02 of the future"), Ok(ProcessId(300)));
        assert_eq!(read(b"\xac"), Err(Refusal::NoHello), "cut");
        let read = |rest: &[u8]| Hello::decode(&[first, rest].concat()).map(|hello| hello.key);
        assert_eq!(read(b"\xac\x02"), Ok(ClusterKey::NONE));
        assert_eq!(read(b"\xac\x02\x05 of the future"), Ok(ClusterKey(5)));
        assert_eq!(read(b"\xac\x02\x80"), Err(Refusal::NoHello), "cut");

        let first = b"\x02\x01\x02\x02\x09";
        let read = |rest: &[u8]| Welcome::decode(&[first, rest].concat());
        let welcome = |process| Some(Welcome::of(ProcessId(process), &identity(1, 2, 9)));
        assert_eq!([read(b""), read(b"\xac\x02"), read(b"\x07 of the future")], [0, 300, 7].map(welcome));
        assert_eq!(read(b"\xac"), None, "cut");
        let mut buffer = [0; HANDSHAKE_BYTES_MAX];
        assert_eq!(postcard::to_slice(&welcome(300).unwrap(), &mut buffer).unwrap(), b"\x02\x01\x02\x02\x09\xac\x02");
    }

    #[test]
    fn clients_may_name_their_cluster() {
        let own = identity(1, 2, 9);
        let answer = |cluster| Hello::new(Role::Client { cluster }).answer(&own, ClusterKey(7), |_| true);
        assert!(answer(None).is_ok());
        assert!(answer(Some(ClusterId(1))).is_ok());
        assert!(answer(Some(ClusterId(2))).is_err());
    }

    #[test]
    fn a_node_needs_the_key_of_the_cluster_and_whoever_creates_one_is_told_that_there_is_one() {
        let own = identity(1, 2, 9);
        let role = Role::Node { identity: identity(1, 1, 9), wanted: own.node, address: Address::new() };
        let answer = |hello: Hello| hello.answer(&own, ClusterKey(7), |_| true).map(drop);
        assert_eq!(answer(Hello::new(role.clone())), Err(Refusal::WrongKey));
        assert_eq!(answer(Hello::new(role.clone()).with_key(ClusterKey(8))), Err(Refusal::WrongKey));
        assert_eq!(answer(Hello::new(role).with_key(ClusterKey(7))), Ok(()));
        let created = Refusal::Created { cluster: ClusterId(1), node: own.node };
        assert_eq!(answer(Hello::new(Role::Setup)), Err(created));
    }

    #[test]
    fn other_bytes_and_other_versions_are_told_apart() {
        assert_eq!(Hello::decode(b"GET / HTTP/1.1"), Err(Refusal::NoHello));
        assert_eq!(Hello::decode(b"RAF"), Err(Refusal::NoHello));
        assert!(matches!(Hello::decode(b"RAFT\x03\x07 of the future"), Err(Refusal::Version { .. })));
        assert_eq!(Hello::decode(b"RAFT\x02\x02\xff"), Err(Refusal::NoHello));
    }

    #[test]
    fn who_dials_checks_the_welcome_too() {
        let own = identity(1, 1, 9);
        let check = |identity, wanted| Welcome::of(ProcessId(1), &identity).check(&own, NodeId::new(wanted).unwrap());
        assert_eq!(check(identity(1, 2, 9), 2), Ok(()));
        assert!(check(identity(1, 3, 9), 2).is_err());
        assert!(check(identity(2, 2, 9), 2).is_err());
        assert!(check(identity(1, 2, 8), 2).is_err());
        assert!(check(identity(1, 1, 9), 1).is_err(), "it reached itself");
    }
}
