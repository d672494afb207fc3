//! What a test needs of the machine, and leaving it out where that lacks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::disks::Mount;
use crate::namespaces;

/// What a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Network namespaces, with bridges between them.
    Namespaces,
    /// Packets that are dropped by rule and by chance.
    Filters,
    /// System calls that are made to fail.
    Injection,
    /// A clock that is made to jump.
    Clock,
    /// Small disks in memory.
    Mounts,
    /// A file system on a file.
    Images,
}

/// Whether the machine has all that is needed. If not, it says so, and the test is over.
pub(crate) fn granted(test: &str, needs: &[Need]) -> bool {
    namespaces::sweep();
    let Some(missing) = needs.iter().find_map(|need| missing(*need)) else { return true };
    assert!(std::env::var_os("CHAOS_REQUIRED").is_none(), "{test}: {missing}, and CHAOS_REQUIRED is set");
    println!("SKIPPED {test}: {missing}");
    false
}

fn missing(need: Need) -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("it has to run as root");
    }
    let (works, otherwise) = match need {
        Need::Namespaces => (namespaces_work(), "network namespaces cannot be made (Debian: iproute2)"),
        Need::Filters => (filters_work(), "nft cannot drop packets by chance (Debian: nftables)"),
        Need::Injection => (injection_works(), "strace cannot make system calls fail (Debian: strace)"),
        Need::Clock => (fake_clock().is_some(), "libfaketime is missing (Debian: faketime)"),
        Need::Mounts => (mounts_work(), "file systems cannot be mounted (Debian: mount)"),
        Need::Images => (images_work(), "there are no loop devices, or no mkfs.ext4 (Debian: e2fsprogs)"),
    };
    (!works).then_some(otherwise)
}

/// The library that fakes the clock.
pub(crate) fn fake_clock() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn namespaces_work() -> bool {
    let name = namespaces::name("probe");
    let made = works("ip", &["netns", "add", &name])
        && works("ip", &["-n", &name, "link", "add", "bridge", "type", "bridge"])
        && works("ip", &["-n", &name, "link", "add", "one", "type", "veth", "peer", "name", "other"]);
    works("ip", &["netns", "del", &name]);
    made
}

fn filters_work() -> bool {
    let name = namespaces::name("filter");
    let rule = "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
                add rule inet t c numgen random mod 100 < 1 drop";
    let made = works("ip", &["netns", "add", &name]) && works("ip", &["netns", "exec", &name, "nft", rule]);
    works("ip", &["netns", "del", &name]);
    made
}

fn injection_works() -> bool {
    works("strace", &["-D", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1", "true"])
}

fn mounts_work() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mounted = works("mount", &["-t", "tmpfs", "-o", "size=1m", "kv-chaos", folder.path().to_str().unwrap()]);
    let _ = works("umount", &[folder.path().to_str().unwrap()]);
    mounted
}

fn images_work() -> bool {
    if !works("mkfs.ext4", &["-V"]) || !works("fallocate", &["--version"]) {
        return false;
    }
    let folder = tempfile::Builder::new().prefix(&namespaces::name("probe")).tempdir().unwrap();
    let (image, point) = (folder.path().join("image"), folder.path().join("point"));
    fs::create_dir(&point).unwrap();
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    works("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]) && Mount::try_image(&image, &point).is_some()
}
