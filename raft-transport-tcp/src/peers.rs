//! The links to the other nodes: the members, as the configuration changes them, and strangers.

use std::cell::Cell;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::event::Event;
use raft_core::configuration::Configuration;
use raft_core::message::Message;
use raft_core::transport::Transport;
use raft_core::types::{Incarnation, NodeId};

use crate::connection::Connection;
use crate::frame::FrameKind;
use crate::handshake::{Address, Identity, ProcessId, Refusal, Welcome};
use crate::link::{Incoming, Link, Outgoing, Own, Tokens};
use crate::options::TcpOptions;
use crate::pending::refuse;
use crate::rivals::CopyAlarm;

pub use crate::link::Standing;

/// The links of one node. Implements [`Transport`]; driven by [`crate::network::TcpNetwork`].
#[derive(Debug)]
pub struct TcpPeers {
    own: Own,
    options: TcpOptions,
    /// Invariant: no two of one node, none of this node, at most `strangers_max` of strangers.
    links: Vec<Link>,
    /// The configuration that the links follow, once there is one.
    configuration: Option<Configuration>,
    tokens: Tokens,
    /// The link to be read next.
    turn: usize,
    /// When was read last.
    read_at: Instant,
}

/// How the link to a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The node.
    pub node: NodeId,
    /// What it is to this one.
    pub standing: Standing,
    /// Whether messages can be sent to it.
    pub sending: bool,
    /// Whether messages can be received from it.
    pub receiving: bool,
    /// Why it refused, or was refused, last.
    pub refusal: Option<Refusal>,
}

/// Whether another stranger can be linked.
enum Place {
    Free,
    /// If the one at this position goes.
    Instead(usize),
    None,
}

impl TcpPeers {
    /// Links to the nodes that the options name, with tokens from `first_token` on.
    pub(crate) fn new(
        options: &TcpOptions,
        (process, advertise): (ProcessId, Address),
        first_token: usize,
        now: Instant,
    ) -> TcpPeers {
        let identity = options.identity;
        let mut links: Vec<Link> = Vec::new();
        for (node, address) in options.peers.iter().filter(|(node, _)| *node != identity.node) {
            if links.iter().all(|link| link.node != *node) {
                let mut link = Link::new(*node, Standing::Member, options.seed, now);
                link.assign(Some(address), now);
                links.push(link);
            }
        }
        TcpPeers {
            own: Own {
                identity,
                process,
                key: options.key,
                address: advertise,
                silence_max: options.silence_max,
                alarm: CopyAlarm::default(),
            },
            options: options.clone(),
            links,
            configuration: None,
            tokens: Tokens::new(first_token),
            turn: 0,
            read_at: now,
        }
    }

    /// How the links are: those to members, to nodes removed a short while ago, and to strangers.
    pub fn states(&self) -> impl Iterator<Item = LinkState> + '_ {
        self.links.iter().map(|link| LinkState {
            node: link.node,
            standing: link.standing,
            sending: matches!(link.out, Outgoing::Established(_)),
            receiving: link.incoming.is_some(),
            refusal: link.refusal,
        })
    }

    /// What tells of processes that run with a copy of a member's storage. It stays the one of this node.
    #[must_use]
    pub fn copy_alarm(&self) -> CopyAlarm {
        self.own.alarm.clone()
    }

    fn link(&mut self, node: NodeId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.node == node)
    }

    /// Whether a node may connect: it is linked already, or there is a place for a stranger.
    pub(crate) fn is_welcome(&self, node: NodeId, now: Instant) -> bool {
        self.links.iter().any(|link| link.node == node) || !matches!(self.stranger_place(now), Place::None)
    }

    fn stranger_place(&self, now: Instant) -> Place {
        let strangers = self.links.iter().enumerate().filter_map(|(position, link)| match link.standing {
            Standing::Stranger { heard_at } => Some((heard_at, position)),
            _ => None,
        });
        if strangers.clone().count() < self.options.strangers_max {
            return Place::Free;
        }
        match strangers.min() {
            Some((heard_at, position)) if now.duration_since(heard_at) >= self.options.keep_alive => {
                Place::Instead(position)
            }
            _ => Place::None,
        }
    }

    /// The link to a node that connects; one that is not linked takes a stranger's place.
    fn link_for(&mut self, node: NodeId, now: Instant) -> Option<&mut Link> {
        if self.links.iter().all(|link| link.node != node) {
            match self.stranger_place(now) {
                Place::Free => {}
                Place::Instead(position) => {
                    self.links.swap_remove(position);
                }
                Place::None => return None,
            }
            tracing::info!(node = node.get(), "met a node of the cluster that is not known as a member");
            self.links.push(Link::new(node, Standing::Stranger { heard_at: now }, self.options.seed, now));
        }
        self.link(node)
    }

    /// Whether something that was received has not been taken.
    pub(crate) fn has_unread(&self) -> bool {
        let unread = |incoming: &Incoming| incoming.unread || incoming.connection.is_readable();
        self.links.iter().filter_map(|link| link.incoming.as_ref()).any(unread)
    }

    /// Handles what the poll announced for a token of a link. The connection it was for may be gone.
    pub(crate) fn announce(&mut self, event: &Event, now: Instant) {
        for link in &mut self.links {
            link.announce(event, &self.own, now);
        }
    }

    /// Takes in a connection that a node has made, or refuses it.
    pub(crate) fn accept(
        &mut self,
        (peer, process, address): (&Identity, ProcessId, &Address),
        mut connection: Connection,
        registry: &Registry,
        now: Instant,
    ) {
        let (own, token) = (self.own.clone(), self.tokens.take());
        let Some(link) = self.link_for(peer.node, now) else {
            return refuse(&mut connection, Refusal::NotMember { node: peer.node }, now);
        };
        if let Err(refusal) = link.meet((peer.incarnation, process), &own, now) {
            link.note(refusal);
            return refuse(&mut connection, refusal, now);
        }
        if connection.reregister(registry, token).is_err() {
            return;
        }
        connection.send(FrameKind::Welcome, &Welcome::of(own.process, &own.identity));
        if connection.write(now).is_ok() {
            link.tell(address, now);
            link.is_back(now);
            // The newest connection of a process takes the place of an older one, which is dead or
            // will be: it has dialed anew.
            link.incoming = Some(Incoming { connection, unread: true, ended: false, broken: Cell::new(false) });
        }
    }

    /// Reads what has arrived, and gives up what is broken.
    pub(crate) fn read(&mut self, now: Instant) {
        self.read_at = now;
        let bytes_max = self.options.frame_bytes_max + crate::frame::FRAME_HEADER_BYTES;
        for link in &mut self.links {
            if let Some(incoming) = &mut link.incoming {
                let before = incoming.connection.input.len();
                let read = incoming.connection.read(bytes_max, now);
                incoming.unread |= incoming.connection.input.len() > before;
                incoming.ended = read.is_err();
                // What came before the end is still taken.
                if incoming.broken.get() || (read.is_err() && !incoming.unread) {
                    (link.incoming, link.closed) = (None, true);
                }
            }
        }
    }

    /// Dials, keeps alive, gives up what is due, and lets go of nodes that are no members.
    pub(crate) fn sweep(&mut self, registry: &Registry, now: Instant) {
        let grace = Duration::from_millis(self.options.removed_grace_ms.0);
        let idle_max = self.options.stranger_idle_max;
        self.links.retain(|link| {
            let stays = match link.standing {
                Standing::Member => true,
                Standing::Removed { since } => now.duration_since(since) < grace,
                // It is dialed back, and not beyond: else two nodes that are strangers to each other
                // would stay linked for ever, each because of the other.
                Standing::Stranger { heard_at } => link.incoming.is_some() && now.duration_since(heard_at) < idle_max,
            };
            if !stays {
                tracing::info!(node = link.node.get(), "let go of a node that is not a member");
            }
            stays
        });
        for link in &mut self.links {
            link.sweep((registry, &mut self.tokens), &self.options, now);
        }
    }

    /// Makes the links those of another configuration.
    fn follow(&mut self, configuration: &Configuration, now: Instant) {
        let own = self.own.identity;
        for member in configuration.members() {
            if member.id == own.node {
                if self.options.advertise.is_empty() {
                    self.own.address.clone_from(&member.address);
                }
                if member.incarnation.is_some_and(|named| named != own.incarnation) {
                    let refusal = Refusal::OtherStorage { node: own.node };
                    tracing::error!(%refusal, "the other nodes will not talk to this one");
                }
                continue;
            }
            if self.links.iter().all(|link| link.node != member.id) {
                self.links.push(Link::new(member.id, Standing::Member, self.options.seed, now));
            }
            let told = self.options.peers.iter().find(|(node, _)| *node == member.id);
            let told = told.map(|(_, address)| address.as_str());
            let address = if member.address.is_empty() { told } else { Some(member.address.as_str()) };
            if let Some(link) = self.links.iter_mut().find(|link| link.node == member.id) {
                link.standing = Standing::Member;
                link.assign(address, now);
                link.name(member.incarnation, now);
            }
        }
        for link in &mut self.links {
            if link.standing == Standing::Member && configuration.member(link.node).is_none() {
                link.standing = Standing::Removed { since: now };
            }
        }
    }
}

impl Transport for TcpPeers {
    fn receive(&mut self) -> Option<Message<'_>> {
        let links = self.links.len();
        for step in 0..links {
            let position = (self.turn + step) % links;
            let Some(Link { incoming: Some(incoming), standing, .. }) = self.links.get_mut(position) else { continue };
            while incoming.unread && !incoming.broken.get() {
                match incoming.connection.take_frame(self.options.frame_bytes_max) {
                    Ok(Some(found)) if found.kind == FrameKind::KeepAlive => {}
                    Ok(Some(found)) if found.kind == FrameKind::Message => {
                        self.turn = position + 1;
                        if let Standing::Stranger { heard_at } = standing {
                            *heard_at = self.read_at;
                        }
                        return self.message(position, &found);
                    }
                    Ok(None) => incoming.unread = false,
                    Ok(Some(_)) | Err(_) => incoming.broken.set(true),
                }
            }
        }
        None
    }

    fn closed_link(&mut self) -> Option<NodeId> {
        let link = self.links.iter_mut().find(|link| link.closed)?;
        link.closed = false;
        Some(link.node)
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        let link = self.links.iter().find(|link| link.node == peer)?;
        match &link.out {
            Outgoing::Established(connection) if connection.output.len() < self.options.peer_output_bytes_max => {
                Some(self.payload_bytes_max())
            }
            _ => None,
        }
    }

    fn payload_bytes_max(&self) -> usize {
        self.options.frame_bytes_max.saturating_sub(raft_core::message::MESSAGE_HEAD_BYTES_MAX)
    }

    fn send(&mut self, message: &Message<'_>) {
        if self
            .room(message.to)
            .is_none_or(|room| room + raft_core::message::MESSAGE_HEAD_BYTES_MAX < message.bytes_max())
        {
            return;
        }
        if let Some(Link { out: Outgoing::Established(connection), .. }) = self.link(message.to) {
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

    fn configure(&mut self, configuration: &Configuration) {
        if self.configuration.as_ref() != Some(configuration) {
            self.follow(configuration, Instant::now());
            self.configuration = Some(configuration.clone());
        }
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        if node == self.own.identity.node {
            return Some(self.own.identity.incarnation);
        }
        self.links.iter().find(|link| link.node == node)?.incarnation
    }
}

impl TcpPeers {
    /// The message in a frame. One that cannot be read, or is not from that node to this one,
    /// breaks the connection at the next read; until then nothing more is taken from it.
    fn message(&self, position: usize, found: &crate::buffer::Found) -> Option<Message<'_>> {
        let link = self.links.get(position)?;
        let incoming = link.incoming.as_ref()?;
        match Message::decode(incoming.connection.input.body(found)) {
            Ok(message) if message.from == link.node && message.to == self.own.identity.node => Some(message),
            bad => {
                tracing::warn!(node = link.node.get(), error = ?bad.err(), "a node sent what is no message of it");
                incoming.broken.set(true);
                None
            }
        }
    }
}
