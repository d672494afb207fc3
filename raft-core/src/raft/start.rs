//! A node that starts, or starts again, with what its storage holds.

use heapless::Vec;
use thiserror::Error;

use crate::back_off::BackOff;
use crate::configuration::{self, Configuration, LoadError};
use crate::entry::EntryKind;
use crate::message::ReadTicket;
use crate::raft::Raft;
use crate::raft::config::{Config, ConfigError};
use crate::raft::event::Events;
use crate::raft::membership::{Membership, TooMany};
use crate::raft::role::{Follower, Role};
use crate::random::Random;
use crate::snapshot::{self, Which};
use crate::storage::{Saved, Storage};
use crate::types::{EntryId, Index, Instant, NodeId, Term};

/// The most bytes of entries that one read asks for while the log is searched for configurations.
const SCAN_BYTES: usize = 64 << 10;

impl<S: Storage, const NODES: usize> Raft<S, NODES> {
    /// A node that starts, or starts again, with what its storage holds, as a follower.
    ///
    /// All that is in the storage's view must be durable already. The node need not be a member of
    /// the configuration that it finds there: it may have been added since, or will be.
    ///
    /// # Errors
    /// Says what in the settings, the configuration or the storage does not fit.
    pub fn new(id: NodeId, config: Config, mut storage: S, now: Instant) -> Result<Raft<S, NODES>, NewError<S::Error>> {
        if storage.last() == EntryId::ZERO {
            return Err(NewError::Empty);
        }
        let first = configuration::first(&mut storage)?;
        let (membership, previous) = memberships(&mut storage, &first)?;
        Raft::with_members(id, config, &first, (membership, previous), storage, now)
    }

    /// A node that joins a cluster that runs: its log is empty, and all of it comes from the leader,
    /// once it has been added as a member. Of `configuration`, as a member told it, only the id of
    /// the cluster and its lease are taken.
    ///
    /// # Errors
    /// As [`Raft::new`]; [`NewError::NotEmpty`] if there is a log already.
    pub fn join(
        id: NodeId,
        config: Config,
        configuration: &Configuration,
        storage: S,
        now: Instant,
    ) -> Result<Raft<S, NODES>, NewError<S::Error>> {
        if storage.last() != EntryId::ZERO {
            return Err(NewError::NotEmpty);
        }
        Raft::with_members(id, config, configuration, (Membership::none(), None), storage, now)
    }

    fn with_members(
        id: NodeId,
        config: Config,
        first: &Configuration,
        (membership, previous): (Membership<NODES>, Option<Membership<NODES>>),
        mut storage: S,
        now: Instant,
    ) -> Result<Raft<S, NODES>, NewError<S::Error>> {
        const { assert!(NODES > 0, "a cluster has at least one member") };
        config.check()?;
        let saved = storage.saved().map_err(NewError::Storage)?;
        if saved != (Saved { hard_state: storage.hard_state(), through: storage.last() }) {
            return Err(NewError::NotSaved);
        }
        let mut random = Random::new(config.seed);
        let last_ticket = ReadTicket(random.next() >> 1);
        let patience = random.timeout(config.election_timeout);
        let election_at = now.after(patience);
        let snapshot = storage.snapshot();
        let mut raft = Raft {
            id,
            cluster: first.cluster(),
            lease: first.lease(),
            configured: previous.as_ref().map_or(membership.entry, |previous: &Membership<NODES>| previous.entry),
            membership,
            previous,
            now,
            random,
            patience,
            saved,
            // Every member begins with entry 1, so that it is committed without a leader.
            commit: snapshot.map_or(Index::FIRST.min(storage.last().index), |snapshot| snapshot.through.index),
            applied: Index::ZERO,
            restore: snapshot.is_some(),
            role: Role::Follower(Follower { election_at, leader: None }),
            replies: Vec::new(),
            draft: None,
            receive_again: BackOff::default(),
            taken_at: now,
            hand_over_at: now,
            last_ticket,
            last_ticket_term: Term::ZERO,
            removed: None,
            expelled: storage.hard_state().expelled,
            suspect: storage.suspect_through().map(|through| (through, storage.hard_state().term)),
            elections_won: 0,
            events: Events::default(),
            config,
            storage,
        };
        // The power may have gone after the configuration became durable, and before this did.
        raft.readmit();
        raft.check_invariants();
        Ok(raft)
    }
}

/// The last configuration in the log, and the one before it. `first` is that of the snapshot, or
/// of entry 1.
#[allow(clippy::type_complexity, reason = "it is written out once")]
fn memberships<S: Storage, const NODES: usize>(
    storage: &mut S,
    first: &Configuration,
) -> Result<(Membership<NODES>, Option<Membership<NODES>>), NewError<S::Error>> {
    let made = |entry, configuration: &Configuration| {
        Membership::new(entry, configuration)
            .map_err(|TooMany(members)| NewError::TooManyMembers { members, most: NODES })
    };
    let (base, last) = (storage.base(), storage.last().index);
    let entry = match base {
        EntryId::ZERO => EntryId::ZERO,
        _ => snapshot::open(storage, Which::Latest).map_err(LoadError::from)?.0.configuration,
    };
    let (mut latest, mut previous) = (made(entry, first)?, None);
    let mut next = base.index.next();
    while next <= last {
        let records = storage.read(next, last, SCAN_BYTES).map_err(LoadError::from)?;
        for entry in records.iter().filter(|entry| entry.header.kind == EntryKind::Configuration) {
            // The snapshot may cover entries that the log still holds.
            if entry.header.id() > latest.entry {
                let configuration = Configuration::decode(entry.payload).map_err(LoadError::from)?;
                let earlier = core::mem::replace(&mut latest, made(entry.header.id(), &configuration)?);
                previous = (earlier.entry != EntryId::ZERO).then_some(earlier);
            }
        }
        next = records.last().index.next();
    }
    Ok((latest, previous))
}

/// Why a node could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewError<E> {
    /// The settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration could not be found in the storage.
    #[error(transparent)]
    Load(#[from] LoadError<E>),
    /// The cluster is larger than this program was built for.
    #[error("the cluster has {members} members, and this program was built for at most {most}")]
    TooManyMembers {
        /// Its members.
        members: usize,
        /// What the program was built for.
        most: usize,
    },
    /// The storage holds no first entry.
    #[error("the log is empty: give it its first entry to create a cluster, or join one")]
    Empty,
    /// The storage of a node that is to join a cluster belongs to one already.
    #[error("the log is not empty: the node is part of a cluster already; start it without joining")]
    NotEmpty,
    /// The storage holds something that is not durable.
    #[error("all that the storage holds must be durable: flush it first")]
    NotSaved,
    /// The storage failed.
    #[error("the storage failed")]
    Storage(#[source] E),
}
