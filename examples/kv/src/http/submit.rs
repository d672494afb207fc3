//! Bringing a request to the replica, and repeating it where that is safe.

use std::future::Future;
use std::time::Duration;

use raft_core::client::protocol::{Consistency, NotExecuted};
use raft_core::message::ProposeError;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::types::Nonce;
use raft_node::{Failed, Handle};
use tokio::time::{Instant, sleep};

use crate::http::problem::Problem;

/// How long a request is tried while there is no leader, or its outcome is not known.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two attempts, half of it by chance.
const PAUSE_MILLIS: u64 = 40;

/// Carries out an operation. One that runs under a session can be sent again whatever became of
/// it; one without is sent again only if it was certainly not executed.
pub(crate) async fn operate(
    handle: &Handle,
    secret: Option<Nonce>,
    operation: OwnedOperation,
) -> Result<OwnedOutcome, Problem> {
    let repeatable = !matches!(operation, OwnedOperation::Plain { .. });
    let outcome = attempts(repeatable, || handle.propose(secret, operation.clone())).await?;
    match outcome {
        OwnedOutcome::Refused(refusal) => Err(refusal.into()),
        outcome => Ok(outcome),
    }
}

/// Queries the state machine. A query has no effect, so it is repeated freely.
pub(crate) async fn query(handle: &Handle, consistency: Consistency, query: Vec<u8>) -> Result<Vec<u8>, Problem> {
    Ok(attempts(true, || handle.read(consistency, query.clone())).await?)
}

async fn attempts<T, F>(repeatable: bool, attempt: impl Fn() -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, Failed>>,
{
    let end = Instant::now() + PATIENCE;
    let mut unknown = false;
    loop {
        let failed = match tokio::time::timeout_at(end, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failed)) => failed,
            Err(_) => return Err(Failed::Unknown),
        };
        // Once an attempt may have been executed, a refusal of a later one says nothing of it.
        unknown |= failed == Failed::Unknown;
        let last = if unknown { Failed::Unknown } else { failed };
        let again = match failed {
            Failed::Unknown => repeatable,
            Failed::NotExecuted(reason) => passes(reason),
        };
        if !again || Instant::now() >= end {
            return Err(last);
        }
        let chance = getrandom::u32().map_or(0, u64::from) % (PAUSE_MILLIS / 2);
        sleep(Duration::from_millis(PAUSE_MILLIS / 2 + chance)).await;
    }
}

/// Whether the reason is one that passes, such as an election or a hand-over.
fn passes(reason: NotExecuted) -> bool {
    matches!(
        reason,
        NotExecuted::Refused(
            ProposeError::NotLeader { .. } | ProposeError::NotReady | ProposeError::Transferring { .. }
        ) | NotExecuted::Unconfirmed
            | NotExecuted::Overtaken
    )
}
