//! The directory of a node that belongs to no cluster yet.

use raft_core::types::Incarnation;

use crate::directory::Directory;
use crate::error::{DiskError, OpenError, Operation};
use crate::files::{Files, Name};
use crate::format::{Identity, Origin, OriginFile};
use crate::options::Options;
use crate::recovery::Report;
use crate::storage::FileStorage;
use crate::storage::open::{list, lock, may_enter, read_identity, read_origin};

/// The directory of a node that waits until a cluster is created with it, or until it is added to one.
///
/// In this order: [`WaitingDirectory::enter`]; [`WaitingDirectory::promise`], once it is known to which cluster the node
/// comes; [`WaitingDirectory::complete`]. From then on the directory is a member's, and
/// [`FileStorage::open`] opens it.
#[derive(Debug)]
pub struct WaitingDirectory<F: Files = Directory> {
    files: F,
    lock: F::Lock,
    incarnation: Incarnation,
    origin: Option<Origin>,
}

impl<F: Files> WaitingDirectory<F> {
    /// Makes an empty directory that of a node that waits, or returns to one that is. `fresh` has to be new random bits:
    /// it becomes the incarnation of a directory that is made.
    ///
    /// # Errors
    /// [`OpenError::AlreadyCreated`] for the directory of a member, [`OpenError::IdentityMissing`] for one that holds a
    /// log; nothing in them was changed. [`OpenError::Locked`] if another process uses it.
    pub fn enter(files: F, fresh: Incarnation) -> Result<WaitingDirectory<F>, OpenError> {
        files.make_directory().map_err(DiskError::of(Operation::Directory, Name::Lock))?;
        let lock = lock(&files)?;
        let names = list(&files)?;
        if names.contains(&Name::Identity) {
            let Identity { node, cluster, .. } = read_identity(&files)?;
            return Err(OpenError::AlreadyCreated { node, cluster });
        }
        if !may_enter(&names) {
            return Err(OpenError::IdentityMissing);
        }
        if let Some(OriginFile { incarnation, origin }) = read_origin(&files, &names)? {
            return Ok(WaitingDirectory { files, lock, incarnation, origin });
        }
        let directory = WaitingDirectory { files, lock, incarnation: fresh, origin: None };
        directory.write(None)?;
        Ok(directory)
    }

    /// The life of the node's storage. It stays the same when the node becomes a member.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What was promised; `None` while the node can come to any cluster.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Promises durably how the node comes to its cluster. To promise the same again does nothing.
    ///
    /// # Errors
    /// [`OpenError::Promised`] if something else was promised: it was not changed. [`OpenError::Disk`]: what is promised
    /// is not known before the directory has been entered again.
    pub fn promise(&mut self, origin: Origin) -> Result<(), OpenError> {
        match &self.origin {
            Some(promised) if *promised == origin => Ok(()),
            Some(promised) => {
                let (cluster, node) = (promised.configuration.cluster(), promised.node);
                Err(OpenError::Promised { cluster, node })
            }
            None => {
                self.write(Some(&origin))?;
                self.origin = Some(origin);
                Ok(())
            }
        }
    }

    /// Makes the directory that of a member of the cluster that was promised. The log of a node that the cluster is
    /// created with begins with the configuration. Cut short, it can be done again.
    ///
    /// # Errors
    /// [`OpenError::Waiting`] if nothing was promised; else as [`FileStorage::open`].
    pub fn complete(self, options: Options) -> Result<(FileStorage<F>, Report), OpenError> {
        let origin = self.origin.ok_or(OpenError::Waiting)?;
        FileStorage::create_by_origin(self.files, self.lock, self.incarnation, origin, options)
    }

    fn write(&self, origin: Option<&Origin>) -> Result<(), DiskError> {
        const DRAFT: Name = Name::OriginDraft;
        let bytes = OriginFile { incarnation: self.incarnation, origin: origin.cloned() }.encode();
        let file = self.files.create(DRAFT).map_err(DiskError::of(Operation::Open, DRAFT))?;
        self.files.write_at(&file, &bytes, 0).map_err(DiskError::at(Operation::Write, DRAFT, 0))?;
        self.files.sync_data(&file).map_err(DiskError::of(Operation::Sync, DRAFT))?;
        self.files.rename(DRAFT, Name::Origin).map_err(DiskError::of(Operation::Rename, Name::Origin))?;
        self.files.sync_directory().map_err(DiskError::of(Operation::Sync, Name::Origin))
    }
}
