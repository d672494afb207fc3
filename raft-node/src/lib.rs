//! Runs one [`raft_core::replica::Replica`]: one thread with an event loop, and a [`Handle`] that
//! a program talks to.
//!
//! The loop waits for the network, the handle's mailbox and the replica's next deadline, takes in
//! what there is, polls the replica once, and answers. While it writes to the disk, what arrives
//! waits and joins the next round: that is how single requests become one batch, and a lone
//! request waits for nobody.
//!
//! Storage, network, state machine and clock are the program's to choose. [`memory`] has versions
//! of each for tests and for a start.

mod answer;
mod clock;
mod handle;
mod limits;
mod mailbox;
pub mod memory;
mod operator;
mod options;
mod run;
mod start;
mod waiting;

pub use clock::SystemClock;
pub use handle::{Failed, Handle, Pending};
pub use limits::LimitsDisagree;
pub use operator::OrderDone;
pub use options::NodeOptions;
pub use raft_core::clock::Clock;
pub use run::{EventLoop, NodeReplica, Turn};
pub use start::{Node, StartError, Stopped, create, join, start};

/// The example in the project's README is compiled and run with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
