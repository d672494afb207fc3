//! The systems that are compared, each as its documentation allows it to be fastest.

mod noraft;
mod openraft;
mod raft_core;
mod raft_rs;

use bytes::Bytes;

use crate::work::{Cluster, Work};

/// A system, or one way to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Ours; replicas are shown each other's messages, which borrow the sender's log.
    RaftCore,
    /// Ours; messages are encoded, copied, decoded and checked, as over a network.
    RaftCoreEncoded,
    Noraft,
    /// With a checksum for each payload, as raft-core's entries have.
    NoraftChecked,
    /// Each replica's log holds a copy of the payloads, as on three machines.
    RaftRs,
    /// The replicas share one copy by reference counting, as only replicas in one process can.
    RaftRsShared,
    Openraft,
    OpenraftShared,
}

/// Where the payloads of the followers' logs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Own,
    Shared,
}

impl Payload {
    /// What a follower's log keeps of what it was sent.
    fn keep(self, bytes: Bytes) -> Bytes {
        if self == Payload::Own { Bytes::copy_from_slice(&bytes) } else { bytes }
    }
}

impl System {
    pub(crate) const ALL: [System; 8] = [
        System::RaftCore,
        System::RaftCoreEncoded,
        System::Noraft,
        System::NoraftChecked,
        System::RaftRs,
        System::RaftRsShared,
        System::Openraft,
        System::OpenraftShared,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::RaftCore => "raft-core",
            System::RaftCoreEncoded => "raft-core encoded",
            System::Noraft => "noraft",
            System::NoraftChecked => "noraft checked",
            System::RaftRs => "raft-rs",
            System::RaftRsShared => "raft-rs shared",
            System::Openraft => "openraft",
            System::OpenraftShared => "openraft shared",
        }
    }

    /// What raft-core promises: nothing is allocated for an entry, nor for anything else once it runs.
    pub(crate) fn needs_no_heap(self) -> bool {
        matches!(self, System::RaftCore | System::RaftCoreEncoded)
    }

    /// A new cluster with a leader.
    pub(crate) fn start(self, work: Work) -> Box<dyn Cluster> {
        match self {
            System::RaftCore => raft_core::start(work, raft_core::Passing::Borrowed),
            System::RaftCoreEncoded => raft_core::start(work, raft_core::Passing::Encoded),
            System::Noraft => Box::new(noraft::Noraft::start(work, noraft::Checks::None)),
            System::NoraftChecked => Box::new(noraft::Noraft::start(work, noraft::Checks::Payloads)),
            System::RaftRs => Box::new(raft_rs::RaftRs::start(work, Payload::Own)),
            System::RaftRsShared => Box::new(raft_rs::RaftRs::start(work, Payload::Shared)),
            System::Openraft => Box::new(openraft::Openraft::start(work, Payload::Own)),
            System::OpenraftShared => Box::new(openraft::Openraft::start(work, Payload::Shared)),
        }
    }
}
