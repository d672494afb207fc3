//! Dissertation, sections 3.3, 3.4, 3.6.1 and 3.9: terms, elections, and their timing.

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Suffrage, voters};
use raft_core::message::{Body, ProposeError, Round};
use raft_core::raft::event::Expulsion;
use raft_core::raft::{StepError, TransferError};
use raft_core::types::{ClusterId, Index, Instant, Term};

use crate::common::parts::Random;
use crate::harness::{Cluster, HEARTBEAT, Lone, Said, TIMEOUT, add, at, commit_all, id};

/// 3.3: "there is at most one leader in a given term".
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

/// 3.3: "current terms are exchanged whenever servers communicate; if one server's current term is smaller than the
/// other's, then it updates its current term to the larger value."
#[test]
fn section_3_3_terms_spread() {
    let mut node = Lone::of(3);
    node.append(2, 7, at(1, 1), &[], 0).unwrap();
    assert_eq!(node.raft.term(), Term(7));
}

/// 3.3: "if a server receives a request with a stale term number, it rejects the request", and tells the later term.
#[test]
fn section_3_3_stale_requests_are_rejected() {
    let mut node = Lone::with_log(3, &[5]);
    node.append(3, 4, at(1, 1), &[4], 0).unwrap();
    node.step(3, 4, Body::Vote { last: at(9, 9), transfer: false }).unwrap();
    assert!(!node.said(3).contains(&Said::VoteReply(true)));
    assert_eq!(node.log(), [at(1, 1), at(5, 2)]);
}

/// 3.3: "it is the requester's responsibility to retry the RPC if it does not receive a response in a timely manner".
/// Here a candidate asks each member once in an election: who has not answered by its end is asked in the next one, for
/// the pre-vote first.
#[test]
fn section_3_3_who_did_not_answer_is_asked_in_the_next_election() {
    let mut node = Lone::of(3);
    node.campaign();
    node.save();
    assert_eq!(node.said(2), [Said::Vote(at(1, 1))]);
    node.tick(Instant(node.raft.deadline().0 - 1));
    assert_eq!(node.said(2), [], "not again in this election");
    for question in [Said::PreVote(at(1, 1)), Said::PreVote(at(1, 1))] {
        node.time_out();
        assert_eq!(node.said(2), [question]);
    }
    node.step(3, 3, Body::PreVoteReply { granted: true }).unwrap();
    node.save();
    assert_eq!(node.said(2), [Said::Vote(at(1, 1))]);
}

/// … and "servers issue RPCs in parallel": all are asked before anybody has answered.
#[test]
fn section_3_3_all_are_asked_at_once() {
    let mut node = Lone::of(5);
    node.time_out();
    assert!((2..=5).all(|other| node.said(other) == [Said::PreVote(at(1, 1))]));
    node.campaign();
    node.save();
    assert!((2..=5).all(|other| node.said(other).contains(&Said::Vote(at(1, 1)))));
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

/// 3.4: "to begin an election, a follower increments its current term and transitions to candidate state"; with
/// pre-vote (9.6), only once a majority would vote for it.
#[test]
fn section_3_4_an_election_begins_a_term() {
    let mut node = Lone::of(3);
    node.time_out();
    assert_eq!(node.raft.term(), Term(1), "it has only asked");
    node.said(2);
    node.step(2, 2, Body::PreVoteReply { granted: true }).unwrap();
    assert_eq!((node.role(), node.raft.term()), (RoleName::Candidate, Term(2)));
}

/// 3.4: "each server will vote for at most one candidate in a given term, on a first-come-first-served basis".
#[test]
fn section_3_4_first_come_first_served() {
    let mut node = Lone::of(5);
    let granted: Vec<bool> = (2..=5).map(|candidate| node.ask_vote(candidate, 2, at(1, 1))).collect();
    assert_eq!(granted, [true, false, false, false]);
}

/// 3.4: "while waiting for votes, a candidate may receive an AppendEntries RPC … If the leader's term … is at least as
/// large as the candidate's current term, then the candidate recognizes the leader as legitimate"; if it "is smaller
/// than the candidate's current term, then the candidate rejects the RPC and continues in candidate state".
#[test]
fn section_3_4_candidates_recognize_leaders_of_their_term_or_later() {
    for (term, role) in [(1, RoleName::Candidate), (2, RoleName::Follower), (3, RoleName::Follower)] {
        let mut node = Lone::of(3);
        node.campaign();
        node.append(2, term, at(1, 1), &[], 0).unwrap();
        assert_eq!(node.role(), role, "a leader of term {term}");
    }
}

/// 3.4: "once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other
/// servers to establish its authority and prevent new elections."
#[test]
fn section_3_4_a_leader_prevents_new_elections() {
    let mut cluster = Cluster::of(5);
    let leader = cluster.elect();
    let term = cluster.node(leader).term();
    for _ in 0..100 {
        cluster.pass(TIMEOUT);
        assert!(cluster.nodes.iter().all(|node| (node.term(), node.leader()) == (term, Some(id(leader)))));
    }
}

/// 3.4: "the third possible outcome is that a candidate neither wins nor loses": it times out and starts anew.
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

/// 3.4: "each candidate restarts its randomized election timeout at the start of an election": each draws its own.
#[test]
fn section_3_4_each_election_draws_its_timeout_anew() {
    let (mut node, mut seen) = (Lone::of(3), std::collections::BTreeSet::new());
    for election in 1..=50 {
        node.campaign();
        node.save();
        assert_eq!(node.raft.term(), Term(election + 1));
        let timeout = node.raft.deadline().since(node.now).0;
        assert!((TIMEOUT..=2 * TIMEOUT).contains(&timeout), "{timeout}");
        seen.insert(timeout);
    }
    assert!(seen.len() > 20, "{} different timeouts in 50 elections", seen.len());
}

/// 3.4: a leader emerges although all begin at the same moment.
#[test]
fn section_3_4_randomness_breaks_ties() {
    let mut cluster = Cluster::of(5);
    let leader = cluster.elect();
    assert_eq!(cluster.nodes.iter().filter(|node| node.role() == RoleName::Leader).count(), 1);
    assert!(cluster.nodes.iter().all(|node| node.leader().map(|id| id.get()) == Some(leader)));
}

/// 3.6.1: Raft "uses the voting process to prevent a candidate from winning an election unless its log contains all
/// committed entries."
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

/// 3.6.1: "if the logs have last entries with different terms, then the log with the later term is more up-to-date. If
/// the logs end with the same term, then whichever log is longer is more up-to-date."
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

/// 3.8: "each server persists its current term and vote; this is necessary to prevent the server from voting twice in
/// the same term".
#[test]
fn section_3_8_a_restart_does_not_give_the_vote_back() {
    let mut node = Lone::of(3);
    assert!(node.ask_vote(2, 2, at(1, 1)));
    node.restart();
    assert!(!node.ask_vote(3, 2, at(1, 1)));
    assert!(node.ask_vote(2, 2, at(1, 1)));
}

/// 3.8: "each server also persists new log entries before they are counted towards the entries' commitment".
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

/// 3.8: "a volatile state machine must be recovered after restarts by reapplying log entries"; the commit index "can
/// safely be reinitialized to zero on a restart".
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

/// 3.8: "even if every server restarts at the same time, the commit index will only temporarily lag behind its true value".
#[test]
fn section_3_8_what_was_committed_is_so_again_after_all_have_restarted() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    cluster.propose_some(leader, 5);
    cluster.settle();
    let before = cluster.applied.clone();
    for node in 1..=3 {
        cluster.restart(node);
        assert_eq!(cluster.node(node).commit(), Index(1));
    }
    cluster.elect();
    cluster.settle();
    for (now, before) in cluster.applied.iter().zip(before) {
        assert_eq!(now[..before.len()], before);
    }
}

/// 3.8: "if a server loses any of its persistent state, it cannot safely rejoin the cluster with its prior identity".
/// Its leader notices and counts it no more, and it votes for nobody; under a new identity it is "usually … added back
/// into the cluster … by invoking a cluster membership change".
#[test]
fn section_3_8_a_server_that_lost_its_state_comes_back_under_a_new_identity() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    cluster.propose_some(leader, 5);
    cluster.settle();
    let (lost, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.wipe(lost);
    cluster.pass(TIMEOUT / 2);
    assert!(matches!(cluster.node(lost).expelled(), Some(Expulsion::Forgot { .. })));
    cluster.isolate(other);
    let entry = cluster.propose(leader).unwrap();
    cluster.pass(20 * TIMEOUT);
    assert!(cluster.node(leader).commit() < entry.index, "the leader and the wiped one are no majority");
    assert_eq!(cluster.leader().filter(|&it| cluster.node(it).role() == RoleName::Leader), None, "nor elect anybody");
    cluster.cut.clear();
    cluster.pass(10 * TIMEOUT);
    let leader = cluster.leader().unwrap();
    let new = cluster.join();
    cluster.change(leader, &[MemberChange::Remove(id(lost)), add(new, Suffrage::Joining)]);
    cluster.pass(5 * TIMEOUT);
    let mut expected = vec![leader, if leader == other { 6 - leader - lost } else { other }, new];
    expected.sort_unstable();
    assert_eq!(cluster.voters(leader), expected);
}

/// 3.9: "safety must not depend on timing: the system must not produce incorrect results just because some event
/// happens more quickly or slowly than expected." Clocks that run as they like, jump and stand still elect whom they
/// like, or nobody; never two in one term, and nothing that was committed is lost.
#[test]
fn section_3_9_clocks_decide_nothing_but_when() {
    let mut terms = 0;
    for seed in 0..10 {
        let mut led = std::collections::BTreeMap::new();
        let (mut cluster, mut random, mut clocks) = (Cluster::of(5), Random(seed), [0; 5]);
        for _ in 0..300 {
            let node = 1 + random.below(5);
            let clock = &mut clocks[node as usize - 1];
            *clock += [0, 1, TIMEOUT / 2, 100 * TIMEOUT][random.below(4) as usize];
            let now = Instant(*clock);
            cluster.node(node).tick(now).later();
            if random.chance(500) {
                cluster.settle();
            }
            if random.chance(50) {
                cluster.cut.clear();
                cluster.isolate(1 + random.below(5));
            }
            for node in 1..=5 {
                if cluster.node(node).role() == RoleName::Leader {
                    let term = cluster.node(node).term();
                    assert_eq!(*led.entry(term).or_insert(node), node, "two leaders of term {term}");
                    cluster.propose_some(node, 1);
                }
            }
            for (one, other) in cluster.applied.iter().flat_map(|one| cluster.applied.iter().map(move |it| (one, it))) {
                let length = one.len().min(other.len());
                assert_eq!(one[..length], other[..length]);
            }
        }
        terms += led.len();
    }
    assert!(terms > 100, "{terms} terms had a leader");
}

/// 3.9: "the broadcast time should be an order of magnitude less than the election timeout so that leaders can reliably
/// send the heartbeat messages".
#[test]
fn section_3_9_settings_that_cannot_elect_a_leader_are_refused() {
    use raft_core::raft::config::{Config, ConfigError};
    let config = Config { election_timeout: raft_core::types::Millis(100), ..Config::default() };
    let slow = Config { heartbeat_interval: raft_core::types::Millis(50), ..config };
    assert!(matches!(slow.check(), Err(ConfigError::ElectionTimeout { .. })));
}

/// 3.10: "the prior leader stops accepting new client requests; … fully updates the target server's log; … sends a
/// TimeoutNow request. … if leadership transfer does not complete after about an election timeout, the prior leader
/// aborts the transfer and resumes accepting client requests."
#[test]
fn section_3_10_leadership_is_handed_over() {
    let mut node = Lone::of(3);
    node.lead();
    node.acknowledge(2, 2);
    node.acknowledge(3, 2);
    let entry = node.propose().unwrap();
    node.save();
    node.raft.transfer(node.now, Some(id(2))).unwrap().later();
    assert!(matches!(node.propose(), Err(ProposeError::Transferring { .. })));
    let said = node.said(2);
    assert!(!said.contains(&Said::Campaign), "it lacks entry {entry}: {said:?}");
    let reply = Body::AppendReply { round: Round(1), matched: entry.index, rejected: None, counts: true };
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
    cluster.node(old).transfer(now, Some(id(new))).unwrap().later();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(new), "without any time having passed");
    assert_eq!(cluster.node(old).role(), RoleName::Follower);
}

/// 3.10: whoever does not answer is not handed leadership, and who dies on the way is not waited for: "if leadership
/// transfer does not complete after about an election timeout, the prior leader aborts the transfer".
#[test]
fn section_3_10_a_dead_target_takes_nothing_over() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    let end = node.now.0 + TIMEOUT;
    while node.now.0 < end {
        node.tick(node.raft.deadline().min(Instant(end)));
        node.acknowledge(3, 2);
    }
    let dead = node.raft.transfer(node.now, Some(id(2))).map(|ready| ready.later());
    assert_eq!(dead, Err(TransferError::Unreachable { to: id(2) }));
    assert!(node.propose().is_ok(), "nothing has changed");
    node.save();
    node.raft.transfer(node.now, Some(id(3))).unwrap().later();
    node.said(3);
    let end = node.now.0 + TIMEOUT;
    for (until, refused) in [(end - 1, true), (end, false)] {
        while node.now.0 < until {
            node.acknowledge(2, 3);
            node.tick(node.raft.deadline().min(Instant(until)));
        }
        assert_eq!((node.role(), node.propose().is_err()), (RoleName::Leader, refused), "at {until}");
    }
    assert!(!node.said(3).contains(&Said::Campaign));
}

/// 3.10: the target is brought up to date first, also where that takes a snapshot. Here it is not chosen while it needs
/// one, since that may take longer than a hand-over may.
#[test]
fn section_3_10_a_target_that_needs_a_snapshot_gets_it_first() {
    let mut node = Lone::of(3);
    node.lead();
    node.propose_some(3);
    node.save();
    node.acknowledge(3, 5);
    node.compact(5);
    assert_eq!(node.said(2), [Said::Other], "the snapshot");
    let early = node.raft.transfer(node.now, Some(id(2))).map(|ready| ready.later());
    assert_eq!(early, Err(TransferError::Unreachable { to: id(2) }));
    let installed = Body::AppendReply { round: Round(1), matched: Index(5), rejected: None, counts: true };
    node.step(2, 2, installed).unwrap();
    node.raft.transfer(node.now, Some(id(2))).unwrap().later();
    assert!(node.said(2).contains(&Said::Campaign));
}

/// 3.10: "a leader in Raft can periodically check to see whether one of its available followers would be more suitable, and
/// if so, transfer its leadership to that server": here by priority, once the other has all of the log.
#[test]
fn section_3_10_a_more_suitable_follower_is_handed_leadership() {
    for (own, other, wanted) in [(0, 0, false), (1, 1, false), (1, 2, true), (2, 1, false)] {
        let equal = voters(ClusterId(1), 3).unwrap();
        let members = equal.members().iter().cloned().map(|mut member| {
            member.priority = if member.id == id(1) { own } else { 0 };
            member.priority = if member.id == id(2) { other } else { member.priority };
            member
        });
        let mut node = Lone::with(Configuration::new(ClusterId(1), equal.limits(), members).unwrap());
        node.lead();
        node.time_out();
        assert!(!node.said(2).contains(&Said::Campaign), "nothing is known of its log");
        commit_all(&mut node);
        node.time_out();
        assert_eq!(node.said(2).contains(&Said::Campaign), wanted, "priority {own} leads, {other} follows");
    }
}
