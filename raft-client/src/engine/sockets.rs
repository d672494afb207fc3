//! Connections over sockets: what moves the bytes of an engine.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use raft_core::client::protocol::{HEAD_BYTES_MAX, Request, Response};
use raft_core::types::ClusterId;
use raft_transport_tcp::client::{ClientConnection, SendError};

use crate::engine::EngineError;
use crate::engine::connections::{ConnectionEvent, Connections};
use crate::engine::links::LinkFault;
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

/// The sockets of an engine, and the poll that waits for them.
#[derive(Debug)]
pub(super) struct Sockets {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    /// By the number of the endpoint.
    connections: Vec<Option<ClientConnection>>,
    frame_bytes_max: usize,
    happened: VecDeque<(usize, ConnectionEvent)>,
}

impl Sockets {
    pub(super) fn new(options: &Options) -> Result<Sockets, EngineError> {
        let poll = mio::Poll::new().map_err(EngineError::Poll)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(EngineError::Poll)?;
        Ok(Sockets {
            poll,
            events: mio::Events::with_capacity(64),
            waker: Arc::new(waker),
            connections: Vec::new(),
            frame_bytes_max: options.message_bytes_max.saturating_add(HEAD_BYTES_MAX),
            happened: VecDeque::new(),
        })
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Waits until something happens or `timeout` has passed (`None`: no limit), and lets the connections go on.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in self.events.iter().filter(|event| event.token() != WAKER) {
            let endpoint = event.token().0;
            let Some(slot) = self.connections.get_mut(endpoint) else { continue };
            if let Some(connection) = slot
                && let Err(fault) = go_on(connection, event, |happened| self.happened.push_back((endpoint, happened)))
            {
                *slot = None;
                self.happened.push_back((endpoint, ConnectionEvent::Lost(fault)));
            }
        }
        Ok(())
    }

    fn connection(&mut self, endpoint: usize) -> Option<&mut ClientConnection> {
        self.connections.get_mut(endpoint)?.as_mut()
    }
}

/// Handles what the poll announced for a connection.
fn go_on(
    connection: &mut ClientConnection,
    event: &mio::event::Event,
    mut tell: impl FnMut(ConnectionEvent),
) -> Result<(), LinkFault> {
    let was_established = connection.is_established();
    connection.ready(event)?;
    if let Some(node) = connection.node().filter(|_| !was_established) {
        tell(ConnectionEvent::Established(node.cluster));
    }
    tell(ConnectionEvent::Writable);
    if connection.has_unread() {
        tell(ConnectionEvent::Readable);
    }
    Ok(())
}

impl Connections for Sockets {
    fn dial(
        &mut self,
        endpoint: usize,
        address: &str,
        dial: usize,
        cluster: Option<ClusterId>,
    ) -> Result<(), LinkFault> {
        if endpoint >= self.connections.len() {
            self.connections.resize_with(endpoint + 1, || None);
        }
        let address = resolve(address, dial).map_err(LinkFault::Resolve)?;
        let (registry, token) = (self.poll.registry(), mio::Token(endpoint));
        let connection = ClientConnection::dial(address, cluster, self.frame_bytes_max, registry, token)?;
        if let Some(slot) = self.connections.get_mut(endpoint) {
            *slot = Some(connection);
        }
        Ok(())
    }

    fn send(&mut self, endpoint: usize, request: &Request<'_>) -> Result<(), SendError> {
        self.connection(endpoint).map_or(Err(SendError::NotEstablished), |connection| connection.send(request))
    }

    fn flush(&mut self, endpoint: usize) -> Result<(), LinkFault> {
        Ok(self.connection(endpoint).map_or(Ok(()), ClientConnection::flush)?)
    }

    fn response(&mut self, endpoint: usize) -> Result<Option<Response<'_>>, LinkFault> {
        Ok(self.connection(endpoint).map_or(Ok(None), ClientConnection::response)?)
    }

    fn hang_up(&mut self, endpoint: usize) {
        if let Some(slot) = self.connections.get_mut(endpoint) {
            *slot = None;
        }
        self.happened.retain(|&(happened_to, _)| happened_to != endpoint);
    }

    fn next_event(&mut self) -> Option<(usize, ConnectionEvent)> {
        self.happened.pop_front()
    }
}

/// An address of the host and port, another one each time if there are several.
fn resolve(address: &str, dials: usize) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let place = dials.checked_rem(addresses.len()).unwrap_or(0);
    addresses.get(place).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}
