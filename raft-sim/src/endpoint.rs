//! A node's side of the simulated network: what its event loop sees of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::rc::Rc;

use raft_core::client::protocol::{Request, RequestBody, RequestId, Response};
use raft_core::configuration::Configuration;
use raft_core::message::{Body, Message};
use raft_core::transport::{ClientId, Network, Transport, Wake};
use raft_core::types::{Incarnation, Index, Millis, NodeId};
use raft_transport_tcp::frame::{self, Frame, FrameKind};

use crate::judge::Forwarding;
use crate::thread::Thread;

/// The longest body of a frame.
const FRAME_BODY_BYTES_MAX: usize = 4 << 20;
/// The most requests of clients that wait at one node; a network would not read further from its clients.
const REQUESTS_MAX: usize = 256;

/// A frame on its way between two members.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    /// The life of the sender's storage: what a handshake would have told.
    pub(crate) incarnation: Incarnation,
    /// Which life of the receiver's storage it is meant for, as far as the sender knows.
    pub(crate) meant_for: Option<Incarnation>,
    pub(crate) frame: Vec<u8>,
    /// Whether bits of it were changed on the way.
    pub(crate) damaged: bool,
}

/// A frame that a node has sent.
#[derive(Debug)]
pub(crate) enum Departing {
    Message {
        to: NodeId,
        meant_for: Option<Incarnation>,
        frame: Vec<u8>,
    },
    /// And which entries the node had applied when it answered.
    Response {
        client: ClientId,
        frame: Vec<u8>,
        applied: Index,
    },
}

/// A request that a node has taken from the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) client: ClientId,
    pub(crate) id: RequestId,
    /// Whether all that had happened in the world was before the loop's eyes then.
    pub(crate) present: bool,
}

/// What has arrived at a node, and what it has sent.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) arrived: VecDeque<Packet>,
    pub(crate) requests: VecDeque<(ClientId, Vec<u8>)>,
    /// What the loop does not see yet: it came after the thread had lost the processor, or the driver has not read so far.
    pub(crate) unseen: VecDeque<Packet>,
    pub(crate) unseen_requests: VecDeque<(ClientId, Vec<u8>)>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) departing: Vec<Departing>,
    /// Peers whose links take nothing now.
    pub(crate) closed: BTreeSet<NodeId>,
    /// Peers whose connections to this node have ended, which its loop has not seen.
    pub(crate) ended: BTreeSet<NodeId>,
    /// The bytes of entries that a link takes in one message.
    pub(crate) room_bytes: usize,
    /// The members and the lives of their storages, as far as the configuration says.
    members: Vec<(NodeId, Option<Incarnation>)>,
    /// The lives that have been met.
    met: BTreeMap<NodeId, Incarnation>,
    /// Frames that were found damaged and dropped.
    pub(crate) found_damaged: u64,
    /// Damaged frames that nobody noticed.
    pub(crate) taken_damaged: u64,
    /// Frames of storages that do not belong to the member they speak for.
    pub(crate) refused: u64,
    /// Operations that came, or were sent on, since somebody looked last.
    pub(crate) forwardings: Vec<Forwarding>,
}

impl Post {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, room_bytes: usize) -> Post {
        Post {
            node,
            incarnation,
            arrived: VecDeque::new(),
            requests: VecDeque::new(),
            unseen: VecDeque::new(),
            unseen_requests: VecDeque::new(),
            taken: Vec::new(),
            departing: Vec::new(),
            closed: BTreeSet::new(),
            ended: BTreeSet::new(),
            room_bytes,
            members: Vec::new(),
            met: BTreeMap::new(),
            found_damaged: 0,
            taken_damaged: 0,
            refused: 0,
            forwardings: Vec::new(),
        }
    }

    /// The loop sees all packets that have come.
    pub(crate) fn let_in_packets(&mut self) {
        self.arrived.append(&mut self.unseen);
    }

    /// The loop sees all requests that have come.
    pub(crate) fn let_in_requests(&mut self) {
        self.requests.append(&mut self.unseen_requests);
    }

    /// The loop sees no more than so many packets and requests for now.
    pub(crate) fn keep_back(&mut self, packets: usize, requests: usize) {
        self.unseen = self.arrived.split_off(packets.min(self.arrived.len()));
        self.unseen_requests = self.requests.split_off(requests.min(self.requests.len()));
    }

    /// Whether something waits to be taken in.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.arrived.is_empty() || !self.requests.is_empty()
    }

    /// A packet has arrived; the loop sees it at once, or when it has the processor again.
    pub(crate) fn take_packet(&mut self, packet: Packet, seen: bool) {
        if seen { &mut self.arrived } else { &mut self.unseen }.push_back(packet);
    }

    /// A request has arrived. Those that are too many are read by no network before there is room.
    pub(crate) fn take_request(&mut self, client: ClientId, frame: Vec<u8>, seen: bool) {
        if self.requests.len() + self.unseen_requests.len() < REQUESTS_MAX {
            if seen { &mut self.requests } else { &mut self.unseen_requests }.push_back((client, frame));
        }
    }

    /// The process is gone, and with it its sockets.
    pub(crate) fn clear(&mut self) {
        self.let_in_packets();
        self.let_in_requests();
        self.arrived.clear();
        self.requests.clear();
        self.taken.clear();
    }

    /// The life of a member's storage, where the configuration says it.
    fn registered(&self, node: NodeId) -> Option<Incarnation> {
        self.members.iter().find(|(member, _)| *member == node).and_then(|(_, incarnation)| *incarnation)
    }

    /// Whether the handshake would have brought the two together: each looks at what the other one is.
    fn admits(&self, packet: &Packet) -> bool {
        let sender = self.registered(packet.from).is_none_or(|registered| registered == packet.incarnation);
        sender && packet.meant_for.is_none_or(|meant| meant == self.incarnation)
    }

    /// Takes the next frame that holds a message.
    fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            let packet = self.arrived.pop_front()?;
            if !self.admits(&packet) {
                self.refused += 1;
                continue;
            }
            let body = body(&packet.frame, FrameKind::Message).filter(|body| Message::decode(body).is_ok());
            let Some(body) = body else {
                self.found_damaged += 1;
                continue;
            };
            self.taken_damaged += u64::from(packet.damaged);
            self.met.insert(packet.from, packet.incarnation);
            return Some(body.to_vec());
        }
    }
}

/// The body of the one frame that `bytes` are.
pub(crate) fn body(bytes: &[u8], kind: FrameKind) -> Option<&[u8]> {
    let frame = Frame::decode(bytes, FRAME_BODY_BYTES_MAX).ok()??;
    (frame.kind == kind && frame.bytes() == bytes.len()).then_some(frame.body)
}

/// A frame around `body`.
pub(crate) fn framed(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let header = frame::header(kind, body).expect("bodies here are far shorter than 4 GiB");
    [&header, body].concat()
}

/// A frame that carries a request.
pub(crate) fn request_frame(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = vec![0; request.bytes_max()];
    let length = request.encode(&mut bytes).expect("the buffer has room for the request");
    bytes.truncate(length);
    framed(FrameKind::Request, &bytes)
}

/// The request in a frame, if it is one.
pub(crate) fn request_in(frame: &[u8]) -> Option<Request<'_>> {
    Request::decode(body(frame, FrameKind::Request)?).ok()
}

/// The response in a frame, if it is one.
pub(crate) fn response_in(frame: &[u8]) -> Option<Response<'_>> {
    Response::decode(body(frame, FrameKind::Response)?).ok()
}

/// The mail of one node, shared by the world and the node's loop.
pub(crate) type SharedPost = Rc<RefCell<Post>>;

/// The links of one node to the others.
pub(crate) struct SimPeers {
    thread: Rc<Thread>,
    post: SharedPost,
    current: Vec<u8>,
}

impl SimPeers {
    pub(crate) fn new(thread: Rc<Thread>, post: SharedPost) -> SimPeers {
        SimPeers { thread, post, current: Vec::new() }
    }
}

impl Transport for SimPeers {
    fn receive(&mut self) -> Option<Message<'_>> {
        self.thread.call();
        self.current = self.post.borrow_mut().message()?;
        let message = Message::decode(&self.current).ok()?;
        if let Body::Forward { secret, operation, .. } = &message.body {
            self.post.borrow_mut().forwardings.push(Forwarding::new(true, *secret, operation));
        }
        Some(message)
    }

    fn closed_link(&mut self) -> Option<NodeId> {
        self.post.borrow_mut().ended.pop_first()
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        let post = self.post.borrow();
        (!post.closed.contains(&peer)).then_some(post.room_bytes)
    }

    fn send(&mut self, message: &Message<'_>) {
        self.thread.call();
        if self.room(message.to).is_none() {
            return;
        }
        let mut bytes = vec![0; message.bytes_max()];
        let length = message.encode(&mut bytes).expect("the buffer has room for the message");
        bytes.truncate(length);
        let frame = framed(FrameKind::Message, &bytes);
        let mut post = self.post.borrow_mut();
        if let Body::Forward { secret, operation, .. } = &message.body {
            post.forwardings.push(Forwarding::new(false, *secret, operation));
        }
        let meant_for = post.registered(message.to);
        post.departing.push(Departing::Message { to: message.to, meant_for, frame });
    }

    fn flush(&mut self) {}

    fn configure(&mut self, configuration: &Configuration) {
        let members = configuration.members().iter().map(|member| (member.id, member.incarnation)).collect();
        self.post.borrow_mut().members = members;
    }

    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        let post = self.post.borrow();
        if node == post.node { Some(post.incarnation) } else { post.met.get(&node).copied() }
    }
}

/// The whole network of one node.
pub(crate) struct SimNetwork {
    thread: Rc<Thread>,
    post: SharedPost,
    current: Vec<u8>,
}

impl SimNetwork {
    pub(crate) fn new(thread: Rc<Thread>, post: SharedPost) -> SimNetwork {
        SimNetwork { thread, post, current: Vec::new() }
    }
}

/// Wakes nobody: the world turns a node whenever it has mail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

impl Network for SimNetwork {
    type Peers = SimPeers;
    type Waker = NoWaker;
    type Error = Infallible;

    fn waker(&self) -> NoWaker {
        NoWaker
    }

    fn wait(&mut self, _: &mut SimPeers, _: Option<Millis>) -> Result<(), Infallible> {
        Ok(())
    }

    fn request(&mut self) -> Option<(ClientId, Request<'_>)> {
        self.thread.call();
        let client = loop {
            let (client, frame) = self.post.borrow_mut().requests.pop_front()?;
            // What was damaged on the way ends the connection; the client hears nothing.
            if let Some(body) = body(&frame, FrameKind::Request).filter(|body| Request::decode(body).is_ok()) {
                self.current = body.to_vec();
                break client;
            }
            self.post.borrow_mut().found_damaged += 1;
        };
        let request = Request::decode(&self.current).ok()?;
        if let RequestBody::Operate { secret, operation } = &request.body {
            self.post.borrow_mut().forwardings.push(Forwarding::new(true, *secret, operation));
        }
        let taken = Taken { client, id: request.id, present: self.thread.is_present() };
        self.post.borrow_mut().taken.push(taken);
        Some((client, request))
    }

    fn respond(&mut self, client: ClientId, response: &Response<'_>) {
        self.thread.call();
        let mut bytes = vec![0; response.bytes_max()];
        let length = response.encode(&mut bytes).expect("the buffer has room for the response");
        bytes.truncate(length);
        let frame = framed(FrameKind::Response, &bytes);
        let applied = self.thread.applied();
        self.post.borrow_mut().departing.push(Departing::Response { client, frame, applied });
    }

    fn flush(&mut self) {}
}
