//! Bugs of elections, logs, members and reads.

use super::{Bug, bug};

const CHANGE: &str = "raft-core/src/raft/change.rs";
const ELECTION: &str = "raft-core/src/raft/election.rs";
const FOLLOWER: &str = "raft-core/src/raft/follower.rs";
const INSTALL: &str = "raft-core/src/raft/install.rs";
const LEADER: &str = "raft-core/src/raft/leader.rs";
const PROGRESS: &str = "raft-core/src/raft/progress.rs";
const RAFT: &str = "raft-core/src/raft/mod.rs";
const READ: &str = "raft-core/src/raft/read.rs";
const TRANSFER: &str = "raft-core/src/raft/transfer.rs";

pub(crate) const BUGS: &[Bug] = &[
    // Elections.
    bug(
        "a log that may have lost entries votes",
        &[(
            ELECTION,
            "self.counts() && self.storage.last() != EntryId::ZERO",
            "(self.counts() || (BUG && self.suspect.is_some())) && self.storage.last() != EntryId::ZERO",
        )],
    ),
    bug(
        "a log that may have lost entries acknowledges what it holds",
        &[("raft-core/src/raft/ready.rs", "saved: if counts { saved }", "saved: if BUG || counts { saved }")],
    ),
    bug(
        "a leader that hears no quorum leads on",
        &[(
            LEADER,
            "if !self.membership.agree(|position, peer| peer.id == own",
            "if !BUG && !self.membership.agree(|position, peer| peer.id == own",
        )],
    ),
    bug(
        "all nodes wait equally long for a leader",
        &[(
            ELECTION,
            "let timeout = self.random.timeout(self.config.election_timeout);",
            "let timeout = if BUG { self.config.election_timeout } else { self.random.timeout(self.config.election_timeout) };",
        )],
    ),
    bug(
        "an append of an earlier term is taken",
        &[(
            RAFT,
            "        if message.term < term",
            "        if message.term < term && !(BUG && matches!(message.body, Body::Append { .. }))",
        )],
    ),
    bug(
        "a vote is forgotten when the term stays",
        &[(
            ELECTION,
            "self.storage.set_hard_state(HardState { vote: Some(candidate), ..hard_state });",
            "self.storage.set_hard_state(HardState { vote: Some(candidate).filter(|_| !BUG), ..hard_state });",
        )],
    ),
    // The log.
    bug(
        "an entry of another term at the same index is taken for the same",
        &[(FOLLOWER, "term == header.term => {}", "(BUG || term == header.term) => {}")],
    ),
    bug(
        "what was dropped from the log still counts as saved",
        &[(
            FOLLOWER,
            "        if self.saved.through.index > last {",
            "        if self.saved.through.index > last && !BUG {",
        )],
    ),
    bug(
        "a late report of a save counts for whatever stands there now",
        &[
            (
                RAFT,
                "&& self.storage.term(saved.through.index) == Some(saved.through.term)",
                "&& (BUG || self.storage.term(saved.through.index) == Some(saved.through.term))",
            ),
            (RAFT, "if saved.hard_state.term == self.term()\n", "if (BUG || saved.hard_state.term == self.term())\n"),
        ],
    ),
    bug(
        "a rejected append is not sent again",
        &[(PROGRESS, "        if previous <= self.matched {\n", "        if BUG || previous <= self.matched {\n")],
    ),
    bug(
        "a rejection makes a leader forget what is known to match",
        &[(
            PROGRESS,
            "            ProgressState::Replicate(_) => self.next = self.matched.next(),\n",
            "            ProgressState::Replicate(_) => {\n                if BUG {\n                    self.matched = previous.previous();\n                }\n                self.next = self.matched.next();\n            }\n",
        )],
    ),
    bug(
        "messages under way are never taken off the window",
        &[(
            PROGRESS,
            "            && last <= matched\n        {",
            "            && last <= matched && !(BUG && self.messages.len() > 1)\n        {",
        )],
    ),
    bug(
        "the commit index goes back",
        &[(
            FOLLOWER,
            "self.commit = self.commit.max(index);",
            "self.commit = if BUG && index > Index::ZERO { index } else { self.commit.max(index) };",
        )],
    ),
    // Members.
    bug(
        "members are changed before the leader has committed in its term",
        &[(
            CHANGE,
            "        if self.commit < leader.term_start {\n            return Err(ProposeError::NotReady.into());",
            "        if !BUG && self.commit < leader.term_start {\n            return Err(ProposeError::NotReady.into());",
        )],
    ),
    bug(
        "members are changed before their last change is committed",
        &[(
            CHANGE,
            "if self.membership.entry.index > self.commit || self.membership.is_joint() {\n            return Err",
            "if !BUG && (self.membership.entry.index > self.commit || self.membership.is_joint()) {\n            return Err",
        )],
    ),
    bug(
        "what is known of members stays at its place when their places change",
        &[(
            CHANGE,
            "before.and_then(|before| leader.followers.get(before)).cloned()",
            "before.and_then(|before| leader.followers.get(if BUG { position } else { before })).cloned()",
        )],
    ),
    bug(
        "a joint configuration is never left",
        &[(
            CHANGE,
            "        if self.membership.is_joint() {\n            // While",
            "        if self.membership.is_joint() && BUG {\n        } else if self.membership.is_joint() {\n            // While",
        )],
    ),
    bug(
        "a removed leader leads on",
        &[(
            CHANGE,
            "} else if self.is_left_out() && leader.transfer.is_none() {",
            "} else if !BUG && self.is_left_out() && leader.transfer.is_none() {",
        )],
    ),
    bug(
        "the configuration in a snapshot is not taken up",
        &[(
            INSTALL,
            "        self.membership = membership;\n",
            "        if !BUG {\n            self.membership = membership;\n        }\n",
        )],
    ),
    // Reads.
    bug(
        "a follower's read is answered by the answer to an earlier one",
        &[(
            READ,
            "Some((confirmed, index)) if ticket <= confirmed => index,",
            "Some((confirmed, index)) if BUG || ticket <= confirmed => index,",
        )],
    ),
    bug(
        "a leader answers reads of followers without asking anyone",
        &[(READ, "round <= self.round_confirmed => {", "BUG || round <= self.round_confirmed => {")],
    ),
    bug(
        "a message that is under way confirms a read that came later",
        &[(
            READ,
            "                if leader.round_used {\n                    leader.begin_round();",
            "                if leader.round_used && !BUG {\n                    leader.begin_round();",
        )],
    ),
    bug(
        "a message that is under way confirms a follower's read that came later",
        &[(
            READ,
            "        if leader.round_used {\n            leader.begin_round();\n        }\n        let round",
            "        if leader.round_used && !BUG {\n            leader.begin_round();\n        }\n        let round",
        )],
    ),
    bug(
        "a lease begins when its entry is committed",
        &[(
            LEADER,
            "leader.lease.until = appended.after(lease.duration);",
            "leader.lease.until = (if BUG { self.now } else { appended }).after(lease.duration);",
        )],
    ),
    bug(
        "an installed snapshot does not begin the wait for a lease",
        &[(
            INSTALL,
            "        self.taken_at = self.now;\n",
            "        if !BUG {\n            self.taken_at = self.now;\n        }\n",
        )],
    ),
    bug(
        "entries that are taken do not begin the wait for a lease",
        &[
            (
                FOLLOWER,
                "            if last > previous {\n                self.taken_at = self.now;",
                "            if last > previous && !BUG {\n                self.taken_at = self.now;",
            ),
            (
                FOLLOWER,
                "                    self.taken_at = self.now;\n                    if let",
                "                    if !BUG {\n                        self.taken_at = self.now;\n                    }\n                    if let",
            ),
        ],
    ),
    bug(
        "a start does not begin the wait for a lease",
        &[(
            "raft-core/src/raft/start.rs",
            "            taken_at: now,\n",
            "            taken_at: if BUG { Instant(0) } else { now },\n",
        )],
    ),
    // Handing over.
    bug(
        "a leader that hands over takes proposals",
        &[(
            LEADER,
            "if let Some(transfer) = leader.transfer {\n            return Err(ProposeError",
            "if let Some(transfer) = leader.transfer.filter(|_| !BUG) {\n            return Err(ProposeError",
        )],
    ),
    bug(
        "a hand-over in vain never ends",
        &[(
            TRANSFER,
            "take_if(|transfer| self.now >= transfer.until)",
            "take_if(|transfer| !BUG && self.now >= transfer.until)",
        )],
    ),
];
