//! The operator's calls that change something: members, leadership, snapshots. Every node takes them
//! and brings them to the leader.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use raft_client::{NotExecuted, OperatorClient, OperatorError};
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::configuration::{Member, Suffrage};
use raft_core::types::NodeId;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::http::problem::Problem;
use crate::http::{App, OPERATIONS_MAX};
use crate::json::members_json;

/// Each call has a thread and some descriptors.
static OPERATIONS: Semaphore = Semaphore::const_new(OPERATIONS_MAX);

/// Does `ask` on a thread of its own, since it blocks, over the native protocol from this node on.
async fn operate<T: Send + 'static>(
    app: &App,
    ask: impl FnOnce(&OperatorClient) -> Result<T, OperatorError> + Send + 'static,
) -> Result<T, Problem> {
    let busy = |_| Problem::overloaded("not executed: too many calls of operators are under way");
    let call = tokio::time::timeout(app.patience, OPERATIONS.acquire()).await.map_err(busy)?;
    let client = OperatorClient::new(vec![app.listen.clone()], app.patience);
    let done = tokio::task::spawn_blocking(move || ask(&client)).await;
    drop(call);
    done.map_err(|_| Problem::unreadable())?.map_err(Problem::from)
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let (entry, configuration) = operate(&app, OperatorClient::members).await?;
    Ok(Json(members_json(entry, &configuration)).into_response())
}

/// What a new member is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMember {
    id: u64,
    address: String,
    /// `voter` (which it becomes once it has caught up), `learner` or `witness`.
    #[serde(default)]
    part: Part,
    #[serde(default)]
    priority: u8,
    /// A member that leaves by the same change.
    replaces: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    #[default]
    Voter,
    Learner,
    Witness,
}

pub(crate) async fn add(State(app): State<Arc<App>>, Json(new): Json<NewMember>) -> Result<Response, Problem> {
    let suffrage = match new.part {
        Part::Voter => Suffrage::Joining,
        Part::Learner => Suffrage::Learner,
        Part::Witness => Suffrage::Witness,
    };
    let id = node(new.id)?;
    let member = Member::new(id, suffrage, &new.address).map_err(|error| Problem::bad_request(error.to_string()))?;
    let (member, leaves) = (Member { priority: new.priority, ..member }, new.replaces.map(node).transpose()?);
    let entry = operate(&app, move |client| {
        let mut changes = vec![MemberChange::Add(client.meet(member)?)];
        changes.extend(leaves.map(MemberChange::Remove));
        client.change_members(&changes, false)
    });
    let entry = entry.await?;
    Ok((StatusCode::CREATED, Json(json!({ "entry": entry.index.0 }))).into_response())
}

/// What is changed of a member; what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changed {
    /// `voter` promotes, `learner` demotes.
    part: Option<Part>,
    address: Option<String>,
    priority: Option<u8>,
    /// A member that leaves by the same change: so a learner that has caught up takes the place of a voter.
    replaces: Option<u64>,
}

pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    Json(changed): Json<Changed>,
) -> Result<Response, Problem> {
    let id = node(id)?;
    let mut changes = Vec::new();
    match changed.part {
        Some(Part::Voter) => changes.push(MemberChange::Promote(id)),
        Some(Part::Learner) => changes.push(MemberChange::Demote(id)),
        Some(Part::Witness) => return Err(Problem::bad_request("a witness is added as one; it cannot be made one")),
        None => {}
    }
    if let Some(address) = changed.address {
        let address = address.as_str().try_into().map_err(|_| Problem::bad_request("the address is too long"))?;
        changes.push(MemberChange::Move { id, address });
    }
    changes.extend(changed.priority.map(|priority| MemberChange::Prioritize { id, priority }));
    if changes.is_empty() {
        return Err(Problem::bad_request("name what is to be changed: part, address or priority"));
    }
    changes.extend(changed.replaces.map(node).transpose()?.map(MemberChange::Remove));
    let entry = operate(&app, move |client| client.change_members(&changes, false)).await?;
    Ok(Json(json!({ "entry": entry.index.0 })).into_response())
}

/// How a member is removed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Removal {
    /// Also if the cluster stands still then, since too few of the others answer.
    #[serde(default)]
    force: bool,
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<u64>,
    removal: Result<Query<Removal>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = node(id)?;
    let Query(Removal { force }) = removal.map_err(|wrong| Problem::bad_request(wrong.body_text()))?;
    let entry = operate(&app, move |client| client.change_members(&[MemberChange::Remove(id)], force)).await?;
    Ok(Json(json!({ "entry": entry.index.0 })).into_response())
}

/// Who is to lead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Successor {
    /// Left out: the node that has most of the log.
    to: Option<u64>,
}

pub(crate) async fn transfer(
    State(app): State<Arc<App>>,
    successor: Option<Json<Successor>>,
) -> Result<Response, Problem> {
    let to = successor.and_then(|Json(successor)| successor.to).map(node).transpose()?;
    let leader = operate(&app, move |client| client.transfer(to)).await?;
    Ok(Json(json!({ "leader": leader.get() })).into_response())
}

pub(crate) async fn snapshot(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let through = operate(&app, OperatorClient::snapshot).await?;
    Ok((StatusCode::CREATED, Json(json!({ "through": through.0 }))).into_response())
}

fn node(id: u64) -> Result<NodeId, Problem> {
    NodeId::new(id).ok_or_else(|| Problem::bad_request("0 is no node's number: those are 1, 2, 3 and so on"))
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Problem {
        let detail = error.to_string();
        let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, detail.clone());
        match error {
            OperatorError::Refused(NotExecuted::Change(ChangeError::NotMember { .. })) => {
                Problem::new(StatusCode::NOT_FOUND, "no-such-member", detail)
            }
            OperatorError::Refused(NotExecuted::Change(ChangeError::UnderWay)) => conflict("change-under-way"),
            OperatorError::Refused(NotExecuted::Change(_)) => conflict("unsafe-change"),
            OperatorError::Refused(NotExecuted::Transfer(_) | NotExecuted::NotTakenOver) => conflict("not-transferred"),
            OperatorError::Refused(_) => conflict("refused"),
            OperatorError::InTheWay { .. } => conflict("node-in-the-way"),
            OperatorError::Unknown(_) => Problem::outcome_unknown(),
            OperatorError::Unavailable(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-quorum", detail).retry_after(1)
            }
            _ => Problem::unreadable(),
        }
    }
}
