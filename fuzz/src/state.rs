//! A state machine whose state is bytes, and an observer that only counts.

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::replica::Observer;
use raft_core::session::operation::Outcome;
use raft_core::storage::SnapshotId;
use raft_core::types::{EntryId, NodeId};

/// How much of a command is answered, in bytes.
const ANSWER_BYTES_MAX: usize = 7;

/// Puts the bytes of all commands one behind the other; takes any bytes for its snapshot.
#[derive(Debug, Default)]
pub struct State(pub Vec<u8>);

impl StateMachine for State {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.0.extend_from_slice(command);
        answer.write(&command[..command.len().min(ANSWER_BYTES_MAX)]);
    }

    fn query(&self, _: &[u8], _: &mut dyn Sink) {}

    fn snapshot(&self, state: &mut dyn Sink) {
        state.write(&self.0);
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.0.clear();
        let mut bytes = [0; 50];
        loop {
            match state.read(&mut bytes) {
                0 => return Ok(()),
                read => self.0.extend_from_slice(&bytes[..read]),
            }
        }
    }
}

/// What a replica has told.
#[derive(Debug, Default)]
pub struct Told {
    /// How often its state was made anew.
    pub restored: u32,
    /// The last entry that it applied.
    pub applied: Option<EntryId>,
}

impl Observer for Told {
    fn applied(&mut self, entry: EntryId, _: Option<Outcome<'_>>) {
        assert!(self.applied.is_none_or(|before| before.index < entry.index), "entries are applied once, in order");
        self.applied = Some(entry);
    }

    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}

    fn ignored(&mut self, _: NodeId, error: StepError) {
        assert!(!error.to_string().is_empty());
    }

    fn restored(&mut self, _: SnapshotId) {
        self.restored += 1;
    }
}
