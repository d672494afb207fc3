//! Consensus cores side by side, in one run, doing the same work.
//!
//! Three replicas in one thread and one process, logs in memory that hold the payloads, no disk and no network. A turn
//! proposes all that may be in flight at the leader and ends when all three replicas have applied it; an entry counts
//! then. The systems take turns too, for short rounds, so that a noisy machine is the same for everybody, and each
//! one's median round is shown. What each harness does for its system is written on top of `systems/*.rs`.

mod heap;
mod measure;
mod report;
mod systems;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use crate::measure::{Figures, Plan};
use crate::systems::System;
use crate::work::Work;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

const USAGE: &str = "usage: bench/cores.sh [--seconds S] [--rounds R] [--entry-bytes B,…] [--in-flight N,…] [--only NAME,…] [--smoke] [--entries E]

Compares raft-core with noraft, raft-rs and openraft: three replicas in one thread, logs in memory that hold the
payloads, an entry counted when all three have applied it. Prints, for each size of entry and number of proposals in
flight: entries per second, nanoseconds and heap allocations per entry, and each one's time as a multiple of raft-core's.

  --seconds S        measured time of each system at each point, all rounds together (default 1)
  --rounds R         rounds of each system at each point, interleaved; the median is shown (default 21)
  --entry-bytes B,…  of 16, 256, 4096 (default: all)
  --in-flight N,…    of 1, 64, 1024 (default: all)
  --only NAME,…      of raft-core, raft-core-encoded, noraft, noraft-checked, raft-rs, raft-rs-shared, openraft, openraft-shared
                     (default: all)
  --smoke            a quick look whether everything works: one round of 5 ms each; its figures mean nothing
  --entries E        measures nothing: each system does E entries at each point and stops, for a program that counts
                     instructions (see bench/instructions.sh); E is rounded up to whole turns

It fails if raft-core allocates anything at all while it is measured.

`raft-core` shows replicas each other's messages as they are: they borrow the sender's log. The peers hand over theirs as
they are, too. Each replica's log holds a copy of the payloads, as on three machines; in the rows `shared` the three logs
share one, by reference counting, which raft-rs and openraft can within one process. `raft-core encoded` encodes, copies,
decodes and checks each message as over a network, which no peer is asked to do.";

const ENTRY_BYTES: [usize; 3] = [16, 256, 4096];
const IN_FLIGHT: [usize; 3] = [1, 64, 1024];

/// Logs of fixed size are made on the stack before they are moved to the heap. The system gives pages when they are used.
const STACK_BYTES: usize = 1 << 30;

struct Options {
    plan: Plan,
    /// Instead of measuring: the entries that each system does at each point.
    entries: Option<u64>,
    entry_bytes: Vec<usize>,
    in_flight: Vec<usize>,
    systems: Vec<System>,
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("cores: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let measuring = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || run(&options));
    match measuring.map(std::thread::JoinHandle::join) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => {
            eprintln!("cores: raft-core took memory from the heap, which it must not");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE, // The panic was printed.
        Err(error) => {
            eprintln!("cores: no thread: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, and gives whether raft-core got along without the heap.
fn run(options: &Options) -> bool {
    let mut kept = true;
    if options.entries.is_none() {
        report::head(options.plan);
    }
    for &entry_bytes in &options.entry_bytes {
        for &in_flight in &options.in_flight {
            let work = Work { entry_bytes, in_flight };
            if let Some(entries) = options.entries {
                let turns = entries.div_ceil(in_flight as u64);
                options.systems.iter().for_each(|system| system.start(work).run(turns));
                continue;
            }
            let figures = measure::point(work, &options.systems, options.plan);
            report::point(work, &figures);
            kept &= !figures.iter().any(Figures::broke_its_word);
        }
    }
    kept
}

fn parse() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;

    let mut options = Options {
        plan: Plan { measured: Duration::from_secs(1), rounds: 21 },
        entries: None,
        entry_bytes: ENTRY_BYTES.to_vec(),
        in_flight: IN_FLIGHT.to_vec(),
        systems: System::ALL.to_vec(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("seconds") => {
                let seconds: f64 = arguments.value()?.parse()?;
                options.plan.measured = Duration::try_from_secs_f64(seconds).map_err(|_| "--seconds is above 0")?;
            }
            Long("rounds") => options.plan.rounds = arguments.value()?.parse()?,
            Long("entries") => options.entries = Some(arguments.value()?.parse()?),
            Long("entry-bytes") => options.entry_bytes = numbers(&arguments.value()?.string()?, &ENTRY_BYTES)?,
            Long("in-flight") => options.in_flight = numbers(&arguments.value()?.string()?, &IN_FLIGHT)?,
            Long("only") => options.systems = systems(&arguments.value()?.string()?)?,
            Long("smoke") => options.plan = Plan { measured: Duration::from_millis(5), rounds: 1 },
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    if options.plan.measured.is_zero() || options.plan.rounds == 0 {
        return Err("--seconds and --rounds are above 0".into());
    }
    Ok(Some(options))
}

fn numbers(list: &str, known: &[usize]) -> Result<Vec<usize>, lexopt::Error> {
    let number = |item: &str| item.parse().ok().filter(|number| known.contains(number));
    let unknown = |item: &str| lexopt::Error::from(format!("{item} is not among {known:?}"));
    list.split(',').map(|item| number(item).ok_or_else(|| unknown(item))).collect()
}

fn systems(list: &str) -> Result<Vec<System>, lexopt::Error> {
    let named = |item: &str| System::ALL.into_iter().find(|system| system.name().replace(' ', "-") == item);
    list.split(',').map(|item| named(item).ok_or_else(|| format!("no system is named {item}").into())).collect()
}
