//! What went wrong in other implementations and could here: one test for each, where no script
//! shows it better. The numbers are those of the list of such bugs; scripts name theirs on top.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers in these tests are small")]

mod amnesia;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
mod snapshots;

use common::DeferredLog;
use raft_core::client::protocol::RoleName;
use raft_core::configuration::{bootstrap, voters};
use raft_core::entry::{EntryHeader, EntryKind, Records};
use raft_core::message::{Body, Message, ReadTicket, Rejection, Round};
use raft_core::raft::config::Config;
use raft_core::raft::{Raft, StepError};
use raft_core::ring::RingLog;
use raft_core::storage::{HardState, Saved, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Index, Instant, NodeId, Term};

type Node = Raft<DeferredLog, 5>;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn entry(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// Member 3 of a new cluster, at time 0.
fn follower(members: u64) -> Node {
    let configuration = voters(ClusterId(1), members).unwrap();
    let log = DeferredLog::new(&configuration);
    Raft::new(id(3), Config::default(), log, Instant(0)).unwrap()
}

/// The records of entries behind `previous`, of these terms.
fn records(previous: u64, terms: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (&term, index) in terms.iter().zip(previous + 1..) {
        let header = EntryHeader::new(entry(term, index), ClusterTime(0), EntryKind::Operation, &[b"x"]).unwrap();
        bytes.extend_from_slice(&header.encode());
        bytes.push(b'x');
    }
    bytes
}

fn append<'a>(previous: EntryId, commit: u64, round: u64, records: &'a [u8]) -> Body<'a> {
    let entries = Records::check(previous, records).unwrap();
    Body::Append { previous, commit: Index(commit), round: Round(round), entries }
}

fn step<S: Storage>(raft: &mut Raft<S, 5>, from: u64, term: u64, body: Body<'_>) -> Result<(), StepError> {
    let message = Message { from: id(from), to: raft.id(), term: Term(term), body };
    raft.step(Instant(0), &message).map(|ready| ready.later())
}

/// Saves what is to be saved, as far as syncs complete.
fn save<S: Storage>(raft: &mut Raft<S, 5>) {
    raft.storage_mut().flush().ok().unwrap();
    let saved = raft.storage_mut().saved().ok().unwrap();
    raft.saved(saved).later();
}

fn sent<'a, S: Storage>(raft: &mut Raft<S, 5>, to: u64, describe: impl Fn(Message<'_>) -> String + 'a) -> Vec<String> {
    let mut messages = Vec::new();
    while let Some(message) = raft.ready().message(id(to), 1 << 20).ok().unwrap() {
        messages.push(describe(message));
    }
    messages
}

fn bodies<S: Storage>(raft: &mut Raft<S, 5>, to: u64) -> Vec<String> {
    sent(raft, to, |message| format!("{:?}", message.body))
}

/// Makes member 3 the leader of term 2, with the first entry of its term durable.
fn elect<S: Storage>(raft: &mut Raft<S, 5>) {
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for voter in 1..=2 {
        bodies(raft, voter);
        step(raft, voter, 2, Body::PreVoteReply { granted: true }).unwrap();
    }
    save(raft);
    for voter in 1..=2 {
        bodies(raft, voter);
        step(raft, voter, 2, Body::VoteReply { granted: true }).unwrap();
    }
    save(raft);
    assert_eq!(raft.role(), RoleName::Leader);
}

#[test]
fn known_bug_01_a_crash_between_any_two_writes_never_lets_a_node_vote_twice() {
    for survive in 0..=2 {
        let mut raft = follower(3);
        raft.storage_mut().deferred = true;
        step(&mut raft, 1, 2, Body::Vote { last: entry(1, 1), transfer: false }).unwrap();
        save(&mut raft);
        assert_eq!(bodies(&mut raft, 1), [""; 0], "the vote is not told before it is durable");
        let changes = raft.storage().unsaved();
        assert!(changes <= 2, "term and vote are saved as one, behind the term at most");
        let mut log = raft.storage().clone();
        log.crash(survive);
        log.deferred = false;
        let mut raft: Node = Raft::new(id(3), Config::default(), log, Instant(0)).unwrap();
        step(&mut raft, 2, 2, Body::Vote { last: entry(1, 1), transfer: false }).unwrap();
        save(&mut raft);
        let granted = survive < changes;
        assert_eq!(bodies(&mut raft, 2), [format!("VoteReply {{ granted: {granted} }}")]);
    }
}

#[test]
fn known_bug_12_every_answer_of_a_higher_term_ends_a_leader() {
    let answers = [
        Body::PreVoteReply { granted: false },
        Body::VoteReply { granted: false },
        Body::AppendReply { round: Round(0), matched: Index(0), rejected: None, counts: true },
        Body::ReadRequest { ticket: ReadTicket(1) },
        Body::ReadReply { ticket: ReadTicket(1), index: Index(1) },
        Body::SnapshotReply { through: entry(2, 2), received: 0, round: Round(0), resend: false, counts: true },
        Body::Campaign,
    ];
    for answer in answers {
        let mut raft = follower(3);
        elect(&mut raft);
        step(&mut raft, 1, 3, answer).unwrap();
        assert_eq!((raft.role(), raft.term()), (RoleName::Follower, Term(3)), "{answer:?}");
    }
}

#[test]
fn known_bug_17_a_pre_vote_changes_nothing_that_is_saved() {
    let mut raft = follower(3);
    let before = raft.storage().hard_state();
    step(&mut raft, 1, 2, Body::PreVote { last: entry(1, 1) }).unwrap();
    assert_eq!(bodies(&mut raft, 1), ["PreVoteReply { granted: true }"]);
    step(&mut raft, 2, 2, Body::PreVote { last: entry(1, 1) }).unwrap();
    assert_eq!(bodies(&mut raft, 2), ["PreVoteReply { granted: true }"], "it is no promise");
    assert_eq!(raft.storage().hard_state(), before);
    assert_eq!(raft.ready().to_save(), None);
}

#[test]
fn known_bug_20_a_rejected_append_is_a_sign_of_life_too() {
    let mut raft = follower(3);
    let due = raft.deadline();
    let body = append(entry(2, 7), 1, 1, &[]);
    let message = Message { from: id(1), to: id(3), term: Term(2), body };
    raft.step(due, &message).unwrap().later();
    assert!(raft.deadline() > due);
    raft.tick(due).later();
    assert_eq!((raft.role(), raft.leader()), (RoleName::Follower, Some(id(1))));
}

#[test]
fn known_bug_25_an_append_from_before_the_log_begins_drops_nothing() {
    let configuration = voters(ClusterId(1), 3).unwrap();
    let mut log = RingLog::<16, 2048>::new();
    bootstrap(&mut log, &configuration).unwrap();
    let mut raft: Raft<_, 5> = Raft::new(id(3), Config::default(), log, Instant(0)).unwrap();
    step(&mut raft, 1, 2, append(entry(1, 1), 5, 1, &records(1, &[2, 2, 2, 2]))).unwrap();
    save(&mut raft);
    raft.applied(Index(5)).later();
    raft.storage_mut().compact(Index(4));
    bodies(&mut raft, 1);
    step(&mut raft, 1, 2, append(entry(2, 2), 2, 2, &records(2, &[2, 2]))).unwrap();
    assert_eq!((raft.storage().base(), raft.storage().last()), (entry(2, 4), entry(2, 5)));
    assert_eq!(
        bodies(&mut raft, 1),
        ["AppendReply { round: Round(2), matched: Index(5), rejected: None, counts: true }"]
    );
}

#[test]
fn known_bug_27_an_entry_that_came_back_counts_when_it_is_durable_for_good() {
    let mut raft = follower(3);
    raft.storage_mut().deferred = true;
    // Three leaders: the second drops 2/3 of the first, the third brings it back.
    step(&mut raft, 1, 2, append(entry(1, 1), 1, 1, &records(1, &[2, 2]))).unwrap();
    save(&mut raft);
    step(&mut raft, 2, 3, append(entry(2, 2), 1, 1, &records(2, &[3]))).unwrap();
    save(&mut raft);
    step(&mut raft, 1, 4, append(entry(2, 2), 1, 1, &[])).unwrap();
    save(&mut raft);
    step(&mut raft, 1, 4, append(entry(2, 2), 1, 1, &records(2, &[2, 4]))).unwrap();
    save(&mut raft);
    let mut matched = Vec::new();
    while raft.storage_mut().complete() {
        save(&mut raft);
        let durable = raft.storage_mut().saved().unwrap().through;
        for told in sent(&mut raft, 1, |message| format!("{:?}", message.body)) {
            matched.push(format!("disk ends at {durable}: {told}"));
        }
    }
    let told = |end, index| {
        format!(
            "disk ends at {end}: AppendReply {{ round: Round(1), matched: Index({index}), rejected: None, counts: true }}"
        )
    };
    assert_eq!(matched, [told("3/3", 1), told("4/4", 4)], "the disk held 3/3 where 2/3 was to come back");
}

#[test]
fn known_bug_28_late_answers_never_take_back_what_is_known_to_match() {
    let mut raft = follower(3);
    elect(&mut raft);
    bodies(&mut raft, 1);
    let reply =
        |matched, rejected| Body::AppendReply { round: Round(1), matched: Index(matched), rejected, counts: true };
    step(&mut raft, 1, 2, reply(2, None)).unwrap();
    assert_eq!(raft.commit(), Index(2));
    let late = Rejection { previous: Index(1), hint: entry(1, 1) };
    step(&mut raft, 1, 2, reply(1, Some(late))).unwrap();
    assert_eq!(raft.status().followers[0].matched, Index(2));
    assert_eq!(step(&mut raft, 1, 2, reply(3, None)), Err(StepError::NeverSent));
    assert_eq!(raft.status().followers[0].matched, Index(2));
}

#[test]
fn known_bug_30_votes_that_nobody_was_asked_for_elect_nobody() {
    let mut raft = follower(5);
    raft.storage_mut().deferred = true;
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for voter in [1, 2] {
        bodies(&mut raft, voter);
        step(&mut raft, voter, 2, Body::PreVoteReply { granted: true }).unwrap();
    }
    assert_eq!(raft.role(), RoleName::Candidate);
    for voter in [1, 2, 4, 5] {
        step(&mut raft, voter, 2, Body::VoteReply { granted: true }).unwrap();
        assert_eq!(raft.role(), RoleName::Candidate, "its own vote is not durable, so it asked nobody");
    }
}

#[test]
fn known_bug_32_reports_of_saves_may_overtake_each_other() {
    let mut raft = follower(3);
    elect(&mut raft);
    let now = raft.ready().to_save();
    assert_eq!(now, None);
    let early = Saved { hard_state: HardState { term: Term(1), vote: None, expelled: None }, through: entry(1, 1) };
    raft.saved(early).later();
    assert_eq!(raft.ready().to_save(), None, "what was durable stays so");
    assert_eq!(raft.role(), RoleName::Leader);
}

#[test]
fn known_bug_34_a_follower_whose_entries_were_compacted_away_gets_none_instead_of_wrong_ones() {
    let configuration = voters(ClusterId(1), 3).unwrap();
    let mut log = RingLog::<16, 2048>::new();
    bootstrap(&mut log, &configuration).unwrap();
    let mut raft: Raft<_, 5> = Raft::new(id(3), Config::default(), log, Instant(0)).unwrap();
    elect(&mut raft);
    let _ = (bodies(&mut raft, 1), bodies(&mut raft, 2));
    let reply = Body::AppendReply { round: Round(1), matched: Index(2), rejected: None, counts: true };
    step(&mut raft, 1, 2, reply).unwrap();
    raft.applied(Index(2)).later();
    raft.storage_mut().compact(Index(2));
    let rejected = Some(Rejection { previous: Index(1), hint: EntryId::ZERO });
    step(&mut raft, 2, 2, Body::AppendReply { round: Round(1), matched: Index(0), rejected, counts: true }).unwrap();
    assert_eq!(bodies(&mut raft, 2), [""; 0]);
}

#[test]
fn known_bug_36_entries_that_do_not_follow_each_other_are_no_message() {
    let mut gap = records(1, &[2]);
    gap.extend(records(3, &[2]));
    assert!(Records::parse(&gap).is_err());
    let bytes = records(2, &[2]);
    let entries = Records::parse(&bytes).unwrap();
    let body = Body::Append { previous: entry(1, 1), commit: Index(1), round: Round(1), entries };
    let message = Message { from: id(1), to: id(3), term: Term(2), body };
    let mut buffer = [0; 256];
    let length = message.encode(&mut buffer).unwrap();
    assert!(Message::decode(&buffer[..length]).is_err());
}

#[test]
fn known_bug_37_entries_are_handed_out_once_and_in_order_however_they_are_read() {
    let mut raft = follower(3);
    step(&mut raft, 1, 2, append(entry(1, 1), 9, 1, &records(1, &[2; 8]))).unwrap();
    save(&mut raft);
    let mut applied = Vec::new();
    while let Some(range) = raft.ready().apply() {
        let records = raft.storage_mut().read(*range.start(), *range.end(), 70).unwrap();
        applied.extend(records.iter().map(|entry| entry.header.index.0));
        let last = records.last().index;
        raft.applied(last).later();
    }
    assert_eq!(applied, (1..=9).collect::<Vec<u64>>());
    assert_eq!(raft.storage().hard_state().term, Term(2));
}

#[test]
fn one_entry_over_the_limit_of_uncommitted_bytes_is_not_refused_for_ever() {
    let configuration = voters(ClusterId(1), 1).unwrap();
    let config = Config { entry_bytes_max: 64, uncommitted_bytes_max: 8, ..Config::default() };
    let log = DeferredLog::new(&configuration);
    let mut raft: Raft<_, 1> = Raft::new(id(1), config, log, Instant(0)).unwrap();
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for _ in 0..2 {
        raft.storage_mut().flush().unwrap();
        let saved = raft.storage_mut().saved().unwrap();
        raft.saved(saved).later();
    }
    assert!(raft.propose(deadline, EntryKind::Operation, &[&[0; 64]]).is_ok());
    assert!(raft.propose(deadline, EntryKind::Operation, &[&[0; 64]]).is_err());
}

#[test]
fn uncommitted_bytes_are_taken_up_to_their_limit_and_no_further() {
    let configuration = voters(ClusterId(1), 3).unwrap();
    let config = Config { uncommitted_bytes_max: 8, ..Config::default() };
    let mut raft: Raft<_, 5> = Raft::new(id(3), config, DeferredLog::new(&configuration), Instant(0)).unwrap();
    elect(&mut raft);
    let now = raft.deadline();
    for _ in 0..2 {
        raft.propose(now, EntryKind::Operation, &[&[0; 4]]).unwrap().1.later();
    }
    assert!(raft.propose(now, EntryKind::Operation, &[&[0; 1]]).is_err());
}

/// What a commit by definition is, tried index by index.
fn highest_on_a_quorum(matched: &[u64]) -> u64 {
    let held = |index: &u64| matched.iter().filter(|&have| have >= index).count() > matched.len() / 2;
    (1..=4).filter(held).max().unwrap_or(0)
}

#[test]
fn known_bug_29_commit_is_what_more_than_half_hold_in_every_case() {
    for members in 3..=5_usize {
        for case in 0..3_u32.pow(members as u32 - 1) {
            let mut raft = follower(members as u64);
            let configuration = voters(ClusterId(1), members as u64).unwrap();
            elect_of(&mut raft, configuration.members().len() as u64);
            let now = raft.deadline();
            raft.propose(now, EntryKind::Operation, &[b"x"]).unwrap().1.later();
            raft.propose(now, EntryKind::Operation, &[b"x"]).unwrap().1.later();
            save(&mut raft);
            let (mut matched, mut digits) = (vec![4], case);
            for member in (1..=members as u64).filter(|&member| member != 3) {
                let index = u64::from(digits % 3) + 2;
                digits /= 3;
                matched.push(index);
                let reply = Body::AppendReply { round: Round(1), matched: Index(index), rejected: None, counts: true };
                step(&mut raft, member, 2, reply).unwrap();
            }
            assert_eq!(raft.commit(), Index(highest_on_a_quorum(&matched)), "{matched:?}");
        }
    }
}

/// Makes member 3 the leader of term 2 by the votes of all.
fn elect_of(raft: &mut Node, members: u64) {
    let deadline = raft.deadline();
    raft.tick(deadline).later();
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true }] {
        for voter in (1..=members).filter(|&voter| voter != 3) {
            bodies(raft, voter);
            step(raft, voter, 2, body).unwrap();
        }
        save(raft);
    }
    assert_eq!(raft.role(), RoleName::Leader);
}

#[test]
fn known_bug_45_a_read_is_confirmed_by_more_than_half_in_every_case() {
    for members in 3..=5_u64 {
        for answers in 0..members {
            let mut raft = follower(members);
            elect_of(&mut raft, members);
            let reply =
                |round| Body::AppendReply { round: Round(round), matched: Index(2), rejected: None, counts: true };
            for member in (1..=members).filter(|&member| member != 3) {
                bodies(&mut raft, member);
                step(&mut raft, member, 2, reply(1)).unwrap();
            }
            save(&mut raft);
            raft.applied(Index(2)).later();
            let now = raft.deadline();
            let (read, ready) = raft.read(now).unwrap();
            ready.later();
            for member in (1..=members).filter(|&member| member != 3).take(answers as usize) {
                bodies(&mut raft, member);
                step(&mut raft, member, 2, reply(2)).unwrap();
            }
            let confirmed = raft.read_state(read) == raft_core::raft::ReadState::Ready;
            assert_eq!(confirmed, answers + 1 > members / 2, "{answers} answers of {members} members");
        }
    }
}
