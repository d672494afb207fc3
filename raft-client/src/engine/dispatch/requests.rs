//! Requests of an engine that belong to no session: plain commands, queries and questions for the
//! status of a node.

use raft_core::client::attempts::{Attempts, Remedy};
use raft_core::client::protocol::{Consistency, Request, RequestBody, ResponseBody};
use raft_core::session::operation::{Operation, Outcome};
use raft_core::types::{Instant, Millis};
use raft_core::wire::Bytes;

use crate::engine::connections::Connections;
use crate::engine::dispatch::{Dispatch, Kind, Owner, Submitted, Work};
use crate::engine::links::Links;
use crate::engine::slab::Place;
use crate::engine::timers::Timer;
use crate::engine::{Retry, SubmitError, Ticket};
use crate::outcome::{Answer, CommandError, Completion, QueryError, Reason};

/// When a question for the status of a node looks again whether it can be sent.
const LOOK_AGAIN: Millis = Millis(100);

impl Dispatch {
    pub(in crate::engine) fn submit_plain(
        &mut self,
        now: Instant,
        command: &[u8],
        retry: Retry,
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.submit_request(now, Kind::Plain(retry), command, deadline)
    }

    pub(in crate::engine) fn query(
        &mut self,
        now: Instant,
        consistency: Consistency,
        query: &[u8],
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.submit_request(now, Kind::Query(consistency), query, deadline)
    }

    pub(in crate::engine) fn status(
        &mut self,
        now: Instant,
        endpoint: &str,
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        let endpoint = self.endpoint(endpoint).ok_or(SubmitError::Endpoint)?;
        self.submit_request(now, Kind::Status(endpoint), &[], deadline)
    }

    /// Checks that one more request of that length can be taken in.
    pub(super) fn check_room(&self, bytes: &[u8]) -> Result<(), SubmitError> {
        if bytes.len() > self.message_bytes_max {
            return Err(SubmitError::TooLong { given: bytes.len(), limit: self.message_bytes_max });
        }
        if self.submitted.len() >= self.requests_max {
            return Err(SubmitError::Busy { limit: self.requests_max });
        }
        Ok(())
    }

    fn submit_request(
        &mut self,
        now: Instant,
        kind: Kind,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<Ticket, SubmitError> {
        self.check_room(bytes)?;
        let submitted =
            Submitted { kind, bytes: self.copied(bytes), attempts: Attempts::new(now, deadline), queued: false };
        let place = self.submitted.insert(submitted);
        self.timers.arm(Timer::Request(place.index()), deadline);
        self.enqueue_request(place);
        Ok(Ticket(place))
    }

    fn enqueue_request(&mut self, place: Place) {
        if let Some(request) = self.submitted.get_mut(place).filter(|request| !request.queued) {
            request.queued = true;
            self.ready.push_back(Work::Request(place));
        }
    }

    pub(super) fn request_timer(&mut self, now: Instant, index: usize) {
        let Some(place) = self.submitted.place_at(index) else { return };
        let Some(request) = self.submitted.get_mut(place) else { return };
        if request.kind == Kind::Command {
            return;
        }
        if request.attempts.is_over(now) {
            return self.give_up(place, Reason::Deadline);
        }
        if request.attempts.has_timed_out(now) {
            return self.no_answer(now, place);
        }
        let (due, wake) = (request.attempts.is_due(now), request.attempts.wake(now));
        self.timers.arm(Timer::Request(index), wake);
        if due {
            self.enqueue_request(place);
        }
    }

    /// Sends the request, if it is due. Gives `false` if it is and cannot be sent now.
    pub(super) fn run_request(&mut self, now: Instant, place: Place, links: &mut Links<impl Connections>) -> bool {
        let Some(request) = self.submitted.get(place) else { return true };
        let kind = request.kind;
        if request.attempts.is_over(now) {
            self.give_up(place, Reason::Deadline);
            return true;
        }
        if request.attempts.is_due(now) {
            let endpoint = match kind {
                // It holds nobody up: it comes back when the link is open, or looks again.
                Kind::Status(endpoint) if !self.can_send(now, endpoint, links) => {
                    self.timers.arm(Timer::Request(place.index()), now.after(LOOK_AGAIN));
                    return self.leave_queue(place);
                }
                Kind::Status(endpoint) => endpoint,
                _ => match self.open_way(now, links) {
                    Some(endpoint) => endpoint,
                    None => return false,
                },
            };
            self.send_request(now, place, endpoint, links);
        }
        self.leave_queue(place)
    }

    fn leave_queue(&mut self, place: Place) -> bool {
        if let Some(request) = self.submitted.get_mut(place) {
            request.queued = false;
        }
        true
    }

    fn send_request(&mut self, now: Instant, place: Place, endpoint: usize, links: &mut Links<impl Connections>) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        let attempt = request.attempts.send(now, &self.pace, &mut self.jitter);
        let wake = request.attempts.wake(now);
        self.timers.arm(Timer::Request(place.index()), wake);
        let forward = self.forward;
        let sent = self.transmit(now, endpoint, Owner::Request(place, attempt), links, |this, id| {
            let request = this.submitted.get(place)?;
            let bytes = Bytes(&request.bytes);
            let body = match request.kind {
                Kind::Command | Kind::Plain(_) => {
                    RequestBody::Operate { secret: None, operation: Operation::Plain { command: bytes } }
                }
                Kind::Query(consistency) => RequestBody::Query { consistency, query: bytes },
                Kind::Status(_) => RequestBody::Status,
            };
            Some(Request { id: id.into(), forward, body })
        });
        self.stats.retries += u64::from(sent.is_ok() && attempt > 1);
        if sent.is_err()
            && let Some(request) = self.submitted.get_mut(place)
        {
            let at = request.attempts.after_pause(now, &self.pace, &mut self.jitter);
            request.attempts.refused(at);
            self.timers.arm(Timer::Request(place.index()), at);
        }
    }

    /// The connection on which it was sent was lost.
    pub(super) fn request_lost(&mut self, now: Instant, place: Place, attempt: u32) {
        if self.submitted.get(place).is_some_and(|request| request.attempts.sent_at(attempt).is_some()) {
            self.no_answer(now, place);
        }
    }

    /// The attempt under way got no answer. The request is sent again if that does no harm.
    fn no_answer(&mut self, now: Instant, place: Place) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        match request.kind {
            Kind::Plain(Retry::OnlyIfRefused) | Kind::Status(_) => self.give_up(place, Reason::NoAnswer),
            Kind::Plain(Retry::Always) | Kind::Query(_) | Kind::Command => {
                request.attempts.lost(now);
                self.enqueue_request(place);
            }
        }
    }

    /// Questions for the status of a node that cannot be reached get no answer.
    pub(super) fn status_failed(&mut self, endpoint: usize) {
        let is_concerned =
            |place: &Place| self.submitted.get(*place).is_some_and(|request| request.kind == Kind::Status(endpoint));
        let concerned: Vec<Place> = self.submitted.places().filter(is_concerned).collect();
        for place in concerned {
            self.give_up(place, Reason::NoAnswer);
        }
    }

    /// Questions for the status of that node can be sent.
    pub(in crate::engine) fn link_open(&mut self, endpoint: usize) {
        let is_concerned =
            |place: &Place| self.submitted.get(*place).is_some_and(|request| request.kind == Kind::Status(endpoint));
        let concerned: Vec<Place> = self.submitted.places().filter(is_concerned).collect();
        for place in concerned {
            self.enqueue_request(place);
        }
    }

    /// The request ends without an answer.
    fn give_up(&mut self, place: Place, reason: Reason) {
        let Some(request) = self.submitted.get(place) else { return };
        let in_doubt = request.attempts.may_have_been_proposed();
        let completion = match request.kind {
            Kind::Command | Kind::Plain(_) if in_doubt => Completion::Command(Err(CommandError::Unknown(reason))),
            Kind::Command | Kind::Plain(_) => Completion::Command(Err(CommandError::NotExecuted(reason))),
            Kind::Query(_) => Completion::Query(Err(QueryError(reason))),
            Kind::Status(_) => Completion::Status(Err(QueryError(reason))),
        };
        self.complete(place, completion);
    }

    pub(super) fn request_responded(&mut self, now: Instant, place: Place, attempt: u32, body: &ResponseBody<'_>) {
        let Some(request) = self.submitted.get(place) else { return };
        let completion = match (request.kind, *body) {
            (Kind::Query(_), ResponseBody::Answer(bytes)) => Completion::Query(Ok(bytes.0.to_vec())),
            (Kind::Status(_), ResponseBody::Status(status)) => Completion::Status(Ok(status)),
            (Kind::Plain(_), ResponseBody::Outcome(Outcome::Answered { index, answer, replayed })) => {
                Completion::Command(Ok(Answer { bytes: Some(answer.0.to_vec()), index, replayed }))
            }
            (Kind::Plain(_), ResponseBody::Outcome(Outcome::Executed { index, replayed })) => {
                Completion::Command(Ok(Answer { bytes: None, index, replayed }))
            }
            // Of an attempt before the one under way, anything else tells nothing.
            _ if request.attempts.sent_at(attempt).is_none() => return,
            _ => return self.request_refused(now, place, body),
        };
        self.complete(place, completion);
    }

    /// The attempt under way was refused, or answered with what makes no sense.
    fn request_refused(&mut self, now: Instant, place: Place, body: &ResponseBody<'_>) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        let status = matches!(request.kind, Kind::Status(_));
        let at = match *body {
            ResponseBody::NotExecuted { reason, .. } => {
                let at = match Remedy::of(reason) {
                    Remedy::Elsewhere => now,
                    Remedy::Later => request.attempts.after_pause(now, &self.pace, &mut self.jitter),
                    Remedy::GiveUp => Instant::NEVER,
                };
                request.attempts.refused(at);
                if at == Instant::NEVER || status {
                    return self.give_up(place, Reason::Node(reason));
                }
                at
            }
            ResponseBody::Outcome(Outcome::Refused(refusal)) => {
                request.attempts.refused(Instant::NEVER);
                return self.give_up(place, Reason::Session(refusal));
            }
            _ => return self.unclear(now, place),
        };
        self.try_again(now, place, at);
    }

    /// The node cannot tell what became of the attempt under way, or made no sense.
    fn unclear(&mut self, now: Instant, place: Place) {
        let Some(request) = self.submitted.get_mut(place) else { return };
        match request.kind {
            Kind::Plain(Retry::OnlyIfRefused) | Kind::Status(_) => self.give_up(place, Reason::NoAnswer),
            Kind::Plain(Retry::Always) | Kind::Query(_) | Kind::Command => {
                let at = request.attempts.after_pause(now, &self.pace, &mut self.jitter);
                request.attempts.lost(at);
                self.try_again(now, place, at);
            }
        }
    }

    fn try_again(&mut self, now: Instant, place: Place, at: Instant) {
        if at <= now {
            self.enqueue_request(place);
        } else {
            self.timers.arm(Timer::Request(place.index()), at);
        }
    }
}
