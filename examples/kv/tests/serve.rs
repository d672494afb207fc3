//! Nodes started by hand: every HTTP call on the leader and on a follower, the command line and its
//! exit statuses, restarts, and errors at the start.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Cluster, agent, json, kv};

/// One after the other, on one cluster: starting it takes the most time.
#[test]
fn http_on_every_node() {
    let cluster = Cluster::start();
    let leader = cluster.leader();
    for (turn, node) in [leader, leader % 3 + 1].into_iter().enumerate() {
        keys(&cluster, node, turn);
        sessions(&cluster, node, turn);
        mistakes(&cluster, node);
        operators(&cluster, node);
    }
}

fn header(answer: &ureq::http::Response<ureq::Body>, name: &str) -> String {
    answer.headers().get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

fn keys(cluster: &Cluster, node: usize, turn: usize) {
    let url = |path: &str| cluster.url(node, &format!("/v1/kv/{turn}{path}"));
    let put = agent().put(url("a")).send("one").unwrap();
    assert_eq!(put.status(), 204);
    let tag = header(&put, "etag");
    let mut got = agent().get(url("a")).call().unwrap();
    assert_eq!((got.status().as_u16(), header(&got, "etag")), (200, tag.clone()));
    assert_eq!(got.body_mut().read_to_string().unwrap(), "one");
    assert_eq!(agent().get(url("a?consistency=stale")).call().unwrap().status(), 200);

    let absent = agent().put(url("a")).header("if-none-match", "*").send("two").unwrap();
    assert_eq!(absent.status(), 412);
    assert_eq!(agent().put(url("a")).header("if-match", "\"1\"").send("two").unwrap().status(), 412);
    assert_eq!(agent().put(url("a")).header("if-match", &tag).send("two").unwrap().status(), 204);

    let mut counted = agent().post(url("n/incr")).content_type("application/json").send("{\"by\": 41}").unwrap();
    assert_eq!(json(&mut counted)["value"], 41);
    let conflict = agent().post(url("a/incr")).content_type("application/json").send("{}").unwrap();
    assert_eq!(conflict.status(), 409);
    let list = cluster.url(node, &format!("/v1/kv?prefix={turn}&limit=1"));
    let mut page = agent().get(list).call().unwrap();
    let page = json(&mut page);
    assert_eq!((&page["items"][0]["value"], &page["next"]), (&"two".into(), &format!("{turn}a").into()));

    assert_eq!(agent().delete(url("a")).call().unwrap().status(), 204);
    assert_eq!(agent().delete(url("a")).call().unwrap().status(), 404);
    assert_eq!(agent().get(url("a")).call().unwrap().status(), 404);
}

fn sessions(cluster: &Cluster, node: usize, turn: usize) {
    let nonce = format!("{{\"nonce\": \"{turn:032x}\"}}");
    let open = || agent().post(cluster.url(node, "/v1/sessions")).send(&nonce).unwrap();
    let mut opened = open();
    assert_eq!(opened.status(), 201);
    let session = json(&mut opened)["session"].as_str().unwrap().to_owned();
    assert_eq!(json(&mut open())["session"], *session, "the same nonce finds the same session");

    let incr = |session: &str, sequence: &str, body: &str| {
        let request = agent().post(cluster.url(node, &format!("/v1/kv/{turn}s/incr")));
        let request = request.header("raft-session", session).header("raft-sequence", sequence);
        request.header("raft-acknowledge", "1").content_type("application/json").send(body).unwrap()
    };
    let (mut first, mut again) = (incr(&session, "1", "{\"by\": 5}"), incr(&session, "1", "{\"by\": 5}"));
    assert_eq!((header(&first, "raft-replayed"), header(&again, "raft-replayed")), (String::new(), "true".into()));
    assert_eq!(json(&mut first), json(&mut again), "the kept answer is the first one");
    let mut other = incr(&session, "1", "{\"by\": 6}");
    assert_eq!(other.status(), 422);
    assert!(json(&mut other)["type"].as_str().unwrap().ends_with(":mismatch"));
    assert_eq!(incr(&session, "65", "{}").status(), 429);
    let (id, _) = session.split_once('-').unwrap();
    assert_eq!(incr(&format!("{id}-{:032x}", 99), "2", "{}").status(), 403);

    let path = format!("/v1/sessions/{session}");
    assert_eq!(agent().post(cluster.url(node, &format!("{path}/keep-alive"))).send_empty().unwrap().status(), 204);
    assert_eq!(agent().delete(cluster.url(node, &path)).call().unwrap().status(), 204);
    let mut expired = incr(&session, "2", "{}");
    assert_eq!(
        (expired.status().as_u16(), header(&expired, "content-type").as_str()),
        (410, "application/problem+json")
    );
    assert!(json(&mut expired)["type"].as_str().unwrap().ends_with(":session-expired"));
}

fn mistakes(cluster: &Cluster, node: usize) {
    let url = |path: &str| cluster.url(node, path);
    let long = "k".repeat(1025);
    let problems = [
        (404, agent().get(url("/v2")).call().unwrap()),
        (405, agent().delete(url("/v1/status")).call().unwrap()),
        (400, agent().get(url("/v1/kv/a?consistency=none")).call().unwrap()),
        (400, agent().put(url("/v1/kv/a")).header("raft-sequence", "1").send("x").unwrap()),
        (400, agent().post(url("/v1/sessions")).send("{\"nonce\": \"short\"}").unwrap()),
        (413, agent().put(url(&format!("/v1/kv/{long}"))).send("x").unwrap()),
        (413, agent().put(url("/v1/kv/a")).send(vec![0; (1 << 20) + 1]).unwrap()),
        (400, agent().post(url("/v1/kv/a/incr")).content_type("application/json").send("{").unwrap()),
    ];
    for (status, mut problem) in problems {
        assert_eq!(problem.status(), status);
        assert_eq!(header(&problem, "content-type"), "application/problem+json");
        let body = json(&mut problem);
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }
    // What is no HTTP at all harms nobody, on either port.
    for port in [cluster.ports[node - 1], cluster.ports[node + 2]] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&[0xff; 64]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn operators(cluster: &Cluster, node: usize) {
    let mut status = agent().get(cluster.url(node, "/v1/status")).call().unwrap();
    assert_eq!(json(&mut status)["node"], node);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(agent().get(cluster.url(node, path)).call().unwrap().status(), 200);
    }
    let metrics = agent().get(cluster.url(node, "/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(metrics.contains("\nraft_session_table_bytes "), "{metrics}");
}

#[test]
fn the_command_line_ends_as_it_says() {
    let cluster = Cluster::start();
    let code = |arguments: &[&str]| cluster.kv(arguments).status.code();
    assert_eq!(code(&["put", "k", "1"]), Some(0));
    assert_eq!(cluster.kv(&["incr", "k", "-3"]).stdout, b"-2\n");
    assert_eq!(cluster.kv(&["get", "k"]).stdout, b"-2\n");
    assert_eq!(code(&["cas", "k", "1", "x"]), Some(1));
    assert_eq!(code(&["cas", "k", "-2", "x"]), Some(2), "clap takes -2 for a flag");
    assert_eq!(code(&["cas", "k", "--", "-2", "x"]), Some(0));
    assert_eq!(code(&["incr", "k"]), Some(1));
    assert_eq!(cluster.kv(&["list"]).stdout, b"k\tx\n");
    assert_eq!(code(&["delete", "k"]), Some(0));
    assert_eq!(code(&["get", "k"]), Some(1));
    assert_eq!(code(&["put", "", "x"]), Some(2));
    let status: serde_json::Value = serde_json::from_slice(&cluster.kv(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    drop(cluster);
    let put = |endpoint: &str| {
        let arguments = ["put", "k", "1", "--endpoints", endpoint, "--timeout", "0.5"];
        let output = kv().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        String::from_utf8(output.stderr).unwrap()
    };
    let refused = put("127.0.0.1:9");
    assert!(refused.contains("127.0.0.1:9: ") && refused.contains("refused"), "{refused}");
    let unknown = put("no.such.host.invalid:7001");
    assert!(unknown.contains("no.such.host.invalid:7001: the address cannot be resolved"), "{unknown}");
}

#[test]
fn the_command_line_says_which_node_stands_in_the_way_and_why() {
    let mut cluster = Cluster::waiting(&[]);
    assert!(cluster.init_until_told(&["--sessions", "1"]).status.success());
    cluster.wait_until_ready();
    let stderr = |output: std::process::Output, code: i32| {
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8(output.stderr).unwrap()
    };
    let taken = agent().post(cluster.url(1, "/v1/sessions")).send("{}").unwrap();
    assert_eq!(taken.status(), 201);
    let full = stderr(cluster.kv(&["put", "k", "1", "--timeout", "1"]), 3);
    assert!(full.contains("no session is free") || full.contains("table"), "{full}");
    cluster.kill(1);
    cluster.kill(2);
    let alone = cluster.endpoints().split(',').nth(2).unwrap().to_owned();
    let arguments = ["get", "k", "--timeout", "2", "--endpoints", &alone];
    let text = stderr(kv().args(arguments).output().unwrap(), 3);
    assert!(text.contains(&format!("{alone}: ")) && text.contains("leader"), "{text}");
    let output = kv().args(arguments).arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["endpoints"][0]["endpoint"], alone.as_str(), "{json}");
}

#[test]
fn data_outlives_a_stop_and_what_does_not_fit_is_refused_in_plain_words() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.kv(&["put", "kept", "yes"]).status.code(), Some(0));
    let refused = |cluster: &Cluster, data: usize, node: usize, words: &str| {
        let output = cluster.serve(node, &cluster.data(data)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{text}");
    };
    refused(&cluster, 1, 1, "the directory is in use by process");
    refused(&cluster, 4, 1, "is in use by another program");
    for node in 1..=3 {
        assert_eq!(cluster.terminate(node), Some(0));
    }
    let origin = std::fs::read(cluster.data(2).join("origin")).unwrap();
    let own = std::fs::read(cluster.data(1).join("origin")).unwrap();
    std::fs::write(cluster.data(1).join("origin"), &origin).unwrap();
    refused(&cluster, 1, 1, "the file origin is damaged, or of another directory");
    std::fs::write(cluster.data(1).join("origin"), &own).unwrap();
    let old = kv().args(["serve", "--id", "1", "--peer", "1=127.0.0.1:7001"]).output().unwrap();
    assert_eq!(old.status.code(), Some(2), "nothing is created by the command line of a server");

    for node in 1..=3 {
        cluster.start_node(node);
    }
    cluster.wait_until_ready();
    assert_eq!(cluster.kv(&["get", "kept"]).stdout, b"yes\n");
}
