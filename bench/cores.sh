#!/usr/bin/env bash
# Compares raft-core with other consensus cores in Rust (noraft, raft-rs, openraft), in one process and one run.
# All options are those of the program; see bench/cores.sh --help.
set -eu

bench=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec cargo run --quiet --release --locked --manifest-path "$bench/Cargo.toml" --package bench-cores -- "$@"
