//! What operators do to a cluster of real processes: each command of the command line that changes something, and
//! its HTTP call.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Cluster, Joiner, PATIENCE, agent, free_port, json, part, post, wait_for_part};
use kv::command::{Command, encode};
use raft_client::{BlockingClient, Options};
use serde_json::{Value, json as object};

/// Runs a command that must succeed; gives what it says as JSON.
fn done(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = cluster.kv(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that the cluster must refuse; gives what it says.
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kv(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn patch(cluster: &Cluster, node: usize, id: u64, body: &Value) -> (u16, Value) {
    let request = agent().patch(cluster.url(node, &format!("/v1/members/{id}")));
    let mut answer = request.header("content-type", "application/json").send(body.to_string()).unwrap();
    (answer.status().as_u16(), json(&mut answer))
}

fn delete(cluster: &Cluster, node: usize, path: &str) -> (u16, Value) {
    let mut answer = agent().delete(cluster.url(node, &format!("/v1/members/{path}"))).call().unwrap();
    (answer.status().as_u16(), json(&mut answer))
}

fn status(cluster: &Cluster, node: usize) -> Value {
    json(&mut agent().get(cluster.url(node, "/v1/status")).call().unwrap())
}

fn joiner(cluster: &Cluster, number: u64) -> Joiner {
    Joiner::start(cluster, number, free_port())
}

#[test]
fn each_command_of_the_command_line_does_what_it_says() {
    let cluster = Cluster::start();
    done(&cluster, &["put", "key", "value"]);
    let fourth = joiner(&cluster, 4);
    let new = format!("4={}", fourth.address);
    assert!(done(&cluster, &["member", "add", "--learner", "--priority", "3", &new])["entry"].is_number());
    assert!(refused(&cluster, &["member", "add", &new]).contains("node 4 is a member already"));
    let members = done(&cluster, &["member", "list"]);
    let added = members["members"].as_array().unwrap().iter().find(|member| member["id"] == 4).unwrap().clone();
    assert_eq!((&added["part"], &added["priority"]), (&"learner".into(), &3.into()), "{members}");
    done(&cluster, &["member", "prioritize", "4", "0"]);

    done(&cluster, &["member", "promote", "4"]);
    wait_for_part(&cluster, 4, &"voter".into());
    assert!(refused(&cluster, &["member", "promote", "4"]).contains("node 4 is that already"));
    done(&cluster, &["member", "demote", "4"]);
    assert_eq!(part(&cluster, 4), "learner");
    assert!(refused(&cluster, &["transfer-leader", "4"]).contains("node 4 is no voter that could lead"));

    let to = cluster.leader() % 3 + 1;
    assert_eq!(done(&cluster, &["transfer-leader", &to.to_string()])["leader"], to);
    assert_eq!(cluster.leader(), to);
    let through = done(&cluster, &["snapshot"])["through"].as_u64().unwrap();
    assert!((1..=3).any(|node| status(&cluster, node)["snapshot"] == through), "one of them has written it");

    done(&cluster, &["member", "remove", "4"]);
    assert_eq!(part(&cluster, 4), Value::Null);
}

#[test]
fn members_are_changed_and_removed_over_http() {
    let cluster = Cluster::start();
    let follower = cluster.leader() % 3 + 1;
    let fourth = joiner(&cluster, 4);
    let new = object!({ "id": 4, "address": fourth.address, "part": "learner" });
    assert_eq!(post(&cluster, follower, "/v1/members", &new).0, 201);
    assert_eq!(patch(&cluster, follower, 4, &object!({ "part": "voter", "priority": 7 })).0, 200);
    wait_for_part(&cluster, 4, &"voter".into());
    assert_eq!(patch(&cluster, follower, 4, &object!({ "part": "learner", "priority": 0 })).0, 200);
    assert_eq!(part(&cluster, 4), "learner");
    for (id, body, wanted, kind) in [
        (4, object!({}), 400, "bad-request"),
        (4, object!({ "part": "witness" }), 400, "bad-request"),
        (4, object!({ "part": "learner" }), 409, "unsafe-change"),
        (9, object!({ "priority": 1 }), 404, "no-such-member"),
        (0, object!({ "priority": 1 }), 400, "bad-request"),
    ] {
        let (status, problem) = patch(&cluster, follower, id, &body);
        assert_eq!((status, &problem["type"]), (wanted, &format!("urn:raft-kv:problem:{kind}").into()), "{body}");
    }
    assert_eq!(delete(&cluster, follower, "9").0, 404);
    assert_eq!(delete(&cluster, follower, "4?force=perhaps").0, 400);
    assert_eq!(delete(&cluster, follower, "4?force=false").0, 200);
    assert_eq!(part(&cluster, 4), Value::Null);
}

#[test]
fn a_new_node_takes_the_place_of_a_member_by_one_change() {
    let mut cluster = Cluster::start();
    done(&cluster, &["put", "key", "value"]);
    // The leader itself is replaced, by the command line.
    let leader = cluster.leader();
    let fourth = joiner(&cluster, 4);
    let (old, new) = (leader.to_string(), format!("4={}", fourth.address));
    assert!(refused(&cluster, &["member", "replace", "9", &new]).contains("node 9 is no member"));
    let entry = done(&cluster, &["member", "replace", &old, &new])["entry"].as_u64().unwrap();
    assert_eq!(cluster.wait_for_end(leader), Some(1), "who was replaced ends");
    assert_eq!(cluster.kv(&["member", "replace", &old, &new]).status.code(), Some(0), "again, it is done");
    let (one, two) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let members = done(&cluster, &["member", "list"]);
    let ids: Vec<&Value> = members["members"].as_array().unwrap().iter().map(|member| &member["id"]).collect();
    assert!(ids.len() == 3 && !ids.contains(&&leader.into()) && ids.contains(&&4.into()), "{members}");
    assert!(members["entry"].as_u64().unwrap() >= entry && members["joint"] == false);

    // And another one over HTTP: it learns, then votes as the other leaves.
    let fifth = joiner(&cluster, 5);
    let new = object!({ "id": 5, "address": fifth.address, "part": "learner" });
    assert_eq!(post(&cluster, one, "/v1/members", &new).0, 201);
    let commit = status(&cluster, one)["commit"].as_u64();
    fifth.wait_for(|status| status["applied"].as_u64() >= commit);
    assert_eq!(patch(&cluster, one, 5, &object!({ "part": "voter", "replaces": two })).0, 200);
    assert_eq!(cluster.wait_for_end(two), Some(1));
    // One that is dead is replaced at once.
    cluster.kill(one);
    let endpoints = [&fourth, &fifth].map(|joiner| joiner.address.as_str()).join(",");
    let read = common::kv().args(["get", "key", "--endpoints", &endpoints]).output().unwrap();
    assert_eq!(read.stdout, b"value\n");
}

#[test]
fn a_removal_that_stops_the_cluster_is_refused_unless_it_is_forced() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let (leaving, dead) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.kill(dead);
    let end = Instant::now() + PATIENCE;
    // Until the leader has missed the dead node for an election timeout, it takes it for alive.
    while !followers(&cluster, leader).iter().any(|(node, silent)| *node == dead as u64 && *silent > 1000) {
        assert!(Instant::now() < end, "{}", status(&cluster, leader));
        thread::sleep(Duration::from_millis(50));
    }
    let (code, problem) = delete(&cluster, leader, &leaving.to_string());
    assert_eq!((code, &problem["type"]), (409, &"urn:raft-kv:problem:unsafe-change".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("of 2 voters then only 1 answer"), "{problem}");

    let url = cluster.url(leader, &format!("/v1/members/{leaving}?force=true"));
    let forced = thread::spawn(move || agent().delete(url).call().unwrap().status().as_u16());
    while status(&cluster, leader)["joint"] != true {
        assert!(Instant::now() < end, "it never begins");
    }
    // The new majority needs the dead node, so nothing is decided until that is back.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((forced.is_finished(), &status(&cluster, leader)["joint"]), (false, &true.into()));
    cluster.start_node(dead);
    assert_eq!(forced.join().unwrap(), 200);
    assert_eq!(cluster.wait_for_end(leaving), Some(1));

    // Force makes no majority: of two, one alone decides nothing, and is no leader soon.
    cluster.kill(dead);
    while status(&cluster, leader)["role"] == "leader" {
        assert!(Instant::now() < end + PATIENCE, "it leads without a majority");
    }
    let (code, problem) = delete(&cluster, leader, &format!("{dead}?force=true"));
    assert_eq!((code, &problem["type"]), (503, &"urn:raft-kv:problem:no-quorum".into()), "{problem}");
}

/// The followers of a leader, and for how many milliseconds they have been silent.
fn followers(cluster: &Cluster, leader: usize) -> Vec<(u64, u64)> {
    let status = status(cluster, leader);
    let followers = status["followers"].as_array().cloned().unwrap_or_default();
    let pair = |follower: &Value| (follower["node"].as_u64().unwrap(), follower["silent_ms"].as_u64().unwrap());
    followers.iter().map(pair).collect()
}

#[test]
fn sigterm_of_the_leader_hands_over() {
    // Long timeouts: what comes to pass within them was no election that somebody waited for.
    let mut cluster = Cluster::start_with(&["--election-timeout", "4000", "--heartbeat", "200"]);
    let leader = cluster.leader();
    let term = status(&cluster, leader)["term"].as_u64().unwrap();
    let before: Vec<usize> = (1..=3).map(|node| cluster.said(node).len()).collect();

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, endpoints) = (Arc::clone(&stop), cluster.endpoints());
            thread::spawn(move || {
                let mut client = BlockingClient::new(&Options::new(endpoints.split(','))).unwrap();
                client.set_timeout(Some(PATIENCE));
                let command = encode(&Command::Incr { key: "n", by: 1 });
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.execute(&command).unwrap();
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(cluster.terminate(leader), Some(0));
    let next = cluster.leader();
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let read = cluster.kv(&["get", "n"]).stdout;
    assert_eq!(String::from_utf8(read).unwrap(), format!("{answered}\n"), "each was answered, and executed once");

    assert_ne!(next, leader);
    assert_eq!(status(&cluster, next)["term"], term + 1, "one election was enough");
    for node in (1..=3).filter(|node| *node != leader) {
        let said = cluster.said(node)[before[node - 1]..].to_owned();
        assert!(said.contains("role"), "roles are logged: {said}");
        assert!(!said.contains("pre-candidate"), "node {node} lost its leader by a timeout: {said}");
    }
}
