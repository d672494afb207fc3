//! Exactly-once: sessions, their numbers, their answers and their end.
//!
//! See dissertation, section 6.3, and RIFL (SOSP 2015). The table is part of the replicated state:
//! it is changed only by applying entries.

mod answers;
mod apply;
pub mod encode;
pub mod limits;
pub mod memory;
pub mod operation;
#[cfg(feature = "alloc")]
pub mod owned;
pub mod table;
#[cfg(test)]
mod tests;
