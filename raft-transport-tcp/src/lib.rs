//! Links over TCP: between the nodes of a cluster and from its clients, on one port of each node.
//!
//! [`frame`] and [`handshake`] are pure functions over bytes. [`network`] has the sockets: a
//! [`network::TcpNetwork`] and its [`peers::TcpPeers`] implement the traits of
//! [`raft_core::transport`] without a thread of their own; [`client`] is the other end of a
//! client's connection. [`waiting`] is the port of a node that belongs to no cluster yet, and [`setup`] how one is created with it.
//!
//! Between two nodes there are two connections, one for each direction: a node sends its messages
//! on the one it dialed, and receives on the one it accepted. So neither has to decide which of
//! two simultaneous dials wins.
//!
//! Members come and go with the cluster's configuration. A node of the cluster that this one does not know as a member,
//! because either has not heard all of the log yet, is a stranger: it is linked too, for as long as it has something
//! to say, and dialed back at the address its hello tells.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod frame;
pub mod handshake;

#[cfg(feature = "std")]
mod backoff;
#[cfg(feature = "std")]
mod buffer;
#[cfg(feature = "std")]
pub mod client;
#[cfg(feature = "std")]
mod clients;
#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "std")]
mod dial;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
pub mod network;
#[cfg(feature = "std")]
pub mod options;
#[cfg(feature = "std")]
pub mod peers;
#[cfg(feature = "std")]
mod pending;
#[cfg(feature = "std")]
pub mod rivals;
#[cfg(feature = "std")]
pub mod setup;
#[cfg(feature = "std")]
pub mod waiting;
