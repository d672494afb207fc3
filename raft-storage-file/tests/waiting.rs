//! The directory of a node that waits, until it is a member's: what a power loss at any call leaves of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that meets the unexpected is to panic")]

use raft_core::configuration::{self, Configuration, Member};
use raft_core::session::limits::SessionLimits;
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, ClusterKey, EntryId, Incarnation, Index, NodeId};
use raft_storage_file::simulated::{Disk, Fate};
use raft_storage_file::{FileStorage, How, Identity, Name, OpenError, Options, Origin, WaitingDirectory};

const OWN: Incarnation = Incarnation(77);

fn options() -> Options {
    Options { segment_bytes: 1024, segment_bytes_first: 1024, cache_bytes: 100, ..Options::default() }
}

fn origin(cluster: u128, how: How) -> Origin {
    let members = (1..=3).map(|id| Member::voter(NodeId::new(id).unwrap(), "10.0.0.1:7000").unwrap());
    let configuration = Configuration::new(ClusterId(cluster), SessionLimits::default(), members).unwrap();
    Origin { node: NodeId::new(2).unwrap(), key: ClusterKey(99), how, configuration }
}

fn enter(disk: &Disk, fresh: u128) -> Result<WaitingDirectory<Disk>, OpenError> {
    WaitingDirectory::enter(disk.clone(), Incarnation(fresh))
}

fn open(disk: &Disk) -> Result<FileStorage<Disk>, OpenError> {
    FileStorage::open(disk.clone(), options()).map(|(storage, _)| storage)
}

/// How far a node came before the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Nowhere,
    Entered,
    Promised,
    Completed,
}

fn live(disk: &Disk, origin: &Origin) -> Came {
    let Ok(mut directory) = enter(disk, OWN.0) else { return Came::Nowhere };
    if directory.promise(origin.clone()).is_err() {
        return Came::Entered;
    }
    match directory.complete(options()) {
        Ok(_) => Came::Completed,
        Err(_) => Came::Promised,
    }
}

/// What a start finds must be what was said before, and leads to the same member.
fn start_again(disk: &Disk, origin: &Origin, came: Came) {
    let storage = match open(disk) {
        Ok(storage) => storage,
        Err(error) => {
            assert!(came < Came::Completed, "a member is not found again: {error}");
            assert!(matches!(error, OpenError::NotCreated | OpenError::Waiting), "{error}");
            let mut directory = enter(disk, 1000).unwrap();
            assert!(came == Came::Nowhere || directory.incarnation() == OWN);
            assert!(came < Came::Promised || directory.origin() == Some(origin), "a promise is forgotten");
            directory.promise(origin.clone()).unwrap();
            directory.complete(options()).unwrap().0
        }
    };
    is_member(storage, origin);
    is_member(open(disk).unwrap(), origin);
}

fn is_member(mut storage: FileStorage<Disk>, origin: &Origin) {
    let Identity { cluster, node, .. } = storage.identity();
    assert_eq!((cluster, node), (origin.configuration.cluster(), origin.node));
    assert_eq!(storage.origin(), Some(origin));
    match origin.how {
        How::Created => assert_eq!(configuration::load(&mut storage, Index::FIRST).unwrap(), origin.configuration),
        How::Joined => assert_eq!(storage.last(), EntryId::ZERO),
    }
    assert_eq!(storage.saved().unwrap().through, storage.last());
}

#[test]
fn a_node_that_waits_keeps_its_incarnation_and_its_promise_wherever_the_power_goes() {
    let patterns: [fn(usize) -> Fate; 4] = [
        |_| Fate::Lost,
        |_| Fate::Kept,
        |thing| if thing % 2 == 0 { Fate::Lost } else { Fate::Kept },
        |thing| if thing % 2 == 0 { Fate::Kept } else { Fate::Lost },
    ];
    for how in [How::Created, How::Joined] {
        let (origin, whole) = (origin(5, how), Disk::new());
        assert_eq!(live(&whole, &origin), Came::Completed);
        let calls = whole.calls().len();
        assert!(calls > 20, "{calls}");
        for (call, pattern) in (0..calls).flat_map(|call| patterns.map(|pattern| (call, pattern))) {
            let disk = Disk::new();
            disk.power_off_at(call);
            let came = live(&disk, &origin);
            let mut thing = 0;
            let after = disk.after_power_loss(|_| {
                thing += 1;
                pattern(thing)
            });
            start_again(&after, &origin, came);
        }
    }
}

#[test]
fn a_promise_is_kept_and_no_call_does_the_work_of_another() {
    let disk = Disk::new();
    let mut directory = enter(&disk, OWN.0).unwrap();
    assert_eq!((directory.incarnation(), directory.origin()), (OWN, None));
    assert!(matches!(enter(&disk, 1), Err(OpenError::Locked { .. })));
    drop(directory);
    assert!(matches!(open(&disk), Err(OpenError::Waiting)));
    let identity = Identity { cluster: ClusterId(5), node: NodeId::new(2).unwrap(), incarnation: Incarnation(3) };
    let created = FileStorage::create(disk.clone(), identity, options()).map(drop);
    assert!(matches!(created, Err(OpenError::Waiting)), "a node that waits is not created over");
    assert!(matches!(enter(&disk, 1).unwrap().complete(options()).map(drop), Err(OpenError::Waiting)));

    directory = enter(&disk, 1).unwrap();
    directory.promise(origin(5, How::Created)).unwrap();
    directory.promise(origin(5, How::Created)).unwrap();
    for other in [origin(6, How::Created), origin(5, How::Joined)] {
        assert!(matches!(directory.promise(other), Err(OpenError::Promised { cluster: ClusterId(5), .. })));
    }
    drop(directory.complete(options()).unwrap());
    assert!(matches!(enter(&disk, 1), Err(OpenError::AlreadyCreated { .. })));
    let created = FileStorage::create(disk.clone(), identity, options()).map(drop);
    assert!(matches!(created, Err(OpenError::AlreadyCreated { .. })));
    assert_eq!(open(&disk).unwrap().identity().incarnation, OWN);
}

#[test]
fn a_directory_that_held_a_log_never_waits() {
    let whole = Disk::new();
    live(&whole, &origin(5, How::Created));
    let changed = |change: &dyn Fn(&Disk)| {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        change(&disk);
        disk
    };
    let bare = changed(&|disk| disk.take(Name::Identity));
    assert!(matches!(enter(&bare, 1), Err(OpenError::IdentityMissing)));
    assert!(matches!(open(&bare), Err(OpenError::IdentityMissing)));
    let log_alone = changed(&|disk| {
        disk.take(Name::Identity);
        disk.take(Name::Origin);
    });
    assert!(matches!(enter(&log_alone, 1), Err(OpenError::IdentityMissing)));
    let of_another = changed(&|disk| {
        let other = Disk::new();
        live(&other, &origin(6, How::Created));
        disk.put(Name::Origin, other.bytes(Name::Origin).unwrap());
    });
    assert!(matches!(open(&of_another), Err(OpenError::OriginDamaged)));
}

#[test]
fn every_flipped_bit_of_an_origin_is_found() {
    let whole = Disk::new();
    live(&whole, &origin(5, How::Created));
    let bytes = whole.bytes(Name::Origin).unwrap();
    for bit in 0..bytes.len() * 8 {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        disk.put(Name::Origin, bad);
        assert!(matches!(open(&disk), Err(OpenError::OriginDamaged)), "bit {bit}");
    }
    for length in 0..bytes.len() {
        let disk = whole.after_power_loss(|_| Fate::Kept);
        disk.put(Name::Origin, bytes[..length].to_vec());
        assert!(matches!(open(&disk), Err(OpenError::OriginDamaged)), "{length} bytes");
    }
}
