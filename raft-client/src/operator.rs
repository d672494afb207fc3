//! What operators ask of a cluster: who its members are, other members, another leader, a snapshot.

use std::io;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use raft_core::client::protocol::{
    NotExecuted, Request, RequestBody, RequestId, Response, ResponseBody, decode_changes, encode_changes,
};
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Configuration, Member};
use raft_core::message::ProposeError;
use raft_core::raft::TransferError;
use raft_core::types::{ClusterId, EntryId, Index, NodeId};
use raft_core::wire::Bytes;
use raft_transport_tcp::client::{ClientConnection, ConnectionError, SendError};
use raft_transport_tcp::setup::SetupReply;
use thiserror::Error;

use crate::founder::Standing;

/// How long one node may take to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the nodes are asked again, when none leads or a change is under way.
const PAUSE: Duration = Duration::from_millis(100);
/// How long another change of the members is waited for: leaders make small ones by themselves, when they meet a new
/// member or promote it. One that lasts longer needs an operator's eyes.
const UNDER_WAY_MAX: Duration = Duration::from_secs(5);
/// The most bytes of a request or response; a list of members is far shorter.
const FRAME_BYTES_MAX: usize = 64 << 10;
const CHANGES_BYTES_MAX: usize = 8 << 10;

/// A client for operators. Each call connects anew, finds the leader where one is needed, and waits
/// for the end of what it began.
#[derive(Clone, Debug)]
pub struct OperatorClient {
    endpoints: Vec<String>,
    cluster: Option<ClusterId>,
    timeout: Duration,
}

/// Why it was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The cluster said no. Nothing has changed.
    #[error(transparent)]
    Refused(NotExecuted),
    /// Nobody answered, or nobody led, for as long as was to be waited. Nothing has changed.
    #[error("no node could do it in time: {0}")]
    Unavailable(Fault),
    /// It was begun, and nobody told its end: look at the members.
    #[error("it was begun, and its outcome is unknown: {0}; look at the list of members")]
    Unknown(Fault),
    /// The node answered what this version does not know.
    #[error("the node answered what this version does not know")]
    Answer,
    /// The node that is to be added cannot be. Nothing has changed.
    #[error("the node at {address} cannot be added: {why}; stop it, and start it with an empty directory")]
    InTheWay {
        /// Where it is reached.
        address: String,
        /// Why not.
        why: String,
    },
    /// Too many changes at once.
    #[error("too many changes at once; make them in several steps")]
    TooMany,
}

/// What stood in the way last.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The connection could not be made, or was lost.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The system failed this client.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The request was not taken.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A node refused it for now.
    #[error(transparent)]
    Node(NotExecuted),
    /// The address is none.
    #[error("the endpoint {0} has no address")]
    Address(String),
    /// No answer came in time.
    #[error("no answer came in time")]
    Timeout,
}

/// Where a request came to an end: before it was sent, or after.
enum Failed {
    Before(Fault),
    After(Fault),
}

/// An answer that outlives its connection.
enum Done {
    Members(EntryId, Box<Configuration>),
    Changed(EntryId),
    Transferred(NodeId),
    SnapshotMade(Index),
    NotExecuted(NotExecuted, String),
    Unknown,
    Other,
}

impl OperatorClient {
    /// A client of the nodes at `endpoints` (host:port), of which one that answers is enough. What it
    /// begins may take as long as `timeout`.
    #[must_use]
    pub fn new(endpoints: Vec<String>, timeout: Duration) -> OperatorClient {
        OperatorClient { endpoints, cluster: None, timeout }
    }

    /// Talks to nodes of that cluster alone; of any, if none is given.
    #[must_use]
    pub fn cluster(self, cluster: Option<ClusterId>) -> OperatorClient {
        OperatorClient { cluster, ..self }
    }

    /// Asks the node at the address of a member that is to be added, and returns the member with the storage of that
    /// node, so that no other one can take its place. A node that does not answer yet is named when it is met.
    ///
    /// # Errors
    /// [`OperatorError::InTheWay`] if the node belongs to another cluster, or is promised to one.
    pub fn meet(&self, member: Member) -> Result<Member, OperatorError> {
        let in_the_way = |why| OperatorError::InTheWay { address: member.address.to_string(), why };
        match Standing::of(&member.address, CONNECT_TIMEOUT) {
            Standing::Waits(SetupReply::Empty { incarnation }) => {
                Ok(Member { incarnation: Some(incarnation), ..member })
            }
            Standing::Waits(SetupReply::Promised { creation, .. }) => {
                let cluster = creation.cluster();
                Err(in_the_way(format!("it has promised to be created as one of cluster {cluster}")))
            }
            Standing::Member { cluster, node } => {
                let own = self.members()?.1.cluster();
                let says = || format!("it is node {node} of cluster {cluster}, and not of {own}");
                if own == cluster { Ok(member) } else { Err(in_the_way(says())) }
            }
            Standing::Silent(_) => Ok(member),
        }
    }

    /// Who the members are, as the first node knows it that answers, and since which entry.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn members(&self) -> Result<(EntryId, Configuration), OperatorError> {
        match self.ask(RequestBody::Members, false)? {
            Done::Members(entry, configuration) => Ok((entry, *configuration)),
            _ => Err(OperatorError::Answer),
        }
    }

    /// Changes the members, all of `changes` at once; with `force` also if a majority of the new
    /// voters does not answer. Gives the entry of the change once all of it is committed.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn change_members(&self, changes: &[MemberChange], force: bool) -> Result<EntryId, OperatorError> {
        let mut buffer = [0; CHANGES_BYTES_MAX];
        let bytes = encode_changes(changes, &mut buffer).map_err(|_| OperatorError::TooMany)?;
        assert!(decode_changes(bytes).is_ok(), "what was encoded can be read");
        match self.ask(RequestBody::Change { changes: Bytes(bytes), force }, true)? {
            Done::Changed(entry) => Ok(entry),
            _ => Err(OperatorError::Answer),
        }
    }

    /// Hands leadership over, to that node or to the one with most of the log; gives who leads then.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, OperatorError> {
        match self.ask(RequestBody::Transfer { to }, true) {
            Ok(Done::Transferred(leader)) => Ok(leader),
            // Whom the operator wants to lead does.
            Err(OperatorError::Refused(NotExecuted::Transfer(TransferError::LeadsAlready))) if to.is_some() => {
                to.ok_or(OperatorError::Answer)
            }
            Ok(_) => Err(OperatorError::Answer),
            Err(error) => Err(error),
        }
    }

    /// Has the first node that answers make a snapshot; gives the last entry that it covers.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn snapshot(&self) -> Result<Index, OperatorError> {
        match self.ask(RequestBody::Snapshot, false)? {
            Done::SnapshotMade(through) => Ok(through),
            _ => Err(OperatorError::Answer),
        }
    }

    /// Asks one node after the other, and the leader where one is named, until there is an answer.
    fn ask(&self, body: RequestBody<'_>, leader_only: bool) -> Result<Done, OperatorError> {
        let begin = Instant::now();
        let end = begin + self.timeout;
        let mut last = Fault::Timeout;
        let mut named: Option<String> = None;
        let mut turn = 0;
        while Instant::now() < end {
            let listed = self.endpoints.get(turn % self.endpoints.len().max(1)).cloned();
            let Some(endpoint) = named.take().or(listed) else { break };
            match exchange((&endpoint, self.cluster), body, end) {
                Err(Failed::After(fault)) if leader_only => return Err(OperatorError::Unknown(fault)),
                Err(Failed::Before(fault) | Failed::After(fault)) => last = fault,
                Ok(Done::Unknown) => return Err(OperatorError::Unknown(Fault::Timeout)),
                Ok(Done::NotExecuted(reason, leader)) => match reason {
                    NotExecuted::Refused(ProposeError::NotLeader { .. })
                    | NotExecuted::Transfer(TransferError::NotLeader { .. })
                        if !leader.is_empty() && leader != endpoint =>
                    {
                        named = Some(leader);
                        continue;
                    }
                    NotExecuted::Refused(_)
                    | NotExecuted::Stopping
                    | NotExecuted::Overtaken
                    | NotExecuted::Transfer(TransferError::NotLeader { .. }) => last = Fault::Node(reason),
                    NotExecuted::Change(ChangeError::UnderWay)
                        if begin.elapsed() + PAUSE < self.timeout.min(UNDER_WAY_MAX) =>
                    {
                        last = Fault::Node(reason);
                    }
                    _ => return Err(OperatorError::Refused(reason)),
                },
                Ok(Done::Other) => return Err(OperatorError::Answer),
                Ok(done) => return Ok(done),
            }
            turn += 1;
            std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
        }
        Err(OperatorError::Unavailable(last))
    }
}

/// One request and its response, on a connection of its own.
fn exchange(
    (endpoint, cluster): (&str, Option<ClusterId>),
    body: RequestBody<'_>,
    end: Instant,
) -> Result<Done, Failed> {
    let (mut poll, mut connection) = connect(endpoint, cluster).map_err(Failed::Before)?;
    let mut events = Events::with_capacity(8);
    let established = Instant::now() + CONNECT_TIMEOUT;
    while !connection.is_established() {
        wait(&mut poll, &mut events, &mut connection, established.min(end)).map_err(Failed::Before)?;
    }
    let request = Request { id: RequestId(1), forward: false, body };
    connection.send(&request).map_err(|error| Failed::Before(error.into()))?;
    let lost = |fault: Fault| Failed::After(fault);
    connection.flush().map_err(|error| lost(error.into()))?;
    loop {
        if let Some(response) = connection.response().map_err(|error| lost(error.into()))? {
            // Nothing else was asked on this connection; what answers no question of ours is not an answer.
            if response.id == request.id {
                return Ok(done(&response));
            }
            continue;
        }
        wait(&mut poll, &mut events, &mut connection, end).map_err(lost)?;
    }
}

fn connect(endpoint: &str, cluster: Option<ClusterId>) -> Result<(Poll, ClientConnection), Fault> {
    let address = endpoint.to_socket_addrs()?.next().ok_or_else(|| Fault::Address(endpoint.to_owned()))?;
    let poll = Poll::new()?;
    let connection = ClientConnection::dial(address, cluster, FRAME_BYTES_MAX, poll.registry(), Token(0))?;
    Ok((poll, connection))
}

fn wait(poll: &mut Poll, events: &mut Events, connection: &mut ClientConnection, end: Instant) -> Result<(), Fault> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Fault::Timeout);
    }
    match poll.poll(events, Some(left)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
        _ => {}
    }
    for event in events.iter() {
        connection.ready(event)?;
    }
    Ok(())
}

fn done(response: &Response<'_>) -> Done {
    match response.body {
        ResponseBody::Members { entry, configuration } => match Configuration::decode(configuration.0) {
            Ok(configuration) => Done::Members(entry, Box::new(configuration)),
            Err(_) => Done::Other,
        },
        ResponseBody::Changed { entry } => Done::Changed(entry),
        ResponseBody::Transferred { to } => Done::Transferred(to),
        ResponseBody::SnapshotMade { through } => Done::SnapshotMade(through),
        ResponseBody::NotExecuted { reason, leader_address } => Done::NotExecuted(reason, leader_address.to_owned()),
        ResponseBody::Unknown => Done::Unknown,
        _ => Done::Other,
    }
}
