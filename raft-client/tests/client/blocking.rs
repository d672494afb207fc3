//! A blocking client against nodes that lose, refuse, redirect and go away.

use std::time::Duration;

use raft_client::{
    Answer, BlockingClient, CommandError, Consistency, NotExecuted, QueryError, Reason, Refusal, Retry, SessionEnd,
};
use raft_core::client::protocol::RequestBody;
use raft_core::message::ProposeError;
use raft_core::session::operation::Operation;
use raft_core::types::Millis;

use crate::support::{Service, Turn, first_commands, is_command};

fn bytes(answer: &Answer) -> &[u8] {
    answer.bytes.as_deref().unwrap()
}

#[test]
fn commands_queries_and_status_are_answered() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    for number in 0..100u8 {
        let answer = client.execute(&[number]).unwrap();
        assert_eq!((bytes(&answer), answer.replayed), (&[number][..], false));
    }
    assert_eq!(client.query(Consistency::Linearizable, b"abc").unwrap(), b"cba");
    assert_eq!(client.status(&service.address(0)).unwrap().sessions, 1);
    assert_eq!(bytes(&client.execute_plain(b"plain", Retry::OnlyIfRefused).unwrap()), b"plain");
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.retries, stats.replayed, stats.reconnects), (1, 0, 0, 0));
    assert_eq!(stats.sent, 1 + 100 + 3);
    assert!(client.close());
    assert_eq!(service.lock().closed.len(), 1);
    service.assert_none_twice();
}

#[test]
fn a_lost_answer_is_given_by_the_next_attempt_without_a_second_execution() {
    for turn in [Turn::ServeAndLose, Turn::ServeAndClose] {
        let service = Service::start(1, first_commands(2, turn));
        let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
        let answer = client.execute(b"once").unwrap();
        assert_eq!((bytes(&answer), answer.replayed), (&b"once"[..], true));
        assert!(client.stats().retries >= 2 && client.stats().replayed == 1);
        service.assert_none_twice();
    }
}

#[test]
fn refusals_for_now_are_not_seen_by_the_caller() {
    let reasons = [
        NotExecuted::Refused(ProposeError::Busy),
        NotExecuted::Refused(ProposeError::NotReady),
        NotExecuted::Refused(ProposeError::NotLeader { leader: None }),
        NotExecuted::Overtaken,
        NotExecuted::Stopping,
    ];
    let mut turns: Vec<Turn> = reasons.into_iter().map(Turn::Refuse).collect();
    turns.extend([Turn::Answer(Refusal::WindowFull), Turn::Answer(Refusal::OutOfOrder)]);
    for turn in turns {
        let service = Service::start(1, first_commands(3, turn));
        let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
        assert!(!client.execute(b"once").unwrap().replayed, "{turn:?}");
        assert!(client.stats().retries >= 3);
        service.assert_none_twice();
    }
}

#[test]
fn the_leader_is_found_by_the_address_that_another_node_names() {
    let service = Service::start(3, |_, _| Turn::Serve);
    service.lock().leader = 2;
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    client.execute(b"a").unwrap();
    assert_eq!((client.stats().redirects, client.stats().reconnects), (1, 0));
    // It stays there.
    client.execute(b"b").unwrap();
    assert_eq!(client.stats().redirects, 1);
}

#[test]
fn commands_go_on_under_another_leader() {
    let service = Service::start(3, |_, _| Turn::Serve);
    let mut client = BlockingClient::new(&service.options(&[0, 1, 2])).unwrap();
    for round in 0..6u8 {
        for number in 0..20 {
            client.execute(&[round, number]).unwrap();
        }
        service.depose(usize::from(round + 1) % 3);
    }
    assert_eq!(service.lock().executed.len(), 120);
    assert_eq!(client.stats().sessions_opened, 1);
    service.assert_none_twice();
}

#[test]
fn a_command_is_not_executed_if_its_session_expired_before_its_only_attempt() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    client.execute(b"a").unwrap();
    service.expire_sessions();
    let expired = Reason::SessionOver(SessionEnd::Expired);
    assert_eq!(client.execute(b"b"), Err(CommandError::NotExecuted(expired)));
    client.execute(b"c").unwrap();
    assert_eq!((client.stats().sessions_opened, client.stats().sessions_expired), (2, 1));
    assert!(!service.lock().executed.contains_key(&b"b"[..]));
}

#[test]
fn a_command_is_unknown_if_its_session_expired_after_an_attempt_without_an_answer() {
    let service = Service::start(1, {
        let mut commands = 0;
        move |_, request| {
            commands += u32::from(is_command(request));
            match (is_command(request), commands) {
                (true, 1) => Turn::ServeAndClose,
                (true, 2) => Turn::Answer(Refusal::SessionExpired),
                _ => Turn::Serve,
            }
        }
    });
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    let expired = Reason::SessionOver(SessionEnd::Expired);
    assert_eq!(client.execute(b"a"), Err(CommandError::Unknown(expired)));
    client.execute(b"b").unwrap();
    service.assert_none_twice();
}

#[test]
fn a_session_left_alone_for_longer_than_it_lives_is_replaced_unseen() {
    let service = Service::start(1, |_, _| Turn::Serve);
    service.lock().ttl = Millis(20);
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    client.execute(b"a").unwrap();
    service.expire_sessions();
    std::thread::sleep(Duration::from_millis(30));
    client.execute(b"b").unwrap();
    assert_eq!(client.stats().sessions_expired, 1);
}

#[test]
fn without_any_node_a_command_is_not_executed_when_its_time_is_over() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let options = raft_client::Options { endpoints: vec!["127.0.0.1:1".to_owned()], ..service.options(&[0]) };
    let mut client = BlockingClient::new(&options).unwrap();
    client.set_timeout(Some(Duration::from_millis(50)));
    assert_eq!(client.execute(b"a"), Err(CommandError::NotExecuted(Reason::Deadline)));
    assert_eq!(client.query(Consistency::Stale, b"a"), Err(QueryError(Reason::Deadline)));
    assert_eq!(client.execute_plain(b"a", Retry::Always), Err(CommandError::NotExecuted(Reason::Deadline)));
    client.set_timeout(None);
    assert_eq!(client.status("127.0.0.1:1"), Err(QueryError(Reason::NoAnswer)));
    assert!(client.stats().reconnects > 0);
}

#[test]
fn a_command_that_was_sent_is_unknown_when_its_time_is_over() {
    let service = Service::start(1, |_, request| if is_command(request) { Turn::Lose } else { Turn::Serve });
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    client.set_timeout(Some(Duration::from_millis(100)));
    assert_eq!(client.execute(b"a"), Err(CommandError::Unknown(Reason::Deadline)));
}

#[test]
fn a_plain_command_is_repeated_only_if_that_was_asked_for() {
    for (retry, executed) in [(Retry::OnlyIfRefused, 1), (Retry::Always, 2)] {
        let service = Service::start(1, {
            let mut first = true;
            move |_, _| if std::mem::take(&mut first) { Turn::ServeAndClose } else { Turn::Serve }
        });
        let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
        let result = client.execute_plain(b"a", retry);
        match retry {
            Retry::OnlyIfRefused => assert_eq!(result, Err(CommandError::Unknown(Reason::NoAnswer))),
            Retry::Always => assert!(result.is_ok()),
        }
        assert_eq!(service.lock().executed[&b"a"[..]], executed);
    }
}

#[test]
fn a_full_table_of_sessions_is_waited_for() {
    let service = Service::start(1, {
        let mut opens = 0;
        move |_, request| match request.body {
            RequestBody::Operate { operation: Operation::Open { .. }, .. } if opens < 2 => {
                opens += 1;
                Turn::Answer(Refusal::TableFull { retry_after: Millis(10) })
            }
            _ => Turn::Serve,
        }
    });
    let mut client = BlockingClient::new(&service.options(&[0])).unwrap();
    client.execute(b"a").unwrap();
    assert_eq!(client.stats().retries, 2);
}

#[test]
fn what_would_be_refused_for_ever_is_told_at_once() {
    let reason = NotExecuted::Refused(ProposeError::TooLong { limit: 3 });
    let service = Service::start(1, first_commands(1, Turn::Refuse(reason)));
    let options = raft_client::Options { message_bytes_max: 10, ..service.options(&[0]) };
    let mut client = BlockingClient::new(&options).unwrap();
    assert_eq!(client.execute(b"long"), Err(CommandError::NotExecuted(Reason::Node(reason))));
    let too_long = Reason::TooLong { limit: 10 };
    assert_eq!(client.execute(&[0; 11]), Err(CommandError::NotExecuted(too_long)));
    assert_eq!(client.status("nowhere"), Err(QueryError(Reason::Endpoint)));
}
