//! What is written reads back as what it was, and is written alike again: for whatever may be said, and cut anywhere.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has found something")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers that are cut here are small")]

use proptest::prelude::*;
use raft_core::client::protocol::{Consistency, Request, RequestBody, RequestId, Response, ResponseBody};
use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Lease, Member, Suffrage};
use raft_core::entry::{Entry, EntryHeader, EntryKind, Records};
use raft_core::message::{Body, ForwardTicket, Message, ReadTicket, Rejection, Round};
use raft_core::session::limits::SessionLimits;
use raft_core::session::operation::{OPERATION_HEAD_BYTES_MAX, Operation, Outcome, Refusal};
use raft_core::snapshot::{Comparison, HEAD_BYTES_MAX, Head, Terms};
use raft_core::storage::SnapshotId;
use raft_core::types::{
    ClusterId, ClusterTime, EntryId, Incarnation, Index, Millis, NodeId, Nonce, Sequence, SessionId, Term,
};
use raft_core::wire::Bytes;

/// Numbers of all lengths that a varint can have.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
}

fn node() -> impl Strategy<Value = NodeId> {
    number().prop_map(|id| NodeId::new(id.max(1)).unwrap())
}

fn entry() -> impl Strategy<Value = EntryId> {
    (number(), number()).prop_map(|(term, index)| EntryId::new(Term(term), Index(index)))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

/// What an operation is made of, but for its bytes.
type Parts = (u8, (u64, u64, u64), u128, bool);

fn parts() -> impl Strategy<Value = Parts> {
    (0..5_u8, (number(), number(), number()), any::<u128>(), any::<bool>())
}

fn operation((kind, (session, sequence, acknowledge), nonce, fifo): Parts, bytes: &[u8]) -> Operation<'_> {
    let (session, sequence, acknowledge) = (SessionId(session), Sequence(sequence), Sequence(acknowledge));
    match kind {
        0 => Operation::Open { nonce: Nonce(nonce), fifo },
        1 => Operation::KeepAlive { session, acknowledge },
        2 => Operation::Close { session },
        3 => Operation::Command { session, sequence, acknowledge, command: Bytes(bytes) },
        _ => Operation::Plain { command: Bytes(bytes) },
    }
}

/// A run of entries behind the one given: terms and times that never go down.
fn records(previous: EntryId) -> impl Strategy<Value = Vec<u8>> {
    let one = (0..3_u64, 0..1_000_u64, prop::collection::vec(any::<u8>(), 0..40), 0..3_usize);
    prop::collection::vec(one, 0..6).prop_map(move |entries| {
        let (mut id, mut time, mut bytes) = (previous, 0, Vec::new());
        for (terms, millis, payload, kind) in entries {
            id = EntryId::new(Term(id.term.0.saturating_add(terms).max(1)), id.index.next());
            time += millis;
            let kind = [EntryKind::Operation, EntryKind::Noop, EntryKind::Clock][kind];
            let payload = if kind == EntryKind::Operation { payload } else { Vec::new() };
            let header = EntryHeader::new(id, ClusterTime(time), kind, &[&payload]).unwrap();
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&payload);
        }
        bytes
    })
}

/// The entry before a run of entries.
fn previous() -> impl Strategy<Value = EntryId> {
    (1..1_u64 << 40, 1..1_u64 << 40).prop_map(|(term, index)| EntryId::new(Term(term), Index(index)))
}

fn plain_body() -> impl Strategy<Value = Body<'static>> {
    (0..10, entry(), entry(), (number(), number(), number()), any::<bool>()).prop_map(
        |(kind, one, other, (first, second, third), flag)| {
            let snapshot = SnapshotId {
                through: one,
                time: ClusterTime(first),
                bytes: second,
                checksum: (third & 0xffff_ffff).try_into().unwrap(),
            };
            match kind {
                0 => Body::PreVote { last: one },
                1 => Body::PreVoteReply { granted: flag },
                2 => Body::Vote { last: one, transfer: flag },
                3 => Body::VoteReply { granted: flag },
                4 => {
                    let rejected = flag.then_some(Rejection { previous: Index(third), hint: other });
                    Body::AppendReply { round: Round(first), matched: Index(second), rejected, counts: true }
                }
                5 => Body::ReadReply { ticket: ReadTicket(first), index: Index(second) },
                6 => Body::Forwarded { ticket: ForwardTicket(first), outcome: Ok(one) },
                7 => Body::Snapshot { snapshot, offset: third, round: Round(first), data: Bytes(b"a part of it") },
                8 => Body::SnapshotReply {
                    through: one,
                    received: first,
                    round: Round(second),
                    resend: flag,
                    counts: true,
                },
                _ => Body::Digest { check: one, digest: first, by: NodeId::new(1 + second % 9).unwrap() },
            }
        },
    )
}

fn reads_back(message: &Message<'_>) {
    let mut buffer = vec![0; message.bytes_max()];
    let length = message.encode(&mut buffer).unwrap();
    assert_eq!(Message::decode(&buffer[..length]).as_ref(), Ok(message));
    (0..length).for_each(|cut| assert!(Message::decode(&buffer[..cut]).is_err(), "cut at {cut}"));
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let member = (any::<bool>(), any::<bool>(), prop::option::of(any::<u128>()), 0..4_u8, "[a-z0-9.:]{0,96}");
    let lease = prop::option::of((1..5_000_u64, 0..300_u16));
    (prop::collection::vec(member, 1..8), any::<u128>(), lease).prop_map(|(members, cluster, lease)| {
        let members = (1..).zip(members).map(|(id, (votes, outgoing, incarnation, priority, address))| {
            // The first one votes: without a voter there is no configuration.
            let suffrage = match (id == 1 || votes, outgoing) {
                (true, _) => Suffrage::Voter,
                (false, true) => Suffrage::Leaving,
                (false, false) => Suffrage::Learner,
            };
            let member = Member::new(NodeId::new(id).unwrap(), suffrage, &address).unwrap();
            Member { outgoing_voter: outgoing, incarnation: incarnation.map(Incarnation), priority, ..member }
        });
        let created = Configuration::new(ClusterId(cluster), SessionLimits::default(), members).unwrap();
        match lease {
            Some((millis, drift_per_mille)) => {
                created.with_lease(Lease { duration: Millis(millis), drift_per_mille }).unwrap()
            }
            None => created,
        }
    })
}

/// Terms that a log can have: each later one begins later.
fn terms() -> impl Strategy<Value = Terms> {
    prop::collection::vec((1..1_u64 << 40, 1..1_u64 << 40), 0..=8).prop_map(|steps| {
        let later = |last: &mut (u64, u64), (term, index): (u64, u64)| {
            *last = (last.0 + term, last.1 + index);
            Some(EntryId::new(Term(last.0), Index(last.1)))
        };
        let begins: Vec<EntryId> = steps.into_iter().scan((0, 0), later).collect();
        let mut terms = Terms::NONE;
        assert!(begins.into_iter().rev().all(|begin| terms.push(begin)));
        terms
    })
}

proptest! {
    #[test]
    fn messages(body in plain_body(), from in node(), to in node(), term in number()) {
        reads_back(&Message { from, to, term: Term(term), body });
    }

    #[test]
    fn entries_alone_and_in_messages(
        (previous, records) in previous().prop_flat_map(|id| (Just(id), records(id))),
        commit in number(),
        round in number(),
    ) {
        let entries = Records::check(previous, &records).unwrap();
        let again: Vec<u8> = entries.iter().flat_map(|Entry { header, payload }| [&header.encode(), payload].concat()).collect();
        prop_assert_eq!(&again, &records);
        let body = Body::Append { previous, commit: Index(commit), round: Round(round), entries };
        let [from, to] = [1, 2].map(|id| NodeId::new(id).unwrap());
        reads_back(&Message { from, to, term: Term(u64::MAX), body });
        // A flipped bit anywhere in it is found.
        for at in (0..records.len()).step_by(7) {
            let mut flipped = records.clone();
            flipped[at] ^= 1 << (at % 8);
            prop_assert!(Records::check(previous, &flipped).is_err(), "bit {} of byte {at}", at % 8);
        }
    }

    #[test]
    fn operations_requests_and_forwarded_ones(
        bytes in bytes(),
        parts in parts(),
        id in number(),
        secret in prop::option::of(any::<u128>()),
        forward in any::<bool>(),
    ) {
        let operation = operation(parts, &bytes);
        let mut head = [0; OPERATION_HEAD_BYTES_MAX];
        let (head, command) = operation.encode(&mut head);
        let encoded = [head, command].concat();
        prop_assert_eq!(Operation::decode(&encoded), Ok(operation));
        let secret = secret.map(Nonce);
        let (consistency, query) = (Consistency::Lease, Bytes(bytes.as_slice()));
        let operate = RequestBody::Operate { secret, operation };
        for body in [operate, RequestBody::Query { consistency, query }, RequestBody::Status] {
            let request = Request { id: RequestId(id), forward, body };
            let mut buffer = vec![0; request.bytes_max()];
            let length = request.encode(&mut buffer).unwrap();
            prop_assert_eq!(Request::decode(&buffer[..length]), Ok(request));
        }
        let [from, to] = [1, 2].map(|id| NodeId::new(id).unwrap());
        reads_back(&Message { from, to, term: Term(9), body: Body::Forward { ticket: ForwardTicket(id), first: ForwardTicket(id), round: Round(id), secret, operation } });
    }

    #[test]
    fn responses(bytes in bytes(), id in number(), index in number(), replayed in any::<bool>()) {
        let bodies = [
            ResponseBody::Outcome(Outcome::Answered { index: Index(index), answer: Bytes(&bytes), replayed }),
            ResponseBody::Outcome(Outcome::Executed { index: Index(index), replayed }),
            ResponseBody::Outcome(Outcome::Refused(Refusal::TableFull { retry_after: Millis(index) })),
            ResponseBody::Answer(Bytes(&bytes)),
            ResponseBody::Unknown,
        ];
        for body in bodies {
            let response = Response { id: RequestId(id), body };
            let mut buffer = vec![0; response.bytes_max()];
            let length = response.encode(&mut buffer).unwrap();
            prop_assert_eq!(Response::decode(&buffer[..length]), Ok(response));
        }
    }

    #[test]
    fn configurations(configuration in configuration()) {
        let mut buffer = [0; CONFIGURATION_BYTES_MAX];
        let encoded = configuration.encode(&mut buffer).unwrap().to_vec();
        let decoded = Configuration::decode(&encoded).unwrap();
        prop_assert_eq!(&decoded, &configuration);
        prop_assert_eq!(decoded.encode(&mut buffer).unwrap(), &encoded[..]);
        prop_assert!((0..encoded.len()).all(|cut| Configuration::decode(&encoded[..cut]).is_err()));
    }

    #[test]
    fn heads_of_snapshots(
        configuration in entry(),
        configuration_bytes in 0..CONFIGURATION_BYTES_MAX as u32,
        session_bytes in number(),
        check in prop::option::of((entry(), any::<u64>(), node())),
        terms in terms(),
    ) {
        let check = check.map(|(check, digest, by)| Comparison { check, digest, by });
        let head = Head { configuration, configuration_bytes, session_bytes, check, terms };
        let mut buffer = [0; HEAD_BYTES_MAX];
        let encoded = head.encode(&mut buffer);
        prop_assert_eq!(Head::decode(encoded), Ok(head));
        prop_assert!((0..encoded.len()).all(|cut| Head::decode(&encoded[..cut]).is_err()));
    }
}
