//! No state of any space violates a property. Prints how many there were, and how many of them are
//! different states, since spaces overlap.
//!
//! `STATES=…` goes on further in the spaces that are not explored whole, `SPACE=…` explores one alone,
//! `THREADS=…` with more threads than two.

use std::sync::Arc;

use raft_model::explore::{Effort, explore};
use raft_model::met::Met;
use raft_model::spaces::spaces;

/// What the gate asks for: so many different states, those that lie in several spaces counted once.
const STATES_MIN: u64 = 2_000_000;

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")),
        Err(_) => otherwise,
    }
}

#[test]
fn no_state_violates_a_property() {
    // Without optimization this only shows that spaces can be walked through.
    let quick = cfg!(debug_assertions);
    let states_max = number("STATES", if quick { 2_000 } else { 500_000 });
    let threads = usize::try_from(number("THREADS", 2)).expect("a few threads");
    let only = std::env::var("SPACE").ok();
    let met: Arc<Met> = Arc::default();
    let (mut states, mut different, mut transitions) = (0, 0, 0);
    for space in spaces().iter().filter(|space| only.as_deref().is_none_or(|only| only == space.name)) {
        let states_max = if space.whole && !quick { u64::MAX } else { states_max };
        let report = explore(space, &Effort { states_max, threads, until: None, met: Arc::clone(&met) });
        println!("{report}");
        assert!(report.violations.is_empty(), "{}: {}", space.name, space.about);
        assert!(quick || report.missed(space).next().is_none(), "{} did not show all it should", space.name);
        assert!(quick || !space.whole || report.complete, "{} was explored whole", space.name);
        states += report.states;
        different += report.new;
        transitions += report.transitions;
    }
    println!("{states} states, {different} of them different, {transitions} transitions, no violation");
    assert!(quick || only.is_some() || different >= STATES_MIN, "{STATES_MIN} different states are asked for");
}
