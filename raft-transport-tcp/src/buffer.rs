//! Bytes on their way in and out of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;

use crate::frame::{Frame, FrameError, FrameKind};

/// How many bytes a read asks for at least.
const READ_BYTES: usize = 64 << 10;
/// A buffer that has grown beyond this gives its memory back once it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What has arrived and has not been taken. Grows with what arrives, never by what is declared.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    /// Invariant: `start <= end <= bytes.len()`.
    start: usize,
    end: usize,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// All there was.
    All,
    /// The buffer's limit was reached; there may be more.
    Some,
    /// The other side has closed.
    End,
}

/// A frame that lies in an [`Input`]: its kind, and where its body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: FrameKind,
    pub(crate) body: Range<usize>,
}

impl Input {
    /// How many bytes wait to be taken.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Reads what has arrived, until `bytes_max` or more wait here.
    pub(crate) fn read(&mut self, stream: &mut impl Read, bytes_max: usize) -> io::Result<Arrived> {
        while self.len() < bytes_max {
            self.make_room();
            let room = self.bytes.get_mut(self.end..).unwrap_or_default();
            let asked = room.len();
            match stream.read(room) {
                Ok(0) => return Ok(Arrived::End),
                Ok(read) => {
                    self.end += read;
                    // A short read has emptied the socket: what comes later is announced anew.
                    if read < asked {
                        return Ok(Arrived::All);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrived::All),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Arrived::Some)
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEPT_BYTES_MAX {
                self.bytes = Vec::new();
            }
        }
        if self.bytes.len() - self.end >= READ_BYTES / 2 {
            return;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.bytes.len() - self.end < READ_BYTES / 2 {
            self.bytes.resize(self.end * 2 + READ_BYTES, 0);
        }
    }

    /// Takes the next whole frame. Its body is in [`Input::body`] until the next read.
    pub(crate) fn take_frame(&mut self, body_bytes_max: usize) -> Result<Option<Found>, FrameError> {
        let waiting = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some(frame) = Frame::decode(waiting, body_bytes_max)? else { return Ok(None) };
        let (kind, bytes, body_bytes) = (frame.kind, frame.bytes(), frame.body.len());
        self.start += bytes;
        Ok(Some(Found { kind, body: self.start - body_bytes..self.start }))
    }

    /// The body of a frame that was taken.
    pub(crate) fn body(&self, found: &Found) -> &[u8] {
        self.bytes.get(found.body.clone()).expect("a taken frame lies in the buffer until the next read")
    }
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// What of it has been sent. Invariant: `sent <= bytes.len()`.
    sent: usize,
}

impl Output {
    /// How many bytes wait to be sent.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Puts a frame behind what waits; `encode` writes its body of at most `body_bytes_max` right
    /// into its place and gives its length. If it gives `None`, there is no frame.
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        body_bytes_max: usize,
        encode: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let start = self.bytes.len();
        let body_start = start + crate::frame::FRAME_HEADER_BYTES;
        self.bytes.resize(body_start + body_bytes_max, 0);
        let length = self.bytes.get_mut(body_start..).and_then(encode).filter(|&length| length <= body_bytes_max);
        let Some(length) = length else {
            self.bytes.truncate(start);
            return false;
        };
        self.bytes.truncate(body_start + length);
        let body = self.bytes.get(body_start..).unwrap_or_default();
        let header = crate::frame::header(kind, body).expect("bodies are far shorter than 4 GiB");
        if let Some(place) = self.bytes.get_mut(start..body_start) {
            place.copy_from_slice(&header);
        }
        true
    }

    /// Sends as much as `stream` takes.
    pub(crate) fn write(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match stream.write(self.bytes.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What was sent is dropped once it is the larger part: a copy of each byte
                    // at most once in the mean.
                    if self.sent > self.bytes.len() / 2 {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new()
        } else {
            self.bytes.clear()
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one by one, and then would block.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((&first, rest)) = self.0.split_first() else { return Err(ErrorKind::WouldBlock.into()) };
            into[0] = first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn frames_written_are_frames_read() {
        let mut output = Output::default();
        for number in 0..100u8 {
            assert!(output.frame(FrameKind::Request, 1000, |body| {
                body[..usize::from(number)].fill(number);
                Some(usize::from(number))
            }));
        }
        assert!(!output.frame(FrameKind::Request, 1000, |_| None), "no body, no frame");
        let mut wire = Vec::new();
        output.write(&mut wire).unwrap();
        assert_eq!(output.len(), 0);

        let (mut input, mut trickle, mut number) = (Input::default(), Trickle(&wire), 0);
        while number < 100 {
            input.read(&mut trickle, 1 << 20).unwrap();
            while let Some(found) = input.take_frame(1000).unwrap() {
                assert_eq!(input.body(&found), vec![number; usize::from(number)]);
                number += 1;
            }
        }
        assert_eq!(input.len(), 0);
    }

    #[test]
    fn a_declared_length_takes_no_memory() {
        let mut input = Input::default();
        let mut header = crate::frame::header(FrameKind::Request, b"").unwrap();
        header[4..8].copy_from_slice(&(100u32 << 20).to_le_bytes());
        input.read(&mut Trickle(&header), 1 << 30).unwrap();
        assert_eq!(input.take_frame(200 << 20), Ok(None));
        assert!(input.bytes.capacity() <= 2 * READ_BYTES);
    }
}
