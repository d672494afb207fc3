//! A scripted service: nodes on loopback that share one state, and do to each request what the
//! script says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use raft_client::{NodeStatus, NotExecuted, Options, Refusal, RoleName};
use raft_core::client::protocol::{Request, RequestBody, Response, ResponseBody};
use raft_core::message::ProposeError;
use raft_core::session::operation::{Operation, Outcome};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, Millis, NodeId, SessionId, Term};
use raft_core::wire::Bytes;
use raft_transport_tcp::frame::{Frame, FrameKind, header};
use raft_transport_tcp::handshake::{Hello, Identity, ProcessId, Welcome};

/// What a node does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Serves it, if it leads; else names the leader.
    Serve,
    /// Serves it, and keeps the answer back.
    Hold,
    /// Keeps back what the session layer says.
    HoldAnswer(Refusal),
    /// Sends what was kept back, and then serves it.
    Release,
    /// Serves it and says nothing.
    ServeAndLose,
    /// Serves it and closes the connection.
    ServeAndClose,
    /// Says nothing.
    Lose,
    /// Closes the connection.
    Close,
    /// Refuses it for that reason.
    Refuse(NotExecuted),
    /// Answers what the session layer says.
    Answer(Refusal),
    /// Cannot tell.
    Unknown,
}

pub(crate) type Script = Box<dyn FnMut(usize, &Request<'_>) -> Turn + Send>;

/// What all nodes know.
pub(crate) struct State {
    pub(crate) leader: usize,
    addresses: Vec<String>,
    script: Script,
    sessions: HashMap<u64, Session>,
    next_index: u64,
    pub(crate) ttl: Millis,
    pub(crate) window: u16,
    /// How often each command was executed.
    pub(crate) executed: HashMap<Vec<u8>, u32>,
    /// Sessions that were closed by their clients.
    pub(crate) closed: HashSet<u64>,
    /// Responses that are kept back.
    held: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Session {
    nonce: u128,
    acknowledge: u64,
    answers: BTreeMap<u64, Vec<u8>>,
}

/// The whole service.
pub(crate) struct Service {
    pub(crate) state: Arc<Mutex<State>>,
    connections: Vec<Arc<Mutex<Vec<TcpStream>>>>,
}

/// The cluster of the service.
pub(crate) const CLUSTER: ClusterId = ClusterId(5);

impl Service {
    /// A service of that many nodes, of which node 0 leads.
    pub(crate) fn start(nodes: usize, script: impl FnMut(usize, &Request<'_>) -> Turn + Send + 'static) -> Service {
        Service::of(CLUSTER, nodes, script)
    }

    /// A service whose nodes say that they are of `cluster`, without looking at what the client says.
    pub(crate) fn of(
        cluster: ClusterId,
        nodes: usize,
        script: impl FnMut(usize, &Request<'_>) -> Turn + Send + 'static,
    ) -> Service {
        let listeners: Vec<TcpListener> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let state = Arc::new(Mutex::new(State {
            leader: 0,
            addresses,
            script: Box::new(script),
            sessions: HashMap::new(),
            next_index: 1,
            ttl: Millis(60_000),
            window: 64,
            executed: HashMap::new(),
            closed: HashSet::new(),
            held: Vec::new(),
        }));
        let mut connections = Vec::new();
        for (node, listener) in listeners.into_iter().enumerate() {
            let state = Arc::clone(&state);
            let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
            connections.push(Arc::clone(&streams));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (stream, state) = (stream.unwrap(), Arc::clone(&state));
                    streams.lock().unwrap().push(stream.try_clone().unwrap());
                    // It ends with its connection.
                    thread::spawn(move || serve(identity(cluster, node), stream, &state));
                }
            });
        }
        Service { state, connections }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn address(&self, node: usize) -> String {
        self.lock().addresses[node].clone()
    }

    /// Options of a client that knows these nodes, with times that suit tests.
    pub(crate) fn options(&self, nodes: &[usize]) -> Options {
        Options {
            attempt_timeout: Duration::from_millis(200),
            back_off: Duration::from_millis(2),
            seed: Some(7),
            ..Options::new(nodes.iter().map(|&node| self.address(node)))
        }
    }

    /// Another node leads, and all connections to the one before are lost.
    pub(crate) fn depose(&self, leader: usize) {
        let before = std::mem::replace(&mut self.lock().leader, leader);
        for stream in self.connections[before].lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Forgets all sessions, as if their time was over.
    pub(crate) fn expire_sessions(&self) {
        self.lock().sessions.clear();
    }

    /// Every command that was executed was executed once.
    pub(crate) fn assert_none_twice(&self) {
        assert!(self.lock().executed.values().all(|&times| times == 1));
    }
}

fn serve(own: Identity, mut stream: TcpStream, state: &Mutex<State>) {
    let node = own.node.get() as usize - 1;
    stream.set_nodelay(true).unwrap();
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(frame) = Frame::decode(&bytes, 1 << 20).unwrap() {
            let end = frame.bytes();
            let answered = match frame.kind {
                FrameKind::Hello => {
                    assert!(Hello::decode(frame.body).is_ok());
                    let welcome = Welcome::of(ProcessId::UNTOLD, &own);
                    let mut buffer = [0; 256];
                    let body = postcard::to_slice(&welcome, &mut buffer).unwrap();
                    write(&mut stream, FrameKind::Welcome, body)
                }
                FrameKind::Request => {
                    let request = Request::decode(frame.body).unwrap();
                    answer(node, &request, &mut state.lock().unwrap(), &mut stream)
                }
                _ => true,
            };
            if !answered {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            bytes.drain(..end);
        }
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
}

fn write(stream: &mut TcpStream, kind: FrameKind, body: &[u8]) -> bool {
    stream.write_all(&[&header(kind, body).unwrap()[..], body].concat()).is_ok()
}

fn identity(cluster: ClusterId, node: usize) -> Identity {
    let node = NodeId::new(node as u64 + 1).unwrap();
    Identity { cluster, node, incarnation: Incarnation(1), configuration: 1 }
}

/// Gives whether the connection goes on.
fn answer(node: usize, request: &Request<'_>, state: &mut State, stream: &mut TcpStream) -> bool {
    if request.body == RequestBody::Members {
        // As a node of an older version does, which no test counts.
        let reason = NotExecuted::Unsupported;
        let body = ResponseBody::NotExecuted { reason, leader_address: "" };
        let mut bytes = [0; 64];
        let length = Response { id: request.id, body }.encode(&mut bytes).unwrap();
        return write(stream, FrameKind::Response, &bytes[..length]);
    }
    let turn = (state.script)(node, request);
    let address = state.addresses[state.leader].clone();
    let mut kept = Vec::new();
    let not_leader = NotExecuted::Refused(ProposeError::NotLeader { leader: None });
    let leads = node == state.leader || request.body == RequestBody::Status;
    let body = match turn {
        Turn::Lose => return true,
        Turn::Close => return false,
        Turn::Unknown => ResponseBody::Unknown,
        Turn::Refuse(reason) => ResponseBody::NotExecuted { reason, leader_address: "" },
        Turn::Answer(refusal) | Turn::HoldAnswer(refusal) => ResponseBody::Outcome(Outcome::Refused(refusal)),
        _ if !leads => ResponseBody::NotExecuted { reason: not_leader, leader_address: &address },
        _ => state.execute(request, &mut kept),
    };
    match turn {
        Turn::ServeAndLose => return true,
        Turn::ServeAndClose => return false,
        _ => {}
    }
    let response = Response { id: request.id, body };
    let mut buffer = vec![0; response.bytes_max()];
    let length = response.encode(&mut buffer).unwrap();
    match turn {
        Turn::Hold | Turn::HoldAnswer(_) => {
            state.held.push(buffer[..length].to_vec());
            return true;
        }
        Turn::Release => {
            for held in state.held.drain(..) {
                write(stream, FrameKind::Response, &held);
            }
        }
        _ => {}
    }
    write(stream, FrameKind::Response, &buffer[..length])
}

impl State {
    fn execute<'a>(&mut self, request: &Request<'_>, kept: &'a mut Vec<u8>) -> ResponseBody<'a> {
        self.next_index += 1;
        let index = Index(self.next_index);
        let outcome = match request.body {
            RequestBody::Status => return ResponseBody::Status(self.status()),
            RequestBody::Change { .. } => return ResponseBody::Changed { entry: EntryId { term: Term(3), index } },
            RequestBody::Query { query, .. } => {
                kept.extend(query.0.iter().rev());
                return ResponseBody::Answer(Bytes(kept));
            }
            RequestBody::Operate { secret, operation } => match operation {
                Operation::Plain { command } => {
                    *self.executed.entry(command.0.to_vec()).or_default() += 1;
                    kept.extend_from_slice(command.0);
                    Outcome::Answered { index, answer: Bytes(kept), replayed: false }
                }
                Operation::Open { nonce, .. } => {
                    let known = self.sessions.iter().find(|(_, session)| session.nonce == nonce.0).map(|(&id, _)| id);
                    let id = known.unwrap_or(index.0);
                    self.sessions.entry(id).or_insert(Session { nonce: nonce.0, ..Session::default() });
                    let (ttl, window) = (self.ttl, self.window);
                    Outcome::Opened { session: SessionId(id), again: known.is_some(), ttl, window }
                }
                Operation::Close { session } => {
                    self.closed.insert(session.0);
                    self.sessions
                        .remove(&session.0)
                        .map_or(Outcome::Refused(Refusal::SessionExpired), |_| Outcome::Closed)
                }
                Operation::KeepAlive { session, .. } if self.sessions.contains_key(&session.0) => Outcome::KeptAlive,
                Operation::KeepAlive { .. } => Outcome::Refused(Refusal::SessionExpired),
                Operation::Command { session, sequence, acknowledge, command } => {
                    let window = u64::from(self.window);
                    let Some(session) = self.sessions.get_mut(&session.0) else {
                        return ResponseBody::Outcome(Outcome::Refused(Refusal::SessionExpired));
                    };
                    assert_eq!(secret.map(|secret| secret.0), Some(session.nonce));
                    session.acknowledge = session.acknowledge.max(acknowledge.0);
                    session.answers = session.answers.split_off(&session.acknowledge);
                    assert!(sequence.0 < session.acknowledge + window, "the client keeps to the window");
                    if sequence.0 < session.acknowledge {
                        return ResponseBody::Outcome(Outcome::Refused(Refusal::Stale));
                    }
                    let replayed = session.answers.contains_key(&sequence.0);
                    if !replayed {
                        *self.executed.entry(command.0.to_vec()).or_default() += 1;
                        session.answers.insert(sequence.0, command.0.to_vec());
                    }
                    kept.extend_from_slice(&session.answers[&sequence.0]);
                    Outcome::Answered { index, answer: Bytes(kept), replayed }
                }
            },
            _ => return ResponseBody::Unknown,
        };
        ResponseBody::Outcome(outcome)
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: NodeId::new(1).unwrap(),
            role: RoleName::Leader,
            term: Term(3),
            leader: NodeId::new(1),
            configuration: EntryId::ZERO,
            joint: false,
            expelled: false,
            snapshot: Index(0),
            base: Index(0),
            last: Index(self.next_index),
            saved: Index(self.next_index),
            commit: Index(self.next_index),
            applied: Index(self.next_index),
            cluster_time: ClusterTime(0),
            sessions: u32::try_from(self.sessions.len()).unwrap(),
            sessions_max: 10,
            session_bytes: 0,
            executed: 0,
            replayed: 0,
            refused: 0,
            elections_won: 1,
            syncs: 0,
            entries_synced: 0,
            bytes_written: 0,
            log_bytes: 0,
            full: false,
            snapshots_failed: 0,
        }
    }
}

/// Whether a request carries a command of a session.
pub(crate) fn is_command(request: &Request<'_>) -> bool {
    matches!(request.body, RequestBody::Operate { operation: Operation::Command { .. }, .. })
}

/// A script that does `turn` to the first `times` commands, and then serves.
pub(crate) fn first_commands(times: u32, turn: Turn) -> impl FnMut(usize, &Request<'_>) -> Turn + Send {
    let mut left = times;
    move |_, request| {
        if is_command(request) && left > 0 {
            left -= 1;
            return turn;
        }
        Turn::Serve
    }
}
