//! What is to be sent where, and what an answer means: all of an engine but its connections.

mod requests;
mod sessions;

use std::collections::VecDeque;

use raft_core::client::attempts::Attempts;
use raft_core::client::pace::{Jitter, Pace};
use raft_core::client::protocol::{Consistency, NotExecuted, Request, RequestBody, Response, ResponseBody};
use raft_core::client::route::Route;
use raft_core::client::session::Token;
use raft_core::configuration::Configuration;
use raft_core::message::ProposeError;
use raft_core::session::operation::Outcome;
use raft_core::types::{Instant, Millis};

use crate::engine::connections::Connections;
use crate::engine::links::Links;
use crate::engine::secrets::Secrets;
use crate::engine::slab::{Place, Slab};
use crate::engine::timers::{Timer, Timers};
use crate::engine::{EngineError, Retry, Ticket};
use crate::options::{ENDPOINTS_MAX, Options, has_port};
use crate::outcome::{Completion, Reason};
use crate::stats::Stats;
use sessions::Session;

/// The longest pause between attempts.
const BACK_OFF_MAX: Millis = Millis(500);
/// Buffers of commands that are kept for the next ones, and how long each may be.
const SPARE_BUFFERS_MAX: usize = 1024;
const SPARE_BUFFER_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Dispatch {
    pace: Pace,
    fifo: bool,
    forward: bool,
    message_bytes_max: usize,
    requests_max: usize,
    jitter: Jitter,
    secrets: Secrets,
    /// Where nodes are reached: those given and those that nodes have named. Links and the route
    /// know them by their places here.
    endpoints: Vec<String>,
    route: Route,
    sessions: Slab<Session>,
    /// What the program submitted and was not told the end of.
    submitted: Slab<Submitted>,
    /// What was sent and not answered; its place is the id on the wire.
    sent: Slab<Sent>,
    /// What may have something to send, in the order in which it came up.
    ready: VecDeque<Work>,
    timers: Timers,
    completions: VecDeque<(Ticket, Completion)>,
    spare: Vec<Vec<u8>>,
    /// Sessions that the program closed and the cluster has not.
    closing: usize,
    pub(super) stats: Stats,
    refusal: Option<(usize, Reason)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Session(Place),
    Request(Place),
}

/// A request of the program.
#[derive(Debug)]
struct Submitted {
    kind: Kind,
    bytes: Vec<u8>,
    /// Of requests without a session; a session keeps those of its commands itself.
    attempts: Attempts,
    /// Whether it stands in the ready queue.
    queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Command,
    Plain(Retry),
    Query(Consistency),
    /// Asked of the node at that endpoint only, and once.
    Status(usize),
}

/// A request on the wire.
#[derive(Debug)]
struct Sent {
    endpoint: usize,
    owner: Owner,
}

/// Which attempt a request on the wire is. Its answer goes to that attempt and to no other.
#[derive(Debug)]
enum Owner {
    /// Of the session that stood there when it was sent; the token knows which one that was.
    Session(Place, Token),
    Request(Place, u32),
    /// The engine's own question for the members.
    Members,
}

impl Dispatch {
    pub(super) fn new(options: &Options, mut secrets: Secrets) -> Result<Dispatch, EngineError> {
        let mut jitter = Jitter::new(secrets.seed().ok_or(EngineError::Random)?);
        let pace = Pace {
            attempt_timeout: millis(options.attempt_timeout),
            back_off: millis(options.back_off),
            back_off_max: BACK_OFF_MAX.max(millis(options.back_off)),
        };
        // Clients begin anywhere, so that not all of them meet at the first node.
        let endpoints = options.endpoints.clone();
        let first = usize::try_from(jitter.below(endpoints.len() as u64)).unwrap_or(0);
        Ok(Dispatch {
            pace,
            fifo: options.fifo,
            forward: options.forward,
            message_bytes_max: options.message_bytes_max,
            requests_max: options.requests_max,
            jitter,
            secrets,
            route: Route::new(endpoints.len(), first),
            endpoints,
            sessions: Slab::new(),
            submitted: Slab::new(),
            sent: Slab::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            completions: VecDeque::new(),
            spare: Vec::new(),
            closing: 0,
            stats: Stats::default(),
            refusal: None,
        })
    }

    /// Does what time asks for, and sends what can be sent.
    pub(super) fn run(&mut self, now: Instant, links: &mut Links<impl Connections>) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Session(index) => self.session_timer(now, index),
                Timer::Request(index) => self.request_timer(now, index),
            }
        }
        while let Some(work) = self.ready.pop_front() {
            let done = match work {
                Work::Session(place) => self.run_session(now, place, links),
                Work::Request(place) => self.run_request(now, place, links),
            };
            if !done {
                self.ready.push_front(work);
                break;
            }
        }
    }

    /// When [`Dispatch::run`] has something to do without any news from a link.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let pause_ends = self.route.ready_at();
        // A target that may be asked already is waited for by its link.
        let waits_for_pause = !self.ready.is_empty() && pause_ends > now;
        self.timers.next().min(if waits_for_pause { pause_ends } else { Instant::NEVER })
    }

    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    pub(super) fn next_completion(&mut self) -> Option<(Ticket, Completion)> {
        let completed = self.completions.pop_front()?;
        // Only now may another request have its number.
        self.submitted.release(completed.0.0);
        Some(completed)
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing > 0
    }

    /// The node at `endpoint` answered.
    pub(super) fn respond(&mut self, now: Instant, endpoint: usize, response: &Response<'_>) {
        let place = Place::from(response.id);
        // An answer to what is asked no longer, or of a node that was not asked.
        if self.sent.get(place).is_none_or(|sent| sent.endpoint != endpoint) {
            return;
        }
        let Some(sent) = self.sent.remove(place) else { return };
        self.steer(now, endpoint, &response.body);
        self.note_refusal(endpoint, &response.body);
        match sent.owner {
            Owner::Session(session, token) => self.session_responded(now, session, token, &response.body),
            Owner::Request(request, attempt) => self.request_responded(now, request, attempt, &response.body),
            Owner::Members => self.learn_members(&response.body),
        }
    }

    /// Why a node refused last, unless one has answered since.
    pub(super) fn refusal(&self) -> Option<(usize, Reason)> {
        self.refusal
    }

    fn note_refusal(&mut self, endpoint: usize, body: &ResponseBody<'_>) {
        match *body {
            ResponseBody::NotExecuted { reason, .. } => self.refusal = Some((endpoint, Reason::Node(reason))),
            ResponseBody::Outcome(Outcome::Refused(refusal)) => {
                self.refusal = Some((endpoint, Reason::Session(refusal)));
            }
            ResponseBody::Outcome(_) | ResponseBody::Answer(_) => self.refusal = None,
            _ => {}
        }
    }

    /// Learns from an answer where the leader is.
    fn steer(&mut self, now: Instant, endpoint: usize, body: &ResponseBody<'_>) {
        if endpoint != self.route.target() {
            return;
        }
        match *body {
            ResponseBody::Outcome(_) | ResponseBody::Answer(_) => self.route.answered(endpoint),
            ResponseBody::NotExecuted {
                reason: NotExecuted::Refused(ProposeError::NotLeader { .. } | ProposeError::Transferring { .. }),
                leader_address,
            } => {
                let leader = self.endpoint(leader_address);
                self.route.redirected(endpoint, leader, now, &self.pace, &mut self.jitter);
                self.stats.redirects += u64::from(leader == Some(self.route.target()));
            }
            // One that cannot tell, or could not confirm a read, may be cut off from the leader, and not know it.
            ResponseBody::NotExecuted { reason: NotExecuted::Stopping | NotExecuted::Unconfirmed, .. }
            | ResponseBody::Unknown => {
                self.route.failed(endpoint, now, &self.pace, &mut self.jitter);
            }
            _ => {}
        }
    }

    /// Asks a node that was just reached who the members are: those that were given may all be
    /// replaced by others in time.
    pub(super) fn ask_members(&mut self, now: Instant, endpoint: usize, links: &mut Links<impl Connections>) {
        // If it is not taken, the node is asked when it is reached the next time.
        let _ = self.transmit(now, endpoint, Owner::Members, links, |_, id| {
            Some(Request { id: id.into(), forward: false, body: RequestBody::Members })
        });
    }

    fn learn_members(&mut self, body: &ResponseBody<'_>) {
        // A node of an older version does not know the question.
        if let ResponseBody::Members { configuration, .. } = body
            && let Ok(configuration) = Configuration::decode(configuration.0)
        {
            for member in configuration.members() {
                self.endpoint(&member.address);
            }
        }
    }

    /// The place of an address among the endpoints, where it is put if there is room.
    fn endpoint(&mut self, address: &str) -> Option<usize> {
        if let Some(known) = self.endpoints.iter().position(|endpoint| endpoint == address) {
            return Some(known);
        }
        if self.endpoints.len() >= ENDPOINTS_MAX || !has_port(address) {
            return None;
        }
        self.endpoints.push(address.to_owned());
        self.route.add_node();
        Some(self.endpoints.len() - 1)
    }

    /// The connection to `endpoint` could not be made or was lost: what was sent on it gets no
    /// answer.
    pub(super) fn link_down(&mut self, now: Instant, endpoint: usize) {
        self.stats.reconnects += 1;
        self.route.failed(endpoint, now, &self.pace, &mut self.jitter);
        let lost: Vec<Place> = self.sent.places().filter(|&place| self.is_sent_to(place, endpoint)).collect();
        for place in lost {
            let Some(sent) = self.sent.remove(place) else { continue };
            match sent.owner {
                Owner::Session(session, token) => self.session_lost(now, session, token),
                Owner::Request(request, attempt) => self.request_lost(now, request, attempt),
                Owner::Members => {}
            }
        }
        self.status_failed(endpoint);
    }

    fn is_sent_to(&self, place: Place, endpoint: usize) -> bool {
        self.sent.get(place).is_some_and(|sent| sent.endpoint == endpoint)
    }

    /// The endpoint that leads, as far as known, if it can be sent to now; else it is seen to that
    /// it will be.
    fn open_way(&mut self, now: Instant, links: &mut Links<impl Connections>) -> Option<usize> {
        if self.route.ready_at() > now {
            return None;
        }
        let target = self.route.target();
        self.can_send(now, target, links).then_some(target)
    }

    fn can_send(&self, now: Instant, endpoint: usize, links: &mut Links<impl Connections>) -> bool {
        let address = self.endpoints.get(endpoint).map_or("", String::as_str);
        links.open(now, endpoint, address)
    }

    /// Puts a request on the link. Returns its owner if the link did not take it.
    fn transmit(
        &mut self,
        now: Instant,
        endpoint: usize,
        owner: Owner,
        links: &mut Links<impl Connections>,
        request: impl FnOnce(&Dispatch, Place) -> Option<Request<'_>>,
    ) -> Result<(), Owner> {
        let counts = !matches!(owner, Owner::Members);
        let place = self.sent.insert(Sent { endpoint, owner });
        if request(self, place).is_some_and(|request| links.send(now, endpoint, &request)) {
            self.stats.sent += u64::from(counts);
            return Ok(());
        }
        let sent = self.sent.remove(place).expect("it was put there just now");
        Err(sent.owner)
    }

    /// Tells the program the end of a request.
    fn complete(&mut self, place: Place, completion: Completion) {
        let Some(submitted) = self.submitted.take(place) else { return };
        if self.spare.len() < SPARE_BUFFERS_MAX && submitted.bytes.capacity() <= SPARE_BUFFER_BYTES_MAX {
            self.spare.push(submitted.bytes);
        }
        self.completions.push_back((Ticket(place), completion));
    }

    /// A copy of `bytes` in a buffer that was used before, if there is one.
    fn copied(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }
}

/// A time as the core counts it; never 0, and far from overflow.
pub(super) fn millis(time: std::time::Duration) -> Millis {
    Millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1))
}
