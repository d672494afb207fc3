//! A node that is lied to: members, removed members and strangers send it whatever can be encoded, while it ticks,
//! campaigns, leads, saves, applies, makes snapshots, crashes and starts again.
//!
//! Raft does not survive liars, and nothing is asked here of what the node then believes. But it never panics; its log
//! stays within its room; nothing is committed that is not in the log; what it says can be read; and what it has
//! taken in it can start with.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{self, CONFIGURATION_BYTES_MAX, Configuration, Member, Suffrage};
use raft_core::entry::EntryKind;
use raft_core::message::{Body, Message, Round};
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, ReadId};
use raft_core::session::limits::SessionLimits;
use raft_core::snapshot::{self, HEAD_BYTES_MAX, Head, Terms, Which};
use raft_core::storage::Storage;
use raft_core::types::{ClusterTime, EntryId, Index, Instant, Millis, Term};
use raft_fuzz::hostile::{CLUSTER, Marks, NODE, Sent, Snapshot, node};

#[path = "../../raft-core/tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of the core need more of it")]
mod common;

use common::DeferredLog;

const NODES: usize = 6;
/// The most entries there is room for.
const ENTRIES_MAX: usize = 40;
/// The most inputs of one life: what takes more of them is seldom found.
const INPUTS_MAX: usize = 60;

#[derive(Debug, Arbitrary)]
struct Life {
    beginning: Beginning,
    /// Whether syncs take their time.
    deferred: bool,
    narrow: bool,
    inputs: Vec<Input>,
}

#[derive(Debug, Arbitrary)]
enum Beginning {
    Member,
    Alone,
    Joining,
    Witness,
    Suspect,
    /// It has been elected, by member 2.
    Leader {
        compacted: bool,
    },
}

#[derive(Debug, Arbitrary)]
enum Input {
    Hear(Sent),
    Pass(u16),
    /// Until the node has to be ticked.
    Wait,
    Propose {
        kind: u8,
        bytes: u8,
    },
    Change(Vec<Change>, bool),
    Transfer(Option<u8>),
    Read(bool),
    /// One sync ends, or all do.
    Save(bool),
    Apply(u8),
    Send,
    MakeSnapshot,
    Compact(u8),
    Crash(u8),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Change {
    Add(u8, u8),
    Promote(u8),
    Demote(u8),
    Remove(u8),
    Prioritize(u8, u8),
}

struct World {
    raft: Raft<DeferredLog, NODES>,
    config: Config,
    now: Instant,
    snapshot: Option<Snapshot>,
    reads: Vec<ReadId>,
}

fuzz_target!(|life: Life| {
    let mut world = World::new(&life);
    for input in life.inputs.iter().take(INPUTS_MAX) {
        world.take(input);
        world.check();
    }
});

fn members(of: &Beginning) -> Configuration {
    let voters: &[u64] = if matches!(of, Beginning::Alone) { &[1] } else { &[1, 2, 3] };
    let member = |&id: &u64| {
        let suffrage = if matches!(of, Beginning::Witness) && id == NODE { Suffrage::Witness } else { Suffrage::Voter };
        Member::new(node(id), suffrage, "").expect("the address is short")
    };
    Configuration::new(CLUSTER, SessionLimits::default(), voters.iter().map(member)).expect("they can vote")
}

fn start(log: DeferredLog, config: Config, now: Instant) -> Raft<DeferredLog, NODES> {
    if log.last() == EntryId::ZERO {
        let members = members(&Beginning::Member);
        return Raft::join(node(NODE), config, &members, log, now).expect("an empty log can join");
    }
    Raft::new(node(NODE), config, log, now).expect("what was taken in can be started with")
}

impl World {
    fn new(life: &Life) -> World {
        let mut log = match life.beginning {
            Beginning::Joining => DeferredLog::blank(),
            _ => DeferredLog::new(&members(&life.beginning)),
        };
        log.deferred = life.deferred;
        log.entries_max = ENTRIES_MAX;
        log.draft_bytes_max = 4 << 10;
        let wide = Config { seed: 1, entry_bytes_max: 1000, ..Config::default() };
        let narrow = Config {
            message_bytes_max: 100,
            inflight_entries_max: 2,
            inflight_bytes_max: 100,
            uncommitted_entries_max: 3,
            uncommitted_bytes_max: 200,
            snapshot_inflight_bytes_max: 50,
            ..wide
        };
        log.suspect = matches!(life.beginning, Beginning::Suspect).then_some(Index(5));
        let config = if life.narrow { narrow } else { wide };
        let now = Instant(1000);
        let mut world = World { raft: start(log, config, now), config, now, snapshot: None, reads: Vec::new() };
        if let Beginning::Leader { compacted } = life.beginning {
            world.lead();
            if compacted {
                world.make_snapshot();
                world.save(true);
                world.compact(0);
                world.save(true);
            }
        }
        world
    }

    /// Member 2 votes for it, and acknowledges what it appends.
    fn lead(&mut self) {
        self.take(&Input::Wait);
        self.send();
        let before = self.raft.term();
        self.say(before.next(), Body::PreVoteReply { granted: true });
        self.save(true);
        self.send();
        self.say(before.next(), Body::VoteReply { granted: true });
        self.propose(3, 20);
        self.save(true);
        self.send();
        let matched = self.raft.storage().last().index;
        self.say(before.next(), Body::AppendReply { round: Round(1), matched, rejected: None, counts: true });
        self.apply(u64::MAX);
        assert_eq!(self.raft.last_applied(), matched, "it leads, and has committed");
    }

    fn say(&mut self, term: Term, body: Body<'_>) {
        let message = Message { from: node(2), to: node(NODE), term, body };
        self.raft.step(self.now, &message).expect("it is true").later();
    }

    fn take(&mut self, input: &Input) {
        match input {
            Input::Hear(sent) => self.hear(sent),
            Input::Pass(millis) => {
                self.now = self.now.after(Millis(u64::from(*millis)));
                self.raft.tick(self.now).later();
            }
            Input::Wait => {
                self.now = self.now.max(self.raft.deadline());
                self.raft.tick(self.now).later();
            }
            Input::Propose { kind, bytes } => self.propose(*kind, *bytes),
            Input::Change(changes, force) => self.change(changes, *force),
            Input::Transfer(to) => {
                let to = to.map(|to| node(1 + u64::from(to % 8)));
                let _ = self.raft.transfer(self.now, to).map(|ready| ready.later());
            }
            Input::Read(lease) => self.read(*lease),
            Input::Save(all) => self.save(*all),
            Input::Apply(entries) => self.apply((*entries).into()),
            Input::Send => self.send(),
            Input::MakeSnapshot => self.make_snapshot(),
            Input::Compact(keep) => self.compact((*keep).into()),
            Input::Crash(survive) => self.crash((*survive).into()),
        }
    }

    fn marks(&self) -> Marks {
        let (raft, log) = (&self.raft, self.raft.storage());
        Marks {
            term: raft.term(),
            applied: raft.last_applied(),
            commit: raft.commit(),
            saved: raft.status().saved,
            last: log.last(),
            base: log.base(),
            time: log.last_time(),
        }
    }

    fn hear(&mut self, sent: &Sent) {
        let marks = self.marks();
        let Some(bytes) = sent.encode(&marks, &mut self.snapshot) else { return };
        // What cannot be read is refused by the transport.
        let Ok(message) = Message::decode(&bytes) else { return };
        if let Ok(ready) = self.raft.step(self.now, &message) {
            ready.later();
        }
    }

    fn propose(&mut self, kind: u8, bytes: u8) {
        let kind = match kind % 4 {
            0 => EntryKind::Noop,
            1 => EntryKind::Clock,
            2 => EntryKind::Check,
            _ => EntryKind::Operation,
        };
        let payload = vec![3; usize::from(bytes)];
        let _ = self.raft.propose(self.now, kind, &[&payload]).map(|(_, ready)| ready.later());
    }

    fn change(&mut self, changes: &[Change], force: bool) {
        let id = |id: u8| node(1 + u64::from(id % 8));
        let change = |change: &Change| match *change {
            Change::Add(who, what) => {
                let suffrages = [Suffrage::Learner, Suffrage::Joining, Suffrage::JoiningWitness, Suffrage::Witness];
                let suffrage = suffrages[usize::from(what) % suffrages.len()];
                MemberChange::Add(Member::new(id(who), suffrage, "").expect("the address is short"))
            }
            Change::Promote(who) => MemberChange::Promote(id(who)),
            Change::Demote(who) => MemberChange::Demote(id(who)),
            Change::Remove(who) => MemberChange::Remove(id(who)),
            Change::Prioritize(who, priority) => MemberChange::Prioritize { id: id(who), priority },
        };
        let changes: Vec<MemberChange> = changes.iter().take(8).map(change).collect();
        let _ = self.raft.change_members(self.now, &changes, force).map(|(_, ready)| ready.later());
    }

    fn read(&mut self, lease: bool) {
        let begun = if lease { self.raft.read_by_lease(self.now) } else { self.raft.read(self.now) };
        self.reads.extend(begun.map(|(read, ready)| {
            ready.later();
            read
        }));
    }

    fn save(&mut self, all: bool) {
        let Ok(()) = self.raft.storage_mut().flush();
        while self.raft.storage_mut().complete() && all {}
        let Ok(saved) = self.raft.storage_mut().saved();
        self.raft.saved(saved).later();
    }

    fn apply(&mut self, entries: u64) {
        if self.raft.ready().restore().is_some() {
            self.raft.restored().later();
        }
        let Some(range) = self.raft.ready().apply() else { return };
        let last = Index(range.start().0.saturating_add(entries)).min(*range.end());
        let Ok(records) = self.raft.storage_mut().read(*range.start(), last, 500) else {
            panic!("entries that are to be applied are in the log")
        };
        let last = records.last().index;
        self.raft.applied(last).later();
    }

    /// Forms what there is to say to everybody.
    fn send(&mut self) {
        let mut number = 0;
        while let Some(to) = self.raft.recipient(number) {
            number += 1;
            // The windows have an end, and so has this.
            for _ in 0..1000 {
                let Ok(message) = self.raft.ready().message(to, 500).map(|message| message.map(encode));
                if message.is_none() {
                    break;
                }
            }
        }
        assert!(number <= 3 * NODES, "members, as many who are owed an answer, and the leader");
    }

    /// As [`raft_core::replica::Replica`] does it, with some bytes for sessions and state.
    fn make_snapshot(&mut self) {
        let (applied, commit) = (self.raft.last_applied(), self.raft.commit());
        if self.raft.receives_snapshot() || self.raft.awaits_restore() {
            return;
        }
        assert!(applied <= commit);
        let Some(entry) = self.raft.applied_configuration() else { return };
        let log = self.raft.storage_mut();
        let latest = log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        if applied <= latest || applied <= log.base().index || log.unsaved() > 0 {
            return;
        }
        let members = match entry.index > log.base().index {
            true => configuration::load(log, entry.index).expect("it is in the log"),
            false => snapshot::open(log, Which::Latest).expect("it is in the snapshot").1,
        };
        let Ok(records) = log.read(applied, applied, 0) else { panic!("the last applied entry is in the log") };
        let (through, time) = records
            .iter()
            .next()
            .map_or((EntryId::ZERO, ClusterTime(0)), |entry| (entry.header.id(), entry.header.time));
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let members = members.encode(&mut buffer).expect("the buffer holds every configuration");
        let configuration_bytes = u32::try_from(members.len()).expect("it is short");
        let head =
            Head { configuration: entry, configuration_bytes, session_bytes: 10, check: None, terms: Terms::NONE };
        let head = head.encode(&mut [0; HEAD_BYTES_MAX]).to_vec();
        log.write_snapshot(through, time, &[&head, members, &[1; 100]].concat());
    }

    fn compact(&mut self, keep: u64) {
        let log = self.raft.storage_mut();
        let covered = log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        if !self.raft.awaits_restore() {
            self.raft.storage_mut().compact(Index(covered.0.saturating_sub(keep)));
        }
    }

    fn crash(&mut self, survive: usize) {
        let mut log = self.raft.storage().clone();
        log.crash(survive);
        self.raft = start(log, self.config, self.now);
        self.reads.clear();
    }

    fn check(&mut self) {
        let (raft, log) = (&self.raft, self.raft.storage());
        assert!(log.ids().count() <= ENTRIES_MAX, "the log has room for no more");
        assert!(raft.last_applied() <= raft.commit() && raft.commit() <= log.last().index);
        assert!(raft.members().len() <= NODES);
        let _ = (raft.status(), raft.deadline());
        for &read in &self.reads {
            let _ = raft.read_state(read);
        }
        while self.raft.event().is_some() {}
    }
}

/// What is said can be read.
fn encode(message: Message<'_>) {
    let mut buffer = vec![0; message.bytes_max()];
    let length = message.encode(&mut buffer).expect("a message fits its bound");
    let read = Message::decode(&buffer[..length]);
    let read = read.unwrap_or_else(|error| panic!("what was said cannot be read: {error}, {message:?}"));
    assert_eq!((read.from, read.to, read.term), (message.from, message.to, message.term));
}
