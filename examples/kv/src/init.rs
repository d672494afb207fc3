//! `kv init`: creates a cluster, once.

use raft_client::{FoundError, Founded, Founder};
use serde_json::json;

use crate::cli::InitArgs;
use crate::client::{Outcome, print};
use crate::exit::Exit;

pub(crate) fn run(args: &InitArgs, json: bool) -> Exit {
    let members = args.members.iter().map(|member| (member.id, member.address.clone())).collect();
    let founder = Founder::new(members, args.timeout).limits(args.limits.sessions()).lease(args.limits.leases());
    print(&outcome(founder.found()), json)
}

fn outcome(founded: Result<Founded, FoundError>) -> Outcome {
    match founded {
        Ok(founded) => {
            let (cluster, created) = (founded.cluster(), matches!(founded, Founded::Created(_)));
            let text = if created {
                format!("created cluster {cluster}")
            } else {
                format!("the nodes are members of cluster {cluster} already; nothing was changed")
            };
            Outcome::done(text, json!({ "cluster": cluster.to_string(), "created": created }))
        }
        Err(error) => {
            let exit = match error {
                FoundError::Configuration(_) | FoundError::Empty | FoundError::SameNode { .. } => Exit::Usage,
                FoundError::Unreachable(_) => Exit::Unavailable,
                FoundError::Unfinished { .. } => Exit::Unknown,
                _ => Exit::Refused,
            };
            Outcome::failed(exit, &error.to_string())
        }
    }
}
