//! A client's end of a connection to a node, for a program that has a poll of its own.
//!
//! In this order: [`ClientConnection::dial`] begins to connect and registers; when the poll
//! announces something for its token, [`ClientConnection::ready`]; once
//! [`ClientConnection::is_established`], [`ClientConnection::send`] and then
//! [`ClientConnection::flush`], and [`ClientConnection::response`] until there is none. An error
//! ends the connection: drop it, and dial anew.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};
use raft_core::client::protocol::{ProtocolError, Request, Response};
use raft_core::types::ClusterId;
use thiserror::Error;

use crate::connection::Connection;
use crate::frame::{FrameError, FrameKind};
use crate::handshake::{HANDSHAKE_BYTES_MAX, Hello, Identity, Refusal, Role, Welcome};

/// A connection from a client to a node.
#[derive(Debug)]
pub struct ClientConnection {
    connection: Connection,
    state: State,
    cluster: Option<ClusterId>,
    frame_bytes_max: usize,
    output_bytes_max: usize,
    /// What has been received may hold another whole frame.
    unread: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Connecting,
    Greeting,
    Established(Identity),
}

impl ClientConnection {
    /// Begins to connect to a node at `address`, of `cluster` if that is given, and registers the
    /// socket under `token`. Frames may have `frame_bytes_max` bytes, and so many may wait to be
    /// sent besides.
    ///
    /// # Errors
    /// The system could not begin.
    pub fn dial(
        address: SocketAddr,
        cluster: Option<ClusterId>,
        frame_bytes_max: usize,
        registry: &Registry,
        token: Token,
    ) -> Result<ClientConnection, ConnectionError> {
        let mut connection = Connection::dial(address, Instant::now())?;
        connection.register(registry, token)?;
        let output_bytes_max = frame_bytes_max;
        let state = State::Connecting;
        Ok(ClientConnection { connection, state, cluster, frame_bytes_max, output_bytes_max, unread: false })
    }

    /// Handles what the poll announced: goes on with the handshake, sends, reads.
    ///
    /// # Errors
    /// The connection is at its end. Responses that had arrived are lost with it.
    pub fn ready(&mut self, event: &Event) -> Result<(), ConnectionError> {
        let now = Instant::now();
        self.connection.announce(event);
        if let State::Connecting = self.state {
            if !self.connection.connected()? {
                return Ok(());
            }
            self.connection.send(FrameKind::Hello, &Hello::new(Role::Client { cluster: self.cluster }));
            self.state = State::Greeting;
        }
        self.connection.write(now)?;
        self.read(now)?;
        if let State::Greeting = self.state
            && let Some(found) = self.connection.take_frame(HANDSHAKE_BYTES_MAX)?
        {
            let body = self.connection.input.body(&found);
            let bad = |_| ConnectionError::Handshake;
            match found.kind {
                FrameKind::Welcome => {
                    let welcome = Welcome::decode(body).ok_or(ConnectionError::Handshake)?;
                    self.state = State::Established(welcome.identity);
                }
                FrameKind::Refused => return Err(postcard::from_bytes::<Refusal>(body).map_err(bad)?.into()),
                _ => return Err(ConnectionError::Handshake),
            }
        }
        Ok(())
    }

    fn read(&mut self, now: Instant) -> Result<(), ConnectionError> {
        if self.connection.is_readable() {
            let bytes_max = self.frame_bytes_max + crate::frame::FRAME_HEADER_BYTES;
            self.connection.read(bytes_max, now)?;
            self.unread = true;
        }
        Ok(())
    }

    /// Whether requests can be sent.
    #[must_use]
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// The node that was reached, once that is known.
    #[must_use]
    pub fn node(&self) -> Option<Identity> {
        match self.state {
            State::Established(identity) => Some(identity),
            _ => None,
        }
    }

    /// Puts a request behind what waits to be sent. Call [`ClientConnection::flush`] afterwards,
    /// once for many.
    ///
    /// # Errors
    /// [`SendError`]: it was not taken, and will not be sent.
    pub fn send(&mut self, request: &Request<'_>) -> Result<(), SendError> {
        if !self.is_established() {
            return Err(SendError::NotEstablished);
        }
        if request.bytes_max() > self.frame_bytes_max {
            return Err(SendError::TooLong { limit: self.frame_bytes_max });
        }
        if self.connection.output.len() > self.output_bytes_max {
            return Err(SendError::Full);
        }
        let encode = |into: &mut [u8]| request.encode(into).ok();
        let sent = self.connection.output.frame(FrameKind::Request, request.bytes_max(), encode);
        if sent { Ok(()) } else { Err(SendError::TooLong { limit: self.frame_bytes_max }) }
    }

    /// Sends what waits, as far as the socket takes it; the rest goes when it is ready again.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        Ok(self.connection.write(Instant::now())?)
    }

    /// Whether a response may be waiting: then do not sleep before [`ClientConnection::response`]
    /// has given `None`.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.is_established() && (self.unread || self.connection.is_readable())
    }

    /// The next response that has arrived whole.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn response(&mut self) -> Result<Option<Response<'_>>, ConnectionError> {
        if !self.is_established() {
            return Ok(None);
        }
        loop {
            match self.connection.take_frame(self.frame_bytes_max)? {
                Some(found) if found.kind == FrameKind::Response => {
                    return Ok(Some(Response::decode(self.connection.input.body(&found))?));
                }
                Some(found) if found.kind == FrameKind::KeepAlive => {}
                Some(found) => return Err(FrameError::Misplaced { kind: found.kind }.into()),
                // Perhaps the buffer's limit was reached, and there is more in the socket.
                None if self.connection.is_readable() => self.read(Instant::now())?,
                None => {
                    self.unread = false;
                    return Ok(None);
                }
            }
        }
    }
}

/// Why a connection is at its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The system or the other side ended it.
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    /// The node refused the client.
    #[error("the node refused the connection: {0}")]
    Refused(#[from] Refusal),
    /// The other side does not speak this protocol.
    #[error("the other side does not answer as a node of this protocol does: check the address and port")]
    Handshake,
    /// What arrived is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame holds no response.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The handshake is not done.
    #[error("the connection is not established yet")]
    NotEstablished,
    /// Too much waits to be sent.
    #[error("too much waits to be sent; try again when the socket has taken some of it")]
    Full,
    /// The request is over the limit of a frame.
    #[error("the request is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}
