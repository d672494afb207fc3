//! What the figures were measured on: processor, kernel, file system, and what one sync costs there.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Bytes of each write of the probe: one sector.
const WRITE_BYTES: usize = 512;
/// Length of the file that the probe overwrites.
const FILE_BYTES: usize = 1 << 20;
/// The probe ends after so many syncs …
const SYNCS_MAX: usize = 500;
/// … or after so long.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// The machine and the disk under one folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Model name of the first processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Type of the file system of the folder.
    pub filesystem: String,
    /// What syncs cost, probed before each turn of the systems.
    pub syncs: Vec<SyncCost>,
}

/// One probe of the disk: overwrites of 512 bytes of a preallocated file, each followed by `fdatasync`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SyncCost {
    /// Median in microseconds.
    pub p50_us: f64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
}

impl SyncCost {
    /// Measures the disk of `dir`, where a file is made and removed.
    pub fn measure(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("fdatasync.{}.probe", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let times = sync_times(&file);
        fs::remove_file(&path)?;
        let mut times = times?;
        times.sort_unstable();
        let micros = |position: usize| {
            let micros = times.get(position).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
            (micros * 10.0).round() / 10.0
        };
        Ok(Self { p50_us: micros(times.len() / 2), p99_us: micros(times.len() * 99 / 100) })
    }
}

impl Machine {
    /// Looks at the machine and at the file system of `dir`, whose `syncs` were probed before.
    pub fn describe(dir: &Path, syncs: Vec<SyncCost>) -> io::Result<Self> {
        Ok(Self {
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo")?),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            filesystem: filesystem(&fs::read_to_string("/proc/self/mountinfo")?, &dir.canonicalize()?),
            syncs,
        })
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, kernel, filesystem, syncs } = self;
        writeln!(f, "{cpu}, {cores} cores, Linux {kernel}, {filesystem}")?;
        let mut medians: Vec<f64> = syncs.iter().map(|cost| cost.p50_us).collect();
        medians.sort_by(f64::total_cmp);
        if let (Some(low), Some(high), Some(middle)) = (medians.first(), medians.last(), medians.get(medians.len() / 2))
        {
            writeln!(f, "fdatasync of 512 bytes: median {middle:.0} µs; before each turn {low:.0} to {high:.0} µs")?;
        }
        Ok(())
    }
}

/// Not every architecture names a model.
fn cpu_model(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The type of the mount nearest above `path`; of several on one point the last, since it covers the others.
fn filesystem(mountinfo: &str, path: &Path) -> String {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        Some((mount.split(' ').nth(4)?, rest.split(' ').next()?))
    });
    let nearest = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len());
    nearest.map_or("unknown", |(_, kind)| kind).to_owned()
}

fn sync_times(file: &File) -> io::Result<Vec<Duration>> {
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let begin = Instant::now();
    let mut times = Vec::with_capacity(SYNCS_MAX);
    // The content changes with every write, so that no layer below can skip it.
    while times.len() < SYNCS_MAX && begin.elapsed() < PROBE_MAX {
        let offset = times.len() * WRITE_BYTES % FILE_BYTES;
        let fill = u8::try_from(times.len() % 251).expect("a remainder below 251") + 1;
        let started = Instant::now();
        file.write_all_at(&[fill; WRITE_BYTES], offset as u64)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts_and_the_last_of_equals() {
        let mountinfo = "\
1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:9 / /a rw shared:1 - tmpfs tmpfs rw
3 1 0:9 / /a rw - xfs /dev/sdb rw
4 1 0:9 / /ab rw - proc proc rw";
        assert_eq!(filesystem(mountinfo, Path::new("/a/b")), "xfs");
        assert_eq!(filesystem(mountinfo, Path::new("/abc")), "ext4");
        assert_eq!(filesystem("", Path::new("/abc")), "unknown");
    }

    #[test]
    fn a_processor_without_a_model_has_its_architecture() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(cpu_model("processor\t: 0\n"), std::env::consts::ARCH);
    }

    #[test]
    fn this_machine_can_be_described() {
        let dir = std::env::temp_dir();
        let cost = SyncCost::measure(&dir).expect("the temporary folder is writable");
        assert!(cost.p50_us > 0.0 && cost.p50_us <= cost.p99_us);
        let machine = Machine::describe(&dir, vec![cost]).expect("/proc is there");
        assert!(machine.cores > 0 && !machine.kernel.is_empty());
        assert!(machine.to_string().contains("fdatasync of 512 bytes"));
    }
}
