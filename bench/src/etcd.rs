//! The two calls of etcd that the comparison needs: `KV.Put`, and `Maintenance.Status` to find the leader.
//!
//! Field numbers are those of etcd's `rpc.proto`, version 3.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::grpc::{CallError, Channel, ConnectError, Framed, MethodHead};
use crate::protobuf::{DecodeError, Fields, Value, put_bytes};

/// Between two looks at a cluster that is still starting.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A `PutRequest`: key and value, nothing else.
pub fn put_request(key: &[u8], value: &[u8]) -> Framed {
    Framed::encode(|out| {
        put_bytes(out, 1, key);
        put_bytes(out, 2, value);
    })
}

/// The method `KV.Put` at `address`.
pub fn put_method(address: SocketAddr) -> MethodHead {
    MethodHead::new(address, "/etcdserverpb.KV/Put")
}

/// Who a member is and whom it follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Status {
    member: u64,
    /// 0 while the member knows no leader.
    leader: u64,
}

/// Why a member's status is not known.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The member cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The member did not answer the call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer is no `StatusResponse`.
    #[error("the answer to Status cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

/// Why no leader was found in time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeaderError {
    /// A member was not ready.
    #[error("{address} is not ready: {source}; its log says why")]
    NotReady {
        /// The member.
        address: SocketAddr,
        /// Its last failure.
        source: StatusError,
    },
    /// All answered, but do not agree on a leader among them.
    #[error("the members do not agree on a leader among the given endpoints; give the endpoints of all members")]
    NoLeader,
}

/// Waits until every member at `endpoints` answers and all of them follow one of them; returns the leader's address.
pub async fn wait_for_leader(endpoints: &[SocketAddr], patience: Duration) -> Result<SocketAddr, LeaderError> {
    let give_up = Instant::now() + patience;
    loop {
        match find_leader(endpoints).await {
            Err(_) if Instant::now() < give_up => tokio::time::sleep(LOOK_AGAIN).await,
            result => return result,
        }
    }
}

async fn find_leader(endpoints: &[SocketAddr]) -> Result<SocketAddr, LeaderError> {
    let mut members = Vec::new();
    for &address in endpoints {
        let status = status(address).await.map_err(|source| LeaderError::NotReady { address, source })?;
        members.push((address, status));
    }
    agreed_leader(&members).ok_or(LeaderError::NoLeader)
}

fn agreed_leader(members: &[(SocketAddr, Status)]) -> Option<SocketAddr> {
    let leader = members.first()?.1.leader;
    if leader == 0 || members.iter().any(|(_, status)| status.leader != leader) {
        return None;
    }
    members.iter().find(|(_, status)| status.member == leader).map(|(address, _)| *address)
}

async fn status(address: SocketAddr) -> Result<Status, StatusError> {
    let mut channel = Channel::connect(address).await?;
    let method = MethodHead::new(address, "/etcdserverpb.Maintenance/Status");
    let answer = channel.call(&method, Framed::encode(|_| ())).await?;
    Ok(decode_status(&answer)?)
}

fn decode_status(message: &[u8]) -> Result<Status, DecodeError> {
    let mut status = Status::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Bytes(header)) => status.member = decode_member(header)?,
            (4, Value::Varint(leader)) => status.leader = leader,
            _ => {}
        }
    }
    Ok(status)
}

fn decode_member(header: &[u8]) -> Result<u64, DecodeError> {
    let mut fields = Fields::new(header);
    let mut member = 0;
    while let Some((number, value)) = fields.next_field()? {
        if let (2, Value::Varint(id)) = (number, value) {
            member = id;
        }
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_response_is_read() {
        // header { cluster_id: 1, member_id: 7 }, version: "3", dbSize: 9, leader: 7
        let message = b"\x0a\x04\x08\x01\x10\x07\x12\x013\x18\x09\x20\x07";
        assert_eq!(decode_status(message), Ok(Status { member: 7, leader: 7 }));
    }

    #[test]
    fn a_leader_is_one_that_all_follow() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let member = |port, member, leader| (address(port), Status { member, leader });
        assert_eq!(agreed_leader(&[member(1, 10, 20), member(2, 20, 20)]), Some(address(2)));
        assert_eq!(agreed_leader(&[member(1, 10, 20), member(2, 20, 10)]), None);
        assert_eq!(agreed_leader(&[member(1, 10, 0), member(2, 20, 0)]), None);
        assert_eq!(agreed_leader(&[member(1, 10, 30), member(2, 20, 30)]), None);
        assert_eq!(agreed_leader(&[]), None);
    }
}
