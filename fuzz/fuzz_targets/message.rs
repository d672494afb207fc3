//! Arbitrary bytes are read as everything that comes over the network: that may be refused, but never panics,
//! and what is read is written back as something that reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raft_core::client::protocol::{Request, Response};
use raft_core::message::Message;
use raft_core::session::operation::{OPERATION_HEAD_BYTES_MAX, Operation};
use raft_transport_tcp::frame::{FRAME_HEADER_BYTES, Frame};
use raft_transport_tcp::handshake::Hello;

/// A limit far below what an input can declare.
const BODY_BYTES_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::decode(bytes) {
        let mut buffer = vec![0; message.bytes_max()];
        let length = message.encode(&mut buffer).expect("a message fits its bound");
        assert_eq!(Message::decode(&buffer[..length]), Ok(message));
    }
    if let Ok(request) = Request::decode(bytes) {
        let mut buffer = vec![0; request.bytes_max()];
        let length = request.encode(&mut buffer).expect("a request fits its bound");
        assert_eq!(Request::decode(&buffer[..length]), Ok(request));
    }
    if let Ok(response) = Response::decode(bytes) {
        let mut buffer = vec![0; response.bytes_max()];
        let length = response.encode(&mut buffer).expect("a response fits its bound");
        assert_eq!(Response::decode(&buffer[..length]), Ok(response));
    }
    if let Ok(operation) = Operation::decode(bytes) {
        let mut head = [0; OPERATION_HEAD_BYTES_MAX];
        let (head, command) = operation.encode(&mut head);
        assert_eq!(Operation::decode(&[head, command].concat()), Ok(operation));
    }
    let _ = Hello::decode(bytes);
    if let Ok(Some(frame)) = Frame::decode(bytes, BODY_BYTES_MAX) {
        // No shorter beginning of it is a frame.
        assert!(frame.bytes() >= FRAME_HEADER_BYTES && frame.bytes() <= bytes.len());
        let cut = Frame::decode(&bytes[..frame.bytes() - 1], BODY_BYTES_MAX);
        assert_eq!(cut, Ok(None));
    }
});
