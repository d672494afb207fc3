//! Nodes that may open few files, and thousands of connections that say nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Cluster, PATIENCE, agent};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FILES_MAX: u32 = 1024;
const SILENT: usize = 2_000;

/// Tells those that are silent to end, whatever becomes of the test.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps so many connections to a port that say nothing, the newest ones, until told to end.
fn be_silent(port: u16, end: &AtomicBool) {
    let mut silent: Vec<TcpStream> = Vec::new();
    while !end.load(Ordering::Relaxed) {
        match TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)) {
            Ok(stream) => silent.push(stream),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
        if silent.len() > SILENT {
            silent.drain(..SILENT / 4);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn silent_connections_take_no_descriptor_that_the_node_needs() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let mut cluster = Cluster::start();
    for node in 1..=3 {
        cluster.terminate(node);
        cluster.start_node_limited(node, FILES_MAX);
    }
    cluster.wait_until_ready();
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = End(&end);
        let (ports, end) = ([cluster.ports[leader - 1], cluster.ports[leader + 2]], &end);
        for port in ports.into_iter().chain(ports) {
            scope.spawn(move || be_silent(port, end));
        }
        let patience = Instant::now() + PATIENCE;
        while cluster.open_files(leader).unwrap() < 450 {
            assert!(Instant::now() < patience, "the connections are never there");
            thread::sleep(Duration::from_millis(20));
        }
        // Enough for some segments, each of which has to be opened.
        let value = vec![b'x'; 200_000];
        for turn in 0..150 {
            let node = if turn % 2 == 0 { leader } else { follower };
            let put = agent().put(cluster.url(node, &format!("/v1/kv/{}", turn % 20))).send(&value);
            let open = cluster.open_files(leader).expect("the leader runs");
            assert_eq!(put.unwrap().status(), 204, "with {open} files open: {}", cluster.said(leader));
            assert!(open <= FILES_MAX as usize);
            if turn % 30 == 0 {
                assert_eq!(agent().get(cluster.url(leader, "/healthz")).call().unwrap().status(), 200);
                assert_eq!(cluster.kv(&["put", "native", "yes"]).status.code(), Some(0));
            }
        }
    });
    let said = cluster.said(leader);
    assert!(!said.contains("Too many open files"), "{said}");
}

#[test]
fn a_limit_that_is_too_low_is_named() {
    let mut cluster = Cluster::start();
    cluster.terminate(1);
    cluster.start_node_limited(1, 64);
    assert_eq!(cluster.wait_for_end(1), Some(1));
    let said = cluster.said(1);
    assert!(said.contains("may open 64 files") && said.contains("ulimit -n"), "{said}");
}
