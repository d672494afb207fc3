//! Creating and opening a directory.

use raft_core::configuration::bootstrap;
use raft_core::storage::Storage;
use raft_core::types::{ClusterId, Incarnation, NodeId};

use super::FileStorage;
use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Locking, Name};
use crate::format::{FIRST_BATCH, HeaderError, How, IDENTITY_BYTES, Identity, ORIGIN_BYTES_MAX, Origin, OriginFile};
use crate::options::Options;
use crate::recovery::{Report, recover};
use crate::segment::{Beginning, Segment};

impl<F: Files> FileStorage<F> {
    /// Opens a directory, whosever it is.
    ///
    /// # Errors
    /// Says what is wrong with the directory and what to do; nothing in it was changed.
    pub fn open(files: F, options: Options) -> Result<(FileStorage<F>, Report), OpenError> {
        FileStorage::open_checked(files, options, |_| Ok(()))
    }

    /// Opens the directory of `node` of `cluster`.
    ///
    /// # Errors
    /// As [`FileStorage::open`], and if it is another node's or another cluster's.
    pub fn open_as(
        files: F,
        cluster: ClusterId,
        node: NodeId,
        options: Options,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        FileStorage::open_checked(files, options, |found| {
            if found.cluster != cluster {
                return Err(OpenError::WrongCluster { expected: cluster, found: found.cluster });
            }
            if found.node != node {
                return Err(OpenError::WrongNode { expected: node, found: found.node });
            }
            Ok(())
        })
    }

    /// Makes a new node's directory, with an empty log. The incarnation in `identity` has to be new random
    /// bits. A creation that was cut short is begun again. It never opens a directory that is there: a node that was
    /// wiped would come back as if nothing had been.
    ///
    /// # Errors
    /// As [`FileStorage::open`], and if the directory holds a node already, or is that of a node that waits.
    pub fn create(files: F, identity: Identity, options: Options) -> Result<(FileStorage<F>, Report), OpenError> {
        options.check()?;
        files.make_directory().map_err(DiskError::of(Operation::Directory, Name::Lock))?;
        let lock = lock(&files)?;
        let names = list(&files)?;
        if names.contains(&Name::Identity) {
            let Identity { node, cluster, .. } = read_identity(&files)?;
            return Err(OpenError::AlreadyCreated { node, cluster });
        }
        if names.contains(&Name::Origin) {
            return Err(OpenError::Waiting);
        }
        if !may_create(&files, &names)? {
            return Err(OpenError::IdentityMissing);
        }
        create_files(&files, &identity, &names, &options)?;
        name_identity(&files)?;
        FileStorage::open_locked(files, lock, identity, None, options)
    }

    /// Makes a directory that waits that of a member, by its origin. The identity takes its name last: where it is, the
    /// log begins as it has to.
    pub(crate) fn create_by_origin(
        files: F,
        lock: F::Lock,
        incarnation: Incarnation,
        origin: Origin,
        options: Options,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        options.check()?;
        let names = list(&files)?;
        let (cluster, node) = (origin.configuration.cluster(), origin.node);
        let identity = Identity { cluster, node, incarnation };
        create_files(&files, &identity, &names, &options)?;
        let first = (origin.how == How::Created).then(|| origin.configuration.clone());
        let (mut storage, mut report) = FileStorage::open_locked(files, lock, identity, Some(origin), options)?;
        if let Some(first) = first {
            bootstrap(&mut storage, &first)?;
            storage.flush()?;
            let saved = storage.saved()?;
            assert!(saved.through == storage.last(), "a flush saves all that was appended");
            (report.entries, report.last) = (1, saved.through);
        }
        name_identity(&storage.files)?;
        Ok((storage, report))
    }

    fn open_checked(
        files: F,
        options: Options,
        check: impl FnOnce(&Identity) -> Result<(), OpenError>,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        options.check()?;
        let names = list(&files)?;
        if !names.contains(&Name::Identity) {
            let segments = names.iter().any(|name| matches!(name, Name::Segment(_) | Name::Snapshot(_)));
            if names.contains(&Name::Origin) {
                return Err(if may_enter(&names) { OpenError::Waiting } else { OpenError::IdentityMissing });
            }
            // Not even the lock is made in a directory that may be none of ours.
            return Err(match (names.contains(&Name::IdentityDraft), segments) {
                (true, _) if may_create(&files, &names)? => OpenError::CreationUnfinished,
                (_, true) => OpenError::IdentityMissing,
                (_, false) => OpenError::NotCreated,
            });
        }
        let lock = lock(&files)?;
        let identity = read_identity(&files)?;
        check(&identity)?;
        let origin = read_origin(&files, &names)?.map(|file| {
            let Identity { cluster, node, incarnation } = identity;
            let fits = |origin: &Origin| origin.configuration.cluster() == cluster && origin.node == node;
            file.origin.filter(|origin| file.incarnation == incarnation && fits(origin)).ok_or(OpenError::OriginDamaged)
        });
        FileStorage::open_locked(files, lock, identity, origin.transpose()?, options)
    }

    fn open_locked(
        files: F,
        lock: F::Lock,
        identity: Identity,
        origin: Option<Origin>,
        options: Options,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        let mut names = list(&files)?;
        if !names.contains(&Name::Identity) {
            // The directory is being made: the draft is not a remnant.
            names.retain(|name| *name != Name::IdentityDraft);
        }
        let recovered = recover(&files, &identity, &names, &options)?;
        let report = recovered.report;
        Ok((FileStorage::new(files, lock, (identity, origin), options, recovered), report))
    }
}

pub(crate) fn list<F: Files>(files: &F) -> Result<Vec<Name>, DiskError> {
    let names = files.list().map_err(DiskError::of(Operation::Directory, Name::Identity))?;
    Ok(names.unwrap_or_default())
}

pub(crate) fn lock<F: Files>(files: &F) -> Result<F::Lock, OpenError> {
    match files.lock().map_err(DiskError::of(Operation::Lock, Name::Lock))? {
        Locking::Held(lock) => Ok(lock),
        Locking::Busy { holder } => Err(OpenError::Locked { holder }),
    }
}

pub(crate) fn read_identity<F: Files>(files: &F) -> Result<Identity, OpenError> {
    let of = |operation| DiskError::of(operation, Name::Identity);
    let file = files.open(Name::Identity).map_err(of(Operation::Open))?;
    if files.length(&file).map_err(of(Operation::Read))? != IDENTITY_BYTES as u64 {
        return Err(OpenError::IdentityDamaged);
    }
    let mut bytes = [0; IDENTITY_BYTES];
    files.read_at(&file, &mut bytes, 0).map_err(DiskError::at(Operation::Read, Name::Identity, 0))?;
    Identity::decode(&bytes).map_err(|error| match error {
        HeaderError::Damaged => OpenError::IdentityDamaged,
        HeaderError::OtherVersion { version } => OpenError::OtherVersion { name: Name::Identity, version },
    })
}

/// How the node came to its cluster, if its directory says so.
pub(crate) fn read_origin<F: Files>(files: &F, names: &[Name]) -> Result<Option<OriginFile>, OpenError> {
    const NAME: Name = Name::Origin;
    if !names.contains(&NAME) {
        return Ok(None);
    }
    let file = files.open(NAME).map_err(DiskError::of(Operation::Open, NAME))?;
    let length = files.length(&file).map_err(DiskError::of(Operation::Read, NAME))?;
    let Some(length) = usize::try_from(length).ok().filter(|&length| length <= ORIGIN_BYTES_MAX) else {
        return Err(OpenError::OriginDamaged);
    };
    let mut bytes = vec![0; length];
    files.read_at(&file, &mut bytes, 0).map_err(DiskError::at(Operation::Read, NAME, 0))?;
    OriginFile::decode(&bytes).map(Some).map_err(|error| match error {
        HeaderError::Damaged => OpenError::OriginDamaged,
        HeaderError::OtherVersion { version } => OpenError::OtherVersion { name: NAME, version },
    })
}

/// Whether a directory without an identity can be that of a node that waits: it holds no log, or no more of one than a
/// creation that was cut short leaves. While there is a draft of the identity, the log was never anyone's.
pub(crate) fn may_enter(names: &[Name]) -> bool {
    let unfinished = names.contains(&Name::Origin) && names.contains(&Name::IdentityDraft);
    names.iter().all(|name| match name {
        Name::Segment(number) => unfinished && *number <= 2,
        Name::Snapshot(_) => false,
        _ => true,
    })
}

/// Whether a directory without an identity is empty, or holds no more than a creation that was cut
/// short: the draft of an identity, and at most a first segment without a batch.
fn may_create<F: Files>(files: &F, names: &[Name]) -> Result<bool, DiskError> {
    let ours = |name: &Name| matches!(name, Name::Segment(_) | Name::Snapshot(_));
    let segments: Vec<Name> = names.iter().copied().filter(ours).collect();
    match segments.as_slice() {
        [] => Ok(true),
        [name @ Name::Segment(1)] if names.contains(&Name::IdentityDraft) => {
            let file = files.open(*name).map_err(DiskError::of(Operation::Open, *name))?;
            let length = files.length(&file).map_err(DiskError::of(Operation::Read, *name))?;
            // The first batch of a log is not made of zeros only.
            let mut bytes = [0; 8];
            if length >= FIRST_BATCH.saturating_add(8) {
                files.read_at(&file, &mut bytes, FIRST_BATCH).map_err(DiskError::at(
                    Operation::Read,
                    *name,
                    FIRST_BATCH,
                ))?;
            }
            Ok(bytes == [0; 8])
        }
        _ => Ok(false),
    }
}

/// Makes the files of a new node, all but for the identity, which is a draft still.
fn create_files<F: Files>(files: &F, identity: &Identity, names: &[Name], options: &Options) -> Result<(), DiskError> {
    for &name in names {
        if matches!(name, Name::Segment(_) | Name::Spare) {
            files.remove(name).map_err(DiskError::of(Operation::Remove, name))?;
        }
    }
    // The draft goes after the segment, as it came before it.
    files.sync_directory().map_err(DiskError::of(Operation::Sync, Name::Lock))?;
    let of = |operation| DiskError::of(operation, Name::IdentityDraft);
    let draft = files.create(Name::IdentityDraft).map_err(of(Operation::Open))?;
    files.write_at(&draft, &identity.encode(), 0).map_err(DiskError::at(Operation::Write, Name::IdentityDraft, 0))?;
    files.sync_data(&draft).map_err(of(Operation::Sync))?;
    // A segment without a draft would look like a node whose identity is gone.
    files.sync_directory().map_err(of(Operation::Sync))?;
    let beginning = Beginning {
        incarnation: identity.incarnation,
        base: Default::default(),
        last: Default::default(),
        hard_state: Default::default(),
    };
    Segment::first(files, beginning, options.segment_bytes_first)?;
    Ok(())
}

/// Ends the creation of a directory: where the identity is, the log is too.
fn name_identity<F: Files>(files: &F) -> Result<(), DiskError> {
    let of = |operation| DiskError::of(operation, Name::IdentityDraft);
    files.rename(Name::IdentityDraft, Name::Identity).map_err(of(Operation::Rename))?;
    files.sync_directory().map_err(of(Operation::Sync))
}
