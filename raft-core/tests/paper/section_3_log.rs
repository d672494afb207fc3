//! Dissertation, sections 3.5 to 3.7: replicating the log, and safety.

use std::collections::BTreeSet;

use raft_core::message::{Body, ProposeError, Round};
use raft_core::raft::StepError;
use raft_core::storage::Storage;
use raft_core::types::Index;

use crate::harness::{Cluster, Lone, Said, TIMEOUT, at, id};

/// 3.3: "the leader handles all client requests (if a client contacts a follower, the follower redirects it to the
/// leader)".
#[test]
fn section_3_5_followers_name_the_leader() {
    let mut node = Lone::of(3);
    assert_eq!(node.propose(), Err(ProposeError::NotLeader { leader: None }));
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    assert_eq!(node.propose(), Err(ProposeError::NotLeader { leader: Some(id(2)) }));
}

/// 3.5: "the leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each
/// of the other servers", here also beside its own write.
#[test]
fn section_3_5_entries_go_to_all_followers_before_the_leader_has_saved_them() {
    let mut node = Lone::of(3);
    node.lead();
    node.acknowledge(2, 2);
    node.acknowledge(3, 2);
    node.raft.storage_mut().deferred = true;
    let entry = node.propose().unwrap();
    for follower in [2, 3] {
        let said = node.said(follower);
        assert!(said.iter().any(|it| matches!(it, Said::Append { entries, .. } if entries.contains(&entry))));
    }
}

/// 3.5: "if followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs
/// indefinitely … until all followers eventually store all log entries".
#[test]
fn section_3_5_lost_entries_are_sent_again() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    let follower = leader % 3 + 1;
    cluster.isolate(follower);
    cluster.propose_some(leader, 20);
    cluster.pass(20 * TIMEOUT);
    cluster.cut.clear();
    cluster.pass(5 * TIMEOUT);
    let last = cluster.node(leader).storage().last();
    assert_eq!(cluster.node(follower).storage().last(), last);
}

/// 3.5: "a log entry is committed once the leader that created the entry has replicated it on a majority"; "this also
/// commits all preceding entries".
#[test]
fn section_3_5_a_majority_commits_an_entry_and_all_before_it() {
    for members in 1..=7 {
        let mut node = Lone::of(members);
        node.lead();
        node.propose_some(3);
        node.save();
        for follower in 2..=members {
            let before = follower - 1;
            let committed = before > members / 2;
            assert_eq!(node.raft.commit() == Index(5), committed, "{before} of {members} have it");
            node.acknowledge(follower, 5);
        }
        assert_eq!(node.raft.commit(), Index(5));
    }
}

/// 3.5: "the leader keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs"; "once a follower learns that a log entry is committed, it applies the entry".
#[test]
fn section_3_5_followers_learn_what_is_committed() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    let entry = cluster.propose(leader).unwrap();
    cluster.settle();
    for node in 1..=3 {
        assert!(cluster.node(node).commit() >= entry.index, "without a heartbeat");
        assert_eq!(cluster.applied[node as usize - 1].last(), Some(&entry));
    }
}

/// 3.5, Log Matching: "if two entries in different logs have the same index and term, then they store the same
/// command", and "the logs are identical in all preceding entries".
#[test]
fn section_3_5_logs_that_agree_on_an_entry_agree_before_it() {
    let mut cluster = Cluster::of(5);
    for turn in 0..6 {
        let leader = cluster.elect();
        cluster.propose_some(leader, 3);
        if turn % 2 == 0 {
            cluster.isolate(leader);
            cluster.propose_some(leader, 2);
            cluster.pass(4 * TIMEOUT);
            cluster.cut.clear();
        }
        let logs: Vec<Vec<_>> = cluster.nodes.iter().map(|node| node.storage().ids().collect()).collect();
        for one in &logs {
            for other in &logs {
                let agree = one.iter().zip(other).rposition(|(mine, theirs)| mine == theirs).map_or(0, |it| it + 1);
                assert_eq!(one[..agree], other[..agree]);
            }
        }
    }
}

/// 3.5: "if the follower does not find an entry in its log with the same index and term, then it refuses the new
/// entries".
#[test]
fn section_3_5_the_consistency_check() {
    let mut node = Lone::with_log(3, &[2, 2]);
    for (previous, taken) in [(at(2, 3), true), (at(2, 2), true), (at(3, 3), false), (at(2, 4), false)] {
        let mut fresh = Lone::with_log(3, &[2, 2]);
        fresh.append(2, 3, previous, &[3], 0).unwrap();
        assert_eq!(fresh.log().contains(&at(3, previous.index.0 + 1)), taken, "behind {previous}");
    }
    node.append(2, 3, at(2, 9), &[], 0).unwrap();
    assert_eq!(node.log().len(), 3);
}

/// 3.5: "conflicting entries in follower logs will be overwritten with entries from the leader's log" (the six
/// followers of figure 3.6).
#[test]
fn section_3_5_every_kind_of_follower_is_brought_in_line() {
    let leader: &[u64] = &[1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 4],
        &[1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 4, 4, 4, 4],
        &[1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for terms in followers {
        let (mut lead, mut follower) = (Lone::with_log(3, leader), Lone::with_log(3, terms));
        let higher = follower.raft.term().0.max(8);
        lead.step(3, higher, Body::VoteReply { granted: false }).unwrap();
        lead.lead();
        let (term, last) = (lead.raft.term().0, lead.raft.storage().last());
        for _ in 0..20 {
            for said in lead.said(2) {
                let Said::Append { previous, entries, commit, .. } = said else { panic!("{said:?}") };
                let terms: Vec<u64> = entries.iter().map(|entry| entry.term.0).collect();
                follower.append(2, term, previous, &terms, commit).unwrap();
                follower.save();
            }
            for said in follower.said(2) {
                let Said::AppendReply { matched, rejected } = said else { panic!("{said:?}") };
                let reply = Body::AppendReply { round: Round(1), matched: Index(matched), rejected, counts: true };
                lead.step(2, term, reply).unwrap();
            }
        }
        assert_eq!(follower.log(), lead.log(), "a follower with {terms:?}");
        assert_eq!(follower.raft.storage().last(), last);
    }
}

/// 3.5: "until the leader has discovered where it and the follower's logs match, the leader can send AppendEntries with
/// no entries … to save bandwidth". Here a probe has entries, but there is one at a time: until it is answered, or a
/// heartbeat is due, nothing more is sent; from the answer on, entries flow.
#[test]
fn section_3_5_one_probe_at_a_time_until_the_logs_match() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.lead();
    node.propose_some(2);
    let first = node.said(2);
    assert!(matches!(&first[..], [Said::Append { entries, .. }] if entries.len() == 3), "{first:?}");
    node.propose_some(2);
    assert_eq!(node.said(2), [], "the first one is not answered");
    node.time_out();
    let again = node.said(2);
    assert!(matches!(&again[..], [Said::Append { entries, .. }] if entries.is_empty()), "a heartbeat: {again:?}");
    node.acknowledge(2, 6);
    let rest = node.said(2);
    assert!(matches!(&rest[..], [Said::Append { entries, .. }] if *entries == [at(3, 7), at(3, 8)]), "{rest:?}");
    for _ in 0..3 {
        let entry = node.propose().unwrap();
        let said = node.said(2);
        assert!(matches!(&said[..], [Said::Append { entries, .. }] if *entries == [entry]), "{said:?}");
    }
}

/// 3.5: "a leader creates at most one entry with a given log index in a given term", whatever it has to refuse in
/// between, and however often it is elected.
#[test]
fn section_3_5_one_entry_for_an_index_in_a_term() {
    let (mut node, mut made) = (Lone::of(3), Vec::new());
    for _ in 0..3 {
        node.lead();
        made.push(node.raft.storage().last());
        for room in [4, 4, 2, 4] {
            let entries = node.log().len();
            node.raft.storage_mut().entries_max = entries + room;
            made.extend(core::iter::from_fn(|| node.propose().ok()));
            assert_eq!(node.log().len(), entries + room, "then there is no room");
        }
        node.raft.storage_mut().entries_max = usize::MAX;
        node.save();
        // The next leader has none of it, and is succeeded by this node again.
        let next = node.raft.term().0 + 1;
        node.append(2, next, at(1, 1), &[next], 0).unwrap();
        node.save();
    }
    let distinct: BTreeSet<(u64, u64)> = made.iter().map(|entry| (entry.term.0, entry.index.0)).collect();
    assert_eq!((made.len(), distinct.len()), (45, 45));
}

/// 3.3: "Raft does not assume the network preserves ordering between RPCs".
#[test]
fn section_3_3_entries_that_overtake_each_other_end_in_order() {
    let mut node = Lone::of(3);
    for first in [3, 2, 1, 4, 3, 2] {
        let previous = if first == 1 { at(1, 1) } else { at(2, first) };
        node.append(2, 2, previous, &[2], first + 1).unwrap();
        let log: Vec<u64> = node.log().iter().map(|entry| entry.index.0).collect();
        assert_eq!(log, (1..=log.len() as u64).collect::<Vec<_>>(), "without a gap");
        assert!(node.raft.commit().0 <= log.len() as u64);
    }
    assert_eq!((node.log().len(), node.raft.commit()), (3, Index(3)), "the third came too early twice");
}

/// 3.5: "a leader never overwrites or deletes entries in its own log" (Leader Append-Only).
#[test]
fn section_3_5_leaders_only_append() {
    let mut node = Lone::with_log(3, &[2, 2, 2]);
    node.lead();
    let before = node.log();
    assert!(node.append(2, 3, at(1, 1), &[3], 0).is_err(), "a second leader in its term");
    node.append(2, 2, at(1, 1), &[2], 0).unwrap();
    assert_eq!(node.log(), before);
}

/// 3.5: a follower can tell more than "no", so that the leader does not go back entry by entry.
#[test]
fn section_3_5_a_refusal_skips_whole_terms() {
    let mut follower = Lone::with_log(3, &[2; 50]);
    follower.append(2, 5, at(5, 60), &[], 0).unwrap();
    follower.save();
    let said = follower.said(2);
    let [Said::AppendReply { rejected: Some(rejection), .. }] = said[..] else { panic!("{said:?}") };
    assert_eq!(rejection.hint, at(2, 51), "its last entry that could match");
}

/// 3.6.2: "Raft never commits log entries from previous terms by counting replicas" (figure 3.7).
#[test]
fn section_3_6_2_entries_of_earlier_terms_are_not_committed_by_counting() {
    let mut node = Lone::with_log(5, &[2]);
    node.lead();
    for follower in 2..=5 {
        node.acknowledge(follower, 2);
    }
    assert_eq!(node.raft.commit(), Index(1), "all five have entry 2");
    node.acknowledge(2, 3);
    node.acknowledge(3, 3);
    assert_eq!(node.raft.commit(), Index(3), "an entry of its own term commits all before it");
}

/// State Machine Safety (figure 3.2, shown in 3.6.3): "if a server has applied a log entry at a given index to its
/// state machine, no other server will ever apply a different log entry for the same index".
#[test]
fn section_3_6_3_all_apply_the_same() {
    let mut cluster = Cluster::of(5);
    let mut leader = cluster.elect();
    for _ in 0..8 {
        cluster.propose_some(leader, 3);
        cluster.settle();
        cluster.isolate(leader);
        cluster.propose_some(leader, 3);
        leader = cluster.elect_after(leader);
        cluster.cut.clear();
        cluster.pass(TIMEOUT);
    }
    for one in &cluster.applied {
        for other in &cluster.applied {
            let length = one.len().min(other.len());
            assert_eq!(one[..length], other[..length]);
        }
    }
    assert!(cluster.applied[0].len() > 20);
}

/// 3.6.3: a committed entry is never contradicted: whoever tries is not believed.
#[test]
fn section_3_6_3_committed_entries_stay() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.append(2, 2, at(2, 3), &[], 3).unwrap();
    let contradiction = node.append(3, 9, at(1, 1), &[9], 0);
    assert!(matches!(contradiction, Err(StepError::ContradictsCommitted { .. })));
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(2, 3)]);
}

/// 3.7: "Raft RPCs have the same effect if repeated".
#[test]
fn section_3_7_repeated_requests_change_nothing() {
    let mut node = Lone::with_log(3, &[2]);
    for _ in 0..3 {
        node.append(2, 2, at(2, 2), &[2, 2], 3).unwrap();
        node.save();
        assert_eq!((node.log().len(), node.raft.commit()), (4, Index(3)));
        let said = node.said(2);
        assert!(said.iter().all(|said| *said == Said::AppendReply { matched: 4, rejected: None }), "{said:?}");
    }
}

/// 3.7: "if a follower or candidate crashes … then future RequestVote and AppendEntries RPCs sent to it will fail. Raft
/// handles these failures by retrying indefinitely": the others go on.
#[test]
fn section_3_7_a_crashed_follower_holds_nobody_up() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    cluster.isolate(leader % 3 + 1);
    for _ in 0..10 {
        let entry = cluster.propose(leader).unwrap();
        cluster.pass(TIMEOUT);
        assert!(cluster.node(leader).commit() >= entry.index);
    }
}

/// 3.7: "if a server crashes after completing an RPC but before responding, then it will receive the same RPC again
/// after it restarts", and answers as it would have.
#[test]
fn section_3_7_a_request_is_answered_after_a_crash_as_it_would_have_been_before() {
    let mut node = Lone::with_log(3, &[2]);
    node.append(2, 2, at(2, 2), &[2, 2], 2).unwrap();
    node.save();
    node.restart();
    assert_eq!(node.said(2), [], "it owes nobody anything");
    node.append(2, 2, at(2, 2), &[2, 2], 2).unwrap();
    node.save();
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(2, 3), at(2, 4)]);
    assert_eq!(node.said(2), [Said::AppendReply { matched: 4, rejected: None }]);
    node.time_out();
    node.step(3, 3, Body::Vote { last: at(2, 4), transfer: false }).unwrap();
    node.save();
    node.restart();
    assert!(node.ask_vote(3, 3, at(2, 4)), "it had voted for that candidate");
    assert!(!node.ask_vote(2, 3, at(2, 4)), "and for no other");
}
