//! `kv bench`: how many commands, and how fast.
use crate::cli::BenchArgs;
use crate::exit::Exit;

pub(crate) fn run(_args: &BenchArgs, _json: bool) -> Exit {
    Exit::Usage
}
