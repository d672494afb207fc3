//! Every bit of a log and snapshots of more than 256 KiB flips; every sector is lost, decays, comes from another place, or is
//! an old one. A debug build tries one in many of the bits.
//!
//! What must hold each time: the damage is found, or it is provably harmless (everything is there). The one exception is
//! what nobody can tell from a torn write: damage to sectors of the very last batch, when no witness was written behind it,
//! or to the sector of the witness itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use raft_core::crc::crc32c;
use raft_core::entry::{EntryHeader, EntryKind};
use raft_core::storage::{HardState, SnapshotId, Storage};
use raft_core::types::{ClusterId, ClusterTime, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, Identity, Name, OpenError, Options};

const SECTOR: usize = 512;

const BATCHES: u64 = 78;

/// Of how many bits and of how many sectors one is tried.
const BITS_STEP: usize = if cfg!(debug_assertions) { 1501 } else { 1 };
const SECTORS_STEP: usize = if cfg!(debug_assertions) { 11 } else { 1 };

fn options() -> Options {
    Options {
        segment_bytes: 32 << 10,
        segment_bytes_first: 8 << 10,
        cache_bytes: 8 << 10,
        reserve_bytes: 0,
        ..Options::default()
    }
}

/// What a node holds: hard state, records and the latest snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image {
    hard_state: HardState,
    base: EntryId,
    records: Vec<u8>,
    last: EntryId,
    snapshot: Vec<u8>,
}

impl Image {
    fn of(storage: &mut FileStorage<Disk>) -> Image {
        let (mut next, mut records) = (storage.base().index.next(), Vec::new());
        while next <= storage.last().index {
            let read = storage.read(next, Index(u64::MAX), 100_000).unwrap();
            records.extend_from_slice(read.bytes());
            next = read.last().index.next();
        }
        let snapshot = storage.read_snapshot(0, usize::MAX).unwrap().to_vec();
        Image { hard_state: storage.hard_state(), base: storage.base(), records, last: storage.last(), snapshot }
    }
}

type Sectors = BTreeMap<(Name, usize), Vec<u8>>;

/// A disk, what it holds, and what stood on it before.
struct DataSet {
    disk: Disk,
    files: BTreeMap<Name, Vec<u8>>,
    whole: Image,
    /// Without the last batch.
    before_last: Image,
    /// Where the last batch begins, and in which file.
    last_batch: (Name, usize),
    /// Where what was written last ends.
    end: usize,
    now: Sectors,
    old: Vec<((Name, usize), Vec<u8>)>,
}

/// Chance that is always the same.
fn chance(seed: u64, below: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 32)) % below
}

/// Content without a pattern; a few pieces of it are zeros.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let word = |at: u64| if chance(seed ^ (at >> 7), 5) == 0 { 0 } else { chance(seed << 20 | at, u64::MAX) };
    (0..length.div_ceil(8) as u64).flat_map(|at| word(at).to_le_bytes()).take(length).collect()
}

fn append(storage: &mut FileStorage<Disk>, term: u64, length: usize) {
    let id = EntryId::new(Term(term), storage.last().index.next());
    let payload = noise(id.index.0, length);
    let header = EntryHeader::new(id, ClusterTime(id.index.0), EntryKind::Operation, &[&payload]).unwrap();
    storage.append(&header, &[&payload]).unwrap();
}

fn adopt(storage: &mut FileStorage<Disk>, index: u64, length: usize) {
    let content = noise(index, length);
    storage.begin_draft();
    storage.extend_draft(&content).unwrap();
    let through = EntryId::new(storage.term(Index(index)).unwrap(), Index(index));
    let (time, bytes, checksum) = (ClusterTime(index), content.len() as u64, crc32c(0, &content));
    storage.adopt_draft(SnapshotId { through, time, bytes, checksum });
    assert_eq!(storage.snapshot().unwrap().through, through);
}

/// Batches of one to a dozen entries of 0 to some thousand bytes, over several segments, with truncations, starts, and
/// two snapshots, of which the first covers what is compacted. `witnessed`: whether the last batch has a witness.
fn data_set(witnessed: bool) -> DataSet {
    let disk = Disk::new();
    let identity = Identity { cluster: ClusterId(1), node: NodeId::new(7).unwrap(), incarnation: Incarnation(99) };
    let (mut storage, _) = FileStorage::create(disk.clone(), identity, options()).unwrap();
    let (mut now, mut old) = (Sectors::new(), Vec::new());
    let mut term = 1;
    for batch in 0..BATCHES {
        match batch {
            25 => adopt(&mut storage, 50, 16_200),
            30 => storage.compact(Index(50)),
            55 => adopt(&mut storage, 150, 16_300),
            20 | 45 | 60 => {
                term += 1;
                storage.set_hard_state(HardState { term: Term(term), vote: NodeId::new(3), expelled: None });
                storage.truncate(storage.last().index.previous());
            }
            38 | 65 => {
                drop(storage);
                storage = FileStorage::open(disk.clone(), options()).unwrap().0;
            }
            _ => {}
        }
        for entry in 0..1 + chance(batch, 12) {
            let most = if chance(batch * 100 + entry, 10) == 0 { 6_000 } else { 400 };
            append(&mut storage, term, usize::try_from(chance(batch * 100 + entry + 7, most)).unwrap());
        }
        storage.flush().unwrap();
        take_down(&disk, &mut now, &mut old);
    }
    let last_segment = || disk.contents().into_keys().rfind(|name| matches!(name, Name::Segment(_)));
    // The last batch is not the first of its segment.
    let (before_last, before) = loop {
        let (image, segment, contents) = (Image::of(&mut storage), last_segment(), disk.contents());
        for length in [700, 10, 900] {
            append(&mut storage, term, length);
        }
        storage.flush().unwrap();
        take_down(&disk, &mut now, &mut old);
        if last_segment() == segment {
            break (image, contents);
        }
    };
    if witnessed {
        storage.witness().unwrap();
        take_down(&disk, &mut now, &mut old);
    }
    // The zeros for the next segment are no part of what it holds.
    disk.take(Name::Spare);
    let (whole, files) = (Image::of(&mut storage), disk.contents());
    let name = *files.keys().rfind(|name| matches!(name, Name::Segment(_))).unwrap();
    let first_change = files[&name].iter().zip(&before[&name]).position(|(new, old)| new != old).unwrap();
    let end = files[&name].iter().rposition(|&byte| byte != 0).unwrap();
    drop(storage);
    DataSet { disk, files, whole, before_last, last_batch: (name, first_change), end, now, old }
}

/// Keeps the sectors that are not as they were any more.
fn take_down(disk: &Disk, now: &mut Sectors, old: &mut Vec<((Name, usize), Vec<u8>)>) {
    for (name, bytes) in disk.contents() {
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let place = (name, number);
            let before = now.insert(place, sector.to_vec());
            old.extend(before.filter(|before| before != sector).map(|before| (place, before)));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Found,
    Harmless,
    /// The last batch is gone, and that was said.
    Cut,
}

impl DataSet {
    /// What a start makes of the disk when files hold other bytes. `in_last`: whether only sectors of the last batch do.
    fn outcome(&self, damaged: impl IntoIterator<Item = (Name, Vec<u8>)>, what: &dyn Fn() -> String) -> Outcome {
        let disk = self.disk.after_power_loss(|_| Fate::Kept);
        for (name, bytes) in damaged {
            disk.put(name, bytes);
        }
        let (mut storage, report) = match FileStorage::open(disk, options()) {
            Ok(opened) => opened,
            Err(OpenError::Disk(error)) => panic!("{}: {error}", what()),
            Err(_) => return Outcome::Found,
        };
        let found = Image::of(&mut storage);
        if report.damaged_snapshot.is_some() {
            let snapshot = self.whole.snapshot.clone();
            let base = self.whole.base;
            assert!(Image { snapshot, base, ..found } == self.whole, "{}: the log must still hold everything", what());
            return Outcome::Found;
        }
        if found == self.whole {
            return Outcome::Harmless;
        }
        assert!(found == self.before_last, "{}: {} follows {}", what(), "more than the last batch is gone", found.last);
        assert!(report.cut.is_some(), "{}: the last batch is gone, and nothing is said", what());
        Outcome::Cut
    }

    /// The file with other bytes in a sector, if that changes it.
    fn with_sector(&self, (name, number): (Name, usize), sector: &[u8]) -> Option<(Name, Vec<u8>)> {
        let mut bytes = self.files[&name].clone();
        bytes.iter_mut().skip(number * SECTOR).zip(sector).for_each(|(place, byte)| *place = *byte);
        (bytes != self.files[&name]).then_some((name, bytes))
    }

    fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// The sectors that the data set has now.
    fn places(&self) -> Vec<(Name, usize)> {
        let of_file =
            |(name, bytes): (&Name, &Vec<u8>)| (0..bytes.len().div_ceil(SECTOR)).map(|at| (*name, at)).collect();
        self.files.iter().flat_map(|file| -> Vec<_> { of_file(file) }).collect()
    }
}

/// How often damage had which outcome.
#[derive(Default)]
struct Tally {
    found: AtomicUsize,
    harmless: AtomicUsize,
    cut: AtomicUsize,
}

impl Tally {
    fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Found => &self.found,
            Outcome::Harmless => &self.harmless,
            Outcome::Cut => &self.cut,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> [usize; 3] {
        [&self.found, &self.harmless, &self.cut].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Does `work` for every number below `count`, on all processors.
fn on_all_processors(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < count
                {
                    work(number);
                }
            });
        }
    });
}

#[test]
fn every_flipped_bit_of_a_large_data_set_is_found_or_harmless() {
    let begun = std::time::Instant::now();
    let set = data_set(false);
    let bytes = set.bytes();
    assert!(bytes >= 256 << 10 && set.files.len() >= 7, "{bytes} bytes in {} files", set.files.len());
    let tally = Tally::default();
    let pieces: Vec<(Name, usize)> = set.places();
    on_all_processors(pieces.len(), |piece| {
        let (name, sector) = pieces[piece];
        let start = sector * SECTOR;
        let mut damaged = set.files[&name].clone();
        let bits = (damaged.len() - start).min(SECTOR) * 8;
        for bit in (0..bits).filter(|bit| (start * 8 + bit).is_multiple_of(BITS_STEP)) {
            let (at, mask) = (start + bit / 8, 1 << (bit % 8));
            damaged[at] ^= mask;
            let outcome =
                set.outcome([(name, damaged.clone())], &|| format!("bit {bit} of the sector at {start} of {name}"));
            assert!(
                outcome != Outcome::Cut,
                "bit {bit} of the sector at {start} of {name}: acknowledged entries are gone"
            );
            tally.count(outcome);
            damaged[at] ^= mask;
        }
    });
    let [found, harmless, _] = tally.get();
    println!(
        "{bytes} bytes in {} files: of {} flipped bits {found} were found, {harmless} are harmless; {:.1} s",
        set.files.len(),
        found + harmless,
        begun.elapsed().as_secs_f64(),
    );
    assert!(found + harmless >= bytes * 8 / BITS_STEP && found > harmless);
}

#[test]
fn every_sector_of_a_large_data_set_that_is_not_what_it_was_is_found_or_harmless() {
    for witnessed in [false, true] {
        let begun = std::time::Instant::now();
        let set = data_set(witnessed);
        let places = set.places();
        let tally = Tally::default();
        let (last, offset) = set.last_batch;
        let judge = |places: &[(Name, usize)], outcome, what: &str| {
            let in_last = places.iter().any(|(name, at)| *name == last && (at + 1) * SECTOR > offset);
            let in_witness = places.contains(&(last, set.end / SECTOR));
            let torn = if witnessed { in_witness } else { in_last };
            assert!(outcome != Outcome::Cut || torn, "{what} {places:?}: acknowledged entries are gone");
            tally.count(outcome);
        };
        on_all_processors(places.len().div_ceil(SECTORS_STEP), |number| {
            let number = number * SECTORS_STEP;
            let place = places[number];
            for (what, other) in others(&set, &places, number) {
                if let Some(damaged) = set.with_sector(place, &other) {
                    judge(&[place], set.outcome([damaged], &|| format!("{what} {place:?}")), what);
                }
            }
            for other in partners(&places, number) {
                let changed = [(place, other), (other, place)].map(|(to, from)| (to, set.now[&from].clone()));
                let mut files = BTreeMap::new();
                for ((name, at), sector) in changed {
                    let bytes = files.entry(name).or_insert_with(|| set.files[&name].clone());
                    bytes.iter_mut().skip(at * SECTOR).zip(&sector).for_each(|(place, byte)| *place = *byte);
                }
                if files.iter().any(|(name, bytes)| *bytes != set.files[name]) {
                    let outcome = set.outcome(files, &|| format!("{place:?} swapped with {other:?}"));
                    judge(&[place, other], outcome, "swapped");
                }
            }
        });
        let [found, harmless, cut] = tally.get();
        println!(
            "{} sectors, {} old ones, {}: {found} found, {harmless} harmless, {cut} taken for a torn write; {:.1} s",
            places.len(),
            set.old.len(),
            if witnessed { "with a witness" } else { "without a witness" },
            begun.elapsed().as_secs_f64(),
        );
        assert!(found > harmless && set.old.len() > 100);
    }
}

/// What may stand in the place of a sector: zeros, garbage, its neighbours, those at its place in other files, some by
/// chance, and all that stood there before.
fn others(set: &DataSet, places: &[(Name, usize)], number: usize) -> Vec<(&'static str, Vec<u8>)> {
    let (name, at) = places[number];
    let mut others =
        vec![("zeros in", vec![0; SECTOR]), ("garbage in", vec![0xa5; SECTOR]), ("ones in", vec![0xff; SECTOR])];
    let alike = places.iter().filter(|(other, place)| *other != name && *place == at);
    let by_chance = (0..8).map(|seed| &places[usize::try_from(chance(seed, places.len() as u64)).unwrap()]);
    let near = places.iter().skip(number.saturating_sub(2)).take(5);
    for place in alike.chain(by_chance).chain(near) {
        others.push(("another sector in", set.now[place].clone()));
    }
    let of_old = set.old.iter().filter(|(place, _)| *place == (name, at));
    others.extend(of_old.map(|(_, sector)| ("an old sector in", sector.clone())));
    others
}

/// With which sectors one is swapped: the next ones, and some by chance.
fn partners(places: &[(Name, usize)], number: usize) -> Vec<(Name, usize)> {
    let by_chance =
        (0..6).map(|seed| places[usize::try_from(chance(seed + number as u64, places.len() as u64)).unwrap()]);
    places.iter().skip(number + 1).take(2).copied().chain(by_chance).collect()
}
