//! What went wrong in other session tables, and does not in this one.

use super::*;
use crate::session::memory::CapacityError;

/// An open that was sent twice, and whose session ended before the second was applied, makes a new
/// session; the old one stays gone, and says so to its client.
#[test]
fn known_bug_63a_an_open_replayed_after_eviction_leaves_nobody_stuck() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    bench.pass(101);
    let again = bench.open(1);
    assert!(again > session);
    assert_eq!(bench.command(session, 2, b"b"), EXPIRED);
    assert_eq!(bench.command(again, 1, b"x"), answered(26, b"x#2"), "numbers are not inherited");
}

#[test]
fn known_bug_63b_the_numbers_of_a_restarted_client_do_not_collide_with_its_old_ones() {
    let mut bench = Bench::new(LIMITS);
    let before = bench.open(1);
    bench.command(before, 1, b"a");
    let after = bench.open(2);
    assert_eq!(bench.command(after, 1, b"b"), answered(14, b"b#2"));
    assert_eq!(bench.command(before, 1, b"a"), replayed(12, b"a#1"));
}

#[test]
fn known_bug_63c_eviction_again_and_again_loses_no_room_and_no_answer() {
    let mut bench = Bench::new(EVICTING);
    for round in 0..100 {
        let session = bench.open(round);
        let opened = bench.index.0;
        assert!(matches!(bench.command(session, 1, b"<\x01"), Outcome::Answered { replayed: false, .. }));
        assert_eq!(bench.command(session, 1, b"<\x01"), replayed(opened + 1, &[0]));
        assert_eq!(bench.table.sessions(), 3.min(u32::try_from(round).unwrap() + 1));
        bench.pass(20);
    }
    assert_eq!(bench.table.counters().evicted, 97);
}

#[test]
fn known_bug_63d_a_retry_after_a_long_gap_is_refused_and_failures_are_kept_as_answers() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 1, b"fail"), answered(12, b"fail#1"));
    bench.pass(90);
    assert_eq!(bench.command(session, 1, b"fail"), replayed(12, b"fail#1"));
    bench.pass(101);
    assert_eq!(bench.command(session, 1, b"fail"), EXPIRED);
    assert_eq!(bench.runs(), 1);
}

#[test]
fn known_bug_63e_a_session_that_is_not_open_is_refused_never_made() {
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.command(SessionId(5), 1, b"a"), EXPIRED);
    assert_eq!(bench.keep_alive(SessionId(5)), EXPIRED);
    assert_eq!((bench.table.sessions(), bench.runs()), (0, 0));
}

#[test]
fn known_bug_63f_sessions_expire_without_traffic_and_a_short_lived_client_can_close() {
    let mut bench = Bench::new(LIMITS);
    bench.open(1);
    bench.pass(101);
    assert_eq!(bench.table.sessions(), 0, "clock entries alone");
    for nonce in 0..10 {
        let session = bench.open(nonce);
        assert_eq!(bench.close(session), Outcome::Closed);
    }
    assert_eq!(bench.table.sessions(), 0);
}

#[test]
fn known_bug_63g_a_command_whose_answer_was_discarded_is_not_executed_again() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    bench.acknowledge(session, 2);
    assert_eq!(bench.command(session, 1, b"a"), STALE);
    assert_eq!(bench.runs(), 1);
}

/// Replicas work by the replicated limits, however much room each of them has.
#[test]
fn known_bug_63h_the_size_of_a_replicas_memory_changes_nothing_and_too_little_is_refused() {
    let mut exact = Bench::new(LIMITS);
    let mut roomy = Bench::with_memory(LIMITS, FixedMemory::<9, 5000>::new());
    for nonce in 0..5 {
        exact.try_open(nonce);
        roomy.try_open(nonce);
    }
    assert_eq!(exact.encoded(), roomy.encoded());
    assert_eq!(exact.table.sessions(), 3);
    let small = SessionTable::new(LIMITS, FixedMemory::<2, 5000>::new());
    assert_eq!(small.err(), Some(CapacityError::Sessions { needed: 3, held: 2 }));
}

#[test]
fn known_bug_63i_the_order_of_eviction_survives_a_snapshot() {
    let mut bench = Bench::new(EVICTING);
    let sessions = [bench.open(1), bench.open(2), bench.open(3)];
    bench.pass(10);
    bench.keep_alive(sessions[0]);
    bench.pass(5);
    bench.keep_alive(sessions[1]);
    let mut other = Bench::new(EVICTING);
    other.table.decode(&bench.encoded(), bench.index).unwrap();
    (other.index, other.stamp) = (bench.index, bench.stamp);
    for bench in [&mut bench, &mut other] {
        bench.pass(50);
        bench.open(4);
        assert_eq!(sessions.map(|session| bench.alive(session)), [true, true, false]);
        bench.open(5);
        assert_eq!(sessions.map(|session| bench.alive(session)), [false, true, false]);
    }
    assert_eq!(bench.encoded(), other.encoded());
}
