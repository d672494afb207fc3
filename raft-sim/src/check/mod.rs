//! What must hold, whatever goes wrong: one file for each property.
//!
//! | property | file |
//! |---|---|
//! | election safety | `elections` |
//! | leader completeness | `completeness` |
//! | log matching | `logs` |
//! | state machine safety, at every index | `states` |
//! | an expulsion holds in all lives of a storage | `expulsions` |
//! | one vote in a term, over all lives of a storage | `votes` |
//! | durability of what was acknowledged | `durability` |
//! | cluster time | `times` |
//! | exactly once, by what happened | `sessions` |
//! | exactly once, by the rules; tables equal at every index | `table` |
//! | one committed entry at each index | `committed` |
//! | replies rest on the log | `replies` |
//! | "not executed" is true of each copy | `copies` |
//! | the reasons of refusals are true | `refusals` |
//! | what operators are told is what happened | `orders` |
//! | nobody uses a session without its secret | `secrets` |
//! | there is room in the table when it was promised | `rooms` |
//! | what engines say of requests | `completions` |
//! | linearizability | `histories` |
//! | read freshness | `reads` |
//! | memory bounds | `memory` |
//! | rules of the protocol, where they are kept or broken | `rules` |

pub mod committed;
pub mod completeness;
pub mod completions;
pub mod copies;
pub mod durability;
pub mod elections;
pub mod expulsions;
pub mod histories;
pub mod logs;
pub mod memory;
pub mod orders;
pub mod reads;
pub mod refusals;
pub mod replies;
pub mod rooms;
pub mod rules;
pub mod secrets;
pub mod sessions;
pub mod states;
pub mod table;
pub mod times;
pub mod votes;
