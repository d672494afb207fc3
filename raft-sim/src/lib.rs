//! A deterministic world that breaks a Raft cluster, and checkers that know everything.
//!
//! One thread, one seed, virtual time: the same replica, log, session and client code that ships runs over a simulated
//! network, simulated disks and clocks of its own, thousands of times faster than real time.

mod client;
mod endpoint;
mod network;
mod node;
mod queue;
mod watched;
mod world;

pub mod check;
pub mod coverage;
pub mod judge;
pub mod options;
pub mod random;
pub mod registers;
pub mod run;
pub mod trace;
pub mod workload;
