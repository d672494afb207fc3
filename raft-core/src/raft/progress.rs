//! What a leader knows of one follower's log, and what it has under way to it.

use core::hash::{Hash, Hasher};

use heapless::Deque;

use crate::message::{ReadTicket, Round};
use crate::storage::SnapshotId;
use crate::types::{EntryId, Index, Instant, Millis};

/// The most append messages under way to one follower.
const INFLIGHT_MESSAGES_MAX: usize = 32;

/// A follower as its leader sees it.
///
/// Invariant: `matched < next`.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The round of the answer that told what is matched: a later one cannot tell less.
    pub(crate) matched_round: Round,
    /// Answers of earlier rounds are those of an earlier member with this id.
    pub(crate) since: Round,
    /// It lacks entries that it had acknowledged, and counts for nothing.
    pub(crate) forgot: bool,
    /// Whether it said of itself that its answers count, the last time.
    pub(crate) counts: bool,
    /// How it catches up, round by round.
    pub(crate) catch_up: CatchUp,
    /// The follower's log equals the leader's up to here, durably.
    pub(crate) matched: Index,
    /// The first entry not yet sent.
    pub(crate) next: Index,
    pub(crate) state: ProgressState,
    /// The latest round that was sent, and that was answered by one whose answers count.
    pub(crate) round_sent: Round,
    pub(crate) round_heard: Round,
    /// The latest commit index that was sent.
    pub(crate) commit_sent: Index,
    /// When it was last heard from in this term.
    pub(crate) heard_at: Instant,
    /// A read it has asked about, with the round that must be answered by a quorum.
    pub(crate) read: Option<(ReadTicket, Round)>,
    /// A read to be answered, with its index.
    pub(crate) read_reply: Option<(ReadTicket, Index)>,
}

/// What each answer to an append or a part of a snapshot says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// The latest round that the follower has heard.
    pub(crate) round: Round,
    /// Whether it remembers all that it ever voted and acknowledged.
    pub(crate) counts: bool,
}

/// How entries are sent to a follower.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "the room is there in every follower's place, whatever its state")]
pub(crate) enum ProgressState {
    /// Where the logs part is not known: one message at a time.
    Probe {
        /// The round in which a message was sent that has not been answered.
        waiting: Option<Round>,
    },
    /// Messages follow each other without waiting.
    Replicate(Inflight),
    /// What it needs next has been compacted: it is sent a snapshot.
    Snapshot(Sending),
}

/// How far the sending of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sending {
    /// A part of the latest snapshot: its beginning for a witness, which needs no state.
    pub(crate) snapshot: SnapshotId,
    /// Where the next part begins.
    pub(crate) sent: u64,
    /// So much has arrived. Invariant: at most `sent`.
    pub(crate) acknowledged: u64,
}

/// How a learner catches up (dissertation, section 4.2.1): in each round it gets all that the log
/// held when the round began; a round that is shorter than an election timeout shows that it keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUp {
    /// What the log held when the present round began.
    target: Index,
    began: Instant,
    /// Whether the last round was short enough.
    short: bool,
}

impl CatchUp {
    pub(crate) fn new(last: Index, now: Instant) -> CatchUp {
        CatchUp { target: last, began: now, short: false }
    }

    /// The follower has acknowledged `matched` of a log that ends at `last`.
    pub(crate) fn acknowledged(&mut self, matched: Index, last: Index, now: Instant, longest: Millis) {
        if matched >= self.target {
            *self = CatchUp { target: last, began: now, short: now.since(self.began) < longest };
        }
    }

    /// The target, whether the last round was short enough, and whether the present one may be.
    pub(crate) fn so_far(&self, now: Instant, longest: Millis) -> (Index, bool, bool) {
        (self.target, self.short, now.since(self.began) < longest)
    }

    /// Whether it keeps up.
    pub(crate) fn is_done(&self, matched: Index, now: Instant, longest: Millis) -> bool {
        self.short && (matched >= self.target || now.since(self.began) < longest)
    }
}

/// The messages under way, so that their bytes can be bounded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inflight {
    messages: Deque<(Index, u64), INFLIGHT_MESSAGES_MAX>,
    bytes: u64,
}

impl Hash for Inflight {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hash_all(&self.messages, hasher);
    }
}

/// The sum of their bytes follows from the runs.
fn hash_all<const RUNS: usize>(runs: &Deque<(Index, u64), RUNS>, hasher: &mut impl Hasher) {
    runs.len().hash(hasher);
    runs.iter().for_each(|run| run.hash(hasher));
}

impl Inflight {
    fn sent(&mut self, last: Index, bytes: u64) {
        self.messages.push_back((last, bytes)).expect("nothing is sent while the window is full");
        self.bytes += bytes;
    }

    fn acknowledged(&mut self, matched: Index) {
        while let Some(&(last, bytes)) = self.messages.front()
            && last <= matched
        {
            self.messages.pop_front();
            self.bytes -= bytes;
        }
        assert!(!self.messages.is_empty() || self.bytes == 0, "bytes under way without a message");
    }
}

impl Progress {
    /// A follower of which nothing is known, at the beginning of a term whose log ends at `last`.
    pub(crate) fn new(last: Index, now: Instant) -> Progress {
        Progress {
            matched_round: Round::default(),
            since: Round::default(),
            forgot: false,
            counts: true,
            catch_up: CatchUp::new(last, now),
            matched: Index::ZERO,
            next: last.next(),
            state: ProgressState::Probe { waiting: None },
            round_sent: Round::default(),
            round_heard: Round::default(),
            commit_sent: Index::ZERO,
            heard_at: now,
            read: None,
            read_reply: None,
        }
    }

    /// The follower has answered. Returns whether that is an answer of this member, and not of an earlier one with its id.
    pub(crate) fn answered(&mut self, answer: Answer, now: Instant) -> bool {
        if answer.round < self.since {
            return false;
        }
        self.heard_at = now;
        self.counts = answer.counts;
        if answer.counts {
            self.round_heard = self.round_heard.max(answer.round);
        }
        true
    }

    /// Whether its log is known to be a beginning of the leader's.
    pub(crate) fn is_replicating(&self) -> bool {
        matches!(self.state, ProgressState::Replicate(_))
    }

    /// Whether an answer in `round`, by which the log ends at `hint` at most, shows that the follower
    /// has lost entries that it had acknowledged: answers of later rounds are of later moments.
    pub(crate) fn lacks(&self, hint: Index, round: Round) -> bool {
        hint < self.matched && round > self.matched_round
    }

    /// How many bytes of entries may be sent now; `None` while entries must wait.
    pub(crate) fn window_bytes(&self, inflight_bytes_max: u64) -> Option<u64> {
        match &self.state {
            ProgressState::Probe { waiting: Some(_) } => None,
            ProgressState::Probe { waiting: None } => Some(inflight_bytes_max),
            ProgressState::Replicate(inflight) if inflight.messages.is_full() => None,
            ProgressState::Replicate(inflight) => match inflight_bytes_max.checked_sub(inflight.bytes) {
                None | Some(0) => None,
                room => room,
            },
            ProgressState::Snapshot(_) => None,
        }
    }

    /// What it needs next has been compacted.
    pub(crate) fn begin_snapshot(&mut self, snapshot: SnapshotId) {
        self.state = ProgressState::Snapshot(Sending { snapshot, sent: 0, acknowledged: 0 });
    }

    /// So much of the snapshot has arrived; what was sent behind that is to be sent again, or not.
    pub(crate) fn snapshot_received(&mut self, through: EntryId, received: u64, resend: bool) {
        if let ProgressState::Snapshot(sending) = &mut self.state
            && sending.snapshot.through == through
            && received <= sending.snapshot.bytes
        {
            // Less than before: the follower has begun anew.
            let sent = if resend { received } else { sending.sent.max(received) };
            (sending.sent, sending.acknowledged) = (sent, received.min(sent));
        }
    }

    /// A message went out in `round` whose entries have so many bytes and end at `last`.
    pub(crate) fn sent(&mut self, last: Index, bytes: usize, round: Round) {
        match &mut self.state {
            ProgressState::Probe { waiting } => _ = waiting.get_or_insert(round),
            ProgressState::Replicate(_) if bytes == 0 => {}
            ProgressState::Snapshot(_) => unreachable!("no entries are sent with a snapshot"),
            ProgressState::Replicate(inflight) => {
                assert!(last >= self.next, "entries are sent in order");
                inflight.sent(last, bytes as u64);
                self.next = last.next();
            }
        }
    }

    /// The follower's log equals the leader's up to `matched`. Gives whether that is news. `base`
    /// is the last entry that the leader's log does not hold any more.
    pub(crate) fn acknowledged(&mut self, matched: Index, base: Index) -> bool {
        if matched == Index::ZERO {
            return false;
        }
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        match &mut self.state {
            // A snapshot is needed no more as soon as the log goes on from what the follower has,
            // by whichever way it came there.
            ProgressState::Snapshot(_) if self.matched < base => self.next = self.next.max(self.matched.next()),
            ProgressState::Probe { .. } | ProgressState::Snapshot(_) => {
                self.state = ProgressState::Replicate(Inflight::default());
                self.next = self.matched.next();
            }
            ProgressState::Replicate(inflight) => {
                inflight.acknowledged(self.matched);
                self.next = self.next.max(self.matched.next());
            }
        }
        assert!(self.matched < self.next, "matched entries are not sent again");
        news
    }

    /// As [`Progress::acknowledged`], from an answer that also rejects an append. So it does not tell
    /// that the message under way was taken: else each of many rejections in a row, which are all
    /// for one lost message, would have the same entries sent again.
    pub(crate) fn acknowledged_in_part(&mut self, matched: Index, base: Index) -> bool {
        if self.is_replicating() {
            return self.acknowledged(matched, base);
        }
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        news
    }

    /// The follower could not take an append that began behind `previous`. `agree` finds the last
    /// index at which the logs can be equal. A late rejection of what is known to match, or of
    /// another message than the one under way, says nothing.
    pub(crate) fn rejected(&mut self, previous: Index, agree: impl FnOnce() -> Index) {
        if previous <= self.matched {
            return;
        }
        match self.state {
            ProgressState::Replicate(_) => self.next = self.matched.next(),
            ProgressState::Probe { .. } if previous != self.next.previous() => return,
            ProgressState::Snapshot(_) => return,
            ProgressState::Probe { .. } => {
                self.next = agree().min(previous.previous()).max(self.matched).next();
            }
        }
        self.state = ProgressState::Probe { waiting: None };
    }

    /// The follower has answered in `round` that it can take an append and that nothing is known to match. If its first
    /// entries were sent in an earlier round, they are lost, or lost again by a crash before they were durable: they are
    /// sent once more. A log that has some entries says by its acknowledgement where to go on.
    pub(crate) fn has_nothing(&mut self, round: Round) {
        if let ProgressState::Probe { waiting } = &mut self.state
            && self.next == Index::FIRST
            && waiting.is_some_and(|sent| sent < round)
        {
            *waiting = None;
        }
    }
}

/// The bytes a leader has appended in its term and not committed, to within the size of a mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uncommitted {
    /// Runs of entries: the last index of each and its bytes.
    marks: Deque<(Index, u64), 16>,
    bytes: u64,
}

impl Hash for Uncommitted {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hash_all(&self.marks, hasher);
    }
}

impl Uncommitted {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An entry was appended; runs are kept so long that all of them together reach `limit`.
    pub(crate) fn appended(&mut self, entry: EntryId, bytes: u64, limit: u64) {
        self.bytes += bytes;
        let full = self.marks.is_full();
        match self.marks.back_mut() {
            Some((last, run)) if full || *run < limit / 16 => {
                *last = entry.index;
                *run += bytes;
            }
            _ => self.marks.push_back((entry.index, bytes)).expect("there is room for a mark"),
        }
    }

    pub(crate) fn committed(&mut self, commit: Index) {
        while let Some(&(last, bytes)) = self.marks.front()
            && last <= commit
        {
            self.marks.pop_front();
            self.bytes -= bytes;
        }
        assert!(!self.marks.is_empty() || self.bytes == 0, "uncommitted bytes without entries");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn replicating(matched: u64) -> Progress {
        let mut progress = Progress::new(Index(10), Instant(0));
        progress.acknowledged(Index(matched), Index(0));
        progress
    }

    #[test]
    fn a_probe_waits_for_its_answer_and_then_messages_flow() {
        let mut progress = Progress::new(Index(10), Instant(0));
        assert_eq!(progress.window_bytes(100), Some(100));
        progress.sent(Index(10), 0, Round(1));
        assert_eq!(progress.window_bytes(100), None);
        assert!(progress.acknowledged(Index(10), Index(0)));
        assert_eq!((progress.matched, progress.next), (Index(10), Index(11)));
        assert_eq!(progress.window_bytes(100), Some(100));
    }

    #[test]
    fn the_first_entries_of_an_empty_log_are_sent_again_in_a_later_round() {
        let mut progress = Progress::new(Index(10), Instant(0));
        progress.rejected(Index(10), || Index(0));
        assert_eq!(progress.next, Index(1));
        progress.sent(Index(10), 50, Round(3));
        progress.sent(Index(10), 0, Round(4));
        for (round, sends) in [(2, false), (3, false), (4, true)] {
            progress.has_nothing(Round(round));
            assert_eq!(progress.window_bytes(100).is_some(), sends, "answered in round {round}");
        }
        progress.sent(Index(10), 50, Round(4));
        progress.has_nothing(Round(4));
        assert_eq!(progress.window_bytes(100), None, "a repeated answer is of an earlier moment");
    }

    #[test]
    fn the_window_in_bytes_and_messages_closes_and_opens() {
        let mut progress = replicating(10);
        progress.sent(Index(12), 60, Round(1));
        progress.sent(Index(13), 60, Round(1));
        assert_eq!(progress.window_bytes(100), None, "one message may go over");
        progress.acknowledged(Index(12), Index(0));
        assert_eq!(progress.window_bytes(100), Some(40));
        progress.acknowledged(Index(13), Index(0));
        for index in 14..14 + 32 {
            assert!(progress.window_bytes(1 << 20).is_some());
            progress.sent(Index(index), 1, Round(1));
        }
        assert_eq!(progress.window_bytes(1 << 20), None);
    }

    #[test]
    fn known_bug_35_a_stale_rejection_never_drags_next_below_matched() {
        let mut progress = replicating(10);
        progress.sent(Index(20), 5, Round(1));
        progress.rejected(Index(8), || Index(3));
        assert_eq!((progress.matched, progress.next), (Index(10), Index(21)));
        progress.rejected(Index(20), || Index(3));
        assert_eq!((progress.matched, progress.next), (Index(10), Index(11)));
        progress.rejected(Index(14), || Index(3)); // not the probe that is under way
        assert_eq!(progress.next, Index(11));
    }

    #[test]
    fn rejections_in_a_row_for_one_lost_message_have_the_entries_sent_once() {
        let mut progress = replicating(10);
        (11..=14).for_each(|index| progress.sent(Index(index), 5, Round(1)));
        let mut probes = 0;
        for previous in 11..14 {
            assert!(!progress.acknowledged_in_part(Index(10), Index(0)));
            progress.rejected(Index(previous), || Index(3));
            if progress.window_bytes(100).is_some() {
                progress.sent(Index(14), 20, Round(1));
                probes += 1;
            }
        }
        assert_eq!((probes, progress.next), (1, Index(11)));
        assert!(progress.acknowledged(Index(14), Index(0)));
        assert_eq!((progress.is_replicating(), progress.next), (true, Index(15)));
    }

    fn snapshot(through: u64) -> SnapshotId {
        let through = EntryId::new(Term(1), Index(through));
        SnapshotId { through, time: crate::types::ClusterTime(0), bytes: 100, checksum: 0 }
    }

    #[test]
    fn known_bug_60_a_snapshot_ends_with_any_acknowledgement_that_reaches_the_log() {
        for (matched, ends) in [(19, false), (20, true), (21, true), (30, true)] {
            let mut progress = Progress::new(Index(40), Instant(0));
            progress.begin_snapshot(snapshot(25));
            progress.acknowledged(Index(matched), Index(20));
            assert_eq!(progress.is_replicating(), ends, "matched {matched} of a log that begins behind 20");
            assert!(!ends || progress.next == Index(matched + 1));
        }
    }

    #[test]
    fn a_snapshot_goes_on_where_the_follower_says_and_never_behind_its_end() {
        let mut progress = Progress::new(Index(40), Instant(0));
        progress.begin_snapshot(snapshot(25));
        let sending = |progress: &Progress| match progress.state {
            ProgressState::Snapshot(sending) => (sending.sent, sending.acknowledged),
            _ => panic!("a snapshot is being sent"),
        };
        let through = snapshot(25).through;
        progress.snapshot_received(through, 40, false);
        assert_eq!(sending(&progress), (40, 40), "another leader had sent so much");
        progress.snapshot_received(through, 10, true);
        assert_eq!(sending(&progress), (10, 10));
        progress.snapshot_received(through, 101, false);
        progress.snapshot_received(EntryId::new(Term(1), Index(24)), 50, false);
        assert_eq!(sending(&progress), (10, 10), "what makes no sense is not believed");
    }

    #[test]
    fn a_learner_has_caught_up_after_a_round_that_was_short() {
        let longest = Millis(100);
        let mut catch_up = CatchUp::new(Index(1000), Instant(0));
        catch_up.acknowledged(Index(999), Index(1500), Instant(300), longest);
        assert!(!catch_up.is_done(Index(999), Instant(300), longest));
        catch_up.acknowledged(Index(1000), Index(1500), Instant(500), longest);
        assert!(!catch_up.is_done(Index(1000), Instant(500), longest), "the first round was long");
        catch_up.acknowledged(Index(1500), Index(1550), Instant(590), longest);
        assert!(catch_up.is_done(Index(1500), Instant(600), longest));
        assert!(!catch_up.is_done(Index(1500), Instant(690), longest), "it has stopped since");
        assert!(catch_up.is_done(Index(1550), Instant(900), longest));
    }

    #[test]
    fn known_bug_39_uncommitted_bytes_do_not_leak() {
        let mut uncommitted = Uncommitted::default();
        for index in 1..=1000 {
            uncommitted.appended(EntryId::new(Term(1), Index(index)), 10, 10_000);
        }
        assert_eq!(uncommitted.bytes(), 10_000);
        uncommitted.committed(Index(500));
        assert!((5_000..=5_000 + 10_000 / 8).contains(&uncommitted.bytes()), "to within the size of a mark");
        uncommitted.committed(Index(1000));
        assert_eq!(uncommitted.bytes(), 0);
    }
}
