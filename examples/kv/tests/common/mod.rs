//! A cluster of three `kv serve` processes, started by hand.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
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
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { folder, ports: free_ports(), nodes: [const { None }; 3] };
        for node in 1..=3 {
            cluster.start_node(node);
        }
        cluster.wait_until_ready();
        cluster
    }

    pub(crate) fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    /// The command that runs a node.
    pub(crate) fn serve(&self, node: usize, data: &Path) -> Command {
        let mut command = kv();
        command.arg("serve").arg("--data").arg(data).args(["--log", "warn", "--id", &node.to_string()]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.ports[node - 1])]);
        command.args(["--http", &format!("127.0.0.1:{}", self.ports[node + 2])]);
        for peer in 1..=3 {
            command.args(["--peer", &format!("{peer}=127.0.0.1:{}", self.ports[peer - 1])]);
        }
        command
    }

    pub(crate) fn start_node(&mut self, node: usize) {
        self.nodes[node - 1] = Some(self.serve(node, &self.data(node)).stderr(Stdio::null()).spawn().unwrap());
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
