//! The cluster's configuration: who its members are and what its limits are. It is part of the
//! log: entry 1 is the configuration the cluster was created with, and each later one takes its
//! place as soon as it is appended (dissertation, section 4.1). How one follows from another:
//! [`change`].

pub mod change;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{EntryHeader, EntryKind, HEADER_BYTES, Records};
use crate::session::limits::{LimitsError, SessionLimits};
use crate::snapshot::{self, Which};
use crate::storage::{HardState, ReadError, Storage};
use crate::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, Millis, NodeId, Term};

/// The most members a configuration can have, in both halves of a joint one together.
pub const MEMBERS_MAX: usize = 16;
/// The longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 96;
/// The longest encoding of a configuration, in bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 64 + 64 + MEMBERS_MAX * (64 + ADDRESS_BYTES_MAX);

/// The version of the configuration's encoding that this code reads and writes.
const VERSION: u8 = 2;

/// What a member takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Suffrage {
    /// Votes, and counts towards commitment.
    Voter,
    /// Receives the log and neither votes nor counts (dissertation, section 4.2.1).
    Learner,
    /// Votes, and counts towards commitment, but keeps entries without their payloads and no state
    /// machine; never leads.
    Witness,
    /// A learner that becomes a voter by itself once it has caught up.
    Joining,
    /// No part in the configuration to come: only a voter of the one being left.
    Leaving,
    /// The same of a witness.
    LeavingWitness,
    /// A learner that becomes a witness by itself once it has caught up, and gets entries as one.
    JoiningWitness,
}

/// The lease by which leaders answer reads without asking anybody: see [`Configuration::lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// For so long after it appended a committed entry a leader is sure that nothing was committed
    /// behind its back. A new leader commits nothing for as long.
    pub duration: Millis,
    /// How much faster or slower than another's a node's clock may run, in thousandths.
    pub drift_per_mille: u16,
}

impl Lease {
    /// The shortest time, on its own clock, for which a new leader waits.
    #[must_use]
    pub fn wait(&self) -> Millis {
        let drift = self.duration.0.saturating_mul(u64::from(self.drift_per_mille)).div_ceil(1000);
        // Its clock may be fast while the old leader's is slow; and clocks count whole milliseconds.
        Millis(self.duration.0.saturating_add(drift.saturating_mul(2)).saturating_add(1))
    }
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, unique in the cluster and never given to another.
    pub id: NodeId,
    /// What it takes part in from this configuration on.
    pub suffrage: Suffrage,
    /// Whether it is also a voter of the configuration being left (joint consensus, section 4.3).
    pub outgoing_voter: bool,
    /// The index of the configuration that added it: what is said of an earlier member with this id does not touch it.
    pub added: Index,
    /// The life of its storage that belongs to the cluster, where it is known.
    pub incarnation: Option<Incarnation>,
    /// Higher ones are preferred as leaders.
    pub priority: u8,
    /// Where the others reach it; means something only to the transport.
    pub address: String<ADDRESS_BYTES_MAX>,
}

impl Member {
    /// A voter with no preference.
    ///
    /// # Errors
    /// [`ConfigurationError::AddressTooLong`] over [`ADDRESS_BYTES_MAX`].
    pub fn voter(id: NodeId, address: &str) -> Result<Member, ConfigurationError> {
        Member::new(id, Suffrage::Voter, address)
    }

    /// A member with no preference, of the cluster's first configuration; a change sets the index itself.
    ///
    /// # Errors
    /// [`ConfigurationError::AddressTooLong`] over [`ADDRESS_BYTES_MAX`].
    pub fn new(id: NodeId, suffrage: Suffrage, address: &str) -> Result<Member, ConfigurationError> {
        let address =
            String::try_from(address).map_err(|_| ConfigurationError::AddressTooLong { bytes: address.len() })?;
        let added = Index::FIRST;
        Ok(Member { id, suffrage, outgoing_voter: false, added, incarnation: None, priority: 0, address })
    }

    /// Whether it votes in the configuration to come.
    #[must_use]
    pub fn votes(&self) -> bool {
        matches!(self.suffrage, Suffrage::Voter | Suffrage::Witness)
    }

    /// Whether it is a member only until the configuration has been left.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.suffrage, Suffrage::Leaving | Suffrage::LeavingWitness)
    }
}

/// The payload of a configuration entry. Guarantee of one that was made or decoded: members are
/// in order of their ids with no id twice, at least one votes, and the limits are valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    version: u8,
    cluster: ClusterId,
    limits: SessionLimits,
    members: Vec<Member, MEMBERS_MAX>,
    lease: Option<Lease>,
}

impl Configuration {
    /// The configuration of a new cluster; `members` in any order.
    ///
    /// # Errors
    /// Says which rule of a valid configuration does not hold.
    pub fn new(
        cluster: ClusterId,
        limits: SessionLimits,
        members: impl IntoIterator<Item = Member>,
    ) -> Result<Configuration, ConfigurationError> {
        let mut sorted = Vec::new();
        for member in members {
            sorted.push(member).map_err(|_| ConfigurationError::TooManyMembers)?;
        }
        sorted.sort_unstable_by_key(|member| member.id);
        let configuration = Configuration { version: VERSION, cluster, limits, members: sorted, lease: None };
        configuration.check()?;
        Ok(configuration)
    }

    /// The same with leases. They are fixed at the cluster's creation: a change of them could not
    /// reach a leader that is cut off.
    ///
    /// # Errors
    /// [`ConfigurationError::Lease`] for one that is never valid.
    pub fn with_lease(self, lease: Lease) -> Result<Configuration, ConfigurationError> {
        let configuration = Configuration { lease: Some(lease), ..self };
        configuration.check()?;
        Ok(configuration)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        if self.version != VERSION {
            return Err(ConfigurationError::Version { version: self.version });
        }
        self.limits.check()?;
        let ids = self.members.iter().map(|member| member.id);
        if let Some((_, id)) = ids.clone().zip(ids.skip(1)).find(|(this, next)| this >= next) {
            return Err(ConfigurationError::SameId { id });
        }
        if !self.members.iter().any(|member| member.suffrage == Suffrage::Voter) {
            return Err(ConfigurationError::NoVoter);
        }
        // If those that can lead were no majority, an entry that only witnesses have could keep all
        // of them from being elected for ever.
        let witness = |member: &Member| matches!(member.suffrage, Suffrage::Witness | Suffrage::LeavingWitness);
        let most_lead = |votes: fn(&Member) -> bool| {
            let voters = self.members.iter().filter(|member| votes(member));
            let (all, witnesses) =
                voters.fold((0, 0), |(all, witnesses), member| (all + 1, witnesses + u32::from(witness(member))));
            witnesses * 2 < all || all == 0
        };
        if !most_lead(Member::votes) || !most_lead(|member| member.outgoing_voter) {
            return Err(ConfigurationError::TooManyWitnesses);
        }
        let left = |member: &&Member| member.is_leaving() && !member.outgoing_voter;
        if let Some(member) = self.members.iter().find(left) {
            return Err(ConfigurationError::NoPart { id: member.id });
        }
        match self.lease {
            Some(lease) if lease.duration == Millis(0) || lease.drift_per_mille >= 1000 => {
                Err(ConfigurationError::Lease)
            }
            _ => Ok(()),
        }
    }

    /// The lease by which leaders answer reads without asking anybody, if this cluster allows it.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Whether two configurations hold together until the next entry ends the first of them
    /// (dissertation, section 4.3).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| member.outgoing_voter)
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The limits of the session table.
    #[must_use]
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// The members in order of their ids.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Writes the payload of the configuration's entry into `buffer`, which has room if it has
    /// [`CONFIGURATION_BYTES_MAX`].
    ///
    /// # Errors
    /// [`ConfigurationError::Encoding`] if the buffer is too short.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], ConfigurationError> {
        match postcard::to_slice(self, buffer) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(ConfigurationError::Encoding),
        }
    }

    /// Reads the payload of a configuration entry.
    ///
    /// # Errors
    /// [`ConfigurationError::Encoding`] for bytes that are none; else the rule that does not hold.
    pub fn decode(payload: &[u8]) -> Result<Configuration, ConfigurationError> {
        if let Some(&version) = payload.first()
            && version != VERSION
        {
            return Err(ConfigurationError::Version { version });
        }
        let configuration: Configuration = postcard::from_bytes(payload).map_err(|_| ConfigurationError::Encoding)?;
        configuration.check()?;
        Ok(configuration)
    }

    /// The checksum of this configuration as entry 1, by which nodes notice in their handshake that
    /// they were created with different members or limits.
    ///
    /// # Errors
    /// As [`Configuration::encode`].
    pub fn digest(&self) -> Result<u32, ConfigurationError> {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        Ok(crate::crc::crc32c(0, self.encode(&mut buffer)?))
    }
}

/// Writes entry 1 into an empty log: the cluster begins with it in term 1, and as every member
/// begins with the same one it is committed from the start. Flush the storage afterwards, before
/// a replica is made of it.
///
/// # Errors
/// [`BootstrapError::NotEmpty`] for a storage that holds anything; [`BootstrapError::Full`] if the
/// configuration does not fit into the log.
pub fn bootstrap<S: Storage>(storage: &mut S, configuration: &Configuration) -> Result<(), BootstrapError> {
    if storage.last() != EntryId::ZERO || storage.hard_state() != HardState::default() {
        return Err(BootstrapError::NotEmpty);
    }
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let payload = configuration.encode(&mut buffer)?;
    let id = EntryId::new(Term(1), Index::FIRST);
    let header = EntryHeader::new(id, ClusterTime::default(), EntryKind::Configuration, &[payload])
        .expect("a configuration is far shorter than the longest payload");
    storage.append(&header, &[payload]).map_err(|_| BootstrapError::Full)?;
    storage.set_hard_state(HardState { term: Term(1), ..HardState::default() });
    Ok(())
}

/// Reads the configuration that the log begins with: that of its snapshot, or entry 1. All that
/// never changes in the life of a cluster stands in it: its id, its limits, its lease.
///
/// # Errors
/// [`LoadError`] for a log without either: see [`bootstrap`].
pub fn first<S: Storage>(storage: &mut S) -> Result<Configuration, LoadError<S::Error>> {
    if storage.base() == EntryId::ZERO {
        return load(storage, Index::FIRST);
    }
    Ok(snapshot::open(storage, Which::Latest)?.1)
}

/// Reads the configuration that stands at `index` of the log.
///
/// # Errors
/// [`LoadError`] if the entry is no configuration, or cannot be read.
pub fn load<S: Storage>(storage: &mut S, index: Index) -> Result<Configuration, LoadError<S::Error>> {
    let records = storage.read(index, index, HEADER_BYTES + CONFIGURATION_BYTES_MAX)?;
    match Records::iter(&records).next() {
        Some(entry) if entry.header.kind == EntryKind::Configuration => Ok(Configuration::decode(entry.payload)?),
        _ => Err(LoadError::NoConfiguration { index }),
    }
}

/// Why a configuration is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// More than [`MEMBERS_MAX`] members.
    #[error("a configuration has at most {MEMBERS_MAX} members")]
    TooManyMembers,
    /// Two members with one id.
    #[error("two members have the id {id}; give each its own")]
    SameId {
        /// The id that stands twice.
        id: NodeId,
    },
    /// Nobody votes.
    #[error("no member is a voter; at least one is needed")]
    NoVoter,
    /// Too few voters could lead.
    #[error("as many voters are witnesses as are not, or more; most must be able to lead")]
    TooManyWitnesses,
    /// Somebody who takes no part in anything.
    #[error("member {id} is leaving a configuration in which it had no vote; leave it out")]
    NoPart {
        /// The member.
        id: NodeId,
    },
    /// A lease that is never valid.
    #[error("a lease must be longer than 0 ms, and clocks drift by less than 1000 thousandths")]
    Lease,
    /// An address over [`ADDRESS_BYTES_MAX`].
    #[error("the address has {bytes} bytes, over the limit of {ADDRESS_BYTES_MAX}")]
    AddressTooLong {
        /// The address's bytes.
        bytes: usize,
    },
    /// The session limits are not valid.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// Written by a newer version.
    #[error("the configuration has version {version}, and this program knows {VERSION}; run a newer one")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The bytes are no configuration, or the buffer is too short for one.
    #[error("the bytes are no configuration")]
    Encoding,
}

/// Why a log could not be given its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// The storage holds something already.
    #[error("the storage is not empty: it belongs to a cluster already")]
    NotEmpty,
    /// The log has no room for the first entry.
    #[error("the log has no room for its first entry; give it more")]
    Full,
    /// The configuration is not valid.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

/// Why a log's configuration could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The entry is something else.
    #[error("entry {index} is no configuration: this is no log of this program, or it is damaged")]
    NoConfiguration {
        /// The entry.
        index: Index,
    },
    /// The snapshot is not valid.
    #[error(transparent)]
    Snapshot(#[from] snapshot::OpenError<E>),
    /// The configuration is not valid.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The log or the snapshot could not be read.
    #[error("the configuration could not be read")]
    Read(#[from] ReadError<E>),
}

/// The default limits, but for sessions that live for a minute, with a member list, for tests and
/// examples: voters 1 to `voters` without addresses.
///
/// # Errors
/// As [`Configuration::new`].
pub fn voters(cluster: ClusterId, voters: u64) -> Result<Configuration, ConfigurationError> {
    let limits = SessionLimits { ttl: Millis(60_000), ..SessionLimits::default() };
    let members = (1..=voters).filter_map(NodeId::new).map(|id| Member::voter(id, ""));
    let mut list = Vec::<Member, MEMBERS_MAX>::new();
    for member in members {
        list.push(member?).map_err(|_| ConfigurationError::TooManyMembers)?;
    }
    Configuration::new(cluster, limits, list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingLog;

    #[test]
    fn a_configuration_reads_back_as_it_was_written_and_sorted() {
        let member = |id| Member::voter(NodeId::new(id).unwrap(), "127.0.0.1:7001").unwrap();
        let made =
            Configuration::new(ClusterId(5), SessionLimits::default(), [member(3), member(1), member(2)]).unwrap();
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let bytes = made.encode(&mut buffer).unwrap();
        assert_eq!(Configuration::decode(bytes).unwrap(), made);
        let ids: std::vec::Vec<u64> = made.members().iter().map(|member| member.id.get()).collect();
        assert_eq!(ids, [1, 2, 3]);
    }

    #[test]
    fn what_is_not_valid_is_refused_by_name() {
        let member = |id| Member::voter(NodeId::new(id).unwrap(), "").unwrap();
        let limits = SessionLimits::default();
        let refuse = |members: &[Member]| Configuration::new(ClusterId(5), limits, members.iter().cloned()).err();
        assert_eq!(refuse(&[]), Some(ConfigurationError::NoVoter));
        let twice = ConfigurationError::SameId { id: NodeId::new(2).unwrap() };
        assert_eq!(refuse(&[member(2), member(1), member(2)]), Some(twice));
        let learner = Member { suffrage: Suffrage::Learner, ..member(2) };
        assert_eq!(refuse(&[member(1), learner.clone()]), None);
        let witness = Member { suffrage: Suffrage::Witness, ..member(1) };
        assert_eq!(refuse(&[witness.clone(), learner]), Some(ConfigurationError::NoVoter));
        assert_eq!(refuse(&[witness.clone(), member(2)]), Some(ConfigurationError::TooManyWitnesses));
        assert_eq!(refuse(&[witness, member(2), member(3)]), None);
        let leaving = Member { suffrage: Suffrage::Leaving, ..member(2) };
        let none = ConfigurationError::NoPart { id: NodeId::new(2).unwrap() };
        assert_eq!(refuse(&[member(1), leaving]), Some(none));
        let forever = Lease { duration: Millis(0), drift_per_mille: 1 };
        let made = Configuration::new(ClusterId(5), limits, [member(1)]).unwrap();
        assert_eq!(made.with_lease(forever), Err(ConfigurationError::Lease));
        let many: std::vec::Vec<Member> = (1..=17).map(member).collect();
        assert_eq!(refuse(&many), Some(ConfigurationError::TooManyMembers));
        assert!(Member::voter(NodeId::new(1).unwrap(), &"x".repeat(97)).is_err());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        assert_eq!(Configuration::decode(&[3, 0, 0]), Err(ConfigurationError::Version { version: 3 }));
        assert_eq!(Configuration::decode(&[2, 0]), Err(ConfigurationError::Encoding));
        assert_eq!(Configuration::decode(&[]), Err(ConfigurationError::Encoding));
    }

    #[test]
    fn the_largest_configuration_fits_its_bound() {
        let long = "x".repeat(ADDRESS_BYTES_MAX);
        let member = |id| Member {
            incarnation: Some(Incarnation(u128::MAX)),
            priority: 255,
            ..Member::voter(NodeId::new(id).unwrap(), &long).unwrap()
        };
        let members = (0..16).map(|n| member(u64::MAX - n));
        let largest = Configuration::new(ClusterId(u128::MAX), SessionLimits::default(), members).unwrap();
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let length = largest.encode(&mut buffer).unwrap().len();
        assert!(CONFIGURATION_BYTES_MAX - length < CONFIGURATION_BYTES_MAX / 4, "{length} bytes");
    }

    #[test]
    fn the_digest_is_the_checksum_of_the_payload() {
        let (three, four) = (voters(ClusterId(1), 3).unwrap(), voters(ClusterId(1), 4).unwrap());
        assert_eq!(three.limits().ttl, Millis(60_000));
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        assert_eq!(three.digest(), Ok(crate::crc::crc32c(0, three.encode(&mut buffer).unwrap())));
        assert_ne!(three.digest(), four.digest());
    }

    #[test]
    fn a_lease_is_waited_for_by_the_slowest_count() {
        let wait = |duration, drift_per_mille| Lease { duration: Millis(duration), drift_per_mille }.wait();
        assert_eq!(wait(1000, 0), Millis(1001));
        assert_eq!(wait(1000, 10), Millis(1021));
        assert_eq!(wait(150, 10), Millis(155), "fractions of a millisecond are waited for, too");
    }

    #[test]
    fn a_storage_that_holds_anything_is_not_bootstrapped() {
        let configuration = voters(ClusterId(1), 3).unwrap();
        let mut voted = RingLog::<4, 1024>::new();
        voted.set_hard_state(HardState { term: Term(1), ..HardState::default() });
        assert_eq!(bootstrap(&mut voted, &configuration), Err(BootstrapError::NotEmpty));
        let mut filled = RingLog::<4, 1024>::new();
        let header = EntryHeader::new(EntryId::new(Term(1), Index(1)), ClusterTime(0), EntryKind::Noop, &[]).unwrap();
        filled.append(&header, &[]).unwrap();
        assert_eq!(bootstrap(&mut filled, &configuration), Err(BootstrapError::NotEmpty));
        let mut empty = RingLog::<4, 1024>::new();
        bootstrap(&mut empty, &configuration).unwrap();
        assert_eq!(load(&mut empty, Index(1)).unwrap(), configuration);
        assert!(matches!(load(&mut filled, Index(1)), Err(LoadError::NoConfiguration { index: Index(1) })));
    }
}
