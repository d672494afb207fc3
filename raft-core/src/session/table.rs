//! The table of sessions: who may send commands, how long, and what is known of those executed.

use crate::session::answers::Layout;
use crate::session::limits::SessionLimits;
use crate::session::memory::{CapacityError, Parts, PartsMut, SessionMemory, Slot};
use crate::types::{ClusterTime, Nonce, SessionId};

/// The sessions of a cluster (dissertation, section 6.3), as they stand after an applied entry.
///
/// It is part of the replicated state: equal on every replica at the same index, and contained in
/// every snapshot. Two kinds of methods change it, and only with what stands in committed entries:
/// [`SessionTable::advance`] with the stamp of each, whatever its kind, and then, if it is an
/// operation, [`SessionTable::apply`]. A snapshot replaces it as a whole (`decode`). All else
/// reads, and neither renews a lease nor changes the order in which sessions end.
///
/// **Time.** An entry moves [`SessionTable::time`] ahead by as much as its stamp is ahead of the
/// entry before it, and by no more than `limits.time_step_max`. What lies beyond that step is not
/// made up for by later entries: otherwise a pause of an hour, followed by a handful of entries,
/// would end every session after all, and also those that had been renewed during the pause.
///
/// **Order.** All sessions have the same time to live, so they end in the order in which they were
/// renewed last, and among those renewed at the same time in the order of their ids.
#[derive(Debug)]
pub struct SessionTable<M> {
    pub(super) limits: SessionLimits,
    pub(super) layout: Layout,
    pub(super) memory: M,
    /// Invariant: at most `limits.sessions`; the directory lists as many, by growing ids.
    pub(super) live: usize,
    /// Invariant: at most `stamp`, and never goes down.
    pub(super) time: ClusterTime,
    /// The highest stamp of an applied entry.
    pub(super) stamp: ClusterTime,
    pub(super) earliest: Earliest,
    pub(super) counters: SessionCounters,
}

/// When the first session ends, as far as it is known without looking at all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earliest {
    /// Invariant: no living session's lease ends before.
    pub(super) lease_end: ClusterTime,
    /// Whether a living session's lease ends just then.
    pub(super) exact: bool,
}

impl Earliest {
    /// Of a table without sessions.
    pub(super) const NEVER: Earliest = Earliest { lease_end: ClusterTime(u64::MAX), exact: false };
}

/// What this replica's table has done since it was made. Not part of the replicated state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// Sessions opened.
    pub opened: u64,
    /// Opens that found the session of their nonce.
    pub reopened: u64,
    /// Sessions closed by their clients.
    pub closed: u64,
    /// Sessions that ended because their lease had.
    pub expired: u64,
    /// Idle sessions that had to make room for new ones.
    pub evicted: u64,
    /// Commands of sessions that were executed.
    pub executed: u64,
    /// Commands without a session, all of them executed.
    pub plain: u64,
    /// Commands that had been executed before and were not executed again.
    pub replayed: u64,
    /// Operations that were refused.
    pub refused: u64,
}

/// What the table says to a secret that came with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretCheck {
    /// It is the secret of that session.
    Right,
    /// The session has another: refuse the request before it is proposed.
    Wrong,
    /// No such session here, or not yet, or no more. Only the log can tell, so the request may be
    /// proposed.
    Unknown,
}

impl<M: SessionMemory> SessionTable<M> {
    /// A table without sessions at cluster time 0, which works by `limits` and lives in `memory`.
    ///
    /// # Errors
    /// The limits are not valid, or the memory has less room than they ask for: which, and by how
    /// much.
    pub fn new(limits: SessionLimits, memory: M) -> Result<SessionTable<M>, CapacityError> {
        limits.check()?;
        memory.parts().hold(&limits)?;
        let mut table = SessionTable {
            limits,
            layout: Layout::new(&limits),
            memory,
            live: 0,
            time: ClusterTime(0),
            stamp: ClusterTime(0),
            earliest: Earliest::NEVER,
            counters: SessionCounters::default(),
        };
        for (place, line) in table.memory.parts_mut().directory.iter_mut().enumerate() {
            line.place = place;
        }
        table.assert_invariants();
        Ok(table)
    }

    /// The replicated limits it works by.
    #[must_use]
    pub fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// The cluster time of the last entry applied.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// How many sessions live.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        u32::try_from(self.live).expect("no more sessions live than a limit of 32 bits allows")
    }

    /// What it has done since it was made.
    #[must_use]
    pub fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// The bytes its memory takes: known before the first session opens, and never exceeded.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.memory.parts().size()
    }

    /// Whether `secret` is that of `session`. How long it takes does not depend on its bits.
    #[must_use]
    pub fn check_secret(&self, session: SessionId, secret: Nonce) -> SecretCheck {
        match self.place(session) {
            None => SecretCheck::Unknown,
            Some(place) if self.slot(place).nonce == secret => SecretCheck::Right,
            Some(_) => SecretCheck::Wrong,
        }
    }

    /// The first of all applied entries' steps: moves cluster time ahead by the entry's `stamp`,
    /// then ends every session whose lease ended before it.
    pub fn advance(&mut self, stamp: ClusterTime) {
        let step = stamp.since(self.stamp).min(self.limits.time_step_max);
        self.stamp = self.stamp.max(stamp);
        self.time = self.time.after(step);
        if self.earliest.lease_end < self.time {
            self.expire();
        }
        self.assert_invariants();
    }

    /// When a leader should commit a clock entry although nobody asks for anything: as soon as its
    /// own cluster clock, by which it stamps, has passed this. `None` while no session lives.
    ///
    /// That is when the next session's lease ends; or, since time beyond the largest step is lost,
    /// half such a step after the last applied entry, if that is earlier.
    pub fn next_expiry(&mut self) -> Option<ClusterTime> {
        let lease_end = self.lease_end_min()?;
        let half_step = (self.limits.time_step_max.0 / 2).max(1);
        let due = lease_end.since(self.time).0.min(half_step);
        Some(ClusterTime(self.stamp.0.saturating_add(due)))
    }

    /// When the first lease ends; the session is gone when cluster time has passed this. `None`
    /// if there is no session.
    pub fn lease_end_min(&mut self) -> Option<ClusterTime> {
        if self.live == 0 {
            return None;
        }
        if !self.earliest.exact {
            self.earliest = self.find_earliest();
            self.assert_invariants();
        }
        Some(self.earliest.lease_end)
    }

    /// When the lease of a session that was renewed at `renewed` ends.
    pub(super) fn lease_end(&self, renewed: ClusterTime) -> ClusterTime {
        renewed.after(self.limits.ttl)
    }

    /// Looks at all sessions for the first lease to end.
    pub(super) fn find_earliest(&self) -> Earliest {
        let first = self.living().map(|(_, slot)| slot.renewed).min();
        first.map_or(Earliest::NEVER, |renewed| Earliest { lease_end: self.lease_end(renewed), exact: true })
    }

    /// Ends all sessions whose lease ended before now. Nobody can tell in which order this happens,
    /// since nothing happens in between; they are taken out in one pass over the directory.
    fn expire(&mut self) {
        let (time, ttl) = (self.time, self.limits.ttl);
        let PartsMut { directory, slots, .. } = self.memory.parts_mut();
        let mut kept = 0;
        for line in 0..self.live {
            let place = directory.get(line).expect(LISTED).place;
            if slots.get(place).expect(HAS_SLOT).renewed.after(ttl) >= time {
                // The lines of those that go gather behind, so that no place is lost.
                directory.swap(kept, line);
                kept += 1;
            }
        }
        let expired = self.live - kept;
        self.live = kept;
        self.counters.expired += u64::try_from(expired).expect("a count of sessions fits in 64 bits");
        self.earliest = self.find_earliest();
    }

    /// Ends the session at `line` of the directory.
    pub(super) fn remove(&mut self, line: usize) {
        let directory = self.memory.parts_mut().directory;
        let behind = directory.get_mut(line..self.live).expect(LISTED);
        behind.rotate_left(1);
        self.live -= 1;
        // It may have been the one whose lease was to end first.
        self.earliest.exact = false;
    }

    /// The line of a living session in the directory.
    pub(super) fn line(&self, session: SessionId) -> Option<usize> {
        let living = self.memory.parts().directory.get(..self.live).expect(LISTED);
        living.binary_search_by_key(&session, |line| line.id).ok()
    }

    /// The place of a living session.
    pub(super) fn place(&self, session: SessionId) -> Option<usize> {
        let line = self.line(session)?;
        Some(self.memory.parts().directory.get(line).expect(LISTED).place)
    }

    pub(super) fn slot(&self, place: usize) -> &Slot {
        self.memory.parts().slots.get(place).expect(HAS_SLOT)
    }

    /// The living sessions, in order of their ids.
    pub(super) fn living(&self) -> impl Iterator<Item = (SessionId, &Slot)> {
        self.lines().map(|(session, place)| (session, self.slot(place)))
    }

    /// The living sessions and their places, in order of their ids.
    pub(super) fn lines(&self) -> impl Iterator<Item = (SessionId, usize)> {
        let Parts { directory, .. } = self.memory.parts();
        directory.get(..self.live).expect(LISTED).iter().map(|line| (line.id, line.place))
    }

    /// Called at the end of whatever changes the table.
    pub(super) fn assert_invariants(&self) {
        let Parts { directory, slots, bytes } = self.memory.parts();
        assert!(self.live <= self.layout.sessions, "no more sessions live than the limits allow");
        assert!(self.layout.sessions <= directory.len().min(slots.len()), "the memory has a slot for every session");
        assert!(self.layout.arena_bytes + self.layout.answer_bytes <= bytes.len(), "the memory has all the cells");
        assert!(self.time <= self.stamp, "cluster time is never ahead of the leaders' clocks");
        #[cfg(debug_assertions)]
        self.assert_each_session();
    }

    #[cfg(debug_assertions)]
    fn assert_each_session(&self) {
        let mut last = SessionId(0);
        for (session, slot) in self.living() {
            assert!(session > last, "the directory is in order of the ids");
            assert!(slot.renewed <= self.time, "no session was renewed in the future");
            assert!(self.lease_end(slot.renewed) >= self.time, "no session outlives its lease");
            assert!(self.lease_end(slot.renewed) >= self.earliest.lease_end, "no lease ends before the earliest");
            assert!(slot.acknowledge.0 > 0, "numbers begin at 1");
            last = session;
        }
    }
}

/// Why a line of a living session is there.
pub(super) const LISTED: &str = "the directory has a line for every living session";
/// Why a slot is there.
pub(super) const HAS_SLOT: &str = "a place in the directory is one of the slots";
