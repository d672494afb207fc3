//! What a command meets when it is applied, case by case.

use std::vec;

use super::*;
use crate::session::memory::CapacityError;
use crate::session::table::{SecretCheck, SessionCounters};

#[test]
fn a_session_is_named_by_the_index_of_the_entry_that_opened_it() {
    let mut bench = Bench::new(LIMITS);
    let opened = Outcome::Opened { session: SessionId(11), again: false, ttl: Millis(100), window: 4 };
    assert_eq!(bench.try_open(1), opened);
    assert_eq!(bench.table.sessions(), 1);
}

#[test]
fn opening_again_with_the_same_nonce_finds_the_session_and_renews_it() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    bench.pass(100);
    assert_eq!(bench.try_open(1), Outcome::Opened { session, again: true, ttl: Millis(100), window: 4 });
    bench.pass(100);
    assert_eq!(bench.command(session, 1, b"a"), replayed(12, b"a#1"));
}

#[test]
fn opening_again_with_another_discipline_is_a_mismatch() {
    let mut bench = Bench::new(LIMITS);
    bench.open_as(1, true);
    assert_eq!(bench.try_open(1), MISMATCH);
}

#[test]
fn a_new_number_inside_the_window_is_executed_in_any_order_of_arrival() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 4, b"d"), answered(12, b"d#1"));
    assert_eq!(bench.command(session, 2, b"b"), answered(13, b"b#2"));
    assert_eq!(bench.command(session, 1, b"a"), answered(14, b"a#3"));
    assert_eq!(bench.command(session, 3, b"c"), answered(15, b"c#4"));
    assert_eq!(bench.command(session, 4, b"d"), replayed(12, b"d#1"));
}

#[test]
fn an_answer_too_long_to_keep_is_handed_out_once_and_then_kept_as_the_fact() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    let long = vec![0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(bench.command(session, 1, b"<\x08"), answered(12, &long[..8]));
    assert_eq!(bench.command(session, 2, b"<\x09"), answered(13, &long));
    assert_eq!(bench.command(session, 1, b"<\x08"), replayed(12, &long[..8]));
    assert_eq!(bench.command(session, 2, b"<\x09"), Outcome::Executed { index: Index(13), replayed: true });
    assert_eq!(bench.runs(), 2);
}

#[test]
fn an_answer_longer_than_the_scratch_is_the_fact_from_the_beginning() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert!(matches!(bench.command(session, 1, b"<\x10"), Outcome::Answered { .. }));
    assert_eq!(bench.command(session, 2, b"<\x11"), Outcome::Executed { index: Index(13), replayed: false });
    assert_eq!(bench.command(session, 2, b"<\x11"), Outcome::Executed { index: Index(13), replayed: true });
    assert_eq!(bench.runs(), 2);
}

#[test]
fn an_empty_answer_to_an_empty_command_is_kept_like_any_other() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 1, b"<\x00"), answered(12, b""));
    assert_eq!(bench.command(session, 1, b"<\x00"), replayed(12, b""));
    assert_eq!(bench.command(session, 2, b""), answered(14, b"#2"));
    assert_eq!(bench.command(session, 2, b""), replayed(14, b"#2"));
}

#[test]
fn a_number_below_the_acknowledgement_is_stale() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    assert_eq!(bench.acknowledging(session, 2, 2, b"b"), answered(13, b"b#2"));
    assert_eq!(bench.command(session, 1, b"a"), STALE);
}

#[test]
fn number_0_is_stale_and_acknowledgement_0_counts_as_1() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.acknowledging(session, 0, 0, b"x"), STALE);
    assert_eq!(bench.acknowledging(session, 1, 0, b"a"), answered(13, b"a#1"));
    assert_eq!(bench.acknowledging(session, 5, 0, b"e"), WINDOW_FULL);
}

#[test]
fn a_number_at_the_acknowledgement_plus_the_window_is_beyond_it() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 5, b"e"), WINDOW_FULL);
    assert_eq!(bench.command(session, u64::MAX, b"z"), WINDOW_FULL);
    assert_eq!(bench.acknowledging(session, 5, 2, b"e"), answered(14, b"e#1"));
}

#[test]
fn an_acknowledgement_may_run_ahead_of_all_numbers_up_to_the_highest_there_is() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.acknowledging(session, 7, 7, b"g"), answered(12, b"g#1"));
    assert_eq!(bench.acknowledge(session, u64::MAX), Outcome::KeptAlive);
    assert_eq!(bench.command(session, 7, b"g"), STALE);
    assert_eq!(bench.command(session, u64::MAX, b"z"), answered(15, b"z#2"));
    assert_eq!(bench.command(session, u64::MAX, b"z"), replayed(15, b"z#2"));
}

#[test]
fn the_same_number_with_another_command_is_a_mismatch() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.command(session, 1, b"a");
    assert_eq!(bench.command(session, 1, b"b"), MISMATCH);
    assert_eq!(bench.command(session, 1, b"aa"), MISMATCH);
    assert_eq!(bench.command(session, 1, b"a"), replayed(12, b"a#1"));
}

#[test]
fn a_gap_in_a_fifo_session_is_out_of_order_and_may_be_sent_again() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open_as(1, true);
    assert_eq!(bench.command(session, 2, b"b"), OUT_OF_ORDER);
    assert_eq!(bench.command(session, 1, b"a"), answered(13, b"a#1"));
    assert_eq!(bench.command(session, 2, b"b"), answered(14, b"b#2"));
    assert_eq!(bench.command(session, 1, b"a"), replayed(13, b"a#1"));
    assert_eq!(bench.command(session, 4, b"d"), OUT_OF_ORDER);
    assert_eq!(bench.acknowledging(session, 4, 4, b"d"), answered(17, b"d#3"), "3 was given up");
}

#[test]
fn a_plain_command_is_executed_as_often_as_it_stands_in_the_log() {
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.apply(Operation::Plain { command: Bytes(b"p") }), answered(11, b"p#1"));
    assert_eq!(bench.apply(Operation::Plain { command: Bytes(b"p") }), answered(12, b"p#2"));
}

#[test]
fn a_closed_session_is_gone_and_others_are_not() {
    let mut bench = Bench::new(LIMITS);
    let sessions = [bench.open(1), bench.open(2), bench.open(3)];
    bench.command(sessions[2], 1, b"c");
    assert_eq!(bench.close(sessions[1]), Outcome::Closed);
    assert_eq!(bench.close(sessions[1]), EXPIRED);
    assert_eq!(bench.command(sessions[1], 1, b"b"), EXPIRED);
    assert_eq!(bench.command(sessions[0], 1, b"a"), answered(18, b"a#2"));
    assert_eq!(bench.command(sessions[2], 1, b"c"), replayed(14, b"c#1"));
    assert_eq!(bench.table.sessions(), 2);
}

#[test]
fn a_lease_ends_when_time_is_past_it_not_when_it_is_reached() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    bench.pass(100);
    assert!(bench.alive(session));
    bench.pass(1);
    assert!(!bench.alive(session));
    assert_eq!(bench.keep_alive(session), EXPIRED);
}

#[test]
fn sessions_that_end_leave_the_others_their_answers_and_their_room_to_new_ones() {
    let mut bench = Bench::new(LIMITS);
    let first = bench.open(1);
    bench.pass(7);
    let second = bench.open(2);
    bench.command(second, 1, b"b");
    bench.pass(7);
    let third = bench.open(3);
    bench.pass(83);
    // One entry takes time past the lease of the first, and to the very end of the second's.
    bench.pass(10);
    assert_eq!([first, second, third].map(|session| bench.alive(session)), [false, true, true]);
    let fourth = bench.open(4);
    bench.command(fourth, 1, b"d");
    assert_eq!(was_replayed(bench.command(third, 1, b"c")), Some(false));
    assert_eq!(was_replayed(bench.command(second, 1, b"b")), Some(true));
    assert_eq!(was_replayed(bench.command(fourth, 1, b"d")), Some(true));
}

#[test]
fn every_command_of_a_living_session_renews_it_even_if_it_is_refused() {
    for (sequence, command) in [(1, &b"a"[..]), (1, b"b"), (0, b""), (9, b"i")] {
        let mut bench = Bench::new(LIMITS);
        let session = bench.open(1);
        bench.command(session, 1, b"a");
        bench.pass(60);
        bench.command(session, sequence, command);
        bench.pass(60);
        assert!(bench.alive(session), "number {sequence}");
    }
}

#[test]
fn a_full_table_says_when_the_next_session_may_end() {
    let mut bench = Bench::new(LIMITS);
    bench.open(1);
    bench.pass(30);
    (2..4).for_each(|nonce| _ = bench.open(nonce));
    assert_eq!(bench.try_open(4), table_full(71));
    bench.pass(70);
    assert_eq!(bench.try_open(4), table_full(1));
    bench.pass(1);
    bench.open(4);
}

#[test]
fn an_idle_session_makes_room_if_the_table_is_told_so_and_no_sooner() {
    let mut bench = Bench::new(EVICTING);
    let first = bench.open(1);
    bench.pass(10);
    let rest = [bench.open(2), bench.open(3)];
    assert_eq!(bench.try_open(4), table_full(40));
    bench.pass(1);
    bench.keep_alive(first);
    bench.pass(48);
    assert_eq!(bench.try_open(4), table_full(1));
    bench.pass(1);
    bench.open(4);
    assert_eq!([first, rest[0], rest[1]].map(|session| bench.alive(session)), [true, false, true], "equals go by id");
    bench.open(5);
    assert_eq!([first, rest[1]].map(|session| bench.alive(session)), [true, false], "first was renewed later");
    assert_eq!(bench.table.counters().evicted, 2);
}

#[test]
fn a_secret_is_right_wrong_or_of_an_unknown_session() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(7);
    assert_eq!(bench.table.check_secret(session, Nonce(7)), SecretCheck::Right);
    assert_eq!(bench.table.check_secret(session, Nonce(8)), SecretCheck::Wrong);
    assert_eq!(bench.table.check_secret(SessionId(1), Nonce(7)), SecretCheck::Unknown);
}

#[test]
fn everything_is_counted() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    (1..3).for_each(|nonce| _ = bench.open(nonce));
    bench.command(session, 1, b"a");
    bench.command(session, 1, b"a");
    bench.command(session, 1, b"b");
    bench.apply(Operation::Plain { command: Bytes(b"p") });
    bench.close(session);
    bench.pass(101);
    let counted = SessionCounters {
        opened: 2,
        reopened: 1,
        closed: 1,
        expired: 1,
        evicted: 0,
        executed: 1,
        plain: 1,
        replayed: 1,
        refused: 1,
    };
    assert_eq!(*bench.table.counters(), counted);
}

#[test]
fn a_memory_too_small_for_the_limits_is_refused_by_name_and_number() {
    let refuse = |limits| SessionTable::new(limits, Memory::new()).unwrap_err();
    let sessions = refuse(SessionLimits { sessions: 5, ..LIMITS });
    assert_eq!(sessions, CapacityError::Sessions { needed: 5, held: 3 });
    assert!(std::format!("{sessions}").ends_with("room for 2 more"));
    let wide = SessionLimits { window: 5, ..LIMITS };
    assert_eq!(refuse(wide), CapacityError::Bytes { needed: bytes_needed(&wide, 0), held: MEMORY_BYTES });
    let huge = SessionLimits { window: 1024, answer_bytes: u32::MAX, ..LIMITS };
    assert!(matches!(refuse(huge), CapacityError::Bytes { .. }));
    assert!(matches!(refuse(SessionLimits { window: 0, ..LIMITS }), CapacityError::Limits(_)));
}

#[cfg(feature = "alloc")]
#[test]
fn a_memory_that_cannot_be_allocated_is_refused() {
    use crate::session::memory::HeapMemory;
    let limits = SessionLimits { sessions: u32::MAX, window: 1024, answer_bytes: u32::MAX, ..LIMITS };
    assert!(matches!(HeapMemory::new(&limits, 0), Err(CapacityError::Allocation { .. })));
    assert!(HeapMemory::new(&LIMITS, 0).is_ok());
}
