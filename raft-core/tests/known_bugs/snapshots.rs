//! What went wrong elsewhere when snapshots were taken in: see [`crate`].

use raft_core::client::protocol::RoleName;
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Member, Suffrage, voters};
use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::message::{Body, Round};
use raft_core::raft::StepError;
use raft_core::raft::event::{Event, Expulsion, SnapshotRefusal};
use raft_core::session::limits::SessionLimits;
use raft_core::snapshot::{HEAD_BYTES_MAX, Head, Terms};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Term};
use raft_core::wire::Bytes;

use crate::{Node, append, bodies, entry, follower, id, records, save, step};

/// A snapshot through `through` whose configuration, by entry `by`, is that.
fn snapshot(through: EntryId, by: EntryId, configuration: &Configuration) -> (SnapshotId, Vec<u8>) {
    snapshot_of(through, by, configuration, Terms::NONE)
}

/// The same, of a log that has those terms.
fn snapshot_of(through: EntryId, by: EntryId, configuration: &Configuration, terms: Terms) -> (SnapshotId, Vec<u8>) {
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let payload = configuration.encode(&mut buffer).unwrap();
    let head =
        Head { configuration: by, configuration_bytes: payload.len() as u32, session_bytes: 0, check: None, terms };
    let bytes = [head.encode(&mut [0; HEAD_BYTES_MAX]), payload, b"state"].concat();
    let checksum = crc32c(0, &bytes);
    (SnapshotId { through, time: ClusterTime(9), bytes: bytes.len() as u64, checksum }, bytes)
}

/// Sends node 1's snapshot, whole, to the node.
fn send(raft: &mut Node, term: u64, snapshot: SnapshotId, bytes: &[u8]) -> Result<(), StepError> {
    step(raft, 1, term, Body::Snapshot { snapshot, offset: 0, round: Round(1), data: Bytes(bytes) })
}

fn of_three(through: EntryId) -> (SnapshotId, Vec<u8>) {
    snapshot(through, entry(1, 1), &voters(ClusterId(1), 3).unwrap())
}

#[test]
fn known_bug_09_a_snapshot_takes_back_neither_term_nor_vote() {
    let mut raft = follower(3);
    step(&mut raft, 1, 5, Body::Vote { last: entry(1, 1), transfer: false }).unwrap();
    save(&mut raft);
    let voted = HardState { term: Term(5), vote: Some(id(1)), expelled: None };
    let (snapshot, bytes) = of_three(entry(4, 7));
    send(&mut raft, 5, snapshot, &bytes).unwrap();
    save(&mut raft);
    assert_eq!(raft.storage().last(), entry(4, 7));
    assert_eq!(raft.storage().hard_state(), voted);
    bodies(&mut raft, 2);
    step(&mut raft, 2, 5, Body::Vote { last: entry(5, 9), transfer: false }).unwrap();
    assert_eq!(bodies(&mut raft, 2), ["VoteReply { granted: false }"], "one vote in a term");
}

#[test]
fn known_bug_60_a_candidate_takes_its_rivals_snapshot_as_a_follower() {
    let mut raft = follower(3);
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    bodies(&mut raft, 1);
    step(&mut raft, 1, 2, Body::PreVoteReply { granted: true }).unwrap();
    save(&mut raft);
    assert_eq!(raft.role(), RoleName::Candidate);
    let (snapshot, bytes) = of_three(entry(1, 7));
    send(&mut raft, 2, snapshot, &bytes).unwrap();
    save(&mut raft);
    assert_eq!((raft.role(), raft.leader()), (RoleName::Follower, Some(id(1))));
    assert_eq!(raft.storage().hard_state().vote, Some(id(3)), "its vote for itself stays given");
    step(&mut raft, 2, 2, Body::VoteReply { granted: true }).unwrap();
    assert_eq!(raft.role(), RoleName::Follower, "a vote for the log that is gone elects nobody");
}

#[test]
fn known_bug_60_a_redundant_snapshot_drops_nothing_that_was_acknowledged() {
    for (through, commit) in [(entry(2, 3), 1), (entry(2, 3), 4), (entry(2, 6), 2)] {
        let mut raft = follower(3);
        step(&mut raft, 1, 2, append(entry(1, 1), commit, 1, &records(1, &[2; 5]))).unwrap();
        save(&mut raft);
        bodies(&mut raft, 1);
        let (snapshot, bytes) = of_three(through);
        send(&mut raft, 2, snapshot, &bytes).unwrap();
        save(&mut raft);
        assert_eq!(raft.storage().last(), entry(2, 6), "{through}");
        assert!(raft.commit() >= Index(commit).max(through.index), "what a snapshot covers is committed");
        assert!(raft.ready().restore().is_none());
    }
}

#[test]
fn known_bug_50_members_of_a_change_that_a_snapshot_replaces_hold_no_more() {
    let mut raft = follower(3);
    let members = [1, 2, 3, 4].map(|node| Member::new(id(node), Suffrage::Voter, "").unwrap());
    let changed = Configuration::new(ClusterId(1), SessionLimits::default(), members).unwrap();
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let payload = changed.encode(&mut buffer).unwrap();
    let header = EntryHeader::new(entry(2, 2), ClusterTime(0), EntryKind::Configuration, &[payload]).unwrap();
    let record = [header.encode().as_slice(), payload].concat();
    step(&mut raft, 1, 2, append(entry(1, 1), 1, 1, &record)).unwrap();
    save(&mut raft);
    assert_eq!((raft.members().len(), raft.configuration_entry()), (4, entry(2, 2)));
    // The leader of term 3 never had that change.
    let (snapshot, bytes) = of_three(entry(3, 5));
    send(&mut raft, 3, snapshot, &bytes).unwrap();
    save(&mut raft);
    assert_eq!((raft.members().len(), raft.configuration_entry()), (3, entry(1, 1)));
    raft.restored().later();
    assert_eq!(raft.applied_configuration(), Some(entry(1, 1)), "nor is it in the next snapshot");
    let log = raft.storage().clone();
    let again = Node::new(id(3), raft_core::raft::config::Config::default(), log, raft.deadline()).unwrap();
    assert_eq!(again.members().len(), 3, "nor after a restart");
}

#[test]
fn known_bug_61_a_snapshot_of_another_cluster_is_refused() {
    let mut raft = follower(3);
    step(&mut raft, 1, 2, append(entry(1, 1), 1, 1, &records(1, &[2]))).unwrap();
    let (snapshot, bytes) = snapshot(entry(2, 9), entry(1, 1), &voters(ClusterId(2), 3).unwrap());
    let refused = StepError::Snapshot { through: entry(2, 9), reason: SnapshotRefusal::Foreign };
    assert_eq!(send(&mut raft, 2, snapshot, &bytes), Err(refused));
    assert_eq!((raft.storage().last(), raft.storage().snapshot()), (entry(2, 2), None));
}

#[test]
fn a_snapshot_that_is_no_snapshot_is_refused_whatever_its_checksum_says() {
    let (good, bytes) = of_three(entry(2, 9));
    let later_members = snapshot(entry(2, 9), entry(2, 10), &voters(ClusterId(1), 3).unwrap());
    let mut foreign_format = bytes.clone();
    foreign_format[4] = 9;
    let checksum = crc32c(0, &foreign_format);
    let cases = [
        (SnapshotId { checksum: good.checksum ^ 1, ..good }, bytes.clone(), SnapshotRefusal::Checksum),
        (SnapshotId { checksum, ..good }, foreign_format, SnapshotRefusal::Invalid),
        (later_members.0, later_members.1, SnapshotRefusal::Invalid),
        (
            SnapshotId { bytes: 20, checksum: crc32c(0, &bytes[..20]), ..good },
            bytes[..20].to_vec(),
            SnapshotRefusal::Invalid,
        ),
    ];
    for (snapshot, bytes, reason) in cases {
        let mut raft = follower(3);
        let refused = StepError::Snapshot { through: entry(2, 9), reason };
        assert_eq!(send(&mut raft, 2, snapshot, &bytes), Err(refused));
        assert_eq!(raft.storage().last(), entry(1, 1));
        send(&mut raft, 2, good, &of_three(entry(2, 9)).1).unwrap();
        assert_eq!(raft.storage().last(), entry(2, 9), "the next one is taken");
    }
}

#[test]
fn a_snapshot_without_room_is_refused_and_the_log_stays() {
    let mut raft = follower(3);
    raft.storage_mut().draft_bytes_max = 10;
    let (snapshot, bytes) = of_three(entry(1, 9));
    let refused = StepError::Snapshot { through: entry(1, 9), reason: SnapshotRefusal::NoSpace };
    assert_eq!(send(&mut raft, 2, snapshot, &bytes), Err(refused));
    assert_eq!(raft.storage().last(), entry(1, 1));
}

#[test]
fn a_draft_is_somebodys_as_long_as_a_snapshot_arrives() {
    let mut raft = follower(3);
    let (snapshot, bytes) = of_three(entry(1, 7));
    let part = |offset: usize, end: usize| Body::Snapshot {
        snapshot,
        offset: offset as u64,
        round: Round(1),
        data: Bytes(&bytes[offset..end]),
    };
    assert!(!raft.receives_snapshot());
    step(&mut raft, 1, 2, part(0, 20)).unwrap();
    assert!(raft.receives_snapshot());
    step(&mut raft, 1, 2, part(10, 30)).unwrap();
    assert_eq!(raft.storage().last(), entry(1, 1), "nothing is installed before all of it is there");
    step(&mut raft, 1, 2, part(30, bytes.len())).unwrap();
    assert!(!raft.receives_snapshot() && raft.awaits_restore());
    assert_eq!(raft.storage().last(), entry(1, 7));
    assert_eq!(raft.ready().restore(), None, "it is not durable");
    save(&mut raft);
    assert_eq!(raft.ready().restore(), Some(snapshot));
    assert_eq!(raft.ready().apply(), None, "what is restored comes first");
    raft.restored().later();
    assert_eq!((raft.last_applied(), raft.awaits_restore()), (Index(7), false));
}

#[test]
fn a_part_that_was_lost_is_asked_for_once_in_each_round() {
    let mut raft = follower(3);
    let (snapshot, bytes) = of_three(entry(2, 7));
    let mut gap = |round| {
        let (data, round) = (Bytes(&bytes[20..30]), Round(round));
        step(&mut raft, 1, 2, Body::Snapshot { snapshot, offset: 20, round, data }).unwrap();
        save(&mut raft);
        let told = bodies(&mut raft, 1);
        assert!(told.len() == 1 && told[0].starts_with("SnapshotReply"), "{told:?}");
        told[0].contains("resend: true")
    };
    assert!(gap(1));
    assert!(!gap(1), "parts that were under way already are no reason to ask again");
    assert!(gap(2), "the question may have been lost, or the answer");
}

/// A draft that nobody sends on would keep the node from making snapshots of its own, and its log would grow without end.
#[test]
fn a_draft_that_is_not_needed_any_more_is_let_go() {
    let begun = || {
        let mut raft = follower(3);
        let (snapshot, bytes) = of_three(entry(1, 4));
        let data = Bytes(&bytes[..20]);
        step(&mut raft, 1, 2, Body::Snapshot { snapshot, offset: 0, round: Round(1), data }).unwrap();
        save(&mut raft);
        assert!(raft.receives_snapshot() && raft.storage().draft_bytes() == 20);
        raft
    };
    let is_let_go = |raft: &Node| !raft.receives_snapshot() && raft.storage().draft_bytes() == 0;

    let mut raft = begun();
    step(&mut raft, 1, 2, append(entry(1, 1), 3, 1, &records(1, &[1, 1, 2]))).unwrap();
    assert!(raft.receives_snapshot(), "an append that was overtaken says nothing of the snapshot");
    step(&mut raft, 1, 2, append(entry(2, 4), 4, 1, &[])).unwrap();
    assert!(is_let_go(&raft), "the log has caught up with it");

    let mut raft = begun();
    step(&mut raft, 2, 3, append(entry(1, 9), 1, 1, &[])).unwrap();
    assert!(raft.receives_snapshot(), "another leader, which does not know yet what it lacks");
    step(&mut raft, 2, 3, append(entry(1, 1), 1, 2, &records(1, &[1]))).unwrap();
    assert!(is_let_go(&raft), "it sends entries instead");

    let mut raft = begun();
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for (term, reply) in [(3, Body::PreVoteReply { granted: true }), (3, Body::VoteReply { granted: true })] {
        bodies(&mut raft, 1);
        step(&mut raft, 1, term, reply).unwrap();
        save(&mut raft);
    }
    assert_eq!(raft.role(), RoleName::Leader);
    assert!(is_let_go(&raft), "a leader is sent none");
}

/// A node whose entries 2 to 4 are of term 2 and committed.
fn with_committed() -> Node {
    let mut raft = follower(3);
    let entries = records(1, &[2, 2, 2]);
    step(&mut raft, 2, 2, append(entry(1, 1), 4, 1, &entries)).unwrap();
    save(&mut raft);
    assert_eq!(raft.commit(), Index(4));
    bodies(&mut raft, 2);
    raft
}

/// It has stopped because of `found`, keeps what it had, and said so.
fn assert_stopped(raft: &mut Node, outcome: Result<(), StepError>, found: EntryId) {
    let commit = Index(4);
    assert_eq!(outcome, Err(StepError::ContradictsCommitted { found, commit }));
    let reason = Expulsion::Contradicted { found };
    assert_eq!(raft.expelled(), None, "that is not durable yet");
    save(raft);
    assert_eq!(raft.expelled(), Some(reason));
    let told = core::iter::from_fn(|| raft.event()).any(|(_, event)| event == Event::Expelled { reason });
    assert!(told, "an event says why");
    assert_eq!((raft.storage().last(), raft.storage().base()), (entry(2, 4), EntryId::ZERO));
    step(raft, 1, 9, Body::Vote { last: entry(9, 9), transfer: false }).unwrap();
    save(raft);
    assert_eq!(bodies(raft, 1), [""; 0], "it answers nobody");
}

/// openraft (#1892): a snapshot whose log has another term where an entry is committed contradicts that.
#[test]
fn a_snapshot_that_contradicts_what_is_committed_ends_the_node() {
    let configuration = voters(ClusterId(1), 3).unwrap();
    for through in [entry(3, 4), entry(3, 3)] {
        let (mut raft, (snapshot, bytes)) = (with_committed(), of_three(through));
        let outcome = send(&mut raft, 5, snapshot, &bytes);
        assert_stopped(&mut raft, outcome, through);
    }
    // One that goes further says so by the terms of its log.
    for (begins, found) in [(&[(3, 4), (2, 2), (1, 1)][..], Some(3)), (&[(3, 5), (2, 2)], None), (&[(3, 5)], None)] {
        let mut terms = Terms::NONE;
        assert!(begins.iter().all(|&(term, index)| terms.push(entry(term, index))));
        let (snapshot, bytes) = snapshot_of(entry(3, 9), entry(1, 1), &configuration, terms);
        let mut raft = with_committed();
        let outcome = send(&mut raft, 5, snapshot, &bytes);
        match found {
            Some(term) => assert_stopped(&mut raft, outcome, entry(term, 4)),
            None => {
                outcome.unwrap();
                assert_eq!(raft.storage().last(), entry(3, 9), "it is the same log, as far as is told");
            }
        }
    }
}

/// Entries in a message that begins before what is held are not needed: but they may contradict it.
#[test]
fn entries_that_contradict_what_is_committed_end_the_node_wherever_they_begin() {
    let mut raft = with_committed();
    let outcome = step(&mut raft, 1, 5, append(entry(1, 1), 4, 1, &records(1, &[3, 3])));
    assert_stopped(&mut raft, outcome, entry(3, 2));
    let mut raft = with_committed();
    let outcome = step(&mut raft, 1, 5, append(entry(3, 4), 4, 1, &[]));
    assert_stopped(&mut raft, outcome, entry(3, 4));

    let mut raft = follower(3);
    let (snapshot, bytes) = of_three(entry(2, 3));
    send(&mut raft, 2, snapshot, &bytes).unwrap();
    save(&mut raft);
    let same = records(1, &[2, 2, 2]);
    step(&mut raft, 1, 2, append(entry(1, 1), 4, 2, &same)).unwrap();
    assert_eq!(raft.expelled(), None);
    let outcome = step(&mut raft, 1, 2, append(entry(1, 1), 4, 3, &records(1, &[1, 1])));
    let found = entry(1, 3);
    assert_eq!(outcome, Err(StepError::ContradictsCommitted { found, commit: Index(3) }));
}
