//! `/v1/sessions`: opening, renewing and closing sessions.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::types::{Nonce, Sequence};
use serde::Deserialize;
use serde_json::json;

use crate::http::App;
use crate::http::headers::{Token, parse_nonce};
use crate::http::problem::Problem;
use crate::http::submit::operate;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenBody {
    /// 32 hex digits that nobody can guess; the server makes some if they are left out.
    nonce: Option<String>,
    /// Whether commands run in the order of their numbers.
    #[serde(default)]
    fifo: bool,
}

pub(crate) async fn open(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, Problem> {
    let body: OpenBody = if body.is_empty() {
        OpenBody::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(error.to_string()))?
    };
    let nonce = match body.nonce {
        Some(text) => parse_nonce(&text).ok_or_else(|| Problem::bad_request("a nonce is 32 hex digits"))?,
        None => random_nonce()?,
    };
    match operate(&app.handle, None, OwnedOperation::Open { nonce, fifo: body.fifo }).await? {
        OwnedOutcome::Opened { session, ttl, window, .. } => {
            let session = Token { session, nonce }.text();
            let location = [("location", format!("/v1/sessions/{session}"))];
            let body = json!({ "session": session, "ttl_ms": ttl.0, "window": window });
            Ok((StatusCode::CREATED, location, Json(body)).into_response())
        }
        _ => Err(Problem::unreadable()),
    }
}

fn random_nonce() -> Result<Nonce, Problem> {
    let bits = getrandom::u64().and_then(|high| Ok((u128::from(high) << 64) | u128::from(getrandom::u64()?)));
    let none = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the system gives no random numbers");
    bits.map(Nonce).map_err(none)
}

pub(crate) async fn keep_alive(
    State(app): State<Arc<App>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let Token { session, nonce } = Token::parse(&session)?;
    let acknowledge = match headers.get("raft-acknowledge") {
        None => Sequence::FIRST,
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            number.map(Sequence).ok_or_else(|| Problem::bad_request("Raft-Acknowledge takes a number"))?
        }
    };
    match operate(&app.handle, Some(nonce), OwnedOperation::KeepAlive { session, acknowledge }).await? {
        OwnedOutcome::KeptAlive => Ok(StatusCode::NO_CONTENT),
        _ => Err(Problem::unreadable()),
    }
}

pub(crate) async fn close(State(app): State<Arc<App>>, Path(session): Path<String>) -> Result<StatusCode, Problem> {
    let Token { session, nonce } = Token::parse(&session)?;
    match operate(&app.handle, Some(nonce), OwnedOperation::Close { session }).await? {
        OwnedOutcome::Closed => Ok(StatusCode::NO_CONTENT),
        _ => Err(Problem::unreadable()),
    }
}
