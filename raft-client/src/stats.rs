//! What a client has done so far.

/// Counts since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent, repeated ones included.
    pub sent: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Commands answered with what an earlier attempt had done.
    pub replayed: u64,
    /// Times a node named another one as the leader, and it was followed.
    pub redirects: u64,
    /// Connections that were lost or could not be made.
    pub reconnects: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions that ended without being closed.
    pub sessions_expired: u64,
}
