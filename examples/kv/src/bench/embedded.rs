//! The load from within the leader's process: what the library does by itself, without a client protocol.

use std::ffi::OsString;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use clap::Parser;
use kv::watch::Watch;
use raft_client::NodeStatus;
use raft_core::session::owned::OwnedOutcome;
use raft_node::{Handle, Pending};

use crate::bench::figures::Figures;
use crate::bench::{BenchError, Schedule, Work};
use crate::cli::{Cli, Subcommand};
use crate::interrupt::Interrupt;
use crate::processes::{Cluster, ClusterError, Plan};
use crate::serve::{KvNode, launch};

/// The node that is in this process.
const OWN: u64 = 1;
/// It campaigns well before the others would.
const OWN_ELECTION: &str = "200";
/// When the others would campaign, in milliseconds.
const OTHER_ELECTION: &str = "2000";
/// How long the last proposals may take after the measured time. What is not decided then has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// How long the load waits for news before it looks at the clock.
const LOOK: Duration = Duration::from_millis(20);

/// A leader in this process.
pub(crate) struct Embedded {
    node: KvNode,
    handle: Handle,
}

impl Embedded {
    /// Starts the first node of a plan in this process, and the others in theirs.
    pub(super) fn start(
        plan: Plan,
        watch: &mut Watch,
        interrupt: &Interrupt,
    ) -> Result<(Embedded, Cluster), BenchError> {
        let place = plan.places.first().ok_or(BenchError::NotLeading)?;
        let arguments = [OsString::from("kv")].into_iter().chain(plan.arguments(place));
        let own = arguments.chain(["--election-timeout", OWN_ELECTION].map(OsString::from));
        let cli = Cli::try_parse_from(own).map(|cli| cli.command);
        let Ok(Subcommand::Serve(args)) = cli else { return Err(BenchError::NotLeading) };
        let mut others = plan;
        others.extra.extend(["--election-timeout", OTHER_ELECTION].map(str::to_owned));
        let mut cluster = Cluster::start(others, |node| node != OWN)?;
        let own = thread::spawn(move || launch(&args));
        cluster.found(interrupt)?;
        let (node, _) = own.join().map_err(|_| BenchError::NotLeading)??;
        let handle = node.handle();
        let (_, leader) = cluster.settle(watch, 0, interrupt, |_| {})?;
        if leader.node.get() != OWN {
            return Err(BenchError::NotLeading);
        }
        Ok((Embedded { node, handle }, cluster))
    }

    /// Keeps so many proposals outstanding; gives the figures, and the node's status before and after.
    pub(super) fn run(
        &mut self,
        outstanding: u32,
        work: &Work,
        schedule: Schedule,
        interrupt: &Interrupt,
    ) -> Result<(Figures, NodeStatus, NodeStatus), BenchError> {
        let mut proposals = Proposals::new(&self.handle, outstanding, work, schedule);
        proposals.run_until(schedule.begin, interrupt)?;
        let before = self.handle.status().wait().map_err(BenchError::Proposal)?;
        proposals.run_until(schedule.end, interrupt)?;
        let after = self.handle.status().wait().map_err(BenchError::Proposal)?;
        Ok((proposals.finish(interrupt)?, before, after))
    }

    pub(super) fn stop(self) {
        self.handle.stop();
        // The figures are made; how the node ends does not change them.
        drop(self.node.join());
    }
}

/// Which proposals have news, and the thread that waits for them.
struct News {
    ready: Mutex<Vec<usize>>,
    thread: Thread,
}

/// The waker of one proposal.
struct Bell {
    news: Arc<News>,
    place: usize,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut ready = self.news.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.push(self.place);
        if ready.len() == 1 {
            self.news.thread.unpark();
        }
    }
}

struct Proposal {
    command: Vec<u8>,
    waker: Waker,
    began: Instant,
    pending: Option<Pending<OwnedOutcome>>,
}

/// Proposals, each of which is followed by another one when it is decided.
struct Proposals<'a> {
    handle: &'a Handle,
    proposals: Vec<Proposal>,
    news: Arc<News>,
    ready: Vec<usize>,
    outstanding: usize,
    schedule: Schedule,
    figures: Figures,
}

impl<'a> Proposals<'a> {
    fn new(handle: &'a Handle, outstanding: u32, work: &Work, schedule: Schedule) -> Proposals<'a> {
        let news = Arc::new(News { ready: Mutex::default(), thread: thread::current() });
        let proposal = |(place, number)| Proposal {
            command: work.put(number),
            waker: Waker::from(Arc::new(Bell { news: news.clone(), place })),
            began: Instant::now(),
            pending: None,
        };
        let proposals: Vec<Proposal> = (0..outstanding).enumerate().map(proposal).collect();
        let (ready, figures) = (Vec::new(), Figures::new());
        let mut all = Proposals { handle, proposals, news, ready, outstanding: 0, schedule, figures };
        for place in 0..all.proposals.len() {
            all.drive(place);
        }
        all
    }

    /// Looks at a proposal, and makes the next one when it is decided, until one is under way.
    fn drive(&mut self, place: usize) {
        let Some(proposal) = self.proposals.get_mut(place) else { return };
        loop {
            let pending = proposal.pending.get_or_insert_with(|| {
                self.outstanding += 1;
                proposal.began = Instant::now();
                self.handle.propose_plain(proposal.command.clone())
            });
            let Poll::Ready(result) = Pin::new(pending).poll(&mut Context::from_waker(&proposal.waker)) else { return };
            proposal.pending = None;
            self.outstanding -= 1;
            let now = Instant::now();
            if result.is_err() {
                // The others go on; to try again at once would only count one failure often.
                self.figures.errors += 1;
                return;
            }
            if self.schedule.counts(now) {
                self.figures.puts.record(now.duration_since(proposal.began));
            }
            if now >= self.schedule.end {
                return;
            }
        }
    }

    /// Goes on until then, or until nothing is outstanding any more.
    fn run_until(&mut self, moment: Instant, interrupt: &Interrupt) -> Result<(), BenchError> {
        while self.outstanding > 0 {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if interrupt.came() {
                return Err(ClusterError::Interrupted.into());
            }
            let mut ready = std::mem::take(&mut self.ready);
            std::mem::swap(&mut ready, &mut *self.news.ready.lock().unwrap_or_else(PoisonError::into_inner));
            if ready.is_empty() {
                thread::park_timeout(LOOK.min(left));
            }
            for place in ready.drain(..) {
                self.drive(place);
            }
            self.ready = ready;
        }
        Ok(())
    }

    fn finish(mut self, interrupt: &Interrupt) -> Result<Figures, BenchError> {
        self.run_until(self.schedule.end + LAST_ANSWERS, interrupt)?;
        self.figures.errors += self.outstanding as u64;
        Ok(self.figures)
    }
}
