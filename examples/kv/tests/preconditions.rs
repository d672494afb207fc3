//! Headers that a call does not evaluate: refused by every call that writes, and nothing is executed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use common::{Cluster, agent, json};
use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

const DATE: &str = "Sat, 29 Oct 1994 19:43:31 GMT";

/// Headers, the status that every write answers, and the one of those that evaluate `If-Match`.
const HEADERS: [(&str, &str, u16, u16); 12] = [
    ("idempotency-key", "\"a\"", 501, 501),
    ("if-match", "\"1\"", 501, 412),
    ("if-match", "*", 501, 501),
    ("if-match", "\"1\", \"2\"", 501, 501),
    ("if-none-match", "*", 501, 412),
    ("if-none-match", "\"1\"", 501, 501),
    ("if-modified-since", DATE, 501, 501),
    ("if-unmodified-since", DATE, 501, 501),
    ("if-range", "\"1\"", 501, 501),
    ("expect", "200-ok", 417, 417),
    ("content-range", "bytes 0-0/2", 400, 400),
    ("content-encoding", "gzip", 415, 415),
];

fn send(agent: &Agent, call: (&str, &str, &str), url: &str, header: Option<(&str, &str)>) -> Response<Body> {
    let (method, path, body) = call;
    let mut request = Request::builder().method(method).uri(format!("{url}{path}"));
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    agent.run(request.body(body.to_owned()).unwrap()).unwrap()
}

/// What a write could change, but for what time changes by itself.
fn state(cluster: &Cluster, node: usize) -> (Value, Value, Value) {
    let get = |path: &str| json(&mut agent().get(cluster.url(node, path)).call().unwrap());
    let status = get("/v1/status");
    (get("/v1/kv"), get("/v1/members"), status["sessions"].clone())
}

#[test]
fn no_write_is_executed_as_if_a_precondition_were_not_there() {
    let cluster = Cluster::start();
    let (leader, agent) = (cluster.leader(), agent());
    let follower = leader % 3 + 1;
    assert_eq!(agent.put(cluster.url(leader, "/v1/kv/k")).send("7").unwrap().status(), 204);
    let mut opened = agent.post(cluster.url(leader, "/v1/sessions")).send_empty().unwrap();
    let session = format!("/v1/sessions/{}", json(&mut opened)["session"].as_str().unwrap());
    let (keep_alive, member) = (format!("{session}/keep-alive"), format!("/v1/members/{follower}"));
    let calls = [
        ("PUT", "/v1/kv/k", "8"),
        ("DELETE", "/v1/kv/k", ""),
        ("POST", "/v1/kv/k/incr", "{}"),
        ("POST", "/v1/sessions", "{}"),
        ("POST", keep_alive.as_str(), ""),
        ("DELETE", session.as_str(), ""),
        ("POST", "/v1/members", "{\"id\": 9, \"address\": \"127.0.0.1:9\", \"part\": \"learner\"}"),
        ("PATCH", member.as_str(), "{\"priority\": 3}"),
        ("DELETE", member.as_str(), ""),
        ("POST", "/v1/leader", "{}"),
        ("POST", "/v1/snapshots", ""),
    ];
    let before = state(&cluster, leader);
    for (turn, (name, value, others, keys)) in HEADERS.into_iter().enumerate() {
        let url = cluster.url(if turn % 2 == 0 { leader } else { follower }, "");
        for call in calls {
            let wanted = if call.1 == "/v1/kv/k" { keys } else { others };
            let mut answer = send(&agent, call, &url, Some((name, value)));
            let problem = json(&mut answer);
            assert_eq!(answer.status(), wanted, "{call:?} {name}: {value}: {problem}");
            assert!(problem["type"].as_str().is_some_and(|name| name.starts_with("urn:raft-kv:problem:")), "{problem}");
        }
    }
    assert_eq!(state(&cluster, leader), before);
    assert_eq!(cluster.leader(), leader);
    // What is only advice is not followed, and the write is as it would be without it.
    let advised = send(&agent, calls[0], &cluster.url(leader, ""), Some(("prefer", "respond-async")));
    assert_eq!((advised.status().as_u16(), advised.headers().get("preference-applied")), (204, None));
}

#[test]
fn a_read_is_answered_by_its_preconditions() {
    let cluster = Cluster::start();
    let (agent, url) = (agent(), cluster.url(1, "/v1/kv/k"));
    let put = agent.put(&url).send("7").unwrap();
    let tag = put.headers()["etag"].to_str().unwrap().to_owned();
    let status = |name: &str, value: &str| agent.get(&url).header(name, value).call().unwrap().status().as_u16();
    assert_eq!([status("if-none-match", &tag), status("if-none-match", "\"0\"")], [304, 200]);
    assert_eq!([status("if-match", &tag), status("if-match", "\"0\"")], [200, 412]);
    assert_eq!(status("idempotency-key", "\"a\""), 501);
}
