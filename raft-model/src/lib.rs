//! Model checking of `raft-core` itself.

mod disk;
pub mod explore;
mod history;
mod memo;
mod network;
mod node;
pub mod properties;
pub mod seen;
mod setup;
pub mod space;
pub mod spaces;
mod world;
