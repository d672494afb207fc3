//! The reason that a node gives for a refusal is true of that node at that time.

use raft_core::client::protocol::{NotExecuted, RoleName};
use raft_core::message::ProposeError;
use raft_core::raft::config::Config;
use raft_core::types::{Index, NodeId, SessionId, Term};

use super::elections::Elections;
use crate::violation::Violation;

/// What a node was, between two turns of its loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads that term, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last entry it knows to be committed.
    pub commit: Index,
    /// The last entry it has applied.
    pub applied: Index,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry that its durable snapshot covers.
    pub snapshot: Index,
    /// The entry that its term as leader began with.
    pub term_start: Option<Index>,
    /// To whom it hands over.
    pub transfer: Option<NodeId>,
    /// The entry of its configuration.
    pub configuration: Index,
    /// Whether that is a joint one.
    pub joint: bool,
}

/// A node, during one turn of its loop.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The node.
    pub node: NodeId,
    /// What it was before the turn.
    pub before: Standing,
    /// What it was after it.
    pub after: Standing,
    /// The members to whom it began to hand over in the turn.
    pub handed_to: &'a [NodeId],
    /// Whether it appended a configuration in the turn.
    pub changed: bool,
    /// Whether its disk was full, or a call to it was made to fail, in this life.
    pub disk_failed: bool,
    /// Whether it was asked to stop in this life.
    pub stopping: bool,
    /// Its settings.
    pub config: &'a Config,
}

impl Scene<'_> {
    /// Whether it led all the time.
    #[must_use]
    pub fn led(&self) -> bool {
        self.before.role == RoleName::Leader && self.after.role == RoleName::Leader
    }

    /// Whether it led at some time.
    #[must_use]
    pub fn led_at_all(&self) -> bool {
        self.before.role == RoleName::Leader || self.after.role == RoleName::Leader
    }

    /// Whether it was handing over to that member at some time.
    #[must_use]
    pub fn was_handing_over_to(&self, to: NodeId) -> bool {
        [self.before.transfer, self.after.transfer].contains(&Some(to)) || self.handed_to.contains(&to)
    }

    fn sides(&self) -> [Standing; 2] {
        [self.before, self.after]
    }
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An operation: on which session, of how many bytes.
    Operation {
        /// Its session.
        session: Option<SessionId>,
        /// The length of its entry's payload.
        bytes: usize,
    },
    /// A query.
    Query,
    /// An operator's order.
    Order,
    /// A request that no node can understand.
    Nonsense,
}

/// Checks what a node says of a request that it did not forward.
///
/// # Errors
/// The reason is not true.
pub fn check(scene: &Scene<'_>, refused: Refused, reason: NotExecuted, elections: &Elections) -> Result<(), Violation> {
    let is_true = match reason {
        NotExecuted::Refused(error) => refusal_is_true(scene, refused, error, elections),
        NotExecuted::Overtaken => matches!(refused, Refused::Operation { .. } | Refused::Order),
        NotExecuted::Unconfirmed | NotExecuted::AnswerTooLong => refused == Refused::Query,
        NotExecuted::Stopping => scene.stopping || scene.disk_failed,
        NotExecuted::Unsupported => refused == Refused::Nonsense,
        NotExecuted::Change(_) | NotExecuted::Transfer(_) | NotExecuted::NotTakenOver | NotExecuted::NoSnapshot => {
            refused == Refused::Order
        }
        _ => true,
    };
    if is_true { Ok(()) } else { Err(Violation::UntrueReason { node: scene.node, reason: format!("{reason:?}") }) }
}

fn refusal_is_true(scene: &Scene<'_>, refused: Refused, error: ProposeError, elections: &Elections) -> bool {
    let session = match refused {
        Refused::Operation { session, .. } => session,
        _ => None,
    };
    match error {
        ProposeError::NotLeader { leader: None } => !scene.led(),
        ProposeError::NotLeader { leader: Some(leader) } => {
            // A leader whose process ended in the turn in which it was elected has told nobody but its followers.
            let led = |side: &Standing| elections.leader(side.term).is_none_or(|elected| elected == leader);
            !scene.led() && leader != scene.node && scene.sides().iter().any(led)
        }
        ProposeError::NotReady => {
            let new = |side: &Standing| side.term_start.is_some_and(|start| side.applied.min(side.commit) < start);
            let unknown = session.is_some_and(|session| session.0 > scene.before.applied.0);
            scene.led_at_all() && (unknown || scene.sides().iter().any(new))
        }
        ProposeError::Busy => {
            // Bytes are not counted here: one entry under way may be all that they leave room for.
            scene.after.last > scene.before.commit || !scene.led()
        }
        ProposeError::TooLong { limit } => {
            let bytes = if let Refused::Operation { bytes, .. } = refused { bytes } else { 0 };
            limit as usize == scene.config.entry_bytes_max && bytes > scene.config.entry_bytes_max
        }
        ProposeError::WrongSecret => session.is_some(),
        ProposeError::NoSpace => scene.disk_failed && scene.led_at_all(),
        ProposeError::Transferring { to, .. } => scene.led_at_all() && scene.was_handing_over_to(to),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::types::Millis;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// A leader of term 3, whose term began with entry 10.
    fn leader() -> Standing {
        let (commit, applied, last) = (Index(12), Index(12), Index(12));
        let (role, term) = (RoleName::Leader, Term(3));
        Standing { role, term, commit, applied, last, term_start: Some(Index(10)), ..Standing::default() }
    }

    fn follower() -> Standing {
        Standing { role: RoleName::Follower, term: Term(3), leader: Some(node(2)), ..leader() }
    }

    fn holds(before: Standing, after: Standing, refused: Refused, reason: NotExecuted) -> bool {
        let mut elections = Elections::default();
        elections.won(Term(3), node(2)).unwrap();
        let config = Config { entry_bytes_max: 100, ..Config::default() };
        let scene = Scene {
            node: node(1),
            before,
            after,
            handed_to: &[],
            changed: false,
            disk_failed: false,
            stopping: false,
            config: &config,
        };
        check(&scene, refused, reason, &elections).is_ok()
    }

    #[test]
    fn a_reason_that_is_not_true_is_found() {
        let operation = Refused::Operation { session: Some(SessionId(5)), bytes: 40 };
        let refuse = |standing: Standing, error| holds(standing, standing, operation, NotExecuted::Refused(error));
        let not_leader = |leader| ProposeError::NotLeader { leader };
        assert!(refuse(follower(), not_leader(None)));
        assert!(!refuse(leader(), not_leader(None)), "it leads");
        assert!(refuse(follower(), not_leader(Some(node(2)))));
        assert!(!refuse(follower(), not_leader(Some(node(3)))), "node 3 was never elected");
        let new = Standing { applied: Index(9), ..leader() };
        assert!(refuse(new, ProposeError::NotReady));
        assert!(!refuse(leader(), ProposeError::NotReady), "it has applied all of it");
        let behind = Standing { last: Index(20), ..leader() };
        assert!(refuse(behind, ProposeError::Busy));
        assert!(!refuse(leader(), ProposeError::Busy), "nothing is under way");
        assert!(!refuse(leader(), ProposeError::NoSpace), "its disk is well");
        assert!(!refuse(leader(), ProposeError::TooLong { limit: 100 }), "40 bytes are not");
        let handing_over = ProposeError::Transferring { to: node(2), within: Millis(5) };
        assert!(refuse(Standing { transfer: Some(node(2)), ..leader() }, handing_over));
        assert!(!refuse(leader(), handing_over), "it is not");
    }

    #[test]
    fn a_reason_of_another_kind_of_request_is_found() {
        let operation = Refused::Operation { session: None, bytes: 40 };
        assert!(holds(leader(), follower(), Refused::Query, NotExecuted::Unconfirmed));
        assert!(!holds(leader(), follower(), operation, NotExecuted::Unconfirmed));
        assert!(!holds(leader(), leader(), operation, NotExecuted::Stopping), "nobody asked it to stop");
        assert!(!holds(leader(), leader(), operation, NotExecuted::Unsupported));
        let wrong = NotExecuted::Refused(ProposeError::WrongSecret);
        assert!(!holds(leader(), leader(), operation, wrong), "it has no session");
    }
}
