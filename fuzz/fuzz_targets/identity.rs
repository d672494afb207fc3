//! A node's directory whose identity is arbitrary, with whatever other files beside it, is opened, created, and opened
//! as another's: that may be refused, but never panics. A directory that is refused is left as it was, and one that is
//! taken belongs to whom its identity says.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use raft_core::configuration::{Configuration, Member};
use raft_core::crc::crc32c;
use raft_core::session::limits::SessionLimits;
use raft_core::types::{ClusterId, ClusterKey, EntryId, Incarnation, Index, NodeId, Term};
use raft_storage_file::format::IDENTITY_BYTES;
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, How, Identity, Name, OpenError, Options, WaitingDirectory};

#[derive(Debug, Arbitrary)]
struct Directory {
    /// The first bytes of the identity, which are exclusive-ored with those of the right one.
    changes: Vec<(u8, u8)>,
    length: Length,
    repairs: bool,
    others: Vec<(Other, u8)>,
    taken: Vec<Other>,
    call: Call,
    name: String,
    origin: Option<Origin>,
}

/// The file `origin`: the right one, changed.
#[derive(Debug, Arbitrary)]
struct Origin {
    promised: bool,
    changes: Vec<(u16, u8)>,
    length: Length,
    repairs: bool,
}

#[derive(Debug, Arbitrary)]
enum Length {
    Right,
    None,
    Cut(u8),
    Longer(u8),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Other {
    Identity,
    Draft,
    Origin,
    Segment(u8),
    Spare,
    Reserve,
    Suspect,
    Snapshot(u8),
    SnapshotDraft(u8),
}

#[derive(Debug, Arbitrary)]
enum Call {
    Open,
    OpenAs,
    Create,
    Enter,
}

impl Other {
    fn name(self) -> Name {
        match self {
            Other::Identity => Name::Identity,
            Other::Draft => Name::IdentityDraft,
            Other::Origin => Name::Origin,
            Other::Segment(number) => Name::Segment(number.into()),
            Other::Spare => Name::Spare,
            Other::Reserve => Name::Reserve,
            Other::Suspect => Name::Suspect,
            Other::Snapshot(index) => Name::Snapshot(EntryId::new(Term(1), Index(index.into()))),
            Other::SnapshotDraft(number) => Name::Draft(number.into()),
        }
    }
}

fn right() -> Identity {
    Identity { cluster: ClusterId(1), node: NodeId::new(7).expect("7 is not 0"), incarnation: Incarnation(99) }
}

fn options() -> Options {
    Options { segment_bytes: 1024, segment_bytes_first: 1024, cache_bytes: 100, reserve_bytes: 0, ..Options::default() }
}

static NEW: LazyLock<Disk> = LazyLock::new(|| {
    let disk = Disk::new();
    drop(FileStorage::create(disk.clone(), right(), options()).expect("the disk is well"));
    disk
});

/// A directory that waits, and one that is promised: their origins.
static ORIGINS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let disk = Disk::new();
    let mut directory = WaitingDirectory::enter(disk.clone(), right().incarnation).expect("the disk is well");
    let waits = disk.bytes(Name::Origin).expect("it was made");
    let members = [Member::voter(right().node, "h:1").expect("it is short")];
    let configuration = Configuration::new(right().cluster, SessionLimits::default(), members).expect("it is valid");
    let origin = raft_storage_file::Origin { node: right().node, key: ClusterKey(5), how: How::Created, configuration };
    directory.promise(origin).expect("the disk is well");
    [waits, disk.bytes(Name::Origin).expect("it was made")]
});

impl Origin {
    fn bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = ORIGINS[usize::from(self.promised)].clone();
        let length = bytes.len();
        for &(at, change) in self.changes.iter().take(length) {
            bytes[usize::from(at) % length] ^= change;
        }
        if self.repairs {
            let (covered, checksum) = bytes.split_at_mut(length - 4);
            checksum.copy_from_slice(&crc32c(0, covered).to_le_bytes());
        }
        match self.length {
            Length::Right => {}
            Length::None => return None,
            Length::Cut(by) => bytes.truncate(usize::from(by) % length),
            Length::Longer(by) => bytes.resize(length + 1 + usize::from(by), 0),
        }
        Some(bytes)
    }
}

/// A directory that is entered to wait in it: that of a member, and one with a log, is refused and left as it was; another one
/// waits, and keeps what it has promised.
fn enter(disk: &Disk) {
    let (before, promised) = (files(disk), disk.bytes(Name::Origin));
    match WaitingDirectory::enter(disk.clone(), Incarnation(1234)) {
        Ok(directory) => {
            assert!(!before.contains_key(&Name::Identity));
            assert!(promised.is_some() || directory.incarnation() == Incarnation(1234));
            let kept = directory.origin().cloned();
            drop(directory);
            let again = WaitingDirectory::enter(disk.clone(), Incarnation(1)).expect("it waits");
            assert_eq!(again.origin(), kept.as_ref());
            let opened = FileStorage::open(disk.clone(), options()).map(drop);
            assert!(matches!(opened, Err(OpenError::Waiting | OpenError::Locked { .. })), "{opened:?}");
            if let Some(origin) = kept
                && let Ok((storage, _)) = again.complete(options())
            {
                assert_eq!((storage.identity().node, storage.origin()), (origin.node, Some(&origin)));
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(files(disk), before, "what is refused is left as it was: {error}");
        }
    }
}

impl Directory {
    fn identity(&self) -> Option<Vec<u8>> {
        let mut bytes = right().encode().to_vec();
        for &(at, change) in self.changes.iter().take(IDENTITY_BYTES) {
            bytes[usize::from(at) % IDENTITY_BYTES] ^= change;
        }
        if self.repairs {
            let (covered, checksum) = bytes.split_at_mut(IDENTITY_BYTES - 4);
            checksum.copy_from_slice(&crc32c(0, covered).to_le_bytes());
        }
        match self.length {
            Length::Right => {}
            Length::None => return None,
            Length::Cut(by) => bytes.truncate(usize::from(by) % IDENTITY_BYTES),
            Length::Longer(by) => bytes.resize(IDENTITY_BYTES + 1 + usize::from(by), 0),
        }
        Some(bytes)
    }

    fn disk(&self) -> Disk {
        let disk = NEW.after_power_loss(|_| Fate::Kept);
        match self.identity() {
            Some(bytes) => disk.put(Name::Identity, bytes),
            None => disk.take(Name::Identity),
        }
        for taken in &self.taken {
            if disk.bytes(taken.name()).is_some() {
                disk.take(taken.name());
            }
        }
        for &(other, length) in &self.others {
            disk.put(other.name(), vec![length; length.into()]);
        }
        if let Some(bytes) = self.origin.as_ref().and_then(Origin::bytes) {
            disk.put(Name::Origin, bytes);
        }
        disk
    }
}

fn files(disk: &Disk) -> BTreeMap<Name, Vec<u8>> {
    disk.contents().into_iter().filter(|(name, _)| *name != Name::Lock).collect()
}

fuzz_target!(|directory: Directory| {
    if let Some(name) = Name::parse(&directory.name) {
        assert_eq!(name.to_string(), directory.name, "there is one way to write a name");
    }
    let disk = directory.disk();
    let (before, found) = (files(&disk), disk.bytes(Name::Identity));
    let asked = right();
    let opened = match directory.call {
        Call::Open => FileStorage::open(disk.clone(), options()),
        Call::OpenAs => FileStorage::open_as(disk.clone(), asked.cluster, asked.node, options()),
        Call::Create => FileStorage::create(disk.clone(), asked, options()),
        Call::Enter => return enter(&disk),
    };
    let storage = match opened {
        Ok((storage, _)) => storage,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            // Files of a log that cannot be read are the business of `wal_recovery`.
            let by_identity = matches!(
                error,
                OpenError::IdentityDamaged
                    | OpenError::IdentityMissing
                    | OpenError::OriginDamaged
                    | OpenError::Waiting
                    | OpenError::NotCreated
                    | OpenError::CreationUnfinished
                    | OpenError::AlreadyCreated { .. }
                    | OpenError::WrongCluster { .. }
                    | OpenError::WrongNode { .. }
                    | OpenError::OtherVersion { name: Name::Identity, .. }
            );
            assert!(!by_identity || files(&disk) == before, "what is refused is left as it was: {error}");
            return;
        }
    };
    let identity = storage.identity();
    let named = disk.bytes(Name::Identity).expect("what is open has an identity");
    assert_eq!(identity.encode().as_slice(), named);
    match found {
        Some(found) => assert_eq!(found, named, "whose directory it is does not change"),
        None => assert_eq!(identity, asked, "it was created"),
    }
    if !matches!(directory.call, Call::Open) {
        assert_eq!((identity.cluster, identity.node), (asked.cluster, asked.node));
    }
});
