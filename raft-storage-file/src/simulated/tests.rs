//! What the simulated disk promises, and what it breaks on command.

use std::io;

use super::*;
use crate::files::Files;

const NAME: Name = Name::Segment(1);

/// A disk with one durable file of three sectors of ones, and that file.
fn disk() -> (Disk, SimulatedFile) {
    let disk = Disk::new();
    disk.make_directory().unwrap();
    let file = disk.create(NAME).unwrap();
    disk.write_at(&file, &[1; 3 * SECTOR], 0).unwrap();
    disk.sync_data(&file).unwrap();
    disk.sync_directory().unwrap();
    (disk, file)
}

fn read(disk: &Disk, file: &SimulatedFile, bytes: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut found = vec![0; bytes];
    disk.read_at(file, &mut found, offset).map(|()| found)
}

#[test]
fn what_was_not_synced_may_be_lost_sector_by_sector() {
    let (disk, file) = disk();
    disk.write_at(&file, &[2; 2 * SECTOR], 512).unwrap();
    disk.write_at(&file, &[2; 10], 3 * 512).unwrap();
    let things = disk.unsynced();
    assert!(matches!(things.as_slice(), [Unsynced::Length { .. }, Unsynced::Sector { sector: 1, .. }, _, _]));
    let keep = |kept: &[usize]| {
        let mut at = 0..;
        let fate = |at: Option<usize>| if kept.contains(&at.unwrap()) { Fate::Kept } else { Fate::Lost };
        disk.after_power_loss(|_| fate(at.next())).bytes(NAME).unwrap()
    };
    assert_eq!(keep(&[]), [1; 3 * SECTOR]);
    assert_eq!(keep(&[2]), [[1; SECTOR], [1; SECTOR], [2; SECTOR]].concat());
    assert_eq!(keep(&[3]), [1; 3 * SECTOR], "without its length there is nothing behind it");
    assert_eq!(keep(&[0]).len(), 3 * SECTOR + 10);
    let spoilt = disk.after_power_loss(|_| Fate::Garbage).bytes(NAME).unwrap();
    assert!(spoilt[SECTOR..3 * SECTOR].iter().all(|&byte| byte != 1 && byte != 2));
    disk.sync_data(&file).unwrap();
    assert_eq!((disk.unsynced(), keep(&[]).len()), (Vec::new(), 3 * SECTOR + 10));
}

#[test]
fn disks_after_a_power_loss_are_their_own() {
    let (disk, file) = disk();
    let other = disk.after_power_loss(|_| Fate::Lost);
    disk.write_at(&file, &[2; 10], 0).unwrap();
    let others = other.open(NAME).unwrap();
    other.write_at(&others, &[3; 10], 0).unwrap();
    other.sync_data(&others).unwrap();
    let beginning = |disk: &Disk| disk.bytes(NAME).unwrap()[0];
    assert_eq!((beginning(&disk), beginning(&other)), (2, 3));
    assert_eq!(beginning(&disk.after_power_loss(|_| Fate::Lost)), 1);
}

#[test]
fn a_spoiled_sector_cannot_be_read_until_it_is_written_or_healed() {
    let (disk, file) = disk();
    let kind = io::ErrorKind::TimedOut;
    assert!(disk.spoil_sector(NAME, 1, kind));
    assert!(!disk.spoil_sector(NAME, 3, kind) && !disk.spoil_sector(Name::Segment(2), 0, kind));
    for (bytes, offset) in [(1, 512), (SECTOR, 512), (3 * SECTOR, 0), (2, 511)] {
        assert_eq!(read(&disk, &file, bytes, offset).unwrap_err().kind(), kind);
    }
    assert_eq!(read(&disk, &file, SECTOR, 0).unwrap(), [1; SECTOR]);
    assert_eq!(read(&disk, &file, SECTOR, 1024).unwrap(), [1; SECTOR]);
    let healed = disk.after_power_loss(|_| Fate::Lost);
    let other = healed.open(NAME).unwrap();
    assert_eq!(read(&healed, &other, 1, 512).unwrap_err().kind(), kind, "a power loss does not mend it");
    healed.heal();
    assert_eq!(read(&healed, &other, 1, 512).unwrap(), [1]);
    // What is written can be read; a power loss brings the error back, a sync does not.
    disk.write_at(&file, &[1; SECTOR], 512).unwrap();
    assert_eq!(read(&disk, &file, 3 * SECTOR, 0).unwrap(), [1; 3 * SECTOR]);
    let readable = |disk: &Disk| read(disk, &disk.open(NAME).unwrap(), 1, 512).is_ok();
    assert!(!readable(&disk.after_power_loss(|_| Fate::Lost)));
    assert!(readable(&disk.after_power_loss(|_| Fate::Kept)));
    disk.sync_data(&file).unwrap();
    assert!(readable(&disk.after_power_loss(|_| Fate::Lost)));
}

#[test]
fn a_lost_sync_says_it_is_done_and_shows_what_it_has_lost_until_the_power_goes() {
    let (disk, file) = disk();
    disk.lose_synced_in(1);
    disk.sync_data(&file).unwrap();
    disk.sync_data(&file).unwrap();
    assert_eq!(disk.syncs_lost(), 0, "there was nothing to lose");
    disk.write_at(&file, &[2; 2 * SECTOR], 1024).unwrap();
    disk.sync_data(&file).unwrap();
    assert_eq!((disk.syncs_lost(), disk.unsynced()), (1, Vec::new()));
    assert_eq!(read(&disk, &file, 2 * SECTOR, 1024).unwrap(), [2; 2 * SECTOR]);
    assert_eq!(disk.after_power_loss(|_| Fate::Kept).bytes(NAME).unwrap(), [1; 3 * SECTOR]);
    // The one after it is honest, about what was written since.
    disk.write_at(&file, &[3; 8], 1024 + 512).unwrap();
    disk.sync_data(&file).unwrap();
    let after = disk.after_power_loss(|_| Fate::Lost).bytes(NAME).unwrap();
    assert_eq!((after.len(), after[1024], after[1024 + 512], after[1024 + 520]), (4 * SECTOR, 1, 3, 2));
    assert_eq!(disk.syncs_lost(), 1);
    disk.lose_synced_in(0);
    disk.heal();
    disk.write_at(&file, &[4; 8], 0).unwrap();
    disk.sync_data(&file).unwrap();
    assert_eq!((disk.syncs_lost(), disk.after_power_loss(|_| Fate::Lost).bytes(NAME).unwrap()[0]), (1, 4));
}

#[test]
fn a_failed_call_does_half_and_a_dead_disk_nothing() {
    let (disk, file) = disk();
    disk.fail_in(0, io::ErrorKind::Other);
    disk.write_at(&file, &[2; 10], 0).unwrap_err();
    assert_eq!(&disk.bytes(NAME).unwrap()[..10], &[2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    disk.fail_in(0, io::ErrorKind::Other);
    disk.sync_data(&file).unwrap_err();
    assert_eq!(disk.after_power_loss(|_| Fate::Kept).bytes(NAME).unwrap()[0], 1, "what a failed sync had is lost");
    disk.power_off_in(1);
    disk.write_at(&file, &[3; 10], 0).unwrap();
    disk.write_at(&file, &[4; 10], 0).unwrap_err();
    assert_eq!((disk.bytes(NAME).unwrap()[0], disk.unsynced().len()), (3, 1));
}

#[test]
fn disks_that_differ_have_other_digests() {
    let mut digests = std::collections::BTreeSet::new();
    let alike = [disk().0, disk().0.after_power_loss(|_| Fate::Lost)];
    assert_eq!(alike[0].digest(), alike[1].digest());
    for bit in 0..3 * SECTOR * 8 {
        let (disk, mut bytes) = (Disk::new(), vec![1; 3 * SECTOR]);
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.put(NAME, bytes);
        assert!(digests.insert(disk.digest()), "bit {bit}");
    }
    for (name, length) in [(NAME, 3 * SECTOR), (NAME, 3 * SECTOR + 1), (Name::Segment(2), 3 * SECTOR)] {
        let disk = Disk::new();
        disk.put(name, vec![1; length]);
        assert!(digests.insert(disk.digest()));
    }
}
