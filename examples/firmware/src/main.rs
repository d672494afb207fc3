//! A replicated counter on a microcontroller: three replicas with their logs and session tables in
//! static memory, without a heap. A client's command is committed, its leader vanishes before the
//! client has heard of it, and the client's retry at the next leader is not executed again.
//!
//! The three nodes share one board here, so that one emulator shows it all; each is a whole
//! [`raft_core::replica::Replica`], and nothing but frames of bytes passes between them.
#![no_std]
#![no_main]

mod counter;
mod group;
mod links;

use cortex_m as _; // The critical section that the output is written in.
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use heapless::Vec;
use panic_semihosting as _; // Panics are printed, and end the emulator with a failure.
use raft_core::configuration::{Configuration, Member};
use raft_core::session::operation::Operation;
use raft_core::types::{ClusterId, Index, NodeId, Nonce, Sequence, SessionId};
use raft_core::wire::Bytes;

use crate::group::{Group, LIMITS, NODES, Node, Reply};

/// The cluster's id and the session's secret. On a board they come from its random source.
const CLUSTER: ClusterId = ClusterId(0x5f0e_8c1d_4a3b_2796_e1d0_c3b2_a594_8776);
const SECRET: Nonce = Nonce(0x9c27_41f8_03d5_be6a_7710_2fc4_d98e_365b);

/// What the client adds to the counter.
const AMOUNT: u64 = 5;

#[entry]
fn main() -> ! {
    static mut MEMORY: Vec<Node, NODES> = Vec::new();

    run(MEMORY);
    loop {
        debug::exit(debug::EXIT_SUCCESS);
    }
}

fn run(memory: &'static mut Vec<Node, NODES>) {
    let mut group = Group::start(memory, &configuration());
    hprintln!("{} replicas of {} bytes each, session table and log included", NODES, size_of::<Node>());

    let first = group.elect();
    hprintln!("node {} leads", first);
    let Reply::Opened(session) = group.call(SECRET, &Operation::Open { nonce: SECRET, fifo: false }) else {
        panic!("a table without sessions has room for one");
    };
    hprintln!("session {} is open", session);

    let index = add(&mut group, session, false);
    group.settle();
    assert_agreed(&group);
    hprintln!("command 1 committed as entry {} and was executed on all three: the counter is {}", index, AMOUNT);

    group.cut_off(Some(first));
    let second = group.elect();
    hprintln!("node {} is cut off, node {} leads", first, second);
    assert_eq!(add(&mut group, session, true), index, "the retry has the answer of the first execution");
    group.cut_off(None);
    group.settle();
    assert_agreed(&group);
    assert!(group.nodes().iter().all(|node| node.sessions().counters().replayed == 1), "all have seen the retry");
    hprintln!("its retry committed and was not executed again: all three answer from the session table");
    hprintln!("node {} is back, and the counter is {} on all three", first, AMOUNT);
}

fn configuration() -> Configuration {
    let ids = (1..).map_while(NodeId::new).take(NODES);
    let members = ids.map(|id| Member::voter(id, "").expect("an empty address is short enough"));
    Configuration::new(CLUSTER, LIMITS, members).expect("members and limits are valid")
}

/// Sends the client's command, always under its first number; gives the entry that executed it.
fn add(group: &mut Group, session: SessionId, retry: bool) -> Index {
    let command = AMOUNT.to_le_bytes();
    let (sequence, acknowledge) = (Sequence::FIRST, Sequence::FIRST);
    let operation = Operation::Command { session, sequence, acknowledge, command: Bytes(&command) };
    match group.call(SECRET, &operation) {
        Reply::Counted { index, value: AMOUNT, replayed } if replayed == retry => index,
        reply => panic!("not the answer to the command: {reply:?}"),
    }
}

/// On every node the command has been executed once, and the session tables are equal.
fn assert_agreed(group: &Group) {
    let mut digests = group.nodes().iter().map(|node| node.sessions().digest());
    let digest = digests.next();
    assert!(digests.all(|other| Some(other) == digest), "session tables differ");
    for node in group.nodes() {
        assert_eq!(node.machine().value(), AMOUNT, "the counter of node {}", node.raft().id());
        assert_eq!(node.sessions().counters().executed, 1, "executions on node {}", node.raft().id());
    }
}
