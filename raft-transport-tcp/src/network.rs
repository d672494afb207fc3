//! The network of one node: its port, and all its connections, driven by one poll.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use raft_core::client::protocol::{Request, Response};
use raft_core::configuration::ADDRESS_BYTES_MAX;
use raft_core::transport::{ClientId, Network, Wake};
use raft_core::types::{Millis, NodeId};
use thiserror::Error;

use crate::clients::Clients;
use crate::handshake::{Address, ProcessId};
use crate::options::TcpOptions;
use crate::peers::TcpPeers;
use crate::pending::{Accepted, LOG_INTERVAL, Pending};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_PENDING: usize = 2;

/// The most connections that are accepted in a turn: less than may be in their handshake, so that each has a turn to say
/// who it is before later ones take its place; and nodes and clients have their turns however many come.
const ACCEPTED_PER_TURN_MAX: usize = 64;

/// How often connections are looked after: dialed, kept alive, given up.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// The network of one node. Implements [`Network`].
#[derive(Debug)]
pub struct TcpNetwork {
    poll: Poll,
    events: Events,
    waker: TcpWaker,
    listener: TcpListener,
    /// A connection may be waiting to be accepted.
    acceptable: bool,
    /// After it could not be accepted, when to try again, and when that was logged last.
    accept_at: Instant,
    accept_logged: Option<Instant>,
    pending: Pending,
    clients: Clients,
    options: TcpOptions,
    /// Tokens are those of handshakes from [`FIRST_PENDING`] on, then of clients, then of links: these
    /// come and go without a bound on their number, so nothing lies behind them.
    first_client: usize,
    first_link: usize,
    sweep_at: Instant,
}

/// Opens a port.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { address },
        _ => BindError::Failed { address, source },
    })
}

/// Wakes a network's wait.
#[derive(Clone, Debug)]
pub struct TcpWaker(Arc<mio::Waker>);

impl Wake for TcpWaker {
    fn wake(&self) {
        // It fails only when the poll it belongs to is gone, and with it who could be woken.
        let _ = self.0.wake();
    }
}

impl TcpNetwork {
    /// Opens the node's port.
    ///
    /// # Errors
    /// [`BindError`] names the address and what is wrong with it.
    pub fn bind(options: TcpOptions) -> Result<(TcpNetwork, TcpPeers), BindError> {
        let advertise = Address::try_from(options.advertise.as_str())
            .map_err(|_| BindError::AdvertisedTooLong { bytes: options.advertise.len() })?;
        let mut listener = listen(options.listen)?;
        let poll = Poll::new().map_err(BindError::Poll)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(BindError::Poll)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(BindError::Poll)?;
        let now = Instant::now();
        let first_client = FIRST_PENDING.saturating_add(options.handshakes_max).saturating_add(1);
        let first_link = first_client.saturating_add(options.clients_max);
        let random = || getrandom::u64().map_err(|_| BindError::Random);
        let process = ProcessId((u128::from(random()?) << 64) | u128::from(random()?));
        let peers = TcpPeers::new(&options, (process, advertise), first_link, now);
        let network = TcpNetwork {
            poll,
            events: Events::with_capacity(1024),
            waker: TcpWaker(Arc::new(waker)),
            listener,
            acceptable: true,
            accept_at: now,
            accept_logged: None,
            pending: Pending::new(FIRST_PENDING, &options),
            clients: Clients::new(first_client, &options),
            options,
            first_client,
            first_link,
            sweep_at: now,
        };
        Ok((network, peers))
    }

    /// Where it listens, with the port that the system chose if port 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn dispatch(&mut self, peers: &mut TcpPeers, now: Instant) {
        let registry = self.poll.registry();
        for event in &self.events {
            match event.token().0 {
                token if token == LISTENER.0 => self.acceptable = true,
                token if token == WAKER.0 => {}
                token if token >= self.first_link => peers.announce(event, now),
                token if token >= self.first_client => self.clients.announce(token - self.first_client, event, now),
                _ => {
                    let is_welcome = |node: NodeId| peers.is_welcome(node, now);
                    match self.pending.announce(event, &self.options.identity, is_welcome, now) {
                        Some(Accepted::Node(identity, process, address, connection)) => {
                            peers.accept((&identity, process, &address), connection, registry, now);
                        }
                        Some(Accepted::Client(connection)) => {
                            self.clients.accept(connection, &self.options.identity, registry, now);
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// Whether a connection may be waiting, and can be tried to be accepted.
    fn may_accept(&self, now: Instant) -> bool {
        self.acceptable && now >= self.accept_at
    }

    fn accept(&mut self, now: Instant) {
        let most = (self.options.handshakes_max / 2).clamp(1, ACCEPTED_PER_TURN_MAX);
        for _ in 0..most {
            if !self.may_accept(now) {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // Small frames go out at once; a socket that cannot do so is only slower.
                    let _ = stream.set_nodelay(true);
                    self.pending.accept(stream, self.poll.registry(), now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                // The connection was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, say: who has said nothing yet gives one up, and the others are accepted a
                    // little later.
                    self.accept_at = now + SWEEP_INTERVAL;
                    if self.accept_logged.is_none_or(|logged| now.duration_since(logged) >= LOG_INTERVAL) {
                        self.accept_logged = Some(now);
                        tracing::warn!(%error, "could not accept a connection; it is tried again");
                    }
                    self.pending.shed(now);
                }
            }
        }
    }

    fn sweep(&mut self, peers: &mut TcpPeers, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_INTERVAL;
        peers.sweep(self.poll.registry(), now);
        self.pending.sweep(&self.options, now);
        self.clients.sweep(now);
    }
}

impl Network for TcpNetwork {
    type Peers = TcpPeers;
    type Waker = TcpWaker;
    type Error = io::Error;

    fn waker(&self) -> TcpWaker {
        self.waker.clone()
    }

    fn wait(&mut self, peers: &mut TcpPeers, timeout: Option<Millis>) -> io::Result<()> {
        let now = Instant::now();
        let until_sweep = self.sweep_at.saturating_duration_since(now);
        let timeout = match timeout {
            _ if peers.has_unread() || self.clients.has_unread() || self.may_accept(now) => Duration::ZERO,
            Some(timeout) => until_sweep.min(Duration::from_millis(timeout.0)),
            None => until_sweep,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = Instant::now();
        self.dispatch(peers, now);
        // Before who comes is accepted: what has ended makes room for a process that was killed and started again.
        peers.read(now);
        self.accept(now);
        self.sweep(peers, now);
        Ok(())
    }

    fn client_bytes_max(&self) -> usize {
        self.options.frame_bytes_max
    }

    fn request(&mut self) -> Option<(ClientId, Request<'_>)> {
        self.clients.request()
    }

    fn respond(&mut self, client: ClientId, response: &Response<'_>) {
        self.clients.respond(client, response);
    }

    fn flush(&mut self) {
        self.clients.flush();
    }
}

/// Why a port could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address to tell others is over [`raft_core::configuration::ADDRESS_BYTES_MAX`].
    #[error("the advertised address has {bytes} bytes, over the limit of {ADDRESS_BYTES_MAX}: use a shorter name")]
    AdvertisedTooLong {
        /// The address's bytes.
        bytes: usize,
    },
    /// Another program has it.
    #[error("{address} is in use by another program: stop that one, or choose another port")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// It is of another machine.
    #[error("{address} is no address of this machine: choose one that is, or 0.0.0.0 for all")]
    NotLocal {
        /// The address.
        address: SocketAddr,
    },
    /// Not allowed.
    #[error("this user may not listen at {address}: choose a port from 1024 on")]
    Forbidden {
        /// The address.
        address: SocketAddr,
    },
    /// Something else.
    #[error("could not listen at {address}")]
    Failed {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random numbers, by which this process is told from others.
    #[error("the system gives no random numbers")]
    Random,
    /// The system has no means to wait for sockets.
    #[error("the system has no means to wait for sockets")]
    Poll(#[source] io::Error),
}
