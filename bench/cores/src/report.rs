//! The table.

use crate::measure::{Figures, Plan};
use crate::systems::System;
use crate::work::{REPLICAS, Work};

/// What the columns mean.
pub(crate) fn head(plan: Plan) {
    println!(
        "{REPLICAS} replicas in one thread, logs in memory; an entry counts when all have applied it. \
         {} ms each, median of {} rounds.\n",
        plan.measured.as_millis(),
        plan.rounds
    );
    println!("| entry | in flight | system | entries/s | ns/entry | allocations/entry | time, raft-core = 1 |");
    println!("|--:|--:|---|--:|--:|--:|--:|");
}

/// The rows of one point.
pub(crate) fn point(work: Work, figures: &[Figures]) {
    let ours = figures.iter().find(|figures| figures.system == System::RaftCore);
    for row in figures {
        let ratio = match ours {
            Some(ours) => format!("{:.2}", row.ratio_to(ours)),
            None => "-".to_owned(),
        };
        println!(
            "| {} B | {} | {} | {:.0} | {:.0} | {:.2} | {ratio} |",
            work.entry_bytes,
            work.in_flight,
            row.system.name(),
            1e9 / row.nanoseconds_per_entry(),
            row.nanoseconds_per_entry(),
            row.allocations_per_entry(),
        );
    }
}
