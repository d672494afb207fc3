//! A storage, a network and a clock in memory, for tests and for a start.
mod storage;
pub use storage::MemoryStorage;
