//! Marks: how often what is to be tested has really happened, to whom, and what came of it.

use std::collections::BTreeMap;
use std::fmt;

use raft_core::raft::event::{Event, StepDown};

use expected::EXPECTED;

mod expected;

/// What happened, to a node in which role (or nothing), and what came of it.
pub type Mark = (&'static str, &'static str, &'static str);

/// What is said of a check, as `what`.
const CHECKED: &str = "checked";

/// What happened, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    marks: BTreeMap<Mark, u64>,
}

impl Coverage {
    /// Something has happened, in which nodes have no part.
    pub fn count(&mut self, what: &'static str, outcome: &'static str) {
        self.add((what, "", outcome), 1);
    }

    /// A check was made so often.
    pub fn checked(&mut self, check: &'static str, times: u64) {
        self.add((CHECKED, "", check), times);
    }

    /// Something has happened so often.
    pub fn add(&mut self, mark: Mark, times: u64) {
        if times > 0 {
            *self.marks.entry(mark).or_default() += times;
        }
    }

    /// A node has told of something.
    pub fn event(&mut self, event: &Event) {
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
            Event::SnapshotFailed { .. } => "snapshot without room",
            Event::TransferBegan { .. } => "transfer began",
            Event::TransferFailed { .. } => "transfer failed",
            Event::DiskStalled { .. } => "disk stalled",
            Event::PeerForgot { .. } => "peer forgot",
            Event::Expelled { .. } => "expelled",
            Event::Diverged { .. } => "diverged",
            _ => "another",
        };
        self.count("event", name);
    }

    /// Puts the marks of another run to these.
    pub fn merge(&mut self, other: &Coverage) {
        for (mark, times) in &other.marks {
            self.add(*mark, *times);
        }
    }

    /// The marks that were to be reached and were not.
    pub fn missing(&self) -> impl Iterator<Item = Mark> + '_ {
        EXPECTED.iter().copied().filter(|mark| !self.marks.contains_key(mark))
    }

    /// How often that has happened.
    #[must_use]
    pub fn times(&self, mark: Mark) -> u64 {
        self.marks.get(&mark).copied().unwrap_or(0)
    }
}

impl fmt::Display for Coverage {
    /// Two tables: of what happened, and of what was checked.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| what | to whom | outcome | times |\n|---|---|---|--:|")?;
        for ((what, whom, outcome), times) in self.marks.iter().filter(|((what, ..), _)| *what != CHECKED) {
            writeln!(formatter, "| {what} | {whom} | {outcome} | {times} |")?;
        }
        writeln!(formatter, "\n| checked | times |\n|---|--:|")?;
        for ((_, _, check), times) in self.marks.iter().filter(|((what, ..), _)| *what == CHECKED) {
            writeln!(formatter, "| {check} | {times} |")?;
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
        let some = EXPECTED[0];
        coverage.add(some, 1);
        let mut other = Coverage::default();
        other.add(some, 2);
        other.checked("a read is fresh", 5);
        other.count("nothing", "that is expected");
        coverage.merge(&other);
        assert_eq!(coverage.times(some), 3);
        assert_eq!(coverage.missing().count(), EXPECTED.len() - 2);
        let text = coverage.to_string();
        assert!(text.ends_with("| a read is fresh | 5 |\n"), "{text}");
    }
}
