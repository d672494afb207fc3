//! What a campaign has shown.

use std::fmt;
use std::thread;
use std::time::Instant;

use kv::load::{Done, read_counters};
use kv::tally::Tally;
use raft_client::Consistency;

use crate::cluster::{Cluster, LOOK, PATIENCE};
use crate::reads::Reads;

/// What happened to the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Processes that were killed with SIGKILL.
    pub(crate) kills: u64,
    pub(crate) partitions: u64,
    pub(crate) pauses: u64,
    /// Times in which packets were lost.
    pub(crate) losses: u64,
    /// Nodes that ended because a sync failed.
    pub(crate) crash_stops: u64,
}

/// What a campaign has shown.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    pub(crate) reads: Reads,
    tally: Tally,
    retries: u64,
    replayed: u64,
    refused: u64,
}

impl Verdict {
    /// Compares what the clients saw with what the nodes, which are well again, have counted. Every node must come
    /// to hold the same.
    pub(crate) fn new(cluster: &Cluster<'_>, counts: Counts, done: Done, reads: Reads) -> Verdict {
        let endpoints = cluster.nodes.endpoints();
        let counted = read_counters(&endpoints, Consistency::Linearizable, PATIENCE).unwrap();
        let begin = Instant::now();
        for endpoint in endpoints {
            while read_counters(std::slice::from_ref(&endpoint), Consistency::Stale, PATIENCE).unwrap() != counted {
                assert!(begin.elapsed() < PATIENCE, "{endpoint} does not come to hold what the others do");
                thread::sleep(LOOK);
            }
        }
        let Done { values, unknown, refused, retries, replayed, .. } = done;
        let tally = Tally::new(values, &counted, unknown);
        Verdict { counts, reads, tally, retries, replayed, refused }
    }

    /// Fails unless every acknowledged command was executed once, and every read was fresh.
    pub(crate) fn judge(&self) {
        assert!(self.tally.acknowledged > 0, "nothing was acknowledged");
        assert_eq!(self.tally.lost, 0, "acknowledged commands were lost: {self}");
        assert_eq!(self.tally.duplicated, 0, "commands were executed twice: {self}");
        assert!(self.reads.fresh > 0, "nothing was read");
        assert_eq!(self.reads.stale, 0, "linearizable reads were stale: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { kills, partitions, pauses, losses, crash_stops } = self.counts;
        let Tally { acknowledged, counted, lost, duplicated, unknown } = self.tally;
        let Verdict { retries, replayed, refused, reads, .. } = self;
        writeln!(
            formatter,
            "{kills} kills, {partitions} partitions, {pauses} pauses, {losses} times of loss, {crash_stops} failed syncs"
        )?;
        writeln!(
            formatter,
            "{acknowledged} increments acknowledged, {counted} counted: {lost} lost, {duplicated} counted twice, \
             {unknown} unknown, {refused} refused; {retries} requests sent again, {replayed} answered from the table"
        )?;
        write!(
            formatter,
            "{} linearizable reads fresh, {} stale, {} unanswered",
            reads.fresh, reads.stale, reads.failed
        )
    }
}
