//! What operators ask.

use std::time::Duration;

use raft_client::{NotExecuted, OperatorClient, OperatorError};
use raft_core::client::protocol::RequestBody;
use raft_core::configuration::change::{ChangeError, MemberChange};
use raft_core::types::NodeId;

use crate::support::{Service, Turn};

/// What comes of a removal, if another change is found under way so often, and a client is patient for so long.
fn remove(under_way: u32, patience: Duration) -> Result<(), OperatorError> {
    let mut left = under_way;
    let service = Service::start(2, move |_, request| match request.body {
        RequestBody::Change { .. } if left > 0 => {
            left -= 1;
            Turn::Refuse(NotExecuted::Change(ChangeError::UnderWay))
        }
        _ => Turn::Serve,
    });
    let client = OperatorClient::new(vec![service.address(0)], patience);
    client.change_members(&[MemberChange::Remove(NodeId::new(2).unwrap())], false).map(drop)
}

#[test]
fn a_change_waits_for_a_short_one_before_it_and_says_so_of_a_long_one() {
    remove(3, Duration::from_secs(60)).unwrap();
    let refused = remove(u32::MAX, Duration::from_millis(500));
    assert!(matches!(refused, Err(OperatorError::Refused(NotExecuted::Change(ChangeError::UnderWay)))), "{refused:?}");
}
