//! A leader that stood still, and cannot know that others have gone on without it.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{PATIENCE, with_cluster};
use crate::namespaces::{Dropped, Drops};
use crate::nodes::Nodes;
use crate::reads::Reader;
use crate::rights::{self, Need};

#[test]
fn a_leader_that_was_paused_serves_no_stale_read() {
    let name = "a_leader_that_was_paused_serves_no_stale_read";
    if !rights::granted(name, &[Need::Namespaces, Need::Filters]) {
        return;
    }
    with_cluster(3, &[], |cluster, _| {
        cluster.start_all();
        let mut client = cluster.client(PATIENCE);
        for turn in 0..3 {
            cluster.settle();
            let (old, _) = cluster.leader();
            let (before, after) = (format!("{turn}-before"), format!("{turn}-after"));
            client.put("key", &before).unwrap();
            // They are connected already; what they ask is the first thing that the old leader finds.
            let mut readers = [false, true].map(|forward| Reader::new(&Nodes::endpoint(old), forward));
            for reader in &mut readers {
                reader.ask("key", PATIENCE);
                assert_eq!(reader.answer(PATIENCE), Some(Some(before.clone())));
            }
            cluster.nodes.signal(old, Signal::STOP);
            // Or else the first thing it finds is that there is a leader of a later term.
            let others = (1..=3).filter(|node| *node != old);
            cluster.filter(&others.map(|from| Drops { at: old, what: Dropped::From(from) }).collect::<Vec<_>>());
            client.put("key", &after).unwrap();
            readers.iter_mut().for_each(|reader| reader.ask("key", PATIENCE));
            thread::sleep(Duration::from_millis(50));
            cluster.nodes.signal(old, Signal::CONT);
            for reader in &mut readers {
                let answer = reader.answer(PATIENCE);
                assert!(answer.is_none() || answer == Some(Some(after.clone())), "node {old} has read {answer:?}");
            }
            cluster.filter(&[]);
        }
    });
}
