//! Describes the machine, probes its disk, puts the runs of the systems side by side, and finds free ports for the scripts.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::machine::{Machine, SyncCost};
use bench::report::{Measured, Report};
use bench::run::{Run, parse_lines};
use lexopt::{Arg, ValueExt};

const USAGE: &str = "\
usage: bench-report --dir DIR [--title TEXT] [--syncs FILE] [--peer NAME=FILE]… [--kv FILE] [--json]
       bench-report --dir DIR --probe
       bench-report --ports N

Reads the runs of the systems (JSON lines) and prints a table with ratios, or one JSON object.
Without FILEs it describes the machine only. --probe measures fdatasync in DIR and prints a line
of JSON for --syncs. --ports prints N TCP ports of loopback that are free now.";

#[derive(Default)]
struct Options {
    dir: PathBuf,
    probe: bool,
    title: String,
    syncs: Option<PathBuf>,
    peers: Vec<(String, PathBuf)>,
    kv: Option<PathBuf>,
    ports: Option<u16>,
    json: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("bench-report: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match options.ports {
        Some(count) => print_ports(count),
        None if options.probe => print_probe(&options.dir),
        None => print_report(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All are held until all are found, so that they differ.
fn print_ports(count: u16) -> Result<(), Box<dyn std::error::Error>> {
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ports.push(listener.local_addr()?.port().to_string());
        held.push(listener);
    }
    println!("{}", ports.join(" "));
    Ok(())
}

fn print_probe(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", serde_json::to_string(&SyncCost::measure(dir)?)?);
    Ok(())
}

fn print_report(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut peers = Vec::new();
    for (name, file) in options.peers {
        peers.push(Measured { name, runs: runs(&file)? });
    }
    let kv = options.kv.map_or(Ok(Vec::new()), |file| runs(&file))?;
    let syncs = options.syncs.map_or(Ok(Vec::new()), |file| syncs(&file))?;
    let machine = Machine::describe(&options.dir, syncs)?;
    let report = Report::new(options.title, machine, peers, kv);
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn syncs(file: &Path) -> Result<Vec<SyncCost>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn runs(file: &Path) -> Result<Vec<Run>, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(parse_lines(&text).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// The options, or `None` when help was asked for.
fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dir") => options.dir = parser.value()?.into(),
            Arg::Long("probe") => options.probe = true,
            Arg::Long("syncs") => options.syncs = Some(parser.value()?.into()),
            Arg::Long("title") => options.title = parser.value()?.string()?,
            Arg::Long("peer") => {
                let peer = parser.value()?.string()?;
                let (name, file) = peer.split_once('=').ok_or("--peer takes NAME=FILE")?;
                options.peers.push((name.to_owned(), file.into()));
            }
            Arg::Long("kv") => options.kv = Some(parser.value()?.into()),
            Arg::Long("ports") => options.ports = Some(parser.value()?.parse()?),
            Arg::Long("json") => options.json = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    if options.dir.as_os_str().is_empty() && options.ports.is_none() {
        return Err("--dir is missing".into());
    }
    Ok(Some(options))
}
