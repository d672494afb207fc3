//! Comparing replicas: state machines that are not deterministic, and memory that has decayed, make
//! replicas part from each other without a sign. So leaders write into the log, now and then, the
//! order to compare; each replica takes the digest of sessions and state as it applies that entry,
//! and tells the leader. If one differs, the leader writes down what the majority has, and whoever
//! finds in the log that it has something else stops itself. A snapshot holds the digest too, so
//! that whatever begins with the state in it finds that out as well.
//!
//! A digest counts once for the node whose state it is of. A replica that took over another's state, by a snapshot,
//! repeats that one's word, right or wrong, while both say the same; until a comparison has shown that a majority has it
//! too, which the next order to compare says.

use heapless::Vec;

use crate::client::protocol::RoleName;
use crate::configuration::{Member, Suffrage};
use crate::entry::{Entry, EntryKind};
use crate::machine::StateMachine;
use crate::message::{Body, Message};
use crate::replica::{PollError, Replica};
use crate::session::memory::SessionMemory;
use crate::session::table::SessionTable;
use crate::snapshot::Comparison;
use crate::storage::Storage;
use crate::transport::Transport;
use crate::types::{EntryId, Index, Instant, NodeId, Term};

/// The payload of a verdict: term and index of the check, and the majority's digest.
const VERDICT_BYTES: usize = 24;

/// What another replica has told.
#[derive(Clone, Copy, Debug)]
struct Told {
    from: NodeId,
    /// Whose state that is.
    by: NodeId,
    digest: u64,
}

/// What is known of the latest comparison.
#[derive(Clone, Debug)]
pub(super) struct Checks<const NODES: usize> {
    /// This replica.
    node: NodeId,
    /// Whose state this replica has: its own, or that of the one whose snapshot it began with.
    by: NodeId,
    /// The latest order to compare that was applied, and this replica's digest then.
    own: Option<(EntryId, u64)>,
    /// Whether the leader of that term has been told.
    told: Option<Term>,
    /// What others have told, of the same order.
    others: Vec<Told, NODES>,
    /// Whether its outcome has been proposed already.
    decided: bool,
    /// The last order, or the snapshot that was restored since.
    last: Index,
}

impl<const NODES: usize> Checks<NODES> {
    /// Nothing is known yet, and the state is its own.
    pub(super) fn new(node: NodeId) -> Self {
        Checks { node, by: node, own: None, told: None, others: Vec::new(), decided: false, last: Index::ZERO }
    }

    /// An entry has been applied.
    pub(super) fn applied<M: StateMachine, X: SessionMemory, E>(
        &mut self,
        entry: &Entry<'_>,
        sessions: &SessionTable<X>,
        machine: &M,
    ) -> Result<(), PollError<E>> {
        match entry.header.kind {
            EntryKind::Check => {
                let by = if self.judge(entry.payload)? { self.node } else { self.by };
                let digest = mixed(machine.digest(), sessions.digest());
                let id = entry.header.id();
                *self = Checks { by, own: Some((id, digest)), last: id.index, ..Checks::new(self.node) };
            }
            EntryKind::Verdict => _ = self.judge(entry.payload)?,
            _ => {}
        }
        Ok(())
    }

    /// Compares what a majority has with what this replica has. Returns whether that is known to be the same.
    fn judge<E>(&self, verdict: &[u8]) -> Result<bool, PollError<E>> {
        match (read_verdict(verdict), self.own) {
            (Some((check, digest)), Some((id, own))) if check == id => {
                if digest == own {
                    Ok(true)
                } else {
                    Err(PollError::Diverged { index: id.index })
                }
            }
            _ => Ok(false),
        }
    }

    /// What a snapshot of sessions and state says of the latest comparison.
    pub(super) fn last_comparison(&self) -> Comparison {
        let (check, digest) = self.own.unwrap_or((EntryId::ZERO, 0));
        Comparison { check, digest, by: self.by }
    }

    /// Sessions and state are those of a snapshot now, in which that was said.
    pub(super) fn restored(&mut self, through: EntryId, said: Option<Comparison>) {
        let own = said.map(|said| (said.check, said.digest)).filter(|&(check, _)| check != EntryId::ZERO);
        let by = said.map_or(self.node, |said| said.by);
        *self = Checks { by, own, last: through.index, ..Checks::new(self.node) };
    }

    /// Another replica has told what the digest of its state was, which is that of `by`.
    pub(super) fn reported(&mut self, from: NodeId, said: Comparison) {
        let Comparison { check, digest, by } = said;
        let known = self.others.iter().any(|told| told.from == from);
        // There are as many places as members: who is none is not heard when all are taken.
        if self.own.is_some_and(|(own, _)| own == check) && !known && !self.others.is_full() {
            self.others.push(Told { from, by, digest }).expect("there is room for one");
        }
    }

    /// The digest that more than half of `replicas` have, each of which speaks for itself, if another was told too.
    fn verdict(&self, replicas: usize) -> Option<(EntryId, u64)> {
        let (check, own) = self.own.filter(|_| !self.decided)?;
        let majority = self.majority(own, replicas)?;
        let differs = own != majority || self.others.iter().any(|told| told.digest != majority);
        differs.then_some((check, majority))
    }

    fn majority(&self, own: u64, replicas: usize) -> Option<u64> {
        let this = Told { from: self.node, by: self.by, digest: own };
        let all: Vec<Told, NODES> = self.others.iter().copied().take(NODES - 1).chain([this]).collect();
        // Who differs from the one whose state it took over has parted from that one since, and speaks for itself.
        let speaker = |told: &Told| match all.iter().find(|other| other.from == told.by) {
            Some(origin) if origin.digest != told.digest => told.from,
            _ => told.by,
        };
        let voices = |digest| {
            let same = || all.iter().filter(move |told| told.digest == digest).map(speaker);
            same().enumerate().filter(|&(at, speaks)| !same().take(at).any(|earlier| earlier == speaks)).count()
        };
        all.iter().map(|told| told.digest).find(|&digest| voices(digest) > replicas / 2)
    }

    /// The latest comparison, if its outcome is known: the digest of a majority, or of all, whoever speaks for them.
    fn outcome(&self, replicas: usize) -> Option<(EntryId, u64)> {
        let (check, own) = self.own?;
        let all_equal = self.others.len() + 1 >= replicas && self.others.iter().all(|told| told.digest == own);
        let digest = if all_equal { Some(own) } else { self.majority(own, replicas) };
        digest.map(|digest| (check, digest))
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
        let outcome = core.checks.outcome(replicas).map(|(check, digest)| write_verdict(check, digest));
        let outcome = outcome.as_ref().map_or(&[][..], |outcome| outcome);
        if applied.since(core.checks.last) >= core.config.check_after_entries
            && let Ok((check, ready)) = core.raft.propose(now, EntryKind::Check, &[outcome])
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
        let Comparison { check, digest, by } = core.checks.last_comparison();
        if let Some(leader) = core.raft.leader()
            && check != EntryId::ZERO
            && core.checks.told != Some(term)
            && self.transport.room(leader).is_some()
        {
            core.checks.told = Some(term);
            self.transport.send(&Message { from: id, to: leader, term, body: Body::Digest { check, digest, by } });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// Node 1, and what others have told: who, for whom, and what.
    fn spoken(own: u64, others: &[(u64, u64, u64)]) -> Checks<5> {
        let check = EntryId::new(Term(1), Index(9));
        let mut checks = Checks { own: Some((check, own)), ..Checks::new(node(1)) };
        for &(from, by, digest) in others {
            checks.reported(node(from), Comparison { check, digest, by: node(by) });
        }
        checks
    }

    fn checks(own: u64, others: &[(u64, u64)]) -> Checks<5> {
        let others: std::vec::Vec<_> = others.iter().map(|&(from, digest)| (from, from, digest)).collect();
        spoken(own, &others)
    }

    #[test]
    fn a_state_that_was_taken_over_is_no_second_voice() {
        let verdict = |own, others: &[(u64, u64, u64)]| spoken(own, others).verdict(3).map(|(_, digest)| digest);
        assert_eq!(verdict(7, &[(2, 2, 8), (3, 2, 8)]), None, "3 repeats what 2 says");
        assert_eq!(verdict(7, &[(2, 2, 8), (3, 1, 7)]), None, "or what this node says");
        assert_eq!(verdict(7, &[(2, 2, 8), (3, 3, 8)]), Some(8));
        assert_eq!(verdict(8, &[(2, 2, 7), (3, 1, 7)]), Some(7), "they have parted since");
        let mut taken_over = spoken(8, &[(2, 2, 8), (3, 3, 7)]);
        taken_over.by = node(2);
        assert_eq!(taken_over.verdict(3), None);
        assert_eq!(taken_over.outcome(3), None);
        let outcome = |own, others: &[(u64, u64, u64)]| spoken(own, others).outcome(3).map(|(_, digest)| digest);
        assert_eq!(outcome(7, &[(2, 1, 7)]), None, "the third may be right");
        assert_eq!(outcome(7, &[(2, 1, 7), (3, 1, 7)]), Some(7), "all are equal");
        assert_eq!(outcome(7, &[(2, 2, 7)]), Some(7), "a majority is");
    }

    #[test]
    fn who_took_a_state_over_speaks_for_itself_once_a_majority_had_the_same() {
        let check = EntryId::new(Term(1), Index(9));
        let mut checks = Checks::<5>::new(node(1));
        let said = Comparison { check, digest: 7, by: node(2) };
        checks.restored(EntryId::new(Term(1), Index(20)), Some(said));
        assert_eq!(checks.last_comparison(), said);
        assert_eq!(checks.judge::<()>(&[]), Ok(false));
        assert_eq!(checks.judge::<()>(&write_verdict(check, 7)), Ok(true));
        assert_eq!(checks.judge::<()>(&write_verdict(check, 8)), Err(PollError::Diverged { index: Index(9) }));
        assert_eq!(checks.judge::<()>(&write_verdict(EntryId::new(Term(1), Index(8)), 8)), Ok(false));
        checks.restored(EntryId::new(Term(1), Index(20)), Some(Comparison { check: EntryId::ZERO, ..said }));
        assert_eq!((checks.own, checks.by), (None, node(2)), "also before the first comparison");
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
        checks.reported(node(3), Comparison { check: EntryId::new(Term(1), Index(8)), digest: 9, by: node(3) });
        assert_eq!(checks.verdict(3), None);
    }

    #[test]
    fn a_verdict_reads_back() {
        let check = EntryId::new(Term(3), Index(u64::MAX));
        assert_eq!(read_verdict(&write_verdict(check, 77)), Some((check, 77)));
        assert_eq!(read_verdict(&[0; 23]), None);
    }
}
