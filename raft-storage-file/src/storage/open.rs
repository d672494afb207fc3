//! Creating and opening a directory.

use raft_core::types::{ClusterId, NodeId};

use super::FileStorage;
use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Locking, Name};
use crate::format::{FIRST_BATCH, HeaderError, IDENTITY_BYTES, Identity};
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

    /// Makes a new node's directory and opens it. The incarnation in `identity` has to be new random
    /// bits. A creation that was cut short is begun anew.
    ///
    /// # Errors
    /// As [`FileStorage::open`], and if the directory holds a node already.
    pub fn create(files: F, identity: Identity, options: Options) -> Result<(FileStorage<F>, Report), OpenError> {
        options.check()?;
        files.make_directory().map_err(DiskError::of(Operation::Directory, Name::Lock))?;
        let lock = lock(&files)?;
        let names = list(&files)?;
        if names.contains(&Name::Identity) {
            let Identity { node, cluster, .. } = read_identity(&files)?;
            return Err(OpenError::AlreadyCreated { node, cluster });
        }
        if !may_create(&files, &names)? {
            return Err(OpenError::IdentityMissing);
        }
        create_files(&files, &identity, &names, &options)?;
        FileStorage::open_locked(files, lock, identity, options)
    }

    /// Opens the directory of the node of `identity`, or makes it if there is none. The incarnation is
    /// that of the directory if there is one.
    ///
    /// # Errors
    /// As [`FileStorage::open_as`] and [`FileStorage::create`].
    pub fn open_or_create(
        files: F,
        identity: Identity,
        options: Options,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        if list(&files)?.contains(&Name::Identity) {
            FileStorage::open_as(files, identity.cluster, identity.node, options)
        } else {
            FileStorage::create(files, identity, options)
        }
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
        FileStorage::open_locked(files, lock, identity, options)
    }

    fn open_locked(
        files: F,
        lock: F::Lock,
        identity: Identity,
        options: Options,
    ) -> Result<(FileStorage<F>, Report), OpenError> {
        let names = list(&files)?;
        let recovered = recover(&files, &identity, &names, &options)?;
        let report = recovered.report;
        Ok((FileStorage::new(files, lock, identity, options, recovered), report))
    }
}

fn list<F: Files>(files: &F) -> Result<Vec<Name>, DiskError> {
    let names = files.list().map_err(DiskError::of(Operation::Directory, Name::Identity))?;
    Ok(names.unwrap_or_default())
}

fn lock<F: Files>(files: &F) -> Result<F::Lock, OpenError> {
    match files.lock().map_err(DiskError::of(Operation::Lock, Name::Lock))? {
        Locking::Held(lock) => Ok(lock),
        Locking::Busy { holder } => Err(OpenError::Locked { holder }),
    }
}

fn read_identity<F: Files>(files: &F) -> Result<Identity, OpenError> {
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

/// Makes the files of a new node. The identity takes its name last: where it is, the log is too.
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
    files.rename(Name::IdentityDraft, Name::Identity).map_err(of(Operation::Rename))?;
    files.sync_directory().map_err(of(Operation::Sync))
}
