//! When a command was certainly not executed, and when nobody can tell.

use super::run;

#[test]
fn a_command_that_was_never_sent_is_not_executed_when_its_deadline_passes() {
    run(
        false,
        "
        0 submit 50
          send open/1
        50 tick
          not executed 1: Deadline
        ",
    );
}

#[test]
fn a_command_under_way_is_unknown_when_its_deadline_passes_and_never_returns() {
    run(
        false,
        "
        0 submit 50
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        50 tick
          unknown 1: Deadline
        51 answered 1/1
        52 submit
          send 2/1 ack 2
        ",
    );
}

#[test]
fn a_command_whose_every_attempt_was_refused_is_not_executed_when_its_deadline_passes() {
    run(
        false,
        "
        0 submit 50
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 not 1/1 Overtaken
          send 1/2 ack 1
        49 not 1/2 Busy
        50 tick
          not executed 1: Deadline
        ",
    );
}

#[test]
fn one_attempt_without_an_answer_leaves_the_doubt_for_good() {
    run(
        false,
        "
        0 submit 50
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 lost 1/1
          send 1/2 ack 1
        49 not 1/2 Busy
        50 tick
          unknown 1: Deadline
        ",
    );
}

#[test]
fn a_refusal_for_good_is_certain_only_without_an_attempt_in_doubt() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        1 submit
          send 2/1 ack 1
        1 submit
          send 3/1 ack 1
        1 submit
          send 4/1 ack 1
        2 not 1/1 TooLong
          not executed 1: Node(Refused(TooLong { limit: 5 }))
        3 refused 2/1 Mismatch
          not executed 2: Session(Mismatch)
        4 refused 3/1 Stale
          not executed 3: Session(Stale)
        5 lost 4/1
          send 4/2 ack 4
        6 refused 4/2 Stale
          unknown 4: Session(Stale)
        ",
    );
}

#[test]
fn a_session_that_expired_under_a_repeated_command_leaves_it_unknown() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 lost 1/1
          send 1/2 ack 1
        3 refused 1/2 SessionExpired
          unknown 1: SessionOver(Expired)
          over: Expired
        ",
    );
}

#[test]
fn when_the_session_expired_each_command_under_way_gets_its_own_answer() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        1 submit
          send 2/1 ack 1
        1 submit
          send 3/1 ack 1
        1 submit
          send 4/1 ack 1
        2 not 4/1 Busy
        2 answered 1/1
          done 1
        2 refused 2/1 SessionExpired
          not executed 2: SessionOver(Expired)
          not executed 4: SessionOver(Expired)
          over: Expired
        2 submit
          no: the session has expired; open a new one
        130 tick
          unknown 3: SessionOver(Expired)
        ",
    );
}

#[test]
fn a_late_word_of_the_session_s_end_settles_what_is_not_under_way() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        130 tick
          send 1/2 ack 1
        131 refused 1/1 SessionExpired
          over: Expired
        132 lost 1/2
          unknown 1: SessionOver(Expired)
        ",
    );
}
