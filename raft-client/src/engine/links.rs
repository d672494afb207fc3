//! The connections of an engine: one to each endpoint at most, made when it is needed.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use raft_core::client::protocol::{HEAD_BYTES_MAX, Request, Response};
use raft_core::types::{ClusterId, Instant, Millis};
use raft_transport_tcp::client::{ClientConnection, ConnectionError, SendError};
use raft_transport_tcp::handshake::Refusal;
use thiserror::Error;

use crate::engine::EngineError;
use crate::engine::dispatch::millis;
use crate::options::{ENDPOINTS_MAX, Options};

/// The token of the waker; those of connections are the places of their endpoints.
const WAKER: mio::Token = mio::Token(ENDPOINTS_MAX);

/// Ends the present or the next [`Engine::poll`](crate::Engine::poll), from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Wakes the engine.
    pub fn wake(&self) {
        // This fails only if the engine cannot wait any more either, and then the engine says so.
        let _ = self.0.wake();
    }
}

/// Why there is no connection to an endpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkFault {
    /// Its address could not be found out.
    #[error("the address cannot be resolved: {0}")]
    Resolve(#[source] io::Error),
    /// It could not be made, or was lost.
    #[error("{}", Chain(.0))]
    Connection(#[from] ConnectionError),
    /// It was not established in time.
    #[error("nobody answered at the address in time")]
    ConnectTimeout,
    /// No request was answered for as long as an attempt may take.
    #[error("the node did not answer in time")]
    Silent,
    /// A node of another cluster is at the address.
    #[error(
        "the node at this address is of cluster {found}, and this client is of cluster {wanted}: check the endpoints"
    )]
    OtherCluster {
        /// The client's cluster: the one in its options, or that of the first node it reached.
        wanted: ClusterId,
        /// The node's cluster.
        found: ClusterId,
    },
}

/// Whether a node of cluster `found` is one of the cluster that is wanted, if one is.
fn check_cluster(wanted: Option<ClusterId>, found: ClusterId) -> Result<(), LinkFault> {
    match wanted {
        Some(wanted) if wanted != found => Err(LinkFault::OtherCluster { wanted, found }),
        _ => Ok(()),
    }
}

/// An error with what caused it.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        match self.0.source() {
            // Some messages hold their cause already.
            Some(source) if !self.0.to_string().contains(&source.to_string()) => write!(formatter, ": {source}"),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Links {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    links: Vec<Link>,
    /// The cluster: the one in the options, or else that of the first node that was reached. Never another.
    cluster: Option<ClusterId>,
    frame_bytes_max: usize,
    connect_timeout: Millis,
    silence_max: Millis,
    readable: VecDeque<usize>,
    opened: VecDeque<usize>,
    down: VecDeque<usize>,
}

/// The connection to one endpoint, if there is one.
#[derive(Debug, Default)]
struct Link {
    connection: Option<ClientConnection>,
    /// Requests that were not answered.
    outstanding: usize,
    /// When it was dialed; once it is established, since when an answer is waited for.
    since: Instant,
    /// Too much waits to be sent.
    full: bool,
    /// It stands in the queue of readable ones.
    readable: bool,
    /// Its end was not yet told.
    down: bool,
    /// How often it was dialed, to try all addresses of a host in turn.
    dials: usize,
    fault: Option<LinkFault>,
}

impl Link {
    fn is_established(&self) -> bool {
        self.connection.as_ref().is_some_and(ClientConnection::is_established)
    }

    /// When it is taken for dead, unless something arrives.
    fn deadline(&self, connect_timeout: Millis, silence_max: Millis) -> Instant {
        match &self.connection {
            None => Instant::NEVER,
            Some(connection) if !connection.is_established() => self.since.after(connect_timeout),
            Some(_) if self.outstanding == 0 => Instant::NEVER,
            Some(_) => self.since.after(silence_max),
        }
    }
}

impl Links {
    pub(super) fn new(options: &Options) -> Result<Links, EngineError> {
        let poll = mio::Poll::new().map_err(EngineError::Poll)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(EngineError::Poll)?;
        Ok(Links {
            poll,
            events: mio::Events::with_capacity(64),
            waker: Arc::new(waker),
            links: Vec::new(),
            cluster: options.cluster,
            frame_bytes_max: options.message_bytes_max.saturating_add(HEAD_BYTES_MAX),
            connect_timeout: millis(options.connect_timeout),
            silence_max: millis(options.attempt_timeout),
            readable: VecDeque::new(),
            opened: VecDeque::new(),
            down: VecDeque::new(),
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Whether requests can be sent to the endpoint now. If there is no connection, one is begun.
    pub(super) fn open(&mut self, now: Instant, endpoint: usize, address: &str) -> bool {
        if endpoint >= self.links.len() {
            self.links.resize_with(endpoint + 1, Link::default);
        }
        let Some(link) = self.links.get_mut(endpoint) else { return false };
        if link.connection.is_some() {
            return !link.full && link.is_established();
        }
        if !link.down {
            link.dials = link.dials.wrapping_add(1);
            link.since = now;
            let dialed = resolve(address, link.dials).map_err(LinkFault::Resolve).and_then(|address| {
                let (cluster, registry, token) = (self.cluster, self.poll.registry(), mio::Token(endpoint));
                Ok(ClientConnection::dial(address, cluster, self.frame_bytes_max, registry, token)?)
            });
            match dialed {
                Ok(connection) => link.connection = Some(connection),
                Err(fault) => self.fail(endpoint, fault),
            }
        }
        false
    }

    /// Puts a request behind what waits to be sent. Gives whether it was taken.
    pub(super) fn send(&mut self, now: Instant, endpoint: usize, request: &Request<'_>) -> bool {
        let Some(link) = self.links.get_mut(endpoint) else { return false };
        let Some(connection) = &mut link.connection else { return false };
        match connection.send(request) {
            Ok(()) => {
                if link.outstanding == 0 {
                    link.since = now;
                }
                link.outstanding += 1;
                true
            }
            Err(error) => {
                link.full |= matches!(error, SendError::Full);
                false
            }
        }
    }

    /// Whether the endpoint takes no more for now.
    pub(super) fn is_full(&self, endpoint: usize) -> bool {
        self.links.get(endpoint).is_some_and(|link| link.full)
    }

    /// Hands what was sent to the sockets.
    pub(super) fn flush(&mut self) {
        for endpoint in 0..self.links.len() {
            let Some(link) = self.links.get_mut(endpoint) else { return };
            let Some(connection) = link.connection.as_mut().filter(|connection| connection.is_established()) else {
                continue;
            };
            match connection.flush() {
                Ok(()) => link.full = false,
                Err(error) => self.fail(endpoint, error.into()),
            }
        }
    }

    /// Waits for something to arrive, and lets the connections go on.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.has_news() { Some(Duration::ZERO) } else { timeout };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        // Taken out for a moment, so that what they announce can change the links.
        let events = std::mem::replace(&mut self.events, mio::Events::with_capacity(0));
        for event in events.iter().filter(|event| event.token() != WAKER) {
            self.ready(event);
        }
        self.events = events;
        Ok(())
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let endpoint = event.token().0;
        let Some(link) = self.links.get_mut(endpoint) else { return };
        let Some(connection) = &mut link.connection else { return };
        let was_established = connection.is_established();
        if let Err(error) = connection.ready(event) {
            return self.fail(endpoint, error.into());
        }
        link.full = false;
        if let Some(node) = connection.node().filter(|_| !was_established) {
            if let Err(fault) = check_cluster(self.cluster, node.cluster) {
                return self.fail(endpoint, fault);
            }
            self.cluster = Some(node.cluster);
            link.fault = None;
            self.opened.push_back(endpoint);
        }
        if connection.has_unread() && !link.readable {
            link.readable = true;
            self.readable.push_back(endpoint);
        }
    }

    /// The connection is at its end, which is told once.
    fn fail(&mut self, endpoint: usize, fault: LinkFault) {
        let fault = match fault {
            LinkFault::Connection(ConnectionError::Refused(Refusal::OtherCluster { cluster })) => {
                check_cluster(self.cluster, cluster).err().unwrap_or(fault)
            }
            fault => fault,
        };
        let Some(link) = self.links.get_mut(endpoint) else { return };
        (link.connection, link.outstanding, link.full) = (None, 0, false);
        link.fault = Some(fault);
        if !link.down {
            link.down = true;
            self.down.push_back(endpoint);
        }
    }

    /// Whether there is something to take without waiting.
    pub(super) fn has_news(&self) -> bool {
        !(self.readable.is_empty() && self.opened.is_empty() && self.down.is_empty())
    }

    /// When [`Links::run_timers`] is to be called.
    pub(super) fn deadline(&self) -> Instant {
        let deadlines = self.links.iter().map(|link| link.deadline(self.connect_timeout, self.silence_max));
        deadlines.min().unwrap_or(Instant::NEVER)
    }

    /// Gives up connections that nothing comes from.
    pub(super) fn run_timers(&mut self, now: Instant) {
        for endpoint in 0..self.links.len() {
            let Some(link) = self.links.get(endpoint) else { return };
            // What has arrived and was not taken is an answer too.
            if !link.readable && link.deadline(self.connect_timeout, self.silence_max) <= now {
                let established = link.is_established();
                self.fail(endpoint, if established { LinkFault::Silent } else { LinkFault::ConnectTimeout });
            }
        }
    }

    /// The next endpoint from which something has arrived.
    pub(super) fn next_readable(&mut self) -> Option<usize> {
        let endpoint = self.readable.pop_front()?;
        self.links.get_mut(endpoint)?.readable = false;
        Some(endpoint)
    }

    /// The next response of an endpoint; with `None`, all that has arrived was taken.
    pub(super) fn receive(&mut self, now: Instant, endpoint: usize) -> Option<Response<'_>> {
        let link = self.links.get_mut(endpoint)?;
        match link.connection.as_mut()?.response() {
            Ok(Some(response)) => {
                link.outstanding = link.outstanding.saturating_sub(1);
                link.since = now;
                Some(response)
            }
            Ok(None) => None,
            Err(error) => {
                // The connection itself is still borrowed for the response; it is dropped later.
                link.fault = Some(error.into());
                link.down = true;
                self.down.push_back(endpoint);
                None
            }
        }
    }

    /// The next endpoint to which requests can be sent now.
    pub(super) fn next_opened(&mut self) -> Option<usize> {
        self.opened.pop_front()
    }

    /// The next endpoint whose connection could not be made or was lost.
    pub(super) fn next_down(&mut self) -> Option<usize> {
        let endpoint = self.down.pop_front()?;
        if let Some(link) = self.links.get_mut(endpoint) {
            (link.connection, link.outstanding, link.full) = (None, 0, false);
            link.down = false;
        }
        Some(endpoint)
    }

    /// The cluster of all connections, once it is known.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Why there is no connection to an endpoint, if one was tried.
    pub(super) fn fault(&self, endpoint: usize) -> Option<&LinkFault> {
        self.links.get(endpoint)?.fault.as_ref()
    }
}

/// An address of the host and port, another one each time if there are several.
fn resolve(address: &str, dials: usize) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let place = dials.checked_rem(addresses.len()).unwrap_or(0);
    addresses.get(place).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}
