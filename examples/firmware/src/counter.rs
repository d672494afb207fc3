//! What is replicated: a counter.

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};

/// A number that commands add to. Executing a command twice would show.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    value: u64,
}

impl Counter {
    /// What was added up.
    pub(crate) fn value(&self) -> u64 {
        self.value
    }
}

/// The bytes of a command, which are also those of an answer and of a query's answer.
pub(crate) const NUMBER_BYTES: usize = size_of::<u64>();

impl StateMachine for Counter {
    /// Adds the command, a number in eight bytes, little-endian, and answers the new value in the
    /// same form; answers nothing to what is no number.
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        if let Ok(amount) = command.try_into() {
            self.value = self.value.wrapping_add(u64::from_le_bytes(amount));
            answer.write(&self.value.to_le_bytes());
        }
    }

    /// Answers the value, whatever the query.
    fn query(&self, _: &[u8], answer: &mut dyn Sink) {
        answer.write(&self.value.to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        state.write(&self.value.to_le_bytes());
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        let mut bytes = [0; 8];
        state.read_exact(&mut bytes)?;
        self.value = u64::from_le_bytes(bytes);
        Ok(())
    }
}
