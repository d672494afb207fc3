//! The connections of clients: requests in, responses out, in any order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use raft_core::client::protocol::{Request, Response};
use raft_core::transport::ClientId;

use crate::connection::Connection;
use crate::frame::{FRAME_HEADER_BYTES, FrameKind};
use crate::handshake::{Identity, ProcessId, Refusal, Welcome};
use crate::options::TcpOptions;
use crate::pending::refuse;

/// What one client may have waiting here unread, in bytes, beyond one whole frame.
const INPUT_BYTES_MAX: usize = 256 << 10;

/// Where there is no place left for a client, one that has been idle for so long gives way.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// All clients of a node.
#[derive(Debug)]
pub(crate) struct Clients {
    places: Vec<Place>,
    /// The places without a client.
    free: Vec<usize>,
    /// The places whose clients may have sent a whole request that has not been taken, each once.
    unread: VecDeque<usize>,
    /// The places to which answers wait to be sent.
    unsent: Vec<usize>,
    first_token: usize,
    options: TcpOptions,
}

#[derive(Debug, Default)]
struct Place {
    /// Counts the clients that have had this place, so that no id is used twice.
    uses: u32,
    client: Option<Client>,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    /// Requests that were taken and not answered.
    unanswered: u32,
    in_unread: bool,
    in_unsent: bool,
    /// It has closed its end, or the connection is broken: what it sent before is still taken.
    ended: bool,
    /// It sent something that is no request, found while only looking.
    broken: Cell<bool>,
}

impl Clients {
    pub(crate) fn new(first_token: usize, options: &TcpOptions) -> Clients {
        Clients {
            places: Vec::new(),
            free: Vec::new(),
            unread: VecDeque::new(),
            unsent: Vec::new(),
            first_token,
            options: options.clone(),
        }
    }

    /// Whether a request may be waiting to be taken.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Takes in a client, or refuses it.
    pub(crate) fn accept(&mut self, mut connection: Connection, own: &Identity, registry: &Registry, now: Instant) {
        let full = self.free.is_empty() && self.places.len() >= self.options.clients_max;
        if full && !self.shed(now) {
            return refuse(&mut connection, Refusal::TooMany, now);
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(Place::default());
                self.places.len() - 1
            }
        };
        connection.send(FrameKind::Welcome, &Welcome::of(ProcessId::UNTOLD, own));
        let registered = connection.reregister(registry, Token(self.first_token + place));
        if registered.and_then(|()| connection.write(now)).is_err() {
            return self.free.push(place);
        }
        if let Some(slot) = self.places.get_mut(place) {
            slot.uses = slot.uses.wrapping_add(1);
            let broken = Cell::new(false);
            // It may have sent requests right behind its hello.
            slot.client =
                Some(Client { connection, unanswered: 0, in_unread: true, in_unsent: false, ended: false, broken });
            self.unread.push_back(place);
        }
    }

    /// Closes the connection that has been idle for longest, if it has been for a while: a client that comes back to it
    /// makes another one. Returns whether there was one.
    fn shed(&mut self, now: Instant) -> bool {
        let idle_since = |(place, slot): (usize, &Place)| {
            let client = slot.client.as_ref()?;
            let idle = client.unanswered == 0 && client.connection.input.len() == 0;
            let since = client.connection.heard_at;
            (idle && now.duration_since(since) >= IDLE_MIN).then_some((since, place))
        };
        let longest = self.places.iter().enumerate().filter_map(idle_since).min();
        if let Some((_, place)) = longest {
            self.close(place);
        }
        longest.is_some()
    }

    fn client(&mut self, place: usize) -> Option<&mut Client> {
        self.places.get_mut(place)?.client.as_mut()
    }

    fn close(&mut self, place: usize) {
        if let Some(slot) = self.places.get_mut(place)
            && slot.client.take().is_some()
        {
            self.free.push(place);
        }
    }

    /// Handles what the poll announced for the client token `place`.
    pub(crate) fn announce(&mut self, place: usize, event: &Event, now: Instant) {
        let Some(client) = self.client(place) else { return };
        client.connection.announce(event);
        if client.connection.write(now).is_err() {
            return self.close(place);
        }
        self.resume(place, now);
    }

    /// Reads from a client that is within its limits.
    fn resume(&mut self, place: usize, now: Instant) {
        let bytes_max = INPUT_BYTES_MAX.max(self.options.frame_bytes_max + FRAME_HEADER_BYTES);
        let (requests_max, output_bytes_max) = (self.options.client_requests_max, self.options.client_output_bytes_max);
        let Some(client) = self.client(place) else { return };
        if client.unanswered >= requests_max || client.connection.output.len() >= output_bytes_max {
            return;
        }
        client.ended |= client.connection.read(bytes_max, now).is_err();
        let waiting = client.connection.input.len() > 0;
        if client.broken.get() || (client.ended && !waiting) {
            return self.close(place);
        }
        if waiting && !client.in_unread {
            client.in_unread = true;
            self.unread.push_back(place);
        }
    }

    /// Takes the next request of a client, each client in its turn.
    pub(crate) fn request(&mut self) -> Option<(ClientId, Request<'_>)> {
        while let Some(place) = self.unread.pop_front() {
            let (requests_max, output_bytes_max) =
                (self.options.client_requests_max, self.options.client_output_bytes_max);
            let frame_bytes_max = self.options.frame_bytes_max;
            let Some(client) = self.client(place) else { continue };
            client.in_unread = false;
            if client.unanswered >= requests_max || client.connection.output.len() >= output_bytes_max {
                continue; // Taken up again once answers have been sent.
            }
            match client.connection.take_frame(frame_bytes_max) {
                Ok(None) if client.ended => self.close(place),
                Ok(None) => {
                    // Perhaps the buffer's limit was reached, and there is more in the socket.
                    if client.connection.is_readable() {
                        self.resume(place, Instant::now());
                    }
                }
                Ok(Some(found)) if found.kind == FrameKind::Request => {
                    client.unanswered += 1;
                    client.in_unread = true;
                    self.unread.push_back(place);
                    return self.decode(place, &found);
                }
                Ok(Some(found)) if found.kind == FrameKind::KeepAlive => {
                    client.in_unread = true;
                    self.unread.push_back(place);
                }
                Ok(Some(_)) | Err(_) => self.close(place),
            }
        }
        None
    }

    /// The request in a frame. Bytes that are none break the connection.
    fn decode(&self, place: usize, found: &crate::buffer::Found) -> Option<(ClientId, Request<'_>)> {
        let slot = self.places.get(place)?;
        let client = slot.client.as_ref()?;
        match Request::decode(client.connection.input.body(found)) {
            Ok(request) => Some((client_id(slot.uses, place), request)),
            Err(error) => {
                tracing::warn!(%error, "a client was disconnected");
                client.broken.set(true);
                None
            }
        }
    }

    /// Answers a request of a client, if it is still there.
    pub(crate) fn respond(&mut self, id: ClientId, response: &Response<'_>) {
        let Ok(place) = usize::try_from(id.0 & u64::from(u32::MAX)) else { return };
        let Some(slot) = self.places.get_mut(place).filter(|slot| client_id(slot.uses, place) == id) else { return };
        let Some(client) = &mut slot.client else { return };
        client.unanswered = client.unanswered.saturating_sub(1);
        client.connection.output.frame(FrameKind::Response, response.bytes_max(), |into| response.encode(into).ok());
        if !client.in_unsent {
            client.in_unsent = true;
            self.unsent.push(place);
        }
    }

    /// Sends the answers that wait, as far as the sockets take them.
    pub(crate) fn flush(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut unsent = std::mem::take(&mut self.unsent);
        for place in unsent.drain(..) {
            let Some(client) = self.client(place) else { continue };
            client.in_unsent = false;
            let broken = client.broken.get() || client.connection.write(now).is_err();
            if broken { self.close(place) } else { self.resume(place, now) }
        }
        self.unsent = unsent;
    }

    /// Closes those that have been silent for too long, and those that are broken.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let silence_max = self.options.client_silence_max;
        for place in 0..self.places.len() {
            let Some(client) = self.client(place) else { continue };
            let silent = now.duration_since(client.connection.heard_at) >= silence_max && client.unanswered == 0;
            if silent || client.broken.get() {
                self.close(place);
            }
        }
    }
}

fn client_id(uses: u32, place: usize) -> ClientId {
    ClientId((u64::from(uses) << 32) | place as u64)
}
