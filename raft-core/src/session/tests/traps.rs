//! The traps of exactly-once that a table can fall into, each with its test.

use super::*;

#[test]
fn trap_1_a_retry_after_the_sessions_end_is_refused() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    bench.pass(101);
    assert_eq!(bench.command(session, 1, b"a"), EXPIRED);
    assert_eq!(bench.runs(), 1);
}

/// A new leader that has not applied the first execution cannot tell; it answers from the log only.
#[test]
fn trap_2_a_table_that_lags_gives_no_answer_and_its_turn_in_the_log_does() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 1, b"a"), answered(12, b"a#1"), "the first, applied at last");
    assert_eq!(bench.command(session, 1, b"a"), replayed(12, b"a#1"), "the retry, behind it in the log");
}

#[test]
fn trap_3_a_command_committed_twice_runs_once_and_both_get_the_answer() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    let first = bench.command(session, 1, b"a");
    assert_eq!(first, answered(12, b"a#1"));
    assert_eq!(bench.command(session, 1, b"a"), replayed(12, b"a#1"));
    assert_eq!(bench.runs(), 1);
}

#[test]
fn trap_4_eviction_is_a_function_of_the_log_alone() {
    let mut benches = [Bench::new(EVICTING), Bench::new(EVICTING)];
    for bench in &mut benches {
        (0..3).for_each(|nonce| _ = bench.open(nonce));
        bench.pass(55);
        (3..5).for_each(|nonce| _ = bench.open(nonce));
        bench.pass(60);
    }
    let [one, other] = benches;
    assert_eq!(one.encoded(), other.encoded());
    assert_eq!(one.table.sessions(), 2);
}

#[test]
fn trap_5_a_jump_of_a_leaders_clock_moves_time_by_one_step_and_never_back() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.clock(1_000_000);
    assert_eq!(bench.table.time(), ClusterTime(10));
    bench.clock(500);
    assert_eq!(bench.table.time(), ClusterTime(10));
    assert!(bench.alive(session));
}

/// Otherwise the jump would come in ten steps instead of one, and within a millisecond.
#[test]
fn trap_5_entries_that_follow_a_jump_do_not_make_up_for_it() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    for entry in 0..50 {
        bench.clock(1_000_000 + entry / 10);
    }
    assert_eq!(bench.table.time(), ClusterTime(14));
    assert!(bench.alive(session));
}

#[test]
fn trap_6_without_a_leader_there_are_no_entries_and_sessions_live() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.pass(50);
    // An hour later a new leader goes on from the last stamp.
    bench.clock(51);
    assert!(bench.alive(session));
    assert_eq!(bench.table.time(), ClusterTime(51));
}

#[test]
fn trap_7_a_leader_is_told_to_commit_a_clock_entry_only_while_there_are_sessions() {
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.table.next_expiry(), None);
    let session = bench.open(1);
    let mut entries = 0;
    while let Some(due) = bench.table.next_expiry() {
        bench.clock(due.0 + 1);
        entries += 1;
    }
    assert!(!bench.alive(session));
    assert_eq!((bench.table.time(), entries), (ClusterTime(101), 17), "half a step each, rounded up, and no time lost");
}

#[test]
fn trap_8_a_snapshot_between_a_command_and_its_retry_carries_the_answer() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    bench.command(session, 2, b"<\x09");
    let mut other = Bench::new(LIMITS);
    other.table.decode(&bench.encoded(), bench.index).unwrap();
    other.index = bench.index;
    assert_eq!(other.command(session, 1, b"a"), replayed(12, b"a#1"));
    assert_eq!(other.command(session, 2, b"<\x09"), Outcome::Executed { index: Index(13), replayed: true });
    assert_eq!(other.runs(), 0);
}

#[test]
fn trap_10_a_keep_alive_that_races_with_expiry_is_decided_by_log_order() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.pass(100);
    assert_eq!(bench.keep_alive(session), Outcome::KeptAlive);
    bench.pass(100);
    // Its own stamp ends the lease before the keep-alive is looked at.
    bench.stamp = bench.stamp.after(Millis(1));
    assert_eq!(bench.keep_alive(session), EXPIRED);
}

#[test]
fn trap_11_a_client_that_acknowledges_a_number_and_sends_it_gets_stale() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.acknowledge(session, 3);
    assert_eq!(bench.command(session, 2, b"b"), STALE);
    assert_eq!(bench.acknowledging(session, 3, 4, b"c"), STALE, "and so does one that does both at once");
    assert_eq!(bench.runs(), 0);
}

#[test]
fn trap_12_no_two_clients_share_a_session_by_accident() {
    let mut bench = Bench::new(LIMITS);
    let (one, other) = (bench.open(1), bench.open(2));
    assert_ne!(one, other);
    bench.command(one, 1, b"a");
    assert_eq!(bench.command(other, 1, b"a"), answered(14, b"a#2"));
    assert_eq!(bench.command(SessionId(9), 1, b"a"), EXPIRED, "an id of another cluster");
}

#[test]
fn trap_14_the_tables_bytes_are_known_before_the_first_session_opens() {
    let mut bench = Bench::new(EVICTING);
    let bytes = bench.table.bytes();
    assert!(bytes >= MEMORY_BYTES);
    for nonce in 0..50 {
        if let Outcome::Opened { session, .. } = bench.try_open(nonce) {
            (1..6).for_each(|sequence| _ = bench.command(session, sequence, b"<\x10"));
        }
        assert_eq!(bench.table.bytes(), bytes);
        bench.pass(20);
    }
}
