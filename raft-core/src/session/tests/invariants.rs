//! The invariants that a table alone can keep or break.

use super::*;
use crate::session::table::SecretCheck;

#[test]
fn invariants_1_and_13_a_delayed_command_neither_runs_again_nor_brings_back_what_was_forgotten() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    for sequence in 1..=20 {
        bench.acknowledging(session, sequence, sequence, b"a");
    }
    for delayed in 1..20 {
        assert_eq!(bench.acknowledging(session, delayed, 1, b"a"), STALE);
    }
    assert_eq!(bench.acknowledging(session, 20, 1, b"a"), replayed(31, b"a#0"));
    assert_eq!(bench.runs(), 20);
}

#[test]
fn invariant_3_an_answer_stays_as_it_was_while_others_take_cells_around_it() {
    let mut bench = Bench::new(LIMITS);
    let (session, other) = (bench.open(1), bench.open(2));
    bench.command(session, 1, b"a");
    for sequence in [2, 3, 4] {
        bench.command(session, sequence, b"<\x08");
        bench.command(other, sequence, b"<\x08");
        assert_eq!(bench.command(session, 1, b"a"), replayed(13, b"a#1"));
    }
}

#[test]
fn invariant_4_ids_only_grow_and_opening_again_resets_nothing() {
    let mut bench = Bench::new(LIMITS);
    let mut last = SessionId(0);
    for nonce in 0..20 {
        let session = bench.open(nonce);
        assert!(session > last);
        bench.acknowledging(session, 7, 7, b"a");
        assert_eq!(bench.open(nonce), session);
        assert_eq!(bench.command(session, 6, b"a"), STALE);
        bench.close(session);
        last = session;
    }
}

/// The outcome borrows the table: nothing can be applied before it has been handled.
#[test]
fn invariant_6_the_answer_is_captured_when_its_entry_is_applied() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    let captured = match bench.command(session, 1, b"a") {
        Outcome::Answered { answer: Bytes(answer), .. } => answer.to_vec(),
        other => panic!("not answered: {other:?}"),
    };
    bench.pass(101);
    assert_eq!(captured, b"a#1");
}

#[test]
fn invariant_10_cluster_time_never_decreases() {
    let mut bench = Bench::new(LIMITS);
    let mut last = ClusterTime(0);
    for stamp in [5, 3, 0, 7, 100, 99, u64::MAX, 1] {
        bench.clock(stamp);
        assert!(bench.table.time() >= last);
        last = bench.table.time();
    }
    assert_eq!(last, ClusterTime(5 + 2 + 10 + 10));
}

/// Even if hours without a session lie before, entries are far between, and others come in storms.
#[test]
fn invariant_11_a_client_that_renews_every_third_of_its_time_is_never_evicted() {
    let mut bench = Bench::new(EVICTING);
    bench.clock(10_000_000);
    let session = bench.open(1);
    for round in 0..30 {
        bench.clock(bench.stamp.0 + 33);
        assert_eq!(bench.keep_alive(session), Outcome::KeptAlive);
        for nonce in 0..10 {
            bench.try_open(100 + round * 10 + nonce);
        }
    }
    assert!(bench.alive(session));
}

#[test]
fn invariant_12_an_idle_session_is_gone_after_its_time_and_a_step() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    let busy = bench.open(2);
    let opened = bench.stamp.0;
    for _ in 0..11 {
        bench.clock(bench.stamp.0 + 10);
        bench.keep_alive(busy);
    }
    assert!(!bench.alive(session) && bench.alive(busy));
    assert!(bench.stamp.0 <= opened + 100 + 10);
}

#[test]
fn invariant_14_a_number_beyond_the_window_is_not_remembered_and_is_accepted_later() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open(1);
    assert_eq!(bench.command(session, 5, b"early"), WINDOW_FULL);
    assert_eq!(bench.acknowledging(session, 5, 2, b"late"), answered(13, b"late#1"), "no mismatch with the first");
}

#[test]
fn invariant_15_a_refusal_of_the_session_layer_is_not_kept_as_an_answer() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open_as(1, true);
    assert_eq!(bench.command(session, 2, b"b"), OUT_OF_ORDER);
    bench.command(session, 1, b"a");
    assert_eq!(bench.command(session, 2, b"c"), answered(14, b"c#2"));
}

#[test]
fn invariant_16_reading_renews_nothing() {
    let mut bench = Bench::new(EVICTING);
    let session = bench.open(1);
    bench.pass(10);
    let before = bench.encoded();
    assert_eq!(bench.table.check_secret(session, Nonce(1)), SecretCheck::Right);
    assert_eq!(bench.table.next_expiry(), Some(ClusterTime(15)));
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(100)));
    assert_ne!(bench.table.digest(), 0);
    assert_eq!(bench.encoded(), before);
    bench.pass(91);
    assert!(!bench.alive(session));
}

#[test]
fn invariant_17_tables_that_came_to_the_same_by_other_ways_encode_to_the_same_bytes() {
    let mut tidy = Bench::new(LIMITS);
    let session = {
        tidy.index = Index(12);
        tidy.open(2)
    };
    // This one has had another session in that place, and keeps answers that were forgotten.
    let mut used = Bench::new(LIMITS);
    let first = used.open(1);
    used.close(first);
    used.index = Index(12);
    assert_eq!(used.open(2), session);
    for bench in [&mut tidy, &mut used] {
        bench.index = Index(20);
    }
    used.command(session, 1, b"a");
    used.acknowledge(session, 2);
    tidy.acknowledge(session, 2);
    assert_eq!(used.encoded(), tidy.encoded());
    assert_eq!(used.table.digest(), tidy.table.digest());
}

#[test]
fn the_first_lease_to_end_is_exact_whatever_is_renewed_closed_or_opened() {
    let mut bench = Bench::new(LIMITS);
    let one = bench.open(1);
    bench.pass(10);
    let other = bench.open(2);
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(100)));
    bench.keep_alive(one);
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(110)));
    bench.pass(7);
    bench.keep_alive(other);
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(110)));
    bench.close(one);
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(117)));
    bench.close(other);
    assert_eq!(bench.table.lease_end_min(), None);
    bench.open(3);
    assert_eq!(bench.table.lease_end_min(), Some(ClusterTime(117)));
}
