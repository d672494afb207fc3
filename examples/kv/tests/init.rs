//! How a cluster of real processes is created, once: cut at every message, twice at once, and never again out of members
//! that were wiped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Cluster, Joiner, PATIENCE, free_port, kv, wait_for_part};
use serde_json::Value;

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(output)))
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The members, as one node knows them.
fn members(cluster: &Cluster, through: usize) -> Value {
    let mut command = kv();
    command.args(["member", "list", "--json"]).env("KV_ENDPOINTS", cluster.address(through));
    json(&command.output().unwrap())["members"].clone()
}

fn wait_until_said(cluster: &Cluster, node: usize, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !cluster.said(node).contains(words) {
        assert!(Instant::now() < end, "node {node} never says {words:?}: {}", cluster.said(node));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_is_created_once_and_its_nodes_need_nothing_but_their_directories() {
    let mut cluster = Cluster::waiting(&[]);
    (1..=3).for_each(|node| wait_until_said(&cluster, node, "this node is empty: it waits"));
    let early = cluster.kv(&["put", "k", "v", "--timeout", "0.5"]);
    assert_eq!(early.status.code(), Some(3), "nothing is served before: {}", words(&early));
    let status = cluster.kv(&["status", "--timeout", "1"]);
    assert_eq!(status.status.code(), Some(3));

    let nobody = free_port();
    let mut named = kv();
    named.args(["init", &format!("1={}", cluster.address(1)), &format!("2=127.0.0.1:{nobody}")]);
    let unreachable = named.output().unwrap();
    assert_eq!(unreachable.status.code(), Some(3));
    assert!(words(&unreachable).contains(&format!("2=127.0.0.1:{nobody}")), "{}", words(&unreachable));

    let created = json(&cluster.init_until_told(&["--json"]));
    assert_eq!((&created["created"], created["cluster"].as_str().unwrap().len()), (&true.into(), 32), "{created}");
    cluster.wait_until_ready();
    assert_eq!(cluster.kv(&["put", "k", "v"]).status.code(), Some(0));
    let again = json(&cluster.init_command(&["--json"]).output().unwrap());
    assert_eq!((&again["created"], &again["cluster"]), (&false.into(), &created["cluster"]));

    for node in 1..=3 {
        assert_eq!(cluster.terminate(node), Some(0));
    }
    (1..=3).for_each(|node| cluster.start_node(node));
    cluster.wait_until_ready();
    assert_eq!(cluster.kv(&["get", "k", "--cluster", created["cluster"].as_str().unwrap()]).stdout, b"v\n");
    let other = cluster.kv(&["get", "k", "--cluster", &"ab".repeat(16), "--timeout", "0.5"]);
    assert_eq!(other.status.code(), Some(3), "it is of another cluster");
}

#[test]
fn two_of_three_members_that_were_wiped_wait_and_serve_nothing() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.kv(&["put", "k", "v"]).status.code(), Some(0));
    let before = cluster.kv(&["member", "list", "--json"]);
    let applied = |output: Output| output.stdout == b"v\n";
    let end = Instant::now() + PATIENCE;
    while !applied(kv().args(["get", "k", "--stale", "--endpoints", &cluster.address(3)]).output().unwrap()) {
        assert!(Instant::now() < end, "node 3 never has it");
    }
    for node in [1, 2] {
        cluster.kill(node);
        std::fs::remove_dir_all(cluster.data(node)).unwrap();
    }
    [1, 2].into_iter().for_each(|node| cluster.start_node(node));
    for node in [1, 2] {
        wait_until_said(&cluster, node, &format!("takes this node for its member {node}, which has another storage"));
    }
    wait_until_said(&cluster, 3, "the node at this address is empty and waits");
    let refused = cluster.init_until_told(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let text = words(&refused);
    assert!(text.contains(&format!("3={}: it is node 3 of cluster", cluster.address(3))), "{text}");
    let write = cluster.kv(&["put", "other", "v", "--timeout", "2"]);
    assert_ne!(write.status.code(), Some(0), "a majority is gone");
    assert_eq!(cluster.kv(&["get", "k", "--timeout", "1"]).status.code(), Some(3));
    let stale = kv().args(["get", "k", "--stale", "--endpoints", &cluster.address(3)]).output().unwrap();
    assert_eq!(stale.stdout, b"v\n", "the member that is left still has it");
    assert_eq!(members(&cluster, 3), json(&before)["members"], "nobody is counted under an old number");
}

#[test]
fn a_wiped_member_waits_until_it_is_added_under_another_number() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.kv(&["put", "k", "v"]).status.code(), Some(0));
    let wiped = cluster.leader();
    cluster.kill(wiped);
    std::fs::remove_dir_all(cluster.data(wiped)).unwrap();
    cluster.start_node(wiped);
    wait_until_said(&cluster, wiped, &format!("takes this node for its member {wiped}, which has another storage"));
    assert_eq!(cluster.init_until_told(&[]).status.code(), Some(1));

    let address = cluster.address(wiped);
    assert_eq!(cluster.kv(&["member", "remove", &wiped.to_string()]).status.code(), Some(0));
    let added = cluster.kv(&["member", "add", &format!("4={address}")]);
    assert_eq!(added.status.code(), Some(0), "{}", words(&added));
    wait_for_part_of(&cluster, wiped % 3 + 1, 4, "voter");
    let end = Instant::now() + PATIENCE;
    while kv().args(["get", "k", "--endpoints", &address, "--timeout", "1"]).output().unwrap().stdout != b"v\n" {
        assert!(Instant::now() < end, "the node that was added has nothing");
    }
}

fn wait_for_part_of(cluster: &Cluster, through: usize, id: u64, part: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let members = members(cluster, through);
        if members.as_array().unwrap().iter().any(|member| member["id"] == id && member["part"] == part) {
            return;
        }
        assert!(Instant::now() < end, "{members}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_node_of_another_cluster_is_not_added_and_one_may_be_started_after_it_was() {
    let (cluster, other) = (Cluster::start(), Cluster::start());
    let refused = cluster.kv(&["member", "add", &format!("4={}", other.address(1))]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("it is node 1 of cluster"), "{}", words(&refused));
    let mixed = kv().args(["init", &format!("1={}", cluster.address(1)), &format!("2={}", other.address(2))]).output();
    let mixed = mixed.unwrap();
    assert_eq!(mixed.status.code(), Some(1));
    let text = words(&mixed);
    assert!(text.matches("of cluster").count() >= 2, "both are named: {text}");

    let port = free_port();
    assert_eq!(cluster.kv(&["member", "add", &format!("4=127.0.0.1:{port}")]).status.code(), Some(0));
    let late = Joiner::start(&cluster, 4, port);
    wait_for_part(&cluster, 4, &"voter".into());
    drop(late);
}

#[test]
fn two_at_once_create_one_cluster() {
    let cluster = Cluster::waiting(&[]);
    (1..=3).for_each(|node| wait_until_said(&cluster, node, "this node is empty: it waits"));
    let spawn = |_| {
        let mut command = cluster.init_command(&["--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both: Vec<_> = (0..2).map(spawn).collect();
    let told: Vec<Value> = both.into_iter().map(|child| json(&child.wait_with_output().unwrap())).collect();
    assert_eq!(told[0]["cluster"], told[1]["cluster"], "{told:?}");
    assert!(told[0]["cluster"].is_string());
    cluster.wait_until_ready();
}

/// Stands before the nodes: lets so many of the founder's requests through, and cuts off all that come after. What nodes
/// say to each other passes.
struct Cutter {
    ports: Vec<u16>,
    left: Arc<AtomicUsize>,
    /// Whether the last request that gets through loses its answer.
    loses_last: Arc<AtomicBool>,
}

impl Cutter {
    fn new(targets: &[String]) -> Cutter {
        let (left, loses_last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut cutter = Cutter { ports: Vec::new(), left, loses_last };
        for target in targets {
            let target = target.clone();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            cutter.ports.push(listener.local_addr().unwrap().port());
            let (left, loses_last) = (Arc::clone(&cutter.left), Arc::clone(&cutter.loses_last));
            // These threads end with the process.
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (target, left, loses_last) = (target.clone(), Arc::clone(&left), Arc::clone(&loses_last));
                    thread::spawn(move || pass(stream.unwrap(), &target, &left, &loses_last));
                }
            });
        }
        cutter
    }
}

/// Where the role stands in the first frame of a connection, and what it is there for a founder.
const ROLE: (usize, u8) = (18, 2);

fn pass(mut from: TcpStream, target: &str, left: &AtomicUsize, loses_last: &AtomicBool) -> Option<()> {
    let mut first = vec![0; ROLE.0 + 1];
    from.read_exact(&mut first).ok()?;
    let mut answers = true;
    if first[ROLE.0] == ROLE.1 {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()?;
        answers = before > 1 || !loses_last.load(Ordering::SeqCst);
    }
    let mut to = TcpStream::connect(target).ok()?;
    to.write_all(&first).ok()?;
    let (mut upwards, mut node) = (from.try_clone().ok()?, to.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut upwards, &mut node);
        let _ = node.shutdown(Shutdown::Write);
    });
    if answers {
        let _ = std::io::copy(&mut to, &mut from);
    } else {
        let _ = std::io::copy(&mut to, &mut std::io::sink());
    }
    from.shutdown(Shutdown::Both).ok()
}

/// The creation of a cluster takes nine messages: three questions, three promises, three completions. The founder is cut
/// off at each of them, and another one goes on.
#[test]
fn cut_off_at_every_message_it_is_run_again_and_makes_the_cluster() {
    for (cut, answers) in (0..9).flat_map(|cut| [(cut, true), (cut, false)]) {
        let cluster = Cluster::waiting(&[]);
        (1..=3).for_each(|node| wait_until_said(&cluster, node, "this node is empty: it waits"));
        let cutter = Cutter::new(&[cluster.address(1), cluster.address(2), cluster.address(3)]);
        let members: Vec<String> =
            (1..).zip(&cutter.ports).map(|(id, port)| format!("{id}=127.0.0.1:{port}")).collect();
        cutter.loses_last.store(!answers, Ordering::SeqCst);
        cutter.left.store(cut + usize::from(!answers), Ordering::SeqCst);
        let first = kv().arg("init").args(&members).args(["--json", "--timeout", "1"]).output().unwrap();
        assert!(!first.status.success(), "cut at {cut}");
        let code = first.status.code();
        assert!(matches!(code, Some(3 | 4)), "cut at {cut}: {code:?}: {}", words(&first));

        cutter.left.store(usize::MAX, Ordering::SeqCst);
        cutter.loses_last.store(false, Ordering::SeqCst);
        let end = Instant::now() + PATIENCE;
        let second = loop {
            let output = kv().arg("init").args(&members).arg("--json").output().unwrap();
            if output.status.success() {
                break json(&output);
            }
            assert!(Instant::now() < end, "cut at {cut}: {}", words(&output));
        };
        let own = |node| kv().args(["status", "--json", "--endpoints", &cluster.address(node)]).output().unwrap();
        let id = second["cluster"].as_str().unwrap();
        for node in 1..=3 {
            let said = cluster.said(node);
            assert_eq!(said.matches("promised to be created").count(), 1, "cut at {cut}: {said}");
            assert!(said.contains(&format!("this node belongs to a cluster now node={node} cluster={id}")), "{said}");
        }
        let leads = || (1..=3).any(|node| json(&own(node))["nodes"][0]["role"] == "leader");
        while !leads() {
            assert!(Instant::now() < end, "cut at {cut}: nobody leads");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
