//! The wall clock jumps, and nothing else happens.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kv::load::{Load, Shared};

use crate::cluster::{Cluster, with_cluster};
use crate::nodes::Trouble;
use crate::reads::Readers;
use crate::rights::{self, Need};
use crate::verdict::{Counts, Verdict};

/// By how much the clocks are off, one after the other: years ahead, decades back, a little.
const STEPS: [&str; 6] = ["+40000000", "-900000000", "+5", "-5", "+900000000", "+0"];
/// An election for want of time, on a machine that is busy, would look like one for the clock's sake.
const EXTRA: [&str; 4] = ["--election-timeout", "10000", "--heartbeat", "100"];

#[test]
fn a_wall_clock_that_jumps_has_no_effect() {
    if !rights::granted("a_wall_clock_that_jumps_has_no_effect", &[Need::Namespaces, Need::Clock]) {
        return;
    }
    with_cluster(3, &EXTRA, |cluster, folder| {
        let file = |node: usize| folder.path().join(format!("clock-{node}"));
        for node in 1..=3 {
            step(&file(node), STEPS[0]);
            cluster.start_in(node, &Trouble { clock: Some(file(node)), failing_sync: None });
        }
        cluster.settle();
        let (_, term) = cluster.leader();
        let shared = Arc::new(Shared::default());
        let load = Load::start(&cluster.nodes.endpoints(), true, &shared).unwrap();
        let readers = Readers::start(&cluster.nodes.endpoints());
        for turn in 0..STEPS.len() {
            for node in 1..=3 {
                step(&file(node), STEPS[(turn + node) % STEPS.len()]);
                thread::sleep(Duration::from_millis(200));
            }
            assert_eq!(cluster.leader().1, term, "a clock has brought about an election");
        }
        let done = load.finish(|| ()).unwrap();
        assert_eq!((done.unknown, done.refused), (0, 0), "sessions were ended by a clock");
        let reads = readers.finish();
        assert_eq!(reads.failed, 0);
        cluster.settle();
        let verdict = Verdict::new(cluster, Counts::default(), done, reads);
        println!("clocks: {verdict}");
        verdict.judge();
        jumped(cluster, &file);
    });
}

/// Has a clock show another time from now on.
fn step(file: &Path, offset: &str) {
    // In one step, so that nobody reads half of it.
    let draft = file.with_extension("draft");
    fs::write(&draft, offset).unwrap();
    fs::rename(&draft, file).unwrap();
}

/// The nodes' logs show that their clocks have jumped: what each says at a change of leader has the time of its own.
fn jumped(cluster: &mut Cluster<'_>, file: &impl Fn(usize) -> std::path::PathBuf) {
    let years = |said: &str| {
        let mut years: Vec<u64> = said.lines().filter_map(|line| line.get(..4)?.parse().ok()).collect();
        years.sort_unstable();
        years
    };
    (1..=3).for_each(|node| step(&file(node), "-900000000"));
    let (leader, _) = cluster.leader();
    cluster.make_leader(1 + leader % 3);
    let said = years(&cluster.nodes.said(leader));
    assert!(said.last() > said.first().map(|first| first + 20).as_ref(), "the clock did not jump: {said:?}");
}
