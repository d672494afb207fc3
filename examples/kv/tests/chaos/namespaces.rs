//! Networks of namespaces: one for each node, and a hub that holds their bridge and the clients.
//!
//! Nothing of it touches the machine's own network, so that runs side by side use the same addresses. Names hold the
//! process id: what a run leaves that was killed itself, the next one removes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the names of namespaces and folders begin with.
const PREFIX: &str = "kvchaos-";
/// Where the names of namespaces stand.
const NAMES: &str = "/run/netns";

/// A name that no other run has, and nothing else in this one.
pub(crate) fn name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a name stems from a run that is over.
fn is_left(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Removes the namespaces, mounts and folders of runs that were killed.
pub(crate) fn sweep() {
    for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left(&name) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if point.split('/').any(is_left) {
            let _ = Command::new("umount").args(["-l", point]).output();
        }
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if is_left(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs a program of the system, which must do what it is told.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output
}

/// Namespaces that see each other over a bridge.
#[derive(Debug)]
pub(crate) struct Network {
    hub: String,
    nodes: Vec<String>,
}

impl Network {
    pub(crate) fn new(nodes: usize) -> Network {
        let base = name("");
        let names = (1..=nodes).map(|node| format!("{base}{node}")).collect();
        // What it names is removed from here on, whatever happens.
        let network = Network { hub: format!("{base}hub"), nodes: names };
        let hub = network.hub.as_str();
        run("ip", &["netns", "add", hub]);
        run("ip", &["-n", hub, "link", "add", "bridge", "type", "bridge"]);
        run("ip", &["-n", hub, "addr", "add", "10.9.0.254/24", "dev", "bridge"]);
        run("ip", &["-n", hub, "link", "set", "bridge", "up"]);
        for (number, node) in (1..).zip(&network.nodes) {
            let port = format!("port{number}");
            run("ip", &["netns", "add", node]);
            run("ip", &["-n", hub, "link", "add", &port, "type", "veth", "peer", "name", "uplink", "netns", node]);
            run("ip", &["-n", hub, "link", "set", &port, "master", "bridge", "up"]);
            run("ip", &["-n", node, "addr", "add", &format!("{}/24", address(number)), "dev", "uplink"]);
            run("ip", &["-n", node, "link", "set", "uplink", "up"]);
            run("ip", &["-n", node, "link", "set", "lo", "up"]);
        }
        network
    }

    /// How many nodes it is made for.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The namespace of a node; they count from 1 on.
    pub(crate) fn of(&self, node: usize) -> &str {
        &self.nodes[node - 1]
    }

    /// Does something in the hub: threads that it starts are there too.
    pub(crate) fn in_hub<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let hub = File::open(Path::new(NAMES).join(&self.hub)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(hub.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Drops at each node what `rules` say it is not to hear; what was dropped before is let through.
    pub(crate) fn filter(&self, rules: &[Drops]) {
        for node in 1..=self.nodes() {
            let mut script = String::from(
                "flush ruleset\ntable inet chaos {\n chain input {\n  type filter hook input priority 0; policy accept;\n",
            );
            for rule in rules.iter().filter(|rule| rule.at == node) {
                let _ = match rule.what {
                    Dropped::From(peer) => writeln!(script, "  ip saddr {} drop", address(peer)),
                    Dropped::Percent(percent) => writeln!(script, "  numgen random mod 100 < {percent} drop"),
                };
            }
            script.push_str(" }\n}\n");
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("rules");
            fs::write(&file, script).unwrap();
            run("ip", &["netns", "exec", self.of(node), "nft", "-f", file.to_str().unwrap()]);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.nodes.iter().chain([&self.hub]) {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// The address of a node.
pub(crate) fn address(node: usize) -> String {
    format!("10.9.0.{node}")
}

/// What a node is kept from hearing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drops {
    /// The node that does not hear it.
    pub(crate) at: usize,
    pub(crate) what: Dropped,
}

/// What is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// All that another node sends; clients are heard.
    From(usize),
    /// So many of a hundred packets, whoever sends them.
    Percent(u8),
}
