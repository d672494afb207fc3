//! Bugs of what a node is told about itself, and of members that come again.

use super::{Bug, bug};

const EXPULSION: &str = "raft-core/src/raft/expulsion.rs";
const PROGRESS: &str = "raft-core/src/raft/progress.rs";
const MEMBERSHIP: &str = "raft-core/src/raft/membership.rs";

pub(crate) const BUGS: &[Bug] = &[
    bug(
        "a node that lacks what it acknowledged votes and leads on",
        &[(
            EXPULSION,
            "self.suspect.is_none() && self.storage.hard_state().expelled.is_none()",
            "self.suspect.is_none() && (BUG || self.storage.hard_state().expelled.is_none())",
        )],
    ),
    bug(
        "a node that was added again is never taken back",
        &[(
            EXPULSION,
            "            && self.membership.entry.index <= self.commit",
            "            && !BUG\n            && self.membership.entry.index <= self.commit",
        )],
    ),
    bug(
        "a node believes at once who says that it was removed",
        &[(
            EXPULSION,
            "Expulsion::Removed { by } => self.removed = Some(by),",
            "Expulsion::Removed { .. } if BUG => self.expel(reason),\n            Expulsion::Removed { by } => self.removed = Some(by),",
        )],
    ),
    bug(
        "an answer of an earlier member counts for the one that was added since",
        &[(PROGRESS, "if answer.round < self.since {", "if !BUG && answer.round < self.since {")],
    ),
    bug(
        "answers of a node that may have forgotten a vote confirm reads",
        &[(
            PROGRESS,
            "        if answer.counts {\n            self.round_heard",
            "        if BUG || answer.counts {\n            self.round_heard",
        )],
    ),
    bug(
        "a member that was replaced goes on with what was known of the earlier one",
        &[(
            MEMBERSHIP,
            "(other.id, other.added) == (peer.id, peer.added)",
            "other.id == peer.id && (BUG || other.added == peer.added)",
        )],
    ),
    bug(
        "entries that contradict what is committed are passed over",
        &[(
            EXPULSION,
            "        self.expel(Expulsion::Contradicted { found });",
            "        if !BUG {\n            self.expel(Expulsion::Contradicted { found });\n        }",
        )],
    ),
];
