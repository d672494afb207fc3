//! Real `kv` processes, each in a network namespace of its own, under the faults of real machines: SIGKILL,
//! SIGSTOP, partitions of every kind, loss, full disks, disks that fail, clocks that jump.
//!
//! The rest of the tests shows that the rules hold in a world that is simulated; this shows that they hold
//! on the kernel's sockets, files and clocks. Short unless `CHAOS_MINUTES` says for how long the schedule of faults is
//! to go on; `SEED` replays a schedule (though not the moments at which the kernel lets processes run).
//!
//! It needs root, and some programs of Debian; [`rights`] says which. Where they lack, a test says so and is
//! skipped, unless `CHAOS_REQUIRED` is set: then it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod campaign;
mod clocks;
mod cluster;
mod disks;
mod faults;
mod full;
mod full_restarted;
mod history;
mod lost;
mod namespaces;
mod nodes;
mod one_way;
mod paused;
mod reads;
mod rights;
mod sync;
mod verdict;
