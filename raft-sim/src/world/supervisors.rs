//! Supervisors: a process that ended for a reason which will be there again is started again all the same, with the same
//! directory, again and again. What ended it must be durable, for it may not act against it in a later life.
//!
//! The worst of them: a member whose disk went back is told by its leader that it has lost entries, and ends; then that leader is
//! gone. Entries that only these two held are lost if the member votes in its next life.

use raft_core::raft::event::Expulsion;

use super::{Due, MILLI, World};
use crate::network::Place;
use crate::violation::Violation;
use crate::workload::Workload;

/// The longest wait before a start, in milliseconds.
const BACK_OFF_MAX_MILLIS: u64 = 5_000;
/// How long after its start a process is killed at most, in microseconds.
const KILL_MICROS_MAX: u64 = 50_000;

impl<W: Workload> World<W> {
    /// An operator would replace the node; a supervisor starts it again before long.
    pub(super) fn give_up(&mut self, place: usize) {
        let first = self.options.processes.supervised;
        let node = self.nodes_mut(place);
        node.gone = true;
        if first == 0 {
            return;
        }
        let millis = first.saturating_mul(1 << node.ends.min(16)).min(BACK_OFF_MAX_MILLIS);
        node.ends += 1;
        let ends = node.ends;
        self.coverage.count("supervisor", if ends == 1 { "starts it again" } else { "starts it again and again" });
        self.queue.put(self.now + millis * MILLI, Due::Start(place));
    }

    /// A call to the disk has failed, and the process has ended. The power goes as well, or a supervisor starts the process
    /// again over what was written, also what never became durable.
    pub(super) fn end_failed(&mut self, place: usize) {
        let supervised = self.options.processes.supervised > 0 && self.random.chance(500_000);
        let node = self.nodes_mut(place);
        if !supervised || node.disk.power_is_off() {
            return self.lose_power(place);
        }
        // What lacks room may lack it at the next start as well.
        node.may_stop = node.disk.is_limited();
        node.end_process();
        self.coverage.count("supervisor", "starts it again over what was not made durable");
    }

    /// A process that is started again may be killed before long, and again after the next start.
    pub(super) fn plan_kill(&mut self, place: usize) {
        let lives = self.nodes_mut(place).lives;
        let kills =
            self.faulty && lives > 1 && self.options.processes.supervised > 0 && self.options.processes.killed > 0;
        if kills && self.random.chance(300_000) {
            let after = self.random.between(1, KILL_MICROS_MAX);
            self.queue.put(self.now + after, Due::Kill(place, lives));
        }
    }

    pub(super) fn kill(&mut self, place: usize, lives: u64) {
        if self.faulty && self.is_up(place) && self.nodes_mut(place).lives == lives {
            self.coverage.count("supervisor", "starts one that is killed at once");
            self.end_by_kill(place);
        }
    }

    /// Keeps as many followers from everybody as a leader and `place` can spare, so that some entries are held by no more
    /// than these; then the disk of `place` goes back. Returns whether it does so.
    pub(super) fn set_aside(&mut self, place: usize) -> bool {
        let voters: Vec<u64> = self
            .latest_configuration()
            .members()
            .iter()
            .filter(|member| member.votes())
            .map(|member| member.id.get())
            .collect();
        let leads = self.leaders().filter(|place| self.is_up(*place)).collect::<Vec<_>>();
        let others_are_sound = self.nodes.iter().filter(|node| node.tampered || node.is_gone()).count() == 0;
        let ([leader], true, true) = (leads.as_slice(), self.options.processes.supervised > 0, others_are_sound) else {
            return false;
        };
        let kept = [self.nodes_mut(*leader).id.get(), self.nodes_mut(place).id.get()];
        let spare = (voters.len() - 1) / 2;
        let aside: Vec<u64> = voters.into_iter().filter(|id| !kept.contains(id)).take(spare).collect();
        if aside.is_empty() || self.aside.is_some() {
            return false;
        }
        let here: Vec<Place> = aside.iter().map(|id| Place::Node(*id)).collect();
        for other in self.places().into_iter().filter(|other| !here.contains(other)) {
            for one in &here {
                self.links.cut(*one, other);
                self.links.cut(other, *one);
            }
        }
        self.trace.say(self.now, &format!("nodes {aside:?} are kept from the others"));
        self.aside = Some((place, aside));
        let after = self.random.between(10, 500) * MILLI;
        self.queue.put(self.now + after, Due::Restore(place));
        true
    }

    /// The disk of a node goes back to what it was once, if its leader is still there to notice.
    pub(super) fn restore(&mut self, place: usize) -> Result<(), Violation> {
        let timeout = self.options.raft.election_timeout.0 * MILLI;
        if !self.faulty || !self.is_up(place) || self.leads(place) || self.leaders().count() != 1 {
            self.end_aside();
            return Ok(());
        }
        self.take_disk(place, true);
        // Not so long that the leader would give up for want of a majority.
        let after = self.random.between(1, timeout / 8);
        self.queue.put(self.now + after, Due::Start(place));
        self.queue.put(self.now + 3 * timeout, Due::LookAfter(place));
        Ok(())
    }

    /// If a node whose disk went back was not told so, nobody knows it any more: an operator takes it away for good.
    pub(super) fn look_after(&mut self, place: usize) {
        if self.aside.as_ref().is_none_or(|(victim, _)| *victim != place) {
            return;
        }
        let node = self.nodes_mut(place);
        node.end_process();
        (node.gone, node.taken_away) = (true, true);
        self.settle_as(place, "is taken away");
        self.end_aside();
    }

    /// A node was told why it takes part no more. If it has lost entries, whoever knows that has said so: from now on leaders may
    /// end, and the one that said it does.
    pub(super) fn was_told(&mut self, place: usize, expulsion: &Expulsion) {
        let waits = self.aside.as_ref().is_some_and(|(victim, _)| *victim == place);
        if !waits || matches!(expulsion, Expulsion::Removed { .. }) {
            return;
        }
        self.end_aside();
        self.coverage.count("supervisor", "starts one that has lost entries, and its leader ends");
        (self.options.processes.restored, self.options.disks.lost_sync) = (0, 0);
        let leaders: Vec<usize> = self.leaders().collect();
        for leader in leaders {
            let after = self.random.below(self.options.raft.election_timeout.0 + 1) * MILLI;
            self.queue.put(self.now + after, Due::PowerLoss(leader));
        }
    }

    fn end_aside(&mut self) {
        let Some((_, aside)) = self.aside.take() else { return };
        let here: Vec<Place> = aside.iter().map(|id| Place::Node(*id)).collect();
        for other in self.places() {
            for one in &here {
                self.links.mend(*one, other);
                self.links.mend(other, *one);
            }
        }
        self.trace.say(self.now, &format!("nodes {aside:?} are back among the others"));
    }
}
