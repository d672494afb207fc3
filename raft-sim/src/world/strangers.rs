//! Strangers: they know nobody's secret, and guess. Nothing may be done for them, whatever they guess right.

use raft_core::client::protocol::{Request, RequestBody, RequestId, encode_changes};
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Member, Suffrage};
use raft_core::session::operation::Operation as LogOperation;
use raft_core::storage::Storage;
use raft_core::transport::ClientId;
use raft_core::types::{NodeId, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use super::World;
use super::clients::{NOBODY, Sender};
use crate::endpoint::{request_frame, request_in};
use crate::workload::Workload;

/// The secret of the stranger's own session.
const STRANGER: Nonce = Nonce(0x57a);
/// An id that no node ever has.
const NOBODYS_ID: u64 = 1_000_000;

impl<W: Workload> World<W> {
    /// A stranger opens more sessions than there is room for.
    pub(super) fn storm(&mut self) {
        let opens = self.random.between(1, 20);
        self.trace.say(self.now, &format!("a stranger opens {opens} sessions"));
        self.coverage.count("stranger", "storm of opens");
        for _ in 0..opens {
            let nonce = Nonce(u128::from(self.random.bits()));
            self.stranger_operates(None, LogOperation::Open { nonce, fifo: false });
        }
    }

    /// A stranger sends what no client or operator of ours would.
    pub(super) fn hostile(&mut self) {
        if self.random.chance(100_000) {
            return self.hostile_order();
        }
        self.coverage.count("stranger", "hostile numbers");
        let own = self.judge.opened_by(STRANGER).filter(|_| self.random.chance(300_000));
        let session = own.unwrap_or_else(|| self.some_session());
        let secret = if own.is_some() { Some(STRANGER) } else { self.some_secret(session) };
        let operation = match self.random.below(6) {
            0 => LogOperation::Open { nonce: STRANGER, fifo: self.random.chance(500_000) },
            1 => LogOperation::Close { session },
            2 => LogOperation::KeepAlive { session, acknowledge: self.some_number() },
            _ => self.some_command(session),
        };
        self.stranger_operates(secret, operation);
    }

    /// Somebody opens a session, and a stranger sees that: it guesses the id, and is there at once.
    pub(super) fn overhear(&mut self, place: usize, client: usize, frame: &[u8]) {
        let hostile = self.faulty && self.options.load.hostile > 0 && client != NOBODY;
        if !hostile || !request_in(frame).is_some_and(|request| opens(&request)) || !self.random.chance(300_000) {
            return;
        }
        self.coverage.count("stranger", "guesses the id of a session that is being opened");
        let Some(process) = self.nodes_mut(place).process() else { return };
        let last = process.replica().raft().storage().last().index;
        let session = SessionId(last.0 + self.random.between(1, 2));
        let secret = self.some_secret(session);
        let operation = match self.random.below(4) {
            0 => LogOperation::Close { session },
            1 => LogOperation::KeepAlive { session, acknowledge: Sequence(self.random.below(5)) },
            _ => {
                let (sequence, acknowledge) = (Sequence(1), Sequence(1));
                LogOperation::Command { session, sequence, acknowledge, command: Bytes(b"no command") }
            }
        };
        let request = self.stranger_request(secret, operation);
        self.judge.sent(NOBODY, &request, false);
        let node = self.nodes_mut(place);
        let seen = !node.is_interrupted();
        node.post.borrow_mut().take_request(ClientId(NOBODY as u64), request_frame(&request), seen);
    }

    /// An operator's order that makes no sense.
    fn hostile_order(&mut self) {
        self.coverage.count("stranger", "hostile orders");
        let (id, nobody) = (RequestId(self.random.bits()), NodeId::new(NOBODYS_ID).expect("ids begin at 1"));
        let changes = match self.random.below(4) {
            0 => MemberChange::Remove(nobody),
            1 => MemberChange::Promote(nobody),
            2 => MemberChange::Demote(nobody),
            _ => MemberChange::Add(Member::new(nobody, Suffrage::Voter, "").expect("an empty address is short enough")),
        };
        let mut buffer = [0; 64];
        let encoded = encode_changes(&[changes], &mut buffer).expect("one change is short enough");
        let garbage = [0xff; 7];
        let body = match self.random.below(3) {
            0 => RequestBody::Change { changes: Bytes(&garbage), force: true },
            1 => RequestBody::Change { changes: Bytes(encoded), force: true },
            _ => RequestBody::Transfer { to: Some(nobody) },
        };
        let to = 1 + self.random.below(self.ids);
        let request = Request { id, forward: self.random.chance(500_000), body };
        self.send_for_nobody(to, &request, Sender::Guesser);
    }

    /// A number that may be a session's, and often is, or will be soon.
    fn some_session(&mut self) -> SessionId {
        let known = match self.random.below(10) {
            0..=5 => self.judge.opened_last(self.random.below(6)),
            6..=7 => Some(SessionId(self.judge.last_appended().0 + self.random.below(4))),
            _ => None,
        };
        known.unwrap_or_else(|| SessionId(self.random.bits()))
    }

    /// A secret that is not that of the session, or none.
    fn some_secret(&mut self, session: SessionId) -> Option<Nonce> {
        let right = self.judge.opener_of(session);
        let secret = match self.random.below(6) {
            0 => None,
            1 => Some(STRANGER),
            2 => Some(Nonce(0)),
            // One bit beside the right one, or its lower half.
            3 => right.map(|right| Nonce(right.0 ^ 1 << self.random.below(128))),
            4 => right.map(|right| Nonce(right.0 & u128::from(u64::MAX))),
            _ => Some(Nonce(u128::from(self.random.bits()))),
        };
        secret.filter(|secret| Some(*secret) != right)
    }

    fn some_command(&mut self, session: SessionId) -> LogOperation<'static> {
        let (sequence, acknowledge) = (self.some_number(), self.some_number());
        // Registers answer it, and are left as they are.
        LogOperation::Command { session, sequence, acknowledge, command: Bytes(b"no command") }
    }

    fn some_number(&mut self) -> Sequence {
        Sequence(match self.random.below(6) {
            0 => u64::MAX,
            1..=2 => self.random.below(60),
            3..=4 => self.random.below(4),
            _ => self.random.bits(),
        })
    }

    fn stranger_request<'a>(&mut self, secret: Option<Nonce>, operation: LogOperation<'a>) -> Request<'a> {
        let (id, forward) = (RequestId(self.random.bits()), self.random.chance(500_000));
        Request { id, forward, body: RequestBody::Operate { secret, operation } }
    }

    fn stranger_operates(&mut self, secret: Option<Nonce>, operation: LogOperation<'_>) {
        let to = 1 + self.random.below(self.ids);
        let request = self.stranger_request(secret, operation);
        self.send_for_nobody(to, &request, Sender::Stranger);
    }
}

fn opens(request: &Request<'_>) -> bool {
    matches!(request.body, RequestBody::Operate { operation: LogOperation::Open { .. }, .. })
}
