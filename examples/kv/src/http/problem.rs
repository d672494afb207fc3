//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use raft_core::client::protocol::NotExecuted;
use raft_core::message::ProposeError;
use raft_core::session::operation::Refusal;
use raft_core::types::Millis;
use raft_node::Failed;
use serde_json::json;

/// A problem: its stable type, and what it means for this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The name in the `type` member.
    kind: &'static str,
    detail: String,
    /// For `Retry-After`, in seconds.
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), retry_after: None }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Problem {
        Problem { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub(crate) fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no-such-resource", "there is nothing at this path")
    }

    pub(crate) fn no_key() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no-such-key", "the key is absent")
    }

    pub(crate) fn method_not_allowed() -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the resource has no such method")
    }

    pub(crate) fn overloaded(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(1)
    }

    /// A header asks for what no call, or not this one, can do.
    pub(crate) fn not_supported(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_IMPLEMENTED, "not-supported", detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub(crate) fn outcome_unknown() -> Problem {
        let detail = "the deadline passed after the request was proposed: it may have been executed, or not";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", detail)
    }

    /// A read took too long. It had no effect.
    pub(crate) fn too_slow() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", "the request took too long; try again").retry_after(1)
    }

    pub(crate) fn timeout() -> Problem {
        let detail = "the request took too long; a write may have been executed, or not";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", detail)
    }

    pub(crate) fn unreadable() -> Problem {
        let detail = "the node answered what this server does not know";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

/// For `Retry-After`, which knows no fractions: never too early, and never at once.
fn whole_seconds(wait: Millis) -> u64 {
    wait.0.div_ceil(1000).max(1)
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Problem {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let Failed::NotExecuted(reason) = failed else { return Problem::outcome_unknown() };
        let detail = format!("not executed: {reason}");
        match reason {
            NotExecuted::Refused(ProposeError::WrongSecret) => {
                Problem::new(StatusCode::FORBIDDEN, "wrong-secret", detail)
            }
            NotExecuted::Refused(ProposeError::TooLong { .. }) | NotExecuted::AnswerTooLong => {
                Problem::too_large(detail)
            }
            NotExecuted::Refused(ProposeError::Busy) => Problem::overloaded(detail),
            NotExecuted::Refused(ProposeError::NotLeader { leader: Some(_) }) => {
                Problem::new(unavailable, "not-leader", detail).retry_after(1)
            }
            NotExecuted::Refused(ProposeError::Transferring { within, .. }) => {
                Problem::new(unavailable, "transferring", detail).retry_after(whole_seconds(within))
            }
            NotExecuted::Refused(ProposeError::NoSpace) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no-space", detail)
            }
            NotExecuted::Stopping => Problem::new(unavailable, "stopping", detail).retry_after(1),
            _ => Problem::new(unavailable, "no-quorum", detail).retry_after(1),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = format!("not executed: {refusal}");
        match refusal {
            Refusal::Stale => Problem::new(StatusCode::CONFLICT, "stale-sequence", detail),
            Refusal::WindowFull => Problem::new(StatusCode::TOO_MANY_REQUESTS, "window-full", detail),
            Refusal::Mismatch => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mismatch", detail),
            Refusal::SessionExpired => Problem::new(StatusCode::GONE, "session-expired", detail),
            Refusal::OutOfOrder => Problem::new(StatusCode::CONFLICT, "out-of-order", detail),
            Refusal::TableFull { retry_after } => {
                let seconds = whole_seconds(retry_after);
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "table-full", detail).retry_after(seconds)
            }
            _ => Problem::new(StatusCode::CONFLICT, "refused", detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Problem");
        let body = json!({
            "type": format!("urn:raft-kv:problem:{}", self.kind),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use raft_core::types::NodeId;

    use super::*;

    #[test]
    fn who_meets_a_hand_over_is_told_when_it_will_be_over() {
        let to = NodeId::new(2).unwrap();
        for (within, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)] {
            let reason = NotExecuted::Refused(ProposeError::Transferring { to, within: Millis(within) });
            let problem = Problem::from(Failed::NotExecuted(reason));
            assert_eq!(
                (problem.status.as_u16(), problem.kind, problem.retry_after),
                (503, "transferring", Some(seconds))
            );
            assert!(problem.detail.starts_with("not executed"), "{}", problem.detail);
            let response = problem.into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds.to_string());
        }
    }
}
