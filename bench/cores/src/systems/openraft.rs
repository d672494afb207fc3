//! openraft over a log in memory, on tokio's current-thread runtime.
//!
//! A call of the network is a call of the other node's handle. Payloads are reference-counted `Bytes`, which followers put
//! into their logs as they come, or as copies of their own. Requests are fired without an answer to each, since the state machines
//! tell when all is applied. There are no ticks, so no timers and heartbeats; entries of a message are not limited.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use openraft::error::{Fatal, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError};
use openraft::network::RPCOption;
use openraft::raft::responder::Responder;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ClientWriteResult, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    BasicNode, Config, Entry, EntryPayload, LogId, LogState, OptionalSend, Raft, RaftLogReader, RaftNetwork,
    RaftNetworkFactory, RaftSnapshotBuilder, Snapshot, SnapshotMeta, SnapshotPolicy, StorageError, StoredMembership,
    Vote,
};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::Payload;
use crate::work::{Cluster, Payloads, REPLICAS, Tally, Work};

openraft::declare_raft_types!(
    /// Payloads without answers.
    Types:
        D = Bytes,
        R = (),
        NodeId = u64,
        Node = BasicNode,
        Entry = Entry<Types>,
        SnapshotData = (),
        Responder = NoAnswer,
);

type Handles = Arc<OnceLock<Vec<Raft<Types>>>>;
type Failure = StorageError<u64>;

const LEADER: u64 = 1;

pub(crate) struct Openraft {
    work: Work,
    payloads: Payloads,
    runtime: Runtime,
    handles: Handles,
    progress: Arc<Progress>,
}

/// What the three state machines have applied, and who waits for all of it.
struct Progress {
    work: Work,
    tallies: Mutex<[Tally; REPLICAS]>,
    changed: Notify,
    wanted: Mutex<u64>,
}

impl Openraft {
    pub(super) fn start(work: Work, payload: Payload) -> Openraft {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime without drivers starts");
        let tallies = Mutex::new([Tally::default(); REPLICAS]);
        let progress = Arc::new(Progress { work, tallies, changed: Notify::new(), wanted: Mutex::new(0) });
        let handles = Handles::default();
        runtime.block_on(async {
            let mut nodes = Vec::new();
            for id in 1..=REPLICAS as u64 {
                // What the leader's log holds was allocated for it when it was proposed.
                let payload = if id == LEADER { Payload::Shared } else { payload };
                let (entries_max, entries) = (work.log_entries(), VecDeque::new());
                let log = Log { payload, entries_max, vote: None, forgotten: 0, entries };
                let store = Store(Arc::new(Mutex::new(log)));
                let progress = progress.clone();
                let machine = Machine { id, progress, last: None, membership: StoredMembership::default() };
                let network = Network { handles: handles.clone() };
                nodes.push(Raft::new(id, config(), network, store, machine).await.expect("a node starts"));
            }
            assert!(handles.set(nodes).is_ok(), "set once");
            let members: BTreeMap<_, _> = (1..=REPLICAS as u64).map(|id| (id, BasicNode::default())).collect();
            let leader = leader(&handles);
            leader.initialize(members).await.expect("a new cluster is initialized");
            leader.trigger().elect().await.expect("a member can campaign");
            leader.wait(None).current_leader(LEADER, "elected").await.expect("the leader is elected");
        });
        Openraft { work, payloads: Payloads::new(work), runtime, handles, progress }
    }
}

fn leader(handles: &Handles) -> Raft<Types> {
    handles.get().expect("set before any message").first().expect("three nodes").clone()
}

fn config() -> Arc<Config> {
    let config = Config {
        enable_tick: false,
        max_payload_entries: 1 << 20,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    Arc::new(config.validate().expect("the settings are good"))
}

impl Cluster for Openraft {
    fn run(&mut self, turns: u64) {
        let leader = leader(&self.handles);
        self.runtime.block_on(async {
            for _ in 0..turns {
                *lock(&self.progress.wanted) = self.payloads.proposed() + self.work.in_flight as u64;
                for _ in 0..self.work.in_flight {
                    let payload = Bytes::copy_from_slice(self.payloads.next());
                    leader.client_write_ff(payload).await.expect("the leader takes all that is in flight");
                }
                self.progress.changed.notified().await;
                for tally in *lock(&self.progress.tallies) {
                    assert_eq!(tally.applied(), self.payloads.proposed(), "all is applied at the end of a turn");
                }
            }
        });
    }
}

/// A lock that no second thread ever asks for.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// Nobody waits for an answer.
struct NoAnswer;

impl Responder<Types> for NoAnswer {
    type Receiver = ();

    fn from_app_data(payload: Bytes) -> (Bytes, NoAnswer, ()) {
        (payload, NoAnswer, ())
    }

    fn send(self, _: ClientWriteResult<Types>) {}
}

/// Vote and entries. openraft drops entries only behind a snapshot; this log forgets the oldest by itself, which were
/// applied everywhere and are never asked for again.
#[derive(Debug)]
struct Log {
    payload: Payload,
    entries_max: usize,
    vote: Option<Vote<u64>>,
    forgotten: u64,
    entries: VecDeque<Entry<Types>>,
}

impl Log {
    fn position(&self, index: u64) -> usize {
        let position = index.checked_sub(self.forgotten).expect("only what was applied everywhere is forgotten");
        usize::try_from(position).expect("a log fits into memory").min(self.entries.len())
    }
}

#[derive(Clone, Debug)]
struct Store(Arc<Mutex<Log>>);

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, Failure> {
        let log = lock(&self.0);
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        Ok(log.entries.range(log.position(start)..log.position(end)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let log = lock(&self.0);
        Ok(LogState { last_purged_log_id: None, last_log_id: log.entries.back().map(|entry| entry.log_id) })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        lock(&self.0).vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        Ok(lock(&self.0).vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = lock(&self.0);
        if log.entries.len() >= log.entries_max {
            let half = log.entries_max / 2;
            log.entries.drain(..half);
            log.forgotten += half as u64;
        }
        let keep = log.payload;
        log.entries.extend(entries.into_iter().map(|mut entry| {
            if let EntryPayload::Normal(payload) = entry.payload {
                entry.payload = EntryPayload::Normal(keep.keep(payload));
            }
            entry
        }));
        drop(log);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), Failure> {
        let mut log = lock(&self.0);
        let length = log.position(from.index);
        log.entries.truncate(length);
        Ok(())
    }

    async fn purge(&mut self, _: LogId<u64>) -> Result<(), Failure> {
        unreachable!("without a snapshot nothing is purged")
    }
}

struct Machine {
    id: u64,
    progress: Arc<Progress>,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = NoSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>), Failure> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut tallies = lock(&self.progress.tallies);
        let tally = &mut tallies[usize::try_from(self.id - 1).expect("ids are small")];
        let mut answers = Vec::new();
        for entry in entries {
            self.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Normal(payload) => tally.apply(&payload, self.progress.work),
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), members);
                }
                EntryPayload::Blank => {}
            }
            answers.push(());
        }
        let wanted = *lock(&self.progress.wanted);
        if wanted > 0 && tallies.iter().all(|tally| tally.applied() == wanted) {
            self.progress.changed.notify_one();
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshot {
        NoSnapshot
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<()>, Failure> {
        unreachable!("nobody sends snapshots")
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta<u64, BasicNode>, _: Box<()>) -> Result<(), Failure> {
        unreachable!("nobody sends snapshots")
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        Ok(None)
    }
}

struct NoSnapshot;

impl RaftSnapshotBuilder<Types> for NoSnapshot {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        unreachable!("the policy is never")
    }
}

/// Makes the connections of one node.
struct Network {
    handles: Handles,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Connection {
        Connection { target, handles: self.handles.clone() }
    }
}

struct Connection {
    target: u64,
    handles: Handles,
}

type CallError = RPCError<u64, BasicNode, RaftError<u64>>;

impl Connection {
    fn peer(&self) -> &Raft<Types> {
        let nodes = self.handles.get().expect("set before any message");
        &nodes[usize::try_from(self.target - 1).expect("ids are small")]
    }

    fn remote(&self, error: RaftError<u64>) -> CallError {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        self.peer().append_entries(request).await.map_err(|error| self.remote(error))
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, CallError> {
        self.peer().vote(request).await.map_err(|error| self.remote(error))
    }

    async fn full_snapshot(
        &mut self,
        _: Vote<u64>,
        _: Snapshot<Types>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        unreachable!("nobody lags behind")
    }
}
