//! The headers of writes: under which session they run, and what they depend on.

use axum::http::{HeaderMap, HeaderName, header};
use kv::command::Condition;
use raft_core::types::{Nonce, Sequence, SessionId};

use crate::http::problem::Problem;

/// A session as it is written over HTTP: `<id>-<32 hex digits>`. The digits are its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) session: SessionId,
    pub(crate) nonce: Nonce,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Token, Problem> {
        let wrong = || Problem::bad_request("a session is written as it was given when it was opened: ID-32HEXDIGITS");
        let (session, nonce) = text.split_once('-').ok_or_else(wrong)?;
        let session = SessionId(session.parse().map_err(|_| wrong())?);
        Ok(Token { session, nonce: parse_nonce(nonce).ok_or_else(wrong)? })
    }

    pub(crate) fn text(&self) -> String {
        format!("{}-{:032x}", self.session, self.nonce.0)
    }
}

/// Reads 32 hex digits.
pub(crate) fn parse_nonce(text: &str) -> Option<Nonce> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { u128::from_str_radix(text, 16).ok().map(Nonce) } else { None }
}

/// The session headers of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) token: Token,
    pub(crate) sequence: Sequence,
    pub(crate) acknowledge: Sequence,
}

/// Reads the three session headers; `None` for a write without a session.
pub(crate) fn numbered(headers: &HeaderMap) -> Result<Option<Numbered>, Problem> {
    let session = text(headers, &HeaderName::from_static("raft-session"))?;
    let sequence = number(headers, "raft-sequence")?;
    let acknowledge = number(headers, "raft-acknowledge")?;
    match (session, sequence) {
        (None, None) if acknowledge.is_none() => Ok(None),
        (Some(session), Some(sequence)) => {
            let token = Token::parse(session)?;
            // Who acknowledges nothing still waits for everything.
            Ok(Some(Numbered { token, sequence, acknowledge: acknowledge.unwrap_or(Sequence::FIRST) }))
        }
        _ => Err(Problem::bad_request("Raft-Session and Raft-Sequence go together; Raft-Acknowledge needs both")),
    }
}

/// Reads `If-Match` and `If-None-Match`, of which a write may have one.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let (matches, absent) = (text(headers, &header::IF_MATCH)?, text(headers, &header::IF_NONE_MATCH)?);
    match (matches, absent) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tags), None) if tags == "*" || tags.starts_with("W/") || tags.contains(',') => {
            Err(Problem::not_supported("If-Match takes one strong ETag, \"REVISION\": neither * nor a list"))
        }
        (None, Some(_)) => Err(Problem::not_supported("If-None-Match takes * for a write, and no ETags")),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            let wrong = || Problem::bad_request("If-Match takes one ETag as it was given, \"REVISION\"");
            revision.map(Condition::Revision).ok_or_else(wrong)
        }
        _ => Err(Problem::not_supported("a write takes If-Match: \"REVISION\" or If-None-Match: *, not both")),
    }
}

/// What a read's `If-Match` and `If-None-Match` make of a key that is there (RFC 9110, section 13.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// It is sent.
    Sent,
    /// The client has it already.
    NotModified,
    /// It is not the one that the client demands.
    Failed,
}

/// Evaluates the preconditions of a read of a key with this revision.
pub(crate) fn select(headers: &HeaderMap, revision: u64) -> Selected {
    let strong = format!("\"{revision}\"");
    let names = |name: &HeaderName, weak: bool| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").filter(|_| weak).unwrap_or(tag) == strong)
    };
    if headers.contains_key(header::IF_MATCH) && !names(&header::IF_MATCH, false) {
        return Selected::Failed;
    }
    if names(&header::IF_NONE_MATCH, true) { Selected::NotModified } else { Selected::Sent }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Problem::bad_request(format!("the header {name} is no text")))
        }
        (Some(_), Some(_)) => Err(Problem::bad_request(format!("the header {name} stands twice"))),
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<Sequence>, Problem> {
    let Some(text) = text(headers, &HeaderName::from_static(name))? else { return Ok(None) };
    let wrong = || Problem::bad_request(format!("the header {name} takes a number, not `{text}`"));
    text.parse().map(|number| Some(Sequence(number))).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn tokens_read_back_as_they_are_written() {
        let token = Token { session: SessionId(17), nonce: Nonce(0xabc) };
        assert_eq!(token.text(), "17-00000000000000000000000000000abc");
        assert_eq!(Token::parse(&token.text()), Ok(token));
        for wrong in ["", "17", "17-abc", "x-00000000000000000000000000000abc", "17-+0000000000000000000000000000abc"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn session_headers_go_together() {
        let session = ("raft-session", "17-00000000000000000000000000000abc");
        assert_eq!(numbered(&headers(&[])), Ok(None));
        let full = numbered(&headers(&[session, ("raft-sequence", "3"), ("raft-acknowledge", "2")])).unwrap().unwrap();
        assert_eq!((full.sequence, full.acknowledge), (Sequence(3), Sequence(2)));
        let bare = numbered(&headers(&[session, ("raft-sequence", "3")])).unwrap().unwrap();
        assert_eq!(bare.acknowledge, Sequence(1));
        assert!(numbered(&headers(&[session])).is_err());
        assert!(numbered(&headers(&[("raft-sequence", "3")])).is_err());
        assert!(numbered(&headers(&[("raft-acknowledge", "3")])).is_err());
        assert!(numbered(&headers(&[session, ("raft-sequence", "-3")])).is_err());
    }

    #[test]
    fn conditions_are_one_of_two() {
        assert_eq!(condition(&headers(&[])), Ok(Condition::Always));
        assert_eq!(condition(&headers(&[("if-match", "\"17\"")])), Ok(Condition::Revision(17)));
        assert_eq!(condition(&headers(&[("if-none-match", "*")])), Ok(Condition::Absent));
        assert!(condition(&headers(&[("if-match", "17")])).is_err());
        let unsupported: [&[(&'static str, &str)]; 5] = [
            &[("if-none-match", "\"17\"")],
            &[("if-match", "\"17\""), ("if-none-match", "*")],
            &[("if-match", "*")],
            &[("if-match", "W/\"17\"")],
            &[("if-match", "\"17\", \"18\"")],
        ];
        for pairs in unsupported {
            assert_eq!(condition(&headers(pairs)).unwrap_err().status().as_u16(), 501, "{pairs:?}");
        }
    }

    #[test]
    fn a_read_is_answered_by_its_preconditions() {
        let select = |pairs: &[(&'static str, &str)]| select(&headers(pairs), 17);
        assert_eq!(select(&[]), Selected::Sent);
        for same in ["\"17\"", "W/\"17\"", "*", "\"3\", \"17\""] {
            assert_eq!(select(&[("if-none-match", same)]), Selected::NotModified, "{same}");
        }
        assert_eq!(select(&[("if-none-match", "\"3\"")]), Selected::Sent);
        for same in ["\"17\"", "*", "\"3\", \"17\""] {
            assert_eq!(select(&[("if-match", same)]), Selected::Sent, "{same}");
        }
        for other in ["\"3\"", "W/\"17\""] {
            assert_eq!(select(&[("if-match", other)]), Selected::Failed, "{other}");
        }
    }
}
