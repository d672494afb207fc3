//! How messages, entries, members and events are written in a trace.

use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::entry::{Entry, EntryKind, Records};
use raft_core::message::{Body, Message, ReadTicket};
use raft_core::raft::Replication;
use raft_core::raft::event::{Event, Expulsion};

use crate::world::World;

impl World {
    fn ticket(&mut self, ticket: ReadTicket) -> String {
        let known = self.tickets.iter().position(|&known| known == ticket);
        let number = known.unwrap_or_else(|| {
            self.tickets.push(ticket);
            self.tickets.len() - 1
        });
        format!("#{}", number + 1)
    }

    pub(crate) fn describe(&mut self, bytes: &[u8]) -> String {
        let Message { from, to, term, body } = Message::decode(bytes).unwrap();
        let yes = |granted: bool| if granted { "yes" } else { "no" };
        let body = match body {
            Body::PreVote { last } => format!("PreVote, last {last}"),
            Body::PreVoteReply { granted } => format!("PreVoteReply: {}", yes(granted)),
            Body::Vote { last, transfer } => {
                format!("Vote, last {last}{}", if transfer { ", at the leader's wish" } else { "" })
            }
            Body::VoteReply { granted } => format!("VoteReply: {}", yes(granted)),
            Body::Append { previous, commit, round, entries: records } => {
                format!("Append after {previous}: {}; commit {commit}, round {}", entries(&records), round.0)
            }
            Body::AppendReply { round, matched, rejected, counts } => {
                let rejected = rejected.map(|it| format!(", rejected after {}, try {}", it.previous, it.hint));
                let counts = if counts { "" } else { ", counts for nothing" };
                format!("AppendReply: matched {matched}, round {}{}{counts}", round.0, rejected.unwrap_or_default())
            }
            Body::ReadRequest { ticket } => format!("ReadRequest {}", self.ticket(ticket)),
            Body::ReadReply { ticket, index } => format!("ReadReply {}: index {index}", self.ticket(ticket)),
            Body::Campaign => "Campaign".to_owned(),
            Body::Expelled { reason } => format!("Expelled: {}", expulsion(reason)),
            Body::Snapshot { snapshot, offset, round, data } => {
                format!("{}; round {}", World::part(snapshot, offset, data.0), round.0)
            }
            Body::SnapshotReply { through, received, round, resend, counts } => {
                let resend = if resend { ", send from there" } else { "" };
                let counts = if counts { "" } else { ", counts for nothing" };
                format!("SnapshotReply {through}: {received} received, round {}{resend}{counts}", round.0)
            }
            other => format!("{other:?}"),
        };
        format!("{from}>{to} term {term} {body}")
    }
}

pub(crate) fn expulsion(reason: Expulsion) -> String {
    match reason {
        Expulsion::Removed { by } => format!("removed by {by}"),
        Expulsion::Forgot { acknowledged, added } => format!("forgot {acknowledged} of the member added by {added}"),
        Expulsion::Contradicted { found } => format!("contradicted by {found}"),
    }
}

pub(crate) fn entries(records: &Records<'_>) -> String {
    let show = |entry: Entry<'_>| match entry.header.kind {
        EntryKind::Operation => format!("{} {}", entry.header.id(), String::from_utf8_lossy(entry.payload)),
        EntryKind::Configuration => {
            format!("{} {}", entry.header.id(), members(&Configuration::decode(entry.payload).unwrap()))
        }
        kind => format!("{} {kind:?}", entry.header.id()),
    };
    let shown: Vec<String> = records.iter().map(show).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
}

/// The words of the operations among the entries.
pub(crate) fn operations(records: &Records<'_>) -> impl Iterator<Item = String> {
    let operations = records.iter().filter(|entry| entry.header.kind == EntryKind::Operation);
    operations.map(|entry| String::from_utf8_lossy(entry.payload).into_owned())
}

pub(crate) fn members(configuration: &Configuration) -> String {
    let priority = |member: &Member| match member.priority {
        0 => String::new(),
        priority => format!("^{priority}"),
    };
    let show = |member: &Member| {
        let letter = match member.suffrage {
            Suffrage::Learner => "L",
            Suffrage::Joining => "J",
            Suffrage::Witness => "W",
            Suffrage::JoiningWitness => "JW",
            _ => "",
        };
        format!("{}{letter}{}", member.id, priority(member))
    };
    let all = configuration.members().iter();
    let new: Vec<String> = all.clone().filter(|member| !member.is_leaving()).map(show).collect();
    if !configuration.is_joint() {
        return format!("{{{}}}", new.join(" "));
    }
    let old: Vec<String> = all.filter(|member| member.outgoing_voter).map(|member| member.id.to_string()).collect();
    format!("{{{} -> {}}}", old.join(" "), new.join(" "))
}

pub(crate) fn replication(replication: Replication) -> String {
    match replication {
        Replication::Probing => "probing".to_owned(),
        Replication::Replicating => "replicating".to_owned(),
        Replication::Snapshot { received, bytes } => format!("snapshot, {received} of {bytes} bytes"),
        Replication::Forgot => "forgot what it had".to_owned(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn event(event: Event) -> String {
    let joint = |joint: bool| if joint { ", joint" } else { "" };
    match event {
        Event::NewTerm { term } => format!("new term {term}"),
        Event::BecameLeader { term, start } => format!("leads term {term} from {start} on"),
        Event::Follows { term, leader } => format!("follows {leader} in term {term}"),
        Event::LostLeader { leader } => format!("lost its leader {leader}"),
        Event::SteppedDown { term, reason } => format!("stepped down in term {term}: {reason:?}"),
        Event::ConfigurationAppended { entry, joint: it } => format!("members change by {entry}{}", joint(it)),
        Event::ConfigurationCommitted { entry, joint: it } => format!("members changed by {entry}{}", joint(it)),
        Event::ConfigurationDropped { entry, back_to } => format!("members of {entry} dropped, back to {back_to}"),
        Event::SnapshotSending { to, through } => format!("sends snapshot {through} to {to}"),
        Event::SnapshotSent { to, matched } => format!("snapshot sent to {to}, which has {matched}"),
        Event::SnapshotInstalled { through } => format!("installed snapshot {through}"),
        Event::SnapshotRefused { through, reason } => format!("refused snapshot {through}: {reason:?}"),
        Event::TransferBegan { to, reason } => format!("hands over to {to}: {reason:?}"),
        Event::TransferFailed { to } => format!("{to} did not take over"),
        Event::DiskStalled { unsaved_for } => format!("its disk stalls for {unsaved_for} ms"),
        Event::SnapshotFailed { through } => format!("no room for a snapshot of its own at {through}"),
        Event::PeerForgot { peer, matched, has } => format!("{peer} had {matched} and has {has}"),
        Event::Expelled { reason } => format!("takes part no more: {}", expulsion(reason)),
        other => format!("{other:?}"),
    }
}
