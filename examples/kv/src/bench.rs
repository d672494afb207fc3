//! Placeholder.
use crate::cli::BenchArgs;
use crate::exit::Exit;

pub(crate) fn run(_args: &BenchArgs, _json: bool) -> Exit {
    Exit::Usage
}
