//! The exactly-once client of any service built on a replicated state machine, across leaders and
//! outages.
//!
//! It knows nothing of the service: commands, queries and answers are bytes. Commands run under a
//! session, so that each is executed at most once however often it has to be sent, and each comes
//! to one of three ends: done with its answer; not executed, with the reason; unknown.
//!
//! - [`BlockingClient`]: one request at a time, with its I/O on the calling thread.
//! - [`Client`]: a handle for many tasks, whose futures any executor can poll.
//! - [`Engine`]: what both are made of, for programs that drive many sessions from one thread.
//! - [`EngineCore`]: the engine without sockets and clock, for event loops of one's own and for simulations.
//! - [`OperatorClient`]: members, leadership and snapshots.
//! - [`Founder`]: creates a cluster, once.
//!
//! ```no_run
//! use raft_client::{BlockingClient, CommandError, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new(["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]);
//! let mut client = BlockingClient::new(&options)?;
//! match client.execute(b"add 1") {
//!     Ok(answer) => println!("executed once, at index {}: {:?}", answer.index, answer.bytes),
//!     Err(CommandError::NotExecuted(reason)) => println!("not executed: {reason}"),
//!     Err(CommandError::Unknown(reason)) => println!("executed once or not at all: {reason}"),
//! }
//! # Ok(())
//! # }
//! ```

mod awaitable;
mod blocking;
mod engine;
mod founder;
mod operator;
mod options;
mod outcome;
mod stats;

pub use awaitable::Client;
pub use blocking::BlockingClient;
pub use engine::{
    ConnectionEvent, Connections, Engine, EngineCore, EngineError, LinkFault, Retry, Secrets, SessionKey, SubmitError,
    Ticket, Waker,
};
pub use founder::{FoundError, Founded, Founder, InTheWay, Standing};
pub use operator::{Fault, OperatorClient, OperatorError};
pub use options::{ENDPOINTS_MAX, Options, OptionsError};
pub use outcome::{Answer, CommandError, Completion, Obstacle, QueryError, Reason};
pub use raft_core::client::protocol::{Consistency, NodeStatus, NotExecuted, RoleName};
pub use raft_core::client::session::SessionEnd;
pub use raft_core::session::operation::Refusal;
pub use stats::Stats;
