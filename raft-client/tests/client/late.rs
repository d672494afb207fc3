//! Answers that arrive when the session that asked has been replaced under its key.

use std::collections::BTreeSet;
use std::time::Duration;

use raft_client::{Completion, Consistency, Engine, Refusal, Ticket};
use raft_core::client::protocol::RequestBody;
use raft_core::session::operation::Operation;
use raft_core::types::Millis;

use crate::support::{Service, Turn};

/// A program with one session, on a connection that other requests keep in use.
struct Program {
    service: Service,
    engine: Engine,
    queries: BTreeSet<Ticket>,
}

impl Program {
    /// The first command is treated as `first` says, and nothing renews the session. Further commands are lost until a
    /// query has released what was kept back.
    fn start(first: Turn) -> Program {
        let (mut first, mut next_sent, mut released) = (Some(first), false, false);
        let service = Service::start(1, move |_, request| match request.body {
            RequestBody::Operate { operation: Operation::Command { command, .. }, .. } => {
                next_sent |= command.0 == b"new";
                first.take().unwrap_or(if released { Turn::Serve } else { Turn::Lose })
            }
            RequestBody::Operate { operation: Operation::KeepAlive { .. }, .. } => Turn::Lose,
            // Once the next session has sent a command under the same number.
            RequestBody::Query { query, .. } if query.0 == b"release" && next_sent => {
                released = true;
                Turn::Release
            }
            _ => Turn::Serve,
        });
        service.lock().ttl = Millis(700);
        let engine = Engine::new(&service.options(&[0])).unwrap();
        Program { service, engine, queries: BTreeSet::new() }
    }

    /// Polls until the command comes to its end, asking a query in each turn.
    fn end_of(&mut self, command: Ticket, query: &[u8]) -> Completion {
        loop {
            self.queries.insert(self.engine.query(Consistency::Stale, query, None).unwrap());
            self.engine.poll(Some(Duration::from_millis(30))).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            while let Some((ticket, completion)) = self.engine.next_completion() {
                if ticket == command {
                    return completion;
                }
                assert!(self.queries.remove(&ticket), "{ticket:?} was completed before");
            }
        }
    }

    /// One command until its session is over, then another one under the same key, and, when that was sent, what was kept
    /// back of the first. Returns the end of the second one.
    fn replace_session(&mut self) -> Completion {
        let session = self.engine.open_session();
        let old = self.engine.submit(session, b"old", None).unwrap();
        let end = self.end_of(old, b"keep the connection in use");
        assert!(matches!(end, Completion::Command(Err(_))), "{end:?}");
        let new = self.engine.submit(session, b"new", None).unwrap();
        self.end_of(new, b"release")
    }
}

fn is_answer(completion: &Completion, expected: &[u8]) -> bool {
    matches!(completion, Completion::Command(Ok(answer)) if answer.bytes.as_deref() == Some(expected))
}

#[test]
fn an_answer_to_the_session_before_does_not_complete_a_command_of_the_next_one() {
    let mut program = Program::start(Turn::Hold);
    let end = program.replace_session();
    assert!(is_answer(&end, b"new"), "{end:?}");
    assert_eq!(program.service.lock().executed.get(&b"new"[..]), Some(&1));
}

#[test]
fn a_refusal_of_the_session_before_does_not_end_the_next_one() {
    for refusal in [Refusal::SessionExpired, Refusal::Stale, Refusal::Mismatch] {
        let mut program = Program::start(Turn::HoldAnswer(refusal));
        let end = program.replace_session();
        assert!(is_answer(&end, b"new"), "{end:?}");
        assert_eq!(program.engine.stats().sessions_opened, 2, "after {refusal:?}");
    }
}
