//! Limits of different parts that must agree, compared before a node starts.

use raft_core::client::protocol::HEAD_BYTES_MAX;
use raft_core::configuration::CONFIGURATION_BYTES_MAX;
use raft_core::entry::HEADER_BYTES;
use raft_core::session::limits::SessionLimits;
use raft_core::transport::{Network, Transport};
use thiserror::Error;

use crate::options::NodeOptions;

/// Two limits that do not fit together: what the one allows, the other never takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{larger} needs {needed_bytes} bytes, and {smaller} allows {allowed_bytes}: lower the one, or raise the other")]
pub struct LimitsDisagree {
    /// The limit that allows more.
    pub larger: &'static str,
    /// What it takes in the other part, in bytes, with all that stands around it.
    pub needed_bytes: usize,
    /// The limit that allows less.
    pub smaller: &'static str,
    /// What that allows, in bytes.
    pub allowed_bytes: usize,
}

/// What the network takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkLimits {
    /// See [`raft_core::transport::Transport::payload_bytes_max`].
    pub(crate) payload_bytes_max: usize,
    /// See [`raft_core::transport::Network::client_bytes_max`].
    pub(crate) client_bytes_max: usize,
}

impl NetworkLimits {
    pub(crate) fn of<N: Network>(network: &N, peers: &N::Peers) -> NetworkLimits {
        NetworkLimits { payload_bytes_max: peers.payload_bytes_max(), client_bytes_max: network.client_bytes_max() }
    }
}

const MESSAGE: &str = "the longest message between nodes (TcpOptions::frame_bytes_max)";
const RESPONSE: &str = "the longest message of clients (TcpOptions::frame_bytes_max)";
const ENTRY: &str = "Config::entry_bytes_max";
const ANSWER: &str = "NodeOptions::answer_bytes_max";

/// Compares all of them.
///
/// # Errors
/// The first two that do not fit together.
pub(crate) fn check(
    options: &NodeOptions,
    sessions: &SessionLimits,
    network: NetworkLimits,
) -> Result<(), LimitsDisagree> {
    let entry = options.raft.entry_bytes_max;
    let NetworkLimits { payload_bytes_max, client_bytes_max } = network;
    let pairs = [
        // The record of an entry, and an operation that is brought to the leader.
        (ENTRY, entry.saturating_add(HEADER_BYTES), MESSAGE, payload_bytes_max),
        ("a configuration", CONFIGURATION_BYTES_MAX.saturating_add(HEADER_BYTES), MESSAGE, payload_bytes_max),
        (ENTRY, entry.saturating_add(HEAD_BYTES_MAX), RESPONSE, client_bytes_max),
        ("a configuration", CONFIGURATION_BYTES_MAX.saturating_add(HEAD_BYTES_MAX), RESPONSE, client_bytes_max),
        (ANSWER, options.answer_bytes_max.saturating_add(HEAD_BYTES_MAX), RESPONSE, client_bytes_max),
        (
            "NodeOptions::query_bytes_max",
            options.query_bytes_max.saturating_add(HEAD_BYTES_MAX),
            RESPONSE,
            client_bytes_max,
        ),
        // What is kept of an answer is handed out again.
        (
            "SessionLimits::answer_bytes",
            usize::try_from(sessions.answer_bytes).unwrap_or(usize::MAX),
            ANSWER,
            options.answer_bytes_max,
        ),
    ];
    match pairs.into_iter().find(|(_, needed, _, allowed)| needed > allowed) {
        Some((larger, needed_bytes, smaller, allowed_bytes)) => {
            Err(LimitsDisagree { larger, needed_bytes, smaller, allowed_bytes })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use raft_core::types::NodeId;

    use super::*;

    /// Every pair, at the largest value that fits and at one byte more.
    #[test]
    fn each_pair_of_limits_is_compared_with_both_numbers() {
        let good = NodeOptions::new(NodeId::new(1).unwrap());
        let (room, most) = (1 << 20, usize::MAX);
        let with = |entry: usize, answer: usize, query: usize| {
            let mut options = NodeOptions { answer_bytes_max: answer, query_bytes_max: query, ..good.clone() };
            options.raft.entry_bytes_max = entry;
            options
        };
        let network = |payload_bytes_max, client_bytes_max| NetworkLimits { payload_bytes_max, client_bytes_max };
        let sessions = |answer_bytes| SessionLimits { answer_bytes, ..SessionLimits::default() };
        let configuration = CONFIGURATION_BYTES_MAX;
        type Case<'a> = (&'a str, &'a str, Box<dyn Fn(usize) -> (NodeOptions, SessionLimits, NetworkLimits) + 'a>);
        let cases: Vec<Case<'_>> = vec![
            (
                ENTRY,
                MESSAGE,
                Box::new(|more| (with(room - HEADER_BYTES + more, 64, 64), sessions(64), network(room, most))),
            ),
            (
                "a configuration",
                MESSAGE,
                Box::new(|more| (with(1, 64, 64), sessions(64), network(configuration + HEADER_BYTES - more, most))),
            ),
            (
                ENTRY,
                RESPONSE,
                Box::new(|more| (with(room - HEAD_BYTES_MAX + more, 64, 64), sessions(64), network(most, room))),
            ),
            (
                "a configuration",
                RESPONSE,
                Box::new(|more| (with(1, 64, 64), sessions(64), network(most, configuration + HEAD_BYTES_MAX - more))),
            ),
            (
                ANSWER,
                RESPONSE,
                Box::new(|more| (with(1, room - HEAD_BYTES_MAX + more, 64), sessions(64), network(most, room))),
            ),
            (
                "NodeOptions::query_bytes_max",
                RESPONSE,
                Box::new(|more| (with(1, 64, room - HEAD_BYTES_MAX + more), sessions(64), network(most, room))),
            ),
            (
                "SessionLimits::answer_bytes",
                ANSWER,
                Box::new(|more| (with(1, 200, 64), sessions(200 + u32::from(more == 1)), network(most, most))),
            ),
        ];
        for (larger, smaller, case) in cases {
            let (options, limits, room) = case(0);
            assert_eq!(check(&options, &limits, room), Ok(()), "{larger}, {smaller}");
            let (options, limits, room) = case(1);
            let error = check(&options, &limits, room).unwrap_err();
            assert_eq!((error.larger, error.smaller), (larger, smaller));
            assert_eq!(error.needed_bytes, error.allowed_bytes + 1, "{larger}, {smaller}");
            let text = error.to_string();
            let numbers = [error.needed_bytes, error.allowed_bytes].map(|bytes| bytes.to_string());
            assert!(numbers.iter().all(|number| text.contains(number)), "{text}");
        }
        assert_eq!(check(&good, &SessionLimits::default(), network((4 << 20) - 128, 4 << 20)), Ok(()));
    }
}
