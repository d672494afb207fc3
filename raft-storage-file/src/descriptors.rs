//! File descriptors: some are kept in reserve for the log, and a shortage is waited out, never final.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most descriptors that one [`Directory`](crate::Directory) has open at a time, those in reserve included: the
/// lock, the segment that is written, the one that is read, the next one and its draft, up to four files of snapshots, a
/// sync on another thread, and the directory itself.
pub const DESCRIPTORS_MAX: usize = 12 + RESERVED;

/// Kept in reserve: as many as may be opened in a row before one is closed.
const RESERVED: usize = 6;

/// The wait between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// The reserve of one directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Descriptors(Arc<Mutex<Vec<File>>>);

impl Descriptors {
    /// Opens a file by `open`, from the reserve and then after a wait if there are no descriptors. Fills the reserve
    /// up as far as it goes, by opening `directory`.
    ///
    /// # Errors
    /// Those of `open`, but for a shortage of descriptors.
    pub(crate) fn open<T>(&self, directory: &Path, mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                Err(error) if is_shortage(&error) => {
                    // Dropped at once: the next attempt takes its place.
                    if self.files().pop().is_none() {
                        thread::sleep(PAUSE);
                    }
                }
                opened => {
                    self.fill(directory);
                    return opened;
                }
            }
        }
    }

    /// Fills the reserve as far as there are descriptors.
    pub(crate) fn fill(&self, directory: &Path) {
        let mut files = self.files();
        while files.len() < RESERVED {
            match File::open(directory) {
                Ok(file) => files.push(file),
                // There is no directory yet, or a shortage; where directories cannot be opened there is no reserve.
                Err(_) => return,
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        // Nothing is done with it that could leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process (`EMFILE`) or the system (`ENFILE`) has no descriptor left.
#[cfg(unix)]
fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(not(unix))]
fn is_shortage(_error: &io::Error) -> bool {
    false
}
