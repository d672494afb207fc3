//! What is to happen, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of things that are due at some time. Those due at the same time come in the order in which they were put.
///
/// The heap moves keys about, not the things.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// When, the how-manieth, and its place among the things.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    things: Vec<Option<T>>,
    /// Places that are free.
    free: Vec<usize>,
    put: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), put: 0 }
    }

    pub(crate) fn put(&mut self, at: u64, what: T) {
        self.put += 1;
        let place = self.free.pop().unwrap_or(self.things.len());
        match self.things.get_mut(place) {
            Some(free) => *free = Some(what),
            None => self.things.push(Some(what)),
        }
        self.heap.push(Reverse((at, self.put, place)));
    }

    /// Takes what is due first, if that is before `end`.
    pub(crate) fn take_before(&mut self, end: u64) -> Option<(u64, T)> {
        let &Reverse((at, _, place)) = self.heap.peek()?;
        if at >= end {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        let what = self.things.get_mut(place).and_then(Option::take);
        Some((at, what.expect("each key has its thing")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_time_and_then_of_being_put() {
        let mut queue = Queue::new();
        for (at, what) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.put(at, what);
        }
        let mut taken = Vec::new();
        while let Some((_, what)) = queue.take_before(5) {
            taken.push(what);
        }
        assert_eq!(taken, ["a", "b"]);
        assert_eq!(queue.take_before(6), Some((5, "c")));
        assert_eq!(queue.take_before(6), Some((5, "d")));
        assert_eq!(queue.take_before(6), None);
    }
}
