//! What the program and the tests of real clusters share: the store's commands as bytes, clients that
//! add to counters, the comparison of their answers with what was counted, and a look from outside.

pub mod chance;
pub mod command;
pub mod load;
pub mod tally;
pub mod watch;
