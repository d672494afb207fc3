//! What one node may set for itself. None of it changes what is replicated.

use thiserror::Error;

use crate::entry::PAYLOAD_BYTES_MAX;
use crate::types::Millis;

/// So many bytes of entries before a snapshot are kept at least, unless the bound on them is set.
pub const SNAPSHOT_KEEP_BYTES: u64 = 4 << 20;

/// The settings of a [`crate::raft::Raft`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The shortest time without a leader after which a follower campaigns; the longest is twice
    /// that (dissertation, section 3.4).
    pub election_timeout: Millis,
    /// How often a leader is heard from when there is nothing to say.
    pub heartbeat_interval: Millis,
    /// The longest payload that is accepted from a client, in bytes.
    pub entry_bytes_max: usize,
    /// The entries of one message are cut at so many bytes, but there is always at least one.
    pub message_bytes_max: usize,
    /// The most entries sent to a follower and not yet acknowledged.
    pub inflight_entries_max: u64,
    /// The most bytes of them.
    pub inflight_bytes_max: u64,
    /// The most entries of its own term that a leader has appended and not committed.
    pub uncommitted_entries_max: u64,
    /// The most bytes of them.
    pub uncommitted_bytes_max: u64,
    /// The most bytes of a snapshot sent to a follower and not yet acknowledged.
    pub snapshot_inflight_bytes_max: u64,
    /// When the oldest entry that a leader has not saved is as old as this, its disk has stalled, and
    /// it hands over.
    pub disk_stall_max: Millis,
    /// A snapshot is made when so many entries were applied since the last one; while a follower is
    /// being sent that, only when it were four times as many. So a follower that needs longer than
    /// these take for a snapshot never gets one whole: then the log must be given more room.
    pub snapshot_after_entries: u64,
    /// A snapshot is made when the log behind the last one has so many bytes.
    pub snapshot_after_bytes: u64,
    /// The most entries before a snapshot that are kept in the log, for followers that are a little behind.
    pub snapshot_keep_entries: u64,
    /// The most bytes of them. `None`: a quarter of the snapshot's bytes, but at least [`SNAPSHOT_KEEP_BYTES`]; a
    /// follower that needs more is as well served with the snapshot. Storages drop whole files, so that a log may
    /// keep a file more than this. A log that has no room keeps nothing.
    pub snapshot_keep_bytes_max: Option<u64>,
    /// Replicas compare their states each time that so many entries were applied; 0 for never.
    pub check_after_entries: u64,
    /// Where the jitter of elections begins; should differ between nodes and between starts.
    pub seed: u64,
}

impl Default for Config {
    /// For a local network: elections after 500 to 1,000 ms, heartbeats each 50 ms.
    fn default() -> Config {
        Config {
            election_timeout: Millis(500),
            heartbeat_interval: Millis(50),
            entry_bytes_max: 2 << 20,
            message_bytes_max: 256 << 10,
            inflight_entries_max: 1 << 16,
            inflight_bytes_max: 16 << 20,
            uncommitted_entries_max: 1 << 16,
            uncommitted_bytes_max: 64 << 20,
            snapshot_inflight_bytes_max: 1 << 20,
            disk_stall_max: Millis(5_000),
            snapshot_after_entries: 1 << 20,
            snapshot_after_bytes: 256 << 20,
            snapshot_keep_entries: 1 << 12,
            snapshot_keep_bytes_max: None,
            check_after_entries: 1 << 16,
            seed: 0,
        }
    }
}

impl Config {
    /// The most bytes of entries to keep before a snapshot of so many bytes.
    pub(crate) fn keep_bytes_max(&self, snapshot_bytes: u64) -> u64 {
        self.snapshot_keep_bytes_max.unwrap_or((snapshot_bytes / 4).max(SNAPSHOT_KEEP_BYTES))
    }

    /// Checks that the settings can work together.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval == Millis(0) {
            return Err(ConfigError::NoHeartbeat);
        }
        if self.election_timeout.0 < self.heartbeat_interval.0.saturating_mul(3) {
            return Err(ConfigError::ElectionTimeout { least: Millis(self.heartbeat_interval.0.saturating_mul(3)) });
        }
        if self.entry_bytes_max == 0 || self.entry_bytes_max > PAYLOAD_BYTES_MAX {
            return Err(ConfigError::EntryBytes { bytes: self.entry_bytes_max });
        }
        let limits = [
            ("message_bytes_max", self.message_bytes_max as u64),
            ("inflight_entries_max", self.inflight_entries_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("uncommitted_entries_max", self.uncommitted_entries_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("snapshot_inflight_bytes_max", self.snapshot_inflight_bytes_max),
            ("snapshot_after_entries", self.snapshot_after_entries),
            ("snapshot_after_bytes", self.snapshot_after_bytes),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            Some((name, _)) => Err(ConfigError::Zero { name }),
            None => Ok(()),
        }
    }
}

/// Why settings cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Heartbeats without an interval.
    #[error("heartbeat_interval is 0; it must be at least 1 ms")]
    NoHeartbeat,
    /// Followers would campaign against a leader that is well.
    #[error("election_timeout must be at least three heartbeat intervals: {least} ms")]
    ElectionTimeout {
        /// The least that works with the heartbeat interval.
        least: Millis,
    },
    /// The limit of an entry is 0 or over that of the format.
    #[error("entry_bytes_max is {bytes}; it must be 1 to {PAYLOAD_BYTES_MAX}")]
    EntryBytes {
        /// The limit asked for.
        bytes: usize,
    },
    /// A limit under which nothing would ever move.
    #[error("{name} is 0; nothing would ever be sent")]
    Zero {
        /// The setting.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = Config::default();
        assert_eq!(good.check(), Ok(()));
        let refuse = |config: Config| config.check().unwrap_err();
        assert_eq!(refuse(Config { heartbeat_interval: Millis(0), ..good }), ConfigError::NoHeartbeat);
        let election = Config { election_timeout: Millis(149), ..good };
        assert_eq!(refuse(election), ConfigError::ElectionTimeout { least: Millis(150) });
        assert_eq!(Config { election_timeout: Millis(150), ..good }.check(), Ok(()));
        assert_eq!(Config { entry_bytes_max: PAYLOAD_BYTES_MAX, ..good }.check(), Ok(()));
        assert!(matches!(refuse(Config { entry_bytes_max: 1 << 24, ..good }), ConfigError::EntryBytes { .. }));
        assert!(matches!(refuse(Config { inflight_bytes_max: 0, ..good }), ConfigError::Zero { .. }));
    }
}
