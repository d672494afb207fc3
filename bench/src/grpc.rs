//! A gRPC client of unary calls over one HTTP/2 connection without TLS, as thin as it can be.
//!
//! Calls of many tasks share the connection as streams. Nothing is retried: what the server or the connection answers is
//! what the caller sees. Source: "gRPC over HTTP2", the protocol's own description.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use thiserror::Error;
use tokio::net::TcpStream;

/// Each message has one flag byte and four bytes of length in front.
const PREFIX_BYTES: usize = 5;

/// Flow-control windows: so large that a response never waits for one.
const WINDOW_BYTES: u32 = 16 << 20;

/// A response of more than this is none that this client asks for.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// Why a connection could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}")]
    Tcp {
        /// Where to.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The other side does not speak HTTP/2.
    #[error("no HTTP/2 with {address}: {source}")]
    Handshake {
        /// Where to.
        address: SocketAddr,
        /// What the handshake said.
        source: h2::Error,
    },
}

/// Why a call failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The stream or the connection broke.
    #[error("the HTTP/2 stream broke: {0}")]
    Stream(#[from] h2::Error),
    /// The server answered with another HTTP status than 200.
    #[error("HTTP status {0}")]
    Http(StatusCode),
    /// The server refused the call.
    #[error("gRPC status {code}: {message}")]
    Status {
        /// The number of the status; its names are in gRPC's status code list.
        code: String,
        /// The server's words; may be empty.
        message: String,
    },
    /// The response has no `grpc-status`.
    #[error("the response ends without a grpc-status")]
    NoStatus,
    /// The body is not one uncompressed message of a sane length.
    #[error("the response body of {0} bytes is not one uncompressed gRPC message")]
    Body(usize),
}

/// A method of a service, ready to be called: the head of its requests, made once.
#[derive(Debug, Clone)]
pub struct MethodHead(Request<()>);

impl MethodHead {
    /// The method `path` (`/package.Service/Method`) at `address`.
    pub fn new(address: SocketAddr, path: &'static str) -> Self {
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query(path)
            .build()
            .expect("a socket address is an authority and the path is a constant of this crate");
        let head = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("all parts are constants or checked above");
        Self(head)
    }
}

/// A message with its prefix, as it goes into a request. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Framed(Bytes);

impl Framed {
    /// Puts the prefix in front of what `encode` appends.
    pub fn encode(encode: impl FnOnce(&mut BytesMut)) -> Self {
        let mut out = BytesMut::zeroed(PREFIX_BYTES);
        encode(&mut out);
        let len = u32::try_from(out.len() - PREFIX_BYTES).expect("requests of this crate are far below 4 GiB");
        let mut prefix = out.split_to(PREFIX_BYTES);
        prefix.clear();
        prefix.put_u8(0);
        prefix.put_u32(len);
        prefix.unsplit(out);
        Self(prefix.freeze())
    }
}

/// One connection. A clone is another handle on the same connection.
#[derive(Debug, Clone)]
pub struct Channel {
    streams: SendRequest<Bytes>,
}

impl Channel {
    /// Connects to `address`; the connection is driven by a task of the current runtime until all handles are gone.
    pub async fn connect(address: SocketAddr) -> Result<Self, ConnectError> {
        let socket = TcpStream::connect(address).await.map_err(|source| ConnectError::Tcp { address, source })?;
        socket.set_nodelay(true).map_err(|source| ConnectError::Tcp { address, source })?;
        let (streams, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(|source| ConnectError::Handshake { address, source })?;
        // A failure of the connection reaches every caller as the failure of its stream, so it is not lost here.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { streams })
    }

    /// Calls `method` with one message and returns the message of the answer, without its prefix.
    pub async fn call(&mut self, method: &MethodHead, message: Framed) -> Result<Bytes, CallError> {
        poll_fn(|cx| self.streams.poll_ready(cx)).await?;
        let (response, mut stream) = self.streams.send_request(method.0.clone(), false)?;
        stream.send_data(message.0, true)?;
        receive(response).await
    }
}

async fn receive(response: ResponseFuture) -> Result<Bytes, CallError> {
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(CallError::Http(head.status));
    }
    let mut whole = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        whole.extend_from_slice(&part);
        if whole.len() > RESPONSE_BYTES_MAX {
            return Err(CallError::Body(whole.len()));
        }
    }
    match body.trailers().await? {
        Some(trailers) => check_status(&trailers)?,
        // A response of trailers only has the status in its head.
        None => check_status(&head.headers)?,
    }
    unframe(whole.freeze())
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status") {
        Some(code) if code == "0" => Ok(()),
        Some(code) => Err(CallError::Status { code, message: text("grpc-message").unwrap_or_default() }),
        None => Err(CallError::NoStatus),
    }
}

fn unframe(whole: Bytes) -> Result<Bytes, CallError> {
    match whole.split_first_chunk::<PREFIX_BYTES>() {
        Some(([0, len @ ..], rest)) if u32::from_be_bytes(*len) as usize == rest.len() => Ok(whole.slice_ref(rest)),
        _ => Err(CallError::Body(whole.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_from_its_frame() {
        let framed = Framed::encode(|out| out.put_slice(b"abc"));
        assert_eq!(&framed.0[..], b"\0\0\0\0\x03abc");
        assert_eq!(unframe(framed.0).expect("one whole message"), "abc");
    }

    #[test]
    fn a_broken_body_is_refused() {
        for body in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x01", b"\x01\0\0\0\0", b"\0\0\0\0\0x"] {
            assert!(matches!(unframe(Bytes::from_static(body)), Err(CallError::Body(len)) if len == body.len()));
        }
    }

    #[test]
    fn only_status_zero_is_success() {
        let mut headers = HeaderMap::new();
        assert!(matches!(check_status(&headers), Err(CallError::NoStatus)));
        headers.insert("grpc-status", "14".parse().expect("a header value"));
        assert!(matches!(check_status(&headers), Err(CallError::Status { code, .. }) if code == "14"));
        headers.insert("grpc-status", "0".parse().expect("a header value"));
        assert!(check_status(&headers).is_ok());
    }
}
