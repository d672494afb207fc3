//! The rules that are broken, by which wrong expression, and what falls with them.

use raft_model::properties::{
    ELECTION_SAFETY, LEADER_COMPLETENESS, LOG_MATCHING, NO_PANIC, NOTHING_REFUSED, STATE_MACHINE_SAFETY,
};

/// A rule that can be broken.
pub(crate) struct Rule {
    /// What is done wrong.
    pub(crate) name: &'static str,
    /// In which files of the core, the expressions there, and the wrong ones.
    pub(crate) breaks: &'static [(&'static str, &'static str, &'static str)],
    /// The space in which it is found out.
    pub(crate) space: &'static str,
    /// What falls with it, and must be found: [`NO_PANIC`] only where an assertion of the core is
    /// there before anything worse can happen.
    pub(crate) violates: &'static str,
}

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a node votes for two candidates of one term",
        breaks: &[("raft/election.rs", "vote.is_none_or(|voted| voted == candidate)", "true")],
        space: "elections",
        violates: ELECTION_SAFETY,
    },
    Rule {
        name: "a vote is given before it is durable",
        breaks: &[("raft/ready.rs", "!raft.hard_state_is_saved()", "false")],
        space: "crashes",
        violates: ELECTION_SAFETY,
    },
    Rule {
        name: "an append is taken whatever the entry before it is",
        breaks: &[("raft/follower.rs", "term == previous.term", "true")],
        space: "two logs",
        violates: LOG_MATCHING,
    },
    Rule {
        name: "of the entries in an append only the last is compared with those that are there",
        breaks: &[(
            "raft/follower.rs",
            "term == header.term",
            "header.term == term || header.index < entries.last().index",
        )],
        space: "two logs",
        violates: LOG_MATCHING,
    },
    Rule {
        name: "a vote is given to a log that is behind",
        breaks: &[
            (
                "raft/election.rs",
                "self.may_vote() && term > self.term() && last >= self.storage.last()",
                "self.may_vote() && term > self.term()",
            ),
            ("raft/election.rs", "self.may_vote() && free && last >= self.storage.last()", "self.may_vote() && free"),
        ],
        space: "elections",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "entries of earlier terms are committed by counting (figure 8)",
        breaks: &[
            ("raft/leader.rs", "by_quorum >= leader.term_start", "true"),
            ("raft/leader.rs", "self.storage.term(by_quorum) == Some(self.term())", "true"),
        ],
        space: "figure 8",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "a follower commits entries that are not known to be its leader's",
        breaks: &[("raft/follower.rs", "commit.min(known_to_match)", "commit.min(self.storage.last().index)")],
        space: "two logs",
        violates: STATE_MACHINE_SAFETY,
    },
    Rule {
        name: "entries that contradict the leader's are kept",
        breaks: &[("raft/follower.rs", "term == header.term", "true")],
        space: "two logs",
        violates: STATE_MACHINE_SAFETY,
    },
    Rule {
        name: "entries behind those of an append are dropped",
        breaks: &[(
            "raft/follower.rs",
            "Ok(matched)",
            "{
                if self.storage.last().index > matched {
                    self.drop_from(EntryId::new(self.term(), matched.next()))?;
                }
                Result::Ok(matched)
            }",
        )],
        space: "pipeline",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "an acknowledgement covers entries that are not durable",
        breaks: &[("raft/ready.rs", "following.matched.min(saved)", "following.matched")],
        space: "crashes",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "a leader counts its own entry before it is durable",
        breaks: &[(
            "raft/leader.rs",
            "(self.id, self.saved.through.index, &leader.followers)",
            "(self.id, self.storage.last().index, &leader.followers)",
        )],
        space: "crashes",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "of a joint configuration only the new half is asked",
        breaks: &[
            (
                "raft/membership.rs",
                "majority(|peer| peer.incoming) && (!self.joint || majority(|peer| peer.outgoing))",
                "majority(|peer| peer.incoming)",
            ),
            (
                "raft/membership.rs",
                "if self.joint { incoming.min(by_half(|peer| peer.outgoing)) } else { incoming }",
                "incoming",
            ),
        ],
        space: "shrink",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "a joint configuration is left before it is committed",
        breaks: &[(
            "raft/change.rs",
            "self.membership.entry.index > self.commit || self.commit < leader.term_start",
            "self.commit < leader.term_start",
        )],
        space: "busy shrink",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "a node that starts again has the members of the first entry",
        breaks: &[("raft/start.rs", "entry.header.id() > latest.entry", "latest.entry == EntryId::ZERO")],
        space: "changing crash",
        violates: LEADER_COMPLETENESS,
    },
    Rule {
        name: "an answer to a vote request of an earlier term counts",
        breaks: &[(
            "raft/mod.rs",
            "message.term < term",
            "message.term < term && !matches!(message.body, Body::VoteReply { .. })",
        )],
        space: "late messages",
        violates: ELECTION_SAFETY,
    },
    Rule {
        name: "entries that are there already are taken for others",
        breaks: &[("raft/follower.rs", "term == header.term", "false")],
        space: "pipeline",
        violates: NOTHING_REFUSED,
    },
    Rule {
        name: "the members stay when their change is dropped",
        breaks: &[("raft/follower.rs", "self.membership.entry.index > last", "false")],
        space: "shrink",
        violates: NO_PANIC,
    },
];
