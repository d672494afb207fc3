//! The table as bytes, for snapshots, and its digest, to compare replicas by.
//!
//! All numbers are little-endian. Equal tables have equal encodings, wherever they are kept.
//!
//! | bytes | what |
//! |--:|---|
//! | 1 | version: 1 |
//! | 4, 2, 4 | limits: sessions, window, answer bytes |
//! | 8, 8 | limits: time to live, largest step of time, milliseconds |
//! | 1, 8 | limits: 1 and the protected idle time, or 0 and 0 |
//! | 8, 8 | cluster time, stamp of the last entry |
//! | 4 | the number of sessions; then each, in order of their ids: |
//! | 8, 16, 8, 8 | id, nonce, time of the last renewal, acknowledgement |
//! | 1, 2 | 1 if first-in first-out, or 0; the number of answers; then each, in order of their numbers: |
//! | 8, 8, 4, 4 | number, index of execution, CRC-32C and length of the command |
//! | 4, … | length of the answer and the answer; or 2³² − 1 if it was too long to keep |
//! | 4 | at the end: the CRC-32C of all the bytes before, which is the digest |

use thiserror::Error;

use crate::crc::crc32c;
use crate::machine::Sink;
use crate::session::answers::{Fact, HEAD_BYTES, Layout};
use crate::session::limits::SessionLimits;
use crate::session::memory::{CapacityError, PartsMut, SessionMemory, Slot};
use crate::session::table::{Earliest, HAS_SLOT, SessionTable};
use crate::types::{ClusterTime, Index, Millis, Nonce, Sequence, SessionId};

const VERSION: u8 = 1;

/// Passes bytes on and computes their checksum.
struct Summed<'a> {
    sink: Option<&'a mut dyn Sink>,
    crc: u32,
}

impl Sink for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.crc = crc32c(self.crc, bytes);
        if let Some(sink) = &mut self.sink {
            sink.write(bytes);
        }
    }
}

impl<M: SessionMemory> SessionTable<M> {
    /// Writes the table to `sink`, in the format of this module.
    pub fn encode(&self, sink: &mut dyn Sink) {
        let mut summed = Summed { sink: Some(&mut *sink), crc: 0 };
        self.write(&mut summed);
        let crc = summed.crc;
        sink.write(&crc.to_le_bytes());
    }

    /// The checksum of the encoding: replicas whose digests differ at the same index have diverged.
    #[must_use]
    pub fn digest(&self) -> u32 {
        let mut summed = Summed { sink: None, crc: 0 };
        self.write(&mut summed);
        summed.crc
    }

    fn write(&self, out: &mut dyn Sink) {
        write_limits(&self.limits, out);
        out.write(&self.time.0.to_le_bytes());
        out.write(&self.stamp.0.to_le_bytes());
        out.write(&self.sessions().to_le_bytes());
        let bytes = self.memory.parts().bytes;
        for (session, place) in self.lines() {
            let slot = self.slot(place);
            out.write(&session.0.to_le_bytes());
            out.write(&slot.nonce.0.to_le_bytes());
            out.write(&slot.renewed.0.to_le_bytes());
            out.write(&slot.acknowledge.0.to_le_bytes());
            out.write(&[u8::from(slot.fifo)]);
            let kept = || self.layout.kept(bytes, place, slot.acknowledge);
            let count = u16::try_from(kept().count()).expect("no more answers are kept than a window has numbers");
            out.write(&count.to_le_bytes());
            for (fact, answer) in kept() {
                out.write(&fact.encode());
                out.write(answer);
            }
        }
    }

    /// Replaces the whole table, limits and time included, by what [`SessionTable::encode`] wrote
    /// on some replica after it had applied all entries up to `through`.
    ///
    /// Everything is checked first, all but that no two sessions have the same nonce; what a table
    /// could never have come to is refused.
    ///
    /// # Errors
    /// The bytes are damaged, or this memory is too small for them. The table is as it was.
    pub fn decode(&mut self, bytes: &[u8], through: Index) -> Result<(), TableDecodeError> {
        let (content, limits) = check(bytes, through)?;
        self.memory.parts().hold(&limits)?;
        self.fill(content, limits);
        self.assert_invariants();
        Ok(())
    }

    /// Takes over what has been checked.
    fn fill(&mut self, mut content: Content<'_>, limits: SessionLimits) {
        (self.limits, self.layout) = (limits, Layout::new(&limits));
        (self.time, self.stamp) = (content.time, content.stamp);
        self.live = content.sessions;
        let layout = self.layout;
        let PartsMut { directory, slots, bytes } = self.memory.parts_mut();
        for line in directory.iter_mut().take(content.sessions) {
            let session = content.input.session().expect(CHECKED);
            line.id = session.id;
            *slots.get_mut(line.place).expect(HAS_SLOT) = session.slot;
            layout.clear(bytes, line.place);
            for _ in 0..session.answers {
                let (fact, answer) = content.input.answer().expect(CHECKED);
                layout.keep(bytes, line.place, &fact, answer);
            }
        }
        self.earliest = Earliest::NEVER;
        self.earliest = self.find_earliest();
    }
}

/// Why checked bytes can be read again.
const CHECKED: &str = "the bytes have been read once already";

fn write_limits(limits: &SessionLimits, out: &mut dyn Sink) {
    out.write(&[VERSION]);
    out.write(&limits.sessions.to_le_bytes());
    out.write(&limits.window.to_le_bytes());
    out.write(&limits.answer_bytes.to_le_bytes());
    out.write(&limits.ttl.0.to_le_bytes());
    out.write(&limits.time_step_max.0.to_le_bytes());
    out.write(&[u8::from(limits.evict_idle.is_some())]);
    out.write(&limits.evict_idle.unwrap_or_default().0.to_le_bytes());
}

/// Bytes still to be read. Reading gives `None` when they are not what they should be.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

/// A session as it is encoded, without its answers.
struct EncodedSession {
    id: SessionId,
    slot: Slot,
    answers: u16,
}

/// Checked bytes of all sessions, and what stands before them.
struct Content<'a> {
    time: ClusterTime,
    stamp: ClusterTime,
    sessions: usize,
    input: Input<'a>,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            [_] => None,
        }
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn limits(&mut self) -> Option<SessionLimits> {
        let sessions = self.array().map(u32::from_le_bytes)?;
        let window = self.array().map(u16::from_le_bytes)?;
        let answer_bytes = self.array().map(u32::from_le_bytes)?;
        let (ttl, time_step_max) = (Millis(self.u64()?), Millis(self.u64()?));
        let (evicts, idle) = (self.flag()?, Millis(self.u64()?));
        if !evicts && idle != Millis(0) {
            return None;
        }
        let evict_idle = evicts.then_some(idle);
        Some(SessionLimits { sessions, window, answer_bytes, ttl, time_step_max, evict_idle })
    }

    fn session(&mut self) -> Option<EncodedSession> {
        let id = SessionId(self.u64()?);
        let nonce = Nonce(self.array().map(u128::from_le_bytes)?);
        let (renewed, acknowledge) = (ClusterTime(self.u64()?), Sequence(self.u64()?));
        let slot = Slot { nonce, renewed, acknowledge, fifo: self.flag()? };
        let answers = self.array().map(u16::from_le_bytes)?;
        Some(EncodedSession { id, slot, answers })
    }

    fn answer(&mut self) -> Option<(Fact, &'a [u8])> {
        let fact = Fact::decode(&self.array::<HEAD_BYTES>()?);
        let answer = self.take(fact.answer.unwrap_or(0))?;
        Some((fact, answer))
    }
}

/// Reads all the bytes without keeping anything.
fn check(bytes: &[u8], through: Index) -> Result<(Content<'_>, SessionLimits), TableDecodeError> {
    let (content, crc) = bytes.split_last_chunk().ok_or(TableDecodeError::Truncated)?;
    if crc32c(0, content) != u32::from_le_bytes(*crc) {
        return Err(TableDecodeError::Checksum);
    }
    let mut input = Input(content);
    let [version] = input.array().ok_or(TableDecodeError::Truncated)?;
    if version != VERSION {
        return Err(TableDecodeError::Version { version });
    }
    let limits = input.limits().ok_or(TableDecodeError::Head)?;
    limits.check().map_err(CapacityError::from)?;
    let (time, stamp) = input.u64().zip(input.u64()).ok_or(TableDecodeError::Head)?;
    let sessions = input.array().map(u32::from_le_bytes).ok_or(TableDecodeError::Head)?;
    if time > stamp || sessions > limits.sessions {
        return Err(TableDecodeError::Head);
    }
    let count = usize::try_from(sessions).map_err(|_| TableDecodeError::Head)?;
    let content = Content { time: ClusterTime(time), stamp: ClusterTime(stamp), sessions: count, input };
    let mut last = SessionId(0);
    for _ in 0..sessions {
        last = check_session(&mut input, &limits, content.time, last, through)?;
    }
    if !input.0.is_empty() {
        return Err(TableDecodeError::Trailing);
    }
    Ok((content, limits))
}

/// Reads one session, which must have a higher id than the `last` one.
fn check_session(
    input: &mut Input<'_>,
    limits: &SessionLimits,
    time: ClusterTime,
    last: SessionId,
    through: Index,
) -> Result<SessionId, TableDecodeError> {
    let EncodedSession { id, slot, answers } = input.session().ok_or(TableDecodeError::Session { after: last })?;
    let lives = slot.renewed <= time && slot.renewed.after(limits.ttl) >= time;
    if id <= last || id.0 > through.0 || !lives || slot.acknowledge == Sequence(0) || answers > limits.window {
        return Err(TableDecodeError::Session { after: last });
    }
    let layout = Layout::new(limits);
    let mut next = slot.acknowledge.0;
    for _ in 0..answers {
        let damaged = TableDecodeError::Answer { session: id };
        let (fact, _) = input.answer().ok_or(damaged)?;
        let number = fact.sequence.0;
        let inside = number >= next && number - slot.acknowledge.0 < u64::from(limits.window);
        // In a session that keeps the order, there are no gaps.
        let ordered = !slot.fifo || number == next;
        let executed = fact.index.0 > id.0 && fact.index <= through;
        if !inside || !ordered || !executed || fact.answer.is_some_and(|length| length > layout.answer_bytes) {
            return Err(damaged);
        }
        next = number.saturating_add(1);
    }
    Ok(id)
}

/// Why bytes are not taken for a table of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableDecodeError {
    /// The end is missing.
    #[error("the table of sessions is cut off; fetch the snapshot again")]
    Truncated,
    /// The checksum is not that of the bytes.
    #[error("the table of sessions is damaged: its checksum is wrong; fetch the snapshot again")]
    Checksum,
    /// Another format.
    #[error("the table of sessions has format {version}, and this program reads format {VERSION}; upgrade it")]
    Version {
        /// The format found.
        version: u8,
    },
    /// It cannot be kept here.
    #[error("the table of sessions cannot be kept by this replica")]
    Capacity(#[from] CapacityError),
    /// What stands before the sessions makes no sense.
    #[error("the head of the table of sessions is not valid; fetch the snapshot from another replica")]
    Head,
    /// A session makes no sense.
    #[error("the session that follows session {after} is not valid; fetch the snapshot from another replica")]
    Session {
        /// The session before; 0 if it is the first.
        after: SessionId,
    },
    /// A kept answer makes no sense.
    #[error("an answer of session {session} is not valid; fetch the snapshot from another replica")]
    Answer {
        /// Its session.
        session: SessionId,
    },
    /// Bytes after the end.
    #[error("bytes follow the last session; fetch the snapshot from another replica")]
    Trailing,
}
