//! Operations that other members have forwarded to this leader: each is proposed at most once, however often the
//! network repeats it.
//!
//! A forwarded operation is meant for one leader in one term, and no other proposes it. So all a leader has to know is
//! what has arrived in its term: for each member, the life that forwards now, and which of that life's tickets were
//! seen. What is too old to be known for new is dropped without an answer: its origin learns nothing, which is the
//! truth.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::machine::StateMachine;
use crate::message::{Body, ForwardTicket, Message, ProposeError, Round};
use crate::replica::{Core, Replica};
use crate::session::memory::SessionMemory;
use crate::session::operation::Operation;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::{Instant, NodeId, Nonce, Term};

/// So many tickets at and before the highest one are told apart; what arrives later than that is dropped.
const TICKETS_KEPT: u64 = u128::BITS as u64;

/// What tells a forwarded operation from all others of its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    /// The first ticket of the node's life, which stands for that life.
    pub(super) first: ForwardTicket,
    pub(super) ticket: ForwardTicket,
    /// The latest round that the node had heard from the leader.
    pub(super) heard: Round,
}

/// The life of a member that forwards now.
#[derive(Clone, Copy, Debug)]
struct Life {
    node: NodeId,
    first: ForwardTicket,
    /// The leader's round when it met this life: who has heard a later one lives later.
    met: Round,
    /// The highest ticket seen, and which of those before it were: bit n stands for `highest - n`.
    highest: ForwardTicket,
    seen: u128,
}

/// What a leader knows of what was forwarded to it in its term.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwards<const NODES: usize> {
    term: Term,
    /// The latest round of that term.
    round: Round,
    /// A life that is not known is later than those that were forgotten if it has heard a later round than this.
    forgotten: Round,
    lives: Vec<Life, NODES>,
}

impl<const NODES: usize> Forwards<NODES> {
    /// This node leads `term`, and `round` is its present round.
    pub(super) fn leads(&mut self, term: Term, round: Round) {
        if self.term != term {
            *self = Forwards { term, ..Forwards::default() };
        }
        self.round = round;
    }

    /// Whether that operation, of a message of `term`, arrives for the first time. From then on it does not.
    pub(super) fn is_first(&mut self, term: Term, origin: Origin, is_member: impl Fn(NodeId) -> bool) -> bool {
        // An earlier life of this node may have led that term and proposed it. And who is no member has no place here.
        if term != self.term || term == Term::ZERO || !is_member(origin.node) || origin.ticket < origin.first {
            return false;
        }
        let at = match self.lives.iter().position(|life| life.node == origin.node) {
            Some(at) => at,
            None if origin.heard <= self.forgotten => return false,
            None => return self.meet(origin, is_member),
        };
        let Some(life) = self.lives.get_mut(at) else { return false };
        if life.first == origin.first {
            return life.is_first(origin.ticket);
        }
        // A round that was begun after the known life forwarded was heard by this one: so it lives later.
        let later = origin.heard > life.met;
        if later {
            *life = Life::new(origin, self.round);
        }
        later
    }

    fn meet(&mut self, origin: Origin, is_member: impl Fn(NodeId) -> bool) -> bool {
        if self.lives.is_full()
            && let Some(gone) = self.lives.iter().position(|life| !is_member(life.node))
        {
            self.lives.swap_remove(gone);
            self.forgotten = self.round;
            if origin.heard <= self.forgotten {
                return false;
            }
        }
        self.lives.push(Life::new(origin, self.round)).is_ok()
    }
}

impl Life {
    fn new(Origin { node, first, ticket, .. }: Origin, met: Round) -> Life {
        Life { node, first, met, highest: ticket, seen: 1 }
    }

    fn is_first(&mut self, ticket: ForwardTicket) -> bool {
        if ticket > self.highest {
            let ahead = ticket.0 - self.highest.0;
            let moved = u32::try_from(ahead).ok().and_then(|ahead| self.seen.checked_shl(ahead));
            (self.highest, self.seen) = (ticket, moved.unwrap_or(0) | 1);
            return true;
        }
        let behind = self.highest.0 - ticket.0;
        if behind >= TICKETS_KEPT {
            return false;
        }
        let bit = 1_u128 << behind;
        let first = self.seen & bit == 0;
        self.seen |= bit;
        first
    }
}

impl<S, T, M, X, const NODES: usize> Replica<S, T, M, X, NODES>
where
    S: Storage,
    T: Transport,
    M: StateMachine,
    X: SessionMemory,
{
    /// Sends an operation to the leader, which is another node. The observer is told the answer
    /// under the ticket; it may be lost like any message, and then nothing is known. It is appended once at most, however
    /// often the network repeats it, and by no later leader. A witness, which will not see the outcome, sends nothing and
    /// names the leader.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was sent, and it will not be executed.
    pub fn forward(&mut self, secret: Option<Nonce>, operation: &Operation<'_>) -> Result<ForwardTicket, ProposeError> {
        if self.core.stripped || self.core.raft.is_witness() {
            return Err(ProposeError::NotLeader { leader: self.core.raft.leader() });
        }
        let (id, term) = (self.core.raft.id(), self.core.raft.term());
        let leader = self.core.raft.leader().filter(|&leader| leader != id);
        let leader = leader.ok_or(ProposeError::NotLeader { leader: None })?;
        let bytes_max = self.core.config.entry_bytes_max.min(self.transport.payload_bytes_max());
        if operation.command().len() > bytes_max {
            return Err(ProposeError::TooLong { limit: u32::try_from(bytes_max).unwrap_or(u32::MAX) });
        }
        if self.transport.room(leader).is_none_or(|room| room < operation.command().len()) {
            return Err(ProposeError::Busy);
        }
        let ticket = self.next_ticket;
        self.next_ticket = ForwardTicket(ticket.0.wrapping_add(1));
        let (first, round) = (self.first_ticket, self.core.raft.round());
        let body = Body::Forward { ticket, first, round, secret, operation: *operation };
        self.transport.send(&Message { from: id, to: leader, term, body });
        Ok(ticket)
    }
}

impl<S: Storage, M: StateMachine, X: SessionMemory, const NODES: usize> Core<S, M, X, NODES> {
    /// Proposes a forwarded operation that arrives for the first time. Whatever the answer to another one was, it would
    /// not be the answer now.
    pub(super) fn take_forwarded(
        &mut self,
        now: Instant,
        term: Term,
        origin: Origin,
        secret: Option<Nonce>,
        operation: &Operation<'_>,
    ) -> Option<Body<'static>> {
        if self.raft.role() == RoleName::Leader {
            self.forwards.leads(self.raft.term(), self.raft.round());
        }
        let raft = &self.raft;
        if !self.forwards.is_first(term, origin, |node| raft.members().any(|member| member == node)) {
            return None;
        }
        let outcome = self.propose(now, secret, operation);
        Some(Body::Forwarded { ticket: origin.ticket, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Term = Term(3);

    fn leader(round: u64) -> Forwards<2> {
        let mut forwards = Forwards::default();
        forwards.leads(TERM, Round(round));
        forwards
    }

    fn from(node: u64, first: u64, ticket: u64, heard: u64) -> Origin {
        let (first, ticket) = (ForwardTicket(first), ForwardTicket(ticket));
        Origin { node: NodeId::new(node).unwrap(), first, ticket, heard: Round(heard) }
    }

    fn first(forwards: &mut Forwards<2>, origin: Origin) -> bool {
        forwards.is_first(TERM, origin, |_| true)
    }

    #[test]
    fn each_ticket_is_new_once_in_any_order() {
        let mut forwards = leader(1);
        for ticket in [100, 103, 101, 227, 150, 102, 99 + 128 + 1] {
            let new = first(&mut forwards, from(1, 100, ticket, 1));
            // The last one that is told apart from the highest is 127 before it.
            assert_eq!(new, ticket != 102 || 227 - 102 < 128, "{ticket}");
            assert!(!first(&mut forwards, from(1, 100, ticket, 1)), "{ticket} again");
        }
        assert!(!first(&mut forwards, from(1, 100, 100, 1)), "too old to be known");
        assert!(first(&mut forwards, from(1, 100, u64::MAX, 1)), "however far ahead");
        assert!(!first(&mut forwards, from(1, 100, u64::MAX, 1)));
        assert!(!first(&mut forwards, from(1, 100, 99, 1)), "no ticket of that life");
    }

    #[test]
    fn only_the_term_that_this_node_leads_counts_and_a_new_one_begins_empty() {
        let mut forwards = Forwards::<2>::default();
        assert!(!first(&mut forwards, from(1, 100, 100, 1)), "another life of this node may have led it");
        assert!(!forwards.is_first(Term::ZERO, from(1, 100, 100, 1), |_| true));
        forwards.leads(TERM, Round(1));
        assert!(first(&mut forwards, from(1, 100, 100, 1)));
        forwards.leads(TERM, Round(5));
        assert!(!first(&mut forwards, from(1, 100, 100, 5)));
        forwards.leads(TERM.next(), Round(1));
        assert!(!first(&mut forwards, from(1, 100, 101, 1)), "it is of the term before");
        assert!(forwards.is_first(TERM.next(), from(1, 100, 100, 1), |_| true));
    }

    #[test]
    fn an_earlier_life_never_comes_back_after_a_later_one() {
        let mut forwards = leader(4);
        assert!(first(&mut forwards, from(1, 100, 100, 4)));
        assert!(!first(&mut forwards, from(1, 700, 700, 4)), "it may have lived before");
        forwards.leads(TERM, Round(6));
        assert!(first(&mut forwards, from(1, 700, 701, 5)), "it heard what was said after the other was met");
        assert!(!first(&mut forwards, from(1, 100, 101, 4)) && !first(&mut forwards, from(1, 100, 100, 6)));
        assert!(first(&mut forwards, from(1, 700, 700, 5)), "also with what it said before it was met");
        assert!(first(&mut forwards, from(2, 100, 100, 1)), "each member by itself");
    }

    #[test]
    fn who_makes_room_for_others_is_not_met_anew_by_what_it_said_before() {
        let mut forwards = leader(4);
        assert!(first(&mut forwards, from(1, 100, 100, 4)) && first(&mut forwards, from(2, 100, 100, 4)));
        let without = |gone: u64| move |node: NodeId| node.get() != gone;
        assert!(!forwards.is_first(TERM, from(1, 100, 101, 4), without(1)), "it is no member");
        assert!(!first(&mut forwards, from(3, 100, 100, 9)), "there is no place while all are members");
        forwards.leads(TERM, Round(9));
        assert!(forwards.is_first(TERM, from(3, 100, 100, 10), without(1)));
        assert!(!forwards.is_first(TERM, from(1, 100, 100, 9), without(2)), "added again: it was forgotten");
        assert!(forwards.is_first(TERM, from(1, 100, 101, 10), without(2)));
    }
}
