//! What must hold, whatever goes wrong: one file for each property.

pub mod elections;
pub mod histories;
pub mod logs;
pub mod sessions;
pub mod states;
pub mod votes;
