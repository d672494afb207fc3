//! Clients with sessions, and readers.

use raft_core::client::protocol::Consistency;
use raft_core::configuration::Suffrage;
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::{ReadId, ReadState};
use raft_core::session::operation::Operation;
use raft_core::types::{EntryId, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use super::told::Told;
use super::world::{World, id};

pub(crate) const CLIENTS: usize = 3;
const ANSWER_MILLIS: u64 = 150;

/// A client that has one command under way at a time.
pub(crate) struct Client {
    pub(crate) nonce: Nonce,
    session: Option<SessionId>,
    sequence: u64,
    /// Commands answered, in all its sessions.
    pub(crate) finished: u64,
    /// It stops when it has so many.
    pub(crate) goal: u64,
    answered: u64,
    attempt: Option<(u64, Attempt)>,
    give_up_at: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    Appended(EntryId),
    Forwarded(ForwardTicket),
}

/// A read under way: where, and how many commands were answered when it began.
pub(crate) struct Read {
    pub(crate) node: u64,
    id: ReadId,
    answered: u64,
    by_lease: bool,
}

impl Client {
    pub(crate) fn new(client: usize) -> Client {
        let nonce = Nonce(client as u128 + 1);
        Client {
            nonce,
            session: None,
            sequence: 1,
            finished: 0,
            goal: u64::MAX,
            answered: 0,
            attempt: None,
            give_up_at: 0,
        }
    }

    /// No two commands of the runs are equal: a session that is opened anew has another nonce.
    fn command(&self) -> Vec<u8> {
        [self.nonce.0.to_le_bytes().as_slice(), &self.sequence.to_le_bytes()].concat()
    }

    /// The session has expired: what became of the command under way will never be known.
    fn begin_anew(&mut self) {
        (self.session, self.sequence, self.nonce) = (None, 1, Nonce(self.nonce.0 + 100));
    }
}

impl World {
    /// Brings clients their answers.
    pub(crate) fn answer(&mut self, node: u64, told: &Told) {
        for (ticket, outcome) in &told.forwarded {
            let forwarded = Some((node, Attempt::Forwarded(*ticket)));
            if let Some(client) = self.clients.iter_mut().find(|client| client.attempt == forwarded) {
                client.attempt = outcome.ok().map(|entry| (node, Attempt::Appended(entry)));
            }
        }
        for (entry, session) in &told.opened {
            self.finish(node, *entry, |client| client.session = Some(*session));
        }
        for entry in &told.expired {
            if self.finish(node, *entry, Client::begin_anew) {
                self.covered.sessions_expired += 1;
            }
        }
        for (entry, answer) in &told.answered {
            let Some(replica) = self.node(node) else { return };
            let executed = replica.machine().executed()[*answer as usize - 1].clone();
            let finished = self.finish(node, *entry, |client| {
                assert_eq!(executed, client.command(), "the answer is that of the client's command");
                (client.sequence, client.answered) = (client.sequence + 1, *answer);
                client.finished += 1;
            });
            self.covered.commands += u64::from(finished);
        }
        self.answered = self.clients.iter().map(|client| client.answered).max().unwrap_or(0);
    }

    fn finish(&mut self, node: u64, entry: EntryId, act: impl FnOnce(&mut Client)) -> bool {
        let attempt = Some((node, Attempt::Appended(entry)));
        let Some(client) = self.clients.iter_mut().find(|client| client.attempt == attempt) else { return false };
        client.attempt = None;
        act(client);
        true
    }

    /// A client that waits for nothing, or has waited too long, tries any node.
    pub(crate) fn act(&mut self, client: usize) {
        let now = self.now;
        let this = &mut self.clients[client];
        if this.finished >= this.goal || this.attempt.is_some() && now < this.give_up_at {
            return;
        }
        (this.attempt, this.give_up_at) = (None, now + ANSWER_MILLIS);
        let (secret, bytes) = (this.nonce, this.command());
        let operation = match this.session {
            None => Operation::Open { nonce: secret, fifo: false },
            Some(session) => {
                let sequence = Sequence(this.sequence);
                Operation::Command { session, sequence, acknowledge: sequence, command: Bytes(&bytes) }
            }
        };
        let secret = this.session.map(|_| secret);
        let node = 1 + self.random.below(self.size());
        let clock = self.clock(node);
        let Some(replica) = self.node(node) else { return };
        let attempt = match replica.propose(clock, secret, &operation) {
            Ok(entry) => Some(Attempt::Appended(entry)),
            Err(ProposeError::NotLeader { leader: Some(_) }) => {
                replica.forward(secret, &operation).ok().map(Attempt::Forwarded)
            }
            Err(_) => None,
        };
        self.clients[client].attempt = attempt.map(|attempt| (node, attempt));
    }

    pub(crate) fn begin_read(&mut self) {
        let node = 1 + self.random.below(self.size());
        let by_lease = self.leased && self.random.chance(500);
        let consistency = if by_lease { Consistency::Lease } else { Consistency::Linearizable };
        let (clock, answered) = (self.clock(node), self.answered);
        let Some(replica) = self.node(node) else { return };
        if let Ok(id) = replica.read(&|| clock, consistency) {
            let by_lease = by_lease && replica.read_state(id) == ReadState::Ready && replica.raft().members().len() > 1;
            self.reads.push(Read { node, id, answered, by_lease });
            self.check_reads();
        }
    }

    pub(crate) fn check_reads(&mut self) {
        for read in core::mem::take(&mut self.reads) {
            let Some(replica) = self.node(read.node) else { continue };
            match replica.read_state(read.id) {
                ReadState::Waiting => self.reads.push(read),
                ReadState::Lost => {}
                ReadState::Ready => {
                    let (seen, Read { node, answered, by_lease, .. }) =
                        (replica.machine().executed().len() as u64, read);
                    assert!(
                        seen >= answered,
                        "node {node} reads {seen} after {answered} was answered, by lease: {by_lease}"
                    );
                    let member = replica.configuration().member(id(node));
                    let learns =
                        member.is_some_and(|member| matches!(member.suffrage, Suffrage::Learner | Suffrage::Joining));
                    self.covered.reads += 1;
                    self.covered.lease_reads += u64::from(by_lease);
                    self.covered.learner_reads += u64::from(learns);
                }
            }
        }
    }
}
