//! The commands that start clusters of processes: `up`, `demo` and `bench`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Far more than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn kv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command.env_remove("KV_ENDPOINTS").env_remove("KV_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    kv().args(arguments).output().unwrap()
}

/// The last line of standard output, as JSON.
fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or_else(|| panic!("nothing was printed: {errors}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}: {errors}"))
}

#[test]
fn acknowledged_commands_are_counted_once_though_leaders_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--kills", "2", "--seed", "7", "--json"];
    let output = kv().args(arguments).env("TMPDIR", folder.path()).output().unwrap();
    let verdict = last_line(&output);
    assert_eq!(verdict["exactly_once"], true, "{verdict}");
    assert_eq!(output.status.code(), Some(0));
    for (name, wanted) in [("kills", 2), ("lost", 0), ("duplicated", 0), ("seed", 7)] {
        assert_eq!(verdict[name], wanted, "{name}: {verdict}");
    }
    assert_eq!(verdict["acknowledged"], verdict["counted"]);
    assert!(verdict["acknowledged"].as_u64() > Some(0) && verdict["elections"].as_u64() >= Some(3), "{verdict}");
    assert!(["retries", "replayed", "seconds"].iter().all(|name| verdict[*name].is_number()), "{verdict}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn every_member_is_replaced_under_load_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--kills", "1", "--replace", "--seed", "3", "--json"];
    let output = kv().args(arguments).env("TMPDIR", folder.path()).output().unwrap();
    let verdict = last_line(&output);
    assert_eq!(verdict["exactly_once"], true, "{verdict}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(verdict["acknowledged"], verdict["counted"]);
    assert!(verdict["replaced"] == true && verdict["replicas_agree"] == true, "{verdict}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = kv();
    demo.arg("demo").env("TMPDIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    // It has told what it does, so its nodes run.
    assert!(lines.by_ref().any(|line| line.unwrap().contains("leads")));
    signal(&demo, Signal::INT);
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(lines.any(|line| line.unwrap().contains("interrupted")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_load_generator_measures_by_the_protocol_and_within_the_leader() {
    for (how, clients) in
        [(&["--clients", "1,8", "--reads", "50"][..], &[1, 8][..]), (&["--clients", "8", "--embedded"], &[8])]
    {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let arguments = ["bench", "--seconds", "1", "--value-size", "64", "--json", "--data", data];
        let output = kv().args(arguments).args(how).output().unwrap();
        let runs = last_line(&output)["runs"].as_array().unwrap().clone();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(runs.iter().map(|run| run["clients"].as_u64().unwrap()).collect::<Vec<_>>(), clients);
        for run in runs {
            assert_eq!(run["errors"], 0, "{run}");
            assert_eq!(run["reads"].is_object(), how.contains(&"--reads"), "{run}");
            for name in ["puts_per_second", "p50_us", "p99_us", "p999_us", "entries_per_sync"] {
                assert!(run[name].as_f64().unwrap() > 0.0, "{name}: {run}");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn a_load_without_a_cluster_says_so() {
    let output = run(&["bench", "--endpoints", "127.0.0.1:1", "--seconds", "1", "--clients", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none of 127.0.0.1:1 leads"));
}

/// `kv up`, and what it tells.
struct Up {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Up {
    fn start(arguments: &[&str]) -> Up {
        let mut command = kv();
        let mut process = command.args(arguments).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Up { process, lines }
    }

    /// Waits for an event.
    fn event(&mut self, name: &str) -> Value {
        let events = self.lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.take_while(|event| event["event"] != "error").find(|event| event["event"] == name).unwrap()
    }

    fn stop(mut self) {
        signal(&self.process, Signal::TERM);
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(process: &Child, signal: Signal) {
    kill_process(pid(&process.id().into()), signal).unwrap();
}

fn pid(number: &Value) -> Pid {
    Pid::from_raw(i32::try_from(number.as_i64().unwrap()).unwrap()).unwrap()
}

/// The first of six ports nobody listens at.
fn six_ports() -> u16 {
    let start = 10_000 + u16::try_from(std::process::id() % 800).unwrap() * 10;
    let free = |port: u16| (port..port + 6).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (start..19_000).step_by(10).find(|port| free(*port)).unwrap()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_local_cluster_keeps_its_data_and_its_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ports = six_ports();
    let (port, http_port) = (ports.to_string(), (ports + 3).to_string());
    let arguments = ["up", "--port", &port, "--http-port", &http_port, "--data", data.to_str().unwrap()];
    let endpoints = format!("127.0.0.1:{port}");

    let mut up = Up::start(&arguments);
    let running = up.event("running");
    assert_eq!(running["nodes"].as_array().unwrap().len(), 3);
    assert!(run(&["put", "greeting", "hello", "--endpoints", &endpoints]).status.success());
    refused_while_it_runs(&arguments, &port);
    let node = pid(&running["nodes"][1]["pid"]);
    kill_process(node, Signal::KILL).unwrap();
    assert_eq!(up.event("died")["node"], 2);
    assert_eq!(up.event("restarted")["node"], 2);
    up.stop();

    let mut up = Up::start(&arguments);
    let running = up.event("running");
    assert_eq!(run(&["get", "greeting", "--endpoints", &endpoints]).stdout, b"hello\n");
    nodes_end_with_their_command(up, &running);
    other_cluster_is_refused(&arguments, &data);
}

fn refused_while_it_runs(arguments: &[&str], port: &str) {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("port {port} of this machine is taken")), "{text}");
}

fn nodes_end_with_their_command(mut up: Up, running: &Value) {
    up.process.kill().unwrap();
    up.process.wait().unwrap();
    for node in running["nodes"].as_array().unwrap() {
        let endpoint = node["endpoint"].as_str().unwrap();
        wait_for("a node outlives its command", || TcpListener::bind(endpoint).is_ok());
    }
}

fn other_cluster_is_refused(arguments: &[&str], data: &Path) {
    let output = kv().args(arguments).args(["--nodes", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nodes 3"));
    fs::write(data.join("cluster.json"), "no JSON").unwrap();
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("choose another folder with --data"));
}
