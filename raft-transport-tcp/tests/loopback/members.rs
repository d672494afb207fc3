//! Members that come and go, and nodes that are not known as members.

use raft_core::configuration::{Configuration, Member};
use raft_core::session::limits::SessionLimits;
use raft_transport_tcp::frame::Frame;
use raft_transport_tcp::handshake::{Address, Hello, ProcessId, Role, Welcome};
use raft_transport_tcp::peers::Standing;

use super::*;

fn configuration(members: &[(u64, &str, Option<Incarnation>)]) -> Configuration {
    let member = |&(node, address, incarnation): &(u64, &str, Option<Incarnation>)| Member {
        incarnation,
        ..Member::voter(id(node), address).unwrap()
    };
    Configuration::new(ClusterId(7), SessionLimits::default(), members.iter().map(member)).unwrap()
}

/// The options of a node that is told of these nodes on the command line.
fn options(node: u64, listen: SocketAddr, told: &[(u64, SocketAddr)]) -> TcpOptions {
    let told = told.iter().map(|(node, address)| (id(*node), address.to_string()));
    TcpOptions::new(listen, identity(node), told.collect())
}

fn linked(side: &Side, node: u64) -> bool {
    side.peers.states().any(|link| link.node == id(node) && link.sending && link.receiving)
}

fn strangers(side: &Side) -> Vec<u64> {
    let strangers = side.peers.states().filter(|link| matches!(link.standing, Standing::Stranger { .. }));
    let mut nodes: Vec<u64> = strangers.map(|link| link.node.get()).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_member_added_at_run_time_gets_messages_and_gets_them_where_it_moves_to() {
    let [first, second, third] = addresses();
    let mut one = Side::with(options(1, first, &[]));
    one.peers.configure(&configuration(&[(1, &first.to_string(), None)]));
    // It does not say where it listens, so it cannot be dialed before it is a member.
    let mut two = Side::with(options(2, second, &[(1, first)]));
    until(&mut [&mut one, &mut two], |sides| send(sides[1], 2, 1, 1) && sides[0].received.contains(&1));
    assert_eq!(strangers(&one), [2]);
    assert_eq!(one.peers.room(id(2)), None);

    let two_members = configuration(&[(1, &first.to_string(), None), (2, &second.to_string(), None)]);
    one.peers.configure(&two_members);
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 2) && sides[1].received.contains(&2));
    one.peers.configure(&two_members);
    assert!(linked(&one, 2), "what has not changed disturbs nothing");
    assert_eq!(strangers(&one), []);

    drop(two);
    let mut two = Side::with(options(2, third, &[(1, first)]));
    one.peers.configure(&configuration(&[(1, &first.to_string(), None), (2, &third.to_string(), None)]));
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 3) && sides[1].received.contains(&3));
}

#[test]
fn an_empty_address_is_that_of_the_command_line() {
    let [first, second] = addresses();
    let (mut one, mut two) = (Side::new(identity(1), [first, second]), Side::new(identity(2), [first, second]));
    one.peers.configure(&configuration(&[(1, "", None), (2, "", None)]));
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 1) && sides[1].received.contains(&1));
}

#[test]
fn a_removed_member_is_still_told_and_let_go_after_the_grace_time() {
    let [first, second] = addresses();
    let told = [(1, first), (2, second)];
    let mut one =
        Side::with(TcpOptions { removed_grace_ms: Millis(100), strangers_max: 0, ..options(1, first, &told) });
    let mut two = Side::with(options(2, second, &told));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2) && linked(sides[1], 1));
    one.peers.configure(&configuration(&[(1, "", None)]));
    assert!(one.peers.states().all(|link| matches!(link.standing, Standing::Removed { .. })));
    assert!(send(&mut one, 1, 2, 9));
    until(&mut [&mut two], |sides| sides[0].received.contains(&9));

    until(&mut [&mut one, &mut two], |sides| sides[0].peers.states().count() == 0);
    let unknown = Some(Refusal::NotMember { node: id(2) });
    until(&mut [&mut one, &mut two], |sides| sides[1].refusal() == unknown);
}

#[test]
fn a_storage_that_the_configuration_does_not_name_is_refused() {
    let [first, second] = addresses();
    let (mut one, mut two) = (Side::new(identity(1), [first, second]), Side::new(identity(2), [first, second]));
    let named = |incarnation| configuration(&[(1, "", None), (2, "", Some(Incarnation(incarnation)))]);
    one.peers.configure(&named(102));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2));
    assert_eq!(one.peers.incarnation(id(1)), Some(Incarnation(101)));
    assert_eq!(one.peers.incarnation(id(2)), Some(Incarnation(102)));
    assert_eq!(one.peers.incarnation(id(3)), None);

    one.peers.configure(&named(55));
    assert_eq!((one.peers.room(id(2)), one.peers.incarnation(id(2))), (None, None), "closed at once");
    let refusal = Some(Refusal::OtherStorage { node: id(2) });
    assert_eq!(one.refusal(), refusal);
    until(&mut [&mut one, &mut two], |sides| sides[1].refusal() == refusal);
    assert!(one.peers.states().all(|link| !link.sending && !link.receiving));

    drop(two);
    let mut two = Side::new(Identity { incarnation: Incarnation(55), ..identity(2) }, [first, second]);
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2) && sides[0].refusal().is_none());
}

#[test]
fn a_copy_of_a_storage_is_refused_while_the_original_lives() {
    let [first, second, third] = addresses();
    let told = [(1, first), (2, second)];
    let hasty = |options| TcpOptions {
        silence_max: Duration::from_millis(400),
        keep_alive: Duration::from_millis(50),
        ..options
    };
    let mut one = Side::with(hasty(options(1, first, &told)));
    let mut two = Side::with(hasty(options(2, second, &told)));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2) && linked(sides[1], 1));
    let mut copy = Side::with(hasty(options(2, third, &[(1, first)])));
    let alarm = one.peers.copy_alarm();
    let linked_already = Some(Refusal::AlreadyLinked { node: id(2) });
    until(&mut [&mut one, &mut two, &mut copy], |sides| sides[2].refusal() == linked_already);
    assert_eq!((one.refusal(), alarm.refused()), (linked_already, 0), "it may be the same node, started again");
    // The original goes on as if nothing had happened.
    assert!(send(&mut two, 2, 1, 5) && send(&mut one, 1, 2, 6));
    let copied = Some(Refusal::Copied { node: id(2) });
    until(&mut [&mut one, &mut two, &mut copy], |sides| sides[2].refusal() == copied);
    assert_eq!((one.refusal(), alarm.node()), (copied, Some(id(2))));
    assert!(alarm.refused() > 0);
    assert!(linked(&one, 2));
    assert_eq!((&one.received, &two.received, &copy.received), (&vec![5], &vec![6], &vec![]));

    // The original is started again, and finds its place free though the copy has tried all the time.
    drop(two);
    let refused = alarm.refused();
    until(&mut [&mut one, &mut copy], |_| alarm.refused() > refused + 1);
    assert!(!linked(&one, 2));
    let mut two = Side::with(hasty(options(2, second, &told)));
    until(&mut [&mut one, &mut two, &mut copy], |sides| linked(sides[0], 2) && linked(sides[1], 1));
    assert!(copy.received.is_empty());
    assert_eq!(copy.peers.room(id(1)), None);
}

#[test]
fn a_process_that_was_killed_and_started_again_is_let_in_at_once() {
    let addresses = addresses::<2>();
    let patient = |node| {
        let told = [(1, addresses[0]), (2, addresses[1])];
        TcpOptions { silence_max: Duration::from_secs(3600), ..options(node, addresses[usize::from(node == 2)], &told) }
    };
    let (mut one, mut two) = (Side::with(patient(1)), Side::with(patient(2)));
    let mut refused = false;
    for _ in 0..20 {
        until(&mut [&mut one, &mut two], |sides| {
            refused |= sides.iter().any(|side| side.refusal().is_some());
            linked(sides[0], 2) && linked(sides[1], 1)
        });
        drop(two);
        two = Side::with(patient(2));
        // Both the end of the old process and the greeting of the new one wait to be noticed.
        let patience = Instant::now() + Duration::from_millis(20);
        while Instant::now() < patience {
            two.turn();
        }
    }
    assert!(!refused);
}

#[test]
fn a_process_that_ended_without_a_sign_makes_room_after_the_silence() {
    let [first, second] = addresses();
    let hasty = TcpOptions { silence_max: Duration::from_millis(300), ..options(1, first, &[(1, first), (2, second)]) };
    let mut one = Side::with(hasty);
    // Its connection stays open, and nothing comes over it: a machine without power.
    let (_half_open, kind) = greet_as(&mut [&mut one], first, 2, 77);
    assert_eq!(kind, FrameKind::Welcome);
    let mut two = Side::new(identity(2), [first, second]);
    until(&mut [&mut one, &mut two], |sides| sides[1].refusal() == Some(Refusal::AlreadyLinked { node: id(2) }));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2) && linked(sides[1], 1));
    assert_eq!(one.peers.copy_alarm().refused(), 0);
}

#[test]
fn whom_it_dials_is_the_process_that_is_linked_or_nobody() {
    let [first, second] = addresses();
    let mut one = Side::with(options(1, first, &[(1, first), (2, second)]));
    let (mut original, kind) = greet_as(&mut [&mut one], first, 2, 77);
    assert_eq!(kind, FrameKind::Welcome);
    // A copy has taken over the address, say.
    let mut copy = Side::with(options(2, second, &[]));
    let linked_already = Some(Refusal::AlreadyLinked { node: id(2) });
    until(&mut [&mut one, &mut copy], |sides| sides[0].refusal() == linked_already);
    assert_eq!(one.peers.room(id(2)), None, "nothing is sent to it");
    original.write_all(&header(FrameKind::KeepAlive, b"").unwrap()).unwrap();
    drop(original);
    until(&mut [&mut one, &mut copy], |sides| sides[0].peers.room(id(2)).is_some());
}

#[test]
fn a_stranger_is_answered_and_becomes_a_member_without_a_break() {
    let [first, second] = addresses();
    let mut one = Side::with(options(1, first, &[]));
    one.peers.configure(&configuration(&[(1, "", None)]));
    let mut two = Side::with(options(2, second, &[(1, first), (2, second)]));
    until(&mut [&mut one, &mut two], |sides| send(sides[1], 2, 1, 1) && sides[0].received.contains(&1));
    until(&mut [&mut one, &mut two], |sides| send(sides[0], 1, 2, 2) && sides[1].received.contains(&2));
    assert_eq!(strangers(&one), [2]);
    assert_eq!(one.peers.incarnation(id(2)), Some(Incarnation(102)));

    one.peers.configure(&configuration(&[(1, "", None), (2, &second.to_string(), None)]));
    assert!(linked(&one, 2));
    assert_eq!(strangers(&one), []);
}

#[test]
fn a_stranger_that_is_gone_is_let_go() {
    let [first, second] = addresses();
    let mut one = Side::with(options(1, first, &[]));
    let mut two = Side::with(options(2, second, &[(1, first), (2, second)]));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2));
    drop(two);
    until(&mut [&mut one], |sides| sides[0].peers.states().count() == 0);
}

#[test]
fn a_stranger_that_says_nothing_is_let_go() {
    let [first] = addresses();
    let mut one = Side::with(TcpOptions { stranger_idle_max: Duration::from_millis(50), ..options(1, first, &[]) });
    let _stream = greet(&mut [&mut one], first, 10);
    until(&mut [&mut one], |sides| sides[0].peers.states().count() == 0);
}

/// Connects as that node, and gives the connection with the kind of the answer.
fn greet(sides: &mut [&mut Side], address: SocketAddr, node: u64) -> (TcpStream, FrameKind) {
    greet_as(sides, address, node, 0)
}

/// Connects as that process of that node.
fn greet_as(sides: &mut [&mut Side], address: SocketAddr, node: u64, process: u128) -> (TcpStream, FrameKind) {
    let role = Role::Node { identity: identity(node), wanted: id(1), address: Address::new() };
    let mut buffer = [0; 512];
    let body = postcard::to_slice(&Hello::of(ProcessId(process), role), &mut buffer).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&header(FrameKind::Hello, body).unwrap()).unwrap();
    stream.write_all(body).unwrap();
    stream.set_nonblocking(true).unwrap();
    let (mut answer, mut kind) = (Vec::new(), None);
    until(sides, |_| {
        let mut bytes = [0; 256];
        let read = stream.read(&mut bytes).unwrap_or(0);
        answer.extend_from_slice(&bytes[..read]);
        if let Some(frame) = Frame::decode(&answer, 1024).unwrap() {
            kind = Some(frame.kind);
            if frame.kind == FrameKind::Welcome {
                assert_eq!(Welcome::decode(frame.body).unwrap().identity.node, id(1));
            }
        }
        kind.is_some()
    });
    (stream, kind.unwrap())
}

#[test]
fn a_flood_of_strangers_is_bounded_and_members_stay() {
    let [first, second] = addresses();
    let told = [(1, first), (2, second)];
    let minute = Duration::from_secs(60);
    let patient = |options| TcpOptions { strangers_max: 4, keep_alive: minute, silence_max: 10 * minute, ..options };
    let mut one = Side::with(patient(options(1, first, &told)));
    let mut two = Side::with(patient(options(2, second, &told)));
    until(&mut [&mut one, &mut two], |sides| linked(sides[0], 2));
    let flood: Vec<_> = (10..20).map(|node| greet(&mut [&mut one], first, node)).collect();
    let welcome = flood.iter().map(|(_, kind)| *kind == FrameKind::Welcome);
    assert_eq!(welcome.collect::<Vec<bool>>(), [[true; 4].as_slice(), &[false; 6]].concat());
    assert_eq!(strangers(&one), [10, 11, 12, 13], "who has just been met does not give way");
    assert!(linked(&one, 2));
    assert!(send(&mut one, 1, 2, 7));
}

#[test]
fn the_stranger_silent_for_longest_gives_way() {
    let [first] = addresses();
    let hasty = TcpOptions { strangers_max: 4, keep_alive: Duration::ZERO, ..options(1, first, &[]) };
    let mut one = Side::with(hasty);
    let _flood: Vec<_> = (10..20).map(|node| greet(&mut [&mut one], first, node)).collect();
    assert_eq!(strangers(&one), [16, 17, 18, 19]);
}
