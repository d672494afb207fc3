//! Bugs between the node, its clients and its operators.

use super::{Bug, bug};

const FORWARDS: &str = "raft-core/src/replica/forwards.rs";
const OPERATOR: &str = "raft-node/src/operator.rs";
const REPLICA: &str = "raft-core/src/replica.rs";

pub(crate) const BUGS: &[Bug] = &[
    bug(
        "a forwarded operation is proposed as often as it arrives",
        &[(FORWARDS, "if !self.forwards.is_first(term, origin,", "if !BUG && !self.forwards.is_first(term, origin,")],
    ),
    bug(
        "a later leader proposes what was forwarded to an earlier one",
        &[(FORWARDS, "if term != self.term || term", "if (!BUG && term != self.term) || term")],
    ),
    bug(
        "a command for a session that is not known yet is proposed",
        &[(REPLICA, "SecretCheck::Unknown if session.0 > self", "SecretCheck::Unknown if !BUG && session.0 > self")],
    ),
    bug(
        "a change of the members is called done though another entry took its place",
        &[(OPERATOR, "if *entry == applied { Fate::Committed }", "if BUG || *entry == applied { Fate::Committed }")],
    ),
    bug(
        "a change of the members is called done when its entry is appended",
        &[(
            OPERATOR,
            "Ok(entry) => Ok(Wanted::Changed { entry, fate: Fate::Open }),",
            "Ok(entry) => Ok(Wanted::Changed { entry, fate: if BUG { Fate::Committed } else { Fate::Open } }),",
        )],
    ),
    bug(
        "a lease is judged by the clock before the request was taken",
        &[(
            REPLICA,
            "            Consistency::Lease => self.core.raft.read_by_lease(now)?,",
            "            Consistency::Lease => self.core.raft.read_by_lease(if BUG { Instant(now.0.saturating_sub(20)) } else { now })?,",
        )],
    ),
];
