//! The attempts to get one request answered, and what is known of them.

use crate::client::pace::{Jitter, Pace};
use crate::client::protocol::NotExecuted;
use crate::message::ProposeError;
use crate::types::Instant;

/// The attempts made for one request.
///
/// An attempt ends with an answer, with a definite refusal, or with neither. One that ends with
/// neither may have been proposed, and may still be: that is remembered for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    phase: Phase,
    /// The number of the last one that was made; as `before`, if none was.
    number: u32,
    /// The number of the last attempt that was made for an earlier request of the same name.
    before: u32,
    /// Whether an earlier attempt ended with neither an answer nor a definite refusal.
    tainted: bool,
    /// When the request is given up.
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be sent at that moment.
    Due(Instant),
    /// Sent; taken for lost at `until`.
    Sent { at: Instant, until: Instant },
}

impl Attempts {
    /// A request that is to be sent at `at` and given up at `deadline`.
    #[must_use]
    pub fn new(at: Instant, deadline: Instant) -> Attempts {
        Attempts { phase: Phase::Due(at), number: 0, before: 0, tainted: false, deadline }
    }

    /// The same, with attempts that are numbered after `number`: for a request that follows another
    /// one of the same name, so that an answer to an attempt of that one is not taken for its own.
    #[must_use]
    pub fn numbered_after(self, number: u32) -> Attempts {
        assert!(self.number == self.before, "numbers are chosen before the first attempt");
        Attempts { number, before: number, ..self }
    }

    /// The number of the last attempt.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether attempt `number` was made for this request, whatever became of it.
    #[must_use]
    pub fn was_made(&self, number: u32) -> bool {
        number > self.before && number <= self.number
    }

    /// How many attempts were made.
    fn made(&self) -> u32 {
        self.number - self.before
    }

    /// Whether it is to be sent now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Due(at) if at <= now)
    }

    /// Whether an attempt is under way.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        matches!(self.phase, Phase::Sent { .. })
    }

    /// Whether its deadline has come.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Whether attempt `number` is the one under way; then, when it was sent.
    #[must_use]
    pub fn sent_at(&self, number: u32) -> Option<Instant> {
        match self.phase {
            Phase::Sent { at, .. } if self.number == number => Some(at),
            _ => None,
        }
    }

    /// Whether an attempt may have been proposed, so that nobody can say it will not be executed.
    #[must_use]
    pub fn may_have_been_proposed(&self) -> bool {
        self.tainted || self.is_sent()
    }

    /// The next moment at which something is to be done about it, other than to send it if it is
    /// due already.
    #[must_use]
    pub fn wake(&self, now: Instant) -> Instant {
        let next = match self.phase {
            Phase::Due(at) if at <= now => Instant::NEVER,
            Phase::Due(at) => at,
            Phase::Sent { until, .. } => until,
        };
        next.min(self.deadline)
    }

    /// An attempt is made now; returns its number.
    pub fn send(&mut self, now: Instant, pace: &Pace, jitter: &mut Jitter) -> u32 {
        assert!(!self.is_sent(), "an attempt is under way already");
        // A number that came round again could be taken for an old one; no request lives so long.
        self.number = self.number.saturating_add(1);
        self.phase = Phase::Sent { at: now, until: now.after(pace.timeout(self.made(), jitter)) };
        self.number
    }

    /// The attempt under way was refused definitely; the next one is due at `at`.
    pub fn refused(&mut self, at: Instant) {
        self.phase = Phase::Due(at);
    }

    /// The attempt under way ended without a definite answer; the next one is due at `at`.
    pub fn lost(&mut self, at: Instant) {
        self.tainted |= self.is_sent();
        self.phase = Phase::Due(at);
    }

    /// Whether the attempt under way has waited for its answer for too long.
    #[must_use]
    pub fn has_timed_out(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Sent { until, .. } if until <= now)
    }

    /// When to try again after a refusal that asks for a pause.
    #[must_use]
    pub fn after_pause(&self, now: Instant, pace: &Pace, jitter: &mut Jitter) -> Instant {
        now.after(pace.pause(self.made(), jitter))
    }
}

/// What a definite refusal by a node asks of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Another node is to be asked, which [`crate::client::route::Route`] paces.
    Elsewhere,
    /// The same again, after a pause.
    Later,
    /// Nothing: it would be refused for ever.
    GiveUp,
}

impl Remedy {
    /// The remedy for a refusal.
    #[must_use]
    pub fn of(reason: NotExecuted) -> Remedy {
        match reason {
            NotExecuted::Refused(ProposeError::NotLeader { .. }) | NotExecuted::Overtaken | NotExecuted::Stopping => {
                Remedy::Elsewhere
            }
            NotExecuted::Refused(
                ProposeError::NotReady | ProposeError::Busy | ProposeError::NoSpace | ProposeError::Transferring { .. },
            )
            | NotExecuted::Unconfirmed => Remedy::Later,
            NotExecuted::Refused(ProposeError::TooLong { .. } | ProposeError::WrongSecret)
            | NotExecuted::AnswerTooLong
            | NotExecuted::Unsupported
            | NotExecuted::Change(_)
            | NotExecuted::Transfer(_)
            | NotExecuted::NotTakenOver
            | NotExecuted::NoSnapshot => Remedy::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Millis;

    #[test]
    fn a_definite_refusal_leaves_no_doubt_and_a_loss_leaves_it_for_good() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut attempts = Attempts::new(Instant(0), Instant::NEVER);
        assert!(attempts.is_due(Instant(0)) && !attempts.may_have_been_proposed());
        assert_eq!(attempts.send(Instant(0), &pace, &mut jitter), 1);
        assert!(attempts.may_have_been_proposed());
        attempts.refused(Instant(5));
        assert!(!attempts.may_have_been_proposed() && !attempts.is_due(Instant(4)));
        assert_eq!((attempts.wake(Instant(4)), attempts.wake(Instant(5))), (Instant(5), Instant::NEVER));
        assert_eq!(attempts.send(Instant(5), &pace, &mut jitter), 2);
        assert_eq!((attempts.sent_at(1), attempts.sent_at(2)), (None, Some(Instant(5))));
        attempts.lost(Instant(6));
        attempts.send(Instant(6), &pace, &mut jitter);
        attempts.refused(Instant(7));
        assert!(attempts.may_have_been_proposed());
    }

    #[test]
    fn a_request_that_was_never_sent_is_not_put_in_doubt_by_a_loss() {
        let mut attempts = Attempts::new(Instant(0), Instant::NEVER);
        attempts.lost(Instant(1));
        assert!(!attempts.may_have_been_proposed());
    }

    #[test]
    fn only_attempts_of_its_own_were_made_and_their_patience_begins_with_the_first() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut attempts = Attempts::new(Instant(0), Instant::NEVER).numbered_after(7);
        assert!(!attempts.was_made(7) && !attempts.was_made(8));
        assert_eq!(attempts.send(Instant(0), &pace, &mut jitter), 8);
        assert_eq!((attempts.was_made(7), attempts.was_made(8), attempts.was_made(9)), (false, true, false));
        assert!(attempts.wake(Instant(0)) <= Instant(1250), "it waits as a first attempt does");
        assert_eq!((attempts.sent_at(1), attempts.sent_at(8)), (None, Some(Instant(0))));
    }

    #[test]
    fn it_wakes_for_its_timeout_and_its_deadline() {
        let pace = Pace { attempt_timeout: Millis(100), ..Pace::default() };
        let mut jitter = Jitter::new(1);
        let mut attempts = Attempts::new(Instant(0), Instant(1000));
        attempts.send(Instant(0), &pace, &mut jitter);
        let wake = attempts.wake(Instant(0));
        assert!((100..=125).contains(&wake.0));
        assert!(attempts.has_timed_out(wake) && !attempts.has_timed_out(Instant(99)));
        let mut late = Attempts::new(Instant(0), Instant(50));
        late.send(Instant(0), &pace, &mut jitter);
        assert_eq!(late.wake(Instant(0)), Instant(50));
        assert!(late.is_over(Instant(50)) && !late.is_over(Instant(49)));
    }
}
