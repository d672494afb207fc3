//! A sync that fails is the end of a node, at once, though the next one would succeed.

use std::fs;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, PATIENCE, with_cluster};
use crate::nodes::Trouble;
use crate::rights::{self, Need};

/// Waits for the end of a node whose sync fails, and judges it: nothing is tried again, and the operator is told.
pub(crate) fn expect_crash_stop(cluster: &mut Cluster<'_>, node: usize) {
    let (status, said) = cluster.nodes.end(node);
    assert_eq!(status.code(), Some(1), "{said}");
    let told = said.lines().rev().find(|line| line.starts_with("kv serve: "));
    let told = told.unwrap_or_else(|| panic!("nothing is said: {said}"));
    // As in "syncing 0000000001.wal failed: Input/output error".
    let what = told.split_once(" failed: Input/output error").and_then(|(before, _)| before.rsplit(": ").next());
    assert!(what.is_some_and(|what| what.split(' ').count() == 2), "no file is named: {told}");
    let calls = fs::read_to_string(cluster.nodes.calls(node)).unwrap();
    let (_, after) = calls.split_once("(INJECTED)").expect("the sync was made to fail");
    let again = ["fsync(", "fdatasync(", "pwrite64(", "rename("];
    let again: Vec<&str> = after.lines().filter(|line| again.iter().any(|call| line.contains(call))).collect();
    assert!(again.is_empty(), "after a failed sync the node went on: {again:?}");
}

#[test]
fn a_failed_sync_stops_a_node_and_loses_nothing() {
    if !rights::granted("a_failed_sync_stops_a_node_and_loses_nothing", &[Need::Namespaces, Need::Injection]) {
        return;
    }
    // With one node nobody else can answer or repair anything.
    with_cluster(1, &[], |cluster, _| {
        let (mut number, mut acknowledged) = (0, Vec::new());
        for nth in [12, 1, 3, 25] {
            cluster.start_in(1, &Trouble { failing_sync: Some(nth), clock: None });
            let mut client = cluster.client(Duration::from_secs(2));
            // Answered or not, the next one is another: which were acknowledged is what counts.
            let begin = Instant::now();
            while !cluster.nodes.said(1).contains("kv serve: ") {
                assert!(begin.elapsed() < PATIENCE, "sync {nth} has failed, and the node goes on");
                number += 1;
                if client.put(&format!("key-{number}"), &number.to_string()).is_ok() {
                    acknowledged.push(number);
                }
            }
            expect_crash_stop(cluster, 1);
            cluster.start(1);
            cluster.settle();
            let mut client = cluster.client(Duration::from_secs(20));
            for number in &acknowledged {
                assert_eq!(client.get(&format!("key-{number}")), Some(number.to_string()), "sync {nth}");
            }
            cluster.nodes.kill(1);
        }
        assert!(!acknowledged.is_empty());
    });
}
