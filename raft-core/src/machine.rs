//! What a program replicates: its state machine.

use thiserror::Error;

use crate::types::{ClusterTime, Index};

/// A deterministic state machine: equal commands in equal order make equal states and equal
/// answers, on every replica. It must not read a clock, a random source or the order of a hash
/// map; the time it may use is [`Position::time`].
pub trait StateMachine {
    /// Executes `command`, which is committed at `position`, and writes what the client is to be
    /// told. A failure of the application (a failed compare, say) is an answer like any other.
    ///
    /// Commands come from clients: bytes that make no sense must be answered, not panicked on.
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>);

    /// Answers `query` without changing anything.
    fn query(&self, query: &[u8], answer: &mut dyn Sink);

    /// Writes the whole state, in a form of the program's own: equal states in equal bytes.
    fn snapshot(&self, state: &mut dyn Sink);

    /// Replaces the whole state by what [`StateMachine::snapshot`] wrote, here or on another
    /// replica. The bytes come with a checksum that was right.
    ///
    /// # Errors
    /// [`Damaged`] for bytes that are no state of this program: the replica then stops.
    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged>;

    /// A number that differs, in all likelihood, for different states: replicas compare it. By
    /// itself it is a checksum of the whole snapshot; a program with much state keeps one up to
    /// date as it goes.
    fn digest(&self) -> u64 {
        let mut sum = Summed { crc: 0, bytes: 0 };
        self.snapshot(&mut sum);
        (u64::from(sum.crc) << 32) | (sum.bytes & u64::from(u32::MAX))
    }
}

struct Summed {
    crc: u32,
    bytes: u64,
}

impl Sink for Summed {
    fn write(&mut self, bytes: &[u8]) {
        self.crc = crate::crc::crc32c(self.crc, bytes);
        self.bytes = self.bytes.wrapping_add(bytes.len() as u64);
    }
}

/// The bytes are no state of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes are no state of this program: they were written by another one, or by a newer version")]
pub struct Damaged;

/// Something that bytes can be read from, once.
pub trait Source {
    /// Fills the beginning of `buffer`; gives how many bytes: 0 only at the end, or if the buffer
    /// is empty.
    fn read(&mut self, buffer: &mut [u8]) -> usize;

    /// Fills `buffer` whole.
    ///
    /// # Errors
    /// [`Damaged`] if the end comes first.
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Damaged> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.read(rest) {
                0 => return Err(Damaged),
                count => filled += count,
            }
        }
        Ok(())
    }
}

impl Source for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.len());
        let (taken, rest) = self.split_at(count);
        if let Some(place) = buffer.get_mut(..count) {
            place.copy_from_slice(taken);
        }
        *self = rest;
        count
    }
}

/// Where in the log a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The command's index: a revision number that grows with every command.
    pub index: Index,
    /// The cluster time at that entry: the same on every replica.
    pub time: ClusterTime,
}

/// Something that bytes can be written to.
pub trait Sink {
    /// Takes `bytes` behind those already there.
    fn write(&mut self, bytes: &[u8]);
}

/// The answer to a command, while it is written: bytes in a buffer of fixed size.
#[derive(Debug)]
pub struct Answer<'a> {
    buffer: &'a mut [u8],
    length: usize,
    overflowed: bool,
}

impl<'a> Answer<'a> {
    /// An empty answer that can hold as much as `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Answer<'a> {
        Answer { buffer, length: 0, overflowed: false }
    }

    /// The answer's bytes, or `None` if it was longer than the buffer.
    #[must_use]
    pub fn finish(self) -> Option<&'a [u8]> {
        if self.overflowed {
            return None;
        }
        self.buffer.get(..self.length)
    }
}

impl Sink for Answer<'_> {
    /// Takes `bytes`; an answer that outgrows the buffer is dropped as a whole, and the client is
    /// told that its command was executed at its index.
    fn write(&mut self, bytes: &[u8]) {
        let room = self.buffer.get_mut(self.length..).and_then(|rest| rest.get_mut(..bytes.len()));
        match room {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.overflowed = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(std::vec::Vec<u8>);

    impl StateMachine for Fixed {
        fn apply(&mut self, _: Position, _: &[u8], _: &mut Answer<'_>) {}

        fn query(&self, _: &[u8], _: &mut dyn Sink) {}

        fn snapshot(&self, state: &mut dyn Sink) {
            self.0.iter().for_each(|byte| state.write(&[*byte]));
        }

        fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
            self.0 = std::vec![0; 3];
            state.read_exact(&mut self.0)
        }
    }

    #[test]
    fn a_digest_by_itself_is_checksum_and_length_of_the_snapshot() {
        let state = Fixed(std::vec![1, 2, 3]);
        let crc = u64::from(crate::crc::crc32c(0, &[1, 2, 3]));
        assert_eq!(state.digest(), (crc << 32) | 3);
        assert_ne!(Fixed(std::vec![1, 2]).digest(), state.digest());
    }

    #[test]
    fn a_source_gives_all_its_bytes_once_and_says_when_there_are_too_few() {
        let mut state = Fixed(std::vec![]);
        let mut source: &[u8] = &[7, 8, 9, 10];
        assert_eq!(state.restore(&mut source), Ok(()));
        assert_eq!((state.0.as_slice(), source), (&[7, 8, 9][..], &[10][..]));
        assert_eq!(state.restore(&mut source), Err(Damaged));
        assert_eq!(Source::read(&mut source, &mut [0; 4]), 0);
    }

    #[test]
    fn an_answer_that_outgrows_its_buffer_is_dropped_whole() {
        let mut buffer = [0; 4];
        let mut answer = Answer::new(&mut buffer);
        answer.write(b"ab");
        answer.write(b"cd");
        assert_eq!(answer.finish(), Some(&b"abcd"[..]));
        let mut answer = Answer::new(&mut buffer);
        answer.write(b"abc");
        answer.write(b"de");
        answer.write(b"f");
        assert_eq!(answer.finish(), None);
    }
}
