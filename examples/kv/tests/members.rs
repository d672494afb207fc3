//! Members, leadership and snapshots of a cluster of real processes, by the command line and HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use common::{Cluster, Joiner, PATIENCE, agent, free_port, json, kv, part, post, wait_for_part};
use serde_json::{Value, json as object};

#[test]
fn a_node_joins_learns_votes_survives_a_restart_and_leaves() {
    let cluster = Cluster::start();
    assert_eq!(cluster.kv(&["put", "greeting", "hello"]).status.code(), Some(0));
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let fourth = Joiner::start(&cluster, 4, port);

    // By HTTP on any node, whoever leads.
    let follower = cluster.leader() % 3 + 1;
    let new = object!({ "id": 4, "address": address, "part": "learner" });
    assert_eq!(post(&cluster, follower, "/v1/members", &new).0, 201);
    let (status, problem) = post(&cluster, follower, "/v1/members", &new);
    assert_eq!((status, problem["type"].as_str().unwrap()), (409, "urn:raft-kv:problem:unsafe-change"));
    assert_eq!(part(&cluster, 4), "learner");
    let commit = fourth.wait_for(|status| status["commit"].as_u64() > Some(1))["commit"].clone();
    assert!(commit.is_number());

    let promote = agent().patch(cluster.url(follower, "/v1/members/4")).header("content-type", "application/json");
    assert_eq!(promote.send(r#"{ "part": "voter" }"#).unwrap().status(), 200);
    wait_for_part(&cluster, 4, &"voter".into());

    // All that it needs to know stands in its directory.
    drop(fourth);
    let fourth = Joiner::start(&cluster, 4, port);
    let of_fourth = format!("127.0.0.1:{port}");
    fourth.wait_for(|status| status["leader"].is_number());
    let read = kv().args(["get", "greeting", "--endpoints", &of_fourth]).output().unwrap();
    assert_eq!(read.stdout, b"hello\n");

    let removed = cluster.kv(&["member", "remove", "4"]);
    assert_eq!(removed.status.code(), Some(0), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(fourth.end(), Some(1), "it notices, and ends");
    assert_eq!(part(&cluster, 4), Value::Null);
    let again = cluster.kv(&["member", "remove", "4"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("node 4 is no member"));
}

#[test]
fn leadership_is_handed_over_and_snapshots_are_made_on_demand() {
    let cluster = Cluster::start();
    assert_eq!(cluster.kv(&["put", "key", "value"]).status.code(), Some(0));
    let (leader, to) = (cluster.leader(), cluster.leader() % 3 + 1);
    let output = cluster.kv(&["transfer-leader", &to.to_string(), "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.leader(), to);
    assert_eq!(post(&cluster, to, "/v1/leader", &object!({ "to": leader })), (200, object!({ "leader": leader })));
    let (status, problem) = post(&cluster, to, "/v1/leader", &object!({ "to": 9 }));
    assert_eq!((status, problem["type"].as_str().unwrap()), (409, "urn:raft-kv:problem:not-transferred"));

    // A new leader has heard one follower, or it would not say that it took over.
    let end = Instant::now() + PATIENCE;
    loop {
        let status = json(&mut agent().get(cluster.url(leader, "/v1/status")).call().unwrap());
        let followers = status["followers"].as_array().unwrap();
        assert_eq!(followers.len(), 2, "{status}");
        if followers.iter().all(|follower| follower["replication"] == "replicating") {
            break;
        }
        assert!(Instant::now() < end, "{status}");
    }

    let (status, made) = post(&cluster, 2, "/v1/snapshots", &object!({}));
    assert_eq!(status, 201);
    assert!(made["through"].as_u64().unwrap() > 2);
    assert_eq!(cluster.kv(&["snapshot"]).status.code(), Some(0));
    let status = json(&mut agent().get(cluster.url(2, "/v1/status")).call().unwrap());
    assert!(status["snapshot"].as_u64().unwrap() >= made["through"].as_u64().unwrap(), "{status}");
    assert_eq!(cluster.kv(&["get", "key", "--lease"]).stdout, b"value\n");
}

#[test]
fn all_nodes_come_back_from_their_snapshots_with_their_members_registered() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.kv(&["incr", "n", "41"]).status.code(), Some(0));
    let end = Instant::now() + PATIENCE;
    // Leaders write down which storage each member has, as soon as they have met it.
    while cluster.kv(&["member", "list"]).stdout.windows(7).any(|text| text == b"not met") {
        assert!(Instant::now() < end, "the storages are never registered");
        thread::sleep(Duration::from_millis(20));
    }
    for node in 1..=3 {
        assert_eq!(post(&cluster, node, "/v1/snapshots", &object!({})).0, 201);
    }
    for node in 1..=3 {
        assert_eq!(cluster.terminate(node), Some(0));
    }
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.wait_until_ready();
    assert_eq!(cluster.kv(&["incr", "n", "1"]).stdout, b"42\n");
}

/// A process on a copy of a node's data, at other ports.
struct Copied {
    process: Child,
    log: std::path::PathBuf,
}

impl Drop for Copied {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Copied {
    /// Copies the data of a node as it is now and starts a second process on it.
    fn start(cluster: &Cluster, node: usize) -> Copied {
        let (from, to) = (cluster.data(node), cluster.folder.path().join("copy"));
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
            // Whoever copies a directory by hand removes what says that it is in use.
            if entry.file_name() == "lock" {
                continue;
            }
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        let log = cluster.folder.path().join("copy.log");
        let mut command = kv();
        command.arg("serve").arg("--data").arg(&to).args(["--log", "warn"]);
        command.args(["--listen", &format!("127.0.0.1:{}", free_port())]);
        let process = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Copied { process, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

fn copies_refused(cluster: &Cluster, node: usize) -> u64 {
    let metrics = agent().get(cluster.url(node, "/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("raft_copies_refused_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_copied_directory_is_refused() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let (original, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let mut added = 0;
    let mut add = |cluster: &Cluster| {
        assert_eq!(cluster.kv(&["incr", "n"]).status.code(), Some(0));
        added += 1;
        added
    };
    for _ in 0..10 {
        add(&cluster);
    }
    let mut copy = Copied::start(&cluster, original);
    let end = Instant::now() + PATIENCE;
    while copies_refused(&cluster, leader) == 0 || copies_refused(&cluster, other) == 0 {
        add(&cluster);
        assert!(Instant::now() < end, "nobody notices: {}", copy.said());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(copy.said().contains(&format!("two processes run with the storage of node {original}")), "{}", copy.said());
    let status = json(&mut agent().get(cluster.url(leader, "/v1/status")).call().unwrap());
    assert_eq!(status["copied_storage_of"], original, "{status}");

    // The original is killed and started again while the copy goes on trying, and finds its place free.
    cluster.kill(original);
    let refused = copies_refused(&cluster, leader);
    while copies_refused(&cluster, leader) == refused {
        add(&cluster);
        assert!(Instant::now() < end + PATIENCE, "the copy is let in: {}", copy.said());
    }
    cluster.start_node(original);
    cluster.wait_until_ready();
    // Now a majority needs it.
    cluster.kill(other);
    let added = add(&cluster);
    let read = cluster.kv(&["get", "n"]).stdout;
    assert_eq!(String::from_utf8(read).unwrap(), format!("{added}\n"), "nothing acknowledged is lost");
    assert!(copy.process.try_wait().unwrap().is_none(), "it still tries: {}", copy.said());
}
