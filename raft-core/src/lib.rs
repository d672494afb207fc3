//! A pure, event-driven Raft: no I/O, no clock, no heap, no unsafe code.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod crc;
pub mod entry;
pub mod machine;
pub mod storage;
pub mod types;
