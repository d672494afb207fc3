//! What the paper takes for granted: that nobody sends what cannot be, that a disk keeps what was saved,
//! that all are equally fit to lead. How a node behaves where that is not so.

use raft_core::configuration::{Configuration, Member, Suffrage, voters};
use raft_core::crc::crc32c;
use raft_core::message::{Body, Rejection, Round};
use raft_core::raft::config::Config;
use raft_core::raft::event::{Event, Expulsion, SnapshotRefusal};
use raft_core::raft::{Raft, StepError};
use raft_core::session::limits::SessionLimits;
use raft_core::storage::SnapshotId;
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Instant, Millis, Term};
use raft_core::wire::Bytes;

use crate::harness::{Lone, Said, TIMEOUT, at, commit_all, config, id, records, snapshot_bytes};

/// Whoever makes others take over a term near the last one would end all elections for ever.
#[test]
fn a_term_that_no_cluster_can_have_reached_is_ignored() {
    let mut node = Lone::of(3);
    let ahead = 1 << 40;
    for term in [1 + ahead + 1, u64::MAX] {
        let refused = node.step(2, term, Body::Vote { last: at(9, 9), transfer: false });
        assert_eq!(refused, Err(StepError::TermTooFarAhead { term: Term(term) }));
    }
    assert_eq!(node.raft.term(), Term(1));
    assert!(node.ask_vote(2, 1 + ahead, at(9, 9)));
}

#[test]
fn a_leader_that_contradicts_what_is_committed_ends_the_node() {
    let mut node = Lone::with_log(3, &[1, 1, 1]);
    node.append(2, 1, at(1, 4), &[], 3).unwrap();
    assert_eq!(node.raft.commit(), Index(3));
    let (log, found, commit) = (node.log(), at(2, 3), Index(3));
    let refused = node.append(2, 1, found, &[], 3);
    assert_eq!(refused, Err(StepError::ContradictsCommitted { found, commit }));
    assert_eq!((node.log(), node.raft.expelled()), (log.clone(), None), "that is not durable yet");
    node.save();
    assert_eq!(node.raft.expelled(), Some(Expulsion::Contradicted { found }));
    // It takes in nothing more of that leader's.
    assert_eq!(node.append(2, 1, at(1, 3), &[1], 4), Ok(()));
    assert_eq!(node.log(), log);
    assert!(!node.ask_vote(3, 9, at(9, 9)));
}

/// One change at a time: if two are to be dropped, the first of them was committed when the second was made.
#[test]
fn a_leader_that_would_drop_two_configurations_is_ignored() {
    let mut node = Lone::of(3);
    for (index, members) in [(2, 4), (3, 5)] {
        node.configure(at(1, index - 1), at(1, index), &voters(ClusterId(1), members).unwrap());
    }
    let (log, found) = (node.log(), at(2, 2));
    assert_eq!(node.append(3, 2, at(1, 1), &[2], 1), Err(StepError::DropsConfigurations { found }));
    assert_eq!((node.log(), node.raft.members().len()), (log, 5));
}

#[test]
fn a_vote_for_somebody_else_does_not_lose_sight_of_the_leader() {
    let mut node = Lone::with_log(5, &[1]);
    node.append(2, 2, at(1, 2), &[], 0).unwrap();
    assert!(node.ask_vote(3, 2, at(1, 2)), "it has not voted in this term, and the log is as long");
    assert_eq!(node.raft.leader(), Some(id(2)));
}

/// Who is outranked gives the others a chance to be first.
#[test]
fn who_is_outranked_waits_for_a_leader_for_longer() {
    for (own, others, waits) in [(0, 0, TIMEOUT), (1, 0, TIMEOUT), (0, 1, 2 * TIMEOUT)] {
        let equal = voters(ClusterId(1), 3).unwrap();
        let members = equal.members().iter().cloned().map(|mut member| {
            member.priority = if member.id == id(1) { own } else { others };
            member
        });
        let mut node = Lone::with(Configuration::new(ClusterId(1), equal.limits(), members).unwrap());
        node.append(2, 1, at(1, 1), &[], 1).unwrap();
        let patience = node.raft.deadline().since(Instant(0)).0;
        assert!((waits..waits + TIMEOUT).contains(&patience), "{patience} ms with priority {own} below {others}");
    }
}

/// A log that may have lost what it acknowledged votes for nobody until a later leader has brought it
/// beyond that.
#[test]
fn a_suspect_log_is_trusted_when_it_is_as_long_as_it_was() {
    let mut node = Lone::with_log(3, &[1, 1]);
    let mut log = node.raft.storage().clone();
    log.crash(0);
    log.suspect = Some(Index(5));
    node.raft = Raft::new(id(1), config(2), log, node.now).unwrap();
    node.append(2, 2, at(1, 3), &[2], 0).unwrap();
    node.save();
    assert!(!grants_transfer(&mut node, 3), "entry 5 may be missing");
    assert_eq!(node.raft.storage().trusted, 0);
    node.append(2, 3, at(2, 4), &[3], 0).unwrap();
    node.save();
    assert!(grants_transfer(&mut node, 4));
    assert_eq!(node.raft.storage().trusted, 1, "the storage may forget it");
}

/// Whether it votes for a member to which the leader hands over.
fn grants_transfer(node: &mut Lone, term: u64) -> bool {
    node.step(3, term, Body::Vote { last: at(term, 99), transfer: true }).unwrap();
    node.save();
    node.said(3).contains(&Said::VoteReply(true))
}

/// Whoever is told that it was removed, or has forgotten what it acknowledged, believes it only where its
/// own log does not know better.
#[test]
fn a_node_is_expelled_only_for_what_its_log_does_not_disprove() {
    let forgot = |acknowledged| Expulsion::Forgot { acknowledged, added: Index(1) };
    let removed = |by| Expulsion::Removed { by };
    let told = |reason| {
        let mut node = Lone::with_log(3, &[1, 1, 1]);
        node.append(2, 1, at(1, 4), &[], 2).unwrap();
        expelled_by(&mut node, reason) == Some(reason)
    };
    assert!(told(forgot(at(1, 5))), "it is not in the log");
    assert!(!told(forgot(at(1, 4))), "it is in the log");
    assert!(!told(forgot(at(9, 2))), "what is committed was not forgotten");
    assert!(told(removed(at(1, 5))), "by a change it does not know yet");
    assert!(!told(removed(at(1, 1))), "it is a member by that very configuration");
    let mut left_out = Lone::of(3);
    let without = voters(ClusterId(1), 3).unwrap();
    let others = without.members().iter().filter(|member| member.id != id(1)).cloned();
    let without = Configuration::new(ClusterId(1), without.limits(), others).unwrap();
    left_out.configure(at(1, 1), at(1, 2), &without);
    assert_eq!(expelled_by(&mut left_out, removed(at(1, 1))), None, "that configuration is not the latest");
    assert_eq!(expelled_by(&mut left_out, removed(at(1, 2))), Some(removed(at(1, 2))));
}

/// What it is expelled for when member 2 has said so, no leader was heard for an election timeout, and all is durable.
fn expelled_by(node: &mut Lone, reason: Expulsion) -> Option<Expulsion> {
    node.step(2, 1, Body::Expelled { reason }).unwrap();
    let deadline = node.raft.deadline();
    node.raft.tick(deadline).later();
    node.save();
    node.raft.expelled()
}

/// Snapshots are made less often while one is sent: but only for somebody who takes it.
#[test]
fn a_snapshot_is_being_sent_as_long_as_the_follower_answers() {
    let mut node = Lone::of(3);
    node.lead();
    node.propose_some(3);
    node.save();
    node.acknowledge(2, 5);
    node.compact(5);
    assert!(!node.raft.sends_snapshot(), "nobody needs it yet");
    let nothing = Some(Rejection { previous: Index(1), hint: EntryId::ZERO });
    let reply = Body::AppendReply { round: Round(1), matched: Index(0), rejected: nothing, counts: true };
    node.step(3, 2, reply).unwrap();
    node.said(3);
    assert!(node.raft.sends_snapshot());
    let heard = node.now;
    node.tick(heard.after(Millis(TIMEOUT - 1)));
    assert!(node.raft.sends_snapshot());
    node.tick(heard.after(Millis(TIMEOUT)));
    assert!(!node.raft.sends_snapshot(), "the follower has been silent");
}

/// The one that was being sent is gone with the newer one: not a part of that is sent under its name, and
/// the link is not left idle for want of it.
#[test]
fn a_newer_snapshot_is_begun_with_the_very_next_message() {
    let mut node = Lone::of(3);
    node.lead();
    node.propose_some(4);
    node.save();
    let part = |node: &mut Lone| match node.raft.ready().message(id(3), 20).unwrap().map(|message| message.body) {
        Some(Body::Snapshot { snapshot, offset, data, .. }) => Some((snapshot.through, offset, data.0.len())),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    node.acknowledge(2, 5);
    node.compact(5);
    let nothing = Some(Rejection { previous: Index(1), hint: EntryId::ZERO });
    let reply = Body::AppendReply { round: Round(1), matched: Index(0), rejected: nothing, counts: true };
    node.step(3, 2, reply).unwrap();
    assert_eq!(part(&mut node), Some((at(2, 5), 0, 20)));
    assert_eq!(part(&mut node), Some((at(2, 5), 20, 20)));
    node.acknowledge(2, 6);
    node.compact(6);
    assert_eq!(part(&mut node), Some((at(2, 6), 0, 20)));
    assert_eq!(part(&mut node), Some((at(2, 6), 20, 20)));
}

/// A program is built for so many members; a snapshot that has more is no use to it, and costs it nothing that it has.
#[test]
fn a_snapshot_of_more_members_than_the_program_was_built_for_is_refused() {
    let reason = SnapshotRefusal::TooManyMembers;
    for (members, taken) in [(8, true), (9, false)] {
        let mut node = Lone::with_log(3, &[1, 1]);
        let bytes = snapshot_bytes(at(2, 4), &voters(ClusterId(1), members).unwrap());
        let (through, checksum) = (at(2, 9), crc32c(0, &bytes));
        let snapshot = SnapshotId { through, time: ClusterTime(0), bytes: bytes.len() as u64, checksum };
        let body = Body::Snapshot { snapshot, offset: 0, round: Round(1), data: Bytes(&bytes) };
        let outcome = node.step(2, 2, body);
        let refused = core::iter::from_fn(|| node.raft.event())
            .any(|(_, event)| event == Event::SnapshotRefused { through, reason });
        assert_eq!(refused, !taken);
        if taken {
            assert_eq!((outcome, node.raft.members().len()), (Ok(()), 8));
        } else {
            assert_eq!(outcome, Err(StepError::Snapshot { through, reason }));
            assert_eq!((node.log(), node.raft.members().len()), (vec![at(1, 1), at(1, 2), at(1, 3)], 3));
            node.save();
            assert_eq!(node.said(2), [Said::Other], "its leader is told that nothing of it is there");
        }
    }
}

/// So much goes out to a follower until it answers, and not one message, entry or byte more.
#[test]
fn a_window_is_as_wide_as_it_is_said_to_be() {
    let record = records(at(1, 1), &[2]).len() as u64;
    let unlimited = Config { inflight_entries_max: 1000, inflight_bytes_max: 1 << 20, ..config(1) };
    let cases = [
        ("messages", unlimited, 32),
        ("entries", Config { inflight_entries_max: 7, ..unlimited }, 7),
        ("bytes", Config { inflight_bytes_max: 7 * record, ..unlimited }, 7),
        ("bytes, of which one is left", Config { inflight_bytes_max: 7 * record + 1, ..unlimited }, 8),
    ];
    for (limit, config, most) in cases {
        let mut node = Lone::set(config, &voters(ClusterId(1), 3).unwrap());
        node.lead();
        commit_all(&mut node);
        node.said(2);
        let send = |node: &mut Lone| {
            let entry = node.propose().unwrap();
            let said = node.said(2);
            said.iter().any(|said| matches!(said, Said::Append { entries, .. } if entries.contains(&entry)))
        };
        let sent = (0..40).take_while(|_| send(&mut node)).count();
        assert_eq!(sent, most, "{limit}");
        node.acknowledge(2, 3);
        let said = node.said(2);
        let entries: usize =
            said.iter().map(|said| if let Said::Append { entries, .. } = said { entries.len() } else { 0 }).sum();
        assert_eq!(entries, 1, "{limit}: one was acknowledged, so one follows");
    }
}

#[test]
fn a_witness_knows_that_it_is_one() {
    let members = [Suffrage::Witness, Suffrage::Voter, Suffrage::Voter];
    let members = (1..).zip(members).map(|(node, suffrage)| Member::new(id(node), suffrage, "").unwrap());
    let node = Lone::with(Configuration::new(ClusterId(1), SessionLimits::default(), members).unwrap());
    assert!(node.raft.is_witness() && !Lone::of(3).raft.is_witness());
}

/// A disk that owes nothing is not stalled, though it is not heard of again.
#[test]
fn a_disk_stalls_only_while_something_is_not_durable() {
    let mut node = Lone::of(1);
    node.lead();
    let stalls = |node: &mut Lone| {
        node.tick(node.now.after(config(1).disk_stall_max));
        core::iter::from_fn(|| node.raft.event()).any(|(_, event)| matches!(event, Event::DiskStalled { .. }))
    };
    node.propose().unwrap();
    node.save();
    assert!(!stalls(&mut node));
    node.propose().unwrap();
    assert!(stalls(&mut node));
}
