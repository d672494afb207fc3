//! The port of a node that belongs to no cluster yet.
//!
//! It answers a founder's requests ([`crate::setup`]), and takes note of members of clusters that dial it: that is how a
//! node which was added learns of it. All others are told that it waits.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use raft_core::types::{ClusterId, ClusterKey, NodeId};

use crate::connection::Connection;
use crate::frame::FrameKind;
use crate::handshake::{Hello, Refusal, Role};
use crate::network::BindError;
use crate::setup::{SETUP_BYTES_MAX, SetupReply, SetupRequest};

const LISTENER: Token = Token(0);

/// The most connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may last, whatever it does.
const LIFE_MAX: Duration = Duration::from_secs(5);
/// How often connections are looked after, at least.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// A member of a cluster has dialed this node as one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The cluster.
    pub cluster: ClusterId,
    /// The secret of its nodes.
    pub key: ClusterKey,
    /// The member that this node is to be.
    pub node: NodeId,
    /// The member that dialed.
    pub from: NodeId,
    /// Where that says it can be dialed itself, as `host:port`; empty if it does not say.
    pub address: String,
}

/// What a node that waits answers a founder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It waits still.
    Waits(SetupReply),
    /// It is a member from now on.
    Created {
        /// The cluster.
        cluster: ClusterId,
        /// The node's id there.
        node: NodeId,
    },
}

/// Decides what a node that waits does.
pub trait Candidate {
    /// Why it cannot go on.
    type Error;

    /// Follows a founder's request, and returns the answer.
    ///
    /// # Errors
    /// It cannot go on: the founder gets no answer.
    fn setup(&mut self, request: &SetupRequest) -> Result<Reply, Self::Error>;

    /// Takes note that a member has dialed this node. Anyone can say so: it has to be checked.
    ///
    /// # Errors
    /// It cannot go on.
    fn invited(&mut self, invitation: Invitation) -> Result<(), Self::Error>;
}

/// The port of a node that waits. Dropping it frees the port.
#[derive(Debug)]
pub struct WaitingPort {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    connections: BTreeMap<usize, Visitor>,
    next: usize,
}

#[derive(Debug)]
struct Visitor {
    connection: Connection,
    /// It has said that it creates a cluster; its request follows.
    founds: bool,
    /// It has been answered: the connection ends when that is sent.
    answered: bool,
    since: Instant,
}

/// What becomes of a connection.
enum Fate {
    Stays,
    Ends,
}

impl WaitingPort {
    /// Opens the port.
    ///
    /// # Errors
    /// [`BindError`] names the address and what is wrong with it.
    pub fn bind(address: SocketAddr) -> Result<WaitingPort, BindError> {
        let mut listener = crate::network::listen(address)?;
        let poll = Poll::new().map_err(BindError::Poll)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(BindError::Poll)?;
        let (events, connections) = (Events::with_capacity(CONNECTIONS_MAX), BTreeMap::new());
        Ok(WaitingPort { poll, events, listener, connections, next: 1 })
    }

    /// Waits for visitors, for `timeout` at most, and has `candidate` answer them.
    ///
    /// # Errors
    /// The candidate's, and those of a system that cannot wait for sockets.
    pub fn wait<C: Candidate>(&mut self, candidate: &mut C, timeout: Duration) -> Result<(), WaitError<C::Error>> {
        match self.poll.poll(&mut self.events, Some(timeout.min(SWEEP_INTERVAL))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(WaitError::System(error)),
            _ => {}
        }
        let now = Instant::now();
        for event in &self.events {
            let token = event.token().0;
            let Some(visitor) = self.connections.get_mut(&token) else { continue };
            visitor.connection.announce(event);
            if let Fate::Ends = visitor.go_on(candidate, now).map_err(WaitError::Candidate)? {
                self.connections.remove(&token);
            }
        }
        self.connections.retain(|_, visitor| now.duration_since(visitor.since) < LIFE_MAX);
        self.accept(now);
        Ok(())
    }

    /// Takes in those who have come. It is tried at each turn, so that a lack of descriptors is waited out.
    fn accept(&mut self, now: Instant) {
        while self.connections.len() < CONNECTIONS_MAX
            && let Ok((stream, _)) = self.listener.accept()
        {
            let (mut connection, token) = (Connection::new(stream, now), self.next);
            self.next = self.next.checked_add(1).filter(|next| *next < usize::MAX).unwrap_or(1);
            if connection.register(self.poll.registry(), Token(token)).is_ok() {
                self.connections.insert(token, Visitor { connection, founds: false, answered: false, since: now });
            }
        }
    }
}

/// Why a node cannot wait any longer.
#[derive(Debug, thiserror::Error)]
pub enum WaitError<E> {
    /// The system has no means to wait for sockets.
    #[error("the system has no means to wait for sockets: {0}")]
    System(#[source] io::Error),
    /// What the node had to do failed.
    #[error(transparent)]
    Candidate(E),
}

impl Visitor {
    fn go_on<C: Candidate>(&mut self, candidate: &mut C, now: Instant) -> Result<Fate, C::Error> {
        if self.answered {
            return Ok(self.finish(now));
        }
        if self.connection.read(SETUP_BYTES_MAX, now).is_err() {
            return Ok(Fate::Ends);
        }
        loop {
            let found = match self.connection.take_frame(SETUP_BYTES_MAX) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(Fate::Stays),
                Err(_) => return Ok(self.refuse(Refusal::NoHello, now)),
            };
            let body = self.connection.input.body(&found);
            match found.kind {
                FrameKind::Setup if self.founds => {
                    let Some(request) = SetupRequest::decode(body) else { return Ok(Fate::Ends) };
                    let reply = candidate.setup(&request)?;
                    return Ok(self.reply(&reply, now));
                }
                FrameKind::Hello if !self.founds => match Hello::decode(body) {
                    Ok(hello) if hello.role == Role::Setup => self.founds = true,
                    Ok(hello) => {
                        if let Role::Node { identity, wanted, address } = hello.role {
                            candidate.invited(Invitation {
                                cluster: identity.cluster,
                                key: hello.key,
                                node: wanted,
                                from: identity.node,
                                address: address.to_string(),
                            })?;
                        }
                        return Ok(self.refuse(Refusal::Waiting, now));
                    }
                    Err(refusal) => return Ok(self.refuse(refusal, now)),
                },
                _ => return Ok(Fate::Ends),
            }
        }
    }

    fn reply(&mut self, reply: &Reply, now: Instant) -> Fate {
        match reply {
            Reply::Created { cluster, node } => self.refuse(Refusal::Created { cluster: *cluster, node: *node }, now),
            Reply::Waits(reply) => {
                let body = reply.encode();
                let encode = |into: &mut [u8]| {
                    into.copy_from_slice(&body);
                    Some(body.len())
                };
                self.connection.output.frame(FrameKind::SetupReply, body.len(), encode);
                self.finish(now)
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, now: Instant) -> Fate {
        self.connection.send(FrameKind::Refused, &refusal);
        self.finish(now)
    }

    /// Sends the answer, as far as the socket takes it now.
    fn finish(&mut self, now: Instant) -> Fate {
        self.answered = true;
        match self.connection.write(now) {
            Ok(()) if self.connection.output.len() > 0 => Fate::Stays,
            Ok(()) | Err(_) => Fate::Ends,
        }
    }
}
