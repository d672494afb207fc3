//! Keeping a session alive, taking it for dead, closing it.

use super::{NONCE, World, run};
use crate::client::pace::Pace;
use crate::client::session::{ClientSession, SessionEnd};
use crate::types::{Instant, SessionId};

#[test]
fn a_session_is_kept_alive_at_a_third_of_its_time() {
    run(
        false,
        "
        0 submit
          send open/1
        10 opened open/1 300 4
          send 1/1 ack 1
        20 answered 1/1
          done 1
        105 tick
        110 tick
          send keep-alive/1 ack 2
        115 kept keep-alive/1
        209 tick
        210 tick
          send keep-alive/2 ack 2
        212 submit
          send 2/1 ack 2
        220 not keep-alive/2 NotLeader
          send keep-alive/3 ack 2
        ",
    );
}

#[test]
fn a_command_that_was_answered_renews_from_the_moment_it_was_sent() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 3000 4
          send 1/1 ack 1
        90 answered 1/1
          done 1
        900 submit
          send 2/1 ack 2
        990 answered 2/1
          done 2
        1899 tick
        1900 tick
          send keep-alive/1 ack 3
        ",
    );
}

#[test]
fn a_session_is_taken_for_dead_when_nothing_sent_within_its_time_was_answered() {
    run(
        false,
        "
        0 submit
          send open/1
        5 opened open/1 300 4
          send 1/1 ack 1
        5 submit
          send 2/1 ack 1
        6 not 2/1 Busy
        100 lost 1/1
          send keep-alive/1 ack 1
          send 1/2 ack 1
          send 2/2 ack 1
        101 not 2/2 Busy
        101 lost 1/2
          send 1/3 ack 1
        102 unsent 1/3 400
          send 2/3 ack 1
        299 not 2/3 Busy
          send keep-alive/2 ack 1
        300 tick
          unknown 1: SessionOver(Silent)
          not executed 2: SessionOver(Silent)
          over: Silent
        301 submit
          no: no operation of the session was answered for as long as it lives; open a new one
        ",
    );
}

#[test]
fn a_session_left_alone_is_taken_for_dead_before_a_command_is_put_into_it() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 300 4
          send 1/1 ack 1
        1 answered 1/1
          done 1
        5000 submit
          no: no operation of the session was answered for as long as it lives; open a new one
          over: Silent
        ",
    );
}

#[test]
fn an_answer_after_the_end_still_counts_for_what_was_under_way() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 300 4
          send 1/1 ack 1
        100 tick
          send keep-alive/1 ack 1
        299 lost 1/1
          send keep-alive/2 ack 1
          send 1/2 ack 1
        300 tick
          over: Silent
        301 answered 1/2 replayed
          done 1 replayed
        302 kept keep-alive/2
        ",
    );
}

#[test]
fn a_refused_keep_alive_ends_the_session() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 300 4
          send 1/1 ack 1
        1 answered 1/1
          done 1
        100 tick
          send keep-alive/1 ack 2
        110 refused keep-alive/1 SessionExpired
          over: Expired
        ",
    );
}

#[test]
fn a_keep_alive_refused_for_good_ends_the_session_and_one_refused_for_now_does_not() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 300 4
          send 1/1 ack 1
        1 answered 1/1
          done 1
        100 tick
          send keep-alive/1 ack 2
        110 not keep-alive/1 Busy
        111 tick
          send keep-alive/2 ack 2
        112 not keep-alive/2 WrongSecret
          over: Refused(Refused(WrongSecret))
        ",
    );
}

#[test]
fn closing_goes_on_while_it_is_refused_for_now_and_ends_when_it_is_for_good() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        1 answered 1/1
          done 1
        2 close
          send close/1
        3 not close/1 Busy
        4 tick
          send close/2
        5 not close/2 WrongSecret
          over: Closed
        ",
    );
}

#[test]
fn a_cluster_that_cannot_open_sessions_ends_it_with_nothing_executed() {
    run(
        false,
        "
        0 submit
          send open/1
        1 not open/1 Unsupported
          not executed 1: SessionOver(Refused(Unsupported))
          over: Refused(Unsupported)
        ",
    );
}

#[test]
fn closing_waits_for_the_commands_and_takes_no_more() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        1 close
        2 submit
          no: the session was closed
        3 answered 1/1
          done 1
          send close/1
        4 lost close/1
          send close/2
        5 refused close/2 SessionExpired
          over: Closed
        ",
    );
}

#[test]
fn a_session_nobody_heard_of_is_closed_by_forgetting_it() {
    run(
        false,
        "
        0 close
          over: Closed
        ",
    );
    run(
        false,
        "
        0 submit 10
          send open/1
        1 close
        10 tick
          not executed 1: Deadline
        11 opened open/1 10000 4
          send close/1
        12 closed close/1
          over: Closed
        ",
    );
}

#[test]
fn the_id_is_known_while_the_session_is_open() {
    let mut world =
        World { session: ClientSession::new(NONCE, false, Pace::default(), 1), now: Instant(0), told_end: None };
    world.input("0 submit");
    assert_eq!(world.session.id(), None);
    world.input("10 opened open/1 300 4");
    assert_eq!(world.session.id(), Some(SessionId(7)));
}

#[test]
fn a_session_that_nobody_was_asked_to_open_is_closed_by_forgetting_it() {
    let mut session = ClientSession::<4>::new(NONCE, false, Pace::default(), 1);
    session.open(Instant(0));
    session.close();
    assert_eq!(session.over(), Some(SessionEnd::Closed));
}

#[test]
fn a_session_that_may_be_open_or_is_waited_for_is_opened_before_it_is_closed() {
    let mut asked = ClientSession::<4>::new(NONCE, false, Pace::default(), 1);
    asked.open(Instant(0));
    assert!(asked.transmit(Instant(0)).is_some());
    asked.close();
    assert_eq!(asked.over(), None, "it must be closed where it was opened");
    let mut awaited = ClientSession::<4>::new(NONCE, false, Pace::default(), 1);
    awaited.submit(Instant(0), Instant::NEVER).unwrap();
    awaited.close();
    assert_eq!(awaited.over(), None, "a command is awaited, and executed first");
}
