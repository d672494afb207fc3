//! The bugs: one rule each, and what the code would be without it.

mod client;
mod consensus;
mod healing;
mod members;
mod node;
mod state;

/// A bug.
pub(crate) struct Bug {
    /// What is done wrong.
    pub(crate) name: &'static str,
    /// In which files, what stands there, and what stands there instead. `BUG` is whether the bug is switched on.
    pub(crate) edits: &'static [Edit],
}

pub(crate) type Edit = (&'static str, &'static str, &'static str);

const fn bug(name: &'static str, edits: &'static [Edit]) -> Bug {
    Bug { name, edits }
}

/// All bugs, each with the number that switches it on.
pub(crate) fn all() -> impl Iterator<Item = (usize, &'static Bug)> {
    BUGS.iter()
        .chain(consensus::BUGS)
        .chain(state::BUGS)
        .chain(members::BUGS)
        .chain(node::BUGS)
        .chain(healing::BUGS)
        .chain(client::BUGS)
        .enumerate()
}

const BUGS: &[Bug] = &[
    // Elections.
    bug(
        "a node votes for two candidates of one term",
        &[(
            "raft-core/src/raft/election.rs",
            "vote.is_none_or(|voted| voted == candidate)",
            "BUG || vote.is_none_or(|voted| voted == candidate)",
        )],
    ),
    bug(
        "a vote is given before it is durable",
        &[("raft-core/src/raft/ready.rs", "!raft.hard_state_is_saved()", "!BUG && !raft.hard_state_is_saved()")],
    ),
    bug(
        "a vote is given to a log that is behind",
        &[
            (
                "raft-core/src/raft/election.rs",
                "term > self.term() && last >= self.storage.last()",
                "term > self.term() && (BUG || last >= self.storage.last())",
            ),
            (
                "raft-core/src/raft/election.rs",
                "&& free && last >= self.storage.last()",
                "&& free && (BUG || last >= self.storage.last())",
            ),
        ],
    ),
    bug(
        "an answer to a vote request of an earlier term counts",
        &[(
            "raft-core/src/raft/mod.rs",
            "message.term < term",
            "message.term < term && !(BUG && matches!(message.body, Body::VoteReply { .. }))",
        )],
    ),
    bug(
        "a refused vote counts as one that was given",
        &[("raft-core/src/raft/election.rs", "vote.or(Some(granted))", "vote.or(Some(granted || BUG))")],
    ),
    bug(
        "half of the members are a majority",
        &[
            ("raft-core/src/raft/membership.rs", "yes > all / 2", "yes > all / 2 || (BUG && yes >= all / 2)"),
            (
                "raft-core/src/raft/membership.rs",
                "count.saturating_sub(count / 2 + 1)",
                "count.saturating_sub(if BUG { count / 2 } else { count / 2 + 1 })",
            ),
        ],
    ),
    // The log.
    bug(
        "an append is taken whatever the entry before it is",
        &[("raft-core/src/raft/follower.rs", "if term == previous.term =>", "if BUG || term == previous.term =>")],
    ),
    bug(
        "entries of earlier terms are committed by counting",
        &[
            (
                "raft-core/src/raft/leader.rs",
                "by_quorum >= leader.term_start",
                "(BUG || by_quorum >= leader.term_start)",
            ),
            (
                "raft-core/src/raft/leader.rs",
                "self.storage.term(by_quorum) == Some(self.term())",
                "(BUG || self.storage.term(by_quorum) == Some(self.term()))",
            ),
        ],
    ),
    bug(
        "a follower commits entries that are not known to be its leader's",
        &[(
            "raft-core/src/raft/follower.rs",
            "commit.min(known_to_match)",
            "commit.min(if BUG { self.storage.last().index } else { known_to_match })",
        )],
    ),
    bug(
        "an acknowledgement covers entries that are not durable",
        &[(
            "raft-core/src/raft/ready.rs",
            "following.matched.min(saved)",
            "(if BUG { following.matched } else { following.matched.min(saved) })",
        )],
    ),
    bug(
        "a leader counts its own entry before it is durable",
        &[(
            "raft-core/src/raft/leader.rs",
            "(self.id, self.saved.through.index, &leader.followers)",
            "(self.id, if BUG { self.storage.last().index } else { self.saved.through.index }, &leader.followers)",
        )],
    ),
    bug(
        "entries that were sent count as received",
        &[(
            "raft-core/src/raft/leader.rs",
            "Some(follower) if !follower.forgot => follower.matched,",
            "Some(_) if BUG => self.storage.last().index,\n            \
             Some(follower) if !follower.forgot => follower.matched,",
        )],
    ),
    bug(
        "entries that are there already are taken for others",
        &[(
            "raft-core/src/raft/follower.rs",
            "Some(term) if term == header.term => {}",
            "Some(term) if !BUG && term == header.term => {}",
        )],
    ),
    bug(
        "entries are applied before they are committed",
        &[(
            "raft-core/src/raft/mod.rs",
            "self.commit.min(self.saved.through.index)",
            "(if BUG { self.saved.through.index } else { self.commit.min(self.saved.through.index) })",
        )],
    ),
    bug(
        "what a quorum acknowledged is committed with the entry behind it",
        &[(
            "raft-core/src/raft/leader.rs",
            "            self.commit_to(by_quorum);",
            "            self.commit_to(if BUG { by_quorum.next().min(self.storage.last().index) } else { by_quorum });",
        )],
    ),
    // Members.
    bug(
        "of a joint configuration only the new half is asked",
        &[
            (
                "raft-core/src/raft/membership.rs",
                "(!self.joint || majority(|peer| peer.outgoing))",
                "(BUG || !self.joint || majority(|peer| peer.outgoing))",
            ),
            (
                "raft-core/src/raft/membership.rs",
                "if self.joint { incoming.min",
                "if self.joint && !BUG { incoming.min",
            ),
        ],
    ),
    bug(
        "a joint configuration is left before it is committed",
        &[(
            "raft-core/src/raft/change.rs",
            "self.membership.entry.index > self.commit || self.commit < leader.term_start",
            "(!BUG && self.membership.entry.index > self.commit) || self.commit < leader.term_start",
        )],
    ),
    bug(
        "the members stay when their change is dropped",
        &[(
            "raft-core/src/raft/follower.rs",
            "if self.membership.entry.index > last {",
            "if !BUG && self.membership.entry.index > last {",
        )],
    ),
    bug(
        "a change of the members is not taken up by followers",
        &[(
            "raft-core/src/raft/follower.rs",
            "if let Some(membership) = membership {",
            "if let Some(membership) = membership.filter(|_| !BUG) {",
        )],
    ),
    bug(
        "learners vote",
        &[("raft-core/src/raft/membership.rs", "incoming: member.votes(),", "incoming: BUG || member.votes(),")],
    ),
    bug(
        "a learner that is promoted and removed at once leaves a vote behind",
        &[(
            "raft-core/src/configuration/change.rs",
            "_ if member.outgoing_voter => member.suffrage",
            "_ if member.outgoing_voter || (BUG && member.votes()) => member.suffrage",
        )],
    ),
    bug(
        "a witness brings operations to the leader",
        &[
            (
                "raft-core/src/replica/forwards.rs",
                "if self.core.stripped || self.core.raft.is_witness() {\n            return Err(ProposeError::NotLeader",
                "if !BUG && (self.core.stripped || self.core.raft.is_witness()) {\n            return Err(ProposeError::NotLeader",
            ),
            ("raft-node/src/answer.rs", "None if key == entry =>", "None if !BUG && key == entry =>"),
        ],
    ),
    // Reads.
    bug(
        "a read is answered without asking anybody",
        &[(
            "raft-core/src/raft/read.rs",
            "if round <= leader.round_confirmed => index,",
            "if BUG || round <= leader.round_confirmed => index,",
        )],
    ),
    bug(
        "a read does not wait until its entries are applied",
        &[("raft-core/src/raft/read.rs", "if self.applied >= confirmed {", "if BUG || self.applied >= confirmed {")],
    ),
    bug(
        "a leader reads before it has committed in its term",
        &[
            (
                "raft-core/src/raft/read.rs",
                "Role::Leader(leader) if commit < leader.term_start =>",
                "Role::Leader(leader) if !BUG && commit < leader.term_start =>",
            ),
            (
                "raft-core/src/raft/read.rs",
                "        if commit < leader.term_start {\n            return;",
                "        if !BUG && commit < leader.term_start {\n            return;",
            ),
        ],
    ),
    bug(
        "an answer to an earlier round confirms a read",
        &[(
            "raft-core/src/raft/progress.rs",
            "self.round_heard = self.round_heard.max(answer.round);",
            "self.round_heard = if BUG { self.round_sent } else { self.round_heard.max(answer.round) };",
        )],
    ),
    bug(
        "a new leader does not wait until the old one's lease has ended",
        &[(
            "raft-core/src/raft/leader.rs",
            "if self.now < leader.lease.commit_from {",
            "if !BUG && self.now < leader.lease.commit_from {",
        )],
    ),
    bug(
        "a lease never ends",
        &[(
            "raft-core/src/raft/read.rs",
            "&& self.now < leader.lease.until",
            "&& (self.now < leader.lease.until || (BUG && leader.lease.until > Instant(0)))",
        )],
    ),
    // Sessions.
    bug(
        "a command that is sent again runs again",
        &[(
            "raft-core/src/session/apply.rs",
            "= self.layout.find(bytes, place, sequence) {",
            "= self.layout.find(bytes, place, sequence).filter(|_| !BUG) {",
        )],
    ),
    bug(
        "the acknowledgement goes down",
        &[(
            "raft-core/src/session/apply.rs",
            "slot.acknowledge.max(acknowledge);",
            "if BUG { acknowledge } else { slot.acknowledge.max(acknowledge) };",
        )],
    ),
    bug(
        "the window has no end",
        &[(
            "raft-core/src/session/apply.rs",
            "if sequence.0 - acknowledge.0 >= u64::from(self.limits.window) {",
            "if !BUG && sequence.0 - acknowledge.0 >= u64::from(self.limits.window) {",
        )],
    ),
    bug(
        "a number below the acknowledgement runs",
        &[
            ("raft-core/src/session/apply.rs", "if sequence < acknowledge {", "if !BUG && sequence < acknowledge {"),
            (
                "raft-core/src/session/apply.rs",
                "sequence.0 - acknowledge.0 >=",
                "sequence.0.saturating_sub(acknowledge.0) >=",
            ),
        ],
    ),
    bug(
        "commands that must run in order run as they come",
        &[(
            "raft-core/src/session/apply.rs",
            "if fifo && sequence > acknowledge",
            "if !BUG && fifo && sequence > acknowledge",
        )],
    ),
    bug(
        "sessions expire by what a process has counted since its start",
        &[(
            "raft-core/src/session/table.rs",
            "if self.earliest.lease_end < self.time {",
            "if self.earliest.lease_end < self.time && !(BUG && self.counters.executed % 5 != 0) {",
        )],
    ),
    bug(
        "a new leader's clock begins anew",
        &[(
            "raft-core/src/raft/election.rs",
            "ClusterClock::new(self.storage.last_time(), now, step_max)",
            "ClusterClock::new(if BUG { Default::default() } else { self.storage.last_time() }, now, step_max)",
        )],
    ),
    bug(
        "a wrong secret is let in",
        &[
            ("raft-core/src/replica.rs", "SecretCheck::Wrong => Err", "SecretCheck::Wrong if !BUG => Err"),
            ("raft-core/src/replica.rs", "SecretCheck::Unknown | SecretCheck::Right => Ok(())", "_ => Ok(())"),
        ],
    ),
    bug(
        "a forwarded operation that is repeated is proposed again",
        &[(
            "raft-core/src/replica/forwards.rs",
            "let first = self.seen & bit == 0;",
            "let first = BUG || self.seen & bit == 0;",
        )],
    ),
    // Snapshots.
    bug(
        "a snapshot is installed without its sessions",
        &[(
            "raft-core/src/replica/snapshots.rs",
            "            self.sessions.decode(bytes, snapshot.through.index)?;",
            "            if !BUG {\n                self.sessions.decode(bytes, snapshot.through.index)?;\n            }",
        )],
    ),
    bug(
        "a snapshot is installed without its state",
        &[(
            "raft-core/src/replica/snapshots.rs",
            "let restored = self.machine.restore(&mut state);",
            "let restored = if BUG { Ok(()) } else { self.machine.restore(&mut state) };",
        )],
    ),
    bug(
        "a snapshot says that it reaches further than it does",
        &[(
            "raft-core/src/replica/snapshots.rs",
            "let applied = self.raft.last_applied();\n        // An older",
            "let mut applied = self.raft.last_applied();\n        if BUG && self.raft.storage().last().index > applied {\n            \
             applied = applied.next();\n        }\n        // An older",
        )],
    ),
    bug(
        "parts of a snapshot are taken in whatever stands before them",
        &[
            (
                "raft-core/src/raft/install.rs",
                "let known = draft.received.checked_sub(offset);",
                "let known = if BUG { Some(0) } else { draft.received.checked_sub(offset) };",
            ),
            (
                "raft-core/src/raft/install.rs",
                "filter(|draft| draft.checksum == snapshot.checksum)",
                "filter(|draft| BUG || draft.checksum == snapshot.checksum)",
            ),
        ],
    ),
    bug(
        "keep-alives renew nothing",
        &[(
            "raft-core/src/session/apply.rs",
            "            Some(place) => {\n                self.renew(place, acknowledge);\n                Done",
            "            Some(place) => {\n                if !BUG {\n                    self.renew(place, acknowledge);\n                }\n                Done",
        )],
    ),
    bug(
        "a full table robs a client that was heard a moment ago",
        &[("raft-core/src/session/apply.rs", "        if next > self.time {", "        if !BUG && next > self.time {")],
    ),
    bug(
        "of a command whose answer is too long to keep it is forgotten that it ran",
        &[(
            "raft-core/src/session/apply.rs",
            "        let answer = length.filter(|&length| length <= self.layout.answer_bytes);",
            "        let answer = length.filter(|&length| length <= self.layout.answer_bytes);\n        \
             if BUG && answer.is_none() {\n            return;\n        }",
        )],
    ),
    bug(
        "a session that has ended is taken for a wrong secret",
        &[(
            "raft-core/src/replica.rs",
            "            SecretCheck::Unknown if session.0",
            "            SecretCheck::Unknown if BUG => Err(ProposeError::WrongSecret),\n            \
             SecretCheck::Unknown if session.0",
        )],
    ),
    bug(
        "a leader takes as many commands as come",
        &[(
            "raft-core/src/raft/leader.rs",
            "if entries >= self.config.uncommitted_entries_max",
            "if !BUG && entries >= self.config.uncommitted_entries_max",
        )],
    ),
    bug(
        "as many entries are on their way to a follower as there are",
        &[(
            "raft-core/src/raft/ready.rs",
            "follower.matched.plus(self.config.inflight_entries_max)",
            "follower.matched.plus(if BUG { 1 << 40 } else { self.config.inflight_entries_max })",
        )],
    ),
    // What is told to clients.
    bug(
        "whoever waits at an index is answered, whoever's entry stands there",
        &[("raft-node/src/answer.rs", "Some(outcome) if key == entry =>", "Some(outcome) if BUG || key == entry =>")],
    ),
    bug(
        "a request that took too long is said not to have run",
        &[(
            "raft-node/src/run.rs",
            "self.waiting.take_overdue(before) {\n            fail(&mut self.network, None, origin, Failed::Unknown);",
            "self.waiting.take_overdue(before) {\n            fail(&mut self.network, None, origin, if BUG { Failed::NotExecuted(NotExecuted::Overtaken) } else { Failed::Unknown });",
        )],
    ),
    bug(
        "a client takes silence for a refusal",
        &[(
            "raft-core/src/client/attempts.rs",
            "self.tainted |= self.is_sent();",
            "self.tainted |= self.is_sent() && !BUG;",
        )],
    ),
    // The disk.
    bug(
        "what is saved is not synced",
        &[(
            "raft-storage-file/src/segment.rs",
            "        files.sync_data(&self.file).map_err(DiskError::of(Operation::Sync, name))",
            "        if BUG {\n            return Ok(());\n        }\n        files.sync_data(&self.file).map_err(DiskError::of(Operation::Sync, name))",
        )],
    ),
    bug(
        "a sync that failed is tried again",
        &[(
            "raft-storage-file/src/segment.rs",
            "        files.sync_data(&self.file).map_err(DiskError::of(Operation::Sync, name))",
            "        files.sync_data(&self.file).or_else(|error| if BUG { files.sync_data(&self.file) } else { Err(error) })\
             .map_err(DiskError::of(Operation::Sync, name))",
        )],
    ),
    bug(
        "the name of a new segment is not synced",
        &[(
            "raft-storage-file/src/segment.rs",
            "        files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;",
            "        if !BUG {\n            files.sync_directory().map_err(DiskError::of(Operation::Sync, name))?;\n        }",
        )],
    ),
    bug(
        "the head of a new segment is not synced",
        &[(
            "raft-storage-file/src/segment.rs",
            "        files.sync_data(&file).map_err(DiskError::of(Operation::Sync, Name::Spare))?;",
            "        if !BUG {\n            files.sync_data(&file).map_err(DiskError::of(Operation::Sync, Name::Spare))?;\n        }",
        )],
    ),
    bug(
        "a vote is not part of what is saved",
        &[(
            "raft-storage-file/src/storage.rs",
            "            hard_state: self.log.hard_state,\n            entries: u32",
            "            hard_state: if BUG { self.saved.hard_state } else { self.log.hard_state },\n            entries: u32",
        )],
    ),
    bug(
        "a snapshot that was received is not synced before the log is dropped",
        &[(
            "raft-storage-file/src/snapshot.rs",
            "            files.sync_data(&latest.file).map_err(DiskError::of(Operation::Sync, latest.name))?;",
            "            if !BUG {\n                files.sync_data(&latest.file).map_err(DiskError::of(Operation::Sync, latest.name))?;\n            }",
        )],
    ),
    bug(
        "a log is used again up to its last good batch, whatever comes behind",
        &[(
            "raft-storage-file/src/recovery.rs",
            "Step::Batch(batch, records) => replay.apply(number, &batch, records)?,\n            Step::End(tail) => return Ok(tail),",
            "Step::Batch(_, _) if BUG && replay.log.last.index.0 % 3 == 2 => return Ok(Tail::Clean),\n            \
             Step::Batch(batch, records) => replay.apply(number, &batch, records)?,\n            Step::End(tail) => return Ok(tail),",
        )],
    ),
];
