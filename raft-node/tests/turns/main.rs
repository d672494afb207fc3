//! Nodes whose loops are turned by the test, one after the other, in virtual time: what callers are told when threads
//! lose the processor, logs are overwritten and leaders change.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails may panic")]

mod leases;
mod orders;
mod world;
