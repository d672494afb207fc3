//! Dissertation, chapter 4: changing the members.

use raft_core::client::protocol::RoleName;
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Configuration, Member, Suffrage, voters};
use raft_core::message::{Body, ProposeError, Rejection};
use raft_core::raft::config::Config;
use raft_core::raft::{ChangeMembersError, StepError};
use raft_core::session::limits::SessionLimits;
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, EntryId, Index};

use crate::harness::{Cluster, Lone, Said, TIMEOUT, add, at, commit_all, config, id};

/// A cluster of three with a fourth node that has caught up as a learner, and its leader.
fn with_learner() -> (Cluster, u64) {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    let new = cluster.join();
    cluster.change(leader, &[add(new, Suffrage::Learner)]);
    cluster.pass(TIMEOUT);
    (cluster, leader)
}

/// 4.1: "the new configuration takes effect on each server as soon as it is added to that server's log".
#[test]
fn section_4_1_a_configuration_holds_when_it_is_appended() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.change_members(node.now, &[add(4, Suffrage::Learner)], false).unwrap().1.later();
    assert_eq!(node.raft.members().len(), 4, "it is not even durable");
    assert!(node.raft.commit() < node.raft.configuration_entry().index);
}

/// 4.1: "servers always use the latest configuration in their logs, regardless of whether that configuration entry has
/// been committed"; "a server must be prepared to fall back to the previous configuration".
#[test]
fn section_4_1_a_dropped_configuration_gives_way_to_the_one_before() {
    let (mut cluster, old) = with_learner();
    let before = cluster.node(old).configuration_entry();
    cluster.isolate(old);
    cluster.change(old, &[MemberChange::Promote(id(4))]);
    assert_eq!(cluster.voters(old), [1, 2, 3, 4]);
    let new = cluster.elect_after(old);
    cluster.propose(new).unwrap();
    cluster.cut.clear();
    cluster.pass(5 * TIMEOUT);
    assert_eq!(cluster.node(old).configuration_entry(), before);
    assert_eq!(cluster.voters(old), [1, 2, 3]);
}

/// 4.1: also after a restart, "the latest configuration found in its log".
#[test]
fn section_4_1_a_restarted_server_uses_the_latest_configuration_in_its_log() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.change_members(node.now, &[add(4, Suffrage::Learner)], false).unwrap().1.later();
    node.save();
    let entry = node.raft.configuration_entry();
    node.restart();
    assert_eq!((node.raft.configuration_entry(), node.raft.members().len()), (entry, 4));
}

/// 4.1: leaders avoid overlapping changes "by not beginning a new change until the previous change's entry has
/// committed".
#[test]
fn section_4_1_one_change_at_a_time() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.change_members(node.now, &[add(4, Suffrage::Learner)], false).unwrap().1.later();
    let second = node.raft.change_members(node.now, &[MemberChange::Remove(id(2))], false);
    assert_eq!(second.err(), Some(ChangeMembersError::Change(ChangeError::UnderWay)));
}

/// 4.1, as corrected in 2015: a leader changes nothing before an entry of its own term is committed.
#[test]
fn section_4_1_no_change_before_an_entry_of_the_term_is_committed() {
    let mut node = Lone::of(3);
    node.lead();
    let early = node.raft.change_members(node.now, &[MemberChange::Remove(id(2))], false);
    assert_eq!(early.err(), Some(ChangeMembersError::Propose(ProposeError::NotReady)));
}

/// 4.1: "a server accepts AppendEntries requests from a leader that is not part of the server's latest configuration".
#[test]
fn section_4_1_a_leader_that_is_not_known_is_followed() {
    let mut node = Lone::of(3);
    node.append(9, 2, at(1, 1), &[2], 0).unwrap();
    node.save();
    assert_eq!(node.raft.leader(), Some(id(9)));
    assert_eq!(node.said(9), [Said::AppendReply { matched: 2, rejected: None }]);
}

/// 4.1: "a server also grants its vote to a candidate that is not part of the server's latest configuration (if the
/// candidate has a sufficiently up-to-date log and a current term)".
#[test]
fn section_4_1_a_candidate_that_is_not_known_gets_the_vote() {
    let mut node = Lone::of(3);
    assert!(node.ask_vote(9, 2, at(1, 2)));
    assert!(!Lone::with_log(3, &[2]).ask_vote(9, 3, at(1, 1)), "its log is behind");
}

/// 4.2.1: "a new server joins the cluster as a non-voting member. The leader replicates log entries to it, but it is
/// not yet counted towards majorities for voting or commitment purposes."
#[test]
fn section_4_2_1_learners_receive_and_do_not_count() {
    let (mut cluster, leader) = with_learner();
    let (one, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let log = cluster.node(leader).storage().last();
    assert_eq!(cluster.node(4).storage().last(), log);
    cluster.isolate(one);
    cluster.isolate(other);
    let entry = cluster.propose(leader).unwrap();
    cluster.settle();
    assert_eq!(cluster.node(4).storage().last(), entry, "it receives");
    assert!(cluster.node(leader).commit() < entry.index, "leader and learner are no majority of three");
    cluster.pass(3 * TIMEOUT);
    assert_ne!(cluster.node(leader).role(), RoleName::Leader, "it does not count for the quorum either");
}

/// 4.2.1: learners never campaign.
#[test]
fn section_4_2_1_learners_do_not_campaign() {
    let (mut cluster, leader) = with_learner();
    cluster.isolate(leader);
    cluster.isolate(leader % 3 + 1);
    cluster.pass(20 * TIMEOUT);
    assert_eq!(cluster.node(4).role(), RoleName::Follower);
}

/// 4.2.1: "if the last round lasts less than an election timeout, then the leader adds the new server".
#[test]
fn section_4_2_1_who_has_caught_up_becomes_a_voter_by_itself() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    cluster.propose_some(leader, 50);
    let new = cluster.join();
    cluster.isolate(new);
    cluster.change(leader, &[add(new, Suffrage::Joining)]);
    cluster.pass(5 * TIMEOUT);
    assert_eq!(cluster.voters(leader), [1, 2, 3], "it has nothing yet");
    cluster.cut.clear();
    cluster.pass(3 * TIMEOUT);
    assert_eq!(cluster.voters(leader), [1, 2, 3, 4]);
    assert!(!cluster.node(leader).status().joint);
}

/// 4.2.1: "the algorithm waits a fixed number of rounds (such as 10). If the last round lasts less than an election
/// timeout, then the leader adds the new server to the cluster … Otherwise, the leader aborts the configuration change
/// with an error." Here it is never aborted: the server stays a learner, which costs no availability, until a round of
/// its is short.
#[test]
fn section_4_2_1_who_does_not_catch_up_stays_a_learner_for_as_long_as_it_takes() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.change_members(node.now, &[add(4, Suffrage::Joining)], false).unwrap().1.later();
    node.save();
    let heartbeat = |node: &mut Lone| {
        node.time_out();
        let last = node.raft.storage().last().index.0;
        (2..=3).for_each(|voter| node.acknowledge(voter, last));
    };
    heartbeat(&mut node);
    let catch_up = |node: &mut Lone, matched| {
        let (round, matched) = (node.raft.round(), Index(matched));
        node.step(4, node.raft.term().0, Body::AppendReply { round, matched, rejected: None, counts: true }).unwrap();
    };
    for round in 1..=20 {
        let (target, end) = (node.raft.storage().last().index.0, node.now.0 + TIMEOUT);
        node.propose().unwrap();
        node.save();
        while node.now.0 < end {
            heartbeat(&mut node);
            assert!(!node.raft.status().joint, "in round {round}");
        }
        catch_up(&mut node, target);
    }
    assert_eq!((node.role(), node.raft.commit()), (RoleName::Leader, node.raft.storage().last().index));
    let last = node.raft.storage().last().index.0;
    catch_up(&mut node, last);
    heartbeat(&mut node);
    assert!(node.raft.status().joint, "that round was short");
}

/// 4.2.1: what a learner did once is no reason to let it vote now: it must answer now, and be near the end of the log.
#[test]
fn section_4_2_1_who_is_silent_or_far_behind_by_now_stays_a_learner() {
    for (silent, behind, suffrage) in [
        (false, 0, Suffrage::Voter),
        (false, 7, Suffrage::Voter),
        (true, 0, Suffrage::Joining),
        (false, 8, Suffrage::Joining),
    ] {
        let config = Config { inflight_entries_max: 7, ..config(1) };
        let mut node = Lone::set(config, &voters(ClusterId(1), 3).unwrap());
        node.lead();
        node.save();
        commit_all(&mut node);
        let add = node.raft.change_members(node.now, &[add(4, Suffrage::Learner)], false).unwrap();
        add.1.later();
        node.save();
        let answer = |node: &mut Lone, from, matched| {
            let (round, matched) = (node.raft.round(), Index(matched));
            let reply = Body::AppendReply { round, matched, rejected: None, counts: true };
            node.step(from, node.raft.term().0, reply).unwrap();
        };
        let caught_up = node.raft.storage().last().index.0;
        node.said(4);
        (2..=4).for_each(|from| answer(&mut node, from, caught_up));
        for _ in 0..behind {
            node.propose().unwrap();
        }
        node.save();
        let (last, end) = (node.raft.storage().last().index.0, node.now.0 + if silent { TIMEOUT } else { 0 });
        loop {
            (2..=3).for_each(|from| answer(&mut node, from, last));
            if node.now.0 >= end {
                break;
            }
            node.time_out();
        }
        assert_eq!((node.role(), node.raft.commit()), (RoleName::Leader, Index(last)));
        node.raft.change_members(node.now, &[MemberChange::Promote(id(4))], false).unwrap().1.later();
        let member = node.raft.configuration().unwrap().member(id(4)).unwrap().suffrage;
        assert_eq!(member, suffrage, "silent: {silent}, behind: {behind}");
    }
}

/// 4.2.1: "the leader must discover that the new server's log is empty", and not entry by entry: "have followers return
/// the length of their logs in the AppendEntries response".
#[test]
fn section_4_2_1_an_empty_log_is_found_in_one_exchange() {
    let mut node = Lone::of(3);
    node.lead();
    node.propose_some(200);
    node.save();
    commit_all(&mut node);
    node.raft.change_members(node.now, &[add(4, Suffrage::Learner)], false).unwrap().1.later();
    node.save();
    let next = |node: &Lone| node.raft.status().followers[2].next;
    let probe = node.said(4);
    let [Said::Append { previous, .. }] = probe[..] else { panic!("{probe:?}") };
    assert!(previous.index.0 > 200);
    let empty = Some(Rejection { previous: previous.index, hint: EntryId::ZERO });
    node.step(4, 2, Body::AppendReply { round: node.raft.round(), matched: Index(0), rejected: empty, counts: true })
        .unwrap();
    assert_eq!(next(&node), Index(1));
    let said = node.said(4);
    assert!(matches!(&said[..], [Said::Append { previous: EntryId::ZERO, entries, .. }] if entries[0] == at(1, 1)));
}

/// 4.2.2: "a server that is not part of its own latest configuration should still start new elections, as it might
/// still be needed until the … entry is committed". It "does not count its own vote in elections unless it is part of
/// its latest configuration".
#[test]
fn section_4_2_2_who_is_left_out_campaigns_until_that_is_committed() {
    for (commit, role) in [(2, RoleName::PreCandidate), (3, RoleName::Follower)] {
        let mut node = Lone::of(3);
        let first = node.raft.configuration().unwrap();
        let joint = first.change(Index(2), &[MemberChange::Remove(id(1))], |_| true).unwrap();
        node.configure(at(1, 1), at(1, 2), &joint);
        node.configure(at(1, 2), at(1, 3), &joint.leave());
        node.append(2, 1, at(1, 3), &[], commit).unwrap();
        node.save();
        node.time_out();
        assert_eq!(node.role(), role, "its removal is entry 3, and {commit} is committed");
        if role == RoleName::PreCandidate {
            node.step(2, 2, Body::PreVoteReply { granted: true }).unwrap();
            assert_eq!(node.role(), RoleName::PreCandidate, "one of the two that stay");
            node.step(3, 2, Body::PreVoteReply { granted: true }).unwrap();
            assert_eq!(node.role(), RoleName::Candidate);
        }
    }
}

/// 4.2.2: "a leader that is removed from the configuration steps down once the … entry is committed", and until then
/// "it replicates log entries but does not count itself in majorities". Here it first hands over.
#[test]
fn section_4_2_2_a_removed_leader_leads_until_its_removal_is_committed() {
    let mut cluster = Cluster::of(3);
    let old = cluster.elect();
    let (one, other) = (old % 3 + 1, (old + 1) % 3 + 1);
    cluster.isolate(other);
    cluster.change(old, &[MemberChange::Remove(id(old))]);
    cluster.settle();
    assert_eq!(cluster.node(old).role(), RoleName::Leader);
    assert!(cluster.node(old).status().joint, "it and one of the two that stay are no majority of these two");
    cluster.cut.clear();
    cluster.pass(4 * TIMEOUT);
    assert_ne!(cluster.node(old).role(), RoleName::Leader);
    assert!(cluster.node(old).expelled().is_some());
    let new = cluster.leader().unwrap();
    assert!(new == one || new == other);
    assert_eq!(cluster.voters(new).len(), 2);
}

/// 4.2.3: "servers not in" the new configuration "can disrupt the cluster". Therefore "if a server receives a
/// RequestVote request within the minimum election timeout of hearing from a current leader, it does not update its
/// term or grant its vote".
#[test]
fn section_4_2_3_votes_are_not_given_while_a_leader_is_heard() {
    let mut node = Lone::of(3);
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    assert!(!node.ask_vote(3, 9, at(9, 9)));
    assert_eq!(node.raft.term().0, 2);
    node.tick(raft_core::types::Instant(TIMEOUT));
    assert!(node.ask_vote(3, 9, at(9, 9)), "the leader has been silent for the shortest timeout");
}

/// 4.2.3: nor does a leader: it hears from itself.
#[test]
fn section_4_2_3_a_leader_ignores_requests_for_votes() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.said(2);
    node.step(2, 9, Body::Vote { last: at(9, 9), transfer: false }).unwrap();
    assert_eq!((node.role(), node.raft.term().0), (RoleName::Leader, 2));
    assert_eq!(node.said(2), [], "it is not even answered, as it would have to be in term 9");
    assert!(node.propose().is_ok());
}

/// 4.2.3: "those RequestVote requests can include a special flag": a request that the leader itself asked for is heard.
#[test]
fn section_4_2_3_a_transfer_is_no_disruption() {
    let mut node = Lone::of(3);
    node.append(2, 2, at(1, 1), &[], 0).unwrap();
    node.step(3, 3, Body::Vote { last: at(1, 1), transfer: true }).unwrap();
    node.save();
    assert!(node.said(3).contains(&Said::VoteReply(true)));
}

/// 4.2.3: a server that was removed and does not know disturbs nobody, and is told.
#[test]
fn section_4_2_3_a_removed_server_cannot_disturb() {
    let mut cluster = Cluster::of(4);
    let leader = cluster.elect();
    let gone = leader % 4 + 1;
    cluster.isolate(gone);
    cluster.change(leader, &[MemberChange::Remove(id(gone))]);
    cluster.pass(TIMEOUT);
    let term = cluster.node(leader).term();
    cluster.cut.clear();
    cluster.pass(20 * TIMEOUT);
    assert_eq!((cluster.leader(), cluster.node(leader).term()), (Some(leader), term));
    assert!(cluster.node(gone).expelled().is_some());
}

/// 4.3: "agreement (for elections and entry commitment) requires separate majorities from both the old and new
/// configurations".
#[test]
fn section_4_3_joint_decisions_need_both_majorities() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    let learners = [4, 5, 6].map(|new| add(new, Suffrage::Learner));
    node.raft.change_members(node.now, &learners, true).unwrap().1.later();
    node.save();
    commit_all(&mut node);
    for _ in 0..2 {
        node.time_out();
        commit_all(&mut node);
    }
    let all = [4, 5, 6].map(|new| MemberChange::Promote(id(new)));
    let leave = [2, 3].map(|old| MemberChange::Remove(id(old)));
    node.raft.change_members(node.now, &[&all[..], &leave].concat(), true).unwrap().1.later();
    node.save();
    assert!(node.raft.status().joint);
    let last = node.raft.storage().last().index;
    node.acknowledge(2, last.0);
    assert!(node.raft.commit() < last, "two of the old three, and one of the new four");
    node.acknowledge(4, last.0);
    assert!(node.raft.commit() < last, "two of the new four");
    node.acknowledge(5, last.0);
    assert!(node.raft.commit() >= last, "two of the old three and three of the new four");
}

/// The joint configuration in which node 1 votes in these halves, beside 2 and 3 in the old one and 4 and 5 in the new
/// one; 6 makes three of each.
fn joint(old: &[u64], new: &[u64]) -> Configuration {
    let members = (1..=6).map(|node| {
        let suffrage = if new.contains(&node) { Suffrage::Voter } else { Suffrage::Leaving };
        Member { outgoing_voter: old.contains(&node), ..Member::new(id(node), suffrage, "").unwrap() }
    });
    let part = members.filter(|member| member.outgoing_voter || member.votes());
    Configuration::new(ClusterId(1), SessionLimits::default(), part).unwrap()
}

/// 4.3: that holds for elections too, and "any server from either configuration may serve as leader": each set of
/// votes, for a candidate of both halves, of the old one alone, and of the new one alone.
#[test]
fn section_4_3_elections_need_both_majorities_and_either_half_may_lead() {
    let cases: [(&[u64], &[u64]); 3] = [(&[1, 2, 3], &[1, 4, 5]), (&[1, 2, 3], &[4, 5, 6]), (&[2, 3, 6], &[1, 4, 5])];
    for (old, new) in cases {
        let mut won = 0;
        for votes in 0..32_u32 {
            let mut node = Lone::of(3);
            node.configure(at(1, 1), at(1, 2), &joint(old, new));
            // It is committed, so that who it was before makes no difference.
            node.append(2, 1, at(1, 2), &[], 2).unwrap();
            node.save();
            node.campaign();
            node.save();
            let granted = |voter: u64| voter == 1 || votes >> (voter - 2) & 1 == 1;
            for voter in 2..=6 {
                node.said(voter);
                node.step(voter, 2, Body::VoteReply { granted: granted(voter) }).unwrap();
            }
            let majority = |half: &[u64]| half.iter().filter(|&&voter| granted(voter)).count() > half.len() / 2;
            let elected = majority(old) && majority(new);
            let leads = node.role() == RoleName::Leader;
            assert_eq!(leads, elected, "{votes:05b} for 6 to 2, {old:?} to {new:?}");
            won += u32::from(elected);
        }
        assert!((1..32).contains(&won));
    }
}

/// 4.3: "log entries are replicated to all servers in both configurations".
#[test]
fn section_4_3_entries_go_to_both_halves() {
    let mut node = Lone::of(3);
    node.configure(at(1, 1), at(1, 2), &joint(&[1, 2, 3], &[4, 5, 6]));
    node.save();
    node.lead();
    for follower in 2..=6 {
        let said = node.said(follower);
        let sent = |said: &Said| matches!(said, Said::Append { entries, .. } if entries.contains(&at(2, 3)));
        assert!(said.iter().any(sent), "{follower}: {said:?}");
    }
}

/// 4.3: "once the joint consensus has been committed, the system then transitions to the new configuration", which then
/// needs a majority of that alone.
#[test]
fn section_4_3_the_joint_configuration_is_left_by_itself() {
    let (mut cluster, leader) = with_learner();
    let stays = leader % 3 + 1;
    let goes = (leader + 1) % 3 + 1;
    cluster.change(leader, &[MemberChange::Promote(id(4)), MemberChange::Remove(id(goes))]);
    cluster.settle();
    assert!(!cluster.node(leader).status().joint);
    let mut expected = vec![leader, stays, 4];
    expected.sort_unstable();
    assert_eq!(cluster.voters(leader), expected);
}

/// 4.3: a leader that finds a joint configuration that another one began leaves it too.
#[test]
fn section_4_3_any_leader_finishes_the_change() {
    let (mut cluster, old) = with_learner();
    cluster.change(old, &[MemberChange::Promote(id(4))]);
    // The joint entry arrives, and its leader is gone before it knows.
    for other in 1..=4 {
        cluster.cut.insert((other, old));
    }
    cluster.settle();
    cluster.isolate(old);
    let new = cluster.elect_after(old);
    cluster.pass(TIMEOUT);
    assert_eq!(cluster.voters(new), [1, 2, 3, 4]);
    assert!(!cluster.node(new).status().joint);
}

/// 4.3, as for all entries: a configuration that contradicts a committed one is not believed.
#[test]
fn section_4_3_a_committed_configuration_stays() {
    let (mut cluster, leader) = with_learner();
    let entry = cluster.node(leader).configuration_entry();
    let follower = leader % 3 + 1;
    assert!(cluster.node(follower).commit() >= entry.index);
    let now = cluster.now;
    let bytes = crate::harness::records(at(1, 1), &[9]);
    let entries = raft_core::entry::Records::check(at(1, 1), &bytes).unwrap();
    let round = raft_core::message::Round(1);
    let body = Body::Append { previous: at(1, 1), commit: Index(0), round, entries };
    let message =
        raft_core::message::Message { from: id(leader), to: id(follower), term: raft_core::types::Term(9), body };
    let refused = cluster.node(follower).step(now, &message).map(|ready| ready.later());
    assert!(matches!(refused, Err(StepError::ContradictsCommitted { .. })));
}

/// 4.4: changes that would leave nobody, or nobody who answers, are refused.
#[test]
fn section_4_4_a_change_that_would_stop_the_cluster_is_refused() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    let all = [1, 2, 3].map(|member| MemberChange::Remove(id(member)));
    let refused = node.raft.change_members(node.now, &all, false).err();
    assert_eq!(refused, Some(ChangeMembersError::Change(ChangeError::LastVoter)));
    // Node 2 is silent for an election timeout; node 1 alone would be no majority of 1 and 2.
    let end = node.now.0 + TIMEOUT;
    while node.now.0 < end {
        node.time_out();
        node.said(2);
        node.acknowledge(3, 2);
    }
    let refused = node.raft.change_members(node.now, &[MemberChange::Remove(id(3))], false).err();
    assert_eq!(refused, Some(ChangeMembersError::Change(ChangeError::Unreachable { voters: 2, reachable: 1 })));
    assert!(node.raft.change_members(node.now, &[MemberChange::Remove(id(3))], true).is_ok(), "by force");
}

/// 4.4: "it is preferable to add servers before removing servers", so that there are never fewer. Who has caught up as
/// a learner takes the other's place in one change; who has not is a learner at first, while the other leaves at once:
/// so the program adds first, and removes when the new one votes.
#[test]
fn section_4_4_a_replacement_is_added_first() {
    let (mut cluster, leader) = with_learner();
    let goes = leader % 3 + 1;
    cluster.change(leader, &[MemberChange::Promote(id(4)), MemberChange::Remove(id(goes))]);
    let configuration = cluster.node(leader).configuration().unwrap();
    let voters = configuration.members().iter().filter(|member| member.votes()).count();
    let before = configuration.members().iter().filter(|member| member.outgoing_voter).count();
    assert_eq!((before, voters), (3, 3));
    cluster.pass(TIMEOUT);
    let new = cluster.join();
    cluster.change(leader, &[add(new, Suffrage::Joining), MemberChange::Remove(id(4))]);
    assert_eq!(cluster.voters(leader).len(), 2, "nobody votes before it has caught up, whoever leaves meanwhile");
    cluster.pass(5 * TIMEOUT);
    assert_eq!(cluster.voters(leader).len(), 3);
}
