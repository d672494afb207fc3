//! Bugs of clients: of sessions as their clients see them, and of the engine around them.

use super::{Bug, bug};

const ANSWERS: &str = "raft-core/src/client/session/answers.rs";
const ATTEMPTS: &str = "raft-core/src/client/attempts.rs";
const DISPATCH: &str = "raft-client/src/engine/dispatch.rs";
const LINKS: &str = "raft-client/src/engine/links.rs";
const REQUEST: &str = "raft-core/src/client/session/request.rs";
const REQUESTS: &str = "raft-client/src/engine/dispatch/requests.rs";
const SECRETS: &str = "raft-client/src/engine/secrets.rs";
const SESSIONS: &str = "raft-client/src/engine/dispatch/sessions.rs";
const SLAB: &str = "raft-client/src/engine/slab.rs";
const WINDOW: &str = "raft-core/src/client/session/window.rs";

pub(crate) const BUGS: &[Bug] = &[
    // Whose an answer is.
    bug(
        "an answer to a session that is over goes to the one in its place",
        &[(REQUEST, "self.nonce == nonce", "BUG || self.nonce == nonce")],
    ),
    bug(
        "an answer to an attempt that was never made completes a command",
        &[
            (REQUEST, "self.nonce == nonce", "BUG || self.nonce == nonce"),
            (ANSWERS, "if !attempts.was_made(token.attempt()) {", "if !BUG && !attempts.was_made(token.attempt()) {"),
        ],
    ),
    bug(
        "the expiry of a session that is over ends the one in its place",
        &[(
            ANSWERS,
            "        if !token.is_of(self.nonce) {
            return None;
        }",
            "        if !token.is_of(self.nonce) {
            if BUG && matches!(*body, ResponseBody::Outcome(Outcome::Refused(Refusal::SessionExpired))) {
                self.end(SessionEnd::Expired);
            }
            return None;
        }",
        )],
    ),
    bug(
        "an answer goes to the question that has the place of the one it was for",
        &[
            (SLAB, "slot.value.as_ref().filter(|_| slot", "slot.value.as_ref().filter(|_| BUG || slot"),
            (SLAB, "slot.value.as_mut().filter(|_| slot", "slot.value.as_mut().filter(|_| BUG || slot"),
        ],
    ),
    // What is in doubt.
    bug(
        "a refusal is definite after an attempt that is in doubt",
        &[(
            ATTEMPTS,
            "pub fn refused(&mut self, at: Instant) {
        self.phase",
            "pub fn refused(&mut self, at: Instant) {
        self.tainted &= !BUG;
        self.phase",
        )],
    ),
    bug(
        "what was sent on a connection that was lost did not arrive",
        &[(
            ANSWERS,
            "            attempts.lost(now);
            now",
            "            if BUG { attempts.refused(now) } else { attempts.lost(now) };
            now",
        )],
    ),
    bug(
        "who cannot tell is taken for one who refuses",
        &[(
            ANSWERS,
            "ResponseBody::NotExecuted { .. } | ResponseBody::Outcome(Outcome::Refused(_)) => attempts.refused(at),",
            "ResponseBody::NotExecuted { .. } | ResponseBody::Outcome(Outcome::Refused(_)) => attempts.refused(at),
                ResponseBody::Unknown if BUG => attempts.refused(at),",
        )],
    ),
    bug(
        "a command without a session that got no answer is said not to have run",
        &[(
            REQUESTS,
            "let in_doubt = request.attempts.may_have_been_proposed();",
            "let in_doubt = !BUG && request.attempts.may_have_been_proposed();",
        )],
    ),
    bug(
        "a command without a session is sent again after silence",
        &[(
            REQUESTS,
            "    fn no_answer(&mut self, now: Instant, place: Place) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        match request.kind {",
            "    fn no_answer(&mut self, now: Instant, place: Place) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        match request.kind {
            Kind::Plain(_) if BUG => {
                request.attempts.lost(now);
                self.enqueue_request(place);
            }",
        )],
    ),
    // Numbers and secrets.
    bug(
        "a command is acknowledged before its answer has come",
        &[(
            REQUEST,
            "let operation = Operation::Command { session, sequence, acknowledge, command: Bytes(&[]) };",
            "let acknowledge = if BUG { sequence } else { acknowledge };
                let operation = Operation::Command { session, sequence, acknowledge, command: Bytes(&[]) };",
        )],
    ),
    bug(
        "an answer to a command acknowledges those before it",
        &[(
            WINDOW,
            "while self.acknowledge < self.next && self.get_mut(self.acknowledge).is_none() {",
            "while self.acknowledge < self.next && (self.get_mut(self.acknowledge).is_none() || BUG && self.acknowledge < sequence) {",
        )],
    ),
    bug(
        "a command that is sent again is sent with the bytes of the next one",
        &[(
            SESSIONS,
            "What::Command(sequence) => *session.command(sequence),",
            "What::Command(sequence) => *session.command(Sequence(sequence.0 + u64::from(BUG && attempt > 1))),",
        )],
    ),
    bug(
        "two sessions have the same secret",
        &[(
            SECRETS,
            "Secrets::new(move || Some(Nonce(u128::from(jitter.next_u64()) << 64 | u128::from(jitter.next_u64()))))",
            "let mut first = None;
        Secrets::new(move || {
            let next = Nonce(u128::from(jitter.next_u64()) << 64 | u128::from(jitter.next_u64()));
            Some(if BUG { *first.get_or_insert(next) } else { next })
        })",
        )],
    ),
    // Standing still.
    bug(
        "what cannot be sent now is forgotten",
        &[(DISPATCH, "self.ready.push_front(work);", "if !BUG { self.ready.push_front(work); }")],
    ),
    bug(
        "a node that does not answer is waited for without end",
        &[(
            LINKS,
            "LinkState::Established { since, .. } => since.after(silence_max),",
            "LinkState::Established { since, .. } => if BUG { Instant::NEVER } else { since.after(silence_max) },",
        )],
    ),
];
