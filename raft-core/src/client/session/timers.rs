//! What happens to a session because time passes or it is over: attempts are made again, and
//! commands come to their end without an answer.

use crate::client::attempts::Attempts;
use crate::client::session::{ClientSession, Completion, Finished, Phase, Reason, SessionEnd};
use crate::types::{Instant, Sequence};

impl<const WINDOW: usize> ClientSession<WINDOW> {
    /// Does what time asks for. Gives one command whose deadline has come, and is then called
    /// again; the next wake-up is known when there is none.
    pub(super) fn run_timers(&mut self, now: Instant) -> Option<Finished> {
        self.notice_end_of_lease(now);
        let mut wake = self.run_session_timers(now);
        let mut from = self.commands.acknowledge();
        while let Some((sequence, attempts)) = self.commands.first_from(from) {
            if attempts.is_over(now) {
                return self.give_up(sequence, Reason::Deadline);
            }
            wake = wake.min(expire(attempts, now));
            from = sequence.next();
        }
        // Everything that has become due is found from the lowest number on.
        self.cursor = self.commands.acknowledge();
        self.wake = wake;
        None
    }

    /// The session is taken for dead when as long as it lives has passed since the last operation
    /// that was answered was sent: the cluster counted from no earlier moment.
    pub(super) fn notice_end_of_lease(&mut self, now: Instant) {
        if let Phase::Open(lease) = &self.phase
            && lease.ends_at() <= now
        {
            // A session that nobody waits for any more is as good as closed.
            let end = if self.closing && self.is_idle() { SessionEnd::Closed } else { SessionEnd::Silent };
            self.end(end);
        }
    }

    fn run_session_timers(&mut self, now: Instant) -> Instant {
        match &mut self.phase {
            Phase::New | Phase::Over(_) => Instant::NEVER,
            Phase::Opening(opening) => expire(opening, now),
            Phase::Open(lease) => {
                if lease.keep_alive.is_none() && lease.keep_alive_at() <= now {
                    let keep_alive = Attempts::new(now, Instant::NEVER).numbered_after(lease.keep_alive_number);
                    lease.keep_alive = Some(keep_alive);
                }
                let renewal = match &mut lease.keep_alive {
                    Some(keep_alive) => expire(keep_alive, now),
                    None => lease.keep_alive_at(),
                };
                let close = lease.close.as_mut().map_or(Instant::NEVER, |close| expire(close, now));
                renewal.min(close).min(lease.ends_at())
            }
        }
    }

    /// When the session is over: what is not under way is never sent again, so that its outcome
    /// is settled.
    pub(super) fn give_up_unsent(&mut self, end: SessionEnd) -> Option<Finished> {
        while let Some((sequence, attempts)) = self.commands.first_from(self.cursor) {
            self.cursor = sequence.next();
            if !attempts.is_sent() {
                return self.give_up(sequence, Reason::SessionOver(end));
            }
        }
        None
    }

    /// The command ends without an answer: in doubt if any attempt may have been proposed.
    pub(super) fn give_up(&mut self, sequence: Sequence, reason: Reason) -> Option<Finished> {
        let attempts = self.finish(sequence)?;
        let completion = match attempts.may_have_been_proposed() {
            true => Completion::Unknown(reason),
            false => Completion::NotExecuted(reason),
        };
        Some((sequence, completion))
    }
}

/// Makes an attempt that was not answered in time due again. Gives when to look at it next.
fn expire(attempts: &mut Attempts, now: Instant) -> Instant {
    if attempts.has_timed_out(now) {
        attempts.lost(now);
    }
    attempts.wake(now)
}
