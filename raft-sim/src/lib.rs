//! A deterministic world that breaks a Raft cluster, and checkers that know everything.
//!
//! One thread, one seed, virtual time: the same replica, log, session and client code that ships runs over a simulated
//! network, simulated disks and clocks of its own, thousands of times faster than real time.
//!
//! `cargo run --release -p raft-sim -- --seeds 10000` breaks a cluster that serves registers. A program puts its own state
//! machine in by a [`workload::Workload`] and [`check()`].
//!
//! A run: [`options::Options::draw`] makes a world of a seed; the world turns nodes' event loops, lets packets arrive and
//! faults happen until the time for faults is over; then it heals a majority for good and requires that all ends well.
//! After each turn of a node the [`judge`] brings what it did before the checkers in [`mod@check`]; what clients saw is
//! checked at the end.

mod client;
mod connections;
mod endpoint;
mod engine_client;
mod network;
mod node;
mod queue;
mod thread;
mod watched;
mod world;

pub mod campaign;
pub mod check;
pub mod coverage;
pub mod history;
pub mod judge;
pub mod options;
pub mod random;
pub mod registers;
pub mod run;
pub mod shrink;
pub mod trace;
mod user;
pub mod violation;
pub mod workload;

pub use user::check;
