//! A connection as the bytes that arrive on it: frames of any content, damaged ones, and anything else, cut anywhere.
//! Reading never panics, gives the same wherever the bytes are cut, and takes no memory for what has not arrived
//! (the limit of a frame is far over that of the process). What a handshake says can be said again in the same bytes.

#![no_main]

use std::io::{self, ErrorKind, Read};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::types::{ClusterId, Incarnation, NodeId};
use raft_transport_tcp::frame::{self, FRAME_HEADER_BYTES, FrameError, FrameKind};
use raft_transport_tcp::handshake::{HANDSHAKE_BYTES_MAX, Hello, Identity, Refusal, Welcome};
use raft_transport_tcp::setup::{SetupReply, SetupRequest};

#[path = "../../raft-transport-tcp/src/buffer.rs"]
#[allow(dead_code, unreachable_pub, reason = "the crate's own connections use the rest")]
mod buffer;

use buffer::{Arrived, Input, Output};

/// Longer than a process may be that runs this.
const BODY_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Arbitrary)]
struct Connection {
    parts: Vec<Part>,
    /// How many bytes arrive at once, again and again.
    cuts: Vec<u8>,
    short: bool,
}

#[derive(Debug, Arbitrary)]
enum Part {
    Raw(Vec<u8>),
    Frame { kind: u8, body: Vec<u8> },
    Damaged { kind: u8, body: Vec<u8>, at: u8, bit: u8 },
    Declared { kind: u8, length: u32, body: Vec<u8> },
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        let framed = |kind: u8, body: &[u8]| {
            let mut frame = [&frame::header(FrameKind::KeepAlive, body).expect("it is short"), body].concat();
            frame[9] = kind;
            let checksum = raft_core::crc::crc32c(0, &frame[4..]);
            frame[..4].copy_from_slice(&checksum.to_le_bytes());
            frame
        };
        match self {
            Part::Raw(bytes) => bytes.clone(),
            Part::Frame { kind, body } => framed(kind % 8, body),
            Part::Damaged { kind, body, at, bit } => {
                let mut frame = framed(kind % 8, body);
                let at = usize::from(*at) % frame.len();
                frame[at] ^= 1 << (bit % 8);
                frame
            }
            Part::Declared { kind, length, body } => {
                let mut frame = framed(*kind, body);
                frame[4..8].copy_from_slice(&length.to_le_bytes());
                frame
            }
        }
    }
}

/// Gives its bytes piece by piece, and would block between two of them.
struct Pieces<'a> {
    bytes: &'a [u8],
    cuts: &'a [u8],
    turn: usize,
    blocks: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.blocks = !self.blocks;
        if self.blocks {
            return Err(ErrorKind::WouldBlock.into());
        }
        let cut = self.cuts.get(self.turn % self.cuts.len().max(1)).map_or(usize::MAX, |&cut| usize::from(cut) + 1);
        self.turn += 1;
        let (piece, rest) = self.bytes.split_at(cut.min(into.len()).min(self.bytes.len()));
        into[..piece.len()].copy_from_slice(piece);
        self.bytes = rest;
        Ok(piece.len())
    }
}

type Found = (Vec<(FrameKind, Vec<u8>)>, Option<FrameError>, usize);

/// The frames that arrive, why there are no more, and how many bytes are left over.
fn read(bytes: &[u8], cuts: &[u8], body_bytes_max: usize) -> Found {
    let mut pieces = Pieces { bytes, cuts, turn: 0, blocks: true };
    let (mut input, mut frames) = (Input::default(), Vec::new());
    loop {
        let arrived = input.read(&mut pieces, bytes.len() + 1).expect("it blocks, and nothing worse");
        assert!(input.len() <= bytes.len(), "no more waits than has arrived");
        loop {
            match input.take_frame(body_bytes_max) {
                Ok(Some(found)) => frames.push((found.kind, input.body(&found).to_vec())),
                Ok(None) => break,
                // What follows cannot be read any more.
                Err(error) => return (frames, Some(error), 0),
            }
        }
        if arrived == Arrived::End {
            return (frames, None, input.len());
        }
    }
}

fuzz_target!(|connection: Connection| {
    let bytes: Vec<u8> = connection.parts.iter().flat_map(Part::bytes).collect();
    let body_bytes_max = if connection.short { HANDSHAKE_BYTES_MAX } else { BODY_BYTES_MAX };
    let whole = read(&bytes, &[], body_bytes_max);
    assert_eq!(read(&bytes, &connection.cuts, body_bytes_max), whole, "wherever it is cut");
    let (frames, error, left) = whole;
    let taken: usize = frames.iter().map(|(_, body)| FRAME_HEADER_BYTES + body.len()).sum();
    assert!(error.is_some() || taken + left == bytes.len(), "every byte is in a frame or waits for the rest of one");
    for (kind, body) in &frames {
        assert!(body.len() <= body_bytes_max);
        rewrite(*kind, body);
        greet(body);
    }
});

/// A frame that was read is written as one that reads the same.
fn rewrite(kind: FrameKind, body: &[u8]) {
    let (mut output, mut wire) = (Output::default(), Vec::new());
    assert!(output.frame(kind, body.len(), |into| {
        into.copy_from_slice(body);
        Some(body.len())
    }));
    output.write(&mut wire).expect("there is room");
    assert_eq!(read(&wire, &[], body.len()), (vec![(kind, body.to_vec())], None, 0));
}

/// A body as what either side says first.
fn greet(body: &[u8]) {
    let node = |id| NodeId::new(id).expect("it is not 0");
    let own = Identity { cluster: ClusterId(1), node: node(2), incarnation: Incarnation(3), configuration: 9 };
    let mut buffer = [0; HANDSHAKE_BYTES_MAX];
    if let Ok(hello) = Hello::decode(body) {
        let encoded = postcard::to_slice(&hello, &mut buffer).expect("a hello is short");
        assert_eq!(Hello::decode(encoded), Ok(hello.clone()));
        if let Ok(welcome) = hello.answer(&own, hello.key, |node| node.get() <= 3) {
            assert_eq!(welcome.identity, own);
        }
    }
    if let Some(welcome) = Welcome::decode(body)
        && welcome.check(&own, node(1)).is_ok()
    {
        assert_eq!((welcome.identity.cluster, welcome.identity.node), (own.cluster, node(1)));
    }
    if let Some(request) = SetupRequest::decode(body) {
        assert_eq!(SetupRequest::decode(&request.encode()), Some(request));
    }
    if let Some(reply) = SetupReply::decode(body) {
        assert_eq!(SetupReply::decode(&reply.encode()), Some(reply));
    }
    if let Ok(refusal) = postcard::from_bytes::<Refusal>(body) {
        assert!(!refusal.to_string().is_empty());
    }
}
