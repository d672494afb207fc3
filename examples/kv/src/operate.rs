//! The operator's commands: members, leadership, snapshots.

use std::time::Duration;

use raft_client::{NotExecuted, OperatorClient, OperatorError};
use raft_core::configuration::change::MemberChange;
use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::types::NodeId;
use serde_json::json;

use crate::cli::{ClusterArgs, MemberRequest, Peer, Suffered};
use crate::client::Outcome;
use crate::exit::Exit;
use crate::json::{members_json, part};

/// Adding a member waits for nothing but the log; being promoted needs all of it to be copied. So
/// operators wait longer than clients.
const PATIENCE: Duration = Duration::from_secs(30);

fn client(cluster: &ClusterArgs) -> OperatorClient {
    OperatorClient::new(cluster.endpoints.clone(), cluster.timeout.max(PATIENCE))
}

pub(crate) fn member(cluster: &ClusterArgs, request: &MemberRequest) -> Outcome {
    let changes = match changes(request) {
        Ok(changes) => changes,
        Err(outcome) => return outcome,
    };
    let client = client(cluster);
    if changes.is_empty() {
        return match client.members() {
            Ok((entry, configuration)) => Outcome::done(table(&configuration), members_json(entry, &configuration)),
            Err(error) => failed(&error),
        };
    }
    let force = matches!(request, MemberRequest::Remove { force: true, .. });
    match client.change_members(&changes, force) {
        Ok(entry) => Outcome::done(format!("done, by entry {}", entry.index), json!({ "entry": entry.index.0 })),
        Err(error) => failed(&error),
    }
}

/// What the request changes; nothing if it only looks.
fn changes(request: &MemberRequest) -> Result<Vec<MemberChange>, Outcome> {
    let wrong = |error: &dyn std::error::Error| Outcome::failed(Exit::Usage, &error.to_string());
    let added = |peer: &Peer, suffrage: Suffrage, priority: u8| {
        let member = Member::new(peer.id, suffrage, &peer.address).map_err(|error| wrong(&error))?;
        Ok(MemberChange::Add(Member { priority, ..member }))
    };
    Ok(match request {
        MemberRequest::List => Vec::new(),
        MemberRequest::Add { members, suffrage, priority } => {
            let suffrage = match suffrage {
                Suffered { learner: true, .. } => Suffrage::Learner,
                Suffered { witness: true, .. } => Suffrage::Witness,
                Suffered { .. } => Suffrage::Joining,
            };
            let changes: Result<_, Outcome> = members.iter().map(|peer| added(peer, suffrage, *priority)).collect();
            changes?
        }
        MemberRequest::Promote { ids } => ids.iter().map(|id| MemberChange::Promote(id.0)).collect(),
        MemberRequest::Demote { ids } => ids.iter().map(|id| MemberChange::Demote(id.0)).collect(),
        MemberRequest::Remove { ids, .. } => ids.iter().map(|id| MemberChange::Remove(id.0)).collect(),
        MemberRequest::Prioritize { id, priority } => {
            vec![MemberChange::Prioritize { id: id.0, priority: *priority }]
        }
        MemberRequest::Move { member } => {
            let address = member.address.as_str().try_into();
            let too_long = |_| Outcome::failed(Exit::Usage, "the address is longer than 96 bytes");
            vec![MemberChange::Move { id: member.id, address: address.map_err(too_long)? }]
        }
    })
}

pub(crate) fn transfer(cluster: &ClusterArgs, to: Option<NodeId>) -> Outcome {
    match client(cluster).transfer(to) {
        Ok(leader) => Outcome::done(format!("node {leader} leads"), json!({ "leader": leader.get() })),
        Err(error) => failed(&error),
    }
}

pub(crate) fn snapshot(cluster: &ClusterArgs) -> Outcome {
    match client(cluster).snapshot() {
        Ok(through) => Outcome::done(format!("covers entry {through}"), json!({ "through": through.0 })),
        Err(error) => failed(&error),
    }
}

fn failed(error: &OperatorError) -> Outcome {
    let exit = match error {
        OperatorError::Unavailable(_) => Exit::Unavailable,
        OperatorError::Unknown(_) => Exit::Unknown,
        OperatorError::Refused(NotExecuted::NotTakenOver) => Exit::Refused,
        _ => Exit::Refused,
    };
    Outcome::failed(exit, &error.to_string())
}

fn table(configuration: &Configuration) -> String {
    let mut lines = vec![format!("{:>4} {:<16} {:>8} {:<22} STORAGE", "NODE", "PART", "PRIORITY", "ADDRESS")];
    for member in configuration.members() {
        let storage = member.incarnation.map_or_else(|| "not met yet".to_owned(), |storage| storage.to_string());
        lines.push(format!(
            "{:>4} {:<16} {:>8} {:<22} {storage}",
            member.id,
            part(member),
            member.priority,
            member.address
        ));
    }
    lines.join("\n")
}
