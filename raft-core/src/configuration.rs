//! The cluster's configuration: who its members are and what its limits are. It is part of the
//! log: entry 1 is the configuration the cluster was created with.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::entry::{EntryHeader, EntryKind, HEADER_BYTES, Records};
use crate::session::limits::{LimitsError, SessionLimits};
use crate::storage::{HardState, ReadError, Storage};
use crate::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, Millis, NodeId, Term};

/// The most members a configuration can have, in both halves of a joint one together.
pub const MEMBERS_MAX: usize = 16;
/// The longest address of a member, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 96;
/// The longest encoding of a configuration, in bytes.
pub const CONFIGURATION_BYTES_MAX: usize = 64 + 64 + MEMBERS_MAX * (64 + ADDRESS_BYTES_MAX);

/// The version of the configuration's encoding that this code writes.
const VERSION: u8 = 1;

/// What a member takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Suffrage {
    /// Votes, and counts towards commitment.
    Voter,
    /// Receives the log and neither votes nor counts (dissertation, section 4.2.1).
    Learner,
    /// Votes, but holds no state machine.
    Witness,
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
        let address =
            String::try_from(address).map_err(|_| ConfigurationError::AddressTooLong { bytes: address.len() })?;
        Ok(Member { id, suffrage: Suffrage::Voter, outgoing_voter: false, incarnation: None, priority: 0, address })
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
        let configuration = Configuration { version: VERSION, cluster, limits, members: sorted };
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
        let plain = |member: &Member| member.suffrage == Suffrage::Voter && !member.outgoing_voter;
        if let Some(member) = self.members.iter().find(|member| !plain(member)) {
            return Err(ConfigurationError::NotYet { id: member.id });
        }
        Ok(())
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
    storage.set_hard_state(HardState { term: Term(1), vote: None });
    Ok(())
}

/// Reads the configuration that a log begins with.
///
/// # Errors
/// [`LoadError::Empty`] for a log without an entry 1: see [`bootstrap`].
pub fn load<S: Storage>(storage: &mut S) -> Result<Configuration, LoadError<S::Error>> {
    if storage.last() == EntryId::ZERO {
        return Err(LoadError::Empty);
    }
    let records = storage.read(Index::FIRST, Index::FIRST, HEADER_BYTES + CONFIGURATION_BYTES_MAX)?;
    match Records::iter(&records).next() {
        Some(entry) if entry.header.kind == EntryKind::Configuration => Ok(Configuration::decode(entry.payload)?),
        _ => Err(LoadError::NoConfiguration),
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
    /// A kind of member that this version cannot run with.
    #[error("member {id} is no plain voter, which this version cannot run with")]
    NotYet {
        /// The member.
        id: NodeId,
    },
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
    /// The log is empty.
    #[error("the log is empty: it was never given its first entry")]
    Empty,
    /// Entry 1 is something else.
    #[error("the first entry is no configuration: this is no log of this program, or it is damaged")]
    NoConfiguration,
    /// Entry 1 is not valid.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The log could not be read.
    #[error("the first entry could not be read")]
    Read(#[from] ReadError<E>),
}

/// The default limits with a member list, for tests and examples: voters 1 to `voters` without
/// addresses.
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
        assert!(matches!(refuse(&[member(1), learner]), Some(ConfigurationError::NotYet { .. })));
        let many: std::vec::Vec<Member> = (1..=17).map(member).collect();
        assert_eq!(refuse(&many), Some(ConfigurationError::TooManyMembers));
        assert!(Member::voter(NodeId::new(1).unwrap(), &"x".repeat(97)).is_err());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        assert_eq!(Configuration::decode(&[2, 0, 0]), Err(ConfigurationError::Version { version: 2 }));
        assert_eq!(Configuration::decode(&[1, 0]), Err(ConfigurationError::Encoding));
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
        assert!(largest.encode(&mut [0; CONFIGURATION_BYTES_MAX]).is_ok());
    }
}
