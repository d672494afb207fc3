//! Model checking of `raft-core`: of [`raft_core::raft::Raft`] itself, not of a model of it.
//!
//! Three nodes run the core's code over disks in memory (`disk.rs`), with a network (`network.rs`) in which
//! each message may arrive at any time or never. From a beginning, all that may happen next is tried, and
//! from there again, breadth first, by [stateright](https://docs.rs/stateright). Every state is held against
//! the properties of figure 3 of the Raft paper ([`properties`]): election safety, log matching, leader
//! completeness, state machine safety; and two more: that the core refuses no message of a correct node, and
//! that none of its assertions fails.
//!
//! # What may happen
//!
//! - An election timeout passes at a node, while its pre-votes reach one of the others, or both. A follower
//!   has not heard its leader lately, and so would vote for others. A leader has lost its quorum.
//! - A leader takes a proposal, sends heartbeats, changes the members, hands over.
//! - A message arrives, before others that were sent earlier, or twice; or never: it stays under way.
//! - What a node has changed becomes durable, with the change or later; the core learns of it then or still
//!   later.
//! - A node crashes and starts again with what was durable, and with any beginning of what was not.
//!
//! What a node has to say is sent at once, and what it may apply is applied at once.
//!
//! # When two states are one
//!
//! When nothing but time and chance tells them apart. `Raft::fingerprint` hashes what decides how a node goes
//! on; of moments it takes only whether a limit has passed. Here clocks move by steps that are too short to
//! add up to an election timeout, or longer than it, so that nothing is lost by that; `disk.rs` stamps
//! entries with time 0, and jitter only decides who is first, which is left to all orders here. A test holds
//! nodes with equal fingerprints and unequal clocks against each other, step by step.
//!
//! For the same reason an input to a node in a state that was seen before need not run again (`memo.rs`): it
//! comes to the same. Of the symmetry between nodes only this is used: that node 1 may as well be the first
//! to campaign.
//!
//! # The spaces
//!
//! All at once would be too much to get far in; so there are spaces ([`spaces`]), each with its own bounds on
//! terms, entries, crashes, repeated messages, heartbeats, changes and hand-overs, and some begin in the
//! middle of things, as Raft's figure 8 does. Those marked `whole` are explored to their last state, the
//! others as far as it is worth waiting for. Each names the events that must be seen in it ([`seen`]): a
//! space in which nothing happens proves nothing.
//!
//! # How to run it
//!
//! ```text
//! cargo test --release -p raft-model -- --nocapture                         # prints all counts; a few minutes
//! STATES=5000000 cargo test --release -p raft-model --test spaces -- --nocapture    # farther, where there is more
//! SPACE="crashes" STATES=20000000 THREADS=8 cargo test --release -p raft-model --test spaces -- --nocapture
//! ```
//!
//! In the gate these are about 16 million states and 66 million steps, in one to two minutes; 4 million of the
//! states are those of the eight spaces that are explored whole. Spaces overlap: what lies in several of them, or
//! differs by nothing but how much may still happen, is counted once, and so there are 14 million different
//! states ([`met`]). None violates a property.
//!
//! `STATES` is the number of states from which the ways on are followed, in each space that is not explored
//! whole; two or three times as many are looked at. A million states take about 10 s on two slow cores and
//! 0.5 GB.
//!
//! # What it would find
//!
//! `tests/broken_rules` copies the core's source, breaks one rule at a time by a textual patch (a vote for
//! two candidates, an append that is taken whatever stands before it, a quorum of the new half alone, …) and
//! expects the checker to find the property that falls, and no other in its place, and prints by which steps.
//! Each of the four of figure 3 is brought down by two broken rules at least.
//!
//! # What it does not cover
//!
//! Snapshots and compaction, reads, leases, witnesses and priorities; disks that lose what they had called
//! durable; more than three nodes and more than one change. The random runs of `raft-core` do.

mod disk;
pub mod explore;
mod history;
mod memo;
pub mod met;
mod network;
mod node;
pub mod properties;
pub mod seen;
mod setup;
pub mod space;
pub mod spaces;
mod world;
