//! Whole runs: the same seed is the same run, a calm cluster stays calm, what is broken is found.

use raft_sim::options::Options;
use raft_sim::registers::RegisterLoad;
use raft_sim::run::{self, Outcome};
use raft_sim::violation::Violation;

fn violation(outcome: &Outcome) -> Option<&Violation> {
    outcome.violation.as_ref()
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=20 {
        let [first, second] = [false, true].map(|watched| run::run(seed, RegisterLoad::default(), watched));
        assert_eq!(violation(&first), None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.millis, first.operations), (second.millis, second.operations));
        assert_eq!(first.coverage, second.coverage);
    }
}

#[test]
fn a_calm_cluster_elects_nobody_for_a_thousand_seconds() {
    for seed in 1..=3 {
        let outcome = run::run_calm(seed, 1_000_000, RegisterLoad::default(), false);
        assert_eq!(violation(&outcome), None, "seed {seed}");
        assert_eq!(outcome.millis, 1_000_000);
        assert!(outcome.operations > 1_000, "{} operations", outcome.operations);
    }
}

#[test]
fn sessions_live_while_they_are_renewed_and_end_in_time_when_they_are_not() {
    for seed in 1..=40 {
        let outcome = run::run_leases(seed, RegisterLoad::default(), false);
        assert_eq!(violation(&outcome), None, "seed {seed}");
    }
}

#[test]
fn a_flapping_node_does_not_make_terms_grow() {
    for seed in 1..=5 {
        // Down and up about as often as a follower loses its patience, which is worst.
        let every = Options::calm(seed).raft.election_timeout.0;
        let (outcome, terms) = run::run_flapping(seed, every, 200_000, RegisterLoad::default());
        assert_eq!(violation(&outcome), None, "seed {seed}");
        // One term to begin with, one election, and one more if it was the leader that flapped.
        assert!(terms <= 4, "seed {seed}: {terms} terms in 200 s");
    }
}

#[test]
fn a_member_that_lost_entries_stays_out_though_it_is_started_again_and_its_leader_ends() {
    let mut ended = 0;
    for seed in 1..=30 {
        let mut options = Options::calm(seed);
        options.faulty_millis = 10_000;
        let processes = &mut options.processes;
        (processes.restored, processes.supervised, processes.down_max_millis) = (1_500, 50, 500);
        let outcome = run::run_with(seed, options, RegisterLoad::default(), false);
        assert_eq!(violation(&outcome), None, "seed {seed}");
        ended += outcome.coverage.times(("supervisor", "", "starts one that has lost entries, and its leader ends"));
    }
    assert!(ended >= 5, "{ended} times");
}

#[test]
fn every_step_of_the_shrinker_switches_off_a_fault_of_its_own() {
    let options = Options::draw(1);
    for (name, step) in raft_sim::shrink::STEPS {
        let mut changed = options.clone();
        *step(&mut changed) += 1;
        let others = raft_sim::shrink::STEPS.iter().filter(|(other, _)| other != name);
        for (other, step) in others {
            assert_eq!(*step(&mut changed.clone()), *step(&mut options.clone()), "{name} is also {other}");
        }
    }
}
