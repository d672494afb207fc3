//! Which node a client asks: the leader as far as it is known, else one after the other.

use crate::client::pace::{Jitter, Pace};
use crate::types::Instant;

/// The way to the leader, over nodes that the program numbers 0, 1, 2, …
///
/// The program sends to [`Route::target`] and reports what came of it: [`Route::answered`],
/// [`Route::redirected`] or [`Route::failed`]. A report about another node than the present target
/// changes nothing, so many requests may report the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How many nodes there are. Invariant: target < nodes.
    nodes: usize,
    target: usize,
    /// Nodes that were of no help since the last answer.
    failures: u32,
    /// Hints followed since the last answer or pause.
    redirects: usize,
    /// The node that could not be reached last, since the last answer or pause: others may still
    /// take it for the leader.
    unreachable: Option<usize>,
    /// When the target may be asked.
    ready_at: Instant,
}

impl Route {
    /// A way over `nodes` nodes, at least one, that begins with node `first`.
    ///
    /// # Panics
    /// If there are no nodes.
    #[must_use]
    pub fn new(nodes: usize, first: usize) -> Route {
        assert!(nodes > 0, "a route leads over at least one node");
        Route { nodes, target: first % nodes, failures: 0, redirects: 0, unreachable: None, ready_at: Instant(0) }
    }

    /// The node to ask.
    #[must_use]
    pub fn target(&self) -> usize {
        self.target
    }

    /// From when on it may be asked.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        self.ready_at
    }

    /// One more node is known; it has the highest number.
    pub fn add_node(&mut self) {
        self.nodes += 1;
    }

    /// Node `from` answered as a leader does.
    pub fn answered(&mut self, from: usize) {
        if from == self.target {
            (self.failures, self.redirects, self.unreachable) = (0, 0, None);
        }
    }

    /// Node `from` does not lead, and named the leader or not. Gives whether the target changed.
    ///
    /// A hint may be old: as many are followed as there are nodes, and then there is a pause.
    pub fn redirected(
        &mut self,
        from: usize,
        leader: Option<usize>,
        now: Instant,
        pace: &Pace,
        jitter: &mut Jitter,
    ) -> bool {
        if from != self.target {
            return false;
        }
        let followed = leader.filter(|&leader| {
            leader < self.nodes && leader != from && self.unreachable != Some(leader) && self.redirects < self.nodes
        });
        match followed {
            Some(leader) => {
                self.redirects += 1;
                self.target = leader;
                self.ready_at = now;
            }
            None => self.turn(now, pace, jitter),
        }
        true
    }

    /// Node `from` could not be reached, went away, was silent, or is stopping. Gives whether
    /// that is news.
    pub fn failed(&mut self, from: usize, now: Instant, pace: &Pace, jitter: &mut Jitter) -> bool {
        if from != self.target {
            return false;
        }
        self.unreachable = Some(from);
        self.turn(now, pace, jitter);
        true
    }

    /// Turns to the next node. All of them are tried at once; from then on there is a pause before
    /// each.
    fn turn(&mut self, now: Instant, pace: &Pace, jitter: &mut Jitter) {
        self.failures = self.failures.saturating_add(1);
        self.target = (self.target + 1) % self.nodes;
        let rounds = u32::try_from(self.failures as usize / self.nodes).unwrap_or(u32::MAX);
        self.ready_at = now;
        if rounds > 0 {
            (self.redirects, self.unreachable) = (0, None);
            self.ready_at = now.after(pace.pause(rounds, jitter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_followed_at_once_and_a_report_repeated_changes_nothing() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut route = Route::new(3, 0);
        assert!(route.redirected(0, Some(2), Instant(5), &pace, &mut jitter));
        assert_eq!((route.target(), route.ready_at()), (2, Instant(5)));
        assert!(!route.redirected(0, Some(1), Instant(6), &pace, &mut jitter));
        assert!(!route.failed(0, Instant(6), &pace, &mut jitter));
        assert_eq!(route.target(), 2);
    }

    #[test]
    fn all_nodes_are_tried_at_once_and_then_with_growing_pauses() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut route = Route::new(3, 1);
        let mut pauses = std::vec::Vec::new();
        let mut now = Instant(0);
        for expected in [2, 0, 1, 2, 0, 1, 2, 0, 1] {
            route.failed(route.target(), now, &pace, &mut jitter);
            assert_eq!(route.target(), expected);
            pauses.push(route.ready_at().since(now).0);
            now = route.ready_at();
        }
        assert_eq!(pauses[..2], [0, 0]);
        assert!(pauses[2..5].iter().all(|pause| (5..=10).contains(pause)), "{pauses:?}");
        assert!(pauses[8] >= 20, "{pauses:?}");
        route.answered(route.target());
        route.failed(route.target(), now, &pace, &mut jitter);
        assert_eq!(route.ready_at(), now);
    }

    #[test]
    fn two_nodes_that_name_each_other_are_not_asked_for_ever_without_a_pause() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut route = Route::new(2, 0);
        let now = Instant(0);
        let mut asked = 0;
        while route.ready_at() <= now {
            asked += 1;
            assert!(asked < 10);
            let from = route.target();
            route.redirected(from, Some(1 - from), now, &pace, &mut jitter);
        }
        assert_eq!(asked, 4, "two hints are followed, and both nodes tried in turn");
    }

    #[test]
    fn a_hint_at_a_node_that_was_just_found_dead_is_not_followed_before_a_pause() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut route = Route::new(3, 0);
        route.failed(0, Instant(0), &pace, &mut jitter);
        route.redirected(1, Some(0), Instant(0), &pace, &mut jitter);
        assert_eq!((route.target(), route.ready_at()), (2, Instant(0)));
        // All were tried: there is a pause, after which it may be back.
        route.redirected(2, Some(0), Instant(0), &pace, &mut jitter);
        assert!(route.ready_at() > Instant(0));
        route.redirected(0, Some(1), Instant(100), &pace, &mut jitter);
        route.redirected(1, Some(0), Instant(100), &pace, &mut jitter);
        assert_eq!(route.target(), 0);
    }

    #[test]
    fn a_hint_at_the_node_itself_or_at_none_is_a_failure() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        for hint in [None, Some(0), Some(2), Some(7)] {
            let mut route = Route::new(2, 0);
            assert!(route.redirected(0, hint, Instant(0), &pace, &mut jitter));
            assert_eq!(route.target(), 1);
        }
        let mut alone = Route::new(1, 0);
        alone.failed(0, Instant(0), &pace, &mut jitter);
        assert!(alone.ready_at() > Instant(0));
    }

    #[test]
    fn a_node_that_was_added_is_asked_like_all_others() {
        let (pace, mut jitter) = (Pace::default(), Jitter::new(1));
        let mut route = Route::new(2, 0);
        route.add_node();
        assert!(route.redirected(0, Some(2), Instant(0), &pace, &mut jitter));
        assert_eq!(route.target(), 2);
        route.failed(2, Instant(0), &pace, &mut jitter);
        assert_eq!(route.target(), 0, "it is the last one");
    }
}
