//! What a node does, drawn from a seed.

use std::ops::RangeInclusive;

use raft_storage_file::Options;

use super::script::{Action, Script, options};

/// Numbers by chance, the same for the same seed in every build.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.next() % choices.len() as u64).unwrap()]
    }
}

/// Of a log and its snapshots only what decides which actions make sense.
#[derive(Clone, Debug, Default)]
struct Log {
    base: u64,
    /// The terms of the entries behind the base.
    terms: Vec<u64>,
    /// The latest term, and whether a vote was given in it.
    term: u64,
    voted: bool,
    /// What a snapshot covers that was taken or received: nothing before it may be dropped.
    covered: u64,
}

impl Log {
    fn last(&self) -> u64 {
        self.base + self.terms.len() as u64
    }
}

/// Draws a script.
struct Draft {
    chance: Chance,
    actions: Vec<Action>,
    log: Log,
    /// What is durable.
    durable: Log,
    /// No two entries of one term and index may differ: so terms are given out once.
    terms: u64,
    held: bool,
}

/// The script of a seed: some twenty actions, of which most change the disk.
pub(crate) fn script(seed: u64) -> Script {
    let (log, durable, actions) = (Log::default(), Log::default(), Vec::new());
    let mut draft = Draft { chance: Chance(seed), actions, log, durable, terms: 0, held: false };
    let segment_bytes_first = draft.chance.of(&[1024, 1024, 1536, 2048]);
    let segment_bytes = segment_bytes_first.max(draft.chance.of(&[1024, 2048, 3072]));
    let cache_bytes = draft.chance.of(&[0, 100, 600]);
    let options = Options { segment_bytes, segment_bytes_first, cache_bytes, ..options() };
    draft.new_term();
    for _ in 0..draft.chance.within(14..=24) {
        draft.act();
    }
    draft.flush();
    Script { options, actions: draft.actions }
}

impl Draft {
    fn new_term(&mut self) {
        self.terms = self.terms.max(self.log.term) + 1;
        (self.log.term, self.log.voted) = (self.terms, false);
        let vote = if self.chance.within(0..=1) == 1 { self.chance.within(1..=3) } else { 0 };
        self.vote(vote);
    }

    fn vote(&mut self, vote: u64) {
        self.log.voted = vote > 0;
        self.actions.push(Action::Vote(self.log.term, vote));
    }

    fn act(&mut self) {
        match self.chance.within(0..=99) {
            0..=34 => self.append(),
            35..=54 => self.flush(),
            55..=60 => self.new_term(),
            61..=63 if !self.log.voted => self.vote(2),
            64..=69 => self.truncate(),
            70..=80 => self.take(),
            81..=85 => self.receive(),
            86..=87 => self.actions.push(Action::Begin),
            88..=91 => self.compact(),
            92..=94 => {
                self.held = !self.held;
                self.actions.push(Action::HoldSyncs(self.held));
            }
            _ => self.reopen(),
        }
    }

    fn append(&mut self) {
        let (least, longest) = self.chance.of(&[(0, 40), (0, 40), (60, 120), (200, 700), (512, 512), (900, 2600)]);
        let most = if longest > 800 { 1 } else { 6 };
        let lengths =
            (0..self.chance.within(1..=most)).map(|_| usize::try_from(self.chance.within(least..=longest)).unwrap());
        let lengths: Vec<usize> = lengths.collect();
        self.log.terms.extend(lengths.iter().map(|_| self.log.term));
        self.actions.push(Action::Append(self.log.term, lengths));
        if self.chance.within(0..=2) > 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.durable = self.log.clone();
        self.actions.push(if self.chance.within(0..=9) == 0 { Action::Witness } else { Action::Flush });
    }

    fn truncate(&mut self) {
        let (least, last) = (self.log.base.max(self.log.covered), self.log.last());
        if least < last {
            let kept = self.chance.within(least..=last - 1);
            self.log.terms.truncate(usize::try_from(kept - self.log.base).unwrap());
            self.actions.push(Action::Truncate(kept));
            self.new_term();
        }
    }

    /// A snapshot of an entry that is durable, or of any once in a while.
    fn take(&mut self) {
        let durable = self.durable.base == self.log.base && self.chance.within(0..=5) > 0;
        let last = if durable { self.log.last().min(self.durable.last()) } else { self.log.last() };
        let least = self.log.base.max(self.log.covered) + 1;
        if least <= last {
            self.log.covered = self.chance.within(least..=last);
            if self.log.covered <= self.durable.last() {
                self.durable.covered = self.durable.covered.max(self.log.covered);
            }
            self.actions.push(Action::Take(self.log.covered));
        }
    }

    /// One that the log does not have: behind it, or by another term.
    fn receive(&mut self) {
        self.new_term();
        let index = self.log.covered.max(self.log.base) + self.chance.within(1..=30);
        (self.log.base, self.log.covered, self.log.terms) = (index, index, Vec::new());
        self.actions.push(Action::Receive(self.log.term, index));
    }

    fn compact(&mut self) {
        if self.log.covered > 0 {
            let index = self.chance.within(self.log.covered / 2..=self.log.covered);
            self.actions.push(Action::Compact(index));
        }
    }

    fn reopen(&mut self) {
        self.log = self.durable.clone();
        self.actions.push(Action::Reopen);
        self.new_term();
    }
}
