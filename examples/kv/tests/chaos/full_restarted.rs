//! Full disks of all members, which are then started again one by one.

use std::process::Command;
use std::time::Duration;

use ureq::Agent;

use crate::cluster::{Client, Cluster, PATIENCE, with_cluster};
use crate::disks::Mount;
use crate::namespaces::address;
use crate::nodes::Nodes;
use crate::rights::{self, Need};

/// Of each member's disk.
const DISK_MIB: u32 = 40;
const ROOM_MIB: u32 = 200;
const VALUE_BYTES: usize = 100 << 10;
/// More than fit on three disks together.
const VALUES_MAX: usize = 1_200;
const HTTP_PORT: u16 = 7080;
const EXTRA: [&str; 6] = ["--election-timeout", "1000", "--heartbeat", "100", "--http", "0.0.0.0:7080"];
/// How long a write may wait for a leader that has room.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a read may wait for a leader.
const READ_PATIENCE: Duration = Duration::from_secs(20);

fn key(number: usize) -> String {
    format!("key-{number}")
}

fn value(number: usize) -> String {
    format!("{number:08}").repeat(VALUE_BYTES / 8)
}

/// Writes until the cluster refuses three values in a row; returns which were acknowledged.
fn fill(client: &mut Client) -> Vec<usize> {
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..VALUES_MAX {
        match client.put(&key(number), &value(number)) {
            Ok(()) => (acknowledged.push(number), refused = 0).1,
            Err(_) => refused += 1,
        }
        if refused == 3 {
            return acknowledged;
        }
    }
    panic!("{VALUES_MAX} values found room");
}

fn http() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().into()
}

/// The status and the body of an answer over HTTP.
fn look_at(node: usize, path: &str) -> (u16, String) {
    let mut answer = http().get(format!("http://{}:{HTTP_PORT}{path}", address(node))).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn kv_status() -> String {
    let endpoints: Vec<String> = (1..=3).map(Nodes::endpoint).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    let output =
        command.args(["status", "--endpoints", &endpoints.join(",")]).env_remove("KV_ENDPOINTS").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Where it can be seen whether the disk of a node is full: in its log, over HTTP, and by an operator.
fn assert_seen(cluster: &Cluster<'_>, node: usize, full: bool) {
    let (line, other) = ("the disk is full: no commands are taken; make room on it", "the disk has room again");
    let said = cluster.nodes.said(node);
    let last = said.lines().rfind(|found| found.contains(line) || found.contains(other));
    // A node that was started on a full disk, and was asked for nothing, has not noticed.
    assert_eq!(last.is_some_and(|last| last.contains(line)), full, "node {node} said: {said}");
    let ready = look_at(node, "/readyz");
    assert_eq!(ready.1.contains("disk-full"), full, "node {node}: {ready:?}");
    assert!(ready.0 == 503 || !full, "node {node}: {ready:?}");
    let gauge = format!("raft_disk_full {}\n", u8::from(full));
    assert!(look_at(node, "/metrics").1.contains(&gauge), "node {node} has no {gauge}");
    let status = kv_status();
    let row = status.lines().find(|row| row.contains(&Nodes::endpoint(node)));
    assert_eq!(row.map(|row| row.contains("disk full")), Some(full), "{status}");
}

#[test]
fn full_disks_lose_nothing_and_keep_nobody_from_starting_again() {
    let name = "full_disks_lose_nothing_and_keep_nobody_from_starting_again";
    if !rights::granted(name, &[Need::Namespaces, Need::Mounts]) {
        return;
    }
    with_cluster(3, &EXTRA, |cluster, _| {
        let disks: Vec<Mount> = (1..=3).map(|node| Mount::memory(&cluster.nodes.disk(node), DISK_MIB)).collect();
        cluster.start_all();
        cluster.settle();
        let acknowledged = fill(&mut cluster.client(WRITE_PATIENCE));
        assert!(acknowledged.len() > 40, "{} values found room", acknowledged.len());
        cluster.nodes.check();
        let (leader, _) = cluster.leader();
        assert_seen(cluster, leader, true);
        let put = http().put(format!("http://{}:{HTTP_PORT}/v1/kv/key", address(leader))).send(value(0)).unwrap();
        assert_eq!(put.status(), 507);
        for node in 1..=3 {
            cluster.nodes.kill(node);
            // The other two go on, and answer.
            let (first, last) = (acknowledged[0], acknowledged[acknowledged.len() - 1]);
            assert_eq!(cluster.read(&key(first), READ_PATIENCE), Some(value(first)));
            cluster.start(node);
            cluster.settle();
            assert_eq!(cluster.read(&key(last), READ_PATIENCE), Some(value(last)));
        }
        disks.iter().for_each(|disk| disk.resize(ROOM_MIB));
        let mut client = cluster.client(PATIENCE);
        cluster.wait_for("the nodes do not see that there is room", |view| {
            view.0.iter().all(|status| status.is_some_and(|status| !status.full)).then_some(())
        });
        assert_seen(cluster, leader, false);
        client.put("key", "after").unwrap();
        for &number in &acknowledged {
            assert_eq!(client.get(&key(number)), Some(value(number)), "value {number} was acknowledged");
        }
        cluster.settle();
        // The data must not outlive its disk.
        (1..=3).for_each(|node| cluster.nodes.kill(node));
        drop(disks);
    });
}

/// A state that is much smaller than the disk, and whose log would be longer: the log makes room for itself, long before a
/// snapshot would be due.
#[test]
fn a_log_that_has_filled_the_disk_makes_room_for_itself() {
    let name = "a_log_that_has_filled_the_disk_makes_room_for_itself";
    if !rights::granted(name, &[Need::Namespaces, Need::Mounts]) {
        return;
    }
    with_cluster(1, &EXTRA, |cluster, _| {
        let disk = Mount::memory(&cluster.nodes.disk(1), DISK_MIB);
        cluster.start_all();
        cluster.settle();
        let mut client = cluster.client(PATIENCE);
        for number in 0..600 {
            let put = client.put(&key(number % 10), &value(number));
            assert!(put.is_ok(), "value {number}: {put:?}: {}", cluster.nodes.tail(1));
        }
        assert_eq!(client.get(&key(3)), Some(value(593)));
        cluster.nodes.kill(1);
        drop(disk);
    });
}
