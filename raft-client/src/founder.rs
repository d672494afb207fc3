//! Creating a cluster, once, out of nodes that wait.

mod founding;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use raft_core::configuration::{ConfigurationError, Lease};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, ClusterKey, NodeId};
use raft_transport_tcp::frame::{Frame, FrameKind, header};
use raft_transport_tcp::handshake::{HANDSHAKE_BYTES_MAX, Hello, Refusal, Role};
use raft_transport_tcp::setup::{SETUP_BYTES_MAX, SetupReply, SetupRequest};
use thiserror::Error;

use founding::{Founding, Next, Wanted};

/// How long one node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before a node is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Creates a cluster out of nodes that wait (see [`raft_transport_tcp::setup`] for how).
///
/// It can be cut off at any moment and run again, also while another one runs: with the same members and limits it goes on
/// with the same cluster. It never makes a cluster of nodes of which one belongs to a cluster already.
#[derive(Clone, Debug)]
pub struct Founder {
    members: Vec<(NodeId, String)>,
    limits: SessionLimits,
    lease: Option<Lease>,
    timeout: Duration,
}

/// What a node is, as it says to whoever would create a cluster with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits: it is empty, or has promised to be created.
    Waits(SetupReply),
    /// It belongs to a cluster.
    Member {
        /// The cluster.
        cluster: ClusterId,
        /// The node's id there.
        node: NodeId,
    },
    /// It does not answer, for this reason.
    Silent(String),
}

impl Standing {
    /// Asks the node at an address, as `host:port`.
    #[must_use]
    pub fn of(address: &str, timeout: Duration) -> Standing {
        ask(address, &SetupRequest::Ask, Instant::now() + timeout)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founded {
    /// All nodes are members of this cluster now.
    Created(ClusterId),
    /// They were members of this cluster before: nothing was changed.
    Existed(ClusterId),
}

impl Founded {
    /// The cluster's id.
    #[must_use]
    pub fn cluster(self) -> ClusterId {
        match self {
            Founded::Created(cluster) | Founded::Existed(cluster) => cluster,
        }
    }
}

/// A node that a cluster cannot be created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheWay {
    /// The node, as `ID=HOST:PORT`.
    pub node: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for InTheWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.node, self.why)
    }
}

fn listed(nodes: &[InTheWay]) -> String {
    nodes.iter().map(InTheWay::to_string).collect::<Vec<_>>().join("; ")
}

/// Why no cluster was created.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FoundError {
    /// The members or limits are not valid. Nothing has changed.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// No node was named.
    #[error("a cluster needs at least one node")]
    Empty,
    /// One node was named twice. Nothing has changed.
    #[error("{one} and {other} are the same node; give each its own address")]
    SameNode {
        /// The node, as `ID=HOST:PORT`.
        one: String,
        /// The same node.
        other: String,
    },
    /// Some nodes did not answer. Nothing has changed.
    #[error("nothing was changed, since not all nodes answer: {}", listed(.0))]
    Unreachable(Vec<InTheWay>),
    /// Some nodes are not empty, or have promised another creation. Nothing was changed by this founder that another one
    /// could not go on with.
    #[error(
        "no cluster is created with these nodes: {}. A member whose data is gone is not created again: remove it from its \
         cluster and add it under a new id. A promise ends when the node is stopped and gets an empty directory",
        listed(.0)
    )]
    InTheWay(Vec<InTheWay>),
    /// It was begun, and some nodes did not answer any more.
    #[error(
        "the creation was begun and is not finished; run it again with the same members, and it goes on where it was{}{}",
        if nodes.is_empty() { "" } else { ": " },
        listed(nodes)
    )]
    Unfinished {
        /// The cluster that is being created, if it is known.
        cluster: Option<ClusterId>,
        /// The nodes that did not answer.
        nodes: Vec<InTheWay>,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Founder {
    /// Creates a cluster with these voters, each with where it is reached, as `host:port`. All that it does may take as
    /// long as `timeout`.
    #[must_use]
    pub fn new(members: Vec<(NodeId, String)>, timeout: Duration) -> Founder {
        Founder { members, limits: SessionLimits::default(), lease: None, timeout }
    }

    /// With these limits of its session table, which never change.
    #[must_use]
    pub fn limits(self, limits: SessionLimits) -> Founder {
        Founder { limits, ..self }
    }

    /// With leases, which never change; without, if there is none.
    #[must_use]
    pub fn lease(self, lease: Option<Lease>) -> Founder {
        Founder { lease, ..self }
    }

    /// Creates it.
    ///
    /// # Errors
    /// [`FoundError`] says what is in the way, and whether something has changed.
    pub fn found(&self) -> Result<Founded, FoundError> {
        if self.members.is_empty() {
            return Err(FoundError::Empty);
        }
        let wanted = Wanted { members: self.members.clone(), limits: self.limits, lease: self.lease };
        let mut founding = Founding::new(wanted, (ClusterId(random()?), ClusterKey(random()?)))?;
        let end = Instant::now() + self.timeout;
        let mut asked = None;
        loop {
            match founding.next() {
                Next::Done(result) => return result,
                Next::Ask { .. } if Instant::now() >= end => founding.give_up(),
                Next::Ask { place, request } => {
                    if founding.takes_pause() || asked == Some((place, request.clone())) {
                        std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
                    }
                    let address = self.members.get(place).map(|(_, address)| address.as_str()).unwrap_or_default();
                    let heard = ask(address, &request, end.min(Instant::now() + ANSWER_TIMEOUT));
                    asked = Some((place, request));
                    founding.hear(place, heard);
                }
            }
        }
    }
}

fn random() -> Result<u128, FoundError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| FoundError::Random)?;
    Ok(u128::from_le_bytes(bytes))
}

/// One request and its answer, on a connection of its own.
fn ask(address: &str, request: &SetupRequest, end: Instant) -> Standing {
    exchange(address, request, end).unwrap_or_else(|error| Standing::Silent(error.to_string()))
}

fn exchange(address: &str, request: &SetupRequest, end: Instant) -> io::Result<Standing> {
    let left = || Ok(end.saturating_duration_since(Instant::now())).and_then(some_time);
    let unknown = || io::Error::new(io::ErrorKind::NotFound, "the address is not known");
    let target = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
    let mut stream = TcpStream::connect_timeout(&target, left()?)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(left()?))?;
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    let hello = postcard::to_slice(&Hello::new(Role::Setup), &mut buffer).map_err(io::Error::other)?;
    let mut bytes = frame(FrameKind::Hello, hello)?;
    bytes.extend(frame(FrameKind::Setup, &request.encode())?);
    stream.write_all(&bytes)?;
    let (mut arrived, mut chunk) = (Vec::new(), [0; SETUP_BYTES_MAX]);
    loop {
        if let Some(found) = Frame::decode(&arrived, SETUP_BYTES_MAX).map_err(io::Error::other)? {
            return heard(&found);
        }
        stream.set_read_timeout(Some(left()?))?;
        let read = match stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            read => read?,
        };
        arrived.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
}

/// A timeout of zero would mean none.
fn some_time(left: Duration) -> io::Result<Duration> {
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn frame(kind: FrameKind, body: &[u8]) -> io::Result<Vec<u8>> {
    Ok([header(kind, body).map_err(io::Error::other)?.as_slice(), body].concat())
}

fn heard(found: &Frame<'_>) -> io::Result<Standing> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "it does not answer as a node of this program does");
    match found.kind {
        FrameKind::SetupReply => SetupReply::decode(found.body).map(Standing::Waits).ok_or_else(strange),
        FrameKind::Refused => match postcard::from_bytes(found.body) {
            Ok(Refusal::Created { cluster, node }) => Ok(Standing::Member { cluster, node }),
            Ok(refusal) => Err(io::Error::other(refusal)),
            Err(_) => Err(strange()),
        },
        _ => Err(strange()),
    }
}
