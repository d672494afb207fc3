//! Makes a failing world simpler: faults are dropped one by one, as long as it still fails.

use crate::options::Options;
use crate::run::{self, Outcome};
use crate::violation::Violation;
use crate::workload::Workload;

/// One way to make a world simpler; `None` if it is so already.
type Step = fn(&mut Options) -> &mut u64;

/// What can be switched off, by its name.
pub const STEPS: &[(&str, Step)] = &[
    ("engines", |options| &mut options.engines.engines),
    ("late answers", |options| &mut options.engines.late),
    ("sessions that are replaced", |options| &mut options.engines.replaced),
    ("connections that break", |options| &mut options.engines.broken),
    ("engines that pause", |options| &mut options.engines.paused),
    ("engines that crash", |options| &mut options.engines.crashed),
    ("requests that are given up", |options| &mut options.engines.hasty_percent),
    ("storms of opens", |options| &mut options.load.storm),
    ("reads of onlookers", |options| &mut options.load.onlooker),
    ("hostile numbers", |options| &mut options.load.hostile),
    ("silent clients", |options| &mut options.load.silent),
    ("crashes of clients", |options| &mut options.load.crashed),
    ("commands without a session", |options| &mut options.load.plain_percent),
    ("lease reads", |options| &mut options.load.lease_percent),
    ("changes of members", |options| &mut options.operator.members_changed),
    ("transfers", |options| &mut options.operator.transferred),
    ("snapshots on demand", |options| &mut options.operator.snapshot_made),
    ("second nodes under one id", |options| &mut options.processes.doubled),
    ("restored disks", |options| &mut options.processes.restored),
    ("wiped disks", |options| &mut options.processes.wiped),
    ("supervisors", |options| &mut options.processes.supervised),
    ("orderly stops", |options| &mut options.processes.stopped),
    ("interrupted turns", |options| &mut options.processes.interrupted),
    ("sleeping machines", |options| &mut options.processes.asleep),
    ("slow turns", |options| &mut options.processes.slow_turn),
    ("pauses", |options| &mut options.processes.paused),
    ("blackouts", |options| &mut options.processes.blackout),
    ("kills", |options| &mut options.processes.killed),
    ("power losses", |options| &mut options.processes.crashed),
    ("jumps of clocks", |options| &mut options.clocks.jumped),
    ("drift of clocks", |options| &mut options.clocks.drift),
    ("decay", |options| &mut options.disks.decayed),
    ("unreadable sectors", |options| &mut options.disks.unreadable),
    ("lost syncs", |options| &mut options.disks.lost_sync),
    ("full disks", |options| &mut options.disks.full),
    ("failing calls", |options| &mut options.disks.failed),
    ("slow disks", |options| &mut options.disks.stalled),
    ("flapping links", |options| &mut options.network.flapping),
    ("unread sockets", |options| &mut options.network.unread),
    ("sockets that are read in part", |options| &mut options.network.part_read),
    ("narrow links", |options| &mut options.network.bytes_per_milli),
    ("clogged links", |options| &mut options.network.clogged),
    ("partitions", |options| &mut options.network.parted),
    ("slow packets", |options| &mut options.network.slow),
    ("damaged packets", |options| &mut options.network.damaged),
    ("replayed packets", |options| &mut options.network.replayed),
    ("doubled packets", |options| &mut options.network.doubled),
    ("lost packets", |options| &mut options.network.lost),
];

/// How many halvings of the time are tried.
const HALVINGS_MAX: u32 = 6;

/// The simplest world found that fails in the same way as `failed`, and what was dropped for it.
pub fn shrink<W: Workload>(failed: Outcome, workload: impl Fn() -> W) -> (Outcome, Vec<&'static str>) {
    let mut best = failed;
    let mut dropped = Vec::new();
    for (name, step) in STEPS {
        let mut options = best.options.clone();
        if core::mem::take(step(&mut options)) == 0 {
            continue;
        }
        if let Some(simpler) = fails_alike(&best, options, &workload) {
            best = simpler;
            dropped.push(*name);
        }
    }
    for _ in 0..HALVINGS_MAX {
        let mut options = best.options.clone();
        options.faulty_millis /= 2;
        match fails_alike(&best, options, &workload) {
            Some(shorter) => best = shorter,
            None => break,
        }
    }
    let watched = run::run_with(best.seed, best.options.clone(), workload(), true);
    (watched, dropped)
}

fn fails_alike<W: Workload>(best: &Outcome, options: Options, workload: &impl Fn() -> W) -> Option<Outcome> {
    let outcome = run::run_with(best.seed, options, workload(), false);
    let kind = |outcome: &Outcome| outcome.violation.as_ref().map(std::mem::discriminant::<Violation>);
    (outcome.violation.is_some() && kind(&outcome) == kind(best)).then_some(outcome)
}
