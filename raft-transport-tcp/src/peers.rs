//! The links to the other nodes: to each a connection that was dialed, to send on, and one that
//! was accepted, to receive on.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use raft_core::message::Message;
use raft_core::transport::Transport;
use raft_core::types::{Incarnation, NodeId};

use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::dial::Lookup;
use crate::frame::FrameKind;
use crate::handshake::{HANDSHAKE_BYTES_MAX, Hello, Identity, Refusal, Role, Welcome};
use crate::options::TcpOptions;
use crate::pending::refuse;

/// The links of one node. Implements [`Transport`]; driven by [`crate::network::TcpNetwork`].
#[derive(Debug)]
pub struct TcpPeers {
    own: Identity,
    options: TcpOptions,
    links: Vec<Link>,
    /// The link to be read next.
    turn: usize,
}

#[derive(Debug)]
struct Link {
    node: NodeId,
    address: String,
    out: Outgoing,
    backoff: Backoff,
    incoming: Option<Incoming>,
    /// The storage that the node had when it was met first in the life of this process. Another
    /// one under the same id is a second node, or one whose data was wiped: neither may speak.
    incarnation: Option<Incarnation>,
    /// Why the node refused, or was refused, last; logged when it changes.
    refusal: Option<Refusal>,
}

#[derive(Debug)]
enum Outgoing {
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
struct Incoming {
    connection: Connection,
    /// What has been received may hold another whole frame.
    unread: bool,
    /// It sent something that no correct node sends, found while only looking.
    broken: Cell<bool>,
}

/// How the link to a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The peer.
    pub node: NodeId,
    /// Whether messages can be sent to it.
    pub sending: bool,
    /// Whether messages can be received from it.
    pub receiving: bool,
    /// Why it refused, or was refused, last.
    pub refusal: Option<Refusal>,
}

impl TcpPeers {
    pub(crate) fn new(options: &TcpOptions, now: Instant) -> TcpPeers {
        let own = options.identity;
        let others = options.peers.iter().filter(|(node, _)| *node != own.node);
        let links = others.map(|(node, address)| Link {
            node: *node,
            address: address.clone(),
            out: Outgoing::Waiting(now),
            backoff: Backoff::new(options.seed ^ node.get().rotate_left(32)),
            incoming: None,
            incarnation: None,
            refusal: None,
        });
        TcpPeers { own, options: options.clone(), links: links.collect(), turn: 0 }
    }

    /// How the links are.
    pub fn states(&self) -> impl Iterator<Item = LinkState> + '_ {
        self.links.iter().map(|link| LinkState {
            node: link.node,
            sending: matches!(link.out, Outgoing::Established(_)),
            receiving: link.incoming.is_some(),
            refusal: link.refusal,
        })
    }

    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.links.iter().any(|link| link.node == node)
    }

    /// How many tokens the links take.
    pub(crate) fn tokens(&self) -> usize {
        self.links.len() * 2
    }

    /// Whether something that was received has not been taken.
    pub(crate) fn has_unread(&self) -> bool {
        let unread = |incoming: &Incoming| incoming.unread || incoming.connection.is_readable();
        self.links.iter().filter_map(|link| link.incoming.as_ref()).any(unread)
    }

    /// Handles what the poll announced for the link token `place`.
    pub(crate) fn announce(&mut self, place: usize, event: &Event, now: Instant) {
        let own = self.own;
        let Some(link) = self.links.get_mut(place / 2) else { return };
        if place.is_multiple_of(2) {
            link.announce_outgoing(event, &own, now);
        } else if let Some(incoming) = &mut link.incoming {
            incoming.connection.announce(event);
        }
    }

    /// Takes in a connection that a node has made, or refuses it.
    pub(crate) fn accept(
        &mut self,
        (node, incarnation): (NodeId, Incarnation),
        mut connection: Connection,
        (registry, first_token): (&Registry, usize),
        now: Instant,
    ) {
        let own = self.own;
        let Some((position, link)) = self.links.iter_mut().enumerate().find(|(_, link)| link.node == node) else {
            return;
        };
        if *link.incarnation.get_or_insert(incarnation) != incarnation {
            let refusal = Refusal::SameId { node };
            link.note(refusal);
            return refuse(&mut connection, refusal, now);
        }
        if connection.reregister(registry, Token(first_token + position * 2 + 1)).is_err() {
            return;
        }
        connection.send(FrameKind::Welcome, &Welcome { version: crate::handshake::PROTOCOL_VERSION, identity: own });
        if connection.write(now).is_ok() {
            // The newest connection of a node takes the place of an older one, which is dead or
            // will be: its node has dialed anew.
            link.incoming = Some(Incoming { connection, unread: true, broken: Cell::new(false) });
        }
    }

    /// Reads what has arrived, and gives up what is broken.
    pub(crate) fn read(&mut self, now: Instant) {
        let bytes_max = self.options.frame_bytes_max + crate::frame::FRAME_HEADER_BYTES;
        for link in &mut self.links {
            if let Some(incoming) = &mut link.incoming {
                let before = incoming.connection.input.len();
                let read = incoming.connection.read(bytes_max, now);
                incoming.unread |= incoming.connection.input.len() > before;
                // What came before the end is still taken.
                if incoming.broken.get() || (read.is_err() && !incoming.unread) {
                    link.incoming = None;
                }
            }
        }
    }

    /// Dials, keeps alive and gives up what is due.
    pub(crate) fn sweep(&mut self, (registry, first_token): (&Registry, usize), now: Instant) {
        for (position, link) in self.links.iter_mut().enumerate() {
            link.sweep_outgoing((registry, Token(first_token + position * 2)), &self.options, now);
            if let Some(incoming) = &mut link.incoming
                && keep_alive(&mut incoming.connection, &self.options, now).is_err()
            {
                tracing::info!(node = link.node.get(), "lost the connection from a node");
                link.incoming = None;
            }
        }
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

impl Link {
    fn note(&mut self, refusal: Refusal) {
        if self.refusal.replace(refusal) != Some(refusal) {
            tracing::error!(node = self.node.get(), address = self.address, %refusal, "no link to a node");
        }
    }

    fn give_up(&mut self, now: Instant) {
        self.out = Outgoing::Waiting(now + self.backoff.failed());
    }

    fn announce_outgoing(&mut self, event: &Event, own: &Identity, now: Instant) {
        if let Outgoing::Connecting(connection, _)
        | Outgoing::Greeting(connection, _)
        | Outgoing::Established(connection) = &mut self.out
        {
            connection.announce(event);
        }
        if self.go_on(own, now).is_err() {
            self.give_up(now);
        }
    }

    /// Goes on with a connection as far as it is ready.
    fn go_on(&mut self, own: &Identity, now: Instant) -> io::Result<()> {
        match std::mem::replace(&mut self.out, Outgoing::Waiting(now)) {
            Outgoing::Connecting(mut connection, since) => {
                if !connection.connected()? {
                    self.out = Outgoing::Connecting(connection, since);
                    return Ok(());
                }
                let role = Role::Node { identity: *own, wanted: self.node };
                connection.send(FrameKind::Hello, &Hello::new(role));
                connection.write(now)?;
                self.out = Outgoing::Greeting(connection, since);
            }
            Outgoing::Greeting(mut connection, since) => {
                connection.write(now)?;
                connection.read(HANDSHAKE_BYTES_MAX, now)?;
                self.out = match self.welcome(&mut connection, own)? {
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
    fn welcome(&mut self, connection: &mut Connection, own: &Identity) -> io::Result<bool> {
        let Some(found) = connection.take_frame(HANDSHAKE_BYTES_MAX).map_err(io::Error::other)? else {
            return Ok(false);
        };
        let body = connection.input.body(&found);
        let result = match found.kind {
            FrameKind::Welcome => match postcard::from_bytes::<Welcome>(body) {
                Ok(welcome) => self.check(own, &welcome),
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
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

    fn check(&mut self, own: &Identity, welcome: &Welcome) -> Result<(), Refusal> {
        welcome.check(own, self.node)?;
        let incarnation = welcome.identity.incarnation;
        if *self.incarnation.get_or_insert(incarnation) == incarnation {
            Ok(())
        } else {
            Err(Refusal::SameId { node: self.node })
        }
    }

    fn sweep_outgoing(&mut self, place: (&Registry, Token), options: &TcpOptions, now: Instant) {
        let late = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        let result = match &mut self.out {
            Outgoing::Waiting(at) if *at > now => return,
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
    fn dial_found(&mut self, (registry, token): (&Registry, Token), now: Instant) -> io::Result<()> {
        if let Outgoing::LookingUp(lookup) = &self.out
            && let Some(address) = lookup.poll()?
        {
            let mut connection = Connection::dial(address, now)?;
            connection.register(registry, token)?;
            self.out = Outgoing::Connecting(connection, now);
        }
        Ok(())
    }
}

impl Transport for TcpPeers {
    fn receive(&mut self) -> Option<Message<'_>> {
        let links = self.links.len();
        for step in 0..links {
            let position = (self.turn + step) % links;
            let Some(Link { incoming: Some(incoming), .. }) = self.links.get_mut(position) else { continue };
            while incoming.unread && !incoming.broken.get() {
                match incoming.connection.take_frame(self.options.frame_bytes_max) {
                    Ok(Some(found)) if found.kind == FrameKind::KeepAlive => {}
                    Ok(Some(found)) if found.kind == FrameKind::Message => {
                        self.turn = position + 1;
                        return self.message(position, &found);
                    }
                    Ok(None) => incoming.unread = false,
                    Ok(Some(_)) | Err(_) => incoming.broken.set(true),
                }
            }
        }
        None
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        let link = self.links.iter().find(|link| link.node == peer)?;
        match &link.out {
            Outgoing::Established(connection) if connection.output.len() < self.options.peer_output_bytes_max => {
                Some(self.options.frame_bytes_max - raft_core::message::MESSAGE_HEAD_BYTES_MAX)
            }
            _ => None,
        }
    }

    fn send(&mut self, message: &Message<'_>) {
        if self
            .room(message.to)
            .is_none_or(|room| room + raft_core::message::MESSAGE_HEAD_BYTES_MAX < message.bytes_max())
        {
            return;
        }
        if let Some(Link { out: Outgoing::Established(connection), .. }) =
            self.links.iter_mut().find(|link| link.node == message.to)
        {
            connection.output.frame(FrameKind::Message, message.bytes_max(), |into| message.encode(into).ok());
        }
    }

    fn flush(&mut self) {
        let now = Instant::now();
        for link in &mut self.links {
            if let Outgoing::Established(connection) = &mut link.out
                && connection.output.len() > 0
                && connection.write(now).is_err()
            {
                link.give_up(now);
            }
        }
    }
}

impl TcpPeers {
    /// The message in a frame. One that cannot be read, or is not from that node to this one,
    /// breaks the connection at the next read; until then nothing more is taken from it.
    fn message(&self, position: usize, found: &crate::buffer::Found) -> Option<Message<'_>> {
        let link = self.links.get(position)?;
        let incoming = link.incoming.as_ref()?;
        match Message::decode(incoming.connection.input.body(found)) {
            Ok(message) if message.from == link.node && message.to == self.own.node => Some(message),
            bad => {
                tracing::warn!(node = link.node.get(), error = ?bad.err(), "a node sent what is no message of it");
                incoming.broken.set(true);
                None
            }
        }
    }
}
