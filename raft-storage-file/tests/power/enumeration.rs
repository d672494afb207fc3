//! All that a power loss may make of a disk, and what must hold then.
//!
//! What was acknowledged is there bit for bit; what was being saved is there as a whole or not at all; the log and
//! the snapshot are never those of two different moments; nothing else is there; and recovering again gives the same,
//! also when the power goes during the recovery, and during the one after that.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;

use raft_core::storage::{HardState, Storage};
use raft_core::types::{EntryId, Index, Term};
use raft_storage_file::simulated::{Call, Disk, Fate};
use raft_storage_file::{FileStorage, Name, Options};

use super::image::Image;
use super::run::{Run, adopt, append, open_or_create};
use super::script::{Script, identity};
use super::{Telling, Trail, fates};

/// How many more power losses there may be, each during the recovery from the one before.
const NESTED: usize = 2;

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Scripts, and calls at which the power went.
    pub(crate) scripts: usize,
    pub(crate) points: usize,
    /// States that were met first by a power loss of the script, of the recovery from it, and of the recovery from that.
    pub(crate) by_depth: [usize; NESTED + 1],
    /// States of which a tail was cut that was torn, or suspect.
    pub(crate) torn: usize,
    pub(crate) suspect: usize,
    /// States with what was in flight, or with a snapshot on its way; and those without it.
    pub(crate) newest: usize,
    pub(crate) oldest: usize,
    /// States before the directory was acknowledged to be created.
    pub(crate) creation: usize,
    /// Of scripts, when the power stays on: new segments, snapshots that became durable, and of those the ones that
    /// were received; segments and snapshots that were removed; starts.
    pub(crate) rotations: usize,
    pub(crate) adopted: usize,
    pub(crate) installed: usize,
    pub(crate) segments_removed: usize,
    pub(crate) snapshots_removed: usize,
    pub(crate) starts: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        let Counts { scripts, points, by_depth, torn, suspect, newest, oldest, creation, .. } = other;
        let Counts { rotations, adopted, installed, segments_removed, snapshots_removed, starts, .. } = other;
        for (sum, more) in self.by_depth.iter_mut().zip(by_depth) {
            *sum += more;
        }
        for (sum, more) in [
            (&mut self.scripts, scripts),
            (&mut self.points, points),
            (&mut self.torn, torn),
            (&mut self.suspect, suspect),
            (&mut self.newest, newest),
            (&mut self.oldest, oldest),
            (&mut self.creation, creation),
            (&mut self.rotations, rotations),
            (&mut self.adopted, adopted),
            (&mut self.installed, installed),
            (&mut self.segments_removed, segments_removed),
            (&mut self.snapshots_removed, snapshots_removed),
            (&mut self.starts, starts),
        ] {
            *sum += more;
        }
    }
}

impl Counts {
    /// Counts what a script does when the power stays on.
    fn script(script: &Script) -> Counts {
        let disk = Disk::new();
        Run::script(&disk, script);
        let calls = disk.calls();
        let count = |what: fn(&Call) -> bool| calls.iter().filter(|call| what(call)).count();
        let received = |action: &&super::script::Action| matches!(action, super::script::Action::Receive(..));
        Counts {
            scripts: 1,
            rotations: count(|call| matches!(call, Call::Rename(_, Name::Segment(number)) if *number > 1)),
            adopted: count(|call| matches!(call, Call::Rename(_, Name::Snapshot(_)))),
            installed: script.actions.iter().filter(received).count(),
            segments_removed: count(|call| matches!(call, Call::Remove(Name::Segment(_)))),
            snapshots_removed: count(|call| matches!(call, Call::Remove(Name::Snapshot(_)))),
            starts: script.actions.iter().filter(|action| **action == super::script::Action::Reopen).count(),
            ..Counts::default()
        }
    }
}

/// What is allowed after a power loss.
struct Allowed<'a> {
    images: &'a [Image],
    /// Whether a recovery that the power cut short has found the log to be suspect, up to which entry.
    suspect: Option<Index>,
    hash: u64,
}

impl<'a> Allowed<'a> {
    fn new(images: &'a [Image], suspect: Option<Index>) -> Allowed<'a> {
        let mut hasher = DefaultHasher::new();
        (images, suspect).hash(&mut hasher);
        Allowed { images, suspect, hash: hasher.finish() }
    }
}

/// The states that a script and the power losses in it lead to.
pub(crate) struct Enumeration {
    options: Options,
    /// By what is on the disk and what is allowed: how many further power losses were tried.
    pub(crate) seen: HashMap<u64, usize>,
    pub(crate) counts: Counts,
}

impl Enumeration {
    /// Tries a script.
    pub(crate) fn of(script: &Script) -> Enumeration {
        let counts = Counts::script(script);
        let mut enumeration = Enumeration { options: script.options, seen: HashMap::new(), counts };
        let whole = Disk::new();
        Run::script(&whole, script);
        let calls = whole.calls();
        for call in (0..=calls.len()).filter(|call| calls.get(*call) != Some(&Call::Look)) {
            let disk = Disk::new();
            disk.power_off_at(call);
            let run = Run::script(&disk, script);
            let before = enumeration.seen.len();
            enumeration.lose_power(&disk, &Allowed::new(&run.allowed(), None), NESTED, call, None);
            enumeration.counts.points += 1;
            if run.acknowledged.is_none() {
                enumeration.counts.creation += enumeration.seen.len() - before;
            }
        }
        enumeration
    }

    /// Tries all that a power loss at `call` may make of `disk`. `nested` is how many more power losses
    /// there may be during the recoveries from this one.
    fn lose_power(
        &mut self,
        disk: &Disk,
        allowed: &Allowed<'_>,
        nested: usize,
        call: usize,
        before: Option<&Trail<'_>>,
    ) {
        for fates in fates(disk.unsynced().len(), before.is_none()) {
            let mut given = fates.iter();
            let after = disk.after_power_loss(|_| *given.next().expect("one fate for each thing"));
            let known = self.seen.insert(after.digest() ^ allowed.hash, nested);
            match known {
                Some(tried) if tried >= nested => {
                    self.seen.insert(after.digest() ^ allowed.hash, tried);
                    continue;
                }
                Some(_) => {}
                None => self.counts.by_depth[NESTED - nested] += 1,
            }
            let trail = Trail { before, call, fates: &fates };
            let telling = Telling(&trail);
            self.recover(&after, allowed, nested, known.is_none(), &trail);
            drop(telling);
        }
    }

    fn open(&self, disk: &Disk) -> Option<(FileStorage<Disk>, raft_storage_file::Report)> {
        match open_or_create(disk.clone(), identity(), self.options) {
            Ok(opened) => Some(opened),
            Err(error) => {
                assert!(error.to_string().contains("the power is off"), "{error}");
                None
            }
        }
    }

    fn recover(&mut self, disk: &Disk, allowed: &Allowed<'_>, nested: usize, new: bool, trail: &Trail<'_>) {
        let start = (nested > 0).then(|| disk.after_power_loss(|_| Fate::Kept));
        let (mut storage, report) = self.open(disk).expect("the power is on");
        let calls = disk.calls();
        let found = Image::of(&mut storage);
        let which = allowed.images.iter().position(|image| image.is(&found));
        let which = which.unwrap_or_else(|| panic!("found {found:?}, allowed is {:?}", allowed.images));
        assert_eq!((report.snapshot, report.damaged_snapshot), (found.snapshot, None));
        assert!(report.suspect_through >= allowed.suspect, "that the log is suspect is forgotten");
        drop(storage);
        if new {
            self.counts.newest += usize::from(which > 0);
            self.counts.oldest += usize::from(which == 0 && allowed.images.len() > 1);
            let suspect = report.suspect().is_some();
            self.counts.suspect += usize::from(suspect);
            self.counts.torn += usize::from(report.cut.is_some() && !suspect);
            let (mut storage, again) = self.open(disk).expect("the power is on");
            assert_eq!((Image::of(&mut storage), again.cut), (found.clone(), None), "started again");
            assert_eq!(again.suspect_through, report.suspect_through, "started again");
            let leftover = disk.contents().into_keys().find(|name| matches!(name, Name::Draft(_)));
            assert_eq!(leftover, None);
            self.go_on(storage, disk);
        }
        let Some(start) = start else { return };
        let found = [found];
        let allowed = Allowed::new(&found, report.suspect_through);
        for (call, _) in calls.iter().enumerate().filter(|(_, call)| **call != Call::Look) {
            let disk = start.after_power_loss(|_| Fate::Kept);
            disk.power_off_at(call);
            assert!(self.open(&disk).is_none());
            self.lose_power(&disk, &allowed, nested - 1, call, Some(trail));
        }
    }

    /// A leader of a later term brings the log past what it may lack.
    fn trust(&self, storage: &mut FileStorage<Disk>, through: Index) {
        while storage.last().index < through {
            append(storage, EntryId::new(Term(1001), storage.last().index.next()), 0).unwrap();
        }
        storage.trust();
        storage.flush().unwrap();
    }

    /// The node goes on from there: appends, makes a snapshot, compacts, and starts again.
    fn go_on(&self, mut storage: FileStorage<Disk>, disk: &Disk) {
        let id = EntryId::new(Term(1000), storage.last().index.next());
        append(&mut storage, id, 70).unwrap();
        storage.set_hard_state(HardState { term: Term(1000), vote: None, expelled: None });
        storage.flush().unwrap();
        let snapshot = adopt(&mut storage, id).unwrap();
        assert_eq!(storage.snapshot(), Some(snapshot), "gone on");
        storage.compact(id.index);
        drop(storage);
        let (mut storage, report) = self.open(disk).expect("the power is on");
        let found = Image::of(&mut storage);
        assert_eq!((found.snapshot, found.last(), found.hard_state.term), (Some(snapshot), id, Term(1000)), "gone on");
        if let Some(through) = report.suspect_through {
            self.trust(&mut storage, through);
            drop(storage);
            let (_, report) = self.open(disk).expect("the power is on");
            assert_eq!(report.suspect_through, None, "trusted again");
        }
    }
}
