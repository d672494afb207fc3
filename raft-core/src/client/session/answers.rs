//! What responses, and their absence, tell a session.

use crate::client::attempts::{Attempts, Remedy};
use crate::client::pace::{Jitter, Pace};
use crate::client::protocol::ResponseBody;
use crate::client::session::{ClientSession, Completion, Lease, Phase, Reason, SessionEnd, Token, What};
use crate::session::operation::{Outcome, Refusal};
use crate::types::{Instant, Millis, Sequence};

impl<const WINDOW: usize> ClientSession<WINDOW> {
    /// Takes in the response to the attempt `token`. Returns the command that came to its end by it,
    /// if one did. A response that comes late does no harm, nor does one to an attempt of another
    /// session.
    pub fn respond<'a>(
        &mut self,
        now: Instant,
        token: Token,
        body: &ResponseBody<'a>,
    ) -> Option<(Sequence, Completion<'a>)> {
        if !token.is_of(self.nonce) {
            return None;
        }
        let completion = match token.what() {
            What::Command(sequence) => self.command_responded(now, sequence, &token, body),
            What::Open => self.open_responded(now, &token, body),
            What::KeepAlive => self.keep_alive_responded(now, &token, body),
            What::Close => self.close_responded(now, &token, body),
        };
        self.check();
        completion
    }

    /// The attempt `token` will get no response any more: its connection was lost. It may
    /// have been proposed nevertheless.
    pub fn lost(&mut self, now: Instant, token: Token) {
        self.again(now, &token, |attempts, _, _| {
            attempts.lost(now);
            now
        });
    }

    /// The attempt `token` was not sent at all; its operation is due again at `at`.
    pub fn refuse_to_send(&mut self, now: Instant, token: Token, at: Instant) {
        self.again(now, &token, |attempts, _, _| {
            attempts.refused(at);
            at
        });
    }

    /// The only connection was lost: nothing that was sent will get a response.
    pub fn disconnected(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Opening(opening) => opening.lost(now),
            Phase::Open(lease) => {
                let beside = lease.keep_alive.iter_mut().chain(lease.close.iter_mut());
                beside.for_each(|attempts| attempts.lost(now));
            }
            Phase::New | Phase::Over(_) => {}
        }
        let mut from = self.commands.acknowledge();
        while let Some((sequence, attempts)) = self.commands.first_from(from) {
            attempts.lost(now);
            from = sequence.next();
        }
        self.cursor = self.commands.acknowledge();
    }

    /// Changes the attempts of what `token` stands for, if that attempt is the one under way, so
    /// that the next one is due at the moment `change` gives.
    fn again(
        &mut self,
        now: Instant,
        token: &Token,
        change: impl FnOnce(&mut Attempts, &Pace, &mut Jitter) -> Instant,
    ) {
        if !token.is_of(self.nonce) {
            return;
        }
        let attempts = match (token.what(), &mut self.phase) {
            (What::Command(sequence), _) => self.commands.get_mut(sequence),
            (What::Open, Phase::Opening(opening)) => Some(opening),
            (What::KeepAlive, Phase::Open(lease)) => lease.keep_alive.as_mut(),
            (What::Close, Phase::Open(lease)) => lease.close.as_mut(),
            _ => None,
        };
        let Some(attempts) = attempts.filter(|attempts| attempts.sent_at(token.attempt()).is_some()) else { return };
        let at = change(attempts, &self.pace, &mut self.jitter);
        if let What::Command(sequence) = token.what() {
            self.search_from(sequence);
        }
        // What is due now is found by the poll that follows each input.
        if at > now {
            self.wake_by(at);
        }
    }

    /// What a response that does not settle the attempt under way means for the next one.
    fn try_again(&mut self, now: Instant, token: &Token, body: &ResponseBody<'_>) {
        self.again(now, token, |attempts, pace, jitter| {
            let at = match *body {
                ResponseBody::NotExecuted { reason, .. } if Remedy::of(reason) == Remedy::Elsewhere => now,
                ResponseBody::Outcome(Outcome::Refused(Refusal::TableFull { retry_after })) => {
                    let spread = Millis(jitter.below(retry_after.0 / 8 + pace.back_off.0 + 1));
                    now.after(retry_after).after(spread)
                }
                _ => attempts.after_pause(now, pace, jitter),
            };
            match *body {
                ResponseBody::NotExecuted { .. } | ResponseBody::Outcome(Outcome::Refused(_)) => attempts.refused(at),
                // The node cannot tell, or makes no sense: the attempt is as good as lost.
                _ => attempts.lost(at),
            }
            at
        });
    }

    fn command_responded<'a>(
        &mut self,
        now: Instant,
        sequence: Sequence,
        token: &Token,
        body: &ResponseBody<'a>,
    ) -> Option<(Sequence, Completion<'a>)> {
        let attempts = self.commands.get_mut(sequence)?;
        if !attempts.was_made(token.attempt()) {
            return None;
        }
        let sent_at = attempts.sent_at(token.attempt());
        let (index, answer, replayed) = match *body {
            ResponseBody::Outcome(Outcome::Answered { index, answer, replayed }) => (index, Some(answer.0), replayed),
            ResponseBody::Outcome(Outcome::Executed { index, replayed }) => (index, None, replayed),
            _ => return self.command_refused(now, sequence, token, body),
        };
        if let (Phase::Open(lease), Some(sent_at)) = (&mut self.phase, sent_at) {
            lease.renew(sent_at);
        }
        self.finish(sequence);
        Some((sequence, Completion::Done { index, answer, replayed }))
    }

    fn command_refused(
        &mut self,
        now: Instant,
        sequence: Sequence,
        token: &Token,
        body: &ResponseBody<'_>,
    ) -> Option<(Sequence, Completion<'static>)> {
        if let ResponseBody::Outcome(Outcome::Refused(Refusal::SessionExpired)) = *body {
            self.end(SessionEnd::Expired);
        }
        let attempts = self.commands.get_mut(sequence)?;
        // Of an attempt before the one under way, a refusal tells nothing.
        attempts.sent_at(token.attempt())?;
        let Some(reason) = for_good(body) else {
            self.try_again(now, token, body);
            return None;
        };
        attempts.refused(Instant::NEVER);
        self.give_up(sequence, reason)
    }

    fn open_responded<'a>(
        &mut self,
        now: Instant,
        token: &Token,
        body: &ResponseBody<'_>,
    ) -> Option<(Sequence, Completion<'a>)> {
        let Phase::Opening(opening) = &self.phase else { return None };
        let sent_at = opening.sent_at(token.attempt())?;
        match *body {
            ResponseBody::Outcome(Outcome::Opened { session, again, ttl, window }) => {
                // Opened by an earlier attempt, it may have lived for a while: it is renewed at once.
                let keep_alive = again.then(|| Attempts::new(now, Instant::NEVER));
                let lease = Lease {
                    session,
                    window: window.max(1),
                    ttl,
                    renewed: sent_at,
                    keep_alive,
                    keep_alive_number: 0,
                    close: None,
                };
                self.wake_by(lease.keep_alive_at().min(lease.ends_at()));
                self.phase = Phase::Open(lease);
                self.cursor = self.commands.acknowledge();
            }
            ResponseBody::NotExecuted { reason, .. } if Remedy::of(reason) == Remedy::GiveUp => {
                self.end(SessionEnd::Refused(reason));
            }
            _ => self.try_again(now, token, body),
        }
        None
    }

    fn keep_alive_responded<'a>(
        &mut self,
        now: Instant,
        token: &Token,
        body: &ResponseBody<'_>,
    ) -> Option<(Sequence, Completion<'a>)> {
        let Phase::Open(lease) = &mut self.phase else { return None };
        let sent_at = lease.keep_alive.as_ref()?.sent_at(token.attempt())?;
        match *body {
            ResponseBody::Outcome(Outcome::KeptAlive) => {
                lease.renew(sent_at);
                lease.keep_alive = None;
                lease.keep_alive_number = token.attempt();
                let wake = lease.keep_alive_at();
                self.wake_by(wake);
            }
            ResponseBody::Outcome(Outcome::Refused(Refusal::SessionExpired)) => self.end(SessionEnd::Expired),
            ResponseBody::NotExecuted { reason, .. } if Remedy::of(reason) == Remedy::GiveUp => {
                self.end(SessionEnd::Refused(reason));
            }
            _ => self.try_again(now, token, body),
        }
        None
    }

    fn close_responded<'a>(
        &mut self,
        now: Instant,
        token: &Token,
        body: &ResponseBody<'_>,
    ) -> Option<(Sequence, Completion<'a>)> {
        let Phase::Open(lease) = &self.phase else { return None };
        lease.close.as_ref()?.sent_at(token.attempt())?;
        match *body {
            ResponseBody::Outcome(Outcome::Closed | Outcome::Refused(_)) => self.end(SessionEnd::Closed),
            ResponseBody::NotExecuted { reason, .. } if Remedy::of(reason) == Remedy::GiveUp => {
                self.end(SessionEnd::Closed);
            }
            _ => self.try_again(now, token, body),
        }
        None
    }
}

/// Why a command that got this response would be refused each time, if that is so.
fn for_good(body: &ResponseBody<'_>) -> Option<Reason> {
    match *body {
        ResponseBody::Outcome(Outcome::Refused(refusal)) => match refusal {
            // Both hold only until others are done.
            Refusal::WindowFull | Refusal::OutOfOrder => None,
            Refusal::SessionExpired => Some(Reason::SessionOver(SessionEnd::Expired)),
            Refusal::Stale | Refusal::Mismatch | Refusal::TableFull { .. } => Some(Reason::Session(refusal)),
        },
        ResponseBody::NotExecuted { reason, .. } if Remedy::of(reason) == Remedy::GiveUp => Some(Reason::Node(reason)),
        _ => None,
    }
}
