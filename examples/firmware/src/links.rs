//! The links of one node: frames in fixed memory. What takes them from node to node, here a loop
//! in [`crate::group`], on a board a radio or a bus, sees only bytes.

use heapless::{Deque, Vec};
use raft_core::message::{MESSAGE_HEAD_BYTES_MAX, Message};
use raft_core::transport::Transport;
use raft_core::types::NodeId;

/// The most bytes of entries in one message.
pub(crate) const ENTRY_BYTES_MAX: usize = 160;
/// The longest encoding of a message.
const FRAME_BYTES_MAX: usize = MESSAGE_HEAD_BYTES_MAX + ENTRY_BYTES_MAX;
/// The frames that may wait to be sent to one peer, and to be received from all of them.
const OUTGOING_MAX: usize = 2;
const INCOMING_MAX: usize = 4;

/// One encoded message.
pub(crate) type Frame = Vec<u8, FRAME_BYTES_MAX>;

/// The links of one node to `PEERS` others.
#[derive(Debug)]
pub(crate) struct Links<const PEERS: usize> {
    outgoing: Vec<Outgoing, PEERS>,
    incoming: Deque<Frame, INCOMING_MAX>,
    /// The frame that the last message was read from.
    current: Frame,
}

#[derive(Debug)]
struct Outgoing {
    peer: NodeId,
    frames: Deque<Frame, OUTGOING_MAX>,
}

impl<const PEERS: usize> Links<PEERS> {
    /// Links to these peers, of which there are at most `PEERS`.
    pub(crate) fn new(peers: impl Iterator<Item = NodeId>) -> Links<PEERS> {
        let outgoing = peers.map(|peer| Outgoing { peer, frames: Deque::new() }).collect();
        Links { outgoing, incoming: Deque::new(), current: Frame::new() }
    }

    /// Takes the next frame that is to be sent, with whom it is for.
    pub(crate) fn take_outgoing(&mut self) -> Option<(NodeId, Frame)> {
        self.outgoing.iter_mut().find_map(|link| Some((link.peer, link.frames.pop_front()?)))
    }

    /// Brings a frame; without room for it, it is lost, as it may be on any network.
    pub(crate) fn bring(&mut self, frame: Frame) {
        let _lost = self.incoming.push_back(frame);
    }

    fn link(&self, peer: NodeId) -> Option<&Outgoing> {
        self.outgoing.iter().find(|link| link.peer == peer)
    }
}

impl<const PEERS: usize> Transport for Links<PEERS> {
    /// A frame that is no message ends the round, as if nothing more had arrived.
    fn receive(&mut self) -> Option<Message<'_>> {
        self.current = self.incoming.pop_front()?;
        Message::decode(&self.current).ok()
    }

    fn room(&self, peer: NodeId) -> Option<usize> {
        (!self.link(peer)?.frames.is_full()).then_some(ENTRY_BYTES_MAX)
    }

    fn send(&mut self, message: &Message<'_>) {
        let Some(link) = self.outgoing.iter_mut().find(|link| link.peer == message.to) else { return };
        let mut frame = Frame::new();
        frame.resize_default(FRAME_BYTES_MAX).expect("a frame can be as long as its bound");
        let Ok(length) = message.encode(&mut frame) else { return };
        frame.truncate(length);
        let _lost = link.frames.push_back(frame);
    }

    /// Frames are taken from here; there is nothing to hand on.
    fn flush(&mut self) {}
}
