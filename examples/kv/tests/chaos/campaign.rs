//! A schedule of faults against a cluster under load.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kv::chance::Chance;
use kv::load::{CLIENTS, IN_FLIGHT, Load, Shared};
use rustix::process::Signal;

use crate::cluster::{Cluster, LOOK, PATIENCE, with_cluster};
use crate::faults::{Fault, round};
use crate::namespaces::{Dropped, Drops};
use crate::nodes::Trouble;
use crate::reads::Readers;
use crate::rights::{self, Need};
use crate::sync;
use crate::verdict::{Counts, Verdict};

/// The kills and partitions that every minute of a long campaign must have.
const KILLS_PER_MINUTE: u64 = 20;
const PARTITIONS_PER_MINUTE: u64 = 6;
/// What nodes are started with: small snapshots, so that they are written, sent and loaded all the time.
const EXTRA: [&str; 4] = ["--log", "info", "--snapshot-entries", "30000"];

#[test]
fn a_cluster_under_load_survives_a_schedule_of_faults() {
    let name = "a_cluster_under_load_survives_a_schedule_of_faults";
    if !rights::granted(name, &[Need::Namespaces, Need::Filters, Need::Injection]) {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("it is a number"));
    let minutes = number("CHAOS_MINUTES").unwrap_or(0);
    let seed = number("SEED").unwrap_or_else(|| u64::from(getrandom::u32().unwrap()));
    println!("SEED={seed}");
    let verdict = with_cluster(3, &EXTRA, |cluster, _| campaign(cluster, seed, minutes));
    println!("{verdict}");
    verdict.judge();
    let Counts { kills, partitions, .. } = verdict.counts;
    assert!(kills >= minutes * KILLS_PER_MINUTE && partitions >= minutes * PARTITIONS_PER_MINUTE);
}

fn campaign(cluster: &mut Cluster<'_>, seed: u64, minutes: u64) -> Verdict {
    let begin = Instant::now();
    cluster.start_all();
    cluster.settle();
    let endpoints = cluster.nodes.endpoints();
    let shared = Arc::new(Shared::default());
    let load = Load::start(&endpoints, true, &shared).unwrap();
    let readers = Readers::start(&endpoints);
    let mut campaign = Campaign { cluster, shared, chance: Chance::new(seed), counts: Counts::default() };
    loop {
        campaign.round(begin);
        let Counts { kills, partitions, .. } = campaign.counts;
        let over = begin.elapsed() >= Duration::from_secs(minutes * 60);
        if over && kills >= minutes * KILLS_PER_MINUTE && partitions >= minutes * PARTITIONS_PER_MINUTE {
            break;
        }
    }
    let counts = campaign.counts;
    let done = load.finish(|| ()).unwrap();
    let reads = readers.finish();
    cluster.settle();
    Verdict::new(cluster, counts, done, reads)
}

struct Campaign<'c, 'n> {
    cluster: &'c mut Cluster<'n>,
    shared: Arc<Shared>,
    chance: Chance,
    counts: Counts,
}

impl Campaign<'_, '_> {
    /// One round of faults. After each of them all is well again.
    fn round(&mut self, begin: Instant) {
        let faults = round(&mut self.chance);
        let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
        println!("schedule: {}", names.join(" "));
        for fault in faults {
            self.sleep(100, 400);
            self.cluster.nodes.check();
            self.strike(fault);
            self.progress(fault);
            self.cluster.settle();
            let (seconds, acknowledged) = (begin.elapsed().as_secs(), self.shared.acknowledged());
            println!("{seconds:>4} s  {fault:<12} survived; {acknowledged} increments acknowledged");
        }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::KillLeader | Fault::KillAny | Fault::KillTwo | Fault::KillAll => self.kill(fault),
            Fault::Isolate | Fault::Deafen | Fault::Mute | Fault::Cut => self.partition(fault),
            Fault::PauseLeader | Fault::PauseAny => self.pause(fault),
            Fault::Lose => self.lose(),
            Fault::FailSync => self.fail_sync(),
        }
    }

    fn kill(&mut self, fault: Fault) {
        let (leader, _) = self.cluster.leader();
        let victims = match fault {
            Fault::KillLeader => vec![leader],
            Fault::KillTwo => vec![leader, self.another(leader)],
            Fault::KillAll => vec![1, 2, 3],
            _ => vec![self.any()],
        };
        // Not always at the moment at which it has just been asked.
        self.sleep(0, 50);
        for &victim in &victims {
            self.cluster.nodes.kill(victim);
            self.counts.kills += 1;
        }
        if victims.len() == 1 {
            self.progress(fault);
        } else {
            self.sleep(0, 500);
        }
        for victim in victims {
            self.cluster.start(victim);
        }
    }

    /// A majority stays connected each time, and must go on.
    fn partition(&mut self, fault: Fault) {
        let (leader, _) = self.cluster.leader();
        let other = self.another(leader);
        let others = (1..=3).filter(|node| *node != leader);
        let deaf = others.clone().map(|from| Drops { at: leader, what: Dropped::From(from) });
        let mute = others.map(|at| Drops { at, what: Dropped::From(leader) });
        let rules: Vec<Drops> = match fault {
            Fault::Isolate => deaf.chain(mute).collect(),
            Fault::Deafen => deaf.collect(),
            Fault::Mute => mute.collect(),
            _ => deaf.chain(mute).filter(|rule| cuts(*rule, leader, other)).collect(),
        };
        self.cluster.filter(&rules);
        self.counts.partitions += 1;
        self.sleep(200, 1500);
        self.progress(fault);
        self.cluster.nodes.check();
        self.cluster.filter(&[]);
    }

    fn pause(&mut self, fault: Fault) {
        let (leader, _) = self.cluster.leader();
        let node = if fault == Fault::PauseLeader { leader } else { self.any() };
        self.cluster.nodes.signal(node, Signal::STOP);
        self.counts.pauses += 1;
        self.sleep(100, 2000);
        self.progress(fault);
        self.cluster.nodes.signal(node, Signal::CONT);
    }

    fn lose(&mut self) {
        let percent = u8::try_from(1 + self.chance.below(30)).unwrap();
        let rules: Vec<Drops> = (1..=3).map(|at| Drops { at, what: Dropped::Percent(percent) }).collect();
        self.cluster.filter(&rules);
        self.counts.losses += 1;
        self.sleep(500, 2000);
        // With much loss nobody is promised anything but safety.
        if percent <= 10 {
            self.progress(Fault::Lose);
        }
        self.cluster.filter(&[]);
    }

    fn fail_sync(&mut self) {
        let node = self.any();
        let nth = 1 + self.chance.below(60);
        self.cluster.nodes.kill(node);
        self.counts.kills += 1;
        self.cluster.start_in(node, &Trouble { failing_sync: Some(nth), clock: None });
        sync::expect_crash_stop(self.cluster, node);
        self.counts.crash_stops += 1;
        self.progress(Fault::FailSync);
        self.cluster.start(node);
    }

    /// Waits until commands are acknowledged that were sent from now on.
    fn progress(&mut self, fault: Fault) {
        let begin = Instant::now();
        // What was under way before may still be answered.
        let enough = self.shared.acknowledged() + (2 * CLIENTS * IN_FLIGHT) as u64;
        while self.shared.acknowledged() < enough {
            if begin.elapsed() > PATIENCE {
                self.cluster.wait_for(&format!("{fault}: nothing goes on"), |_| None::<()>);
            }
            thread::sleep(LOOK);
        }
    }

    fn sleep(&mut self, least: u64, most: u64) {
        thread::sleep(Duration::from_millis(least + self.chance.below(most - least)));
    }

    fn any(&mut self) -> usize {
        1 + usize::try_from(self.chance.below(3)).unwrap()
    }

    fn another(&mut self, than: usize) -> usize {
        let step = 1 + usize::try_from(self.chance.below(2)).unwrap();
        1 + (than - 1 + step) % 3
    }
}

/// Whether a rule stands between these two.
fn cuts(rule: Drops, one: usize, other: usize) -> bool {
    [(one, other), (other, one)].iter().any(|&(at, from)| rule == Drops { at, what: Dropped::From(from) })
}
