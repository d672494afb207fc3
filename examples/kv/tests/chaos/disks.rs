//! Disks that are small, or fail in the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::namespaces::run;

/// Something that is mounted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mount {
    point: PathBuf,
}

impl Mount {
    /// A disk in memory, of so many MiB.
    pub(crate) fn memory(point: &Path, mib: u32) -> Mount {
        fs::create_dir_all(point).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "kv-chaos", point.to_str().unwrap()]);
        Mount { point: point.to_path_buf() }
    }

    /// Gives a disk in memory another size.
    pub(crate) fn resize(&self, mib: u32) {
        run("mount", &["-o", &format!("remount,size={mib}m"), self.point.to_str().unwrap()]);
    }

    /// The file system in an image. The kernel gives the loop device back when it is unmounted.
    pub(crate) fn try_image(image: &Path, point: &Path) -> Option<Mount> {
        let mut mount = Command::new("mount");
        let output = mount.args(["-o", "loop,errors=continue"]).args([image, point]).output().ok()?;
        output.status.success().then(|| Mount { point: point.to_path_buf() })
    }

    pub(crate) fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let point = self.point.as_os_str();
        let done = Command::new("umount").arg(point).output().is_ok_and(|output| output.status.success());
        if !done {
            let _ = Command::new("umount").arg("-l").arg(point).output();
        }
    }
}

/// An ext4 file system in a sparse file on a disk in memory that is smaller than it. When that is full, the kernel
/// takes writes and cannot carry them out: it says so to the first sync, and to no other.
#[derive(Debug)]
pub(crate) struct FailingDisk {
    // Unmounted in this order.
    inner: Option<Mount>,
    below: Mount,
    point: PathBuf,
}

impl FailingDisk {
    pub(crate) fn new(folder: &Path) -> FailingDisk {
        let below = Mount::memory(&folder.join("below"), 48);
        let point = folder.join("disk");
        fs::create_dir_all(&point).unwrap();
        let mut disk = FailingDisk { inner: None, below, point };
        let image = disk.image();
        File::create(&image).unwrap().set_len(128 << 20).unwrap();
        // With a journal the file system would notice, and refuse everything: the hard case is the one that goes on.
        run("mkfs.ext4", &["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", image.to_str().unwrap()]);
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.below.point().join("image")
    }

    fn ballast(&self) -> PathBuf {
        self.below.point().join("ballast")
    }

    /// Where files are put.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    fn mount(&mut self) {
        self.inner = Mount::try_image(&self.image(), &self.point);
        assert!(self.inner.is_some(), "the image cannot be mounted");
    }

    /// Forgets what the page cache holds, as a restart of the machine would.
    pub(crate) fn mount_again(&mut self) {
        self.inner = None;
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let point = self.point.to_str().unwrap();
        assert!(!mounts.lines().any(|line| line.split(' ').nth(1) == Some(point)), "it is still mounted");
        self.mount();
    }

    /// From now on nothing can be written where zeros stand. What is there stays as it is.
    pub(crate) fn fill(&self) {
        run("sync", &["-f", self.point.to_str().unwrap()]);
        run("fallocate", &["--dig-holes", self.image().to_str().unwrap()]);
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        for bytes in [1 << 20, 4096] {
            while ballast.write_all(&vec![7; bytes]).is_ok() {}
        }
    }

    /// There is room again.
    pub(crate) fn mend(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

/// How many blocks of a file read otherwise from the disk than from the page cache.
pub(crate) fn blocks_not_on_disk(file: &Path) -> usize {
    const BLOCK: usize = 4096;
    let input = format!("if={}", file.display());
    let disk = run("dd", &[&input, "bs=4096", "iflag=direct", "status=none"]).stdout;
    let cached = fs::read(file).unwrap();
    cached.chunks(BLOCK).zip(disk.chunks(BLOCK)).filter(|(cached, disk)| cached != disk).count()
}
