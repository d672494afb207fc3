//! An engine without sockets, clock and thread.

use raft_core::client::protocol::Consistency;
use raft_core::types::{ClusterId, Instant, Millis};

use crate::engine::connections::Connections;
use crate::engine::dispatch::Dispatch;
use crate::engine::links::Links;
use crate::engine::secrets::Secrets;
use crate::engine::{EngineError, LinkFault, Retry, SessionKey, SubmitError, Ticket};
use crate::options::Options;
use crate::outcome::{Completion, Obstacle};
use crate::stats::Stats;

/// All of an [`Engine`](crate::Engine) that decides: sessions, numbering, retries, the route to the leader, timers, and when
/// connections are made and given up. It does no I/O, reads no clock and takes its chance from the seed of its secrets:
/// equal inputs have equal outputs. For programs that have an event loop of their own, and for simulations.
///
/// In each turn: [`EngineCore::take_in`] when connections may have news, [`EngineCore::run`], and
/// [`EngineCore::next_completion`] until there is none; again when there is news or [`EngineCore::deadline`] has come. After
/// a pause, during which [`EngineCore::was_away`] turns true, what has arrived is taken in before anything else.
/// `now` never goes back.
#[derive(Debug)]
pub struct EngineCore<C> {
    dispatch: Dispatch,
    links: Links<C>,
    /// When it was run last.
    ran_at: Instant,
}

/// After so long without a turn it is asked first whether answers have arrived or connections were lost meanwhile.
const GAP_MAX: Millis = Millis(100);

impl<C: Connections> EngineCore<C> {
    /// An engine over the nodes in `options`. It connects when there is something to send. [`Options::seed`] is not read:
    /// all chance comes from `secrets`.
    ///
    /// # Errors
    /// [`EngineError::Options`] for options that are not valid, and [`EngineError::Random`] if there are no secrets.
    pub fn new(options: &Options, secrets: Secrets, connections: C) -> Result<EngineCore<C>, EngineError> {
        options.check()?;
        let dispatch = Dispatch::new(options, secrets)?;
        Ok(EngineCore { dispatch, links: Links::new(options, connections), ran_at: Instant(0) })
    }

    /// A new session, which is opened by its first command.
    pub fn open_session(&mut self) -> SessionKey {
        self.dispatch.open_session()
    }

    /// Takes no further commands for the session, and closes it once its commands are completed.
    pub fn close_session(&mut self, now: Instant, session: SessionKey) {
        self.dispatch.close_session(now, session);
    }

    /// Whether a session that was closed by the program is still to be closed in the cluster.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.dispatch.is_closing()
    }

    /// Submits a command, to be executed exactly once. It is given up at `deadline`, which may be [`Instant::NEVER`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn submit(
        &mut self,
        now: Instant,
        session: SessionKey,
        command: &[u8],
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.dispatch.submit(now, session, command, deadline)
    }

    /// Submits a command without a session: it may be executed more than once if `retry` says so.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn submit_plain(
        &mut self,
        now: Instant,
        command: &[u8],
        retry: Retry,
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.dispatch.submit_plain(now, command, retry, deadline)
    }

    /// Asks a query of the state machine. It is asked again until it is answered.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn query(
        &mut self,
        now: Instant,
        consistency: Consistency,
        query: &[u8],
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.dispatch.query(now, consistency, query, deadline)
    }

    /// Asks the node at `endpoint` how it is, once.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent then.
    pub fn status(&mut self, now: Instant, endpoint: &str, deadline: Instant) -> Result<Ticket, SubmitError> {
        self.dispatch.status(now, endpoint, deadline)
    }

    /// Takes in what happened to the connections and the responses that have arrived.
    pub fn take_in(&mut self, now: Instant) {
        self.links.take_events(now);
        self.links.run_timers(now);
        while let Some(endpoint) = self.links.next_readable() {
            while let Some(response) = self.links.receive(now, endpoint) {
                self.dispatch.respond(now, endpoint, &response);
            }
        }
        while let Some(endpoint) = self.links.next_opened() {
            self.dispatch.link_open(endpoint);
            self.dispatch.ask_members(now, endpoint, &mut self.links);
        }
        while let Some(endpoint) = self.links.next_down() {
            self.dispatch.link_down(now, endpoint);
        }
    }

    /// Does what time asks for, and sends what can be sent.
    pub fn run(&mut self, now: Instant) {
        self.dispatch.run(now, &mut self.links);
        self.links.flush();
        self.ran_at = now;
    }

    /// Whether it was not run for so long that what has arrived meanwhile is to be taken in before it is run.
    #[must_use]
    pub fn was_away(&self, now: Instant) -> bool {
        now.since(self.ran_at) > GAP_MAX
    }

    /// When [`EngineCore::take_in`] and [`EngineCore::run`] are to be called without any news: at once, if there is
    /// something to take already; [`Instant::NEVER`] if it waits for news only.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Instant {
        if self.links.has_news() {
            return now;
        }
        self.dispatch.deadline(now).min(self.links.deadline())
    }

    /// The next request that came to its end.
    pub fn next_completion(&mut self) -> Option<(Ticket, Completion)> {
        self.dispatch.next_completion()
    }

    /// Whether there are completions to take.
    #[must_use]
    pub fn has_completions(&self) -> bool {
        self.dispatch.has_completions()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.dispatch.stats
    }

    /// Where nodes are reached: the endpoints of the options, and then those that nodes have named.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        self.dispatch.endpoints()
    }

    /// Why there is no connection to the endpoints to which there is none, though one was tried.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &LinkFault)> {
        let endpoints = self.dispatch.endpoints().iter().enumerate();
        endpoints.filter_map(|(place, endpoint)| Some((endpoint.as_str(), self.links.fault(place)?)))
    }

    /// What stands in the way of the requests under way, by the endpoint that it stands at: why a node refused last, if
    /// none has answered since, and the [faults](EngineCore::faults) of connections. Empty if nothing is known to.
    pub fn obstacles(&self) -> impl Iterator<Item = (&str, Obstacle<'_>)> {
        let refusal = self.dispatch.refusal().and_then(|(place, reason)| {
            Some((self.dispatch.endpoints().get(place)?.as_str(), Obstacle::Refused(reason)))
        });
        refusal.into_iter().chain(self.faults().map(|(endpoint, fault)| (endpoint, Obstacle::Link(fault))))
    }

    /// The cluster of this engine: [`Options::cluster`], or else that of the first node that was reached; `None` until
    /// then.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.links.cluster()
    }

    /// The connections.
    #[must_use]
    pub fn connections(&self) -> &C {
        self.links.connections()
    }

    /// The connections.
    pub fn connections_mut(&mut self) -> &mut C {
        self.links.connections_mut()
    }
}
