//! Explores.
use raft_model::explore::{Effort, explore};
use raft_model::spaces::spaces;

#[test]
fn all() {
    let max = std::env::var("STATES").map_or(200_000, |s| s.parse().unwrap());
    let only = std::env::var("SPACE").ok();
    for space in spaces().iter().filter(|s| only.as_ref().is_none_or(|o| s.name == o)) {
        let report = explore(space, &Effort { states_max: max, threads: 2, until: None });
        println!("{report}");
    }
}
