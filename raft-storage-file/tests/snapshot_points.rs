//! The power goes at every call to the disk while snapshots are made, received, and compacted behind, with every
//! subset of what was not synced that is worth trying, names in the directory included; and goes again at
//! every call of the recovery that follows.
//!
//! What must hold each time: the log and the snapshot are those from before or those from after, never
//! of both; every entry behind the base is there bit for bit, and the base is not behind the snapshot.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

mod power;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Call, Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Name, Options, SuspectTail};

use power::{Trail, fates};

/// What a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Image {
    hard_state: HardState,
    /// What the first entry follows: not behind the base of the log, which may be compacted further.
    base: EntryId,
    entries: Vec<(EntryId, Vec<u8>)>,
    snapshot: Option<SnapshotId>,
}

impl Image {
    /// What the storage holds; everything in it is consistent.
    fn of(storage: &mut FileStorage<Disk>) -> Image {
        let (hard_state, base, snapshot) = (storage.hard_state(), storage.base(), storage.snapshot());
        let mut entries = Vec::new();
        let mut next = base.index.next();
        while next <= storage.last().index {
            let records = storage.read(next, Index(u64::MAX), 300).unwrap();
            entries.extend(records.iter().map(|entry| (entry.header.id(), entry.payload.to_vec())));
            next = records.last().index.next();
        }
        let last = entries.last().map_or(base, |(id, _)| *id);
        assert_eq!((storage.last(), storage.last_time()), (last, time(last)));
        let saved = storage.saved().unwrap();
        assert_eq!((saved.through, saved.hard_state), (last, hard_state));
        assert!(base.index <= snapshot.map_or(Index::ZERO, |snapshot| snapshot.through.index));
        if let Some(id) = snapshot {
            assert_eq!(storage.term(id.through.index), Some(id.through.term), "the log goes on from the snapshot");
            assert_eq!(storage.read_snapshot(0, usize::MAX).unwrap(), content(id.through), "{id:?}");
        }
        Image { hard_state, base, entries, snapshot }
    }

    /// Whether that is what was found, which may be compacted.
    fn is(&self, found: &Image) -> bool {
        let dropped = usize::try_from(found.base.index.since(self.base.index)).unwrap();
        let base = dropped.checked_sub(1).map_or(Some(self.base), |last| Some(self.entries.get(last)?.0));
        (self.hard_state, self.snapshot) == (found.hard_state, found.snapshot)
            && base == Some(found.base)
            && self.entries.get(dropped..) == Some(&found.entries)
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// Append that many entries of a term, of 60 bytes and more.
    Append(u64, u64),
    Vote(u64),
    /// Drop the entries behind an index.
    Truncate(u64),
    Flush,
    /// Make a snapshot of the state after the entry at an index.
    Take(u64),
    /// Receive one of the state after an entry of that term and index.
    Receive(u64, u64),
    /// Begin one that is not finished.
    Begin,
    Compact(u64),
    /// Syncs on the side take their time from now on, or are done.
    HoldSyncs(bool),
    Reopen,
}

use Action::{Append, Begin, Compact, Flush, HoldSyncs, Receive, Reopen, Take, Truncate, Vote};

/// Own snapshots with compaction between rotations, one that takes its time, two that wait for it; received ones before the
/// log, in its middle by another term, behind it, twice before a flush, with entries and votes in the same flush,
/// with a rotation in it, after a truncation; and starts in between.
const SCRIPT: &[Action] = &[
    Append(1, 4),
    Flush,
    Take(3),
    Begin,
    Append(1, 12),
    Flush,
    Append(1, 8),
    Flush,
    Take(14),
    Compact(14),
    Append(2, 12),
    Flush,
    HoldSyncs(true),
    Take(20),
    Take(22),
    Append(2, 8),
    Flush,
    Take(25),
    HoldSyncs(false),
    Flush,
    Compact(25),
    Reopen,
    Append(2, 6),
    Flush,
    Truncate(40),
    Flush,
    Receive(3, 45),
    Flush,
    Append(3, 9),
    Flush,
    Take(47),
    Compact(46),
    Vote(4),
    Append(4, 2),
    Receive(5, 80),
    Receive(5, 90),
    Append(5, 20),
    Vote(6),
    Flush,
    Compact(90),
    Append(6, 10),
    Flush,
    Reopen,
    Append(6, 10),
    Flush,
    Begin,
    Take(125),
    Compact(120),
    Reopen,
    Receive(7, 200),
    Flush,
    Reopen,
    Append(7, 1),
    Flush,
];

fn identity() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(99) }
}

fn options() -> Options {
    let sizes = Options { segment_bytes: 2048, segment_bytes_first: 1024, cache_bytes: 100, ..Options::default() };
    Options { suspect_tail: SuspectTail::Cut, ..sizes }
}

fn payload(id: EntryId) -> Vec<u8> {
    vec![u8::try_from((id.index.0 * 3 + id.term.0) % 251).unwrap(); 60 + usize::try_from(id.index.0 % 40).unwrap()]
}

fn time(id: EntryId) -> ClusterTime {
    ClusterTime(id.index.0 * 10)
}

/// The state after an entry, which takes one to three sectors.
fn content(through: EntryId) -> Vec<u8> {
    let length = 100 + usize::try_from(through.index.0 * 37 % 1100).unwrap();
    (0..length as u64).map(|at| u8::try_from((at * 7 + through.index.0 + through.term.0) % 251).unwrap()).collect()
}

fn adopt(storage: &mut FileStorage<Disk>, through: EntryId) -> SnapshotId {
    let content = content(through);
    storage.begin_draft();
    let _ = storage.extend_draft(&content);
    let snapshot =
        SnapshotId { through, time: time(through), bytes: content.len() as u64, checksum: crc32c(0, &content) };
    storage.adopt_draft(snapshot);
    snapshot
}

fn append(storage: &mut FileStorage<Disk>, id: EntryId) {
    let payload = payload(id);
    let header = EntryHeader::new(id, time(id), EntryKind::Operation, &[&payload]).unwrap();
    storage.append(&header, &[&payload]).unwrap();
}

/// A node that runs the script, and what it may leave behind.
struct Run {
    /// What is durable for sure; nothing before the directory was created.
    acknowledged: Option<Image>,
    /// What a flush was saving that has not returned.
    in_flight: Option<Image>,
    /// Own snapshots that may be durable.
    taken: Vec<SnapshotId>,
}

impl Run {
    /// All that may be found after a power loss.
    fn allowed(&self) -> Vec<Image> {
        let mut allowed = Vec::new();
        for image in self.acknowledged.iter().chain(&self.in_flight) {
            allowed.push(image.clone());
            let newer = |id: &&SnapshotId| image.snapshot.is_none_or(|old| old.through.index < id.through.index);
            let held = |id: &&SnapshotId| image.entries.iter().any(|(entry, _)| *entry == id.through);
            for &id in self.taken.iter().filter(newer).filter(held) {
                allowed.push(Image { snapshot: Some(id), ..image.clone() });
            }
        }
        if allowed.is_empty() { vec![Image::default()] } else { allowed }
    }

    fn script(disk: &Disk) -> Run {
        let mut run = Run { acknowledged: None, in_flight: None, taken: Vec::new() };
        let Ok((storage, _)) = FileStorage::create(disk.clone(), identity(), options()) else { return run };
        run.acknowledged = Some(Image::default());
        if let Some(mut storage) = run.act(disk, storage) {
            let found = Image::of(&mut storage);
            assert!(run.allowed().iter().any(|image| image.is(&found)));
        }
        run
    }

    /// Runs the script until the power goes; gives the storage if it does not.
    fn act(&mut self, disk: &Disk, mut storage: FileStorage<Disk>) -> Option<FileStorage<Disk>> {
        let mut view = Image::default();
        for &action in SCRIPT {
            let last = view.entries.last().map_or(view.base, |(id, _)| *id);
            match action {
                Append(term, entries) => {
                    for at in 1..=entries {
                        let id = EntryId::new(Term(term), last.index.plus(at));
                        append(&mut storage, id);
                        view.entries.push((id, payload(id)));
                    }
                }
                Vote(term) => {
                    view.hard_state = HardState { term: Term(term), vote: NodeId::new(1) };
                    storage.set_hard_state(view.hard_state);
                }
                Truncate(last) => {
                    storage.truncate(Index(last));
                    view.entries.retain(|(id, _)| id.index <= Index(last));
                }
                Flush => {
                    self.in_flight = Some(view.clone());
                    storage.flush().ok()?;
                    self.acknowledged = self.in_flight.take();
                }
                Take(index) => {
                    let through = view.entries.iter().find(|(id, _)| id.index == Index(index)).unwrap().0;
                    let expected = content(through);
                    let (bytes, checksum) = (expected.len() as u64, crc32c(0, &expected));
                    self.taken.push(SnapshotId { through, time: time(through), bytes, checksum });
                    adopt(&mut storage, through);
                }
                Receive(term, index) => {
                    let through = EntryId::new(Term(term), Index(index));
                    let snapshot = Some(adopt(&mut storage, through));
                    view = Image { base: through, entries: Vec::new(), snapshot, ..view };
                }
                Begin => {
                    storage.begin_draft();
                    let _ = storage.extend_draft(&[1; 700]);
                }
                Compact(index) => storage.compact(Index(index)),
                HoldSyncs(hold) => disk.hold_syncs(hold),
                Reopen => {
                    drop(storage);
                    storage = FileStorage::open(disk.clone(), options()).ok()?.0;
                    view = self.acknowledged.clone().unwrap();
                }
            }
            let saved = storage.saved().ok()?;
            let acknowledged = self.acknowledged.as_mut().unwrap();
            let through = acknowledged.entries.last().map_or(acknowledged.base, |(id, _)| *id);
            assert_eq!((saved.through, saved.hard_state), (through, acknowledged.hard_state), "{action:?}");
            // One that the storage gives is durable, unless it takes the place of a log that is not saved.
            let snapshot = storage.snapshot();
            if view.base == acknowledged.base {
                (acknowledged.snapshot, view.snapshot) = (snapshot, snapshot);
            }
            assert_eq!(snapshot, view.snapshot, "{action:?}");
        }
        Some(storage)
    }
}

#[derive(Default)]
struct Enumeration {
    seen: HashSet<u64>,
    states: usize,
    /// How often the last of what is allowed was found, which is the newest, and the first.
    newest: usize,
    oldest: usize,
    cut: usize,
}

impl Enumeration {
    fn lose_power(&mut self, disk: &Disk, allowed: &[Image], nested: usize, call: usize, before: Option<&Trail<'_>>) {
        for fates in fates(disk.unsynced().len(), before.is_none()) {
            let mut given = fates.iter();
            let after = disk.after_power_loss(|_| *given.next().expect("one fate for each thing"));
            let mut hasher = DefaultHasher::new();
            for (name, bytes) in after.contents() {
                let bytes = bytes.strip_suffix([0; 256].as_slice()).unwrap_or(&bytes);
                (name, bytes.len(), crc32c(0, bytes)).hash(&mut hasher);
            }
            (allowed, nested).hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.states += 1;
                self.recover(&after, allowed, nested, &Trail { before, call, fates: &fates });
            }
        }
    }

    fn recover(&mut self, disk: &Disk, allowed: &[Image], nested: usize, trail: &Trail<'_>) {
        let start = (nested > 0).then(|| disk.after_power_loss(|_| Fate::Kept));
        let open = |disk: &Disk| FileStorage::open_or_create(disk.clone(), identity(), options());
        let (mut storage, report) = open(disk).unwrap_or_else(|error| panic!("{trail}: {error}"));
        let calls = disk.calls();
        let found = Image::of(&mut storage);
        let which = allowed.iter().position(|image| image.is(&found));
        let which = which.unwrap_or_else(|| panic!("{trail}: found {found:?}, allowed is {allowed:?}"));
        assert_eq!((report.snapshot, report.damaged_snapshot), (found.snapshot, None), "{trail}");
        self.newest += usize::from(which > 0);
        self.oldest += usize::from(which == 0 && allowed.len() > 1);
        self.cut += usize::from(report.cut.is_some());
        drop(storage);
        let (mut storage, again) = open(disk).unwrap_or_else(|error| panic!("{trail}, again: {error}"));
        assert_eq!((Image::of(&mut storage), again.cut), (found.clone(), None), "{trail}, again");
        let leftover = disk.contents().into_keys().find(|name| matches!(name, Name::Draft(_)));
        assert_eq!(leftover, None, "{trail}");
        go_on(storage, disk, trail);
        let Some(start) = start else { return };
        for (call, _) in calls.iter().enumerate().filter(|(_, call)| **call != Call::Look) {
            let disk = start.after_power_loss(|_| Fate::Kept);
            disk.power_off_at(call);
            assert!(open(&disk).is_err());
            self.lose_power(&disk, std::slice::from_ref(&found), nested - 1, call, Some(trail));
        }
    }
}

/// The node goes on from there: appends, makes a snapshot, compacts, and starts again.
fn go_on(mut storage: FileStorage<Disk>, disk: &Disk, trail: &Trail<'_>) {
    let id = EntryId::new(Term(100), storage.last().index.next());
    append(&mut storage, id);
    storage.set_hard_state(HardState { term: Term(100), vote: None });
    storage.flush().unwrap();
    let snapshot = adopt(&mut storage, id);
    assert_eq!(storage.snapshot(), Some(snapshot), "{trail}, gone on");
    storage.compact(id.index);
    drop(storage);
    let (mut storage, _) =
        FileStorage::open(disk.clone(), options()).unwrap_or_else(|error| panic!("{trail}: {error}"));
    let found = Image::of(&mut storage);
    assert_eq!((found.snapshot, storage.last(), found.hard_state.term), (Some(snapshot), id, Term(100)), "{trail}");
}

#[test]
fn the_power_goes_at_every_call_around_snapshots() {
    let whole = Disk::new();
    Run::script(&whole);
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
        let run = Run::script(&disk);
        enumeration.lose_power(&disk, &run.allowed(), 1, call, None);
    }
    let Enumeration { states, newest, oldest, cut, .. } = enumeration;
    let removed =
        |ours: fn(&Name) -> bool| calls.iter().filter(|call| matches!(call, Call::Remove(name) if ours(name))).count();
    let (segments, snapshots) =
        (removed(|name| matches!(name, Name::Segment(_))), removed(|name| matches!(name, Name::Snapshot(_))));
    println!(
        "{points} crash points, {states} states of the disk, {cut} with a tail cut, {oldest} with the state before \
         and {newest} with the one after; the script removes {segments} segments and {snapshots} snapshots"
    );
    for (what, count) in
        [("states", states), ("old", oldest), ("new", newest), ("segments", segments), ("snapshots", snapshots)]
    {
        assert!(count > 5, "the script must lead to {what}");
    }
}
