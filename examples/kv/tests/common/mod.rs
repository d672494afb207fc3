//! A cluster of three `kv serve` processes, started by hand and created by `kv init`.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

/// Far more than anything here takes on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn kv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.env_remove("KV_ENDPOINTS").env_remove("KV_LOG").stdin(Stdio::null());
    command
}

/// Six ports that are free now, below those that outgoing connections get, and never the same ones
/// twice: tests run side by side.
fn free_ports() -> [u16; 6] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + u16::try_from(std::process::id() % 400).unwrap() * 20;
    [(); 6].map(|()| {
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let mut ports = std::iter::repeat_with(|| start + NEXT.fetch_add(1, Ordering::Relaxed));
        ports.find(free).expect("there are free ports")
    })
}

pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ports: [u16; 6],
    nodes: [Option<Child>; 3],
    /// What its nodes are told besides.
    extra: &'static [&'static str],
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    pub(crate) fn start_with(extra: &'static [&'static str]) -> Cluster {
        let cluster = Cluster::waiting(extra);
        assert!(cluster.init_until_told(&[]).status.success());
        cluster.wait_until_ready();
        cluster
    }

    /// Three nodes with empty directories, which wait.
    pub(crate) fn waiting(extra: &'static [&'static str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { folder, ports: free_ports(), nodes: [const { None }; 3], extra };
        for node in 1..=3 {
            cluster.start_node(node);
        }
        cluster
    }

    pub(crate) fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.ports[node - 1])
    }

    /// The command that creates the cluster.
    pub(crate) fn init_command(&self, arguments: &[&str]) -> Command {
        let mut command = kv();
        command.arg("init").args((1..=3).map(|node| format!("{node}={}", self.address(node)))).args(arguments);
        command
    }

    /// Runs it, again and again while not all nodes answer, as they do not at their start.
    pub(crate) fn init_until_told(&self, arguments: &[&str]) -> Output {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.init_command(arguments).output().unwrap();
            if output.status.code() != Some(3) {
                return output;
            }
            assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&output.stderr));
        }
    }

    pub(crate) fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    /// The command that runs a node.
    pub(crate) fn serve(&self, node: usize, data: &Path) -> Command {
        let mut command = kv();
        command.arg("serve").arg("--data").arg(data).args(["--log", "info"]);
        command.args(self.extra);
        command.args(["--listen", &format!("127.0.0.1:{}", self.ports[node - 1])]);
        command.args(["--http", &format!("127.0.0.1:{}", self.ports[node + 2])]);
        command
    }

    pub(crate) fn start_node(&mut self, node: usize) {
        let command = self.serve(node, &self.data(node));
        self.run_node(node, command);
    }

    /// Starts a node that may open so many files.
    pub(crate) fn start_node_limited(&mut self, node: usize, files: u32) {
        let serve = self.serve(node, &self.data(node));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
        command.arg(serve.get_program()).args(serve.get_args()).stdin(Stdio::null());
        self.run_node(node, command);
    }

    fn run_node(&mut self, node: usize, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.log(node)).unwrap();
        self.nodes[node - 1] = Some(command.stderr(log).spawn().unwrap());
    }

    /// The files that a node has open; `None` if it does not run.
    pub(crate) fn open_files(&mut self, node: usize) -> Option<usize> {
        let child = self.nodes[node - 1].as_mut()?;
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        Some(std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count())
    }

    fn log(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("{node}.log"))
    }

    /// What a node has logged since its first start.
    pub(crate) fn said(&self, node: usize) -> String {
        std::fs::read_to_string(self.log(node)).unwrap()
    }

    pub(crate) fn wait_until_ready(&self) {
        for node in 1..=3 {
            let end = Instant::now() + PATIENCE;
            while !agent().get(self.url(node, "/readyz")).call().is_ok_and(|answer| answer.status() == 200) {
                assert!(Instant::now() < end, "node {node} is never ready");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Ends a node by SIGTERM and gives its exit status.
    pub(crate) fn terminate(&mut self, node: usize) -> Option<i32> {
        let mut child = self.nodes[node - 1].take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        // Five seconds are promised to whoever supervises a node; then it would be killed.
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
            // Whoever is impatient says it again, which changes nothing.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        }
        child.kill().unwrap();
        child.wait().unwrap().code()
    }

    /// Ends a node by SIGKILL.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node - 1].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The exit status of a node, once it has ended by itself.
    pub(crate) fn wait_for_end(&mut self, node: usize) -> Option<i32> {
        let mut child = self.nodes[node - 1].take().unwrap();
        exit_status(&mut child)
    }

    pub(crate) fn url(&self, node: usize, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[node + 2])
    }

    pub(crate) fn endpoints(&self) -> String {
        self.ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// Runs a command of the command line against the cluster.
    pub(crate) fn kv(&self, arguments: &[&str]) -> Output {
        kv().args(arguments).env("KV_ENDPOINTS", self.endpoints()).output().unwrap()
    }

    /// The number of the leader.
    pub(crate) fn leader(&self) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            let leads = |&node: &usize| {
                let answer = agent().get(self.url(node, "/v1/status")).call();
                answer.is_ok_and(|mut answer| json(&mut answer)["role"] == "leader")
            };
            if let Some(leader) = (1..=3).find(leads) {
                return leader;
            }
            assert!(Instant::now() < end, "nobody leads");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A client of HTTP that takes every status for an answer.
pub(crate) fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
    config.build().into()
}

pub(crate) fn json(answer: &mut Response<Body>) -> serde_json::Value {
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap_or_default()
}

/// A node that is added to the cluster.
pub(crate) struct Joiner {
    pub(crate) process: Child,
    pub(crate) address: String,
}

impl Drop for Joiner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    free_ports()[0]
}

impl Joiner {
    /// Starts a node whose data is in the folder of that number.
    pub(crate) fn start(cluster: &Cluster, number: u64, port: u16) -> Joiner {
        let (data, address) = (cluster.folder.path().join(number.to_string()), format!("127.0.0.1:{port}"));
        let mut command = kv();
        command.args(["serve", "--log", "warn"]).arg("--data").arg(data);
        let process = command.args(["--listen", &address]).stderr(Stdio::null()).spawn().unwrap();
        Joiner { process, address }
    }

    /// Its status, as the command line tells it, once it answers and `wanted` holds.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = kv().args(["status", "--json", "--endpoints", &self.address]).output().unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if wanted(&status["nodes"][0]) {
                return status["nodes"][0].clone();
            }
            assert!(Instant::now() < end, "the node that joins never was as it should be: {status}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its exit status, once it has ended by itself.
    pub(crate) fn end(mut self) -> Option<i32> {
        exit_status(&mut self.process)
    }
}

fn exit_status(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("it does not end");
}

/// The part of a member, as node 1 knows it; `null` if it is none.
pub(crate) fn part(cluster: &Cluster, id: u64) -> Value {
    let members = json(&mut agent().get(cluster.url(1, "/v1/members")).call().unwrap());
    let found = members["members"].as_array().unwrap().iter().find(|member| member["id"] == id);
    found.map_or(Value::Null, |member| member["part"].clone())
}

pub(crate) fn wait_for_part(cluster: &Cluster, id: u64, wanted: &Value) {
    let end = Instant::now() + PATIENCE;
    while part(cluster, id) != *wanted {
        assert!(Instant::now() < end, "member {id} is never {wanted}: {}", part(cluster, id));
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn post(cluster: &Cluster, node: usize, path: &str, body: &Value) -> (u16, Value) {
    let request = agent().post(cluster.url(node, path)).header("content-type", "application/json");
    let mut answer = request.send(body.to_string()).unwrap();
    (answer.status().as_u16(), json(&mut answer))
}
