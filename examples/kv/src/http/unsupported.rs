//! Headers that change what a request means: those that a call does not evaluate refuse it. A write is never executed
//! as if such a header were not there.
//!
//! `Prefer` (RFC 7240) is advice, so it is ignored: the answer carries no `Preference-Applied`.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::problem::Problem;

/// The path whose `PUT` and `DELETE` evaluate `If-Match` and `If-None-Match`.
pub(crate) const KEY_PATH: &str = "/v1/kv/{key}";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Refuses a request that carries what its call does not evaluate.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let evaluates_tags = path.is_some_and(|path| path.as_str() == KEY_PATH);
    match check(request.method(), evaluates_tags, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// `evaluates_tags`: the call evaluates `If-Match` and `If-None-Match` itself.
fn check(method: &Method, evaluates_tags: bool, headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        let detail = "not executed: Idempotency-Key is not supported; open a session with POST /v1/sessions and send \
                      Raft-Session and Raft-Sequence";
        return Err(Problem::not_supported(detail));
    }
    if method.is_safe() {
        return Ok(());
    }
    let tags = [header::IF_MATCH, header::IF_NONE_MATCH].into_iter().filter(|_| !evaluates_tags);
    let others = [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE, header::IF_RANGE];
    if let Some(name) = tags.chain(others).find(|name| headers.contains_key(name)) {
        let detail = format!("not executed: this call does not evaluate the precondition {name}");
        return Err(Problem::not_supported(detail));
    }
    expectation(headers)?;
    representation(headers)
}

/// RFC 9110, section 10.1.1: the one expectation that there is, is that of a body that waits to be asked for.
fn expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let met = |value: &axum::http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(header::EXPECT).iter().all(met) {
        return Ok(());
    }
    let detail = "not executed: the only expectation that is met is 100-continue";
    Err(Problem::new(StatusCode::EXPECTATION_FAILED, "expectation-failed", detail))
}

/// The body is all of a value, as it is to be read back (RFC 9110, sections 8.4 and 14.5).
fn representation(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Problem::bad_request("not executed: a part of a value cannot be written; leave out Content-Range"));
    }
    let plain = |value: &axum::http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let detail = "not executed: Content-Encoding would be lost; send the body without it";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, evaluates_tags: bool, name: &'static str, value: &str) -> u16 {
        let headers = [(HeaderName::from_static(name), value.parse().unwrap())].into_iter().collect();
        check(&method, evaluates_tags, &headers).map_or_else(|problem| problem.status().as_u16(), |()| 0)
    }

    #[test]
    fn a_write_is_refused_unless_all_its_conditions_are_evaluated() {
        let table = [
            ("if-match", "\"1\"", 501, 0),
            ("if-none-match", "*", 501, 0),
            ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT", 501, 501),
            ("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT", 501, 501),
            ("if-range", "\"1\"", 501, 501),
            ("idempotency-key", "\"a\"", 501, 501),
            ("expect", "100-continue", 0, 0),
            ("expect", "200-ok", 417, 417),
            ("expect", "100-continue, 200-ok", 417, 417),
            ("content-range", "bytes 0-1/4", 400, 400),
            ("content-encoding", "gzip", 415, 415),
            ("content-encoding", "identity", 0, 0),
            ("prefer", "respond-async", 0, 0),
        ];
        for (name, value, other, key) in table {
            for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
                assert_eq!(status(method.clone(), false, name, value), other, "{method} {name}");
                assert_eq!(status(method.clone(), true, name, value), key, "{method} {name}");
            }
            let read = if name == "idempotency-key" { 501 } else { 0 };
            assert_eq!(status(Method::GET, false, name, value), read, "GET {name}");
        }
    }
}
