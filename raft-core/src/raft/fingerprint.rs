//! What decides how a node goes on, as a hash: two nodes with equal fingerprints and equal logs
//! answer equal inputs alike. For model checkers, which have to know a state when they see it again.

use core::hash::{Hash, Hasher};

use crate::raft::Raft;
use crate::raft::membership::Membership;
use crate::raft::progress::{Progress, ProgressState};
use crate::raft::role::{Election, Follower, Following, Leader, LeaseMark, Role, Transfer};
use crate::storage::Storage;
use crate::types::{Instant, Millis, NodeId};

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Hashes all that decides what this node does next, but for four things:
    ///
    /// - the log and all else that the storage holds, which only the storage's maker knows whole:
    ///   hash it beside this;
    /// - the settings, and what is fixed when the cluster is created: compare nodes that have these
    ///   in common;
    /// - chance: the state of the generator of jitter (but the number of the first read, which it
    ///   gives once, is in: compare nodes with equal seeds);
    /// - time: of each moment that the node remembers, only whether the limit counted from it has
    ///   passed. So nodes with equal fingerprints go on alike if the clocks of both move by steps
    ///   too short to add up to a limit, or past every limit.
    ///
    /// Events that nobody has taken yet and counters for operators decide nothing and are left out.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        // All fields are named, here and below, so that a new one has to be sorted in.
        let Raft {
            id,
            cluster: _,
            config,
            storage: _,
            membership,
            previous,
            configured,
            lease,
            now,
            random: _,
            saved,
            commit,
            applied,
            restore,
            role,
            replies,
            draft,
            receive_again,
            taken_at,
            hand_over_at,
            last_ticket,
            last_ticket_term,
            removed,
            expelled,
            suspect,
            elections_won: _,
            events: _,
            patience: _,
        } = self;
        let limits = Limits {
            now: *now,
            election_timeout: config.election_timeout,
            disk_stall: config.disk_stall_max,
            lease: lease.map(|lease| lease.duration),
        };
        (id, membership, previous, configured == &membership.entry).hash(hasher);
        (saved, commit, applied, restore, replies, draft, removed, expelled, suspect).hash(hasher);
        (receive_again.failures(), receive_again.is_over(*now)).hash(hasher);
        (last_ticket, last_ticket_term == &self.term(), limits.is_due(*hand_over_at)).hash(hasher);
        lease.map(|lease| limits.over(*taken_at, lease.wait())).hash(hasher);
        core::mem::discriminant(role).hash(hasher);
        match role {
            Role::Follower(follower) => limits.follower(follower, hasher),
            Role::PreCandidate(election) | Role::Candidate(election) => limits.election(election, hasher),
            Role::Leader(leader) => limits.leader(leader, membership, *id, hasher),
        }
    }
}

/// What turns moments into whether a limit has passed.
struct Limits {
    now: Instant,
    election_timeout: Millis,
    disk_stall: Millis,
    lease: Option<Millis>,
}

impl Limits {
    fn is_due(&self, at: Instant) -> bool {
        self.now >= at
    }

    fn over(&self, since: Instant, limit: Millis) -> bool {
        self.now.since(since) >= limit
    }

    fn silent(&self, heard_at: Instant) -> bool {
        self.over(heard_at, self.election_timeout)
    }

    fn follower(&self, follower: &Follower, hasher: &mut impl Hasher) {
        let Follower { election_at, leader } = follower;
        (self.is_due(*election_at), leader.is_some()).hash(hasher);
        let Some(following) = leader else { return };
        let Following {
            leader,
            heard_at,
            link_down,
            matched,
            matched_told,
            round,
            round_told,
            rejected,
            received,
            read_wanted,
            read_asked,
            read_confirmed,
            read_reached,
        } = following;
        (leader, self.silent(*heard_at), link_down, matched, matched_told, round, round_told).hash(hasher);
        (rejected, received, read_wanted, read_confirmed, read_reached).hash(hasher);
        read_asked.map(|(ticket, at)| (ticket, self.silent(at))).hash(hasher);
    }

    fn election<const NODES: usize>(&self, election: &Election<NODES>, hasher: &mut impl Hasher) {
        let Election { again_at, votes, asked, transfer } = election;
        (self.is_due(*again_at), votes, asked, transfer).hash(hasher);
    }

    fn leader<const NODES: usize>(
        &self,
        leader: &Leader<NODES>,
        members: &Membership<NODES>,
        own: NodeId,
        hasher: &mut impl Hasher,
    ) {
        let Leader {
            term_start,
            clock: _,
            heartbeat_at,
            followers,
            uncommitted,
            round,
            round_used,
            round_confirmed,
            reads_asked,
            transfer,
            full,
            full_tried,
            unsaved,
            lease: LeaseMark { pending, until, commit_from },
        } = leader;
        (term_start, self.is_due(*heartbeat_at), uncommitted).hash(hasher);
        (round, round_used, round_confirmed, reads_asked).hash(hasher);
        (full, full_tried).hash(hasher);
        let transfer = transfer.as_ref();
        transfer.map(|Transfer { to, until, told }| (to, self.is_due(*until), told)).hash(hasher);
        unsaved.map(|(index, since)| (index, self.over(since, self.disk_stall))).hash(hasher);
        pending.map(|(index, since)| (index, self.lease.map(|lease| self.over(since, lease)))).hash(hasher);
        (self.is_due(*until), self.is_due(*commit_from)).hash(hasher);
        // The other places, and that of the leader itself, are not used.
        for (_, follower) in members.peers().iter().zip(followers).filter(|(peer, _)| peer.id != own) {
            self.progress(follower, hasher);
        }
    }

    fn progress(&self, follower: &Progress, hasher: &mut impl Hasher) {
        let Progress {
            matched_round,
            since,
            forgot,
            counts,
            catch_up,
            matched,
            next,
            state,
            round_sent,
            round_heard,
            commit_sent,
            heard_at,
            read,
            read_reply,
        } = follower;
        (matched_round, since, forgot, counts).hash(hasher);
        (catch_up.so_far(self.now, self.election_timeout), matched, next).hash(hasher);
        (round_sent, round_heard, commit_sent, self.silent(*heard_at), read, read_reply).hash(hasher);
        core::mem::discriminant(state).hash(hasher);
        match state {
            ProgressState::Probe { waiting } => waiting.hash(hasher),
            ProgressState::Replicate(inflight) => inflight.hash(hasher),
            ProgressState::Snapshot(sending) => sending.hash(hasher),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;
    use crate::configuration;
    use crate::entry::Records;
    use crate::message::{Body, Message, Round};
    use crate::raft::config::Config;
    use crate::ring::RingLog;
    use crate::types::{ClusterId, EntryId, Index, Term};

    type Node = Raft<RingLog<16, 4096>, 3>;

    fn id(node: u64) -> NodeId {
        NodeId::new(node).unwrap()
    }

    fn node(now: u64) -> Node {
        let mut log = RingLog::new();
        configuration::bootstrap(&mut log, &configuration::voters(ClusterId(1), 3).unwrap()).unwrap();
        Raft::new(id(1), Config::default(), log, Instant(now)).unwrap()
    }

    fn of(node: &Node) -> u64 {
        let mut hasher = DefaultHasher::new();
        node.fingerprint(&mut hasher);
        hasher.finish()
    }

    fn step(node: &mut Node, from: u64, term: u64, now: u64, body: Body<'_>) {
        node.step(Instant(now), &Message { from: id(from), to: id(1), term: Term(term), body }).unwrap().later();
        let saved = node.storage_mut().saved().unwrap();
        node.saved(saved).later();
    }

    fn append(commit: u64) -> Body<'static> {
        let previous = EntryId::new(Term(1), Index(1));
        Body::Append { previous, commit: Index(commit), round: Round(1), entries: Records::EMPTY }
    }

    /// Elected after some time, in which it asked in vain, with an entry of its own.
    fn leader(in_vain: u64) -> Node {
        let mut node = node(in_vain * 100);
        for _ in 0..=in_vain {
            let deadline = node.deadline();
            node.tick(deadline).later();
        }
        let deadline = node.now;
        step(&mut node, 2, 2, deadline.0, Body::PreVoteReply { granted: true });
        while node.ready().message(id(2), 0).unwrap().is_some() {}
        step(&mut node, 2, 2, deadline.0, Body::VoteReply { granted: true });
        assert!(node.term_start().is_some());
        node
    }

    #[test]
    fn time_and_chance_make_no_difference() {
        assert_eq!(of(&node(0)), of(&node(77_000)));
        assert_eq!(of(&leader(0)), of(&leader(3)));
        let (mut early, mut late) = (leader(0), leader(2));
        for (node, wait) in [(&mut early, 0), (&mut late, 9)] {
            let deadline = node.deadline();
            node.tick(Instant(deadline.0 + wait)).later();
        }
        assert_eq!(of(&early), of(&late), "both are one round further");
    }

    #[test]
    fn a_limit_that_has_passed_makes_one() {
        let hears = |now: u64| {
            let mut node = node(0);
            step(&mut node, 2, 2, 0, append(0));
            node.tick(Instant(now)).later();
            assert!(node.leader().is_some());
            of(&node)
        };
        assert_eq!(hears(0), hears(499));
        assert_ne!(hears(499), hears(500), "it would vote for another by now");
    }

    #[test]
    fn what_a_node_knows_and_owes_makes_one() {
        let fresh = node(0);
        let mut seen = std::vec![of(&fresh)];
        let mut differs = |node: &Node| {
            assert!(!seen.contains(&of(node)));
            seen.push(of(node));
        };
        let mut voted = fresh.clone();
        step(&mut voted, 2, 2, 0, Body::Vote { last: EntryId::new(Term(1), Index(1)), transfer: false });
        differs(&voted);
        assert!(voted.ready().message(id(2), 0).unwrap().is_some());
        differs(&voted);
        step(&mut voted, 2, 2, 0, append(0));
        differs(&voted);
        let mut other = fresh.clone();
        step(&mut other, 3, 2, 0, append(0));
        differs(&other);
        let mut leader = leader(0);
        differs(&leader);
        assert!(leader.ready().message(id(2), 0).unwrap().is_some());
        differs(&leader);
        step(
            &mut leader,
            2,
            2,
            0,
            Body::AppendReply { round: Round(1), matched: Index(2), rejected: None, counts: true },
        );
        differs(&leader);
        leader.transfer(Instant(0), Some(id(2))).unwrap().later();
        differs(&leader);
    }
}
