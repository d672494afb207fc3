//! A snapshot whose content is arbitrary, sent in parts of any length in any order, some of them of other snapshots or
//! with lengths that lie, until all of it has been sent in order. It is installed as a whole and restored, or refused
//! and nothing is left of it; nothing panics, and a draft takes no more memory than its limit.
//!
//! What is restored is written back as the same bytes: head, configuration, session table, state. And whoever has
//! installed it can start with it.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, voters};
use raft_core::crc::crc32c;
use raft_core::machine::Sink;
use raft_core::message::{Body, Message, Round};
use raft_core::raft::config::Config;
use raft_core::replica::{PollError, Replica, StartError};
use raft_core::session::memory::HeapMemory;
use raft_core::session::operation::Operation;
use raft_core::session::table::SessionTable;
use raft_core::snapshot::{HEAD_BYTES_MAX, Head, Terms};
use raft_core::storage::{SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Instant, NodeId, Nonce, Sequence, SessionId, Term};
use raft_core::wire::Bytes;
use raft_fuzz::state::{State, Told};

#[path = "../../raft-core/tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests of the core need more of it")]
mod common;

use common::DeferredLog;
use common::parts::Link;

const DRAFT_BYTES_MAX: usize = 4 << 10;
const THROUGH: EntryId = EntryId { term: Term(3), index: Index(90) };
/// A session table with more memory than that has no room here.
const SESSIONS_MAX: u32 = 64;

#[derive(Debug, Arbitrary)]
struct Transfer {
    changes: Vec<Change>,
    /// Whether the checksum of the session table is made right again.
    repairs: bool,
    parts: Vec<Part>,
    in_order: u8,
}

#[derive(Debug, Arbitrary)]
enum Change {
    Byte { at: u16, new: u8 },
    Cut { at: u16 },
    Insert { at: u16, bytes: Vec<u8> },
    State(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Part {
    offset: u16,
    length: u16,
    round: u8,
    lie: Option<Lie>,
}

/// What is not as in the snapshot that is sent.
#[derive(Debug, Arbitrary)]
enum Lie {
    Through(u8),
    Bytes(u64),
    Shorter(u8),
    Checksum(u32),
    Offset(u64),
}

type Node = Replica<DeferredLog, Link, State, HeapMemory, 5>;

struct Written(Vec<u8>);

impl Sink for Written {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("it is not 0")
}

fn configuration() -> Configuration {
    let configuration = voters(ClusterId(1), 3).expect("they can vote");
    let limits =
        raft_core::session::limits::SessionLimits { sessions: 4, window: 3, answer_bytes: 5, ..configuration.limits() };
    Configuration::new(ClusterId(1), limits, configuration.members().iter().cloned()).expect("they can vote")
}

fn memory() -> HeapMemory {
    let limits = configuration().limits();
    let roomy = raft_core::session::limits::SessionLimits { sessions: SESSIONS_MAX, ..limits };
    HeapMemory::new(&roomy, 100).expect("there is memory for it")
}

/// The content of a true snapshot: two sessions with answers, kept and too long, and one that keeps the order.
static TRUE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (configuration, mut state) = (configuration(), State::default());
    let mut table = SessionTable::new(configuration.limits(), memory()).expect("there is memory for it");
    let session = |index| SessionId(index);
    let command = |session, sequence, command: &'static [u8]| Operation::Command {
        session,
        sequence: Sequence(sequence),
        acknowledge: Sequence(1),
        command: Bytes(command),
    };
    let operations = [
        Operation::Open { nonce: Nonce(5), fifo: false },
        Operation::Open { nonce: Nonce(6), fifo: true },
        command(session(2), 1, b"one"),
        command(session(2), 3, b"too long to keep"),
        command(session(3), 1, b"a"),
        command(session(3), 2, b""),
        Operation::Open { nonce: Nonce(7), fifo: false },
    ];
    for (index, operation) in (2..).zip(operations) {
        table.advance(ClusterTime(index * 3));
        let _ = table.apply(Index(index), operation, &mut state);
    }
    let mut sessions = Written(Vec::new());
    table.encode(&mut sessions);
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let members = configuration.encode(&mut buffer).expect("the buffer holds every configuration");
    let head = Head {
        configuration: EntryId::new(Term(1), Index(1)),
        configuration_bytes: u32::try_from(members.len()).expect("it is short"),
        session_bytes: sessions.0.len() as u64,
        check: None,
        terms: Terms::NONE,
    };
    [head.encode(&mut [0; HEAD_BYTES_MAX]), members, &sessions.0, &state.0].concat()
});

impl Transfer {
    fn content(&self) -> Vec<u8> {
        let mut bytes = TRUE.clone();
        for change in self.changes.iter().take(20) {
            let place = |at: u16| usize::from(at) % (bytes.len() + 1);
            match change {
                Change::Byte { at, new } => {
                    let at = place(*at);
                    bytes.get_mut(at).into_iter().for_each(|byte| *byte = *new);
                }
                Change::Cut { at } => bytes.truncate(place(*at)),
                Change::Insert { at, bytes: new } => {
                    let at = place(*at);
                    bytes.splice(at..at, new.iter().copied());
                }
                Change::State(new) => bytes.extend_from_slice(new),
            }
        }
        if self.repairs {
            repair(&mut bytes);
        }
        bytes
    }
}

/// Makes the checksum of the session table right.
fn repair(bytes: &mut [u8]) {
    let Ok(head) = Head::decode(bytes) else { return };
    let (Ok(start), Ok(end)) = (usize::try_from(head.sessions_at()), usize::try_from(head.state_at())) else { return };
    let Some((content, checksum)) = bytes.get_mut(start..end).and_then(<[u8]>::split_last_chunk_mut) else { return };
    *checksum = crc32c(0, content).to_le_bytes();
}

fn config() -> Config {
    Config { seed: 1, ..Config::default() }
}

/// `None` if the cluster's limits ask for more sessions than there is memory for: they are a liar's then.
fn started(log: DeferredLog) -> Option<Node> {
    match Replica::new(node(1), config(), log, Link::default(), State::default(), memory(), Instant(0)) {
        Ok(replica) => Some(replica),
        Err(StartError::Capacity(_)) => None,
        Err(error) => panic!("what was installed cannot be started with: {error}"),
    }
}

/// Sends the bytes from `offset` on, as if they were such a part of `snapshot`.
fn send(replica: &mut Node, snapshot: SnapshotId, offset: u64, round: u64, data: &[u8]) {
    let body = Body::Snapshot { snapshot, offset, round: Round(round), data: Bytes(data) };
    let message = Message { from: node(2), to: node(1), term: Term(4), body };
    let mut bytes = vec![0; message.bytes_max()];
    let length = message.encode(&mut bytes).expect("a message fits its bound");
    bytes.truncate(length);
    replica.transport_mut().arrived.push_back(bytes);
}

fuzz_target!(|transfer: Transfer| {
    let content = transfer.content();
    check_head(&content);
    let (bytes, checksum) = (content.len() as u64, crc32c(0, &content));
    let id = SnapshotId { through: THROUGH, time: ClusterTime(300), bytes, checksum };
    let mut log = DeferredLog::new(&configuration());
    log.draft_bytes_max = DRAFT_BYTES_MAX;
    let (mut replica, mut told) = (started(log).expect("its limits are true"), Told::default());
    for part in transfer.parts.iter().take(40) {
        mislead(&mut replica, id, &content, part);
        if replica.poll(&|| Instant(1), &mut told).is_err() {
            return; // A lie was taken in, of which nothing could be restored.
        }
    }
    let step = usize::from(transfer.in_order).max(content.len() / 50).max(1);
    for (number, data) in content.chunks(step).enumerate() {
        send(&mut replica, id, (number * step) as u64, 300, data);
    }
    let outcome = replica.poll(&|| Instant(1), &mut told);
    let installed = replica.raft().storage().snapshot();
    match outcome {
        Ok(_) if installed == Some(id) => {
            assert!(told.restored > 0);
            check_restored(&replica, &content);
            restart(&replica, &content);
        }
        Ok(_) => assert!(
            installed.is_some() || replica.raft().storage().last().index == Index(1),
            "what is not installed has changed nothing"
        ),
        Err(error) => {
            assert!(
                matches!(error, PollError::Snapshot(_) | PollError::Sessions(_) | PollError::Machine(_)),
                "{error}"
            );
        }
    }
});

fn mislead(replica: &mut Node, id: SnapshotId, content: &[u8], part: &Part) {
    let start = usize::from(part.offset) % (content.len() + 1);
    let data = &content[start..content.len().min(start + usize::from(part.length))];
    let (mut snapshot, mut offset) = (id, start as u64);
    match part.lie {
        None => {}
        Some(Lie::Through(index)) => snapshot.through.index = Index(index.into()),
        Some(Lie::Bytes(bytes)) => snapshot.bytes = bytes,
        Some(Lie::Shorter(by)) => {
            snapshot.bytes = id.bytes.saturating_sub(by.into());
            let length = usize::try_from(snapshot.bytes).expect("it is short");
            snapshot.checksum = crc32c(0, &content[..length]);
        }
        Some(Lie::Checksum(checksum)) => snapshot.checksum = checksum,
        Some(Lie::Offset(lie)) => offset = lie,
    }
    send(replica, snapshot, offset, part.round.into(), data);
}

/// Head and configuration are written back as the same bytes, or the same configuration at least: there is more than
/// one way to write a number.
fn check_head(content: &[u8]) {
    let Ok(head) = Head::decode(content) else { return };
    let mut buffer = [0; HEAD_BYTES_MAX];
    let encoded = head.encode(&mut buffer);
    assert_eq!(encoded, &content[..encoded.len()]);
    let end = encoded.len() + head.configuration_bytes as usize;
    let members = content.get(encoded.len()..end).unwrap_or_default();
    if let Ok(configuration) = Configuration::decode(members) {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let encoded = configuration.encode(&mut buffer).expect("the buffer holds every configuration");
        assert_eq!(Configuration::decode(encoded), Ok(configuration));
    }
}

/// Sessions and state are those of the snapshot.
fn check_restored(replica: &Node, content: &[u8]) {
    let head = Head::decode(content).expect("it was installed");
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
    let (sessions_at, state_at) = (place(head.sessions_at()), place(head.state_at()));
    if sessions_at == content.len() {
        return; // As a witness is sent it, who needs no more.
    }
    let mut sessions = Written(Vec::new());
    replica.sessions().encode(&mut sessions);
    assert_eq!(sessions.0, content[sessions_at..state_at]);
    assert_eq!(replica.machine().0, content[state_at..]);
}

fn restart(replica: &Node, content: &[u8]) {
    let mut log = replica.raft().storage().clone();
    log.crash(0);
    let (Some(mut replica), mut told) = (started(log), Told::default()) else { return };
    replica.poll(&|| Instant(2), &mut told).expect("it was restored before");
    assert_eq!(told.restored, 1);
    check_restored(&replica, content);
}
