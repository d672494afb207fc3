//! What is to happen, in the order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A queue of things that are due at some time. Those due at the same time come in the order in which they were put.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Due<T>>>,
    put: u64,
}

#[derive(Debug)]
struct Due<T> {
    at: u64,
    number: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Due<T>) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Due<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Due<T>) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), put: 0 }
    }

    pub(crate) fn put(&mut self, at: u64, what: T) {
        self.put += 1;
        self.heap.push(Reverse(Due { at, number: self.put, what }));
    }

    /// Takes what is due first, if that is before `end`.
    pub(crate) fn take_before(&mut self, end: u64) -> Option<(u64, T)> {
        if self.heap.peek().is_none_or(|Reverse(due)| due.at >= end) {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| (due.at, due.what))
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
