//! Figure 2 of the Raft paper, box by box.

use std::collections::BTreeSet;

use raft_core::client::protocol::RoleName;
use raft_core::entry::Records;
use raft_core::message::{Body, ForwardTicket, ProposeError, ReadTicket, Rejection, Round};
use raft_core::raft::event::Expulsion;
use raft_core::session::operation::Operation;
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterTime, Index, Instant, NodeId, Term};
use raft_core::wire::Bytes;

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

/// "lastApplied … initialized to 0, increases monotonically".
#[test]
fn last_applied_starts_at_0_and_grows_with_what_is_applied() {
    let mut node = Lone::with_log(3, &[2, 2]);
    assert_eq!(node.raft.last_applied(), Index(0));
    node.append(2, 2, at(2, 3), &[], 3).unwrap();
    assert_eq!(node.raft.last_applied(), Index(0), "it is for the program to say");
    for applied in [1, 3, 3] {
        node.raft.applied(Index(applied)).later();
        assert_eq!(node.raft.last_applied(), Index(applied));
    }
    node.append(2, 2, at(2, 3), &[2], 4).unwrap();
    node.append(3, 3, at(2, 3), &[], 3).unwrap();
    assert_eq!(node.raft.last_applied(), Index(3));
}

/// … and whoever takes it back has applied something twice.
#[test]
#[should_panic(expected = "applied entries are not applied again")]
fn last_applied_never_goes_back() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.append(2, 2, at(2, 3), &[], 3).unwrap();
    node.raft.applied(Index(3)).later();
    node.raft.applied(Index(2)).later();
}

/// … or takes it beyond the commit index, has applied what may still be dropped.
#[test]
#[should_panic(expected = "entries are applied once they are committed and durable")]
fn last_applied_never_goes_beyond_what_is_committed() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.append(2, 2, at(2, 3), &[], 2).unwrap();
    node.raft.applied(Index(3)).later();
}

/// "matchIndex[] … increases monotonically", in whatever order answers arrive.
#[test]
fn the_match_index_never_goes_back() {
    let mut node = Lone::of(3);
    node.lead();
    node.propose_some(2);
    for (acknowledged, matched) in [(2, 2), (4, 4), (3, 4), (0, 4), (4, 4)] {
        node.acknowledge(2, acknowledged);
        assert_eq!(node.raft.status().followers[0].matched, Index(matched), "after {acknowledged}");
    }
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
    type Begin = fn(&mut Lone);
    let begins: [Begin; 4] = [|_| {}, Lone::time_out, Lone::campaign, Lone::lead];
    let roles = [RoleName::Follower, RoleName::PreCandidate, RoleName::Candidate, RoleName::Leader];
    let mut kinds = BTreeSet::new();
    for body in one_of_each_kind() {
        kinds.insert(kind(&body));
        for (begin, role) in begins.into_iter().zip(roles) {
            let mut node = Lone::of(3);
            begin(&mut node);
            assert_eq!(node.role(), role);
            let term = node.raft.term();
            node.step(2, 9, body).unwrap();
            let stays = match body {
                Body::PreVote { .. } | Body::PreVoteReply { granted: true } => true,
                // Dissertation, section 4.2.3: a leader hears itself.
                Body::Vote { transfer: false, .. } => role == RoleName::Leader,
                _ => false,
            };
            let expected = if stays { (role, term) } else { (RoleName::Follower, Term(9)) };
            assert_eq!((node.role(), node.raft.term()), expected, "{role:?} and {body:?}");
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (0..KINDS).collect::<Vec<_>>());
}

/// How many kinds of messages there are.
const KINDS: u32 = 15;

/// The number of a message's kind. What is added to them is added here, and then below.
fn kind(body: &Body<'_>) -> u32 {
    match body {
        Body::PreVote { .. } => 0,
        Body::PreVoteReply { .. } => 1,
        Body::Vote { .. } => 2,
        Body::VoteReply { .. } => 3,
        Body::Append { .. } => 4,
        Body::AppendReply { .. } => 5,
        Body::ReadRequest { .. } => 6,
        Body::ReadReply { .. } => 7,
        Body::Forward { .. } => 8,
        Body::Forwarded { .. } => 9,
        Body::Campaign => 10,
        Body::Expelled { .. } => 11,
        Body::Snapshot { .. } => 12,
        Body::SnapshotReply { .. } => 13,
        Body::Digest { .. } => 14,
    }
}

fn one_of_each_kind() -> Vec<Body<'static>> {
    let (round, ticket) = (Round(0), ReadTicket(1));
    let snapshot = SnapshotId { through: at(9, 9), time: ClusterTime(0), bytes: 100, checksum: 0 };
    let operation = Operation::Plain { command: Bytes(b"x") };
    vec![
        Body::PreVote { last: at(9, 9) },
        Body::PreVoteReply { granted: true },
        Body::PreVoteReply { granted: false },
        Body::Vote { last: at(9, 9), transfer: false },
        Body::Vote { last: at(9, 9), transfer: true },
        Body::Vote { last: at(1, 0), transfer: false },
        Body::VoteReply { granted: true },
        Body::VoteReply { granted: false },
        Body::Append { previous: at(1, 1), commit: Index(1), round, entries: Records::EMPTY },
        Body::AppendReply { round, matched: Index(0), rejected: None, counts: true },
        Body::ReadRequest { ticket },
        Body::ReadReply { ticket, index: Index(1) },
        Body::Forward { ticket: ForwardTicket(1), first: ForwardTicket(1), round: Round(1), secret: None, operation },
        Body::Forwarded { ticket: ForwardTicket(1), outcome: Err(ProposeError::Busy) },
        Body::Campaign,
        Body::Expelled { reason: Expulsion::Removed { by: at(9, 9) } },
        Body::Expelled { reason: Expulsion::Forgot { acknowledged: at(9, 9), added: Index(1) } },
        Body::Snapshot { snapshot, offset: 0, round, data: Bytes(b"part") },
        Body::SnapshotReply { through: at(9, 9), received: 0, round, resend: false, counts: true },
        Body::Digest { check: at(9, 9), digest: 1, by: id(1) },
    ]
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
    node.tick(Instant(begin.0 - 1));
    assert_eq!(node.role(), RoleName::Follower);
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    assert!(node.raft.deadline() > begin, "a leader was heard");
    let heard = node.raft.deadline();
    node.tick(Instant(heard.0 - 1));
    assert!(node.ask_vote(3, 3, at(1, 1)));
    assert!(node.raft.deadline() > heard, "a vote was granted");
    node.time_out();
    assert_eq!(node.role(), RoleName::PreCandidate);
}

/// … and nothing else lets them wait longer: no leader of an earlier term, no second one, no vote that is refused, for
/// whatever reason, and no later term alone.
#[test]
fn followers_wait_no_longer_for_stale_leaders_and_refused_votes() {
    let begin = || {
        let mut node = Lone::with_log(3, &[2, 5]);
        assert!(node.ask_vote(2, 6, at(5, 3)));
        node.append(2, 6, at(5, 3), &[], 0).unwrap();
        let heard = node.raft.deadline();
        node.tick(Instant(heard.0 - 1));
        (node, heard)
    };
    let append = Body::Append { previous: at(5, 3), commit: Index(1), round: Round(9), entries: Records::EMPTY };
    let vote = |last| Body::Vote { last, transfer: false };
    let snapshot = SnapshotId { through: at(5, 9), time: ClusterTime(0), bytes: 100, checksum: 0 };
    let cases = [
        ("a leader of an earlier term", 3, 5, append),
        ("its snapshot", 3, 5, Body::Snapshot { snapshot, offset: 0, round: Round(9), data: Bytes(b"x") }),
        ("a second leader", 3, 6, append),
        ("a candidate of an earlier term", 3, 5, vote(at(5, 9))),
        ("one in whose term it voted for another", 3, 6, vote(at(5, 9))),
        ("one whose log is behind", 3, 7, vote(at(5, 2))),
        ("a question that is no vote", 3, 7, Body::PreVote { last: at(5, 9) }),
        ("a later term", 3, 7, Body::VoteReply { granted: false }),
    ];
    for (what, from, term, body) in cases {
        let (mut node, heard) = begin();
        let second = node.step(from, term, body);
        assert_eq!(second.is_err(), what == "a second leader", "{second:?}");
        assert_eq!(node.raft.deadline(), heard, "it waits longer for {what}");
    }
    let (mut node, heard) = begin();
    node.step(2, 6, append).unwrap();
    assert!(node.raft.deadline() > heard, "and this one it hears");
}

/// Candidates: "on conversion to candidate, start election: increment currentTerm, vote for self, reset
/// election timer, send RequestVote RPCs to all other servers".
#[test]
fn candidates_begin_a_term_with_their_own_vote() {
    let mut node = Lone::of(3);
    node.campaign();
    let hard_state = HardState { term: Term(2), vote: NodeId::new(1), expelled: None };
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
    node.step(3, 3, Body::PreVoteReply { granted: true }).unwrap();
    assert_eq!((node.role(), node.raft.term()), (RoleName::Candidate, Term(3)), "then it increments its term");
    node.save();
    assert_eq!(node.said(2), [Said::Vote(at(1, 1))], "and asks anew");
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

/// … step by step: each refusal takes `nextIndex` back, at least by one, and the next attempt begins there.
#[test]
fn leaders_decrement_the_next_index_and_try_again() {
    let mut node = Lone::with_log(3, &[2, 3, 4, 5]);
    node.lead();
    let next = |node: &Lone| node.raft.status().followers[0].next.0;
    assert_eq!(next(&node), 6);
    // The follower's log has other entries, of the terms before each: 4, 3, 2.
    for (refused, hint, expected) in [(5, at(4, 5), 5), (4, at(3, 4), 4), (3, at(2, 3), 3)] {
        let said = node.said(2);
        assert!(matches!(&said[..], [Said::Append { previous, .. }] if previous.index.0 == refused), "{said:?}");
        let rejected = Some(Rejection { previous: Index(refused), hint });
        node.step(2, 6, Body::AppendReply { round: Round(1), matched: Index(0), rejected, counts: true }).unwrap();
        assert_eq!(next(&node), expected);
    }
    let said = node.said(2);
    assert!(
        matches!(&said[..], [Said::Append { previous, entries, .. }] if *previous == at(2, 2) && entries.len() == 4)
    );
    node.acknowledge(2, 6);
    assert_eq!(next(&node), 7);
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
