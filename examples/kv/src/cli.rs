//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser};
use kv::command::VALUE_BYTES_MAX;
use raft_core::configuration::Lease;
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, Millis, NodeId};

/// An exactly-once key-value store on Raft.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 done; 1 the cluster said no; 2 usage; \
    3 unavailable, and nothing has happened; 4 the outcome is unknown."
)]
pub(crate) struct Cli {
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Run one node. With an empty directory it waits until it is created (`kv init`) or added (`kv member add`).
    Serve(Box<ServeArgs>),
    /// Create a cluster, once, out of nodes that run with empty directories. Cut off, it can be run again.
    Init(InitArgs),
    /// Run a local cluster of real processes, until Ctrl-C.
    Up(UpArgs),
    /// Show that every command is executed exactly once while leaders are killed.
    Demo(DemoArgs),
    /// Measure throughput and latency.
    Bench(BenchArgs),
    #[command(flatten)]
    Client(Request),
}

/// What is asked of a running cluster.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Request {
    /// Set a key.
    Put {
        #[command(flatten)]
        cluster: ClusterArgs,
        key: String,
        /// The value; `-` reads it from standard input.
        value: String,
    },
    /// Print the value of a key.
    Get {
        #[command(flatten)]
        cluster: ClusterArgs,
        key: String,
        /// Take the answer of the node that is asked first, however old.
        #[arg(long, conflicts_with = "lease")]
        stale: bool,
        /// Let a leader with a lease answer by itself, which is as fresh while clocks keep their bound.
        #[arg(long)]
        lease: bool,
    },
    /// Remove a key.
    Delete {
        #[command(flatten)]
        cluster: ClusterArgs,
        key: String,
    },
    /// Add to a key whose value is a number; absent counts as 0.
    Incr {
        #[command(flatten)]
        cluster: ClusterArgs,
        key: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Set a key to NEW if its value is OLD.
    Cas {
        #[command(flatten)]
        cluster: ClusterArgs,
        key: String,
        old: String,
        new: String,
    },
    /// List keys and values.
    List {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Show how the nodes are.
    Status {
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Show the members, or change them.
    Member {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(subcommand)]
        request: MemberRequest,
    },
    /// Hand leadership over to a node, or to the one with most of the log.
    TransferLeader {
        #[command(flatten)]
        cluster: ClusterArgs,
        to: Option<NodeNumber>,
    },
    /// Have the first node that answers write a snapshot.
    Snapshot {
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

/// What is asked about the members.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum MemberRequest {
    /// Show them.
    List,
    /// Add nodes, which are started by `kv serve` with empty directories. They vote once they have caught up.
    Add {
        /// The nodes as ID=HOST:PORT, with numbers that were never used before.
        #[arg(required = true)]
        members: Vec<Peer>,
        #[command(flatten)]
        suffrage: Suffered,
        /// Nodes with a higher priority are preferred as leaders.
        #[arg(long, default_value_t = 0)]
        priority: u8,
    },
    /// Make voters of learners.
    Promote {
        #[arg(required = true)]
        ids: Vec<NodeNumber>,
    },
    /// Make learners of voters.
    Demote {
        #[arg(required = true)]
        ids: Vec<NodeNumber>,
    },
    /// Remove members, all at once. Their numbers are not to be used again.
    Remove {
        #[arg(required = true)]
        ids: Vec<NodeNumber>,
        /// Also if the cluster stands still then, since too few of the others answer.
        #[arg(long)]
        force: bool,
    },
    /// Put a new node, which is started by `kv serve` with an empty directory, in the place of a member. It learns
    /// first; once it has caught up, it votes and the other one leaves by one change.
    Replace {
        /// The member that leaves.
        old: NodeNumber,
        /// The new node as ID=HOST:PORT.
        new: Peer,
    },
    /// Prefer a node as leader.
    Prioritize { id: NodeNumber, priority: u8 },
    /// Change the address at which a node is reached.
    Move {
        /// The node as ID=HOST:PORT.
        member: Peer,
    },
}

/// As what a node is added.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Suffered {
    /// It receives the log and does not vote.
    #[arg(long)]
    pub(crate) learner: bool,
    /// It votes, and keeps neither values nor state.
    #[arg(long)]
    pub(crate) witness: bool,
}

/// How a cluster is reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The nodes' addresses; one is enough if it is up.
    #[arg(
        long,
        env = "KV_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
    )]
    pub(crate) endpoints: Vec<String>,
    /// The cluster's id, 32 hex digits. Left out, the first node that is reached decides.
    #[arg(long, value_parser = cluster_id)]
    pub(crate) cluster: Option<ClusterId>,
    /// Give up after so many seconds.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub(crate) timeout: Duration,
}

/// A new cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct InitArgs {
    /// Every node of the cluster as ID=HOST:PORT: its number, and where the others and native clients reach it.
    #[arg(required = true)]
    pub(crate) members: Vec<Peer>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Give up after so many seconds.
    #[arg(long, value_parser = seconds, default_value = "10")]
    pub(crate) timeout: Duration,
}

/// One node of a cluster. All that it needs to know of the cluster stands in its directory.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where nodes and native clients connect.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where HTTP is served; not at all if this is left out.
    #[arg(long)]
    pub(crate) http: Option<SocketAddr>,
    /// The directory of this node's data; made if it does not exist. An empty one waits to be created or added.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// A snapshot is written after so many commands.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_entries: u64,
    /// A snapshot is written when the log has so many MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..1 << 40))]
    pub(crate) snapshot_mib: u64,
    /// A follower campaigns after so many milliseconds without a leader, or up to twice that.
    #[arg(long, default_value_t = 500)]
    pub(crate) election_timeout: u64,
    /// A leader is heard from every so many milliseconds.
    #[arg(long, default_value_t = 50)]
    pub(crate) heartbeat: u64,
    /// What is logged: error, warn, info, debug or trace.
    #[arg(long, env = "KV_LOG", default_value = "info")]
    pub(crate) log: tracing::Level,
    /// End as soon as standard input ends, as it does when the process at its other end dies.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// The limits of the session table, and leases. They belong to the cluster, from its creation on.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// The sessions that can be open at once.
    #[arg(long, default_value_t = 4096)]
    pub(crate) sessions: u32,
    /// The commands of one session that can be under way at once.
    #[arg(long, default_value_t = 64)]
    pub(crate) window: u16,
    /// The seconds after which an idle session ends.
    #[arg(long, value_parser = seconds, default_value = "300")]
    pub(crate) ttl: Duration,
    /// Leaders may answer reads by a lease of so many milliseconds; a new leader waits as long
    /// before it commits anything. 0: never.
    #[arg(long, default_value_t = 0)]
    pub(crate) lease: u64,
    /// How much faster or slower than another's a node's clock may run, in thousandths.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..1000))]
    pub(crate) drift: u16,
}

impl LimitArgs {
    /// The limits of the session table.
    pub(crate) fn sessions(&self) -> SessionLimits {
        let ttl = Millis(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        SessionLimits {
            sessions: self.sessions,
            window: self.window,
            ttl,
            time_step_max: Millis((ttl.0 / 10).max(1)),
            ..SessionLimits::default()
        }
    }

    /// The leases, if there are any.
    pub(crate) fn leases(&self) -> Option<Lease> {
        (self.lease > 0).then_some(Lease { duration: Millis(self.lease), drift_per_mille: self.drift })
    }
}

/// A local cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// Where the data is kept, with a log file for each node.
    #[arg(long, default_value = "kv-data")]
    pub(crate) data: PathBuf,
    /// Where the first node is reached, on this machine; the others follow it.
    #[arg(long, default_value_t = 7001, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) port: u16,
    /// Where the first node serves HTTP; the others follow it.
    #[arg(long, default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub(crate) http_port: u16,
    /// What a new cluster is created with; of no use for one that exists.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// The demonstration.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// How often the leader is killed with SIGKILL.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=8))]
    pub(crate) kills: u16,
    /// Where chance begins: which moments the kills come at. Random if left out.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Afterwards replace every member of the cluster by another one, still under load.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Send the commands without sessions, and see what then happens to retries.
    #[arg(long)]
    pub(crate) no_sessions: bool,
}

/// The load generator.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many clients, each with one request at a time; several numbers are measured in turn.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,16,256,1024",
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    pub(crate) clients: Vec<u32>,
    /// The bytes of each value.
    #[arg(long, default_value_t = 256, value_parser = value_size)]
    pub(crate) value_size: usize,
    /// How many seconds each measurement lasts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// How many of a hundred requests are linearizable reads.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// How many connections the clients share, each driven by a thread of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) connections: u32,
    /// Measure a cluster that runs; left out, one of three processes is started. Not taken from
    /// KV_ENDPOINTS, so that no cluster is loaded by mistake.
    #[arg(long, value_delimiter = ',')]
    pub(crate) endpoints: Vec<String>,
    /// Generate the load within the leader's process, without the client protocol: every client
    /// is a proposal outstanding.
    #[arg(long, conflicts_with_all = ["endpoints", "reads", "connections"])]
    pub(crate) embedded: bool,
    /// Where the started cluster keeps its data until it ends: a folder on the disk to be measured.
    #[arg(long, conflicts_with = "endpoints")]
    pub(crate) data: Option<PathBuf>,
}

/// A node's number: 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeNumber(pub(crate) NodeId);

impl FromStr for NodeNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeNumber, String> {
        let number: Option<u64> = text.parse().ok();
        let node = number.and_then(NodeId::new);
        node.map(NodeNumber).ok_or_else(|| format!("`{text}` is no node's number: those are 1, 2, 3 and so on"))
    }
}

/// A member: its number, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) address: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let wrong = || format!("`{text}` is no member: write ID=HOST:PORT, as in 1=127.0.0.1:7001");
        let (id, address) = text.split_once('=').ok_or_else(wrong)?;
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Peer { id: id.parse::<NodeNumber>()?.0, address: address.to_owned() }),
            _ => Err(wrong()),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("`{text}` is no number of seconds"))
}

fn value_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| *size <= VALUE_BYTES_MAX);
    size.ok_or_else(|| format!("`{text}` is no length of a value: those are 0 to {VALUE_BYTES_MAX} bytes"))
}

pub(crate) fn cluster_id(text: &str) -> Result<ClusterId, String> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    id.map(ClusterId).ok_or_else(|| format!("`{text}` is not a cluster id: those are 32 hex digits"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn members_are_read_or_refused_with_an_example() {
        let peer: Peer = "2=host:7002".parse().unwrap();
        assert_eq!((peer.id.get(), peer.address.as_str()), (2, "host:7002"));
        for wrong in ["host:7002", "0=host:7002", "2=host", "2=host:port", ""] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
        assert_eq!(cluster_id(&format!("{:032x}", 77)), Ok(ClusterId(77)));
        for wrong in ["77", "+0000000000000000000000000000077", &"g".repeat(32), &"0".repeat(33)] {
            assert!(cluster_id(wrong).is_err(), "{wrong}");
        }
    }
}
