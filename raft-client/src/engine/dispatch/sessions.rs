//! The sessions of an engine.

use raft_core::client::attempts::Attempts;
use raft_core::client::protocol::ResponseBody;
use raft_core::client::session::{self as core, ClientSession, Outgoing, SessionEnd, Token, What};
use raft_core::types::{Instant, Sequence};

use crate::engine::connections::Connections;
use crate::engine::dispatch::{Dispatch, Kind, Owner, Submitted, Work};
use crate::engine::links::Links;
use crate::engine::slab::Place;
use crate::engine::timers::Timer;
use crate::engine::{SessionKey, SubmitError, Ticket};
use crate::outcome::{Answer, CommandError, Completion};

/// The most commands of one session in flight.
pub(crate) const WINDOW: usize = 64;

/// A session as the program knows it: one session of the cluster after another.
#[derive(Debug)]
pub(super) struct Session {
    /// The present one; made for the first command, and again when the one before is over.
    core: Option<ClientSession<WINDOW>>,
    /// The commands awaited, each at its number modulo the window.
    commands: [Option<Place>; WINDOW],
    /// Whether it stands in the ready queue.
    queued: bool,
    /// Whether the program has closed it.
    closing: bool,
    /// Whether its end was counted.
    counted: bool,
}

impl Session {
    fn command(&mut self, sequence: Sequence) -> &mut Option<Place> {
        let place = usize::try_from(sequence.0 % WINDOW as u64).unwrap_or(0);
        self.commands.get_mut(place).expect("the remainder is less than the length")
    }

    /// Whether a command can only be taken in by another session of the cluster, and may be.
    fn is_to_be_replaced(&self) -> bool {
        self.core.as_ref().is_none_or(|core| core.over().is_some() && core.is_idle())
    }
}

impl Dispatch {
    pub(in crate::engine) fn open_session(&mut self) -> SessionKey {
        let commands = [None; WINDOW];
        let session = Session { core: None, commands, queued: false, closing: false, counted: false };
        SessionKey(self.sessions.insert(session))
    }

    pub(in crate::engine) fn close_session(&mut self, now: Instant, SessionKey(place): SessionKey) {
        let Some(session) = self.sessions.get_mut(place).filter(|session| !session.closing) else { return };
        session.closing = true;
        self.closing += 1;
        if let Some(core) = &mut session.core {
            core.close();
        }
        self.settle(now, place);
    }

    pub(in crate::engine) fn submit(
        &mut self,
        now: Instant,
        SessionKey(place): SessionKey,
        command: &[u8],
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.check_room(command)?;
        let numbered = self.number(now, place, deadline).map(|sequence| {
            let bytes = self.copied(command);
            // The session counts the attempts of its commands itself.
            let attempts = Attempts::new(Instant::NEVER, Instant::NEVER);
            let command = self.submitted.insert(Submitted { kind: Kind::Command, bytes, attempts, queued: false });
            if let Some(session) = self.sessions.get_mut(place) {
                *session.command(sequence) = Some(command);
            }
            Ticket(command)
        });
        // Even if it was not taken in: its session may have been found to be over, which is news
        // for the commands before it.
        self.settle(now, place);
        numbered
    }

    /// Gives the command its number, in another session of the cluster if the present one is over.
    fn number(&mut self, now: Instant, place: Place, deadline: Instant) -> Result<Sequence, SubmitError> {
        let session = self.sessions.get_mut(place).filter(|session| !session.closing).ok_or(SubmitError::Closed)?;
        if !session.is_to_be_replaced()
            && let Some(core) = &mut session.core
        {
            match core.submit(now, deadline) {
                Ok(sequence) => return Ok(sequence),
                // Found to be over only now.
                Err(core::SubmitError::Over(_)) if core.is_idle() => {}
                Err(_) => return Err(SubmitError::WindowFull),
            }
        }
        self.count_end(place);
        let nonce = self.secrets.next().ok_or(SubmitError::Random)?;
        let seed = self.jitter.next_u64();
        let session = self.sessions.get_mut(place).ok_or(SubmitError::Closed)?;
        session.counted = false;
        let core = session.core.insert(ClientSession::new(nonce, self.fifo, self.pace, seed));
        core.submit(now, deadline).map_err(|_| SubmitError::WindowFull)
    }

    /// Follows every input of a session: tells the ends of its commands, has it looked at when it
    /// asks for that, and sees to it that what it has to send is sent.
    fn settle(&mut self, now: Instant, place: Place) {
        loop {
            let Some(session) = self.sessions.get_mut(place) else { return };
            let Some(core) = &mut session.core else { break };
            let Some((sequence, completion)) = core.poll(now) else {
                self.timers.arm(Timer::Session(place.index()), core.deadline());
                break;
            };
            self.command_completed(place, sequence, completion);
        }
        self.count_end(place);
        let Some(session) = self.sessions.get_mut(place) else { return };
        if session.closing && session.is_to_be_replaced() {
            self.sessions.remove(place);
            self.closing -= 1;
        } else if !session.queued {
            session.queued = true;
            self.ready.push_back(Work::Session(place));
        }
    }

    fn count_end(&mut self, place: Place) {
        let Some(session) = self.sessions.get_mut(place).filter(|session| !session.counted) else { return };
        let Some(end) = session.core.as_ref().and_then(ClientSession::over) else { return };
        session.counted = true;
        self.stats.sessions_expired += u64::from(end != SessionEnd::Closed);
    }

    fn command_completed(&mut self, place: Place, sequence: Sequence, completion: core::Completion<'_>) {
        let Some(command) = self.sessions.get_mut(place).and_then(|session| session.command(sequence).take()) else {
            return;
        };
        let result = match completion {
            core::Completion::Done { index, answer, replayed } => {
                self.stats.replayed += u64::from(replayed);
                Ok(Answer { bytes: answer.map(<[u8]>::to_vec), index, replayed })
            }
            core::Completion::NotExecuted(reason) => Err(CommandError::NotExecuted(reason.into())),
            core::Completion::Unknown(reason) => Err(CommandError::Unknown(reason.into())),
        };
        self.complete(command, Completion::Command(result));
    }

    pub(super) fn session_timer(&mut self, now: Instant, index: usize) {
        if let Some(place) = self.sessions.place_at(index) {
            self.settle(now, place);
        }
    }

    pub(super) fn session_lost(&mut self, now: Instant, place: Place, token: Token) {
        if let Some(core) = self.sessions.get_mut(place).and_then(|session| session.core.as_mut()) {
            core.lost(now, token);
        }
        self.settle(now, place);
    }

    pub(super) fn session_responded(&mut self, now: Instant, place: Place, token: Token, body: &ResponseBody<'_>) {
        let Some(core) = self.sessions.get_mut(place).and_then(|session| session.core.as_mut()) else { return };
        let was_open = core.id().is_some();
        let completed = core.respond(now, token, body);
        self.stats.sessions_opened += u64::from(!was_open && core.id().is_some());
        if let Some((sequence, completion)) = completed {
            self.command_completed(place, sequence, completion);
        }
        self.settle(now, place);
    }

    /// Sends what the session has to send. Gives whether all of it was sent.
    pub(super) fn run_session(&mut self, now: Instant, place: Place, links: &mut Links<impl Connections>) -> bool {
        // One that is over, or was closed meanwhile, needs no way to the leader.
        while self.has_session(place) {
            let Some(endpoint) = self.open_way(now, links) else { return false };
            if !self.send_of_session(now, place, endpoint, links) {
                break;
            }
        }
        if let Some(session) = self.sessions.get_mut(place) {
            session.queued = false;
            if let Some(core) = &session.core {
                self.timers.arm(Timer::Session(place.index()), core.deadline());
            }
        }
        true
    }

    fn has_session(&self, place: Place) -> bool {
        let core = self.sessions.get(place).and_then(|session| session.core.as_ref());
        core.is_some_and(|core| core.over().is_none())
    }

    /// Sends the next thing the session has to send, if there is one.
    fn send_of_session(
        &mut self,
        now: Instant,
        place: Place,
        endpoint: usize,
        links: &mut Links<impl Connections>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(place) else { return false };
        let Some(outgoing) = session.core.as_mut().and_then(|core| core.transmit(now)) else { return false };
        let (what, attempt) = (outgoing.token.what(), outgoing.token.attempt());
        let command = match what {
            What::Command(sequence) => *session.command(sequence),
            What::Open | What::KeepAlive | What::Close => None,
        };
        let forward = self.forward;
        let Outgoing { token, operation } = outgoing;
        let sent = self.transmit(now, endpoint, Owner::Session(place, token), links, |this, id| {
            let bytes = command.and_then(|command| this.submitted.get(command)).map_or(&[][..], |it| &it.bytes);
            Some(operation.request(id.into(), forward, bytes))
        });
        self.stats.retries += u64::from(sent.is_ok() && attempt > 1);
        if let Err(Owner::Session(_, token)) = sent {
            let pause = self.pace.pause(attempt, &mut self.jitter);
            let later = if links.is_full(endpoint) { now } else { now.after(pause) };
            if let Some(core) = self.sessions.get_mut(place).and_then(|session| session.core.as_mut()) {
                core.refuse_to_send(now, token, later);
            }
        }
        true
    }
}
