//! Values, nodes and members as JSON: the same from the command line and over HTTP.

use raft_core::client::protocol::NodeStatus;
use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::types::EntryId;
use serde_json::{Value, json};

/// A value in JSON: as text, or, if it is none, as an array of its bytes.
pub(crate) fn text(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => value.into(),
    }
}

/// A node's status as the command line and HTTP show it.
pub(crate) fn status_json(endpoint: &str, status: &NodeStatus) -> Value {
    json!({
        "endpoint": endpoint,
        "node": status.node.get(),
        "role": status.role.as_str(),
        "term": status.term.0,
        "leader": status.leader.map(|leader| leader.get()),
        "configuration": status.configuration.index.0,
        "joint": status.joint,
        "expelled": status.expelled,
        "snapshot": status.snapshot.0,
        "base": status.base.0,
        "last": status.last.0,
        "saved": status.saved.0,
        "commit": status.commit.0,
        "applied": status.applied.0,
        "cluster_time_ms": status.cluster_time.0,
        "sessions": { "open": status.sessions, "max": status.sessions_max, "bytes": status.session_bytes },
        "commands": { "executed": status.executed, "replayed": status.replayed, "refused": status.refused },
        "elections_won": status.elections_won,
        "disk": {
            "syncs": status.syncs,
            "entries_synced": status.entries_synced,
            "bytes_written": status.bytes_written,
            "log_bytes": status.log_bytes,
            "full": status.full,
            "snapshots_failed": status.snapshots_failed,
        },
    })
}

/// The members as the command line and HTTP show them.
pub(crate) fn members_json(entry: EntryId, configuration: &Configuration) -> Value {
    let member = |member: &Member| {
        json!({
            "id": member.id.get(),
            "part": part(member),
            "address": member.address.as_str(),
            "priority": member.priority,
            "storage": member.incarnation.map(|storage| storage.to_string()),
        })
    };
    json!({
        "entry": entry.index.0,
        "joint": configuration.is_joint(),
        "cluster": configuration.cluster().to_string(),
        "members": configuration.members().iter().map(member).collect::<Vec<_>>(),
    })
}

/// What a member takes part in, as a word.
pub(crate) fn part(member: &Member) -> &'static str {
    match member.suffrage {
        Suffrage::Voter => "voter",
        Suffrage::Learner => "learner",
        Suffrage::Witness => "witness",
        Suffrage::Joining => "joining",
        Suffrage::JoiningWitness => "joining-witness",
        Suffrage::Leaving | Suffrage::LeavingWitness => "leaving",
        _ => "unknown",
    }
}
