//! What nodes say to those who ask, held against what was asked, what the log holds, and what the node was then.

use raft_core::client::protocol::{
    Consistency, NotExecuted, Request, RequestBody, RequestId, Response, ResponseBody, decode_changes,
};
use raft_core::configuration::Configuration;
use raft_core::configuration::change::MemberChange;
use raft_core::entry::EntryKind;
use raft_core::message::ProposeError;
use raft_core::session::operation::{Operation as LogOperation, Outcome};
use raft_core::session::owned::OwnedOutcome;
use raft_core::types::{EntryId, Index, NodeId, Nonce, SessionId};

use super::{Judge, Life};
use crate::check::copies::Content;
use crate::check::orders::{Change, Orders};
use crate::check::refusals::{self, Refused, Scene, Standing};
use crate::check::secrets::Secrets;
use crate::violation::Violation;

/// A request, as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    what: What,
    /// Whether another node may have said what is answered.
    forward: bool,
    /// By somebody who guesses, and for whom nothing may be done.
    guess: bool,
    /// What the node was when it took it.
    taken: Option<Standing>,
}

#[derive(Clone, Debug)]
enum What {
    Operation {
        content: Content,
        session: Option<SessionId>,
        secret: Option<Nonce>,
        plain: bool,
        bytes: usize,
    },
    Query,
    Change(Vec<MemberChange>),
    Transfer(Option<NodeId>),
    Snapshot,
    /// Bytes that nobody understands.
    Nonsense,
    Other,
}

impl What {
    fn of(body: &RequestBody<'_>) -> What {
        match *body {
            RequestBody::Operate { secret, operation } => What::Operation {
                content: Content::of(&operation),
                session: operation.session(),
                secret,
                plain: matches!(operation, LogOperation::Plain { .. }),
                bytes: operation.command().len() + raft_core::session::operation::OPERATION_HEAD_BYTES_MAX,
            },
            RequestBody::Query { .. } => What::Query,
            RequestBody::Change { changes, .. } => {
                decode_changes(changes.0).map_or(What::Nonsense, |changes| What::Change(changes.into_iter().collect()))
            }
            RequestBody::Transfer { to } => What::Transfer(to),
            RequestBody::Snapshot => What::Snapshot,
            _ => What::Other,
        }
    }

    fn refused(&self) -> Refused {
        match *self {
            What::Operation { session, bytes, .. } => Refused::Operation { session, bytes },
            What::Query | What::Other => Refused::Query,
            What::Change(_) | What::Transfer(_) | What::Snapshot => Refused::Order,
            What::Nonsense => Refused::Nonsense,
        }
    }
}

/// An operation that came to a node, from a client or from another node, or was sent on to the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding {
    pub(crate) came: bool,
    content: Content,
    session: bool,
    secret: Option<Nonce>,
}

impl Forwarding {
    pub(crate) fn new(came: bool, secret: Option<Nonce>, operation: &LogOperation<'_>) -> Forwarding {
        Forwarding { came, content: Content::of(operation), session: operation.session().is_some(), secret }
    }
}

impl Judge {
    /// A client, an operator or a stranger sends a request.
    pub(crate) fn sent(&mut self, client: usize, request: &Request<'_>, guess: bool) {
        match &request.body {
            RequestBody::Query { consistency: Consistency::Lease, .. } if !self.leases_hold => {}
            RequestBody::Query { consistency: Consistency::Linearizable | Consistency::Lease, .. } => {
                self.reads.sent(client, request.id, self.completeness.last().index);
            }
            _ => {}
        }
        let (what, forward) = (What::of(&request.body), request.forward);
        self.asked.insert((client, request.id), Asked { what, forward, guess, taken: None });
    }

    /// A node has sent an operation on to its leader, or one came to a node, so or from a client.
    pub(crate) fn passed_on(&mut self, Forwarding { came, content, session, secret }: Forwarding) {
        let secret = secret.filter(|_| session);
        if came {
            self.copies.arrived(content);
            secret.inspect(|secret| self.secrets.arrived(content, *secret));
        } else {
            self.copies.forwarded(content);
            secret.inspect(|secret| self.secrets.forwarded(content, *secret));
        }
    }

    /// A node, which is so now, has taken a request.
    pub(crate) fn took(&mut self, client: usize, request: RequestId, standing: Standing) {
        if let Some(asked) = self.asked.get_mut(&(client, request)) {
            asked.taken = Some(standing);
        }
    }

    /// A leader has made an entry of an operation.
    pub(super) fn proposed(&mut self, life: Life, entry: EntryId, payload: &[u8]) -> Result<(), Violation> {
        let Ok(operation) = LogOperation::decode(payload) else { return Ok(()) };
        let content = Content::of(&operation);
        self.check("an entry is made of what was not refused");
        self.copies.appended(life.node, content, entry)?;
        if let Some(session) = operation.session()
            && self.is_or_will_be_open(session)
            && let Some(opener) = self.opener(life.place, session)
        {
            self.check("an entry is made for who knows the secret");
            self.secrets.appended(life.node, entry, session, content, opener)?;
        }
        Ok(())
    }

    /// Whether a session is open after the last entry that was applied, or may be opened later. What is asked of one that has
    /// ended may be proposed for anybody: nothing is left to compare a secret with, and the log refuses it.
    fn is_or_will_be_open(&self, session: SessionId) -> bool {
        self.table.acknowledged(session).is_some() || session.0 > self.states.last().index.0
    }

    /// By whose nonce a session is opened, as a node's log has it.
    fn opener(&self, place: usize, session: SessionId) -> Option<Nonce> {
        let index = Index(session.0);
        let term = self.terms.get(&place).and_then(|terms| terms.get(&index));
        let Some(payload) = term.and_then(|term| self.payloads.get(&EntryId::new(*term, index))) else {
            return self.sessions.opener(session);
        };
        match LogOperation::decode(&payload.payload) {
            Ok(LogOperation::Open { nonce, .. }) if payload.kind == EntryKind::Operation => Some(nonce),
            _ => None,
        }
    }

    /// A node answers, which has applied everything up to `applied`. `known` are the configurations that it has had lately.
    pub(crate) fn answers(
        &mut self,
        client: usize,
        life: Life,
        (scene, applied): (&Scene<'_>, Index),
        known: &[&Configuration],
        response: &Response<'_>,
    ) -> Result<(), Violation> {
        let Some(asked) = self.asked.get(&(client, response.id)).cloned() else { return Ok(()) };
        if self.may_not_be_served(&asked) && !is_refusal(&response.body) {
            return Err(Violation::WrongSecretLetIn { node: life.node, outcome: format!("{:?}", response.body) });
        }
        match (&response.body, &asked.what) {
            (ResponseBody::Outcome(outcome), What::Operation { content, plain, .. }) => {
                let outcome = OwnedOutcome::from(*outcome);
                self.check("a reply rests on the log");
                self.replies.told((client, response.id), life.node, applied, (*content, *plain), &outcome)
            }
            (ResponseBody::Answer(_), What::Query) => {
                if self.reads.shown(client, response.id, life.node, applied)? {
                    self.check("a read is fresh");
                }
                Ok(())
            }
            (ResponseBody::NotExecuted { reason, .. }, _) => self.says_not(life, scene, known, &asked, *reason),
            (ResponseBody::Unknown | ResponseBody::Status(_) | ResponseBody::Members { .. }, _) => Ok(()),
            _ if life.tampered => Ok(()),
            (body, _) => self.says_done(life, scene, &asked, body),
        }
    }

    /// Whether it was asked by somebody who guesses: for an order that makes no sense, or in a session of somebody else.
    fn may_not_be_served(&self, asked: &Asked) -> bool {
        match asked.what {
            What::Operation { session: Some(session), secret, .. } => {
                secret.is_none() || self.sessions.opener(session) != secret
            }
            _ => asked.guess,
        }
    }

    /// A node says that it did what an operator asked.
    fn says_done(
        &mut self,
        life: Life,
        scene: &Scene<'_>,
        asked: &Asked,
        body: &ResponseBody<'_>,
    ) -> Result<(), Violation> {
        let mixed_up = || Violation::UntrueToOperator {
            node: life.node,
            said: format!("{body:?}"),
            but: "something else was asked, or nothing was taken",
        };
        let taken = asked.taken.ok_or_else(mixed_up)?;
        self.check("what an operator is told to be done is done");
        match (body, &asked.what) {
            (ResponseBody::Changed { entry }, What::Change(changes)) => {
                let payload = self.payloads.get(entry).filter(|payload| payload.kind == EntryKind::Configuration);
                let configuration = payload.and_then(|payload| Configuration::decode(&payload.payload).ok());
                let (committed, configuration) = (self.committed.holds(*entry), configuration.as_ref());
                self.orders.changed(life.node, changes, &Change { entry: *entry, committed, configuration })
            }
            (ResponseBody::Transferred { to }, What::Transfer(asked)) => {
                Orders::transferred(scene, &taken, *asked, *to, &self.elections)
            }
            (ResponseBody::SnapshotMade { through }, What::Snapshot) => {
                self.orders.snapshot_made(scene, life.storage, &taken, *through)
            }
            _ => Err(mixed_up()),
        }
    }

    /// A node says that it did not do what was asked, and why.
    fn says_not(
        &mut self,
        life: Life,
        scene: &Scene<'_>,
        known: &[&Configuration],
        asked: &Asked,
        reason: NotExecuted,
    ) -> Result<(), Violation> {
        if let What::Operation { content, session, secret, .. } = asked.what {
            self.check("what is said not to be executed is not");
            match reason {
                // What it takes for committed may have decayed.
                NotExecuted::Overtaken if life.tampered => {}
                NotExecuted::Overtaken => {
                    let committed = &self.committed;
                    self.copies.overtaken(life.node, content, |entry| committed.holds(entry) == Some(false))?;
                }
                _ => self.copies.refused(life.node, content)?,
            }
            if reason == NotExecuted::Refused(ProposeError::WrongSecret)
                && let Some(session) = session
            {
                Secrets::called_wrong(life.node, session, secret, self.sessions.opener(session))?;
            }
        }
        // What was forwarded may have been refused by the leader, and the roles have changed since.
        let from_elsewhere = asked.forward && matches!(reason, NotExecuted::Refused(_));
        if life.tampered || from_elsewhere {
            return Ok(());
        }
        self.check("the reason of a refusal is true");
        refusals::check(scene, asked.what.refused(), reason, &self.elections)?;
        match (reason, &asked.what) {
            (NotExecuted::Change(error), What::Change(changes)) => Orders::not_changed(scene, known, changes, error),
            (NotExecuted::Transfer(error), What::Transfer(to)) => Orders::not_transferred(scene, known, *to, error),
            (NotExecuted::NotTakenOver, What::Transfer(to)) => {
                Orders::not_taken_over(scene, &asked.taken.unwrap_or_default(), *to, &self.elections)
            }
            _ => Ok(()),
        }
    }
}

/// Whether nothing is said to be done, or shown.
fn is_refusal(body: &ResponseBody<'_>) -> bool {
    matches!(
        body,
        ResponseBody::NotExecuted { .. } | ResponseBody::Unknown | ResponseBody::Outcome(Outcome::Refused(_))
    )
}
