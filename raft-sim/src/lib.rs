//! A deterministic world that breaks a Raft cluster, and checkers that know everything.
//!
//! One thread, one seed, virtual time: the same replica, log, session and client code that ships runs over a simulated
//! network, simulated disks and clocks of its own, thousands of times faster than real time.

pub mod random;
