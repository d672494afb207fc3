//! Behaviour of a session, told as scripts.
