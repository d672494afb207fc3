//! What the comparisons in this folder share: a native gRPC client for etcd and its closed-loop load, the description
//! of the machine, and the report that puts two systems side by side.
//!
//! The scripts next to this crate (`etcd.sh`, `libraft.sh`) start and stop the systems; this crate never starts a
//! process.

pub mod etcd;
pub mod grpc;
pub mod load;
pub mod machine;
pub mod protobuf;
pub mod report;
pub mod run;
