//! What must be so when all is well again and time has passed: healed members have what is committed, those that wait to become
//! voters are voters, nothing waits for a snapshot that nobody sends, and logs are as short as they are to be.

use std::collections::BTreeSet;

use raft_core::configuration::Configuration;
use raft_core::configuration::change::MemberChange;
use raft_core::raft::config::{Config, SNAPSHOT_KEEP_BYTES};
use raft_core::raft::{PeerStatus, Raft};
use raft_core::storage::Storage;
use raft_core::types::{Index, NodeId};

use super::heal::is_joining;
use super::{MILLI, World};
use crate::node::Process;
use crate::violation::Violation;
use crate::workload::Workload;

/// How far a healed member may lag behind its leader while time passes: clients go on to keep their sessions alive.
const LAG_ENTRIES_MAX: u64 = 5;
/// The log tells the bytes behind an entry to within so many.
const LOG_GRAIN_BYTES: u64 = (64 << 10) + 4_096;
/// How long it is waited between two looks, in milliseconds.
const LOOK_EVERY_MILLIS: u64 = 50;

impl<W: Workload> World<W> {
    /// Runs until all healed members are as they should be.
    ///
    /// # Errors
    /// [`Violation::Stuck`] if one still is not at `end`.
    pub(super) fn run_until_settled(
        &mut self,
        healed: &BTreeSet<NodeId>,
        began: u64,
        end: u64,
    ) -> Result<(), Violation> {
        while let Some(what) = self.unsettled(healed) {
            if self.now >= end {
                return Err(Violation::Stuck { what, millis: (self.now - began) / MILLI });
            }
            self.run_until((self.now + LOOK_EVERY_MILLIS * MILLI).min(end))?;
        }
        self.coverage.checked("healed members catch up", 1);
        Ok(())
    }

    /// What is not as it should be, if a healed member leads: over its links to the others all passes.
    fn unsettled(&self, healed: &BTreeSet<NodeId>) -> Option<String> {
        let leader = self.leaders().filter_map(|place| self.nodes.get(place)).find(|node| healed.contains(&node.id))?;
        let leader = leader.process()?;
        let sound = self.nodes.iter().filter(|node| healed.contains(&node.id) && !node.tampered && !node.suspect);
        sound.into_iter().find_map(|node| {
            let process = node.process()?;
            let what =
                member_lags(leader, process, node.id).or_else(|| log_is_long(process.replica().raft(), &node.raft));
            what.map(|what| format!("node {} {what}", node.id))
        })
    }
}

/// Why a member is not where its leader could have brought it.
fn member_lags<M>(leader: &Process<M>, process: &Process<M>, id: NodeId) -> Option<String>
where
    M: raft_core::machine::StateMachine,
{
    let (raft, configuration) = (process.replica().raft(), leader.replica().configuration());
    let (leads, member) = (leader.replica().raft(), configuration.member(id)?);
    if raft.commit().0 + LAG_ENTRIES_MAX < leads.commit().0 {
        let status = leads.status();
        let seen = status.followers.iter().find(|follower| follower.id == id).copied();
        return Some(format!("lags: it has {} of {} entries, {}", raft.commit(), leads.commit(), as_seen(seen)));
    }
    if let Some(reason) = raft.expelled().filter(|reason| !reason.concerns(member.added)) {
        return Some(format!("is a member again, and still expelled: {reason}"));
    }
    if is_joining(member) && may_be_promoted(configuration, leads.storage().last().index.next(), id) {
        return Some("waits to be promoted".to_owned());
    }
    raft.receives_snapshot().then(|| "keeps a part of a snapshot that it does not need".to_owned())
}

fn as_seen(follower: Option<PeerStatus>) -> String {
    follower.map_or_else(|| "its leader does not know it".to_owned(), |follower| format!("{follower:?}"))
}

fn may_be_promoted(configuration: &Configuration, at: Index, id: NodeId) -> bool {
    !configuration.is_joint() && configuration.change(at, &[MemberChange::Promote(id)], |_| true).is_ok()
}

/// What a log holds that it should hold no more.
fn log_is_long<S: Storage, const NODES: usize>(raft: &Raft<S, NODES>, config: &Config) -> Option<String> {
    let (storage, applied) = (raft.storage(), raft.last_applied());
    let snapshot = storage.snapshot();
    let latest = snapshot.map_or(Index::ZERO, |snapshot| snapshot.through.index);
    if applied <= latest || raft.awaits_restore() {
        return None;
    }
    // A follower that is sent the latest snapshot keeps the leader from making the next one for a while.
    let times = if raft.sends_snapshot() { 4 } else { 1 };
    let (entries, bytes) = (applied.since(latest), storage.bytes_behind(latest));
    if entries >= config.snapshot_after_entries.saturating_mul(times)
        || bytes >= config.snapshot_after_bytes.saturating_mul(times)
    {
        return Some(format!("has no snapshot of its last {entries} entries, {bytes} bytes"));
    }
    let base = storage.base().index;
    let before = latest.since(base);
    if before > config.snapshot_keep_entries {
        return Some(format!("keeps {before} entries before its snapshot"));
    }
    let least = snapshot.map_or(0, |snapshot| (snapshot.bytes / 4).max(SNAPSHOT_KEEP_BYTES));
    let bytes = storage.bytes_behind(base).saturating_sub(storage.bytes_behind(latest));
    let most = config.snapshot_keep_bytes_max.unwrap_or(least).saturating_add(LOG_GRAIN_BYTES);
    (bytes > most).then(|| format!("keeps {bytes} bytes of entries before its snapshot"))
}
