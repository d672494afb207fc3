//! HTTP connections to the key-value store, from their bytes to the state machine: requests put together from what it
//! knows and what it does not, one behind the other, or any bytes at all; asked of a node that leads or finds no
//! leader. The code is that of `kv`, but for sockets and the clock.
//!
//! No request makes it panic or answers 500, an answer has its bound, and every connection comes to its end.

#![no_main]

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::configuration::{Configuration, voters};
use raft_core::message::{ForwardTicket, ProposeError};
use raft_core::raft::StepError;
use raft_core::raft::config::Config;
use raft_core::replica::Observer;
use raft_core::session::limits::SessionLimits;
use raft_core::session::operation::Outcome;
use raft_core::types::{ClusterId, EntryId, Millis, NodeId};
use raft_node::memory::{ManualClock, MemoryHub, MemoryNetwork, MemoryStorage};
use raft_node::{EventLoop, Handle, NodeOptions};
use raft_transport_tcp::rivals::CopyAlarm;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

#[path = "../../examples/kv/src/http/mod.rs"]
#[allow(dead_code, reason = "sockets are not used here")]
mod http;
#[path = "../../examples/kv/src/json.rs"]
mod json;
#[path = "../../examples/kv/src/machine.rs"]
mod machine;

use machine::Store;

type Node = EventLoop<MemoryStorage, MemoryNetwork, Store, ManualClock>;

/// The pages of a list have a mebibyte of keys and values, which JSON makes longer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The time that passes from turn to turn.
const TURN: Duration = Duration::from_millis(20);
/// More than the longest time that a request may take.
const TURNS_MAX: usize = 5_000;
const REQUESTS_MAX: usize = 8;

#[derive(Debug, Arbitrary)]
struct Connection {
    leads: bool,
    sent: Sent,
}

#[derive(Debug, Arbitrary)]
enum Sent {
    Requests(Vec<Request>),
    Bytes(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Request {
    method: u8,
    path: Path,
    query: Vec<(u8, Text)>,
    headers: Vec<Header>,
    body: Body,
    lengths: Lengths,
}

#[derive(Debug, Arbitrary)]
enum Path {
    Keys,
    Key(Text),
    Incr(Text),
    Sessions,
    Session(Token),
    KeepAlive(Token),
    Members,
    Member(Text),
    Leader,
    Snapshots,
    Other(u8),
    Any(String),
}

/// A piece of text: a known one, or any.
#[derive(Debug, Arbitrary)]
enum Text {
    Known(u8),
    Number(i64),
    Escaped(Vec<u8>),
    Any(String),
    Long(u16),
}

/// A session's token.
#[derive(Debug, Arbitrary)]
enum Token {
    Right,
    Of(u64, u128),
    Any(Text),
}

#[derive(Debug, Arbitrary)]
enum Header {
    Session(Token),
    Sequence(Text),
    Acknowledge(Text),
    IfMatch(Text),
    IfNoneMatch,
    Json,
    Any(Text, Text),
}

#[derive(Debug, Arbitrary)]
enum Body {
    None,
    Incr(i64),
    Open(Text, bool),
    Member(u64, Text, u8),
    Nested(u16),
    Value(Vec<u8>),
    Long(u32),
}

/// How a request says where its body ends.
#[derive(Debug, Arbitrary)]
enum Lengths {
    Right,
    None,
    Twice,
    Wrong(Text),
    Chunked,
    Both,
}

/// The session that is opened first gets this token, if it is opened with this nonce: entry 1 is the configuration,
/// and 2 the start of the term.
const TOKEN: &str = "3-00000000000000000000000000000abc";

impl Text {
    fn write(&self) -> String {
        const KNOWN: [&str; 18] = [
            "a",
            "n",
            "k",
            "1",
            "2",
            "3",
            "\"3\"",
            "\"4\"",
            "*",
            "linearizable",
            "stale",
            "lease",
            "voter",
            "witness",
            "00000000000000000000000000000abc",
            "close",
            "host:7001",
            "100-continue",
        ];
        match self {
            Text::Known(which) => KNOWN[usize::from(*which) % KNOWN.len()].to_owned(),
            Text::Number(number) => number.to_string(),
            Text::Escaped(bytes) => bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "%{byte:02x}");
                text
            }),
            Text::Any(text) => text.clone(),
            Text::Long(length) => "x".repeat(usize::from(*length)),
        }
    }
}

impl Token {
    fn write(&self) -> String {
        match self {
            Token::Right => TOKEN.to_owned(),
            Token::Of(session, nonce) => format!("{session}-{nonce:032x}"),
            Token::Any(text) => text.write(),
        }
    }
}

impl Path {
    fn write(&self) -> String {
        match self {
            Path::Keys => "/v1/kv".to_owned(),
            Path::Key(key) => format!("/v1/kv/{}", key.write()),
            Path::Incr(key) => format!("/v1/kv/{}/incr", key.write()),
            Path::Sessions => "/v1/sessions".to_owned(),
            Path::Session(token) => format!("/v1/sessions/{}", token.write()),
            Path::KeepAlive(token) => format!("/v1/sessions/{}/keep-alive", token.write()),
            Path::Members => "/v1/members".to_owned(),
            Path::Member(id) => format!("/v1/members/{}", id.write()),
            Path::Leader => "/v1/leader".to_owned(),
            Path::Snapshots => "/v1/snapshots".to_owned(),
            Path::Other(which) => {
                let others = ["/v1/status", "/healthz", "/readyz", "/metrics", "/", "*", "/v1//kv", "/v1/kv/"];
                others[usize::from(*which) % others.len()].to_owned()
            }
            Path::Any(path) => path.clone(),
        }
    }
}

impl Header {
    fn write(&self) -> String {
        match self {
            Header::Session(token) => format!("Raft-Session: {}", token.write()),
            Header::Sequence(number) => format!("Raft-Sequence: {}", number.write()),
            Header::Acknowledge(number) => format!("Raft-Acknowledge: {}", number.write()),
            Header::IfMatch(tag) => format!("If-Match: {}", tag.write()),
            Header::IfNoneMatch => "If-None-Match: *".to_owned(),
            Header::Json => "Content-Type: application/json".to_owned(),
            Header::Any(name, value) => format!("{}: {}", name.write(), value.write()),
        }
    }
}

impl Body {
    fn write(&self) -> Vec<u8> {
        let part = |part: u8| ["voter", "learner", "witness", "judge"][usize::from(part) % 4];
        match self {
            Body::None => Vec::new(),
            Body::Incr(by) => format!("{{\"by\":{by}}}").into_bytes(),
            Body::Open(nonce, fifo) => format!("{{\"nonce\":{:?},\"fifo\":{fifo}}}", nonce.write()).into_bytes(),
            Body::Member(id, address, what) => {
                format!("{{\"id\":{id},\"address\":{:?},\"part\":\"{}\"}}", address.write(), part(*what)).into_bytes()
            }
            Body::Nested(depth) => [vec![b'['; (*depth).into()], vec![b']'; (*depth).into()]].concat(),
            Body::Value(bytes) => bytes.clone(),
            // A little more than a value may have, at most.
            Body::Long(length) => vec![b'7'; *length as usize % ((1 << 20) + 3)],
        }
    }
}

impl Request {
    fn write(&self) -> Vec<u8> {
        const METHODS: [&str; 9] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW", "get"];
        const NAMES: [&str; 6] = ["consistency", "prefix", "after", "limit", "x", ""];
        let (method, body) = (METHODS[usize::from(self.method) % METHODS.len()], self.body.write());
        let mut head = format!("{method} {}", self.path.write());
        for (number, (name, value)) in self.query.iter().enumerate() {
            let separator = if number == 0 { '?' } else { '&' };
            let _ = write!(head, "{separator}{}={}", NAMES[usize::from(*name) % NAMES.len()], value.write());
        }
        head.push_str(" HTTP/1.1\r\nHost: h\r\n");
        for header in &self.headers {
            let _ = write!(head, "{}\r\n", header.write());
        }
        let length = format!("Content-Length: {}\r\n", body.len());
        let chunked = matches!(self.lengths, Lengths::Chunked | Lengths::Both);
        match &self.lengths {
            Lengths::Right => head.push_str(&length),
            Lengths::None => {}
            Lengths::Twice => head.push_str(&length.repeat(2)),
            Lengths::Wrong(text) => head.push_str(&format!("Content-Length: {}\r\n", text.write())),
            Lengths::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Lengths::Both => head.push_str(&format!("{length}Transfer-Encoding: chunked\r\n")),
        }
        head.push_str("\r\n");
        if chunked {
            return [head.as_bytes(), format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        }
        [head.as_bytes(), &body].concat()
    }
}

struct Nobody;

impl Observer for Nobody {
    fn applied(&mut self, _: EntryId, _: Option<Outcome<'_>>) {}

    fn forwarded(&mut self, _: ForwardTicket, _: Result<EntryId, ProposeError>) {}

    fn ignored(&mut self, _: NodeId, _: StepError) {}
}

/// Its time stands still unless it is moved.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("the system gives a runtime")
});

fn node(leads: bool) -> (Node, Handle, ManualClock) {
    // Without the second of two there is no leader.
    let members = voters(ClusterId(1), if leads { 1 } else { 2 }).expect("they can vote");
    let limits = SessionLimits { sessions: 3, window: 2, answer_bytes: 8, ..members.limits() };
    let members = Configuration::new(ClusterId(1), limits, members.members().iter().cloned()).expect("they can vote");
    let id = NodeId::new(1).expect("1 is not 0");
    let raft = Config { seed: 1, election_timeout: Millis(60), heartbeat_interval: Millis(20), ..Config::default() };
    let options = NodeOptions { raft, query_bytes_max: 2 << 20, ..NodeOptions::new(id) };
    let ((network, peers), clock) = (MemoryHub::new().join(id), ManualClock::new());
    let mut storage = MemoryStorage::new();
    raft_node::create(&mut storage, &members).expect("it is empty");
    let made = EventLoop::new(options, storage, network, peers, Store::default(), clock.clone());
    let (mut node, handle) = made.expect("the node can start");
    for _ in 0..10 {
        turn(&mut node, &clock);
    }
    (node, handle, clock)
}

fn turn(node: &mut Node, clock: &ManualClock) {
    clock.advance(Millis(20));
    node.turn(&mut Nobody).expect("nothing stops the node");
}

/// What is answered to these bytes, until the connection ends.
async fn converse(leads: bool, sent: &[u8]) -> Vec<u8> {
    let (mut node, handle, clock) = node(leads);
    let app = http::App { handle, listen: String::new(), copies: CopyAlarm::default(), patience: Duration::ZERO };
    let (mut here, there) = duplex(64 << 10);
    let (_stop, stopped) = watch::channel(false);
    let mut served = pin!(http::serve(there, http::router(Arc::new(app)), stopped));
    let mut asked = pin!(async {
        let (mut reader, mut writer) = tokio::io::split(&mut here);
        let mut answer = Vec::new();
        // Who is refused early is not read to the end.
        let write = async {
            let _ = writer.write_all(sent).await;
            let _ = writer.shutdown().await;
        };
        let (_, _) = tokio::join!(write, reader.read_to_end(&mut answer));
        answer
    });
    let (mut has_served, mut answer) = (false, None);
    for turns in 0.. {
        assert!(turns < TURNS_MAX, "a connection comes to its end");
        poll_fn(|context| {
            has_served = has_served || served.as_mut().poll(context).is_ready();
            if answer.is_none()
                && let Poll::Ready(all) = asked.as_mut().poll(context)
            {
                answer = Some(all);
            }
            Poll::Ready(())
        })
        .await;
        if has_served && answer.is_some() {
            break;
        }
        turn(&mut node, &clock);
        tokio::time::advance(TURN).await;
    }
    answer.unwrap_or_default()
}

/// The status and the rest of an answer; `None` if there is none.
fn status(answer: &[u8]) -> Option<u16> {
    let code = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

fuzz_target!(|connection: Connection| {
    let sent = match &connection.sent {
        Sent::Requests(requests) => requests.iter().take(REQUESTS_MAX).flat_map(Request::write).collect(),
        Sent::Bytes(bytes) => bytes.clone(),
    };
    let answer = RUNTIME.block_on(converse(connection.leads, &sent));
    assert!(answer.len() <= ANSWER_BYTES_MAX * REQUESTS_MAX, "an answer has its bound");
    let mut rest = answer.as_slice();
    while let Some(status) = status(rest) {
        assert_ne!(status, 500, "{}", String::from_utf8_lossy(rest));
        rest = behind(rest).unwrap_or_default();
    }
});

/// What lies behind the first answer, as far as that can be told: an answer to HEAD has a length and no body.
fn behind(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, rest) = answer.split_at(end);
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    if rest.starts_with(b"HTTP/1.1 ") { Some(rest) } else { rest.get(length.unwrap_or(0)..) }
}
