//! The state machine of the runs: a list of commands, which can be made to decay.

use std::cell::Cell;

use raft_core::crc::crc32c;
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};

use super::common::parts::Counter;

/// Counts the commands; each is answered with its number.
#[derive(Default)]
pub(crate) struct Machine {
    counter: Counter,
    /// Whether a bit of the state has flipped.
    pub(crate) decayed: Cell<bool>,
}

impl Machine {
    pub(crate) fn executed(&self) -> &[Vec<u8>] {
        &self.counter.executed
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, position: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.counter.apply(position, command, answer);
    }

    fn query(&self, query: &[u8], answer: &mut dyn Sink) {
        self.counter.query(query, answer);
    }

    fn digest(&self) -> u64 {
        let crc = self.counter.executed.iter().fold(0, |crc, command| crc32c(crc, command));
        u64::from(crc) ^ u64::from(self.decayed.get())
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        self.counter.snapshot(state);
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.counter.restore(state)
    }
}
