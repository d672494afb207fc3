//! A pure, event-driven Raft: no I/O, no clock, no heap, no unsafe code.
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod back_off;
pub mod client;
pub mod clock;
pub mod configuration;
pub mod crc;
pub mod entry;
pub mod machine;
pub mod message;
pub mod raft;
mod random;
pub mod replica;
pub mod ring;
pub mod ring_snapshots;
pub mod session;
pub mod snapshot;
pub mod storage;
pub mod transport;
pub mod types;
pub mod wire;
