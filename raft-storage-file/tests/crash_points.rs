//! The power goes at every call to the disk, with every subset of what was not synced that is worth
//! trying; and goes again at every call of the recovery that follows, and at every call of the one after
//! that, with nothing, all or half of what was not synced.
//!
//! What must hold each time: what was acknowledged is there bit for bit; what was being saved is
//! there as a whole or not at all; nothing else is; and recovering again gives the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

mod power;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Call, Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Options, SuspectTail};

use power::{Trail, fates};

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Image {
    hard_state: HardState,
    entries: Vec<(EntryId, Vec<u8>)>,
}

impl Image {
    fn of(storage: &mut FileStorage<Disk>) -> Image {
        let mut image = Image { hard_state: storage.hard_state(), entries: Vec::new() };
        while image.entries.len() < usize::try_from(storage.last().index.0).unwrap() {
            let next = Index(image.entries.len() as u64 + 1);
            let records = storage.read(next, Index(u64::MAX), 300).unwrap();
            image.entries.extend(records.iter().map(|entry| (entry.header.id(), entry.payload.to_vec())));
        }
        let saved = storage.saved().unwrap();
        assert_eq!((saved.through, saved.hard_state), (storage.last(), image.hard_state));
        image
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// Append entries of a term, of that many bytes each.
    Append(u64, &'static [usize]),
    /// Adopt a term, and vote in it for a node if it is not 0.
    Vote(u64, u64),
    /// Drop the entries behind an index.
    Truncate(u64),
    Flush,
    /// Close, and open again.
    Reopen,
}

use Action::{Append, Flush, Reopen, Truncate, Vote};

/// Votes alone and with entries, batches within a sector and over many, payloads of zeros, conflicts within what waits,
/// within the last segment and across segments, rotations, and starts in between.
const SCRIPT: &[Action] = &[
    Vote(1, 7),
    Flush,
    Append(1, &[0, 40]),
    Flush,
    Append(1, &[300]),
    Vote(2, 0),
    Append(2, &[900, 10]),
    Flush,
    Append(2, &[20, 20, 20]),
    Truncate(6),
    Append(3, &[5]),
    Vote(3, 2),
    Flush,
    Truncate(4),
    Flush,
    Append(3, &[700, 600]),
    Flush,
    Append(3, &[1]),
    Reopen,
    Reopen,
    Append(4, &[33; 8]),
    Vote(4, 3),
    Flush,
    Truncate(3),
    Append(5, &[512, 64]),
    Flush,
    Append(5, &[2500]),
    Flush,
    Append(5, &[100]),
    Flush,
    Vote(6, 7),
    Truncate(2),
    Flush,
    Reopen,
    Append(7, &[1200]),
    Flush,
    Append(7, &[1200]),
    Flush,
];

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(99) }
}

fn options() -> Options {
    let sizes = Options { segment_bytes: 2048, segment_bytes_first: 1024, cache_bytes: 100, ..Options::default() };
    Options { suspect_tail: SuspectTail::Cut, ..sizes }
}

/// How far a run came.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// What was acknowledged; nothing before the directory was created.
    acknowledged: Option<Image>,
    /// What a flush was saving that has not returned.
    in_flight: Option<Image>,
}

/// The payload of an entry: every third is all zeros, as the disk is.
fn payload(id: EntryId, length: usize) -> Vec<u8> {
    let byte = u8::try_from((id.index.0 * 3 + id.term.0) % 251).unwrap();
    vec![if id.index.0.is_multiple_of(3) { 0 } else { byte }; length]
}

/// Runs the script until its end, or until the power goes.
fn run(disk: &Disk) -> Progress {
    let mut progress = Progress::default();
    let Ok((mut storage, _)) = FileStorage::create(disk.clone(), identity(), options()) else { return progress };
    let mut view = Image::default();
    progress.acknowledged = Some(view.clone());
    for &action in SCRIPT {
        match action {
            Append(term, lengths) => {
                for &length in lengths {
                    let id = EntryId::new(Term(term), storage.last().index.next());
                    let payload = payload(id, length);
                    let time = ClusterTime(id.index.0);
                    let header = EntryHeader::new(id, time, EntryKind::Operation, &[&payload]).unwrap();
                    storage.append(&header, &[&payload]).unwrap();
                    view.entries.push((id, payload));
                }
            }
            Vote(term, vote) => {
                view.hard_state = HardState { term: Term(term), vote: NodeId::new(vote) };
                storage.set_hard_state(view.hard_state);
            }
            Truncate(last) => {
                storage.truncate(Index(last));
                view.entries.truncate(usize::try_from(last).unwrap());
            }
            Flush => {
                progress.in_flight = Some(view.clone());
                let before = storage.saved().map(|saved| saved.through);
                if storage.flush().is_err() {
                    assert!(before.is_ok() && storage.saved().is_err());
                    return progress;
                }
                let saved = storage.saved().unwrap();
                let last = view.entries.last().map_or(EntryId::ZERO, |(id, _)| *id);
                assert_eq!((saved.hard_state, saved.through), (view.hard_state, last));
                progress = Progress { acknowledged: progress.in_flight.take(), in_flight: None };
            }
            Reopen => {
                drop(storage);
                let Ok((opened, _)) = FileStorage::open(disk.clone(), options()) else { return progress };
                storage = opened;
                view = progress.acknowledged.clone().unwrap();
            }
        }
    }
    assert_eq!(Image::of(&mut storage), progress.acknowledged.clone().unwrap());
    progress
}

#[derive(Default)]
struct Enumeration {
    seen: HashSet<u64>,
    states: usize,
    /// How many of them recovery had to repair: a torn or a suspect tail.
    cut: usize,
    suspect: usize,
    /// How often what was in flight was there.
    in_flight: usize,
}

impl Enumeration {
    /// Tries all that a power loss at `call` may make of `disk`. `nested` is how many more power losses
    /// there may be during the recoveries from this one.
    fn lose_power(
        &mut self,
        disk: &Disk,
        allowed: &[Option<Image>],
        nested: usize,
        call: usize,
        before: Option<&Trail<'_>>,
    ) {
        for fates in fates(disk.unsynced().len(), before.is_none()) {
            let mut given = fates.iter();
            let after = disk.after_power_loss(|_| *given.next().expect("one fate for each thing"));
            let mut hasher = DefaultHasher::new();
            (after.contents(), allowed, nested).hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.states += 1;
                self.recover(&after, allowed, nested, &Trail { before, call, fates: &fates });
            }
        }
    }

    fn recover(&mut self, disk: &Disk, allowed: &[Option<Image>], nested: usize, trail: &Trail<'_>) {
        let start = (nested > 0).then(|| disk.after_power_loss(|_| Fate::Kept));
        let open = |disk: &Disk| FileStorage::open_or_create(disk.clone(), identity(), options());
        let (mut storage, report) = open(disk).unwrap_or_else(|error| panic!("{trail}: {error}"));
        let calls = disk.calls();
        let found = Image::of(&mut storage);
        // Before the directory was acknowledged to be created, an empty log is as good as none.
        let fits = |image: &Option<Image>| image.as_ref().map_or(found == Image::default(), |image| *image == found);
        assert!(allowed.iter().any(fits), "{trail}: found {found:?}, allowed is {allowed:?}");
        self.cut += usize::from(report.cut.is_some());
        self.suspect += usize::from(report.suspect().is_some());
        self.in_flight += usize::from(allowed.get(1).is_some_and(fits));
        drop(storage);
        let (mut storage, again) = open(disk).unwrap_or_else(|error| panic!("{trail}, again: {error}"));
        assert_eq!((Image::of(&mut storage), again.cut), (found.clone(), None), "{trail}, again");
        // The log goes on from there.
        storage.set_hard_state(HardState { term: Term(100), vote: None });
        storage.flush().unwrap();
        drop(storage);
        assert_eq!(open(disk).unwrap().1.hard_state.term, Term(100), "{trail}, gone on");
        let Some(start) = start else { return };
        for (call, _) in calls.iter().enumerate().filter(|(_, call)| **call != Call::Look) {
            let disk = start.after_power_loss(|_| Fate::Kept);
            disk.power_off_at(call);
            assert!(open(&disk).is_err());
            self.lose_power(&disk, &[Some(found.clone())], nested - 1, call, Some(trail));
        }
    }
}

#[test]
fn the_power_goes_at_every_call() {
    let whole = Disk::new();
    run(&whole);
    let calls = whole.calls();
    let mut enumeration = Enumeration::default();
    let mut points = 0;
    for call in 0..=calls.len() {
        if calls.get(call) == Some(&Call::Look) {
            continue;
        }
        points += 1;
        let disk = Disk::new();
        disk.power_off_at(call);
        let Progress { acknowledged, in_flight } = run(&disk);
        let mut allowed = vec![acknowledged];
        allowed.extend(in_flight.map(Some));
        enumeration.lose_power(&disk, &allowed, 2, call, None);
    }
    let Enumeration { states, cut, suspect, in_flight, .. } = enumeration;
    println!(
        "{points} crash points, {states} states of the disk, {cut} with a tail cut ({suspect} suspect), {in_flight} with what was in flight"
    );
    for (what, count) in
        [("rotations", rotations(&calls)), ("cuts", cut), ("suspects", suspect), ("in flight", in_flight)]
    {
        assert!(count > 5, "the script must lead to {what}");
    }
}

fn rotations(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Rename(_, raft_storage_file::Name::Segment(_)))).count()
}
