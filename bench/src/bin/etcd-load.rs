//! Loads the leader of an etcd cluster with puts and prints one JSON line per number of clients.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bench::etcd::wait_for_leader;
use bench::load::{self, Load};
use lexopt::{Arg, ValueExt};

const USAGE: &str = "\
usage: etcd-load --endpoints ADDR,ADDR,… [--clients N,N,…] [--value-size BYTES] [--seconds S]
                 [--warm-up S] [--connections C] [--wait S]

Waits until every endpoint (IP:port of etcd's client port; all members) follows one leader,
then puts to that leader with N clients, each with one put outstanding, over C connections
(16 unless told; never more than clients). Prints one line of JSON per N.
Exit status: 0 all puts succeeded; 1 some failed, or no leader; 2 usage.";

struct Options {
    endpoints: Vec<SocketAddr>,
    clients: Vec<u32>,
    connections: u32,
    value_bytes: usize,
    measured: Duration,
    warm_up: Duration,
    wait: Duration,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("etcd-load: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("etcd-load: {errors} puts failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("etcd-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every load of `options` and returns how many puts failed.
fn measure(options: &Options) -> Result<u64, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let leader = runtime.block_on(wait_for_leader(&options.endpoints, options.wait))?;
    let mut errors = 0;
    for &clients in &options.clients {
        let load = Load {
            leader,
            clients,
            connections: options.connections,
            value_bytes: options.value_bytes,
            warm_up: options.warm_up,
            measured: options.measured,
        };
        let result = runtime.block_on(load::run(&load))?;
        errors += result.errors;
        println!("{}", serde_json::to_string(&result)?);
    }
    Ok(errors)
}

/// The options, or `None` when help was asked for.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        endpoints: Vec::new(),
        clients: vec![1, 16, 256, 1024],
        connections: 16,
        value_bytes: 256,
        measured: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        wait: Duration::from_secs(20),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("endpoints") => options.endpoints = list(&parser.value()?)?,
            Arg::Long("clients") => options.clients = list(&parser.value()?)?,
            Arg::Long("connections") => options.connections = parser.value()?.parse()?,
            Arg::Long("value-size") => options.value_bytes = parser.value()?.parse()?,
            Arg::Long("seconds") => options.measured = seconds(&parser.value()?)?,
            Arg::Long("warm-up") => options.warm_up = seconds(&parser.value()?)?,
            Arg::Long("wait") => options.wait = seconds(&parser.value()?)?,
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if options.endpoints.is_empty() {
        return Err("--endpoints is missing".into());
    }
    if options.clients.contains(&0) || options.connections == 0 || options.measured.is_zero() {
        return Err("--clients, --connections and --seconds must be above 0".into());
    }
    if options.value_bytes > 1 << 20 {
        return Err("--value-size is at most 1048576, etcd takes no larger request".into());
    }
    Ok(Some(options))
}

fn list<T>(text: &std::ffi::OsStr) -> Result<Vec<T>, lexopt::Error>
where
    T: std::str::FromStr,
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut values = Vec::new();
    for item in text.to_string_lossy().split(',') {
        values.push(std::ffi::OsString::from(item.trim()).parse()?);
    }
    Ok(values)
}

fn seconds(text: &std::ffi::OsStr) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = text.to_os_string().parse()?;
    if !(0.0..=3_600.0).contains(&seconds) {
        return Err("seconds are between 0 and 3600".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}
