//! The rules of sessions, written a second time and as simply as can be: what every entry must come to, and what the
//! table must hold after it, on every replica, at every index.
//!
//! The order of the steps is that of `raft_core::session::apply`; the bytes are those of FORMAT.md. Nothing of the table
//! that ships is called.

use std::collections::BTreeMap;

use raft_core::crc::crc32c;
use raft_core::session::limits::SessionLimits;
use raft_core::session::operation::{Operation, Refusal};
use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{ClusterTime, Index, Millis, NodeId, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use crate::violation::Violation;

/// What is known of a command that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    index: Index,
    /// Checksum and length of the command.
    fingerprint: (u32, u32),
    /// `None` if the answer was too long to keep.
    answer: Option<Vec<u8>>,
}

/// A session, as the rules have it.
#[derive(Clone, Debug)]
struct Session {
    nonce: Nonce,
    fifo: bool,
    renewed: ClusterTime,
    acknowledge: Sequence,
    kept: BTreeMap<Sequence, Kept>,
}

/// The table that every replica must have, after the last entry that any has applied.
#[derive(Clone, Debug)]
pub struct Table {
    limits: SessionLimits,
    time: ClusterTime,
    stamp: ClusterTime,
    sessions: BTreeMap<SessionId, Session>,
    /// The digest and the time after each entry; those of an empty log stand at 0.
    after: Vec<(u32, ClusterTime)>,
}

/// What an operation must come to.
enum Expected {
    Exactly(OwnedOutcome),
    /// It runs now, and what it answers is the state machine's to say.
    Runs,
}

fn refused(refusal: Refusal) -> Expected {
    Expected::Exactly(OwnedOutcome::Refused(refusal))
}

impl Table {
    /// The table before the first entry.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Table {
        let (time, stamp) = (ClusterTime(0), ClusterTime(0));
        let mut table = Table { limits, time, stamp, sessions: BTreeMap::new(), after: Vec::new() };
        table.after.push((table.digest(), time));
        table
    }

    /// The entry at `index`, the next one, was applied for the first time by any node.
    ///
    /// # Errors
    /// It came to something else than the rules say.
    pub fn applied(
        &mut self,
        index: Index,
        stamp: ClusterTime,
        operation: Option<(&Operation<'_>, &OwnedOutcome)>,
    ) -> Result<(), Violation> {
        assert_eq!(index.0, self.after.len() as u64, "entries are applied one after the other");
        self.advance(stamp);
        if let Some((operation, outcome)) = operation {
            self.operation(index, operation, outcome)?;
        }
        self.after.push((self.digest(), self.time));
        Ok(())
    }

    /// A node's table has this digest, and so many sessions, after the entry at `index`.
    ///
    /// # Errors
    /// The rules say otherwise: it was changed by something else than applied entries, or differs from other replicas.
    pub fn compare(&self, node: NodeId, index: Index, digest: u32) -> Result<(), Violation> {
        match self.after(index) {
            Some((expected, _)) if *expected != digest => Err(Violation::TablesDiffer { node, index }),
            _ => Ok(()),
        }
    }

    fn after(&self, index: Index) -> Option<&(u32, ClusterTime)> {
        usize::try_from(index.0).ok().and_then(|index| self.after.get(index))
    }

    /// The time of the table after the entry at `index`, if any node has applied it.
    #[must_use]
    pub fn time_at(&self, index: Index) -> Option<ClusterTime> {
        self.after(index).map(|(_, time)| *time)
    }

    /// The time of the table after the last entry.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// Whether another session could be opened now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let idle = |idle: Millis| self.sessions.values().any(|session| session.renewed.after(idle) <= self.time);
        (self.sessions.len() as u64) < u64::from(self.limits.sessions) || self.limits.evict_idle.is_some_and(idle)
    }

    /// How many sessions live after the last entry.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The acknowledgement of a session; `None` if it does not live.
    #[must_use]
    pub fn acknowledged(&self, session: SessionId) -> Option<Sequence> {
        self.sessions.get(&session).map(|session| session.acknowledge)
    }

    fn advance(&mut self, stamp: ClusterTime) {
        let step = stamp.since(self.stamp).min(self.limits.time_step_max);
        self.time = self.time.after(step);
        self.stamp = self.stamp.max(stamp);
        let (time, ttl) = (self.time, self.limits.ttl);
        self.sessions.retain(|_, session| session.renewed.after(ttl) >= time);
    }

    fn operation(&mut self, index: Index, operation: &Operation<'_>, outcome: &OwnedOutcome) -> Result<(), Violation> {
        let wrong = || Violation::AgainstTheRules { index, outcome: format!("{outcome:?}") };
        match self.expect(index, operation) {
            Expected::Exactly(expected) if expected == *outcome => Ok(()),
            Expected::Exactly(_) => Err(wrong()),
            Expected::Runs => {
                let answer = match outcome {
                    OwnedOutcome::Answered { index: at, answer, replayed: false } if *at == index => Some(answer),
                    OwnedOutcome::Executed { index: at, replayed: false } if *at == index => None,
                    _ => return Err(wrong()),
                };
                self.keep(index, operation, answer);
                Ok(())
            }
        }
    }

    fn expect(&mut self, index: Index, operation: &Operation<'_>) -> Expected {
        match *operation {
            Operation::Open { nonce, fifo } => self.open(index, nonce, fifo),
            Operation::KeepAlive { session, acknowledge } => match self.renew(session, acknowledge) {
                None => refused(Refusal::SessionExpired),
                Some(_) => Expected::Exactly(OwnedOutcome::KeptAlive),
            },
            Operation::Close { session } => match self.sessions.remove(&session) {
                None => refused(Refusal::SessionExpired),
                Some(_) => Expected::Exactly(OwnedOutcome::Closed),
            },
            Operation::Command { session, sequence, acknowledge, command: Bytes(command) } => {
                self.command(session, sequence, acknowledge, command)
            }
            Operation::Plain { .. } => Expected::Runs,
        }
    }

    fn renew(&mut self, session: SessionId, acknowledge: Sequence) -> Option<&Session> {
        let session = self.sessions.get_mut(&session)?;
        session.renewed = self.time;
        session.acknowledge = session.acknowledge.max(acknowledge);
        session.kept = session.kept.split_off(&session.acknowledge);
        Some(session)
    }

    fn open(&mut self, index: Index, nonce: Nonce, fifo: bool) -> Expected {
        let SessionLimits { ttl, window, .. } = self.limits;
        let opened = |session, again| Expected::Exactly(OwnedOutcome::Opened { session, again, ttl, window });
        let known =
            self.sessions.iter().find(|(_, session)| session.nonce == nonce).map(|(id, session)| (*id, session.fifo));
        if let Some((session, discipline)) = known {
            if discipline != fifo {
                return refused(Refusal::Mismatch);
            }
            self.renew(session, Sequence::FIRST);
            return opened(session, true);
        }
        if self.sessions.len() as u64 >= u64::from(self.limits.sessions) {
            let idlest = self.sessions.iter().min_by_key(|(id, session)| (session.renewed, **id));
            let (id, renewed) = idlest.map(|(id, session)| (*id, session.renewed)).expect("a full table has sessions");
            // A lease ends when time is past it, not when time has reached it.
            let expires = renewed.after(ttl).0.saturating_add(1);
            let free_at = self.limits.evict_idle.map_or(expires, |idle| expires.min(renewed.after(idle).0));
            if free_at > self.time.0 {
                return refused(Refusal::TableFull { retry_after: Millis(free_at - self.time.0) });
            }
            self.sessions.remove(&id);
        }
        let session = SessionId(index.0);
        let (renewed, acknowledge) = (self.time, Sequence::FIRST);
        self.sessions.insert(session, Session { nonce, fifo, renewed, acknowledge, kept: BTreeMap::new() });
        opened(session, false)
    }

    fn command(&mut self, session: SessionId, sequence: Sequence, acknowledge: Sequence, command: &[u8]) -> Expected {
        let window = u64::from(self.limits.window);
        let Some(session) = self.renew(session, acknowledge) else { return refused(Refusal::SessionExpired) };
        if sequence < session.acknowledge {
            return refused(Refusal::Stale);
        }
        if let Some(kept) = session.kept.get(&sequence) {
            if kept.fingerprint != fingerprint(command) {
                return refused(Refusal::Mismatch);
            }
            let (index, replayed) = (kept.index, true);
            return Expected::Exactly(match &kept.answer {
                Some(answer) => OwnedOutcome::Answered { index, answer: answer.clone(), replayed },
                None => OwnedOutcome::Executed { index, replayed },
            });
        }
        if sequence.0 - session.acknowledge.0 >= window {
            return refused(Refusal::WindowFull);
        }
        let gap = (session.acknowledge.0..sequence.0).any(|before| !session.kept.contains_key(&Sequence(before)));
        if session.fifo && gap { refused(Refusal::OutOfOrder) } else { Expected::Runs }
    }

    /// Keeps the answer of a command that ran.
    fn keep(&mut self, index: Index, operation: &Operation<'_>, answer: Option<&Vec<u8>>) {
        let longest = self.limits.answer_bytes as usize;
        if let Operation::Command { session, sequence, command: Bytes(command), .. } = operation
            && let Some(session) = self.sessions.get_mut(session)
        {
            let answer = answer.filter(|answer| answer.len() <= longest).cloned();
            session.kept.insert(*sequence, Kept { index, fingerprint: fingerprint(command), answer });
        }
    }

    /// The checksum of the table's encoding, which FORMAT.md gives byte by byte.
    fn digest(&self) -> u32 {
        let SessionLimits { sessions, window, answer_bytes, ttl, time_step_max, evict_idle } = self.limits;
        let mut bytes = vec![1];
        bytes.extend(sessions.to_le_bytes());
        bytes.extend(window.to_le_bytes());
        bytes.extend(answer_bytes.to_le_bytes());
        bytes.extend(ttl.0.to_le_bytes());
        bytes.extend(time_step_max.0.to_le_bytes());
        bytes.push(u8::from(evict_idle.is_some()));
        bytes.extend(evict_idle.map_or(0, |idle| idle.0).to_le_bytes());
        bytes.extend(self.time.0.to_le_bytes());
        bytes.extend(self.stamp.0.to_le_bytes());
        bytes.extend(count(self.sessions.len()).to_le_bytes());
        for (id, session) in &self.sessions {
            bytes.extend(id.0.to_le_bytes());
            bytes.extend(session.nonce.0.to_le_bytes());
            bytes.extend(session.renewed.0.to_le_bytes());
            bytes.extend(session.acknowledge.0.to_le_bytes());
            bytes.push(u8::from(session.fifo));
            bytes.extend(u16::try_from(session.kept.len()).unwrap_or(u16::MAX).to_le_bytes());
            for (sequence, kept) in &session.kept {
                bytes.extend(sequence.0.to_le_bytes());
                bytes.extend(kept.index.0.to_le_bytes());
                bytes.extend(kept.fingerprint.0.to_le_bytes());
                bytes.extend(kept.fingerprint.1.to_le_bytes());
                bytes.extend(kept.answer.as_ref().map_or(u32::MAX, |answer| count(answer.len())).to_le_bytes());
                bytes.extend(kept.answer.iter().flatten());
            }
        }
        crc32c(0, &bytes)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn fingerprint(command: &[u8]) -> (u32, u32) {
    (crc32c(0, command), count(command.len()))
}

#[cfg(test)]
mod tests;
