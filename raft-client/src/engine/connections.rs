//! What an engine needs from the world: connections, and nothing else.

use raft_core::client::protocol::{Request, Response};
use raft_core::types::ClusterId;
use raft_transport_tcp::client::SendError;

use crate::engine::links::LinkFault;

/// The connections of an engine: one to each endpoint at most. Endpoints are named by the small numbers under which
/// [`EngineCore::endpoints`](crate::EngineCore::endpoints) lists them.
///
/// An implementation moves bytes. It decides nothing: it never waits, and opens, repeats and ends nothing by itself. What
/// happens to its connections is told by [`Connections::next_event`].
pub trait Connections {
    /// Begins to connect to a node at `address`, of `cluster` if that is given. There is no connection to that endpoint.
    /// `dial` grows with each attempt, so that each address of a host that has several is tried in turn.
    ///
    /// # Errors
    /// [`LinkFault`]: there is no connection, and no event follows.
    fn dial(
        &mut self,
        endpoint: usize,
        address: &str,
        dial: usize,
        cluster: Option<ClusterId>,
    ) -> Result<(), LinkFault>;

    /// Puts a request after those that wait to be sent. The connection is established.
    ///
    /// # Errors
    /// [`SendError`]: it will not be sent.
    fn send(&mut self, endpoint: usize, request: &Request<'_>) -> Result<(), SendError>;

    /// Sends what waits, as far as the connection takes it.
    ///
    /// # Errors
    /// [`LinkFault`]: the connection is at its end, and no event follows.
    fn flush(&mut self, endpoint: usize) -> Result<(), LinkFault>;

    /// The next response that has arrived whole; `None` if there is none, or no connection.
    ///
    /// # Errors
    /// [`LinkFault`]: the connection is at its end, and no event follows.
    fn response(&mut self, endpoint: usize) -> Result<Option<Response<'_>>, LinkFault>;

    /// Ends the connection, if there is one. No response and no event of it follows.
    fn hang_up(&mut self, endpoint: usize);

    /// The next thing that happened, to the connection to that endpoint.
    fn next_event(&mut self) -> Option<(usize, ConnectionEvent)>;
}

/// What happened to a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// It is established, with a node of that cluster.
    Established(ClusterId),
    /// It takes more to send than before.
    Writable,
    /// Responses may have arrived.
    Readable,
    /// It could not be made, or was lost.
    Lost(LinkFault),
}
