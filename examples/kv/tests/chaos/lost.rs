//! A disk that fails in the kernel: the first sync says so, the next one would succeed, and the data is gone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Cluster, with_cluster};
use crate::disks::{FailingDisk, blocks_not_on_disk};
use crate::rights::{self, Need};

/// Longer than two blocks of the file system, so that each one reaches into blocks without room.
const VALUE_BYTES: usize = 10_000;

#[test]
fn what_was_served_after_a_failed_sync_is_on_the_disk() {
    let name = "what_was_served_after_a_failed_sync_is_on_the_disk";
    if !rights::granted(name, &[Need::Namespaces, Need::Mounts, Need::Images]) {
        return;
    }
    // With one node nobody else can answer or repair anything.
    with_cluster(1, &[], |cluster, _| {
        let mut disk = FailingDisk::new(&cluster.nodes.disk(1));
        cluster.nodes.put_data_at(1, disk.point().join("data"));
        cluster.start(1);
        cluster.settle();
        let mut client = cluster.client(Duration::from_secs(20));
        for number in 0..40 {
            client.put(&format!("key-{number}"), &value(number)).unwrap();
        }
        disk.fill();
        let acknowledged = write_until_it_ends(cluster, 40);
        let lost: usize = segments(cluster).iter().map(|file| blocks_not_on_disk(file)).sum();
        println!("the page cache shows {lost} blocks that are not on the disk");
        assert!(lost > 0, "the kernel has kept the data");
        refuses_while_the_disk_fails(cluster);

        disk.mend();
        cluster.start(1);
        cluster.settle();
        let served = read(cluster, acknowledged + 1);
        assert!(served[..acknowledged].iter().enumerate().all(|(number, found)| *found == Some(value(number))));
        cluster.nodes.kill(1);
        // What was only in memory is gone now.
        disk.mount_again();
        cluster.start(1);
        cluster.settle();
        assert_eq!(read(cluster, acknowledged + 1), served, "what was served is not there any more");
        cluster.nodes.kill(1);
    });
}

fn value(number: usize) -> String {
    format!("{number:>VALUE_BYTES$}")
}

fn segments(cluster: &Cluster<'_>) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.nodes.data(1)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.is_file() && fs::metadata(file).unwrap().len() > 1 << 20).collect()
}

/// Writes values from number `from` on until the node ends; gives how many are acknowledged in all. The one behind them
/// is in doubt.
fn write_until_it_ends(cluster: &mut Cluster<'_>, from: usize) -> usize {
    let mut client = cluster.client(Duration::from_secs(2));
    let acknowledged = (from..).find(|&number| client.put(&format!("key-{number}"), &value(number)).is_err());
    let (status, said) = cluster.nodes.end(1);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("syncing 00000000") && said.contains(".wal failed") && is_of_the_disk(&said), "{said}");
    acknowledged.unwrap()
}

/// Started again while the disk still fails, the node must not serve what only the page cache holds.
fn refuses_while_the_disk_fails(cluster: &mut Cluster<'_>) {
    cluster.start(1);
    let (status, said) = cluster.nodes.end(1);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("kv serve: the data in ") && is_of_the_disk(&said), "{said}");
}

/// Kernels differ in what they call it.
fn is_of_the_disk(said: &str) -> bool {
    said.contains("Input/output error") || said.contains("No space left on device")
}

fn read(cluster: &Cluster<'_>, count: usize) -> Vec<Option<String>> {
    let mut client = cluster.client(Duration::from_secs(20));
    (0..count).map(|number| client.get(&format!("key-{number}"))).collect()
}
