//! Damage that a start finds, cuts off, refuses or remembers.

use raft_core::configuration::{self, Configuration, Member};
use raft_core::message::{Body, Message};
use raft_core::raft::Raft;
use raft_core::raft::config::Config;
use raft_core::session::limits::SessionLimits;
use raft_core::types::Instant;

use super::*;

#[test]
fn a_suspect_tail_is_refused_unless_it_may_be_cut() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    append(&mut storage, 1, b"first");
    storage.flush().unwrap();
    append(&mut storage, 1, b"last");
    storage.flush().unwrap();
    drop(storage);
    let mut bytes = disk.bytes(Name::Segment(1)).unwrap();
    let last = bytes.windows(4).position(|window| window == b"last").unwrap();
    bytes[last] ^= 1;
    disk.put(Name::Segment(1), bytes);
    let refused = FileStorage::open(disk.clone(), small()).map(drop);
    assert!(matches!(refused, Err(OpenError::Suspect { after: Index(1), .. })));
    let options = Options { suspect_tail: SuspectTail::Cut, ..small() };
    let (storage, report) = FileStorage::open(disk.clone(), options).unwrap();
    let cut = report.suspect().unwrap();
    assert_eq!((storage.last().index, cut.after.index), (Index(1), Index(1)));
    assert_eq!(disk.bytes(cut.kept.unwrap()).unwrap().len() as u64, cut.bytes);
}

/// A log of two entries whose last one was damaged and cut off, and how far it is suspect.
fn suspect() -> (Disk, Options, Index) {
    let (disk, options) = (Disk::new(), Options { suspect_tail: SuspectTail::Cut, ..small() });
    let mut storage = create(&disk);
    for payload in [b"first", b"last!"] {
        append(&mut storage, 1, payload);
        storage.flush().unwrap();
    }
    drop(storage);
    let mut bytes = disk.bytes(Name::Segment(1)).unwrap();
    let last = bytes.windows(5).position(|window| window == b"last!").unwrap();
    bytes[last] ^= 1;
    disk.put(Name::Segment(1), bytes);
    let (_, report) = FileStorage::open(disk.clone(), options).unwrap();
    (disk, options, report.suspect_through.unwrap())
}

#[test]
fn that_a_log_is_suspect_is_remembered_until_it_is_trusted() {
    let (disk, options, through) = suspect();
    assert!(through >= Index(2));
    let open =
        |options| FileStorage::open(disk.clone(), options).map(|(storage, report)| (storage, report.suspect_through));
    let refused = open(small()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::StillSuspect { through: found } if found == through), "{refused}");
    let (mut storage, found) = open(options).unwrap();
    assert_eq!(found, Some(through));
    append(&mut storage, 2, b"other");
    storage.trust();
    storage.flush().unwrap();
    drop(storage);
    let (mut storage, found) = open(options).unwrap();
    assert_eq!(found, Some(through), "what it may lack is not durable yet");
    while storage.last().index < through {
        append(&mut storage, 2, b"other");
    }
    storage.flush().unwrap();
    drop(storage);
    let (mut storage, found) = open(options).unwrap();
    assert_eq!(found, Some(through), "nobody has said that it is trusted");
    storage.trust();
    storage.flush().unwrap();
    drop(storage);
    assert_eq!(open(small()).unwrap().1, None);
}

/// The core learns of a cut tail from the storage: a program cannot forget to pass it on.
#[test]
fn a_node_over_a_cut_log_votes_for_nobody() {
    let (disk, node) = (Disk::new(), identity().node);
    let options = Options { suspect_tail: SuspectTail::Cut, ..small() };
    let mut storage = create(&disk);
    let voters = (6..9).map(|id| Member::voter(NodeId::new(id).unwrap(), "").unwrap());
    let configuration = Configuration::new(ClusterId(0xc1), SessionLimits::default(), voters).unwrap();
    configuration::bootstrap(&mut storage, &configuration).unwrap();
    storage.flush().unwrap();
    append(&mut storage, 1, b"last!");
    storage.flush().unwrap();
    let candidate = NodeId::new(6).unwrap();
    let grants = |storage: FileStorage<Disk>| {
        let mut raft = Raft::<_, 3>::new(node, Config::default(), storage, Instant(0)).unwrap();
        let last = EntryId::new(Term(1), Index(9));
        let vote = Message { from: candidate, to: node, term: Term(2), body: Body::Vote { last, transfer: false } };
        raft.step(Instant(1), &vote).unwrap().later();
        raft.storage_mut().flush().unwrap();
        let saved = raft.storage_mut().saved().unwrap();
        let mut ready = raft.saved(saved);
        let reply = ready.message(candidate, 0).unwrap().unwrap();
        reply.body == Body::VoteReply { granted: true }
    };
    let healthy = disk.after_power_loss(|_| Fate::Kept);
    drop(storage);
    let mut bytes = disk.bytes(Name::Segment(1)).unwrap();
    let last = bytes.windows(5).position(|window| window == b"last!").unwrap();
    bytes[last] ^= 1;
    disk.put(Name::Segment(1), bytes);
    assert!(grants(FileStorage::open(healthy, options).unwrap().0));
    assert!(!grants(FileStorage::open(disk.clone(), options).unwrap().0), "the start that cuts the tail off");
    assert!(!grants(FileStorage::open(disk, options).unwrap().0), "the one after it");
}

#[test]
fn a_damaged_mark_of_a_suspect_log_refuses_the_start() {
    let (whole, options, through) = suspect();
    let mark = whole.bytes(Name::Suspect).unwrap();
    for bit in 0..mark.len() * 8 {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        let mut bytes = mark.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(Name::Suspect, bytes);
        let opened = FileStorage::open(disk, options).map(drop);
        assert!(matches!(opened, Err(OpenError::SuspectMarkDamaged)), "bit {bit}");
    }
    let short = whole.after_power_loss(|_| Fate::Kept);
    short.put(Name::Suspect, mark[1..].to_vec());
    assert!(matches!(FileStorage::open(short, options), Err(OpenError::SuspectMarkDamaged)));
    assert_eq!(FileStorage::open(whole, options).unwrap().1.suspect_through, Some(through));
}

/// A whole batch stands where another one was that later batches followed.
#[test]
fn a_batch_of_another_history_is_found() {
    let disk = Disk::new();
    drop(create(&disk));
    let history = |payloads: [&[u8]; 2]| {
        let disk = disk.after_power_loss(|_| Fate::Kept);
        let (mut storage, _) = FileStorage::open(disk.clone(), small()).unwrap();
        for payload in payloads {
            append(&mut storage, 1, payload);
            storage.flush().unwrap();
        }
        disk
    };
    let (one, other) = (history([b"aaaa", b"same"]), history([b"bbbb", b"same"]));
    let (mut bytes, others) = (one.bytes(Name::Segment(1)).unwrap(), other.bytes(Name::Segment(1)).unwrap());
    let first_batch = 160..160 + 120 + 36;
    bytes[first_batch.clone()].copy_from_slice(&others[first_batch]);
    one.put(Name::Segment(1), bytes);
    let opened = FileStorage::open(one, small()).map(drop);
    assert!(matches!(opened, Err(OpenError::Damaged { offset: 320, .. })));
}

/// Headers whose checksums are right, but which say what cannot be.
#[test]
fn contradictions_are_found() {
    let whole = Disk::new();
    let mut storage = create(&whole);
    while storage.metrics().rotations == 0 {
        append(&mut storage, 1, &[5; 50]);
        storage.flush().unwrap();
    }
    drop(storage);
    let with_segment = |number, change: &dyn Fn(&mut SegmentHeader)| {
        let mut bytes = whole.bytes(Name::Segment(number)).unwrap();
        let mut header = SegmentHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        change(&mut header);
        bytes[..160].copy_from_slice(&header.encode());
        let disk = whole.after_power_loss(|_| Fate::Kept);
        disk.put(Name::Segment(number), bytes);
        FileStorage::open(disk, small()).map(drop).unwrap_err()
    };
    let error = with_segment(2, &|header| header.last = EntryId::new(Term(1), Index(3)));
    assert!(matches!(error, OpenError::Contradiction { name: Name::Segment(2), .. }), "{error}");
    let error = with_segment(2, &|header| header.hard_state.term = Term(9));
    assert!(matches!(error, OpenError::Contradiction { name: Name::Segment(2), .. }), "{error}");
    let error = with_segment(2, &|header| header.chain ^= 1);
    assert!(matches!(error, OpenError::SegmentForeign { name: Name::Segment(2) }), "{error}");
    let error = with_segment(2, &|header| header.previous_end -= 1);
    assert!(matches!(error, OpenError::SegmentForeign { name: Name::Segment(2) }), "{error}");
    let error = with_segment(1, &|header| header.previous_end = 1);
    assert!(matches!(error, OpenError::SegmentForeign { name: Name::Segment(1) }), "{error}");

    let with_batch = |change: &dyn Fn(&mut BatchHeader)| {
        let mut bytes = whole.bytes(Name::Segment(2)).unwrap();
        let place = 160..160 + BATCH_HEADER_BYTES;
        let mut header = BatchHeader::decode(bytes[place.clone()].first_chunk().unwrap()).unwrap();
        change(&mut header);
        bytes[place].copy_from_slice(&header.encode());
        let disk = whole.after_power_loss(|_| Fate::Kept);
        disk.put(Name::Segment(2), bytes);
        FileStorage::open(disk, small()).map(drop)
    };
    let changes: [&dyn Fn(&mut BatchHeader); 5] = [
        &|header| header.previous.index = header.previous.index.previous(),
        &|header| header.previous.index = header.previous.index.next(),
        &|header| header.previous.term = Term(7),
        &|header| header.entries += 1,
        &|header| header.hard_state.vote = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let opened = with_batch(change);
        // The last one is none: the hard state did not have a vote to begin with.
        let contradiction = matches!(opened, Err(OpenError::Contradiction { name: Name::Segment(2), offset: 160, .. }));
        assert_eq!(contradiction, number < 4, "change {number}");
    }
}

/// Without the witness a lost sector of the last batch looks like a torn write, which is cut.
#[test]
fn a_witness_tells_decay_of_the_last_batch_from_a_torn_write() {
    for witnessed in [false, true] {
        let disk = Disk::new();
        let mut storage = create(&disk);
        append(&mut storage, 1, &[5; 1000]);
        storage.flush().unwrap();
        if witnessed {
            storage.witness().unwrap();
            let syncs = storage.metrics().syncs;
            storage.witness().unwrap();
            assert_eq!(storage.metrics().syncs, syncs);
        }
        drop(storage);
        let mut bytes = disk.bytes(Name::Segment(1)).unwrap();
        bytes[512..1024].fill(0);
        disk.put(Name::Segment(1), bytes);
        match FileStorage::open(disk, small()).map(|(_, report)| report) {
            Ok(report) => assert!(!witnessed && report.cut.is_some()),
            Err(error) => assert!(witnessed && matches!(error, OpenError::Damaged { .. }), "{error}"),
        }
    }
}

/// The sector that decays holds the end of a batch and the header of the next one. What is left of that one behind
/// it proves that the first was synced, so that it is not torn.
#[test]
fn a_batch_behind_which_something_was_written_is_not_taken_for_torn() {
    let disk = Disk::new();
    let mut storage = create(&disk);
    for length in [500, 700] {
        append(&mut storage, 1, &vec![5; length]);
        storage.flush().unwrap();
    }
    drop(storage);
    let mut bytes = disk.bytes(Name::Segment(1)).unwrap();
    let next = 160 + 120 + 32 + 500_usize.next_multiple_of(8);
    assert!(bytes[next..].starts_with(b"RBAT") && next / 512 == (next + 120) / 512 && !next.is_multiple_of(512));
    bytes[512..1024].fill(0);
    disk.put(Name::Segment(1), bytes);
    for suspect_tail in [SuspectTail::Refuse, SuspectTail::Cut] {
        let opened = FileStorage::open(disk.clone(), Options { suspect_tail, ..small() }).map(|(_, report)| report);
        assert!(matches!(opened, Err(OpenError::Damaged { first: Index(1), .. })), "{opened:?}");
    }
}
