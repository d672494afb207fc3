//! The client's half of a session, without I/O: its messages, its numbering, acknowledging,
//! retrying and renewing.
//!
//! A program that talks to a cluster has a [`session::ClientSession`] for each session, which says
//! what to send and what became of it, and one [`route::Route`], which says to which node.

pub mod attempts;
pub mod pace;
pub mod protocol;
pub mod route;
pub mod session;
