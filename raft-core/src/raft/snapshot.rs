//! Sending a snapshot to a follower whose next entry has been compacted (Raft paper, section 7):
//! in parts, of which a bounded number of bytes is under way, and which it can ask for again.

use crate::crc::crc32c;
use crate::message::{Body, Message};
use crate::raft::event::Event;
use crate::raft::progress::{Answer, ProgressState};
use crate::raft::ready::Envelope;
use crate::raft::role::Role;
use crate::raft::{Raft, StepError};
use crate::snapshot::{HEAD_BYTES_MAX, Head};
use crate::storage::{ReadError, SnapshotId, Storage};
use crate::types::{EntryId, NodeId};
use crate::wire::Bytes;

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// Begins to send the latest snapshot to the follower at `position`, or to send it anew since
    /// there is a later one. Gives whether there is one.
    pub(super) fn begin_snapshot(&mut self, position: usize) -> Result<bool, S::Error> {
        let Some(peer) = self.membership.peer(position).copied() else { return Ok(false) };
        let Some(latest) = self.storage.snapshot() else { return Ok(false) };
        let snapshot = if peer.is_witness() { self.beginning_of(latest)? } else { Some(latest) };
        let (Some(snapshot), Role::Leader(leader)) = (snapshot, &mut self.role) else { return Ok(false) };
        if let Some(follower) = leader.followers.get_mut(position) {
            follower.begin_snapshot(snapshot);
        }
        self.tell(Event::SnapshotSending { to: peer.id, through: snapshot.through });
        Ok(true)
    }

    /// What a witness needs of the snapshot: its head and configuration.
    fn beginning_of(&mut self, latest: SnapshotId) -> Result<Option<SnapshotId>, S::Error> {
        let read = |result: Result<&[u8], ReadError<S::Error>>| match result {
            Ok(bytes) => Ok(Some((Head::decode(bytes).ok(), crc32c(0, bytes)))),
            Err(ReadError::Missing(_)) => Ok(None),
            Err(ReadError::Failed(error)) => Err(error),
        };
        let Some((Some(head), _)) = read(self.storage.read_snapshot(0, HEAD_BYTES_MAX))? else { return Ok(None) };
        let bytes = head.sessions_at();
        let beginning = read(self.storage.read_snapshot(0, usize::try_from(bytes).unwrap_or(usize::MAX)))?;
        Ok(beginning.map(|(_, checksum)| SnapshotId { bytes, checksum, ..latest }))
    }

    /// The next part for the follower at `position`, if it may be sent; an empty one if it must be
    /// heard from.
    pub(super) fn next_part(
        &mut self,
        envelope: Envelope,
        position: usize,
        bytes_max: usize,
    ) -> Result<Option<Message<'_>>, S::Error> {
        let latest = self.storage.snapshot().map(|snapshot| snapshot.through);
        let Role::Leader(leader) = &self.role else { return Ok(None) };
        let Some(follower) = leader.followers.get(position) else { return Ok(None) };
        let ProgressState::Snapshot(sending) = follower.state else { return Ok(None) };
        // The one that was being sent is not held any more.
        if latest != Some(sending.snapshot.through) && !self.begin_snapshot(position)? {
            return Ok(None);
        }
        let Role::Leader(leader) = &mut self.role else { return Ok(None) };
        let Some(follower) = leader.followers.get_mut(position) else { return Ok(None) };
        let ProgressState::Snapshot(sending) = &mut follower.state else { return Ok(None) };
        let (snapshot, offset, round) = (sending.snapshot, sending.sent, leader.round);
        let under_way = sending.sent.saturating_sub(sending.acknowledged);
        let window = self.config.snapshot_inflight_bytes_max.saturating_sub(under_way);
        let bytes_max = bytes_max.min(self.config.message_bytes_max) as u64;
        let part = window.min(bytes_max).min(snapshot.bytes.saturating_sub(offset));
        if part == 0 && follower.round_sent >= round {
            return Ok(None);
        }
        let data = match self.storage.read_snapshot(offset, usize::try_from(part).unwrap_or(usize::MAX)) {
            Ok(data) => data,
            Err(ReadError::Missing(_)) => &[],
            Err(ReadError::Failed(error)) => return Err(error),
        };
        sending.sent = sending.sent.saturating_add(data.len() as u64);
        follower.round_sent = round;
        leader.round_used = true;
        Ok(Some(envelope.says(Body::Snapshot { snapshot, offset, round, data: Bytes(data) })))
    }

    pub(super) fn on_snapshot_reply(
        &mut self,
        from: NodeId,
        answer: Answer,
        through: EntryId,
        received: u64,
        resend: bool,
    ) -> Result<(), StepError> {
        let Some(position) = self.membership.position(from) else { return Ok(()) };
        let Role::Leader(leader) = &mut self.role else { return Ok(()) };
        if answer.round > leader.round {
            return Err(StepError::NeverSent);
        }
        let Some(follower) = leader.followers.get_mut(position) else { return Ok(()) };
        if !follower.answered(answer, self.now) {
            return Ok(());
        }
        follower.snapshot_received(through, received, resend);
        self.confirm_reads();
        Ok(())
    }
}
