//! Clients against a scripted service on loopback.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "these are tests")]

mod awaitable;
mod blocking;
mod engine;
mod late;
mod operator;
mod support;
