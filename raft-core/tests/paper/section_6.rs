//! Dissertation, sections 6.2 to 6.4: finding the leader, sessions, and reads.

use raft_core::client::pace::{Jitter, Pace};
use raft_core::client::protocol::RoleName;
use raft_core::client::route::Route;
use raft_core::configuration::{Configuration, Lease, Member, Suffrage, voters};
use raft_core::machine::{Answer, Damaged, Position, Sink, Source, StateMachine};
use raft_core::message::{Body, ProposeError, ReadTicket, Round};
use raft_core::raft::ReadState;
use raft_core::session::limits::SessionLimits;
use raft_core::session::memory::{FixedMemory, bytes_needed};
use raft_core::session::operation::{Operation, Outcome, Refusal};
use raft_core::session::table::SessionTable;
use raft_core::types::{ClusterId, ClusterTime, Index, Instant, Millis, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use crate::harness::{Cluster, Lone, Said, TIMEOUT, at, commit_all, id};

/// 6.2: "a leader in Raft steps down if an election timeout elapses without a successful round of heartbeats to a
/// majority of its cluster".
#[test]
fn section_6_2_a_leader_without_a_majority_steps_down() {
    for (answering, role) in [(1, RoleName::Follower), (2, RoleName::Leader)] {
        let mut node = Lone::of(5);
        node.lead();
        let end = node.now.0 + 2 * TIMEOUT;
        while node.now.0 < end && node.role() == RoleName::Leader {
            node.time_out();
            (2..2 + answering).for_each(|follower| node.acknowledge(follower, 2));
        }
        assert_eq!(node.role(), role, "{answering} of four followers answer");
    }
}

/// 6.2: another server is "to reject the request and return to the client the address of the leader, if known".
#[test]
fn section_6_2_followers_know_the_leader() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    for node in 1..=3 {
        assert_eq!(cluster.node(node).leader().map(|id| id.get()), Some(leader));
    }
}

/// 6.2: "they must discard this information when starting a new election or when the term changes. Otherwise, they
/// might needlessly delay clients".
#[test]
fn section_6_2_followers_forget_the_leader_with_an_election_or_a_term() {
    let heard = || {
        let mut node = Lone::of(3);
        node.append(2, 2, at(1, 1), &[], 0).unwrap();
        assert_eq!(node.propose(), Err(ProposeError::NotLeader { leader: Some(id(2)) }));
        node
    };
    let (mut campaigns, mut votes, mut sees) = (heard(), heard(), heard());
    campaigns.time_out();
    votes.tick(Instant(TIMEOUT));
    assert!(votes.ask_vote(3, 3, at(1, 1)));
    sees.step(3, 3, Body::VoteReply { granted: false }).unwrap();
    for mut node in [campaigns, votes, sees] {
        assert_eq!(node.raft.leader(), None);
        assert_eq!(node.propose(), Err(ProposeError::NotLeader { leader: None }));
    }
}

/// 6.2: "if a client loses its connection to the leader (or any particular server), it should simply retry with a
/// random server". Here with the next one in turn; and it asks who is named.
#[test]
fn section_6_2_clients_try_another_server() {
    let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
    let mut route = Route::new(3, 1);
    let mut asked = vec![route.target()];
    for _ in 0..3 {
        assert!(route.failed(route.target(), Instant(0), &pace, &mut jitter));
        asked.push(route.target());
    }
    assert_eq!(asked, [1, 2, 0, 1], "no server twice before all were tried");
    assert!(route.redirected(1, Some(0), Instant(0), &pace, &mut jitter));
    assert_eq!(route.target(), 0, "it is said to lead");
    assert!(route.redirected(0, None, Instant(0), &pace, &mut jitter));
    assert_eq!(route.target(), 1, "it does not, and knows of nobody");
}

const LIMITS: SessionLimits = SessionLimits {
    sessions: 2,
    window: 4,
    answer_bytes: 8,
    ttl: Millis(1000),
    time_step_max: Millis(500),
    evict_idle: None,
};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: Position, _: &[u8], answer: &mut Answer<'_>) {
        self.0 += 1;
        answer.write(&self.0.to_le_bytes());
    }

    fn query(&self, _: &[u8], _: &mut dyn Sink) {}

    fn snapshot(&self, _: &mut dyn Sink) {}

    fn restore(&mut self, _: &mut dyn Source) -> Result<(), Damaged> {
        Ok(())
    }
}

/// Sessions and a state machine, as they stand after each entry.
struct Service {
    table: SessionTable<FixedMemory<2, { bytes_needed(&LIMITS, 8) }>>,
    machine: Counter,
    index: u64,
    time: u64,
}

impl Service {
    fn new() -> Service {
        Service {
            table: SessionTable::new(LIMITS, FixedMemory::new()).unwrap(),
            machine: Counter(0),
            index: 1,
            time: 0,
        }
    }

    fn apply(&mut self, operation: Operation<'_>) -> Outcome<'_> {
        self.index += 1;
        self.table.advance(ClusterTime(self.time));
        self.table.apply(Index(self.index), operation, &mut self.machine)
    }

    fn open(&mut self, nonce: u128) -> SessionId {
        match self.apply(Operation::Open { nonce: Nonce(nonce), fifo: false }) {
            Outcome::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    fn keep_alive(&mut self, session: SessionId) -> Outcome<'_> {
        self.apply(Operation::KeepAlive { session, acknowledge: Sequence(1) })
    }

    fn command(&mut self, session: SessionId, sequence: u64, acknowledge: u64) -> Outcome<'_> {
        let (sequence, acknowledge) = (Sequence(sequence), Sequence(acknowledge));
        self.apply(Operation::Command { session, sequence, acknowledge, command: Bytes(b"x") })
    }
}

/// 6.3: registering "allocates the new client's session and returns the client its identifier": here the index of the
/// entry. The request itself may be repeated, by the client's own random number.
#[test]
fn section_6_3_a_session_is_known_by_the_index_of_the_entry_that_opened_it() {
    let mut service = Service::new();
    let mut opened = Vec::new();
    for nonce in [1, 2, 1] {
        let session = service.open(nonce);
        opened.push((session, service.index));
    }
    assert_eq!(opened, [(SessionId(2), 2), (SessionId(3), 3), (SessionId(2), 4)]);
}

/// 6.3: "if a server receives a command whose serial number has already been executed, it responds immediately without
/// re-executing the request".
#[test]
fn section_6_3_a_repeated_command_gets_the_first_answer() {
    let mut service = Service::new();
    let session = service.open(1);
    let first = format!("{:?}", service.command(session, 1, 1)).replace("replayed: false", "");
    let again = format!("{:?}", service.command(session, 1, 1)).replace("replayed: true", "");
    assert_eq!((first, service.machine.0), (again, 1));
}

/// 6.3: "this approach also generalizes to allow concurrent requests from a single client": numbers in any order, and
/// "the client includes the lowest sequence number for which it has not yet received a response".
#[test]
fn section_6_3_concurrent_requests_and_the_acknowledgement() {
    let mut service = Service::new();
    let session = service.open(1);
    for sequence in [3, 1, 2] {
        assert!(matches!(service.command(session, sequence, 1), Outcome::Answered { replayed: false, .. }));
    }
    service.command(session, 4, 3);
    assert!(matches!(service.command(session, 2, 1), Outcome::Refused(Refusal::Stale)), "its answer was discarded");
    assert_eq!(service.machine.0, 4);
}

/// … "and the state machine then discards all responses for lower sequence numbers": so there is room for new ones, and
/// an acknowledgement is the only way to make it.
#[test]
fn section_6_3_answers_below_the_acknowledgement_make_room() {
    let mut service = Service::new();
    let session = service.open(1);
    for sequence in 1..=4 {
        assert!(matches!(service.command(session, sequence, 1), Outcome::Answered { replayed: false, .. }));
    }
    assert!(matches!(service.command(session, 5, 1), Outcome::Refused(Refusal::WindowFull)));
    assert!(matches!(service.command(session, 5, 3), Outcome::Answered { replayed: false, .. }));
    for (sequence, kept) in [(1, false), (2, false), (3, true), (4, true), (5, true)] {
        let outcome = service.command(session, sequence, 1);
        let found = matches!(outcome, Outcome::Answered { replayed: true, .. });
        assert!(found == kept && (found || matches!(outcome, Outcome::Refused(Refusal::Stale))), "{sequence}");
    }
    assert_eq!(service.machine.0, 5);
}

/// 6.3: "live clients issue keep-alive requests during periods of inactivity … in order to maintain their sessions".
#[test]
fn section_6_3_a_session_lives_as_long_as_it_is_kept_alive() {
    let mut service = Service::new();
    let session = service.open(1);
    for _ in 0..5 {
        service.time += 500;
        assert!(matches!(service.keep_alive(session), Outcome::KeptAlive));
    }
    for _ in 0..3 {
        service.time += 500;
        service.apply(Operation::Plain { command: Bytes(b"x") });
    }
    assert!(matches!(service.keep_alive(session), Outcome::Refused(Refusal::SessionExpired)));
}

/// 6.3: "servers must agree on when to expire a client's session": by the time in the log, never by their own.
#[test]
fn section_6_3_sessions_expire_by_the_time_in_the_log() {
    let mut service = Service::new();
    let (idle, busy) = (service.open(1), service.open(2));
    for sequence in 1..=4 {
        service.time += 300;
        assert!(matches!(service.command(busy, sequence, sequence), Outcome::Answered { .. }));
    }
    assert!(matches!(service.command(idle, 1, 1), Outcome::Refused(Refusal::SessionExpired)));
}

/// 6.3: "if a state machine encounters a command with no record of the session, it does not process the command and
/// instead returns an error to the client".
#[test]
fn section_6_3_a_command_of_no_session_is_refused() {
    let mut service = Service::new();
    assert!(matches!(service.command(SessionId(77), 1, 1), Outcome::Refused(Refusal::SessionExpired)));
    assert_eq!(service.machine.0, 0);
}

/// 6.4, step 1: "if the leader has not yet marked an entry from its current term committed, it waits until it has done
/// so". Here the read is refused for now.
#[test]
fn section_6_4_no_read_before_an_entry_of_the_term_is_committed() {
    let mut node = Lone::of(3);
    node.lead();
    assert_eq!(node.raft.read(node.now).map(drop), Err(ProposeError::NotReady));
    commit_all(&mut node);
    assert!(node.raft.read(node.now).is_ok());
}

/// 6.4, steps 2 to 4: "the leader saves its current commit index … It issues a new round of heartbeats and waits for
/// their acknowledgments from a majority … waits for its state machine to advance at least as far".
#[test]
fn section_6_4_a_read_waits_for_a_round_and_for_the_state_machine() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    let (read, ready) = node.raft.read(node.now).unwrap();
    ready.later();
    assert_eq!(node.raft.read_state(read), ReadState::Waiting);
    node.acknowledge(2, 2);
    assert_eq!(node.raft.read_state(read), ReadState::Waiting, "entry 2 has not been applied");
    node.raft.applied(Index(2)).later();
    assert_eq!(node.raft.read_state(read), ReadState::Ready);
}

/// … and an acknowledgement of what was sent before the read does not count.
#[test]
fn section_6_4_an_earlier_round_confirms_nothing() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.applied(Index(2)).later();
    node.time_out();
    let before = node.said(2);
    assert!(matches!(before[..], [Said::Append { .. }]));
    let Said::Append { round, .. } = before[0] else { panic!("{before:?}") };
    let (read, ready) = node.raft.read(node.now).unwrap();
    ready.later();
    let late = Body::AppendReply { round: Round(round), matched: Index(2), rejected: None, counts: true };
    node.step(2, 2, late).unwrap();
    assert_eq!(node.raft.read_state(read), ReadState::Waiting);
}

/// 6.4: "to improve efficiency further, the leader can amortize the cost of confirming its leadership: it can use a
/// single round of heartbeats for any number of read-only queries".
#[test]
fn section_6_4_one_round_serves_all_reads_that_wait() {
    let mut node = Lone::of(3);
    node.lead();
    commit_all(&mut node);
    node.raft.applied(Index(2)).later();
    let mut reads = Vec::new();
    for _ in 0..10 {
        let (read, ready) = node.raft.read(node.now).unwrap();
        ready.later();
        reads.push(read);
    }
    let said = node.said(2);
    let [Said::Append { round, .. }] = said[..] else { panic!("{said:?}") };
    let reply = Body::AppendReply { round: Round(round), matched: Index(2), rejected: None, counts: true };
    node.step(2, 2, reply).unwrap();
    assert!(reads.iter().all(|&read| node.raft.read_state(read) == ReadState::Ready));
}

/// 6.4: "followers could also help offload the processing of read-only queries … the follower could issue a request to
/// the leader that just asked for a current readIndex".
#[test]
fn section_6_4_followers_read_by_the_leaders_index() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.elect();
    let follower = leader % 3 + 1;
    let entry = cluster.propose(leader).unwrap();
    let read = cluster.read(follower).unwrap();
    assert_eq!(cluster.read_state(follower, read), ReadState::Waiting);
    cluster.settle();
    assert_eq!(cluster.read_state(follower, read), ReadState::Ready);
    assert!(cluster.node(follower).last_applied() >= entry.index);
}

/// … "the follower could then execute steps 4 and 5 on its own state machine": not before it has applied so far, and
/// that is the same for a voter and for a learner.
#[test]
fn section_6_4_a_follower_answers_when_it_has_applied_the_leaders_index() {
    for suffrage in [Suffrage::Voter, Suffrage::Learner] {
        let members = [suffrage, Suffrage::Voter, Suffrage::Voter, Suffrage::Voter];
        let members = (1..).zip(members).map(|(node, suffrage)| Member::new(id(node), suffrage, "").unwrap());
        let mut node = Lone::with(Configuration::new(ClusterId(1), SessionLimits::default(), members).unwrap());
        node.append(2, 2, at(1, 1), &[2, 2, 2], 3).unwrap();
        node.save();
        node.raft.applied(Index(3)).later();
        let (read, ready) = node.raft.read(node.now).unwrap();
        ready.later();
        let ticket = node.read_ticket(2).unwrap();
        node.step(2, 2, Body::ReadReply { ticket, index: Index(4) }).unwrap();
        assert_eq!(node.raft.read_state(read), ReadState::Waiting, "{suffrage:?} has applied entry 3");
        node.append(2, 2, at(2, 4), &[], 4).unwrap();
        assert_eq!(node.raft.read_state(read), ReadState::Waiting, "to know that entry 4 is committed is not enough");
        node.raft.applied(Index(4)).later();
        assert_eq!(node.raft.read_state(read), ReadState::Ready);
    }
}

/// 6.4: a deposed leader confirms nothing.
#[test]
fn section_6_4_a_leader_that_was_replaced_reads_nothing() {
    let mut cluster = Cluster::of(3);
    let old = cluster.elect();
    cluster.isolate(old);
    let read = cluster.read(old).unwrap();
    cluster.elect_after(old);
    assert_ne!(cluster.read_state(old, read), ReadState::Ready);
    cluster.cut.clear();
    cluster.pass(3 * TIMEOUT);
    assert_eq!(cluster.read_state(old, read), ReadState::Lost);
}

/// 6.4: an answer to another read, or to one of an earlier life, confirms nothing.
#[test]
fn section_6_4_a_follower_believes_only_answers_to_its_own_questions() {
    let mut node = Lone::of(3);
    node.append(2, 2, at(1, 1), &[2], 2).unwrap();
    node.save();
    node.raft.applied(Index(2)).later();
    let (read, ready) = node.raft.read(node.now).unwrap();
    ready.later();
    node.step(2, 2, Body::ReadReply { ticket: ReadTicket(u64::MAX), index: Index(2) }).unwrap();
    assert_eq!(node.raft.read_state(read), ReadState::Waiting);
}

/// 6.4.1: "the leader would use the normal heartbeat mechanism to maintain a lease", with a bound on clock drift. Here
/// the lease is a committed entry: for a while after the leader appended it nobody else commits anything.
#[test]
fn section_6_4_1_a_lease_answers_without_a_round_until_it_ends() {
    let lease = Lease { duration: Millis(500), drift_per_mille: 100 };
    let mut node = Lone::with(voters(ClusterId(1), 3).unwrap().with_lease(lease).unwrap());
    node.lead();
    // It waits for the lease that an earlier leader may have: 500 ms, twice 10 %, and one.
    let begin = node.now.0;
    while node.raft.commit() < Index(2) {
        node.time_out();
        (2..=3).for_each(|follower| node.acknowledge(follower, 2));
        assert!(node.now.0 <= 601 + TIMEOUT + begin);
    }
    assert!(node.now.0 >= 601, "it committed at {}", node.now.0);
    node.raft.applied(Index(2)).later();
    // Its first entry was appended longer ago than a lease lasts; the next one grants one.
    let entry = node.propose().unwrap();
    let appended = node.now;
    node.save();
    (2..=3).for_each(|follower| node.acknowledge(follower, entry.index.0));
    node.raft.applied(entry.index).later();
    for (after, state) in [(499, ReadState::Ready), (500, ReadState::Waiting)] {
        let (read, ready) = node.raft.read_by_lease(Instant(appended.0 + after)).unwrap();
        ready.later();
        assert_eq!(node.raft.read_state(read), state, "{after} ms after the entry");
    }
}

/// 6.4.1: "a leader would need to expire its lease before transferring leadership": while it hands over, it asks a
/// majority.
#[test]
fn section_6_4_1_a_lease_ends_when_leadership_is_handed_over() {
    let lease = Lease { duration: Millis(500), drift_per_mille: 0 };
    let mut node = Lone::with(voters(ClusterId(1), 3).unwrap().with_lease(lease).unwrap());
    node.lead();
    while node.raft.commit() < Index(2) {
        node.time_out();
        (2..=3).for_each(|follower| node.acknowledge(follower, 2));
    }
    node.propose().unwrap();
    node.save();
    commit_all(&mut node);
    node.raft.applied(Index(3)).later();
    let by_lease = |node: &mut Lone| {
        let (read, ready) = node.raft.read_by_lease(node.now).unwrap();
        ready.later();
        node.raft.read_state(read)
    };
    assert_eq!(by_lease(&mut node), ReadState::Ready);
    node.raft.transfer(node.now, Some(id(2))).unwrap().later();
    assert_eq!(by_lease(&mut node), ReadState::Waiting);
}
