//! The one narrow door to the file system.
//!
//! All that this crate does with files goes through [`Files`]: [`Directory`](crate::Directory)
//! is the real one, [`Disk`](crate::simulated::Disk) one that loses power on command.

use std::fmt;
use std::io;

use raft_core::types::{EntryId, Index, Term};

/// The files of a node's directory. A directory may hold other files too; they are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Name {
    /// `lock`: held by the process that uses the directory; holds its process id.
    Lock,
    /// `identity`: whose directory it is. Its appearance ends the creation of the directory.
    Identity,
    /// `identity.tmp`: the identity while the directory is being created.
    IdentityDraft,
    /// `origin`: how the node came to its cluster, or that it waits for one.
    Origin,
    /// `origin.tmp`: that file while it is being written.
    OriginDraft,
    /// `<number>.wal`: a segment of the log.
    Segment(u64),
    /// `suspect`: the log may lack entries that it acknowledged.
    Suspect,
    /// `suspect.tmp`: that file while it is being written.
    SuspectDraft,
    /// `spare.tmp`: the next segment while it is being filled with zeros.
    Spare,
    /// `reserve`: room that is kept free for snapshots.
    Reserve,
    /// `<number>-<offset>.torn`: the bytes that recovery cut off a segment at that offset.
    Torn {
        /// The segment's number.
        segment: u64,
        /// The offset in the segment.
        offset: u64,
    },
    /// `<index>-<term>.snap`: the snapshot whose last entry that is.
    Snapshot(EntryId),
    /// `<number>.draft`: a snapshot that is being made or received, or is not yet durable.
    Draft(u64),
}

impl Name {
    /// The file of that name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Name> {
        let known = match name {
            "lock" => Name::Lock,
            "identity" => Name::Identity,
            "identity.tmp" => Name::IdentityDraft,
            "origin" => Name::Origin,
            "origin.tmp" => Name::OriginDraft,
            "suspect" => Name::Suspect,
            "suspect.tmp" => Name::SuspectDraft,
            "spare.tmp" => Name::Spare,
            "reserve" => Name::Reserve,
            _ => match name.split_once('.')? {
                (number, "wal") => Name::Segment(number.parse().ok()?),
                (number, "draft") => Name::Draft(number.parse().ok()?),
                (entry, "snap") => {
                    let (index, term) = entry.split_once('-')?;
                    Name::Snapshot(EntryId::new(Term(term.parse().ok()?), Index(index.parse().ok()?)))
                }
                (place, "torn") => {
                    let (segment, offset) = place.split_once('-')?;
                    Name::Torn { segment: segment.parse().ok()?, offset: offset.parse().ok()? }
                }
                _ => return None,
            },
        };
        // Numbers are written in one way only: a `1.wal` beside `0000000001.wal` is not ours.
        (known.to_string() == name).then_some(known)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Lock => formatter.write_str("lock"),
            Name::Identity => formatter.write_str("identity"),
            Name::IdentityDraft => formatter.write_str("identity.tmp"),
            Name::Origin => formatter.write_str("origin"),
            Name::OriginDraft => formatter.write_str("origin.tmp"),
            Name::Segment(number) => write!(formatter, "{number:010}.wal"),
            Name::Suspect => formatter.write_str("suspect"),
            Name::SuspectDraft => formatter.write_str("suspect.tmp"),
            Name::Spare => formatter.write_str("spare.tmp"),
            Name::Reserve => formatter.write_str("reserve"),
            Name::Torn { segment, offset } => write!(formatter, "{segment:010}-{offset}.torn"),
            Name::Snapshot(EntryId { term, index }) => write!(formatter, "{:010}-{}.snap", index.0, term.0),
            Name::Draft(number) => write!(formatter, "{number:010}.draft"),
        }
    }
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Locking<L> {
    /// It is held until the value is dropped.
    Held(L),
    /// Another process holds it.
    Busy {
        /// The other process, if it could be read.
        holder: Option<u32>,
    },
}

/// What the log asks of a file system: one directory, flat, of files that it alone uses.
///
/// Durability is what POSIX gives and no more: bytes written last after [`Files::sync_data`] on
/// their file, names after [`Files::sync_directory`]; until then any part of them may be lost. An
/// error is never tried again.
pub trait Files: fmt::Debug {
    /// An open file, for reading and writing.
    type File: fmt::Debug;
    /// Keeps other processes out while it lives.
    type Lock: fmt::Debug;
    /// A file that is being filled with zeros. Dropping it ends the work.
    type Zeroing: fmt::Debug;
    /// A file that is being synced. Dropping it only means that nobody asks for the outcome any more.
    type Syncing: fmt::Debug;

    /// The files in the directory, in any order; `None` if there is no directory.
    ///
    /// # Errors
    /// The system's error, as for every method here.
    fn list(&self) -> io::Result<Option<Vec<Name>>>;

    /// Makes the directory, durably; does nothing if it is there.
    ///
    /// # Errors
    /// The system's error.
    fn make_directory(&self) -> io::Result<()>;

    /// Takes the directory's lock, without waiting for it.
    ///
    /// # Errors
    /// The system's error; that another process holds it is none.
    fn lock(&self) -> io::Result<Locking<Self::Lock>>;

    /// Makes a new, empty file; one of that name that is there is unlinked first.
    ///
    /// # Errors
    /// The system's error.
    fn create(&self, name: Name) -> io::Result<Self::File>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// The system's error.
    fn open(&self, name: Name) -> io::Result<Self::File>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// The system's error.
    fn length(&self, file: &Self::File) -> io::Result<u64>;

    /// Fills `bytes` from the file.
    ///
    /// # Errors
    /// The system's error, or [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, file: &Self::File, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes`; the file grows if they go beyond its end.
    ///
    /// # Errors
    /// The system's error; some of the bytes may be written then.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// The system's error: what was written since the last sync may be lost then, although it
    /// can still be read.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// The system's error.
    fn sync_directory(&self) -> io::Result<()>;

    /// Renames a file, in one step; one that has the new name already is replaced.
    ///
    /// # Errors
    /// The system's error.
    fn rename(&self, from: Name, to: Name) -> io::Result<()>;

    /// Unlinks a file.
    ///
    /// # Errors
    /// The system's error.
    fn remove(&self, name: Name) -> io::Result<()>;

    /// Begins to create the file, to fill it with `bytes` zeros and to sync them, away from the
    /// caller's thread if there are threads. Nobody else touches a file of that name until
    /// [`Files::zeroed`] has said that it is done.
    ///
    /// # Errors
    /// The system's error.
    fn begin_zeroing(&self, name: Name, bytes: u64) -> io::Result<Self::Zeroing>;

    /// Whether that is done, without waiting: the file, or why it failed. Not called again after
    /// it has given either.
    fn zeroed(&self, zeroing: &mut Self::Zeroing) -> Option<io::Result<Self::File>>;

    /// Begins what [`Files::sync_data`] does, away from the caller's thread if there are threads.
    /// What is written to the file from then on may be synced or not.
    ///
    /// # Errors
    /// The system's error.
    fn begin_sync(&self, file: &Self::File) -> io::Result<Self::Syncing>;

    /// Whether that is done, without waiting, and how it went. Not called again after it has
    /// given either.
    fn synced(&self, syncing: &mut Self::Syncing) -> Option<io::Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_and_read_alike() {
        let names = [
            Name::Lock,
            Name::Identity,
            Name::IdentityDraft,
            Name::Origin,
            Name::OriginDraft,
            Name::Segment(1),
            Name::Segment(u64::MAX),
            Name::Suspect,
            Name::SuspectDraft,
            Name::Spare,
            Name::Reserve,
            Name::Torn { segment: 7, offset: 128 },
            Name::Snapshot(EntryId::new(Term(3), Index(500))),
            Name::Draft(1),
        ];
        for name in names {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for foreign in [
            "",
            "1.wal",
            "+000000001.wal",
            "0000000001.wal.bak",
            "lost+found",
            "x.torn",
            "-.torn",
            "5-3.snap",
            "0000000005.snap",
        ] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }
}
