//! Parts of small deterministic worlds: chance, a state machine, and links that the test carries.

use std::collections::{BTreeSet, VecDeque};

use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::Message;
use raft_core::transport::Transport;
use raft_core::types::NodeId;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }
}

std::thread_local! {
    /// How often the whole state was written by machines of this thread.
    pub(crate) static SNAPSHOTS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}

/// Counts the commands; each is answered with its number.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) executed: Vec<Vec<u8>>,
}

impl StateMachine for Counter {
    fn apply(&mut self, _: Position, command: &[u8], answer: &mut Answer<'_>) {
        self.executed.push(command.to_vec());
        answer.write(&(self.executed.len() as u64).to_le_bytes());
    }

    fn query(&self, _: &[u8], answer: &mut dyn Sink) {
        answer.write(&(self.executed.len() as u64).to_le_bytes());
    }

    fn snapshot(&self, state: &mut dyn Sink) {
        SNAPSHOTS.with(|count| count.set(count.get() + 1));
        for command in &self.executed {
            state.write(&(command.len() as u64).to_le_bytes());
            state.write(command);
        }
    }

    fn restore(&mut self, state: &mut dyn Source) -> Result<(), Damaged> {
        self.executed.clear();
        let mut length = [0; 8];
        while state.read(&mut length[..1]) == 1 {
            state.read_exact(&mut length[1..])?;
            let mut command = vec![0; u64::from_le_bytes(length) as usize];
            state.read_exact(&mut command)?;
            self.executed.push(command);
        }
        Ok(())
    }
}

/// What a node has received and has sent; the world carries it.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) arrived: VecDeque<Vec<u8>>,
    taken: Vec<u8>,
    pub(crate) sent: Vec<(u64, Vec<u8>)>,
    /// Peers whose links take nothing now.
    pub(crate) closed: BTreeSet<u64>,
}

impl Transport for Link {
    fn receive(&mut self) -> Option<Message<'_>> {
        self.taken = self.arrived.pop_front()?;
        Some(Message::decode(&self.taken).expect("messages arrive whole"))
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        (!self.closed.contains(&peer.get())).then_some(1 << 16)
    }

    fn send(&mut self, message: &Message<'_>) {
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).unwrap();
        bytes.truncate(length);
        self.sent.push((message.to.get(), bytes));
    }

    fn flush(&mut self) {}
}
