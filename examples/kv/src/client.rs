//! The commands that ask a running cluster, over the native protocol.

use std::fmt::Display;
use std::io::{self, Read, Write};

use kv::command::{
    Command, Condition, Found, KEY_BYTES_MAX, Page, Query, Reply, VALUE_BYTES_MAX, decode, encode, is_key,
};
use raft_client::{BlockingClient, CommandError, Consistency, NodeStatus, NotExecuted, Options, QueryError, Reason};
use raft_core::message::ProposeError;
use raft_core::wire::Bytes;
use serde_json::{Value, json};

use crate::cli::{ClusterArgs, Request};
use crate::exit::Exit;
use crate::json::{status_json, text};
use crate::operate;

/// What a command came to: how to end, and what to print.
pub(crate) struct Outcome {
    exit: Exit,
    /// For people: standard output if it was done, standard error if not.
    text: Vec<u8>,
    json: Value,
}

impl Outcome {
    pub(crate) fn done(text: impl Into<Vec<u8>>, json: Value) -> Outcome {
        Outcome { exit: Exit::Done, text: text.into(), json }
    }

    pub(crate) fn failed(exit: Exit, text: &str) -> Outcome {
        Outcome { exit, text: text.as_bytes().to_vec(), json: json!({ "error": text }) }
    }
}

/// Carries out one request and prints what came of it.
pub(crate) fn run(request: &Request, json: bool) -> Exit {
    let outcome = match request {
        Request::Put { cluster, key, value } => put(cluster, key, value),
        Request::Get { cluster, key, stale, lease } => get(cluster, key, freshness(*stale, *lease)),
        Request::Delete { cluster, key } => {
            write(cluster, key, &[], &Command::Delete { key, condition: Condition::Always })
        }
        Request::Incr { cluster, key, by } => write(cluster, key, &[], &Command::Incr { key, by: *by }),
        Request::Cas { cluster, key, old, new } => {
            let command = Command::Cas { key, old: Bytes(old.as_bytes()), new: Bytes(new.as_bytes()) };
            write(cluster, key, new.as_bytes(), &command)
        }
        Request::List { cluster, prefix } => list(cluster, prefix),
        Request::Status { cluster } => status(cluster),
        Request::Member { cluster, request } => operate::member(cluster, request),
        Request::TransferLeader { cluster, to } => operate::transfer(cluster, to.map(|to| to.0)),
        Request::Snapshot { cluster } => operate::snapshot(cluster),
    };
    print(&outcome, json)
}

pub(crate) fn print(outcome: &Outcome, json: bool) -> Exit {
    let printed = if json {
        writeln!(io::stdout(), "{}", outcome.json)
    } else if outcome.exit == Exit::Done {
        io::stdout().write_all(&outcome.text).and_then(|()| writeln!(io::stdout()))
    } else {
        io::stderr().write_all(&outcome.text).and_then(|()| writeln!(io::stderr()))
    };
    // Whoever closes our output early does not want the rest; what happened has happened.
    drop(printed);
    outcome.exit
}

fn connect(cluster: &ClusterArgs) -> Result<BlockingClient, Outcome> {
    let options = Options { cluster: cluster.cluster, ..Options::new(cluster.endpoints.clone()) };
    let mut client = BlockingClient::new(&options).map_err(|error| Outcome::failed(Exit::Usage, &error.to_string()))?;
    client.set_timeout(Some(cluster.timeout));
    Ok(client)
}

fn put(cluster: &ClusterArgs, key: &str, value: &str) -> Outcome {
    let mut bytes = value.as_bytes().to_vec();
    if value == "-" {
        bytes.clear();
        if let Err(error) = io::stdin().lock().take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes) {
            return Outcome::failed(Exit::Usage, &format!("standard input cannot be read: {error}"));
        }
    }
    let command = Command::Put { key, value: Bytes(&bytes), condition: Condition::Always };
    write(cluster, key, &bytes, &command)
}

/// Executes a command exactly once, in a session of its own.
fn write(cluster: &ClusterArgs, key: &str, value: &[u8], command: &Command<'_>) -> Outcome {
    if !is_key(key) {
        return Outcome::failed(Exit::Usage, &format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Outcome::failed(Exit::Usage, &format!("a value has at most {VALUE_BYTES_MAX} bytes"));
    }
    let mut client = match connect(cluster) {
        Ok(client) => client,
        Err(outcome) => return outcome,
    };
    let outcome = match client.execute(&encode(command)) {
        Ok(answer) => {
            let reply = answer.bytes.as_deref().and_then(decode);
            reply_outcome(reply, answer.index.0, answer.replayed)
        }
        Err(error) => command_failed(&client, &error),
    };
    // The session would expire anyway; not to have closed it is no failure of the command.
    client.close();
    outcome
}

fn reply_outcome(reply: Option<Reply>, revision: u64, replayed: bool) -> Outcome {
    let done = |text: String, mut json: Value| {
        if let Some(fields) = json.as_object_mut() {
            fields.insert("revision".into(), revision.into());
            fields.insert("replayed".into(), replayed.into());
        }
        Outcome::done(text, json)
    };
    match reply {
        Some(Reply::Done) => done(format!("revision {revision}"), json!({})),
        Some(Reply::Counted { value }) => done(value.to_string(), json!({ "value": value })),
        Some(Reply::ConditionFailed { revision: None }) => Outcome::failed(Exit::Refused, "the key is absent"),
        Some(Reply::ConditionFailed { revision: Some(found) }) => {
            Outcome::failed(Exit::Refused, &format!("the key has another value, of revision {found}"))
        }
        Some(Reply::NotFound) => Outcome::failed(Exit::Refused, "the key is absent"),
        Some(Reply::NotANumber) => Outcome::failed(Exit::Refused, "the value is no number of 64 bits"),
        Some(Reply::Overflow) => Outcome::failed(Exit::Refused, "the sum has more than 64 bits"),
        Some(Reply::Invalid) => Outcome::failed(Exit::Refused, "the cluster does not know this command"),
        None => done("done".into(), json!({})),
    }
}

fn command_failed(client: &BlockingClient, error: &CommandError) -> Outcome {
    let exit = match error {
        CommandError::Unknown(_) => Exit::Unknown,
        CommandError::NotExecuted(reason) => no(reason),
    };
    failed(client, exit, error)
}

/// What went wrong, and, if the cluster did not answer, what stood in the way last at which endpoint.
fn failed(client: &BlockingClient, exit: Exit, error: &impl Display) -> Outcome {
    let mut outcome = Outcome::failed(exit, &error.to_string());
    if !matches!(exit, Exit::Unavailable | Exit::Unknown) {
        return outcome;
    }
    let obstacles: Vec<_> = client.obstacles().map(|(endpoint, what)| (endpoint, what.to_string())).collect();
    for (endpoint, what) in &obstacles {
        outcome.text.extend_from_slice(format!("\n  {endpoint}: {what}").as_bytes());
    }
    if let Some(fields) = outcome.json.as_object_mut() {
        let item = |(endpoint, what): &(&str, String)| json!({ "endpoint": endpoint, "error": what });
        fields.insert("endpoints".into(), obstacles.iter().map(item).collect());
    }
    outcome
}

/// Whether the cluster refused, or could not be reached.
fn no(reason: &Reason) -> Exit {
    match reason {
        Reason::Session(_) | Reason::TooLong { .. } => Exit::Refused,
        Reason::Node(NotExecuted::Refused(ProposeError::TooLong { .. } | ProposeError::WrongSecret)) => Exit::Refused,
        Reason::Endpoint => Exit::Usage,
        _ => Exit::Unavailable,
    }
}

fn query_failed(client: &BlockingClient, error: &QueryError) -> Outcome {
    failed(client, no(&error.0), error)
}

fn freshness(stale: bool, lease: bool) -> Consistency {
    match (stale, lease) {
        (true, _) => Consistency::Stale,
        (false, true) => Consistency::Lease,
        (false, false) => Consistency::Linearizable,
    }
}

fn get(cluster: &ClusterArgs, key: &str, consistency: Consistency) -> Outcome {
    let mut client = match connect(cluster) {
        Ok(client) => client,
        Err(outcome) => return outcome,
    };
    match client.query(consistency, &encode(&Query::Get { key })) {
        Err(error) => query_failed(&client, &error),
        Ok(bytes) => match decode::<Found<'_>>(&bytes) {
            Some(Found { value: Some((value, revision)), .. }) => {
                Outcome::done(value.0, json!({ "key": key, "value": text(value.0), "revision": revision }))
            }
            Some(_) => Outcome::failed(Exit::Refused, "the key is absent"),
            None => Outcome::failed(Exit::Refused, "the node answered what this program does not know"),
        },
    }
}

fn list(cluster: &ClusterArgs, prefix: &str) -> Outcome {
    let mut client = match connect(cluster) {
        Ok(client) => client,
        Err(outcome) => return outcome,
    };
    let (mut lines, mut items, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let query = encode(&Query::List { prefix, after: &after, limit: u32::MAX });
        let bytes = match client.query(Consistency::Linearizable, &query) {
            Ok(bytes) => bytes,
            Err(error) => return query_failed(&client, &error),
        };
        let Some(page) = decode::<Page<'_>>(&bytes) else {
            return Outcome::failed(Exit::Refused, "the node answered what this program does not know");
        };
        for (key, value, revision) in &page.items {
            lines.push([key.as_bytes(), b"\t", value.0].concat());
            items.push(json!({ "key": key, "value": text(value.0), "revision": revision }));
        }
        match page.items.last() {
            Some((key, ..)) if page.more => after = (*key).to_owned(),
            _ => return Outcome::done(lines.join(&b'\n'), json!({ "items": items })),
        }
    }
}

fn status(cluster: &ClusterArgs) -> Outcome {
    let mut client = match connect(cluster) {
        Ok(client) => client,
        Err(outcome) => return outcome,
    };
    // Each node gets its share of the time, so that one that is down does not hide the others.
    let nodes = u32::try_from(cluster.endpoints.len()).unwrap_or(u32::MAX).max(1);
    client.set_timeout(Some(cluster.timeout / nodes));
    let (mut lines, mut items, mut up) = (
        vec![status_line(["ENDPOINT", "NODE", "ROLE", "TERM", "LEADER", "COMMIT", "APPLIED", "SESSIONS"])],
        Vec::new(),
        0,
    );
    for endpoint in &cluster.endpoints {
        match client.status(endpoint) {
            Ok(status) => {
                up += 1;
                lines.push(status_text(endpoint, &status));
                items.push(status_json(endpoint, &status));
            }
            Err(error) => {
                let obstacle = client.obstacles().find(|(at, _)| at == endpoint);
                let error = obstacle.map_or_else(|| error.to_string(), |(_, what)| what.to_string());
                lines.push(format!("{endpoint:<22} {error}"));
                items.push(json!({ "endpoint": endpoint, "error": error }));
            }
        }
    }
    let text = lines.join("\n");
    let json = json!({ "nodes": items });
    let exit = if up > 0 { Exit::Done } else { Exit::Unavailable };
    Outcome { exit, text: text.into_bytes(), json }
}

fn status_line(fields: [&str; 8]) -> String {
    let [endpoint, node, role, term, leader, commit, applied, sessions] = fields;
    format!("{endpoint:<22} {node:>4} {role:<13} {term:>5} {leader:>6} {commit:>10} {applied:>10} {sessions:>12}")
}

fn status_text(endpoint: &str, status: &NodeStatus) -> String {
    let leader = status.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
    let line = status_line([
        endpoint,
        &status.node.to_string(),
        status.role.as_str(),
        &status.term.to_string(),
        &leader,
        &status.commit.to_string(),
        &status.applied.to_string(),
        &format!("{}/{}", status.sessions, status.sessions_max),
    ]);
    if status.full { format!("{line}  disk full") } else { line }
}
