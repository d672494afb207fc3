//! What there is to do after an input, and how messages are formed.

use core::ops::RangeInclusive;

use crate::entry::Records;
use crate::message::{Body, Message};
use crate::raft::event::Expulsion;
use crate::raft::membership::Peer;
use crate::raft::progress::ProgressState;
use crate::raft::role::{Follower, Following, Received, Role};
use crate::raft::{Raft, Reply};
use crate::storage::{ReadError, Saved, SnapshotId, Storage};
use crate::types::{EntryId, Index, Instant, NodeId, Term};

/// What there is to do. It borrows the node, so that no other input comes between; and it holds
/// all that is still to be done, not only what the last input brought.
///
/// In this order: form messages for the nodes ([`Raft::recipient`]) whose links can take one
/// ([`Ready::message`]); if [`Ready::to_save`] says so, flush the storage and report it by
/// [`Raft::saved`]; make the state machine anew if [`Ready::restore`] says so, and report it by
/// [`Raft::restored`]; apply the entries of [`Ready::apply`] and report it by [`Raft::applied`].
#[must_use = "handle what is ready, or say `later()`"]
#[derive(Debug)]
pub struct Ready<'a, S, const NODES: usize> {
    raft: &'a mut Raft<S, NODES>,
}

impl<'a, S: Storage, const NODES: usize> Ready<'a, S, NODES> {
    pub(super) fn new(raft: &'a mut Raft<S, NODES>) -> Ready<'a, S, NODES> {
        Ready { raft }
    }

    /// Leaves everything for the next Ready. Nothing is lost by that.
    pub fn later(self) {}

    /// What the storage should make durable, if it is not yet.
    #[must_use]
    pub fn to_save(&self) -> Option<Saved> {
        let view = Saved { hard_state: self.raft.storage.hard_state(), through: self.raft.storage.last() };
        (view != self.raft.saved).then_some(view)
    }

    /// The snapshot, which is the latest one, to make the state machine from before any entry is
    /// applied.
    #[must_use]
    pub fn restore(&self) -> Option<SnapshotId> {
        let durable = |snapshot: &SnapshotId| snapshot.through.index <= self.raft.saved.through.index;
        self.raft.storage.snapshot().filter(|_| self.raft.restore).filter(durable)
    }

    /// The entries to be applied, in order.
    #[must_use]
    pub fn apply(&self) -> Option<RangeInclusive<Index>> {
        if self.raft.restore {
            return None;
        }
        let (first, last) = (self.raft.applied.next(), self.raft.appliable());
        (first <= last).then_some(first..=last)
    }

    /// Forms the next message to `to`, with at most `entry_bytes_max` bytes of entries (but one
    /// entry at least, where there are any to send). `None` if there is nothing to say.
    ///
    /// Encode it at once: it borrows the log.
    ///
    /// # Errors
    /// The storage failed for good while entries were read.
    pub fn message(&mut self, to: NodeId, entry_bytes_max: usize) -> Result<Option<Message<'_>>, S::Error> {
        let raft = &mut *self.raft;
        if to == raft.id {
            return Ok(None);
        }
        // A message that shows a term or a vote rests on it: not before it is durable.
        if !raft.hard_state_is_saved() {
            return Ok(None);
        }
        let (from, term) = (raft.id, raft.term());
        if let Some(owed) = raft.replies.iter().position(|&(node, _)| node == to) {
            let (_, reply) = raft.replies.swap_remove(owed);
            return Ok(Some(reply_message(reply, Envelope { from, to, term }, raft.counts())));
        }
        let position = raft.membership.position(to);
        let votes = raft.membership.find(to).is_some_and(Peer::votes);
        let envelope = Envelope { from, to, term };
        let counts = raft.counts();
        match &mut raft.role {
            Role::PreCandidate(election) if votes => {
                if !first_time(&mut election.asked, position) {
                    return Ok(None);
                }
                let envelope = Envelope { term: term.next(), ..envelope };
                Ok(Some(envelope.says(Body::PreVote { last: raft.storage.last() })))
            }
            Role::Candidate(election) if votes => {
                if !first_time(&mut election.asked, position) {
                    return Ok(None);
                }
                let transfer = election.transfer;
                Ok(Some(envelope.says(Body::Vote { last: raft.storage.last(), transfer })))
            }
            Role::Follower(Follower { leader: Some(following), .. }) if following.leader == to => {
                let again = raft.config.election_timeout;
                let ask_before = Instant(raft.now.0.saturating_sub(again.0));
                // What a log holds that may have lost entries counts for nothing: it acknowledges only what
                // is committed without it, so that the rest is sent all the same.
                let saved = raft.saved.through.index;
                let own =
                    Own { saved: if counts { saved } else { saved.min(raft.commit) }, counts, applied: raft.applied };
                Ok(tell_leader(following, envelope, own, raft.now, ask_before))
            }
            Role::Leader(_) => raft.tell_follower(envelope, entry_bytes_max),
            _ => Ok(None),
        }
    }
}

/// A message without what it says. Whoever finds something to say makes the whole message, in its place: a body that
/// is moved once more is read back before its parts have been written through, and waits for that.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    from: NodeId,
    to: NodeId,
    term: Term,
}

impl Envelope {
    #[inline]
    pub(super) fn says(self, body: Body<'_>) -> Message<'_> {
        let Envelope { from, to, term } = self;
        Message { from, to, term, body }
    }
}

fn first_time<const NODES: usize>(asked: &mut [bool; NODES], position: Option<usize>) -> bool {
    let asked = position.and_then(|position| asked.get_mut(position));
    asked.is_some_and(|asked| !core::mem::replace(asked, true))
}

fn reply_message(reply: Reply, envelope: Envelope, counts: bool) -> Message<'static> {
    let Envelope { from, to, term: own } = envelope;
    let (term, body) = match reply {
        Reply::PreVote { term, granted: true } => (term, Body::PreVoteReply { granted: true }),
        Reply::PreVote { granted: false, .. } => (own, Body::PreVoteReply { granted: false }),
        Reply::Vote { term, granted } => {
            assert_eq!(term, own, "replies of an earlier term are dropped with it");
            (own, Body::VoteReply { granted })
        }
        Reply::Expelled(reason) => (own, Body::Expelled { reason }),
        Reply::Outdated => {
            let (round, matched) = (crate::message::Round::default(), Index::ZERO);
            (own, Body::AppendReply { round, matched, rejected: None, counts })
        }
    };
    Message { from, to, term, body }
}

/// What a follower has, and may say.
#[derive(Clone, Copy)]
struct Own {
    /// The last entry that it may acknowledge.
    saved: Index,
    applied: Index,
    /// Whether its answers count for anything.
    counts: bool,
}

/// What a follower has to tell its leader, if anything.
fn tell_leader(
    following: &mut Following,
    envelope: Envelope,
    own: Own,
    now: Instant,
    ask_before: Instant,
) -> Option<Message<'static>> {
    let Own { saved, applied, counts } = own;
    if let Some(Received { through, bytes, resend }) = following.received.take() {
        following.round_told = following.round;
        return Some(envelope.says(Body::SnapshotReply {
            through,
            received: bytes,
            round: following.round,
            resend,
            counts,
        }));
    }
    let matched = following.matched.min(saved);
    if following.rejected.is_some() || matched > following.matched_told || following.round > following.round_told {
        following.matched_told = following.matched_told.max(matched);
        following.round_told = following.round;
        let rejected = following.rejected.take();
        return Some(envelope.says(Body::AppendReply { round: following.round, matched, rejected, counts }));
    }
    let ticket = following.read_wanted?;
    // One question at a time, and the next when the answer to the last has been reached: else reads
    // that keep coming would put off those before them for ever.
    let confirmed = following.read_confirmed.map(|(confirmed, _)| confirmed);
    let under_way = following.read_asked.is_some_and(|(asked, at)| Some(asked) > confirmed && at > ask_before);
    if under_way || following.read_confirmed.is_some_and(|(_, index)| index > applied) {
        return None;
    }
    following.read_asked = Some((ticket, now));
    Some(envelope.says(Body::ReadRequest { ticket }))
}

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// What a leader has to tell a follower, if anything: that it is expelled, the answer to its
    /// read, that it is to lead, a part of a snapshot, entries, a new commit index, or that this
    /// node still leads.
    fn tell_follower(&mut self, envelope: Envelope, entry_bytes_max: usize) -> Result<Option<Message<'_>>, S::Error> {
        let to = envelope.to;
        let Some(position) = self.membership.position(to) else { return Ok(None) };
        let last = self.storage.last().index;
        let Role::Leader(leader) = &mut self.role else { return Ok(None) };
        let round = leader.round;
        let Some(follower) = leader.followers.get_mut(position) else { return Ok(None) };
        if follower.forgot {
            return Ok(self.tell_forgetful(envelope, position));
        }
        if let Some((ticket, index)) = follower.read_reply.take() {
            return Ok(Some(envelope.says(Body::ReadReply { ticket, index })));
        }
        if let Some(transfer) = leader.transfer.as_mut().filter(|transfer| transfer.to == to)
            && follower.matched == last
            && transfer.told.is_none_or(|told| told < round)
        {
            transfer.told = Some(round);
            return Ok(Some(envelope.says(Body::Campaign)));
        }
        let held = self.storage.term(follower.next.previous()).is_some();
        if matches!(follower.state, ProgressState::Snapshot(_)) || (!held && self.begin_snapshot(position)?) {
            return self.next_part(envelope, position, entry_bytes_max);
        }
        self.next_entries(envelope, position, entry_bytes_max)
    }

    /// Once in each round, a member that has lost what it had acknowledged is told so.
    fn tell_forgetful(&mut self, envelope: Envelope, position: usize) -> Option<Message<'_>> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let round = leader.round;
        let follower = leader.followers.get_mut(position).filter(|follower| follower.round_sent < round)?;
        follower.round_sent = round;
        let term = self.storage.term(follower.matched)?;
        let (acknowledged, added) = (EntryId::new(term, follower.matched), self.membership.peer(position)?.added);
        Some(envelope.says(Body::Expelled { reason: Expulsion::Forgot { acknowledged, added } }))
    }

    fn next_entries(
        &mut self,
        envelope: Envelope,
        position: usize,
        entry_bytes_max: usize,
    ) -> Result<Option<Message<'_>>, S::Error> {
        let (last, commit) = (self.storage.last().index, self.commit);
        let witness = self.membership.peer(position).is_some_and(Peer::is_witness);
        let Role::Leader(leader) = &mut self.role else { return Ok(None) };
        let round = leader.round;
        let Some(follower) = leader.followers.get_mut(position) else { return Ok(None) };
        let through = last.min(follower.matched.plus(self.config.inflight_entries_max));
        let window = follower.window_bytes(self.config.inflight_bytes_max).filter(|_| follower.next <= through);
        let commit_is_news = follower.commit_sent < commit && follower.is_replicating();
        if window.is_none() && follower.round_sent >= round && !commit_is_news {
            return Ok(None);
        }
        let previous_index = follower.next.previous();
        let Some(previous_term) = self.storage.term(previous_index) else {
            return Ok(None); // Compacted, and there is no snapshot: nothing can help this follower.
        };
        let entries = match window {
            Some(window) => {
                let window = usize::try_from(window).unwrap_or(usize::MAX);
                let bytes_max = window.min(entry_bytes_max).min(self.config.message_bytes_max);
                match self.storage.read(follower.next, through, bytes_max) {
                    Ok(entries) => entries,
                    Err(ReadError::Missing(_)) => Records::EMPTY,
                    Err(ReadError::Failed(error)) => return Err(error),
                }
            }
            None => Records::EMPTY,
        };
        follower.sent(entries.last().index, entries.bytes().len(), round);
        follower.round_sent = round;
        follower.commit_sent = commit;
        leader.round_used = true;
        let previous = EntryId::new(previous_term, previous_index);
        let entries = if witness { entries.stripped() } else { entries };
        Ok(Some(envelope.says(Body::Append { previous, commit, round, entries })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ReadTicket;

    /// Reads that wait up to this are asked about together, and no later ones are put before them.
    #[test]
    fn a_follower_asks_once_and_again_when_the_answer_was_reached_or_has_not_come() {
        let node = |number| NodeId::new(number).unwrap();
        let envelope = Envelope { from: node(2), to: node(1), term: Term(3) };
        let asks = |wanted, asked: Option<(u64, u64)>, confirmed: Option<(u64, u64)>, ask_before| {
            let mut following = Following::new(node(1), Instant(0));
            following.read_wanted = Some(ReadTicket(wanted));
            following.read_asked = asked.map(|(ticket, at)| (ReadTicket(ticket), Instant(at)));
            following.read_confirmed = confirmed.map(|(ticket, index)| (ReadTicket(ticket), Index(index)));
            let own = Own { saved: Index(9), applied: Index(7), counts: true };
            let told = tell_leader(&mut following, envelope, own, Instant(50), Instant(ask_before));
            match told.map(|message| message.body) {
                Some(Body::ReadRequest { ticket }) => {
                    assert_eq!((ticket, following.read_asked), (ReadTicket(wanted), Some((ticket, Instant(50)))));
                    true
                }
                None => false,
                Some(other) => panic!("{other:?}"),
            }
        };
        assert!(asks(5, None, None, 10));
        assert!(!asks(5, Some((5, 11)), None, 10), "it is under way");
        assert!(asks(5, Some((5, 10)), None, 10), "it is lost by now");
        assert!(asks(5, Some((5, 9)), None, 10), "it is lost by now");
        assert!(!asks(6, Some((5, 11)), Some((4, 1)), 10), "one at a time");
        assert!(asks(6, Some((5, 11)), Some((5, 7)), 10), "the last answer has been reached");
        assert!(!asks(6, Some((5, 11)), Some((5, 8)), 10), "it has not: those that wait for it come first");
        assert!(!asks(6, Some((5, 9)), Some((5, 8)), 10), "however long it takes");
        assert!(asks(6, Some((5, 9)), Some((4, 7)), 10), "it was lost, and another is wanted since");
    }
}
