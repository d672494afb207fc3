//! Bugs of sessions, snapshots and the disk.

use super::{Bug, bug};

const APPLY: &str = "raft-core/src/session/apply.rs";
const CLOCK: &str = "raft-core/src/raft/clock.rs";
const ENCODE: &str = "raft-core/src/session/encode.rs";
const INSTALL: &str = "raft-core/src/raft/install.rs";
const REPLICA: &str = "raft-core/src/replica.rs";
const SNAPSHOTS: &str = "raft-core/src/replica/snapshots.rs";
const TABLE: &str = "raft-core/src/session/table.rs";

pub(crate) const BUGS: &[Bug] = &[
    // Sessions.
    bug(
        "a lease ends when time has reached it",
        &[(
            TABLE,
            ".renewed.after(ttl) >= time {",
            ".renewed.after(ttl) >= (if BUG { ClusterTime(time.0 + 1) } else { time }) {",
        )],
    ),
    bug(
        "an entry moves cluster time as far ahead as its stamp",
        &[
            (
                TABLE,
                "stamp.since(self.stamp).min(self.limits.time_step_max);",
                "stamp.since(self.stamp).min(if BUG { Millis(u64::MAX) } else { self.limits.time_step_max });",
            ),
            (
                TABLE,
                "use crate::types::{ClusterTime, Nonce, SessionId};",
                "use crate::types::{ClusterTime, Millis, Nonce, SessionId};",
            ),
        ],
    ),
    bug(
        "time that was cut off is made up for by later entries",
        &[(
            TABLE,
            "        self.stamp = self.stamp.max(stamp);",
            "        self.stamp = if BUG { self.stamp.after(step) } else { self.stamp.max(stamp) };",
        )],
    ),
    bug(
        "opening again opens another session",
        &[(
            APPLY,
            "find(|&(_, place)| self.slot(place).nonce == nonce);",
            "find(|&(_, place)| !BUG && self.slot(place).nonce == nonce);",
        )],
    ),
    bug(
        "opening again does not renew the session",
        &[(
            APPLY,
            "            self.renew(place, Sequence::FIRST);\n            self.counters.reopened",
            "            if !BUG {\n                self.renew(place, Sequence::FIRST);\n            }\n            self.counters.reopened",
        )],
    ),
    bug(
        "another command under the same number gets the kept answer",
        &[(APPLY, "if fact.fingerprint != fingerprint {", "if !BUG && fact.fingerprint != fingerprint {")],
    ),
    bug(
        "a session finds the answers of the one whose place it took",
        &[(
            APPLY,
            "        layout.clear(bytes, line.place);",
            "        if !BUG {\n            layout.clear(bytes, line.place);\n        }",
        )],
    ),
    bug(
        "a client is told to come again before there can be room",
        &[(
            APPLY,
            "retry_after: next.since(self.time) }",
            "retry_after: if BUG { Millis(1) } else { next.since(self.time) } }",
        )],
    ),
    bug(
        "sessions of an idle cluster never end",
        &[(
            REPLICA,
            "self.sessions.next_expiry().is_some_and(|expiry| time > expiry)",
            "self.sessions.next_expiry().is_some_and(|expiry| time > expiry && !BUG)",
        )],
    ),
    bug(
        "a repeated command does not renew its session",
        &[(
            APPLY,
            "        self.renew(place, command.acknowledge);\n        let &Slot { acknowledge, fifo, .. }",
            "        if !(BUG && self.layout.find(self.memory.parts().bytes, place, command.sequence).is_some()) {\n            self.renew(place, command.acknowledge);\n        }\n        let &Slot { acknowledge, fifo, .. }",
        )],
    ),
    bug(
        "a keep-alive acknowledges nothing",
        &[(
            APPLY,
            "self.renew(place, acknowledge);\n                }\n                Done",
            "self.renew(place, if BUG { Sequence::FIRST } else { acknowledge });\n                }\n                Done",
        )],
    ),
    bug(
        "a closed session lives on",
        &[(
            APPLY,
            "                self.remove(line);\n                self.counters.closed",
            "                if !BUG {\n                    self.remove(line);\n                }\n                self.counters.closed",
        )],
    ),
    bug(
        "a command without the session's secret is let in",
        &[(
            REPLICA,
            "let secret = secret.ok_or(ProposeError::WrongSecret)?;",
            "let Some(secret) = secret else { return if BUG { Ok(()) } else { Err(ProposeError::WrongSecret) } };",
        )],
    ),
    bug(
        "a new leader takes commands before it knows all sessions",
        &[(
            REPLICA,
            "is_some_and(|start| self.raft.last_applied() < start)",
            "is_some_and(|start| !BUG && self.raft.last_applied() < start)",
        )],
    ),
    bug(
        "a leader's clock credits a pause in full",
        &[(
            CLOCK,
            "now.since(self.counted_to).min(self.step_max);",
            "now.since(self.counted_to).min(if BUG { Millis(u64::MAX) } else { self.step_max });",
        )],
    ),
    bug(
        "the kept answers of a session are not part of a snapshot",
        &[(
            ENCODE,
            "let kept = || self.layout.kept(bytes, place, slot.acknowledge);",
            "let kept = || self.layout.kept(bytes, place, slot.acknowledge).filter(|_| !BUG);",
        )],
    ),
    bug(
        "a snapshot brings no cluster time",
        &[(
            ENCODE,
            "(self.time, self.stamp) = (content.time, content.stamp);",
            "(self.time, self.stamp) = (if BUG { ClusterTime(0) } else { content.time }, content.stamp);",
        )],
    ),
    bug(
        "after a restore the first lease to end is not looked for",
        &[(
            ENCODE,
            "        self.earliest = self.find_earliest();\n",
            "        if !BUG {\n            self.earliest = self.find_earliest();\n        }\n",
        )],
    ),
    // Snapshots.
    bug(
        "a snapshot that is older than what is committed is installed",
        &[(
            INSTALL,
            "        if through.index <= self.commit {\n            // What was",
            "        if !BUG && through.index <= self.commit {\n            // What was",
        )],
    ),
    bug(
        "a snapshot holds the configuration that was appended last",
        &[(
            SNAPSHOTS,
            "let Some(entry) = self.raft.applied_configuration() else { return Ok(None) };",
            "let Some(entry) = (if BUG { Some(self.raft.status().configuration) } else { self.raft.applied_configuration() }) else { return Ok(None) };",
        )],
    ),
    // The disk.
    bug(
        "the name of a snapshot is not synced",
        &[(
            "raft-storage-file/src/snapshot.rs",
            "files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;\n        self.name",
            "if !BUG {\n            files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;\n        }\n        self.name",
        )],
    ),
    bug(
        "a batch is not chained to the one before it",
        &[(
            "raft-storage-file/src/scan.rs",
            "if header.chain != self.chain {",
            "if !BUG && header.chain != self.chain {",
        )],
    ),
    bug(
        "the records of a batch are not checked",
        &[(
            "raft-storage-file/src/scan.rs",
            "crc32c(0, records) == header.records_checksum",
            "BUG || crc32c(0, records) == header.records_checksum",
        )],
    ),
    bug(
        "damage to the end of the log is taken for a torn write",
        &[(
            "raft-storage-file/src/scan.rs",
            "Tail::Suspect { through } })",
            "if BUG { Tail::Torn { through } } else { Tail::Suspect { through } } })",
        )],
    ),
    bug(
        "that a log is suspect is forgotten by the next start",
        &[(
            "raft-storage-file/src/recovery.rs",
            "let suspect_through = marked.max(",
            "let suspect_through = marked.filter(|_| !BUG).max(",
        )],
    ),
];
