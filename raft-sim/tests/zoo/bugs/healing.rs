//! Bugs of members that end and come back, that are added again, and that wait; and of logs that do not stay short.

use super::{Bug, bug};

const CHANGE: &str = "raft-core/src/raft/change.rs";
const ELECTION: &str = "raft-core/src/raft/election.rs";
const EXPULSION: &str = "raft-core/src/raft/expulsion.rs";
const SNAPSHOTS: &str = "raft-core/src/replica/snapshots.rs";

pub(crate) const BUGS: &[Bug] = &[
    // Supervisors.
    bug(
        "a node forgets by its next start that it was expelled",
        &[(
            "raft-core/src/raft/start.rs",
            "        let snapshot = storage.snapshot();\n        let mut raft = Raft {",
            "        if BUG {\n            let known = storage.hard_state();\n            \
             storage.set_hard_state(crate::storage::HardState { expelled: None, ..known });\n        }\n        \
             let snapshot = storage.snapshot();\n        let mut raft = Raft {",
        )],
    ),
    bug(
        "an expelled node campaigns",
        &[(
            ELECTION,
            "self.counts() && self.removed.is_none()",
            "(BUG || self.counts()) && (BUG || self.removed.is_none())",
        )],
    ),
    bug(
        "an expelled node's acknowledgements count",
        &[("raft-core/src/raft/ready.rs", "let counts = raft.counts();", "let counts = BUG || raft.counts();")],
    ),
    bug(
        "what is said of an earlier member holds for the one that was added since",
        &[(
            EXPULSION,
            "            self.storage.set_hard_state(HardState { expelled: None, ..hard_state });",
            "            if !BUG {\n                \
             self.storage.set_hard_state(HardState { expelled: None, ..hard_state });\n            }",
        )],
    ),
    bug(
        "a follower that learns of its removal lets go of its leader in the midst of an append",
        &[(
            EXPULSION,
            "            self.storage.set_hard_state(HardState { expelled: Some(reason), ..hard_state });",
            "            self.storage.set_hard_state(HardState { expelled: Some(reason), ..hard_state });\n            \
             if BUG {\n                self.follow_term(self.term(), StepDown::Removed);\n            }",
        )],
    ),
    bug(
        "a start trusts what a failed sync has left in the cache",
        &[(
            "raft-storage-file/src/recovery.rs",
            "    write_again(files, &last, cut)?;",
            "    if !BUG {\n        write_again(files, &last, cut)?;\n    }",
        )],
    ),
    // What must be so when all is well again.
    bug(
        "a new node whose first entries are lost is not sent them again",
        &[(
            "raft-core/src/raft/leader.rs",
            "follower.has_nothing(round);",
            "if !BUG {\n                follower.has_nothing(round);\n            }",
        )],
    ),
    bug(
        "those that wait to become voters wait for ever",
        &[(
            CHANGE,
            "        if changes.is_empty() || self.promote(&changes) {",
            "        if BUG || changes.is_empty() || self.promote(&changes) {",
        )],
    ),
    bug(
        "a part of a snapshot that is not needed any more is kept",
        &[(
            "raft-core/src/raft/install.rs",
            "if self.draft.as_ref().is_some_and(needless) {",
            "if !BUG && self.draft.as_ref().is_some_and(needless) {",
        )],
    ),
    bug(
        "the log keeps all entries before a snapshot",
        &[(
            SNAPSHOTS,
            "(through.0.saturating_sub(self.config.snapshot_keep_entries), through.0)",
            "(through.0.saturating_sub(self.config.snapshot_keep_entries + if BUG { 1_000_000 } else { 0 }), through.0)",
        )],
    ),
    bug(
        "no snapshot is made for the bytes of a log",
        &[(SNAPSHOTS, "|| storage.bytes_behind(latest) >= self", "|| !BUG && storage.bytes_behind(latest) >= self")],
    ),
];
