use raft_core::configuration::{CONFIGURATION_BYTES_MAX, Configuration, Member};
use raft_core::raft::event::Expulsion;
use raft_core::session::limits::SessionLimits;
use raft_core::storage::SnapshotId;
use raft_core::types::{ClusterKey, ClusterTime, Index, Term};

use super::*;

fn identity() -> Identity {
    Identity { cluster: ClusterId(0x0102), node: NodeId::new(3).unwrap(), incarnation: Incarnation(0x0405) }
}

fn segment_header() -> SegmentHeader {
    SegmentHeader {
        incarnation: Incarnation(0x0405),
        number: 2,
        salt: salt(Incarnation(0x0405), 2, 0xaabb_ccdd),
        prepared_bytes: 4096,
        base: EntryId::ZERO,
        last: EntryId::new(Term(1), Index(9)),
        hard_state: HardState { term: Term(5), vote: NodeId::new(3), expelled: None },
        previous_end: 1000,
        chain: 0xaabb_ccdd,
    }
}

fn snapshot_header() -> SnapshotHeader {
    let through = EntryId::new(Term(5), Index(900));
    let id = SnapshotId { through, time: ClusterTime(0x0a0b), bytes: 1000, checksum: 0x0102_0304 };
    SnapshotHeader { incarnation: Incarnation(0x0405), id }
}

fn lost_entries() -> Expulsion {
    Expulsion::Forgot { acknowledged: EntryId::new(Term(4), Index(8)), added: Index(6) }
}

fn batch_header() -> BatchHeader {
    BatchHeader {
        records_bytes: 34,
        entries: 1,
        salt: 0x1122_3344_5566_7788,
        offset: 128,
        durable: 128,
        previous: EntryId::new(Term(1), Index(9)),
        hard_state: HardState { term: Term(5), vote: None, expelled: Some(lost_entries()) },
        chain: 0xaabb_ccdd,
        records_checksum: 0x0102_0304,
        zero_sectors: 0,
        seals: false,
        resets: false,
    }
}

/// Bytes as two hexadecimal digits each, eight to a word and four words to a line.
fn hex(bytes: &[u8]) -> Vec<String> {
    let word = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(|line| line.chunks(8).map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// The golden vectors of the format: they change with [`FORMAT_VERSION`] and never else.
#[test]
fn golden_vectors() {
    let identity_bytes = [
        "524146544e4f4445 0200000000000000 0201000000000000 0000000000000000",
        "0300000000000000 0504000000000000 0000000000000000 0000000005b42cf3",
    ];
    let segment_bytes = [
        "524146542057414c 0200000000000000 0504000000000000 0000000000000000",
        "0200000000000000 5838e017f470b7c0 0010000000000000 0000000000000000",
        "0000000000000000 0100000000000000 0900000000000000 0500000000000000",
        "0300000000000000 0000000000000000 0000000000000000 0000000000000000",
        "0000000000000000 e803000000000000 ddccbbaa00000000 00000000a1a8262c",
    ];
    let batch_bytes = [
        "5242415449b8f598 2200000001000000 8877665544332211 8000000000000000",
        "8000000000000000 0100000000000000 0900000000000000 0500000000000000",
        "0000000000000000 0200000000000000 0400000000000000 0800000000000000",
        "0600000000000000 ddccbbaa04030201 0000000000000000",
    ];
    let snapshot_bytes = [
        "52414654534e4150 0200000000000000 0504000000000000 0000000000000000",
        "0500000000000000 8403000000000000 0b0a000000000000 e803000000000000",
        "0403020100000000 0000000000000000 0000000000000000 00000000de69faf1",
    ];
    assert_eq!(hex(&identity().encode()), identity_bytes);
    assert_eq!(hex(&segment_header().encode()), segment_bytes);
    assert_eq!(hex(&batch_header().encode()), batch_bytes);
    assert_eq!(hex(&snapshot_header().encode()), snapshot_bytes);
}

#[test]
fn headers_are_read_as_they_were_written() {
    assert_eq!(Identity::decode(&identity().encode()), Ok(identity()));
    assert_eq!(SegmentHeader::decode(&segment_header().encode()), Ok(segment_header()));
    assert_eq!(SnapshotHeader::decode(&snapshot_header().encode()), Ok(snapshot_header()));
    let empty = BatchHeader { entries: 0, records_bytes: 0, ..batch_header() };
    let resets = BatchHeader { resets: true, ..batch_header() };
    let expelled = |expelled| {
        let hard_state = HardState { expelled: Some(expelled), ..batch_header().hard_state };
        BatchHeader { hard_state, ..empty }
    };
    let entry = EntryId::new(Term(4), Index(8));
    let removed = expelled(Expulsion::Removed { by: entry });
    let forgot = expelled(Expulsion::Forgot { acknowledged: entry, added: Index(6) });
    let contradicted = expelled(Expulsion::Contradicted { found: entry });
    for header in [batch_header(), resets, removed, forgot, contradicted, BatchHeader { seals: true, ..empty }] {
        assert_eq!(BatchHeader::decode(&header.encode()), Some(header));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    for bit in 0..IDENTITY_BYTES * 8 {
        let mut bytes = identity().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Identity::decode(&bytes), Err(HeaderError::Damaged));
    }
    for bit in 0..SEGMENT_HEADER_BYTES * 8 {
        let mut bytes = segment_header().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Damaged));
    }
    for bit in 0..SNAPSHOT_HEADER_BYTES * 8 {
        let mut bytes = snapshot_header().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SnapshotHeader::decode(&bytes), Err(HeaderError::Damaged));
    }
    for bit in 0..BATCH_HEADER_BYTES * 8 {
        let mut bytes = batch_header().encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(BatchHeader::decode(&bytes), None);
    }
}

#[test]
fn the_mark_of_a_suspect_log_has_these_bytes() {
    let mark = SuspectMark { incarnation: Incarnation(0x1234_5678), through: Index(300) };
    let bytes = mark.encode();
    let mut expected = [0; SUSPECT_BYTES];
    expected[..9].copy_from_slice(b"RAFTSUSP\x02");
    expected[16..20].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
    expected[32..34].copy_from_slice(&[0x2c, 0x01]);
    expected[60..].copy_from_slice(&[0x6d, 0xdc, 0xe0, 0x6a]);
    assert_eq!(bytes, expected);
    assert_eq!(SuspectMark::decode(&bytes), Ok(mark));
    for bit in 0..SUSPECT_BYTES * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(SuspectMark::decode(&bytes).is_err());
    }
}

#[test]
fn an_origin_has_these_bytes() {
    let waits = OriginFile { incarnation: Incarnation(0x0405), origin: None };
    let expected = [
        "524146544f524947 0200000000000000 0504000000000000 0000000000000000",
        "0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "0000000000000000 6d0fde5b",
    ];
    assert_eq!(hex(&waits.encode()), expected);
    assert_eq!(OriginFile::decode(&waits.encode()), Ok(waits));

    let members = [Member::voter(NodeId::new(3).unwrap(), "h:7").unwrap()];
    let configuration = Configuration::new(ClusterId(0x0102), SessionLimits::default(), members).unwrap();
    let mut buffer = [0; CONFIGURATION_BYTES_MAX];
    let payload = configuration.encode(&mut buffer).unwrap().to_vec();
    for (how, state) in [(How::Created, 1), (How::Joined, 2)] {
        let node = NodeId::new(3).unwrap();
        let origin = Origin { node, key: ClusterKey(0x0607), how, configuration: configuration.clone() };
        let file = OriginFile { incarnation: Incarnation(0x0405), origin: Some(origin) };
        let bytes = file.encode();
        assert_eq!(bytes[32..40], [state, 0, 0, 0, u8::try_from(payload.len()).unwrap(), 0, 0, 0]);
        assert_eq!((bytes[40], &bytes[48..50], &bytes[72..bytes.len() - 4]), (3, &[7, 6][..], payload.as_slice()));
        assert_eq!(OriginFile::decode(&bytes), Ok(file));
    }
}

#[test]
fn a_header_lies_within_one_sector() {
    for end in FIRST_BATCH..FIRST_BATCH + 2 * SECTOR_BYTES {
        let start = batch_start(end);
        assert!(start >= end && start.is_multiple_of(8));
        assert!(start - end < 8 + BATCH_HEADER_BYTES as u64);
        assert_eq!(start / SECTOR_BYTES, (start + BATCH_HEADER_BYTES as u64 - 1) / SECTOR_BYTES);
    }
    assert_eq!(batch_start(FIRST_BATCH), FIRST_BATCH);
}

#[test]
fn zero_sectors_are_counted_behind_that_of_the_header() {
    assert_eq!(zero_sectors(512 + 216, &[0; 296]), 0);
    assert_eq!(zero_sectors(512 + 216, &[0; 297]), 1);
    assert_eq!(zero_sectors(512, &[0; 1024]), 2);
    let mut records = [0; 1500];
    records[600] = 1;
    assert_eq!(zero_sectors(0, &records), 2);
}

#[test]
fn salts_differ() {
    let salts = [
        salt(Incarnation(1), 1, 0),
        salt(Incarnation(1), 2, 0),
        salt(Incarnation(2), 1, 0),
        salt(Incarnation(1), 1, 1),
    ];
    for (place, salt) in salts.iter().enumerate() {
        assert!(!salts[..place].contains(salt));
    }
}
