//! A cluster in its network, and what its clients and operators do with it.

use std::thread;
use std::time::{Duration, Instant};

use kv::command::{Command, Condition, Found, Query, decode, encode};
use kv::watch::{View, Watch};
use raft_client::{BlockingClient, CommandError, Consistency, NodeStatus, OperatorClient, Options, QueryError};
use raft_core::types::NodeId;
use raft_core::wire::Bytes;
use tempfile::TempDir;

use crate::namespaces::{self, Drops, Network};
use crate::nodes::{Nodes, Trouble};

/// Far more than anything here takes on a slow machine: some two hundred election timeouts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is looked at that is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// A node that lags behind by fewer entries than this has caught up.
const LAG: u64 = 50_000;

/// A cluster. What it is made of goes in this order.
#[derive(Debug)]
pub(crate) struct Cluster<'n> {
    pub(crate) nodes: Nodes,
    watch: Watch,
    network: &'n Network,
}

/// Makes a network, and in it does `body` with a cluster that does not run yet and its folder.
pub(crate) fn with_cluster<T: Send>(
    count: usize,
    extra: &[&str],
    body: impl FnOnce(&mut Cluster<'_>, &TempDir) -> T + Send,
) -> T {
    let folder = tempfile::Builder::new().prefix(&namespaces::name("")).tempdir().unwrap();
    let network = Network::new(count);
    network.in_hub(|| {
        let nodes = Nodes::new(folder.path(), count, extra);
        let watch = Watch::new(&nodes.endpoints()).unwrap();
        let mut cluster = Cluster { nodes, watch, network: &network };
        body(&mut cluster, &folder)
    })
}

impl Cluster<'_> {
    pub(crate) fn count(&self) -> usize {
        self.network.nodes()
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.start_in(node, &Trouble::default());
    }

    pub(crate) fn start_in(&mut self, node: usize, trouble: &Trouble) {
        self.nodes.start(self.network, node, trouble);
    }

    /// Starts all nodes that do not run.
    pub(crate) fn start_all(&mut self) {
        for node in 1..=self.count() {
            if !self.nodes.runs(node) {
                self.start(node);
            }
        }
    }

    /// Lets the nodes hear everything but this.
    pub(crate) fn filter(&self, rules: &[Drops]) {
        self.network.filter(rules);
    }

    pub(crate) fn look(&mut self) -> View {
        self.watch.look()
    }

    /// Looks at the nodes until they are as they should be.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&View) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            let view = self.look();
            if let Some(found) = wanted(&view) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {}", self.describe(&view));
            thread::sleep(LOOK);
        }
    }

    fn describe(&self, view: &View) -> String {
        let status = |(place, status): (usize, &Option<NodeStatus>)| {
            let node = place + 1;
            format!("\nnode {node}: {status:?}\n{}", self.nodes.tail(node))
        };
        view.0.iter().enumerate().map(status).collect()
    }

    /// A key's value, which some node has to tell within that time.
    pub(crate) fn read(&mut self, key: &str, patience: Duration) -> Option<String> {
        let found = self.client(patience).try_get(key);
        found.unwrap_or_else(|error| {
            let view = self.look();
            panic!("reading {key}: {error:?}: {}", self.describe(&view))
        })
    }

    /// Waits until all nodes run and follow one leader; gives its number.
    pub(crate) fn settle(&mut self) -> usize {
        self.nodes.check();
        let (place, _) = self.wait_for("the nodes do not come to rest", |view| view.settled(LAG));
        self.nodes.check();
        place + 1
    }

    /// The number of the leader, and its term, once there is one.
    pub(crate) fn leader(&mut self) -> (usize, u64) {
        let (place, status) = self.wait_for("nobody leads", View::leader);
        (place + 1, status.term.0)
    }

    /// Has a node lead.
    pub(crate) fn make_leader(&mut self, node: usize) {
        let begin = Instant::now();
        while self.settle() != node {
            assert!(begin.elapsed() < PATIENCE, "node {node} does not come to lead");
            let to = NodeId::new(u64::try_from(node).unwrap());
            // It may fail for a reason that goes by, such as an election.
            let _ = OperatorClient::new(self.nodes.endpoints(), Duration::from_secs(5)).transfer(to);
        }
    }

    /// A client with a session that has `patience` for each request.
    pub(crate) fn client(&self, patience: Duration) -> Client {
        let mut client = BlockingClient::new(&Options::new(self.nodes.endpoints())).unwrap();
        client.set_timeout(Some(patience));
        Client(client)
    }
}

/// A client of the store.
#[derive(Debug)]
pub(crate) struct Client(BlockingClient);

impl Client {
    /// Sets a key.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Result<(), CommandError> {
        let command = Command::Put { key, value: Bytes(value.as_bytes()), condition: Condition::Always };
        self.0.execute(&encode(&command)).map(drop)
    }

    /// A key's value, by a linearizable read.
    pub(crate) fn get(&mut self, key: &str) -> Option<String> {
        self.try_get(key).unwrap()
    }

    fn try_get(&mut self, key: &str) -> Result<Option<String>, QueryError> {
        let answer = self.0.query(Consistency::Linearizable, &encode(&Query::Get { key }))?;
        Ok(value_in(&answer))
    }
}

/// The value in an answer to [`Query::Get`].
pub(crate) fn value_in(answer: &[u8]) -> Option<String> {
    let found: Found<'_> = decode(answer).expect("it is an answer");
    found.value.map(|(value, _)| String::from_utf8(value.0.to_vec()).unwrap())
}
