//! Connections that were accepted and have not said yet who they are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};
use raft_core::types::{ClusterKey, NodeId};

use crate::connection::Connection;
use crate::frame::FrameKind;
use crate::handshake::{Address, HANDSHAKE_BYTES_MAX, Hello, Identity, ProcessId, Refusal, Role};
use crate::options::TcpOptions;

/// The same complaint about strangers is logged once in so long a time.
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Whom a connection turned out to be from; the welcome is not sent yet.
pub(crate) enum Accepted {
    Node(Identity, ProcessId, Address, Connection),
    Client(Connection),
}

/// The connections, by their tokens.
#[derive(Debug)]
pub(crate) struct Pending {
    connections: BTreeMap<usize, Connection>,
    first_token: usize,
    next: usize,
    connections_max: usize,
    /// When was logged last that one was shed.
    shed_logged: Option<Instant>,
    key: ClusterKey,
}

impl Pending {
    /// Connections under tokens from `first_token` on, as many as the options allow.
    pub(crate) fn new(first_token: usize, options: &TcpOptions) -> Pending {
        let (connections_max, key) = (options.handshakes_max, options.key);
        Pending { connections: BTreeMap::new(), first_token, next: 0, connections_max, shed_logged: None, key }
    }

    /// Takes in a connection. If there are too many, the oldest gives way: those that say at once who they are get in,
    /// however many say nothing.
    pub(crate) fn accept(&mut self, stream: TcpStream, registry: &Registry, now: Instant) {
        if self.connections_max == 0 || (self.connections.len() >= self.connections_max && !self.shed(now)) {
            return;
        }
        let taken = |place: &usize| self.connections.contains_key(&(self.first_token + place));
        let place = (0..=self.connections_max).map(|step| (self.next + step) % (self.connections_max + 1));
        let Some(place) = place.into_iter().find(|place| !taken(place)) else { return };
        self.next = place + 1;
        let mut connection = Connection::new(stream, now);
        let token = self.first_token + place;
        if connection.register(registry, Token(token)).is_ok() {
            self.connections.insert(token, connection);
        }
    }

    /// Closes the connection that has taken the longest; returns whether there was one.
    pub(crate) fn shed(&mut self, now: Instant) -> bool {
        let oldest = self.connections.iter().min_by_key(|(_, connection)| connection.sent_at);
        let Some((&token, _)) = oldest else { return false };
        self.connections.remove(&token);
        if self.shed_logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL) {
            self.shed_logged = Some(now);
            tracing::warn!("too many connections are in their handshake: the oldest ones are closed");
        }
        true
    }

    /// Handles what the poll announced for one of them; gives it once it has said who it is.
    pub(crate) fn announce(
        &mut self,
        event: &Event,
        own: &Identity,
        is_welcome: impl Fn(NodeId) -> bool,
        now: Instant,
    ) -> Option<Accepted> {
        let token = event.token().0;
        let connection = self.connections.get_mut(&token)?;
        connection.announce(event);
        match greet(connection, (own, self.key), is_welcome, now) {
            Greeting::Unfinished => None,
            Greeting::Closed => {
                self.connections.remove(&token);
                None
            }
            Greeting::From(hello) => {
                let Hello { role, process, .. } = *hello;
                let connection = self.connections.remove(&token)?;
                Some(match role {
                    Role::Node { identity, address, .. } => Accepted::Node(identity, process, address, connection),
                    Role::Client { .. } => Accepted::Client(connection),
                    Role::Setup => return None,
                })
            }
        }
    }

    /// Closes those that take too long.
    pub(crate) fn sweep(&mut self, options: &TcpOptions, now: Instant) {
        // A handshake begins when the connection is made, and bytes that trickle in prolong nothing.
        self.connections.retain(|_, connection| now.duration_since(connection.sent_at) < options.handshake_timeout);
    }
}

enum Greeting {
    Unfinished,
    Closed,
    From(Box<Hello>),
}

fn greet(
    connection: &mut Connection,
    (own, key): (&Identity, ClusterKey),
    is_welcome: impl Fn(NodeId) -> bool,
    now: Instant,
) -> Greeting {
    if connection.read(HANDSHAKE_BYTES_MAX, now).is_err() {
        return Greeting::Closed;
    }
    let answer = match connection.take_frame(HANDSHAKE_BYTES_MAX) {
        Ok(None) => return Greeting::Unfinished,
        Ok(Some(found)) if found.kind == FrameKind::Hello => Hello::decode(connection.input.body(&found)),
        Ok(Some(_)) | Err(_) => Err(Refusal::NoHello),
    };
    match answer.and_then(|hello| hello.answer(own, key, is_welcome).map(|_| hello)) {
        Ok(hello) => Greeting::From(Box::new(hello)),
        Err(refusal) => {
            tracing::warn!(%refusal, "refused a connection");
            refuse(connection, refusal, now);
            Greeting::Closed
        }
    }
}

/// Says why, as far as the socket takes it at once.
pub(crate) fn refuse(connection: &mut Connection, refusal: Refusal, now: Instant) {
    connection.send(FrameKind::Refused, &refusal);
    // The connection is closed next; who does not get the reason sees that.
    let _ = connection.write(now);
}
