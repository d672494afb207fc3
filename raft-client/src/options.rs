//! What a client is told at its start.

use std::time::Duration;

use raft_core::types::ClusterId;
use thiserror::Error;

/// The most endpoints a client knows: those it was given and those that nodes have named.
pub const ENDPOINTS_MAX: usize = 64;

/// How a client behaves. [`Options::new`] gives values that suit a cluster in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where nodes are reached, each as `host:port`. One is enough to find the leader, as long as
    /// it is up; more are better.
    pub endpoints: Vec<String>,
    /// The cluster that the endpoints belong to. `None` learns it from the first node that is reached and keeps it. A
    /// node of another cluster is refused as [`LinkFault::OtherCluster`](crate::LinkFault::OtherCluster), and gets no
    /// request. Set it where an address may come to belong to another cluster between two starts of the program.
    pub cluster: Option<ClusterId>,
    /// After how long without an answer a request is sent again. Grows with each attempt.
    pub attempt_timeout: Duration,
    /// How long a connection may take to be established before the next node is tried.
    pub connect_timeout: Duration,
    /// The least pause between attempts when no node is of help. Doubles, up to half a
    /// second, and is jittered.
    pub back_off: Duration,
    /// Whether the commands of a session run in the order in which they were submitted.
    pub fifo: bool,
    /// The longest command, query or answer, in bytes; 3 MiB unless set. The nodes' limits must not be larger
    /// (`NodeOptions::query_bytes_max` and `Config::entry_bytes_max`), or an answer could not be received.
    pub message_bytes_max: usize,
    /// Whether a node that does not lead is to bring requests to the leader. If not, it names the
    /// leader, and the client turns there: that saves a hop for each request, but the client must
    /// be able to reach every node under the address by which the nodes know it.
    pub forward: bool,
    /// The most requests under way; beyond it they are refused as
    /// [`SubmitError::Busy`](crate::SubmitError::Busy).
    pub requests_max: usize,
    /// Where jitter and session secrets come from; `None` takes it from the operating system. Set
    /// it only in tests: who can guess it can guess the secrets.
    pub seed: Option<u64>,
}

impl Options {
    /// A client of the nodes at `endpoints`, with default times and limits.
    #[must_use]
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Options {
        Options {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            cluster: None,
            attempt_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            back_off: Duration::from_millis(10),
            fifo: false,
            forward: false,
            message_bytes_max: 3 << 20,
            requests_max: 65_536,
            seed: None,
        }
    }

    /// Checks that a client can work with these options.
    ///
    /// # Errors
    /// The first option that is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.endpoints.is_empty() {
            return Err(OptionsError::NoEndpoints);
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(OptionsError::TooManyEndpoints { given: self.endpoints.len() });
        }
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| !has_port(endpoint)) {
            return Err(OptionsError::Endpoint { endpoint: endpoint.clone() });
        }
        for (name, time) in [
            ("attempt_timeout", self.attempt_timeout),
            ("connect_timeout", self.connect_timeout),
            ("back_off", self.back_off),
        ] {
            if time < Duration::from_millis(1) || time > Duration::from_secs(3600) {
                return Err(OptionsError::Time { name });
            }
        }
        if self.message_bytes_max == 0 || self.requests_max == 0 {
            return Err(OptionsError::NoRoom);
        }
        Ok(())
    }
}

/// Whether an endpoint ends in a port.
pub(crate) fn has_port(endpoint: &str) -> bool {
    endpoint.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Why options are not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is nobody to talk to.
    #[error("a client needs the address of at least one node, as host:port")]
    NoEndpoints,
    /// More than [`ENDPOINTS_MAX`].
    #[error("{given} endpoints were given; {ENDPOINTS_MAX} are the most; a few nodes are enough to find the others")]
    TooManyEndpoints {
        /// How many were given.
        given: usize,
    },
    /// An endpoint is no address.
    #[error("the endpoint {endpoint:?} is not of the form host:port")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// A time is out of its bounds.
    #[error("{name} must be at least a millisecond and at most an hour")]
    Time {
        /// The option.
        name: &'static str,
    },
    /// A limit is zero.
    #[error("message_bytes_max and requests_max must be at least 1")]
    NoRoom,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_before_anything_is_opened() {
        assert_eq!(Options::new(["127.0.0.1:7001", "[::1]:7002", "node.example:7003"]).check(), Ok(()));
        assert_eq!(Options::new::<&str>([]).check(), Err(OptionsError::NoEndpoints));
        for endpoint in ["", "host", ":7001", "host:", "host:99999"] {
            let endpoint = endpoint.to_string();
            assert_eq!(Options::new([endpoint.clone()]).check(), Err(OptionsError::Endpoint { endpoint }));
        }
        let many = (0..=ENDPOINTS_MAX).map(|port| format!("h:{port}"));
        assert!(matches!(Options::new(many).check(), Err(OptionsError::TooManyEndpoints { .. })));
        let slow = Options { back_off: Duration::ZERO, ..Options::new(["h:1"]) };
        assert_eq!(slow.check(), Err(OptionsError::Time { name: "back_off" }));
    }
}
