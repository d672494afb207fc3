//! Bringing a request to the replica, and repeating it where that is safe.

use std::future::Future;
use std::time::Duration;

use raft_core::client::protocol::{Consistency, NotExecuted};
use raft_core::message::ProposeError;
use raft_core::session::owned::{OwnedOperation, OwnedOutcome};
use raft_core::types::Nonce;
use raft_node::{Failed, Handle};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http::problem::Problem;

/// How long a request is tried while there is no leader, or its outcome is not known.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first pause between two attempts, and the longest; half of each is by chance.
const PAUSE_MILLIS: u64 = 4;
const PAUSE_MILLIS_MAX: u64 = 64;

/// What the attempts at a request came to.
#[derive(Debug, PartialEq, Eq)]
struct Attempted<T> {
    result: Result<T, Failed>,
    /// An attempt before the last one may have been executed, or may yet be.
    unknown: bool,
}

/// Carries out an operation. One that runs under a session can be sent again whatever became of
/// it; one without is sent again only if it was certainly not executed.
pub(crate) async fn operate(
    handle: &Handle,
    secret: Option<Nonce>,
    operation: OwnedOperation,
) -> Result<OwnedOutcome, Problem> {
    let repeatable = !matches!(operation, OwnedOperation::Plain { .. });
    let attempt = || handle.propose(secret, operation.clone());
    let Attempted { result, unknown } = attempts(repeatable, attempt, || handle.leader()).await;
    settle(result, unknown)
}

/// What an operation came to. A refusal is of the attempt that met it: one before that may have been executed, and then
/// it is not said that nothing was.
fn settle(result: Result<OwnedOutcome, Failed>, unknown: bool) -> Result<OwnedOutcome, Problem> {
    match result {
        Ok(OwnedOutcome::Refused(_)) | Err(_) if unknown => Err(Problem::outcome_unknown()),
        Ok(OwnedOutcome::Refused(refusal)) => Err(refusal.into()),
        Ok(outcome) => Ok(outcome),
        Err(failed) => Err(failed.into()),
    }
}

/// Queries the state machine. A query has no effect, so it is repeated freely, and never in doubt.
pub(crate) async fn query(handle: &Handle, consistency: Consistency, query: Vec<u8>) -> Result<Vec<u8>, Problem> {
    let attempt = || handle.read(consistency, query.clone());
    let Attempted { result, .. } = attempts(true, attempt, || handle.leader()).await;
    result.map_err(|failed| match failed {
        Failed::Unknown => Failed::NotExecuted(NotExecuted::Unconfirmed).into(),
        failed => failed.into(),
    })
}

/// Makes attempts until one succeeds, fails for good, or the time is over. After one that failed for want of a leader,
/// waits for `leader`.
async fn attempts<T, F, L, K>(repeatable: bool, attempt: impl Fn() -> F, leader: impl Fn() -> L) -> Attempted<T>
where
    F: Future<Output = Result<T, Failed>>,
    L: Future<Output = Result<K, Failed>>,
{
    let end = Instant::now() + PATIENCE;
    let (mut unknown, mut pause) = (false, PAUSE_MILLIS);
    loop {
        let failed = match timeout_at(end, attempt()).await {
            Ok(Ok(done)) => return Attempted { result: Ok(done), unknown },
            Ok(Err(failed)) => failed,
            // It is still under way.
            Err(_) => return Attempted { result: Err(Failed::Unknown), unknown },
        };
        let again = match failed {
            Failed::Unknown => repeatable,
            Failed::NotExecuted(reason) => passes(reason),
        };
        let last = Attempted { result: Err(failed), unknown };
        if !again {
            return last;
        }
        unknown |= failed == Failed::Unknown;
        let chance = getrandom::u32().map_or(0, u64::from) % (pause / 2);
        let paused_until = Instant::now() + Duration::from_millis(pause / 2 + chance);
        pause = (pause * 2).min(PAUSE_MILLIS_MAX);
        // Whether it finds a leader or fails, the next attempt tells more.
        let led = timeout_at(end, leader()).await.is_ok();
        if !led || paused_until >= end {
            return last;
        }
        sleep_until(paused_until).await;
    }
}

/// Whether the reason is one that passes, such as an election, a hand-over or a burst of commands.
fn passes(reason: NotExecuted) -> bool {
    matches!(
        reason,
        NotExecuted::Refused(
            ProposeError::NotLeader { .. }
                | ProposeError::NotReady
                | ProposeError::Transferring { .. }
                | ProposeError::Busy
        ) | NotExecuted::Unconfirmed
            | NotExecuted::Overtaken
    )
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::{pending, ready};

    use raft_core::session::operation::Refusal;

    use super::*;

    const NO_LEADER: Failed = Failed::NotExecuted(NotExecuted::Refused(ProposeError::NotLeader { leader: None }));
    const BUSY: Failed = Failed::NotExecuted(NotExecuted::Refused(ProposeError::Busy));
    const STOPPING: Failed = Failed::NotExecuted(NotExecuted::Stopping);

    /// What comes of attempts that end like this, one after the other, and how many were made.
    async fn run(repeatable: bool, script: &[Result<u8, Failed>]) -> (Attempted<u8>, usize) {
        let made = Cell::new(0);
        let attempt = || {
            let result = script[made.get()];
            made.set(made.get() + 1);
            ready(result)
        };
        let attempted = attempts(repeatable, attempt, || ready(Ok::<(), Failed>(()))).await;
        (attempted, made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_nothing_else() {
        let done = |unknown| Attempted { result: Ok(1), unknown };
        assert_eq!(run(false, &[Err(NO_LEADER), Err(BUSY), Ok(1)]).await, (done(false), 3));
        assert_eq!(run(true, &[Err(Failed::Unknown), Err(BUSY), Ok(1)]).await, (done(true), 3));
        let unknown = Attempted { result: Err(Failed::Unknown), unknown: false };
        assert_eq!(run(false, &[Err(BUSY), Err(Failed::Unknown), Ok(1)]).await, (unknown, 2));
        let stopping = |unknown| Attempted { result: Err(STOPPING), unknown };
        assert_eq!(run(true, &[Err(STOPPING), Ok(1)]).await, (stopping(false), 1));
        assert_eq!(run(true, &[Err(Failed::Unknown), Err(STOPPING), Ok(1)]).await, (stopping(true), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_made_as_soon_as_there_is_a_leader() {
        let (begun, outage) = (Instant::now(), Duration::from_millis(1500));
        let led = RefCell::new(Vec::new());
        let attempt = || {
            led.borrow_mut().push(begun.elapsed());
            ready(if begun.elapsed() < outage { Err(NO_LEADER) } else { Ok(1) })
        };
        let leader = || async {
            tokio::time::sleep_until(begun + outage).await;
            Ok::<(), Failed>(())
        };
        assert_eq!(attempts(false, attempt, leader).await, Attempted { result: Ok(1), unknown: false });
        assert_eq!(*led.borrow(), [Duration::ZERO, outage]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_the_last_reason_is_told() {
        let attempted = attempts(true, || ready(Err::<u8, _>(NO_LEADER)), pending::<Result<(), Failed>>).await;
        assert_eq!(attempted, Attempted { result: Err(NO_LEADER), unknown: false });
        // An attempt that has not ended may have been executed.
        let attempted = attempts(true, pending::<Result<u8, Failed>>, pending::<Result<(), Failed>>).await;
        assert_eq!(attempted.result, Err(Failed::Unknown));
    }

    #[test]
    fn a_refusal_says_nothing_of_an_earlier_attempt() {
        let refused = || Ok(OwnedOutcome::Refused(Refusal::SessionExpired));
        assert_eq!(settle(refused(), true), Err(Problem::outcome_unknown()));
        assert_eq!(settle(refused(), false), Err(Refusal::SessionExpired.into()));
        assert_eq!(settle(Err(BUSY), true), Err(Problem::outcome_unknown()));
        assert_eq!(settle(Err(BUSY), false), Err(BUSY.into()));
        assert_eq!(settle(Ok(OwnedOutcome::KeptAlive), true), Ok(OwnedOutcome::KeptAlive));
    }
}
