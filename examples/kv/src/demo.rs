//! Placeholder.
use crate::cli::DemoArgs;
use crate::exit::Exit;

pub(crate) fn run(_args: &DemoArgs, _json: bool) -> Exit {
    Exit::Usage
}
