//! The processes of a cluster, each in its namespace, with what lets them be made to fail.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use raft_core::configuration::{Configuration, Member};
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, ClusterKey, Incarnation, NodeId};
use raft_storage_file::{Directory, How, Options, Origin, WaitingDirectory};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{LOOK, PATIENCE};
use crate::namespaces::{Network, address};
use crate::rights;

fn id(node: usize) -> NodeId {
    NodeId::new(u64::try_from(node).unwrap()).unwrap()
}

/// The port that every node listens at.
const PORT: u16 = 7000;

/// What is different about a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Its n-th sync fails, and only that one; counted from 1 on.
    pub(crate) failing_sync: Option<u64>,
    /// Its wall clock is off by what stands in this file, such as `+3600` for an hour.
    pub(crate) clock: Option<PathBuf>,
}

/// A process that runs, or has ended by itself.
#[derive(Debug)]
struct Process {
    child: Child,
    /// Where in the node's log file this process began.
    log_from: usize,
}

/// The nodes of a cluster. Dropping them kills them; they end by themselves when this process is gone.
#[derive(Debug)]
pub(crate) struct Nodes {
    folder: PathBuf,
    /// Whose directories are made already.
    created: Vec<bool>,
    configuration: Configuration,
    key: ClusterKey,
    extra: Vec<String>,
    /// Where each node's data is.
    data: Vec<PathBuf>,
    processes: Vec<Option<Process>>,
}

impl Nodes {
    /// Nodes that do not run yet.
    pub(crate) fn new(folder: &Path, count: usize, extra: &[&str]) -> Nodes {
        let random = || u128::from(getrandom::u64().unwrap());
        let members = (1..=count).map(|node| {
            let member = Member::voter(id(node), &Nodes::endpoint(node)).unwrap();
            Member { incarnation: Some(Incarnation(random())), ..member }
        });
        let configuration = Configuration::new(ClusterId(random()), SessionLimits::default(), members).unwrap();
        let extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        let processes = (0..count).map(|_| None).collect();
        let data = (1..=count).map(|node| folder.join(format!("disk-{node}/data"))).collect();
        let (folder, created, key) = (folder.to_path_buf(), vec![false; count], ClusterKey(random()));
        Nodes { folder, created, configuration, key, extra, data, processes }
    }

    /// A folder for a node's data alone, on which a disk may be mounted.
    pub(crate) fn disk(&self, node: usize) -> PathBuf {
        self.folder.join(format!("disk-{node}"))
    }

    /// Where a node's data is.
    pub(crate) fn data(&self, node: usize) -> &Path {
        &self.data[node - 1]
    }

    /// Puts a node's data elsewhere than in its folder.
    pub(crate) fn put_data_at(&mut self, node: usize, data: PathBuf) {
        self.data[node - 1] = data;
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{node}.log"))
    }

    /// Where the system calls are noted of a node whose sync fails.
    pub(crate) fn calls(&self, node: usize) -> PathBuf {
        self.folder.join(format!("node-{node}.calls"))
    }

    pub(crate) fn endpoint(node: usize) -> String {
        format!("{}:{PORT}", address(node))
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        (1..=self.processes.len()).map(Nodes::endpoint).collect()
    }

    /// Makes the directory of a node, once: what `kv init` has the node do, but for the network.
    fn create(&mut self, node: usize) {
        if std::mem::replace(&mut self.created[node - 1], true) {
            return;
        }
        let storage = self.configuration.member(id(node)).unwrap().incarnation.unwrap();
        let mut directory = WaitingDirectory::enter(Directory::new(self.data(node)), storage).unwrap();
        let configuration = self.configuration.clone();
        directory.promise(Origin { node: id(node), key: self.key, how: How::Created, configuration }).unwrap();
        drop(directory.complete(Options::default()).unwrap());
    }

    /// Starts a node that does not run.
    pub(crate) fn start(&mut self, network: &Network, node: usize, trouble: &Trouble) {
        assert!(self.processes[node - 1].is_none(), "node {node} runs");
        fs::create_dir_all(self.disk(node)).unwrap();
        self.create(node);
        let log = OpenOptions::new().create(true).append(true).open(self.log(node)).unwrap();
        let log_from = usize::try_from(log.metadata().unwrap().len()).unwrap();
        let mut command = Command::new("ip");
        // Both `ip` and `strace -D` become the node: signals and statuses are its own.
        command.args(["netns", "exec", network.of(node)]);
        if let Some(nth) = trouble.failing_sync {
            let _ = fs::remove_file(self.calls(node));
            let inject = format!("inject=fsync,fdatasync:error=EIO:when={nth}");
            let calls = "trace=fsync,fdatasync,pwrite64,ftruncate,rename,exit_group";
            command.args(["strace", "-D", "-f", "-q", "-o"]).arg(self.calls(node)).args(["-e", calls, "-e", &inject]);
        }
        if let Some(file) = &trouble.clock {
            let library = rights::fake_clock().unwrap();
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
            command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
            command.env("DONT_FAKE_MONOTONIC", "1");
        }
        command.arg(env!("CARGO_BIN_EXE_kv")).args(["serve", "--exit-with-stdin"]);
        command.args(["--listen", &Nodes::endpoint(node)]).arg("--data").arg(self.data(node));
        command.args(&self.extra).env_remove("KV_ENDPOINTS").env_remove("KV_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        self.processes[node - 1] = Some(Process { child, log_from });
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        self.processes[node - 1].is_some()
    }

    /// Kills a node with SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.processes[node - 1].take() {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "node {node} ended by itself ({}): {}", ended.unwrap(), self.tail(node));
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        let process = self.processes[node - 1].as_ref().expect("the node runs");
        kill_process(Pid::from_child(&process.child), signal).unwrap();
    }

    /// Waits until a node ends by itself; gives its status and what it has said.
    pub(crate) fn end(&mut self, node: usize) -> (ExitStatus, String) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.try_wait(node).unwrap() {
                let said = self.said(node);
                self.processes[node - 1] = None;
                return (status, said);
            }
            assert!(begin.elapsed() < PATIENCE, "node {node} goes on: {}", self.tail(node));
            thread::sleep(LOOK);
        }
    }

    fn try_wait(&mut self, node: usize) -> io::Result<Option<ExitStatus>> {
        self.processes[node - 1].as_mut().expect("the node was started").child.try_wait()
    }

    /// What a node has said since it was started.
    pub(crate) fn said(&self, node: usize) -> String {
        let log = fs::read(self.log(node)).unwrap();
        let from = self.processes[node - 1].as_ref().map_or(0, |process| process.log_from);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// The last lines of a node's log.
    pub(crate) fn tail(&self, node: usize) -> String {
        let log = fs::read(self.log(node)).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Fails if a node has ended by itself.
    pub(crate) fn check(&mut self) {
        for node in 1..=self.processes.len() {
            if self.runs(node)
                && let Some(status) = self.try_wait(node).unwrap()
            {
                panic!("node {node} ended by itself ({status}):\n{}", self.tail(node));
            }
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
