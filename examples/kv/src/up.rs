//! Placeholder.
use crate::cli::UpArgs;
use crate::exit::Exit;

pub(crate) fn run(_args: &UpArgs, _json: bool) -> Exit {
    Exit::Usage
}
