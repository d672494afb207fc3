//! How the program ends, for scripts.

use std::process::ExitCode;

/// How a subcommand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done.
    Done,
    /// The cluster said no: a failed compare, an absent key. Or a server failed.
    Refused,
    /// The arguments do not make sense. (clap ends with the same status.)
    Usage,
    /// The cluster could not be reached, and nothing has happened.
    Unavailable,
    /// It may have happened, or not.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
            Exit::Unknown => 4,
        })
    }
}
