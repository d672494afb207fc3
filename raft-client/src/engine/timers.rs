//! When to look at what again.
//!
//! Each owner has one moment at which it is looked at, which may be too early: when its true moment
//! moves back, nothing is changed here, and the owner is armed again when it was looked at. So a
//! busy owner costs nothing for each command, and the queue is as short as there are owners.

use std::collections::BTreeSet;

use raft_core::types::Instant;

/// Whose moment it is: a session or a request, by its small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Session(usize),
    Request(usize),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// One moment of each owner at most.
    queue: BTreeSet<(Instant, Timer)>,
    /// The moment of each session; [`Instant::NEVER`] if it has none.
    sessions: Vec<Instant>,
    /// The same for each request.
    requests: Vec<Instant>,
}

impl Timers {
    /// Has the owner looked at no later than `at`.
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        let armed = self.armed(timer);
        if at < *armed {
            let before = std::mem::replace(armed, at);
            self.queue.remove(&(before, timer));
            self.queue.insert((at, timer));
        }
    }

    /// The next owner whose moment has come. It has no moment then, until it is armed again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = self.queue.first().copied().filter(|&(at, _)| at <= now)?;
        self.queue.pop_first();
        *self.armed(timer) = Instant::NEVER;
        Some(timer)
    }

    /// When the next moment comes.
    pub(super) fn next(&self) -> Instant {
        self.queue.first().map_or(Instant::NEVER, |&(at, _)| at)
    }

    fn armed(&mut self, timer: Timer) -> &mut Instant {
        let (moments, index) = match timer {
            Timer::Session(index) => (&mut self.sessions, index),
            Timer::Request(index) => (&mut self.requests, index),
        };
        if index >= moments.len() {
            moments.resize(index + 1, Instant::NEVER);
        }
        moments.get_mut(index).expect("it was made long enough")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_is_looked_at_once_at_its_earliest_moment() {
        let mut timers = Timers::default();
        timers.arm(Timer::Session(3), Instant(20));
        timers.arm(Timer::Request(3), Instant(15));
        timers.arm(Timer::Session(3), Instant(10));
        timers.arm(Timer::Session(3), Instant(30));
        timers.arm(Timer::Session(1), Instant::NEVER);
        assert_eq!(timers.next(), Instant(10));
        assert_eq!(timers.pop(Instant(9)), None);
        assert_eq!(timers.pop(Instant(50)), Some(Timer::Session(3)));
        assert_eq!(timers.pop(Instant(50)), Some(Timer::Request(3)));
        assert_eq!(timers.pop(Instant(50)), None);
        assert_eq!(timers.next(), Instant::NEVER);
    }

    #[test]
    fn a_busy_owner_does_not_lengthen_the_queue() {
        let mut timers = Timers::default();
        for now in 0..1000 {
            timers.arm(Timer::Session(0), Instant(100_000));
            timers.arm(Timer::Session(0), Instant(now + 10));
            assert_eq!(timers.pop(Instant(now)), (now >= 10 && now % 11 == 10).then_some(Timer::Session(0)));
            assert_eq!(timers.queue.len(), usize::from(!(now >= 10 && now % 11 == 10)));
        }
    }
}
