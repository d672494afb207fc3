//! Arbitrary bytes are read as the records of entries that disk and wire share: that may be refused, but never panics,
//! and what is read has the guarantees that it claims, and is written back as the same bytes.
//!
//! The first byte of the input says whether the checksums are made right before, so that what stands behind them is
//! reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use raft_core::crc::crc32c;
use raft_core::entry::{Entry, EntryHeader, HEADER_BYTES, Records};
use raft_core::message::{Body, Message, Round};
use raft_core::types::{EntryId, Index, NodeId, Term};

fuzz_target!(|data: &[u8]| {
    let Some((&repairs, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if repairs & 1 == 1 {
        repair(&mut bytes);
    }
    if let Ok(header) = EntryHeader::decode(&bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
        assert_eq!(header.record_bytes(), HEADER_BYTES + header.payload_bytes());
    }
    if let Ok((entry, rest)) = Entry::decode(&bytes) {
        assert_eq!(write(&entry), bytes[..bytes.len() - rest.len()]);
        assert_eq!(
            EntryHeader::new(entry.header.id(), entry.header.time, entry.header.kind, &[entry.payload]),
            Ok(entry.header)
        );
    }
    let Ok(records) = Records::parse(&bytes) else { return };
    check(records, &bytes);
    let stripped = records.stripped();
    let written: Vec<u8> = stripped.iter().flat_map(|entry| write(&entry)).collect();
    assert_eq!(written.len(), stripped.wire_bytes());
    check(Records::parse(&written).expect("what a witness keeps are records too"), &written);
    send(records, &bytes);
    send(stripped, &written);
});

/// Makes the checksums of all records right, as far as their lengths lead.
fn repair(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER_BYTES {
        let length = u32::from_le_bytes([rest[4], rest[5], rest[6], 0]) as usize;
        let Some((record, behind)) = rest.split_at_mut_checked(HEADER_BYTES + length) else { return };
        let checksum = crc32c(0, &record[4..]);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        rest = behind;
    }
}

fn write(entry: &Entry<'_>) -> Vec<u8> {
    [entry.header.encode().as_slice(), entry.payload].concat()
}

fn check(records: Records<'_>, bytes: &[u8]) {
    let entries: Vec<Entry<'_>> = records.iter().collect();
    assert_eq!(entries.len(), records.entries() as usize);
    assert_eq!(entries.iter().flat_map(write).collect::<Vec<u8>>(), bytes);
    assert!(entries.iter().map(|entry| entry.header).eq(records.headers()));
    for pair in entries.windows(2) {
        let (before, after) = (pair[0].header, pair[1].header);
        assert_eq!(before.index.0.checked_add(1), Some(after.index.0), "indexes are consecutive");
        assert!(before.term <= after.term && before.time <= after.time, "terms and times never go down");
    }
    let (first, last) = (entries.first().map(|entry| entry.header.id()), entries.last().map(|entry| entry.header.id()));
    assert_eq!((records.first(), records.last()), (first.unwrap_or_default(), last.unwrap_or_default()));
    let Some(first) = first else { return };
    let previous = EntryId::new(first.term, Index(first.index.0 - 1));
    assert_eq!(Records::check(previous, bytes), Ok(records));
    assert_eq!(Records::verified(previous, bytes), Ok(records));
    assert!(
        Records::check(EntryId::new(first.term.next(), previous.index), bytes).is_err() || first.term.0 == u64::MAX
    );
    assert!(Records::check(EntryId::new(first.term, first.index), bytes).is_err());
}

/// A message carries the records byte for byte.
fn send(records: Records<'_>, bytes: &[u8]) {
    let node = |id| NodeId::new(id).expect("it is not 0");
    let first = records.first();
    let previous = if records.is_empty() { first } else { EntryId::new(first.term, Index(first.index.0 - 1)) };
    let body = Body::Append { previous, commit: Index(1), round: Round(1), entries: records };
    let message = Message { from: node(1), to: node(2), term: Term(1), body };
    let mut buffer = vec![0; message.bytes_max()];
    let length = message.encode(&mut buffer).expect("a message fits its bound");
    match Message::decode(&buffer[..length]).expect("what was encoded can be read").body {
        Body::Append { entries, .. } => assert_eq!(entries.bytes(), bytes),
        other => panic!("an append reads as {other:?}"),
    }
}
