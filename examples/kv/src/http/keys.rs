//! `/v1/kv`: keys and values.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes as Body;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query as QueryString, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kv::command::{Command, Found, KEY_BYTES_MAX, Page, Query, Reply, VALUE_BYTES_MAX, decode, encode, is_key};
use raft_core::client::protocol::Consistency;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::wire::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::http::App;
use crate::http::headers::{Selected, condition, numbered, select};
use crate::http::problem::Problem;
use crate::http::submit;
use crate::json::text;

type Key = Result<Path<String>, PathRejection>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadOptions {
    #[serde(default)]
    consistency: ConsistencyName,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ConsistencyName {
    #[default]
    Linearizable,
    Lease,
    Stale,
}

impl From<ConsistencyName> for Consistency {
    fn from(name: ConsistencyName) -> Consistency {
        match name {
            ConsistencyName::Linearizable => Consistency::Linearizable,
            ConsistencyName::Lease => Consistency::Lease,
            ConsistencyName::Stale => Consistency::Stale,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListOptions {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
    limit: Option<u32>,
    #[serde(default)]
    consistency: ConsistencyName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncrBody {
    #[serde(default = "one")]
    by: i64,
}

fn one() -> i64 {
    1
}

fn key(path: Key) -> Result<String, Problem> {
    let Path(key) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    if is_key(&key) { Ok(key) } else { Err(Problem::too_large(format!("a key has 1 to {KEY_BYTES_MAX} bytes"))) }
}

fn options<T>(query: Result<QueryString<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|QueryString(options)| options).map_err(|error| Problem::bad_request(error.body_text()))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    path: Key,
    query: Result<QueryString<ReadOptions>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (key, ReadOptions { consistency }) = (key(path)?, options(query)?);
    let bytes = submit::query(&app.handle, consistency.into(), encode(&Query::Get { key: &key })).await?;
    match decode(&bytes) {
        Some(Found { value: Some((value, revision)), .. }) => {
            let mut response = match select(&headers, revision) {
                Selected::Sent => value.0.to_vec().into_response(),
                Selected::NotModified => StatusCode::NOT_MODIFIED.into_response(),
                Selected::Failed => return Err(compare_failed(Some(revision))),
            };
            response.headers_mut().insert(header::ETAG, tag(revision)?);
            response.headers_mut().insert("raft-revision", HeaderValue::from(revision));
            Ok(response)
        }
        Some(_) => Err(Problem::no_key()),
        None => Err(Problem::unreadable()),
    }
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    query: Result<QueryString<ListOptions>, QueryRejection>,
) -> Result<Response, Problem> {
    let ListOptions { prefix, after, limit, consistency } = options(query)?;
    let query = Query::List { prefix: &prefix, after: &after, limit: limit.unwrap_or(100) };
    let bytes = submit::query(&app.handle, consistency.into(), encode(&query)).await?;
    let page: Page<'_> = decode(&bytes).ok_or_else(Problem::unreadable)?;
    let item = |&(key, value, revision): &(&str, Bytes<'_>, u64)| json!({ "key": key, "value": text(value.0), "revision": revision });
    let next = page.items.last().filter(|_| page.more).map(|(key, ..)| *key);
    let items: Vec<_> = page.items.iter().map(item).collect();
    let mut response = Json(json!({ "items": items, "next": next })).into_response();
    response.headers_mut().insert("raft-revision", HeaderValue::from(page.at));
    Ok(response)
}

pub(crate) async fn put(
    State(app): State<Arc<App>>,
    path: Key,
    headers: HeaderMap,
    body: Result<Body, BytesRejection>,
) -> Result<Response, Problem> {
    let too_large = |_| Problem::too_large(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
    let (key, value) = (key(path)?, body.map_err(too_large)?);
    let command = Command::Put { key: &key, value: Bytes(&value), condition: condition(&headers)? };
    write(&app, &headers, &command).await
}

pub(crate) async fn delete(State(app): State<Arc<App>>, path: Key, headers: HeaderMap) -> Result<Response, Problem> {
    let key = key(path)?;
    write(&app, &headers, &Command::Delete { key: &key, condition: condition(&headers)? }).await
}

pub(crate) async fn incr(
    State(app): State<Arc<App>>,
    path: Key,
    headers: HeaderMap,
    body: Result<Json<IncrBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let key = key(path)?;
    let wrong = |error: JsonRejection| Problem::new(error.status(), "bad-request", error.body_text());
    let Json(IncrBody { by }) = body.map_err(wrong)?;
    write(&app, &headers, &Command::Incr { key: &key, by }).await
}

/// Executes a command, under the session in the headers if there is one.
async fn write(app: &App, headers: &HeaderMap, command: &Command<'_>) -> Result<Response, Problem> {
    let command = encode(command);
    let (secret, operation) = match numbered(headers)? {
        None => (None, OwnedOperation::Plain { command }),
        Some(numbered) => {
            let (session, sequence) = (numbered.token.session, numbered.sequence);
            let acknowledge = numbered.acknowledge;
            (Some(numbered.token.nonce), OwnedOperation::Command { session, sequence, acknowledge, command })
        }
    };
    match submit::operate(&app.handle, secret, operation).await? {
        OwnedOutcome::Answered { index, answer, replayed } => {
            let reply = decode(&answer).ok_or_else(Problem::unreadable)?;
            answer_reply(reply, index.0, replayed)
        }
        OwnedOutcome::Executed { index, replayed } => answer_reply(Reply::Done, index.0, replayed),
        _ => Err(Problem::unreadable()),
    }
}

fn answer_reply(reply: Reply, revision: u64, replayed: bool) -> Result<Response, Problem> {
    let mut response = match reply {
        Reply::Done => StatusCode::NO_CONTENT.into_response(),
        Reply::Counted { value } => Json(json!({ "value": value, "revision": revision })).into_response(),
        Reply::ConditionFailed { revision } => {
            return Ok(mark(compare_failed(revision), replayed));
        }
        Reply::NotFound => return Ok(mark(Problem::no_key(), replayed)),
        Reply::NotANumber => {
            let detail = "the value is no decimal number of 64 bits";
            return Ok(mark(Problem::new(StatusCode::CONFLICT, "not-a-number", detail), replayed));
        }
        Reply::Overflow => {
            let detail = "the sum has more than 64 bits";
            return Ok(mark(Problem::new(StatusCode::CONFLICT, "overflow", detail), replayed));
        }
        Reply::Invalid => return Err(Problem::bad_request("the cluster does not know this command")),
    };
    response.headers_mut().insert(header::ETAG, tag(revision)?);
    response.headers_mut().insert("raft-revision", HeaderValue::from(revision));
    Ok(mark(response, replayed))
}

fn compare_failed(revision: Option<u64>) -> Problem {
    let found = revision.map_or_else(|| "it is absent".to_owned(), |found| format!("its revision is {found}"));
    let detail = format!("the key is not as the request demands: {found}");
    Problem::new(StatusCode::PRECONDITION_FAILED, "compare-failed", detail)
}

/// Says of an answer whether it was kept from an earlier attempt.
fn mark(response: impl IntoResponse, replayed: bool) -> Response {
    let mut response = response.into_response();
    if replayed {
        response.headers_mut().insert("raft-replayed", HeaderValue::from_static("true"));
    }
    response
}

fn tag(revision: u64) -> Result<HeaderValue, Problem> {
    HeaderValue::try_from(format!("\"{revision}\"")).map_err(|_| Problem::unreadable())
}
