//! Comparing replicas: state machines that are not deterministic, and memory that has decayed, make
//! replicas part from each other without a sign. So leaders write into the log, now and then, the
//! order to compare; each replica takes the digest of sessions and state as it applies that entry,
//! and tells the leader. If one differs, the leader writes down what the majority has, and whoever
//! finds in the log that it has something else stops itself. A snapshot holds the digest too, so
//! that whatever begins with the state in it finds that out as well.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::configuration::{Member, Suffrage};
use crate::entry::{Entry, EntryKind};
use crate::machine::StateMachine;
use crate::message::{Body, Message};
use crate::replica::{PollError, Replica};
use crate::session::memory::SessionMemory;
use crate::session::table::SessionTable;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::{EntryId, Index, Instant, NodeId, Term};

/// The payload of a verdict: term and index of the check, and the majority's digest.
const VERDICT_BYTES: usize = 24;

/// What is known of the latest comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks<const NODES: usize> {
    /// The latest order to compare that was applied, and this replica's digest then.
    own: Option<(EntryId, u64)>,
    /// Whether the leader of that term has been told.
    told: Option<Term>,
    /// What others have told, of the same order.
    others: Vec<(NodeId, u64), NODES>,
    /// Whether its outcome has been proposed already.
    decided: bool,
    /// The last order, or the snapshot that was restored since.
    last: Index,
}

impl<const NODES: usize> Checks<NODES> {
    /// An entry has been applied.
    pub(super) fn applied<M: StateMachine, X: SessionMemory, E>(
        &mut self,
        entry: &Entry<'_>,
        sessions: &SessionTable<X>,
        machine: &M,
    ) -> Result<(), PollError<E>> {
        match entry.header.kind {
            EntryKind::Check => {
                let digest = mixed(machine.digest(), sessions.digest());
                let id = entry.header.id();
                *self = Checks { own: Some((id, digest)), last: id.index, ..Checks::default() };
            }
            EntryKind::Verdict => {
                if let (Some((check, digest)), Some((id, own))) = (read_verdict(entry.payload), self.own)
                    && check == id
                    && digest != own
                {
                    return Err(PollError::Diverged { index: id.index });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The latest order to compare that sessions and state have seen, and their digest then.
    pub(super) fn own(&self) -> Option<(EntryId, u64)> {
        self.own
    }

    /// Sessions and state are those of a snapshot now, which had that digest at the latest order to
    /// compare before it.
    pub(super) fn restored(&mut self, through: EntryId, own: Option<(EntryId, u64)>) {
        *self = Checks { own, last: through.index, ..Checks::default() };
    }

    /// Another replica has told its digest.
    pub(super) fn reported(&mut self, from: NodeId, check: EntryId, digest: u64) {
        let known = self.others.iter().any(|&(node, _)| node == from);
        // There are as many places as members: who is none is not heard when all are taken.
        if self.own.is_some_and(|(own, _)| own == check) && !known && !self.others.is_full() {
            self.others.push((from, digest)).expect("there is room for one");
        }
    }

    /// The digest that more than half of `replicas` have, if another was told too.
    fn verdict(&self, replicas: usize) -> Option<(EntryId, u64)> {
        let (check, own) = self.own.filter(|_| !self.decided)?;
        let all = || self.others.iter().map(|&(_, digest)| digest).chain([own]);
        let majority = all().find(|digest| all().filter(|other| other == digest).count() > replicas / 2)?;
        all().any(|digest| digest != majority).then_some((check, majority))
    }
}

/// One digest of both. The rotation keeps equal halves from cancelling each other.
fn mixed(state: u64, sessions: u32) -> u64 {
    state.rotate_left(17) ^ u64::from(sessions)
}

fn write_verdict(check: EntryId, digest: u64) -> [u8; VERDICT_BYTES] {
    let mut bytes = [0; VERDICT_BYTES];
    let numbers = [check.term.0, check.index.0, digest];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn read_verdict(payload: &[u8]) -> Option<(EntryId, u64)> {
    let (term, rest) = payload.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let digest = rest.try_into().ok()?;
    let check = EntryId::new(Term(u64::from_le_bytes(*term)), Index(u64::from_le_bytes(*index)));
    Some((check, u64::from_le_bytes(digest)))
}

impl<S, T, M, X, const NODES: usize> Replica<S, T, M, X, NODES>
where
    S: Storage,
    T: Transport,
    M: StateMachine,
    X: SessionMemory,
{
    /// Tells the leader this replica's digest; or, leading, has replicas compared, and writes down
    /// what came of it. Gives the order to compare at which replicas differ, once it has done so.
    pub(super) fn compare(&mut self, now: Instant) -> Option<EntryId> {
        let core = &mut self.core;
        if core.config.check_after_entries == 0 || core.stripped {
            return None;
        }
        if core.raft.role() != RoleName::Leader {
            self.tell_digest();
            return None;
        }
        let applied = core.raft.last_applied();
        if core.raft.term_start().is_none_or(|start| applied < start) {
            return None;
        }
        let has_state = |member: &&Member| {
            !member.is_leaving() && !matches!(member.suffrage, Suffrage::Witness | Suffrage::JoiningWitness)
        };
        let replicas = core.configuration.members().iter().filter(has_state).count();
        // Refused, it is proposed again at the next poll.
        if let Some((check, digest)) = core.checks.verdict(replicas) {
            let payload = write_verdict(check, digest);
            let (_, ready) = core.raft.propose(now, EntryKind::Verdict, &[&payload]).ok()?;
            ready.later();
            core.checks.decided = true;
            return Some(check);
        }
        if applied.since(core.checks.last) >= core.config.check_after_entries
            && let Ok((check, ready)) = core.raft.propose(now, EntryKind::Check, &[])
        {
            ready.later();
            core.checks.last = check.index;
        }
        None
    }

    /// Tells the leader the digest, once in its term.
    fn tell_digest(&mut self) {
        let core = &mut self.core;
        let (id, term) = (core.raft.id(), core.raft.term());
        if let (Some((check, digest)), Some(leader)) = (core.checks.own, core.raft.leader())
            && core.checks.told != Some(term)
            && self.transport.room(leader).is_some()
        {
            core.checks.told = Some(term);
            self.transport.send(&Message { from: id, to: leader, term, body: Body::Digest { check, digest } });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(own: u64, others: &[(u64, u64)]) -> Checks<5> {
        let check = EntryId::new(Term(1), Index(9));
        let mut checks = Checks { own: Some((check, own)), ..Checks::default() };
        for &(node, digest) in others {
            checks.reported(NodeId::new(node).unwrap(), check, digest);
        }
        checks
    }

    #[test]
    fn a_verdict_needs_a_majority_and_somebody_who_differs() {
        let verdict = |own, others: &[(u64, u64)]| checks(own, others).verdict(3).map(|(_, digest)| digest);
        assert_eq!(verdict(7, &[]), None);
        assert_eq!(verdict(7, &[(2, 7), (3, 7)]), None, "all are equal");
        assert_eq!(verdict(7, &[(2, 8)]), None, "nobody knows who is right");
        assert_eq!(verdict(7, &[(2, 8), (3, 7)]), Some(7));
        assert_eq!(verdict(8, &[(2, 7), (3, 7)]), Some(7), "also against the leader itself");
        assert_eq!(verdict(7, &[(2, 8), (2, 8)]), None, "each has one voice");
        assert_eq!(verdict(6, &[(2, 7), (3, 8)]), None, "all differ");
        let of_five = |others: &[(u64, u64)]| checks(7, others).verdict(5).map(|(_, digest)| digest);
        assert_eq!(of_five(&[(2, 7), (3, 8)]), None, "two of five");
        assert_eq!(of_five(&[(2, 7), (3, 8), (4, 7)]), Some(7));
    }

    #[test]
    fn no_bit_of_state_and_sessions_is_lost_on_the_digest() {
        for (state, sessions) in [(0, 0), (u64::MAX, u32::MAX), (0x0123_4567_89ab_cdef, 0x7654_3210)] {
            let all = mixed(state, sessions);
            assert!((0..64).all(|bit| mixed(state ^ (1 << bit), sessions) != all));
            assert!((0..32).all(|bit| mixed(state, sessions ^ (1 << bit)) != all));
        }
        assert_ne!(mixed(7, 7), mixed(8, 8));
    }

    #[test]
    fn what_is_told_of_another_check_does_not_count() {
        let mut checks = checks(7, &[(2, 7)]);
        checks.reported(NodeId::new(3).unwrap(), EntryId::new(Term(1), Index(8)), 9);
        assert_eq!(checks.verdict(3), None);
    }

    #[test]
    fn a_verdict_reads_back() {
        let check = EntryId::new(Term(3), Index(u64::MAX));
        assert_eq!(read_verdict(&write_verdict(check, 77)), Some((check, 77)));
        assert_eq!(read_verdict(&[0; 23]), None);
    }
}
