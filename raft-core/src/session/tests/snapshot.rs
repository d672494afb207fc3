//! The encoding: golden bytes, what comes back, and what damaged bytes do.

use std::vec::Vec;

use super::*;
use crate::crc::crc32c;
use crate::session::encode::TableDecodeError;
use crate::session::memory::CapacityError;

/// Two sessions, one of them fifo, with answers of all kinds.
fn filled() -> Bench {
    let mut bench = Bench::new(LIMITS);
    let (one, fifo) = (bench.open(1), bench.open_as(2, true));
    bench.pass(5);
    bench.command(one, 3, b"c");
    bench.acknowledging(one, 2, 2, b"<\x09");
    bench.command(fifo, 1, b"a");
    bench.command(fifo, 2, b"<\x00");
    bench
}

/// The bytes with the checksum that belongs to them.
fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(0, &content);
    content.extend_from_slice(&crc.to_le_bytes());
    content
}

#[test]
fn an_empty_table_has_these_bytes() {
    let mut bench = Bench::new(EVICTING);
    bench.clock(0x0102);
    let mut golden = Vec::new();
    golden.extend_from_slice(&[1, 3, 0, 0, 0, 4, 0, 8, 0, 0, 0]);
    golden.extend_from_slice(&[100, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 50, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[10, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bench.encoded(), sealed(golden));
}

#[test]
fn a_session_and_its_answers_have_these_bytes() {
    let mut bench = Bench::new(LIMITS);
    let session = bench.open_as(0x0a0b, true);
    bench.acknowledging(session, 2, 2, b"123456789");
    bench.acknowledging(session, 3, 2, b"");
    let head = 56;
    let mut golden = bench.encoded()[..head - 4].to_vec();
    golden.extend_from_slice(&[1, 0, 0, 0]);
    golden.extend_from_slice(&[11, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0x0b, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0]);
    golden.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0x83, 0x92, 0x06, 0xe3, 9, 0, 0, 0, 255, 255, 255, 255]);
    golden.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'#', b'2']);
    assert_eq!(bench.encoded(), sealed(golden));
}

#[test]
fn what_is_decoded_encodes_to_the_same_and_replaces_all_that_was_there() {
    let bench = filled();
    let mut other = Bench::new(EVICTING);
    for nonce in 5..8 {
        let session = other.open(nonce);
        (1..5).for_each(|sequence| _ = other.command(session, sequence, b"old"));
    }
    other.table.decode(&bench.encoded(), bench.index).unwrap();
    assert_eq!(other.encoded(), bench.encoded());
    assert_eq!(other.table.digest(), bench.table.digest());
    assert_eq!(other.table.time(), bench.table.time());
    assert_eq!(*other.table.limits(), LIMITS);
    // The rooms of the three that were there are free again.
    (other.index, other.stamp) = (bench.index, bench.stamp);
    assert_eq!(was_replayed(other.command(SessionId(11), 4, b"new")), Some(false));
    other.open(9);
    assert_eq!(other.try_open(10), table_full(101));
}

#[test]
fn the_digest_is_the_checksum_at_the_end() {
    let bench = filled();
    assert_eq!(bench.encoded().last_chunk(), Some(&bench.table.digest().to_le_bytes()));
}

#[test]
fn a_changed_byte_or_a_missing_end_is_an_error_and_leaves_the_table_as_it_was() {
    let bench = filled();
    let bytes = bench.encoded();
    let mut other = filled();
    other.command(SessionId(11), 4, b"d");
    let before = other.encoded();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert_eq!(other.table.decode(&damaged, bench.index), Err(TableDecodeError::Checksum), "byte {at}");
        assert!(other.table.decode(&bytes[..at], bench.index).is_err());
    }
    assert_eq!(other.encoded(), before);
}

/// Bytes with a right checksum may still hold nonsense. What is taken all the same must be a table
/// that can go on.
#[test]
fn nonsense_with_a_right_checksum_never_panics() {
    let bench = filled();
    let bytes = bench.encoded();
    let content = &bytes[..bytes.len() - 4];
    let mut other = Bench::new(LIMITS);
    for at in 0..content.len() {
        for value in [0, 1, 2, 7, 0x7f, 0xff] {
            let mut strange = content.to_vec();
            strange[at] = value;
            if other.table.decode(&sealed(strange), bench.index).is_ok() {
                (other.index, other.stamp) = (bench.index, bench.stamp);
                for sequence in 0..7 {
                    other.command(SessionId(11), sequence, b"x");
                    other.command(SessionId(12), sequence, b"x");
                }
                other.try_open(77);
                other.pass(300);
            }
        }
        assert!(other.table.decode(&sealed(content[..at].to_vec()), bench.index).is_err(), "cut at {at}");
    }
    let longer = sealed([content, &[0]].concat());
    assert_eq!(other.table.decode(&longer, bench.index), Err(TableDecodeError::Trailing));
}

#[test]
fn sessions_and_answers_from_behind_the_snapshot_are_refused() {
    let bench = filled();
    let mut other = Bench::new(LIMITS);
    let refused = other.table.decode(&bench.encoded(), Index(10));
    assert_eq!(refused, Err(TableDecodeError::Session { after: SessionId(0) }));
    let refused = other.table.decode(&bench.encoded(), bench.index.previous());
    assert_eq!(refused, Err(TableDecodeError::Answer { session: SessionId(12) }));
    assert!(other.table.decode(&bench.encoded(), bench.index).is_ok());
}

#[test]
fn a_table_for_more_than_this_memory_is_refused() {
    let wide = SessionLimits { sessions: 4, ..LIMITS };
    let bench = Bench::with_memory(wide, FixedMemory::<4, 2000>::new());
    let mut other = Bench::new(LIMITS);
    let needed = CapacityError::Sessions { needed: 4, held: 3 };
    assert_eq!(other.table.decode(&bench.encoded(), bench.index), Err(TableDecodeError::Capacity(needed)));
}

#[test]
fn another_format_is_told_by_its_number() {
    let mut bench = filled();
    let mut content = bench.encoded();
    content.truncate(content.len() - 4);
    content[0] = 2;
    assert_eq!(bench.table.decode(&sealed(content), bench.index), Err(TableDecodeError::Version { version: 2 }));
}

/// A session as it stands in the bytes, and of each of its answers: number, index, length if it was kept.
#[derive(Clone)]
struct Written {
    id: u64,
    renewed: u64,
    acknowledge: u64,
    fifo: bool,
    answers: Vec<(u64, u64, Option<u32>)>,
}

/// The bytes of a table at that time with these sessions.
fn written(time: u64, sessions: &[Written]) -> Vec<u8> {
    // All but time, stamp and number of sessions.
    let mut bytes = Bench::new(LIMITS).encoded()[..36].to_vec();
    bytes.extend([time, time].map(u64::to_le_bytes).as_flattened());
    bytes.extend(u32::try_from(sessions.len()).unwrap().to_le_bytes());
    for session in sessions {
        bytes.extend(session.id.to_le_bytes());
        bytes.extend(7_u128.to_le_bytes());
        bytes.extend([session.renewed, session.acknowledge].map(u64::to_le_bytes).as_flattened());
        bytes.push(u8::from(session.fifo));
        bytes.extend(u16::try_from(session.answers.len()).unwrap().to_le_bytes());
        for &(number, index, length) in &session.answers {
            bytes.extend([number, index, 1].map(u64::to_le_bytes).as_flattened());
            bytes.extend(length.unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend((0..length.unwrap_or(0)).map(|_| b'a'));
        }
    }
    sealed(bytes)
}

#[test]
fn each_bound_of_a_session_and_its_answers_is_kept_to() {
    const TIME: u64 = 1_000;
    const THROUGH: Index = Index(50);
    let decode = |sessions: &[Written]| Bench::new(LIMITS).table.decode(&written(TIME, sessions), THROUGH);
    let session = Written { id: 11, renewed: 950, acknowledge: 5, fifo: false, answers: Vec::new() };
    let answers = |fifo, answers: &[(u64, u64, Option<u32>)]| {
        decode(&[Written { fifo, answers: answers.to_vec(), ..session.clone() }])
    };
    assert_eq!(decode(&[session.clone(), Written { id: 12, ..session.clone() }]), Ok(()));

    // Ids go up, and none is that of a later entry; who is there has been renewed within its time.
    let refused = Err(TableDecodeError::Session { after: SessionId(11) });
    for id in [10, 11] {
        assert_eq!(decode(&[session.clone(), Written { id, ..session.clone() }]), refused, "id {id} after 11");
    }
    let refused = Err(TableDecodeError::Session { after: SessionId(0) });
    let ttl = LIMITS.ttl.0;
    for (what, (within, beyond)) in [
        ("id", (Written { id: 50, ..session.clone() }, Written { id: 51, ..session.clone() })),
        ("renewed", (Written { renewed: TIME, ..session.clone() }, Written { renewed: TIME + 1, ..session.clone() })),
        (
            "ttl",
            (
                Written { renewed: TIME - ttl, ..session.clone() },
                Written { renewed: TIME - ttl - 1, ..session.clone() },
            ),
        ),
        ("acknowledge", (Written { acknowledge: 1, ..session.clone() }, Written { acknowledge: 0, ..session.clone() })),
    ] {
        assert_eq!(decode(&[within]), Ok(()), "{what}");
        assert_eq!(decode(&[beyond]), refused, "{what}");
    }
    let window: Vec<_> = (5..5 + u64::from(LIMITS.window)).map(|number| (number, 12, None)).collect();
    assert_eq!(answers(true, &window), Ok(()));
    let more: Vec<_> = window.iter().copied().chain([(9, 12, None)]).collect();
    assert_eq!(answers(true, &more), refused, "more answers than the window has numbers");

    // Numbers lie within the window and go up, in order and without gaps if that is kept; what was executed was
    // so after the session was opened; and an answer has room.
    let refused = Err(TableDecodeError::Answer { session: SessionId(11) });
    for good in [[(5, 12, Some(8)), (8, 50, None)], [(6, 12, Some(0)), (7, 49, None)]] {
        assert_eq!(answers(false, &good), Ok(()), "{good:?}");
        assert_eq!(answers(true, &good), refused, "{good:?} without gaps");
    }
    for bad in [(4, 12, None), (9, 12, None), (5, 11, None), (5, 10, None), (5, 51, None), (5, 12, Some(9))] {
        assert_eq!(answers(false, &[bad]), refused, "{bad:?}");
        assert_eq!(answers(true, &[bad]), refused, "{bad:?}");
    }
    for (one, other) in [(5, 5), (7, 6)] {
        assert_eq!(answers(false, &[(one, 12, None), (other, 13, None)]), refused, "{other} after {one}");
    }
}
