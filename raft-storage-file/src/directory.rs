//! The real file system behind [`Files`]: thin, so that what decides stays where it is simulated.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::descriptors::Descriptors;
use crate::files::{Files, Locking, Name};

/// How many zeros are written between two syncs: few enough that a commit which has to share the
/// disk with them is not held up for long.
const ZEROING_STEP_BYTES: u64 = 1 << 20;

/// A directory of the file system.
///
/// From its first use on it keeps a few file descriptors in reserve. Where there are none left, that is waited
/// out: a call blocks until one is free. See [`DESCRIPTORS_MAX`](crate::DESCRIPTORS_MAX).
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    descriptors: Descriptors,
}

impl Directory {
    /// The directory at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Directory {
        Directory { path: path.into(), descriptors: Descriptors::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: Name) -> PathBuf {
        self.path.join(name.to_string())
    }

    fn opened<T>(&self, open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.descriptors.open(&self.path, open)
    }

    #[cfg(unix)]
    fn sync_names(&self, path: &Path) -> io::Result<()> {
        self.opened(|| File::open(path))?.sync_all()
    }

    /// Elsewhere a directory cannot be opened as a file, and names are durable with their files.
    #[cfg(not(unix))]
    fn sync_names(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The lock of a [`Directory`]. The system frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// A thread that fills one file with zeros; dropping it stops and joins the thread, so that no
/// zeros are written to a file that is used for something else by then.
#[derive(Debug)]
pub struct ZeroingThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<File>>>,
}

impl Drop for ZeroingThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nobody waits for the file any more: neither its error nor a panic matters.
            let _ = thread.join();
        }
    }
}

/// A thread that syncs one file. Dropping it leaves the thread to itself: it changes nothing that
/// could be in anybody's way.
#[derive(Debug)]
pub struct SyncThread {
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Files for Directory {
    type File = File;
    type Lock = DirectoryLock;
    type Zeroing = ZeroingThread;
    type Syncing = SyncThread;

    fn list(&self) -> io::Result<Option<Vec<Name>>> {
        let entries = match self.opened(|| fs::read_dir(&self.path)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        Ok(Some(names))
    }

    fn make_directory(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        // Each directory on the way that is not there yet is a name in its parent, which has to be
        // durable before anything in it can be.
        let missing: Vec<&Path> = self.path.ancestors().take_while(|path| !path.is_dir()).collect();
        fs::create_dir_all(&self.path)?;
        for path in missing {
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => self.sync_names(parent)?,
                _ => self.sync_names(Path::new("."))?,
            }
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Locking<DirectoryLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = self.opened(|| options.open(self.file(Name::Lock)))?;
        match file.try_lock() {
            Ok(()) => {
                // Who it is only makes another process's message better, and a full disk may have no room for it.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                Ok(Locking::Held(DirectoryLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who it is only makes the message better.
                let holder = match file.take(32).read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                Ok(Locking::Busy { holder })
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, name: Name) -> io::Result<File> {
        self.opened(|| create(&self.file(name)))
    }

    fn open(&self, name: Name) -> io::Result<File> {
        self.opened(|| OpenOptions::new().read(true).write(true).open(self.file(name)))
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn read_at(&self, mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    #[cfg(unix)]
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn write_at(&self, mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.seek(io::SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.sync_names(&self.path)
    }

    fn rename(&self, from: Name, to: Name) -> io::Result<()> {
        fs::rename(self.file(from), self.file(to))
    }

    fn remove(&self, name: Name) -> io::Result<()> {
        fs::remove_file(self.file(name))
    }

    fn begin_zeroing(&self, name: Name, bytes: u64) -> io::Result<ZeroingThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let (directory, path, stopped) = (self.clone(), self.file(name), Arc::clone(&stop));
        let thread = thread::Builder::new().name("raft-zeroing".into()).spawn(move || {
            let zeroed = directory.opened(|| create(&path)).and_then(|file| zero(file, bytes, &stopped));
            if zeroed.is_err() {
                // A full disk gets its space back; if that fails too, the next start does it.
                let _ = fs::remove_file(&path);
            }
            zeroed
        })?;
        Ok(ZeroingThread { stop, thread: Some(thread) })
    }

    fn zeroed(&self, zeroing: &mut ZeroingThread) -> Option<io::Result<File>> {
        if !zeroing.thread.as_ref()?.is_finished() {
            return None;
        }
        let panicked = |_| Err(io::Error::other("the thread that fills a segment with zeros panicked"));
        zeroing.thread.take().map(|thread| thread.join().unwrap_or_else(panicked))
    }

    fn begin_sync(&self, file: &File) -> io::Result<SyncThread> {
        let file = self.opened(|| file.try_clone())?;
        let thread = thread::Builder::new().name("raft-sync".into()).spawn(move || file.sync_data())?;
        Ok(SyncThread { thread: Some(thread) })
    }

    fn synced(&self, syncing: &mut SyncThread) -> Option<io::Result<()>> {
        if !syncing.thread.as_ref()?.is_finished() {
            return None;
        }
        let panicked = |_| Err(io::Error::other("the thread that syncs a snapshot panicked"));
        syncing.thread.take().map(|thread| thread.join().unwrap_or_else(panicked))
    }
}

fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

fn zero(mut file: File, bytes: u64, stopped: &AtomicBool) -> io::Result<File> {
    let zeros = vec![0; usize::try_from(ZEROING_STEP_BYTES).unwrap_or(1 << 16)];
    let mut left = bytes;
    while left > 0 {
        if stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..step).unwrap_or(&zeros))?;
        file.sync_data()?;
        left = left.saturating_sub(step as u64);
    }
    Ok(file)
}
