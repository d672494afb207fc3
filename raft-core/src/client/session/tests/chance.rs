//! Any order of inputs, however unlikely: each command comes to one end, and to the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use crate::client::pace::{Jitter, Pace};
use crate::client::protocol::{NotExecuted, RequestBody, RequestId, ResponseBody};
use crate::client::session::{ClientSession, Completion, Token, What};
use crate::message::ProposeError;
use crate::session::operation::{Operation, Outcome, Refusal};
use crate::types::{Index, Instant, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

/// What is known of the commands from outside.
#[derive(Default)]
struct Model {
    /// The attempts of each awaited command that were sent and not refused.
    awaited: BTreeMap<Sequence, BTreeSet<u32>>,
    sent: Vec<(What, u32)>,
    done: u64,
    not_executed: u64,
    unknown: u64,
}

impl Model {
    fn ended(&mut self, sequence: Sequence, completion: Completion<'_>) {
        let in_doubt = self.awaited.remove(&sequence).expect("a command ends once");
        match completion {
            Completion::Done { .. } => self.done += 1,
            Completion::NotExecuted(_) => {
                assert!(in_doubt.is_empty(), "{sequence} may have been executed: {completion:?}");
                self.not_executed += 1;
            }
            Completion::Unknown(_) => {
                assert!(!in_doubt.is_empty(), "{sequence} was not executed: {completion:?}");
                self.unknown += 1;
            }
        }
    }

    fn take_outputs(&mut self, session: &mut ClientSession<4>, now: Instant) {
        while let Some((sequence, completion)) = session.poll(now) {
            self.ended(sequence, completion);
        }
        while let Some(outgoing) = session.transmit(now) {
            let request = outgoing.operation.request(RequestId(0), false, b"");
            let RequestBody::Operate { operation, .. } = request.body else { panic!("{request:?}") };
            if let Operation::Command { sequence, acknowledge, .. } = operation {
                let lowest = self.awaited.keys().next();
                assert_eq!(Some(&acknowledge), lowest, "it acknowledges exactly what it has");
                let attempts = self.awaited.get_mut(&sequence).expect("only what is awaited is sent");
                attempts.insert(outgoing.token.attempt());
            }
            self.sent.push((outgoing.token.what(), outgoing.token.attempt()));
        }
        assert!(session.deadline() > now);
        assert_eq!(session.is_idle(), self.awaited.is_empty());
    }

    /// A response to something sent at any time, maybe for the second time.
    fn respond(&mut self, session: &mut ClientSession<4>, now: Instant, chance: &mut Jitter) {
        let place = usize::try_from(chance.below(self.sent.len() as u64)).unwrap();
        let Some(&(what, attempt)) = self.sent.get(place) else { return };
        let body = any_response(what, chance);
        let is_refusal = matches!(body, ResponseBody::NotExecuted { .. } | ResponseBody::Outcome(Outcome::Refused(_)));
        if chance.below(8) == 0 {
            // It is of another session: nothing at all comes of it.
            let before = std::format!("{session:?}");
            assert_eq!(session.respond(now, Token::new(Nonce(2), what, attempt), &body), None);
            assert_eq!(std::format!("{session:?}"), before);
            return;
        }
        if let What::Command(sequence) = what
            && is_refusal
            && session.commands.get_mut(sequence).is_some_and(|command| command.sent_at(attempt).is_some())
        {
            // Only the attempt under way is believed to be refused.
            self.awaited.entry(sequence).or_default().remove(&attempt);
        }
        if let Some((sequence, completion)) = session.respond(now, Token::new(Nonce(1), what, attempt), &body) {
            assert_eq!(what, What::Command(sequence));
            self.ended(sequence, completion);
        }
    }
}

fn any_response(what: What, chance: &mut Jitter) -> ResponseBody<'static> {
    let good = match what {
        What::Open => Outcome::Opened { session: SessionId(3), again: false, ttl: Millis(2000), window: 3 },
        What::KeepAlive => Outcome::KeptAlive,
        What::Close => Outcome::Closed,
        What::Command(_) => Outcome::Answered { index: Index(1), answer: Bytes(b""), replayed: false },
    };
    let not_executed = |reason| ResponseBody::NotExecuted { reason, leader_address: "" };
    match chance.below(40) {
        0 => ResponseBody::Outcome(Outcome::Refused(Refusal::Stale)),
        1 => ResponseBody::Outcome(Outcome::Refused(Refusal::WindowFull)),
        2 => ResponseBody::Outcome(Outcome::Refused(Refusal::Mismatch)),
        3 => ResponseBody::Outcome(Outcome::Refused(Refusal::SessionExpired)),
        4 => ResponseBody::Outcome(Outcome::Refused(Refusal::OutOfOrder)),
        5 => ResponseBody::Outcome(Outcome::Refused(Refusal::TableFull { retry_after: Millis(50) })),
        6 => not_executed(NotExecuted::Unsupported),
        7..=11 => not_executed(NotExecuted::Refused(ProposeError::NotLeader { leader: None })),
        12..=15 => not_executed(NotExecuted::Refused(ProposeError::Busy)),
        16..=18 => ResponseBody::Unknown,
        19 => ResponseBody::Answer(Bytes(b"")),
        _ => ResponseBody::Outcome(good),
    }
}

fn run(seed: u64) -> Model {
    let pace = Pace { attempt_timeout: Millis(100), ..Pace::default() };
    let mut chance = Jitter::new(seed);
    let mut session = ClientSession::<4>::new(Nonce(1), chance.below(2) == 0, pace, seed);
    let (mut model, mut now) = (Model::default(), Instant(0));
    for _ in 0..200 {
        match chance.below(20) {
            0..=5 => {
                let deadline = if chance.below(3) == 0 { now.after(Millis(chance.below(300))) } else { Instant::NEVER };
                if let Ok(sequence) = session.submit(now, deadline) {
                    assert!(model.awaited.insert(sequence, BTreeSet::new()).is_none());
                }
            }
            6..=12 => model.respond(&mut session, now, &mut chance),
            13..=16 => now = now.after(Millis(chance.below(60))),
            17 => now = session.deadline().min(now.after(Millis(5000))),
            18 if chance.below(10) == 0 => session.disconnected(now),
            18 if chance.below(10) == 0 => session.close(),
            _ => {
                if let Some(&(what, attempt)) = model.sent.last() {
                    session.lost(now, Token::new(Nonce(1), what, attempt));
                }
            }
        }
        model.take_outputs(&mut session, now);
    }
    // With nobody to answer, every session ends, and so do its commands. One that was never opened
    // waits for a leader as long as its commands do.
    if session.id().is_some() || session.over().is_some() {
        for _ in 0..100 {
            now = session.deadline().min(now.after(Millis(10_000)));
            model.take_outputs(&mut session, now);
        }
        assert!(session.over().is_some() && session.is_idle(), "seed {seed}");
    }
    model
}

#[test]
fn every_command_comes_to_one_end_and_certainty_is_never_claimed_wrongly() {
    let (mut done, mut not_executed, mut unknown) = (0, 0, 0);
    for seed in 0..3000 {
        let model = run(seed);
        done += model.done;
        not_executed += model.not_executed;
        unknown += model.unknown;
    }
    assert!(done > 1000 && not_executed > 1000 && unknown > 1000, "{done} {not_executed} {unknown}");
}
