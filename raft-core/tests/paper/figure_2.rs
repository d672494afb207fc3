//! Figure 2 of the Raft paper, box by box.

use raft_core::client::protocol::RoleName;
use raft_core::message::{Body, Round};
use raft_core::storage::{HardState, Storage};
use raft_core::types::{Index, NodeId, Term};

use crate::harness::{Cluster, HEARTBEAT, Lone, Said, at, commit_all, id};

/// "Persistent state": term, vote and log are on stable storage before an RPC is answered.
#[test]
fn persistent_state_is_saved_before_an_answer() {
    let mut node = Lone::of(3);
    node.raft.storage_mut().deferred = true;
    node.step(2, 5, Body::Vote { last: at(1, 1), transfer: false }).unwrap();
    node.save();
    assert_eq!(node.said(2), [], "the vote is not durable");
    node.raft.storage_mut().complete();
    node.save();
    assert_eq!(node.said(2), [Said::VoteReply(true)]);
    node.append(2, 5, at(1, 1), &[5], 0).unwrap();
    node.save();
    assert_eq!(node.said(2), [Said::AppendReply { matched: 1, rejected: None }], "the entry is not durable");
    node.raft.storage_mut().complete();
    node.save();
    assert_eq!(node.said(2), [Said::AppendReply { matched: 2, rejected: None }]);
}

/// "currentTerm", "votedFor", "log[]" survive a restart.
#[test]
fn persistent_state_survives_a_restart() {
    let mut node = Lone::with_log(3, &[2, 3]);
    node.tick(node.raft.deadline());
    assert!(node.ask_vote(3, 4, at(3, 3)));
    node.restart();
    assert_eq!(node.raft.term(), Term(4));
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(3, 3)]);
    assert!(!node.ask_vote(2, 4, at(3, 3)), "it has voted for another in that term");
}

/// "commitIndex … initialized to 0, increases monotonically". Here entry 1 is committed from the start,
/// since every member begins with it.
#[test]
fn the_commit_index_starts_low_and_never_goes_back() {
    let mut node = Lone::with_log(3, &[2, 2, 2]);
    assert_eq!(node.raft.commit(), Index(1));
    node.append(2, 2, at(2, 4), &[], 3).unwrap();
    assert_eq!(node.raft.commit(), Index(3));
    node.append(2, 2, at(2, 4), &[], 2).unwrap();
    assert_eq!(node.raft.commit(), Index(3));
    node.restart();
    assert_eq!(node.raft.commit(), Index(1), "it is volatile");
}

/// "nextIndex[] … initialized to leader last log index + 1"; "matchIndex[] … initialized to 0":
/// the state before the term's first entry, which is then sent.
#[test]
fn a_leader_begins_with_what_follows_its_last_entry() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.lead();
    for follower in node.raft.status().followers {
        assert_eq!((follower.matched, follower.next), (Index(0), Index(4)));
    }
    let said = node.said(2);
    assert_eq!(said, [Said::Append { previous: at(2, 3), entries: vec![at(3, 4)], commit: 1, round: 1 }]);
}

/// AppendEntries, receiver 1: "reply false if term < currentTerm".
#[test]
fn append_entries_1_an_earlier_term_is_refused() {
    let mut node = Lone::with_log(3, &[3]);
    node.append(3, 2, at(1, 1), &[2], 2).unwrap();
    node.save();
    assert_eq!(node.log(), [at(1, 1), at(3, 2)]);
    assert_eq!(node.said(3), [Said::AppendReply { matched: 0, rejected: None }], "in the later term");
    assert_eq!((node.raft.term(), node.raft.commit()), (Term(3), Index(1)));
}

/// AppendEntries, receiver 2: "reply false if log doesn't contain an entry at prevLogIndex whose term
/// matches prevLogTerm".
#[test]
fn append_entries_2_a_gap_or_another_term_before_is_refused() {
    for previous in [at(2, 4), at(2, 3), at(3, 2)] {
        let mut node = Lone::with_log(3, &[2]);
        node.append(2, 3, previous, &[3], 9).unwrap();
        node.save();
        assert_eq!(node.log(), [at(1, 1), at(2, 2)], "nothing is appended behind {previous}");
        let said = node.said(2);
        assert!(
            matches!(said[..], [Said::AppendReply { matched: 0, rejected: Some(it) }] if it.previous == previous.index)
        );
        assert_eq!(node.raft.commit(), Index(1));
    }
}

/// AppendEntries, receiver 3: "if an existing entry conflicts with a new one (same index but different
/// terms), delete the existing entry and all that follow it".
#[test]
fn append_entries_3_a_conflict_deletes_the_entry_and_all_behind_it() {
    let mut node = Lone::with_log(3, &[2, 2, 2]);
    node.append(3, 3, at(2, 2), &[3], 0).unwrap();
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(3, 3)]);
}

/// … and only then: what agrees stays, also behind the entries of the message.
#[test]
fn append_entries_3_without_a_conflict_nothing_is_deleted() {
    let mut node = Lone::with_log(3, &[2, 2, 2]);
    node.append(2, 2, at(1, 1), &[2], 0).unwrap();
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(2, 3), at(2, 4)]);
}

/// AppendEntries, receiver 4: "append any new entries not already in the log".
#[test]
fn append_entries_4_what_is_missing_is_appended_once() {
    let mut node = Lone::with_log(3, &[2]);
    for _ in 0..2 {
        node.append(2, 2, at(1, 1), &[2, 2, 2], 0).unwrap();
        assert_eq!(node.log(), [at(1, 1), at(2, 2), at(2, 3), at(2, 4)]);
    }
}

/// AppendEntries, receiver 5: "if leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index
/// of last new entry)".
#[test]
fn append_entries_5_commits_no_further_than_what_is_known_to_match() {
    for (commit, terms, expected) in [(2, &[3][..], 2), (9, &[3], 2), (9, &[3, 3], 3), (1, &[3], 1), (9, &[], 1)] {
        let mut node = Lone::with_log(3, &[2, 2, 2]);
        node.append(2, 3, at(1, 1), terms, commit).unwrap();
        assert_eq!(node.raft.commit(), Index(expected), "leader's commit {commit}, entries {terms:?}");
    }
}

/// RequestVote, receiver 1: "reply false if term < currentTerm".
#[test]
fn request_vote_1_an_earlier_term_is_refused() {
    let mut node = Lone::with_log(3, &[3]);
    node.tick(node.raft.deadline());
    node.save();
    node.said(3);
    let stale = Body::Vote { last: at(3, 9), transfer: false };
    node.step(3, 2, stale).unwrap();
    assert_eq!(node.said(3).first(), Some(&Said::VoteReply(false)), "it is told, and so learns of the term");
    assert_eq!(node.raft.storage().hard_state().term, Term(3));
}

/// RequestVote, receiver 2: "if votedFor is null or candidateId, and candidate's log is at least as
/// up-to-date as receiver's log, grant vote".
#[test]
fn request_vote_2_one_vote_in_a_term_repeated_to_the_same_candidate() {
    let mut node = Lone::of(5);
    assert!(node.ask_vote(2, 2, at(1, 1)));
    assert!(!node.ask_vote(3, 2, at(1, 1)));
    assert!(node.ask_vote(2, 2, at(1, 1)), "the answer may have been lost");
    assert!(node.ask_vote(3, 3, at(1, 1)), "a new term, a new vote");
}

#[test]
fn request_vote_2_the_log_must_be_at_least_as_up_to_date() {
    for (last, granted) in [(at(2, 3), true), (at(2, 4), true), (at(2, 2), false), (at(1, 9), false), (at(3, 2), true)]
    {
        let mut node = Lone::with_log(3, &[2, 2]);
        node.tick(node.raft.deadline());
        assert_eq!(node.ask_vote(3, 7, last), granted, "a log that ends with {last}");
    }
}

/// All servers: "if commitIndex > lastApplied: increment lastApplied, apply". Here also only what is
/// durable on this node.
#[test]
fn all_servers_apply_what_is_committed_in_order() {
    let mut node = Lone::with_log(3, &[2, 2, 2]);
    assert_eq!(node.raft.ready().apply(), Some(Index(1)..=Index(1)));
    node.append(2, 2, at(2, 4), &[], 3).unwrap();
    assert_eq!(node.raft.ready().apply(), Some(Index(1)..=Index(3)));
    node.raft.applied(Index(2)).later();
    assert_eq!(node.raft.ready().apply(), Some(Index(3)..=Index(3)));
    node.raft.storage_mut().deferred = true;
    node.append(2, 2, at(2, 4), &[2], 5).unwrap();
    node.save();
    assert_eq!(node.raft.commit(), Index(5));
    assert_eq!(node.raft.ready().apply(), Some(Index(3)..=Index(4)), "entry 5 is not durable here");
}

/// All servers: "if RPC request or response contains term T > currentTerm: set currentTerm = T, convert
/// to follower". Pre-votes and their granting name a term that may never come, and change nothing.
#[test]
fn all_servers_a_later_term_makes_a_follower_of_everybody() {
    let bodies = [
        Body::VoteReply { granted: false },
        Body::AppendReply { round: Round(0), matched: Index(0), rejected: None },
        Body::PreVoteReply { granted: false },
        Body::Vote { last: at(9, 9), transfer: true },
    ];
    for body in bodies {
        let (mut leader, mut candidate) = (Lone::of(3), Lone::of(3));
        leader.lead();
        candidate.campaign();
        for node in [&mut leader, &mut candidate] {
            node.step(2, 9, body).unwrap();
            assert_eq!((node.role(), node.raft.term()), (RoleName::Follower, Term(9)), "{body:?}");
        }
    }
    let mut node = Lone::of(3);
    node.lead();
    node.step(2, 9, Body::PreVote { last: at(9, 9) }).unwrap();
    node.step(2, 9, Body::PreVoteReply { granted: true }).unwrap();
    assert_eq!((node.role(), node.raft.term()), (RoleName::Leader, Term(2)));
}

/// Followers: "respond to RPCs from candidates and leaders"; they send nothing of their own.
#[test]
fn followers_are_passive() {
    let mut node = Lone::of(3);
    assert_eq!(node.said(2), []);
    node.append(2, 2, at(1, 1), &[2], 0).unwrap();
    node.save();
    assert!(matches!(node.said(2)[..], [Said::AppendReply { .. }]));
    assert_eq!((node.said(2), node.said(3)), (vec![], vec![]), "and each is answered once");
}

/// Followers: "if election timeout elapses without receiving AppendEntries RPC from current leader or
/// granting vote to candidate: convert to candidate". Here they ask first whether they would win.
#[test]
fn followers_campaign_when_nobody_was_heard() {
    let mut node = Lone::of(3);
    let begin = node.raft.deadline();
    node.tick(raft_core::types::Instant(begin.0 - 1));
    assert_eq!(node.role(), RoleName::Follower);
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    assert!(node.raft.deadline() > begin, "a leader was heard");
    let heard = node.raft.deadline();
    node.tick(raft_core::types::Instant(heard.0 - 1));
    assert!(node.ask_vote(3, 3, at(1, 1)));
    assert!(node.raft.deadline() > heard, "a vote was granted");
    node.time_out();
    assert_eq!(node.role(), RoleName::PreCandidate);
}

/// Candidates: "on conversion to candidate, start election: increment currentTerm, vote for self, reset
/// election timer, send RequestVote RPCs to all other servers".
#[test]
fn candidates_begin_a_term_with_their_own_vote() {
    let mut node = Lone::of(3);
    node.campaign();
    let hard_state = HardState { term: Term(2), vote: NodeId::new(1) };
    assert_eq!(node.raft.storage().hard_state(), hard_state);
    assert!(node.raft.deadline() > node.now);
    assert_eq!(node.said(2), [], "the vote is not durable yet");
    node.save();
    for other in [2, 3] {
        assert_eq!(node.said(other), [Said::Vote(at(1, 1))]);
        assert_eq!(node.said(other), [], "once");
    }
}

/// Candidates: "if votes received from majority of servers: become leader".
#[test]
fn candidates_win_with_a_majority() {
    for (members, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut node = Lone::of(members);
        node.campaign();
        node.save();
        (2..=members).for_each(|other| drop(node.said(other)));
        for voter in 0..needed {
            assert_eq!(node.role(), RoleName::Candidate, "{voter} votes of {members} members");
            node.step(voter + 2, 2, Body::VoteReply { granted: true }).unwrap();
        }
        assert_eq!(node.role(), RoleName::Leader, "{members} members");
    }
}

/// Candidates: "if AppendEntries RPC received from new leader: convert to follower".
#[test]
fn candidates_give_way_to_a_leader_of_their_term() {
    let mut node = Lone::of(3);
    node.campaign();
    node.append(2, 2, at(1, 1), &[2], 0).unwrap();
    assert_eq!((node.role(), node.raft.leader()), (RoleName::Follower, Some(id(2))));
}

/// Candidates: "if election timeout elapses: start new election".
#[test]
fn candidates_begin_anew_when_nobody_wins() {
    let mut node = Lone::of(3);
    node.campaign();
    node.save();
    node.time_out();
    assert_eq!((node.role(), node.raft.term()), (RoleName::PreCandidate, Term(2)), "it asks first");
    assert_eq!(node.said(2), [Said::PreVote(at(1, 1))]);
}

/// Leaders: "upon election: send initial empty AppendEntries RPCs (heartbeat) to each server; repeat
/// during idle periods to prevent election timeouts". The first one has the entry of the term.
#[test]
fn leaders_are_heard_at_once_and_again_and_again() {
    let mut node = Lone::of(3);
    node.lead();
    assert!(node.said(2).iter().all(|said| matches!(said, Said::Append { .. })));
    commit_all(&mut node);
    node.said(2);
    assert_eq!(node.said(2), []);
    for _ in 0..3 {
        assert!(node.raft.deadline().since(node.now).0 <= HEARTBEAT);
        node.time_out();
        assert!(matches!(&node.said(2)[..], [Said::Append { entries, .. }] if entries.is_empty()));
        node.acknowledge(3, 2);
    }
}

/// Leaders: "if command received from client: append entry to local log, respond after entry applied to
/// state machine".
#[test]
fn leaders_append_what_clients_ask_for() {
    let mut node = Lone::of(3);
    node.lead();
    assert_eq!(node.propose(), Ok(at(2, 3)));
    assert_eq!(node.log(), [at(1, 1), at(2, 2), at(2, 3)]);
    assert_eq!(node.raft.ready().apply(), Some(Index(1)..=Index(1)), "it is not committed yet");
    node.save();
    commit_all(&mut node);
    assert_eq!(node.raft.ready().apply(), Some(Index(1)..=Index(3)));
}

/// Leaders: "if last log index ≥ nextIndex for a follower: send AppendEntries RPC with log entries
/// starting at nextIndex; if successful: update nextIndex and matchIndex".
#[test]
fn leaders_send_what_a_follower_lacks_and_note_what_it_has() {
    let mut node = Lone::of(3);
    node.lead();
    node.acknowledge(2, 2);
    node.said(2);
    node.propose().unwrap();
    node.propose().unwrap();
    let said = node.said(2);
    assert!(
        matches!(&said[..], [Said::Append { previous, entries, .. }]
        if *previous == at(2, 2) && *entries == [at(2, 3), at(2, 4)]),
        "{said:?}"
    );
    node.acknowledge(2, 4);
    let followers = node.raft.status().followers;
    assert_eq!((followers[0].matched, followers[0].next), (Index(4), Index(5)));
}

/// Leaders: "if AppendEntries fails because of log inconsistency: decrement nextIndex and retry".
#[test]
fn leaders_go_back_until_the_logs_agree() {
    let mut cluster = Cluster::of(3);
    let old = cluster.elect();
    cluster.isolate(old);
    cluster.propose_some(old, 5);
    let new = cluster.elect_after(old);
    cluster.propose_some(new, 3);
    cluster.settle();
    cluster.cut.clear();
    cluster.pass(500);
    let log: Vec<_> = cluster.node(new).storage().ids().collect();
    assert_eq!(cluster.node(old).storage().ids().collect::<Vec<_>>(), log);
}

/// Leaders: "if there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and
/// log[N].term == currentTerm: set commitIndex = N".
#[test]
fn leaders_commit_what_a_majority_has_of_their_own_term() {
    let mut node = Lone::with_log(5, &[2, 3]);
    node.lead();
    node.acknowledge(2, 3);
    node.acknowledge(3, 3);
    assert_eq!(node.raft.commit(), Index(1), "entry 3 is of an earlier term");
    node.acknowledge(2, 4);
    assert_eq!(node.raft.commit(), Index(1), "two of five have entry 4");
    node.acknowledge(3, 4);
    assert_eq!(node.raft.commit(), Index(4));
}
