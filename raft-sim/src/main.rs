//! The simulator's command line.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raft_sim::campaign::{self, Plan, Summary};
use raft_sim::history;
use raft_sim::options::Options;
use raft_sim::registers::RegisterLoad;
use raft_sim::run::{self, Outcome};
use raft_sim::shrink::shrink;
use raft_sim::workload::Workload;

/// Marks are expected of campaigns that have so many worlds: fewer may miss what is rare.
const SEEDS_FOR_ALL_MARKS: u64 = 2_000;

/// Breaks simulated clusters, and looks whether they keep their promises.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Arguments {
    /// How many worlds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Replays the world of one seed, with all that happens in it.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Writes what clients saw in that world for other checkers, a file for each key: for Knossos if the name ends in `.edn`,
    /// for Porcupine if it ends in `.log`.
    #[arg(long, requires = "seed", value_name = "FILE")]
    history: Option<PathBuf>,
    /// Runs worlds for so long, instead of a number of them.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Prints the hash of each world's trace and nothing else: two builds must print the same.
    #[arg(long, conflicts_with = "minutes")]
    hashes: bool,
    /// Stops after so many failures.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// On how many threads; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// With how many nodes every world begins; drawn if not given.
    #[arg(long, conflicts_with = "hashes", value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: Option<u64>,
    /// Does not look for a simpler world that fails in the same way.
    #[arg(long)]
    no_shrink: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in a world is a verdict, and told as such.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments.seed {
        Some(seed) => replay(seed, &arguments),
        None if arguments.hashes => hashes(&arguments),
        None => campaign(&arguments),
    }
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    let mut options = Options::draw(seed);
    options.nodes = arguments.nodes.unwrap_or(options.nodes);
    let workload = RegisterLoad::default();
    let first_value = workload.first_value();
    let outcome = run::run_with(seed, options, workload, true);
    println!("{}", outcome.options);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} simulated ms, {} operations", outcome.millis, outcome.operations);
    println!("trace hash {:016x}", outcome.hash);
    if let Some(path) = &arguments.history {
        match history::export(path, first_value, &outcome.history) {
            Ok(written) => written.iter().for_each(|path| println!("history written to {}", path.display())),
            Err(error) => {
                println!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("VIOLATION of {violation}");
            ExitCode::FAILURE
        }
    }
}

fn hashes(arguments: &Arguments) -> ExitCode {
    for seed in arguments.first..arguments.first.saturating_add(arguments.seeds) {
        let outcome = run::run(seed, RegisterLoad::default(), false);
        println!("{seed} {:016x}", outcome.hash);
    }
    ExitCode::SUCCESS
}

fn campaign(arguments: &Arguments) -> ExitCode {
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let plan = Plan {
        first: arguments.first,
        seeds: if arguments.minutes.is_some() { u64::MAX } else { arguments.seeds },
        for_at_most: arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        failures_max: arguments.failures.max(1),
        threads: threads.unwrap_or(1),
        nodes: arguments.nodes,
    };
    let bar = bar(&plan);
    let began = Instant::now();
    let summary = campaign::run(
        &plan,
        |_| RegisterLoad::default(),
        |seeds, millis| {
            bar.set_position(seeds);
            bar.set_message(rate(millis, began.elapsed()));
        },
    );
    bar.finish_and_clear();
    report(&summary, &plan, began.elapsed());
    let missing: Vec<_> = summary.coverage.missing().collect();
    let holes = summary.seeds >= SEEDS_FOR_ALL_MARKS && !missing.is_empty();
    if holes {
        println!("never happened, and so was not tested: {missing:?}");
    }
    let failed = holes || !summary.failures.is_empty();
    for failure in summary.failures {
        tell(failure, arguments);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn bar(plan: &Plan) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match plan.for_at_most {
        Some(_) => (ProgressBar::new_spinner(), "{spinner} {pos} worlds, {elapsed}, {msg}"),
        None => (ProgressBar::new(plan.seeds), "{bar:40} {pos}/{len} worlds, {eta} left, {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Simulated seconds in a second.
fn rate(millis: u64, elapsed: Duration) -> String {
    let real = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    format!("{} simulated s/s", millis / real)
}

fn report(summary: &Summary, plan: &Plan, elapsed: Duration) {
    let Summary { seeds, millis, operations, checked, coverage, failures } = summary;
    println!("{coverage}");
    println!(
        "{seeds} worlds, {} simulated s in {:.1} s: {} on {} threads, {} on each; {operations} operations, {} failures\n\
         {} histories of clients checked, {} undecided",
        millis / 1_000,
        elapsed.as_secs_f64(),
        rate(*millis, elapsed),
        plan.threads,
        rate(*millis / plan.threads as u64, elapsed),
        failures.len(),
        checked.decided + checked.undecided,
        checked.undecided,
    );
}

/// Tells of a failure: what it is, how to see it again, and the simplest world that has it.
fn tell(failed: Outcome, arguments: &Arguments) {
    let seed = failed.seed;
    println!("\nseed {seed}: VIOLATION of {}", failed.violation.as_ref().map(ToString::to_string).unwrap_or_default());
    let nodes = arguments.nodes.map(|nodes| format!(" --nodes {nodes}")).unwrap_or_default();
    println!("replay: cargo run --release -p raft-sim -- --seed {seed}{nodes}");
    println!("{}", failed.options);
    if arguments.no_shrink {
        return;
    }
    let (simpler, dropped) = shrink(failed, RegisterLoad::default);
    println!("\nfails alike without {dropped:?}, within {} ms of faults:", simpler.options.faulty_millis);
    let from = simpler.lines.len().saturating_sub(60);
    simpler.lines.iter().skip(from).for_each(|line| println!("{line}"));
}
