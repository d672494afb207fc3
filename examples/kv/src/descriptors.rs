//! The process's file descriptors: the limit is raised, what the node itself needs is set aside, and connections of
//! strangers share the rest.

use raft_transport_tcp::options::TcpOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http::OPERATIONS_MAX;

/// The descriptors of one call of an operator over HTTP: those of its client, and of the connection that it makes to this
/// node.
const OPERATION_DESCRIPTORS: usize = 5;
/// Standard streams, signals, the HTTP listener and its poll, and connections that were accepted and wait for a place.
const PROGRAM_DESCRIPTORS: usize = 24;
/// The HTTP connections that are served at once, where there are descriptors enough.
const HTTP_MAX: usize = 1024;
/// The fewest connections of each kind with which a node is of use.
const CONNECTIONS_MIN: usize = 8;

/// How many connections of each kind there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) http: usize,
    pub(crate) clients: usize,
    pub(crate) handshakes: usize,
}

/// A limit that is too low for a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process may open {limit} files, and a node needs {needed}: raise it with `ulimit -n {needed}` or more")]
pub(crate) struct TooFew {
    limit: usize,
    needed: usize,
}

impl Shares {
    /// Raises the process's limit as far as it may, and divides what it comes to. `options` are those of the network,
    /// whose limits are lowered where they have to be.
    ///
    /// # Errors
    /// There are too few for a node.
    pub(crate) fn claim(options: &TcpOptions) -> Result<Shares, TooFew> {
        Shares::divide(raise(most(options)), options)
    }

    fn divide(limit: usize, options: &TcpOptions) -> Result<Shares, TooFew> {
        let set_aside = set_aside(options);
        let needed = set_aside + 3 * CONNECTIONS_MIN;
        let left = limit.saturating_sub(set_aside);
        if limit < needed {
            return Err(TooFew { limit, needed });
        }
        // Handshakes are short, and HTTP has a connection for each client as the native port has.
        let handshakes = (left / 5).min(options.handshakes_max).max(CONNECTIONS_MIN);
        let http = ((left - handshakes) / 2).min(HTTP_MAX);
        let clients = (left - handshakes - http).min(options.clients_max);
        Ok(Shares { http, clients, handshakes })
    }
}

/// What the node needs, however many strangers come.
fn set_aside(options: &TcpOptions) -> usize {
    let network = TcpOptions { clients_max: 0, handshakes_max: 0, ..options.clone() };
    let operations = OPERATIONS_MAX * OPERATION_DESCRIPTORS;
    raft_storage_file::DESCRIPTORS_MAX + network.descriptors_max() + operations + PROGRAM_DESCRIPTORS
}

/// What all together can come to.
fn most(options: &TcpOptions) -> usize {
    set_aside(options) + options.handshakes_max + options.clients_max + HTTP_MAX
}

/// Raises the limit to what it may be at most, or to `wanted` where there is no such bound. Returns what it is then.
fn raise(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let target = limit.maximum.unwrap_or(current.max(wanted as u64));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum: limit.maximum });
    // Systems that do not let it be raised so far keep what it was.
    let reached = if raised.is_ok() { target } else { current };
    usize::try_from(reached).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use raft_core::types::{ClusterId, Incarnation, NodeId};
    use raft_transport_tcp::handshake::Identity;

    use super::*;

    fn options() -> TcpOptions {
        let (cluster, node) = (ClusterId(1), NodeId::new(1).unwrap());
        let identity = Identity { cluster, node, incarnation: Incarnation(1), configuration: 0 };
        TcpOptions::new("127.0.0.1:0".parse().unwrap(), identity, Vec::new())
    }

    #[test]
    fn connections_share_what_the_node_leaves() {
        let options = options();
        let all = Shares { http: HTTP_MAX, clients: options.clients_max, handshakes: options.handshakes_max };
        assert_eq!(Shares::divide(1 << 20, &options), Ok(all));
        let needed = set_aside(&options) + 3 * CONNECTIONS_MIN;
        for limit in [needed, 512, 1024, 4096, most(&options)] {
            let Shares { http, clients, handshakes } = Shares::divide(limit, &options).unwrap();
            assert!([http, clients, handshakes].iter().all(|&share| share >= CONNECTIONS_MIN), "{limit}");
            assert!(set_aside(&options) + http + clients + handshakes <= limit, "{limit}");
        }
        assert_eq!(Shares::divide(needed - 1, &options), Err(TooFew { limit: needed - 1, needed }));
    }
}
