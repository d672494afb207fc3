//! `kv up`: a local cluster that keeps its data, until Ctrl-C.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kv::watch::Watch;
use raft_core::types::ClusterId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::cli::{UpArgs, cluster_id};
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::processes::{Cluster, ClusterError, Place, Plan, check_port};

/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long after its death a node is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// A node that dies again within this is not started again.
const TRIAL: Duration = Duration::from_secs(10);

/// Why there is no cluster.
#[derive(Debug, Error)]
#[non_exhaustive]
enum UpError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("--port {port} and --http-port {http_port} leave no room for {nodes} nodes each")]
    Ports { port: u16, http_port: u16, nodes: u16 },
    #[error("{path} does not say what cluster the data is of: {source}; choose another folder with --data")]
    Record { path: String, source: serde_json::Error },
    #[error(
        "the data is of a cluster of {made} nodes from port {port} on; start it with --nodes {made} --port {port}, or choose another folder with --data"
    )]
    OtherCluster { made: u16, port: u16 },
    #[error("{path} cannot be written: {source}; choose another folder with --data")]
    Write { path: String, source: io::Error },
    #[error("{0}; it had been started again shortly before, so all nodes are stopped")]
    DiedAgain(ClusterError),
}

/// What is remembered of a cluster beside the data of its nodes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The cluster's id, 32 hex digits; nothing until it has been created.
    cluster: Option<String>,
    nodes: u16,
    /// Where node 1 is reached. The nodes know each other by their ports.
    port: u16,
}

pub(crate) fn run(args: &UpArgs, json: bool) -> Exit {
    match up(args, json) {
        Ok(()) => Exit::Done,
        // Ctrl-C is the way to end this command, at whatever time.
        Err(UpError::Cluster(ClusterError::Interrupted)) => Exit::Done,
        Err(error) => {
            if json {
                report(true, "", || json!({ "event": "error", "error": error.to_string() }));
            }
            eprintln!("kv up: {error}");
            Exit::Refused
        }
    }
}

fn up(args: &UpArgs, json: bool) -> Result<(), UpError> {
    let interrupt = Interrupt::listen().map_err(ClusterError::from)?;
    let places = places(args)?;
    for place in &places {
        check_port(place.listen)?;
        place.http.map_or(Ok(()), check_port)?;
    }
    let (record, cluster) = remember(args)?;
    let (folder, limits, lease) = (args.data.clone(), args.limits.sessions(), args.limits.leases());
    let plan = Plan { folder, places, limits, lease, extra: Vec::new() };
    let mut watch = Watch::new(&plan.endpoints()).map_err(ClusterError::from)?;
    let mut nodes = Cluster::start(plan.clone(), |_| true)?;
    let cluster = match cluster {
        // It was created before: whoever has no data now has lost it, and no other cluster takes its place.
        Some(cluster) => nodes.expect(cluster, &interrupt).map(|()| cluster)?,
        None => {
            let cluster = nodes.found(&interrupt)?;
            keep_record(&args.data, &Record { cluster: Some(cluster.to_string()), ..record })?;
            cluster
        }
    };
    nodes.settle(&mut watch, u64::MAX, &interrupt, |_| {})?;
    greet(&plan, &nodes, cluster, json);
    let result = keep(&mut nodes, &interrupt, json);
    report(json, "Stopping.", || json!({ "event": "stopping" }));
    if !nodes.stop() {
        report(
            json,
            "A node took too long to stop and was killed, which does no harm.",
            || json!({ "event": "killed" }),
        );
    }
    result
}

fn places(args: &UpArgs) -> Result<Vec<Place>, UpError> {
    let &UpArgs { nodes, port, http_port, .. } = args;
    if port.abs_diff(http_port) < nodes {
        return Err(UpError::Ports { port, http_port, nodes });
    }
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let place =
        |step: u16| Place { node: u64::from(step) + 1, listen: at(port + step), http: Some(at(http_port + step)) };
    Ok((0..nodes).map(place).collect())
}

/// Reads what cluster the data is of, or notes for a new folder what it is to be. The cluster's id, once it was created.
fn remember(args: &UpArgs) -> Result<(Record, Option<ClusterId>), UpError> {
    let path = record_path(&args.data);
    let wrong = |source| UpError::Record { path: path.display().to_string(), source };
    match fs::read(&path) {
        Ok(bytes) => {
            let record: Record = serde_json::from_slice(&bytes).map_err(wrong)?;
            if (record.nodes, record.port) != (args.nodes, args.port) {
                return Err(UpError::OtherCluster { made: record.nodes, port: record.port });
            }
            let cluster = record.cluster.as_deref().map(cluster_id).transpose();
            let cluster = cluster.map_err(|error| wrong(serde::de::Error::custom(error)))?;
            Ok((record, cluster))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let record = Record { cluster: None, nodes: args.nodes, port: args.port };
            keep_record(&args.data, &record)?;
            Ok((record, None))
        }
        Err(source) => Err(ClusterError::Folder { path: path.display().to_string(), source }.into()),
    }
}

fn record_path(folder: &Path) -> PathBuf {
    folder.join("cluster.json")
}

fn keep_record(folder: &Path, record: &Record) -> Result<(), UpError> {
    let path = record_path(folder);
    let name = || path.display().to_string();
    let bytes = serde_json::to_vec(record).map_err(|source| UpError::Record { path: name(), source })?;
    write(folder, &path, &bytes).map_err(|source| UpError::Write { path: name(), source })
}

/// Makes a file that is there whole or not at all.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

fn greet(plan: &Plan, nodes: &Cluster, cluster: ClusterId, json: bool) {
    let mut lines = vec![format!(
        "A cluster of {} is running; its data and logs are in {}.",
        plan.places.len(),
        plan.folder.display()
    )];
    let mut listed = Vec::new();
    for (at, place) in plan.places.iter().enumerate() {
        let pid = nodes.pid(at);
        let http = place.http.map(|http| format!("http://{http}")).unwrap_or_default();
        lines.push(format!("  node {}  {}  {http}  process {}", place.node, place.listen, pid.unwrap_or_default()));
        listed.push(json!({ "node": place.node, "endpoint": place.listen.to_string(), "http": http, "pid": pid }));
    }
    let endpoints = plan.endpoints().join(",");
    lines.push("Try, in another terminal:".to_owned());
    let example = if endpoints == "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003" {
        "  kv put greeting hello && kv get greeting".to_owned()
    } else {
        format!("  export KV_ENDPOINTS={endpoints}\n  kv put greeting hello && kv get greeting")
    };
    lines.push(example);
    if let Some(http) = plan.places.last().and_then(|place| place.http) {
        lines.push(format!("  curl http://{http}/v1/kv/greeting"));
    }
    lines.push("Ctrl-C stops it; `kv up` starts it again with its data.".to_owned());
    report(json, &lines.join("\n"), || {
        let (cluster, data) = (cluster.to_string(), plan.folder.display().to_string());
        json!({ "event": "running", "cluster": cluster, "data": data, "nodes": listed })
    });
}

/// Starts nodes again that have died, until the user has had enough or that does not help.
fn keep(nodes: &mut Cluster, interrupt: &Interrupt, json: bool) -> Result<(), UpError> {
    let mut restarts: Vec<(usize, Instant)> = Vec::new();
    let mut waiting: Vec<(usize, Instant)> = Vec::new();
    while !interrupt.came() {
        if let Some((at, why)) = nodes.dead()? {
            if restarts.iter().any(|(other, when)| *other == at && when.elapsed() < TRIAL) {
                return Err(UpError::DiedAgain(why));
            }
            report(
                json,
                &format!("{why}; it is started again"),
                || json!({ "event": "died", "node": at + 1, "error": why.to_string() }),
            );
            waiting.push((at, Instant::now()));
        }
        while let Some(place) = waiting.iter().position(|(_, since)| since.elapsed() >= PAUSE) {
            let (at, _) = waiting.swap_remove(place);
            nodes.start_again(at)?;
            restarts.retain(|(other, _)| *other != at);
            restarts.push((at, Instant::now()));
            report(
                json,
                &format!("node {} was started again", at + 1),
                || json!({ "event": "restarted", "node": at + 1, "pid": nodes.pid(at) }),
            );
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Tells what has happened: a line for people, or one of JSON.
fn report(json: bool, text: &str, value: impl FnOnce() -> Value) {
    let result = if json { writeln!(io::stdout(), "{}", value()) } else { writeln!(io::stdout(), "{text}") };
    // The cluster goes on even if nobody listens any more.
    drop(result);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LimitArgs;

    fn args(data: &Path, nodes: u16) -> UpArgs {
        let limits = LimitArgs { sessions: 10, window: 4, ttl: Duration::from_secs(9), lease: 0, drift: 10 };
        UpArgs { nodes, data: data.to_path_buf(), port: 7001, http_port: 8001, limits }
    }

    #[test]
    fn a_folder_remembers_its_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (record, cluster) = remember(&args(&data, 3)).unwrap();
        assert_eq!(
            (remember(&args(&data, 3)).unwrap().0, cluster),
            (Record { cluster: None, nodes: 3, port: 7001 }, None)
        );
        let created = Record { cluster: Some(ClusterId(77).to_string()), ..record };
        keep_record(&data, &created).unwrap();
        assert_eq!(remember(&args(&data, 3)).unwrap(), (created, Some(ClusterId(77))));
        let error = remember(&args(&data, 5)).unwrap_err();
        assert!(error.to_string().contains("--nodes 3"), "{error}");
        fs::write(data.join("cluster.json"), "{").unwrap();
        assert!(matches!(remember(&args(&data, 3)), Err(UpError::Record { .. })));
    }

    #[test]
    fn ports_that_would_meet_are_refused() {
        let mut args = args(Path::new("data"), 3);
        assert_eq!(places(&args).unwrap().len(), 3);
        args.http_port = 7003;
        assert!(matches!(places(&args), Err(UpError::Ports { .. })));
    }
}
