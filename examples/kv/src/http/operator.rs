//! What operators and their tools ask: status, liveness, readiness, metrics.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use raft_core::client::protocol::{NodeStatus, RoleName};
use raft_core::raft::{PeerStatus, Replication};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::App;
use crate::http::problem::Problem;
use crate::json::status_json;

/// A node whose loop does not answer for so long is not well.
const PATIENCE: Duration = Duration::from_secs(2);

async fn ask(app: &App) -> Result<NodeStatus, Problem> {
    let silent = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-alive", "the node does not answer");
    Ok(timeout(PATIENCE, app.handle.status()).await.map_err(|_| silent())??)
}

pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut status = status_json(&app.listen, &ask(&app).await?);
    let followers = app.handle.followers().await?;
    if let Some(fields) = status.as_object_mut() {
        if !followers.is_empty() {
            fields.insert("followers".into(), followers.iter().map(follower_json).collect());
        }
        if let Some(node) = app.copies.node() {
            fields.insert("copied_storage_of".into(), json!(node.get()));
        }
    }
    Ok(Json(status).into_response())
}

/// A follower as its leader sees it.
fn follower_json(follower: &PeerStatus) -> Value {
    let replication = match follower.replication {
        Replication::Probing => json!("probing"),
        Replication::Replicating => json!("replicating"),
        Replication::Snapshot { received, bytes } => json!({ "snapshot": { "received": received, "bytes": bytes } }),
        Replication::Forgot => json!("forgot"),
        _ => json!("unknown"),
    };
    json!({
        "node": follower.id.get(),
        "matched": follower.matched.0,
        "replication": replication,
        "lag_entries": follower.lag_entries,
        "lag_bytes": follower.lag_bytes,
        "silent_ms": follower.silent_for.0,
    })
}

/// Whether the process should be left running.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    ask(&app).await.map(|_| "ok\n")
}

/// Whether requests should be sent here: there is a leader, its entries are applied, and the disk has room.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    let status = ask(&app).await?;
    if status.full {
        let detail = "the disk is full: this node answers reads and takes no writes; make room on its disk";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "disk-full", detail));
    }
    if status.leader.is_some() && status.applied == status.commit {
        return Ok("ready\n");
    }
    let detail = "there is no leader, or this node is still catching up";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail))
}

/// The Prometheus text format, version 0.0.4.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let status = ask(&app).await?;
    let leads = u64::from(status.role == RoleName::Leader);
    let gauges = [
        ("raft_term", "The node's term.", status.term.0),
        ("raft_is_leader", "Whether the node leads.", leads),
        ("raft_last_index", "The last entry of the log.", status.last.0),
        ("raft_saved_index", "The last durable entry.", status.saved.0),
        ("raft_commit_index", "The last entry known to be committed.", status.commit.0),
        ("raft_applied_index", "The last entry applied.", status.applied.0),
        ("raft_sessions", "Open sessions.", status.sessions.into()),
        ("raft_sessions_max", "Sessions that can be open.", status.sessions_max.into()),
        ("raft_session_table_bytes", "The memory of the session table, fixed at start.", status.session_bytes),
        ("raft_log_bytes", "Bytes of the entries that the log holds.", status.log_bytes),
        ("raft_disk_full", "Whether the disk has no room for the log to go on.", u64::from(status.full)),
    ];
    let counters = [
        ("raft_commands_executed_total", "Commands executed.", status.executed),
        ("raft_commands_replayed_total", "Commands answered from the session table.", status.replayed),
        ("raft_operations_refused_total", "Operations refused by the session layer.", status.refused),
        ("raft_elections_won_total", "Elections won.", status.elections_won),
        ("raft_syncs_total", "Syncs of the log.", status.syncs),
        ("raft_entries_synced_total", "Entries that syncs made durable.", status.entries_synced),
        (
            "raft_copies_refused_total",
            "Connections of processes with a copied data directory, all of them refused.",
            app.copies.refused(),
        ),
        ("raft_bytes_written_total", "Bytes written to the log.", status.bytes_written),
        ("raft_snapshots_failed_total", "Snapshots that found no room.", status.snapshots_failed),
    ];
    let mut text = String::new();
    for (kind, metrics) in [("gauge", &gauges[..]), ("counter", &counters[..])] {
        for (name, help, value) in metrics {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
