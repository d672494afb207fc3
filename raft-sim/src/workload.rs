//! What is put into a world: a program's state machine, and the operations that clients make on it.

use raft_core::machine::{Position, StateMachine};

use crate::history::{Call, End};
use crate::random::Random;

/// A program's part of a simulation.
pub trait Workload {
    /// The state machine that is replicated.
    type Machine: StateMachine;
    /// What one of its states is, to the checker: written anew, as simply as can be, and not by calling the machine.
    type Model;

    /// A state machine in its first state.
    fn machine(&self) -> Self::Machine;

    /// The next operation that a client makes. No two writes should be alike, or an exchange of the two goes unnoticed.
    fn next(&mut self, random: &mut Random) -> Operation;

    /// The state of what `key` names, at the start.
    fn model(&self, key: u64) -> Self::Model;

    /// What the operation does to the state of its key, and what it answers. `position` is where it was executed: of a
    /// command what the state machine was told, of a query the last entry that was applied where it was answered.
    fn apply(&self, model: &mut Self::Model, position: Position, operation: &Operation) -> Vec<u8>;

    /// The operation in a few words, for traces and reports. By default its bytes in hexadecimal digits.
    fn describe(&self, operation: &Operation) -> String {
        let kind = if matches!(operation.kind, Kind::Query(_)) { "query" } else { "command" };
        format!("{kind} {} on key {}", hexadecimal(operation.bytes()), operation.key)
    }

    /// The operation as Knossos and Porcupine are to see it, and how it ended if its answer was that (`None` for one that was
    /// too long to keep): for exported histories. By default it is something that neither has a model of.
    fn call(&self, operation: &Operation, answer: Option<&[u8]>) -> (Call, End) {
        let name = if matches!(operation.kind, Kind::Query(_)) { "query" } else { "command" };
        let end = answer.map_or(End::Unknown, |answer| End::Answered(hexadecimal(answer)));
        (Call::Other(name, hexadecimal(operation.bytes())), end)
    }

    /// The number that every register holds at first, for exported histories; `None` for nothing.
    fn first_value(&self) -> Option<u64> {
        None
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it touches: operations with different keys do not see each other, and are checked apart.
    pub key: u64,
    /// What it is.
    pub kind: Kind,
}

/// What an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command, which goes through the log.
    Command(Vec<u8>),
    /// A query, which changes nothing.
    Query(Vec<u8>),
}

impl Operation {
    /// A command on `key`.
    #[must_use]
    pub fn command(key: u64, command: Vec<u8>) -> Operation {
        Operation { key, kind: Kind::Command(command) }
    }

    /// A query of `key`.
    #[must_use]
    pub fn query(key: u64, query: Vec<u8>) -> Operation {
        Operation { key, kind: Kind::Query(query) }
    }

    /// The bytes of the command or query.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.kind {
            Kind::Command(bytes) | Kind::Query(bytes) => bytes,
        }
    }
}
