//! Looking at a cluster from outside, as its operators do: who leads, and who keeps up.

use std::time::Duration;

use raft_client::{BlockingClient, EngineError, NodeStatus, Options, RoleName};

/// A node on the same machine that does not answer within this is taken for down.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks the nodes of a cluster how they are.
#[derive(Debug)]
pub struct Watch {
    client: BlockingClient,
    endpoints: Vec<String>,
}

/// How the nodes are, in the order of their endpoints; `None` for one that does not answer.
#[derive(Clone, Debug, Default)]
pub struct View(pub Vec<Option<NodeStatus>>);

impl Watch {
    /// A look at the nodes at these endpoints.
    ///
    /// # Errors
    /// As [`BlockingClient::new`].
    pub fn new(endpoints: &[String]) -> Result<Watch, EngineError> {
        let options = Options { connect_timeout: PATIENCE, ..Options::new(endpoints.to_vec()) };
        let mut client = BlockingClient::new(&options)?;
        client.set_timeout(Some(PATIENCE));
        Ok(Watch { client, endpoints: endpoints.to_vec() })
    }

    /// Asks every node.
    pub fn look(&mut self) -> View {
        View(self.endpoints.iter().map(|endpoint| self.client.status(endpoint).ok()).collect())
    }
}

impl View {
    /// Who leads, by its place among the endpoints: of several, the one in the latest term.
    #[must_use]
    pub fn leader(&self) -> Option<(usize, NodeStatus)> {
        let nodes = self.0.iter().enumerate().filter_map(|(place, status)| Some((place, (*status)?)));
        nodes.filter(|(_, status)| status.role == RoleName::Leader).max_by_key(|(_, status)| status.term)
    }

    /// The leader, if every node answers, follows it, and has applied all but the last
    /// `lag` entries that it has committed.
    #[must_use]
    pub fn settled(&self, lag: u64) -> Option<(usize, NodeStatus)> {
        let (place, leader) = self.leader()?;
        let settled = self.0.iter().all(|status| {
            status.is_some_and(|status| {
                status.term == leader.term
                    && status.leader == Some(leader.node)
                    && status.applied.0.saturating_add(lag) >= leader.commit.0
            })
        });
        // Until it has applied the entry its term begins with, a leader takes no commands.
        (settled && leader.applied.0 > 1).then_some((place, leader))
    }
}
