//! Clusters of real `kv serve` processes on this machine.
//!
//! No process outlives the command that started it: a [`Cluster`] that is dropped kills its nodes, and a
//! node ends by itself when this process is gone, because its standard input then ends.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kv::watch::{View, Watch};
use raft_client::{EngineError, FoundError, Founder, NodeStatus, Standing};
use raft_core::configuration::Lease;
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, NodeId};
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use crate::interrupt::Interrupt;

/// How long a cluster may take until it has a leader whom all nodes follow.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long one attempt to create the cluster may take.
const FOUND_TRY: Duration = Duration::from_secs(2);
/// How long nodes may take to stop before they are killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The ports that are tried for temporary clusters. Linux gives those of outgoing connections from
/// 32,768 on; of a node that is down, none can take the port meanwhile.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Why a cluster does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ClusterError {
    #[error("port {port} of this machine is taken: {source}; stop what uses it, perhaps another cluster")]
    PortTaken { port: u16, source: io::Error },
    #[error("this machine has no free ports")]
    NoPorts,
    #[error("{path} cannot be used: {source}")]
    Folder { path: String, source: io::Error },
    #[error("node {node} cannot be started: {source}")]
    Spawn { node: u64, source: io::Error },
    #[error("node {node} has ended ({status}): {why}")]
    Died { node: u64, status: ExitStatus, why: String },
    #[error("the nodes did not agree on a leader within {} seconds; their logs are in {logs}", READY_MAX.as_secs())]
    NotReady { logs: String },
    #[error("the cluster cannot be created: {0}")]
    Found(#[from] FoundError),
    #[error(
        "the data of node {node} is gone, or is of another cluster than {cluster}: put back what was in {data}, or choose \
         another folder with --data"
    )]
    OtherData { node: u64, cluster: ClusterId, data: String },
    #[error("the cluster cannot be asked: {0}")]
    Client(#[from] EngineError),
    #[error("interrupted")]
    Interrupted,
    #[error("the system fails this program: {0}")]
    System(#[from] io::Error),
}

/// Where one node of a cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its number, from 1 on.
    pub(crate) node: u64,
    pub(crate) listen: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
}

/// A cluster on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) places: Vec<Place>,
    /// What it is created with.
    pub(crate) limits: SessionLimits,
    pub(crate) lease: Option<Lease>,
    /// What its nodes are told besides.
    pub(crate) extra: Vec<String>,
}

impl Plan {
    /// A cluster of three in an empty folder, on free ports, without HTTP.
    pub(crate) fn temporary(folder: &Path, extra: &[&str]) -> Result<Plan, ClusterError> {
        let addresses = free_addresses(3)?;
        let places = (1..).zip(addresses).map(|(node, listen)| Place { node, listen, http: None }).collect();
        let extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        let (folder, limits) = (folder.to_path_buf(), SessionLimits::default());
        Ok(Plan { folder, places, limits, lease: None, extra })
    }

    /// Where its nodes are reached.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| place.listen.to_string()).collect()
    }

    /// The command line of a node, from `serve` on.
    pub(crate) fn arguments(&self, place: &Place) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        let mut put = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        put("--listen", place.listen.to_string().into());
        if let Some(http) = place.http {
            put("--http", http.to_string().into());
        }
        put("--data", self.data(place.node).into());
        arguments.extend(self.extra.iter().map(Into::into));
        arguments
    }

    fn data(&self, node: u64) -> PathBuf {
        self.folder.join(format!("node-{node}"))
    }

    fn log(&self, node: u64) -> PathBuf {
        self.folder.join(format!("node-{node}.log"))
    }

    fn spawn(&self, place: &Place) -> Result<Process, ClusterError> {
        let log = self.log(place.node);
        let opened = OpenOptions::new().create(true).append(true).open(&log);
        let opened = opened.and_then(|log| Ok((log.metadata()?.len(), log)));
        let (log_from, errors) =
            opened.map_err(|source| ClusterError::Folder { path: log.display().to_string(), source })?;
        let spawned = std::env::current_exe().and_then(|program| {
            Command::new(program)
                .args(self.arguments(place))
                .arg("--exit-with-stdin")
                // A cluster of its own is not the one a person has exported.
                .env_remove("KV_ENDPOINTS")
                // Ctrl-C is for the command, which then stops its nodes in order.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(errors)
                .spawn()
        });
        let child = spawned.map_err(|source| ClusterError::Spawn { node: place.node, source })?;
        Ok(Process { child, log_from: usize::try_from(log_from).unwrap_or(usize::MAX) })
    }

    /// Why a node has ended: its last plain line, or else where to look.
    fn last_words(&self, node: u64, log_from: usize) -> String {
        let path = self.log(node);
        let log = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(log.get(log_from..).unwrap_or_default());
        let said = text.lines().rev().find_map(|line| line.strip_prefix("kv serve: ")).map(str::to_owned);
        said.unwrap_or_else(|| format!("it did not say why; its log is {}", path.display()))
    }
}

struct Process {
    child: Child,
    /// Where in the node's log file this process began.
    log_from: usize,
}

/// A cluster of processes. Dropping it kills them.
pub(crate) struct Cluster {
    plan: Plan,
    /// In the order of the plan's places; `None` for nodes that do not run, or not in a process of theirs.
    running: Vec<Option<Process>>,
    /// Nodes that are removed, and so end by themselves.
    leaving: Vec<u64>,
}

impl Cluster {
    /// Starts a process for every node that `wanted` says yes to.
    pub(crate) fn start(plan: Plan, wanted: impl Fn(u64) -> bool) -> Result<Cluster, ClusterError> {
        let folder = |source| ClusterError::Folder { path: plan.folder.display().to_string(), source };
        fs::create_dir_all(&plan.folder).map_err(folder)?;
        let mut cluster = Cluster { running: Vec::new(), leaving: Vec::new(), plan };
        for place in cluster.plan.places.clone() {
            let process = if wanted(place.node) { Some(cluster.plan.spawn(&place)?) } else { None };
            cluster.running.push(process);
        }
        Ok(cluster)
    }

    /// Creates the cluster out of the nodes that were started, and returns its id. One that exists stays as it is.
    pub(crate) fn found(&mut self, interrupt: &Interrupt) -> Result<ClusterId, ClusterError> {
        let id = |node| NodeId::new(node).ok_or(ClusterError::NoPorts);
        let places = self.plan.places.iter();
        let members: Result<_, ClusterError> =
            places.map(|place| Ok((id(place.node)?, place.listen.to_string()))).collect();
        let founder = Founder::new(members?, FOUND_TRY).limits(self.plan.limits).lease(self.plan.lease);
        let begin = Instant::now();
        loop {
            self.check(interrupt)?;
            match founder.found() {
                Ok(founded) => return Ok(founded.cluster()),
                // Processes that were just started take a moment.
                Err(FoundError::Unreachable(_) | FoundError::Unfinished { .. }) if begin.elapsed() < READY_MAX => {
                    thread::sleep(LOOK);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until all nodes say that they belong to a cluster that was created before.
    pub(crate) fn expect(&mut self, cluster: ClusterId, interrupt: &Interrupt) -> Result<(), ClusterError> {
        let begin = Instant::now();
        for place in self.plan.places.clone() {
            loop {
                self.check(interrupt)?;
                match Standing::of(&place.listen.to_string(), FOUND_TRY) {
                    Standing::Member { cluster: found, .. } if found == cluster => break,
                    Standing::Silent(_) if begin.elapsed() < READY_MAX => thread::sleep(LOOK),
                    Standing::Silent(_) => {
                        return Err(ClusterError::NotReady { logs: self.plan.folder.display().to_string() });
                    }
                    Standing::Waits(_) | Standing::Member { .. } => {
                        let data = self.plan.data(place.node).display().to_string();
                        return Err(ClusterError::OtherData { node: place.node, cluster, data });
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts the node at a place again. One that runs is left alone.
    pub(crate) fn start_again(&mut self, at: usize) -> Result<(), ClusterError> {
        if let (Some(slot @ None), Some(place)) = (self.running.get_mut(at), self.plan.places.get(at)) {
            *slot = Some(self.plan.spawn(place)?);
        }
        Ok(())
    }

    /// Starts a process for a node that is to be added, and returns its address.
    pub(crate) fn add(&mut self, node: u64) -> Result<SocketAddr, ClusterError> {
        let listen = free_addresses(1)?.first().copied().ok_or(ClusterError::NoPorts)?;
        let place = Place { node, listen, http: None };
        self.running.push(Some(self.plan.spawn(&place)?));
        self.plan.places.push(place);
        Ok(listen)
    }

    /// A node is about to be removed from the cluster, and will end by itself.
    pub(crate) fn let_go(&mut self, node: u64) {
        self.leaving.push(node);
    }

    /// Whether such a node has ended.
    pub(crate) fn has_gone(&mut self, node: u64) -> bool {
        let place = self.plan.places.iter().position(|place| place.node == node);
        let Some(slot) = place.and_then(|place| self.running.get_mut(place)) else { return true };
        slot.as_mut().is_none_or(|process| !matches!(process.child.try_wait(), Ok(None)))
    }

    /// Where the nodes are reached that belong to the cluster.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let members = self.plan.places.iter().filter(|place| !self.leaving.contains(&place.node));
        members.map(|place| place.listen.to_string()).collect()
    }

    /// Kills the node at a place with SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) -> io::Result<()> {
        match self.running.get_mut(at).and_then(Option::take) {
            Some(mut process) => end(&mut process.child),
            None => Ok(()),
        }
    }

    /// The process id of the node at a place, if it runs.
    pub(crate) fn pid(&self, at: usize) -> Option<u32> {
        self.running.get(at)?.as_ref().map(|process| process.child.id())
    }

    /// A node that has ended by itself: its place, and why.
    pub(crate) fn dead(&mut self) -> Result<Option<(usize, ClusterError)>, ClusterError> {
        for (at, (slot, place)) in self.running.iter_mut().zip(&self.plan.places).enumerate() {
            let Some(process) = slot.as_mut().filter(|_| !self.leaving.contains(&place.node)) else { continue };
            if let Some(status) = process.child.try_wait()? {
                let why = self.plan.last_words(place.node, process.log_from);
                *slot = None;
                return Ok(Some((at, ClusterError::Died { node: place.node, status, why })));
            }
        }
        Ok(None)
    }

    /// Fails if a node has ended by itself, or the user has had enough.
    pub(crate) fn check(&mut self, interrupt: &Interrupt) -> Result<(), ClusterError> {
        if interrupt.came() {
            return Err(ClusterError::Interrupted);
        }
        self.dead()?.map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Waits until all nodes follow one leader and have what it has, but for `lag` entries.
    pub(crate) fn settle(
        &mut self,
        watch: &mut Watch,
        lag: u64,
        interrupt: &Interrupt,
        mut look: impl FnMut(&View),
    ) -> Result<(usize, NodeStatus), ClusterError> {
        let begin = Instant::now();
        while begin.elapsed() < READY_MAX {
            self.check(interrupt)?;
            let view = watch.look();
            look(&view);
            if let Some(leader) = view.settled(lag) {
                return Ok(leader);
            }
            thread::sleep(LOOK);
        }
        Err(ClusterError::NotReady { logs: self.plan.folder.display().to_string() })
    }

    /// Stops all nodes in an orderly way, and kills those that take too long. Whether there
    /// were none.
    pub(crate) fn stop(mut self) -> bool {
        for process in self.running.iter().flatten() {
            let pid = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw);
            // A node that cannot be asked has ended, or is killed below.
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        let begin = Instant::now();
        let mut gone = |slot: &mut Option<Process>| {
            slot.as_mut().is_none_or(|process| !matches!(process.child.try_wait(), Ok(None)))
        };
        while begin.elapsed() < STOP_MAX {
            if self.running.iter_mut().all(&mut gone) {
                self.running.clear();
                return true;
            }
            thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.running.iter_mut().flatten() {
            // It fails only for a process that is gone.
            let _ = end(&mut process.child);
        }
    }
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// Addresses of this machine that nobody listens at.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, ClusterError> {
    let mut held = Vec::new();
    let length = PORTS.end - PORTS.start;
    let offset = u16::try_from(random()? % u128::from(length)).map_err(|_| ClusterError::NoPorts)?;
    for step in 0..length {
        let port = PORTS.start + (offset + step) % length;
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        if held.len() == count {
            return Ok(held.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?);
        }
    }
    Err(ClusterError::NoPorts)
}

/// Checks that a port can be listened at.
pub(crate) fn check_port(address: SocketAddr) -> Result<(), ClusterError> {
    let taken = |source| ClusterError::PortTaken { port: address.port(), source };
    TcpListener::bind(address).map(drop).map_err(taken)
}

/// A number nobody can guess.
pub(crate) fn random() -> Result<u128, ClusterError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| io::Error::other("it gives no random numbers"))?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Subcommand};

    #[test]
    fn ports_that_are_given_out_are_free_and_differ() {
        let addresses = free_addresses(3).unwrap();
        assert!(addresses.iter().all(|address| PORTS.contains(&address.port()) && check_port(*address).is_ok()));
        assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2]);
        let held = TcpListener::bind(addresses[0]).unwrap();
        let error = check_port(held.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains(&addresses[0].port().to_string()), "{error}");
    }

    #[test]
    fn the_command_line_of_a_node_is_one() {
        let plan = Plan::temporary(Path::new("folder"), &["--log", "warn"]).unwrap();
        let arguments = plan.arguments(&plan.places[1]);
        let cli = Cli::try_parse_from([OsString::from("kv")].into_iter().chain(arguments)).unwrap();
        let Subcommand::Serve(args) = cli.command else { panic!("not serve") };
        assert_eq!((args.listen, args.http), (plan.places[1].listen, None));
        assert_eq!(args.data, Path::new("folder").join("node-2"));
    }
}
