//! `kv serve`: one node.

use std::error::Error;
use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use raft_core::raft::config::Config;
use raft_core::raft::event::Expulsion;
use raft_core::storage::Storage;
use raft_core::types::{ClusterKey, EntryId, Millis, NodeId};
use raft_node::{Handle, Node, NodeOptions, Stopped, SystemClock, join, start};
use raft_storage_file::{Directory, FileStorage, How, Identity, OpenError, StorageError};
use raft_transport_tcp::handshake;
use raft_transport_tcp::network::{BindError, TcpNetwork};
use raft_transport_tcp::options::TcpOptions;
use raft_transport_tcp::rivals::CopyAlarm;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::ServeArgs;
use crate::descriptors::{Shares, TooFew};
use crate::exit::Exit;
use crate::http;
use crate::machine::Store;
use crate::waiting;

/// How long HTTP requests may take to end once the node has stopped.
const HTTP_GRACE: Duration = Duration::from_millis(500);

pub(crate) type KvNode = Node<StorageError, io::Error>;

/// Why a node did not start, or did not go on.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    #[error("{0}")]
    Configuration(#[from] raft_core::configuration::ConfigurationError),
    #[error("the data in {directory} cannot be used: {source}")]
    Open { directory: String, source: OpenError },
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals =
            Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let (sender, launched) = oneshot::channel();
        let own = args.clone();
        std::thread::spawn(move || drop(sender.send(launch(&own))));
        tokio::select! {
            launched = launched => {
                let gone = |_| Err(ServeError::Stopped("its thread is gone".to_owned()));
                let (node, serving) = launched.unwrap_or_else(gone)?;
                supervise(args, node, serving, signals).await
            }
            // Nothing is served yet: what is on the disk is whole at any moment.
            () = signals.next() => Ok(()),
        }
    })
}

/// The signals by which a process is asked to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A number that nobody can guess.
pub(crate) fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| io::Error::other("it gives no random numbers"))?;
    Ok(u128::from_le_bytes(bytes))
}

/// Opens the directory; waits for a cluster if it is of none. To wait never makes a cluster: others have to.
fn storage(args: &ServeArgs) -> Result<FileStorage, ServeError> {
    let opened = match FileStorage::open(Directory::new(&args.data), Default::default()) {
        Err(OpenError::NotCreated | OpenError::Waiting) => waiting::wait(args)?,
        opened => opened.map_err(|source| ServeError::Open { directory: args.data.display().to_string(), source })?,
    };
    let (storage, report) = opened;
    tracing::info!(directory = %args.data.display(), %report, "opened the log");
    Ok(storage)
}

/// What serving HTTP beside a node needs.
#[derive(Debug)]
pub(crate) struct Serving {
    id: NodeId,
    /// Where the others reach this node.
    address: String,
    copies: CopyAlarm,
    connections_max: usize,
}

/// Starts the node of the directory that the arguments name, as soon as that belongs to a cluster.
pub(crate) fn launch(args: &ServeArgs) -> Result<(KvNode, Serving), ServeError> {
    let storage = storage(args)?;
    let (Identity { cluster, node: id, incarnation }, origin) = (storage.identity(), storage.origin().cloned());
    let known = origin.iter().flat_map(|origin| origin.configuration.members());
    let peers = known.map(|member| (member.id, member.address.to_string())).collect();
    let created = origin.as_ref().filter(|origin| origin.how == How::Created);
    let digest = created.map(|origin| origin.configuration.digest()).transpose()?.unwrap_or_default();
    let identity = handshake::Identity { cluster, node: id, incarnation, configuration: digest };
    let seed = getrandom::u64().map_err(|_| io::Error::other("it gives no random numbers"))?;
    let options = TcpOptions::new(args.listen, identity, peers);
    let shares = Shares::claim(&options)?;
    let (network, peers) = TcpNetwork::bind(TcpOptions {
        seed,
        key: origin.as_ref().map_or(ClusterKey::NONE, |origin| origin.key),
        // What the configuration says, which may have changed since.
        advertise: String::new(),
        clients_max: shares.clients,
        handshakes_max: shares.handshakes,
        ..options
    })?;
    let copies = peers.copy_alarm();
    let own = origin.as_ref().and_then(|origin| origin.configuration.member(id));
    let address = own.map_or_else(|| args.listen.to_string(), |member| member.address.to_string());
    if let Some(reason) = storage.hard_state().expelled {
        tracing::warn!("this node neither votes nor leads; {}", mend(id, &address, reason));
    }
    let raft = Config {
        election_timeout: Millis(args.election_timeout),
        heartbeat_interval: Millis(args.heartbeat),
        snapshot_after_entries: args.snapshot_entries,
        snapshot_after_bytes: args.snapshot_mib.saturating_mul(1 << 20),
        ..Config::default()
    };
    let options = NodeOptions { raft, ..NodeOptions::new(id) };
    let (machine, clock) = (Store::default(), SystemClock::new());
    // A node that was stopped before it got anything joins still.
    let node = match origin.filter(|origin| origin.how == How::Joined && storage.last() == EntryId::ZERO) {
        Some(origin) => join(options, origin.configuration, storage, network, peers, machine, clock),
        None => start(options, storage, network, peers, machine, clock),
    };
    let node = node.map_err(|error| ServeError::Start(with_causes(&error)))?;
    tracing::info!(node = id.get(), %cluster, listen = %args.listen, "serving");
    Ok((node, Serving { id, address, copies, connections_max: shares.http }))
}

/// What a node is expelled for, and the commands that mend it.
fn mend(id: NodeId, address: &str, reason: Expulsion) -> String {
    let add = format!("kv member add {id}={address}");
    match reason {
        Expulsion::Removed { .. } => format!("{reason}: `{add}`, while this node runs"),
        Expulsion::Forgot { .. } | Expulsion::Contradicted { .. } => {
            format!("{reason}: `kv member remove {id}`, then start this node with an empty directory, then `{add}`")
        }
    }
}

/// Serves HTTP beside the node, until a signal comes or the node fails.
async fn supervise(args: &ServeArgs, node: KvNode, serving: Serving, mut signals: Signals) -> Result<(), ServeError> {
    let handle = node.handle();
    let (id, address) = (serving.id, serving.address.clone());
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
    let result = tokio::select! {
        result = &mut end => result,
        () = signals.next() => stop(&handle, &mut end).await,
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
