//! `kv serve`: one node.

use std::error::Error;
use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use raft_client::{OperatorClient, OperatorError};
use raft_core::configuration::{Configuration, Lease, Member};
use raft_core::raft::config::Config;
use raft_core::raft::event::Expulsion;
use raft_core::session::limits::SessionLimits;
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, EntryId, Incarnation, Millis, NodeId};
use raft_node::{Handle, Node, NodeOptions, Stopped, SystemClock, start};
use raft_storage_file::{Directory, FileStorage, Identity, OpenError, StorageError};
use raft_transport_tcp::handshake;
use raft_transport_tcp::network::{BindError, TcpNetwork};
use raft_transport_tcp::options::TcpOptions;
use raft_transport_tcp::rivals::CopyAlarm;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::{Peer, ServeArgs};
use crate::descriptors::{Shares, TooFew};

use crate::exit::Exit;
use crate::http;
use crate::machine::Store;

/// How long HTTP requests may take to end once the node has stopped.
const HTTP_GRACE: Duration = Duration::from_millis(500);
/// How long the member is asked that a node joins through.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type KvNode = Node<StorageError, io::Error>;

/// Why a node did not start, or did not go on.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    #[error("{0}")]
    Configuration(#[from] raft_core::configuration::ConfigurationError),
    #[error("node {0} is not among the members: add --peer {0}=HOST:PORT")]
    NotMember(NodeId),
    #[error("the data in {directory} cannot be used: {source}")]
    Open { directory: String, source: OpenError },
    #[error("cannot learn about the cluster from {member}: {source}; name a member that runs with --join")]
    Join { member: String, source: Box<OperatorError> },
    #[error("cannot listen: {0}")]
    Bind(#[from] BindError),
    #[error("cannot serve HTTP at {address}: {source}; choose another address with --http")]
    Http { address: std::net::SocketAddr, source: io::Error },
    #[error("the node cannot start: {0}")]
    Start(String),
    #[error("the node has stopped: {0}")]
    Stopped(String),
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error("the system fails this program: {0}")]
    System(#[from] io::Error),
}

/// Runs a node until it is told to stop.
pub(crate) fn run(args: Box<ServeArgs>) -> Exit {
    let log = tracing_subscriber::fmt().with_max_level(args.log).with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).init();
    if args.exit_with_stdin {
        std::thread::spawn(exit_with_stdin);
    }
    match serve(&args) {
        Ok(()) => Exit::Done,
        Err(error) => {
            // The one plain line that says what to do, whatever the level of the log.
            let _ = writeln!(io::stderr(), "kv serve: {error}");
            Exit::Refused
        }
    }
}

/// Ends the process, as a kill would, when whoever holds the other end of standard input is gone.
fn exit_with_stdin() {
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    std::process::exit(1);
}

fn serve(args: &ServeArgs) -> Result<(), ServeError> {
    let (node, serving) = launch(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(args, node, serving))
}

/// The configuration that the arguments describe.
pub(crate) fn configuration(args: &ServeArgs) -> Result<Configuration, raft_core::configuration::ConfigurationError> {
    let ttl = Millis(u64::try_from(args.limits.ttl.as_millis()).unwrap_or(u64::MAX));
    let limits = SessionLimits {
        sessions: args.limits.sessions,
        window: args.limits.window,
        ttl,
        time_step_max: Millis((ttl.0 / 10).max(1)),
        ..SessionLimits::default()
    };
    let cluster = ClusterId(args.cluster.unwrap_or_else(|| cluster_of(&args.peers)));
    let mut members = Vec::new();
    for peer in &args.peers {
        members.push(Member::voter(peer.id, &peer.address)?);
    }
    let configuration = Configuration::new(cluster, limits, members)?;
    if args.limits.lease == 0 {
        return Ok(configuration);
    }
    configuration.with_lease(Lease { duration: Millis(args.limits.lease), drift_per_mille: args.limits.drift })
}

/// What a node begins with: its data, and what it is given if that is new.
struct Beginning {
    storage: FileStorage,
    create: Option<Configuration>,
    join: Option<Configuration>,
    /// The checksum of the configuration that the cluster was created with; 0 if it is not known.
    digest: u32,
    /// The members that are known before the log has been read.
    peers: Vec<(NodeId, String)>,
}

/// Opens the data of a member that the cluster is created with, or makes it.
fn created(args: &ServeArgs) -> Result<Beginning, ServeError> {
    let configuration = configuration(args)?;
    if configuration.member(args.id.0).is_none() {
        return Err(ServeError::NotMember(args.id.0));
    }
    let identity = Identity { cluster: configuration.cluster(), node: args.id.0, incarnation: incarnation()? };
    let opened = FileStorage::open_or_create(Directory::new(&args.data), identity, Default::default());
    let (storage, report) = opened.map_err(|source| not_opened(args, source))?;
    tracing::info!(directory = %args.data.display(), %report, "opened the log");
    let peers = args.peers.iter().map(|peer| (peer.id, peer.address.clone())).collect();
    Ok(Beginning { storage, digest: configuration.digest()?, create: Some(configuration), join: None, peers })
}

/// Opens the data of a node that has joined a cluster, or makes it for one that is to join.
fn joining(args: &ServeArgs, member: &str) -> Result<Beginning, ServeError> {
    let directory = || Directory::new(&args.data);
    let ask = || {
        let client = OperatorClient::new(vec![member.to_owned()], JOIN_TIMEOUT);
        let failed = |source| ServeError::Join { member: member.to_owned(), source: Box::new(source) };
        client.members().map(|(_, configuration)| configuration).map_err(failed)
    };
    let (storage, join) = match FileStorage::open(directory(), Default::default()) {
        Ok((storage, report)) => {
            tracing::info!(directory = %args.data.display(), %report, "opened the log");
            // A node that was stopped before it got anything knows no more than a new one.
            let join = if storage.last() == EntryId::ZERO { Some(ask()?) } else { None };
            (storage, join)
        }
        Err(OpenError::NotCreated | OpenError::CreationUnfinished) => {
            let configuration = ask()?;
            let identity = Identity { cluster: configuration.cluster(), node: args.id.0, incarnation: incarnation()? };
            let (storage, _) = FileStorage::create(directory(), identity, Default::default())
                .map_err(|source| not_opened(args, source))?;
            (storage, Some(configuration))
        }
        Err(source) => return Err(not_opened(args, source)),
    };
    let found = storage.identity().node;
    if found != args.id.0 {
        let source = OpenError::WrongNode { expected: args.id.0, found };
        return Err(not_opened(args, source));
    }
    let known = join.iter().flat_map(|configuration| configuration.members());
    let peers = known.map(|member| (member.id, member.address.to_string())).collect();
    Ok(Beginning { storage, create: None, join, digest: 0, peers })
}

/// Where the others reach this node: as the list of members says, or where it listens.
fn advertised(args: &ServeArgs) -> String {
    let own = args.peers.iter().find(|peer| peer.id == args.id.0);
    own.map_or_else(|| args.listen.to_string(), |peer| peer.address.clone())
}

fn not_opened(args: &ServeArgs, source: OpenError) -> ServeError {
    ServeError::Open { directory: args.data.display().to_string(), source }
}

fn incarnation() -> io::Result<Incarnation> {
    let random = || getrandom::u64().map_err(|_| io::Error::other("it gives no random numbers"));
    Ok(Incarnation((u128::from(random()?) << 64) | u128::from(random()?)))
}

/// The id of the cluster that has these members: equal on all of them, in whatever order they are
/// given. FNV-1a of 128 bits (RFC 9923).
fn cluster_of(peers: &[Peer]) -> u128 {
    let mut lines: Vec<String> = peers.iter().map(|peer| format!("{}={}\n", peer.id, peer.address)).collect();
    lines.sort_unstable();
    let (offset, prime) = (0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, 0x0000_0000_0100_0000_0000_0000_0000_013b);
    lines.concat().bytes().fold(offset, |hash: u128, byte| (hash ^ u128::from(byte)).wrapping_mul(prime))
}

/// What serving HTTP beside a node needs.
#[derive(Debug)]
pub(crate) struct Serving {
    copies: CopyAlarm,
    connections_max: usize,
}

/// Starts the node that the arguments describe.
pub(crate) fn launch(args: &ServeArgs) -> Result<(KvNode, Serving), ServeError> {
    let id = args.id.0;
    let Beginning { storage, create, join, digest, peers } = match &args.join {
        Some(member) => joining(args, member)?,
        None => created(args)?,
    };
    let Identity { cluster, incarnation, .. } = storage.identity();
    let identity = handshake::Identity { cluster, node: id, incarnation, configuration: digest };
    let seed = getrandom::u64().map_err(|_| io::Error::other("it gives no random numbers"))?;
    let options = TcpOptions::new(args.listen, identity, peers);
    let shares = Shares::claim(&options)?;
    let (network, peers) = TcpNetwork::bind(TcpOptions {
        seed,
        // Who does not know this node as a member yet can still answer it.
        advertise: advertised(args),
        clients_max: shares.clients,
        handshakes_max: shares.handshakes,
        ..options
    })?;
    let copies = peers.copy_alarm();
    if let Some(reason) = storage.hard_state().expelled {
        tracing::warn!("this node neither votes nor leads; {}", mend(id, &advertised(args), reason));
    }
    let raft = Config {
        election_timeout: Millis(args.election_timeout),
        heartbeat_interval: Millis(args.heartbeat),
        snapshot_after_entries: args.snapshot_entries,
        snapshot_after_bytes: args.snapshot_mib.saturating_mul(1 << 20),
        ..Config::default()
    };
    let options = NodeOptions { raft, create, join, ..NodeOptions::new(id) };
    let node = start(options, storage, network, peers, Store::default(), SystemClock::new())
        .map_err(|error| ServeError::Start(with_causes(&error)))?;
    tracing::info!(node = id.get(), listen = %args.listen, "serving");
    Ok((node, Serving { copies, connections_max: shares.http }))
}

/// What a node is expelled for, and the commands that mend it.
fn mend(id: NodeId, address: &str, reason: Expulsion) -> String {
    let add = format!("kv member add {id}={address}");
    match reason {
        Expulsion::Removed { .. } => format!("{reason}: `{add}`, while this node runs"),
        Expulsion::Forgot { .. } | Expulsion::Contradicted { .. } => format!(
            "{reason}: `kv member remove {id}`, then start this node with --join and an empty directory, then `{add}`"
        ),
    }
}

/// Serves HTTP beside the node, until a signal comes or the node fails.
async fn supervise(args: &ServeArgs, node: KvNode, serving: Serving) -> Result<(), ServeError> {
    let handle = node.handle();
    let (id, address) = (args.id.0, advertised(args));
    let (ended, mut end) = oneshot::channel();
    std::thread::spawn(move || {
        let result = node.join().map_err(|error| match error {
            Stopped::Expelled(reason) => ServeError::Stopped(mend(id, &address, reason)),
            error => ServeError::Stopped(with_causes(&error)),
        });
        // Nobody listens only if the process is ending already.
        drop(ended.send(result));
    });
    let server = serve_http(args, &handle, serving).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let result = tokio::select! {
        result = &mut end => result,
        _ = terminate.recv() => stop(&handle, &mut end).await,
        _ = interrupt.recv() => stop(&handle, &mut end).await,
    };
    if let Some(server) = server {
        server.stop(HTTP_GRACE).await;
    }
    result.unwrap_or_else(|_| Err(ServeError::Stopped("its thread is gone".to_owned())))
}

async fn serve_http(args: &ServeArgs, handle: &Handle, serving: Serving) -> Result<Option<http::Server>, ServeError> {
    let Some(address) = args.http else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tracing::info!(http = %address, "serving HTTP");
            let (handle, listen, copies) = (handle.clone(), args.listen.to_string(), serving.copies);
            let app = http::App { handle, listen, copies, patience: http::CHANGE_TIMEOUT };
            Ok(Some(http::Server::start(listener, serving.connections_max, app)))
        }
        Err(source) => {
            handle.stop();
            Err(ServeError::Http { address, source })
        }
    }
}

type End = Result<Result<(), ServeError>, oneshot::error::RecvError>;

async fn stop(handle: &Handle, end: &mut oneshot::Receiver<Result<(), ServeError>>) -> End {
    tracing::info!("stopping");
    handle.stop();
    end.await
}

/// An error with all that caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_does_not_change_the_cluster() {
        let peer = |text: &str| text.parse::<Peer>().unwrap();
        let (one, two) = (peer("1=a:1"), peer("2=b:2"));
        assert_eq!(cluster_of(&[one.clone(), two.clone()]), cluster_of(&[two.clone(), one.clone()]));
        assert_ne!(cluster_of(&[one]), cluster_of(&[two]));
    }
}
