//! One connection: a socket with its two buffers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::buffer::{Arrived, Found, Input, Output};
use crate::frame::{FrameError, FrameKind};

/// What bytes go through. All reads and writes of sockets are here; an encrypted stream is to be
/// another variant.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that is driven by readiness.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// The socket may have more to read. Readiness is announced once, so it is remembered here.
    readable: bool,
    /// The socket may take more. Likewise.
    writable: bool,
    /// What the poll calls it, once it is registered.
    token: Option<Token>,
    /// When something was received last, and sent.
    pub(crate) heard_at: Instant,
    pub(crate) sent_at: Instant,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, now: Instant) -> Connection {
        Connection {
            stream: Stream::Plain(stream),
            input: Input::default(),
            output: Output::default(),
            readable: false,
            writable: false,
            token: None,
            heard_at: now,
            sent_at: now,
        }
    }

    /// Begins to connect to `address`.
    pub(crate) fn dial(address: SocketAddr, now: Instant) -> io::Result<Connection> {
        Ok(Connection::new(TcpStream::connect(address)?, now))
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Stream::Plain(stream) = &mut self.stream;
        self.token = Some(token);
        registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Stream::Plain(stream) = &mut self.stream;
        self.token = Some(token);
        registry.reregister(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Whether it is connected, once its socket has become writable.
    ///
    /// # Errors
    /// Why it could not be.
    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        let Stream::Plain(stream) = &mut self.stream;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                // Small frames go out at once; a socket that cannot do so is only slower.
                let _ = stream.set_nodelay(true);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the poll calls it so.
    pub(crate) fn is(&self, token: Token) -> bool {
        self.token == Some(token)
    }

    /// Notes what the poll has announced.
    pub(crate) fn announce(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// Whether [`Connection::read`] could find something.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Reads what has arrived, as long as fewer than `bytes_max` bytes wait to be taken.
    ///
    /// # Errors
    /// The connection is broken or was closed by the other side.
    pub(crate) fn read(&mut self, bytes_max: usize, now: Instant) -> io::Result<()> {
        if !self.readable {
            return Ok(());
        }
        let before = self.input.len();
        let arrived = self.input.read(&mut self.stream, bytes_max)?;
        if self.input.len() > before {
            self.heard_at = now;
        }
        match arrived {
            Arrived::All => self.readable = false,
            Arrived::Some => {}
            // What came before the end is still taken; the end is met again at the next read.
            Arrived::End if self.input.len() > before => {}
            Arrived::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn write(&mut self, now: Instant) -> io::Result<()> {
        if !self.writable || self.output.len() == 0 {
            return Ok(());
        }
        self.output.write(&mut self.stream)?;
        self.sent_at = now;
        self.writable = self.output.len() == 0;
        Ok(())
    }

    pub(crate) fn take_frame(&mut self, body_bytes_max: usize) -> Result<Option<Found>, FrameError> {
        self.input.take_frame(body_bytes_max)
    }

    /// Puts a frame with this body behind what waits to be sent.
    pub(crate) fn send<T: serde::Serialize>(&mut self, kind: FrameKind, body: &T) {
        let bytes_max = crate::handshake::HANDSHAKE_BYTES_MAX;
        let encoded = self.output.frame(kind, bytes_max, |into| Some(postcard::to_slice(body, into).ok()?.len()));
        assert!(encoded, "frames of a handshake are short");
    }

    pub(crate) fn send_keep_alive(&mut self) {
        self.output.frame(FrameKind::KeepAlive, 0, |_| Some(0));
    }
}
