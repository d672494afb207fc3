//! Clients against a scripted service on loopback.

mod awaitable;
mod blocking;
mod engine;
mod support;
