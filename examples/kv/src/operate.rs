//! The operator's commands: members, leadership, snapshots.

use std::thread;
use std::time::{Duration, Instant};

use kv::watch::Watch;
use raft_client::{NotExecuted, OperatorClient, OperatorError};
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Configuration, Member, Suffrage};
use raft_core::types::{EntryId, NodeId};
use serde_json::json;

use crate::cli::{ClusterArgs, MemberRequest, Peer, Suffered};
use crate::client::Outcome;
use crate::exit::Exit;
use crate::json::{members_json, part};

/// Adding a member waits for nothing but the log; being promoted needs all of it to be copied. So
/// operators wait longer than clients.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a node is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(100);

fn client(cluster: &ClusterArgs) -> OperatorClient {
    OperatorClient::new(cluster.endpoints.clone(), cluster.timeout.max(PATIENCE)).cluster(cluster.cluster)
}

pub(crate) fn member(cluster: &ClusterArgs, request: &MemberRequest) -> Outcome {
    if let MemberRequest::Replace { old, new } = request {
        return replace(cluster, old.0, new).unwrap_or_else(|outcome| outcome);
    }
    let client = client(cluster);
    let changes = match changes(&client, request) {
        Ok(changes) => changes,
        Err(outcome) => return outcome,
    };
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
fn changes(client: &OperatorClient, request: &MemberRequest) -> Result<Vec<MemberChange>, Outcome> {
    let wrong = |error: &dyn std::error::Error| Outcome::failed(Exit::Usage, &error.to_string());
    let added = |peer: &Peer, suffrage: Suffrage, priority: u8| {
        let member = Member::new(peer.id, suffrage, &peer.address).map_err(|error| wrong(&error))?;
        let member = client.meet(Member { priority, ..member }).map_err(|error| failed(&error))?;
        Ok(MemberChange::Add(member))
    };
    Ok(match request {
        MemberRequest::List | MemberRequest::Replace { .. } => Vec::new(),
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

/// Puts a new node in the place of a member, with no fewer voters meanwhile. What an earlier attempt has done is not
/// done again.
fn replace(cluster: &ClusterArgs, old: NodeId, new: &Peer) -> Result<Outcome, Outcome> {
    let client = client(cluster);
    let done = |entry: EntryId| {
        let text = format!("node {} is in the place of node {old}, by entry {}", new.id, entry.index);
        Outcome::done(text, json!({ "entry": entry.index.0 }))
    };
    let (entry, configuration) = client.members().map_err(|error| failed(&error))?;
    match (configuration.member(old), configuration.member(new.id).map(|member| member.suffrage)) {
        (None, Some(Suffrage::Voter | Suffrage::Joining)) => return Ok(done(entry)),
        (None, _) => {
            return Err(failed(&OperatorError::Refused(NotExecuted::Change(ChangeError::NotMember { id: old }))));
        }
        (Some(_), Some(Suffrage::Learner)) => {}
        (Some(_), Some(_)) => {
            return Err(failed(&OperatorError::Refused(NotExecuted::Change(ChangeError::AlreadyMember {
                id: new.id,
            }))));
        }
        (Some(_), None) => {
            let learner = Member::new(new.id, Suffrage::Learner, &new.address);
            let learner = learner.map_err(|error| Outcome::failed(Exit::Usage, &error.to_string()))?;
            let learner = client.meet(learner).map_err(|error| failed(&error))?;
            client.change_members(&[MemberChange::Add(learner)], false).map_err(|error| failed(&error))?;
        }
    }
    if !has_caught_up(cluster, &new.address)? {
        let text = format!(
            "node {} learns, and has not caught up; node {old} is still a member. See that it runs, and give \
              this command again",
            new.id
        );
        return Err(Outcome::failed(Exit::Refused, &text));
    }
    let changes = [MemberChange::Promote(new.id), MemberChange::Remove(old)];
    client.change_members(&changes, false).map(done).map_err(|error| failed(&error))
}

/// Waits until a node has what its leader had committed at first.
fn has_caught_up(cluster: &ClusterArgs, address: &str) -> Result<bool, Outcome> {
    let endpoints = [&cluster.endpoints[..], &[address.to_owned()]].concat();
    let mut watch = Watch::new(&endpoints).map_err(|error| Outcome::failed(Exit::Usage, &error.to_string()))?;
    let end = Instant::now() + cluster.timeout.max(PATIENCE);
    let mut wanted = None;
    while Instant::now() < end {
        let view = watch.look();
        wanted = wanted.or(view.leader().map(|(_, leader)| leader.commit));
        let learner = view.0.last().copied().flatten();
        if let (Some(wanted), Some(learner)) = (wanted, learner)
            && learner.applied >= wanted
        {
            return Ok(true);
        }
        thread::sleep(LOOK);
    }
    Ok(false)
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
