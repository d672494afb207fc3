//! An exactly-once key-value store: one binary with the server, the command-line client, the demo
//! and the load generator.

mod bench;
mod cli;
mod client;
mod demo;
mod descriptors;
mod exit;
mod http;
mod init;
mod interrupt;
mod json;
mod machine;
mod operate;
mod processes;
mod progress;
mod serve;
mod up;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Subcommand};

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    let exit = match command {
        Subcommand::Serve(args) => serve::run(args),
        Subcommand::Init(args) => init::run(&args, json),
        Subcommand::Up(args) => up::run(&args, json),
        Subcommand::Demo(args) => demo::run(&args, json),
        Subcommand::Bench(args) => bench::run(&args, json),
        Subcommand::Client(request) => client::run(&request, json),
    };
    exit.into()
}
