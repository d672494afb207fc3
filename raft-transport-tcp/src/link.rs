//! The link to one other node: the connection that was dialed, to send on, and the one that was accepted, to
//! receive on.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use raft_core::types::{ClusterKey, Incarnation, NodeId};

use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::dial::Lookup;
use crate::frame::FrameKind;
use crate::handshake::{Address, HANDSHAKE_BYTES_MAX, Hello, Identity, ProcessId, Refusal, Role, Welcome};
use crate::options::TcpOptions;
use crate::rivals::{CopyAlarm, Rivals};

/// What a node is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// A member; before the first configuration, one that the options name.
    Member,
    /// Was one until then.
    Removed {
        /// When the configuration without it was learned.
        since: Instant,
    },
    /// A node of the cluster that is not known as a member.
    Stranger {
        /// When its last message was taken; at first, when it was met.
        heard_at: Instant,
    },
}

/// Who this node is, and where others reach it.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) identity: Identity,
    pub(crate) process: ProcessId,
    pub(crate) key: ClusterKey,
    pub(crate) address: Address,
    /// [`TcpOptions::silence_max`].
    pub(crate) silence_max: Duration,
    pub(crate) alarm: CopyAlarm,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) node: NodeId,
    pub(crate) standing: Standing,
    /// Where it is dialed; not at all while it is empty.
    address: String,
    /// The address is from the configuration or the options, and not from the node itself.
    assigned: bool,
    pub(crate) out: Outgoing,
    backoff: Backoff,
    pub(crate) incoming: Option<Incoming>,
    /// The connection from the node has ended, which is yet to be told.
    pub(crate) closed: bool,
    /// The storage that the configuration names.
    named: Option<Incarnation>,
    /// The storage that the node had when it was met first in the life of this link. Another one under the same id is
    /// a second node, or one whose data was wiped: neither may speak. Invariant: equals `named` if both are there.
    pub(crate) incarnation: Option<Incarnation>,
    /// The process that was let in last. Invariant: all connections are with it, if it says who it is.
    process: ProcessId,
    rivals: Rivals,
    /// Why the node refused, or was refused, last; logged when it changes.
    pub(crate) refusal: Option<Refusal>,
}

#[derive(Debug)]
pub(crate) enum Outgoing {
    /// To be dialed at that time.
    Waiting(Instant),
    LookingUp(Lookup),
    /// The hello is sent once it is connected.
    Connecting(Connection, Instant),
    /// The hello was sent.
    Greeting(Connection, Instant),
    Established(Connection),
}

#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) connection: Connection,
    /// What has been received may hold another whole frame.
    pub(crate) unread: bool,
    /// Nothing more will arrive.
    pub(crate) ended: bool,
    /// It sent something that no correct node sends, found while only looking.
    pub(crate) broken: Cell<bool>,
}

/// Tokens that are never used twice, so that what the poll announced for a connection is never taken for news of
/// another. Should they ever have gone all round, such news causes a read or write that finds nothing.
#[derive(Debug)]
pub(crate) struct Tokens {
    first: usize,
    next: usize,
}

impl Tokens {
    pub(crate) fn new(first: usize) -> Tokens {
        Tokens { first, next: first }
    }

    pub(crate) fn take(&mut self) -> Token {
        let token = Token(self.next);
        // The poll keeps the last one for itself on some systems.
        self.next = if self.next >= usize::MAX - 1 { self.first } else { self.next + 1 };
        token
    }
}

impl Link {
    /// A link that knows no address yet.
    pub(crate) fn new(node: NodeId, standing: Standing, seed: u64, now: Instant) -> Link {
        Link {
            node,
            standing,
            address: String::new(),
            assigned: false,
            out: Outgoing::Waiting(now),
            backoff: Backoff::new(seed ^ node.get().rotate_left(32)),
            incoming: None,
            closed: false,
            named: None,
            incarnation: None,
            process: ProcessId::UNTOLD,
            rivals: Rivals::default(),
            refusal: None,
        }
    }

    /// The configuration or the options say where the node listens, or no longer do.
    pub(crate) fn assign(&mut self, address: Option<&str>, now: Instant) {
        if address.is_some() || self.assigned {
            self.move_to(address.unwrap_or_default(), now);
        }
        self.assigned = address.is_some();
    }

    /// The node itself says where it listens: that counts where nobody else says so.
    pub(crate) fn tell(&mut self, address: &str, now: Instant) {
        // It will be logged, too.
        if !self.assigned && !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.move_to(address, now);
        }
    }

    fn move_to(&mut self, address: &str, now: Instant) {
        if self.address != address {
            address.clone_into(&mut self.address);
            self.backoff.succeeded();
            self.out = Outgoing::Waiting(now);
        }
    }

    /// The configuration names the storage of the node. Connections with another one are closed.
    pub(crate) fn name(&mut self, named: Option<Incarnation>, now: Instant) {
        self.named = named;
        if named.is_some() && self.incarnation.is_some() && self.incarnation != named {
            self.incarnation = None;
            self.incoming = None;
            self.give_up(now);
            self.note(Refusal::OtherStorage { node: self.node });
        }
    }

    /// Checks the storage and the process of the node that is met, which stay the only ones.
    pub(crate) fn meet(
        &mut self,
        (incarnation, process): (Incarnation, ProcessId),
        own: &Own,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.named.is_some_and(|named| named != incarnation) {
            return Err(Refusal::OtherStorage { node: self.node });
        }
        if *self.incarnation.get_or_insert(incarnation) != incarnation {
            return Err(Refusal::SameId { node: self.node });
        }
        let heard_at = self.heard_at().filter(|_| process.differs(self.process));
        if let Err(refusal) = self.rivals.admit(self.node, process, heard_at, own.silence_max, now) {
            if matches!(refusal, Refusal::Copied { .. }) {
                own.alarm.raise(self.node);
            }
            self.rivals.log(refusal, now);
            self.refusal = Some(refusal);
            return Err(refusal);
        }
        if process != ProcessId::UNTOLD {
            self.process = process;
        }
        Ok(())
    }

    /// When the node was heard last on a connection that has not ended.
    fn heard_at(&self) -> Option<Instant> {
        let incoming = self.incoming.as_ref().filter(|incoming| !incoming.ended);
        let outgoing = if let Outgoing::Established(connection) = &self.out { Some(connection.heard_at) } else { None };
        incoming.map(|incoming| incoming.connection.heard_at).max(outgoing)
    }

    pub(crate) fn note(&mut self, refusal: Refusal) {
        if self.refusal.replace(refusal) != Some(refusal) {
            tracing::error!(node = self.node.get(), address = self.address, %refusal, "no link to a node");
        }
    }

    pub(crate) fn give_up(&mut self, now: Instant) {
        self.out = Outgoing::Waiting(now + self.backoff.failed());
    }

    /// The node has connected to this one, so it can be reached: it is dialed at once, however often that failed before.
    pub(crate) fn is_back(&mut self, now: Instant) {
        if let Outgoing::Waiting(at) = &mut self.out {
            *at = now.min(*at);
            self.backoff.succeeded();
        }
    }

    /// Handles what the poll announced, if it is for a connection of this link.
    pub(crate) fn announce(&mut self, event: &Event, own: &Own, now: Instant) {
        if let Some(incoming) = &mut self.incoming
            && incoming.connection.is(event.token())
        {
            incoming.connection.announce(event);
        }
        if let Outgoing::Connecting(connection, _)
        | Outgoing::Greeting(connection, _)
        | Outgoing::Established(connection) = &mut self.out
            && connection.is(event.token())
        {
            connection.announce(event);
            if self.go_on(own, now).is_err() {
                self.give_up(now);
            }
        }
    }

    /// Dials, keeps alive and gives up what is due.
    pub(crate) fn sweep(&mut self, place: (&Registry, &mut Tokens), options: &TcpOptions, now: Instant) {
        self.sweep_outgoing(place, options, now);
        if let Some(incoming) = &mut self.incoming
            && keep_alive(&mut incoming.connection, options, now).is_err()
        {
            tracing::info!(node = self.node.get(), "lost the connection from a node");
            (self.incoming, self.closed) = (None, true);
        }
    }

    /// Goes on with a connection as far as it is ready.
    fn go_on(&mut self, own: &Own, now: Instant) -> io::Result<()> {
        match std::mem::replace(&mut self.out, Outgoing::Waiting(now)) {
            Outgoing::Connecting(mut connection, since) => {
                if !connection.connected()? {
                    self.out = Outgoing::Connecting(connection, since);
                    return Ok(());
                }
                let role = Role::Node { identity: own.identity, wanted: self.node, address: own.address.clone() };
                connection.send(FrameKind::Hello, &Hello::of(own.process, role).with_key(own.key));
                connection.write(now)?;
                self.out = Outgoing::Greeting(connection, since);
            }
            Outgoing::Greeting(mut connection, since) => {
                connection.write(now)?;
                connection.read(HANDSHAKE_BYTES_MAX, now)?;
                self.out = match self.welcome(&mut connection, own, now)? {
                    true => Outgoing::Established(connection),
                    false => Outgoing::Greeting(connection, since),
                };
            }
            Outgoing::Established(mut connection) => {
                connection.write(now)?;
                connection.read(HANDSHAKE_BYTES_MAX, now)?;
                // Nothing but signs of life comes back here.
                while let Some(found) = connection.take_frame(HANDSHAKE_BYTES_MAX).map_err(io::Error::other)? {
                    if found.kind != FrameKind::KeepAlive {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
                self.out = Outgoing::Established(connection);
            }
            other => self.out = other,
        }
        Ok(())
    }

    /// Reads the answer to the hello; gives whether it is there and good.
    fn welcome(&mut self, connection: &mut Connection, own: &Own, now: Instant) -> io::Result<bool> {
        let Some(found) = connection.take_frame(HANDSHAKE_BYTES_MAX).map_err(io::Error::other)? else {
            return Ok(false);
        };
        let body = connection.input.body(&found);
        let result = match found.kind {
            FrameKind::Welcome => match Welcome::decode(body) {
                Some(welcome) => self.check(own, &welcome, now),
                None => return Err(io::ErrorKind::InvalidData.into()),
            },
            FrameKind::Refused => match postcard::from_bytes(body) {
                Ok(refusal) => Err(refusal),
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        match result {
            Ok(()) => {
                self.backoff.succeeded();
                self.refusal = None;
                tracing::info!(node = self.node.get(), address = self.address, "connected to a node");
                Ok(true)
            }
            Err(refusal) => {
                self.note(refusal);
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }
    }

    fn check(&mut self, own: &Own, welcome: &Welcome, now: Instant) -> Result<(), Refusal> {
        welcome.check(&own.identity, self.node)?;
        self.meet((welcome.identity.incarnation, welcome.process), own, now)
    }

    fn sweep_outgoing(&mut self, place: (&Registry, &mut Tokens), options: &TcpOptions, now: Instant) {
        let late = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        let result = match &mut self.out {
            Outgoing::Waiting(at) if *at > now || self.address.is_empty() => return,
            Outgoing::Waiting(_) => Lookup::begin(&self.address).map(|lookup| self.out = Outgoing::LookingUp(lookup)),
            Outgoing::Connecting(_, since) | Outgoing::Greeting(_, since)
                if late(*since, options.handshake_timeout) =>
            {
                Err(io::ErrorKind::TimedOut.into())
            }
            Outgoing::Established(connection) => keep_alive(connection, options, now),
            _ => Ok(()),
        };
        if result.and_then(|()| self.dial_found(place, now)).is_err() {
            self.give_up(now);
        }
    }

    /// Dials, once the address is known.
    fn dial_found(&mut self, (registry, tokens): (&Registry, &mut Tokens), now: Instant) -> io::Result<()> {
        if let Outgoing::LookingUp(lookup) = &self.out
            && let Some(address) = lookup.poll()?
        {
            let mut connection = Connection::dial(address, now)?;
            connection.register(registry, tokens.take())?;
            self.out = Outgoing::Connecting(connection, now);
        }
        Ok(())
    }
}

/// Says that this node is alive, if nothing else was said lately.
///
/// # Errors
/// The other side was silent for too long, or the connection is broken.
fn keep_alive(connection: &mut Connection, options: &TcpOptions, now: Instant) -> io::Result<()> {
    if now.duration_since(connection.heard_at) >= options.silence_max {
        return Err(io::ErrorKind::TimedOut.into());
    }
    if now.duration_since(connection.sent_at) >= options.keep_alive && connection.output.len() == 0 {
        connection.send_keep_alive();
    }
    connection.write(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_connects_is_dialed_at_once() {
        let now = Instant::now();
        let node = NodeId::new(2).unwrap();
        let mut link = Link::new(node, Standing::Member, 1, now);
        for _ in 0..10 {
            link.give_up(now);
        }
        assert!(matches!(link.out, Outgoing::Waiting(at) if at > now));
        link.is_back(now);
        assert!(matches!(link.out, Outgoing::Waiting(at) if at == now));
    }
}
