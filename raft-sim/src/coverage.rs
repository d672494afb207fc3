//! Marks: how often what is to be tested has really happened.

use std::collections::BTreeMap;
use std::fmt;

use raft_core::raft::event::Event;

/// What happened, and what came of it, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    marks: BTreeMap<(String, &'static str), u64>,
}

/// Marks that a long campaign must reach: one that is never reached is a hole in the simulation.
const EXPECTED: &[(&str, &str)] = &[
    ("operation", "done"),
    ("operation", "not executed"),
    ("operation", "unknown"),
    ("power loss", "leader"),
    ("power loss", "follower"),
    ("power loss", "candidate"),
    ("kill", "leader"),
    ("kill", "follower"),
    ("blackout", "all nodes"),
    ("pause", "leader"),
    ("pause", "follower"),
    ("stop", "leader"),
    ("stop", "follower"),
    ("stop", "ended in order"),
    ("partition", "both ways"),
    ("partition", "one way"),
    ("clogged link", "for a while"),
    ("packet", "lost"),
    ("packet", "doubled"),
    ("packet", "replayed"),
    ("packet", "slow"),
    ("packet", "damaged"),
    ("packet", "found damaged"),
    ("slow disk", "leader"),
    ("slow disk", "follower"),
    ("failing call", "leader"),
    ("failing call", "follower"),
    ("storage", "stopped by an error"),
    ("full disk", "leader"),
    ("full disk", "follower"),
    ("clock jump", "leader"),
    ("clock jump", "follower"),
    ("wiped disk", "follower"),
    ("restored disk", "follower"),
    ("member", "told that it is none"),
    ("members", "asked for a change"),
    ("leadership", "asked to be handed over"),
    ("snapshot", "asked for"),
    ("client crash", "keeps its session"),
    ("client crash", "loses its session"),
    ("client silence", "beyond its lease"),
    ("client silence", "within its lease"),
    ("stranger", "storm of opens"),
    ("stranger", "hostile numbers"),
    ("event", "became leader"),
    ("event", "stepped down: higher term"),
    ("event", "stepped down: lost quorum"),
    ("event", "configuration appended"),
    ("event", "configuration committed"),
    ("event", "configuration dropped"),
    ("event", "snapshot sending"),
    ("event", "snapshot sent"),
    ("event", "snapshot installed"),
    ("event", "transfer began"),
    ("event", "transfer failed"),
    ("event", "disk stalled"),
    ("event", "peer forgot"),
    ("session", "opened"),
    ("session", "opened again"),
    ("session", "kept alive"),
    ("session", "closed"),
    ("session", "executed"),
    ("session", "replayed"),
    ("session", "refused: expired"),
    ("session", "refused: stale"),
    ("session", "refused: window full"),
    ("session", "refused: table full"),
];

impl Coverage {
    /// Something has happened.
    pub fn count(&mut self, what: &str, outcome: &'static str) {
        self.add(what, outcome, 1);
    }

    /// Something has happened so often.
    pub fn add(&mut self, what: &str, outcome: &'static str, times: u64) {
        if times > 0 {
            *self.marks.entry((what.to_owned(), outcome)).or_default() += times;
        }
    }

    /// A node has told of something.
    pub fn event(&mut self, event: &Event) {
        use raft_core::raft::event::StepDown;
        let name = match event {
            Event::NewTerm { .. } => "new term",
            Event::BecameLeader { .. } => "became leader",
            Event::Follows { .. } => "follows",
            Event::LostLeader { .. } => "lost leader",
            Event::SteppedDown { reason: StepDown::HigherTerm, .. } => "stepped down: higher term",
            Event::SteppedDown { reason: StepDown::LostQuorum, .. } => "stepped down: lost quorum",
            Event::SteppedDown { reason: StepDown::Removed, .. } => "stepped down: removed",
            Event::SteppedDown { .. } => "stepped down: no space",
            Event::ConfigurationAppended { .. } => "configuration appended",
            Event::ConfigurationCommitted { .. } => "configuration committed",
            Event::ConfigurationDropped { .. } => "configuration dropped",
            Event::SnapshotSending { .. } => "snapshot sending",
            Event::SnapshotSent { .. } => "snapshot sent",
            Event::SnapshotInstalled { .. } => "snapshot installed",
            Event::SnapshotRefused { .. } => "snapshot refused",
            Event::TransferBegan { .. } => "transfer began",
            Event::TransferFailed { .. } => "transfer failed",
            Event::DiskStalled { .. } => "disk stalled",
            Event::PeerForgot { .. } => "peer forgot",
            Event::Expelled { .. } => "expelled",
            _ => "another",
        };
        self.count("event", name);
    }

    /// Puts the marks of another run to these.
    pub fn merge(&mut self, other: &Coverage) {
        for ((what, outcome), times) in &other.marks {
            self.add(what, outcome, *times);
        }
    }

    /// The marks that were to be reached and were not.
    pub fn missing(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        EXPECTED.iter().copied().filter(|(what, outcome)| !self.marks.contains_key(&((*what).to_owned(), *outcome)))
    }

    /// How often that has happened.
    #[must_use]
    pub fn times(&self, what: &str, outcome: &'static str) -> u64 {
        self.marks.get(&(what.to_owned(), outcome)).copied().unwrap_or(0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| what | outcome | times |")?;
        writeln!(formatter, "|---|---|--:|")?;
        for ((what, outcome), times) in &self.marks {
            writeln!(formatter, "| {what} | {outcome} | {times} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_add_up_and_what_was_not_reached_is_known() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.missing().count(), EXPECTED.len());
        coverage.count("kill", "leader");
        let mut other = Coverage::default();
        other.add("kill", "leader", 2);
        coverage.merge(&other);
        assert_eq!(coverage.times("kill", "leader"), 3);
        assert_eq!(coverage.missing().count(), EXPECTED.len() - 1);
    }
}
