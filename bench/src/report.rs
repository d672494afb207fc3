//! Systems side by side: the runs of each, the machine, and the ratios.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::machine::Machine;
use crate::run::Run;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was compared.
    pub title: String,
    /// Where it was measured.
    pub machine: Machine,
    /// One row per number of clients, ascending.
    pub rows: Vec<Row>,
    /// Every run of every peer.
    pub peers: Vec<Measured>,
    /// Every run of kv, in the order measured.
    pub kv: Vec<Run>,
}

/// A system that kv is compared with, and its runs in the order measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The system's name in the table.
    pub name: String,
    /// All its runs.
    pub runs: Vec<Run>,
}

/// All systems under one number of clients. Of several rounds, each shows the one of median throughput.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Number of clients.
    pub clients: u64,
    /// The peers that ran with so many.
    pub peers: Vec<Compared>,
    /// The run of kv.
    pub kv: Option<Run>,
}

/// One peer's run, and kv's against it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The peer's name.
    pub name: String,
    /// The peer's run.
    pub run: Run,
    /// Kv over this peer, where both ran.
    pub ratios: Option<Ratios>,
}

/// A figure of kv over the same figure of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratios {
    /// Puts per second: more is better.
    pub throughput: f64,
    /// Median latency: less is better.
    pub p50: f64,
    /// 99th percentile of the latency: less is better.
    pub p99: f64,
    /// 99.9th percentile of the latency: less is better.
    pub p999: f64,
}

impl Ratios {
    /// Nothing is compared with a system that did nothing.
    fn new(kv: &Run, peer: &Run) -> Option<Self> {
        (peer.puts_per_second > 0.0).then(|| Self {
            throughput: kv.puts_per_second / peer.puts_per_second,
            p50: kv.p50_us / peer.p50_us,
            p99: kv.p99_us / peer.p99_us,
            p999: kv.p999_us / peer.p999_us,
        })
    }
}

impl Report {
    /// Puts the runs of all systems in rows.
    pub fn new(title: String, machine: Machine, peers: Vec<Measured>, kv: Vec<Run>) -> Self {
        let all = peers.iter().flat_map(|peer| &peer.runs).chain(&kv);
        let counts: BTreeSet<u64> = all.map(|run| run.clients).collect();
        let rows = counts.into_iter().map(|clients| row(clients, &peers, &kv)).collect();
        Self { title, machine, rows, peers, kv }
    }
}

fn row(clients: u64, peers: &[Measured], kv: &[Run]) -> Row {
    let kv = median(kv, clients);
    let compare = |peer: &Measured| {
        let run = median(&peer.runs, clients)?;
        let ratios = kv.as_ref().and_then(|kv| Ratios::new(kv, &run));
        Some(Compared { name: peer.name.clone(), run, ratios })
    };
    Row { clients, peers: peers.iter().filter_map(compare).collect(), kv }
}

/// The run of median throughput with so many clients; of an even number the lower one of the middle two.
fn median(runs: &[Run], clients: u64) -> Option<Run> {
    let mut runs: Vec<&Run> = runs.iter().filter(|run| run.clients == clients).collect();
    runs.sort_by(|a, b| a.puts_per_second.total_cmp(&b.puts_per_second));
    let middle = runs.len().checked_sub(1)? / 2;
    runs.get(middle).copied().cloned()
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        self.machine.fmt(f)?;
        for row in &self.rows {
            writeln!(f, "\n{} outstanding", row.clients)?;
            let names = ["", "per second", "p50 µs", "p99 µs", "p99.9 µs", "entries/sync", "errors"];
            line(f, names.map(str::to_owned))?;
            row.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for peer in &self.peers {
            line(f, cells(&peer.name, &peer.run))?;
        }
        if let Some(kv) = &self.kv {
            line(f, cells("kv", kv))?;
        }
        for peer in &self.peers {
            if let Some(Ratios { throughput, p50, p99, p999 }) = peer.ratios {
                let [throughput, p50, p99, p999] = [throughput, p50, p99, p999].map(|ratio| format!("×{ratio:.2}"));
                line(f, [format!("kv/{}", peer.name), throughput, p50, p99, p999, String::new(), String::new()])?;
            }
        }
        Ok(())
    }
}

fn cells(name: &str, run: &Run) -> [String; 7] {
    [
        name.to_owned(),
        format!("{:.0}", run.puts_per_second),
        format!("{:.0}", run.p50_us),
        format!("{:.0}", run.p99_us),
        format!("{:.0}", run.p999_us),
        run.entries_per_sync.map_or(String::new(), |entries| format!("{entries:.1}")),
        run.errors.to_string(),
    ]
}

fn line(f: &mut Formatter<'_>, cells: [String; 7]) -> fmt::Result {
    let [name, rest @ ..] = cells;
    let mut text = format!("{name:<18}");
    for cell in rest {
        text.push_str(&format!("{cell:>13}"));
    }
    writeln!(f, "{}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(clients: u64, puts_per_second: f64, p50_us: f64) -> Run {
        let (p99_us, p999_us) = (p50_us * 2.0, p50_us * 3.0);
        Run { clients, puts_per_second, p50_us, p99_us, p999_us, entries_per_sync: None, errors: 0 }
    }

    fn report(peer: Vec<Run>, kv: Vec<Run>) -> Report {
        let machine = Machine {
            cpu: "a processor".to_owned(),
            cores: 2,
            kernel: "6.1".to_owned(),
            filesystem: "ext4".to_owned(),
            syncs: Vec::new(),
        };
        let peers = vec![Measured { name: "etcd".to_owned(), runs: peer }];
        Report::new("a title".to_owned(), machine, peers, kv)
    }

    #[test]
    fn ratios_are_of_the_median_rounds() {
        let report = report(
            vec![run(16, 300.0, 9.0), run(16, 100.0, 7.0), run(16, 200.0, 8.0), run(1, 10.0, 50.0)],
            vec![run(16, 1_000.0, 2.0)],
        );
        let [one, sixteen] = &report.rows[..] else { panic!("two rows: {report}") };
        assert_eq!((one.clients, one.peers[0].ratios), (1, None));
        let ratios = sixteen.peers[0].ratios.expect("both ran");
        assert_eq!((ratios.throughput, ratios.p50), (5.0, 0.25));
        assert!(report.to_string().contains("kv/etcd"));
    }

    #[test]
    fn an_idle_peer_has_no_ratio() {
        let report = report(vec![run(1, 0.0, 0.0)], vec![run(1, 5.0, 1.0)]);
        assert_eq!(report.rows[0].peers[0].ratios, None);
        assert!(!report.to_string().contains('×'));
    }
}
