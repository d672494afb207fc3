//! The client's half of a session, without I/O: its messages, its numbering, acknowledging,
//! retrying and renewing.

pub mod protocol;
