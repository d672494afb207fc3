//! What must hold, whatever goes wrong: one file for each property.
//!
//! | property | file |
//! |---|---|
//! | election safety | `elections` |
//! | leader completeness | `completeness` |
//! | log matching | `logs` |
//! | state machine safety, at every index | `states` |
//! | one vote in a term, over all lives of a storage | `votes` |
//! | durability of what was acknowledged | `durability` |
//! | cluster time | `times` |
//! | exactly once, by what happened | `sessions` |
//! | exactly once, by the rules; tables equal at every index | `table` |
//! | replies rest on the log | `replies` |
//! | linearizability | `histories` |
//! | read freshness | `reads` |
//! | memory bounds | `memory` |

pub mod completeness;
pub mod durability;
pub mod elections;
pub mod histories;
pub mod logs;
pub mod memory;
pub mod reads;
pub mod replies;
pub mod sessions;
pub mod states;
pub mod table;
pub mod times;
pub mod votes;
