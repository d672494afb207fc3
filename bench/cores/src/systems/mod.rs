//! The systems that are compared, each as its documentation allows it to be fastest.

mod noraft;
mod openraft;
mod raft_core;
mod raft_rs;

use crate::work::{Cluster, Work};

/// A system, or one way to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Ours; replicas are shown each other's messages, which borrow the sender's log.
    RaftCore,
    /// Ours; messages are encoded, copied, decoded and checked, as over a network.
    RaftCoreEncoded,
    Noraft,
    RaftRs,
    Openraft,
}

impl System {
    pub(crate) const ALL: [System; 5] =
        [System::RaftCore, System::RaftCoreEncoded, System::Noraft, System::RaftRs, System::Openraft];

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::RaftCore => "raft-core",
            System::RaftCoreEncoded => "raft-core encoded",
            System::Noraft => "noraft",
            System::RaftRs => "raft-rs",
            System::Openraft => "openraft",
        }
    }

    /// A new cluster with a leader.
    pub(crate) fn start(self, work: Work) -> Box<dyn Cluster> {
        match self {
            System::RaftCore => raft_core::start(work, raft_core::Passing::Borrowed),
            System::RaftCoreEncoded => raft_core::start(work, raft_core::Passing::Encoded),
            System::Noraft => Box::new(noraft::Noraft::start(work)),
            System::RaftRs => Box::new(raft_rs::RaftRs::start(work)),
            System::Openraft => Box::new(openraft::Openraft::start(work)),
        }
    }
}
