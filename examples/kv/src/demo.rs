//! `kv demo`: leaders are killed under load, and what was acknowledged is compared with what was
//! counted.
//!
//! Three real `kv serve` processes, each with its log on disk, are loaded by clients that add 1 to a few
//! counters, many commands in flight at once. Now and then the leader is killed with SIGKILL, and
//! started again. In the end each acknowledgement must have its place in the counters, and each count its
//! acknowledgement.

mod replace;
mod verdict;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kv::chance::Chance;
use kv::load::{CLIENTS, COUNTERS, IN_FLIGHT, Load, LoadError, Shared, read_counters};
use kv::tally::Tally;
use kv::watch::{View, Watch};
use raft_client::{Consistency, EngineError, NodeStatus, OperatorError};
use tempfile::TempDir;
use thiserror::Error;

use crate::cli::DemoArgs;
use crate::demo::verdict::Verdict;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::processes::{Cluster, ClusterError, Plan, random};
use crate::progress::{Progress, thousands};

/// How long the load runs before each kill, at least and at most, in milliseconds.
const CALM: std::ops::Range<u64> = 300..1_000;
/// How often the nodes are looked at while the load runs.
const LOOK: Duration = Duration::from_millis(20);
/// A node that lags behind by fewer entries than this has caught up.
const LAG: u64 = 20_000;
/// How long the survivors may take to elect a leader.
const ELECTION_MAX: Duration = Duration::from_secs(20);
/// How long the nodes may take to come to the same state after the load.
const AGREE_MAX: Duration = Duration::from_secs(10);

/// Why there is no verdict.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DemoError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a temporary folder cannot be made: {0}; set TMPDIR to a folder that can be written")]
    Folder(io::Error),
    #[error("{0}")]
    Client(#[from] EngineError),
    #[error("the system fails this program: {0}")]
    System(#[from] io::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the survivors elected no leader within {} seconds", ELECTION_MAX.as_secs())]
    NoLeader,
    #[error("the members cannot be changed: {0}")]
    Operator(#[from] OperatorError),
    #[error("a member's number or address is not valid")]
    Members,
    #[error("the new nodes did not catch up in time")]
    NotCaughtUp,
    #[error("the members cannot be replaced as they should be: {0}")]
    NotReplaced(&'static str),
    #[error("nodes {0:?} were removed and did not end")]
    Stays(Vec<u64>),
}

pub(crate) fn run(args: &DemoArgs, json: bool) -> Exit {
    let begin = Instant::now();
    match demonstrate(args, begin) {
        Ok(verdict) => verdict.print(json),
        Err(error) => {
            if json {
                println!("{}", serde_json::json!({ "error": error.to_string(), "exactly_once": false }));
            }
            eprintln!("kv demo: {error}");
            Exit::Unavailable
        }
    }
}

fn demonstrate(args: &DemoArgs, begin: Instant) -> Result<Verdict, DemoError> {
    let interrupt = Interrupt::listen()?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => u64::from(u32::try_from(random()? >> 96).unwrap_or_default()),
    };
    let folder = tempfile::Builder::new().prefix("kv-demo-").tempdir().map_err(DemoError::Folder)?;
    let mut demo = Demo::start(args, folder.path(), seed, interrupt)?;
    let shared = Arc::new(Shared::default());
    let load = Load::start(&demo.endpoints, !args.no_sessions, &shared)?;
    demo.kill_leaders(args.kills, &shared)?;
    if args.replace {
        demo.replace_members(&shared)?;
    }
    demo.wait(Duration::from_millis(CALM.start), &shared)?;
    demo.progress.say("Waiting for the last answers.");
    let done = load.finish(|| demo.look(&shared))?;
    demo.cluster.settle(&mut demo.watch, 0, &demo.interrupt, |_| {})?;
    let counted = read_counters(&demo.endpoints, Consistency::Linearizable, ELECTION_MAX)?;
    let replicas_agree = demo.replicas_agree(&counted)?;
    let tally = Tally::new(done.values, &counted, done.unknown);
    let verdict = Verdict {
        sessions: !args.no_sessions,
        kills: demo.kills,
        elections: demo.terms.len() as u64,
        retries: done.retries,
        replayed: done.replayed,
        refused: done.refused,
        seconds: begin.elapsed().as_secs_f64(),
        seed,
        replicas_agree,
        replaced: args.replace,
        kept: None,
        tally,
    };
    drop(demo);
    Ok(keep_if_wrong(verdict, folder))
}

/// What went wrong under sessions should not have: the logs and the data are left for a closer look.
fn keep_if_wrong(mut verdict: Verdict, folder: TempDir) -> Verdict {
    if verdict.sessions && !verdict.exactly_once() {
        verdict.kept = Some(folder.keep());
    }
    verdict
}

/// A cluster under demonstration.
struct Demo {
    endpoints: Vec<String>,
    cluster: Cluster,
    watch: Watch,
    interrupt: Interrupt,
    progress: Progress,
    chance: Chance,
    /// The terms in which somebody was seen to lead.
    terms: BTreeSet<u64>,
    kills: u64,
}

impl Demo {
    fn start(args: &DemoArgs, folder: &Path, seed: u64, interrupt: Interrupt) -> Result<Demo, DemoError> {
        let replacements = if args.replace { 4 } else { 0 };
        let progress = Progress::new(u64::from(args.kills) + replacements + 1);
        progress.say("Starting three nodes, each a process with its own log on disk.");
        // With small snapshots, so that nodes that join get one.
        let snapshots = ["--snapshot-entries", "20000"];
        let extra = [&["--log", "warn"][..], if args.replace { &snapshots } else { &[] }].concat();
        let plan = Plan::temporary(folder, &extra)?;
        let endpoints = plan.endpoints();
        let mut cluster = Cluster::start(plan, |_| true)?;
        cluster.found(&interrupt)?;
        let watch = Watch::new(&endpoints)?;
        let (chance, terms) = (Chance::new(seed), BTreeSet::new());
        let mut demo = Demo { endpoints, cluster, watch, interrupt, progress, chance, terms, kills: 0 };
        let (_, leader) = demo.settle()?;
        let guard = if args.no_sessions { "without sessions" } else { "each under a session" };
        demo.progress.say(&format!(
            "Node {} leads. {CLIENTS} clients, {guard}, add 1 to {COUNTERS} counters, with {} commands in flight (seed {seed}).",
            leader.node,
            CLIENTS * IN_FLIGHT,
        ));
        demo.progress.step();
        Ok(demo)
    }

    fn kill_leaders(&mut self, kills: u16, shared: &Shared) -> Result<(), DemoError> {
        for _ in 0..kills {
            let calm = Duration::from_millis(CALM.start + self.chance.below(CALM.end - CALM.start));
            self.wait(calm, shared)?;
            let (at, old) = self.settle()?;
            // Not always at the moment at which it has just been asked.
            let moment = Duration::from_millis(self.chance.below(50));
            self.wait(moment, shared)?;
            self.cluster.kill(at)?;
            self.kills += 1;
            let acknowledged = thousands(shared.acknowledged());
            self.progress.say(&format!(
                "Killed node {}, the leader of term {}; {acknowledged} commands were acknowledged by then.",
                old.node, old.term
            ));
            let new = self.successor(&old, shared)?;
            self.progress.say(&format!("Node {} leads term {}; starting node {} again.", new.node, new.term, old.node));
            self.cluster.start_again(at)?;
            self.settle()?;
            self.progress.step();
        }
        Ok(())
    }

    /// Lets the load run for a while.
    fn wait(&mut self, time: Duration, shared: &Shared) -> Result<(), DemoError> {
        let begin = Instant::now();
        loop {
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            self.cluster.check(&self.interrupt)?;
            thread::sleep(LOOK.min(left));
            self.look(shared);
        }
    }

    /// Waits until all nodes run and follow one leader.
    fn settle(&mut self) -> Result<(usize, NodeStatus), DemoError> {
        let terms = &mut self.terms;
        Ok(self.cluster.settle(&mut self.watch, LAG, &self.interrupt, |view| note(terms, view))?)
    }

    /// Waits until the survivors have elected a leader in place of `old`.
    fn successor(&mut self, old: &NodeStatus, shared: &Shared) -> Result<NodeStatus, DemoError> {
        let begin = Instant::now();
        while begin.elapsed() < ELECTION_MAX {
            self.cluster.check(&self.interrupt)?;
            let view = self.look(shared);
            if let Some((_, new)) = view.leader().filter(|(_, new)| new.term > old.term) {
                return Ok(new);
            }
            thread::sleep(LOOK);
        }
        Err(DemoError::NoLeader)
    }

    fn look(&mut self, shared: &Shared) -> View {
        let view = self.watch.look();
        note(&mut self.terms, &view);
        self.progress.now(format!("{} acknowledged", thousands(shared.acknowledged())));
        view
    }

    /// Whether every node, asked on its own, comes to hold the same counters.
    fn replicas_agree(&mut self, counted: &[u64]) -> Result<bool, DemoError> {
        let begin = Instant::now();
        for endpoint in &self.endpoints {
            while read_counters(std::slice::from_ref(endpoint), Consistency::Stale, ELECTION_MAX)? != counted {
                self.cluster.check(&self.interrupt)?;
                if begin.elapsed() > AGREE_MAX {
                    return Ok(false);
                }
                thread::sleep(LOOK);
            }
        }
        Ok(true)
    }
}

/// Notes the term of whoever leads.
fn note(terms: &mut BTreeSet<u64>, view: &View) {
    terms.extend(view.leader().map(|(_, leader)| leader.term.0));
}
