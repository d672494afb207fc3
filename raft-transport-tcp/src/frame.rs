//! Frames: what bytes on a connection are cut into.
//!
//! | offset | bytes | field, little-endian |
//! |---|---|---|
//! | 0 | 4 | CRC-32C over all that follows: the other 8 bytes of the header, then the body |
//! | 4 | 4 | length of the body in bytes |
//! | 8 | 1 | version of the framing: 1 |
//! | 9 | 1 | kind of the body |
//! | 10 | 2 | group: which of several Raft groups behind one port is meant; 0 is the first |
//!
//! The body lies right behind the header.

use raft_core::crc::crc32c;
use thiserror::Error;

/// The bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 12;
/// The version of the framing that this code speaks.
pub const FRAME_VERSION: u8 = 1;

/// What the body of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// [`crate::handshake::Hello`], the first frame of who dialed.
    Hello = 1,
    /// [`crate::handshake::Welcome`], the answer to it.
    Welcome = 2,
    /// [`crate::handshake::Refusal`], the other answer, after which the connection ends.
    Refused = 3,
    /// Nothing: shows that the sender is alive.
    KeepAlive = 4,
    /// [`raft_core::message::Message`], between nodes.
    Message = 5,
    /// [`raft_core::client::protocol::Request`], from a client.
    Request = 6,
    /// [`raft_core::client::protocol::Response`], to a client.
    Response = 7,
    /// `setup::SetupRequest`, to a node that waits for its cluster.
    Setup = 8,
    /// `setup::SetupReply`, from such a node.
    SetupReply = 9,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        use FrameKind::{Hello, KeepAlive, Message, Refused, Request, Response, Setup, SetupReply, Welcome};
        let kinds = [Hello, Welcome, Refused, KeepAlive, Message, Request, Response, Setup, SetupReply];
        kinds.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// A frame, borrowed from the bytes it was decoded from. Guarantee: the checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the body is.
    pub kind: FrameKind,
    /// The Raft group that is meant.
    pub group: u16,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the frame at the beginning of `bytes`; `None` if more bytes must arrive first. The
    /// frame takes [`FRAME_HEADER_BYTES`] and its body's length.
    ///
    /// Nothing is believed of the length before it is found to be within `body_bytes_max`, and
    /// nothing else before the checksum fits.
    ///
    /// # Errors
    /// [`FrameError`]: what follows on the connection cannot be read any more; close it.
    pub fn decode(bytes: &'a [u8], body_bytes_max: usize) -> Result<Option<Frame<'a>>, FrameError> {
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let [c0, c1, c2, c3, l0, l1, l2, l3, version, kind, g0, g1] = *header;
        if version != FRAME_VERSION {
            return Err(FrameError::Version { version });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if body_bytes > body_bytes_max {
            return Err(FrameError::TooLong { length, limit: body_bytes_max });
        }
        let Some(body) = rest.get(..body_bytes) else { return Ok(None) };
        let (_, covered) = header.split_at(4);
        if crc32c(crc32c(0, covered), body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(FrameError::Checksum);
        }
        let kind = FrameKind::from_byte(kind).ok_or(FrameError::Kind { kind })?;
        Ok(Some(Frame { kind, group: u16::from_le_bytes([g0, g1]), body }))
    }

    /// The bytes of header and body together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body.len()
    }
}

/// The header of a frame of group 0 with this body.
///
/// # Errors
/// [`FrameError::TooLong`] for a body whose length does not fit into the header.
pub fn header(kind: FrameKind, body: &[u8]) -> Result<[u8; FRAME_HEADER_BYTES], FrameError> {
    let too_long = FrameError::TooLong { length: u32::MAX, limit: u32::MAX as usize };
    let [l0, l1, l2, l3] = u32::try_from(body.len()).map_err(|_| too_long)?.to_le_bytes();
    let covered = [l0, l1, l2, l3, FRAME_VERSION, kind as u8, 0, 0];
    let [c0, c1, c2, c3] = crc32c(crc32c(0, &covered), body).to_le_bytes();
    Ok([c0, c1, c2, c3, l0, l1, l2, l3, FRAME_VERSION, kind as u8, 0, 0])
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Another version of the framing, or another protocol altogether.
    #[error("framing version {version} is not known here (or this is another protocol): {FRAME_VERSION} is")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The declared length is over the limit.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The declared length.
        length: u32,
        /// The limit in bytes.
        limit: usize,
    },
    /// The checksum does not fit the bytes.
    #[error("the checksum of a frame does not fit its bytes: they were damaged on the way")]
    Checksum,
    /// A kind this version does not know.
    #[error("frames of kind {kind} are not known here")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// A kind that has no place here.
    #[error("a frame of kind {kind:?} has no place on this connection now")]
    Misplaced {
        /// The kind.
        kind: FrameKind,
    },
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests {
    use super::*;

    fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        [header(kind, body).unwrap().as_slice(), body].concat()
    }

    /// The format's golden vector, as it stands in FORMAT.md.
    #[test]
    fn golden_vector() {
        let bytes = frame(FrameKind::Message, b"hi");
        assert_eq!(bytes[4..], [2, 0, 0, 0, 1, 5, 0, 0, b'h', b'i']);
        assert_eq!(bytes[..4], crc32c(0, &bytes[4..]).to_le_bytes());
    }

    #[test]
    fn a_stream_reads_the_same_wherever_it_is_cut() {
        let bodies: [&[u8]; 3] = [b"first", b"", &[7; 300]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(FrameKind::Request, body)).collect();
        for split in 0..=stream.len() {
            let (mut buffer, mut read) = (Vec::new(), Vec::new());
            for part in [&stream[..split], &stream[split..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = Frame::decode(&buffer, 1000).unwrap() {
                    read.push(frame.body.to_vec());
                    let bytes = frame.bytes();
                    buffer.drain(..bytes);
                }
            }
            assert!(buffer.is_empty());
            assert_eq!(read, bodies);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = frame(FrameKind::Message, b"body");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A length that grew waits for bytes that never come, or meets the wrong checksum.
            bad.resize(good.len() + 1000, 0);
            assert!(!matches!(Frame::decode(&bad, 4096), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn lengths_over_the_limit_are_refused_at_once() {
        let mut bytes = frame(FrameKind::Message, b"body");
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let refused = FrameError::TooLong { length: u32::MAX, limit: 4096 };
        assert_eq!(Frame::decode(&bytes[..12], 4096), Err(refused));
        assert!(matches!(Frame::decode(b"GET / HTTP/1.1\r\n", 4096), Err(FrameError::Version { .. })));
    }
}
