//! Snapshots made and restored as a replica does it, and disks that crash, are wiped or go back.

use raft_core::configuration::{self, CONFIGURATION_BYTES_MAX};
use raft_core::message::{Body, Message};
use raft_core::snapshot::{self, Head, Terms, Which};
use raft_core::storage::{SnapshotId, Storage};
use raft_core::types::{EntryId, Index, Instant};
use raft_core::wire::Bytes;

use crate::common::DeferredLog;
use crate::world::{Node, State, World};

impl World {
    /// A snapshot of what is applied: the words of the operations are the state. Most scripts leave out which terms its
    /// log has, so that their parts stay short.
    pub(crate) fn snapshot(&mut self, node: u64, with_terms: bool) {
        let this = self.node(node);
        let mut state = this.machine.join(" ").into_bytes();
        let raft = this.raft();
        let applied = raft.last_applied();
        let (witness, arrives) = (raft.is_witness(), raft.receives_snapshot());
        let Some(entry) = raft.applied_configuration().filter(|_| !arrives) else {
            return self.say(format!("{node} cannot make a snapshot now"));
        };
        if witness {
            state.clear();
        }
        let log = raft.storage_mut();
        let of_snapshot = snapshot::open(log, Which::Latest).map_or(Terms::NONE, |(head, _)| head.terms);
        let through = EntryId::new(log.term(applied).unwrap(), applied);
        let terms = if with_terms { Terms::of(log, through, of_snapshot) } else { Terms::NONE };
        let configuration = match entry.index > log.base().index {
            true => configuration::load(log, entry.index).unwrap(),
            false => snapshot::open(log, Which::Latest).unwrap().1,
        };
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let payload = configuration.encode(&mut buffer).unwrap();
        let head = Head {
            configuration: entry,
            configuration_bytes: payload.len() as u32,
            session_bytes: 0,
            check: None,
            terms,
        };
        let bytes = [head.encode(&mut [0; snapshot::HEAD_BYTES_MAX]), payload, &state].concat();
        let header = log.read(applied, applied, 1 << 10).unwrap().iter().next().unwrap().header;
        log.write_snapshot(header.id(), header.time, &bytes);
        log.flush().unwrap();
        let line = format!("{node} makes snapshot {} of {} bytes, members by {entry}", header.id(), bytes.len());
        self.say(line);
        self.settle(node);
    }

    pub(crate) fn compact(&mut self, node: u64, through: Option<u64>) {
        let log = self.node(node).raft().storage_mut();
        let covered = log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.through.index);
        log.compact(through.map_or(covered, Index));
        log.flush().unwrap();
        let base = log.base();
        self.say(format!("{node} has a log behind {base}"));
        self.settle(node);
    }

    /// Makes the machine anew from the snapshot, if that is asked for.
    pub(crate) fn restore(&mut self, node: u64) {
        let raft = self.node(node).raft();
        let Some(snapshot) = raft.ready().restore() else { return };
        let log = raft.storage_mut();
        let (head, configuration) = snapshot::open(log, Which::Latest).unwrap();
        let bytes = log.read_snapshot(head.state_at(), 1 << 16).unwrap();
        let words: Vec<String> = String::from_utf8_lossy(bytes).split_whitespace().map(str::to_owned).collect();
        raft.restored().later();
        let (shown, members) = (words.join(" "), crate::describe::members(&configuration));
        self.node(node).machine = words;
        let state = if shown.is_empty() { "nothing".to_owned() } else { shown };
        self.say(format!("{node} restores {}: {state}; members {members}", snapshot.through));
    }

    /// Changes the last byte of the first snapshot part on a link.
    pub(crate) fn damage(&mut self, link: &str) {
        let queue = self.link(link);
        let at = queue.iter().position(|bytes| matches!(Message::decode(bytes).unwrap().body, Body::Snapshot { .. }));
        let bytes = &mut queue[at.expect("a part of a snapshot is under way")];
        let mut message = Message::decode(bytes).unwrap();
        let Body::Snapshot { data, .. } = &mut message.body else { unreachable!("it was found as one") };
        let mut changed = data.0.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        *data = Bytes(&changed);
        let mut buffer = vec![0; message.bytes_max()];
        let length = message.encode(&mut buffer).unwrap();
        buffer.truncate(length);
        *bytes = buffer;
    }

    pub(crate) fn crash(&mut self, node: u64, survive: usize) {
        let this = self.node(node);
        let mut log = this.raft().storage().clone();
        let lost = log.unsaved().saturating_sub(survive);
        log.crash(survive);
        log.deferred = false;
        this.state = State::Down(log);
        this.reads.clear();
        this.machine.clear();
        this.shown.clear();
        this.members = EntryId::ZERO;
        self.say(format!("{node} loses {lost} unsaved changes"));
    }

    /// The disk of a node that is down.
    fn disk(&mut self, node: u64) -> &mut DeferredLog {
        match &mut self.node(node).state {
            State::Down(log) => log,
            State::Up(_) => panic!("the node is up"),
        }
    }

    pub(crate) fn copy(&mut self, node: u64) {
        let mut log = self.node(node).raft().storage().clone();
        log.crash(0);
        self.copies.insert(node, log);
    }

    pub(crate) fn roll_back(&mut self, node: u64) {
        *self.disk(node) = self.copies[&node].clone();
    }

    pub(crate) fn wipe(&mut self, node: u64) {
        *self.disk(node) = DeferredLog::blank();
    }

    pub(crate) fn restart(&mut self, node: u64, suspect: Option<Index>) {
        let mut log = self.disk(node).clone();
        log.suspect = suspect.or(log.suspect);
        let this = self.node(node);
        this.starts += 1;
        let (starts, now) = (this.starts, this.now);
        self.node(node).state = self.start(node, log, starts, now);
        self.settle(node);
    }

    /// A node that nobody knows yet.
    pub(crate) fn join(&mut self, node: u64) {
        let now = Instant(1000 * node);
        let state = self.start(node, DeferredLog::blank(), 0, now);
        self.nodes.insert(node, Node::new(state, now));
        self.settle(node);
    }

    /// The snapshot that is being sent, for messages.
    pub(crate) fn part(snapshot: SnapshotId, offset: u64, data: &[u8]) -> String {
        let (through, whole) = (snapshot.through, snapshot.bytes);
        format!("Snapshot {through}, bytes {offset}..{} of {whole}", offset + data.len() as u64)
    }
}
