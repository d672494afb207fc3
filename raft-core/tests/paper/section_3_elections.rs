//! Dissertation, sections 3.3, 3.4, 3.6.1 and 3.9: terms, elections, and their timing.

use raft_core::client::protocol::RoleName;
use raft_core::message::{Body, ProposeError, Round};
use raft_core::raft::StepError;
use raft_core::types::{Index, Instant, Term};

use crate::harness::{Cluster, HEARTBEAT, Lone, Said, TIMEOUT, at};

/// 3.3: "Raft ensures that there is at most one leader in a given term."
#[test]
fn section_3_3_one_leader_in_a_term() {
    let mut node = Lone::of(3);
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    let second = node.append(3, 2, at(1, 1), &[], 0);
    assert!(matches!(second, Err(StepError::SecondLeader { .. })));
    let mut cluster = Cluster::of(5);
    let mut led = std::collections::BTreeMap::new();
    for _ in 0..5 {
        let leader = cluster.elect();
        let term = cluster.node(leader).term();
        assert_eq!(*led.entry(term).or_insert(leader), leader);
        cluster.cut.clear();
        cluster.isolate(leader);
        cluster.pass(3 * TIMEOUT);
    }
    assert!(led.len() > 2);
}

/// 3.3: "current terms are exchanged whenever servers communicate; if one server's current term is smaller
/// than the other's, then it updates its current term to the larger value."
#[test]
fn section_3_3_terms_spread() {
    let mut node = Lone::of(3);
    node.append(2, 7, at(1, 1), &[], 0).unwrap();
    assert_eq!(node.raft.term(), Term(7));
}

/// 3.3: "if a server receives a request with a stale term number, it rejects the request", and tells
/// the later term.
#[test]
fn section_3_3_stale_requests_are_rejected() {
    let mut node = Lone::with_log(3, &[5]);
    node.append(3, 4, at(1, 1), &[4], 0).unwrap();
    node.step(3, 4, Body::Vote { last: at(9, 9), transfer: false }).unwrap();
    assert!(!node.said(3).contains(&Said::VoteReply(true)));
    assert_eq!(node.log(), [at(1, 1), at(5, 2)]);
}

/// 3.4: "when servers start up, they begin as followers."
#[test]
fn section_3_4_servers_start_as_followers() {
    let mut node = Lone::of(3);
    assert_eq!(node.role(), RoleName::Follower);
    node.lead();
    node.restart();
    assert_eq!(node.role(), RoleName::Follower);
}

/// 3.4: "a server remains in follower state as long as it receives valid RPCs from a leader or candidate."
#[test]
fn section_3_4_followers_stay_while_they_hear_a_leader() {
    let mut node = Lone::of(3);
    for beat in 1..200 {
        node.tick(Instant(beat * HEARTBEAT));
        node.append(2, 2, at(1, 1), &[], 0).unwrap();
        assert_eq!(node.role(), RoleName::Follower);
    }
}

/// 3.4: "to begin an election, a follower increments its current term and transitions to candidate
/// state"; with pre-vote (9.6), only once a majority would vote for it.
#[test]
fn section_3_4_an_election_begins_a_term() {
    let mut node = Lone::of(3);
    node.time_out();
    assert_eq!(node.raft.term(), Term(1), "it has only asked");
    node.said(2);
    node.step(2, 2, Body::PreVoteReply { granted: true }).unwrap();
    assert_eq!((node.role(), node.raft.term()), (RoleName::Candidate, Term(2)));
}

/// 3.4: "each server will vote for at most one candidate in a given term, on a first-come-first-served
/// basis".
#[test]
fn section_3_4_first_come_first_served() {
    let mut node = Lone::of(5);
    let granted: Vec<bool> = (2..=5).map(|candidate| node.ask_vote(candidate, 2, at(1, 1))).collect();
    assert_eq!(granted, [true, false, false, false]);
}

/// 3.4: "while waiting for votes … if the leader's term is at least as large as the candidate's current
/// term, then the candidate recognizes the leader as legitimate"; if it "is smaller, then the candidate
/// rejects the RPC and continues in candidate state".
#[test]
fn section_3_4_candidates_recognize_leaders_of_their_term_or_later() {
    for (term, role) in [(1, RoleName::Candidate), (2, RoleName::Follower), (3, RoleName::Follower)] {
        let mut node = Lone::of(3);
        node.campaign();
        node.append(2, term, at(1, 1), &[], 0).unwrap();
        assert_eq!(node.role(), role, "a leader of term {term}");
    }
}

/// 3.4: "the third possible outcome is that a candidate neither wins nor loses": it times out and starts
/// anew.
#[test]
fn section_3_4_a_split_vote_is_followed_by_another_election() {
    let mut node = Lone::of(4);
    node.campaign();
    node.save();
    (2..=4).for_each(|other| drop(node.said(other)));
    node.step(2, 2, Body::VoteReply { granted: true }).unwrap();
    node.step(3, 2, Body::VoteReply { granted: false }).unwrap();
    node.step(4, 2, Body::VoteReply { granted: false }).unwrap();
    assert_eq!(node.role(), RoleName::Candidate);
    node.time_out();
    assert_eq!(node.role(), RoleName::PreCandidate);
}

/// 3.4: "election timeouts are chosen randomly from a fixed interval"; here from the shortest to twice that.
#[test]
fn section_3_4_timeouts_are_spread_over_an_interval() {
    let mut node = Lone::of(3);
    let mut seen = std::collections::BTreeSet::new();
    for beat in 1..200 {
        node.tick(Instant(beat));
        // Each term draws its own timeout.
        node.append(2, beat + 1, at(1, 1), &[], 0).unwrap();
        let timeout = node.raft.deadline().since(node.now).0;
        assert!((TIMEOUT..=2 * TIMEOUT).contains(&timeout), "{timeout}");
        seen.insert(timeout);
    }
    assert!(seen.len() > 50, "{} different timeouts", seen.len());
}

/// 3.4: a leader emerges although all begin at the same moment.
#[test]
fn section_3_4_randomness_breaks_ties() {
    let mut cluster = Cluster::of(5);
    let leader = cluster.elect();
    assert_eq!(cluster.nodes.iter().filter(|node| node.role() == RoleName::Leader).count(), 1);
    assert!(cluster.nodes.iter().all(|node| node.leader().map(|id| id.get()) == Some(leader)));
}

/// 3.6.1: "Raft uses the voting process to prevent a candidate from winning an election unless its log
/// contains all committed entries."
#[test]
fn section_3_6_1_who_lacks_a_committed_entry_cannot_win() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    let behind = leader % 3 + 1;
    cluster.isolate(behind);
    let entry = cluster.propose(leader).unwrap();
    cluster.settle();
    assert!(cluster.node(leader).commit() >= entry.index);
    cluster.cut.clear();
    cluster.isolate(leader);
    let next = cluster.elect_after(leader);
    assert_ne!(next, behind);
}

/// 3.6.1: "if the logs have last entries with different terms, then the log with the later term is more
/// up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn section_3_6_1_logs_are_compared_by_last_term_then_length() {
    for terms in [&[2, 2, 2][..], &[2], &[2, 3], &[5]] {
        let own = at(*terms.last().unwrap(), terms.len() as u64 + 1);
        for term in 1..=6 {
            for index in 1..=6 {
                let mut node = Lone::with_log(3, terms);
                node.tick(node.raft.deadline());
                let last = at(term, index);
                assert_eq!(node.ask_vote(3, 9, last), (term, index) >= (own.term.0, own.index.0), "{last} and {own}");
            }
        }
    }
}

/// 3.8: "servers must persist … their current term and vote", so that no server votes twice in a term.
#[test]
fn section_3_8_a_restart_does_not_give_the_vote_back() {
    let mut node = Lone::of(3);
    assert!(node.ask_vote(2, 2, at(1, 1)));
    node.restart();
    assert!(!node.ask_vote(3, 2, at(1, 1)));
    assert!(node.ask_vote(2, 2, at(1, 1)));
}

/// 3.8: "each server also persists new log entries before they are counted towards commitment".
#[test]
fn section_3_8_entries_count_when_they_are_durable() {
    let mut node = Lone::of(3);
    node.lead();
    node.raft.storage_mut().deferred = true;
    let entry = node.propose().unwrap();
    node.save();
    node.acknowledge(2, entry.index.0);
    assert_eq!(node.raft.commit(), Index(2), "the leader's own copy is not durable, and one follower's is");
    node.raft.storage_mut().complete();
    node.save();
    assert_eq!(node.raft.commit(), entry.index);
}

/// 3.8: "if a server crashes … its state machine may be rebuilt by reapplying log entries": the commit index
/// is learned again.
#[test]
fn section_3_8_a_restarted_server_applies_again() {
    let mut node = Lone::with_log(3, &[2, 2]);
    node.append(2, 2, at(2, 3), &[], 3).unwrap();
    node.raft.applied(Index(3)).later();
    node.restart();
    assert_eq!(node.raft.last_applied(), Index(0));
    node.append(2, 2, at(2, 3), &[], 3).unwrap();
    assert_eq!(node.raft.ready().apply(), Some(Index(1)..=Index(3)));
}

/// 3.9: "leaders should be heard much more often than election timeouts pass".
#[test]
fn section_3_9_settings_that_cannot_elect_a_leader_are_refused() {
    use raft_core::raft::config::{Config, ConfigError};
    let config = Config { election_timeout: raft_core::types::Millis(100), ..Config::default() };
    let slow = Config { heartbeat_interval: raft_core::types::Millis(50), ..config };
    assert!(matches!(slow.check(), Err(ConfigError::ElectionTimeout { .. })));
}

/// 3.10: "the prior leader stops accepting new client requests; … fully updates the target server's log; …
/// sends a TimeoutNow request. … if leadership transfer does not complete after about an election timeout,
/// the prior leader aborts the transfer and resumes accepting client requests."
#[test]
fn section_3_10_leadership_is_handed_over() {
    let mut node = Lone::of(3);
    node.lead();
    node.acknowledge(2, 2);
    node.acknowledge(3, 2);
    let entry = node.propose().unwrap();
    node.save();
    node.raft.transfer(node.now, Some(crate::harness::id(2))).unwrap().later();
    assert!(matches!(node.propose(), Err(ProposeError::Transferring { .. })));
    let said = node.said(2);
    assert!(!said.contains(&Said::Campaign), "it lacks entry {entry}: {said:?}");
    let reply = Body::AppendReply { round: Round(1), matched: entry.index, rejected: None };
    node.step(2, 2, reply).unwrap();
    assert!(node.said(2).contains(&Said::Campaign));
    let end = node.now.0 + TIMEOUT;
    while node.now.0 < end {
        let next = node.raft.deadline().min(Instant(end));
        node.tick(next);
        node.acknowledge(3, entry.index.0);
    }
    assert!(node.propose().is_ok(), "nobody took over in time");
}

/// 3.10: the target "starts a new election" at once, and its votes are granted though the leader is heard.
#[test]
fn section_3_10_the_target_campaigns_and_wins_at_once() {
    let mut cluster = Cluster::of(3);
    let old = cluster.elect();
    let new = old % 3 + 1;
    let now = cluster.now;
    cluster.node(old).transfer(now, Some(crate::harness::id(new))).unwrap().later();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(new), "without any time having passed");
    assert_eq!(cluster.node(old).role(), RoleName::Follower);
}
