//! Behaviour of a session, told as scripts: a line that begins with a time is an input, and the
//! indented lines after it are what the session then did. Operations are named with the number of
//! the attempt: `3/2` is the second attempt of command 3, `open/1` the first one to open. `old:3/2` is an
//! attempt of the session that stood in this one's place before.

mod chance;
mod doubt;
mod ends;
mod retries;
mod tokens;

use core::str::FromStr;
use std::string::{String, ToString};
use std::{format, vec::Vec};

use crate::client::pace::Pace;
use crate::client::protocol::{NotExecuted, RequestBody, RequestId, ResponseBody};
use crate::client::session::{ClientSession, Completion, SessionEnd, Token, What};
use crate::message::ProposeError;
use crate::session::operation::{Operation, Outcome, Refusal};
use crate::types::{Index, Instant, Millis, Nonce, Sequence, SessionId};
use crate::wire::Bytes;

const NONCE: Nonce = Nonce(99);
/// The secret of the session before.
const OLD: Nonce = Nonce(98);

/// Runs a script, and compares it with what came of it.
fn run(fifo: bool, script: &str) {
    // Pauses are a millisecond; an answer is waited for 100 ms and up to a quarter more.
    let pace = Pace { attempt_timeout: Millis(100), back_off: Millis(1), back_off_max: Millis(1) };
    let mut world = World { session: ClientSession::new(NONCE, fifo, pace, 1), now: Instant(0), told_end: None };
    let mut played = String::new();
    for line in script.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        played += &format!("{line}\n");
        for output in world.input(line) {
            played += &format!("  {output}\n");
        }
    }
    let expected: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let found: Vec<&str> = played.lines().map(str::trim).collect();
    assert_eq!(found, expected, "what was played:\n{played}");
}

struct World {
    session: ClientSession<4>,
    now: Instant,
    told_end: Option<SessionEnd>,
}

impl World {
    fn input(&mut self, line: &str) -> Vec<String> {
        let mut words = line.split_whitespace();
        self.now = Instant(number(words.next()));
        let verb = words.next().unwrap();
        let rest: Vec<&str> = words.collect();
        let mut outputs = Vec::new();
        match verb {
            "tick" => {}
            "close" => self.session.close(),
            "disconnected" => self.session.disconnected(self.now),
            "submit" => {
                let deadline = rest.first().map_or(Instant::NEVER, |by| Instant(number(Some(by))));
                if let Err(error) = self.session.submit(self.now, deadline) {
                    outputs.push(format!("no: {error}"));
                }
            }
            "lost" => self.session.lost(self.now, token(rest[0])),
            "unsent" => self.session.refuse_to_send(self.now, token(rest[0]), Instant(number(rest.get(1).copied()))),
            _ => {
                let body = response(verb, &rest[1..]);
                let finished = self.session.respond(self.now, token(rest[0]), &body);
                outputs.extend(finished.map(|(sequence, completion)| told(sequence, completion)));
            }
        }
        self.outputs(&mut outputs);
        outputs
    }

    fn outputs(&mut self, outputs: &mut Vec<String>) {
        while let Some((sequence, completion)) = self.session.poll(self.now) {
            outputs.push(told(sequence, completion));
        }
        while let Some(outgoing) = self.session.transmit(self.now) {
            let request = outgoing.operation.request(RequestId(1), false, b"x");
            let RequestBody::Operate { secret, operation } = request.body else { panic!("{request:?}") };
            assert_eq!(secret, operation.session().map(|_| NONCE));
            let acknowledge = match operation {
                Operation::Command { acknowledge, command, .. } => {
                    assert_eq!(command, Bytes(b"x"));
                    format!(" ack {acknowledge}")
                }
                Operation::KeepAlive { acknowledge, .. } => format!(" ack {acknowledge}"),
                _ => String::new(),
            };
            outputs.push(format!("send {}/{}{acknowledge}", name(outgoing.token.what()), outgoing.token.attempt()));
        }
        if self.session.over() != self.told_end {
            self.told_end = self.session.over();
            outputs.extend(self.told_end.map(|end| format!("over: {end:?}")));
        }
        assert!(self.session.deadline() > self.now, "what was due was done");
    }
}

fn told(sequence: Sequence, completion: Completion<'_>) -> String {
    match completion {
        Completion::Done { answer, replayed, .. } => {
            let kept = if answer.is_some() { "" } else { " without answer" };
            format!("done {sequence}{kept}{}", if replayed { " replayed" } else { "" })
        }
        Completion::NotExecuted(reason) => format!("not executed {sequence}: {reason:?}"),
        Completion::Unknown(reason) => format!("unknown {sequence}: {reason:?}"),
    }
}

fn response(verb: &str, rest: &[&str]) -> ResponseBody<'static> {
    let outcome = match verb {
        "opened" => {
            let (ttl, window) = (Millis(number(rest.first().copied())), number(rest.get(1).copied()));
            Outcome::Opened { session: SessionId(7), again: rest.contains(&"again"), ttl, window }
        }
        "kept" => Outcome::KeptAlive,
        "closed" => Outcome::Closed,
        "answered" => Outcome::Answered { index: Index(9), answer: Bytes(b"y"), replayed: rest.contains(&"replayed") },
        "executed" => Outcome::Executed { index: Index(9), replayed: rest.contains(&"replayed") },
        "refused" => Outcome::Refused(match rest[0] {
            "Stale" => Refusal::Stale,
            "WindowFull" => Refusal::WindowFull,
            "Mismatch" => Refusal::Mismatch,
            "SessionExpired" => Refusal::SessionExpired,
            "OutOfOrder" => Refusal::OutOfOrder,
            "TableFull" => Refusal::TableFull { retry_after: Millis(number(rest.get(1).copied())) },
            other => panic!("no refusal: {other}"),
        }),
        "not" => return ResponseBody::NotExecuted { reason: not_executed(rest[0]), leader_address: "" },
        "unknown" => return ResponseBody::Unknown,
        "nonsense" => return ResponseBody::Answer(Bytes(b"")),
        other => panic!("no input: {other}"),
    };
    ResponseBody::Outcome(outcome)
}

fn not_executed(name: &str) -> NotExecuted {
    match name {
        "NotLeader" => NotExecuted::Refused(ProposeError::NotLeader { leader: None }),
        "NotReady" => NotExecuted::Refused(ProposeError::NotReady),
        "Busy" => NotExecuted::Refused(ProposeError::Busy),
        "TooLong" => NotExecuted::Refused(ProposeError::TooLong { limit: 5 }),
        "WrongSecret" => NotExecuted::Refused(ProposeError::WrongSecret),
        "Overtaken" => NotExecuted::Overtaken,
        "Stopping" => NotExecuted::Stopping,
        "Unsupported" => NotExecuted::Unsupported,
        other => panic!("no reason: {other}"),
    }
}

fn token(name: &str) -> Token {
    let (nonce, name) = name.strip_prefix("old:").map_or((NONCE, name), |name| (OLD, name));
    let (what, attempt) = name.split_once('/').unwrap();
    let what = match what {
        "open" => What::Open,
        "keep-alive" => What::KeepAlive,
        "close" => What::Close,
        sequence => What::Command(Sequence(number(Some(sequence)))),
    };
    Token::new(nonce, what, number(Some(attempt)))
}

fn name(what: What) -> String {
    match what {
        What::Open => "open".to_string(),
        What::KeepAlive => "keep-alive".to_string(),
        What::Close => "close".to_string(),
        What::Command(sequence) => sequence.to_string(),
    }
}

fn number<T: FromStr>(word: Option<&str>) -> T {
    word.and_then(|word| word.parse().ok()).expect("a number in the script")
}
