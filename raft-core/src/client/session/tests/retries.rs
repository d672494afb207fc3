//! Numbering, acknowledging, and sending again.

use super::run;

#[test]
fn a_session_opens_with_its_first_command_and_acknowledges_what_was_answered() {
    run(
        false,
        "
        0 tick
        0 submit
          send open/1
        0 submit
        5 opened open/1 10000 4
          send 1/1 ack 1
          send 2/1 ack 1
        6 submit
          send 3/1 ack 1
        7 answered 2/1
          done 2
        7 submit
          send 4/1 ack 1
        8 submit
          no: as many commands as the session's window are in flight; wait for an answer
        9 executed 1/1
          done 1 without answer
        9 submit
          send 5/1 ack 3
        ",
    );
}

#[test]
fn commands_wait_for_the_window_that_the_cluster_allows() {
    run(
        false,
        "
        0 submit
          send open/1
        0 submit
        0 submit
        1 opened open/1 10000 2
          send 1/1 ack 1
          send 2/1 ack 1
        2 answered 2/1
          done 2
        3 answered 1/1
          done 1
          send 3/1 ack 3
        ",
    );
}

#[test]
fn a_lost_answer_to_open_leaves_no_orphan_and_the_session_is_renewed_at_once() {
    // The nonce is the same in each attempt, which the harness checks for commands and the
    // state machine for sessions.
    run(
        false,
        "
        0 submit
          send open/1
        50 lost open/1
          send open/2
        200 tick
        300 tick
          send open/3
        310 opened open/2 10000 4
        320 opened open/3 10000 4 again
          send keep-alive/1 ack 1
          send 1/1 ack 1
        ",
    );
}

#[test]
fn a_full_table_is_asked_again_after_the_time_it_named() {
    run(
        false,
        "
        0 submit
          send open/1
        10 refused open/1 TableFull 1000
        1009 tick
        1140 tick
          send open/2
        1141 not open/2 Busy
        1145 tick
          send open/3
        1146 not open/3 NotLeader
          send open/4
        1147 opened open/4 10000 4
          send 1/1 ack 1
        ",
    );
}

#[test]
fn a_command_without_an_answer_is_sent_again_under_its_number_with_growing_patience() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        99 tick
        130 tick
          send 1/2 ack 1
        320 tick
        390 tick
          send 1/3 ack 1
        400 answered 1/3 replayed
          done 1 replayed
        410 answered 1/2
        ",
    );
}

#[test]
fn a_late_answer_to_an_earlier_attempt_is_the_answer() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        130 tick
          send 1/2 ack 1
        140 answered 1/1
          done 1
        150 answered 1/2 replayed
        ",
    );
}

#[test]
fn a_refusal_for_now_is_followed_by_another_attempt() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        1 not 1/1 NotLeader
          send 1/2 ack 1
        2 not 1/2 Overtaken
          send 1/3 ack 1
        3 not 1/3 Stopping
          send 1/4 ack 1
        4 not 1/4 NotReady
        6 tick
          send 1/5 ack 1
        7 refused 1/5 WindowFull
        9 tick
          send 1/6 ack 1
        10 unknown 1/6
        12 tick
          send 1/7 ack 1
        13 nonsense 1/7
        15 tick
          send 1/8 ack 1
        16 unsent 1/8 20
        20 tick
          send 1/9 ack 1
        ",
    );
}

#[test]
fn a_refusal_of_an_earlier_attempt_does_not_touch_the_one_under_way() {
    run(
        false,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        130 tick
          send 1/2 ack 1
        140 not 1/1 NotLeader
        141 refused 1/1 Stale
        150 answered 1/2
          done 1
        ",
    );
}

#[test]
fn after_a_lost_connection_everything_is_sent_again_in_order() {
    run(
        true,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        0 submit
          send 2/1 ack 1
        0 submit
          send 3/1 ack 1
        5 answered 2/1
          done 2
        9 disconnected
          send 1/2 ack 1
          send 3/2 ack 1
        ",
    );
}

#[test]
fn in_a_fifo_session_none_overtakes_one_that_waits() {
    run(
        true,
        "
        0 submit
          send open/1
        0 opened open/1 10000 4
          send 1/1 ack 1
        0 submit
          send 2/1 ack 1
        1 not 1/1 Busy
        1 refused 2/1 OutOfOrder
        1 submit
        4 tick
          send 1/2 ack 1
          send 2/2 ack 1
          send 3/1 ack 1
        ",
    );
}
