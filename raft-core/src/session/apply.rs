//! What an operation does to the table when its entry is applied.
//!
//! The order of the steps is fixed, because two orders are two state machines. Cluster time and
//! expiry come before (`advance`). Then for a command: the session is looked up; its lease renewed,
//! its acknowledgement raised; `Stale`; the kept answer, or `Mismatch`; `WindowFull`; `OutOfOrder`;
//! execution, and the answer is kept.

use core::ops::Range;

use crate::machine::{Answer, Position, StateMachine};
use crate::session::answers::{Fact, Fingerprint};
use crate::session::memory::{PartsMut, SessionMemory, Slot};
use crate::session::operation::{Operation, Outcome, Refusal};
use crate::session::table::{HAS_SLOT, SessionTable};
use crate::types::{ClusterTime, Index, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

/// What came of an operation, while the table may still be changed: an outcome whose answer is
/// not borrowed yet.
enum Done {
    Outcome(Outcome<'static>),
    /// The answer stands at this range of the memory's bytes.
    Answered {
        index: Index,
        at: Range<usize>,
        replayed: bool,
    },
}

impl From<Refusal> for Done {
    fn from(refusal: Refusal) -> Done {
        Done::Outcome(Outcome::Refused(refusal))
    }
}

/// A command of a session, as it was applied.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    session: SessionId,
    sequence: Sequence,
    acknowledge: Sequence,
    command: &'a [u8],
}

impl<M: SessionMemory> SessionTable<M> {
    /// Applies the operation of the entry at `index`, after [`SessionTable::advance`] has been
    /// called with the stamp of that entry. `machine` executes commands that are to be executed.
    ///
    /// The outcome holds the answer as it is now. It is what the client is to be told, whatever
    /// becomes of the session before the reply is sent.
    ///
    /// Whatever a living session's command says of the acknowledgement counts, and it renews the
    /// lease, even if the command itself is refused: it is the client's word all the same. An
    /// acknowledgement may run ahead of all that was executed, and so gives up numbers that were
    /// never sent; one beyond the command's own number makes that command `Stale`.
    pub fn apply<'t, S: StateMachine + ?Sized>(
        &'t mut self,
        index: Index,
        operation: Operation<'_>,
        machine: &mut S,
    ) -> Outcome<'t> {
        let done = match operation {
            Operation::Open { nonce, fifo } => self.open(index, nonce, fifo),
            Operation::KeepAlive { session, acknowledge } => self.keep_alive(session, acknowledge),
            Operation::Close { session } => self.close(session),
            Operation::Command { session, sequence, acknowledge, command: Bytes(command) } => {
                self.command(index, Numbered { session, sequence, acknowledge, command }, machine)
            }
            Operation::Plain { command: Bytes(command) } => {
                self.counters.plain += 1;
                let length = self.execute(index, command, machine);
                self.first_answer(index, length)
            }
        };
        if let Done::Outcome(Outcome::Refused(_)) = done {
            self.counters.refused += 1;
        }
        self.assert_invariants();
        match done {
            Done::Outcome(outcome) => outcome,
            Done::Answered { index, at, replayed } => {
                let answer = self.memory.parts().bytes.get(at).expect("the answer lies within the memory");
                Outcome::Answered { index, answer: Bytes(answer), replayed }
            }
        }
    }

    /// Opens a session, or finds the one of this nonce and renews it.
    ///
    /// The same nonce with another discipline is `Mismatch`: a client that relies on the order of
    /// its commands must not be given a session that does not keep it.
    fn open(&mut self, index: Index, nonce: Nonce, fifo: bool) -> Done {
        let found = self.lines().find(|&(_, place)| self.slot(place).nonce == nonce);
        if let Some((session, place)) = found {
            if self.slot(place).fifo != fifo {
                return Refusal::Mismatch.into();
            }
            self.renew(place, Sequence::FIRST);
            self.counters.reopened += 1;
            return self.opened(session, true);
        }
        if self.live == self.layout.sessions
            && let Err(refusal) = self.make_room()
        {
            return refusal.into();
        }
        let session = SessionId(index.0);
        let (live, time, layout) = (self.live, self.time, self.layout);
        let PartsMut { directory, slots, bytes } = self.memory.parts_mut();
        let newest = live.checked_sub(1).and_then(|line| directory.get(line));
        assert!(newest.is_none_or(|newest| newest.id < session), "entries are applied in order of their indexes");
        let line = directory.get_mut(live).expect("a table that is not full has a free line");
        line.id = session;
        let slot = slots.get_mut(line.place).expect(HAS_SLOT);
        *slot = Slot { nonce, renewed: time, acknowledge: Sequence::FIRST, fifo };
        layout.clear(bytes, line.place);
        self.live += 1;
        let lease_end = self.lease_end(time);
        if lease_end < self.earliest.lease_end {
            // Only in a table that had no other session, since the newest lease ends last.
            self.earliest.lease_end = lease_end;
            self.earliest.exact = true;
        }
        self.counters.opened += 1;
        self.opened(session, false)
    }

    fn opened(&self, session: SessionId, again: bool) -> Done {
        let (ttl, window) = (self.limits.ttl, self.limits.window);
        Done::Outcome(Outcome::Opened { session, again, ttl, window })
    }

    /// Makes room in a full table if a session has been idle for longer than it is protected;
    /// expired ones are gone already.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let lines = self.lines().enumerate();
        // The first of equals is the one with the lowest id.
        let (line, renewed) = lines
            .map(|(line, (_, place))| (line, self.slot(place).renewed))
            .min_by_key(|&(line, renewed)| (renewed, line))
            .expect("a full table has at least one session");
        let free_at = |protected: Millis| renewed.after(protected);
        // A lease ends when time is past it, not when time has reached it.
        let mut next = ClusterTime(free_at(self.limits.ttl).0.saturating_add(1));
        if let Some(protected) = self.limits.evict_idle {
            next = next.min(free_at(protected));
        }
        if next > self.time {
            return Err(Refusal::TableFull { retry_after: next.since(self.time) });
        }
        self.remove(line);
        self.counters.evicted += 1;
        Ok(())
    }

    fn keep_alive(&mut self, session: SessionId, acknowledge: Sequence) -> Done {
        match self.place(session) {
            None => Refusal::SessionExpired.into(),
            Some(place) => {
                self.renew(place, acknowledge);
                Done::Outcome(Outcome::KeptAlive)
            }
        }
    }

    fn close(&mut self, session: SessionId) -> Done {
        match self.line(session) {
            None => Refusal::SessionExpired.into(),
            Some(line) => {
                self.remove(line);
                self.counters.closed += 1;
                Done::Outcome(Outcome::Closed)
            }
        }
    }

    /// Steps 3 to 8 of the fixed order.
    fn command<S: StateMachine + ?Sized>(&mut self, index: Index, command: Numbered<'_>, machine: &mut S) -> Done {
        let Some(place) = self.place(command.session) else {
            return Refusal::SessionExpired.into();
        };
        self.renew(place, command.acknowledge);
        let &Slot { acknowledge, fifo, .. } = self.slot(place);
        let sequence = command.sequence;
        if sequence < acknowledge {
            return Refusal::Stale.into();
        }
        let fingerprint = Fingerprint::of(command.command);
        let bytes = self.memory.parts().bytes;
        if let Some((fact, at)) = self.layout.find(bytes, place, sequence) {
            if fact.fingerprint != fingerprint {
                return Refusal::Mismatch.into();
            }
            self.counters.replayed += 1;
            return match fact.answer {
                Some(_) => Done::Answered { index: fact.index, at, replayed: true },
                None => Done::Outcome(Outcome::Executed { index: fact.index, replayed: true }),
            };
        }
        if sequence.0 - acknowledge.0 >= u64::from(self.limits.window) {
            return Refusal::WindowFull.into();
        }
        // In order, all numbers from the acknowledgement up to the one before have been executed,
        // so it is enough to look at the one before.
        let before = Sequence(sequence.0 - 1);
        if fifo && sequence > acknowledge && self.layout.find(bytes, place, before).is_none() {
            return Refusal::OutOfOrder.into();
        }
        self.counters.executed += 1;
        let length = self.execute(index, command.command, machine);
        self.keep(place, sequence, index, fingerprint, length);
        self.first_answer(index, length)
    }

    /// Renews the lease of the session at `place`, and raises its acknowledgement, which never goes
    /// down: a delayed command cannot bring back answers that were forgotten. That takes no work,
    /// since nobody asks for what is kept of a number below it.
    fn renew(&mut self, place: usize, acknowledge: Sequence) {
        let time = self.time;
        let slot = self.memory.parts_mut().slots.get_mut(place).expect(HAS_SLOT);
        slot.acknowledge = slot.acknowledge.max(acknowledge);
        let before = core::mem::replace(&mut slot.renewed, time);
        if before != time && self.lease_end(before) == self.earliest.lease_end {
            self.earliest.exact = false;
        }
    }

    /// Executes a command. The answer is left in the scratch, and this is its length; `None` if it
    /// was longer than that.
    fn execute<S: StateMachine + ?Sized>(&mut self, index: Index, command: &[u8], machine: &mut S) -> Option<usize> {
        let scratch = self.memory.parts_mut().bytes.get_mut(self.layout.arena_bytes..);
        let mut answer = Answer::new(scratch.expect("the scratch stands behind the cells"));
        machine.apply(Position { index, time: self.time }, command, &mut answer);
        answer.finish().map(<[u8]>::len)
    }

    /// Keeps what the scratch holds as the answer to `sequence`, or, if it is too long, that it was.
    fn keep(
        &mut self,
        place: usize,
        sequence: Sequence,
        index: Index,
        fingerprint: Fingerprint,
        length: Option<usize>,
    ) {
        let answer = length.filter(|&length| length <= self.layout.answer_bytes);
        let fact = Fact { sequence, index, fingerprint, answer };
        let (cells, scratch) = self.memory.parts_mut().bytes.split_at_mut(self.layout.arena_bytes);
        let answer = scratch.get(..answer.unwrap_or(0)).expect("the scratch holds the answer");
        self.layout.keep(cells, place, &fact, answer);
    }

    /// What the client of a command that was just executed is told: the whole answer, be it too
    /// long to keep, as long as the scratch held it.
    fn first_answer(&self, index: Index, length: Option<usize>) -> Done {
        let start = self.layout.arena_bytes;
        match length {
            Some(length) => Done::Answered { index, at: start..start + length, replayed: false },
            None => Done::Outcome(Outcome::Executed { index, replayed: false }),
        }
    }
}
