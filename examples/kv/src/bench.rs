//! `kv bench`: how many puts per second, and how long each takes.
//!
//! A closed loop: every client has one request under way, and makes the next when it is answered. What is
//! counted as a put is committed and on the disks of a majority.

mod embedded;
mod figures;
mod load;

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kv::command::{Command, Condition, Query, encode};
use kv::watch::Watch;
use raft_client::{EngineError, NodeStatus};
use raft_core::session::limits::SessionLimits;
use rustix::fs::statfs;
use serde_json::json;
use tempfile::TempDir;
use thiserror::Error;

use crate::bench::embedded::Embedded;
use crate::bench::figures::{Run, heading};
use crate::bench::load::Load;
use crate::cli::BenchArgs;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::processes::{Cluster, ClusterError, Plan};
use crate::progress::Progress;
use crate::serve::ServeError;

/// How long the load runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often a measurement looks whether it should go on.
const LOOK: Duration = Duration::from_millis(50);
/// What `statfs` says of file systems in memory: tmpfs and ramfs.
const IN_MEMORY: [i128; 2] = [0x0102_1994, 0x8584_58f6];

/// Why there are no figures.
#[derive(Debug, Error)]
#[non_exhaustive]
enum BenchError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{folder} cannot hold the cluster's data: {source}; choose another folder with --data")]
    Folder { folder: String, source: io::Error },
    #[error(transparent)]
    Client(#[from] EngineError),
    #[error("the node in this process: {0}")]
    Node(Box<ServeError>),
    #[error("the node in this process was not elected; run it again")]
    NotLeading,
    #[error("the node in this process takes no more commands: {0}")]
    Proposal(raft_node::Failed),
    #[error("none of {endpoints} leads; is the cluster up?")]
    NoLeader { endpoints: String },
    #[error("the system fails this program: {0}")]
    System(#[from] io::Error),
    #[error("a thread that makes load panicked")]
    Panicked,
}

impl From<ServeError> for BenchError {
    fn from(error: ServeError) -> BenchError {
        BenchError::Node(Box::new(error))
    }
}

/// When a load begins to count, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    end: Instant,
}

impl Schedule {
    fn from_now(measured: Duration) -> Schedule {
        let begin = Instant::now() + WARM_UP;
        Schedule { begin, end: begin + measured }
    }

    /// A request counts where it ends.
    fn counts(&self, ended: Instant) -> bool {
        (self.begin..self.end).contains(&ended)
    }
}

/// What clients ask for.
#[derive(Clone, Debug)]
struct Work {
    value: Vec<u8>,
    /// How many of a hundred requests are reads.
    reads: u8,
}

impl Work {
    /// Sets the client's own key: one key for each, so that the store does not grow.
    fn put(&self, client: u32) -> Vec<u8> {
        let value = raft_core::wire::Bytes(&self.value);
        encode(&Command::Put { key: &format!("k{client:07}"), value, condition: Condition::Always })
    }

    fn get(&self, client: u32) -> Vec<u8> {
        encode(&Query::Get { key: &format!("k{client:07}") })
    }
}

pub(crate) fn run(args: &BenchArgs, json: bool) -> Exit {
    match measure(args, json) {
        Ok(runs) => {
            if json {
                let runs: Vec<_> = runs.iter().map(Run::json).collect();
                // The status tells whether there are figures.
                drop(writeln!(io::stdout(), "{}", json!({ "runs": runs })));
            }
            if runs.iter().all(|run| run.errors == 0) { Exit::Done } else { Exit::Refused }
        }
        Err(error) => {
            eprintln!("kv bench: {error}");
            Exit::Unavailable
        }
    }
}

fn measure(args: &BenchArgs, json: bool) -> Result<Vec<Run>, BenchError> {
    let interrupt = Interrupt::listen()?;
    let work = Work { value: noise(args.value_size), reads: args.reads };
    let progress = Progress::new(args.clients.len() as u64);
    let mut target = Target::start(args, &interrupt, &progress)?;
    if !json {
        progress.say("");
        drop(writeln!(io::stdout(), "{}", heading(args.reads)));
    }
    let mut runs = Vec::new();
    for &clients in &args.clients {
        progress.now(format!("{clients} clients, {} s", args.seconds));
        let run = target.run(args, &work, clients, &interrupt)?;
        if json {
            progress.say(&run.line());
        } else {
            drop(writeln!(io::stdout(), "{}", run.line()));
        }
        progress.step();
        runs.push(run);
    }
    target.stop();
    Ok(runs)
}

/// What is measured.
enum Target {
    /// A cluster by its client protocol, started for it or not.
    Remote { endpoints: Vec<String>, watch: Box<Watch>, cluster: Option<(Cluster, TempDir)> },
    /// A leader in this process, and its followers in theirs.
    Embedded { node: Box<Embedded>, cluster: Cluster, _folder: TempDir },
}

impl Target {
    fn start(args: &BenchArgs, interrupt: &Interrupt, progress: &Progress) -> Result<Target, BenchError> {
        if !args.endpoints.is_empty() {
            let watch = Box::new(Watch::new(&args.endpoints)?);
            return Ok(Target::Remote { endpoints: args.endpoints.clone(), watch, cluster: None });
        }
        let folder = folder(args.data.as_deref(), progress)?;
        let sessions = args.clients.iter().max().copied().unwrap_or_default().max(4096);
        let plan = Plan::temporary(folder.path(), &["--log", "warn"])?;
        let plan = Plan { limits: SessionLimits { sessions, ..plan.limits }, ..plan };
        let endpoints = plan.endpoints();
        let mut watch = Box::new(Watch::new(&endpoints)?);
        progress.say(&format!("Three nodes on this machine, their data in {}.", folder.path().display()));
        if args.embedded {
            let (node, cluster) = Embedded::start(plan, &mut watch, interrupt)?;
            return Ok(Target::Embedded { node: Box::new(node), cluster, _folder: folder });
        }
        let mut cluster = Cluster::start(plan, |_| true)?;
        cluster.found(interrupt)?;
        cluster.settle(&mut watch, 0, interrupt, |_| {})?;
        Ok(Target::Remote { endpoints, watch, cluster: Some((cluster, folder)) })
    }

    fn run(&mut self, args: &BenchArgs, work: &Work, clients: u32, interrupt: &Interrupt) -> Result<Run, BenchError> {
        let measured = Duration::from_secs(args.seconds);
        let schedule = Schedule::from_now(measured);
        let (figures, before, after) = match self {
            Target::Remote { endpoints, watch, cluster } => {
                let mut cluster = cluster.as_mut().map(|(cluster, _)| cluster);
                let mut check = || cluster.as_mut().map_or(Ok(()), |cluster| cluster.check(interrupt));
                let load = Load::start(endpoints, args.connections.min(clients), clients, work, schedule)?;
                wait_until(schedule.begin, interrupt, &mut check)?;
                let before = leader(watch, endpoints)?;
                wait_until(schedule.end, interrupt, &mut check)?;
                let after = leader(watch, endpoints)?;
                (load.finish()?, before, after)
            }
            Target::Embedded { node, cluster, .. } => {
                cluster.check(interrupt)?;
                node.run(clients, work, schedule, interrupt)?
            }
        };
        Ok(Run::new(clients, &figures, measured, entries_per_sync(&before, &after)))
    }

    /// Stops what was started for the measurement.
    fn stop(self) {
        match self {
            Target::Remote { cluster: Some((cluster, _folder)), .. } => {
                cluster.stop();
            }
            Target::Remote { .. } => {}
            Target::Embedded { node, cluster, _folder } => {
                node.stop();
                cluster.stop();
            }
        }
    }
}

/// A new folder on the disk to be measured, which is removed in the end.
fn folder(data: Option<&Path>, progress: &Progress) -> Result<TempDir, BenchError> {
    let parent = data.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let wrong = |source| BenchError::Folder { folder: parent.display().to_string(), source };
    std::fs::create_dir_all(&parent).map_err(wrong)?;
    let folder = tempfile::Builder::new().prefix("kv-bench-").tempdir_in(&parent).map_err(wrong)?;
    if statfs(folder.path()).is_ok_and(|found| IN_MEMORY.contains(&i128::from(found.f_type))) {
        progress.say(&format!(
            "Warning: {} is in memory, where a sync costs nothing; name a folder on a disk with --data.",
            parent.display()
        ));
    }
    Ok(folder)
}

fn wait_until(
    moment: Instant,
    interrupt: &Interrupt,
    mut check: impl FnMut() -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if interrupt.came() {
            return Err(ClusterError::Interrupted);
        }
        check()?;
        thread::sleep(LOOK.min(left));
    }
}

fn leader(watch: &mut Watch, endpoints: &[String]) -> Result<NodeStatus, BenchError> {
    let leader = watch.look().leader().map(|(_, status)| status);
    leader.ok_or_else(|| BenchError::NoLeader { endpoints: endpoints.join(", ") })
}

/// How many entries the leader made durable with each sync; `None` if it was not the same one throughout.
fn entries_per_sync(before: &NodeStatus, after: &NodeStatus) -> Option<f64> {
    let entries = after.entries_synced.checked_sub(before.entries_synced)?;
    let syncs = after.syncs.checked_sub(before.syncs).filter(|syncs| *syncs > 0)?;
    (before.node == after.node).then(|| entries as f64 / syncs as f64)
}

/// Bytes that do not compress, the same in every run (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [byte, ..] = state.to_le_bytes();
        byte
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}
