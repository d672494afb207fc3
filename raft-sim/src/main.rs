fn main() {
    let first: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(1);
    let watched = count == 1;
    let began = std::time::Instant::now();
    let (mut millis, mut operations, mut bad) = (0, 0, 0);
    let mut coverage = raft_sim::coverage::Coverage::default();
    for seed in first..first + count {
        let outcome = raft_sim::run::run(seed, raft_sim::registers::RegisterLoad::default(), watched);
        millis += outcome.millis;
        operations += outcome.operations;
        coverage.merge(&outcome.coverage);
        if watched {
            println!("{}", outcome.options);
            for line in &outcome.lines {
                println!("{line}");
            }
        }
        if let Some(violation) = outcome.violation {
            bad += 1;
            println!("seed {seed}: {violation}");
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {bad} bad, {} sim s in {seconds:.1} s: {:.0} s/s, {operations} operations",
        millis / 1000,
        millis as f64 / 1000.0 / seconds
    );
    if !watched {
        println!("{coverage}");
        for m in coverage.missing() {
            println!("missing {m:?}");
        }
    }
}
