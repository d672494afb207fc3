//! The thread that turns a node's loop, and how time passes for it.
//!
//! A turn takes time: at each call of the loop to its clock, network, storage and state machine a little of it passes, and at one
//! of them the thread may lose the processor for long, or the whole machine may fall asleep. The world goes on meanwhile. The turn
//! itself is run in one piece, when the thread has the processor again: up to that call the loop sees the time and the mail of the
//! moment at which its turn began, from there on those of the world. Nothing of the first part was visible to others before, so
//! this is what would have happened.

use std::cell::{Cell, RefCell};

use raft_core::types::{Index, Instant};

use crate::endpoint::SharedPost;
use crate::random::Random;

/// A machine's monotonic clock. It runs at a rate of its own and jumps ahead; it never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock {
    /// Parts of a million; 1,000,000 is the world's own rate.
    rate: u64,
    ahead_millis: u64,
    /// For how long it has stood still, in microseconds of the world.
    still_micros: u64,
}

impl NodeClock {
    pub(crate) fn new(rate: u64, ahead_millis: u64) -> NodeClock {
        NodeClock { rate, ahead_millis, still_micros: 0 }
    }

    /// What it shows at `now` of the world, in microseconds.
    pub(crate) fn read(&self, now: u64) -> Instant {
        Instant(self.ahead_millis + (now - self.still_micros) * self.rate / 1_000_000_000)
    }

    /// The first moment of the world at which it shows `at` or later.
    pub(crate) fn moment(&self, at: Instant) -> u64 {
        if at == Instant::NEVER {
            return u64::MAX;
        }
        let millis = at.0.saturating_sub(self.ahead_millis);
        millis.saturating_mul(1_000_000_000).div_ceil(self.rate).saturating_add(self.still_micros)
    }

    pub(crate) fn jump(&mut self, millis: u64) {
        self.ahead_millis += millis;
    }

    /// It stood still for so many microseconds of the world, which have just passed.
    pub(crate) fn stood_still(&mut self, micros: u64) {
        self.still_micros += micros;
    }
}

/// What a turn needs time for, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The longest that passes at one call of the loop.
    pub(crate) call_max: u64,
    /// The shortest and the longest sync.
    pub(crate) sync: (u64, u64),
}

/// A turn in which the thread loses the processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interruption {
    /// At which call of the loop, counted from 0.
    pub(crate) call: u64,
    /// When the thread has the processor again, in microseconds of the world.
    pub(crate) until: u64,
    /// Whether the machine's clock stands still meanwhile.
    pub(crate) still: bool,
    /// Whether the loop sees in the same turn what has come from other nodes meanwhile, and from clients: a driver may have read
    /// some sockets before the turn.
    pub(crate) reads: (bool, bool),
}

/// Something that is handed to the node's mailbox.
type Letter = Box<dyn FnOnce()>;

/// A node's thread.
pub(crate) struct Thread {
    random: RefCell<Random>,
    pub(crate) clock: Cell<NodeClock>,
    post: SharedPost,
    pace: Cell<Pace>,
    /// The time as this thread has it, in microseconds of the world.
    now: Cell<u64>,
    /// How many calls are left until the interruption.
    calls: Cell<u64>,
    interruption: Cell<Option<Interruption>>,
    /// The syncs of this turn whose time has passed.
    synced: Cell<u64>,
    /// The last entry applied, as of now.
    applied: Cell<Index>,
    /// What reaches the mailbox when the thread has the processor again.
    letters: RefCell<Vec<Letter>>,
}

impl Thread {
    pub(crate) fn new(random: Random, clock: NodeClock, post: SharedPost) -> Thread {
        Thread {
            random: RefCell::new(random),
            clock: Cell::new(clock),
            post,
            pace: Cell::new(Pace { call_max: 0, sync: (0, 0) }),
            now: Cell::new(0),
            calls: Cell::new(0),
            interruption: Cell::new(None),
            synced: Cell::new(0),
            applied: Cell::new(Index::ZERO),
            letters: RefCell::new(Vec::new()),
        }
    }

    /// A turn begins at `now`.
    pub(crate) fn begin(&self, now: u64, pace: Pace, applied: Index, interruption: Option<Interruption>) {
        self.now.set(now);
        self.pace.set(pace);
        self.applied.set(applied);
        self.synced.set(0);
        self.calls.set(interruption.map_or(0, |interruption| interruption.call));
        self.interruption.set(interruption);
    }

    /// The turn is over, after so many syncs. Returns when, in microseconds of the world.
    pub(crate) fn end(&self, syncs: u64) -> u64 {
        self.resume();
        self.pass_syncs(syncs.saturating_sub(self.synced.get()));
        self.now.get()
    }

    /// The loop calls: time passes.
    pub(crate) fn call(&self) {
        if self.interruption.get().is_some() {
            match self.calls.get() {
                0 => self.resume(),
                calls => self.calls.set(calls - 1),
            }
        }
        let passes = self.random.borrow_mut().below(self.pace.get().call_max + 1);
        self.now.set(self.now.get() + passes);
    }

    /// The loop has synced the log so often.
    pub(crate) fn pass_syncs(&self, syncs: u64) {
        let (least, most) = self.pace.get().sync;
        for _ in 0..syncs {
            let takes = self.random.borrow_mut().between(least, most);
            self.now.set(self.now.get() + takes);
        }
        self.synced.set(self.synced.get() + syncs);
    }

    /// The thread has the processor again, if it had lost it: the world has gone on, and so has the clock, if it counts that.
    fn resume(&self) {
        let Some(Interruption { until, still, reads, .. }) = self.interruption.take() else { return };
        let lost = until.saturating_sub(self.now.get());
        if still {
            let mut clock = self.clock.get();
            clock.stood_still(lost);
            self.clock.set(clock);
        }
        self.now.set(self.now.get() + lost);
        if reads.0 {
            self.post.borrow_mut().let_in_packets();
        }
        if reads.1 {
            self.post.borrow_mut().let_in_requests();
        }
        let letters = core::mem::take(&mut *self.letters.borrow_mut());
        letters.into_iter().for_each(|letter| letter());
    }

    /// Whether all that has happened in the world by now is before the loop's eyes.
    pub(crate) fn is_present(&self) -> bool {
        self.interruption.get().is_none()
    }

    /// What the machine's clock shows the loop.
    pub(crate) fn read_clock(&self) -> Instant {
        self.call();
        self.clock.get().read(self.now.get())
    }

    /// The node has applied all entries up to that one.
    pub(crate) fn has_applied(&self, index: Index) {
        self.applied.set(index);
    }

    /// The last entry that the node has applied.
    pub(crate) fn applied(&self) -> Index {
        self.applied.get()
    }

    /// Hands something to the mailbox when the thread has the processor again.
    pub(crate) fn hold(&self, letter: Letter) {
        self.letters.borrow_mut().push(letter);
    }

    /// The process is gone, and with it what waited for it.
    pub(crate) fn forget(&self) {
        self.interruption.set(None);
        self.letters.borrow_mut().clear();
    }
}

/// The thread's calls of a clock.
#[derive(Clone)]
pub(crate) struct ThreadClock(pub(crate) std::rc::Rc<Thread>);

impl raft_node::Clock for ThreadClock {
    fn now(&self) -> Instant {
        self.0.read_clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Packet, Post};
    use raft_core::types::{Incarnation, NodeId};
    use std::rc::Rc;

    const PACE: Pace = Pace { call_max: 0, sync: (10, 10) };

    fn thread(rate: u64) -> Rc<Thread> {
        let post = Rc::new(RefCell::new(Post::new(NodeId::new(1).unwrap(), Incarnation(1), usize::MAX)));
        Rc::new(Thread::new(Random::new(1), NodeClock::new(rate, 0), post))
    }

    fn packet() -> Packet {
        let from = NodeId::new(2).unwrap();
        Packet { from, incarnation: Incarnation(2), meant_for: None, frame: Vec::new(), damaged: false }
    }

    #[test]
    fn what_happens_while_the_thread_has_no_processor_is_seen_from_that_call_on() {
        let thread = thread(1_000_000);
        thread.post.borrow_mut().unseen.push_back(packet());
        let delivered = Rc::new(Cell::new(false));
        let letter = Rc::clone(&delivered);
        thread.hold(Box::new(move || letter.set(true)));
        thread.begin(
            5_000,
            PACE,
            Index::ZERO,
            Some(Interruption { call: 2, until: 900_000, still: false, reads: (true, true) }),
        );
        assert_eq!([thread.read_clock(), thread.read_clock()], [Instant(5); 2]);
        assert!(thread.post.borrow().arrived.is_empty() && !delivered.get() && !thread.is_present());
        assert_eq!(thread.read_clock(), Instant(900));
        assert!(thread.post.borrow().arrived.len() == 1 && delivered.get() && thread.is_present());
        thread.pass_syncs(2);
        assert_eq!(thread.end(3), 900_030, "two syncs during the turn, and one more");
    }

    #[test]
    fn a_turn_that_ends_before_its_interruption_lasts_as_long() {
        let thread = thread(1_000_000);
        thread.begin(
            5_000,
            PACE,
            Index::ZERO,
            Some(Interruption { call: 9, until: 900_000, still: false, reads: (true, true) }),
        );
        assert_eq!(thread.read_clock(), Instant(5));
        assert_eq!(thread.end(0), 900_000);
    }

    #[test]
    fn a_clock_that_stands_still_goes_on_from_what_it_showed() {
        let thread = thread(2_000_000);
        thread.begin(
            5_000,
            PACE,
            Index::ZERO,
            Some(Interruption { call: 1, until: 900_000, still: true, reads: (true, true) }),
        );
        assert_eq!([thread.read_clock(), thread.read_clock()], [Instant(10); 2]);
        let clock = thread.clock.get();
        assert_eq!(clock.read(901_000), Instant(12));
        assert_eq!(clock.moment(Instant(12)), 901_000);
        assert_eq!(clock.moment(Instant::NEVER), u64::MAX);
    }
}
