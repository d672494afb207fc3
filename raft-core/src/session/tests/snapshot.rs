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
