//! The program that looks for what a broken rule leads to. It is built against a copy of the core
//! in which one rule at a time can be broken: see `main.rs` beside it.

use std::sync::Arc;

use raft_model::explore::{Effort, explore};
use raft_model::properties::PROPERTIES;
use raft_model::spaces::spaces;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rule, space, property] = arguments.as_slice() else { panic!("a rule's number, a space and a property") };
    raft_core::broken::begin(rule.parse().expect("rules are numbered"));
    // What the core asserts of itself is reported as found, not written out each time.
    std::panic::set_hook(Box::new(|_| {}));
    let until = PROPERTIES.into_iter().find(|name| name == property);
    let spaces = spaces();
    let space = spaces.iter().find(|known| known.name == space).expect("there is such a space");
    let report = explore(space, &Effort { states_max: 3_000_000, threads: 2, until, met: Arc::default() });
    for (property, path) in &report.violations {
        println!("{property}\t{} steps, {} states", path.len(), report.states);
        path.iter().for_each(|step| println!("\t{step}"));
    }
}
