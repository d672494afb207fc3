//! A response belongs to one session, one operation and one attempt that was sent.

use super::run;

#[test]
fn an_answer_to_a_command_of_the_session_before_does_not_complete_the_one_with_its_number() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 answered old:1/1
        3 executed old:1/1
        4 answered 1/1
          done 1
        ",
    );
}

#[test]
fn no_refusal_or_expiry_of_the_session_before_touches_this_one() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 refused old:1/1 SessionExpired
        2 refused old:1/1 Stale
        2 not old:1/1 WrongSecret
        2 not old:1/1 Busy
        2 unknown old:1/1
        2 lost old:1/1
        2 unsent old:1/1 9
        2 close
        3 answered 1/1
          done 1
          send close/1
        4 refused old:keep-alive/1 SessionExpired
        4 closed old:close/1
        4 refused old:close/1 SessionExpired
        5 closed close/1
          over: Closed
        ",
    );
}

#[test]
fn a_session_is_not_opened_by_the_answer_to_the_session_before() {
    run(
        false,
        "
        0 submit
          send open/1
        1 opened old:open/1 10000 4
        1 not old:open/1 Unsupported
        1 refused old:open/1 TableFull 9000
        2 opened open/1 10000 4
          send 1/1 ack 1
        ",
    );
}

#[test]
fn a_command_that_was_not_sent_yet_is_not_completed_whatever_is_answered() {
    run(
        false,
        "
        0 submit
          send open/1
        0 answered 1/1
        1 opened open/1 10000 4
          send 1/1 ack 1
        2 answered 1/2
        2 answered 2/1
        3 not 1/1 Busy
        3 answered 1/2
        5 tick
          send 1/2 ack 1
        6 answered 1/1
          done 1
        ",
    );
}

#[test]
fn a_late_answer_to_a_keep_alive_does_not_renew_by_the_one_after_it() {
    // The second one was never answered: nobody knows that it renewed the session.
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 3000 4
          send 1/1 ack 1
        0 answered 1/1
          done 1
        1000 tick
          send keep-alive/1 ack 2
        1130 tick
          send keep-alive/2 ack 2
        1140 kept keep-alive/2
        2130 tick
          send keep-alive/3 ack 2
        2131 kept keep-alive/1
        2260 tick
          send keep-alive/4 ack 2
        4129 lost keep-alive/4
          send keep-alive/5 ack 2
        4130 tick
          over: Silent
        ",
    );
}
