//! The links of an engine, without I/O: to which endpoints there is a connection, what waits on it, and when it is taken
//! for dead.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use raft_core::client::protocol::{Request, Response};
use raft_core::types::{ClusterId, Instant, Millis};
use raft_transport_tcp::client::{ConnectionError, SendError};
use raft_transport_tcp::handshake::Refusal;
use thiserror::Error;

use crate::engine::connections::{ConnectionEvent, Connections};
use crate::engine::dispatch::millis;
use crate::options::Options;

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
pub(super) struct Links<C> {
    connections: C,
    links: Vec<Link>,
    /// The cluster: the one in the options, or else that of the first node that was reached. Never another.
    cluster: Option<ClusterId>,
    connect_timeout: Millis,
    silence_max: Millis,
    readable: VecDeque<usize>,
    opened: VecDeque<usize>,
    down: VecDeque<usize>,
}

/// The connection to one endpoint, if there is one.
#[derive(Debug, Default)]
struct Link {
    state: LinkState,
    /// Too much waits to be sent.
    full: bool,
    /// It stands in the queue of readable ones.
    readable: bool,
    /// Its end was not yet told.
    down: bool,
    /// How often it was dialed.
    dials: usize,
    fault: Option<LinkFault>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinkState {
    /// There is no connection.
    #[default]
    Closed,
    /// Dialed at that moment.
    Dialing(Instant),
    /// Requests can be sent. So many were not answered, and an answer has been waited for since then.
    Established { outstanding: usize, since: Instant },
}

impl Link {
    /// When it is taken for dead, unless something arrives.
    fn deadline(&self, connect_timeout: Millis, silence_max: Millis) -> Instant {
        match self.state {
            LinkState::Closed | LinkState::Established { outstanding: 0, .. } => Instant::NEVER,
            LinkState::Dialing(since) => since.after(connect_timeout),
            LinkState::Established { since, .. } => since.after(silence_max),
        }
    }
}

impl<C: Connections> Links<C> {
    pub(super) fn new(options: &Options, connections: C) -> Links<C> {
        Links {
            connections,
            links: Vec::new(),
            cluster: options.cluster,
            connect_timeout: millis(options.connect_timeout),
            silence_max: millis(options.attempt_timeout),
            readable: VecDeque::new(),
            opened: VecDeque::new(),
            down: VecDeque::new(),
        }
    }

    pub(super) fn connections(&self) -> &C {
        &self.connections
    }

    pub(super) fn connections_mut(&mut self) -> &mut C {
        &mut self.connections
    }

    /// Whether requests can be sent to the endpoint now. If there is no connection, one is begun.
    pub(super) fn open(&mut self, now: Instant, endpoint: usize, address: &str) -> bool {
        if endpoint >= self.links.len() {
            self.links.resize_with(endpoint + 1, Link::default);
        }
        let Some(link) = self.links.get_mut(endpoint) else { return false };
        match link.state {
            LinkState::Established { .. } => return !link.full,
            LinkState::Closed if !link.down => {
                link.dials = link.dials.wrapping_add(1);
                link.state = LinkState::Dialing(now);
                if let Err(fault) = self.connections.dial(endpoint, address, link.dials, self.cluster) {
                    self.fail(endpoint, fault);
                }
            }
            LinkState::Closed | LinkState::Dialing(_) => {}
        }
        false
    }

    /// Puts a request after those that wait to be sent. Returns whether it was taken.
    pub(super) fn send(&mut self, now: Instant, endpoint: usize, request: &Request<'_>) -> bool {
        let Some(link) = self.links.get_mut(endpoint) else { return false };
        let LinkState::Established { outstanding, since } = link.state else { return false };
        match self.connections.send(endpoint, request) {
            Ok(()) => {
                let since = if outstanding == 0 { now } else { since };
                link.state = LinkState::Established { outstanding: outstanding + 1, since };
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

    /// Hands on what waits to be sent.
    pub(super) fn flush(&mut self) {
        for endpoint in 0..self.links.len() {
            let Some(link) = self.links.get_mut(endpoint) else { return };
            if matches!(link.state, LinkState::Established { .. }) {
                match self.connections.flush(endpoint) {
                    Ok(()) => link.full = false,
                    Err(fault) => self.fail(endpoint, fault),
                }
            }
        }
    }

    /// Takes in what happened to the connections.
    pub(super) fn take_events(&mut self, now: Instant) {
        while let Some((endpoint, event)) = self.connections.next_event() {
            self.happened(now, endpoint, event);
        }
    }

    fn happened(&mut self, now: Instant, endpoint: usize, event: ConnectionEvent) {
        let Some(link) = self.links.get_mut(endpoint).filter(|link| link.state != LinkState::Closed) else { return };
        match event {
            ConnectionEvent::Established(cluster) => match check_cluster(self.cluster, cluster) {
                Ok(()) => {
                    self.cluster = Some(cluster);
                    link.state = LinkState::Established { outstanding: 0, since: now };
                    link.fault = None;
                    self.opened.push_back(endpoint);
                }
                Err(fault) => self.fail(endpoint, fault),
            },
            ConnectionEvent::Writable => link.full = false,
            ConnectionEvent::Readable => {
                if !link.readable {
                    link.readable = true;
                    self.readable.push_back(endpoint);
                }
            }
            ConnectionEvent::Lost(fault) => self.fail(endpoint, fault),
        }
    }

    /// The connection is at its end, which is told once.
    fn fail(&mut self, endpoint: usize, fault: LinkFault) {
        self.connections.hang_up(endpoint);
        let fault = match fault {
            LinkFault::Connection(ConnectionError::Refused(Refusal::OtherCluster { cluster })) => {
                check_cluster(self.cluster, cluster).err().unwrap_or(fault)
            }
            fault => fault,
        };
        let Some(link) = self.links.get_mut(endpoint) else { return };
        (link.state, link.full) = (LinkState::Closed, false);
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
                let dialing = matches!(link.state, LinkState::Dialing(_));
                self.fail(endpoint, if dialing { LinkFault::ConnectTimeout } else { LinkFault::Silent });
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
        let LinkState::Established { outstanding, .. } = &link.state else { return None };
        let outstanding = outstanding.saturating_sub(1);
        match self.connections.response(endpoint) {
            Ok(Some(response)) => {
                link.state = LinkState::Established { outstanding, since: now };
                Some(response)
            }
            Ok(None) => None,
            Err(fault) => {
                // The connection is still borrowed for the response; it is hung up when its end is told.
                (link.state, link.full) = (LinkState::Closed, false);
                link.fault = Some(fault);
                if !link.down {
                    link.down = true;
                    self.down.push_back(endpoint);
                }
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
        self.connections.hang_up(endpoint);
        if let Some(link) = self.links.get_mut(endpoint) {
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
