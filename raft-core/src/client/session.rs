//! One session as its client sees it, without I/O.
//!
//! A [`ClientSession`] numbers commands, says what to send and when, acknowledges, renews, and gives
//! each command exactly one of three outcomes: done with its answer; not executed, with the reason;
//! unknown. It never opens itself again: when it is over, so are its commands, and the program makes
//! a new one for new commands.
//!
//! After each input, [`ClientSession::poll`] is called until it gives nothing more, and then, as far
//! as the program can send, [`ClientSession::transmit`]; and both again at
//! [`ClientSession::deadline`]. The inputs are [`ClientSession::submit`], [`ClientSession::respond`],
//! [`ClientSession::lost`], [`ClientSession::refuse_to_send`], [`ClientSession::disconnected`] and
//! [`ClientSession::close`]. The commands' bytes stay with the program, which knows them by their
//! number. To which node things are sent is up to the program too (see [`crate::client::route`]):
//! a command that was refused because a node does not lead is due again at once.

mod answers;
mod outcome;
mod request;
#[cfg(test)]
mod tests;
mod timers;
mod window;

use crate::client::attempts::Attempts;
use crate::client::pace::{Jitter, Pace};
use crate::types::{Instant, Millis, Nonce, Sequence, SessionId};

pub use outcome::{Completion, Reason, SessionEnd, SubmitError};
pub use request::{Outgoing, SessionOperation, Token, What};
use window::Window;

/// A session with at most `WINDOW` commands in flight, or fewer if the cluster allows fewer.
#[derive(Clone, Debug)]
pub struct ClientSession<const WINDOW: usize> {
    nonce: Nonce,
    fifo: bool,
    pace: Pace,
    jitter: Jitter,
    phase: Phase,
    /// Whether the program closed it: no further commands, and an end once none is awaited.
    closing: bool,
    commands: Window<WINDOW>,
    /// Where the search for something to send begins. Invariant: acknowledge <= cursor <= next,
    /// and no command below it is due, unless its time came after the timers ran last.
    cursor: Sequence,
    /// No timer runs out before. May be too early, never too late.
    wake: Instant,
}

/// How far a session is. What exists only in one of them lives there.
#[derive(Clone, Debug)]
enum Phase {
    /// No command was submitted yet.
    New,
    /// Being opened.
    Opening(Attempts),
    /// Open.
    Open(Lease),
    /// No more: nothing is sent, and only answers to what was sent before are waited for.
    Over(SessionEnd),
}

/// What is known of an open session.
#[derive(Clone, Debug)]
struct Lease {
    session: SessionId,
    /// How many commands the cluster lets it have in flight, at least 1.
    window: u16,
    ttl: Millis,
    /// When the last operation that was answered was sent.
    renewed: Instant,
    keep_alive: Option<Attempts>,
    /// The number of the attempt by which it was kept alive last: the next keep-alive counts on from it.
    keep_alive_number: u32,
    close: Option<Attempts>,
}

impl Lease {
    /// When it is to be kept alive.
    fn keep_alive_at(&self) -> Instant {
        self.renewed.after(Millis(self.ttl.0 / 3))
    }

    /// From when on the session is taken for dead.
    fn ends_at(&self) -> Instant {
        self.renewed.after(self.ttl)
    }

    fn renew(&mut self, sent_at: Instant) {
        self.renewed = self.renewed.max(sent_at);
    }
}

/// A command that came to its end without an answer.
pub type Finished = (Sequence, Completion<'static>);

impl<const WINDOW: usize> ClientSession<WINDOW> {
    /// A session that is opened when its first command is submitted.
    ///
    /// `nonce` is its secret: 128 bits that nobody else can guess, never used before. `fifo` asks
    /// the cluster to run the commands in the order of their numbers. `seed` is for jitter.
    #[must_use]
    pub fn new(nonce: Nonce, fifo: bool, pace: Pace, seed: u64) -> ClientSession<WINDOW> {
        const { assert!(WINDOW >= 1 && WINDOW <= crate::session::limits::WINDOW_MAX as usize) };
        ClientSession {
            nonce,
            fifo,
            pace,
            jitter: Jitter::new(seed),
            phase: Phase::New,
            closing: false,
            commands: Window::new(),
            cursor: Sequence::FIRST,
            wake: Instant::NEVER,
        }
    }

    /// Takes in a command and gives its number. It is given up at `deadline`, which may be
    /// [`Instant::NEVER`]: it is then sent again and again until the session is over.
    ///
    /// # Errors
    /// [`SubmitError::WindowFull`] while as many as allowed are in flight, and
    /// [`SubmitError::Over`] when the session is over or was closed.
    pub fn submit(&mut self, now: Instant, deadline: Instant) -> Result<Sequence, SubmitError> {
        self.notice_end_of_lease(now);
        if let Phase::Over(end) = self.phase {
            return Err(SubmitError::Over(end));
        }
        if self.closing {
            return Err(SubmitError::Over(SessionEnd::Closed));
        }
        if self.commands.span() >= self.window() {
            return Err(SubmitError::WindowFull);
        }
        self.open(now);
        let sequence = self.commands.push(Attempts::new(now, deadline));
        self.wake_by(deadline);
        self.check();
        Ok(sequence)
    }

    /// Begins to open the session, if that has not begun: for programs that want it open before
    /// they have a command.
    pub fn open(&mut self, now: Instant) {
        if matches!(self.phase, Phase::New) {
            self.phase = Phase::Opening(Attempts::new(now, Instant::NEVER));
        }
    }

    /// Takes no further commands, and closes the session once none is awaited.
    pub fn close(&mut self) {
        self.closing = true;
        // A session that was never asked for is closed by forgetting it; one that may have been
        // opened must first be known.
        let unknown_to_all = match &self.phase {
            Phase::New => true,
            Phase::Opening(opening) => !opening.may_have_been_proposed() && self.is_idle(),
            Phase::Open(_) | Phase::Over(_) => false,
        };
        if unknown_to_all {
            self.end(SessionEnd::Closed);
        }
    }

    /// The next command that came to its end without an answer. Called after each input and at
    /// [`ClientSession::deadline`], until it gives `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Finished> {
        if self.wake <= now
            && let Some(finished) = self.run_timers(now)
        {
            return Some(finished);
        }
        let finished = match self.phase {
            Phase::Over(end) => self.give_up_unsent(end),
            Phase::New | Phase::Opening(_) | Phase::Open(_) => None,
        };
        self.check();
        finished
    }

    /// The next thing to send now. Called after [`ClientSession::poll`], while the program can send
    /// and until it gives `None`. What it gives counts as sent, unless the program reports
    /// [`ClientSession::refuse_to_send`]. Keep its token until the attempt has come to its end.
    pub fn transmit(&mut self, now: Instant) -> Option<Outgoing> {
        let outgoing = match &self.phase {
            Phase::New | Phase::Over(_) => None,
            Phase::Opening(_) => self.send_open(now),
            Phase::Open(_) => {
                self.send_keep_alive(now).or_else(|| self.send_command(now)).or_else(|| self.send_close(now))
            }
        };
        self.check();
        outgoing
    }

    /// When to call [`ClientSession::poll`] again without another input.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.wake
    }

    /// The session's id, once it is open.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        match &self.phase {
            Phase::Open(lease) => Some(lease.session),
            _ => None,
        }
    }

    /// Why the session is over, if it is. Commands may still wait for the answers to what was sent
    /// before.
    #[must_use]
    pub fn over(&self) -> Option<SessionEnd> {
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// Whether no command waits for its outcome.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.commands.is_idle()
    }

    /// How many commands it may have in flight now, counted from the oldest that is awaited.
    fn window(&self) -> u64 {
        let most = WINDOW as u64;
        match &self.phase {
            Phase::Open(lease) => most.min(u64::from(lease.window)),
            _ => most,
        }
    }

    /// The command is awaited no longer. Gives what is known of its attempts, if it was.
    fn finish(&mut self, sequence: Sequence) -> Option<Attempts> {
        let attempts = self.commands.take(sequence);
        self.cursor = self.cursor.max(self.commands.acknowledge());
        attempts
    }

    /// The session is over; what is left of its commands is found by [`ClientSession::poll`].
    fn end(&mut self, end: SessionEnd) {
        if !matches!(self.phase, Phase::Over(_)) {
            self.phase = Phase::Over(end);
            self.cursor = self.commands.acknowledge();
        }
    }

    fn wake_by(&mut self, moment: Instant) {
        self.wake = self.wake.min(moment);
    }

    /// A command may be due again, though the search has passed it.
    fn search_from(&mut self, sequence: Sequence) {
        self.cursor = self.cursor.min(sequence).max(self.commands.acknowledge());
    }

    fn check(&self) {
        assert!(self.commands.acknowledge() <= self.cursor, "what is acknowledged is not sent again");
        assert!(self.cursor <= self.commands.next(), "only what was submitted is sent");
    }
}
