//! Many sessions and many commands in flight on one thread.

use std::time::Duration;

use raft_client::{
    CommandError, Completion, Engine, LinkFault, NotExecuted, Options, OptionsError, Reason, Retry, SubmitError, Ticket,
};
use raft_core::client::pace::Jitter;
use raft_core::client::protocol::Request;
use raft_core::types::ClusterId;

use crate::support::{CLUSTER, Service, Turn, is_command};

/// Polls until `count` requests are completed.
fn complete(engine: &mut Engine, count: usize) -> Vec<(Ticket, Completion)> {
    let mut completed = Vec::new();
    while completed.len() < count {
        engine.poll(None).unwrap();
        completed.extend(std::iter::from_fn(|| engine.next_completion()));
    }
    completed
}

fn answer(completion: &Completion) -> &[u8] {
    match completion {
        Completion::Command(Ok(answer)) => answer.bytes.as_deref().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_window_is_told_and_drains() {
    let service = Service::start(1, |_, _| Turn::Serve);
    service.lock().window = 8;
    let mut engine = Engine::new(&service.options(&[0])).unwrap();
    let session = engine.open_session();
    let mut tickets = Vec::new();
    for number in 0..64u8 {
        tickets.push(engine.submit(session, &[number], None).unwrap());
    }
    assert_eq!(engine.submit(session, b"", None), Err(SubmitError::WindowFull));
    let mut completed = complete(&mut engine, 64);
    completed.sort_by_key(|(ticket, _)| *ticket);
    for (number, (ticket, completion)) in completed.iter().enumerate() {
        assert_eq!((*ticket, answer(completion)), (tickets[number], &[number as u8][..]));
    }
    // The service allows fewer in flight than were taken in before it said so.
    for _ in 0..8 {
        engine.submit(session, b"more", None).unwrap();
    }
    assert_eq!(engine.submit(session, b"", None), Err(SubmitError::WindowFull));
}

#[test]
fn many_sessions_over_lost_answers_and_changing_leaders_execute_each_command_once() {
    const SESSIONS: usize = 50;
    const COMMANDS: usize = 40;
    let mut chance = Jitter::new(11);
    let service = Service::start(3, move |_, _| match chance.below(200) {
        0 => Turn::ServeAndLose,
        1 => Turn::ServeAndClose,
        2 => Turn::Lose,
        3 => Turn::Close,
        4 => Turn::Unknown,
        _ => Turn::Serve,
    });
    let mut engine = Engine::new(&service.options(&[0, 1, 2])).unwrap();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| engine.open_session()).collect();
    let mut owners = vec![0; SESSIONS];
    let mut sent = vec![0; SESSIONS];
    let mut submit = |engine: &mut Engine, owners: &mut Vec<usize>, place: usize| {
        if sent[place] < COMMANDS {
            let command = [place as u8, sent[place] as u8];
            owners[engine.submit(sessions[place], &command, None).unwrap().index()] = place;
            sent[place] += 1;
        }
    };
    for place in 0..SESSIONS {
        submit(&mut engine, &mut owners, place);
    }
    for done in 1..=SESSIONS * COMMANDS {
        let (ticket, completion) = complete_one(&mut engine);
        let place = owners[ticket.index()];
        assert_eq!(usize::from(answer(&completion)[0]), place);
        if done % 500 == 0 {
            service.depose(done / 500 % 3);
        }
        submit(&mut engine, &mut owners, place);
    }
    let state = service.lock();
    assert_eq!(state.executed.len(), SESSIONS * COMMANDS);
    assert!(state.executed.values().all(|&times| times == 1));
    let stats = engine.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_expired), (SESSIONS as u64, 0));
    assert!(stats.replayed > 0 && stats.retries > stats.replayed && stats.reconnects > 0, "{stats:?}");
}

fn complete_one(engine: &mut Engine) -> (Ticket, Completion) {
    loop {
        if let Some(completed) = engine.next_completion() {
            return completed;
        }
        engine.poll(None).unwrap();
    }
}

#[test]
fn a_follower_refuses_commands_that_were_sent_to_it_together_and_none_of_them_is_in_doubt() {
    // They stay certain although the client turns to the leader at the first refusal: the other
    // refusals are still waited for.
    let service = Service::start(2, |node, request| match node {
        1 if is_command(request) => Turn::Lose,
        _ => Turn::Serve,
    });
    let options = Options { attempt_timeout: Duration::from_secs(60), ..service.options(&[0]) };
    let mut engine = Engine::new(&options).unwrap();
    let session = engine.open_session();
    engine.submit(session, b"first", None).unwrap();
    complete(&mut engine, 1);
    service.lock().leader = 1;
    for number in 0..20u8 {
        engine.submit(session, &[number], Some(Duration::from_millis(300))).unwrap();
    }
    for (_, completion) in complete(&mut engine, 20) {
        // Node 1 got them and says nothing, so that now they are.
        assert_eq!(completion, Completion::Command(Err(CommandError::Unknown(Reason::Deadline))));
    }
    assert_eq!((engine.stats().redirects, engine.stats().reconnects), (1, 0));
    assert_eq!(engine.stats().retries, 20);
}

#[test]
fn a_closed_session_takes_no_more_and_is_closed_in_the_cluster() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let mut engine = Engine::new(&service.options(&[0])).unwrap();
    let (used, unused) = (engine.open_session(), engine.open_session());
    engine.submit(used, b"a", None).unwrap();
    engine.close_session(used);
    engine.close_session(unused);
    assert_eq!(engine.submit(used, b"b", None), Err(SubmitError::Closed));
    assert_eq!(engine.submit(unused, b"b", None), Err(SubmitError::Closed));
    while engine.is_closing() {
        engine.poll(None).unwrap();
    }
    assert!(engine.next_completion().is_some());
    assert_eq!(service.lock().closed.len(), 1);
    assert_eq!(engine.stats().sessions_expired, 0);
}

#[test]
fn limits_are_told_before_anything_is_sent() {
    let service = Service::start(1, |_, _| Turn::Serve);
    let options = Options { requests_max: 2, message_bytes_max: 4, ..service.options(&[0]) };
    let mut engine = Engine::new(&options).unwrap();
    let session = engine.open_session();
    assert_eq!(engine.submit(session, b"12345", None), Err(SubmitError::TooLong { given: 5, limit: 4 }));
    engine.submit(session, b"1", None).unwrap();
    engine.submit_plain(b"2", Retry::Always, None).unwrap();
    assert_eq!(engine.submit_plain(b"3", Retry::Always, None), Err(SubmitError::Busy { limit: 2 }));
    complete(&mut engine, 2);
    engine.submit_plain(b"3", Retry::Always, None).unwrap();
    assert!(matches!(
        Engine::new(&Options::new::<String>([])),
        Err(raft_client::EngineError::Options(OptionsError::NoEndpoints))
    ));
}

#[test]
fn why_there_is_no_connection_is_told() {
    let mut engine = Engine::new(&Options::new(["127.0.0.1:1"])).unwrap();
    engine.status("127.0.0.1:1", None).unwrap();
    complete(&mut engine, 1);
    let faults: Vec<String> = engine.faults().map(|(endpoint, fault)| format!("{endpoint}: {fault}")).collect();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("127.0.0.1:1: ") && faults[0].contains("refused"), "{faults:?}");
}

#[test]
fn a_waker_ends_a_poll() {
    let mut engine = Engine::new(&Options::new(["127.0.0.1:1"])).unwrap();
    let waker = engine.waker();
    let thread = std::thread::spawn(move || waker.wake());
    engine.poll(None).unwrap();
    thread.join().unwrap();
}

#[test]
fn an_idle_session_is_kept_alive() {
    let service = Service::start(1, |_, _| Turn::Serve);
    service.lock().ttl = raft_core::types::Millis(30);
    let mut engine = Engine::new(&service.options(&[0])).unwrap();
    let session = engine.open_session();
    engine.submit(session, b"a", None).unwrap();
    complete(&mut engine, 1);
    let end = std::time::Instant::now() + Duration::from_millis(150);
    while std::time::Instant::now() < end {
        engine.poll(Some(Duration::from_millis(5))).unwrap();
    }
    assert!(engine.stats().sent > 4, "{:?}", engine.stats());
}

#[test]
fn a_node_that_cannot_tell_is_left_for_another_one() {
    // A follower whose answers from the leader are cut off: what it forwards is never heard of again.
    for (seed, turn) in
        (1..=8).flat_map(|seed| [Turn::Unknown, Turn::Refuse(NotExecuted::Unconfirmed)].map(|turn| (seed, turn)))
    {
        let service = Service::start(2, move |node, _| if node == 1 { turn } else { Turn::Serve });
        let mut engine = Engine::new(&Options { seed: Some(seed), ..service.options(&[0, 1]) }).unwrap();
        let session = engine.open_session();
        engine.submit(session, b"x", Some(Duration::from_secs(20))).unwrap();
        let completed = complete(&mut engine, 1);
        assert_eq!(answer(&completed[0].1), b"x");
        service.assert_none_twice();
    }
}

/// Asks a service of cluster 6 through an engine, and then one of [`CLUSTER`]; returns what became of the two requests.
fn ask_two_clusters(cluster: Option<ClusterId>) -> (Engine, String, [Completion; 2]) {
    let asked = |_: usize, request: &Request<'_>| {
        assert!(!is_command(request), "a node of another cluster gets no command");
        Turn::Serve
    };
    let (other, service) = (Service::of(ClusterId(6), 1, asked), Service::start(1, |_, _| Turn::Serve));
    let endpoint = other.address(0);
    let options = Options { cluster, ..service.options(&[0]) };
    let mut engine = Engine::new(&options).unwrap();
    let deadline = Some(Duration::from_millis(300));
    let completions = [endpoint.clone(), service.address(0)].map(|endpoint| {
        engine.status(&endpoint, deadline).unwrap();
        complete(&mut engine, 1).remove(0).1
    });
    (engine, endpoint, completions)
}

#[test]
fn a_node_of_another_cluster_than_the_one_given_is_refused_and_named() {
    let (engine, endpoint, completions) = ask_two_clusters(Some(CLUSTER));
    assert!(matches!(completions, [Completion::Status(Err(_)), Completion::Status(Ok(_))]), "{completions:?}");
    let fault = engine.faults().find(|(of, _)| *of == endpoint).unwrap().1;
    let LinkFault::OtherCluster { wanted, found } = fault else { panic!("{fault}") };
    assert_eq!((*wanted, *found), (CLUSTER, ClusterId(6)));
    assert_eq!(engine.cluster(), Some(CLUSTER));
}

#[test]
fn the_cluster_of_the_first_node_is_kept() {
    let (engine, endpoint, completions) = ask_two_clusters(None);
    assert!(matches!(completions, [Completion::Status(Ok(_)), Completion::Status(Err(_))]), "{completions:?}");
    assert_eq!(engine.cluster(), Some(ClusterId(6)));
    let (refused, fault) = engine.faults().next().unwrap();
    assert_ne!(refused, endpoint);
    assert!(matches!(fault, LinkFault::OtherCluster { .. }), "{fault}");
}
