//! A node with an empty directory, until it is created or added.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use raft_client::{OperatorClient, OperatorError};
use raft_core::configuration::Configuration;
use raft_core::types::Incarnation;
use raft_storage_file::{Directory, FileStorage, How, OpenError, Options, Origin, Report, WaitingDirectory};
use raft_transport_tcp::setup::{self, Creation, SetupReply, SetupRequest, Step};
use raft_transport_tcp::waiting::{Candidate, Invitation, Reply, WaitError, WaitingPort};

use crate::cli::ServeArgs;
use crate::serve::{ServeError, random};

/// How often a node that waits looks around.
const LOOK: Duration = Duration::from_millis(100);
/// How long a member may take to say who its members are.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long after an answer members are asked again.
const ASK_PAUSE: Duration = Duration::from_secs(1);
/// How often the same is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Waits until the node belongs to a cluster, and returns its storage.
///
/// # Errors
/// The port or the directory cannot be used.
pub(crate) fn wait(args: &ServeArgs) -> Result<(FileStorage, Report), ServeError> {
    let failed = |source| ServeError::Open { directory: args.data.display().to_string(), source };
    let mut port = WaitingPort::bind(args.listen)?;
    let directory = WaitingDirectory::enter(Directory::new(&args.data), Incarnation(random()?)).map_err(failed)?;
    let mut node = WaitingNode::new(directory);
    node.resume().map_err(failed)?;
    while node.member.is_none() {
        match port.wait(&mut node, LOOK) {
            Ok(()) => node.take_answer().map_err(failed)?,
            Err(WaitError::Candidate(source)) => return Err(failed(source)),
            Err(WaitError::System(error)) => return Err(error.into()),
        }
    }
    node.member.ok_or_else(|| failed(OpenError::Waiting))
}

/// What a member said of an invitation.
type Answer = (Invitation, Result<Configuration, OperatorError>);

struct WaitingNode {
    /// Gone once the node is a member.
    directory: Option<WaitingDirectory>,
    member: Option<(FileStorage, Report)>,
    answers: (Sender<Answer>, Receiver<Answer>),
    /// A member is being asked, or was a moment ago.
    ask_at: Option<Instant>,
    logged: Option<(String, Instant)>,
}

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// The node was added, and joins.
    Joins,
    /// The member has another storage.
    OtherStorage,
    /// There is no such member, or cluster.
    Unfounded,
}

/// Whether a cluster with that configuration has added the node with this storage.
fn judge(own: Incarnation, invitation: &Invitation, configuration: &Configuration) -> Judged {
    if configuration.cluster() != invitation.cluster {
        return Judged::Unfounded;
    }
    match configuration.member(invitation.node).map(|member| member.incarnation) {
        // A member that was added before it could be asked has no storage yet: the first that is met is the one.
        Some(None) => Judged::Joins,
        Some(Some(named)) if named == own => Judged::Joins,
        Some(Some(_)) => Judged::OtherStorage,
        None => Judged::Unfounded,
    }
}

impl WaitingNode {
    fn new(directory: WaitingDirectory) -> WaitingNode {
        WaitingNode { directory: Some(directory), member: None, answers: channel(), ask_at: None, logged: None }
    }

    /// Goes on where an earlier process left off.
    fn resume(&mut self) -> Result<(), OpenError> {
        match self.directory.as_ref().and_then(|directory| directory.origin()) {
            Some(Origin { how: How::Joined, .. }) => return self.complete(),
            Some(Origin { node, configuration, .. }) => tracing::warn!(
                %node, cluster = %configuration.cluster(),
                "this node has promised to be created, and its creation is not finished: run `kv init` again"
            ),
            None => tracing::warn!(
                "this node is empty: it waits until a cluster is created with it (`kv init`) or it is added to one \
                 (`kv member add`)"
            ),
        }
        Ok(())
    }

    /// Makes the node a member of the cluster that it has promised itself to.
    fn complete(&mut self) -> Result<(), OpenError> {
        if let Some(directory) = self.directory.take() {
            let (storage, report) = directory.complete(Options::default())?;
            let identity = storage.identity();
            tracing::info!(node = %identity.node, cluster = %identity.cluster, "this node belongs to a cluster now");
            self.member = Some((storage, report));
        }
        Ok(())
    }

    /// The creation that was promised.
    fn promised(&self) -> Option<Creation> {
        let origin = self.directory.as_ref()?.origin()?;
        Some(Creation { key: origin.key, configuration: origin.configuration.clone() })
    }

    fn reply(&self) -> Reply {
        match (&self.member, &self.directory) {
            (None, Some(directory)) => {
                let incarnation = directory.incarnation();
                Reply::Waits(match self.promised() {
                    Some(creation) => SetupReply::Promised { incarnation, creation: Box::new(creation) },
                    None => SetupReply::Empty { incarnation },
                })
            }
            (Some((storage, _)), _) => {
                let identity = storage.identity();
                Reply::Created { cluster: identity.cluster, node: identity.node }
            }
            (None, None) => unreachable!("a node without its directory is a member, or has failed"),
        }
    }

    /// Takes what a member has answered, and joins if that is right.
    fn take_answer(&mut self) -> Result<(), OpenError> {
        let Ok((invitation, answer)) = self.answers.1.try_recv() else { return Ok(()) };
        self.ask_at = Some(Instant::now() + ASK_PAUSE);
        let Some(directory) = self.directory.as_mut().filter(|directory| directory.origin().is_none()) else {
            return Ok(());
        };
        let Invitation { cluster, node, from, address, key } = invitation.clone();
        let configuration = match answer {
            Ok(configuration) => configuration,
            Err(error) => {
                self.log(format!("node {from} of cluster {cluster}, at {address}, cannot be asked: {error}"));
                return Ok(());
            }
        };
        match judge(directory.incarnation(), &invitation, &configuration) {
            Judged::Joins => {
                directory.promise(Origin { node, key, how: How::Joined, configuration })?;
                return self.complete();
            }
            Judged::OtherStorage => self.log(format!(
                "cluster {cluster} takes this node for its member {node}, which has another storage: the data of that \
                 member is gone. This node stays empty, and waits. Remove member {node} (kv member remove {node}), and \
                 add this node under a number that was never used (kv member add)"
            )),
            Judged::Unfounded => {
                self.log(format!("node {from} of cluster {cluster} has dialed this node, which is not a member of it"));
            }
        }
        Ok(())
    }

    /// Logs what keeps the node waiting: when it is new, and then once in a while.
    fn log(&mut self, text: String) {
        let is_new = |(logged, at): &(String, Instant)| *logged != text || at.elapsed() >= LOG_INTERVAL;
        if self.logged.as_ref().is_none_or(is_new) {
            tracing::error!("{text}");
            self.logged = Some((text, Instant::now()));
        }
    }
}

impl Candidate for WaitingNode {
    type Error = OpenError;

    fn setup(&mut self, request: &SetupRequest) -> Result<Reply, OpenError> {
        if let Some(directory) = &mut self.directory {
            let promised = directory.origin().map(|origin| {
                let Origin { key, configuration, .. } = origin.clone();
                Creation { key, configuration }
            });
            match (setup::step(directory.incarnation(), promised.as_ref(), request), request) {
                (Step::Promise(node), SetupRequest::Promise(creation)) => {
                    let Creation { key, configuration } = creation.as_ref().clone();
                    tracing::info!(%node, cluster = %configuration.cluster(), "promised to be created");
                    directory.promise(Origin { node, key, how: How::Created, configuration })?;
                }
                (Step::Complete, _) => self.complete()?,
                _ => {}
            }
        }
        Ok(self.reply())
    }

    fn invited(&mut self, invitation: Invitation) -> Result<(), OpenError> {
        if let Some(creation) = self.promised() {
            // The cluster has members, so that all have promised: only the last word of the founder was lost.
            let own = self.directory.as_ref().and_then(|directory| creation.node(directory.incarnation()));
            let same = creation.cluster() == invitation.cluster && creation.key == invitation.key;
            if same && own == Some(invitation.node) {
                return self.complete();
            }
            let cluster = creation.cluster();
            self.log(format!(
                "cluster {} takes this node for its member {}, and it has promised to be created as one of cluster \
                 {cluster}. To give that up, stop it and give it an empty directory",
                invitation.cluster, invitation.node
            ));
            return Ok(());
        }
        let is_free = self.ask_at.is_none_or(|at| Instant::now() >= at);
        if self.member.is_none() && is_free && !invitation.address.is_empty() {
            // While it is under way, no other one is asked.
            self.ask_at = Some(Instant::now() + ASK_TIMEOUT + ASK_PAUSE);
            let sender = self.answers.0.clone();
            thread::spawn(move || {
                let client = OperatorClient::new(vec![invitation.address.clone()], ASK_TIMEOUT);
                let answer = client.cluster(Some(invitation.cluster)).members();
                // Nobody listens only if the node is a member by now.
                drop(sender.send((invitation, answer.map(|(_, configuration)| configuration))));
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use raft_core::configuration::Member;
    use raft_core::session::limits::SessionLimits;
    use raft_core::types::{ClusterId, ClusterKey, NodeId};

    use super::*;

    #[test]
    fn a_node_joins_where_it_was_added_and_a_wiped_member_does_not() {
        let node = |id| NodeId::new(id).unwrap();
        let invitation = |id| {
            let (cluster, key, from) = (ClusterId(1), ClusterKey(2), node(1));
            Invitation { cluster, key, node: node(id), from, address: "h:1".to_owned() }
        };
        let configuration = |cluster: u128| {
            let storages = [(1, Some(Incarnation(10))), (2, Some(Incarnation(20))), (3, None)];
            let members =
                storages.map(|(id, incarnation)| Member { incarnation, ..Member::voter(node(id), "h:1").unwrap() });
            Configuration::new(ClusterId(cluster), SessionLimits::default(), members).unwrap()
        };
        let judged = |own, id| judge(Incarnation(own), &invitation(id), &configuration(1));
        assert_eq!(judged(20, 2), Judged::Joins);
        assert_eq!(judged(21, 2), Judged::OtherStorage);
        assert_eq!(judged(30, 3), Judged::Joins);
        assert_eq!(judged(40, 4), Judged::Unfounded);
        assert_eq!(judge(Incarnation(20), &invitation(2), &configuration(9)), Judged::Unfounded);
    }
}
